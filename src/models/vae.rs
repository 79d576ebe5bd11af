//! The autoencoder of Stable Diffusion: pixels to latents an eighth as wide, and back.
//!
//! ```text
//! pixels [batch, height, width, 3] -> encode -> mean, logvar [batch, height / 8, width / 8, 4]
//! latents [batch, h, w, 4]         -> decode -> pixels [batch, 8 h, 8 w, 3]
//! ```
//!
//! Follows huggingface/diffusers 0.42 `models/autoencoders/{autoencoder_kl,vae}.py`; Kingma and Welling 2013,
//! Rombach et al. 2022.

use super::config::Config;
use crate::error::{Error, Result};
use crate::nn::{Attention, Conv2d, GroupNorm, Weights};
use crate::ops::{Sight, Window};
use crate::tensor::{DType, Tensor};
use serde_json::json;

/// Sizes of an autoencoder, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Channels of pixels going in.
    pub in_channels: usize,
    /// Channels of pixels coming out.
    pub out_channels: usize,
    /// Channels of latents.
    pub latent_channels: usize,
    /// Channels of each level.
    pub block_out_channels: Vec<usize>,
    /// Resnets of a level going in; one more coming out.
    pub layers_per_block: usize,
    /// Groups of every GroupNorm.
    pub norm_num_groups: usize,
    /// Latents are scaled by this before diffusion.
    pub scaling_factor: f64,
    /// Whether 1x1 convolutions stand around the latents.
    pub quant_conv: bool,
    /// The same on the way back.
    pub post_quant_conv: bool,
    /// Whether the middle has an attention.
    pub mid_attention: bool,
}

