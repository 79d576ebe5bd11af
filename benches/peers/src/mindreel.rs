//! mindreel: images channels-last, heads side by side in the last axis, weights packed when loaded.

use crate::cases::{EPS, Input, Op, swap};
use crate::contestant::{Contestant, Result};
use ::mindreel::gpu::{Class, Facts, Gpu, Options};
use ::mindreel::ops::{ConvWeight, Epilogue, Packed, Sight, SourceType, Window};
use ::mindreel::tensor::Tensor;
use std::time::Instant;

/// The contestant the others are held against.
pub struct Mindreel {
    gpu: Gpu,
    commit: String,
    forward: Option<Box<dyn Fn() -> ::mindreel::error::Result<Tensor>>>,
}

impl Mindreel {
    /// On the adapter of this index or name, or the best one; `commit` is for the report.
    pub fn open(adapter: Option<String>, commit: String) -> Result<Mindreel> {
        let gpu = Gpu::open(&Options { adapter, ..Default::default() })?;
        Ok(Mindreel { gpu, commit, forward: None })
    }

    /// The adapter.
    pub fn facts(&self) -> &Facts {
        self.gpu.facts()
    }

    /// The adapter's class as burn spells it.
    pub fn device_kind(&self) -> &'static str {
        match self.facts().class {
            Class::Discrete => "DiscreteGpu(0)",
            Class::Integrated => "IntegratedGpu(0)",
            _ => "Cpu",
        }
    }

    fn vector(&self, input: &Input) -> Result<Tensor> {
        Ok(Tensor::new(&self.gpu, &input.shape, &input.values)?)
    }

    /// `[images, channels, height, width]` -> `[images, height, width, channels]`.
    fn image(&self, input: &Input) -> Result<Tensor> {
        let &[images, channels, height, width] = &input.shape[..] else { return Err("no image".into()) };
        let values = swap(&input.values, [channels, height * width, 1]);
        Ok(Tensor::new(&self.gpu, &[images, height, width, channels], &values)?)
    }

    /// `[batch, heads, tokens, width]` -> `[batch, tokens, heads * width]`.
    fn tokens(&self, input: &Input) -> Result<Tensor> {
        let &[batch, heads, tokens, width] = &input.shape[..] else { return Err("no heads".into()) };
        let values = swap(&input.values, [heads, tokens, width]);
        Ok(Tensor::new(&self.gpu, &[batch, tokens, heads * width], &values)?)
    }
}

impl Contestant for Mindreel {
    fn name(&self) -> &'static str {
        "mindreel"
    }

    fn about(&self) -> String {
        self.commit.clone()
    }

    fn prepare(&mut self, op: &Op, inputs: &[Input]) -> Result<Vec<f32>> {
        match *op {
            Op::Matmul { .. } => {
                let (a, b) = (self.vector(&inputs[0])?, self.vector(&inputs[1])?);
                self.forward = Some(Box::new(move || a.matmul(&b, false)));
            }
            Op::Linear { k, n, .. } => {
                let x = self.vector(&inputs[0])?;
                let bytes = bytemuck::cast_slice(&inputs[1].values);
                let weight = Packed::from_bytes(&self.gpu, [n, k, 1], SourceType::F32, bytes, false)?;
                let bias = inputs.get(2).map(|bias| self.vector(bias)).transpose()?;
                self.forward = Some(Box::new(move || {
                    x.linear(&weight, Epilogue { bias: bias.as_ref(), ..Default::default() })
                }));
            }
            Op::Conv { channels, outputs, kernel, .. } => {
                let x = self.image(&inputs[0])?;
                let bytes = bytemuck::cast_slice(&inputs[1].values);
                let shape = [outputs, channels, kernel, kernel];
                let weight = ConvWeight::from_bytes(&self.gpu, shape, 1, SourceType::F32, bytes, false)?;
                let bias = self.vector(&inputs[2])?;
                self.forward = Some(Box::new(move || {
                    let epilogue = Epilogue { bias: Some(&bias), ..Default::default() };
                    x.conv2d(&weight, Window::padded(kernel / 2), epilogue)
                }));
            }
            Op::Attention { heads, .. } => {
                let (q, k) = (self.tokens(&inputs[0])?, self.tokens(&inputs[1])?);
                let v = self.tokens(&inputs[2])?;
                self.forward = Some(Box::new(move || q.attention(&k, &v, heads, None, Sight::All)));
            }
            Op::GroupNormSilu { groups, .. } => {
                let x = self.image(&inputs[0])?;
                let (weight, bias) = (self.vector(&inputs[1])?, self.vector(&inputs[2])?);
                self.forward = Some(Box::new(move || x.group_norm(groups, &weight, &bias, EPS, true)));
            }
            Op::LayerNorm { .. } => {
                let x = self.vector(&inputs[0])?;
                let (weight, bias) = (self.vector(&inputs[1])?, self.vector(&inputs[2])?);
                self.forward = Some(Box::new(move || x.layer_norm(Some(&weight), Some(&bias), EPS)));
            }
        }
        let values = self.forward.as_ref().expect("just set")()?.to_vec()?;
        Ok(match *op {
            Op::Conv { height, width, outputs, .. } => swap(&values, [height * width, outputs, 1]),
            Op::GroupNormSilu { height, width, channels, .. } => swap(&values, [height * width, channels, 1]),
            Op::Attention { heads, queries, width, .. } => swap(&values, [queries, heads, width]),
            _ => values,
        })
    }

    fn run(&mut self, times: usize) -> Result<f64> {
        let forward = self.forward.as_ref().ok_or("nothing is prepared")?;
        let start = Instant::now();
        for _ in 0..times {
            forward()?;
        }
        self.gpu.wait()?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn release(&mut self) {
        self.forward = None;
        // A device in trouble says so at the next shape.
        let _ = self.gpu.trim();
    }
}
