//! A weighted sum of tensors.      y = c1 x1 + c2 x2 + ..
//! The updates of the samplers (DDIM, PNDM, DPM-Solver) are this, with coefficients reckoned in f64 on the host.
//! Backward: dx1 = c1 dy, dx2 = c2 dy, ..

use super::{check_device, common, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Binding, Kernel, Launch, Variant, Work};
use crate::tensor::Tensor;
use std::ops::Range;

const FORWARD: Kernel = Kernel::new("combine", "forward", &[shaders!("combine"), common::INDEX]);

/// Most tensors in one sum.
const MOST: usize = 6;
/// Elements an invocation handles; the last few may lie past the tensor's end, where buffers are padded.
const WIDTH: usize = 4;

params! {
    struct Params {
        units: u32,
        count: u32,
        c1: f32,
        c2: f32,
        c3: f32,
        c4: f32,
        c5: f32,
        c6: f32,
    }
}

impl Tensor {
    /// Tensors of one shape and type -> the sum of each times its coefficient, first to last.
    ///
    /// Errors: without a tensor or with more than six, on tensors that differ in shape, type or device, on ids.
    pub fn combine(terms: &[(&Tensor, f64)]) -> Result<Tensor> {
        let op = "combine";
        let (Some(&(first, _)), 1..=MOST) = (terms.first(), terms.len()) else {
            return Err(Error::shape(op, format!("wanted 1 to {MOST} tensors, got {}", terms.len())));
        };
        let _op = first.gpu().op(|| format!("{op} {} x {first}", terms.len()));
        check_alike(op, first, terms)?;
        let scalar = first.scalar(op)?;
        let y = Tensor::empty(first.gpu(), first.shape(), first.dtype())?;
        if first.is_empty() {
            return Ok(y);
        }
        let gpu = first.gpu();
        let variant = Variant { scalar, width: WIDTH as u32, workgroup: gpu.flat_workgroup() };
        let unit_bytes = WIDTH * first.dtype().bytes();
        let [c1, c2, c3, c4, c5, c6] =
            std::array::from_fn(|at| terms.get(at).map_or(0.0, |term| term.1 as f32));
        for units in gpu.row_windows(op, first.len().div_ceil(WIDTH), &[unit_bytes])? {
            let (count, n_units) = (terms.len() as u32, units.len() as u32);
            let params = Params { units: n_units, count, c1, c2, c3, c4, c5, c6 };
            let elements: Range<usize> = units.start * WIDTH..units.end * WIDTH;
            // Places without a tensor are not read; the first one holds them.
            let bindings: [Binding; MOST] =
                std::array::from_fn(|at| terms.get(at).map_or(first, |term| term.0).window(elements.clone()));
            gpu.run(&Launch {
                program: FORWARD.program(variant),
                params: params.as_bytes(),
                inputs: &bindings,
                outputs: &[y.window(elements)],
                groups: gpu.grid(op, (units.len() as u64).div_ceil(u64::from(variant.workgroup)))?,
                work: Work {
                    flops: (2 * terms.len() * units.len() * WIDTH) as u64,
                    bytes: ((terms.len() + 1) * units.len() * unit_bytes) as u64,
                },
            })?;
        }
        if terms.iter().all(|(term, _)| !term.wants_gradient()) {
            return Ok(y);
        }
        let inputs: Vec<&Tensor> = terms.iter().map(|term| term.0).collect();
        let wanted: Vec<Option<f32>> =
            terms.iter().map(|&(x, c)| x.wants_gradient().then_some(c as f32)).collect();
        Ok(y.made_by_all(&inputs, move |_, dy| {
            wanted.iter().map(|wanted| wanted.map(|c| dy.scale(c, 0.0)).transpose()).collect()
        }))
    }
}

