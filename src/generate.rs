//! The journey: EEG in, frames out.
//!
//! ```text
//! Segments --features--> SemanticPredictor --> text [clip, tokens, width] --------------+
//!          --windows---> EEG2VideoTransformer --> z0 [clip, frames, h, w, 4] --+         |
//!          --samples---> GLMNet --> slow or fast ------------------------------DANA--> x_T
//!                                                         x_T, text --> denoise --> VAE --> Frames
//! ```
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `pipelines/pipeline_tuneeeg2video.py`; where that differs from the paper,
//! [`Settings::reproduce_original`] does it the script's way.

mod captions;
mod conditions;
mod denoise;
mod folder;
mod images;
mod text;
mod vocabulary;

pub use captions::{Caption, CaptionFolder, CaptionRun, CaptionSettings, Source};
pub use conditions::{Conditions, TEXTS, by_clip, semantic_input};
pub use denoise::{Guidance, denoise};
pub use folder::{Folder, Part};
pub use images::{ImageRun, ImageSettings, Order, too_long};
pub use text::encode_texts;

use crate::diffusion::{self, Plan, SchedulerConfig, dana};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::media::{Frames, frames::Rounding};
use crate::models::{Halves, Seq2SeqConfig, UNet, UNetConfig, Vae, VaeConfig};
use crate::nn::{self, Precision, Weights};
use crate::tensor::Tensor;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a user may choose; `None` follows the checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Denoising steps (PNDM calls the model once more).
    pub num_inference_steps: usize,
    /// Push away from the unconditional prediction; 1 and below turn it off.
    pub guidance_scale: f64,
    /// `ddim`, `pndm` or `dpmsolver++`.
    pub scheduler: Option<String>,
    /// Fresh noise per step, DDIM only: 0 none, 1 as much as DDPM.
    pub eta: f64,
    /// Frames of a clip.
    pub num_frames: Option<usize>,
    /// Pixels, a multiple of 8.
    pub height: Option<usize>,
    /// Pixels, a multiple of 8.
    pub width: Option<usize>,
    /// Of all noise; clip i of one seed is the same whatever the batch.
    pub seed: u64,
    /// Clips denoised together.
    pub batch_size: usize,
    /// Frames per second of the clips.
    pub frame_rate_fps: f64,
    /// Leave out what the semantic predictor says of the clip.
    pub without_semantic: bool,
    /// Steer by the semantic predictor's embeddings as they are, where the checkpoint has texts of which the nearest
    /// would be taken.
    pub texts_as_predicted: bool,
    /// Start from noise alone, not from predicted latents.
    pub without_seq2seq: bool,
    /// Noise every frame by itself, not by predicted motion.
    pub without_dana: bool,
    /// The original script's arithmetic: its features, its start latents, its truncation.
    pub reproduce_original: bool,
    /// Decode in tiles of this many latents a side; memory of one tile.
    pub vae_tile: Option<usize>,
    /// Activations in f16.
    pub half: bool,
}

impl Default for Settings {
    /// The paper's: 100 steps, guidance 12.5, 3 frames per second.
    fn default() -> Settings {
        Settings {
            num_inference_steps: 100,
            guidance_scale: 12.5,
            scheduler: None,
            eta: 0.0,
            num_frames: None,
            height: None,
            width: None,
            seed: 0,
            batch_size: 1,
            frame_rate_fps: 3.0,
            without_semantic: false,
            texts_as_predicted: false,
            without_seq2seq: false,
            without_dana: false,
            reproduce_original: false,
            vae_tile: None,
            half: false,
        }
    }
}

impl Settings {
    /// Number type of activations.
    pub fn precision(&self) -> Precision {
        if self.half { Precision::F16 } else { Precision::F32 }
    }

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
        if !(self.frame_rate_fps.is_finite() && (0.1..=100.0).contains(&self.frame_rate_fps)) {
            return wrong("--fps", format!("wanted 0.1 to 100, got {}", self.frame_rate_fps));
        }
        if self.batch_size == 0 || self.batch_size > 64 {
            return wrong("--batch-size", format!("wanted 1 to 64, got {}", self.batch_size));
        }
        if self.num_frames.is_some_and(|n| n == 0 || n > 128) {
            return wrong("--num-frames", format!("wanted 1 to 128, got {}", self.num_frames.unwrap_or(0)));
        }
        Ok(())
    }
}

/// Sizes of a run, settled between settings and checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Frames of a clip.
    pub num_frames: usize,
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// Latents.
    pub latent_height: usize,
    /// Latents.
    pub latent_width: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
}

