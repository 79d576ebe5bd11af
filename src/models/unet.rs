//! The denoising UNet of Stable Diffusion, for images and, inflated by Tune-A-Video, for video.
//!
//! ```text
//! sample [batch * frames, height, width, 4], time, text [batch, tokens, width] -> noise, as sample
//! ```
//!
//! The video form differs in three places: GroupNorms of the resnets share their statistics over frames, the
//! first attention of a block looks at the first and the previous frame, and a temporal attention follows. An
//! image is a video of one frame without temporal layers; a 2-D checkpoint loads as it is, and its missing
//! temporal layers count as Tune-A-Video starts them: adding nothing.
//!
//! Follows showlab/Tune-A-Video 7d4a89a `tuneavideo/models/{unet,unet_blocks,attention,resnet}.py` and
//! huggingface/diffusers 0.42 `models/unets/unet_2d_condition.py`.

use super::config::Config;
use super::vae::MOST_LEVELS;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::nn::{
    Attention, Conv2d, CrossAttention, GeGlu, GroupNorm, LayerNorm, Linear, Projection, Projections,
    Training, Weights, checkpoint,
};
use crate::ops::{Activation, Sight, Window};
use crate::tensor::{DType, Tensor};
use serde_json::json;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// Sizes of a UNet, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct UNetConfig {
    /// Channels of the latents.
    pub in_channels: usize,
    /// Channels of the predicted noise.
    pub out_channels: usize,
    /// Channels of each level.
    pub block_out_channels: Vec<usize>,
    /// Whether a level going down has attention.
    pub down_attention: Vec<bool>,
    /// Whether a level going up has attention.
    pub up_attention: Vec<bool>,
    /// Resnets of a level going down; one more going up.
    pub layers_per_block: usize,
    /// Attention heads of each level (the config calls them `attention_head_dim`).
    pub heads: Vec<usize>,
    /// Width of the text embeddings.
    pub cross_attention_dim: usize,
    /// Groups of every GroupNorm.
    pub norm_num_groups: usize,
    /// Of the resnets' norms.
    pub norm_eps: f64,
    /// Transformer blocks of one attention.
    pub transformer_layers: Vec<usize>,
    /// Zeros around a strided convolution; 0 pads right and bottom only.
    pub downsample_padding: usize,
    /// Cosines first in the time embedding.
    pub flip_sin_to_cos: bool,
    /// Shift of the time embedding's frequencies.
    pub freq_shift: f64,
    /// Side of the latents it was trained on.
    pub sample_size: Option<usize>,
}