/// Refuses terms that differ from `like` in shape, type or device.
pub(super) fn check_alike(op: &str, like: &Tensor, terms: &[(&Tensor, f64)]) -> Result<()> {
    for (at, (term, _)) in terms.iter().enumerate() {
        if term.shape() != like.shape() {
            let detail = format!("tensor {at} wants shape {:?}, got {:?}", like.shape(), term.shape());
            return Err(Error::shape(op, detail));
        }
        if term.dtype() != like.dtype() {
            let detail = format!("tensor {at} wants {:?}, got {:?}", like.dtype(), term.dtype());
            return Err(Error::dtype(op, detail));
        }
        check_device(op, &format!("tensor {at}"), term, like)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::tensor::DType;
    use crate::testing::{
        assert_close, assert_gradients, gpu, gpu_with, gradients, random_from, shader_twin,
    };

    const COEFFICIENTS: [f64; MOST] = [0.5, -1.25, 3.0, 0.125, -0.7, 2.2];

    /// The same in f64 and plain loops.
    fn reference(terms: &[Vec<f32>]) -> Vec<f64> {
        (0..terms[0].len())
            .map(|at| terms.iter().zip(COEFFICIENTS).map(|(x, c)| c * f64::from(x[at])).sum())
            .collect()
    }

    fn case(gpu: &Gpu, len: usize, count: usize) {
        let terms: Vec<Vec<f32>> = (0..count).map(|at| random_from(at as u64, len, 2.0)).collect();
        let there: Vec<Tensor> = terms.iter().map(|x| Tensor::new(gpu, &[len], x).unwrap()).collect();
        let paired: Vec<(&Tensor, f64)> = there.iter().zip(COEFFICIENTS).collect();
        let y = Tensor::combine(&paired).unwrap();
        assert_close(&y.to_vec().unwrap(), &reference(&terms), 2e-6, &format!("{count} of {len}"));
    }

    #[test]
    fn sums_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for len in [1, 3, 4, 257, 1021] {
            for count in 1..=MOST {
                case(&gpu, len, count);
            }
        }
        case(&gpu, 300_001, 3);
    }

    #[test]
    fn gradients_are_the_coefficients() {
        let Some(gpu) = gpu() else { return };
        for count in [1, 2, MOST] {
            let terms: Vec<Vec<f32>> = (0..count).map(|at| random_from(at as u64, 37, 2.0)).collect();
            let inputs: Vec<(&[usize], &[f32])> = terms.iter().map(|x| (&[37][..], &x[..])).collect();
            for half in [false, gpu.facts().features.f16] {
                let dtype = if half { DType::F16 } else { DType::F32 };
                assert_gradients(
                    &gpu,
                    &inputs,
                    |x| {
                        let x = x.iter().map(|x| x.cast(dtype)).collect::<Result<Vec<_>>>()?;
                        let paired: Vec<(&Tensor, f64)> = x.iter().zip(COEFFICIENTS).collect();
                        Tensor::combine(&paired)?.cast(DType::F32)
                    },
                    |x| {
                        let sum = |at: usize| x.iter().zip(COEFFICIENTS).map(|(x, c)| c * x[at]).sum();
                        (0..37).map(sum).collect()
                    },
                    if half { 2e-3 } else { 1e-6 },
                    &format!("{count} {dtype}"),
                );
            }
        }
        // The same tensor twice, and one that wants none.
        let x = Tensor::new(&gpu, &[2], &[1.0_f32, 2.0]).unwrap();
        let p = x.parameter();
        let y = Tensor::combine(&[(&p, 2.0), (&x, 7.0), (&p, 0.5)]).unwrap();
        assert_eq!(gradients(&y, x.clone(), &[p])[0], [2.5, 5.0]);
        assert!(Tensor::combine(&[(&x, 2.0)]).unwrap().made().is_none());
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        case(&gpu, 5003, 6);
        case(&gpu, 1024, 2);
    }

    #[test]
    fn half_precision_storage_and_one_tensor_twice() {
        let Some(gpu) = gpu() else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        let x: Vec<half::f16> = random_from(1, 77, 2.0).into_iter().map(half::f16::from_f32).collect();
        let there = Tensor::new(&gpu, &[7, 11], &x).unwrap();
        let y = Tensor::combine(&[(&there, 1.5), (&there, -0.25)]).unwrap();
        let want: Vec<f64> = x.iter().map(|v| 1.25 * v.to_f64()).collect();
        assert_eq!((y.shape(), y.dtype()), (&[7, 11][..], DType::F16));
        assert_close(&y.to_vec().unwrap(), &want, 1e-3, "f16"); // one rounding to f16
    }

    #[test]
    fn wrong_calls_are_refused_and_nothing_gives_nothing() {
        let gpu = Gpu::plan();
        let make = |shape: &[usize], dtype| Tensor::empty(&gpu, shape, dtype).unwrap();
        let (a, b, c) = (make(&[6], DType::F32), make(&[2, 3], DType::F32), make(&[6], DType::F16));
        assert!(Tensor::combine(&[]).is_err());
        assert!(Tensor::combine(&[(&a, 1.0); 7]).is_err());
        assert!(matches!(Tensor::combine(&[(&a, 1.0), (&b, 1.0)]), Err(Error::Shape { .. })));
        assert!(matches!(Tensor::combine(&[(&a, 1.0), (&c, 1.0)]), Err(Error::DType { .. })));
        assert!(Tensor::combine(&[(&make(&[2], DType::I32), 1.0)]).is_err());
        assert!(Tensor::combine(&[(&make(&[0, 2], DType::F32), 1.0)]).unwrap().is_empty());
        let foreign = Tensor::empty(&Gpu::plan(), &[6], DType::F32).unwrap();
        assert!(matches!(Tensor::combine(&[(&a, 1.0), (&foreign, 1.0)]), Err(Error::Device(_))));
    }

    #[test]
    fn shader_twin_of_combine() {
        shader_twin(&FORWARD, Params::FIELDS);
    }
}
