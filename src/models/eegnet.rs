//! EEGNet as EEG2Video has it, an EEG window to class scores.
//!
//! ```text
//! eeg [batch, n_chans, n_times] -> logits [batch, n_outputs]
//! ```
//!
//! Not the network of Lawhern et al. 2018, whose spatial and later filters are depthwise: here all are full. That one
//! is [`super::EegNetEmbedding`].
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG-VP/models.py` (`eegnet`).

use super::eeg::{EegConfig, Stage, flatten};
use crate::error::Result;
use crate::nn::{BatchNorm, Conv2d, Dropout, FilterBank, FilterSizes, Linear, Weights};
use crate::ops::Window;
use crate::tensor::Tensor;

/// Temporal filters, and those after the spatial ones.
const F1: usize = 8;
const F2: usize = 16;
/// Along the samples.
const TEMPORAL: Stage = [64, 1];
const LATER: Stage = [16, 1];
const POOL: Stage = [2, 2];

/// Filters in time, over channels, in time again; a linear layer.
pub struct EegNet {
    filters: FilterBank,
    norm2: BatchNorm,
    later: Conv2d,
    norm3: BatchNorm,
    /// After the first pooling each value by itself, after the second whole filters.
    drop: Dropout,
    out: Linear,
    config: EegConfig,
}

impl EegNet {
    /// `net.0` to `net.3`, `net.7`, `net.8`, `out`.
    ///
    /// Errors: [`crate::error::Error::Setting`] for fewer than 97 samples.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<EegNet> {
        let left = config.left("EEGNet", &[TEMPORAL, POOL, LATER, POOL])?;
        let [temporal, norm1, spatial] = ["net.0", "net.1", "net.2"].map(|name| weights.at(name));
        let sizes = FilterSizes { outputs: F2, ..FilterSizes::full(config.n_chans, F1, TEMPORAL[0]) };
        let norm = |name: &str, filters| BatchNorm::load(&weights.at(name), filters);
        Ok(EegNet {
            filters: FilterBank::load(&temporal, Some(&norm1), &spatial, sizes)?,
            norm2: norm("net.3", F2)?,
            later: Conv2d::load(&weights.at("net.7"), F2, F2, [1, LATER[0]], Window::padded(0))?,
            norm3: norm("net.8", F2)?,
            drop: Dropout::new(config.dropped(0.5), weights),
            out: Linear::load(&weights.at("out"), F2 * left, config.outputs(weights, "out")?)?,
            config: config.clone(),
        })
    }

    /// [batch, n_chans, n_times] -> [batch, n_outputs].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        let pool = |x: Tensor| x.avg_pool2d([1, POOL[0]], [1, POOL[1]]);
        let x = self.filters.forward(self.config.window("EEGNet", eeg)?)?;
        let x = self.drop.forward(&pool(self.norm2.forward(&x)?.elu()?)?)?;
        let x = pool(self.norm3.forward(&self.later.forward(&x)?)?.elu()?)?;
        self.out.forward(&flatten(&self.drop.forward_channels(&x)?)?)
    }
}
