//! TSConv: an EEG window to class scores; as ShallowNet, but pooled before the spatial filters.
//!
//! ```text
//! eeg [batch, n_chans, n_times] -> logits [batch, n_outputs]
//! ```
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG-VP/models.py` (`tsconv`), after Song et al. 2024 (NICE).

use super::eeg::{EegConfig, Stage, flatten};
use crate::error::Result;
use crate::nn::{BatchNorm, Conv2d, Dropout, Linear, PooledFilters, Weights};
use crate::ops::Window;
use crate::tensor::Tensor;

/// Filters of both convolutions.
const FILTERS: usize = 40;
/// Along the samples.
const TEMPORAL: Stage = [25, 1];
const POOL: Stage = [51, 5];

/// Temporal filters, pooling, spatial filters, a linear layer.
pub struct TsConv {
    temporal: PooledFilters,
    /// Steps after the pooling.
    left: usize,
    norm1: BatchNorm,
    spatial: Conv2d,
    norm2: BatchNorm,
    drop: Dropout,
    out: Linear,
    config: EegConfig,
}

impl TsConv {
    /// `net.0`, `net.2`, `net.4`, `net.5`, `out`.
    ///
    /// Errors: [`crate::error::Error::Setting`] for fewer than 75 samples.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<TsConv> {
        let left = config.left("TSConv", &[TEMPORAL, POOL])?;
        let norm = |name: &str| BatchNorm::load(&weights.at(name), FILTERS);
        Ok(TsConv {
            temporal: PooledFilters::load(&weights.at("net.0"), FILTERS, TEMPORAL[0], POOL)?,
            left,
            norm1: norm("net.2")?,
            spatial: Conv2d::load(
                &weights.at("net.4"),
                FILTERS,
                FILTERS,
                [config.n_chans, 1],
                Window::padded(0),
            )?,
            norm2: norm("net.5")?,
            drop: Dropout::new(config.dropped(0.5), weights),
            out: Linear::load(&weights.at("out"), FILTERS * left, config.outputs(weights, "out")?)?,
            config: config.clone(),
        })
    }

    /// [batch, n_chans, n_times] -> [batch, n_outputs].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        let x = self.temporal.forward(self.config.window("TSConv", eeg)?, self.left)?;
        let x = self.norm1.forward(&x)?.elu()?;
        let x = self.norm2.forward(&self.spatial.forward(&x)?)?.elu()?;
        self.out.forward(&flatten(&self.drop.forward(&x)?)?)
    }
}
