//! Group normalisation, with SiLU where wanted.      y = (x - mean) / sqrt(var + eps) * weight + bias
//! Mean and variance of an image over all its positions and the channels of a group; equals PyTorch
//! `group_norm`, but channels-last. Statistics in f32, without cancellation where the mean is large. On cards, groups
//! that are small take one launch (`whole`); else there are passes over x, each with all cores.

mod backward;
mod whole;

use super::{check_vector, common, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Class, Kernel, Launch, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor};
use backward::Kept;
use std::ops::Range;

const MERGE: Kernel =
    Kernel::new("group_norm", "merge", &[shaders!("group_norm"), common::INDEX, common::REDUCE]);

/// The passes over x; `join` makes one part of the interlaced chunks of a block.
struct Passes {
    statistics: Kernel,
    join: Option<Kernel>,
    normalise: Kernel,
    normalise_silu: Kernel,
}

impl Passes {
    const fn new(sources: &'static [&'static str], joins: bool) -> Passes {
        Passes {
            statistics: Kernel::new("group_norm", "statistics", sources),
            join: if joins { Some(Kernel::new("group_norm", "join", sources)) } else { None },
            normalise: Kernel::new("group_norm", "normalise", sources),
            normalise_silu: Kernel::new("group_norm", "normalise_silu", sources),
        }
    }
}

const PASSES: Passes = Passes::new(
    &[shaders!("group_norm_pass"), shaders!("group_norm"), common::INDEX, common::REDUCE, common::ACTIVATION],
    false,
);
/// The same in 64-bit words.
const PASSES_8: Passes = Passes::new(
    &[
        shaders!("group_norm_pass8"),
        shaders!("group_norm"),
        common::INDEX,
        common::REDUCE,
        common::ACTIVATION,
    ],
    true,
);

/// Positions an invocation sums up: more make fewer partial sums, but walk further than the nearest cache.
const POSITIONS: std::ops::RangeInclusive<usize> = 16..=32;
/// Most positions an invocation normalises.
const MOST_ROWS: usize = 16;
/// Most positions one invocation may have to sum up where bindings are small: so short a sum stays exact.
const MOST_POSITIONS: usize = 1024;

params! {
    struct Params {
        units: u32,
        images: u32,
        positions: u32,
        pitch: u32,
        skip: u32,
        chunk: u32,
        stride: u32,
        chunks: u32,
        first_slot: u32,
        slots: u32,
        groups: u32,
        group_channels: u32,
        eps: f32,
    }
}

/// Images that are normalised together, and the positions of each that one launch sees.
struct Plan {
    /// Images per batch; 1 where an image does not fit a binding.
    images: usize,
    /// Ranges of an image's positions; one where the batch fits a binding.
    pieces: Vec<Range<usize>>,
    /// Positions an invocation sums up; pieces start on its multiples.
    chunk: usize,
    /// Positions from one of them to the next; 1 where there are several pieces.
    stride: usize,
}

/// How `positions` are cut into chunks whose own positions lie `stride` apart: how many there are.
fn n_chunks(positions: usize, chunk: usize, stride: usize) -> usize {
    let block = chunk * stride;
    positions / block * stride + stride.min(positions % block)
}

impl Tensor {
    /// [images, positions.., channels] -> the same, normalised within each image and group of channels, then
    /// y / (1 + exp(-y)) where `silu` asks for it. `weight` and `bias` are `[channels]`, f32. Gradients flow to all
    /// three.
    ///
    /// Errors: below two axes, groups that do not divide the channels, other shapes or types of the vectors;
    /// [`Error::Limit`] for images no launch can walk.
    pub fn group_norm(
        &self,
        groups: usize,
        weight: &Tensor,
        bias: &Tensor,
        eps: f64,
        silu: bool,
    ) -> Result<Tensor> {
        self.group_norm_as(None, groups, weight, bias, eps, silu)
    }

