//! What a training step of the demo's denoiser costs, by the wall clock, and where the time goes, op by op.
//!
//! `cargo bench --bench training -- [CLIPS [FRAMES]]`

use mindreel::diffusion::SchedulerConfig;
use mindreel::error::Result;
use mindreel::gpu::{Gpu, Options};
use mindreel::models::{Config, UNetConfig};
use mindreel::nn::Precision;
use mindreel::tensor::Tensor;
use mindreel::train::fit::{Fit, Plan};
use mindreel::train::video::{self, Batch, Learning};
use mindreel::train::{Course, Group, Optimizer, Rates, Rule, Settings, Trainer};
use std::collections::BTreeMap;
use std::time::Instant;

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let clips = numbers.first().copied().unwrap_or(12);
    let frames = numbers.get(1).copied().unwrap_or(6);
    let gpu = Gpu::open(&Options::default())?;
    let config = Config::open(concat!(env!("CARGO_MANIFEST_DIR"), "/configs/demo/unet.json"))?;
    let sizes = UNetConfig::new(&config)?;
    let learning = Learning { trainable: vec!["*".into()], lora: None, seed: 0 };
    let parameters = video::parameters(&gpu, &sizes, None, Precision::F32, &learning)?;
    let rates = Rates { base: 1e-3, warmup: 0, course: Course::Constant };
    let settings =
        Settings { seed: 0, rates, clip_norm: Some(1.0), accumulate: 1, precision: Precision::F32 };
    let group = Group { pattern: String::new(), rate: 1.0, decay: 0.01 };
    let trainer = Trainer::new(&gpu, parameters, Optimizer::new(Rule::ADAMW, vec![group]), settings)?;
    let mut fit = Fit::new(trainer, Plan { ema: Some(0.99), ..Plan::default() })?;
    let schedule = SchedulerConfig::stable_diffusion().schedule()?;
    let shape = [clips * frames, 8, 12, 4];
    let batch = Batch {
        latents: Tensor::normal(&gpu, &shape, 1, 0)?,
        noise: Tensor::normal(&gpu, &shape, 2, 0)?,
        timesteps: (0..clips).map(|clip| (clip * 997) % 1000).collect(),
        text: Tensor::normal(&gpu, &[clips, 1, sizes.cross_attention_dim], 3, 0)?,
        frames,
        shares: None,
    };
    let mut step = || -> Result<f64> {
        let start = Instant::now();
        fit.rehearse(&mut |weights, _, _| {
            let unet = video::model(weights, &sizes, false)?;
            video::noise_loss(&unet, &schedule, SchedulerConfig::stable_diffusion().prediction_type, &batch)
        })?;
        gpu.wait()?;
        Ok(start.elapsed().as_secs_f64())
    };
    for _ in 0..2 {
        step()?;
    }
    let mut times = (0..7).map(|_| step()).collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    println!("{clips} clips of {frames} frames: {:.0} ms a step", times[times.len() / 2] * 1e3);

    let listener = gpu.listen()?;
    step()?;
    let mut kinds: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for op in listener.finish()?.ops {
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