/// What a run needs of the device, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Weights of UNet and decoder.
    pub weights: u64,
    /// Most at once, weights included, over encoding EEG, denoising and decoding.
    pub peak: u64,
}

/// A clip, decoded.
pub struct Clip {
    /// Place in the input.
    pub index: usize,
    /// Pictures.
    pub frames: Frames,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Model calls of all clips, done and in all.
    Denoising(usize, usize),
    /// A batch of clips goes through the decoder.
    Decoding,
}

/// Steps after which a sampler remembers as much as it ever will.
const FEW_STEPS: usize = 5;

/// A run about to start: sizes, walk and need are known, nothing is loaded.
#[derive(Clone)]
pub struct Run {
    gpu: Gpu,
    folder: Folder,
    settings: Settings,
    sizes: Sizes,
    plan: Plan,
    scheduler: String,
    warning: Option<String>,
    need: Need,
    unet: UNetConfig,
    vae: VaeConfig,
}

impl Run {
    /// Settles everything that can be settled without computing.
    ///
    /// Errors: [`Error::Setting`] for a flag out of range, [`Error::Format`] and [`Error::Weights`] for a
    /// checkpoint that does not fit together.
    pub fn new(gpu: &Gpu, folder: Folder, settings: Settings) -> Result<Run> {
        settings.check()?;
        let unet = UNetConfig::new(&folder.config(Part::Unet)?)?;
        let vae = VaeConfig::new(&folder.config(Part::Vae)?)?;
        let sizes = sizes(&folder, &settings, &unet, &vae)?;
        let config = match folder.scheduler_config() {
            Some(path) => SchedulerConfig::open(path)?,
            None => SchedulerConfig::stable_diffusion(),
        };
        let (scheduler, warning) = config.sampler_or(settings.scheduler.as_deref(), "ddim");
        let walk = |steps| diffusion::plan(&scheduler, &config, steps, settings.eta);
        let plan = walk(settings.num_inference_steps)?;
        let few = walk(settings.num_inference_steps.min(FEW_STEPS))?;
        let need = Need { weights: 0, peak: 0 };
        let mut run =
            Run { gpu: gpu.clone(), folder, settings, sizes, plan, scheduler, warning, need, unet, vae };
        run.need = run.reckon(few)?;
        Ok(run)
    }

    /// What was taken otherwise than the checkpoint says.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Sizes of the clips.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Memory it will take.
    pub fn need(&self) -> Need {
        self.need
    }

    /// The sampler's name.
    pub fn scheduler(&self) -> &str {
        &self.scheduler
    }

    /// Model calls per batch of clips.
    pub fn n_calls(&self) -> usize {
        self.plan.steps().len()
    }

    /// Settings as given.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The checkpoint.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Runs a few steps and one decode on a plan: the same code, no memory.
    fn reckon(&self, few: diffusion::Plan) -> Result<Need> {
        let plan = self.gpu.planner();
        let load = |part: Part| -> Result<Weights> {
            let checkpoint = Arc::new(self.folder.checkpoint(part)?);
            Ok(Weights::planned(&plan, Some(checkpoint), self.settings.precision()))
        };
        let unet = UNet::load(&load(Part::Unet)?, &self.unet, true)?;
        let vae = Vae::load(&load(Part::Vae)?, &self.vae, Halves::Decoder)?;
        let weights = plan.memory().live;
        let batch = self.settings.batch_size;
        let conditions = Conditions::planned(&self.folder, &self.settings, &self.sizes, batch)?;
        let run = Run { gpu: plan.clone(), plan: few, ..self.clone() };
        let clips: Vec<usize> = (0..batch).collect();
        let x = run.denoise_batch(&unet, &conditions, &clips, &AtomicBool::new(false), &mut |_| {})?;
        self.decode(&vae, &x.narrow(0, 0, self.sizes.num_frames)?)?;
        let peak = plan.memory().peak_reserved.max(conditions::need(&plan, &self.folder, &self.settings)?);
        Ok(Need { weights, peak })
    }

