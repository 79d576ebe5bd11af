//! OPT: a decoder that continues a text.
//!
//! ```text
//! input_ids [batch, tokens] -> embed -> forward -> logits [batch, tokens, vocabulary]
//! ```
//!
//! Pictures and EEG come in as embeddings in the place of a text's. With a past, keys and values of the tokens so far
//! are kept and a text grows token by token.
//!
//! Follows huggingface/transformers 5 `models/opt/modeling_opt.py` (`OPTForCausalLM`); Zhang et al. 2022.

use super::config::Config;
use super::padding::Padding;
use crate::error::{Error, Result};
use crate::nn::{Embedding, LayerNorm, Linear, MultiheadAttention, Past, TransformerLayer, Weights};
use crate::ops::{Activation, Sight};
use crate::tensor::{DType, Tensor};

/// Of every norm.
const EPS: f64 = 1e-5;
/// Rows of the table of positions before the first place.
const OFFSET: usize = 2;

/// Sizes of a decoder, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct OptConfig {
    /// Ids in the vocabulary.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward.
    pub ffn_dim: usize,
    /// Of the feed-forward.
    pub activation_function: Activation,
    /// Longest text, in tokens.
    pub max_position_embeddings: usize,
    /// Width of the embeddings, projected where it is not `hidden_size`.
    pub word_embed_proj_dim: usize,
    /// Norms before attention and feed-forward, not after.
    pub do_layer_norm_before: bool,
    /// A norm behind the last layer.
    pub has_final_layer_norm: bool,
    /// Linear layers have biases.
    pub enable_bias: bool,
    /// Norms have scale and shift.
    pub layer_norm_elementwise_affine: bool,
    /// The head is the table of embeddings.
    pub tie_word_embeddings: bool,
    /// Ends a text.
    pub eos_token_id: Vec<i64>,
    /// Begins a text.
    pub bos_token_id: i64,
    /// Stands behind a text that has ended.
    pub pad_token_id: Option<i64>,
}

impl OptConfig {
    /// Reads an `OPTForCausalLM` config.
    pub fn new(config: &Config) -> Result<OptConfig> {
        let hidden_size = config.size_or("hidden_size", 768)?;
        let do_layer_norm_before = config.switch_or("do_layer_norm_before", true)?;
        let eos_token_id = if config.has("eos_token_id") { config.ids("eos_token_id")? } else { vec![2] };
        let pad_token_id = if config.has("pad_token_id") { config.ids("pad_token_id")? } else { vec![1] };
        Ok(OptConfig {
            vocab_size: config.size_or("vocab_size", 50_272)?,
            hidden_size,
            num_hidden_layers: config.layers_or("num_hidden_layers", 12)?,
            num_attention_heads: config.heads_or("num_attention_heads", 12, hidden_size)?,
            ffn_dim: config.size_or("ffn_dim", 3072)?,
            activation_function: config.activation("activation_function", "relu")?,
            max_position_embeddings: config.size_or("max_position_embeddings", 2048)?,
            word_embed_proj_dim: config.size_or("word_embed_proj_dim", hidden_size)?,
            do_layer_norm_before,
            has_final_layer_norm: do_layer_norm_before
                && !config.switch_or("_remove_final_layer_norm", false)?,
            enable_bias: config.switch_or("enable_bias", true)?,
            layer_norm_elementwise_affine: config.switch_or("layer_norm_elementwise_affine", true)?,
            tie_word_embeddings: config.switch_or("tie_word_embeddings", true)?,
            eos_token_id,
            bos_token_id: config.size_or("bos_token_id", 2)? as i64,
            pad_token_id: pad_token_id.first().copied(),
        })
    }
}

/// The decoder with its head.
pub struct Opt {
    config: OptConfig,
    embed_tokens: Embedding,
    embed_positions: Embedding,
    project_in: Option<Linear>,
    project_out: Option<Linear>,
    layers: Vec<TransformerLayer>,
    final_layer_norm: Option<LayerNorm>,
    lm_head: Linear,
}

