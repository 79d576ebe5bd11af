//! Softmax over the last axis, and its logarithm.    y = exp(x - max x) / sum exp(x - max x)
//! Same as PyTorch `softmax(x, dim=-1)` and `log_softmax(x, dim=-1)`.
//! Backward: dx = y (dy - sum y dy); of the logarithm dx = dy - exp(y) sum dy.

use super::{common, params, rows_of, shaders};
use crate::error::Result;
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::tensor::Tensor;

const SOURCES: &[&str] = &[shaders!("softmax"), common::INDEX, common::REDUCE];
const FORWARD: Kernel = Kernel::new("softmax", "forward", SOURCES);
const BACKWARD: Kernel = Kernel::new("softmax", "backward", SOURCES);
const LOG_FORWARD: Kernel = Kernel::new("softmax", "log_forward", SOURCES);
const LOG_BACKWARD: Kernel = Kernel::new("softmax", "log_backward", SOURCES);

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
        self.over_rows("softmax", &FORWARD, &BACKWARD)
    }

    /// [.., cols] -> [.., cols]; the logarithm of [`Tensor::softmax`], exact where that is nearly 0.
    ///
    /// Errors: as `softmax`.
    pub fn log_softmax(&self) -> Result<Tensor> {
        self.over_rows("log_softmax", &LOG_FORWARD, &LOG_BACKWARD)
    }

    fn over_rows(
        &self,
        op: &'static str,
        forward: &'static Kernel,
        backward: &'static Kernel,
    ) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("{op} {self}"));
        rows_of(self, op)?;
        let y = Tensor::empty(self.gpu(), self.shape(), self.dtype())?;
        run(op, forward, &[self], &y)?;
        Ok(y.made_by([self], move |y, dy| {
            let _op = y.gpu().op(|| format!("{op} backward {y}"));
            let dx = Tensor::empty(y.gpu(), y.shape(), y.dtype())?;
            run(op, backward, &[y, dy], &dx)?;
            Ok([Some(dx)])
        }))
    }
}

