//! The diffusion fine-tune of Tune-A-Video and EEG2Video: a video UNet learns to tell the noise in noised latents.
//!
//! ```text
//! latents x, noise e, one time t per video:   loss = mean (UNet(sqrt(a_t) x + sqrt(1 - a_t) e, t, text) - e)²
//! ```
//!
//! By default only the query projections and the temporal attention learn. Text is an embedding per clip or per class,
//! dropped to the unconditional one now and then (without which guidance pushes away from something nobody learnt), and
//! noised, where asked for, so that an embedding that EEG only comes near is still one the UNet has seen.
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG2Video_New/Generation/train_finetune_videodiffusion.py` and showlab/Tune-A-Video
//! 7d4a89a; Hu et al. 2021 for adapters, Ho and Salimans 2022 for dropped conditions.

use super::checkpoint::Values;
use super::fit::{Fit, Plan, stream};
use super::optimizer::{Group, Optimizer, Rule, matches};
use super::trainer::{Settings, Trainer};
use crate::data::TextTable;
use crate::diffusion::{Prediction, Schedule};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{Config, UNet, UNetConfig};
use crate::nn::{self, Parameters, Precision, Weights, loss};
use crate::ops::random_words;
use crate::tensor::{DType, Tensor};
use crate::weights::{self, Checkpoint, Wanted};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the originals train: every parameter under modules of these names.
pub const TRAINABLE: [&str; 3] = ["attn1.to_q", "attn2.to_q", "attn_temp"];

/// Matrices that get adapters: every projection of an attention.
const ADAPTED: [&str; 4] = [".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_out.0.weight"];

/// Low-rank adapters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lora {
    /// Rows of A.
    pub rank: usize,
    /// Their product counts alpha / rank times.
    pub alpha: f64,
}

/// Which tensors learn.
#[derive(Clone, Debug, PartialEq)]
pub struct Learning {
    /// Patterns of names; `*` is all of them.
    pub trainable: Vec<String>,
    /// Adapters on the attentions' projections.
    pub lora: Option<Lora>,
    /// Of what is not in the file.
    pub seed: u64,
}

/// The tensors of a UNet to be trained: what learns in f32, what is frozen as the file holds it. Temporal layers that
/// the file lacks begin as Tune-A-Video begins them, but for a bias of 0: adding nothing. Without a file everything has
/// PyTorch's first values.
///
/// On a plan nothing is read but names and shapes.
///
/// Errors: [`Error::Weights`] for a file of another model; [`Error::Setting`] for a pattern that no name holds.
pub fn parameters(
    gpu: &Gpu,
    sizes: &UNetConfig,
    file: Option<&Arc<Checkpoint>>,
    precision: Precision,
    learning: &Learning,
) -> Result<Parameters> {
    let mut wanted = nn::wanted(|weights| UNet::load(weights, sizes, true))?;
    for tensor in &mut wanted {
        tensor.optional = tensor.name.contains("_temp.");
    }
    if let Some(file) = file {
        weights::check(file, &wanted, false)?;
        if !gpu.is_plan() {
            weights::refuse_nonfinite(file)?;
        }
    }
    let holds = |pattern: &String| wanted.iter().any(|tensor| matches(pattern, &tensor.name));
    if let Some(idle) = learning.trainable.iter().find(|pattern| !holds(pattern)) {
        let detail = format!(
            "no parameter's name holds '{}'; names are like '{}'",
            idle.escape_debug(),
            wanted
                .iter()
                .map(|tensor| tensor.name.as_str())
                .find(|name| name.contains("attn1"))
                .unwrap_or_default()
        );
        return Err(Error::setting("trainable", detail));
    }
    let new = |tensor: &Wanted| nn::initial_of(tensor, &wanted, learning.seed);
    let mut tensors = BTreeMap::new();
    for tensor in &wanted {
        let (name, shape) = (&tensor.name, &tensor.shape);
        let adapted =
            learning.lora.filter(|_| shape.len() == 2 && ADAPTED.iter().any(|part| name.ends_with(part)));
        let learns = learning.trainable.iter().any(|pattern| matches(pattern, name));
        let view = file.and_then(|file| file.get(name));
        let is_whole = file.is_none() || view.is_none() || learns || adapted.is_some();
        if is_whole {
            let values = || match &view {
                Some(view) => weights::to_f32(view),
                None if file.is_some() => Ok(inflated(tensor, &wanted, learning.seed)),
                None => Ok(new(tensor)),
            };
            // What adapters change stays as the file has it.
            let half = !learns && view.as_ref().is_some_and(|view| view.dtype == weights::Dtype::F16);
            let value = make(gpu, shape, values)?;
            let value = if half { value.cast(DType::F16)? } else { value };
            tensors.insert(name.clone(), if learns { value.parameter() } else { value });
        }
        if let (Some(Lora { rank, .. }), &[outputs, inputs]) = (adapted, shape.as_slice()) {
            let module = name.trim_end_matches(".weight");
            for (part, shape) in [("lora_A", [rank, inputs]), ("lora_B", [outputs, rank])] {
                let tensor = Wanted::new(format!("{module}.{part}.weight"), shape);
                let values = || match part {
                    "lora_A" => Ok(new(&tensor)),
                    _ => Ok(vec![0.0; outputs * rank]),
                };
                tensors.insert(tensor.name.clone(), make(gpu, &shape, values)?.parameter());
            }
        }
    }
    let parameters = Parameters::new(tensors);
    let parameters = match learning.lora {
        Some(lora) => parameters.with_adapters(lora.alpha / lora.rank as f64),
        None => parameters,
    };
    Ok(match file {
        Some(file) if gpu.is_plan() => parameters.over(Weights::planned(gpu, Some(file.clone()), precision)),
        Some(file) => parameters.over(Weights::of_file(gpu, file.clone(), precision)),
        None => parameters,
    })
}

/// A temporal layer that a 2-D checkpoint lacks.
fn inflated(tensor: &Wanted, model: &[Wanted], seed: u64) -> Vec<f32> {
    match tensor.name.contains(".to_out.") {
        true => vec![0.0; tensor.shape.iter().product()],
        false => nn::initial_of(tensor, model, seed),
    }
}

fn make(gpu: &Gpu, shape: &[usize], values: impl FnOnce() -> Result<Vec<f32>>) -> Result<Tensor> {
    match gpu.is_plan() {
        true => Tensor::empty(gpu, shape, DType::F32),
        false => Tensor::new(gpu, shape, &values()?),
    }
}

/// Videos to learn from, with what they are seen by.
#[derive(Clone)]
pub struct Batch {
    /// Clean latents, scaled, `[batch * frames, height, width, channels]`, f32.
    pub latents: Tensor,
    /// Noise of the same shape.
    pub noise: Tensor,
    /// One time per video.
    pub timesteps: Vec<usize>,
    /// `[batch, tokens, width]`.
    pub text: Tensor,
    /// Frames of a video.
    pub frames: usize,
    /// What the error of each video counts; all alike without.
    pub shares: Option<Vec<f64>>,
}

/// DDPM's loss, in f32: the mean square of what the UNet's output lacks, each video's times its share.
///
/// Errors: [`Error::Shape`] where the parts do not go together; [`Error::Setting`] for a time past the schedule's end.
pub fn noise_loss(unet: &UNet, schedule: &Schedule, prediction: Prediction, batch: &Batch) -> Result<Tensor> {
    let gpu = batch.latents.gpu();
    let n = batch.timesteps.len();
    let (mut signal, mut noise) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for &t in &batch.timesteps {
        let (a, b) = schedule.add_noise(t)?;
        signal.push(a as f32);
        noise.push(b as f32);
    }
    let size = batch.latents.len() / n.max(1);
    let rows = |tensor: &Tensor| tensor.reshape(&[n, size]);
    let share = |values: &[f32]| Tensor::new(gpu, &[n, 1], values);
    let (signal, noise_share) = (share(&signal)?, share(&noise)?);
    let (x, e) = (rows(&batch.latents)?, rows(&batch.noise)?);
    let noised = x.mul(&signal)?.add(&e.mul(&noise_share)?)?.reshape(batch.latents.shape())?;
    let target = match prediction {
        Prediction::Epsilon => e,
        Prediction::V => e.mul(&signal)?.sub(&x.mul(&noise_share)?)?,
    };
    let times: Vec<f64> = batch.timesteps.iter().map(|&t| t as f64).collect();
    let text = batch.text.cast(unet.dtype())?;
    let output = unet.forward(&noised.cast(unet.dtype())?, &times, &text, batch.frames)?;
    let (mut output, mut target) = (rows(&output.cast(DType::F32)?)?, target);
    if let Some(shares) = &batch.shares {
        let roots: Vec<f32> = shares.iter().map(|share| share.sqrt() as f32).collect();
        let roots = share(&roots)?;
        (output, target) = (output.mul(&roots)?, target.mul(&roots)?);
    }
    loss::mse(&output, &target)
}

/// Clips as the UNet sees them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Videos {
    /// Frames, height, width, channels of one clip's latents.
    pub shape: [usize; 4],
    /// Means of the posterior, scaled, clip after clip.
    pub means: Vec<f32>,
    /// Its deviations, scaled; empty: the means are learnt from, not samples.
    pub deviations: Vec<f32>,
    /// Row of each clip's text.
    pub texts: Vec<usize>,
}

impl Videos {
    /// The clips from `at` on, taken out.
    pub fn split_off(&mut self, at: usize) -> Videos {
        let size: usize = self.shape.iter().product();
        let part = |values: &mut Vec<f32>| values.split_off((at * size).min(values.len()));
        Videos {
            shape: self.shape,
            means: part(&mut self.means),
            deviations: part(&mut self.deviations),
            texts: self.texts.split_off(at),
        }
    }
}

/// What is drawn for a step.
#[derive(Clone, Debug)]
pub struct Objective {
    /// ᾱ by time.
    pub schedule: Schedule,
    /// What the UNet's output means.
    pub prediction: Prediction,
    /// Share of texts dropped to the negative one.
    pub dropout: f64,
    /// Deviation of noise on texts that are kept.
    pub condition_noise: f64,
    /// Frames of each clip that a step sees, one after another, from a place drawn anew; one: stills. At most the
    /// clip's.
    pub frames: usize,
    /// Signal-to-noise ratio above which a time counts less, so that all ask for the same of the latents: the min-SNR
    /// weights of Hang et al. 2023, whose γ is 5. None: all times count alike.
    pub snr_gamma: Option<f64>,
    /// Of everything drawn.
    pub seed: u64,
}

/// Uses of a micro-batch's streams.
const CHOICES: u8 = 1;
const LATENTS: u8 = 2;
const NOISE: u8 = 3;
const TEXT: u8 = 4;

impl Objective {
    /// A micro-batch of these clips; its number and the seed draw the rest.
    ///
    /// Errors: [`Error::Device`].
    pub fn batch(
        &self,
        gpu: &Gpu,
        videos: &Videos,
        texts: &TextTable,
        chosen: &[usize],
        number: u64,
    ) -> Result<Batch> {
        let mut words = random_words(self.seed, stream(number, CHOICES));
        let mut below = |n: u64| ((u64::from(words.next().unwrap_or(0)) * n) >> 32) as usize;
        let n_times = self.schedule.alphas_cumprod().len() as u64;
        let mut timesteps = Vec::new();
        let mut dropped = Vec::new();
        for _ in chosen {
            timesteps.push(below(n_times));
            dropped.push((below(1 << 24) as f64) < self.dropout * f64::from(1 << 24));
        }
        let mut text = Vec::new();
        for (place, (&clip, dropped)) in chosen.iter().zip(dropped).enumerate() {
            let row = texts.row(videos.texts[clip]);
            match (dropped, self.condition_noise > 0.0) {
                (true, _) => text.extend_from_slice(texts.negative()),
                (false, false) => text.extend_from_slice(row),
                (false, true) => {
                    let start = (place * row.len()) as u64;
                    let noise = Tensor::normal_host(self.seed, stream(number, TEXT), start, row.len());
                    text.extend(row.iter().zip(noise).map(|(v, n)| v + self.condition_noise as f32 * n));
                }
            }
        }
        let places = videos.shape[0] - self.frames + 1;
        // A clip seen whole draws nothing.
        let starts = chosen.iter().map(|_| if places > 1 { below(places as u64) } else { 0 });
        let windows: Vec<_> = chosen.iter().copied().zip(starts).collect();
        let latents = self.latents(gpu, videos, &windows, self.frames, stream(number, LATENTS))?;
        let noise = Tensor::normal(gpu, latents.shape(), self.seed, stream(number, NOISE))?;
        let text = Tensor::new(gpu, &[chosen.len(), texts.tokens, texts.width], &text)?;
        let shares = self.snr_gamma.map(|gamma| timesteps.iter().map(|&t| self.share(t, gamma)).collect());
        Ok(Batch { latents, noise, timesteps, text, frames: self.frames, shares })
    }

    /// min(SNR, γ) / SNR for noise, / (SNR + 1) for velocities.
    fn share(&self, t: usize, gamma: f64) -> f64 {
        let signal = self.schedule.alphas_cumprod()[t];
        let snr = signal / (1.0 - signal);
        snr.min(gamma)
            / match self.prediction {
                Prediction::Epsilon => snr,
                Prediction::V => snr + 1.0,
            }
    }

    /// Clips at times spread over the schedule, each with noise of its own that is the same every time: to measure by.
    ///
    /// Errors: [`Error::Device`].
    pub fn fixed(&self, gpu: &Gpu, videos: &Videos, texts: &TextTable, clip: usize) -> Result<Batch> {
        let n = videos.texts.len();
        // Neighbours are far apart in time.
        let place = (clip * 7919) % n.max(1);
        let times = self.schedule.alphas_cumprod().len();
        let number = (1 << 40) + clip as u64;
        let latents = self.latents(gpu, videos, &[(clip, 0)], videos.shape[0], stream(number, LATENTS))?;
        let noise = Tensor::normal(gpu, latents.shape(), self.seed, stream(number, NOISE))?;
        let text = Tensor::new(gpu, &[1, texts.tokens, texts.width], texts.row(videos.texts[clip]))?;
        let timesteps = vec![(2 * place + 1) * times / (2 * n.max(1))];
        Ok(Batch { latents, noise, timesteps, text, frames: videos.shape[0], shares: None })
    }

    /// So many frames of each clip, from its first one named.
    fn latents(
        &self,
        gpu: &Gpu,
        videos: &Videos,
        windows: &[(usize, usize)],
        frames: usize,
        stream: u64,
    ) -> Result<Tensor> {
        let [all, height, width, channels] = videos.shape;
        let size = height * width * channels;
        let shape = [windows.len() * frames, height, width, channels];
        let pick = |values: &[f32]| {
            let window = |&(clip, start): &(usize, usize)| {
                let first = (clip * all + start) * size;
                &values[first..first + frames * size]
            };
            let values: Vec<f32> = windows.iter().flat_map(window).copied().collect();
            Tensor::new(gpu, &shape, &values)
        };
        let mean = pick(&videos.means)?;
        match videos.deviations.is_empty() {
            true => Ok(mean),
            false => {
                mean.add(&Tensor::normal(gpu, &shape, self.seed, stream)?.mul(&pick(&videos.deviations)?)?)
            }
        }
    }
}

/// The UNet of weights that learn, or that are measured.
///
/// Errors: those of [`UNet::load`].
pub fn model(weights: &Weights, sizes: &UNetConfig, recomputes: bool) -> Result<UNet> {
    let unet = UNet::load(weights, sizes, true)?;
    Ok(if recomputes { unet.recomputing(weights.training()) } else { unet })
}

/// How a step is made, for [`need`].
#[derive(Clone, Debug)]
pub struct Step {
    /// Videos of a micro-batch.
    pub batch: usize,
    /// Frames, height, width, channels of one clip's latents.
    pub latents: [usize; 4],
    /// Of a text.
    pub tokens: usize,
    /// Gradient checkpointing.
    pub recomputes: bool,
    /// Whether an average is kept.
    pub ema: bool,
}

/// Memory of a device like `gpu` to train: what lies there between steps, and the most at once. Two steps are made on a
/// plan; nothing is allocated.
///
/// Errors: as [`parameters`] and the model's own.
pub fn need(
    gpu: &Gpu,
    sizes: &UNetConfig,
    file: Option<&Arc<Checkpoint>>,
    learning: &Learning,
    settings: &Settings,
    rule: Rule,
    step: &Step,
) -> Result<[u64; 2]> {
    let plan = gpu.planner();
    let parameters = parameters(&plan, sizes, file, settings.precision, learning)?;
    let group = Group { pattern: String::new(), rate: 1.0, decay: 0.0 };
    let trainer = Trainer::new(&plan, parameters, Optimizer::new(rule, vec![group]), settings.clone())?;
    let mut fit = Fit::new(trainer, Plan { ema: step.ema.then_some(0.5), ..Plan::default() })?;
    let schedule = crate::diffusion::SchedulerConfig::stable_diffusion().schedule()?;
    let [frames, height, width, channels] = step.latents;
    let shape = [step.batch * frames, height, width, channels];
    for _ in 0..2 {
        fit.rehearse(&mut |weights, _, _| {
            let batch = Batch {
                latents: Tensor::empty(&plan, &shape, DType::F32)?,
                noise: Tensor::normal(&plan, &shape, 0, 0)?,
                timesteps: vec![0; step.batch],
                text: Tensor::empty(
                    &plan,
                    &[step.batch, step.tokens, sizes.cross_attention_dim],
                    DType::F32,
                )?,
                frames,
                shares: None,
            };
            let unet = model(weights, sizes, step.recomputes)?;
            noise_loss(&unet, &schedule, Prediction::Epsilon, &batch)
        })?;
    }
    let memory = plan.memory();
    Ok([memory.live, memory.peak_reserved])
}

/// What [`Fit::result`] gave, made whole for a file: adapters multiplied into their matrices, what was frozen but is in
/// no file put beside. Returns the adapters apart.
///
/// Errors: [`Error::Device`].
pub fn merged(fit: &Fit, learning: &Learning) -> Result<(Values, Values)> {
    let (adapters, mut values): (Values, Values) =
        fit.result()?.into_iter().partition(|(name, _)| name.contains(".lora_"));
    for (name, tensor) in fit.trainer().parameters().iter() {
        if !values.contains_key(name) && !adapters.contains_key(name) {
            values.insert(name.to_string(), (tensor.shape().to_vec(), tensor.to_vec()?));
        }
    }
    let Some(lora) = learning.lora else { return Ok((values, adapters)) };
    let scale = lora.alpha / lora.rank as f64;
    for (name, (shape, b)) in &adapters {
        let Some(module) = name.strip_suffix(".lora_B.weight") else { continue };
        let a = adapters.get(&format!("{module}.lora_A.weight"));
        let weight = values.get_mut(&format!("{module}.weight"));
        let (Some((_, a)), Some((_, weight)), &[outputs, rank]) = (a, weight, shape.as_slice()) else {
            continue;
        };
        let inputs = a.len() / rank.max(1);
        for output in 0..outputs {
            for input in 0..inputs {
                let product = |r: usize| f64::from(b[output * rank + r]) * f64::from(a[r * inputs + input]);
                let change: f64 = (0..rank).map(product).sum();
                let place = &mut weight[output * inputs + input];
                *place = (f64::from(*place) + scale * change) as f32;
            }
        }
    }
    Ok((values, adapters))
}

/// The config of a UNet that has become one of videos: a 2-D one gets the names of the 3-D blocks.
///
/// Errors: [`Error::Format`].
pub fn video_config(config: &Config) -> Result<Config> {
    let mut config = config.clone().with("_class_name", "UNet3DConditionModel");
    for key in ["down_block_types", "up_block_types"] {
        let names: Vec<String> = config.words(key)?.iter().map(|name| name.replace("2D", "3D")).collect();
        config = config.with(key, json!(names));
    }
    let mid = config.word_or("mid_block_type", "UNetMidBlock3DCrossAttn")?.replace("2D", "3D");
    Ok(config.with("mid_block_type", mid))
}

#[cfg(test)]
mod tests {
    use super::super::rates::{Course, Rates};
    use super::*;
    use crate::diffusion::SchedulerConfig;
    use crate::models::preset;
    use crate::testing::{gpu, random_from};

    /// A UNet of two levels.
    fn small() -> UNetConfig {
        let config = json!({
            "_class_name": "UNet3DConditionModel",
            "attention_head_dim": 2,
            "block_out_channels": [8, 16],
            "cross_attention_dim": 6,
            "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
            "in_channels": 2,
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "out_channels": 2,
            "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
        });
        let config = Config::from_json("config.json", config.to_string().as_bytes()).unwrap();
        UNetConfig::new(&config).unwrap()
    }

    fn settings(precision: Precision) -> Settings {
        let rates = Rates { base: 2e-3, warmup: 0, course: Course::Constant };
        Settings { seed: 0, rates, clip_norm: Some(1.0), accumulate: 1, precision }
    }

    fn all() -> Learning {
        Learning { trainable: vec!["*".into()], lora: None, seed: 3 }
    }

    fn batch(gpu: &Gpu) -> Batch {
        let values = |seed, n| random_from(seed, n, 1.0);
        Batch {
            latents: Tensor::new(gpu, &[4, 4, 6, 2], &values(1, 192)).unwrap(),
            noise: Tensor::new(gpu, &[4, 4, 6, 2], &values(2, 192)).unwrap(),
            timesteps: vec![300, 700],
            text: Tensor::new(gpu, &[2, 3, 6], &values(3, 36)).unwrap(),
            frames: 2,
            shares: None,
        }
    }

    fn trainer(gpu: &Gpu, learning: &Learning) -> Trainer {
        let parameters = parameters(gpu, &small(), None, Precision::F32, learning).unwrap();
        Trainer::new(gpu, parameters, Optimizer::new(Rule::ADAMW, vec![]), settings(Precision::F32)).unwrap()
    }

    #[test]
    fn fifty_steps_lower_the_loss_of_a_fixed_batch() {
        let Some(gpu) = gpu() else { return };
        let schedule = SchedulerConfig::stable_diffusion().schedule().unwrap();
        let (sizes, batch) = (small(), batch(&gpu));
        let mut trainer = trainer(&gpu, &all());
        let mut losses = Vec::new();
        for _ in 0..50 {
            let stepped = trainer.step(1.0, |weights, _| {
                noise_loss(&model(weights, &sizes, false)?, &schedule, Prediction::Epsilon, &batch)
            });
            losses.push(stepped.unwrap().loss.to_vec().unwrap()[0]);
        }
        assert!(losses[49] < 0.5 * losses[0], "{losses:?}");
    }

    #[test]
    fn an_error_counts_by_its_share() {
        let Some(gpu) = gpu() else { return };
        let schedule = SchedulerConfig::stable_diffusion().schedule().unwrap();
        let trainer = trainer(&gpu, &all());
        let loss = |shares| {
            let batch = Batch { shares, ..batch(&gpu) };
            let unet = model(&trainer.weights(), &small(), false).unwrap();
            let loss = noise_loss(&unet, &schedule, Prediction::Epsilon, &batch).unwrap();
            f64::from(loss.to_vec().unwrap()[0])
        };
        let [first, second] = [[1.0, 0.0], [0.0, 1.0]].map(|shares| loss(Some(shares.to_vec())));
        assert!(first > 0.0 && second > 0.0 && (first / second - 1.0).abs() > 1e-3, "{first} {second}");
        let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-5, "{a} {b}");
        near(loss(None), first + second);
        near(loss(Some(vec![0.25, 2.0])), 0.25 * first + 2.0 * second);
    }

    #[test]
    fn recomputed_layers_have_the_same_gradients() {
        let Some(gpu) = gpu() else { return };
        let schedule = SchedulerConfig::stable_diffusion().schedule().unwrap();
        let (sizes, batch) = (small(), batch(&gpu));
        for learning in [all(), Learning { trainable: TRAINABLE.map(String::from).to_vec(), ..all() }] {
            let [plain, again] = [false, true].map(|recomputes| {
                let parameters = Arc::new(parameters(&gpu, &sizes, None, Precision::F32, &learning).unwrap());
                let weights = Weights::from_parameters(&gpu, &parameters, Precision::F32, None);
                let unet = model(&weights, &sizes, recomputes).unwrap();
                let loss = noise_loss(&unet, &schedule, Prediction::Epsilon, &batch).unwrap();
                let gradients = loss.backward().unwrap();
                let value =
                    |tensor: &Tensor| gradients.get(tensor).map(|gradient| gradient.to_vec().unwrap());
                parameters.iter().map(|(name, tensor)| (name.to_string(), value(tensor))).collect::<Vec<_>>()
            });
            // What is used by several layers is summed in another order.
            for ((name, plain), (_, again)) in plain.iter().zip(&again) {
                assert_eq!(plain.is_some(), again.is_some(), "{name}");
                let (Some(plain), Some(again)) = (plain, again) else { continue };
                let wide: Vec<f64> = plain.iter().copied().map(f64::from).collect();
                crate::testing::assert_close(again, &wide, 1e-5, name);
            }
            let learnt = plain.iter().filter(|(_, gradient)| gradient.is_some()).count();
            let wanted = if learning.trainable.len() == 1 { plain.len() } else { 7 * 4 };
            assert_eq!(learnt, wanted);
        }
    }

    #[test]
    fn adapters_begin_as_nothing_and_are_merged() {
        let Some(gpu) = gpu() else { return };
        let schedule = SchedulerConfig::stable_diffusion().schedule().unwrap();
        let (sizes, batch) = (small(), batch(&gpu));
        let learning = Learning { trainable: vec![], lora: Some(Lora { rank: 2, alpha: 4.0 }), seed: 3 };
        let trainer = trainer(&gpu, &learning);
        let plain = Arc::new(parameters(&gpu, &sizes, None, Precision::F32, &all()).unwrap());
        let value = |weights: &Weights| {
            let unet = model(weights, &sizes, false).unwrap();
            noise_loss(&unet, &schedule, Prediction::Epsilon, &batch).unwrap().to_vec().unwrap()[0]
        };
        let first = value(&Weights::from_parameters(&gpu, &plain, Precision::F32, None));
        assert_eq!(value(&trainer.weights()), first, "B is 0");
        let folder = tempfile::tempdir().unwrap();
        let mut fit = Fit::new(trainer, Plan { steps: 5, ..Plan::default() }).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let mut place = super::super::fit::Place {
            folder: folder.path(),
            resume: false,
            stop: &stop,
            stop_after: None,
            progress: &mut |_| (),
        };
        let mut loss = |weights: &Weights, _: u64, _: usize| {
            noise_loss(&model(weights, &sizes, false)?, &schedule, Prediction::Epsilon, &batch)
        };
        fit.run(&mut place, &mut loss, &mut |_, _| Ok(vec![])).unwrap();
        let (values, adapters) = merged(&fit, &learning).unwrap();
        assert_eq!((values.len(), adapters.len()), (plain.iter().count(), 2 * 4 * 3 * 4));
        let tensors = values
            .iter()
            .map(|(name, (shape, values))| (name.clone(), Tensor::new(&gpu, shape, values).unwrap()));
        let whole = Arc::new(Parameters::new(tensors.collect()));
        let got = value(&Weights::from_parameters(&gpu, &whole, Precision::F32, None));
        let want = value(&fit.weights());
        assert!((got - want).abs() < 1e-5 * want && want < first, "{first} {got} {want}");
    }

    #[test]
    fn draws_depend_on_seed_and_number_alone() {
        let Some(gpu) = gpu() else { return };
        let schedule = SchedulerConfig::stable_diffusion().schedule().unwrap();
        let texts = TextTable::new([2, 3], vec![1.0; 24], vec![-5.0; 6]).unwrap();
        let videos = Videos {
            shape: [2, 1, 3, 1],
            means: (0..24).map(|v| v as f32).collect(),
            deviations: vec![],
            texts: vec![0, 1, 2, 3],
        };
        let objective = Objective {
            schedule,
            prediction: Prediction::Epsilon,
            dropout: 0.5,
            condition_noise: 0.1,
            frames: 2,
            snr_gamma: Some(5.0),
            seed: 7,
        };
        let batch = |number| objective.batch(&gpu, &videos, &texts, &[2, 0], number).unwrap();
        let values = |batch: &Batch| [&batch.latents, &batch.noise, &batch.text].map(|t| t.to_vec().unwrap());
        assert_eq!(values(&batch(5)), values(&batch(5)));
        assert_ne!(values(&batch(5))[1], values(&batch(6))[1]);
        assert_eq!(values(&batch(5))[0], [12., 13., 14., 15., 16., 17., 0., 1., 2., 3., 4., 5.]);
        let (mut dropped, mut times, mut shares) = (0, Vec::new(), Vec::new());
        for number in 0..200 {
            let batch = batch(number);
            dropped += batch.text.to_vec().unwrap().chunks(6).filter(|row| row[0] == -5.0).count();
            times.extend(batch.timesteps);
            shares.extend(batch.shares.unwrap());
        }
        assert!((150..250).contains(&dropped), "{dropped} of 400");
        let mean = times.iter().sum::<usize>() as f64 / 400.0;
        assert!((450.0..550.0).contains(&mean) && times.iter().all(|&t| t < 1000), "{mean}");
        let fixed = |clip| objective.fixed(&gpu, &videos, &texts, clip).unwrap();
        assert_eq!([0, 1, 2, 3].map(|clip| fixed(clip).timesteps[0]), [125, 875, 625, 375]);
        assert!(fixed(0).shares.is_none(), "measured alike");
        for (t, share) in times.iter().zip(&shares) {
            let signal = objective.schedule.alphas_cumprod()[*t];
            let snr = signal / (1.0 - signal);
            assert!((share - (5.0 / snr).min(1.0)).abs() < 1e-12, "{t}: {share}");
        }
        assert!(shares.iter().any(|&share| share < 0.5) && shares.contains(&1.0));
        let stills = Objective { frames: 1, ..objective.clone() };
        let mut seen = [0; 4];
        for number in 0..100 {
            let batch = stills.batch(&gpu, &videos, &texts, &[2, 0], number).unwrap();
            assert_eq!((batch.frames, batch.noise.shape()), (1, &[2, 1, 3, 1][..]));
            let values = batch.latents.to_vec().unwrap();
            for (at, frame) in values.chunks(3).enumerate() {
                let first = frame[0] - [12.0, 0.0][at];
                assert!([0.0, 3.0].contains(&first) && frame[2] == frame[0] + 2.0, "{frame:?}");
                seen[2 * at + usize::from(first > 0.0)] += 1;
            }
        }
        assert!(seen.iter().all(|&n| n > 30), "{seen:?}: each frame is drawn as often");
        assert_eq!(stills.fixed(&gpu, &videos, &texts, 1).unwrap().frames, 2, "measured whole");
        let velocity = Objective { prediction: Prediction::V, ..objective.clone() };
        let (even, later) = (velocity.share(0, 5.0), velocity.share(999, 5.0));
        assert!(even < 0.01 && later < 0.01, "{even} {later}: velocities count their own way");
    }

    /// A file that holds these tensors, all zeros in f16, and takes no room on the disk.
    fn sparse(folder: &std::path::Path, wanted: &[Wanted]) -> Checkpoint {
        let mut header = serde_json::Map::new();
        let mut end = 0_u64;
        for tensor in wanted {
            let start = end;
            end += 2 * tensor.shape.iter().product::<usize>() as u64;
            header.insert(
                tensor.name.clone(),
                json!({ "dtype": "F16", "shape": tensor.shape, "data_offsets": [start, end] }),
            );
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let path = folder.join("diffusion_pytorch_model.safetensors");
        let bytes = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
        std::fs::write(&path, &bytes).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(bytes.len() as u64 + end).unwrap();
        Checkpoint::open(&path).unwrap()
    }

    #[test]
    fn the_full_size_fits_into_16_gib() {
        let part =
            preset("sd14-eeg2video").unwrap().parts.into_iter().find(|part| part.folder == "unet").unwrap();
        let sizes = UNetConfig::new(&part.model_config().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = Arc::new(sparse(folder.path(), &part.wanted().unwrap()));
        let learning = Learning { trainable: TRAINABLE.map(String::from).to_vec(), lora: None, seed: 0 };
        let plan = Gpu::plan();
        let tensors = parameters(&plan, &sizes, Some(&file), Precision::F16, &learning).unwrap();
        let learnt: Vec<usize> =
            tensors.iter().filter(|(_, t)| t.is_parameter()).map(|(_, t)| t.len()).collect();
        assert_eq!((learnt.len(), learnt.iter().sum::<usize>()), (112, 74_354_880));
        let step = Step { batch: 1, latents: [6, 36, 64, 4], tokens: 77, recomputes: true, ema: false };
        let need = |step: &Step| {
            need(&plan, &sizes, Some(&file), &learning, &settings(Precision::F16), Rule::ADAMW, step).unwrap()
        };
        let [live, peak] = need(&step);
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        eprintln!("full size: {:.2} GiB between steps, {:.2} GiB at most", gib(live), gib(peak));
        assert!(gib(peak) < 16.0 && live < peak, "{} GiB", gib(peak));
        let [_, whole] = need(&Step { recomputes: false, ..step.clone() });
        eprintln!("without gradient checkpointing: {:.2} GiB", gib(whole));
        assert!(whole > peak);
    }

    #[test]
    fn a_step_holds_what_was_told() {
        // A device of its own: others' tensors are not counted.
        let Some(gpu) = crate::testing::gpu_with(crate::gpu::Options::default()) else { return };
        let (sizes, learning, settings) = (small(), all(), settings(Precision::F32));
        let step = Step { batch: 2, latents: [2, 4, 6, 2], tokens: 3, recomputes: true, ema: true };
        let [_, told] = need(&gpu, &sizes, None, &learning, &settings, Rule::ADAMW, &step).unwrap();
        gpu.reset_peak();
        let plan = Plan { ema: Some(0.5), ..Plan::default() };
        let mut fit = Fit::new(trainer(&gpu, &learning), plan).unwrap();
        let schedule = SchedulerConfig::stable_diffusion().schedule().unwrap();
        for _ in 0..3 {
            fit.rehearse(&mut |weights, _, _| {
                let unet = model(weights, &sizes, true)?;
                noise_loss(&unet, &schedule, Prediction::Epsilon, &batch(&gpu))
            })
            .unwrap();
        }
        let held = gpu.memory().peak_reserved;
        eprintln!("told {told} bytes, held {held}");
        assert!(held <= told && held > told / 2, "told {told} bytes, held {held}");
    }

    #[test]
    fn patterns_that_match_nothing_are_refused() {
        let learning = Learning { trainable: vec!["attn3".into()], ..all() };
        let error = parameters(&Gpu::plan(), &small(), None, Precision::F32, &learning).err().unwrap();
        assert!(error.exit_code() == 2 && error.to_string().contains("'attn3'"), "{error}");
    }
}