    /// Makes the clips of `conditions`, batch after batch, and hands each to `sink` as soon as it is whole.
    ///
    /// Errors: [`Error::Interrupted`] when `stop` is set, between steps; what `sink` returns; GPU trouble.
    pub fn make(
        &self,
        conditions: &Conditions,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(Stage),
        sink: &mut dyn FnMut(Clip) -> Result<()>,
    ) -> Result<()> {
        let precision = self.settings.precision();
        let unet = nn::open(&self.gpu, self.folder.checkpoint(Part::Unet)?, precision, |weights| {
            UNet::load(weights, &self.unet, true)
        })?
        .model;
        let vae_file = self.folder.checkpoint(Part::Vae)?;
        let vae = nn::open(&self.gpu, vae_file, precision, |weights| {
            Vae::load(weights, &self.vae, Halves::Decoder)
        })?
        .model;
        let total = conditions.n_clips() * self.n_calls();
        let mut done = 0;
        let clips: Vec<usize> = (0..conditions.n_clips()).collect();
        for batch in clips.chunks(self.settings.batch_size) {
            let latents = self.denoise_batch(&unet, conditions, batch, stop, &mut |calls| {
                watch(Stage::Denoising(done + calls * batch.len(), total));
            })?;
            done += self.n_calls() * batch.len();
            for (place, &index) in batch.iter().enumerate() {
                watch(Stage::Decoding);
                let n = self.sizes.num_frames;
                let pixels = self.decode(&vae, &latents.narrow(0, place * n, n)?)?;
                sink(Clip { index, frames: self.frames(&pixels)? })?;
            }
        }
        Ok(())
    }

    /// Start latents of some clips, walked down: [clips * frames, h, w, c].
    fn denoise_batch(
        &self,
        unet: &UNet,
        conditions: &Conditions,
        clips: &[usize],
        stop: &AtomicBool,
        watch: &mut dyn FnMut(usize),
    ) -> Result<Tensor> {
        let starts: Vec<Tensor> =
            clips.iter().map(|&clip| self.start(conditions, clip)).collect::<Result<_>>()?;
        let x = Tensor::concat(&starts.iter().collect::<Vec<_>>(), 0)?;
        let guided = self.settings.guidance_scale > 1.0 && conditions.has_text();
        let text = conditions.text(&self.gpu, clips, guided)?.cast(unet.dtype())?;
        let scale = if guided { self.settings.guidance_scale } else { 1.0 };
        let guidance = Guidance { scale, text: &text };
        let mut noise = |step: usize| -> Result<Tensor> {
            let of_clip = |&clip: &usize| {
                let stream = stream(clip, Use::Step(step));
                Tensor::normal(&self.gpu, &self.latent_shape(), self.settings.seed, stream)
            };
            let each: Vec<Tensor> = clips.iter().map(of_clip).collect::<Result<_>>()?;
            Tensor::concat(&each.iter().collect::<Vec<_>>(), 0)
        };
        let frames = self.sizes.num_frames;
        denoise(unet, &self.plan, x, &guidance, frames, Some(&mut noise), &mut |calls| {
            watch(calls);
            match stop.load(Ordering::Relaxed) {
                true => Err(Error::Interrupted("clips that were finished are whole".into())),
                false => Ok(()),
            }
        })
    }

    fn latent_shape(&self) -> [usize; 4] {
        let Sizes { num_frames, latent_height, latent_width, latent_channels, .. } = self.sizes;
        [num_frames, latent_height, latent_width, latent_channels]
    }

    /// x_T of one clip.
    fn start(&self, conditions: &Conditions, clip: usize) -> Result<Tensor> {
        let shape = self.latent_shape();
        let seed = self.settings.seed;
        let each = Tensor::normal(&self.gpu, &shape, seed, stream(clip, Use::Frames))?;
        let Some(z0) = conditions.latents(&self.gpu, clip)? else { return Ok(each) };
        let original = self.settings.reproduce_original;
        let scaling = self.vae.scaling_factor;
        let c = match conditions.motion(clip) {
            Some(motion) if original => dana::original(motion, seed, clip as u64)?,
            Some(motion) => dana::coefficients(&self.plan, motion, scaling)?,
            // Without DANA the script takes the predicted latents as they are.
            None if original => return Ok(z0),
            None => dana::plain(&self.plan, scaling)?,
        };
        if c.shared == 0.0 {
            return Tensor::combine(&[(&z0, c.latents), (&each, c.each)]);
        }
        let [_, h, w, channels] = shape;
        let shared = Tensor::normal(&self.gpu, &[1, h, w, channels], seed, stream(clip, Use::Shared))?;
        Tensor::combine(&[(&z0, c.latents), (&each, c.each), (&shared.expand(&shape)?, c.shared)])
    }

    fn decode(&self, vae: &Vae, latents: &Tensor) -> Result<Tensor> {
        decode(vae, latents, self.vae.scaling_factor, self.settings.vae_tile)
    }

