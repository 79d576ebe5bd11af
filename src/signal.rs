//! EEG in: recordings read and checked, cut into clips, turned into windows and features.
//!
//! ```text
//! .npy .npz ─recording─> Recordings [n, channels, samples] ─segments─> Segments [n, channels, samples]
//! one segment [62, 400] ─windows─> [7, 62, 100]             ─features─> DE, PSD [62, 5] ─scaler─> z-scores
//!
//! .npy ─stack─> Stack […, channels, samples] ─reference, filter, resample, segments, windows, features─> .npy
//!                └─spectrogram─> […, channels, bins, frames] ─interpolate, channel_stats─> a model's input
//! ```
//!
//! `Recordings` feed models and are judged as they are read. A `Stack` is an array on its way to another file: any
//! leading axes, numbers as they stand. Volts and hertz throughout; sums in `float64`.

mod portable;

pub mod npy;

pub mod montage;
pub mod recording;
pub mod seed_dv;
pub mod stack;

pub mod checks;
pub mod segments;

pub mod channel_stats;
pub mod features;
pub mod filter;
pub mod interpolate;
pub mod noise;
pub mod reference;
pub mod resample;
pub mod sample;
pub mod scaler;
pub mod simulate;
pub mod spectrogram;
pub mod torch;
pub mod windows;

pub use features::{Form, de_psd};
pub use recording::{Layout, Options, Recording, Recordings, Units, Wanted};
pub use sample::sample_recording;
pub use scaler::StandardScaler;
pub use segments::{Cut, Origin, Segments};
pub use stack::Stack;

/// What an `.npy` of ours may hold.
pub trait Stored: Copy + sealed::Sealed {
    /// NumPy's name for the little-endian type.
    const DESCR: &'static str;
    /// Appends the little-endian bytes.
    fn push_le(self, bytes: &mut Vec<u8>);
}

/// `f32` or `f64`: what samples and features are stored in. Sums are in `f64` either way.
pub trait Real: Stored + Into<f64> + Send + Sync {
    /// The nearest value of this type.
    fn from_f64(value: f64) -> Self;
}

impl Real for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Real for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
}

macro_rules! stored {
    ($($type:ty: $descr:literal),*) => {$(
        impl Stored for $type {
            const DESCR: &'static str = $descr;
            fn push_le(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
        impl sealed::Sealed for $type {}
    )*};
}
stored!(f32: "<f4", f64: "<f8", i64: "<i8", u8: "|u1");

mod sealed {
    pub trait Sealed {}
}
