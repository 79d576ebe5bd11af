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
//! With `"target_embedding": true`, which the original lacks, the decoder sees the latents it has made, through
//! `img_embedding`, and places; trained with those of the clip in their stead ([`Seq2Seq::forward_taught`]). Its first
//! input is the embedding of zeros: a vector that is learnt. The first of the seven latents is then zeros, and never a
//! frame.
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG2Video_New/Seq2Seq/my_autoregressive_transformer.py`
//! (`myTransformer`).

use super::config::Config;
use super::{EegConfig, EegNetEmbedding};
use crate::error::{Error, Result};
use crate::nn::{Dropout, LayerNorm, Linear, MultiheadAttention, Weights};
use crate::ops::{Activation, Sight};
use crate::tensor::Tensor;

/// Most values of a clip's latents, and of the positions.
const MOST_VALUES: usize = 1 << 26;

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
    /// What the latents are multiples of: a posterior's mean times this.
    pub latent_scale: f64,
    /// Whether the decoder sees the latents so far and their places.
    pub target_embedding: bool,
    /// Share of values that the transformer's dropout drops in training.
    pub drop_prob: f64,
    /// Whether each channel's mean over the clip is taken away from the EEG before.
    pub is_centred: bool,
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
            latent_scale: config.number_or("latent_scale", 1.0)?,
            target_embedding: config.switch_or("target_embedding", false)?,
            drop_prob: config.number_or("drop_prob", 0.1)?,
            is_centred: config.switch_or("centred", false)?,
        };
        if sizes.n_windows.saturating_mul(sizes.d_model) > MOST_VALUES {
            return Err(config.wrong("d_model", "a width that suits so many windows"));
        }
        if sizes.latent_shape.iter().fold(1_usize, |n, &size| n.saturating_mul(size)) > MOST_VALUES {
            return Err(config.wrong("latent_shape", "fewer latents"));
        }
        if !(0.0..1.0).contains(&sizes.drop_prob) {
            return Err(config.wrong("drop_prob", "0 or more and below 1"));
        }
        if !(sizes.latent_scale.is_finite() && sizes.latent_scale > 0.0) {
            return Err(config.wrong("latent_scale", "a number above 0"));
        }
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
    drop: Dropout,
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
            drop: Dropout::new(config.drop_prob, weights),
        })
    }

    fn forward(&self, x: &Tensor, memory: &Tensor, sight: Sight) -> Result<Tensor> {
        let mut norms = self.norms.iter();
        let mut norm = |x: Tensor| norms.next().expect("one norm per part").forward(&x);
        let mut x = norm(self.added(x, |rest| self.self_attn.forward(x, x, sight, rest))?)?;
        if let Some(attention) = &self.multihead_attn {
            x = norm(self.added(&x, |rest| attention.forward(&x, memory, Sight::All, rest))?)?;
        }
        let mut h = self.linear1.forward_with(&x, Activation::Relu, None)?;
        if self.drop.is_on() {
            h = self.drop.forward(&h)?;
        }
        norm(self.added(&x, |rest| self.linear2.forward_with(&h, Activation::None, Some(rest)))?)
    }

    /// x + dropout(part): `part` adds what it is given, and without dropout that is x itself.
    fn added(&self, x: &Tensor, part: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        if !self.drop.is_on() {
            return part(x);
        }
        let nothing = Tensor::zeros(x.gpu(), x.shape(), x.dtype())?;
        x.add(&self.drop.forward(&part(&nothing)?)?)
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
    img_embedding: Option<Linear>,
}

impl Seq2Seq {
    /// The original's names. Its unused tensors (`embedding`, and `img_embedding` without `target_embedding`) are neither
    /// wanted nor missed. Its
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
            img_embedding: config
                .target_embedding
                .then(|| Linear::load(&weights.at("img_embedding"), config.latents(), width))
                .transpose()?,
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
        let memory = self.memory(eeg)?;
        let c = &self.config;
        let (batch, windows) = (eeg.shape()[0], c.n_windows);
        let class_logits = self.txtpredictor.forward(&memory.mean(&[1])?)?;
        let [lc, lh, lw] = c.latent_shape;
        let latents = match &self.img_embedding {
            Some(embedding) => self.own(&memory, embedding)?,
            None => {
                let zeros = vec![0.0_f32; batch * c.d_model];
                let mut prefix = Tensor::new(eeg.gpu(), &[batch, 1, c.d_model], &zeros)?.cast(eeg.dtype())?;
                for step in 0..windows - 1 {
                    let x = self.decode(&prefix, &memory)?;
                    prefix = Tensor::concat(&[&prefix, &x.narrow(1, step, 1)?], 1)?;
                }
                self.predictor.forward(&prefix)?
            }
        };
        Ok((class_logits, latents.reshape(&[batch, windows, lc, lh, lw])?))
    }

    /// As [`Seq2Seq::forward`] in training: each step sees the clip's own latents before it, not those it made.
    /// EEG and latents [batch, windows - 1, channels, height, width] -> latents of that shape.
    ///
    /// Errors: [`Error::Shape`] for other shapes, and for a model without `target_embedding`.
    pub fn forward_taught(&self, eeg: &Tensor, latents: &Tensor) -> Result<Tensor> {
        let Some(embedding) = &self.img_embedding else {
            let detail = "this model's decoder does not see latents; it wants \"target_embedding\": true";
            return Err(Error::shape("EEG2VideoTransformer", detail));
        };
        let memory = self.memory(eeg)?;
        let (batch, n, size) = (eeg.shape()[0], self.config.n_windows - 1, self.config.latents());
        let [lc, lh, lw] = self.config.latent_shape;
        let wanted = [batch, n, lc, lh, lw];
        if latents.shape() != wanted {
            let detail = format!("wanted latents {wanted:?}, got {:?}", latents.shape());
            return Err(Error::shape("EEG2VideoTransformer", detail));
        }
        let first = Tensor::zeros(eeg.gpu(), &[batch, 1, size], latents.dtype())?;
        let seen = match n {
            1 => first,
            _ => Tensor::concat(&[&first, &latents.reshape(&[batch, n, size])?.narrow(1, 0, n - 1)?], 1)?,
        };
        let x = self.placed(&embedding.forward(&seen)?)?;
        self.predictor.forward(&self.decode(&x, &memory)?)?.reshape(&wanted)
    }

    /// [batch, windows, channels, samples] -> what the encoder makes of it, [batch, windows, width].
    fn memory(&self, eeg: &Tensor) -> Result<Tensor> {
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
        let mut memory = self.placed(&tokens.reshape(&[batch, windows, c.d_model])?)?;
        for layer in &self.encoder {
            memory = layer.forward(&memory, &memory, Sight::All)?;
        }
        Ok(memory)
    }

    /// Latents from the latents so far, zeros before them: [batch, windows, size].
    fn own(&self, memory: &Tensor, embedding: &Linear) -> Result<Tensor> {
        let (batch, size) = (memory.shape()[0], self.config.latents());
        let mut made = Tensor::zeros(memory.gpu(), &[batch, 1, size], memory.dtype())?;
        for step in 0..self.config.n_windows - 1 {
            let x = self.decode(&self.placed(&embedding.forward(&made)?)?, memory)?;
            made = Tensor::concat(&[&made, &self.predictor.forward(&x.narrow(1, step, 1)?)?], 1)?;
        }
        Ok(made)
    }

    /// With the places of its tokens added.
    fn placed(&self, x: &Tensor) -> Result<Tensor> {
        x.add(&self.positions.narrow(0, 0, x.shape()[1])?)
    }

    fn decode(&self, x: &Tensor, memory: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in &self.decoder {
            x = layer.forward(&x, memory, Sight::Causal)?;
        }
        Ok(x)
    }

    /// The frames among the latents, channels-last: [batch, windows, c, h, w] -> [batch * (windows - 1), h, w, c].
    pub fn frames(&self, latents: &Tensor, frames: Frames) -> Result<Tensor> {
        let (batch, n) = (latents.shape()[0], self.config.n_windows - 1);
        let first = usize::from(frames == Frames::Decoded || self.img_embedding.is_some());
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
