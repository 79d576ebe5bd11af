//! One step of Adam and AdamW.
//! m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g g,  p -= lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)
//! Same as PyTorch `torch.optim.Adam` and `AdamW` (amsgrad off), one kernel for all of it.

use super::{common, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor};

const STEP: Kernel = Kernel::new("adam", "step", &[shaders!("adam"), common::INDEX]);
const WIDTH: usize = 4;

params! {
    struct Params {
        units: u32,
        rate: f32,
        beta1: f32,
        beta2: f32,
        eps: f32,
        decay: f32,
        decoupled: u32,
        c1: f32,
        c2: f32,
    }
}

/// Settings of Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the mean and of the mean square: PyTorch's 0.9 and 0.999.
    pub betas: [f64; 2],
    /// PyTorch's 1e-8.
    pub eps: f64,
    /// Weight decay apart from the gradient: AdamW. Else it is a part of the gradient: Adam.
    pub decoupled: bool,
}

impl Tensor {
    /// A parameter with its gradient and state -> `[parameter, mean, mean square]` after step `t`, counted from 1. All
    /// f32 and of one shape; `clip` `[2]` as [`Tensor::clip`] makes it. The old ones stay as they are.
    ///
    /// Errors: when shapes or types differ, on step 0.
    pub fn adam(
        &self,
        gradient: &Tensor,
        [mean, square]: [&Tensor; 2],
        clip: &Tensor,
        [rate, decay]: [f64; 2],
        settings: &Adam,
        t: u64,
    ) -> Result<[Tensor; 3]> {
        let _op = self.gpu().op(|| format!("adam {self}"));
        check_state("adam", self, &[gradient, mean, square], clip)?;
        let [beta1, beta2] = settings.betas;
        if t == 0 {
            return Err(Error::shape("adam", "steps count from 1"));
        }
        let gpu = self.gpu();
        let make = || Tensor::empty(gpu, self.shape(), DType::F32);
        let new = [make()?, make()?, make()?];
        // Beyond it the power is 0 in f64.
        let power = |beta: f64| 1.0 - beta.powi(t.min(1 << 30) as i32);
        let variant = Variant { scalar: Scalar::F32, width: WIDTH as u32, workgroup: gpu.flat_workgroup() };
        for units in gpu.row_windows("adam", self.len().div_ceil(WIDTH), &[WIDTH * 4])? {
            let params = Params {
                units: units.len() as u32,
                rate: rate as f32,
                beta1: beta1 as f32,
                beta2: beta2 as f32,
                eps: settings.eps as f32,
                decay: decay as f32,
                decoupled: settings.decoupled.into(),
                c1: power(beta1) as f32,
                c2: power(beta2).sqrt() as f32,
            };
            let elements = units.start * WIDTH..units.end * WIDTH;
            gpu.run(&Launch {
                program: STEP.program(variant),
                params: params.as_bytes(),
                inputs: &[
                    self.window(elements.clone()),
                    gradient.window(elements.clone()),
                    mean.window(elements.clone()),
                    square.window(elements.clone()),
                    clip.binding(),
                ],
                outputs: &[0, 1, 2].map(|at: usize| new[at].window(elements.clone())),
                groups: gpu.grid("adam", (units.len() as u64).div_ceil(u64::from(variant.workgroup)))?,
                work: Work { flops: 14 * elements.len() as u64, bytes: 28 * elements.len() as u64 },
            })?;
        }
        Ok(new)
    }
}

