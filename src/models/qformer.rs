//! BLIP-2's Q-Former: a few queries draw from an encoder's tokens what a language model shall hear.
//!
//! ```text
//! query_embeds [batch, queries, hidden], encoder_hidden_states [batch, keys, encoder hidden]
//!   -> last_hidden_state [batch, queries, hidden]
//! ```
//!
//! Follows huggingface/transformers 5 `models/blip_2/modeling_blip_2.py` (`Blip2QFormerModel`) without the text branch,
//! which captions do not use; Li et al. 2023.

use super::config::Config;
use super::padding::Padding;
use crate::error::{Error, Result};
use crate::nn::{LayerNorm, Linear, MultiheadAttention, TransformerLayer, Weights};
use crate::ops::Activation;
use crate::tensor::Tensor;

/// Sizes of a Q-Former, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct QFormerConfig {
    /// Width of a query.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward.
    pub intermediate_size: usize,
    /// Of the feed-forward.
    pub hidden_act: Activation,
    /// Of the norms.
    pub layer_norm_eps: f64,
    /// Every how many layers one looks at the encoder, from the first on.
    pub cross_attention_frequency: usize,
    /// Width of the encoder's tokens.
    pub encoder_hidden_size: usize,
}

impl QFormerConfig {
    /// Reads a `Blip2QFormerModel` config.
    pub fn new(config: &Config) -> Result<QFormerConfig> {
        let hidden_size = config.size_or("hidden_size", 768)?;
        let sizes = QFormerConfig {
            hidden_size,
            num_hidden_layers: config.layers_or("num_hidden_layers", 12)?,
            num_attention_heads: config.heads_or("num_attention_heads", 12, hidden_size)?,
            intermediate_size: config.size_or("intermediate_size", 3072)?,
            hidden_act: config.activation("hidden_act", "gelu")?,
            layer_norm_eps: config.number_or("layer_norm_eps", 1e-12)?,
            cross_attention_frequency: config.size_or("cross_attention_frequency", 2)?,
            encoder_hidden_size: config.size_or("encoder_hidden_size", 1408)?,
        };
        match sizes.cross_attention_frequency {
            0 => Err(config.wrong("cross_attention_frequency", "at least 1")),
            _ => Ok(sizes),
        }
    }
}

/// The Q-Former.
pub struct QFormer {
    config: QFormerConfig,
    layernorm: LayerNorm,
    layers: Vec<TransformerLayer>,
}

impl QFormer {
    /// The published names, without `qformer.`: `layernorm`, `encoder.layer`.
    pub fn load(weights: &Weights, config: &QFormerConfig) -> Result<QFormer> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let layer = |i: usize| {
            let weights = weights.at(format!("encoder.layer.{i}"));
            let linear = |name: String, inputs, outputs| Linear::load(&weights.at(name), inputs, outputs);
            let norm = |name: &str| {
                LayerNorm::load(&weights.at(format!("{name}.LayerNorm")), width, config.layer_norm_eps)
            };
            let attention = |name: &str, keys: usize| {
                let parts = [
                    linear(format!("{name}.attention.query"), width, width)?,
                    linear(format!("{name}.attention.key"), keys, width)?,
                    linear(format!("{name}.attention.value"), keys, width)?,
                    linear(format!("{name}.output.dense"), width, width)?,
                ];
                Ok(MultiheadAttention::from_parts(parts, config.num_attention_heads))
            };
            let cross = || {
                let attention = attention("crossattention", config.encoder_hidden_size)?;
                Ok((attention, norm("crossattention.output")?))
            };
            Ok(TransformerLayer {
                attention: attention("attention", width)?,
                attention_norm: norm("attention.output")?,
                cross: i.is_multiple_of(config.cross_attention_frequency).then(cross).transpose()?,
                fc1: linear("intermediate_query.dense".into(), width, inner)?,
                fc2: linear("output_query.dense".into(), inner, width)?,
                feed_forward_norm: norm("output_query")?,
                activation: config.hidden_act,
                norm_first: false,
            })
        };
        Ok(QFormer {
            layernorm: LayerNorm::load(&weights.at("layernorm"), width, config.layer_norm_eps)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// Sizes.
    pub fn config(&self) -> &QFormerConfig {
        &self.config
    }

    /// queries [batch, queries, hidden], or [1, ..] for every item alike, encoder [batch, keys, encoder hidden]
    /// -> [batch, queries, hidden]. The padding, where there is some, is of the encoder's tokens.
    ///
    /// Errors: widths or batches that do not go together.
    pub fn forward(&self, queries: &Tensor, encoder: &Tensor, padding: Option<&Padding>) -> Result<Tensor> {
        let QFormerConfig { hidden_size, encoder_hidden_size, .. } = self.config;
        let (&[rows, n, width], &[batch, keys, keys_width]) = (queries.shape(), encoder.shape()) else {
            let (q, e) = (queries.shape(), encoder.shape());
            return Err(Error::shape("qformer", format!("wanted three axes each, got {q:?} and {e:?}")));
        };
        if [width, keys_width] != [hidden_size, encoder_hidden_size] || (rows != batch && rows != 1) {
            let detail = format!(
                "wanted queries [{batch}, .., {hidden_size}] and an encoder [{batch}, .., {encoder_hidden_size}], \
                 got {:?} and {:?}",
                queries.shape(),
                encoder.shape()
            );
            return Err(Error::shape("qformer", detail));
        }
        let mask = match padding {
            Some(padding) if padding.shape() != [batch, keys] => {
                let detail = format!("a mask {:?} for an encoder [{batch}, {keys}, ..]", padding.shape());
                return Err(Error::shape("qformer", detail));
            }
            Some(padding) => padding.mask(encoder.gpu())?,
            None => None,
        };
        let mut x = self.layernorm.forward(&queries.expand(&[batch, n, width])?)?;
        for layer in &self.layers {
            x = layer.forward_across(&x, encoder, mask.as_ref())?;
        }
        Ok(x)
    }
}
