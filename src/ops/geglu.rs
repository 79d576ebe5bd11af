//! Gated gelu over the last axis.    y = value gelu(gate), x = [value, gate]
//! Same as diffusers' `GEGLU` after its projection: the first half is the value, gelu is the exact one (erf).
//! Backward: d value = dy gelu(gate), d gate = dy value gelu'(gate).

use super::{common, flat_groups, params, rows_of, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::tensor::Tensor;

const FORWARD: Kernel =
    Kernel::new("geglu", "forward", &[shaders!("geglu"), common::INDEX, common::ACTIVATION]);

const BACKWARD: Kernel = Kernel::new(
    "geglu",
    "backward",
    &[shaders!("geglu_backward"), common::INDEX, common::ACTIVATION, common::SLOPE],
);

/// The same in 64-bit words.
const WORDS: Kernel =
    Kernel::new("geglu", "forward", &[shaders!("geglu_words"), common::INDEX, common::ACTIVATION]);

params! {
    struct Params {
        n: u32,
        cols: u32,
    }
}

impl Tensor {
    /// [.., 2 cols] -> [.., cols].
    ///
    /// Errors: on a scalar, on an odd last axis, on ids.
    pub fn geglu(&self) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("geglu {self}"));
        let (rows, both) = rows_of(self, "geglu")?;
        if !both.is_multiple_of(2) {
            return Err(Error::shape("geglu", format!("wanted an even last axis, got {:?}", self.shape())));
        }
        let cols = both / 2;
        let words = super::words_pay(self.gpu()) && cols.is_multiple_of(8);
        let (kernel, width) = if words { (WORDS, 8) } else { (FORWARD, super::width_of(cols)) };
        let variant =
            Variant { scalar: self.scalar("geglu")?, width, workgroup: self.gpu().flat_workgroup() };
        let mut shape = self.shape().to_vec();
        shape[self.rank() - 1] = cols;
        let y = Tensor::empty(self.gpu(), &shape, self.dtype())?;
        if y.is_empty() {
            return Ok(y);
        }
        let size = self.dtype().bytes();
        for window in self.gpu().row_windows("geglu", rows, &[both * size, cols * size])? {
            let (elements, units) = (window.len() * cols, window.len() * cols / width as usize);
            let params = Params { n: units as u32, cols: (cols / width as usize) as u32 };
            self.gpu().run(&Launch {
                program: kernel.program(variant),
                params: params.as_bytes(),
                inputs: &[self.window(window.start * both..window.end * both)],
                outputs: &[y.window(window.start * cols..window.end * cols)],
                groups: flat_groups(self.gpu(), "geglu", units)?,
                work: Work { flops: 20 * elements as u64, bytes: (3 * elements * size) as u64 },
            })?;
        }
        if !self.wants_gradient() {
            return Ok(y);
        }
        let x = self.detach();
        Ok(y.made_by([self], move |_, dy| Ok([Some(x.geglu_backward(dy)?)])))
    }

    /// [.., 2 cols] and dy [.., cols] -> dx [.., 2 cols].
    fn geglu_backward(&self, dy: &Tensor) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("geglu backward {self}"));
        let (rows, cols) = rows_of(dy, "geglu")?;
        let width = super::width_of(cols);
        let variant =
            Variant { scalar: self.scalar("geglu")?, width, workgroup: self.gpu().flat_workgroup() };
        let dx = Tensor::empty(self.gpu(), self.shape(), self.dtype())?;
        let size = self.dtype().bytes();
        for window in self.gpu().row_windows("geglu", rows, &[2 * cols * size, cols * size])? {
            let (elements, units) = (window.len() * cols, window.len() * cols / width as usize);
            let params = Params { n: units as u32, cols: (cols / width as usize) as u32 };
            let both = 2 * window.start * cols..2 * window.end * cols;
            self.gpu().run(&Launch {
                program: BACKWARD.program(variant),
                params: params.as_bytes(),
                inputs: &[self.window(both.clone()), dy.window(window.start * cols..window.end * cols)],
                outputs: &[dx.window(both)],
                groups: flat_groups(self.gpu(), "geglu", units)?,
                work: Work { flops: 40 * elements as u64, bytes: (5 * elements * size) as u64 },
            })?;
        }
        Ok(dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options, Scalar};
    use crate::tensor::DType;
    use crate::testing::{assert_close, assert_gradients, gelu, gpu, gpu_with, random};
    use half::f16;

    /// Against the unfused chain, which has its own f64 reference.
    fn check(gpu: &Gpu, shape: &[usize], dtype: DType, tolerance: f64) {
        let axis = shape.len() - 1;
        let cols = shape[axis] / 2;
        let values = random(shape, 4.0);
        let x = match dtype {
            DType::F16 => {
                let half: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
                Tensor::new(gpu, shape, &half).unwrap()
            }
            _ => Tensor::new(gpu, shape, &values).unwrap(),
        };
        let wide = x.cast(DType::F32).unwrap();
        let gate = wide.narrow(axis, cols, cols).unwrap().gelu().unwrap();
        let want = wide.narrow(axis, 0, cols).unwrap().mul(&gate).unwrap().to_vec().unwrap();
        let want: Vec<f64> = want.into_iter().map(f64::from).collect();
        let y = x.geglu().unwrap();
        assert_eq!((y.dtype(), y.dim(0)), (dtype, cols));
        assert_close(&y.to_vec().unwrap(), &want, tolerance, &format!("{shape:?} {dtype:?}"));
    }

    #[test]
    fn the_value_times_gelu_of_the_gate() {
        let Some(gpu) = gpu() else { return };
        let y = Tensor::new(&gpu, &[1, 4], &[2.0_f32, -3.0, 1.0, 0.0]).unwrap().geglu().unwrap();
        // gelu(1) = 0.8413447461
        assert_close(&y.to_vec().unwrap(), &[2.0 * 0.841_344_746_1, 0.0], 1e-6, "by hand");
    }

    #[test]
    fn rows_match_the_unfused_chain() {
        let Some(gpu) = gpu() else { return };
        for shape in [vec![2], vec![3, 14], vec![5, 8], vec![2, 3, 160], vec![70_001, 2]] {
            check(&gpu, &shape, DType::F32, 1e-6);
            if gpu.facts().features.f16 {
                check(&gpu, &shape, DType::F16, 1e-3);
            }
        }
    }

    fn check_gradients(gpu: &Gpu, shape: &[usize], dtype: DType, tolerance: f64) {
        let cols = shape[shape.len() - 1] / 2;
        let rounded = |v: f32| if dtype == DType::F16 { f16::from_f32(v).to_f32() } else { v };
        let values: Vec<f32> = random(shape, 3.0).into_iter().map(rounded).collect();
        assert_gradients(
            gpu,
            &[(shape, &values)],
            |x| x[0].cast(dtype)?.geglu()?.cast(DType::F32),
            |x| {
                let row =
                    |row: &[f64]| (0..cols).map(|at| row[at] * gelu(row[cols + at])).collect::<Vec<_>>();
                x[0].chunks(2 * cols).flat_map(row).collect()
            },
            tolerance,
            &format!("{shape:?} {dtype}"),
        );
    }

    #[test]
    fn gradients_match_the_differences() {
        let Some(gpu) = gpu() else { return };
        for shape in [vec![2], vec![3, 14], vec![5, 8], vec![2, 3, 160], vec![1031, 2]] {
            check_gradients(&gpu, &shape, DType::F32, 2e-6);
        }
        if gpu.facts().features.f16 {
            check_gradients(&gpu, &[3, 14], DType::F16, 3e-3);
            check_gradients(&gpu, &[5, 16], DType::F16, 3e-3);
        }
        let plan = Gpu::plan();
        assert!(Tensor::empty(&plan, &[4], DType::F32).unwrap().geglu().unwrap().made().is_none());
    }

    #[test]
    fn a_tensor_larger_than_a_binding_goes_in_windows() {
        let options = Options { binding_bytes: Some(4096), ..Options::default() };
        let Some(gpu) = gpu_with(options) else { return };
        check(&gpu, &[3001, 2], DType::F32, 1e-6);
        check(&gpu, &[65, 48], DType::F32, 1e-6);
        check_gradients(&gpu, &[65, 48], DType::F32, 2e-6);
    }

    #[test]
    fn odd_axes_are_refused_and_empty_ones_are_not() {
        let plan = Gpu::plan();
        let tensor = |shape: &[usize], dtype| Tensor::empty(&plan, shape, dtype).unwrap();
        assert!(matches!(tensor(&[2, 3], DType::F32).geglu(), Err(Error::Shape { .. })));
        assert!(matches!(tensor(&[], DType::F32).geglu(), Err(Error::Shape { .. })));
        assert!(matches!(tensor(&[2], DType::I32).geglu(), Err(Error::DType { .. })));
        assert_eq!(tensor(&[0, 8], DType::F32).geglu().unwrap().shape(), [0, 4]);
        assert_eq!(tensor(&[3, 0], DType::F32).geglu().unwrap().shape(), [3, 0]);
    }

    #[test]
    fn shader_twin() {
        crate::testing::shader_twin(&FORWARD, Params::FIELDS);
        crate::testing::shader_twin(&BACKWARD, Params::FIELDS);
        for scalar in [Scalar::F32, Scalar::F16] {
            let text = WORDS.program(Variant { scalar, width: 8, workgroup: 64 }).text(true);
            crate::testing::validate("geglu in words", &text, Params::FIELDS);
        }
    }
}
