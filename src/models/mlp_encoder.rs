//! MLPEncoder: the features of an EEG window to class scores, or to an embedding without the last layer.
//!
//! ```text
//! eeg [batch, n_features] -> logits [batch, n_outputs]              MlpEncoder
//! eeg [batch, n_features] -> embeddings [batch, 128]                MlpEncoderFeat
//! ```
//!
//! Follows gaspachoo/EEG2Video 6322092 `Gaspard_model/models/encoders.py` (`MLPEncoder`, `MLPEncoder_feat`): the same
//! layers under different names.

use super::eeg::EegConfig;
use crate::error::Result;
use crate::nn::{BatchNorm, Dropout, Linear, Weights};
use crate::tensor::Tensor;

/// Widths of the layers.
const HIDDEN: [usize; 3] = [512, 256, 128];

/// Linear layers, each with a norm and ReLU, and dropout but after the last.
struct Trunk {
    layers: Vec<(Linear, BatchNorm)>,
    drop: Dropout,
}

impl Trunk {
    /// `0`, `1`, then `4`, `5`, then `8`, `9`.
    fn load(weights: &Weights, config: &EegConfig) -> Result<Trunk> {
        let layer = |i: usize| {
            let inputs = if i == 0 { config.n_features } else { HIDDEN[i - 1] };
            let linear = Linear::load(&weights.at((4 * i).to_string()), inputs, HIDDEN[i])?;
            Ok((linear, BatchNorm::load(&weights.at((4 * i + 1).to_string()), HIDDEN[i])?))
        };
        let layers = (0..HIDDEN.len()).map(layer).collect::<Result<_>>()?;
        Ok(Trunk { layers, drop: Dropout::new(config.dropped(0.3), weights) })
    }

    /// [batch, n_features] -> [batch, 128].
    fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let mut x = features.clone();
        for (i, (linear, norm)) in self.layers.iter().enumerate() {
            x = norm.forward(&linear.forward(&x)?)?.relu()?;
            if i + 1 < self.layers.len() {
                x = self.drop.forward(&x)?;
            }
        }
        Ok(x)
    }
}

/// To class scores.
pub struct MlpEncoder {
    net: Trunk,
    out: Linear,
    config: EegConfig,
}

impl MlpEncoder {
    /// `net`: the trunk, then `net.11`.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<MlpEncoder> {
        Ok(MlpEncoder {
            net: Trunk::load(&weights.at("net"), config)?,
            out: Linear::load(&weights.at("net.11"), HIDDEN[2], config.outputs(weights, "net.11")?)?,
            config: config.clone(),
        })
    }

    /// [batch, n_features] -> [batch, n_outputs].
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.net.forward(&self.config.row("MLPEncoder", features)?)?)
    }
}

/// To an embedding.
pub struct MlpEncoderFeat {
    feature_extractor: Trunk,
    config: EegConfig,
}

impl MlpEncoderFeat {
    /// Width of the embedding.
    pub const WIDTH: usize = HIDDEN[2];

    /// `feature_extractor`: the trunk.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<MlpEncoderFeat> {
        Ok(MlpEncoderFeat {
            feature_extractor: Trunk::load(&weights.at("feature_extractor"), config)?,
            config: config.clone(),
        })
    }

    /// [batch, n_features] -> [batch, 128].
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        self.feature_extractor.forward(&self.config.row("MLPEncoder_feat", features)?)
    }
}
