//! Ops: one file each, named as its shader in `shaders/`. An op adds its method to [`Tensor`]; there is no list.

mod binary;
mod cast;
mod embedding;
mod fill;
mod geglu;
mod layout;
mod reduce;
mod softmax;
mod unary;
mod walk;

pub use unary::Activation;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::tensor::{DType, Tensor};
use std::ops::Range;

/// Shader pieces shared by several ops.
mod common {
    pub(super) const ACTIVATION: &str = include_str!("../shaders/common/activation.wgsl");
    pub(super) const INDEX: &str = include_str!("../shaders/common/index.wgsl");
    pub(super) const REDUCE: &str = include_str!("../shaders/common/reduce.wgsl");
    pub(super) const WALK: &str = include_str!("../shaders/common/walk.wgsl");
}

/// The text of `shaders/<name>.wgsl`.
macro_rules! shaders {
    ($name:literal) => {
        include_str!(concat!("../../shaders/", $name, ".wgsl"))
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
    let units = cols / width_of(cols) as usize;
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
