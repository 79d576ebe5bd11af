//! One denoising step of a UNet: `cargo run --release --example unet_step -- FOLDER`, where FOLDER is `unet/` of
//! a Stable Diffusion or EEG-to-video checkpoint (`mindreel init tiny --output model` makes one).

use mindreel::diffusion::{self, Operand, SchedulerConfig};
use mindreel::gpu::{Gpu, Options};
use mindreel::models::{Config, UNet, UNetConfig};
use mindreel::nn::{self, Precision};
use mindreel::{error::Result, tensor::Tensor, weights::Checkpoint};

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).unwrap_or("model/unet".into());
    let gpu = Gpu::open(&Options::default())?;
    let config = UNetConfig::new(&Config::open(format!("{folder}/config.json"))?)?;
    let load = |weights: &nn::Weights| UNet::load(weights, &config, true);
    let unet = nn::open(&gpu, Checkpoint::open(&folder)?, Precision::F32, load)?.model;

    let frames = 6; // of noise, channels last, and the text they are to show
    let x = Tensor::normal(&gpu, &[frames, 9, 16, config.in_channels], 0, 0)?;
    let text = Tensor::normal(&gpu, &[1, 77, config.cross_attention_dim], 0, 1)?;

    let plan = diffusion::plan("ddim", &SchedulerConfig::stable_diffusion(), 50, 0.0)?;
    let step = &plan.steps()[0];
    let noise = unet.forward(&x, &[step.timestep as f64], &text, frames)?;
    let of = |&(operand, c)| if operand == Operand::Output { (&noise, c) } else { (&x, c) };
    let x = Tensor::combine(&step.next.iter().map(of).collect::<Vec<_>>())?;
    println!("after time {}: {:?}", step.timestep, &x.to_vec()?[..4]);
    Ok(())
}
