//! Ops: one file each, named as its shader in `shaders/`. An op adds its method to [`Tensor`]; there is no list.

mod adam;
mod attention;
mod batch_norm;
mod binary;
mod cast;
mod clip;
mod combine;
mod conv2d;
mod cross_entropy;
mod dropout;
mod embedding;
mod fill;
mod geglu;
mod gemm;
mod group_norm;
mod guide;
mod layer_norm;
mod join;
mod layout;
mod linear_geglu;
mod matmul;
mod normal;
mod outer;
mod pack;
mod pool2d;
mod quantize;
mod reduce;
mod sgd;
mod softmax;
mod timestep_embedding;
mod unary;
mod unfold;
mod unpack;
mod upsample_nearest;
mod walk;

pub use adam::Adam;
pub use attention::Sight;
pub use batch_norm::BatchNormed;
pub use conv2d::{ConvWeight, Window};
pub use gemm::{Epilogue, matrix_units, tune};
pub(crate) use normal::random_words;
pub use pack::{Packed, SourceType};
pub use sgd::Sgd;
pub use unary::Activation;

use crate::error::{Error, Result};
use crate::gpu::{Binding, Class, Gpu};
use crate::tensor::{DType, Tensor};
use std::ops::Range;

/// Shader pieces shared by several ops.
mod common {
    pub(super) const ACTIVATION: &str = include_str!("../shaders/common/activation.wgsl");
    pub(super) const INDEX: &str = include_str!("../shaders/common/index.wgsl");
    pub(super) const PHILOX: &str = include_str!("../shaders/common/philox.wgsl");
    pub(super) const REDUCE: &str = include_str!("../shaders/common/reduce.wgsl");
    pub(super) const SLOPE: &str = include_str!("../shaders/common/slope.wgsl");
    pub(super) const WALK: &str = include_str!("../shaders/common/walk.wgsl");
    pub(super) const WIDE: &str = include_str!("../shaders/common/wide.wgsl");
}

/// The text of `shaders/<name>.wgsl`.
macro_rules! shaders {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl"))
    };
}
use shaders;

/// Declares the twin of a shader's `Params`: 32-bit scalars in the same order, compared by a test.
macro_rules! params {
    ($(#[$doc:meta])* struct $name:ident { $($field:ident: $kind:ty,)+ }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        struct $name { $($field: $kind,)+ }

        impl $name {
            /// Fields with their offsets, for the comparison with the shader.
            #[cfg(test)]
            const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field)),)+];

            fn as_bytes(&self) -> &[u8] {
                bytemuck::bytes_of(self)
            }
        }
    };
}
use params;

/// What an epilogue adds to the label of an op: ` silu + residual`.
fn with(epilogue: &Epilogue) -> String {
    let activation = match epilogue.activation {
        Activation::None => String::new(),
        other => format!(" {other:?}").to_lowercase(),
    };
    activation + if epilogue.residual.is_some() { " + residual" } else { "" }
}

/// A tensor as rows of its last axis: (rows, cols). `op` names the caller in a refusal.
fn rows_of(x: &Tensor, op: &str) -> Result<(usize, usize)> {
    match x.shape().split_last() {
        Some((&cols, outer)) => Ok((outer.iter().product(), cols)),
        None => Err(Error::shape(op, "wanted at least one axis, got a scalar")),
    }
}

/// 4 where rows of `cols` elements can be moved four at a time, else 1.
fn width_of(cols: usize) -> u32 {
    if cols.is_multiple_of(4) { 4 } else { 1 }
}

/// True where kernels do well to move 64-bit words.
fn words_pay(gpu: &Gpu) -> bool {
    gpu.facts().class == Class::Software && gpu.facts().features.int64
}

/// Ranges of elements that fit a binding each, for kernels that walk tensors of `n` elements in units of four
/// whatever their axes. The last unit may reach into the padding. `op` names the caller in a refusal.
fn flat_windows(gpu: &Gpu, op: &str, n: usize, dtypes: &[DType]) -> Result<Vec<Range<usize>>> {
    if n == 0 {
        return Ok(Vec::new());
    }
    let unit_bytes: Vec<usize> = dtypes.iter().map(|dtype| 4 * dtype.bytes()).collect();
    let windows = gpu.row_windows(op, n.div_ceil(4), &unit_bytes)?;
    Ok(windows.into_iter().map(|window| 4 * window.start..n.min(4 * window.end)).collect())
}

/// The grid of a kernel whose invocations move 4 units each, a workgroup's width apart.
fn flat_groups(gpu: &Gpu, op: &str, units: usize) -> Result<[u32; 3]> {
    gpu.grid(op, units.div_ceil(4 * gpu.flat_workgroup() as usize) as u64)
}

/// Turns of one loop that a software adapter counts right (it ends loops silently after 65,535 in all; kernels
/// pass over a row at most four times).
const MAX_TURNS: usize = 16_000;

/// Invocations that share a row of `cols` elements.
///
/// Errors: [`Error::Limit`] when a row is longer than a workgroup's loops can walk.
fn row_workgroup(gpu: &Gpu, cols: usize, op: &str) -> Result<u32> {
    row_workgroup_of(gpu, cols / width_of(cols) as usize, op)
}

