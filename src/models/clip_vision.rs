//! CLIP's image encoder: an image to the space that texts share.
//!
//! ```text
//! pixels [batch, height, width, 3] -> image_embeds [batch, projection]
//! ```
//!
//! Follows huggingface/transformers 5 `models/clip/modeling_clip.py` (`CLIPVisionModelWithProjection`); Radford et al.
//! 2021.

use super::config::Config;
use crate::error::{Error, Result};
use crate::nn::{Conv2d, LayerNorm, Linear, MultiheadAttention, Patches, TransformerLayer, Weights};
use crate::ops::{Activation, Sight, Window};
use crate::tensor::Tensor;

/// Sizes of an image encoder, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipVisionConfig {
    /// Side of an image.
    pub image_size: usize,
    /// Side of a patch.
    pub patch_size: usize,
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
    /// Width of what comes out.
    pub projection_dim: usize,
}

impl ClipVisionConfig {
    /// Reads a `CLIPVisionModelWithProjection` config, or the half of a `CLIPModel` that looks.
    pub fn new(config: &Config) -> Result<ClipVisionConfig> {
        if config.has("vision_config") {
            let half = ClipVisionConfig::new(&config.part("vision_config")?)?;
            let projection_dim = config.size_or("projection_dim", half.projection_dim)?;
            return Ok(ClipVisionConfig { projection_dim, ..half });
        }
        let hidden_size = config.size_or("hidden_size", 768)?;
        Ok(ClipVisionConfig {
            image_size: config.positive_or("image_size", 224)?,
            patch_size: config.positive_or("patch_size", 32)?,
            num_channels: config.size_or("num_channels", 3)?,
            hidden_size,
            num_hidden_layers: config.layers_or("num_hidden_layers", 12)?,
            num_attention_heads: config.heads_or("num_attention_heads", 12, hidden_size)?,
            intermediate_size: config.size_or("intermediate_size", 3072)?,
            hidden_act: config.activation("hidden_act", "quick_gelu")?,
            layer_norm_eps: config.number_or("layer_norm_eps", 1e-5)?,
            projection_dim: config.size_or("projection_dim", 512)?,
        })
    }
}

/// The image encoder.
pub struct ClipVision {
    config: ClipVisionConfig,
    embeddings: Patches,
    pre_layrnorm: LayerNorm,
    layers: Vec<TransformerLayer>,
    post_layernorm: LayerNorm,
    visual_projection: Linear,
}

impl ClipVision {
    /// The published names: `vision_model` (with its `pre_layrnorm`), `visual_projection`.
    pub fn load(weights: &Weights, config: &ClipVisionConfig) -> Result<ClipVision> {
        let (width, patch) = (config.hidden_size, config.patch_size);
        let model = weights.at("vision_model");
        let norm =
            |weights: &Weights, name: &str| LayerNorm::load(&weights.at(name), width, config.layer_norm_eps);
        let embeddings = model.at("embeddings");
        let patches = (config.image_size / patch).pow(2);
        let layer = |i: usize| {
            let weights = model.at(format!("encoder.layers.{i}"));
            let project = |name: &str| Linear::load(&weights.at(format!("self_attn.{name}")), width, width);
            let attention =
                [project("q_proj")?, project("k_proj")?, project("v_proj")?, project("out_proj")?];
            Ok(TransformerLayer {
                attention: MultiheadAttention::from_parts(attention, config.num_attention_heads),
                attention_norm: norm(&weights, "layer_norm1")?,
                cross: None,
                fc1: Linear::load(&weights.at("mlp.fc1"), width, config.intermediate_size)?,
                fc2: Linear::load(&weights.at("mlp.fc2"), config.intermediate_size, width)?,
                feed_forward_norm: norm(&weights, "layer_norm2")?,
                activation: config.hidden_act,
                norm_first: true,
            })
        };
        let positions = embeddings.tensor("position_embedding.weight", &[1 + patches, width])?;
        Ok(ClipVision {
            embeddings: Patches {
                projection: Conv2d::load_grouped(
                    &embeddings.at("patch_embedding"),
                    config.num_channels,
                    width,
                    [patch; 2],
                    1,
                    Window { stride: [patch; 2], ..Window::padded(0) },
                )?,
                class: embeddings.tensor("class_embedding", &[width])?.reshape(&[1, 1, width])?,
                positions: positions.reshape(&[1, 1 + patches, width])?,
            },
            pre_layrnorm: norm(&model, "pre_layrnorm")?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            post_layernorm: norm(&model, "post_layernorm")?,
            visual_projection: Linear::load_without_bias(
                &weights.at("visual_projection"),
                width,
                config.projection_dim,
            )?,
            config: config.clone(),
        })
    }

    /// Sizes.
    pub fn config(&self) -> &ClipVisionConfig {
        &self.config
    }

    /// [batch, height, width, channels] -> (last hidden state [batch, 1 + patches, hidden], image embeddings
    /// [batch, projection]).
    ///
    /// Errors: an image of another size.
    pub fn forward(&self, images: &Tensor) -> Result<(Tensor, Tensor)> {
        let side = self.config.image_size;
        if images.rank() != 4 || images.shape()[1..3] != [side, side] {
            let detail =
                format!("wanted images of {side} x {side}, got {:?} (channels last)", images.shape());
            return Err(Error::shape("clip_vision", detail));
        }
        let mut x = self.pre_layrnorm.forward(&self.embeddings.forward(images)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, Sight::All, None)?;
        }
        let first = x.narrow(1, 0, 1)?.reshape(&[x.dim(2), x.dim(0)])?;
        let embeds = self.visual_projection.forward(&self.post_layernorm.forward(&first)?)?;
        Ok((x, embeds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_clip_looks_by_its_own_half() {
        let config = |text: &str| Config::from_json("config.json", text.as_bytes()).unwrap();
        let whole = r#"{"projection_dim": 24, "vision_config": {"hidden_size": 48, "num_attention_heads": 4, "image_size": 32}}"#;
        let sizes = ClipVisionConfig::new(&config(whole)).unwrap();
        assert_eq!((sizes.hidden_size, sizes.image_size, sizes.projection_dim), (48, 32, 24));
        let half = r#"{"projection_dim": 24, "hidden_size": 48, "num_attention_heads": 4, "image_size": 32}"#;
        assert_eq!(ClipVisionConfig::new(&config(half)).unwrap(), sizes);
    }
}