impl UNetConfig {
    /// Reads a `UNet2DConditionModel` or `UNet3DConditionModel` config.
    ///
    /// Errors: [`Error::Format`] naming the key of a block or setting that is not written here.
    pub fn new(config: &Config) -> Result<UNetConfig> {
        config.only(&[
            ("center_input_sample", json!(false)),
            ("dual_cross_attention", json!(false)),
            ("only_cross_attention", json!(false)),
            ("class_embed_type", json!(null)),
            ("addition_embed_type", json!(null)),
            ("encoder_hid_dim", json!(null)),
            ("time_embedding_type", json!("positional")),
            ("time_embedding_dim", json!(null)),
            ("time_embedding_act_fn", json!(null)),
            ("timestep_post_act", json!(null)),
            ("resnet_time_scale_shift", json!("default")),
            ("mid_block_scale_factor", json!(1)),
            ("conv_in_kernel", json!(3)),
            ("conv_out_kernel", json!(3)),
            ("num_class_embeds", json!(null)),
            ("resnet_skip_time_act", json!(false)),
        ])?;
        config.only_silu()?;
        let block_out_channels = config.sizes("block_out_channels")?;
        if !(1..=MOST_LEVELS).contains(&block_out_channels.len()) {
            return Err(config.wrong("block_out_channels", &format!("1 to {MOST_LEVELS} levels")));
        }
        let n = block_out_channels.len();
        let attention = |key: &str, with: &[&str], without: &[&str]| -> Result<Vec<bool>> {
            let words = config.words(key)?;
            if words.len() != n || n == 0 {
                return Err(config.wrong(key, &format!("{n} blocks, as block_out_channels has")));
            }
            words
                .iter()
                .map(|word| match (with.contains(word), without.contains(word)) {
                    (true, _) => Ok(true),
                    (_, true) => Ok(false),
                    _ => Err(config.wrong(key, &format!("{} or {}", with.join(", "), without.join(", ")))),
                })
                .collect()
        };
        let mid = config.word_or("mid_block_type", "UNetMidBlock2DCrossAttn")?;
        if !["UNetMidBlock2DCrossAttn", "UNetMidBlock3DCrossAttn"].contains(&mid) {
            return Err(config.wrong("mid_block_type", "UNetMidBlock2DCrossAttn or UNetMidBlock3DCrossAttn"));
        }
        let heads_key = if config.get("num_attention_heads").is_some() {
            "num_attention_heads"
        } else {
            "attention_head_dim"
        };
        let sizes = UNetConfig {
            in_channels: config.size_or("in_channels", 4)?,
            out_channels: config.size_or("out_channels", 4)?,
            down_attention: attention(
                "down_block_types",
                &["CrossAttnDownBlock2D", "CrossAttnDownBlock3D"],
                &["DownBlock2D", "DownBlock3D"],
            )?,
            up_attention: attention(
                "up_block_types",
                &["CrossAttnUpBlock2D", "CrossAttnUpBlock3D"],
                &["UpBlock2D", "UpBlock3D"],
            )?,
            layers_per_block: config.layers_or("layers_per_block", 2)?,
            heads: config.size_each(heads_key, n, 8)?,
            cross_attention_dim: config.size_or("cross_attention_dim", 1280)?,
            norm_num_groups: config.size_or("norm_num_groups", 32)?,
            norm_eps: config.number_or("norm_eps", 1e-5)?,
            transformer_layers: config.size_each("transformer_layers_per_block", n, 1)?,
            downsample_padding: config.size_or("downsample_padding", 1)?,
            flip_sin_to_cos: config.switch_or("flip_sin_to_cos", true)?,
            freq_shift: config.number_or("freq_shift", 0.0)?,
            sample_size: match config.get("sample_size").is_some_and(|v| v.is_u64()) {
                true => Some(config.size("sample_size")?),
                false => None,
            },
            block_out_channels,
        };
        if sizes.transformer_layers.iter().any(|&n| n > 64) {
            return Err(config.wrong("transformer_layers_per_block", "at most 64"));
        }
        for (&channels, &heads) in sizes.block_out_channels.iter().zip(&sizes.heads) {
            if heads == 0 || heads > channels {
                return Err(config.wrong(heads_key, &format!("1 to {channels} heads at {channels} channels")));
            }
            if sizes.norm_num_groups == 0 || channels % sizes.norm_num_groups != 0 {
                return Err(
                    config.wrong("norm_num_groups", &format!("groups that divide {channels} channels"))
                );
            }
        }
        Ok(sizes)
    }

    /// Width of the time embedding.
    fn time_width(&self) -> usize {
        4 * self.block_out_channels[0]
    }

