//! VideoMAE with a head: a clip to class scores.
//!
//! ```text
//! frames [batch, frames, height, width, 3] -> logits [batch, labels]
//! ```
//!
//! Follows huggingface/transformers 5 `models/videomae/modeling_videomae.py` (`VideoMAEForVideoClassification`); Tong
//! et al. 2022.

use super::config::Config;
use super::seq2seq::sinusoids;
use crate::error::{Error, Result};
use crate::nn::{Conv2d, LayerNorm, Linear, MultiheadAttention, TransformerLayer, Weights};
use crate::ops::{Activation, Sight};
use crate::tensor::Tensor;

/// Most values of the positions, which no file holds.
const MOST_POSITIONS: usize = 1 << 26;

/// Sizes of a classifier, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoMaeConfig {
    /// Height and width of a frame.
    pub image_size: [usize; 2],
    /// Height and width of a patch.
    pub patch_size: [usize; 2],
    /// Colours.
    pub num_channels: usize,
    /// Frames of a clip.
    pub num_frames: usize,
    /// Frames of a patch.
    pub tubelet_size: usize,
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
    /// Of the layers' norms.
    pub layer_norm_eps: f64,
    /// Queries and values have biases; keys never do.
    pub qv_bias: bool,
    /// The head reads the mean of all tokens, not the first one.
    pub use_mean_pooling: bool,
    /// Classes.
    pub num_labels: usize,
}

impl VideoMaeConfig {
    /// Reads a `VideoMAEForVideoClassification` config; `qkv_bias` is an older name of `qv_bias`.
    pub fn new(config: &Config) -> Result<VideoMaeConfig> {
        let hidden_size = config.size_or("hidden_size", 768)?;
        let sizes = VideoMaeConfig {
            image_size: config.pair_or("image_size", 224)?,
            patch_size: config.pair_or("patch_size", 16)?,
            num_channels: config.size_or("num_channels", 3)?,
            num_frames: config.size_or("num_frames", 16)?,
            tubelet_size: config.size_or("tubelet_size", 2)?,
            hidden_size,
            num_hidden_layers: config.layers_or("num_hidden_layers", 12)?,
            num_attention_heads: config.heads_or("num_attention_heads", 12, hidden_size)?,
            intermediate_size: config.size_or("intermediate_size", 3072)?,
            hidden_act: config.activation("hidden_act", "gelu")?,
            layer_norm_eps: config.number_or("layer_norm_eps", 1e-12)?,
            qv_bias: config.switch_or("qkv_bias", config.switch_or("qv_bias", true)?)?,
            use_mean_pooling: config.switch_or("use_mean_pooling", true)?,
            num_labels: config.labels()?,
        };
        if sizes.tubelet_size == 0 || sizes.num_frames < sizes.tubelet_size {
            return Err(config.wrong("tubelet_size", "at least 1, and no more than num_frames"));
        }
        let [frames, height, width] = sizes.patches();
        if frames.saturating_mul(height).saturating_mul(width).saturating_mul(hidden_size) > MOST_POSITIONS {
            return Err(config.wrong("image_size", "a picture of fewer patches"));
        }
        Ok(sizes)
    }

    /// Patches of a clip: in time, down, across.
    fn patches(&self) -> [usize; 3] {
        let [height, width] = [0, 1].map(|axis| self.image_size[axis] / self.patch_size[axis]);
        [self.num_frames / self.tubelet_size, height, width]
    }
}

/// The classifier.
pub struct VideoMae {
    config: VideoMaeConfig,
    projection: Conv2d,
    positions: Tensor,
    layers: Vec<TransformerLayer>,
    layernorm: Option<LayerNorm>,
    fc_norm: Option<LayerNorm>,
    classifier: Linear,
}

