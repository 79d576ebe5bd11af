//! Scores: decoded clips against the clips that were shown, each beside its chance and with an interval.
//!
//! ```text
//! folders of clips ─clips─> pairs of Frames ─pictures─> SSIM, PSNR, MSE, hue of each pair
//!                                └─Preprocess─> judges (ViT, VideoMAE, CLIP, our classifier) ─nway─> right or wrong
//! a number per clip ─interval─> mean, 95 % interval, p            video: all of it, for predictions, controls, baselines
//! texts, pictures ─embed─> vectors
//! ```
//!
//! Nothing here is drawn without a seed, and a draw depends on its own number alone: the same clips give the same
//! scores on every machine.

pub mod clips;
pub mod embed;
pub mod interval;
pub mod judges;
pub mod labels;
pub mod nway;
pub mod pictures;
mod shown;
pub mod video;

pub use clips::Clip;
pub use interval::{Interval, Resamples, check_permutations, check_resamples};
pub use judges::Judge;
pub use labels::Confusion;
pub use nway::{NWay, Positives};
pub use shown::Shown;