    /// Height and width must be multiples of this for the latents to come back to their size unforced.
    pub fn downscale(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

/// What a text is to the attention layers of a UNet: their keys and values, which are the same in every step.
pub struct TextContext {
    /// [batch, tokens, channels]: keys and values of one layer after another.
    keys: Vec<Tensor>,
    batch: usize,
}

/// What a layer sees beside its input.
struct Seen<'a> {
    /// What the time adds to an image, [batch, channels] in f32, as the bias of a convolution is.
    shift: &'a Tensor,
    /// Keys and values of the layer's attentions to the text, in turns.
    keys: &'a [Tensor],
    frames: usize,
}

/// Layers that stand in blocks but read the same for all of a UNet, gathered while it loads.
#[derive(Default)]
struct Gathered {
    /// From the time embedding to each resnet.
    shifts: RefCell<Vec<Projection>>,
    /// From the text to keys and values of each attention.
    keys: RefCell<Vec<Projection>>,
}

/// Two convolutions and a shortcut.
struct Resnet {
    norm1: GroupNorm,
    /// Its bias comes with the time.
    conv1: Conv2d,
    /// Place of what the time adds among all resnets'.
    shift: usize,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl Resnet {
    fn load(
        weights: &Weights,
        config: &UNetConfig,
        inputs: usize,
        outputs: usize,
        gathered: &Gathered,
    ) -> Result<Resnet> {
        let norm = |name: &str, channels| {
            GroupNorm::load(&weights.at(name), config.norm_num_groups, channels, config.norm_eps)
        };
        let conv = |name: &str, channels| {
            Conv2d::load(&weights.at(name), channels, outputs, [3, 3], Window::padded(1))
        };
        let shortcut =
            || Conv2d::load(&weights.at("conv_shortcut"), inputs, outputs, [1, 1], Window::padded(0));
        // What the time adds to an image and the convolution's bias are one bias.
        let (conv1, time) = (weights.at("conv1"), weights.at("time_emb_proj"));
        let bias = time.tensor("bias", &[outputs])?.add(&conv1.tensor("bias", &[outputs])?)?;
        let mut shifts = gathered.shifts.borrow_mut();
        shifts.push(Projection { weights: time, outputs, bias: Some(bias) });
        Ok(Resnet {
            norm1: norm("norm1", inputs)?,
            conv1: Conv2d::load_grouped(&conv1, inputs, outputs, [3, 3], 1, Window::padded(1))?,
            shift: shifts.len() - 1,
            norm2: norm("norm2", outputs)?,
            conv2: conv("conv2", outputs)?,
            conv_shortcut: (inputs != outputs).then(shortcut).transpose()?,
        })
    }

    /// [images, height, width, inputs] -> [.., outputs].
    fn forward(&self, x: &Tensor, seen: &Seen) -> Result<Tensor> {
        let batch = x.shape()[0] / seen.frames;
        let h = self.norm1.forward_silu_shared(x, batch)?;
        let h = self.conv1.forward_shifted(&h, seen.shift)?;
        let h = self.norm2.forward_silu_shared(&h, batch)?;
        let skip = match &self.conv_shortcut {
            Some(conv) => conv.forward(x)?,
            None => x.clone(),
        };
        self.conv2.forward_with(&h, Some(&skip))
    }
}

/// Attention over pixels, text, and frames, then a gated feed-forward.
struct TransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: CrossAttention,
    norm3: LayerNorm,
    ff_in: GeGlu,
    ff_out: Linear,
    temporal: Option<(LayerNorm, Attention)>,
}

impl TransformerBlock {
    fn load(
        weights: &Weights,
        channels: usize,
        heads: usize,
        video: bool,
        gathered: &Gathered,
    ) -> Result<TransformerBlock> {
        let norm = |name: &str| LayerNorm::load(&weights.at(name), channels, 1e-5);
        let attention = |name: &str| Attention::load(&weights.at(name), channels, heads, false);
        let temporal = || Ok::<_, Error>((norm("norm_temp")?, attention("attn_temp")?));
        let attn2 = weights.at("attn2");
        gathered.keys.borrow_mut().extend(["to_k", "to_v"].map(|name| Projection {
            weights: attn2.at(name),
            outputs: channels,
            bias: None,
        }));
        Ok(TransformerBlock {
            norm1: norm("norm1")?,
            attn1: attention("attn1")?,
            norm2: norm("norm2")?,
            attn2: CrossAttention::load(&attn2, channels, heads)?,
            norm3: norm("norm3")?,
            ff_in: GeGlu::load(&weights.at("ff.net.0"), channels, 4 * channels)?,
            ff_out: Linear::load(&weights.at("ff.net.2"), 4 * channels, channels)?,
            temporal: (video && weights.has("attn_temp.to_q.weight")).then(temporal).transpose()?,
        })
    }

