//! EEG to video on any GPU: a tensor runtime on wgpu, its kernels in WGSL, and the models on it.
//!
//! The modules below stand in floor order: each uses only those above it.

pub mod error;
pub mod files;

#[cfg(feature = "media")]
pub mod media;
#[cfg(feature = "signal")]
pub mod signal;
