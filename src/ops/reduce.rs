//! Sums, means and maxima over axes.    y = sum x, sum x / count, max x
//! Same as PyTorch `sum`, `mean` and `amax` with `keepdim=False`. Summed in f32, in parts and then the parts.
//! Backward: dx = dy, dy / count, (x = y) dy / how often, repeated over the axes that went.

use super::{common, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Binding, Launch, Program, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor};
use std::ops::Range;

super::params! {
    struct Params {
        n: u32,
        cols: u32,
        inner: u32,
        chunk: u32,
        chunks: u32,
        row_step: u32,
        x_start: u32,
        y_step: u32,
        y_start: u32,
        scale: f32,
    }
}

/// What is done, by the shader's KIND.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Sum,
    Max,
}

/// Values one invocation takes in: few, so that sums stay accurate and many invocations share the work.
const TURNS: usize = 128;
/// Rows up to this long are not worth a workgroup each.
const SHORT_ROW: usize = 64;

impl Tensor {
    /// The sum over a set of axes, which go: `[a, b, c]` over `[0, 2]` -> `[b]`. Over none: the tensor itself.
    ///
    /// Errors: [`Error::Shape`] when an axis is named twice or not there, [`Error::DType`] for ids.
    pub fn sum(&self, axes: &[usize]) -> Result<Tensor> {
        self.reduce("sum", axes, Kind::Sum)
    }

    /// The mean over a set of axes, which go.
    ///
    /// Errors: as [`Tensor::sum`], and when there is nothing to take the mean of.
    pub fn mean(&self, axes: &[usize]) -> Result<Tensor> {
        self.reduce("mean", axes, Kind::Sum)
    }

    /// The largest value over a set of axes, which go.
    ///
    /// Errors: as [`Tensor::sum`], and when there is nothing to choose from.
    pub fn amax(&self, axes: &[usize]) -> Result<Tensor> {
        self.reduce("amax", axes, Kind::Max)
    }

    fn reduce(&self, op: &'static str, axes: &[usize], kind: Kind) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("{op} {self} over {axes:?}"));
        self.scalar(op)?;
        let twice = |at: usize| axes[..at].contains(&axes[at]);
        if let Some(at) = (0..axes.len()).find(|&at| axes[at] >= self.rank() || twice(at)) {
            let detail = format!("wanted axes of {:?}, each once, got {axes:?} ({})", self.shape(), axes[at]);
            return Err(Error::shape(op, detail));
        }
        let kept = |axis: &usize| !axes.contains(axis);
        let shape: Vec<usize> = (0..self.rank()).filter(kept).map(|axis| self.shape()[axis]).collect();
        if shape.contains(&0) {
            return Tensor::empty(self.gpu(), &shape, self.dtype());
        }
        let count: usize = axes.iter().map(|&axis| self.shape()[axis]).product();
        match (count, op) {
            (0, "sum") => return Tensor::zeros(self.gpu(), &shape, self.dtype()),
            (0, _) => {
                return Err(Error::shape(op, format!("{:?} has no values over {axes:?}", self.shape())));
            }
            (1, _) => return self.reshape(&shape),
            _ => {}
        }
        // Neighbouring axes of one fate are one axis; each reduced one in turn is the middle of three.
        let mut blocks: Vec<(usize, bool)> = Vec::new();
        for (axis, &size) in self.shape().iter().enumerate().filter(|&(_, &size)| size != 1) {
            match blocks.last_mut() {
                Some((last, is_kept)) if *is_kept == kept(&axis) => *last *= size,
                _ => blocks.push((size, kept(&axis))),
            }
        }
        let mut x = self.clone();
        while let Some(at) = blocks.iter().rposition(|&(_, is_kept)| !is_kept) {
            let product = |blocks: &[(usize, bool)]| blocks.iter().map(|(size, _)| size).product();
            let sizes = [product(&blocks[..at]), blocks[at].0, product(&blocks[at + 1..])];
            blocks.remove(at);
            let is_last = blocks.iter().all(|&(_, is_kept)| is_kept);
            let scale = if is_last && op == "mean" { (1.0 / count as f64) as f32 } else { 1.0 };
            x = middle(&x, op, sizes, kind, scale)?;
        }
        let y = x.reshape(&shape)?.cast(self.dtype())?;
        if !self.wants_gradient() {
            return Ok(y);
        }
        let size = |axis| if kept(&axis) { self.shape()[axis] } else { 1 };
        let kept_as_1: Vec<usize> = (0..self.rank()).map(size).collect();
        if kind == Kind::Sum {
            let (shape, scale) = (self.shape().to_vec(), if op == "mean" { 1.0 / count as f32 } else { 1.0 });
            return Ok(y.made_by([self], move |_, dy| {
                let dy = if op == "mean" { dy.scale(scale, 0.0)? } else { dy.clone() };
                Ok([Some(dy.reshape(&kept_as_1)?.expand(&shape)?)])
            }));
        }
        let (x, axes) = (self.detach(), axes.to_vec());
        Ok(y.made_by([self], move |y, dy| {
            // Equals share, as in PyTorch.
            let mask = x.equal(&y.detach().reshape(&kept_as_1)?)?;
            let share = dy.div(&mask.sum(&axes)?)?.reshape(&kept_as_1)?;
            Ok([Some(mask.mul(&share)?)])
        }))
    }

