//! GLMNet as its cross-validation in the fork has it: windows and features of the same EEG, side by side.
//!
//! ```text
//! eeg [batch, n_chans, n_times], features [batch, n_chans, bands] -> logits [batch, n_outputs]
//! ```
//!
//! Follows gaspachoo/EEG2Video 6322092 `Gaspard_model/train_glmnet_cv.py` (`GLMNet`).

use super::eeg::EegConfig;
use super::{MlpEncoderFeat, ShallowNetEncoder};
use crate::error::Result;
use crate::nn::{Linear, Weights};
use crate::ops::Activation;
use crate::tensor::Tensor;

/// Usual width of the hidden layer.
const EMB_DIM: usize = 128;

/// A [`ShallowNetEncoder`] on windows, an [`MlpEncoderFeat`] on features, two linear layers.
pub struct GlmNetCv {
    g: ShallowNetEncoder,
    l: MlpEncoderFeat,
    embedding: Linear,
    out: Linear,
}

impl GlmNetCv {
    /// `g`, `l`, `embedding.0`, `embedding.2`.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<GlmNetCv> {
        let emb_dim = config.emb_dim.unwrap_or(EMB_DIM);
        let width = ShallowNetEncoder::width(config)? + MlpEncoderFeat::WIDTH;
        let n_outputs = config.outputs(weights, "embedding.2")?;
        Ok(GlmNetCv {
            g: ShallowNetEncoder::load(&weights.at("g"), config)?,
            l: MlpEncoderFeat::load(&weights.at("l"), config)?,
            embedding: Linear::load(&weights.at("embedding.0"), width, emb_dim)?,
            out: Linear::load(&weights.at("embedding.2"), emb_dim, n_outputs)?,
        })
    }

    /// [batch, n_chans, n_times], [batch, n_chans, bands] -> [batch, n_outputs].
    pub fn forward(&self, eeg: &Tensor, features: &Tensor) -> Result<Tensor> {
        let (g, l) = (self.g.forward(eeg)?, self.l.forward(features)?);
        let joined = Tensor::concat(&[&g, &l], 1)?;
        self.out.forward(&self.embedding.forward_with(&joined, Activation::Relu, None)?)
    }
}
