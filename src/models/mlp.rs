//! MLP: the features of an EEG window to class scores.
//!
//! ```text
//! eeg [batch, n_chans, bands] -> logits [batch, n_outputs]
//! ```
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG-VP/models.py` (`mlpnet`).

use super::eeg::EegConfig;
use crate::error::Result;
use crate::nn::{Linear, Weights};
use crate::ops::Activation;
use crate::tensor::Tensor;

/// Widths of the hidden layers.
const HIDDEN: [usize; 2] = [512, 256];

/// Three linear layers with GELU between.
pub struct Mlp {
    layers: [Linear; 2],
    out: Linear,
    config: EegConfig,
}

impl Mlp {
    /// `net.1`, `net.3`, `net.5`.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<Mlp> {
        let n_outputs = config.outputs(weights, "net.5")?;
        Ok(Mlp {
            layers: [
                Linear::load(&weights.at("net.1"), config.n_features, HIDDEN[0])?,
                Linear::load(&weights.at("net.3"), HIDDEN[0], HIDDEN[1])?,
            ],
            out: Linear::load(&weights.at("net.5"), HIDDEN[1], n_outputs)?,
            config: config.clone(),
        })
    }

    /// [batch, n_chans, bands] or [batch, n_features] -> [batch, n_outputs].
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let mut x = self.config.row("MLP", features)?;
        for layer in &self.layers {
            x = layer.forward_with(&x, Activation::Gelu, None)?;
        }
        self.out.forward(&x)
    }
}