    /// The sum over what broadcasting had repeated: to a shape that broadcasts to this one.
    pub(super) fn sum_to(&self, shape: &[usize]) -> Result<Tensor> {
        if shape == self.shape() {
            return Ok(self.clone());
        }
        let new = self.rank() - shape.len();
        let axes: Vec<usize> = (0..self.rank()).filter(|&at| at < new || shape[at - new] == 1).collect();
        self.sum(&axes)?.reshape(shape)
    }

    /// `[rows, cols]` -> `[cols]`: sums over rows, in f32 whatever is stored.
    pub(super) fn column_sums(&self, [rows, cols]: [usize; 2]) -> Result<Tensor> {
        if rows == 1 {
            return self.reshape(&[cols])?.cast(DType::F32);
        }
        middle(self, "sum", [1, rows, cols], Kind::Sum, 1.0)?.reshape(&[cols])
    }
}

/// [outer, reduced, inner] -> [outer, inner] in f32, times `scale`.
fn middle(x: &Tensor, op: &str, sizes: [usize; 3], kind: Kind, scale: f32) -> Result<Tensor> {
    let [outer, mut reduced, inner] = sizes;
    let mut x = x.clone();
    loop {
        let plan = Plan::new(&x, op, [outer, reduced, inner], kind)?;
        let y = Tensor::empty(x.gpu(), &[outer, plan.n_chunks, inner], DType::F32)?;
        plan.run(&x, &y, op, if plan.n_chunks == 1 { scale } else { 1.0 })?;
        if plan.n_chunks == 1 {
            return Ok(y);
        }
        (x, reduced) = (y, plan.n_chunks);
    }
}

/// How one pass over [outer, reduced, inner] goes.
struct Plan {
    kind: Kind,
    scalar: Scalar,
    sizes: [usize; 3],
    /// A workgroup shares a row; else an invocation takes a column.
    by_rows: bool,
    width: usize,
    workgroup: u32,
    /// Elements of `reduced` that become one, and how many such there are.
    chunk: usize,
    n_chunks: usize,
    /// Bytes a launch may take of either tensor, wherever they start.
    usable: usize,
}

