//! Training: parameters in, better parameters out, and nothing lost on the way.
//!
//! ```text
//! Parameters ─Weights::from_parameters─> model ─forward─> loss ─backward─> Gradients ─Optimizer─> Parameters
//!      └──────────────────────────── Checkpoint: one file, written whole or not at all <────────────┘
//! ```
//!
//! [`Fit`] runs a [`Trainer`] from its first step to its last, with log and snapshots; [`write_model`] keeps what came
//! out. [`classify`] has a loop of its own, by epochs and the best of them.
//!
//! A step makes new tensors; the model is built of them anew. The same seed gives the same bits on the same adapter,
//! and a run that was cut off goes on from its last checkpoint as if it had not been.

mod checkpoint;
pub mod classify;
#[cfg(feature = "generate")]
pub mod clip_classifier;
#[cfg(feature = "generate")]
pub mod dynamics;
pub mod fit;
#[cfg(feature = "generate")]
pub mod heads;
mod keep;
mod log;
mod optimizer;
mod rates;
pub mod report;
#[cfg(feature = "generate")]
pub mod semantic;
#[cfg(feature = "generate")]
pub mod seq2seq;
mod trainer;
mod unit;
pub mod vae;
pub mod video;
pub mod whiten;

pub use checkpoint::{Snapshot, Values, read_back};
pub use fit::{Batches, Fit};
pub use keep::write_model;
pub use log::{Log, Row};
pub use optimizer::{Group, Optimizer, Rule};
pub use rates::{Course, Plateau, Rates};
pub use trainer::{Settings, Stepped, Trainer, place};
pub use unit::{Shard, Sweep, Unit};
