//! EEG to video on any GPU: a tensor runtime on wgpu, its kernels in WGSL, and the models on it.
//!
//! The modules below stand in floor order: each uses only those above it.

pub mod error;
pub mod files;

// host wing: plain Rust, no GPU
#[cfg(feature = "media")]
pub mod media;
#[cfg(feature = "signal")]
pub mod signal;
#[cfg(feature = "text")]
pub mod tokenizers;
pub mod weights;

// the one room that names wgpu
pub mod gpu;

// data sets and charts, on the host still
#[cfg(feature = "signal")]
pub mod data;
#[cfg(feature = "plot")]
pub mod plot;

// machine wing
pub mod tensor;
pub mod ops;
pub mod autograd;
pub mod nn;

// where the wings meet
pub mod diffusion;
pub mod models;
#[cfg(feature = "generate")]
pub mod eval;
#[cfg(feature = "generate")]
pub mod generate;
#[cfg(feature = "signal")]
pub mod train;

// the door
#[cfg(feature = "cli")]
pub mod cli;

#[cfg(test)]
mod testing;
