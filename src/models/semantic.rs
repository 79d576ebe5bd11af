//! The semantic predictor: EEG features to the text embeddings that steer the denoiser.
//!
//! ```text
//! eeg [batch, n_features] -> embeddings [batch, n_tokens, emb_dim]
//! ```
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG2Video_New/Semantic/eeg_text.py` (class `CLIP`, which is an MLP).

use super::config::Config;
use crate::error::{Error, Result};
use crate::nn::{Dropout, Linear, Weights};
use crate::ops::Activation;
use crate::tensor::Tensor;
use crate::weights::Checkpoint;

/// Sizes of a semantic predictor.
#[derive(Clone, Debug, PartialEq)]
pub struct SemanticConfig {
    /// DE features of one clip: channels x bands.
    pub n_features: usize,
    /// Widths of the hidden layers.
    pub hidden_dims: Vec<usize>,
    /// Tokens of the embedding.
    pub n_tokens: usize,
    /// Width of a token.
    pub emb_dim: usize,
    /// Share of hidden values that dropout drops in training.
    pub drop_prob: f64,
}

impl SemanticConfig {
    /// Reads a `SemanticPredictor` config. Widths it leaves out are taken from the checkpoint's shapes, or are the
    /// original's: 310 features, four layers of 10,000, 77 tokens of 768.
    pub fn new(config: &Config, checkpoint: Option<&Checkpoint>) -> Result<SemanticConfig> {
        let mut widths = Vec::new();
        if let Some(file) = checkpoint {
            let shape = |i: usize| file.get(&format!("mlp.{}.weight", 2 * i)).map(|view| view.shape.to_vec());
            widths = (0..)
                .map_while(shape)
                .filter(|shape| shape.len() == 2)
                .map(|shape| (shape[0], shape[1]))
                .collect();
        }
        let hidden = match widths.as_slice() {
            [hidden @ .., _] => hidden.iter().map(|(outputs, _)| *outputs).collect(),
            [] => vec![10_000; 4],
        };
        let outputs = widths.last().map_or(77 * 768, |(outputs, _)| *outputs);
        let drop_prob = config.number_or("drop_prob", 0.0)?;
        if !(0.0..1.0).contains(&drop_prob) {
            return Err(config.wrong("drop_prob", "0 or more and below 1"));
        }
        let n_tokens = config.size_or("n_tokens", 77)?.max(1);
        Ok(SemanticConfig {
            n_features: config.size_or("n_features", widths.first().map_or(310, |(_, inputs)| *inputs))?,
            hidden_dims: if config.get("hidden_dims").is_some() {
                config.sizes("hidden_dims")?
            } else {
                hidden
            },
            n_tokens,
            emb_dim: config.size_or("emb_dim", outputs / n_tokens)?,
            drop_prob,
        })
    }
}

/// Linear layers with ReLU between; dropout behind each, where the config asks for it.
pub struct SemanticPredictor {
    mlp: Vec<Linear>,
    drop: Dropout,
    config: SemanticConfig,
}

impl SemanticPredictor {
    /// `mlp.0`, `mlp.2`, ….
    pub fn load(weights: &Weights, config: &SemanticConfig) -> Result<SemanticPredictor> {
        let widths: Vec<usize> = std::iter::once(config.n_features)
            .chain(config.hidden_dims.iter().copied())
            .chain([config.n_tokens * config.emb_dim])
            .collect();
        let layer = |(i, pair): (usize, &[usize])| {
            Linear::load(&weights.at(format!("mlp.{}", 2 * i)), pair[0], pair[1])
        };
        Ok(SemanticPredictor {
            drop: Dropout::new(config.drop_prob, weights),
            mlp: widths.windows(2).enumerate().map(layer).collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// Sizes.
    pub fn config(&self) -> &SemanticConfig {
        &self.config
    }

    /// [batch, n_features] -> [batch, n_tokens, emb_dim].
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let SemanticConfig { n_features, n_tokens, emb_dim, .. } = self.config;
        let &[batch, got] = features.shape() else {
            let detail = format!("wanted [batch, {n_features}], got {:?}", features.shape());
            return Err(Error::shape("SemanticPredictor", detail));
        };
        if got != n_features {
            return Err(Error::shape(
                "SemanticPredictor",
                format!("wanted {n_features} features, got {got}"),
            ));
        }
        let mut x = features.clone();
        for (i, layer) in self.mlp.iter().enumerate() {
            let is_last = i + 1 == self.mlp.len();
            let activation = if is_last { Activation::None } else { Activation::Relu };
            x = layer.forward_with(&x, activation, None)?;
            if !is_last && self.drop.is_on() {
                x = self.drop.forward(&x)?;
            }
        }
        x.reshape(&[batch, n_tokens, emb_dim])
    }
}