    /// [images, pixels, channels] -> the same; keys and values of the text.
    fn forward(&self, x: &Tensor, [k, v]: [&Tensor; 2], frames: usize) -> Result<Tensor> {
        let sight = if frames > 1 { Sight::SparseCausal { frames } } else { Sight::All };
        let h = self.norm1.forward(x)?;
        let x = self.attn1.forward(&h, sight, x)?;
        let x = self.attn2.forward(&self.norm2.forward(&x)?, k, v, &x)?;
        let h = self.ff_in.forward(&self.norm3.forward(&x)?)?;
        let x = self.ff_out.forward_with(&h, Activation::None, Some(&x))?;
        match &self.temporal {
            Some((norm, attention)) => {
                let h = norm.forward(&x)?;
                attention.forward(&h, Sight::Temporal { frames }, &x)
            }
            None => Ok(x),
        }
    }
}

/// A norm, a projection in, blocks, a projection out, and the input added.
struct Transformer {
    norm: GroupNorm,
    proj_in: Linear,
    transformer_blocks: Vec<TransformerBlock>,
    proj_out: Linear,
    /// Place of its blocks' keys and values of the text among all blocks'.
    keys: Range<usize>,
}

impl Transformer {
    fn load(
        weights: &Weights,
        config: &UNetConfig,
        level: usize,
        video: bool,
        gathered: &Gathered,
    ) -> Result<Transformer> {
        let (channels, heads) = (config.block_out_channels[level], config.heads[level]);
        // Heads that do not divide the channels leave the blocks narrower.
        let inner = channels / heads * heads;
        let block = |i| {
            let weights = weights.at(format!("transformer_blocks.{i}"));
            TransformerBlock::load(&weights, inner, heads, video, gathered)
        };
        let keys = || gathered.keys.borrow().len();
        let first = keys();
        Ok(Transformer {
            norm: GroupNorm::load(&weights.at("norm"), config.norm_num_groups, channels, 1e-6)?,
            proj_in: Linear::load(&weights.at("proj_in"), channels, inner)?,
            transformer_blocks: (0..config.transformer_layers[level]).map(block).collect::<Result<_>>()?,
            keys: first..keys(),
            proj_out: Linear::load(&weights.at("proj_out"), inner, channels)?,
        })
    }

