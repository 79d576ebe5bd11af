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
#[cfg(feature = "plot")]
pub mod plot;

// machine wing
pub mod gpu;
pub mod tensor;
pub mod ops;
pub mod autograd;
pub mod nn;

// where the wings meet
pub mod diffusion;
pub mod models;
#[cfg(feature = "generate")]
pub mod generate;
pub mod train;

// the door
#[cfg(feature = "cli")]
pub mod cli;

#[cfg(test)]
mod testing;
