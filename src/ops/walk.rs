//! Walks over up to 6 axes with a place in each of three tensors: what broadcasting and moving ops share.
//! Axes that lie one behind the other in all three become one; walks too large to bind fall into pieces.

use super::params;
use crate::error::{Error, Result};
use crate::gpu::{Binding, Gpu};
use crate::tensor::Tensor;

params! {
    /// Of a kernel that includes common/walk.wgsl.
    struct Params {
        n: u32,
        size0: u32,
        size1: u32,
        size2: u32,
        size3: u32,
        size4: u32,
        size5: u32,
        a0: u32,
        a1: u32,
        a2: u32,
        a3: u32,
        a4: u32,
        a5: u32,
        b0: u32,
        b1: u32,
        b2: u32,
        b3: u32,
        b4: u32,
        b5: u32,
        c0: u32,
        c1: u32,
        c2: u32,
        c3: u32,
        c4: u32,
        c5: u32,
        a_start: u32,
        b_start: u32,
        c_start: u32,
        a_tile: u32,
        b_tile: u32,
    }
}

/// Fields of the parameters, for the tests of kernels that walk.
#[cfg(test)]
pub(super) const FIELDS: &[(&str, usize)] = Params::FIELDS;

/// One axis: its size, and how far apart its neighbours lie in each tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) size: usize,
    pub(super) steps: [usize; 3],
}

/// A walk, innermost axis first; at least one axis. Steps and starts count elements until
/// [`Walk::in_cells`], cells after.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Walk {
    pub(super) axes: Vec<Axis>,
    pub(super) starts: [usize; 3],
    /// Cells between the four rows of a tile in the first two tensors, where tiles are moved; else 0.
    pub(super) tile: [usize; 2],
}

/// Axes a shader walks.
const MAX_AXES: usize = 6;
/// Tiles of four cells whose rows fill a line of a cache.
const BESIDE: usize = 4;

impl Walk {
    /// A walk over `axes`, outermost first, none empty.
    ///
    /// Errors: [`Error::Shape`] when more than 6 axes remain after merging.
    pub(super) fn new(op: &str, axes: &[Axis], starts: [usize; 3]) -> Result<Walk> {
        let mut merged: Vec<Axis> = Vec::new();
        for &axis in axes.iter().rev().filter(|axis| axis.size != 1) {
            match merged.last_mut() {
                Some(inner) if (0..3).all(|t| axis.steps[t] == inner.steps[t] * inner.size) => {
                    inner.size *= axis.size;
                }
                _ => merged.push(axis),
            }
        }
        if merged.is_empty() {
            merged.push(Axis { size: 1, steps: [1; 3] });
        }
        if merged.len() > MAX_AXES {
            return Err(Error::shape(
                op,
                format!("wanted at most {MAX_AXES} axes that do not merge, got {}", merged.len()),
            ));
        }
        Ok(Walk { axes: merged, starts, tile: [0; 2] })
    }

    /// The innermost axis.
    pub(super) fn inner(&self) -> Axis {
        self.axes[0]
    }

    /// The same walk in cells of `width` elements in the tensors that are `packed`, whose innermost step is 1 or
    /// unused. A last cell may reach into the padding where there is one axis only.
    pub(super) fn in_cells(mut self, width: usize, packed: [bool; 3]) -> Walk {
        for (at, axis) in self.axes.iter_mut().enumerate() {
            if at == 0 {
                axis.size = axis.size.div_ceil(width);
            } else {
                for t in (0..3).filter(|&t| packed[t]) {
                    axis.steps[t] /= width;
                }
            }
        }
        for t in (0..3).filter(|&t| packed[t]) {
            self.starts[t] /= width;
        }
        self
    }

