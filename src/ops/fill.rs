//! Tensors of one value.    y = value
//! Same as PyTorch `full` and `zeros`.

use super::{common, flat_groups, flat_windows, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Kernel, Launch, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor};

const FORWARD: Kernel = Kernel::new("fill", "forward", &[shaders!("fill"), common::INDEX]);

params! {
    struct Params {
        n: u32,
        bits: u32,
    }
}

impl Tensor {
    /// `shape`, every element `value`.
    ///
    /// Errors: [`Error::Limit`] when the device cannot hold it, [`Error::DType`] for ids with a value that is
    /// none.
    pub fn full(gpu: &Gpu, shape: &[usize], dtype: DType, value: f32) -> Result<Tensor> {
        let no_id = || Error::dtype("full", format!("wanted an id for {dtype:?}, got {value}"));
        let bits = match dtype {
            DType::F32 => value.to_bits(),
            DType::F16 => u32::from(half::f16::from_f32(value).to_bits()) * 0x0001_0001,
            DType::I32 if value as i32 as f32 == value => value as i32 as u32,
            DType::U32 if value as u32 as f32 == value => value as u32,
            DType::I32 | DType::U32 => return Err(no_id()),
        };
        let _op = gpu.op(|| format!("full {shape:?} {dtype}"));
        let y = Tensor::empty(gpu, shape, dtype)?;
        let variant = Variant { scalar: Scalar::F32, width: 4, workgroup: gpu.flat_workgroup() };
        for window in flat_windows(gpu, "full", y.len(), &[dtype])? {
            let units = (window.len() * dtype.bytes()).div_ceil(16);
            gpu.run(&Launch {
                program: FORWARD.program(variant),
                params: Params { n: units as u32, bits }.as_bytes(),
                inputs: &[],
                outputs: &[y.window(window)],
                groups: flat_groups(gpu, "full", units)?,
                work: Work { flops: 0, bytes: 16 * units as u64 },
            })?;
        }
        Ok(y)
    }

    /// `shape`, every element 0.
    pub fn zeros(gpu: &Gpu, shape: &[usize], dtype: DType) -> Result<Tensor> {
        Tensor::full(gpu, shape, dtype, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Options;
    use crate::testing::{gpu, gpu_with};

    #[test]
    fn every_element_has_the_value() {
        let Some(gpu) = gpu() else { return };
        for n in [0, 1, 5, 7, 8, 1025] {
            for dtype in [DType::F32, DType::F16] {
                let y = Tensor::full(&gpu, &[n], dtype, -2.5).unwrap();
                assert_eq!(y.to_vec().unwrap(), vec![-2.5; n], "{dtype:?}");
            }
            assert_eq!(Tensor::full(&gpu, &[n], DType::I32, -7.0).unwrap().to_ids().unwrap(), vec![-7; n]);
        }
        assert_eq!(Tensor::zeros(&gpu, &[], DType::F32).unwrap().to_vec().unwrap(), [0.0]);
        assert!(matches!(Tensor::full(&gpu, &[1], DType::U32, 0.5), Err(Error::DType { .. })));
    }

    #[test]
    fn a_tensor_larger_than_a_binding_goes_in_windows() {
        let options = Options { binding_bytes: Some(4096), ..Options::default() };
        let Some(gpu) = gpu_with(options) else { return };
        for dtype in [DType::F32, DType::F16] {
            assert_eq!(Tensor::full(&gpu, &[5003], dtype, 1.5).unwrap().to_vec().unwrap(), vec![1.5; 5003]);
        }
    }

    #[test]
    fn shader_twin() {
        crate::testing::shader_twin(&FORWARD, Params::FIELDS);
    }
}
