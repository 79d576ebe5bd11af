//! Text to pictures: Stable Diffusion.
//!
//! ```text
//! prompt, negative prompt ─CLIP─> text [2, tokens, width] ─┐
//! noise of the picture's seed ─────────────────────────────┴─> denoise ─> VAE ─> picture
//! ```
//!
//! Follows huggingface/diffusers 0.35 `pipelines/stable_diffusion/pipeline_stable_diffusion.py`, but for the noise, which is
//! that of our generator.

use super::conditions::{encode, encoding};
use super::text::words_of;
use super::{Folder, Guidance, Need, Part, Use, decode, denoise, frames, stream};
use crate::diffusion::{self, Plan, SchedulerConfig};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::media::Frames;
use crate::media::frames::Rounding;
use crate::models::{Halves, UNet, UNetConfig, Vae, VaeConfig};
use crate::nn::{self, Precision, Weights};
use crate::tensor::{DType, Tensor};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a user may choose; `None` follows the checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageSettings {
    /// Denoising steps (PNDM calls the model once more).
    pub num_inference_steps: usize,
    /// Push from the negative prompt to the prompt; 1 and below turn it off.
    pub guidance_scale: f64,
    /// `ddim`, `pndm` or `dpmsolver++`.
    pub scheduler: Option<String>,
    /// Fresh noise per step, DDIM only: 0 none, 1 as much as DDPM.
    pub eta: f64,
    /// Steps as Karras et al. lay them, DPM-Solver++ only.
    pub use_karras_sigmas: bool,
    /// Pixels, a multiple of 8.
    pub height: Option<usize>,
    /// Pixels, a multiple of 8.
    pub width: Option<usize>,
    /// Pictures denoised together.
    pub batch_size: usize,
    /// Decode in tiles of this many latents a side; memory of one tile.
    pub vae_tile: Option<usize>,
    /// Activations in f16.
    pub half: bool,
}

impl Default for ImageSettings {
    /// diffusers': 50 steps, guidance 7.5.
    fn default() -> ImageSettings {
        ImageSettings {
            num_inference_steps: 50,
            guidance_scale: 7.5,
            scheduler: None,
            eta: 0.0,
            use_karras_sigmas: false,
            height: None,
            width: None,
            batch_size: 1,
            vae_tile: None,
            half: false,
        }
    }
}

impl ImageSettings {
    /// Refuses what no checkpoint can do.
    ///
    /// Errors: [`Error::Setting`] naming the flag.
    pub fn check(&self) -> Result<()> {
        let wrong = |name: &str, detail: String| Err(Error::setting(name, detail));
        if self.num_inference_steps == 0 {
            return wrong("--num-inference-steps", "wanted 1 to 1000, got 0".into());
        }
        if !self.guidance_scale.is_finite() || self.guidance_scale < 0.0 {
            return wrong("--guidance-scale", format!("wanted 0 or more, got {}", self.guidance_scale));
        }
        if let Some(tile) = self.vae_tile.filter(|&tile| tile < 8) {
            return wrong("--vae-tile", format!("wanted at least 8 latents, got {tile}"));
        }
        if !(self.eta.is_finite() && (0.0..=1.0).contains(&self.eta)) {
            return wrong("--eta", format!("wanted 0 to 1, got {}", self.eta));
        }
        if self.batch_size == 0 || self.batch_size > 64 {
            return wrong("--image-batch-size", format!("wanted 1 to 64, got {}", self.batch_size));
        }
        Ok(())
    }

    fn precision(&self) -> Precision {
        if self.half { Precision::F16 } else { Precision::F32 }
    }
}

/// A picture that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Order {
    /// What it shall show.
    pub prompt: String,
    /// What it shall not show.
    pub negative_prompt: String,
    /// Of its noise: the same seed and words give the same picture, whatever is made beside it.
    pub seed: u64,
}

/// Pictures about to be made: sizes, walk and need are known, nothing is loaded.
pub struct ImageRun {
    gpu: Gpu,
    folder: Folder,
    settings: ImageSettings,
    height: usize,
    width: usize,
    plan: Plan,
    scheduler: String,
    warning: Option<String>,
    need: Need,
    unet: UNetConfig,
    vae: VaeConfig,
}