/// Refuses gradient and state that are not f32 of the parameter's shape on its device, and a clip that is not `[2]`.
pub(super) fn check_state(op: &str, parameter: &Tensor, like: &[&Tensor], clip: &Tensor) -> Result<()> {
    let wrong = like.iter().find(|tensor| tensor.shape() != parameter.shape());
    if let Some(wrong) = wrong {
        let detail = format!("parameter is {:?}, gradient or state {:?}", parameter.shape(), wrong.shape());
        return Err(Error::shape(op, detail));
    }
    if clip.shape() != [2] {
        return Err(Error::shape(op, format!("wanted norm and factor [2], got {:?}", clip.shape())));
    }
    for tensor in [parameter, clip].iter().chain(like) {
        if tensor.dtype() != DType::F32 {
            return Err(Error::dtype(op, format!("wanted f32 throughout, got {:?}", tensor.dtype())));
        }
        super::check_device(op, "gradient or state", tensor, parameter)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::testing::{assert_close, gpu, gpu_with, random_from, validate};

    /// Five steps on `n` values, and the same in f64.
    fn case(gpu: &Gpu, n: usize, decoupled: bool, decay: f64) {
        let settings = Adam { betas: [0.9, 0.99], eps: 1e-8, decoupled };
        let (rate, factor) = (0.01, 0.5);
        let there = |v: &[f32]| Tensor::new(gpu, &[v.len()], v).unwrap();
        let clip = there(&[1.0, factor as f32]);
        let start = random_from(1, n, 1.0);
        let (mut p, mut m, mut v) = (there(&start), there(&vec![0.0; n]), there(&vec![0.0; n]));
        let mut want: Vec<[f64; 3]> = start.iter().map(|&p| [p.into(), 0.0, 0.0]).collect();
        for t in 1..=5 {
            let gradient = random_from(100 + t, n, 1.0);
            [p, m, v] = p.adam(&there(&gradient), [&m, &v], &clip, [rate, decay], &settings, t).unwrap();
            for ([p, m, v], &g) in want.iter_mut().zip(&gradient) {
                let mut g = f64::from(g) * factor;
                if decoupled {
                    *p *= 1.0 - rate * decay;
                } else {
                    g += decay * *p;
                }
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.99 * *v + 0.01 * g * g;
                let (c1, c2) = (1.0 - 0.9_f64.powi(t as i32), 1.0 - 0.99_f64.powi(t as i32));
                *p -= rate * (*m / c1) / ((*v / c2).sqrt() + 1e-8);
            }
        }
        for (got, at) in [(p, 0), (m, 1), (v, 2)] {
            let want: Vec<f64> = want.iter().map(|state| state[at]).collect();
            assert_close(&got.to_vec().unwrap(), &want, 2e-6, &format!("{n} {decoupled} {decay} {at}"));
        }
    }

    #[test]
    fn steps_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for n in [1, 4, 1031] {
            for decoupled in [true, false] {
                case(&gpu, n, decoupled, 0.0);
                case(&gpu, n, decoupled, 0.3);
            }
        }
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        case(&gpu, 5003, true, 0.01);
    }

    #[test]
    fn wrong_calls_are_refused() {
        let gpu = Gpu::plan();
        let make = |shape: &[usize], dtype| Tensor::empty(&gpu, shape, dtype).unwrap();
        let (p, clip) = (make(&[6], DType::F32), make(&[2], DType::F32));
        let settings = Adam { betas: [0.9, 0.999], eps: 1e-8, decoupled: true };
        let step =
            |g: &Tensor, m: &Tensor, clip: &Tensor, t| p.adam(g, [m, &p], clip, [0.1, 0.0], &settings, t);
        assert!(step(&p, &p, &clip, 1).is_ok());
        assert!(step(&p, &p, &clip, 0).is_err());
        assert!(step(&make(&[2, 3], DType::F32), &p, &clip, 1).is_err());
        assert!(step(&p, &make(&[6], DType::F16), &clip, 1).is_err());
        assert!(step(&p, &p, &p, 1).is_err());
    }

    #[test]
    fn shader_twin_of_adam() {
        let variant = Variant { scalar: Scalar::F32, width: WIDTH as u32, workgroup: 64 };
        validate("adam", &STEP.program(variant).text(true), Params::FIELDS);
    }
}
