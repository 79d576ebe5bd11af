//! EEG to video on any GPU: a tensor runtime on wgpu, its kernels in WGSL, and the models on it.
//!
//! The modules below stand in floor order: each uses only those above it.

pub mod error;
pub mod files;
pub mod weights;
#[cfg(feature = "text")]
pub mod tokenizers;

pub mod gpu;
pub mod tensor;
pub mod ops;

pub mod diffusion;

#[cfg(test)]
mod testing;

#[cfg(feature = "media")]
pub mod media;
#[cfg(feature = "signal")]
pub mod signal;