impl ImageRun {
    /// Settles everything that can be settled without computing.
    ///
    /// Errors: [`Error::Setting`] for a flag out of range; [`Error::Format`] and [`Error::Weights`] for a checkpoint that
    /// does not fit together or has no text encoder.
    pub fn new(gpu: &Gpu, folder: Folder, settings: ImageSettings) -> Result<ImageRun> {
        settings.check()?;
        let unet = UNetConfig::new(&folder.config(Part::Unet)?)?;
        let vae = VaeConfig::new(&folder.config(Part::Vae)?)?;
        let (tokens, text_width) = encoding(&folder)?;
        if text_width != unet.cross_attention_dim {
            let detail = format!(
                "its text encoder gives [{tokens}, {text_width}], the UNet takes embeddings of {}",
                unet.cross_attention_dim
            );
            return Err(Error::format(folder.path(), detail));
        }
        if vae.latent_channels != unet.in_channels || unet.in_channels != unet.out_channels {
            let detail = format!(
                "the VAE has {} latent channels, the UNet takes {} and gives {}",
                vae.latent_channels, unet.in_channels, unet.out_channels
            );
            return Err(Error::format(folder.path(), detail));
        }
        let scale = vae.downscale();
        let usual = unet.sample_size.unwrap_or(64) * scale;
        let side = |flag: &str, asked: Option<usize>| {
            let pixels = asked.unwrap_or(usual);
            if pixels == 0 || !pixels.is_multiple_of(scale) || pixels > 8192 {
                let near = (pixels.clamp(scale, 8192) + scale / 2) / scale * scale;
                let detail =
                    format!("wanted a multiple of {scale} up to 8192, got {pixels}; the nearest is {near}");
                return Err(Error::setting(flag, detail));
            }
            Ok(pixels)
        };
        let (height, width) = (side("--height", settings.height)?, side("--width", settings.width)?);
        words_of(folder.path())?;
        let mut config = match folder.scheduler_config() {
            Some(path) => SchedulerConfig::open(path)?,
            None => SchedulerConfig::stable_diffusion(),
        };
        let (scheduler, warning) = config.sampler_or(settings.scheduler.as_deref(), "pndm");
        if settings.use_karras_sigmas {
            if scheduler != "dpmsolver++" {
                let detail = format!("is for --scheduler dpmsolver++, not for {scheduler}");
                return Err(Error::setting("--use-karras-sigmas", detail));
            }
            config.fields.insert("use_karras_sigmas".into(), true.into());
        }
        let plan = diffusion::plan(&scheduler, &config, settings.num_inference_steps, settings.eta)?;
        let (gpu, need) = (gpu.clone(), Need { weights: 0, peak: 0 });
        let mut run =
            ImageRun { gpu, folder, settings, height, width, plan, scheduler, warning, need, unet, vae };
        run.need = run.reckon(tokens)?;
        Ok(run)
    }

    /// What was taken otherwise than the checkpoint says.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Height and width of the pictures.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// Memory it will take.
    pub fn need(&self) -> Need {
        self.need
    }

    /// The sampler's name.
    pub fn scheduler(&self) -> &str {
        &self.scheduler
    }

    /// Model calls per batch of pictures.
    pub fn n_calls(&self) -> usize {
        self.plan.steps().len()
    }

    /// Settings as given.
    pub fn settings(&self) -> &ImageSettings {
        &self.settings
    }

    /// Latents of `n` pictures.
    fn latents(&self, n: usize) -> [usize; 4] {
        let scale = self.vae.downscale();
        [n, self.height / scale, self.width / scale, self.vae.latent_channels]
    }

    /// Runs one step and one decode on a plan.
    fn reckon(&self, tokens: usize) -> Result<Need> {
        let plan = self.gpu.planner();
        let load = |part: Part| -> Result<Weights> {
            let checkpoint = Arc::new(self.folder.checkpoint(part)?);
            Ok(Weights::planned(&plan, Some(checkpoint), self.settings.precision()))
        };
        let unet = UNet::load(&load(Part::Unet)?, &self.unet, false)?;
        let vae = Vae::load(&load(Part::Vae)?, &self.vae, Halves::Decoder)?;
        let weights = plan.memory().live;
        let (batch, scale) = (self.settings.batch_size, self.settings.guidance_scale);
        let rows = if scale > 1.0 { 2 * batch } else { batch };
        let x = Tensor::empty(&plan, &self.latents(batch), DType::F32)?;
        let text = Tensor::empty(&plan, &[rows, tokens, self.unet.cross_attention_dim], unet.dtype())?;
        let first = diffusion::plan("ddim", &SchedulerConfig::stable_diffusion(), 1, 0.0)?;
        let guidance = Guidance { scale, text: &text };
        let x = denoise(&unet, &first, x, &guidance, 1, None, &mut |_| Ok(()))?;
        decode(&vae, &x.narrow(0, 0, 1)?, self.vae.scaling_factor, self.settings.vae_tile)?;
        Ok(Need { weights, peak: plan.memory().peak_reserved })
    }

