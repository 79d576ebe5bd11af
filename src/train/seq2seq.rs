//! Training of the sequence model: seven EEG windows of a clip to the latents of its six frames, by mean squared error.
//!
//! ```text
//! frames ─VAE, posterior's mean · scaling factor─> latents [6, c, h, w]
//! eeg [7, channels, samples] ──taught: each step sees the clip's latents before it──> latents  ~  those
//!                             └─free: it sees what it made itself, as when it is used
//! ```
//!
//! Validation is always free. Follows XuanhaoLiu/EEG2Video 7254ad8
//! `EEG2Video_New/Seq2Seq/my_autoregressive_transformer.py` where the config has no `target_embedding`: free in training,
//! too, and compared with the first six of seven latents, of which the first is a constant.

use super::classify::shuffled;
use super::fit::Batches;
use super::heads::{Sets, draw};
use super::vae;
use crate::data::Clips;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{self, Config, Halves, Seq2Seq, Seq2SeqConfig, Vae, VaeConfig};
use crate::nn::{self, Precision, Weights, loss};
use crate::signal::seed_dv::BLOCK_CLIPS;
use crate::tensor::{DType, Tensor};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// How it learns, beside what every run has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Clips of a step.
    pub batch_size: usize,
    /// Of order and draws.
    pub seed: u64,
    /// Share of steps that are free.
    pub free_share: f64,
}

/// What is said of a trained model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Clips scored; none of them was learnt from.
    pub n_clips: usize,
    /// Mean squared error of the latents.
    pub mse: f64,
    /// Of the mean latent of the training clips, frame by frame.
    pub mean_latent_mse: f64,
    /// Of the same predictions, each beside another clip drawn at random.
    pub shuffled_pairs_mse: f64,
}

/// What gives the latents.
pub struct Encoded {
    folder: PathBuf,
    config: VaeConfig,
}

/// Frames through the autoencoder at once.
const FRAMES: usize = 16;

impl Encoded {
    /// Looks for an autoencoder in a folder, or in its `vae/` or `model/`.
    ///
    /// Errors: [`Error::Format`] where there is none; those of its config.
    pub fn find(folder: &Path) -> Result<Encoded> {
        let places = [folder.to_path_buf(), folder.join("vae"), folder.join("model")];
        let Some(folder) = places.into_iter().find(|place| place.join("config.json").is_file()) else {
            std::fs::read_dir(folder).map_err(Error::read(folder))?;
            return Err(Error::format(folder, "holds no autoencoder: wanted config.json, vae/ or model/"));
        };
        let config = Config::open(folder.join("config.json"))?;
        let name = config.architecture()?;
        if name != "AutoencoderKL" {
            return Err(Error::format(config.path(), format!("wanted AutoencoderKL, got '{name}'")));
        }
        Ok(Encoded { config: VaeConfig::new(&config)?, folder })
    }

    /// What its latents are multiplied by for the denoiser.
    pub fn scaling_factor(&self) -> f64 {
        self.config.scaling_factor
    }

    /// Channels, height and width of a frame's latents.
    ///
    /// Errors: [`Error::Format`] for pictures that do not halve evenly.
    pub fn latent_shape(&self, clips: &Clips) -> Result<[usize; 3]> {
        let ([_, height, width], scale) = (clips.shape(), self.config.downscale());
        if !height.is_multiple_of(scale) || !width.is_multiple_of(scale) || height * width == 0 {
            let detail =
                format!("pictures of {width} x {height}, wanted multiples of the autoencoder's {scale}");
            return Err(Error::format(clips.folder(), detail));
        }
        Ok([self.config.latent_channels, height / scale, width / scale])
    }

    /// The posterior's means times `scale` of clips counted over the recording: `[clips, frames, c, h, w]`.
    ///
    /// Errors: those of the model's file and of [`Clips::clip`].
    pub fn latents(
        &self,
        gpu: &Gpu,
        precision: Precision,
        clips: &Clips,
        chosen: &[usize],
        scale: f64,
    ) -> Result<Vec<f32>> {
        let checkpoint = models::architecture("AutoencoderKL")?.checkpoint(&self.folder)?;
        let load = |weights: &Weights| Vae::load(weights, &self.config, Halves::Both);
        let vae = nn::open(gpu, checkpoint, precision, load)?.model;
        let places: Vec<(usize, usize)> =
            chosen.iter().map(|clip| (clip / BLOCK_CLIPS, clip % BLOCK_CLIPS)).collect();
        let mut all = Vec::new();
        for some in vae::frames(clips, &places).chunks(FRAMES) {
            let (mean, _) = vae.encode(&vae::pixels(gpu, clips, some)?.cast(vae.dtype())?)?;
            let mean = mean.cast(DType::F32)?.permute(&[0, 3, 1, 2])?;
            all.extend(mean.to_vec()?.into_iter().map(|v| (f64::from(v) * scale) as f32));
        }
        Ok(all)
    }
}

/// A sequence model's training data.
pub struct Sequence {
    gpu: Gpu,
    config: Seq2SeqConfig,
    sets: Sets,
    recipe: Recipe,
    /// `[clips, frames, c, h, w]` of training and validation clips.
    latents: [Vec<f32>; 2],
}

/// Validation clips through the model at once.
const TOGETHER: usize = 16;

