//! The sequence model of EEG2Video: seven EEG windows to the latents of six frames.
//!
//! ```text
//! eeg [batch, 7, 62, 100] -> class_logits [batch, 13], latents [batch, 7, 4, 36, 64]
//! ```
//!
//! Each window passes an [`EegNetEmbedding`], then an encoder; a decoder makes one step after another from its own outputs,
//! beginning with a zero vector. The first of the seven latents is therefore a constant; [`Frames`] says which six
//! become frames.
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG2Video_New/Seq2Seq/my_autoregressive_transformer.py`
//! (`myTransformer`).

use super::config::Config;
use super::{EegConfig, EegNetEmbedding};
use crate::error::{Error, Result};
use crate::nn::{LayerNorm, Linear, MultiheadAttention, Weights};
use crate::ops::{Activation, Sight};
use crate::tensor::Tensor;

/// Sizes of the sequence model.
#[derive(Clone, Debug, PartialEq)]
pub struct Seq2SeqConfig {
    /// EEG windows of one clip.
    pub n_windows: usize,
    /// EEG channels.
    pub n_chans: usize,
    /// Samples of a window.
    pub n_times: usize,
    /// Width of the transformer.
    pub d_model: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Width inside the feed-forward.
    pub dim_feedforward: usize,
    /// Encoder layers.
    pub n_encoder_layers: usize,
    /// Decoder layers.
    pub n_decoder_layers: usize,
    /// Classes of the side head.
    pub n_classes: usize,
    /// Latents of one frame: channels, height, width.
    pub latent_shape: [usize; 3],
}

/// Which of the seven latents are the six frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frames {
    /// The six the decoder made.
    #[default]
    Decoded,
    /// The first six, with the constant one, as the original does.
    Original,
}

impl Seq2SeqConfig {
    /// Reads an `EEG2VideoTransformer` config; what it leaves out is the original's.
    pub fn new(config: &Config) -> Result<Seq2SeqConfig> {
        let latent_shape = match config.get("latent_shape") {
            None => [4, 36, 64],
            Some(_) => config
                .sizes("latent_shape")?
                .try_into()
                .map_err(|_| config.wrong("latent_shape", "channels, height, width"))?,
        };
        let sizes = Seq2SeqConfig {
            n_windows: config.layers_or("n_windows", 7)?,
            n_chans: config.size_or("n_chans", 62)?,
            n_times: config.size_or("n_times", 100)?,
            d_model: config.size_or("d_model", 512)?,
            n_heads: config.size_or("n_heads", 4)?,
            dim_feedforward: config.size_or("dim_feedforward", 2048)?,
            n_encoder_layers: config.layers_or("n_encoder_layers", 2)?,
            n_decoder_layers: config.layers_or("n_decoder_layers", 4)?,
            n_classes: config.size_or("n_classes", 13)?,
            latent_shape,
        };
        if sizes.n_heads == 0
            || !sizes.d_model.is_multiple_of(sizes.n_heads)
            || !sizes.d_model.is_multiple_of(2)
        {
            return Err(config.wrong("d_model", "an even width that the heads divide"));
        }
        if sizes.n_times < 32 {
            return Err(config.wrong("n_times", "at least 32 samples: two poolings divide by 32"));
        }
        if sizes.n_windows < 2 {
            return Err(config.wrong("n_windows", "at least 2"));
        }
        Ok(sizes)
    }

    fn latents(&self) -> usize {
        self.latent_shape.iter().product()
    }

    /// Of the network that makes a window one vector.
    fn window(&self) -> EegConfig {
        EegConfig {
            n_outputs: None,
            n_chans: self.n_chans,
            n_times: self.n_times,
            n_features: 0,
            emb_dim: Some(self.d_model),
            local_chans: Vec::new(),
            drop_prob: None,
        }
    }
}

/// PyTorch's post-norm transformer layer; a decoder's has a second attention.
struct Layer {
    self_attn: MultiheadAttention,
    multihead_attn: Option<MultiheadAttention>,
    linear1: Linear,
    linear2: Linear,
    norms: Vec<LayerNorm>,
}

impl Layer {
    fn load(weights: &Weights, config: &Seq2SeqConfig, decoder: bool) -> Result<Layer> {
        let (width, heads) = (config.d_model, config.n_heads);
        let attention = |name: &str| MultiheadAttention::load(&weights.at(name), width, heads);
        let n_norms = if decoder { 3 } else { 2 };
        Ok(Layer {
            self_attn: attention("self_attn")?,
            multihead_attn: decoder.then(|| attention("multihead_attn")).transpose()?,
            linear1: Linear::load(&weights.at("linear1"), width, config.dim_feedforward)?,
            linear2: Linear::load(&weights.at("linear2"), config.dim_feedforward, width)?,
            norms: (1..=n_norms)
                .map(|i| LayerNorm::load(&weights.at(format!("norm{i}")), width, 1e-5))
                .collect::<Result<_>>()?,
        })
    }

    fn forward(&self, x: &Tensor, memory: &Tensor, sight: Sight) -> Result<Tensor> {
        let mut norms = self.norms.iter();
        let mut norm = |x: Tensor| norms.next().expect("one norm per part").forward(&x);
        let mut x = norm(self.self_attn.forward(x, x, sight, x)?)?;
        if let Some(attention) = &self.multihead_attn {
            x = norm(attention.forward(&x, memory, Sight::All, &x)?)?;
        }
        let h = self.linear1.forward_with(&x, Activation::Relu, None)?;
        norm(self.linear2.forward_with(&h, Activation::None, Some(&x))?)
    }
}

/// The sequence model.
pub struct Seq2Seq {
    config: Seq2SeqConfig,
    eeg_embedding: EegNetEmbedding,
    positions: Tensor,
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
    predictor: Linear,
    txtpredictor: Linear,
}

impl Seq2Seq {
    /// The original's names. Its unused tensors (`embedding`, `img_embedding`) are neither wanted nor missed. Its
    /// buffer of positions, `positional_encoding.pe`, counts where it is there: a file in half precision holds it
    /// rounded, and that is what the original then adds.
    ///
    /// Errors: [`Error::Shape`] for positions of another width or too few.
    pub fn load(weights: &Weights, config: &Seq2SeqConfig) -> Result<Seq2Seq> {
        let layers = |name: &str, n: usize, decoder: bool| {
            (0..n)
                .map(|i| Layer::load(&weights.at(format!("{name}.layers.{i}")), config, decoder))
                .collect::<Result<Vec<_>>>()
        };
        let width = config.d_model;
        let places = config.n_windows;
        let positions = match weights.stored("positional_encoding.pe")? {
            None => sinusoids(places, width),
            Some((shape, values)) if matches!(shape[..], [1, n, w] if n >= places && w == width) => {
                values[..places * width].to_vec()
            }
            Some((shape, _)) => {
                let detail =
                    format!("wanted positions [1, {places} or more, {width}], the file has {shape:?}");
                return Err(Error::shape("EEG2VideoTransformer", detail));
            }
        };
        let positions = Tensor::new(weights.gpu(), &[places, width], &positions)?;
        Ok(Seq2Seq {
            eeg_embedding: EegNetEmbedding::load(&weights.at("eeg_embedding"), &config.window())?,
            positions: positions.cast(weights.dtype())?,
            encoder: layers("transformer_encoder", config.n_encoder_layers, false)?,
            decoder: layers("transformer_decoder", config.n_decoder_layers, true)?,
            predictor: Linear::load(&weights.at("predictor"), width, config.latents())?,
            txtpredictor: Linear::load(&weights.at("txtpredictor"), width, config.n_classes)?,
            config: config.clone(),
        })
    }

    /// Sizes.
    pub fn config(&self) -> &Seq2SeqConfig {
        &self.config
    }

    /// [batch, windows, channels, samples] -> (class logits [batch, classes],
    /// latents [batch, windows, channels, height, width] as the original orders them).
    pub fn forward(&self, eeg: &Tensor) -> Result<(Tensor, Tensor)> {
        let c = &self.config;
        let &[batch, windows, channels, samples] = eeg.shape() else {
            return Err(Error::shape(
                "EEG2VideoTransformer",
                format!("wanted four axes, got {:?}", eeg.shape()),
            ));
        };
        if [windows, channels, samples] != [c.n_windows, c.n_chans, c.n_times] || batch == 0 {
            let detail = format!(
                "wanted [batch, {}, {}, {}], got {:?}",
                c.n_windows,
                c.n_chans,
                c.n_times,
                eeg.shape()
            );
            return Err(Error::shape("EEG2VideoTransformer", detail));
        }
        let tokens = self.eeg_embedding.forward(&eeg.reshape(&[batch * windows, channels, samples])?)?;
        let mut memory = tokens.reshape(&[batch, windows, c.d_model])?.add(&self.positions)?;
        for layer in &self.encoder {
            memory = layer.forward(&memory, &memory, Sight::All)?;
        }
        let zeros = vec![0.0_f32; batch * c.d_model];
        let mut prefix = Tensor::new(eeg.gpu(), &[batch, 1, c.d_model], &zeros)?.cast(eeg.dtype())?;
        for step in 0..windows - 1 {
            let mut x = prefix.clone();
            for layer in &self.decoder {
                x = layer.forward(&x, &memory, Sight::Causal)?;
            }
            prefix = Tensor::concat(&[&prefix, &x.narrow(1, step, 1)?], 1)?;
        }
        let class_logits = self.txtpredictor.forward(&memory.mean(&[1])?)?;
        let [lc, lh, lw] = c.latent_shape;
        let latents = self.predictor.forward(&prefix)?.reshape(&[batch, windows, lc, lh, lw])?;
        Ok((class_logits, latents))
    }

    /// The frames among the latents, channels-last: [batch, windows, c, h, w] -> [batch * (windows - 1), h, w, c].
    pub fn frames(&self, latents: &Tensor, frames: Frames) -> Result<Tensor> {
        let (batch, n) = (latents.shape()[0], self.config.n_windows - 1);
        let first = if frames == Frames::Decoded { 1 } else { 0 };
        let [lc, lh, lw] = self.config.latent_shape;
        latents.narrow(1, first, n)?.reshape(&[batch * n, lc, lh, lw])?.permute(&[0, 2, 3, 1])
    }
}

/// sin and cos of place / 10000^(2i / width), alternating.
pub(super) fn sinusoids(places: usize, width: usize) -> Vec<f32> {
    (0..places * width)
        .map(|at| {
            let (place, i) = (at / width, at % width);
            let angle = place as f64 * (-(10_000_f64.ln()) * (i / 2 * 2) as f64 / width as f64).exp();
            (if i % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
        })
        .collect()
}
