//! One step of stochastic gradient descent with momentum.
//! g += decay p,  b = momentum b + g,  p -= lr b   (nesterov: p -= lr (g + momentum b))
//! Same as PyTorch `torch.optim.SGD` with dampening 0; its buffer begins with the first gradient, ours with zeros: that is
//! the same.

use super::adam::check_state;
use super::{common, params, shaders};
use crate::error::Result;
use crate::gpu::{Kernel, Launch, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor};

const STEP: Kernel = Kernel::new("sgd", "step", &[shaders!("sgd"), common::INDEX]);
const WIDTH: usize = 4;

params! {
    struct Params {
        units: u32,
        rate: f32,
        momentum: f32,
        decay: f32,
        nesterov: u32,
    }
}

/// Settings of SGD.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// 0: none.
    pub momentum: f64,
    /// Looks ahead along the momentum.
    pub nesterov: bool,
}

impl Tensor {
    /// A parameter with its gradient and momentum -> `[parameter, momentum]` after a step. All f32 and of one shape;
    /// `clip` `[2]` as [`Tensor::clip`] makes it. The old ones stay as they are.
    ///
    /// Errors: when shapes or types differ.
    pub fn sgd(
        &self,
        gradient: &Tensor,
        momentum: &Tensor,
        clip: &Tensor,
        [rate, decay]: [f64; 2],
        settings: &Sgd,
    ) -> Result<[Tensor; 2]> {
        let _op = self.gpu().op(|| format!("sgd {self}"));
        check_state("sgd", self, &[gradient, momentum], clip)?;
        let gpu = self.gpu();
        let make = || Tensor::empty(gpu, self.shape(), DType::F32);
        let new = [make()?, make()?];
        let variant = Variant { scalar: Scalar::F32, width: WIDTH as u32, workgroup: gpu.flat_workgroup() };
        for units in gpu.row_windows("sgd", self.len().div_ceil(WIDTH), &[WIDTH * 4])? {
            let params = Params {
                units: units.len() as u32,
                rate: rate as f32,
                momentum: settings.momentum as f32,
                decay: decay as f32,
                nesterov: settings.nesterov.into(),
            };
            let elements = units.start * WIDTH..units.end * WIDTH;
            gpu.run(&Launch {
                program: STEP.program(variant),
                params: params.as_bytes(),
                inputs: &[
                    self.window(elements.clone()),
                    gradient.window(elements.clone()),
                    momentum.window(elements.clone()),
                    clip.binding(),
                ],
                outputs: &[0, 1].map(|at: usize| new[at].window(elements.clone())),
                groups: gpu.grid("sgd", (units.len() as u64).div_ceil(u64::from(variant.workgroup)))?,
                work: Work { flops: 6 * elements.len() as u64, bytes: 20 * elements.len() as u64 },
            })?;
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Gpu;
    use crate::testing::{assert_close, gpu, random_from, validate};

    #[test]
    fn steps_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for (n, momentum, nesterov, decay) in
            [(1, 0.0, false, 0.0), (7, 0.9, false, 0.1), (1031, 0.9, true, 0.1)]
        {
            let settings = Sgd { momentum, nesterov };
            let (rate, factor) = (0.1, 0.25);
            let there = |v: &[f32]| Tensor::new(&gpu, &[v.len()], v).unwrap();
            let clip = there(&[3.0, factor as f32]);
            let start = random_from(1, n, 1.0);
            let (mut p, mut b) = (there(&start), there(&vec![0.0; n]));
            let mut want: Vec<[f64; 2]> = start.iter().map(|&p| [p.into(), 0.0]).collect();
            for t in 0..4 {
                let gradient = random_from(50 + t, n, 1.0);
                [p, b] = p.sgd(&there(&gradient), &b, &clip, [rate, decay], &settings).unwrap();
                for ([p, b], &g) in want.iter_mut().zip(&gradient) {
                    let g = f64::from(g) * factor + decay * *p;
                    *b = momentum * *b + g;
                    *p -= rate * if nesterov { g + momentum * *b } else { *b };
                }
            }
            for (got, at) in [(p, 0), (b, 1)] {
                let want: Vec<f64> = want.iter().map(|state| state[at]).collect();
                assert_close(&got.to_vec().unwrap(), &want, 1e-6, &format!("{n} {momentum} {nesterov}"));
            }
        }
    }

    #[test]
    fn wrong_calls_are_refused() {
        let gpu = Gpu::plan();
        let make = |n: usize| Tensor::empty(&gpu, &[n], DType::F32).unwrap();
        let settings = Sgd { momentum: 0.0, nesterov: false };
        assert!(make(3).sgd(&make(3), &make(3), &make(2), [0.1, 0.0], &settings).is_ok());
        assert!(make(3).sgd(&make(4), &make(3), &make(2), [0.1, 0.0], &settings).is_err());
        assert!(make(3).sgd(&make(3), &make(3), &make(1), [0.1, 0.0], &settings).is_err());
    }

    #[test]
    fn shader_twin_of_sgd() {
        let variant = Variant { scalar: Scalar::F32, width: WIDTH as u32, workgroup: 64 };
        validate("sgd", &STEP.program(variant).text(true), Params::FIELDS);
    }
}
