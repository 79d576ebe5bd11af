//! EEGNet of Lawhern et al. 2018, an EEG window to one vector: what the sequence model reads.
//!
//! ```text
//! eeg [batch, n_chans, n_times] -> embeddings [batch, emb_dim]
//! ```
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG2Video_New/Seq2Seq/my_autoregressive_transformer.py`
//! (`MyEEGNet_embedding`).

use super::eeg::{EegConfig, Stage, flatten};
use crate::error::Result;
use crate::nn::{BatchNorm, Conv2d, Dropout, FilterBank, FilterSizes, Linear, Weights};
use crate::ops::Window;
use crate::tensor::Tensor;

/// Temporal filters, spatial filters of each, separable filters.
const F1: usize = 16;
const DEPTH: usize = 4;
const F2: usize = 16;
/// Both poolings; the convolutions pad and leave as many samples as come in.
const POOLS: [Stage; 2] = [[4, 4], [8, 8]];
/// Usual width of the vector.
const EMB_DIM: usize = 128;

/// Filters in time, depthwise over channels, separable in time; a linear layer.
pub struct EegNetEmbedding {
    filters: FilterBank,
    norm2: BatchNorm,
    separable: Conv2d,
    pointwise: Conv2d,
    norm3: BatchNorm,
    /// After both poolings.
    drop: Dropout,
    embedding: Linear,
    config: EegConfig,
}

impl EegNetEmbedding {
    /// `block_1`, `block_2`, `block_3`, `embedding`.
    ///
    /// A quarter is what Lawhern et al. drop across subjects (`drop_prob` 0.25), a half within one.
    ///
    /// Errors: [`crate::error::Error::Setting`] for fewer than 32 samples.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<EegNetEmbedding> {
        let left = config.left("MyEEGNet_embedding", &POOLS)?;
        let conv = |name: &str, channels, outputs, kernel, groups, pad: [usize; 2]| {
            let window = Window { stride: [1, 1], padding: [0, 0, pad[0], pad[1]], dilation: [1, 1] };
            Conv2d::load_grouped(&weights.at(name), channels, outputs, kernel, groups, window)
        };
        let norm = |name: &str, channels| BatchNorm::load(&weights.at(name), channels);
        let (wide, emb_dim) = (F1 * DEPTH, config.emb_dim.unwrap_or(EMB_DIM));
        let sizes = FilterSizes {
            n_chans: config.n_chans,
            filters: F1,
            kernel: 64,
            padding: [31, 32],
            outputs: wide,
            groups: F1,
            has_bias: false,
        };
        let [temporal, norm1, spatial] = ["block_1.1", "block_1.2", "block_2.0"].map(|name| weights.at(name));
        Ok(EegNetEmbedding {
            filters: FilterBank::load(&temporal, Some(&norm1), &spatial, sizes)?,
            norm2: norm("block_2.1", wide)?,
            separable: conv("block_3.1", wide, wide, [1, 16], wide, [7, 8])?,
            pointwise: conv("block_3.2", wide, F2, [1, 1], 1, [0, 0])?,
            norm3: norm("block_3.3", F2)?,
            drop: Dropout::new(config.dropped(0.5), weights),
            embedding: Linear::load(&weights.at("embedding"), F2 * left, emb_dim)?,
            config: config.clone(),
        })
    }

    /// [batch, n_chans, n_times] -> [batch, emb_dim].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        let pool =
            |x: Tensor, [kernel, step]: Stage| self.drop.forward(&x.avg_pool2d([1, kernel], [1, step])?);
        let x = self.filters.forward(self.config.window("MyEEGNet_embedding", eeg)?)?;
        let x = pool(self.norm2.forward(&x)?.elu()?, POOLS[0])?;
        let x = self.pointwise.forward(&self.separable.forward(&x)?)?;
        let x = pool(self.norm3.forward(&x)?.elu()?, POOLS[1])?;
        self.embedding.forward(&flatten(&x)?)
    }
}