    /// The same in the form that a test wants: true for one launch.
    fn group_norm_as(
        &self,
        one_launch: Option<bool>,
        groups: usize,
        weight: &Tensor,
        bias: &Tensor,
        eps: f64,
        silu: bool,
    ) -> Result<Tensor> {
        let op = "group_norm";
        let _op = self.gpu().op(|| format!("{op} {self} / {groups}{}", if silu { " silu" } else { "" }));
        let [images, middle @ .., channels] = self.shape() else {
            let got = format!("wanted [images, positions.., channels], got {:?}", self.shape());
            return Err(Error::shape(op, got));
        };
        let (images, positions, channels) = (*images, middle.iter().product::<usize>(), *channels);
        if groups == 0 || channels % groups != 0 {
            return Err(Error::shape(op, format!("{groups} groups do not divide {channels} channels")));
        }
        check_vector(op, "weight", weight, self, channels)?;
        check_vector(op, "bias", bias, self, channels)?;
        let scalar = self.scalar(op)?;
        let y = Tensor::empty(self.gpu(), self.shape(), self.dtype())?;
        if self.is_empty() {
            return Ok(y);
        }
        let wants = [self, weight, bias].map(Tensor::wants_gradient);
        let norm = Norm { x: self, images, positions, channels, groups, weight, bias, eps, silu };
        let pays = || whole::pays(self.gpu().facts().class, positions, channels / groups);
        let bytes = self.bytes().max((images * 2 * channels * 4) as u64);
        let whole = whole::variant_of(scalar, channels / groups)
            .filter(|_| bytes <= self.gpu().facts().limits.binding_bytes && one_launch.unwrap_or_else(pays));
        let statistics = match whole {
            Some(variant) => Some(norm.whole(variant, &y)?),
            None => norm.in_passes(scalar, &y, wants.contains(&true))?,
        };
        let Some(statistics) = statistics.filter(|_| wants.contains(&true)) else { return Ok(y) };
        let [x, weight_kept, bias_kept] = [self, weight, bias].map(Tensor::detach);
        let kept = Kept { x, weight: weight_kept, bias: bias_kept, statistics, groups, silu, wants };
        Ok(y.made_by([self, weight, bias], move |_, dy| kept.backward(dy)))
    }

    /// Positions from one of an invocation's `chunk` to the next: on a software adapter so many that each lies in a
    /// page of its own, where the CPU reads ahead.
    fn apart(&self, channels: usize, positions: usize, chunk: usize) -> usize {
        let bytes = if self.gpu().facts().class == Class::Software { 16 << 10 } else { 0 };
        (bytes / (channels * self.dtype().bytes())).clamp(1, positions.div_ceil(chunk))
    }

    fn group_norm_plan(&self, images: usize, positions: usize, channels: usize, items: u64) -> Result<Plan> {
        let limit = self.gpu().facts().limits.binding_bytes as usize;
        let row_bytes = channels * self.dtype().bytes();
        let chunk = super::rows_per_invocation(self.gpu(), items, *POSITIONS.end());
        let chunk = chunk.max(*POSITIONS.start()).min(positions);
        let stride = self.apart(channels, positions, chunk);
        let whole = || std::iter::once(0..positions).collect();
        let parts_bytes = |chunk: usize, stride| n_chunks(positions, chunk, stride) * 2 * channels * 4;
        if self.bytes() as usize <= limit && images * parts_bytes(chunk, stride) <= limit {
            return Ok(Plan { images, pieces: whole(), chunk, stride });
        }
        // Rows of a window, the ones before it that alignment may cost taken off.
        let rows = (limit / row_bytes).saturating_sub(255 >> row_bytes.trailing_zeros().min(8));
        if rows >= positions && parts_bytes(chunk, stride) <= limit {
            let images = (rows / positions).min(limit / parts_bytes(chunk, stride));
            return Ok(Plan { images, pieces: whole(), chunk, stride });
        }
        let most_slots = (limit / parts_bytes(positions, 1)).max(1);
        let chunk = chunk.max(positions.div_ceil(most_slots)).min(rows);
        if chunk == 0 || chunk > MOST_POSITIONS || parts_bytes(chunk, 1) > limit {
            return Err(Error::Limit {
                what: format!("group_norm: {positions} positions of {channels} channels"),
                needed: (positions * row_bytes) as u64,
                available_what: "more than the storage bindings of this adapter can be split for; one".into(),
                available: limit as u64,
            });
        }
        let most = rows / chunk * chunk;
        let pieces = (0..positions).step_by(most).map(|at| at..positions.min(at + most)).collect();
        Ok(Plan { images: 1, pieces, chunk, stride: 1 })
    }
}

/// What is normalised, and by what.
struct Norm<'a> {
    x: &'a Tensor,
    images: usize,
    positions: usize,
    channels: usize,
    groups: usize,
    weight: &'a Tensor,
    bias: &'a Tensor,
    eps: f64,
    silu: bool,
}