    /// Makes the pictures, batch after batch, and hands each to `sink` as soon as it is whole; `watch` is told the model
    /// calls done of all, times the pictures of a call.
    ///
    /// Errors: [`Error::Interrupted`] when `stop` is set, between steps; what `sink` returns; GPU trouble.
    pub fn make(
        &self,
        orders: &[Order],
        stop: &AtomicBool,
        watch: &mut dyn FnMut(usize, usize),
        sink: &mut dyn FnMut(usize, Frames) -> Result<()>,
    ) -> Result<()> {
        let texts = self.texts(orders)?;
        let precision = self.settings.precision();
        let unet = nn::open(&self.gpu, self.folder.checkpoint(Part::Unet)?, precision, |weights| {
            UNet::load(weights, &self.unet, false)
        })?
        .model;
        let vae = nn::open(&self.gpu, self.folder.checkpoint(Part::Vae)?, precision, |weights| {
            Vae::load(weights, &self.vae, Halves::Decoder)
        })?
        .model;
        let (total, mut done) = (orders.len() * self.n_calls(), 0);
        for start in (0..orders.len()).step_by(self.settings.batch_size) {
            let batch = &orders[start..orders.len().min(start + self.settings.batch_size)];
            let latents = self.denoise(&unet, batch, &texts, stop, &mut |calls| {
                watch(done + calls * batch.len(), total);
            })?;
            done += self.n_calls() * batch.len();
            for place in 0..batch.len() {
                let latent = latents.narrow(0, place, 1)?;
                let pixels = decode(&vae, &latent, self.vae.scaling_factor, self.settings.vae_tile)?;
                sink(start + place, frames(&pixels, self.settings.half, Rounding::Nearest, 1.0)?)?;
            }
        }
        Ok(())
    }

    /// Embeddings [tokens, width] of all words that are used.
    fn texts(&self, orders: &[Order]) -> Result<BTreeMap<String, Vec<f32>>> {
        let guided = self.settings.guidance_scale > 1.0;
        let mut words: Vec<String> = orders.iter().map(|order| order.prompt.clone()).collect();
        if guided {
            words.extend(orders.iter().map(|order| order.negative_prompt.clone()));
        }
        words.sort();
        words.dedup();
        let ([tokens, width], values) = encode(&self.gpu, &self.folder, self.settings.precision(), &words)?;
        Ok(words.into_iter().zip(values.chunks(tokens * width).map(<[f32]>::to_vec)).collect())
    }

    fn denoise(
        &self,
        unet: &UNet,
        orders: &[Order],
        texts: &BTreeMap<String, Vec<f32>>,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(usize),
    ) -> Result<Tensor> {
        let noise = |purpose: fn(usize) -> Use, step: usize| -> Result<Tensor> {
            let of_order = |order: &Order| {
                Tensor::normal(&self.gpu, &self.latents(1), order.seed, stream(0, purpose(step)))
            };
            let each: Vec<Tensor> = orders.iter().map(of_order).collect::<Result<_>>()?;
            Tensor::concat(&each.iter().collect::<Vec<_>>(), 0)
        };
        let guided = self.settings.guidance_scale > 1.0;
        let negatives = orders.iter().filter(|_| guided).map(|order| &order.negative_prompt);
        let words = negatives.chain(orders.iter().map(|order| &order.prompt));
        let values: Vec<f32> =
            words.flat_map(|word| texts.get(word).into_iter().flatten()).copied().collect();
        let rows = if guided { 2 * orders.len() } else { orders.len() };
        let width = self.unet.cross_attention_dim;
        let text = Tensor::new(&self.gpu, &[rows, values.len() / (rows * width), width], &values)?;
        let text = text.cast(unet.dtype())?;
        let scale = if guided { self.settings.guidance_scale } else { 1.0 };
        let guidance = Guidance { scale, text: &text };
        let x = noise(|_| Use::Frames, 0)?;
        let mut fresh = |step: usize| noise(Use::Step, step);
        denoise(unet, &self.plan, x, &guidance, 1, Some(&mut fresh), &mut |calls| {
            watch(calls);
            match stop.load(Ordering::Relaxed) {
                true => Err(Error::Interrupted("pictures that were finished are whole".into())),
                false => Ok(()),
            }
        })
    }
}

/// Words of a prompt that the checkpoint's text encoder does not hear, because it is longer than its tokens: how many tokens
/// it has and how many are heard. Nothing where all of it is.
///
/// Errors: a checkpoint without tokenizer or text encoder.
pub fn too_long(folder: &Folder, prompt: &str) -> Result<Option<[usize; 2]>> {
    let (heard, _) = encoding(folder)?;
    let tokenizer = crate::tokenizers::ClipTokenizer::open(folder.path().join("tokenizer"))?;
    let tokens = tokenizer.n_tokens(prompt)?;
    Ok((tokens > heard.saturating_sub(2)).then_some([tokens, heard.saturating_sub(2)]))
}
