//! Conformer: convolutions turn an EEG window into tokens, a transformer reads them.
//!
//! ```text
//! eeg [batch, n_chans, n_times] -> logits [batch, n_outputs]
//! ```
//!
//! No positions, no class token: all tokens go side by side into the last layer. The original builds a second head
//! that nothing reads; a file may hold it, a model of ours does not.
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG-VP/models.py` (`conformer`), after Song et al. 2023.

use super::config::Config;
use super::eeg::{EegConfig, Stage};
use crate::error::Result;
use crate::nn::{BatchNorm, Conv2d, Dropout, FilterBank, FilterSizes, LayerNorm, Linear, Weights};
use crate::ops::{Activation, Sight, Window};
use crate::tensor::Tensor;

/// Filters of the convolutions.
const FILTERS: usize = 40;
/// Along the samples.
const TEMPORAL: Stage = [25, 1];
const POOL: Stage = [75, 15];
/// Usual width of a token.
const EMB_DIM: usize = 40;
/// The feed-forward is this many times as wide.
const EXPANSION: usize = 4;

/// Sizes of a Conformer.
#[derive(Clone, Debug, PartialEq)]
pub struct ConformerConfig {
    /// Those of every EEG network; `emb_dim` is the width of a token.
    pub eeg: EegConfig,
    /// Attention heads.
    pub n_heads: usize,
    /// Transformer layers; where it is left out, those of the file, or 3.
    pub n_layers: Option<usize>,
    /// What scores are divided by.
    pub attention_scale: AttentionScale,
}

/// The width under the root that attention scores are divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttentionScale {
    /// sqrt(emb_dim), as the original does: what its weights were trained with.
    #[default]
    EmbDim,
    /// sqrt(emb_dim / n_heads), as attention is defined (Vaswani et al. 2017).
    HeadDim,
}

impl ConformerConfig {
    /// Reads a `Conformer` config: 10 heads, 3 layers, `attention_scale` `"emb_dim"` unless given.
    ///
    /// Errors: [`crate::error::Error::Format`] with the key.
    pub fn new(config: &Config) -> Result<ConformerConfig> {
        let sizes = ConformerConfig {
            eeg: EegConfig::new(config)?,
            n_heads: config.size_or("n_heads", 10)?,
            n_layers: config.get("n_layers").map(|_| config.layers_or("n_layers", 3)).transpose()?,
            attention_scale: match config.word_or("attention_scale", "emb_dim")? {
                "emb_dim" => AttentionScale::EmbDim,
                "head_dim" => AttentionScale::HeadDim,
                _ => {
                    let wanted = "\"head_dim\", or \"emb_dim\" as the original has it";
                    return Err(config.wrong("attention_scale", wanted));
                }
            },
        };
        if sizes.n_heads == 0 || !sizes.emb_dim().is_multiple_of(sizes.n_heads) {
            let wanted = format!("a number of heads that divides the width, {}", sizes.emb_dim());
            return Err(config.wrong("n_heads", &wanted));
        }
        Ok(sizes)
    }

    fn emb_dim(&self) -> usize {
        self.eeg.emb_dim.unwrap_or(EMB_DIM)
    }

    /// What scores are multiplied by.
    fn scale(&self) -> f32 {
        let width = match self.attention_scale {
            AttentionScale::EmbDim => self.emb_dim(),
            AttentionScale::HeadDim => self.emb_dim() / self.n_heads,
        };
        1.0 / (width as f32).sqrt()
    }
}

/// Norm and attention, norm and feed-forward, each added to what came in.
struct Layer {
    norm1: LayerNorm,
    queries: Linear,
    keys: Linear,
    values: Linear,
    projection: Linear,
    norm2: LayerNorm,
    linear1: Linear,
    linear2: Linear,
    /// Of attention's weights, inside the feed-forward, and of what either adds.
    drop: Dropout,
    heads: usize,
    scale: f32,
}

impl Layer {
    fn load(weights: &Weights, config: &ConformerConfig) -> Result<Layer> {
        let width = config.emb_dim();
        let (attention, forward) = (weights.at("0.fn"), weights.at("1.fn"));
        let project = |name: &str| Linear::load(&attention.at("1").at(name), width, width);
        Ok(Layer {
            norm1: LayerNorm::load(&attention.at("0"), width, 1e-5)?,
            queries: project("queries")?,
            keys: project("keys")?,
            values: project("values")?,
            projection: project("projection")?,
            norm2: LayerNorm::load(&forward.at("0"), width, 1e-5)?,
            linear1: Linear::load(&forward.at("1.0"), width, EXPANSION * width)?,
            linear2: Linear::load(&forward.at("1.3"), EXPANSION * width, width)?,
            drop: Dropout::new(config.eeg.dropped(0.5), weights),
            heads: config.n_heads,
            scale: config.scale(),
        })
    }

    /// [batch, tokens, emb_dim] -> the same.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.norm1.forward(x)?;
        let (q, k, v) = (self.queries.forward(&h)?, self.keys.forward(&h)?, self.values.forward(&h)?);
        if !self.drop.is_on() {
            let seen = q.attention(&k, &v, self.heads, Some(self.scale), Sight::All)?;
            let x = self.projection.forward_with(&seen, Activation::None, Some(x))?;
            let h = self.linear1.forward_with(&self.norm2.forward(&x)?, Activation::Gelu, None)?;
            return self.linear2.forward_with(&h, Activation::None, Some(&x));
        }
        let seen = self.projection.forward(&self.attend(&q, &k, &v)?)?;
        let x = x.add(&self.drop.forward(&seen)?)?;
        let h = self.linear1.forward_with(&self.norm2.forward(&x)?, Activation::Gelu, None)?;
        let h = self.linear2.forward(&self.drop.forward(&h)?)?;
        x.add(&self.drop.forward(&h)?)
    }

    /// Attention whose weights are dropped, which the fused one never holds: [batch, tokens, emb_dim] of all three.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let &[batch, tokens, width] = q.shape() else { unreachable!("made by a linear layer of tokens") };
        let split =
            |x: &Tensor| x.reshape(&[batch, tokens, self.heads, width / self.heads])?.permute(&[0, 2, 1, 3]);
        let scores = split(q)?.scale(self.scale, 0.0)?.matmul(&split(k)?, true)?;
        let seen = self.drop.forward(&scores.softmax()?)?.matmul(&split(v)?, false)?;
        seen.permute(&[0, 2, 1, 3])?.reshape(&[batch, tokens, width])
    }
}

/// Convolutions, transformer layers, a linear layer over all tokens.
pub struct Conformer {
    filters: FilterBank,
    norm: BatchNorm,
    projection: Conv2d,
    drop: Dropout,
    layers: Vec<Layer>,
    out: Linear,
    tokens: usize,
    config: ConformerConfig,
}

impl Conformer {
    /// `0.shallownet`, `0.projection`, `1.{layer}`, `2.fc`.
    ///
    /// Errors: [`crate::error::Error::Setting`] for fewer than 99 samples.
    pub fn load(weights: &Weights, config: &ConformerConfig) -> Result<Conformer> {
        let (eeg, width) = (&config.eeg, config.emb_dim());
        let tokens = eeg.left("Conformer", &[TEMPORAL, POOL])?;
        let [temporal, spatial, projection] =
            ["shallownet.0", "shallownet.1", "projection.0"].map(|name| weights.at("0").at(name));
        let sizes = FilterSizes::full(eeg.n_chans, FILTERS, TEMPORAL[0]);
        let in_file = || weights.checkpoint().map(|_| n_layers(weights)).filter(|&n| n > 0);
        let n_layers = config.n_layers.or_else(in_file).unwrap_or(3);
        let layer = |i: usize| Layer::load(&weights.at(format!("1.{i}")), config);
        for unread in ["1.weight", "1.bias", "2.weight", "2.bias"] {
            weights.at("2.clshead").pass_over(unread);
        }
        Ok(Conformer {
            filters: FilterBank::load(&temporal, None, &spatial, sizes)?,
            norm: BatchNorm::load(&weights.at("0.shallownet.2"), FILTERS)?,
            projection: Conv2d::load(&projection, FILTERS, width, [1, 1], Window::padded(0))?,
            drop: Dropout::new(eeg.dropped(0.5), weights),
            layers: (0..n_layers).map(layer).collect::<Result<_>>()?,
            out: Linear::load(&weights.at("2.fc.0"), tokens * width, eeg.outputs(weights, "2.fc.0")?)?,
            tokens,
            config: config.clone(),
        })
    }

    /// [batch, n_chans, n_times] -> [batch, n_outputs].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        let x = self.filters.forward(self.config.eeg.window("Conformer", eeg)?)?;
        let x = self.norm.forward(&x)?.elu()?;
        let x = self.drop.forward(&x.avg_pool2d([1, POOL[0]], [1, POOL[1]])?)?;
        let x = self.projection.forward(&x)?;
        let (batch, width) = (eeg.shape()[0], self.config.emb_dim());
        let mut x = x.reshape(&[batch, self.tokens, width])?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        // Tokens first, as they lie.
        self.out.forward(&x.reshape(&[batch, self.tokens * width])?)
    }
}

/// Transformer layers in the file.
fn n_layers(weights: &Weights) -> usize {
    (0..256).take_while(|i| weights.has(&format!("1.{i}.0.fn.0.weight"))).count()
}