impl Opt {
    /// The published names: `model.decoder`, `lm_head`.
    pub fn load(weights: &Weights, config: &OptConfig) -> Result<Opt> {
        let (width, outer) = (config.hidden_size, config.word_embed_proj_dim);
        let decoder = weights.at("model.decoder");
        let norm = |weights: Weights| match config.layer_norm_elementwise_affine {
            true => LayerNorm::load(&weights, width, EPS),
            false => Ok(LayerNorm::plain(EPS)),
        };
        let layer = |i: usize| {
            let weights = decoder.at(format!("layers.{i}"));
            let linear = |name: &str, inputs, outputs| {
                let load = if config.enable_bias { Linear::load } else { Linear::load_without_bias };
                // Of all matrices, rounding these two to bytes moves the logits most.
                let is_fine = name.ends_with("v_proj") || name.ends_with("out_proj");
                let weights = if is_fine { weights.clone() } else { weights.in_bytes() };
                load(&weights.at(name), inputs, outputs)
            };
            let attention = ["q_proj", "k_proj", "v_proj", "out_proj"]
                .map(|name| linear(&format!("self_attn.{name}"), width, width));
            let [q, k, v, out] = attention;
            Ok(TransformerLayer {
                attention: MultiheadAttention::from_parts([q?, k?, v?, out?], config.num_attention_heads),
                attention_norm: norm(weights.at("self_attn_layer_norm"))?,
                cross: None,
                fc1: linear("fc1", width, config.ffn_dim)?,
                fc2: linear("fc2", config.ffn_dim, width)?,
                feed_forward_norm: norm(weights.at("final_layer_norm"))?,
                activation: config.activation_function,
                norm_first: config.do_layer_norm_before,
            })
        };
        let project = |name: &str, inputs, outputs| {
            let load = || Linear::load_without_bias(&decoder.at(name), inputs, outputs);
            (outer != width).then(load).transpose()
        };
        let head =
            if config.tie_word_embeddings { decoder.at("embed_tokens") } else { weights.at("lm_head") };
        let places = config.max_position_embeddings + OFFSET;
        Ok(Opt {
            embed_tokens: Embedding::load(&decoder.at("embed_tokens"), config.vocab_size, outer)?,
            embed_positions: Embedding::load(&decoder.at("embed_positions"), places, width)?,
            project_in: project("project_in", outer, width)?,
            project_out: project("project_out", width, outer)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            final_layer_norm: match config.has_final_layer_norm {
                true => Some(norm(decoder.at("final_layer_norm"))?),
                false => None,
            },
            lm_head: Linear::load_without_bias(&head, outer, config.vocab_size)?,
            config: config.clone(),
        })
    }

    /// Sizes.
    pub fn config(&self) -> &OptConfig {
        &self.config
    }

    /// Ids of `shape` -> `[shape.., word_embed_proj_dim]`.
    ///
    /// Errors: an id outside the vocabulary.
    pub fn embed(&self, ids: &[i64], shape: &[usize]) -> Result<Tensor> {
        self.embed_tokens.forward(ids, shape)
    }

    /// Embeddings `[batch, tokens, word_embed_proj_dim]` -> hidden states of the same shape, ready for the head. The
    /// padding has all places of the texts, of which these tokens are the last.
    ///
    /// Errors: more tokens than positions; several tokens behind a past.
    pub fn forward(&self, x: &Tensor, padding: &Padding, past: Option<&mut OptPast>) -> Result<Tensor> {
        let [batch, places] = padding.shape();
        let tokens = x.dim(1);
        if x.rank() != 3 || x.shape()[0] != batch || tokens > places || tokens == 0 {
            let detail = format!("wanted embeddings [{batch}, up to {places}, ..], got {:?}", x.shape());
            return Err(Error::shape("opt", detail));
        }
        let most = self.config.max_position_embeddings;
        if padding.longest() > most {
            let longest = padding.longest();
            return Err(Error::shape(
                "opt",
                format!("a text of {longest} tokens, there are positions for {most}"),
            ));
        }
        let rows: Vec<i64> =
            padding.places(places - tokens).iter().map(|place| place + OFFSET as i64).collect();
        let x = match &self.project_in {
            Some(project) => project.forward(x)?,
            None => x.clone(),
        };
        let mut x = x.add(&self.embed_positions.forward(&rows, &[batch, tokens])?)?;
        let mask = padding.mask(x.gpu())?;
        match past {
            None => {
                for layer in &self.layers {
                    x = layer.forward(&x, Sight::Causal, mask.as_ref())?;
                }
            }
            Some(OptPast(past)) => {
                past.resize_with(self.layers.len(), Past::default);
                for (layer, past) in self.layers.iter().zip(past) {
                    x = layer.forward_after(past, &x, mask.as_ref())?;
                }
            }
        }
        if let Some(norm) = &self.final_layer_norm {
            x = norm.forward(&x)?;
        }
        match &self.project_out {
            Some(project) => project.forward(&x),
            None => Ok(x),
        }
    }

    /// Hidden states `[.., word_embed_proj_dim]` -> scores of what comes next, `[.., vocabulary]`, in f32.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.lm_head.forward(&hidden.cast(DType::F32)?)
    }
}

/// Keys and values of the tokens so far, layer by layer.
#[derive(Clone, Default)]
pub struct OptPast(Vec<Past>);

impl OptPast {
    /// Of these texts, in this order; one may come several times, and others not at all.
    pub fn pick(&self, texts: &[usize]) -> Result<OptPast> {
        Ok(OptPast(self.0.iter().map(|past| past.pick(texts)).collect::<Result<_>>()?))
    }
}
