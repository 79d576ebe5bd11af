//! candle on the CPU, with the layers of candle-nn; attention as its Stable Diffusion does it.

use crate::cases::{EPS, Input, Op};
use crate::contestant::{Contestant, Result};
use candle_core::{Device, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, GroupNorm, LayerNorm, Linear, Module};
use std::time::Instant;

/// As many threads as it takes by itself.
#[derive(Default)]
pub struct Candle {
    forward: Option<Box<dyn Fn() -> candle_core::Result<Tensor>>>,
}

impl Contestant for Candle {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn about(&self) -> String {
        let threads = candle_core::utils::get_num_threads();
        format!("{}, CPU, {threads} threads", crate::locked_version("candle-core"))
    }

    fn prepare(&mut self, op: &Op, inputs: &[Input]) -> Result<Vec<f32>> {
        let tensor = |input: &Input| Tensor::from_slice(&input.values, &input.shape[..], &Device::Cpu);
        let mut tensors = inputs.iter().map(tensor).collect::<candle_core::Result<Vec<_>>>()?.into_iter();
        let mut next = || tensors.next().ok_or("an input is missing");
        let x = next()?;
        self.forward = Some(match *op {
            Op::Matmul { .. } => {
                let b = next()?;
                Box::new(move || x.matmul(&b))
            }
            Op::Linear { .. } => {
                let layer = Linear::new(next()?, next().ok());
                Box::new(move || layer.forward(&x))
            }
            Op::Conv { kernel, .. } => {
                let config = Conv2dConfig { padding: kernel / 2, ..Default::default() };
                let layer = Conv2d::new(next()?, Some(next()?), config);
                Box::new(move || layer.forward(&x))
            }
            Op::Attention { width, .. } => {
                let (k, v) = (next()?, next()?);
                let scale = 1.0 / (width as f64).sqrt();
                Box::new(move || {
                    let scores = (x.matmul(&k.t()?)? * scale)?;
                    candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)
                })
            }
            Op::GroupNormSilu { channels, groups, .. } => {
                let layer = GroupNorm::new(next()?, next()?, channels, groups, EPS)?;
                Box::new(move || layer.forward(&x)?.silu())
            }
            Op::LayerNorm { .. } => {
                let layer = LayerNorm::new(next()?, next()?, EPS);
                Box::new(move || layer.forward(&x))
            }
        });
        Ok(self.forward.as_ref().expect("just set")()?.flatten_all()?.to_vec1()?)
    }

    fn run(&mut self, times: usize) -> Result<f64> {
        let forward = self.forward.as_ref().ok_or("nothing is prepared")?;
        let start = Instant::now();
        for _ in 0..times {
            forward()?; // computed when it returns
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn release(&mut self) {
        self.forward = None;
    }
}
