//! Softmax over the last axis.            y = exp(x - max x) / sum exp(x - max x)
//! Same as PyTorch `softmax(x, dim=-1)`.

use super::{common, params, rows_of, shaders};
use crate::error::Result;
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::tensor::Tensor;

const FORWARD: Kernel =
    Kernel::new("softmax", "forward", &[shaders!("softmax"), common::INDEX, common::REDUCE]);

params! {
    struct Params {
        rows: u32,
        cols: u32,
    }
}

impl Tensor {
    /// [.., cols] -> [.., cols]; each row sums to 1.
    ///
    /// Errors: on a scalar, on ids.
    pub fn softmax(&self) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("softmax {self}"));
        let (rows, cols) = rows_of(self, "softmax")?;
        let y = Tensor::empty(self.gpu(), self.shape(), self.dtype())?;
        if self.is_empty() {
            return Ok(y);
        }
        let width = super::width_of(cols);
        let variant = Variant {
            scalar: self.scalar("softmax")?,
            width,
            workgroup: super::row_workgroup(self.gpu(), cols, "softmax")?,
        };
        let row_bytes = cols * self.dtype().bytes();
        for window in self.gpu().row_windows("softmax", rows, &[row_bytes])? {
            let params = Params { rows: window.len() as u32, cols: (cols / width as usize) as u32 };
            let elements = window.start * cols..window.end * cols;
            self.gpu().run(&Launch {
                program: FORWARD.program(variant),
                params: params.as_bytes(),
                inputs: &[self.window(elements.clone())],
                outputs: &[y.window(elements)],
                groups: self.gpu().grid("softmax", window.len() as u64)?,
                work: Work {
                    flops: 5 * (window.len() * cols) as u64,
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
    use crate::testing::{assert_close, gpu, random};

    /// The same in f64 and plain loops.
    fn reference(x: &[f32], cols: usize) -> Vec<f64> {
        x.chunks(cols)
            .flat_map(|row| {
                let largest = row.iter().cloned().fold(f32::MIN, f32::max);
                let e: Vec<f64> = row.iter().map(|&v| f64::from(v - largest).exp()).collect();
                let sum: f64 = e.iter().sum();
                e.into_iter().map(move |v| v / sum)
            })
            .collect()
    }

    #[test]
    fn rows_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for shape in [vec![1, 1], vec![3, 7], vec![5, 64], vec![2, 3, 77], vec![7, 257], vec![70_000, 2]] {
            let x = random(&shape, 4.0);
            let y = Tensor::new(&gpu, &shape, &x).unwrap().softmax().unwrap();
            let want = reference(&x, *shape.last().unwrap());
            // exp and one division in f32
            assert_close(&y.to_vec().unwrap(), &want, 2e-6, &format!("{shape:?}"));
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let Some(gpu) = gpu() else { return };
        let x = Tensor::new(&gpu, &[1, 3], &[1e4_f32, 1e4, -1e4]).unwrap();
        assert_eq!(x.softmax().unwrap().to_vec().unwrap(), [0.5, 0.5, 0.0]);
    }

    #[test]
    fn an_empty_axis_gives_an_empty_tensor_and_a_scalar_is_refused() {
        let Some(gpu) = gpu() else { return };
        assert!(Tensor::new::<f32>(&gpu, &[3, 0], &[]).unwrap().softmax().unwrap().is_empty());
        assert!(Tensor::new(&gpu, &[], &[1.0_f32]).unwrap().softmax().is_err());
        assert!(Tensor::new(&gpu, &[1], &[1_i32]).unwrap().softmax().is_err());
    }

    #[test]
    fn shader_twin() {
        crate::testing::shader_twin(&FORWARD, Params::FIELDS);
    }
}
