//! ViT with a head: an image to class scores.
//!
//! ```text
//! pixels [batch, height, width, 3] -> logits [batch, labels]
//! ```
//!
//! Follows huggingface/transformers 5 `models/vit/modeling_vit.py` (`ViTForImageClassification`); Dosovitskiy et al.
//! 2020.

use super::config::Config;
use crate::error::{Error, Result};
use crate::nn::{Conv2d, LayerNorm, Linear, MultiheadAttention, Patches, TransformerLayer, Weights};
use crate::ops::{Activation, Sight, Window};
use crate::tensor::Tensor;
use serde_json::json;

/// Sizes of a classifier, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct VitConfig {
    /// Height and width of an image.
    pub image_size: [usize; 2],
    /// Height and width of a patch.
    pub patch_size: [usize; 2],
    /// Colours.
    pub num_channels: usize,
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
    /// Of the norms.
    pub layer_norm_eps: f64,
    /// Queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Classes.
    pub num_labels: usize,
}

impl VitConfig {
    /// Reads a `ViTForImageClassification` config.
    pub fn new(config: &Config) -> Result<VitConfig> {
        config.only(&[("head_dim", json!(null))])?;
        let hidden_size = config.size_or("hidden_size", 768)?;
        Ok(VitConfig {
            image_size: config.pair_or("image_size", 224)?,
            patch_size: config.pair_or("patch_size", 16)?,
            num_channels: config.size_or("num_channels", 3)?,
            hidden_size,
            num_hidden_layers: config.layers_or("num_hidden_layers", 12)?,
            num_attention_heads: config.heads_or("num_attention_heads", 12, hidden_size)?,
            intermediate_size: config.size_or("intermediate_size", 3072)?,
            hidden_act: config.activation("hidden_act", "gelu")?,
            layer_norm_eps: config.number_or("layer_norm_eps", 1e-12)?,
            qkv_bias: config.switch_or("qkv_bias", true)?,
            num_labels: config.labels()?,
        })
    }
}

/// The classifier.
pub struct Vit {
    config: VitConfig,
    embeddings: Patches,
    layers: Vec<TransformerLayer>,
    layernorm: LayerNorm,
    classifier: Linear,
}

impl Vit {
    /// The published names: `vit.embeddings`, `vit.encoder.layer`, `vit.layernorm`, `classifier`.
    pub fn load(weights: &Weights, config: &VitConfig) -> Result<Vit> {
        let (width, patch) = (config.hidden_size, config.patch_size);
        let vit = weights.at("vit");
        let embeddings = vit.at("embeddings");
        let patches: usize = (0..2).map(|axis| config.image_size[axis] / patch[axis]).product();
        let layer = |i: usize| {
            let weights = vit.at(format!("encoder.layer.{i}"));
            let norm = |name: &str| LayerNorm::load(&weights.at(name), width, config.layer_norm_eps);
            let project = |name: &str| {
                let load = if config.qkv_bias { Linear::load } else { Linear::load_without_bias };
                load(&weights.at(format!("attention.attention.{name}")), width, width)
            };
            let out = Linear::load(&weights.at("attention.output.dense"), width, width)?;
            let attention = [project("query")?, project("key")?, project("value")?, out];
            let inner = config.intermediate_size;
            Ok(TransformerLayer {
                attention: MultiheadAttention::from_parts(attention, config.num_attention_heads),
                attention_norm: norm("layernorm_before")?,
                cross: None,
                fc1: Linear::load(&weights.at("intermediate.dense"), width, inner)?,
                fc2: Linear::load(&weights.at("output.dense"), inner, width)?,
                feed_forward_norm: norm("layernorm_after")?,
                activation: config.hidden_act,
                norm_first: true,
            })
        };
        Ok(Vit {
            embeddings: Patches {
                projection: Conv2d::load(
                    &embeddings.at("patch_embeddings.projection"),
                    config.num_channels,
                    width,
                    patch,
                    Window { stride: patch, ..Window::padded(0) },
                )?,
                class: embeddings.tensor("cls_token", &[1, 1, width])?,
                positions: embeddings.tensor("position_embeddings", &[1, 1 + patches, width])?,
            },
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            layernorm: LayerNorm::load(&vit.at("layernorm"), width, config.layer_norm_eps)?,
            classifier: Linear::load(&weights.at("classifier"), width, config.num_labels)?,
            config: config.clone(),
        })
    }

    /// Sizes.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// [batch, height, width, channels] -> [batch, labels].
    ///
    /// Errors: an image of another size.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let [height, width] = self.config.image_size;
        if images.rank() != 4 || images.shape()[1..3] != [height, width] {
            let detail =
                format!("wanted images of {height} x {width}, got {:?} (channels last)", images.shape());
            return Err(Error::shape("vit", detail));
        }
        let mut x = self.embeddings.forward(images)?;
        for layer in &self.layers {
            x = layer.forward(&x, Sight::All, None)?;
        }
        // A norm looks at one token alone, and only the first is asked for.
        let first = x.narrow(1, 0, 1)?.reshape(&[x.dim(2), x.dim(0)])?;
        self.classifier.forward(&self.layernorm.forward(&first)?)
    }
}
