//! The norm of gradients taken together, and what they are scaled by to stay below a bound.
//! norm = sqrt(sum of squares) * scale,  factor = scale * min(1, largest / (norm + 1e-6))
//! Same as PyTorch `clip_grad_norm_`, with a loss scale taken out on the way. Nothing comes to the host: optimisers read
//! the factor where it lies.

use super::{common, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Kernel, Launch, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor};

const SOURCES: &[&str] = &[shaders!("clip"), common::INDEX, common::REDUCE];
const SQUARES: Kernel = Kernel::new("clip", "squares", SOURCES);
const FACTOR: Kernel = Kernel::new("clip", "factor", SOURCES);

/// Units one invocation takes in: few, so that sums stay accurate.
const TURNS: usize = 64;
const WIDTH: usize = 4;

params! {
    struct Params {
        units: u32,
        chunk: u32,
        first: u32,
        n: u32,
        scale: f32,
        largest: f32,
    }
}

impl Tensor {
    /// Gradients of any shapes, f32 or f16 -> `[2]`: their norm times `scale`, and what to multiply each with so that
    /// the norm is at most `largest` (infinity: `scale` alone). `scale` takes a loss scale out.
    ///
    /// Errors: without a gradient, on ids.
    pub fn clip(gradients: &[&Tensor], scale: f64, largest: f64) -> Result<Tensor> {
        let Some(first) = gradients.first() else {
            return Err(Error::shape("clip", "wanted at least one gradient, got none"));
        };
        let gpu = first.gpu();
        let _op = gpu.op(|| format!("clip {} gradients", gradients.len()));
        let workgroup = gpu.row_workgroup();
        let chunk = TURNS * workgroup as usize;
        let mut pieces = Vec::new();
        for gradient in gradients {
            gradient.scalar("clip")?;
            for window in super::flat_windows(gpu, "clip", gradient.len(), &[gradient.dtype()])? {
                pieces.push((gradient, window));
            }
        }
        let chunks_of = |n: usize| n.div_ceil(WIDTH).div_ceil(chunk);
        let n_sums: usize = pieces.iter().map(|(_, window)| chunks_of(window.len())).sum();
        let sums = Tensor::empty(gpu, &[n_sums.max(1)], DType::F32)?;
        let mut before = 0;
        for (gradient, window) in pieces {
            let (scalar, n) = (gradient.scalar("clip")?, window.len());
            let variant = Variant { scalar, width: WIDTH as u32, workgroup };
            let params = Params {
                units: n.div_ceil(WIDTH) as u32,
                chunk: chunk as u32,
                first: before as u32,
                n: n as u32,
                scale: 0.0,
                largest: 0.0,
            };
            let bytes = (n * gradient.dtype().bytes()) as u64;
            gpu.run(&Launch {
                program: SQUARES.program(variant),
                params: params.as_bytes(),
                inputs: &[gradient.window(window)],
                outputs: &[sums.binding()],
                groups: gpu.grid("clip", chunks_of(n) as u64)?,
                work: Work { flops: 2 * n as u64, bytes },
            })?;
            before += chunks_of(n);
        }
        finish(gpu, &sums, before, scale, largest)
    }
}

/// Sums of squares, `n_sums` of them -> norm and factor.
fn finish(gpu: &Gpu, sums: &Tensor, n_sums: usize, scale: f64, largest: f64) -> Result<Tensor> {
    let result = Tensor::empty(gpu, &[2], DType::F32)?;
    let workgroup = super::row_workgroup(gpu, WIDTH * n_sums, "clip")?;
    let params = Params {
        units: n_sums as u32,
        chunk: 0,
        first: 0,
        n: 0,
        scale: scale as f32,
        largest: if largest.is_finite() { largest as f32 } else { f32::MAX },
    };
    gpu.run(&Launch {
        program: FACTOR.program(Variant { scalar: Scalar::F32, width: WIDTH as u32, workgroup }),
        params: params.as_bytes(),
        inputs: &[sums.binding()],
        outputs: &[result.binding()],
        groups: [1, 1, 1],
        work: Work { flops: n_sums as u64, bytes: 4 * n_sums as u64 },
    })?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Options;
    use crate::testing::{assert_close, gpu, gpu_with, random_from, validate};

    fn case(gpu: &Gpu, sizes: &[usize], scale: f64, largest: f64) {
        let values: Vec<Vec<f32>> =
            sizes.iter().enumerate().map(|(at, &n)| random_from(at as u64, n, 1.0)).collect();
        let there: Vec<Tensor> = values.iter().map(|v| Tensor::new(gpu, &[v.len()], v).unwrap()).collect();
        let result = Tensor::clip(&there.iter().collect::<Vec<_>>(), scale, largest).unwrap();
        let squares: f64 = values.iter().flatten().map(|&v| f64::from(v).powi(2)).sum();
        let norm = squares.sqrt() * scale;
        let factor = scale * (largest / (norm + 1e-6)).min(1.0);
        let got = result.to_vec().unwrap();
        let relative = [f64::from(got[0]) / norm.max(1e-30), f64::from(got[1]) / factor];
        let what = format!("{sizes:?} {scale} {largest}");
        let want: &[f64] = if squares == 0.0 { &[0.0, 1.0] } else { &[1.0, 1.0] };
        assert_close(&relative.map(|v| v as f32), want, 2e-6, &what);
    }

    #[test]
    fn norms_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for sizes in [&[1][..], &[3, 5, 1031], &[4097, 2], &[300_001], &[0, 7]] {
            for (scale, largest) in [(1.0, 1.0), (1.0, f64::INFINITY), (1.0 / 1024.0, 0.5), (1.0, 1e6)] {
                case(&gpu, sizes, scale, largest);
            }
        }
        case(&gpu, &[0], 1.0, 1.0);
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        case(&gpu, &[5003, 1025], 1.0, 1.0);
    }

    #[test]
    fn padding_does_not_count_and_f16_is_taken() {
        let Some(gpu) = gpu().filter(|gpu| gpu.facts().features.f16) else { return };
        let x: Vec<half::f16> = [3.0, 0.0, 0.0, 0.0, 4.0].map(half::f16::from_f32).into();
        let x = Tensor::new(&gpu, &[5], &x).unwrap();
        assert_close(&Tensor::clip(&[&x], 1.0, 1.0).unwrap().to_vec().unwrap(), &[5.0, 0.2], 1e-6, "f16");
    }

    #[test]
    fn what_is_not_finite_shows() {
        let Some(gpu) = gpu() else { return };
        for bad in [f32::NAN, f32::INFINITY] {
            let x = Tensor::new(&gpu, &[3], &[1.0, bad, 2.0]).unwrap();
            assert!(!Tensor::clip(&[&x], 1.0, 1.0).unwrap().to_vec().unwrap()[0].is_finite());
        }
    }

    #[test]
    fn wrong_calls_are_refused() {
        let gpu = Gpu::plan();
        assert!(Tensor::clip(&[], 1.0, 1.0).is_err());
        assert!(Tensor::clip(&[&Tensor::empty(&gpu, &[1], DType::I32).unwrap()], 1.0, 1.0).is_err());
    }

    #[test]
    fn shader_twin_of_clip() {
        for scalar in [Scalar::F32, Scalar::F16] {
            for kernel in [SQUARES, FACTOR] {
                let variant = Variant { scalar, width: WIDTH as u32, workgroup: 64 };
                validate("clip", &kernel.program(variant).text(true), Params::FIELDS);
            }
        }
    }
}
