//! ShallowNet: an EEG window to class scores.
//!
//! ```text
//! eeg [batch, n_chans, n_times] -> logits [batch, n_outputs]
//! ```
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG-VP/models.py` (`shallownet`), after Schirrmeister et al. 2017.

use super::eeg::{EegConfig, Stage, flatten};
use crate::error::Result;
use crate::nn::{BatchNorm, Dropout, FilterBank, FilterSizes, Linear, Weights};
use crate::tensor::Tensor;

/// Filters of both convolutions.
const FILTERS: usize = 40;
/// Along the samples: the temporal filter, the pooling.
const TEMPORAL: Stage = [25, 1];
const POOL: Stage = [51, 5];

/// Temporal filters, spatial filters, pooling, a linear layer.
pub struct ShallowNet {
    filters: FilterBank,
    norm: BatchNorm,
    drop: Dropout,
    out: Linear,
    config: EegConfig,
}

impl ShallowNet {
    /// `net.0`, `net.1`, `net.2`, `out`.
    ///
    /// Errors: [`crate::error::Error::Setting`] for fewer than 75 samples.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<ShallowNet> {
        let left = config.left("ShallowNet", &[TEMPORAL, POOL])?;
        let [temporal, spatial] = ["net.0", "net.1"].map(|name| weights.at(name));
        let sizes = FilterSizes::full(config.n_chans, FILTERS, TEMPORAL[0]);
        Ok(ShallowNet {
            filters: FilterBank::load(&temporal, None, &spatial, sizes)?,
            norm: BatchNorm::load(&weights.at("net.2"), FILTERS)?,
            drop: Dropout::new(config.dropped(0.5), weights),
            out: Linear::load(&weights.at("out"), FILTERS * left, config.outputs(weights, "out")?)?,
            config: config.clone(),
        })
    }

    /// [batch, n_chans, n_times] -> [batch, n_outputs].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        let x = self.filters.forward(self.config.window("ShallowNet", eeg)?)?;
        let x = self.norm.forward(&x)?.elu()?;
        let x = self.drop.forward(&x.avg_pool2d([1, POOL[0]], [1, POOL[1]])?)?;
        self.out.forward(&flatten(&x)?)
    }
}