    /// The same walk in tiles of four by four elements, in cells of four, where the innermost axis of the first
    /// tensor is not that of the second and both tensors keep such cells whole. Each turn moves four cells.
    pub(super) fn in_tiles(&self) -> Option<Walk> {
        let across = self.axes.iter().position(|axis| axis.steps[0] == 1)?;
        let whole = |at: usize, step: usize| at == 0 || step.is_multiple_of(4);
        let fits = across != 0
            && self.axes[0].steps[1] == 1
            && [0, across].iter().all(|&at| self.axes[at].size.is_multiple_of(4))
            && self.axes.iter().enumerate().all(|(at, axis)| {
                (at == across || axis.steps[0].is_multiple_of(4)) && whole(at, axis.steps[1])
            })
            && self.starts.iter().all(|start| start.is_multiple_of(4));
        if !fits {
            return None;
        }
        let mut tiles = self.clone();
        tiles.tile = [self.axes[0].steps[0] / 4, self.axes[across].steps[1] / 4];
        tiles.starts = self.starts.map(|start| start / 4);
        for (at, axis) in tiles.axes.iter_mut().enumerate() {
            if at == 0 || at == across {
                axis.size /= 4; // and four elements, one cell, from a tile to the next
            } else {
                axis.steps = axis.steps.map(|step| step / 4);
            }
        }
        // Tiles beside each other in the first tensor come one after the other: together they read its whole lines.
        let outer = tiles.axes[across];
        let beside =
            [BESIDE, BESIDE / 2].into_iter().find(|&n| outer.size > n && outer.size.is_multiple_of(n));
        if let Some(n) = beside.filter(|_| tiles.axes.len() < MAX_AXES) {
            tiles.axes[across] = Axis { size: outer.size / n, steps: outer.steps.map(|step| step * n) };
            tiles.axes.insert(0, Axis { size: n, steps: outer.steps });
        }
        Some(tiles)
    }

    /// The same walk with four places to a turn, a quarter of the innermost axis apart, where there are several
    /// axes to be found by division and that one has quarters.
    pub(super) fn spread(&self) -> Option<Walk> {
        let fits = self.axes.len() > 1 && self.axes[0].size.is_multiple_of(4);
        let mut spread = self.clone();
        spread.axes[0].size /= 4;
        fits.then_some(spread)
    }

    /// Turns of the walk.
    pub(super) fn n(&self) -> usize {
        self.axes.iter().map(|axis| axis.size).product()
    }

    /// Cells from the first to the last place in tensor `t`.
    fn span(&self, t: usize) -> usize {
        let tile = 3 * self.tile.get(t).copied().unwrap_or(0);
        1 + tile + self.axes.iter().map(|axis| axis.steps[t] * (axis.size - 1)).sum::<usize>()
    }

    /// Bytes of tensor `t` that a binding must hold.
    fn bound_bytes(&self, t: usize, cell_bytes: usize) -> u64 {
        (self.starts[t] * cell_bytes % ALIGNMENT + self.span(t) * cell_bytes) as u64
    }

    /// Walks that together do this one, each with cells of these sizes within a binding of each tensor.
    ///
    /// Errors: [`Error::Limit`] when one cell alone is too large.
    pub(super) fn pieces(self, gpu: &Gpu, op: &str, cell_bytes: [usize; 3]) -> Result<Vec<Walk>> {
        let limit = gpu.facts().limits.binding_bytes;
        let (mut waiting, mut pieces) = (vec![self], Vec::new());
        while let Some(walk) = waiting.pop() {
            let needed = |t: usize| walk.bound_bytes(t, cell_bytes[t]);
            let Some(t) = (0..3).find(|&t| needed(t) > limit) else {
                pieces.push(walk);
                continue;
            };
            // The axis that spreads widest in the tensor that does not fit.
            let spread = |axis: &Axis| axis.steps[t] * (axis.size - 1);
            let widest = (0..walk.axes.len()).max_by_key(|&at| spread(&walk.axes[at])).unwrap_or(0);
            let size = walk.axes[widest].size;
            if size == 1 {
                return Err(Error::Limit {
                    what: op.to_string(),
                    needed: needed(t),
                    available_what: "the largest storage binding of this adapter".into(),
                    available: limit,
                });
            }
            let parts = (needed(t).div_ceil(limit) as usize).clamp(2, size);
            let part = size.div_ceil(parts);
            for from in (0..size).step_by(part) {
                let mut piece = walk.clone();
                piece.axes[widest].size = part.min(size - from);
                for (start, step) in piece.starts.iter_mut().zip(walk.axes[widest].steps) {
                    *start += from * step;
                }
                waiting.push(piece);
            }
        }
        Ok(pieces)
    }

