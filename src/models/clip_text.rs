//! CLIP's text encoder: token ids to one vector per token, the conditioning of Stable Diffusion.
//!
//! ```text
//! input_ids [batch, tokens] -> last_hidden_state [batch, tokens, hidden], pooler_output [batch, hidden]
//! ```
//!
//! Follows huggingface/transformers 5 `models/clip/modeling_clip.py` (`CLIPTextModel`); Radford et al. 2021.

use super::config::Config;
use crate::error::{Error, Result};
use crate::nn::{Embedding, LayerNorm, Linear, Weights};
use crate::ops::{Activation, Sight};
use crate::tensor::Tensor;

/// Sizes of a text encoder, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipTextConfig {
    /// Ids in the vocabulary.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width inside the feed-forward.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Longest text, in tokens.
    pub max_position_embeddings: usize,
    /// Of the norms.
    pub layer_norm_eps: f64,
    /// Of the feed-forward.
    pub hidden_act: Activation,
    /// Id that ends a text; the pooled output is taken there. 2 means the largest id, as old configs do.
    pub eos_token_id: i64,
}

impl ClipTextConfig {
    /// Reads a `CLIPTextModel` config.
    pub fn new(config: &Config) -> Result<ClipTextConfig> {
        let sizes = ClipTextConfig {
            vocab_size: config.size_or("vocab_size", 49_408)?,
            hidden_size: config.size_or("hidden_size", 512)?,
            intermediate_size: config.size_or("intermediate_size", 2048)?,
            num_hidden_layers: config.layers_or("num_hidden_layers", 12)?,
            num_attention_heads: config.size_or("num_attention_heads", 8)?,
            max_position_embeddings: config.positive_or("max_position_embeddings", 77)?,
            layer_norm_eps: config.number_or("layer_norm_eps", 1e-5)?,
            hidden_act: config.activation("hidden_act", "quick_gelu")?,
            eos_token_id: config.size_or("eos_token_id", 49_407)? as i64,
        };
        if sizes.num_attention_heads == 0 || !sizes.hidden_size.is_multiple_of(sizes.num_attention_heads) {
            return Err(config.wrong("num_attention_heads", "heads that divide hidden_size"));
        }
        Ok(sizes)
    }
}

struct Layer {
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// The text encoder.
pub struct ClipText {
    config: ClipTextConfig,
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<Layer>,
    final_layer_norm: LayerNorm,
}

impl ClipText {
    /// Loads weights named without the prefix `text_model.`.
    pub fn load(weights: &Weights, config: &ClipTextConfig) -> Result<ClipText> {
        let width = config.hidden_size;
        let norm =
            |weights: &Weights, name: &str| LayerNorm::load(&weights.at(name), width, config.layer_norm_eps);
        let embeddings = weights.at("embeddings");
        let layer = |i: usize| {
            let weights = weights.at(format!("encoder.layers.{i}"));
            let project = |name: &str| Linear::load(&weights.at(format!("self_attn.{name}")), width, width);
            Ok(Layer {
                layer_norm1: norm(&weights, "layer_norm1")?,
                q_proj: project("q_proj")?,
                k_proj: project("k_proj")?,
                v_proj: project("v_proj")?,
                out_proj: project("out_proj")?,
                layer_norm2: norm(&weights, "layer_norm2")?,
                fc1: Linear::load(&weights.at("mlp.fc1"), width, config.intermediate_size)?,
                fc2: Linear::load(&weights.at("mlp.fc2"), config.intermediate_size, width)?,
            })
        };
        Ok(ClipText {
            token_embedding: Embedding::load(&embeddings.at("token_embedding"), config.vocab_size, width)?,
            position_embedding: Embedding::load(
                &embeddings.at("position_embedding"),
                config.max_position_embeddings,
                width,
            )?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            final_layer_norm: norm(weights, "final_layer_norm")?,
            config: config.clone(),
        })
    }

    /// Sizes.
    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// ids `[batch, tokens]`, row-major -> (last hidden state `[batch, tokens, hidden]`, pooled `[batch, hidden]`).
    ///
    /// Errors: more tokens than positions, an id outside the vocabulary.
    pub fn forward(&self, input_ids: &[i64], batch: usize) -> Result<(Tensor, Tensor)> {
        let tokens = input_ids.len() / batch.max(1);
        let most = self.config.max_position_embeddings;
        if batch == 0 || tokens == 0 || tokens * batch != input_ids.len() || tokens > most {
            let detail =
                format!("wanted [batch, up to {most}] ids, got {} for a batch of {batch}", input_ids.len());
            return Err(Error::shape("clip_text", detail));
        }
        let places: Vec<i64> = (0..tokens as i64).collect();
        let mut x = self
            .token_embedding
            .forward(input_ids, &[batch, tokens])?
            .add(&self.position_embedding.forward(&places, &[tokens])?)?;
        let heads = self.config.num_attention_heads;
        for layer in &self.layers {
            let h = layer.layer_norm1.forward(&x)?;
            let (q, k, v) = (layer.q_proj.forward(&h)?, layer.k_proj.forward(&h)?, layer.v_proj.forward(&h)?);
            let seen = q.attention(&k, &v, heads, None, Sight::Causal)?;
            x = layer.out_proj.forward_with(&seen, Activation::None, Some(&x))?;
            let h = layer.fc1.forward_with(&layer.layer_norm2.forward(&x)?, self.config.hidden_act, None)?;
            x = layer.fc2.forward_with(&h, Activation::None, Some(&x))?;
        }
        let x = self.final_layer_norm.forward(&x)?;
        let rows: Vec<Tensor> = input_ids
            .chunks(tokens)
            .enumerate()
            .map(|(item, ids)| x.narrow(0, item, 1)?.narrow(1, self.end(ids), 1))
            .collect::<Result<_>>()?;
        let pooled = Tensor::concat(&rows.iter().collect::<Vec<_>>(), 0)?
            .reshape(&[batch, self.config.hidden_size])?;
        Ok((x, pooled))
    }

    /// Place of the first end token (0 where there is none, as the reference's argmax gives).
    fn end(&self, ids: &[i64]) -> usize {
        let wanted = match self.config.eos_token_id {
            2 => ids.iter().copied().max().unwrap_or(0),
            id => id,
        };
        ids.iter().position(|&id| id == wanted).unwrap_or(0)
    }
}
