//! The way back of GroupNorm: sums over chunks of positions, two means of each group, then dx.

use super::{MOST_ROWS, Params, n_chunks};
use crate::error::Result;
use crate::gpu::{Kernel, Launch, Scalar, Variant, Work};
use crate::ops::{bind_rows, common, row_workgroup, rows_per_invocation, shaders, width_of};
use crate::tensor::{DType, Tensor};
use std::ops::Range;

const SOURCES: &[&str] = &[
    shaders!("group_norm_backward"),
    shaders!("group_norm"),
    common::INDEX,
    common::REDUCE,
    common::ACTIVATION,
];
const SUMS: [Kernel; 2] = [
    Kernel::new("group_norm", "backward_sums", SOURCES),
    Kernel::new("group_norm", "backward_sums_silu", SOURCES),
];
const SHARE: Kernel = Kernel::new("group_norm", "backward_share", SOURCES);
const INPUT: [Kernel; 2] = [
    Kernel::new("group_norm", "backward_input", SOURCES),
    Kernel::new("group_norm", "backward_input_silu", SOURCES),
];

/// What the way there leaves for the way back.
pub(super) struct Kept {
    pub x: Tensor,
    pub weight: Tensor,
    pub bias: Tensor,
    /// [images, (mean, scale), channels]
    pub statistics: Tensor,
    pub groups: usize,
    pub silu: bool,
    /// Of x, weight and bias.
    pub wants: [bool; 3],
}