impl Norm<'_> {
    /// Writes y in several launches, whatever the size; where `keep` asks for them, mean and scale of each image and
    /// channel are what it returns.
    fn in_passes(&self, scalar: Scalar, y: &Tensor, keep: bool) -> Result<Option<Tensor>> {
        let op = "group_norm";
        let &Norm { x, images, positions, channels, groups, weight, bias, eps, silu } = self;
        let (gpu, size) = (x.gpu(), x.dtype().bytes() as u64);
        let (width, passes) = match super::words_pay(gpu) && channels.is_multiple_of(8) {
            true => (8, PASSES_8),
            false => (super::width_of(channels), PASSES),
        };
        let variant = Variant { scalar, width, workgroup: 64 };
        let items = (x.len() / width as usize) as u64;
        let plan = x.group_norm_plan(images, positions, channels, items)?;
        let units = channels / width as usize;
        let slots = n_chunks(positions, plan.chunk, plan.stride);
        let group_channels = channels / groups;
        let join = passes.join.filter(|_| plan.stride > 1);
        // What the merge finds: chunks, or blocks of them.
        let (merged_chunk, merged_stride) =
            if join.is_some() { (plan.chunk * plan.stride, 1) } else { (plan.chunk, plan.stride) };
        let merged = n_chunks(positions, merged_chunk, merged_stride);
        let merging = super::row_workgroup(gpu, merged * group_channels, op)?;
        let rows_at_once = super::rows_per_invocation(gpu, items, MOST_ROWS);
        // Mean and scale of each image and channel, for the way back: the merge with weights of 1.
        let ones = match keep {
            true => Some(Tensor::full(gpu, &[channels], DType::F32, 1.0)?),
            false => None,
        };
        let mut statistics = Vec::new();
        for first in (0..images).step_by(plan.images) {
            let n = plan.images.min(images - first);
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
                groups: groups as u32,
                group_channels: group_channels as u32,
                eps: eps as f32,
            };
            let grid = |params: &Params| {
                let invocations = n as u64 * u64::from(params.chunks) * units as u64;
                gpu.grid(op, invocations.div_ceil(u64::from(variant.workgroup)))
            };
            let rows_of = |piece: &Range<usize>| {
                first * positions + piece.start..(first + n - 1) * positions + piece.end
            };
            let elements = |piece: &Range<usize>| (n * piece.len() * channels) as u64;
            for piece in &plan.pieces {
                let (x, skip) = super::bind_rows(x, rows_of(piece), channels);
                let params = params(piece, skip, plan.chunk, plan.stride);
                gpu.run(&Launch {
                    program: passes.statistics.program(variant),
                    params: params.as_bytes(),
                    inputs: &[x],
                    outputs: &[parts.binding()],
                    groups: grid(&params)?,
                    work: Work { flops: 4 * elements(piece), bytes: elements(piece) * size },
                })?;
            }
            let whole = 0..positions;
            let parts = match join {
                None => parts,
                Some(join) => {
                    let joined = Tensor::empty(gpu, &[n, merged, 2, channels], DType::F32)?;
                    let invocations = (n * merged * units) as u64;
                    gpu.run(&Launch {
                        program: join.program(variant),
                        params: params(&whole, 0, plan.chunk, plan.stride).as_bytes(),
                        inputs: &[parts.binding()],
                        outputs: &[joined.binding()],
                        groups: gpu.grid(op, invocations.div_ceil(u64::from(variant.workgroup)))?,
                        work: Work { flops: 4 * parts.len() as u64, bytes: parts.bytes() + joined.bytes() },
                    })?;
                    joined
                }
            };
            let merging_params =
                Params { slots: merged as u32, ..params(&whole, 0, merged_chunk, merged_stride) };
            let merge = |weight: &Tensor| {
                let fold = Tensor::empty(gpu, &[n, 2, channels], DType::F32)?;
                gpu.run(&Launch {
                    program: MERGE.program(Variant { workgroup: merging, scalar: Scalar::F32, width: 1 }),
                    params: merging_params.as_bytes(),
                    inputs: &[parts.binding(), weight.binding()],
                    outputs: &[fold.binding()],
                    groups: gpu.grid(op, (n * groups) as u64)?,
                    work: Work { flops: 4 * parts.len() as u64, bytes: parts.bytes() + fold.bytes() },
                })?;
                Ok(fold)
            };
            let fold = merge(weight)?;
            statistics.extend(ones.as_ref().map(merge).transpose()?);
            for piece in &plan.pieces {
                let stride = x.apart(channels, piece.len(), rows_at_once);
                let (x, skip) = super::bind_rows(x, rows_of(piece), channels);
                let (out, _) = super::bind_rows(y, rows_of(piece), channels);
                let params = params(piece, skip, rows_at_once, stride);
                gpu.run(&Launch {
                    program: if silu { passes.normalise_silu } else { passes.normalise }.program(variant),
                    params: params.as_bytes(),
                    inputs: &[x, fold.binding(), bias.binding()],
                    outputs: &[out],
                    groups: grid(&params)?,
                    work: Work {
                        flops: if silu { 7 } else { 3 } * elements(piece),
                        bytes: 2 * elements(piece) * size,
                    },
                })?;
            }
        }
        Ok(match &statistics[..] {
            [] => None,
            [one] => Some(one.clone()),
            more => Some(Tensor::concat(&more.iter().collect::<Vec<_>>(), 0)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::testing::{assert_close, gpu, gpu_with, random, random_from, shader_twin, validate};

    /// The same in f64 and plain loops, x as [images, positions, channels].
    pub(super) fn reference<T: Copy + Into<f64>>(
        x: &[T],
        [images, positions, channels]: [usize; 3],
        groups: usize,
        weight: &[T],
        bias: &[T],
        eps: f64,
        silu: bool,
    ) -> Vec<f64> {
        let mut y = vec![0.0; x.len()];
        let of_group = channels / groups;
        for (image, group) in (0..images).flat_map(|i| (0..groups).map(move |g| (i, g))) {
            let places: Vec<(usize, usize)> = (0..positions)
                .flat_map(|p| (0..of_group).map(move |c| (p, group * of_group + c)))
                .map(|(p, c)| ((image * positions + p) * channels + c, c))
                .collect();
            let count = places.len() as f64;
            let mean = places.iter().map(|&(at, _)| x[at].into()).sum::<f64>() / count;
            let var = places.iter().map(|&(at, _)| (x[at].into() - mean).powi(2)).sum::<f64>() / count;
            for (at, c) in places {
                let v = (x[at].into() - mean) / (var + eps).sqrt() * weight[c].into() + bias[c].into();
                y[at] = if silu { v / (1.0 + (-v).exp()) } else { v };
            }
        }
        y
    }

    /// In both forms.
    fn case(gpu: &Gpu, shape: [usize; 3], groups: usize, shift: f32, silu: bool, tolerance: f64) {
        for one_launch in [true, false] {
            case_as(one_launch, gpu, DType::F32, shape, groups, shift, silu, tolerance);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a case is its arguments")]
    fn case_as(
        one_launch: bool,
        gpu: &Gpu,
        dtype: DType,
        shape: [usize; 3],
        groups: usize,
        shift: f32,
        silu: bool,
        tolerance: f64,
    ) {
        let channels = shape[2];
        let mut x: Vec<f32> = random(&shape, 1.7).iter().map(|v| v + shift).collect();
        if dtype == DType::F16 {
            x.iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32());
        }
        let (weight, bias) = (random_from(1, channels, 2.0), random_from(2, channels, 1.0));
        let vector = |values: &[f32]| Tensor::new(gpu, &[channels], values).unwrap();
        let input = Tensor::new(gpu, &shape, &x).unwrap().cast(dtype).unwrap();
        let got = input
            .group_norm_as(Some(one_launch), groups, &vector(&weight), &vector(&bias), 1e-5, silu)
            .unwrap();
        assert_eq!((got.shape(), got.dtype()), (&shape[..], dtype));
        let want = reference(&x, shape, groups, &weight, &bias, 1e-5, silu);
        let label = format!("{shape:?} {dtype:?} / {groups} + {shift} {silu} in one launch: {one_launch}");
        assert_close(&got.to_vec().unwrap(), &want, tolerance, &label);
    }

    #[test]
    fn groups_of_any_width_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for (positions, group_channels) in [1, 2, 17, 65]
            .into_iter()
            .flat_map(|p| [1, 3, 4, 10, 20, 40, 80].map(|c| (p, c)))
            .chain([(5, 200), (3, 1030)])
        {
            let shape = [2, positions, 3 * group_channels];
            for silu in [false, true] {
                case(&gpu, shape, 3, 0.3, silu, 1e-5);
                if gpu.facts().features.f16 {
                    // one rounding to f16
                    for one_launch in [true, false] {
                        case_as(one_launch, &gpu, DType::F16, shape, 3, 10.0, silu, 1e-3);
                    }
                }
            }
            // A group of some values may all but lack a deviation: then the mean's rounding is large beside it.
            if positions * group_channels >= 17 {
                case(&gpu, shape, 3, 1000.0, false, 2e-4);
            }
        }
    }

    #[test]
    fn awkward_sizes_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        let shapes = [
            ([1, 1, 4], 1),
            ([1, 1, 7], 7),
            ([2, 17, 20], 2),
            ([1, 1023, 6], 3),
            ([3, 65, 64], 32),
            ([2, 257, 40], 4),
            ([5, 2, 12], 12),
            ([1, 20_011, 8], 2),
            ([2, 1153, 96], 32),
            ([3, 40, 1280], 32),
        ];
        for (shape, groups) in shapes {
            case(&gpu, shape, groups, 0.3, false, 1e-5);
            case(&gpu, shape, groups, 0.3, true, 1e-5);
        }
    }

    #[test]
    fn without_64_bit_words_too() {
        let Some(gpu) = gpu_with(Options { without_int64: true, ..Default::default() }) else { return };
        for (shape, groups) in [([2, 1153, 96], 32), ([3, 40, 64], 4)] {
            case(&gpu, shape, groups, 0.3, true, 1e-5);
            case(&gpu, shape, 1, 1000.0, false, 1.5e-4);
        }
    }

    #[test]
    fn a_million_positions_stay_within_the_loops_of_a_software_adapter() {
        let Some(gpu) = gpu() else { return };
        case_as(false, &gpu, DType::F32, [1, 1_048_577, 4], 1, 0.3, false, 1e-5);
    }

    #[test]
    fn a_mean_far_above_the_deviation_costs_nothing() {
        let Some(gpu) = gpu() else { return };
        for shape in [[2, 2311, 20], [1, 40_000, 8], [1, 3, 7], [2, 2304, 64]] {
            // The mean itself rounds to 3e-5 in f32, the deviation is 1, weights reach 2.
            case(&gpu, shape, 1, 1000.0, false, 1.5e-4);
        }
    }

    #[test]
    fn a_group_of_one_value_gives_the_bias() {
        let Some(gpu) = gpu() else { return };
        let x = Tensor::new(&gpu, &[1, 70, 4], &[7.0_f32; 280]).unwrap();
        let weight = Tensor::new(&gpu, &[4], &[1.0_f32; 4]).unwrap();
        let bias = Tensor::new(&gpu, &[4], &[0.5_f32; 4]).unwrap();
        let y = x.group_norm(2, &weight, &bias, 1e-6, false).unwrap();
        assert_eq!(y.to_vec().unwrap(), [0.5; 280]);
    }

    #[test]
    fn silu_of_far_values_stays_finite() {
        let Some(gpu) = gpu() else { return };
        let x = Tensor::new(&gpu, &[1, 2, 1], &[-1.0_f32, 1.0]).unwrap();
        let weight = Tensor::new(&gpu, &[1], &[1e4_f32]).unwrap();
        let bias = Tensor::new(&gpu, &[1], &[0.0_f32]).unwrap();
        let y = x.group_norm(1, &weight, &bias, 0.0, true).unwrap().to_vec().unwrap();
        assert!(y[0].abs() < 1e-6 && (y[1] - 1e4).abs() < 1.0, "{y:?}");
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        // Many small images, few whole ones in a window, images of many windows; widths 4 and 1.
        for (shape, groups) in [
            ([300, 2, 12], 3),
            ([7, 50, 8], 2),
            ([2, 401, 20], 4),
            ([3, 700, 7], 7),
            ([1, 3001, 6], 2),
            ([90, 1, 12], 3),
        ] {
            case(&gpu, shape, groups, 5.0, false, 1e-5);
            case(&gpu, shape, groups, 5.0, true, 1e-5);
        }
        let x = Tensor::empty(&gpu, &[1, 9, 2000], DType::F32).unwrap();
        let vector = Tensor::empty(&gpu, &[2000], DType::F32).unwrap();
        assert!(matches!(x.group_norm(1, &vector, &vector, 1e-5, false), Err(Error::Limit { .. })));
    }

    #[test]
    fn half_precision_storage() {
        let Some(gpu) = gpu() else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        for (shape, groups) in [([2, 301, 20], 4), ([1, 99, 7], 1)] {
            let x: Vec<half::f16> =
                random(&shape, 2.0).iter().map(|&v| half::f16::from_f32(v + 10.0)).collect();
            let wide: Vec<f32> = x.iter().map(|v| v.to_f32()).collect();
            let (weight, bias) = (random_from(1, shape[2], 1.0), random_from(2, shape[2], 1.0));
            let y = Tensor::new(&gpu, &shape, &x)
                .unwrap()
                .group_norm(
                    groups,
                    &Tensor::new(&gpu, &[shape[2]], &weight).unwrap(),
                    &Tensor::new(&gpu, &[shape[2]], &bias).unwrap(),
                    1e-5,
                    true,
                )
                .unwrap();
            assert_eq!(y.dtype(), DType::F16);
            let want = reference(&wide, shape, groups, &weight, &bias, 1e-5, true);
            // one rounding to f16
            assert_close(&y.to_vec().unwrap(), &want, 1e-3, &format!("{shape:?}"));
        }
    }

    #[test]
    fn wrong_calls_are_refused_and_nothing_gives_nothing() {
        let gpu = Gpu::plan();
        let make = |shape: &[usize], dtype| Tensor::empty(&gpu, shape, dtype).unwrap();
        let x = make(&[2, 3, 3, 8], DType::F32);
        let (good, short) = (make(&[8], DType::F32), make(&[7], DType::F32));
        let half = make(&[8], DType::F16);
        assert!(x.group_norm(4, &good, &good, 1e-5, true).is_ok());
        for (groups, weight, bias) in
            [(3, &good, &good), (0, &good, &good), (4, &short, &good), (4, &good, &half)]
        {
            assert!(x.group_norm(groups, weight, bias, 1e-5, true).is_err());
        }
        assert!(make(&[8], DType::F32).group_norm(4, &good, &good, 1e-5, true).is_err());
        assert!(make(&[1, 2, 8], DType::I32).group_norm(4, &good, &good, 1e-5, true).is_err());
        assert!(make(&[1, 0, 8], DType::F32).group_norm(4, &good, &good, 1e-5, true).unwrap().is_empty());
        let foreign = Tensor::empty(&Gpu::plan(), &[8], DType::F32).unwrap();
        assert!(x.group_norm(4, &foreign, &good, 1e-5, true).is_err());
    }

    #[test]
    fn small_groups_take_one_launch_on_a_card() {
        let plan = Gpu::card_plan();
        let launches = |shape: [usize; 3], learns: bool| {
            let x = Tensor::empty(&plan, &shape, DType::F32).unwrap();
            let x = if learns { x.parameter() } else { x };
            let vector = Tensor::empty(&plan, &[shape[2]], DType::F32).unwrap();
            let before = plan.counts().dispatches;
            x.group_norm(32, &vector, &vector, 1e-5, true).unwrap();
            plan.counts().dispatches - before
        };
        for learns in [false, true] {
            assert_eq!(launches([2, 8 * 8, 1280], learns), 1);
            assert!(launches([2, 64 * 64, 320], learns) > 2);
        }
        assert!(!whole::pays(Class::Software, 8 * 8, 40), "measured: slower there");
    }

    #[test]
    fn shader_twins() {
        shader_twin(&MERGE, Params::FIELDS);
        for (passes, widths) in [(PASSES, &[1, 4][..]), (PASSES_8, &[8])] {
            let kernels = [passes.statistics, passes.normalise, passes.normalise_silu];
            for kernel in kernels.into_iter().chain(passes.join) {
                for (scalar, &width) in
                    [Scalar::F32, Scalar::F16].into_iter().flat_map(|s| widths.iter().map(move |w| (s, w)))
                {
                    let variant = Variant { scalar, width, workgroup: 64 };
                    let label = format!("group_norm {variant:?}");
                    validate(&label, &kernel.program(variant).text(true), Params::FIELDS);
                }
            }
        }
    }

    #[test]
    fn chunks_that_interlace_cover_all_positions() {
        for positions in [1, 5, 31, 32, 33, 144, 2304, 1000] {
            for (chunk, stride) in [(1, 1), (16, 1), (16, 3), (32, 5), (7, 100)] {
                let chunks = n_chunks(positions, chunk, stride);
                let mut seen = vec![0; positions];
                for at in 0..chunks {
                    let first = at / stride * stride * (chunk - 1) + at;
                    (first..positions).step_by(stride).take(chunk).for_each(|position| seen[position] += 1);
                    assert!(first < positions, "{positions} by {chunk} and {stride}: chunk {at} is empty");
                }
                assert!(seen.iter().all(|&times| times == 1), "{positions} by {chunk} and {stride}");
            }
        }
    }
}
