//! GLMNet as the fork's later branch has it: windows of all channels and features of the local ones, brought to the
//! same mean and spread before they are joined.
//!
//! ```text
//! eeg [batch, n_chans, n_times], features [batch, n_chans, bands] -> logits [batch, n_outputs]
//!                                                                     embeddings [batch, 2 * emb_dim]
//! ```
//!
//! Follows gaspachoo/EEG2Video a5b6942 `EEG2Video/GLMNet/modules/utils_glmnet.py` (`GLMNet`).

use super::eeg::{EegConfig, pick};
use super::{Mlp, ShallowNet};
use crate::error::Result;
use crate::nn::{Linear, Weights};
use crate::ops::Activation;
use crate::tensor::Tensor;

/// Usual width of each branch.
const EMB_DIM: usize = 512;
/// Added to both spreads.
const EPS: f32 = 1e-6;

/// A [`ShallowNet`] on windows, an [`Mlp`] on features, two linear layers.
pub struct GlmNetMatched {
    raw_global: ShallowNet,
    freq_local: Mlp,
    fc: [Linear; 2],
    local: Vec<[usize; 2]>,
    bands: usize,
    config: EegConfig,
}

impl GlmNetMatched {
    /// `raw_global`, `freq_local`, `fc.0`, `fc.2`.
    ///
    /// Errors: as [`super::GlmNet::load`].
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<GlmNetMatched> {
        let emb_dim = config.emb_dim.unwrap_or(EMB_DIM);
        let (bands, local) = (config.bands()?, config.local_runs("GLMNetMatched")?);
        let branch = |n_features| EegConfig { n_outputs: Some(emb_dim), n_features, ..config.clone() };
        let n_outputs = config.outputs(weights, "fc.2")?;
        Ok(GlmNetMatched {
            raw_global: ShallowNet::load(&weights.at("raw_global"), &branch(config.n_features))?,
            freq_local: Mlp::load(&weights.at("freq_local"), &branch(bands * config.local_chans.len()))?,
            fc: [
                Linear::load(&weights.at("fc.0"), 2 * emb_dim, emb_dim)?,
                Linear::load(&weights.at("fc.2"), emb_dim, n_outputs)?,
            ],
            local,
            bands,
            config: config.clone(),
        })
    }

    /// [batch, n_chans, n_times], [batch, n_chans, bands] -> [batch, n_outputs].
    pub fn forward(&self, eeg: &Tensor, features: &Tensor) -> Result<Tensor> {
        self.classify(&self.embed(eeg, features)?)
    }

    /// [batch, n_chans, n_times], [batch, n_chans, bands] -> [batch, 2 * emb_dim], what is classified: windows, then
    /// features.
    pub fn embed(&self, eeg: &Tensor, features: &Tensor) -> Result<Tensor> {
        let raw = self.raw_global.forward(eeg)?;
        let row = self.config.row("GLMNetMatched", features)?;
        let by_channel = row.reshape(&[row.shape()[0], self.config.n_chans, self.bands])?;
        let freq = self.freq_local.forward(&pick(&by_channel, &self.local)?)?;
        let ((raw_mean, raw_spread), (mean, spread)) = (moments(&raw)?, moments(&freq)?);
        let freq = freq.sub(&mean)?.div(&spread)?.mul(&raw_spread)?.add(&raw_mean)?;
        Tensor::concat(&[&raw, &freq], 1)
    }

    /// [batch, 2 * emb_dim] -> [batch, n_outputs].
    pub fn classify(&self, embeddings: &Tensor) -> Result<Tensor> {
        self.fc[1].forward(&self.fc[0].forward_with(embeddings, Activation::Gelu, None)?)
    }
}

/// Mean and spread of each row, [batch, width] -> two of [batch, 1]. The spread is PyTorch's `std`, which divides by
/// width - 1, plus [`EPS`].
fn moments(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (batch, width) = (x.shape()[0], x.shape()[1]);
    let mean = x.mean(&[1])?.reshape(&[batch, 1])?;
    let centred = x.sub(&mean)?;
    let square = centred.mul(&centred)?.sum(&[1])?.reshape(&[batch, 1])?;
    Ok((mean, square.scale(1.0 / (width as f32 - 1.0), 0.0)?.sqrt()?.scale(1.0, EPS)?))
}
