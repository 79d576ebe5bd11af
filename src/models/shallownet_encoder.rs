//! ShallowNetEncoder: an EEG window to an embedding.
//!
//! ```text
//! eeg [batch, n_chans, n_times] -> embeddings [batch, 64 * ((n_times - 5) / 2 + 1)]
//! ```
//!
//! Follows gaspachoo/EEG2Video 6322092 `Gaspard_model/models/encoders.py`.

use super::eeg::{EegConfig, Stage, flatten};
use crate::error::Result;
use crate::nn::{BatchNorm, Conv2d, Dropout, Weights};
use crate::ops::Window;
use crate::tensor::Tensor;

/// Temporal and spatial filters.
const FILTERS: [usize; 2] = [32, 64];
/// Samples of the temporal filter, which pads: it leaves as many samples as come in.
const KERNEL: usize = 13;
const POOL: Stage = [5, 2];

/// Temporal filters, spatial filters, pooling.
pub struct ShallowNetEncoder {
    temporal: Conv2d,
    norm1: BatchNorm,
    spatial: Conv2d,
    norm2: BatchNorm,
    drop: Dropout,
    config: EegConfig,
}

impl ShallowNetEncoder {
    /// `net.0`, `net.1`, `net.3`, `net.4`.
    ///
    /// Errors: [`crate::error::Error::Setting`] for fewer than 5 samples.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<ShallowNetEncoder> {
        ShallowNetEncoder::width(config)?;
        let sides = KERNEL / 2;
        let along = Window { stride: [1, 1], padding: [0, 0, sides, sides], dilation: [1, 1] };
        let conv = |name: &str, channels, filters, kernel, window| {
            Conv2d::load(&weights.at(name), channels, filters, kernel, window)
        };
        let norm = |name: &str, filters| BatchNorm::load(&weights.at(name), filters);
        Ok(ShallowNetEncoder {
            temporal: conv("net.0", 1, FILTERS[0], [1, KERNEL], along)?,
            norm1: norm("net.1", FILTERS[0])?,
            spatial: conv("net.3", FILTERS[0], FILTERS[1], [config.n_chans, 1], Window::padded(0))?,
            norm2: norm("net.4", FILTERS[1])?,
            drop: Dropout::new(config.dropped(0.6), weights),
            config: config.clone(),
        })
    }

    /// Width of the embedding.
    ///
    /// Errors: as [`ShallowNetEncoder::load`].
    pub fn width(config: &EegConfig) -> Result<usize> {
        Ok(FILTERS[1] * config.left("ShallowNetEncoder", &[POOL])?)
    }

    /// [batch, n_chans, n_times] -> [batch, width].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        let x = self.temporal.forward(&self.config.image("ShallowNetEncoder", eeg)?)?;
        let x = self.spatial.forward(&self.norm1.forward(&x)?.elu()?)?;
        let x = self.norm2.forward(&x)?.elu()?;
        flatten(&self.drop.forward(&x.avg_pool2d([1, POOL[0]], [1, POOL[1]])?)?)
    }
}
