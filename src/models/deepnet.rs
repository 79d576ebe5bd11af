//! DeepNet: an EEG window to class scores through four convolutions in time.
//!
//! ```text
//! eeg [batch, n_chans, n_times] -> logits [batch, n_outputs]
//! ```
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG-VP/models.py` (`deepnet`), after Schirrmeister et al. 2017.

use super::eeg::{EegConfig, Stage, flatten};
use crate::error::Result;
use crate::nn::{BatchNorm, Conv2d, Dropout, FilterBank, FilterSizes, Linear, Weights};
use crate::ops::Window;
use crate::tensor::Tensor;

/// Filters of each block.
const FILTERS: [usize; 4] = [25, 50, 100, 200];
/// Along the samples: the temporal filters, the poolings.
const TEMPORAL: Stage = [10, 1];
const POOL: Stage = [2, 2];

/// Filters, a norm, a pooling.
struct Block {
    filters: Filters,
    norm: BatchNorm,
}

enum Filters {
    /// In time, then across channels: the first block.
    Bank(FilterBank),
    /// In time.
    Temporal(Conv2d),
}

/// Temporal and spatial filters, then three blocks more, a linear layer.
pub struct DeepNet {
    blocks: Vec<Block>,
    /// After each block.
    drop: Dropout,
    out: Linear,
    config: EegConfig,
}

impl DeepNet {
    /// `net.0` to `net.2`, then `net.6`, `net.7` and every fifth from there, `out`.
    ///
    /// Errors: [`crate::error::Error::Setting`] for fewer than 151 samples.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<DeepNet> {
        let left = config.left("DeepNet", &[TEMPORAL, POOL].repeat(FILTERS.len()))?;
        let place = |nth: usize| weights.at(format!("net.{nth}"));
        let block = |i: usize| {
            let (filters, norm) = if i == 0 {
                let sizes = FilterSizes::full(config.n_chans, FILTERS[0], TEMPORAL[0]);
                (Filters::Bank(FilterBank::load(&place(0), None, &place(1), sizes)?), 2)
            } else {
                let (kernel, window) = ([1, TEMPORAL[0]], Window::padded(0));
                let conv = Conv2d::load(&place(5 * i + 1), FILTERS[i - 1], FILTERS[i], kernel, window)?;
                (Filters::Temporal(conv), 5 * i + 2)
            };
            Ok(Block { filters, norm: BatchNorm::load(&place(norm), FILTERS[i])? })
        };
        let width = FILTERS[FILTERS.len() - 1] * left;
        Ok(DeepNet {
            blocks: (0..FILTERS.len()).map(block).collect::<Result<_>>()?,
            drop: Dropout::new(config.dropped(0.5), weights),
            out: Linear::load(&weights.at("out"), width, config.outputs(weights, "out")?)?,
            config: config.clone(),
        })
    }

    /// [batch, n_chans, n_times] -> [batch, n_outputs].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        let mut x = self.config.window("DeepNet", eeg)?.clone();
        for block in &self.blocks {
            x = match &block.filters {
                Filters::Bank(bank) => bank.forward(&x)?,
                Filters::Temporal(conv) => conv.forward(&x)?,
            };
            x = block.norm.forward(&x)?.elu()?;
            x = self.drop.forward(&x.max_pool2d([1, POOL[0]], [1, POOL[1]])?)?;
        }
        self.out.forward(&flatten(&x)?)
    }
}
