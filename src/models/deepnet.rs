//! DeepNet: an EEG window to class scores through four convolutions in time.
//!
//! ```text
//! eeg [batch, n_chans, n_times] -> logits [batch, n_outputs]
//! ```
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG-VP/models.py` (`deepnet`), after Schirrmeister et al. 2017.

use super::eeg::{EegConfig, Stage, flatten};
use crate::error::Result;
use crate::nn::{BatchNorm, Conv2d, Dropout, Linear, Weights};
use crate::ops::Window;
use crate::tensor::Tensor;

/// Filters of each block.
const FILTERS: [usize; 4] = [25, 50, 100, 200];
/// Along the samples: the temporal filters, the poolings.
const TEMPORAL: Stage = [10, 1];
const POOL: Stage = [2, 2];

/// Filters in time, a norm, a pooling.
struct Block {
    temporal: Conv2d,
    norm: BatchNorm,
}

/// Temporal and spatial filters, then three blocks more, a linear layer.
pub struct DeepNet {
    blocks: Vec<Block>,
    /// After the first temporal filters.
    spatial: Conv2d,
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
        let conv = |place: usize, channels, filters, kernel| {
            Conv2d::load(&weights.at(format!("net.{place}")), channels, filters, kernel, Window::padded(0))
        };
        let block = |i: usize| {
            // The first block has its spatial filters between.
            let (place, norm, channels) =
                if i == 0 { (0, 2, 1) } else { (5 * i + 1, 5 * i + 2, FILTERS[i - 1]) };
            Ok(Block {
                temporal: conv(place, channels, FILTERS[i], [1, TEMPORAL[0]])?,
                norm: BatchNorm::load(&weights.at(format!("net.{norm}")), FILTERS[i])?,
            })
        };
        let width = FILTERS[FILTERS.len() - 1] * left;
        Ok(DeepNet {
            blocks: (0..FILTERS.len()).map(block).collect::<Result<_>>()?,
            spatial: conv(1, FILTERS[0], FILTERS[0], [config.n_chans, 1])?,
            drop: Dropout::new(config.dropped(0.5), weights),
            out: Linear::load(&weights.at("out"), width, config.outputs(weights, "out")?)?,
            config: config.clone(),
        })
    }

    /// [batch, n_chans, n_times] -> [batch, n_outputs].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        let mut x = self.config.image("DeepNet", eeg)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.temporal.forward(&x)?;
            if i == 0 {
                x = self.spatial.forward(&x)?;
            }
            x = block.norm.forward(&x)?.elu()?;
            x = self.drop.forward(&x.max_pool2d([1, POOL[0]], [1, POOL[1]])?)?;
        }
        self.out.forward(&flatten(&x)?)
    }
}
