//! NeuroVision's EEG encoder: a spectrogram image of every channel to the tokens that a Q-Former reads as a picture's.
//!
//! ```text
//! spectrogram [batch, height, width, channels] -> [batch, height / 4 * width / 4, out]
//! ```
//!
//! Three convolutions, each pixel of the last a token (no positions: their order shows through the borders of the
//! convolutions alone), PyTorch's post-norm transformer, a norm, a projection.
//!
//! Follows Ajinkya-18/NeuroVision `notebooks/eeg_text_image.ipynb` (`EEGTransformerEncoder` and `eeg_projection`).

use super::config::Config;
use crate::error::{Error, Result};
use crate::nn::{BatchNorm, Conv2d, LayerNorm, Linear, MultiheadAttention, TransformerLayer, Weights};
use crate::ops::{Activation, Sight, Window};
use crate::tensor::Tensor;
use crate::weights::Checkpoint;

/// Of every norm.
const EPS: f64 = 1e-5;

/// Sizes of the encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct EegEncoderConfig {
    /// EEG channels.
    pub n_chans: usize,
    /// Widths of the three convolutions; the last is that of a token.
    pub stem: [usize; 3],
    /// Attention heads.
    pub n_heads: usize,
    /// Layers.
    pub n_layers: usize,
    /// Width inside the feed-forward.
    pub dim_feedforward: usize,
    /// Width of what comes out.
    pub projection_dim: usize,
}

impl EegEncoderConfig {
    /// Reads an `EEGTransformerEncoder` config. Widths it leaves out are taken from the checkpoint's shapes, or are the
    /// original's: 64 channels, tokens of 768, 8 heads, 4 layers of 3072, 1408 out.
    pub fn new(config: &Config, checkpoint: Option<&Checkpoint>) -> Result<EegEncoderConfig> {
        let axis = |name: &str, axis: usize| {
            let view = checkpoint.and_then(|file| file.get(name));
            view.and_then(|view| view.shape.get(axis).copied())
        };
        let size = |keys: &[&str], stored: Option<usize>, usual: usize| {
            let key = keys.iter().find(|key| config.has(key)).unwrap_or(&keys[0]);
            config.size_or(key, stored.unwrap_or(usual))
        };
        let conv = |layer: usize| format!("eeg_encoder.conv_stem.{layer}.weight");
        let of_layer =
            |layer: usize, name: &str| format!("eeg_encoder.transformer_encoder.layers.{layer}.{name}");
        let width = size(&["d_model", "embed_dim", "emb_dim", "hidden_size"], axis(&conv(6), 0), 768)?;
        let stored_layers =
            || (0..).take_while(|&i| axis(&of_layer(i, "linear1.weight"), 0).is_some()).count();
        let layers = ["n_layers", "num_layers", "num_hidden_layers"];
        let layers_key = layers.iter().find(|key| config.has(key)).unwrap_or(&layers[0]);
        let heads = ["n_heads", "num_heads", "nhead", "num_attention_heads"];
        let heads_key = heads.iter().find(|key| config.has(key)).unwrap_or(&heads[0]);
        Ok(EegEncoderConfig {
            n_chans: size(&["n_chans", "in_channels", "num_channels"], axis(&conv(0), 1), 64)?,
            stem: [axis(&conv(0), 0).unwrap_or(width / 4), axis(&conv(3), 0).unwrap_or(width / 2), width],
            n_heads: config.heads_or(heads_key, 8, width)?,
            n_layers: config.layers_or(layers_key, if checkpoint.is_some() { stored_layers() } else { 4 })?,
            dim_feedforward: size(
                &["dim_feedforward", "intermediate_size"],
                axis(&of_layer(0, "linear1.weight"), 0),
                3072,
            )?,
            projection_dim: size(
                &["projection_dim", "n_outputs", "output_dim"],
                axis("eeg_projection.weight", 0),
                1408,
            )?,
        })
    }
}

/// The encoder with its projection.
pub struct EegEncoder {
    config: EegEncoderConfig,
    conv_stem: [(Conv2d, BatchNorm); 3],
    layers: Vec<TransformerLayer>,
    output_layernorm: LayerNorm,
    eeg_projection: Linear,
}

impl EegEncoder {
    /// The original's names: `eeg_encoder.{conv_stem, transformer_encoder, output_layernorm}`, `eeg_projection`.
    pub fn load(weights: &Weights, config: &EegEncoderConfig) -> Result<EegEncoder> {
        let model = weights.at("eeg_encoder");
        let [a, b, width] = config.stem;
        let conv = |at: usize, channels: usize, outputs: usize, stride: usize| {
            let window = Window { stride: [stride; 2], ..Window::padded(1) };
            let stem = |at: usize| model.at(format!("conv_stem.{at}"));
            let conv = Conv2d::load_grouped(&stem(at), channels, outputs, [3, 3], 1, window)?;
            Ok((conv, BatchNorm::load(&stem(at + 1), outputs)?))
        };
        let layer = |i: usize| {
            let weights = model.at(format!("transformer_encoder.layers.{i}"));
            let norm = |name: &str| LayerNorm::load(&weights.at(name), width, EPS);
            Ok(TransformerLayer {
                attention: MultiheadAttention::load(&weights.at("self_attn"), width, config.n_heads)?,
                attention_norm: norm("norm1")?,
                cross: None,
                fc1: Linear::load(&weights.at("linear1"), width, config.dim_feedforward)?,
                fc2: Linear::load(&weights.at("linear2"), config.dim_feedforward, width)?,
                feed_forward_norm: norm("norm2")?,
                activation: Activation::Gelu,
                norm_first: false,
            })
        };
        Ok(EegEncoder {
            conv_stem: [conv(0, config.n_chans, a, 1)?, conv(3, a, b, 2)?, conv(6, b, width, 2)?],
            layers: (0..config.n_layers).map(layer).collect::<Result<_>>()?,
            output_layernorm: LayerNorm::load(&model.at("output_layernorm"), width, EPS)?,
            eeg_projection: Linear::load(&weights.at("eeg_projection"), width, config.projection_dim)?,
            config: config.clone(),
        })
    }

    /// Sizes.
    pub fn config(&self) -> &EegEncoderConfig {
        &self.config
    }

    /// [batch, height, width, channels] -> [batch, tokens, projection], tokens row by row of the smaller image.
    ///
    /// Errors: another number of channels.
    pub fn forward(&self, spectrogram: &Tensor) -> Result<Tensor> {
        if spectrogram.rank() != 4 || spectrogram.dim(0) != self.config.n_chans {
            let (n, got) = (self.config.n_chans, spectrogram.shape());
            return Err(Error::shape(
                "eeg_encoder",
                format!("wanted spectrograms of {n} channels, got {got:?} (channels last)"),
            ));
        }
        let [(conv1, norm1), (conv2, norm2), (conv3, norm3)] = &self.conv_stem;
        let x = norm1.forward(&conv1.forward(spectrogram)?)?.elu()?;
        let x = norm2.forward(&conv2.forward(&x)?)?.elu()?;
        let x = norm3.forward(&conv3.forward(&x)?)?;
        let mut x = x.reshape(&[x.dim(3), x.dim(2) * x.dim(1), x.dim(0)])?;
        for layer in &self.layers {
            x = layer.forward(&x, Sight::All, None)?;
        }
        self.eeg_projection.forward(&self.output_layernorm.forward(&x)?)
    }
}