impl Kept {
    /// Gradients of x, weight and bias.
    pub(super) fn backward(&self, dy: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let (op, x, gpu) = ("group_norm", &self.x, self.x.gpu());
        let _op = gpu.op(|| format!("{op} gradient {x} / {}", self.groups));
        let (images, channels) = (x.shape()[0], x.dim(0));
        let positions = x.len() / (images * channels);
        let dx = Tensor::empty(gpu, x.shape(), x.dtype())?;
        let (scalar, width) = (x.scalar(op)?, width_of(channels));
        let variant = Variant { scalar, width, workgroup: 64 };
        let (units, items) = (channels / width as usize, (x.len() / width as usize) as u64);
        let plan = x.group_norm_plan(images, positions, channels, items)?;
        let slots = n_chunks(positions, plan.chunk, plan.stride);
        let rows_at_once = rows_per_invocation(gpu, items, MOST_ROWS);
        let group_channels = channels / self.groups;
        let mut vectors: Option<Tensor> = None;
        for first in (0..images).step_by(plan.images) {
            let n = plan.images.min(images - first);
            let statistics =
                if n == images { self.statistics.clone() } else { self.statistics.narrow(0, first, n)? };
            let parts = Tensor::empty(gpu, &[n, slots, 2, channels], DType::F32)?;
            let params = |piece: &Range<usize>, skip, chunk: usize, stride: usize| Params {
                units: units as u32,
                images: n as u32,
                positions: piece.len() as u32,
                pitch: positions as u32,
                skip,
                chunk: chunk as u32,
                stride: stride as u32,
                chunks: n_chunks(piece.len(), chunk, stride) as u32,
                first_slot: (piece.start / plan.chunk) as u32,
                slots: slots as u32,
                groups: self.groups as u32,
                group_channels: group_channels as u32,
                eps: 0.0,
            };
            let grid = |params: &Params| {
                let invocations = n as u64 * u64::from(params.chunks) * units as u64;
                gpu.grid(op, invocations.div_ceil(u64::from(variant.workgroup)))
            };
            let rows_of = |piece: &Range<usize>| {
                first * positions + piece.start..(first + n - 1) * positions + piece.end
            };
            let elements = |piece: &Range<usize>| (n * piece.len() * channels) as u64;
            let size = x.dtype().bytes() as u64;
            for piece in &plan.pieces {
                let (x, skip) = bind_rows(x, rows_of(piece), channels);
                let (dy, _) = bind_rows(dy, rows_of(piece), channels);
                let params = params(piece, skip, plan.chunk, plan.stride);
                let [statistics, weight, bias] = [&statistics, &self.weight, &self.bias].map(Tensor::binding);
                gpu.run(&Launch {
                    program: SUMS[usize::from(self.silu)].program(variant),
                    params: params.as_bytes(),
                    inputs: &[x, dy, statistics, weight, bias],
                    outputs: &[parts.binding()],
                    groups: grid(&params)?,
                    work: Work {
                        flops: if self.silu { 14 } else { 5 } * elements(piece),
                        bytes: 2 * elements(piece) * size,
                    },
                })?;
            }
            let sums = parts.sum(&[1])?;
            drop(parts);
            if self.wants[0] {
                let shares = Tensor::empty(gpu, &[n, 2, channels], DType::F32)?;
                let workgroup = row_workgroup(gpu, group_channels, op)?;
                gpu.run(&Launch {
                    program: SHARE.program(Variant { workgroup, scalar: Scalar::F32, width: 1 }),
                    params: params(&(0..positions), 0, plan.chunk, plan.stride).as_bytes(),
                    inputs: &[sums.binding(), self.weight.binding()],
                    outputs: &[shares.binding()],
                    groups: gpu.grid(op, (n * self.groups) as u64)?,
                    work: Work { flops: 4 * sums.len() as u64, bytes: 2 * sums.bytes() },
                })?;
                for piece in &plan.pieces {
                    let (out, _) = bind_rows(&dx, rows_of(piece), channels);
                    let (dy, _) = bind_rows(dy, rows_of(piece), channels);
                    let stride = x.apart(channels, piece.len(), rows_at_once);
                    let (x, skip) = bind_rows(x, rows_of(piece), channels);
                    let params = params(piece, skip, rows_at_once, stride);
                    let [statistics, weight, bias, shares] =
                        [&statistics, &self.weight, &self.bias, &shares].map(Tensor::binding);
                    gpu.run(&Launch {
                        program: INPUT[usize::from(self.silu)].program(variant),
                        params: params.as_bytes(),
                        inputs: &[x, dy, statistics, weight, bias, shares],
                        outputs: &[out],
                        groups: grid(&params)?,
                        work: Work {
                            flops: if self.silu { 16 } else { 7 } * elements(piece),
                            bytes: 3 * elements(piece) * size,
                        },
                    })?;
                }
            }
            if self.wants[1] || self.wants[2] {
                let sum = sums.sum(&[0])?;
                vectors = Some(match vectors {
                    Some(before) => before.add(&sum)?,
                    None => sum,
                });
            }
        }
        let vector = |at: usize| match &vectors {
            Some(both) => both.narrow(0, at, 1)?.reshape(&[channels]),
            None => Tensor::zeros(gpu, &[channels], DType::F32),
        };
        Ok([
            self.wants[0].then_some(dx),
            self.wants[1].then(|| vector(1)).transpose()?,
            self.wants[2].then(|| vector(0)).transpose()?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::reference;
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, random_from, validate};

    fn case(gpu: &Gpu, shape: [usize; 3], groups: usize, shift: f32, silu: bool) {
        let channels = shape[2];
        let x: Vec<f32> =
            random_from(1, shape.iter().product(), 1.7).into_iter().map(|v| v + shift).collect();
        let (w, b) = (random_from(2, channels, 2.0), random_from(3, channels, 1.0));
        for one_launch in [true, false] {
            assert_gradients(
                gpu,
                &[(&shape, &x), (&[channels], &w), (&[channels], &b)],
                |inputs| {
                    let [x, w, b] = inputs else { panic!("three") };
                    x.group_norm_as(Some(one_launch), groups, w, b, 1e-5, silu)
                },
                |values| reference(&values[0], shape, groups, &values[1], &values[2], 1e-5, silu),
                // sums over thousands of positions in f32; the differences are good to 1e-6
                if shift == 0.0 { 1e-4 } else { 1e-3 },
                &format!("{shape:?} / {groups} + {shift} silu {silu}, one launch: {one_launch}"),
            );
        }
    }

    #[test]
    fn gradients_match_the_differences() {
        let Some(gpu) = gpu() else { return };
        for (shape, groups) in [
            ([1, 2, 7], 7),
            ([2, 17, 20], 2),
            ([1, 401, 6], 3),
            ([3, 65, 64], 32),
            ([5, 2, 12], 12),
            ([2, 1153, 8], 1),
        ] {
            case(&gpu, shape, groups, 0.0, false);
            case(&gpu, shape, groups, 0.0, true);
        }
        case(&gpu, [2, 67, 12], 3, 100.0, true);
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        // Many small images, and images of many windows; widths 4 and 1.
        for (shape, groups) in [([300, 2, 12], 3), ([2, 201, 20], 4), ([3, 300, 7], 7)] {
            case(&gpu, shape, groups, 0.0, true);
        }
    }

    #[test]
    fn half_precision_storage() {
        let Some(gpu) = gpu() else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        let shape = [2, 45, 12];
        let halves = |seed, scale| -> Vec<f32> {
            let values = random_from(seed, shape.iter().product(), scale);
            values.into_iter().map(|v| half::f16::from_f32(v).to_f32()).collect()
        };
        let (x, dy) = (halves(1, 2.0), halves(2, 1.0));
        let gradients = |dtype| {
            let [x, dy] = [&x, &dy].map(|v| Tensor::new(&gpu, &shape, v).unwrap().cast(dtype).unwrap());
            let vector = |seed| Tensor::new(&gpu, &[12], &random_from(seed, 12, 1.5)).unwrap().parameter();
            let y = x.parameter().group_norm(3, &vector(3), &vector(4), 1e-5, true).unwrap();
            (y.made().expect("made from parameters").backward)(&y, &dy).unwrap()
        };
        for (got, want) in gradients(DType::F16).into_iter().zip(gradients(DType::F32)) {
            let want: Vec<f64> = want.unwrap().to_vec().unwrap().into_iter().map(f64::from).collect();
            // dx is rounded to f16 once, the others are not
            assert_close(&got.unwrap().to_vec().unwrap(), &want, 1e-3, "f16");
        }
    }

    #[test]
    fn shader_twins() {
        for kernel in SUMS.into_iter().chain(INPUT).chain([SHARE]) {
            for (scalar, width) in [Scalar::F32, Scalar::F16].into_iter().flat_map(|s| [(s, 1), (s, 4)]) {
                let text = kernel.program(Variant { scalar, width, workgroup: 64 }).text(true);
                validate(&format!("{} {scalar:?} {width}", kernel.entry), &text, Params::FIELDS);
            }
        }
    }
}
