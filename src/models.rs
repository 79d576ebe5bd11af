//! Architectures, one file each, and the list of them by the names their configs carry.

mod clip_text;
mod config;
mod example;
mod named;
mod presets;
mod semantic;
mod seq2seq;
mod shallownet;
mod unet;
mod vae;

pub use clip_text::{ClipText, ClipTextConfig};
pub use config::Config;
pub use example::Clip;
pub use named::{ARCHITECTURES, Architecture, Input, Inputs, Named, Output, architecture, open};
pub use presets::{Part, Preset, n_parameters, preset, presets};
pub use semantic::{SemanticConfig, SemanticPredictor};
pub use seq2seq::{Frames, Seq2Seq, Seq2SeqConfig};
pub use shallownet::{EegConfig, GlmNet, ShallowNet};
pub use unet::{UNet, UNetConfig};
pub use vae::{Halves, Vae, VaeConfig};