    /// [images, height, width, channels] -> the same.
    fn forward(&self, x: &Tensor, seen: &Seen) -> Result<Tensor> {
        let &[images, height, width, channels] = x.shape() else {
            return Err(Error::shape("transformer", format!("wanted an image, got {:?}", x.shape())));
        };
        let pixels = x.reshape(&[images, height * width, channels])?;
        let mut h = self.proj_in.forward(&self.norm.forward(&pixels)?)?;
        for (block, keys) in self.transformer_blocks.iter().zip(seen.keys.chunks_exact(2)) {
            h = block.forward(&h, [&keys[0], &keys[1]], seen.frames)?;
        }
        self.proj_out.forward_with(&h, Activation::None, Some(&pixels))?.reshape(x.shape())
    }
}

/// One level: resnets, each with its attention, then a change of size.
struct Block {
    resnets: Vec<Resnet>,
    attentions: Vec<Transformer>,
    resample: Option<Conv2d>,
}

impl Block {
    fn layer(&self, index: usize, x: &Tensor, seen: &Seen) -> Result<Tensor> {
        let h = self.resnets[index].forward(x, seen)?;
        match self.attentions.get(index) {
            Some(attention) => attention.forward(&h, seen),
            None => Ok(h),
        }
    }
}

/// The UNet.
pub struct UNet {
    config: UNetConfig,
    conv_in: Conv2d,
    linear_1: Linear,
    linear_2: Linear,
    /// Of every resnet, from the time.
    shifts: Projections,
    /// Of every attention to the text.
    keys: Projections,
    down_blocks: Vec<Arc<Block>>,
    /// Its attention follows the first resnet.
    mid_block: Arc<Block>,
    up_blocks: Vec<Arc<Block>>,
    /// Whether layers keep nothing for the way back but what goes in, and what they share while they learn.
    recomputes: Option<Option<Arc<Training>>>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    dtype: DType,
}

impl UNet {
    /// Loads either form; `video` asks for temporal layers (those a 2-D checkpoint lacks add nothing).
    pub fn load(weights: &Weights, config: &UNetConfig, video: bool) -> Result<UNet> {
        let channels = &config.block_out_channels;
        let last = channels.len() - 1;
        let gathered = Gathered::default();
        let resnet = |weights: &Weights, i: usize, inputs, outputs| {
            Resnet::load(&weights.at(format!("resnets.{i}")), config, inputs, outputs, &gathered)
        };
        let transformer = |weights: &Weights, i: usize, level| {
            Transformer::load(&weights.at(format!("attentions.{i}")), config, level, video, &gathered)
        };

        let mut down_blocks = Vec::new();
        for level in 0..=last {
            let weights = weights.at(format!("down_blocks.{level}"));
            let (inputs, outputs) = (channels[level.saturating_sub(1)], channels[level]);
            let pad = config.downsample_padding;
            let window = match pad {
                0 => Window { stride: [2, 2], padding: [0, 1, 0, 1], dilation: [1, 1] },
                pad => Window::strided(2, pad),
            };
            let n = config.layers_per_block;
            let downsample =
                || Conv2d::load(&weights.at("downsamplers.0.conv"), outputs, outputs, [3, 3], window);
            let attentions = if config.down_attention[level] { n } else { 0 };
            down_blocks.push(Arc::new(Block {
                resnets: (0..n)
                    .map(|i| resnet(&weights, i, if i == 0 { inputs } else { outputs }, outputs))
                    .collect::<Result<_>>()?,
                attentions: (0..attentions)
                    .map(|i| transformer(&weights, i, level))
                    .collect::<Result<_>>()?,
                resample: (level < last).then(downsample).transpose()?,
            }));
        }

        let mid = weights.at("mid_block");
        let mut up_blocks = Vec::new();
        for index in 0..=last {
            let weights = weights.at(format!("up_blocks.{index}"));
            let level = last - index;
            let (before, outputs, below) =
                (channels[(level + 1).min(last)], channels[level], channels[level.saturating_sub(1)]);
            let n = config.layers_per_block + 1;
            let upsample = || {
                Conv2d::load(&weights.at("upsamplers.0.conv"), outputs, outputs, [3, 3], Window::padded(1))
            };
            let attentions = if config.up_attention[index] { n } else { 0 };
            up_blocks.push(Arc::new(Block {
                resnets: (0..n)
                    .map(|i| {
                        let current = if i == 0 { before } else { outputs };
                        let skip = if i == n - 1 { below } else { outputs };
                        resnet(&weights, i, current + skip, outputs)
                    })
                    .collect::<Result<_>>()?,
                attentions: (0..attentions)
                    .map(|i| transformer(&weights, i, level))
                    .collect::<Result<_>>()?,
                resample: (index < last).then(upsample).transpose()?,
            }));
        }

        let mid_block = Block {
            resnets: (0..2)
                .map(|i| resnet(&mid, i, channels[last], channels[last]))
                .collect::<Result<_>>()?,
            attentions: vec![transformer(&mid, 0, last)?],
            resample: None,
        };
        let (first, time) = (channels[0], config.time_width());
        let Gathered { shifts, keys } = gathered;
        Ok(UNet {
            shifts: Projections::load(&shifts.into_inner(), time)?,
            keys: Projections::load(&keys.into_inner(), config.cross_attention_dim)?,
            conv_in: Conv2d::load(
                &weights.at("conv_in"),
                config.in_channels,
                first,
                [3, 3],
                Window::padded(1),
            )?,
            linear_1: Linear::load(&weights.at("time_embedding.linear_1"), first, time)?,
            linear_2: Linear::load(&weights.at("time_embedding.linear_2"), time, time)?,
            down_blocks,
            mid_block: Arc::new(mid_block),
            up_blocks,
            recomputes: None,
            conv_norm_out: GroupNorm::load(
                &weights.at("conv_norm_out"),
                config.norm_num_groups,
                first,
                config.norm_eps,
            )?,
            conv_out: Conv2d::load(
                &weights.at("conv_out"),
                first,
                config.out_channels,
                [3, 3],
                Window::padded(1),
            )?,
            dtype: weights.dtype(),
            config: config.clone(),
        })
    }

    /// The same with gradient checkpointing: of every resnet with its attention only the input is kept for the way back,
    /// and the rest computed once more. `training` is what the weights were loaded with.
    pub fn recomputing(self, training: Option<&Arc<Training>>) -> UNet {
        UNet { recomputes: Some(training.cloned()), ..self }
    }

    /// A layer of a block; `shifts` and `keys` are those of the whole UNet.
    fn layer(
        &self,
        block: &Arc<Block>,
        index: usize,
        x: &Tensor,
        (shifts, keys): (&[Tensor], &[Tensor]),
        frames: usize,
    ) -> Result<Tensor> {
        let shift = &shifts[block.resnets[index].shift];
        let keys = block.attentions.get(index).map_or(&[][..], |attention| &keys[attention.keys.clone()]);
        let Some(training) = &self.recomputes else {
            return block.layer(index, x, &Seen { shift, keys, frames });
        };
        let block = block.clone();
        let inputs: Vec<&Tensor> = [x, shift].into_iter().chain(keys).collect();
        checkpoint(training.as_ref(), &inputs, move |inputs| {
            let [x, shift, keys @ ..] = inputs else { unreachable!("as many as were handed over") };
            block.layer(index, x, &Seen { shift, keys, frames })
        })
    }

