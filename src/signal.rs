//! EEG in: recordings read and checked, cut into clips, turned into windows and features.
//!
//! ```text
//! .npy .npz ─recording─> Recordings [n, channels, samples] ─segments─> Segments [n, channels, samples]
//! one segment [62, 400] ─windows─> [7, 62, 100]             ─features─> DE, PSD [62, 5] ─scaler─> z-scores
//! ```
//!
//! Volts and hertz throughout; `float32` samples, sums in `float64`.

pub mod npy;

pub mod montage;
pub mod recording;

pub mod checks;
pub mod segments;

pub mod features;
pub mod sample;
pub mod scaler;
pub mod windows;

pub use features::{Form, de_psd};
pub use recording::{Layout, Options, Recording, Recordings, Units, Wanted};
pub use sample::sample_recording;
pub use scaler::StandardScaler;
pub use segments::{Cut, Origin, Segments};

/// `f32` or `f64`: what samples and features are stored in. Sums are in `f64` either way.
pub trait Real: Copy + Into<f64> + sealed::Sealed {
    /// NumPy's name for the little-endian type.
    const DESCR: &'static str;
    /// The nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// Appends the little-endian bytes.
    fn push_le(self, bytes: &mut Vec<u8>);
}

impl Real for f32 {
    const DESCR: &'static str = "<f4";
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn push_le(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_le_bytes());
    }
}

impl Real for f64 {
    const DESCR: &'static str = "<f8";
    fn from_f64(value: f64) -> Self {
        value
    }
    fn push_le(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_le_bytes());
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}
