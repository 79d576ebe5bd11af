//! Classifier-free guidance, alone or with the sampler's update in one pass.
//! g = u + scale (c - u)      y = cg g + c1 x1 + .. + c4 x4
//! Backward, of guidance alone: du = (1 - scale) dg, dc = scale dg. A sampler's step is not learnt through.

use super::combine::check_alike;
use super::{bind_rows, common, params, pieces, rows_fit, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::tensor::Tensor;

const SOURCES: &[&str] = &[shaders!("guide"), common::INDEX];
const GUIDE: Kernel = Kernel::new("guide", "guide", SOURCES);
const STEP: Kernel = Kernel::new("guide", "step", SOURCES);
const STEP_AND_KEEP: Kernel = Kernel::new("guide", "step_and_keep", SOURCES);

/// Most tensors beside the model's output.
const MOST: usize = 4;

params! {
    struct Params {
        units: u32,
        count: u32,
        skip: u32,
        skip_c: u32,
        scale: f32,
        cg: f32,
        c1: f32,
        c2: f32,
        c3: f32,
        c4: f32,
    }
}

impl Tensor {
    /// [2n, ..], n without the condition, then n under it -> [n, ..], pushed along their difference:
    /// `scale` 0 gives the first half, 1 the second.
    ///
    /// Errors: on an odd or missing first axis, on ids.
    pub fn guide(&self, scale: f64) -> Result<Tensor> {
        let guided = self.empty_half("guide")?;
        self.run_guide("guide", &GUIDE, scale, 0.0, &[], &[&guided])?;
        Ok(guided.made_by([self], move |_, dy| {
            let halves = [dy.scale((1.0 - scale) as f32, 0.0)?, dy.scale(scale as f32, 0.0)?];
            Ok([Some(Tensor::concat(&[&halves[0], &halves[1]], 0)?)])
        }))
    }

    /// A sampler's step from the model's output: [2n, ..] as in [`Tensor::guide`] -> `coefficient` times the
    /// guided output plus up to four tensors [n, ..] times theirs, as [n, ..]; and, with `keep`, the guided
    /// output, for the steps to come.
    ///
    /// Errors: as `guide`; on more than four tensors, on tensors of another shape, type or device.
    pub fn guided_step(
        &self,
        scale: f64,
        coefficient: f64,
        others: &[(&Tensor, f64)],
        keep: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let op = "guided_step";
        let y = self.empty_half(op)?;
        if others.len() > MOST {
            return Err(Error::shape(op, format!("wanted at most {MOST} tensors, got {}", others.len())));
        }
        check_alike(op, &y, others)?;
        if keep {
            let guided = self.empty_half(op)?;
            self.run_guide(op, &STEP_AND_KEEP, scale, coefficient, others, &[&y, &guided])?;
            Ok((y, Some(guided)))
        } else {
            self.run_guide(op, &STEP, scale, coefficient, others, &[&y])?;
            Ok((y, None))
        }
    }

    /// An undefined tensor of half the first axis.
    fn empty_half(&self, op: &str) -> Result<Tensor> {
        self.scalar(op)?;
        match self.shape() {
            [both, rest @ ..] if both % 2 == 0 => {
                Tensor::empty(self.gpu(), &[&[both / 2], rest].concat(), self.dtype())
            }
            other => Err(Error::shape(op, format!("wanted [2n, ..], both halves, got {other:?}"))),
        }
    }

    fn run_guide(
        &self,
        op: &str,
        kernel: &Kernel,
        scale: f64,
        cg: f64,
        others: &[(&Tensor, f64)],
        outputs: &[&Tensor],
    ) -> Result<()> {
        let _op = self.gpu().op(|| format!("{op} {self}"));
        let half = outputs[0].len();
        let width = super::width_of(half) as usize;
        let variant =
            Variant { scalar: self.scalar(op)?, width: width as u32, workgroup: self.gpu().flat_workgroup() };
        let units = half / width;
        let unit_bytes = width * self.dtype().bytes();
        let [c1, c2, c3, c4] = std::array::from_fn(|at| others.get(at).map_or(0.0, |o| o.1 as f32));
        let in_c = |piece: &std::ops::Range<usize>| units + piece.start..units + piece.end;
        let fits = |piece: &std::ops::Range<usize>| {
            rows_fit(self.gpu(), piece, unit_bytes) && rows_fit(self.gpu(), &in_c(piece), unit_bytes)
        };
        for piece in pieces(self.gpu(), op, units, unit_bytes, fits)? {
            let (c, skip_c) = bind_rows(self, in_c(&piece), width);
            let (u, skip) = bind_rows(self, piece.clone(), width);
            let params = Params {
                units: piece.len() as u32,
                count: others.len() as u32,
                skip,
                skip_c,
                scale: scale as f32,
                cg: cg as f32,
                c1,
                c2,
                c3,
                c4,
            };
            let mut inputs = vec![u, c];
            if kernel.entry != GUIDE.entry {
                // Places without a tensor are not read; x holds them.
                inputs.extend(others.iter().map(|other| bind_rows(other.0, piece.clone(), width).0));
                inputs.resize(2 + MOST, u);
            }
            let moved = 2 + others.len() + outputs.len();
            let outputs: Vec<_> =
                outputs.iter().map(|output| bind_rows(output, piece.clone(), width).0).collect();
            self.gpu().run(&Launch {
                program: kernel.program(variant),
                params: params.as_bytes(),
                inputs: &inputs,
                outputs: &outputs,
                groups: self.gpu().grid(op, (piece.len() as u64).div_ceil(u64::from(variant.workgroup)))?,
                work: Work {
                    flops: ((4 + 2 * others.len()) * piece.len() * width) as u64,
                    bytes: (moved * piece.len() * unit_bytes) as u64,
                },
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::tensor::DType;
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, random, random_from, shader_twin};

    const COEFFICIENTS: [f64; MOST] = [0.98, -1.25, 0.5, 2.0];

    /// Guided output and step in f64 and plain loops.
    fn reference(x: &[f32], scale: f64, cg: f64, others: &[Vec<f32>]) -> (Vec<f64>, Vec<f64>) {
        let half = x.len() / 2;
        let guided: Vec<f64> = (0..half)
            .map(|at| f64::from(x[at]) + scale * (f64::from(x[half + at]) - f64::from(x[at])))
            .collect();
        let y = (0..half)
            .map(|at| {
                let sum: f64 = others.iter().zip(COEFFICIENTS).map(|(o, c)| c * f64::from(o[at])).sum();
                cg * guided[at] + sum
            })
            .collect();
        (guided, y)
    }

    fn case(gpu: &Gpu, shape: &[usize], n_others: usize) {
        let x = random(shape, 1.0);
        let mut half = shape.to_vec();
        half[0] /= 2;
        let others: Vec<Vec<f32>> =
            (0..n_others).map(|at| random_from(at as u64, x.len() / 2, 1.0)).collect();
        let there: Vec<Tensor> = others.iter().map(|o| Tensor::new(gpu, &half, o).unwrap()).collect();
        let terms: Vec<(&Tensor, f64)> = there.iter().zip(COEFFICIENTS).collect();
        let x_there = Tensor::new(gpu, shape, &x).unwrap();
        let (guided, want) = reference(&x, 12.5, -0.3, &others);
        let label = format!("{shape:?}, {n_others} others");
        // u + 12.5 (c - u) rounds at 25
        let alone = x_there.guide(12.5).unwrap();
        assert_eq!(alone.shape(), half);
        assert_close(&alone.to_vec().unwrap(), &guided, 4e-6, &label);
        let (y, none) = x_there.guided_step(12.5, -0.3, &terms, false).unwrap();
        assert!(none.is_none());
        assert_close(&y.to_vec().unwrap(), &want, 4e-6, &label);
        let (y, kept) = x_there.guided_step(12.5, -0.3, &terms, true).unwrap();
        assert_close(&y.to_vec().unwrap(), &want, 4e-6, &label);
        assert_close(&kept.unwrap().to_vec().unwrap(), &guided, 4e-6, &label);
    }

    #[test]
    fn steps_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for shape in [vec![2, 1], vec![2, 7], vec![2, 3, 4], vec![4, 5, 13], vec![2, 6, 36, 64, 4]] {
            for n_others in 0..=MOST {
                case(&gpu, &shape, n_others);
            }
        }
    }

    #[test]
    fn gradients_of_guidance_alone() {
        let Some(gpu) = gpu() else { return };
        let x = random(&[4, 7], 1.0);
        let wide =
            |x: &[f64]| -> Vec<f64> { (0..14).map(|at| x[at] + 12.5 * (x[14 + at] - x[at])).collect() };
        let inputs: [(&[usize], &[f32]); 1] = [(&[4, 7], &x)];
        assert_gradients(&gpu, &inputs, |x| x[0].guide(12.5), |x| wide(&x[0]), 1e-6, "guide");
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        for shape in [[2, 4001], [2, 4004], [6, 777], [2, 1030]] {
            case(&gpu, &shape, 3);
        }
    }

    #[test]
    fn half_precision_storage() {
        let Some(gpu) = gpu() else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        for len in [39, 40, 600] {
            let x: Vec<half::f16> = random(&[2, len], 1.0).into_iter().map(half::f16::from_f32).collect();
            let wide: Vec<f32> = x.iter().map(|v| v.to_f32()).collect();
            let there = Tensor::new(&gpu, &[2, len], &x).unwrap();
            let (guided, _) = reference(&wide, 7.5, 0.0, &[]);
            // one rounding to f16
            assert_close(&there.guide(7.5).unwrap().to_vec().unwrap(), &guided, 1e-3, "f16");
        }
    }

    #[test]
    fn wrong_calls_are_refused_and_nothing_gives_nothing() {
        let gpu = Gpu::plan();
        let make = |shape: &[usize], dtype| Tensor::empty(&gpu, shape, dtype).unwrap();
        let x = make(&[2, 6], DType::F32);
        let (good, other, half) =
            (make(&[1, 6], DType::F32), make(&[6], DType::F32), make(&[1, 6], DType::F16));
        assert!(x.guided_step(1.0, 1.0, &[(&good, 1.0); 4], true).is_ok());
        assert!(x.guided_step(1.0, 1.0, &[(&good, 1.0); 5], true).is_err());
        assert!(matches!(x.guided_step(1.0, 1.0, &[(&other, 1.0)], true), Err(Error::Shape { .. })));
        assert!(matches!(x.guided_step(1.0, 1.0, &[(&half, 1.0)], true), Err(Error::DType { .. })));
        assert!(make(&[3, 2], DType::F32).guide(1.0).is_err());
        assert!(make(&[], DType::F32).guide(1.0).is_err());
        assert!(make(&[2], DType::I32).guide(1.0).is_err());
        assert!(make(&[2, 0], DType::F32).guide(1.0).unwrap().is_empty());
        assert!(make(&[0, 2], DType::F32).guided_step(1.0, 1.0, &[], true).unwrap().0.is_empty());
    }

    #[test]
    fn shader_twins() {
        for kernel in [GUIDE, STEP, STEP_AND_KEEP] {
            shader_twin(&kernel, Params::FIELDS);
        }
    }
}
