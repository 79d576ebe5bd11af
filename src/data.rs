//! Data sets: from a folder on disk to labelled examples, split so that nothing leaks.
//!
//! ```text
//! folder ─SeedDv─> Segments [1400, 62, 400] + labels ─Examples─> [n, channels, samples | bands] ─Split─> train, validation, test
//! parquet ─alljoined─> epochs [64, 334] + pictures ─draw─> spectrograms and pairs: metadata.csv, captions, statistics
//! ```
//!
//! Host-side and plain; the device sees batches.

#[cfg(feature = "parquet")]
pub mod alljoined;
pub mod channel_stats;
pub mod draw;
pub mod mindbigdata;
pub mod pairs;

mod clips;
mod eeg_input;
mod examples;
mod seed_dv;
mod split;
mod text_table;

pub use clips::Clips;
pub use eeg_input::{EegInput, Inputs};
pub use examples::{Examples, Input};
pub use seed_dv::{SeedDv, Task};
pub use split::{Fold, Protocol, Scaling, folds};
pub use text_table::TextTable;
