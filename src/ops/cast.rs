//! The same values in another number type.    f32 <-> f16
//! Same as PyTorch `x.to(dtype)` for these two.

use super::{common, flat_groups, flat_windows, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor};

const SOURCES: &[&str] = &[shaders!("cast"), common::INDEX];
const NARROW: Kernel = Kernel::new("cast", "narrow", SOURCES);
const WIDEN: Kernel = Kernel::new("cast", "widen", SOURCES);
const WORDS: &[&str] = &[shaders!("cast_words"), common::INDEX];
const NARROW_WORDS: Kernel = Kernel::new("cast", "narrow", WORDS);
const WIDEN_WORDS: Kernel = Kernel::new("cast", "widen", WORDS);

params! {
    struct Params {
        n: u32,
    }
}

impl Tensor {
    /// [..] -> [..]; the tensor itself where it has that type already. What passes 65,504 is infinite in f16.
    ///
    /// Errors: [`Error::DType`] between floats and ids.
    pub fn cast(&self, dtype: DType) -> Result<Tensor> {
        let width = if super::words_pay(self.gpu()) && self.len().is_multiple_of(8) { 8 } else { 4 };
        let kernel = match (self.dtype(), dtype) {
            (from, to) if from == to => return Ok(self.clone()),
            (DType::F32, DType::F16) if width == 8 => NARROW_WORDS,
            (DType::F16, DType::F32) if width == 8 => WIDEN_WORDS,
            (DType::F32, DType::F16) => NARROW,
            (DType::F16, DType::F32) => WIDEN,
            (from, to) => {
                return Err(Error::dtype(
                    "cast",
                    format!("wanted f32 or f16 on both sides, got {from:?} to {to:?}"),
                ));
            }
        };
        let _op = self.gpu().op(|| format!("cast {self} -> {dtype}"));
        let y = Tensor::empty(self.gpu(), self.shape(), dtype)?;
        let variant =
            Variant { scalar: Scalar::F16, width: width as u32, workgroup: self.gpu().flat_workgroup() };
        for window in flat_windows(self.gpu(), "cast", self.len(), &[self.dtype(), dtype])? {
            let units = window.len().div_ceil(width);
            self.gpu().run(&Launch {
                program: kernel.program(variant),
                params: Params { n: units as u32 }.as_bytes(),
                inputs: &[self.window(window.clone())],
                outputs: &[y.window(window.clone())],
                groups: flat_groups(self.gpu(), "cast", units)?,
                work: Work { flops: 0, bytes: 6 * window.len() as u64 },
            })?;
        }
        Ok(y.made_by([self], |_, dy| {
            let back = if dy.dtype() == DType::F16 { DType::F32 } else { DType::F16 };
            Ok([Some(dy.cast(back)?)])
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::testing::{gpu, gpu_with, random};
    use half::f16;

    /// There and back, against the host's rounding.
    fn check(gpu: &Gpu, n: usize) {
        let x = random(&[n], 100.0);
        let narrow = Tensor::new(gpu, &[n], &x).unwrap().cast(DType::F16).unwrap();
        assert_eq!((narrow.dtype(), narrow.len()), (DType::F16, n));
        let got = narrow.to_vec().unwrap();
        for (&x, &y) in x.iter().zip(&got) {
            let want = f16::from_f32(x);
            // One step of f16: Vulkan leaves the direction of rounding to the driver.
            let steps = (want.to_bits() as i32 - f16::from_f32(y).to_bits() as i32).abs();
            assert!(steps <= 1, "{x}: wanted {want}, got {y}");
        }
        assert_eq!(narrow.cast(DType::F32).unwrap().to_vec().unwrap(), got, "widening is exact");
    }

    #[test]
    fn there_and_back() {
        let Some(gpu) = gpu().filter(|gpu| gpu.facts().features.f16) else { return };
        for n in [0, 1, 3, 8, 257, 1030, 4096 + 8] {
            check(&gpu, n);
        }
    }

    #[test]
    fn a_tensor_larger_than_a_binding_goes_in_windows() {
        let options = Options { binding_bytes: Some(4096), ..Options::default() };
        let Some(gpu) = gpu_with(options).filter(|gpu| gpu.facts().features.f16) else { return };
        check(&gpu, 3001);
        check(&gpu, 5008);
    }

    #[test]
    fn the_same_type_costs_nothing_and_ids_are_refused() {
        let plan = Gpu::plan();
        let x = Tensor::empty(&plan, &[3], DType::F32).unwrap();
        assert_eq!(x.cast(DType::F32).unwrap().node(), x.node());
        assert_eq!(plan.counts().dispatches, 0);
        assert!(matches!(x.cast(DType::I32), Err(Error::DType { .. })));
    }

    #[test]
    fn the_way_back_casts_the_gradient() {
        let plan = Gpu::plan();
        let y = Tensor::empty(&plan, &[3], DType::F32).unwrap().parameter().cast(DType::F16).unwrap();
        let back = (y.made().unwrap().backward)(&y, &y).unwrap();
        assert_eq!(back[0].as_ref().unwrap().dtype(), DType::F32);
    }

    #[test]
    fn shader_twin() {
        crate::testing::shader_twin(&NARROW, Params::FIELDS);
        let variant = Variant { scalar: Scalar::F16, width: 8, workgroup: 64 };
        for kernel in [NARROW_WORDS, WIDEN_WORDS] {
            let text = kernel.program(variant).text(true);
            crate::testing::validate("cast in words", &text, Params::FIELDS);
        }
    }
}