impl VideoMae {
    /// The published names: `videomae.embeddings`, `videomae.encoder.layer` (with `q_bias` and `v_bias`),
    /// `videomae.layernorm` or `fc_norm`, `classifier`.
    pub fn load(weights: &Weights, config: &VideoMaeConfig) -> Result<VideoMae> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let model = weights.at("videomae");
        let layer = |i: usize| {
            let weights = model.at(format!("encoder.layer.{i}"));
            let norm = |name: &str| LayerNorm::load(&weights.at(name), width, config.layer_norm_eps);
            let attention = weights.at("attention.attention");
            let project = |name: &str, bias: &str| {
                let weight = attention.matrix(&format!("{name}.weight"), [width, width])?;
                let has_bias = config.qv_bias && !bias.is_empty();
                let bias = has_bias.then(|| attention.tensor(bias, &[width])).transpose()?;
                Ok(Linear::from_parts(weight, bias))
            };
            let out = Linear::load(&weights.at("attention.output.dense"), width, width)?;
            let parts = [project("query", "q_bias")?, project("key", "")?, project("value", "v_bias")?, out];
            Ok(TransformerLayer {
                attention: MultiheadAttention::from_parts(parts, config.num_attention_heads),
                attention_norm: norm("layernorm_before")?,
                cross: None,
                fc1: Linear::load(&weights.at("intermediate.dense"), width, inner)?,
                fc2: Linear::load(&weights.at("output.dense"), inner, width)?,
                feed_forward_norm: norm("layernorm_after")?,
                activation: config.hidden_act,
                norm_first: true,
            })
        };
        let tokens = config.patches().iter().product();
        let [py, px] = config.patch_size;
        let mean = config.use_mean_pooling;
        let layernorm = || LayerNorm::load(&model.at("layernorm"), width, config.layer_norm_eps);
        let fc_norm = || LayerNorm::load(&weights.at("fc_norm"), width, 1e-5);
        Ok(VideoMae {
            projection: Conv2d::load_tubelets(
                &model.at("embeddings.patch_embeddings.projection"),
                config.num_channels,
                width,
                [config.tubelet_size, py, px],
            )?,
            positions: Tensor::new(weights.gpu(), &[tokens, width], &sinusoids(tokens, width))?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            layernorm: (!mean).then(layernorm).transpose()?,
            fc_norm: mean.then(fc_norm).transpose()?,
            classifier: Linear::load(&weights.at("classifier"), width, config.num_labels)?,
            config: config.clone(),
        })
    }

    /// Sizes.
    pub fn config(&self) -> &VideoMaeConfig {
        &self.config
    }

    /// [batch, frames, height, width, channels] -> [batch, labels].
    ///
    /// Errors: a clip of another size or number of frames.
    pub fn forward(&self, frames: &Tensor) -> Result<Tensor> {
        let c = &self.config;
        let ([height, width], [steps, rows, columns]) = (c.image_size, c.patches());
        let &[batch, n, h, w, channels] = frames.shape() else {
            let got = frames.shape();
            return Err(Error::shape(
                "videomae",
                format!("wanted [batch, frames, height, width, channels], got {got:?}"),
            ));
        };
        if n / c.tubelet_size != steps || [h, w, channels] != [height, width, c.num_channels] {
            let detail = format!(
                "wanted {} frames of {height} x {width} x {} channels, got {:?}",
                c.num_frames,
                c.num_channels,
                frames.shape()
            );
            return Err(Error::shape("videomae", detail));
        }
        // The frames of a step stand beside each other in the channels; those left over are not looked at.
        let used = steps * c.tubelet_size;
        let images = frames
            .narrow(1, 0, used)?
            .reshape(&[batch * steps, c.tubelet_size, h, w, channels])?
            .permute(&[0, 2, 3, 4, 1])?
            .reshape(&[batch * steps, h, w, channels * c.tubelet_size])?;
        let patches = self.projection.forward(&images)?;
        let x = patches.reshape(&[batch, steps * rows * columns, c.hidden_size])?;
        let mut x = x.add(&self.positions)?;
        for layer in &self.layers {
            x = layer.forward(&x, Sight::All, None)?;
        }
        if let Some(norm) = &self.fc_norm {
            return self.classifier.forward(&norm.forward(&x.mean(&[1])?)?);
        }
        let first = x.narrow(1, 0, 1)?.reshape(&[batch, c.hidden_size])?;
        match &self.layernorm {
            Some(norm) => self.classifier.forward(&norm.forward(&first)?),
            None => self.classifier.forward(&first),
        }
    }
}
