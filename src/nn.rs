//! Layers: weights and a few sizes, with the field names of PyTorch's state dicts.
//!
//! ```text
//! Checkpoint -> open(..., |weights| Model::load(weights)) -> Model
//! Parameters -> Weights::from_parameters -> Model::load(weights) -> Model, for one step of training
//! ```

mod attention;
mod checkpoint;
mod conv;
mod dropout;
mod embedding;
mod filter_bank;
mod geglu;
mod init;
mod linear;
mod loader;
pub mod loss;
mod norm;
mod parameters;
mod patches;
mod pooled_filters;
mod projections;
mod transformer;

pub use attention::{Attention, CrossAttention, MultiheadAttention, Past};
pub use checkpoint::checkpoint;
pub use conv::Conv2d;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use filter_bank::{FilterBank, FilterSizes};
pub use geglu::GeGlu;
pub use init::{Initial, initial, initial_of, initial_xavier};
pub use linear::Linear;
pub use loader::{Loaded, Precision, Weights, check, open, wanted};
pub use norm::{BatchNorm, GroupNorm, LayerNorm};
pub use parameters::{Parameters, Training, is_statistic};
pub use patches::Patches;
pub use pooled_filters::PooledFilters;
pub use projections::{Projection, Projections};
pub use transformer::TransformerLayer;