impl Sequence {
    /// Examples of `sets` are windows, all of a clip behind each other.
    ///
    /// Errors: [`Error::Shape`] when windows or latents are not those of the config.
    pub fn new(
        gpu: &Gpu,
        config: Seq2SeqConfig,
        sets: Sets,
        latents: [Vec<f32>; 2],
        recipe: Recipe,
    ) -> Result<Sequence> {
        let size = (config.n_windows - 1) * config.latent_shape.iter().product::<usize>();
        let parts = [(&sets.train, &sets.train_clips), (&sets.validation, &sets.validation_clips)];
        for ((inputs, clips), latents) in parts.into_iter().zip(&latents) {
            if inputs.len() != config.n_windows * clips.len()
                || inputs.shape != [config.n_chans, config.n_times]
            {
                let detail = format!(
                    "{} windows {:?} of {} clips, wanted {} of [{}, {}] each",
                    inputs.len(),
                    inputs.shape,
                    clips.len(),
                    config.n_windows,
                    config.n_chans,
                    config.n_times
                );
                return Err(Error::shape("seq2seq", detail));
            }
            if latents.len() != size * clips.len() {
                let detail = format!(
                    "{} values of latents for {} clips, wanted {} frames of {:?}",
                    latents.len(),
                    clips.len(),
                    config.n_windows - 1,
                    config.latent_shape
                );
                return Err(Error::shape("seq2seq", detail));
            }
        }
        Ok(Sequence { gpu: gpu.clone(), config, sets, recipe, latents })
    }

    /// What it is trained on.
    pub fn sets(&self) -> &Sets {
        &self.sets
    }

    /// The loss of a micro-batch by its number over the run.
    ///
    /// Errors: those of the model.
    pub fn loss(&self, weights: &Weights, number: u64) -> Result<Tensor> {
        let Recipe { batch_size, seed, free_share } = self.recipe;
        let batches = Batches { n: self.sets.train_clips.len(), size: batch_size, seed };
        let clips = batches.at(number);
        let n_windows = self.config.n_windows;
        let windows: Vec<usize> =
            clips.iter().flat_map(|&clip| clip * n_windows..(clip + 1) * n_windows).collect();
        let Seq2SeqConfig { n_chans, n_times, .. } = self.config;
        let x = self.sets.batch(&self.gpu, &windows)?.reshape(&[clips.len(), n_windows, n_chans, n_times])?;
        let size = self.size();
        let y: Vec<f32> = clips
            .iter()
            .flat_map(|&clip| &self.latents[0][clip * size..(clip + 1) * size])
            .copied()
            .collect();
        let y = Tensor::new(&self.gpu, &self.shape(clips.len()), &y)?;
        let model = self.model(weights)?;
        let is_free = !self.config.target_embedding || draw(seed, "free", number) < free_share;
        let made = if is_free { self.free(&model, &x)? } else { model.forward_taught(&x, &y)? };
        loss::mse(&made, &y)
    }

    /// Mean squared error on the validation clips.
    ///
    /// Errors: those of the model.
    pub fn mse(&self, weights: &Weights) -> Result<f64> {
        let own: Vec<usize> = (0..self.sets.validation_clips.len()).collect();
        Ok(self.compare(&self.predictions(weights)?, &own))
    }

    /// The error with its baselines.
    ///
    /// Errors: those of the model.
    pub fn report(&self, weights: &Weights) -> Result<Report> {
        let predictions = self.predictions(weights)?;
        let (size, n) = (self.size(), self.sets.validation_clips.len());
        let own: Vec<usize> = (0..n).collect();
        let mut mean = vec![0.0_f64; size];
        for clip in self.latents[0].chunks_exact(size) {
            mean.iter_mut().zip(clip).for_each(|(mean, &v)| *mean += f64::from(v));
        }
        let count = self.sets.train_clips.len() as f64;
        let mean: Vec<f32> = mean.iter().map(|sum| (sum / count) as f32).collect();
        Ok(Report {
            n_clips: n,
            mse: self.compare(&predictions, &own),
            mean_latent_mse: self.compare(&mean.repeat(n), &own),
            shuffled_pairs_mse: self.compare(&predictions, &shuffled(n, self.recipe.seed, 2)),
        })
    }

    fn model(&self, weights: &Weights) -> Result<Seq2Seq> {
        Seq2Seq::load(&weights.with_full_activations(), &self.config)
    }

    /// Values of a clip's latents.
    fn size(&self) -> usize {
        self.shape(1).iter().product()
    }

    fn shape(&self, clips: usize) -> [usize; 5] {
        let [c, h, w] = self.config.latent_shape;
        [clips, self.config.n_windows - 1, c, h, w]
    }

    /// Latents of frames from EEG alone.
    fn free(&self, model: &Seq2Seq, x: &Tensor) -> Result<Tensor> {
        let (_, latents) = model.forward(x)?;
        latents.narrow(1, usize::from(self.config.target_embedding), self.config.n_windows - 1)
    }

    fn predictions(&self, weights: &Weights) -> Result<Vec<f32>> {
        let model = self.model(weights)?;
        let Seq2SeqConfig { n_windows, n_chans, n_times, .. } = self.config;
        let mut all = Vec::new();
        for some in self.sets.validation.values.chunks(TOGETHER * n_windows * n_chans * n_times) {
            let n = some.len() / (n_windows * n_chans * n_times);
            let x = Tensor::new(&self.gpu, &[n, n_windows, n_chans, n_times], some)?;
            all.extend(self.free(&model, &x)?.to_vec()?);
        }
        Ok(all)
    }

    fn compare(&self, predictions: &[f32], pairs: &[usize]) -> f64 {
        let size = self.size();
        let of = |(made, &pair): (&[f32], &usize)| {
            let truth = &self.latents[1][pair * size..(pair + 1) * size];
            made.iter().zip(truth).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>()
        };
        predictions.chunks_exact(size).zip(pairs).map(of).sum::<f64>() / predictions.len().max(1) as f64
    }
}