/// The same for a row of `units`, of which an invocation takes one at a turn.
fn row_workgroup_of(gpu: &Gpu, units: usize, op: &str) -> Result<u32> {
    let enough = |workgroup: u32| units <= workgroup as usize * MAX_TURNS;
    match [gpu.row_workgroup(), 256].into_iter().find(|&workgroup| enough(workgroup)) {
        Some(workgroup) => Ok(workgroup),
        None => Err(Error::Limit {
            what: format!("{op}: a row"),
            needed: units as u64,
            available_what: "the longest row a workgroup walks".into(),
            available: 256 * MAX_TURNS as u64,
        }),
    }
}

/// Refuses what is not one f32 per channel on the same device; `name` is the argument's.
fn check_vector(op: &str, name: &str, vector: &Tensor, x: &Tensor, channels: usize) -> Result<()> {
    if vector.shape() != [channels] {
        return Err(Error::shape(op, format!("{name} wants shape [{channels}], got {:?}", vector.shape())));
    }
    if vector.dtype() != DType::F32 {
        return Err(Error::dtype(op, format!("{name} wants f32, got {:?}", vector.dtype())));
    }
    check_device(op, name, vector, x)
}

/// Refuses a tensor of another device.
fn check_device(op: &str, name: &str, tensor: &Tensor, x: &Tensor) -> Result<()> {
    if tensor.gpu().is_same(x.gpu()) {
        return Ok(());
    }
    Err(Error::Device(format!("{op}: {name} and the input are on different devices")))
}

/// Most rows an invocation walks to spare itself loads: on a CPU more leave the nearest cache (64 take twice as
/// long as 8).
const ROWS_AT_ONCE: usize = 8;

/// Rows an invocation walks when it shares the `items` (rows times units of a row) of a tensor with others:
/// few on a card, which wants many invocations in flight; many on a CPU, which wants its loads shared.
fn rows_per_invocation(gpu: &Gpu, items: u64, most: usize) -> usize {
    let invocations = if gpu.facts().class == Class::Software { 1 << 13 } else { 1 << 17 };
    ((items / invocations) as usize).clamp(1, most)
}

/// First row at or before `row` that lies on a multiple of 256 bytes, where bindings may start.
fn aligned_row(row: usize, row_bytes: usize) -> usize {
    row - row % (256 >> row_bytes.trailing_zeros().min(8))
}

/// True when these rows, taken from the last aligned one before them, fit a storage binding.
fn rows_fit(gpu: &Gpu, rows: &Range<usize>, row_bytes: usize) -> bool {
    let bytes = (rows.end - aligned_row(rows.start, row_bytes)) as u64 * row_bytes as u64;
    bytes <= gpu.facts().limits.binding_bytes
}

/// Rows of `cols` elements as a shader sees them, from the last aligned one before them on; with the number of
/// rows the shader has to skip.
fn bind_rows(x: &Tensor, rows: Range<usize>, cols: usize) -> (Binding<'_>, u32) {
    let start = aligned_row(rows.start, cols * x.dtype().bytes());
    (x.window(start * cols..rows.end * cols), (rows.start - start) as u32)
}