/// One of the kernels over tensors of the same shape and type.
fn run(op: &str, kernel: &Kernel, inputs: &[&Tensor], y: &Tensor) -> Result<()> {
    let (gpu, scalar) = (y.gpu(), y.scalar(op)?);
    let (rows, cols) = rows_of(y, op)?;
    if y.is_empty() {
        return Ok(());
    }
    let width = super::width_of(cols);
    let variant = Variant { scalar, width, workgroup: super::row_workgroup(gpu, cols, op)? };
    let row_bytes = cols * y.dtype().bytes();
    for window in gpu.row_windows(op, rows, &[row_bytes])? {
        let params = Params { rows: window.len() as u32, cols: (cols / width as usize) as u32 };
        let elements = window.start * cols..window.end * cols;
        let inputs: Vec<_> = inputs.iter().map(|input| input.window(elements.clone())).collect();
        gpu.run(&Launch {
            program: kernel.program(variant),
            params: params.as_bytes(),
            inputs: &inputs,
            outputs: &[y.window(elements)],
            groups: gpu.grid(op, window.len() as u64)?,
            work: Work {
                flops: 5 * (window.len() * cols) as u64,
                bytes: ((inputs.len() + 1) * window.len() * row_bytes) as u64,
            },
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Options;
    use crate::tensor::DType;
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, random};
    use std::f64::consts::LN_2;

    /// The same in f64 and plain loops.
    fn reference(x: &[f64], cols: usize) -> Vec<f64> {
        x.chunks(cols)
            .flat_map(|row| {
                let largest = row.iter().cloned().fold(f64::MIN, f64::max);
                let e: Vec<f64> = row.iter().map(|&v| (v - largest).exp()).collect();
                let sum: f64 = e.iter().sum();
                e.into_iter().map(move |v| v / sum)
            })
            .collect()
    }

    fn log_reference(x: &[f64], cols: usize) -> Vec<f64> {
        reference(x, cols).into_iter().map(f64::ln).collect()
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&v| v.into()).collect()
    }

    #[test]
    fn rows_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for shape in [vec![1, 1], vec![3, 7], vec![5, 64], vec![2, 3, 77], vec![7, 257], vec![70_000, 2]] {
            let x = random(&shape, 4.0);
            let (there, cols) = (Tensor::new(&gpu, &shape, &x).unwrap(), *shape.last().unwrap());
            let want = reference(&wide(&x), cols);
            // exp and one division in f32
            assert_close(&there.softmax().unwrap().to_vec().unwrap(), &want, 2e-6, &format!("{shape:?}"));
            let (log, want) = (there.log_softmax().unwrap(), log_reference(&wide(&x), cols));
            assert_close(&log.to_vec().unwrap(), &want, 2e-6, &format!("log {shape:?}"));
        }
    }

    #[test]
    fn gradients_match_the_differences() {
        let Some(gpu) = gpu() else { return };
        for shape in [vec![1, 1], vec![3, 7], vec![5, 64], vec![2, 3, 77], vec![3, 1031]] {
            let (x, cols) = (random(&shape, 4.0), *shape.last().unwrap());
            let inputs: [(&[usize], &[f32]); 1] = [(&shape, &x)];
            let what = format!("{shape:?}");
            assert_gradients(&gpu, &inputs, |x| x[0].softmax(), |x| reference(&x[0], cols), 3e-6, &what);
            // The sum of dy, of up to 1031 values of either sign, times the softmax.
            assert_gradients(
                &gpu,
                &inputs,
                |x| x[0].log_softmax(),
                |x| log_reference(&x[0], cols),
                1e-5,
                &what,
            );
        }
    }

    #[test]
    fn gradients_of_a_long_row() {
        let Some(gpu) = gpu() else { return };
        // More than one subgroup's loops may turn. One value stands out, so that the gradient there is not lost.
        let cols = 530_001;
        let mut x = random(&[1, cols], 1.0);
        x[0] = 13.0;
        let inputs: [(&[usize], &[f32]); 1] = [(&[1, cols], &x)];
        assert_gradients(&gpu, &inputs, |x| x[0].softmax(), |x| reference(&x[0], cols), 1e-5, "long");
        // The sum of half a million values of dy is some hundreds, rounded at 3e-5.
        let log = |x: &[Vec<f64>]| log_reference(&x[0], cols);
        assert_gradients(&gpu, &inputs, |x| x[0].log_softmax(), log, 1e-4, "log, long");
    }

    #[test]
    fn f16_with_its_gradients() {
        let Some(gpu) = gpu().filter(|gpu| gpu.facts().features.f16) else { return };
        for cols in [7, 36] {
            let x: Vec<f32> =
                random(&[5, cols], 4.0).into_iter().map(|v| half::f16::from_f32(v).to_f32()).collect();
            let inputs: [(&[usize], &[f32]); 1] = [(&[5, cols], &x)];
            let half = |x: &[Tensor]| x[0].cast(DType::F16);
            let soft = |x: &[Tensor]| half(x)?.softmax()?.cast(DType::F32);
            let log = |x: &[Tensor]| half(x)?.log_softmax()?.cast(DType::F32);
            // y, dy and dx rounded to f16; y up to 10
            assert_gradients(&gpu, &inputs, soft, |x| reference(&x[0], cols), 3e-3, "f16");
            assert_gradients(&gpu, &inputs, log, |x| log_reference(&x[0], cols), 1e-2, "log f16");
        }
    }

    #[test]
    fn gradients_of_a_tensor_larger_than_a_binding() {
        let options = Options { binding_bytes: Some(4096), ..Options::default() };
        let Some(gpu) = gpu_with(options) else { return };
        let x = random(&[701, 7], 4.0);
        let inputs: [(&[usize], &[f32]); 1] = [(&[701, 7], &x)];
        assert_gradients(&gpu, &inputs, |x| x[0].softmax(), |x| reference(&x[0], 7), 3e-6, "windows");
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let Some(gpu) = gpu() else { return };
        let x = Tensor::new(&gpu, &[1, 3], &[1e4_f32, 1e4, -1e4]).unwrap();
        assert_eq!(x.softmax().unwrap().to_vec().unwrap(), [0.5, 0.5, 0.0]);
        let log = x.log_softmax().unwrap().to_vec().unwrap();
        assert_close(&log, &[-LN_2, -LN_2, -2e4 - LN_2], 1e-6, "log");
    }

    #[test]
    fn an_empty_axis_gives_an_empty_tensor_and_a_scalar_is_refused() {
        let Some(gpu) = gpu() else { return };
        assert!(Tensor::new::<f32>(&gpu, &[3, 0], &[]).unwrap().softmax().unwrap().is_empty());
        assert!(Tensor::new(&gpu, &[], &[1.0_f32]).unwrap().softmax().is_err());
        assert!(Tensor::new(&gpu, &[1], &[1_i32]).unwrap().softmax().is_err());
        let error = Tensor::new(&gpu, &[], &[1.0_f32]).unwrap().log_softmax().unwrap_err().to_string();
        assert!(error.contains("log_softmax"), "{error}");
    }

    #[test]
    fn shader_twin() {
        for kernel in [FORWARD, BACKWARD, LOG_FORWARD, LOG_BACKWARD] {
            crate::testing::shader_twin(&kernel, Params::FIELDS);
        }
    }
}