    /// What this walk needs of tensor `t`: from the aligned offset before its start.
    pub(super) fn binding<'a>(&self, x: &'a Tensor, t: usize, cell_bytes: usize) -> Binding<'a> {
        let start = self.starts[t] * cell_bytes;
        x.range(start - start % ALIGNMENT, self.bound_bytes(t, cell_bytes) as usize)
    }

    /// The shader's parameters, starts counted from the bindings'.
    pub(super) fn params(&self, cell_bytes: [usize; 3]) -> Vec<u8> {
        let size = |at: usize| self.axes.get(at).map_or(1, |axis| axis.size as u32);
        let step = |t: usize, at: usize| self.axes.get(at).map_or(0, |axis| axis.steps[t] as u32);
        let start = |t: usize| (self.starts[t] * cell_bytes[t] % ALIGNMENT / cell_bytes[t]) as u32;
        let params = Params {
            n: self.n() as u32,
            size0: size(0),
            size1: size(1),
            size2: size(2),
            size3: size(3),
            size4: size(4),
            size5: size(5),
            a0: step(0, 0),
            a1: step(0, 1),
            a2: step(0, 2),
            a3: step(0, 3),
            a4: step(0, 4),
            a5: step(0, 5),
            b0: step(1, 0),
            b1: step(1, 1),
            b2: step(1, 2),
            b3: step(1, 3),
            b4: step(1, 4),
            b5: step(1, 5),
            c0: step(2, 0),
            c1: step(2, 1),
            c2: step(2, 2),
            c3: step(2, 3),
            c4: step(2, 4),
            c5: step(2, 5),
            a_start: start(0),
            b_start: start(1),
            c_start: start(2),
            a_tile: self.tile[0] as u32,
            b_tile: self.tile[1] as u32,
        };
        params.as_bytes().to_vec()
    }
}

/// Bytes every binding's offset is a multiple of: a multiple of every cell.
const ALIGNMENT: usize = Tensor::ALIGNMENT as usize;

/// Steps between neighbours along each axis of a contiguous tensor.
pub(super) fn steps_of(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        steps[at - 1] = steps[at] * shape[at];
    }
    steps
}

/// Steps of a tensor of shape `from` along the axes of `to`: none where it is repeated.
pub(super) fn steps_in(from: &[usize], to: &[usize]) -> Vec<usize> {
    let mut steps = vec![0; to.len()];
    let own = to.len() - from.len();
    for (at, step) in steps_of(from).into_iter().enumerate() {
        if from[at] == to[own + at] && from[at] != 1 {
            steps[own + at] = step;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::gpu_with;

    fn axis(size: usize, steps: [usize; 3]) -> Axis {
        Axis { size, steps }
    }

    #[test]
    fn neighbours_merge_and_single_axes_go() {
        let axes = [axis(2, [12, 0, 12]), axis(1, [5, 5, 5]), axis(3, [4, 4, 4]), axis(4, [1, 1, 1])];
        let walk = Walk::new("op", &axes, [0; 3]).unwrap();
        assert_eq!(walk.axes, [axis(12, [1, 1, 1]), axis(2, [12, 0, 12])]);
        assert_eq!(Walk::new("op", &[], [0; 3]).unwrap().n(), 1);
        let ragged: Vec<Axis> = (0..7).map(|at| axis(2, [3 << (3 * at); 3])).collect();
        assert!(Walk::new("op", &ragged, [0; 3]).is_err());
    }

    #[test]
    fn pieces_fit_and_cover_every_turn_once() {
        let options = crate::gpu::Options { binding_bytes: Some(1024), ..Default::default() };
        let Some(gpu) = gpu_with(options) else { return };
        // A transposition of 61 x 37 with an offset start.
        let axes = [axis(61, [1, 0, 37]), axis(37, [61, 0, 1])];
        let walk = Walk::new("op", &axes, [5, 0, 0]).unwrap();
        let mut seen = vec![0; 61 * 37];
        for piece in walk.pieces(&gpu, "op", [4; 3]).unwrap() {
            assert!((0..3).all(|t| piece.bound_bytes(t, 4) <= 1024));
            for turn in 0..piece.n() {
                let (mut rest, mut at) = (turn, piece.starts[2]);
                for axis in &piece.axes {
                    at += rest % axis.size * axis.steps[2];
                    rest /= axis.size;
                }
                seen[at] += 1;
            }
        }
        assert!(seen.iter().all(|&times| times == 1));
    }
}