/// Cuts `rows` into ranges that `fit`: one where everything does, which is nearly always. `op` names the caller
/// in a refusal, `row_bytes` are of the largest row.
///
/// Errors: [`Error::Limit`] when a row alone does not fit.
fn pieces(
    gpu: &Gpu,
    op: &str,
    rows: usize,
    row_bytes: usize,
    fits: impl Fn(&Range<usize>) -> bool,
) -> Result<Vec<Range<usize>>> {
    let (mut start, mut most, mut out) = (0, rows, Vec::new());
    while start < rows {
        let piece = start..rows.min(start + most);
        if fits(&piece) {
            start = piece.end;
            out.push(piece);
        } else if most == 1 {
            return Err(Error::Limit {
                what: format!("{op}: a row, with those that alignment adds"),
                needed: (row_bytes + (row_bytes << (8 - row_bytes.trailing_zeros().min(8)))) as u64,
                available_what: "the largest storage binding of this adapter".into(),
                available: gpu.facts().limits.binding_bytes,
            });
        } else {
            most = most.div_ceil(2);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Op, Options};
    use crate::testing::gpu_with;

    fn weight(gpu: &Gpu) -> ConvWeight {
        ConvWeight::planned(gpu, [8, 4, 3, 3], 1, SourceType::F32, false).unwrap()
    }

    fn conv(gpu: &Gpu, weight: &ConvWeight) -> Tensor {
        let x = Tensor::empty(gpu, &[1, 8, 8, 4], DType::F32).unwrap();
        x.conv2d(weight, Window::padded(1), Epilogue::default()).unwrap()
    }

    #[test]
    fn a_plan_leaves_a_trace_of_ops() {
        let plan = Gpu::plan();
        let weight = weight(&plan);
        let listener = plan.listen().unwrap();
        for _ in 0..3 {
            let y = conv(&plan, &weight);
            y.silu().unwrap();
            Tensor::concat(&[&y, &y], 0).unwrap();
        }
        let trace = listener.finish().unwrap();
        let labels: Vec<&str> = trace.ops.iter().map(|op| op.label.as_str()).collect();
        assert_eq!(labels.len(), 9);
        assert_eq!(labels[..2], ["conv2d [1, 8, 8, 4] f32 3x3 -> 8", "silu [1, 8, 8, 8] f32"]);
        assert_eq!(labels[2], "concat axis 0 -> [2, 8, 8, 8] f32");
        let distinct = trace.distinct();
        assert_eq!(distinct, [(0, 3), (1, 3), (2, 3)]);
        assert_eq!(trace.ops[0].work().flops, 2 * 64 * 8 * 36);
        assert!(trace.ops[0].resources[0].is_input && trace.ops[0].spans.is_empty());
        assert!(trace.programs.iter().all(|program| program.text().contains(program.entry())));
        // Nobody listens any more.
        conv(&plan, &weight);
        assert_eq!(plan.listen().unwrap().finish().unwrap().ops.len(), 0);
        let first = plan.listen().unwrap();
        assert!(plan.listen().is_err(), "one trace at a time");
        drop(first);
        assert!(plan.listen().is_ok());
    }

    #[test]
    fn a_trace_of_a_plan_runs_on_a_device() {
        for options in [Options::default(), Options { without_immediates: true, ..Default::default() }] {
            let Some(gpu) = gpu_with(options) else { return };
            let plan = gpu.planner();
            let weight = weight(&plan);
            let listener = plan.listen().unwrap();
            let y = conv(&plan, &weight);
            y.group_norm(
                2,
                &y.reshape(&[512]).unwrap().narrow(0, 0, 8).unwrap(),
                &y.reshape(&[512]).unwrap().narrow(0, 8, 8).unwrap(),
                1e-5,
                true,
            )
            .unwrap();
            Tensor::concat(&[&y, &y], 0).unwrap();
            y.reshape(&[64, 8]).unwrap().embedding(&[63, 1], &[2]).unwrap();
            let trace = listener.finish().unwrap();
            for (op, count) in trace.distinct() {
                let replay = trace.replay(&gpu, op).unwrap();
                let listener = gpu.listen().unwrap();
                (0..3).for_each(|_| replay.run().unwrap());
                let times: Vec<f64> = listener.finish().unwrap().ops.iter().map(Op::seconds).collect();
                assert!(times.len() == 3 && count > 0, "{}", trace.ops[op].label);
                assert!(times.iter().all(|&s| s > 0.0 && s < 60.0), "{}: {times:?}", trace.ops[op].label);
            }
        }
    }

    #[test]
    fn the_first_op_to_make_a_nan_is_named() {
        let options = Options { check_finite: true, binding_bytes: Some(1 << 16), ..Default::default() };
        let Some(gpu) = gpu_with(options) else { return };
        let n = 70_001;
        let mut values = vec![1.0_f32; n];
        let x = Tensor::new(&gpu, &[n], &values).unwrap();
        assert_eq!(x.scale(2.0, 0.0).unwrap().silu().unwrap().to_vec().unwrap().len(), n);
        values[n - 1] = 100.0;
        let x = Tensor::new(&gpu, &[n], &values).unwrap();
        let fine = x.scale(1.0, 1.0).unwrap();
        let wild = fine.mul(&fine).unwrap().mul(&fine).unwrap().scale(1e38, 0.0).unwrap();
        let after = wild.scale(1.0, 0.0).unwrap();
        let error = after.to_vec().expect_err("not finite").to_string();
        assert!(error.contains("scale [70001] f32") && error.contains("NaN"), "{error}");
        assert!(gpu.wait().is_err(), "it stays said");
        if gpu.facts().features.f16 {
            let gpu = gpu_with(Options { check_finite: true, ..Default::default() }).unwrap();
            let x = Tensor::new(&gpu, &[3], &[1.0_f32, 2.0, 6e4]).unwrap().cast(DType::F16).unwrap();
            assert_eq!(x.to_vec().unwrap()[0], 1.0);
            let error = x.scale(2.0, 0.0).unwrap().to_vec().unwrap_err();
            assert!(error.to_string().contains("scale [3] f16") && error.exit_code() == 4, "{error}");
        }
    }

    #[test]
    fn what_is_dropped_is_used_again_and_many_launches_ride_in_one_submission() {
        let Some(gpu) = gpu_with(Options::default()) else { return };
        let x = Tensor::new(&gpu, &[64], &[1.0_f32; 64]).unwrap();
        let before = gpu.counts();
        let mut y = x.clone();
        for _ in 0..100 {
            y = y.scale(1.0, 1.0).unwrap(); // x + 1
        }
        assert_eq!(y.to_vec().unwrap(), [101.0; 64]);
        let after = gpu.counts();
        assert_eq!(after.dispatches - before.dispatches, 100);
        assert_eq!(after.submissions - before.submissions, 1);
        assert!(gpu.memory().reserved <= 4 * 256, "three buffers take turns: {:?}", gpu.memory());
        drop((x, y));
        assert_eq!(gpu.live_buffers(), 0);
    }
}