impl Plan {
    fn new(x: &Tensor, op: &str, sizes: [usize; 3], kind: Kind) -> Result<Plan> {
        let [_, reduced, inner] = sizes;
        let gpu = x.gpu();
        let usable = (gpu.facts().limits.binding_bytes / 2) as usize;
        let by_rows = inner == 1 && reduced > SHORT_ROW;
        let workgroup = if by_rows { gpu.row_workgroup() } else { gpu.flat_workgroup() };
        let width = super::width_of(if by_rows { reduced } else { inner }) as usize;
        let fitting = usable / (inner * x.dtype().bytes());
        let chunk = if by_rows {
            (workgroup as usize * TURNS * width).min(fitting / width * width)
        } else {
            TURNS.min(fitting)
        };
        let chunk = chunk.min(reduced);
        if chunk < 2 {
            return Err(Error::Limit {
                what: format!("{op}: two rows of {inner} elements"),
                needed: (2 * inner * x.dtype().bytes()) as u64,
                available_what: "half the largest storage binding of this adapter".into(),
                available: usable as u64,
            });
        }
        let scalar = x.scalar(op)?;
        let n_chunks = reduced.div_ceil(chunk);
        Ok(Plan { kind, scalar, sizes, by_rows, width, workgroup, chunk, n_chunks, usable })
    }

    /// Launches over rows and chunks that fit a binding together.
    fn pieces(&self, x: &Tensor, y: &Tensor) -> Vec<(Range<usize>, Range<usize>)> {
        let [outer, reduced, inner] = self.sizes;
        let limit = x.gpu().facts().limits.binding_bytes;
        if x.bytes() <= limit && y.bytes() <= limit {
            return vec![(0..outer, 0..self.n_chunks)];
        }
        let size = x.dtype().bytes();
        let cut = |n: usize, most: usize| (0..n).step_by(most).map(move |from| from..n.min(from + most));
        let rows = (self.usable / (reduced * inner * size)).min(self.usable / (self.n_chunks * inner * 4));
        if rows > 0 {
            return cut(outer, rows).map(|rows| (rows, 0..self.n_chunks)).collect();
        }
        let chunks = (self.usable / (self.chunk * inner * size)).min(self.usable / (inner * 4)).max(1);
        let row_pieces = |row| cut(self.n_chunks, chunks).map(move |chunks| (row..row + 1, chunks));
        (0..outer).flat_map(row_pieces).collect()
    }

    fn run(&self, x: &Tensor, y: &Tensor, op: &str, scale: f32) -> Result<()> {
        let [_, reduced, inner] = self.sizes;
        let (gpu, width) = (x.gpu(), self.width);
        let variant = Variant { scalar: self.scalar, width: width as u32, workgroup: self.workgroup };
        let entry = if self.by_rows { "rows" } else { "columns" };
        // Columns are counted in units where lanes stride over them, inner elements where they are the lanes.
        let (col_width, inner_width) = if self.by_rows { (width, 1) } else { (1, width) };
        for (rows, chunks) in self.pieces(x, y) {
            let first = chunks.start * self.chunk;
            let end = reduced.min(chunks.end * self.chunk);
            let x_range = (rows.start * reduced + first) * inner..((rows.end - 1) * reduced + end) * inner;
            let y_row = |row: usize, chunk: usize| (row * self.n_chunks + chunk) * inner;
            let y_range = y_row(rows.start, chunks.start)..y_row(rows.end - 1, chunks.end);
            let elements = rows.len() * (end - first) * inner;
            let n_results = rows.len() * chunks.len() * inner / inner_width;
            let (x_binding, x_start) = aligned(x, x_range);
            let (y_binding, y_start) = aligned(y, y_range);
            let params = Params {
                n: rows.len() as u32,
                cols: ((end - first) / col_width) as u32,
                inner: (inner / inner_width) as u32,
                chunk: (self.chunk / col_width) as u32,
                chunks: chunks.len() as u32,
                row_step: (reduced * inner / width) as u32,
                x_start: (x_start / width) as u32,
                y_step: (self.n_chunks * inner / inner_width) as u32,
                y_start: (y_start / inner_width) as u32,
                scale,
            };
            let groups = if self.by_rows { n_results } else { n_results.div_ceil(self.workgroup as usize) };
            let kind = self.kind;
            gpu.run(&Launch {
                program: Program::generated("reduce", entry, variant, kind as u64, &|| text(kind)),
                params: params.as_bytes(),
                inputs: &[x_binding],
                outputs: &[y_binding],
                groups: gpu.grid(op, groups as u64)?,
                work: Work { flops: elements as u64, bytes: (elements * x.dtype().bytes()) as u64 },
            })?;
        }
        Ok(())
    }
}

