//! Layers: weights and a few sizes, with the field names of PyTorch's state dicts.
//!
//! ```text
//! Checkpoint -> open(..., |weights| Model::load(weights)) -> Model
//! ```

mod attention;
mod conv;
mod embedding;
mod linear;
mod loader;
mod norm;

pub use attention::{Attention, MultiheadAttention};
pub use conv::Conv2d;
pub use embedding::Embedding;
pub use linear::Linear;
pub use loader::{Loaded, Precision, Weights, check, open, wanted};
pub use norm::{BatchNorm, GroupNorm, LayerNorm};