    /// Sizes.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// Number type of activations: what sample and text are to be.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// sample `[batch * frames, height, width, in channels]`, one time per batch item, text
    /// `[batch, tokens, cross_attention_dim]` -> `[batch * frames, height, width, out channels]`.
    ///
    /// Errors: when the shapes do not go together.
    pub fn forward(
        &self,
        sample: &Tensor,
        timesteps: &[f64],
        text: &Tensor,
        frames: usize,
    ) -> Result<Tensor> {
        self.forward_at(sample, &self.embed_times(sample.gpu(), timesteps)?, &self.read(text)?, frames)
    }

    /// Text `[batch, tokens, cross_attention_dim]` as the attention layers see it: the same in every step.
    ///
    /// Errors: another shape.
    pub fn read(&self, text: &Tensor) -> Result<TextContext> {
        let width = self.config.cross_attention_dim;
        match text.shape() {
            &[batch, tokens, w] if w == width && tokens > 0 => {
                Ok(TextContext { keys: self.keys.forward(text)?, batch })
            }
            other => {
                let got = format!("wanted text [batch, tokens, {width}], got {other:?}");
                Err(Error::shape("unet", got))
            }
        }
    }

    /// Embeddings of times, one per batch item: `[batch, width]`, with the SiLU that every resnet begins with.
    pub fn embed_times(&self, gpu: &Gpu, timesteps: &[f64]) -> Result<Tensor> {
        let (first, config) = (self.config.block_out_channels[0], &self.config);
        let time =
            Tensor::timestep_embedding(gpu, timesteps, first, config.flip_sin_to_cos, config.freq_shift)?;
        let time = self.linear_1.forward_with(&time.cast(self.dtype)?, Activation::Silu, None)?;
        self.linear_2.forward_with(&time, Activation::Silu, None)
    }

    /// As [`UNet::forward`], with the times as [`UNet::embed_times`] gives them, so that what changes from step to step
    /// is all in tensors, and the text as [`UNet::read`] does.
    ///
    /// Errors: when the shapes do not go together.
    pub fn forward_at(
        &self,
        sample: &Tensor,
        time: &Tensor,
        text: &TextContext,
        frames: usize,
    ) -> Result<Tensor> {
        let wrong = |detail: String| Err(Error::shape("unet", detail));
        let &[images, _, _, channels] = sample.shape() else {
            return wrong(format!(
                "wanted a sample [images, height, width, channels], got {:?}",
                sample.shape()
            ));
        };
        let batch = time.shape().first().copied().unwrap_or(0);
        if frames == 0 || images != batch * frames || images == 0 {
            return wrong(format!("{images} images are not {batch} videos of {frames} frames"));
        }
        if channels != self.config.in_channels || sample.is_empty() {
            return wrong(format!(
                "wanted {} channels, the sample is {:?}",
                self.config.in_channels,
                sample.shape()
            ));
        }
        if text.batch != batch {
            return wrong(format!("wanted a text for each of {batch} videos, got {}", text.batch));
        }
        let shifts = self.shifts.forward(&time.cast(DType::F32)?)?;
        let layer = |block, index, x: &Tensor| self.layer(block, index, x, (&shifts, &text.keys), frames);

        let mut x = self.conv_in.forward(sample)?;
        let mut skips = vec![x.clone()];
        for block in &self.down_blocks {
            for index in 0..block.resnets.len() {
                x = layer(block, index, &x)?;
                skips.push(x.clone());
            }
            if let Some(conv) = &block.resample {
                x = conv.forward(&x)?;
                skips.push(x.clone());
            }
        }

        x = layer(&self.mid_block, 0, &x)?;
        x = layer(&self.mid_block, 1, &x)?;

        for block in &self.up_blocks {
            for index in 0..block.resnets.len() {
                let skip = skips.pop().expect("every level going down left one skip per resnet going up");
                let joined = Tensor::concat(&[&x, &skip], 3)?;
                drop(skip);
                x = layer(block, index, &joined)?;
            }
            if let Some(conv) = &block.resample {
                let size = skips.last().expect("a further level follows").shape();
                x = conv.forward(&x.upsample_nearest(size[1], size[2])?)?;
            }
        }
        self.conv_out.forward(&self.conv_norm_out.forward_silu_shared(&x, batch)?)
    }
}