/// A range of elements bound from the aligned place before it, and how many elements in between.
fn aligned(x: &Tensor, elements: Range<usize>) -> (Binding<'_>, usize) {
    let before = elements.start % (256 / x.dtype().bytes());
    (x.window(elements.start - before..elements.end), before)
}

/// The shader's text with its kind chosen.
fn text(kind: Kind) -> String {
    let head = format!("const KIND = {}u;", kind as u32);
    [&head, shaders!("reduce"), common::INDEX, common::REDUCE].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, gradients, random, validate};
    use half::f16;

    /// The same in f64, index by index.
    fn reference(op: &str, shape: &[usize], axes: &[usize], x: &[f32]) -> Vec<f64> {
        reference_wide(op, shape, axes, &x.iter().map(|&v| v.into()).collect::<Vec<f64>>())
    }

    fn reference_wide(op: &str, shape: &[usize], axes: &[usize], x: &[f64]) -> Vec<f64> {
        let kept: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
        let n: usize = kept.iter().map(|&axis| shape[axis]).product();
        let mut y = vec![if op == "amax" { f64::MIN } else { 0.0 }; n];
        for (flat, &value) in x.iter().enumerate() {
            let (mut index, mut rest) = (vec![0; shape.len()], flat);
            for at in (0..shape.len()).rev() {
                index[at] = rest % shape[at];
                rest /= shape[at];
            }
            let at = kept.iter().fold(0, |at, &axis| at * shape[axis] + index[axis]);
            y[at] = if op == "amax" { y[at].max(value) } else { y[at] + value };
        }
        let count = x.len() / n.max(1);
        y.into_iter().map(|v| if op == "mean" { v / count as f64 } else { v }).collect()
    }

    fn reduced(x: &Tensor, op: &str, axes: &[usize]) -> Result<Tensor> {
        match op {
            "sum" => x.sum(axes),
            "mean" => x.mean(axes),
            _ => x.amax(axes),
        }
    }

    fn check(gpu: &Gpu, shape: &[usize], axes: &[usize]) {
        let values = random(shape, 2.0);
        let x = Tensor::new(gpu, shape, &values).unwrap();
        for op in ["sum", "mean", "amax"] {
            let y = reduced(&x, op, axes).unwrap();
            assert_eq!(y.rank(), shape.len() - axes.len());
            // Sums of up to 10^5 values of either sign, whose parts are far larger than the whole.
            let tolerance = if op == "amax" { 0.0 } else { 2e-5 };
            let want = reference(op, shape, axes, &values);
            assert_close(&y.to_vec().unwrap(), &want, tolerance, &format!("{op} {shape:?} {axes:?}"));
        }
    }

    #[test]
    fn any_set_of_axes() {
        let Some(gpu) = gpu() else { return };
        for (shape, axes) in [
            (&[1][..], &[0][..]),
            (&[7], &[0]),
            (&[257], &[0]),
            (&[5, 1031], &[1]),
            (&[5, 2052], &[1]),
            (&[1031, 5], &[0]),
            (&[300, 12], &[0]),
            (&[3, 300, 12], &[1]),
            (&[3, 130, 7], &[1]),
            (&[3, 5, 7, 4], &[0, 2]),
            (&[3, 5, 7, 4], &[1, 3]),
            (&[3, 5, 7, 4], &[3, 1, 0]),
            (&[3, 1, 7], &[1]),
            (&[2, 1, 3, 1, 5], &[4, 3, 2, 1, 0]),
            (&[3, 4], &[]),
            (&[], &[]),
            (&[70_001, 3], &[1]),
            (&[66_000, 2], &[0]),
        ] {
            check(&gpu, shape, axes);
        }
    }

    #[test]
    fn gradients_go_to_every_value() {
        let Some(gpu) = gpu() else { return };
        for (shape, axes) in [
            (&[1][..], &[0][..]),
            (&[257], &[0]),
            (&[5, 1031], &[1]),
            (&[3, 5, 7, 4], &[0, 2]),
            (&[3, 5, 7, 4], &[3, 1, 0]),
            (&[3, 1, 7], &[1]),
            (&[2, 1, 3], &[2, 1, 0]),
            (&[3, 4], &[]),
        ] {
            let values = random(shape, 2.0);
            for op in ["sum", "mean", "amax"] {
                assert_gradients(
                    &gpu,
                    &[(shape, &values)],
                    |x| reduced(&x[0], op, axes),
                    |x| reference_wide(op, shape, axes, &x[0]),
                    1e-6,
                    &format!("{op} {shape:?} {axes:?}"),
                );
            }
        }
    }

    #[test]
    fn the_largest_of_equals_share_their_gradient() {
        let Some(gpu) = gpu() else { return };
        let x = Tensor::new(&gpu, &[2, 3], &[4_f32, 1.0, 4.0, -1.0, -2.0, -3.0]).unwrap().parameter();
        let y = x.amax(&[1]).unwrap();
        let back = gradients(&y, Tensor::new(&gpu, &[2], &[3_f32, 5.0]).unwrap(), &[x]);
        // torch.amax(x, 1).backward(torch.tensor([3., 5.]))
        assert_eq!(back[0], [1.5, 0.0, 1.5, 5.0, 0.0, 0.0]);
    }

    #[test]
    fn what_is_no_number_is_the_largest() {
        let Some(gpu) = gpu() else { return };
        for (n, nan) in [(7, 0), (7, 6), (64, 1), (64, 62), (5000, 4321)] {
            let mut x = vec![1.0_f32; n];
            x[nan] = f32::NAN;
            for shape in [[1, n], [n, 1]] {
                let x = Tensor::new(&gpu, &shape, &x).unwrap();
                assert!(x.amax(&[0, 1]).unwrap().to_vec().unwrap()[0].is_nan(), "{nan} of {n}");
            }
        }
    }

    #[test]
    fn gradients_in_f16() {
        let Some(gpu) = gpu().filter(|gpu| gpu.facts().features.f16) else { return };
        let (shape, axes) = (&[5, 130, 3][..], &[0, 2][..]);
        let x: Vec<f32> = random(shape, 2.0).into_iter().map(|v| f16::from_f32(v).to_f32()).collect();
        for op in ["sum", "mean", "amax"] {
            assert_gradients(
                &gpu,
                &[(shape, &x)],
                |x| reduced(&x[0].cast(DType::F16)?, op, axes)?.cast(DType::F32),
                |x| reference_wide(op, shape, axes, &x[0]),
                2e-3, // two roundings to f16
                op,
            );
        }
    }

    #[test]
    fn a_million_values_add_up() {
        let Some(gpu) = gpu() else { return };
        for n in [1_000_003, 1_000_004] {
            let x: Vec<f32> = random(&[n], 0.5).into_iter().map(|v| v + 0.5).collect();
            let want: f64 = x.iter().map(|&v| f64::from(v)).sum();
            for shape in [vec![n], vec![n, 1], vec![1, n]] {
                let y = Tensor::new(&gpu, &shape, &x).unwrap().sum(&[0, 1][..shape.len()]).unwrap();
                let got = f64::from(y.to_vec().unwrap()[0]);
                assert!((got - want).abs() <= 1e-6 * want, "{n}: wanted {want}, got {got}");
            }
        }
    }

    #[test]
    fn a_long_middle_adds_up() {
        let Some(gpu) = gpu() else { return };
        check(&gpu, &[70_001, 4], &[0]);
        check(&gpu, &[2, 70_001, 3], &[1]);
        check(&gpu, &[4, 140_002], &[1]);
    }

    #[test]
    fn f16_is_summed_in_f32() {
        let Some(gpu) = gpu().filter(|gpu| gpu.facts().features.f16) else { return };
        for (shape, axes) in
            [(&[3, 4099][..], &[1][..]), (&[3, 4100], &[1]), (&[500, 8], &[0]), (&[500, 7], &[0])]
        {
            let x: Vec<f16> = random(shape, 1.0).into_iter().map(|v| f16::from_f32(v + 0.5)).collect();
            let wide: Vec<f32> = x.iter().map(|v| v.to_f32()).collect();
            let tensor = Tensor::new(&gpu, shape, &x).unwrap();
            for op in ["sum", "mean", "amax"] {
                let y = reduced(&tensor, op, axes).unwrap();
                assert_eq!(y.dtype(), DType::F16);
                // Only the result is rounded to f16; adding in f16 would stop at 2048.
                let want = reference(op, shape, axes, &wide);
                assert_close(&y.to_vec().unwrap(), &want, 1e-3, &format!("{op} {shape:?}"));
            }
        }
    }

    #[test]
    fn tensors_larger_than_a_binding_go_in_pieces() {
        let options = Options { binding_bytes: Some(4096), ..Options::default() };
        let Some(gpu) = gpu_with(options) else { return };
        check(&gpu, &[5003], &[0]);
        check(&gpu, &[3, 5004], &[1]);
        check(&gpu, &[3, 5003], &[1]);
        check(&gpu, &[2001, 3], &[1]);
        check(&gpu, &[101, 99], &[1]);
        check(&gpu, &[501, 13], &[0]);
        check(&gpu, &[3, 201, 12], &[1]);
        check(&gpu, &[30, 7, 12], &[0, 2]);
        let wide = Tensor::zeros(&gpu, &[3, 1000], DType::F32).unwrap();
        assert!(
            matches!(wide.sum(&[0]), Err(Error::Limit { .. })),
            "one column per invocation, rows too long"
        );
    }

    #[test]
    fn empty_axes() {
        let Some(gpu) = gpu() else { return };
        let x = Tensor::new::<f32>(&gpu, &[2, 0], &[]).unwrap();
        assert_eq!(x.sum(&[1]).unwrap().to_vec().unwrap(), [0.0, 0.0]);
        assert_eq!(x.sum(&[0]).unwrap().shape(), [0]);
        assert!(matches!(x.mean(&[1]), Err(Error::Shape { .. })));
        assert!(matches!(x.amax(&[1]), Err(Error::Shape { .. })));
    }

    #[test]
    fn wrong_axes_and_ids_are_refused_and_a_plan_counts() {
        let plan = Gpu::plan();
        let x = Tensor::empty(&plan, &[2, 3, 200], DType::F32).unwrap();
        for axes in [&[3][..], &[0, 0], &[usize::MAX]] {
            assert!(matches!(x.sum(axes), Err(Error::Shape { .. })), "{axes:?}");
        }
        assert!(matches!(
            Tensor::empty(&plan, &[2], DType::I32).unwrap().sum(&[0]),
            Err(Error::DType { .. })
        ));
        assert_eq!(x.amax(&[2]).unwrap().shape(), [2, 3]);
        assert_eq!(plan.counts().dispatches, 1);
    }

    #[test]
    fn shader_twin() {
        for scalar in [Scalar::F32, Scalar::F16] {
            for width in [1, 4] {
                for kind in [Kind::Sum, Kind::Max] {
                    let variant = Variant { scalar, width, workgroup: 64 };
                    let generate = || text(kind);
                    let program = Program::generated("reduce", "rows", variant, 0, &generate);
                    validate(&format!("reduce {kind:?} {variant:?}"), &program.text(true), Params::FIELDS);
                }
            }
        }
    }
}
