//! burn on wgpu, with its fusion and autotune, with the functions and layers its models use.

use crate::cases::{EPS, Input, Op, swap};
use crate::contestant::{Contestant, Result};
use ::burn::module::Param;
use ::burn::nn::GroupNormConfig;
use ::burn::tensor::activation::silu;
use ::burn::tensor::module::{attention, conv2d, layer_norm, linear};
use ::burn::tensor::ops::{AttentionModuleOptions, ConvOptions};
use ::burn::tensor::{Device, Tensor, TensorData};
use std::time::Instant;

/// Kernels as SPIR-V with the feature `spirv`, else as WGSL.
pub struct Burn {
    device: Device,
    forward: Option<Box<dyn Fn() -> Output>>,
}

enum Output {
    Matrix(Tensor<2>),
    Batch(Tensor<4>),
}

impl Burn {
    /// On the default device; `CUBECL_WGPU_DEFAULT_DEVICE` names another.
    pub fn open() -> Burn {
        Burn { device: Device::wgpu(Default::default()), forward: None }
    }

    fn tensor<const D: usize>(&self, input: &Input) -> Tensor<D> {
        Tensor::from_data(TensorData::new(input.values.clone(), input.shape.clone()), &self.device)
    }
}

impl Contestant for Burn {
    fn name(&self) -> &'static str {
        "burn"
    }

    fn about(&self) -> String {
        let version = crate::locked_version("burn");
        let text = if cfg!(feature = "spirv") { "SPIR-V where it can" } else { "WGSL" };
        let adapter =
            self.device.identity().map(|identity| identity.name).unwrap_or("an unnamed device".into());
        format!("{version}, wgpu ({text}) on {adapter}")
    }

    fn prepare(&mut self, op: &Op, inputs: &[Input]) -> Result<Vec<f32>> {
        self.forward = Some(match *op {
            Op::Matmul { .. } => {
                let (a, b) = (self.tensor::<2>(&inputs[0]), self.tensor::<2>(&inputs[1]));
                Box::new(move || Output::Matrix(a.clone().matmul(b.clone())))
            }
            Op::Linear { k, n, .. } => {
                let x = self.tensor::<2>(&inputs[0]);
                // its layers keep weights as [inputs, outputs]
                let weight = Input { shape: vec![k, n], values: swap(&inputs[1].values, [n, k, 1]) };
                let weight = self.tensor::<2>(&weight);
                let bias = inputs.get(2).map(|bias| self.tensor::<1>(bias));
                Box::new(move || Output::Matrix(linear(x.clone(), weight.clone(), bias.clone())))
            }
            Op::Conv { kernel, .. } => {
                let (x, weight) = (self.tensor::<4>(&inputs[0]), self.tensor::<4>(&inputs[1]));
                let bias = self.tensor::<1>(&inputs[2]);
                let options = ConvOptions::new([1, 1], [kernel / 2, kernel / 2], [1, 1], 1);
                Box::new(move || {
                    let bias = Some(bias.clone());
                    Output::Batch(conv2d(x.clone(), weight.clone(), bias, options.clone()))
                })
            }
            Op::Attention { .. } => {
                let (q, k) = (self.tensor::<4>(&inputs[0]), self.tensor::<4>(&inputs[1]));
                let v = self.tensor::<4>(&inputs[2]);
                let options = AttentionModuleOptions::default();
                Box::new(move || {
                    Output::Batch(attention(q.clone(), k.clone(), v.clone(), None, None, options))
                })
            }
            Op::GroupNormSilu { channels, groups, .. } => {
                let x = self.tensor::<4>(&inputs[0]);
                let mut layer = GroupNormConfig::new(groups, channels).with_epsilon(EPS).init(&self.device);
                layer.gamma = Some(Param::from_tensor(self.tensor(&inputs[1])));
                layer.beta = Some(Param::from_tensor(self.tensor(&inputs[2])));
                Box::new(move || Output::Batch(silu(layer.forward(x.clone()))))
            }
            Op::LayerNorm { .. } => {
                let x = self.tensor::<2>(&inputs[0]);
                let (gamma, beta) = (self.tensor::<1>(&inputs[1]), self.tensor::<1>(&inputs[2]));
                Box::new(move || {
                    Output::Matrix(layer_norm(x.clone(), gamma.clone(), Some(beta.clone()), EPS))
                })
            }
        });
        let data = match self.forward.as_ref().expect("just set")() {
            Output::Matrix(y) => y.try_into_data(),
            Output::Batch(y) => y.try_into_data(),
        };
        let values = data.map_err(cause)?.try_into_vec();
        values.map_err(|error| format!("{error:?}").into())
    }

    fn run(&mut self, times: usize) -> Result<f64> {
        let forward = self.forward.as_ref().ok_or("nothing is prepared")?;
        let start = Instant::now();
        for _ in 0..times {
            forward();
        }
        self.device.sync().map_err(cause)?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn release(&mut self) {
        self.forward = None;
        let _ = self.device.sync();
        self.device.memory_cleanup();
    }
}

/// The first cause; the others and where it was noticed stand around it.
fn cause(error: impl std::fmt::Debug) -> String {
    let all = format!("{error:?}");
    let last = all.rsplit("Caused by:").next().unwrap_or_default();
    last.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_string()
}