    fn frames(&self, pixels: &Tensor) -> Result<Frames> {
        let rounding = if self.settings.reproduce_original { Rounding::Truncate } else { Rounding::Nearest };
        frames(pixels, self.settings.half, rounding, self.settings.frame_rate_fps)
    }
}

/// Scaled latents [pictures, h, w, c] to pixels, one picture at a time.
fn decode(vae: &Vae, latents: &Tensor, scaling: f64, tile: Option<usize>) -> Result<Tensor> {
    let latents = latents.scale((1.0 / scaling) as f32, 0.0)?.cast(vae.dtype())?;
    match tile {
        Some(tile) => vae.decode_tiled(&latents, tile),
        None => vae.decode_sliced(&latents),
    }
}

/// Pixels in [-1, 1] to pictures.
fn frames(pixels: &Tensor, half: bool, rounding: Rounding, frame_rate_fps: f64) -> Result<Frames> {
    let &[count, height, width, _] = pixels.shape() else {
        return Err(Error::shape("frames", format!("wanted pictures, got {:?}", pixels.shape())));
    };
    let unit = pixels.scale(0.5, 0.5)?.to_vec()?;
    if let Some(at) = unit.iter().position(|v| !v.is_finite()) {
        let detail = format!(
            "value {at} of the decoded pixels is not a number; the checkpoint may be broken{}",
            if half { ", or too large for f16: try --dtype f32" } else { "" }
        );
        return Err(Error::Device(detail));
    }
    Frames::from_unit(&unit, count, height, width, frame_rate_fps, rounding)
}

/// What a stream of noise is for; every use of every clip has its own.
enum Use {
    Frames,
    Shared,
    Step(usize),
}

fn stream(clip: usize, purpose: Use) -> u64 {
    let low = match purpose {
        Use::Frames => 0,
        Use::Shared => 1,
        Use::Step(step) => 2 + step as u64,
    };
    (clip as u64) << 20 | low
}

/// Settles frames, height and width: what was asked for, else what the checkpoint says, else what its parts imply.
fn sizes(folder: &Folder, settings: &Settings, unet: &UNetConfig, vae: &VaeConfig) -> Result<Sizes> {
    let scale = vae.downscale();
    let said = |key: &str| {
        folder.index().map_or(Ok(None), |index| index.get(key).map(|_| index.size(key)).transpose())
    };
    let side = unet.sample_size.map(|side| side * scale);
    let (height, width) = match (said("height")?, said("width")?, side) {
        (Some(height), Some(width), _) => (height, width),
        // The size EEG2Video fine-tunes Stable Diffusion v1-4 at.
        (_, _, Some(512)) | (_, _, None) => (288, 512),
        (_, _, Some(side)) => (side, side),
    };
    let (height, width) = (settings.height.unwrap_or(height), settings.width.unwrap_or(width));
    let num_frames = settings.num_frames.or(said("num_frames")?).unwrap_or(6);
    for (flag, pixels) in [("--height", height), ("--width", width)] {
        if pixels == 0 || pixels % scale != 0 || pixels > 8192 {
            let near = (pixels.clamp(scale, 8192) + scale / 2) / scale * scale;
            let detail =
                format!("wanted a multiple of {scale} up to 8192, got {pixels}; the nearest is {near}");
            return Err(Error::setting(flag, detail));
        }
    }
    if vae.latent_channels != unet.in_channels || unet.in_channels != unet.out_channels {
        let detail = format!(
            "the VAE has {} latent channels, the UNet takes {} and gives {}",
            vae.latent_channels, unet.in_channels, unet.out_channels
        );
        return Err(Error::format(folder.path(), detail));
    }
    if folder.has(Part::Seq2seq) && !settings.without_seq2seq {
        let seq2seq = Seq2SeqConfig::new(&folder.config(Part::Seq2seq)?)?;
        let predicted = (seq2seq.n_windows - 1, seq2seq.latent_shape);
        if predicted != (num_frames, [vae.latent_channels, height / scale, width / scale]) {
            let (frames, [_, h, w]) = predicted;
            let detail = format!(
                "seq2seq predicts {frames} frames of {} x {} pixels, {num_frames} of {height} x {width} were asked for; \
                 leave them to the checkpoint, or give --without-seq2seq",
                h * scale,
                w * scale
            );
            return Err(Error::setting("--num-frames, --height, --width", detail));
        }
    }
    Ok(Sizes {
        num_frames,
        height,
        width,
        latent_height: height / scale,
        latent_width: width / scale,
        latent_channels: vae.latent_channels,
    })
}
