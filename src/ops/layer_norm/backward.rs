//! The way back of LayerNorm: dx row by row, the gradients of weight and bias summed over rows in chunks.

use crate::error::Result;
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::ops::{common, params, shaders};
use crate::tensor::{DType, Tensor};

const SOURCES: &[&str] = &[shaders!("layer_norm_backward"), common::INDEX, common::REDUCE];
const INPUT: Kernel = Kernel::new("layer_norm", "backward", SOURCES);
const VECTORS: Kernel = Kernel::new("layer_norm", "backward_vectors", SOURCES);

params! {
    struct Params {
        rows: u32,
        cols: u32,
        has_weight: u32,
        chunk: u32,
        eps: f32,
    }
}

/// Rows one invocation sums up.
const ROWS: usize = 64;

impl Tensor {
    /// Gradients of x, of the weight and of the bias, from x and dy as [rows, cols].
    pub(super) fn layer_norm_backward(
        &self,
        dy: &Tensor,
        weight: Option<&Tensor>,
        eps: f64,
        wants: [bool; 3],
    ) -> Result<[Option<Tensor>; 3]> {
        let op = "layer_norm";
        let gpu = self.gpu();
        let _op = gpu.op(|| format!("{op} gradient {self}"));
        let (rows, cols) = super::rows_of(self, op)?;
        let dx = Tensor::empty(gpu, self.shape(), self.dtype())?;
        let (scalar, width) = (self.scalar(op)?, super::super::width_of(cols));
        let workgroup = super::super::row_workgroup(gpu, cols, op)?;
        let units = cols / width as usize;
        let mut vectors: Option<Tensor> = None;
        let row_bytes = cols * self.dtype().bytes();
        for window in gpu.row_windows(op, rows, &[row_bytes])? {
            let params = Params {
                rows: window.len() as u32,
                cols: units as u32,
                has_weight: weight.is_some().into(),
                chunk: ROWS as u32,
                eps: eps as f32,
            };
            let elements = window.start * cols..window.end * cols;
            let [x, dy] = [self, dy].map(|x| x.window(elements.clone()));
            let statistics = Tensor::empty(gpu, &[window.len(), 2], DType::F32)?;
            gpu.run(&Launch {
                program: INPUT.program(Variant { scalar, width, workgroup }),
                params: params.as_bytes(),
                inputs: &[x, dy, weight.map_or(x, Tensor::binding)],
                outputs: &[dx.window(elements.clone()), statistics.binding()],
                groups: gpu.grid(op, window.len() as u64)?,
                work: Work {
                    flops: 16 * elements.len() as u64,
                    bytes: 3 * (window.len() * row_bytes) as u64,
                },
            })?;
            if !wants[1] && !wants[2] {
                continue;
            }
            let chunks = window.len().div_ceil(ROWS);
            let parts = Tensor::empty(gpu, &[chunks, 2, cols], DType::F32)?;
            let variant = Variant { scalar, width, workgroup: gpu.flat_workgroup() };
            gpu.run(&Launch {
                program: VECTORS.program(variant),
                params: params.as_bytes(),
                inputs: &[x, dy, statistics.binding()],
                outputs: &[parts.binding()],
                groups: gpu.grid(op, (chunks * units).div_ceil(variant.workgroup as usize) as u64)?,
                work: Work {
                    flops: 5 * elements.len() as u64,
                    bytes: 2 * (window.len() * row_bytes) as u64 + parts.bytes(),
                },
            })?;
            let sum = parts.sum(&[0])?;
            vectors = Some(match vectors {
                Some(before) => before.add(&sum)?,
                None => sum,
            });
        }
        let vector = |at: usize| match &vectors {
            Some(both) => both.narrow(0, at, 1)?.reshape(&[cols]),
            None => Tensor::zeros(gpu, &[cols], DType::F32),
        };
        Ok([
            wants[0].then_some(dx),
            wants[1].then(|| vector(0)).transpose()?,
            wants[2].then(|| vector(1)).transpose()?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::reference;
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::testing::{assert_gradients, gpu, gpu_with, random_from, shader_twin};

    fn case(gpu: &Gpu, shape: &[usize], shift: f32, [has_weight, has_bias]: [bool; 2]) {
        let cols = *shape.last().unwrap();
        let x: Vec<f32> =
            random_from(1, shape.iter().product(), 1.5).into_iter().map(|v| v + shift).collect();
        let (w, b) = (random_from(2, cols, 2.0), random_from(3, cols, 1.0));
        assert_gradients(
            gpu,
            &[(shape, &x), (&[cols], &w), (&[cols], &b)],
            |inputs| {
                let [x, w, b] = inputs else { panic!("three") };
                x.layer_norm(has_weight.then_some(w), has_bias.then_some(b), 1e-5)
            },
            |values| {
                let w = if has_weight { values[1].clone() } else { vec![1.0; cols] };
                let b = if has_bias { values[2].clone() } else { vec![0.0; cols] };
                reference(&values[0], &w, &b, 1e-5)
            },
            // the differences themselves are good to 1e-6; sums over rows and columns in f32
            if shift == 0.0 { 1e-4 } else { 1e-3 },
            &format!("{shape:?} + {shift}, weight {has_weight}, bias {has_bias}"),
        );
    }

    #[test]
    fn gradients_match_the_differences() {
        let Some(gpu) = gpu() else { return };
        for (shape, given) in [
            (&[1, 2][..], [true, true]),
            (&[3, 7], [true, true]),
            (&[2, 3, 77], [false, true]),
            (&[5, 64], [true, false]),
            (&[131, 12], [true, true]),
            (&[7, 320], [false, false]),
        ] {
            case(&gpu, shape, 0.0, given);
        }
        case(&gpu, &[5, 33], 100.0, [true, true]);
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        case(&gpu, &[150, 12], 0.0, [true, true]);
    }

    #[test]
    fn half_precision_storage() {
        let Some(gpu) = gpu() else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        let halves = |seed| -> Vec<half::f16> {
            random_from(seed, 9 * 24, 1.0).into_iter().map(half::f16::from_f32).collect()
        };
        let (x, dy) = (halves(1), halves(2));
        let wide = |v: &[half::f16]| v.iter().map(|v| v.to_f32()).collect::<Vec<_>>();
        let weight = Tensor::new(&gpu, &[24], &random_from(3, 24, 2.0)).unwrap();
        let wants = [true; 3];
        let back = |x: Tensor, dy: Tensor| x.layer_norm_backward(&dy, Some(&weight), 1e-5, wants).unwrap();
        let narrow =
            back(Tensor::new(&gpu, &[9, 24], &x).unwrap(), Tensor::new(&gpu, &[9, 24], &dy).unwrap());
        let full = back(
            Tensor::new(&gpu, &[9, 24], &wide(&x)).unwrap(),
            Tensor::new(&gpu, &[9, 24], &wide(&dy)).unwrap(),
        );
        for (got, want) in narrow.into_iter().zip(full) {
            let want: Vec<f64> = want.unwrap().to_vec().unwrap().iter().map(|&v| f64::from(v)).collect();
            // dx is rounded to f16 once, the others are not
            crate::testing::assert_close(&got.unwrap().to_vec().unwrap(), &want, 1e-3, "f16");
        }
    }

    #[test]
    fn shader_twins() {
        shader_twin(&INPUT, Params::FIELDS);
        shader_twin(&VECTORS, Params::FIELDS);
    }
}