impl VaeConfig {
    /// Reads an `AutoencoderKL` config.
    ///
    /// Errors: [`Error::Format`] naming the key of a block that is not written here.
    pub fn new(config: &Config) -> Result<VaeConfig> {
        config.only(&[("shift_factor", json!(null)), ("latents_mean", json!(null))])?;
        config.only_silu()?;
        let block_out_channels = config.sizes("block_out_channels")?;
        for (key, kind) in
            [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")]
        {
            let blocks = config.words(key)?;
            if blocks.len() != block_out_channels.len() || blocks.iter().any(|block| *block != kind) {
                return Err(config.wrong(key, &format!("{} times {kind}", block_out_channels.len())));
            }
        }
        let norm_num_groups = config.size_or("norm_num_groups", 32)?;
        if norm_num_groups == 0 || block_out_channels.iter().any(|c| c % norm_num_groups != 0) {
            return Err(config.wrong("norm_num_groups", "groups that divide every level's channels"));
        }
        if !(1..=MOST_LEVELS).contains(&block_out_channels.len()) {
            return Err(config.wrong("block_out_channels", &format!("1 to {MOST_LEVELS} levels")));
        }
        Ok(VaeConfig {
            in_channels: config.size_or("in_channels", 3)?,
            out_channels: config.size_or("out_channels", 3)?,
            latent_channels: config.size_or("latent_channels", 4)?,
            layers_per_block: config.layers_or("layers_per_block", 1)?,
            norm_num_groups,
            scaling_factor: config.number_or("scaling_factor", 0.18215)?,
            quant_conv: config.switch_or("use_quant_conv", true)?,
            post_quant_conv: config.switch_or("use_post_quant_conv", true)?,
            mid_attention: config.switch_or("mid_block_add_attention", true)?,
            block_out_channels,
        })
    }

    /// Pixels per latent along each axis.
    pub fn downscale(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

const EPS: f64 = 1e-6;
/// Most levels; each halves both sides.
pub(super) const MOST_LEVELS: usize = 8;

struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl Resnet {
    fn load(weights: &Weights, groups: usize, inputs: usize, outputs: usize) -> Result<Resnet> {
        let norm = |name: &str, channels| GroupNorm::load(&weights.at(name), groups, channels, EPS);
        let conv = |name: &str, channels, side, pad| {
            Conv2d::load(&weights.at(name), channels, outputs, [side, side], Window::padded(pad))
        };
        Ok(Resnet {
            norm1: norm("norm1", inputs)?,
            conv1: conv("conv1", inputs, 3, 1)?,
            norm2: norm("norm2", outputs)?,
            conv2: conv("conv2", outputs, 3, 1)?,
            conv_shortcut: (inputs != outputs).then(|| conv("conv_shortcut", inputs, 1, 0)).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward_silu(x)?)?;
        let h = self.norm2.forward_silu(&h)?;
        match &self.conv_shortcut {
            Some(conv) => self.conv2.forward_with(&h, Some(&conv.forward(x)?)),
            None => self.conv2.forward_with(&h, Some(x)),
        }
    }
}

/// Resnet, attention over all pixels with one head, resnet.
struct Mid {
    resnets: [Resnet; 2],
    attention: Option<(GroupNorm, Attention)>,
}

impl Mid {
    fn load(weights: &Weights, config: &VaeConfig, channels: usize) -> Result<Mid> {
        let resnet = |i: usize| {
            Resnet::load(&weights.at(format!("resnets.{i}")), config.norm_num_groups, channels, channels)
        };
        let attention = || {
            let weights = weights.at("attentions.0");
            let norm = GroupNorm::load(&weights.at("group_norm"), config.norm_num_groups, channels, EPS)?;
            Ok::<_, Error>((norm, Attention::load(&weights, channels, 1, true)?))
        };
        Ok(Mid {
            resnets: [resnet(0)?, resnet(1)?],
            attention: config.mid_attention.then(attention).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.resnets[0].forward(x)?;
        if let Some((norm, attention)) = &self.attention {
            let &[batch, height, width, channels] = x.shape() else {
                return Err(Error::shape("vae", format!("wanted an image, got {:?}", x.shape())));
            };
            let pixels = x.reshape(&[batch, height * width, channels])?;
            let h = norm.forward(&pixels)?;
            x = attention.forward(&h, Sight::All, &pixels)?.reshape(x.shape())?;
        }
        self.resnets[1].forward(&x)
    }
}

/// Resnets, then a change of size.
struct Block {
    resnets: Vec<Resnet>,
    resample: Option<Conv2d>,
}

struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<Block>,
    mid_block: Mid,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

struct Decoder {
    conv_in: Conv2d,
    mid_block: Mid,
    up_blocks: Vec<Block>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// Which halves of an autoencoder are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    /// Pixels to latents and back.
    Both,
    /// Latents to pixels.
    Decoder,
}

/// The autoencoder.
pub struct Vae {
    config: VaeConfig,
    encoder: Option<(Encoder, Option<Conv2d>)>,
    decoder: Decoder,
    post_quant_conv: Option<Conv2d>,
    dtype: DType,
}

impl Vae {
    /// Loads the wanted halves.
    pub fn load(weights: &Weights, config: &VaeConfig, halves: Halves) -> Result<Vae> {
        let pointwise = |name: &str, channels| {
            Conv2d::load(&weights.at(name), channels, channels, [1, 1], Window::padded(0))
        };
        let quant_conv = || pointwise("quant_conv", 2 * config.latent_channels);
        let encoder = || {
            let quant = config.quant_conv.then(quant_conv).transpose()?;
            Ok::<_, Error>((Encoder::load(&weights.at("encoder"), config)?, quant))
        };
        let post_quant_conv = || pointwise("post_quant_conv", config.latent_channels);
        Ok(Vae {
            encoder: (halves == Halves::Both).then(encoder).transpose()?,
            decoder: Decoder::load(&weights.at("decoder"), config)?,
            post_quant_conv: config.post_quant_conv.then(post_quant_conv).transpose()?,
            dtype: weights.dtype(),
            config: config.clone(),
        })
    }

    /// Sizes.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Number type of activations: what pixels and latents are to be.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Pixels `[batch, height, width, 3]` in [-1, 1] -> (mean, logvar), each
    /// `[batch, height / 8, width / 8, 4]` (rounded down), unscaled; logvar within [-30, 20].
    ///
    /// Errors: when height or width are below the downscale, or only the decoder is loaded.
    pub fn encode(&self, pixels: &Tensor) -> Result<(Tensor, Tensor)> {
        let Some((encoder, quant_conv)) = &self.encoder else {
            return Err(Error::shape("vae", "only the decoder was loaded"));
        };
        let scale = self.config.downscale();
        match pixels.shape() {
            &[b, h, w, c] if b > 0 && c == self.config.in_channels && h >= scale && w >= scale => {}
            got => {
                let c = self.config.in_channels;
                let detail = format!(
                    "wanted pixels [batch, height, width, {c}], at least {scale} by {scale}, got {got:?}"
                );
                return Err(Error::shape("vae", detail));
            }
        }
        let mut moments = encoder.forward(pixels)?;
        if let Some(conv) = quant_conv {
            moments = conv.forward(&moments)?;
        }
        let n = self.config.latent_channels;
        Ok((moments.narrow(3, 0, n)?, moments.narrow(3, n, n)?.clamp(-30.0, 20.0)?))
    }

    /// Latents `[batch, h, w, 4]`, unscaled -> pixels `[batch, 8 h, 8 w, 3]`, about [-1, 1].
    ///
    /// Errors: when the channels differ.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let n = self.config.latent_channels;
        if latents.rank() != 4 || latents.dim(0) != n || latents.is_empty() {
            let detail = format!("wanted latents [batch, h, w, {n}], got {:?}", latents.shape());
            return Err(Error::shape("vae", detail));
        }
        match &self.post_quant_conv {
            Some(conv) => self.decoder.forward(&conv.forward(latents)?),
            None => self.decoder.forward(latents),
        }
    }

    /// As [`Vae::decode`], one image at a time: memory of one image.
    pub fn decode_sliced(&self, latents: &Tensor) -> Result<Tensor> {
        let images = latents.shape().first().copied().unwrap_or(0);
        let parts: Vec<_> =
            (0..images).map(|i| self.decode(&latents.narrow(0, i, 1)?)).collect::<Result<_>>()?;
        match parts.is_empty() {
            true => self.decode(latents),
            false => Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0),
        }
    }

    /// As [`Vae::decode`], in overlapping squares of at most `tile` latents a side, blended over a quarter of a
    /// tile: memory of one tile, whatever the picture. Norms see a tile and not the picture, so pixels differ
    /// slightly from the whole decode. Follows diffusers' `tiled_decode`.
    ///
    /// Errors: [`Error::Setting`] for a tile under 8.
    pub fn decode_tiled(&self, latents: &Tensor, tile: usize) -> Result<Tensor> {
        if tile < 8 {
            return Err(Error::setting("tile", format!("wanted at least 8 latents, got {tile}")));
        }
        let &[images, height, width, _] = latents.shape() else { return self.decode(latents) };
        // One tile that holds the picture is the whole decode.
        let tile = tile.min(height.max(width).max(8));
        let scale = self.config.downscale();
        let (step, blend) = (tile - tile / 4, (tile / 4) * scale);
        let places = |size: usize| -> Vec<(usize, usize)> {
            let n = size.saturating_sub(tile).div_ceil(step) + 1;
            (0..n).map(|i| (i * step, tile.min(size - i * step))).collect()
        };
        let mut pictures = Vec::new();
        for image in 0..images {
            let image = latents.narrow(0, image, 1)?;
            let mut rows: Vec<Tensor> = Vec::new();
            let mut above: Vec<Tensor> = Vec::new();
            for (y, tall) in places(height) {
                let band = image.narrow(1, y, tall)?;
                let (mut here, mut done): (Vec<Tensor>, Vec<Tensor>) = Default::default();
                for (column, (x, wide)) in places(width).into_iter().enumerate() {
                    let mut pixels = self.decode(&band.narrow(2, x, wide)?)?;
                    if let Some(upper) = above.get(column) {
                        pixels = blend_edge(upper, &pixels, 1, blend)?;
                    }
                    if let Some(left) = here.last() {
                        pixels = blend_edge(left, &pixels, 2, blend)?;
                    }
                    // The last tile of a row or column keeps all of itself, the others what the next leaves them.
                    let kept = |start: usize, len: usize, size: usize| match start + len == size {
                        true => len * scale,
                        false => step * scale,
                    };
                    let shown =
                        pixels.narrow(1, 0, kept(y, tall, height))?.narrow(2, 0, kept(x, wide, width))?;
                    done.push(shown);
                    here.push(pixels);
                }
                rows.push(Tensor::concat(&done.iter().collect::<Vec<_>>(), 2)?);
                above = here;
            }
            pictures.push(Tensor::concat(&rows.iter().collect::<Vec<_>>(), 1)?);
        }
        Tensor::concat(&pictures.iter().collect::<Vec<_>>(), 0)
    }
}

/// The first `extent` pixels of `next` along an axis, faded in from the last ones of `before`.
fn blend_edge(before: &Tensor, next: &Tensor, axis: usize, extent: usize) -> Result<Tensor> {
    let extent = extent.min(before.shape()[axis]).min(next.shape()[axis]);
    if extent == 0 {
        return Ok(next.clone());
    }
    let ramp: Vec<f32> = (0..extent).map(|i| i as f32 / extent as f32).collect();
    let mut shape = [1; 4];
    shape[axis] = extent;
    let rising = Tensor::new(next.gpu(), &shape, &ramp)?.cast(next.dtype())?;
    let falling = rising.scale(-1.0, 1.0)?;
    let old = before.narrow(axis, before.shape()[axis] - extent, extent)?;
    // The tile before may be narrower along the other axes only at the picture's edge, where both are.
    let mixed = next.narrow(axis, 0, extent)?.mul(&rising)?.add(&old.mul(&falling)?)?;
    let rest = next.narrow(axis, extent, next.shape()[axis] - extent)?;
    Tensor::concat(&[&mixed, &rest], axis)
}

impl Encoder {
    fn load(weights: &Weights, config: &VaeConfig) -> Result<Encoder> {
        let channels = &config.block_out_channels;
        let last = channels.len() - 1;
        let conv = |name: &str, inputs, outputs| {
            Conv2d::load(&weights.at(name), inputs, outputs, [3, 3], Window::padded(1))
        };
        let mut down_blocks = Vec::new();
        for level in 0..=last {
            let weights = weights.at(format!("down_blocks.{level}"));
            let (inputs, outputs) = (channels[level.saturating_sub(1)], channels[level]);
            let resnet = |i: usize| {
                let inputs = if i == 0 { inputs } else { outputs };
                Resnet::load(&weights.at(format!("resnets.{i}")), config.norm_num_groups, inputs, outputs)
            };
            // Zeros right and below only.
            let window = Window { stride: [2, 2], padding: [0, 1, 0, 1], dilation: [1, 1] };
            let resample =
                || Conv2d::load(&weights.at("downsamplers.0.conv"), outputs, outputs, [3, 3], window);
            down_blocks.push(Block {
                resnets: (0..config.layers_per_block).map(resnet).collect::<Result<_>>()?,
                resample: (level < last).then(resample).transpose()?,
            });
        }
        Ok(Encoder {
            conv_in: conv("conv_in", config.in_channels, channels[0])?,
            down_blocks,
            mid_block: Mid::load(&weights.at("mid_block"), config, channels[last])?,
            conv_norm_out: GroupNorm::load(
                &weights.at("conv_norm_out"),
                config.norm_num_groups,
                channels[last],
                EPS,
            )?,
            conv_out: conv("conv_out", channels[last], 2 * config.latent_channels)?,
        })
    }

    fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(pixels)?;
        for block in &self.down_blocks {
            for resnet in &block.resnets {
                x = resnet.forward(&x)?;
            }
            if let Some(conv) = &block.resample {
                x = conv.forward(&x)?;
            }
        }
        x = self.mid_block.forward(&x)?;
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)
    }
}

impl Decoder {
    fn load(weights: &Weights, config: &VaeConfig) -> Result<Decoder> {
        let channels = &config.block_out_channels;
        let last = channels.len() - 1;
        let conv = |name: &str, inputs, outputs| {
            Conv2d::load(&weights.at(name), inputs, outputs, [3, 3], Window::padded(1))
        };
        let mut up_blocks = Vec::new();
        for index in 0..=last {
            let weights = weights.at(format!("up_blocks.{index}"));
            let level = last - index;
            let (inputs, outputs) = (channels[(level + 1).min(last)], channels[level]);
            let resnet = |i: usize| {
                let inputs = if i == 0 { inputs } else { outputs };
                Resnet::load(&weights.at(format!("resnets.{i}")), config.norm_num_groups, inputs, outputs)
            };
            let resample = || {
                Conv2d::load(&weights.at("upsamplers.0.conv"), outputs, outputs, [3, 3], Window::padded(1))
            };
            up_blocks.push(Block {
                resnets: (0..config.layers_per_block + 1).map(resnet).collect::<Result<_>>()?,
                resample: (index < last).then(resample).transpose()?,
            });
        }
        Ok(Decoder {
            conv_in: conv("conv_in", config.latent_channels, channels[last])?,
            mid_block: Mid::load(&weights.at("mid_block"), config, channels[last])?,
            up_blocks,
            conv_norm_out: GroupNorm::load(
                &weights.at("conv_norm_out"),
                config.norm_num_groups,
                channels[0],
                EPS,
            )?,
            conv_out: conv("conv_out", channels[0], config.out_channels)?,
        })
    }

    fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        let mut x = self.mid_block.forward(&self.conv_in.forward(latents)?)?;
        for block in &self.up_blocks {
            for resnet in &block.resnets {
                x = resnet.forward(&x)?;
            }
            if let Some(conv) = &block.resample {
                x = conv.forward(&x.upsample_nearest(2 * x.dim(2), 2 * x.dim(1))?)?;
            }
        }
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)
    }
}
