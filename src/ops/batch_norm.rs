//! Batch normalisation with statistics from training.
//! y = (x - running_mean) / sqrt(running_var + eps) * weight + bias
//! Same as PyTorch `batch_norm(.., training=False)`, but channels-last.

use super::{check_vector, common, params, rows_of, shaders};
use crate::error::Result;
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::tensor::Tensor;

const FORWARD: Kernel = Kernel::new("batch_norm", "forward", &[shaders!("batch_norm"), common::INDEX]);

params! {
    struct Params {
        units: u32,
        rows: u32,
        block: u32,
        eps: f32,
    }
}

impl Tensor {
    /// [.., channels] -> [.., channels]. The four vectors are `[channels]`, f32.
    ///
    /// Errors: on a scalar, on ids, on other shapes or types of the vectors.
    pub fn batch_norm(
        &self,
        running_mean: &Tensor,
        running_var: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        eps: f64,
    ) -> Result<Tensor> {
        let op = "batch_norm";
        let _op = self.gpu().op(|| format!("{op} {self}"));
        let (rows, channels) = rows_of(self, op)?;
        let vectors = [
            ("running_mean", running_mean),
            ("running_var", running_var),
            ("weight", weight),
            ("bias", bias),
        ];
        for (name, vector) in vectors {
            check_vector(op, name, vector, self, channels)?;
        }
        let scalar = self.scalar(op)?;
        let y = Tensor::empty(self.gpu(), self.shape(), self.dtype())?;
        if self.is_empty() {
            return Ok(y);
        }
        let width = super::width_of(channels);
        let variant = Variant { scalar, width, workgroup: self.gpu().flat_workgroup() };
        let units = channels / width as usize;
        let row_bytes = channels * self.dtype().bytes();
        for window in self.gpu().row_windows(op, rows, &[row_bytes])? {
            let items = (window.len() * units) as u64;
            let block = super::rows_per_invocation(self.gpu(), items, super::ROWS_AT_ONCE);
            let params = Params {
                units: units as u32,
                rows: window.len() as u32,
                block: block as u32,
                eps: eps as f32,
            };
            let elements = window.start * channels..window.end * channels;
            let invocations = (window.len().div_ceil(block) * units) as u64;
            self.gpu().run(&Launch {
                program: FORWARD.program(variant),
                params: params.as_bytes(),
                inputs: &[
                    self.window(elements.clone()),
                    running_mean.binding(),
                    running_var.binding(),
                    weight.binding(),
                    bias.binding(),
                ],
                outputs: &[y.window(elements)],
                groups: self.gpu().grid(op, invocations.div_ceil(u64::from(variant.workgroup)))?,
                work: Work {
                    flops: 3 * (window.len() * channels) as u64,
                    bytes: 2 * (window.len() * row_bytes) as u64,
                },
            })?;
        }
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::tensor::{DType, Element};
    use crate::testing::{assert_close, gpu, gpu_with, random, random_from, shader_twin};

    /// Runs `x` with four random vectors, and the same in f64.
    fn run<T: Element>(gpu: &Gpu, shape: &[usize], x: &[T], wide: &[f32]) -> (Tensor, Vec<f64>) {
        let channels = *shape.last().unwrap();
        let vector = |seed, shift: f32| -> Vec<f32> {
            random_from(seed, channels, 1.0).into_iter().map(|v| v + shift).collect()
        };
        let (mean, var, weight, bias) = (vector(1, 0.5), vector(2, 1.1), vector(3, 0.0), vector(4, 0.0));
        let there = |v: &[f32]| Tensor::new(gpu, &[channels], v).unwrap();
        let y = Tensor::new(gpu, shape, x)
            .unwrap()
            .batch_norm(&there(&mean), &there(&var), &there(&weight), &there(&bias), 1e-3)
            .unwrap();
        assert_eq!(y.shape(), shape);
        let want = wide
            .iter()
            .enumerate()
            .map(|(at, &v)| {
                let c = at % channels;
                let scale = f64::from(weight[c]) / (f64::from(var[c]) + 1e-3).sqrt();
                (f64::from(v) - f64::from(mean[c])) * scale + f64::from(bias[c])
            })
            .collect();
        (y, want)
    }

    fn case(gpu: &Gpu, shape: &[usize]) {
        let x = random(shape, 2.0);
        let (y, want) = run(gpu, shape, &x, &x);
        assert_close(&y.to_vec().unwrap(), &want, 4e-6, &format!("{shape:?}"));
    }

    #[test]
    fn values_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for shape in [
            vec![1],
            vec![3, 7],
            vec![65, 64],
            vec![2, 3, 5, 40],
            vec![1021, 1],
            vec![70_001, 4],
            vec![6, 257],
        ] {
            case(&gpu, &shape);
        }
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        case(&gpu, &[300, 12]);
        case(&gpu, &[701, 7]);
    }

    #[test]
    fn half_precision_storage() {
        let Some(gpu) = gpu() else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        for shape in [[33, 20], [17, 7]] {
            let x: Vec<half::f16> = random(&shape, 2.0).into_iter().map(half::f16::from_f32).collect();
            let wide: Vec<f32> = x.iter().map(|v| v.to_f32()).collect();
            let (y, want) = run(&gpu, &shape, &x, &wide);
            assert_close(&y.to_vec().unwrap(), &want, 1e-3, "f16"); // one rounding to f16
        }
    }

    #[test]
    fn wrong_calls_are_refused_and_nothing_gives_nothing() {
        let gpu = Gpu::plan();
        let make = |shape: &[usize], dtype| Tensor::empty(&gpu, shape, dtype).unwrap();
        let x = make(&[5, 8], DType::F32);
        let (good, short, half) = (make(&[8], DType::F32), make(&[7], DType::F32), make(&[8], DType::F16));
        assert!(x.batch_norm(&good, &good, &good, &good, 1e-5).is_ok());
        for at in 0..4 {
            for wrong in [&short, &half] {
                let mut v = [&good; 4];
                v[at] = wrong;
                assert!(x.batch_norm(v[0], v[1], v[2], v[3], 1e-5).is_err());
            }
        }
        assert!(make(&[], DType::F32).batch_norm(&good, &good, &good, &good, 1e-5).is_err());
        assert!(make(&[8], DType::I32).batch_norm(&good, &good, &good, &good, 1e-5).is_err());
        assert!(make(&[0, 8], DType::F32).batch_norm(&good, &good, &good, &good, 1e-5).unwrap().is_empty());
    }

    #[test]
    fn shader_twin_of_batch_norm() {
        shader_twin(&FORWARD, Params::FIELDS);
    }
}
