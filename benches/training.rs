//! What a training step of the demo's denoiser or autoencoder costs, by the wall clock, and where the time goes, op by op.
//!
//! `cargo bench --bench training -- [CLIPS [FRAMES]]`: the denoiser on so many clips of so many frames.
//! `cargo bench --bench training -- vae [FRAMES]`: the autoencoder. `--ops` lists every op, not sums by kind.

use mindreel::diffusion::{Prediction, SchedulerConfig};
use mindreel::error::Result;
use mindreel::gpu::{Gpu, Options};
use mindreel::models::{Config, UNetConfig};
use mindreel::nn::{Parameters, Precision};
use mindreel::tensor::Tensor;
use mindreel::train::fit::{Fit, Plan};
use mindreel::train::vae::{self, Sizes};
use mindreel::train::video::{self, Batch, Learning};
use mindreel::train::{Course, Group, Optimizer, Rates, Rule, Settings, Trainer};
use std::collections::BTreeMap;
use std::time::Instant;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let has = |name: &str| words.iter().any(|word| word == name);
    let gpu = Gpu::open(&Options::default())?;
    let each = has("--ops");
    match has("vae") {
        true => autoencoder(&gpu, numbers.first().copied().unwrap_or(12), each),
        false => {
            let size = |at: usize, usual| numbers.get(at).copied().unwrap_or(usual);
            denoiser(&gpu, size(0, 12), size(1, 6), each)
        }
    }
}

/// A run of these first weights, with everything that the demo's trainings have.
fn fit(gpu: &Gpu, parameters: Parameters) -> Result<Fit> {
    let rates = Rates { base: 1e-3, warmup: 0, course: Course::Constant };
    let settings =
        Settings { seed: 0, rates, clip_norm: Some(1.0), accumulate: 1, precision: Precision::F32 };
    let group = Group { pattern: String::new(), rate: 1.0, decay: 0.01 };
    let trainer = Trainer::new(gpu, parameters, Optimizer::new(Rule::ADAMW, vec![group]), settings)?;
    Fit::new(trainer, Plan { ema: Some(0.99), ..Plan::default() })
}

fn autoencoder(gpu: &Gpu, frames: usize, each: bool) -> Result<()> {
    let sizes = Sizes {
        block_out_channels: vec![16, 32, 64],
        layers_per_block: 1,
        latent_channels: 4,
        norm_num_groups: 4,
        mid_block_add_attention: false,
    };
    let config = sizes.config([32, 48], 1.0)?;
    let mut fit = fit(gpu, vae::first_parameters(gpu, &config, 0)?)?;
    let pixels = Tensor::normal(gpu, &[frames, 32, 48, 3], 1, 0)?;
    let objective = vae::Objective { l1: false, kl_weight: 1e-3 };
    measure(gpu, &format!("autoencoder, {frames} frames"), each, &mut || {
        fit.rehearse(&mut |weights, _, _| objective.loss(&vae::model(weights, &config)?, &pixels, 0, 0))
    })
}

fn denoiser(gpu: &Gpu, clips: usize, frames: usize, each: bool) -> Result<()> {
    let config = Config::open(concat!(env!("CARGO_MANIFEST_DIR"), "/configs/demo/unet.json"))?;
    let sizes = UNetConfig::new(&config)?;
    let learning = Learning { trainable: vec!["*".into()], lora: None, seed: 0 };
    let mut fit = fit(gpu, video::parameters(gpu, &sizes, None, Precision::F32, &learning)?)?;
    let schedule = SchedulerConfig::stable_diffusion().schedule()?;
    let shape = [clips * frames, 8, 12, 4];
    let batch = Batch {
        latents: Tensor::normal(gpu, &shape, 1, 0)?,
        noise: Tensor::normal(gpu, &shape, 2, 0)?,
        timesteps: (0..clips).map(|clip| (clip * 997) % 1000).collect(),
        text: Tensor::normal(gpu, &[clips, 1, sizes.cross_attention_dim], 3, 0)?,
        frames,
        shares: None,
    };
    measure(gpu, &format!("denoiser, {clips} clips of {frames} frames"), each, &mut || {
        fit.rehearse(&mut |weights, _, _| {
            let unet = video::model(weights, &sizes, false)?;
            video::noise_loss(&unet, &schedule, Prediction::Epsilon, &batch)
        })
    })
}

/// Median of seven steps, then one with a listener.
fn measure(gpu: &Gpu, name: &str, each: bool, step: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let mut timed = || -> Result<f64> {
        let start = Instant::now();
        step()?;
        gpu.wait()?;
        Ok(start.elapsed().as_secs_f64())
    };
    for _ in 0..2 {
        timed()?;
    }
    let mut times = (0..7).map(|_| timed()).collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    println!("{name}: {:.0} ms a step", times[times.len() / 2] * 1e3);

    let listener = gpu.listen()?;
    timed()?;
    let mut kinds: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for op in listener.finish()?.ops {
        if each {
            println!("{:9.2} ms  {}", op.seconds() * 1e3, op.label);
        }
        let kind = op.label.split(' ').next().unwrap_or_default().to_string();
        let entry = kinds.entry(kind).or_default();
        *entry = (entry.0 + op.seconds(), entry.1 + 1);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    for (kind, (seconds, n)) in kinds {
        println!("{:9.1} ms  {n:5}  {kind}", seconds * 1e3);
    }
    Ok(())
}
