//! BERT's encoder: token ids to one vector per token. all-MiniLM-L6-v2, which places sentences, is one.
//!
//! ```text
//! input_ids [batch, tokens] -> last_hidden_state [batch, tokens, hidden], pooler_output [batch, hidden]
//! ```
//!
//! Follows huggingface/transformers 5 `models/bert/modeling_bert.py` (`BertModel`); Devlin et al. 2018.

use super::config::Config;
use super::padding::Padding;
use crate::error::{Error, Result};
use crate::nn::{Embedding, LayerNorm, Linear, MultiheadAttention, TransformerLayer, Weights};
use crate::ops::{Activation, Sight};
use crate::tensor::Tensor;
use serde_json::json;

/// Sizes of an encoder, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct BertConfig {
    /// Ids in the vocabulary.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward.
    pub intermediate_size: usize,
    /// Of the feed-forward.
    pub hidden_act: Activation,
    /// Longest text, in tokens.
    pub max_position_embeddings: usize,
    /// Kinds of tokens: first text, second text.
    pub type_vocab_size: usize,
    /// Of the norms.
    pub layer_norm_eps: f64,
}

impl BertConfig {
    /// Reads a `BertModel` config. A decoder and relative positions are refused.
    pub fn new(config: &Config) -> Result<BertConfig> {
        config.only(&[
            ("position_embedding_type", json!("absolute")),
            ("is_decoder", json!(false)),
            ("add_cross_attention", json!(false)),
        ])?;
        let hidden_size = config.size_or("hidden_size", 768)?;
        Ok(BertConfig {
            vocab_size: config.size_or("vocab_size", 30_522)?,
            hidden_size,
            num_hidden_layers: config.layers_or("num_hidden_layers", 12)?,
            num_attention_heads: config.heads_or("num_attention_heads", 12, hidden_size)?,
            intermediate_size: config.size_or("intermediate_size", 3072)?,
            hidden_act: config.activation("hidden_act", "gelu")?,
            max_position_embeddings: config.size_or("max_position_embeddings", 512)?,
            type_vocab_size: config.size_or("type_vocab_size", 2)?,
            layer_norm_eps: config.number_or("layer_norm_eps", 1e-12)?,
        })
    }
}

/// The encoder.
pub struct Bert {
    config: BertConfig,
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    norm: LayerNorm,
    layers: Vec<TransformerLayer>,
    pooler: Option<Linear>,
}

impl Bert {
    /// The published names, without `bert.`. A checkpoint may have no pooler.
    pub fn load(weights: &Weights, config: &BertConfig) -> Result<Bert> {
        let width = config.hidden_size;
        let embeddings = weights.at("embeddings");
        let table = |name: &str, n| Embedding::load(&embeddings.at(name), n, width);
        let layer = |i: usize| {
            let weights = weights.at(format!("encoder.layer.{i}"));
            let linear = |name: &str, inputs, outputs| Linear::load(&weights.at(name), inputs, outputs);
            let square = |name: &str| linear(name, width, width);
            let norm = |name: &str| {
                LayerNorm::load(&weights.at(format!("{name}.LayerNorm")), width, config.layer_norm_eps)
            };
            let attention = [
                square("attention.self.query")?,
                square("attention.self.key")?,
                square("attention.self.value")?,
                square("attention.output.dense")?,
            ];
            Ok(TransformerLayer {
                attention: MultiheadAttention::from_parts(attention, config.num_attention_heads),
                attention_norm: norm("attention.output")?,
                cross: None,
                fc1: linear("intermediate.dense", width, config.intermediate_size)?,
                fc2: linear("output.dense", config.intermediate_size, width)?,
                feed_forward_norm: norm("output")?,
                activation: config.hidden_act,
                norm_first: false,
            })
        };
        let pooler = weights.at("pooler.dense");
        Ok(Bert {
            word_embeddings: table("word_embeddings", config.vocab_size)?,
            position_embeddings: table("position_embeddings", config.max_position_embeddings)?,
            token_type_embeddings: table("token_type_embeddings", config.type_vocab_size)?,
            norm: LayerNorm::load(&embeddings.at("LayerNorm"), width, config.layer_norm_eps)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            pooler: pooler.has("weight").then(|| Linear::load(&pooler, width, width)).transpose()?,
            config: config.clone(),
        })
    }

    /// Sizes.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// ids `[batch, tokens]`, row-major, as many as the padding has places -> last hidden state
    /// `[batch, tokens, hidden]`. Tokens are of the first kind unless `types` says which.
    ///
    /// Errors: more tokens than positions, an id outside the vocabulary.
    pub fn forward(&self, input_ids: &[i64], types: Option<&[i64]>, padding: &Padding) -> Result<Tensor> {
        let shape = padding.shape();
        let [batch, tokens] = shape;
        let most = self.config.max_position_embeddings;
        if input_ids.len() != batch * tokens || tokens > most {
            let detail = format!("wanted [{batch}, up to {most}] ids, got {} of them", input_ids.len());
            return Err(Error::shape("bert", detail));
        }
        let zeros = vec![0; input_ids.len()];
        let places: Vec<i64> = (0..tokens as i64).collect();
        let x = self
            .word_embeddings
            .forward(input_ids, &shape)?
            .add(&self.token_type_embeddings.forward(types.unwrap_or(&zeros), &shape)?)?
            .add(&self.position_embeddings.forward(&places, &[tokens])?)?;
        let mask = padding.mask(x.gpu())?;
        let mut x = self.norm.forward(&x)?;
        for layer in &self.layers {
            x = layer.forward(&x, Sight::All, mask.as_ref())?;
        }
        Ok(x)
    }

    /// The first token of a last hidden state, `[batch, hidden]`, through the pooler; nothing without one.
    pub fn pool(&self, hidden: &Tensor) -> Result<Option<Tensor>> {
        let Some(pooler) = &self.pooler else { return Ok(None) };
        let first = hidden.narrow(1, 0, 1)?.reshape(&[hidden.dim(2), hidden.dim(0)])?;
        Ok(Some(pooler.forward_with(&first, Activation::Tanh, None)?))
    }
}
