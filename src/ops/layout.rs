//! Moving elements without looking at them: permute, narrow, concat, expand, pad. For any number type.
//! Same as PyTorch's functions of these names, made contiguous; `pad` is with zeros.
//! Backward: what was moved moves back, what was cut off gets zeros, what was repeated sums up.

use super::walk::{Axis, Walk, steps_in, steps_of};
use super::{common, flat_groups, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Program, Scalar, Variant, Work};
use crate::tensor::Tensor;
use std::ops::Range;

impl Tensor {
    /// Axis `i` of the result is axis `axes[i]` of this: [a, b, c] by [2, 0, 1] -> [c, a, b].
    ///
    /// Errors: [`Error::Shape`] when `axes` does not name each axis once, or more than 6 axes are torn apart.
    pub fn permute(&self, axes: &[usize]) -> Result<Tensor> {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..self.rank()) {
            let detail = format!("wanted each axis of {:?} once, got {axes:?}", self.shape());
            return Err(Error::shape("permute", detail));
        }
        let shape: Vec<usize> = axes.iter().map(|&axis| self.shape()[axis]).collect();
        // Axes of size 1 may go anywhere: where the others keep their order nothing moves.
        if axes.iter().filter(|&&axis| self.shape()[axis] != 1).is_sorted() {
            return self.reshape(&shape);
        }
        let _op = self.gpu().op(|| format!("permute {self} by {axes:?}"));
        let own = steps_of(self.shape());
        let from: Vec<usize> = axes.iter().map(|&axis| own[axis]).collect();
        let y = Tensor::empty(self.gpu(), &shape, self.dtype())?;
        self.move_into(&y, "permute", &shape, (&from, 0), (&steps_of(&shape), 0))?;
        if !self.wants_gradient() {
            return Ok(y);
        }
        let mut back = vec![0; axes.len()];
        axes.iter().enumerate().for_each(|(at, &axis)| back[axis] = at);
        Ok(y.made_by([self], move |_, dy| Ok([Some(dy.permute(&back)?)])))
    }

    /// Some rows of a matrix as columns: [rows, columns] -> [columns, some]. No gradient.
    pub(super) fn turned(&self, some: Range<usize>) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("turn {self} rows {some:?}"));
        let shape = [self.dim(0), some.len()];
        let y = Tensor::empty(self.gpu(), &shape, self.dtype())?;
        let from = [1, self.dim(0)];
        self.move_into(&y, "permute", &shape, (&from, some.start * from[1]), (&[some.len(), 1], 0))?;
        Ok(y)
    }

    /// `len` places of an axis from `start` on: [.., n, ..] -> [.., len, ..].
    ///
    /// Errors: [`Error::Shape`] when there is no such axis or it ends before.
    pub fn narrow(&self, axis: usize, start: usize, len: usize) -> Result<Tensor> {
        let size = self.axis_size("narrow", axis)?;
        if start.checked_add(len).is_none_or(|end| end > size) {
            let detail = format!("axis {axis} of {:?} has no places {start}..{start}+{len}", self.shape());
            return Err(Error::shape("narrow", detail));
        }
        if len == size {
            return Ok(self.clone());
        }
        let _op = self.gpu().op(|| format!("narrow {self} axis {axis} to {len}"));
        let mut shape = self.shape().to_vec();
        shape[axis] = len;
        let y = Tensor::empty(self.gpu(), &shape, self.dtype())?;
        let from = steps_of(self.shape());
        self.move_into(&y, "narrow", &shape, (&from, start * from[axis]), (&steps_of(&shape), 0))?;
        if !self.wants_gradient() {
            return Ok(y);
        }
        let mut around = vec![(0, 0); self.rank()];
        around[axis] = (start, size - start - len);
        Ok(y.made_by([self], move |_, dy| Ok([Some(dy.pad(&around)?)])))
    }

    /// Tensors behind each other along an axis: [.., a, ..], [.., b, ..] -> [.., a + b, ..].
    ///
    /// Errors: [`Error::Shape`] without tensors, or when another axis differs; [`Error::DType`] for mixed types.
    pub fn concat(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
        let Some(first) = tensors.first() else {
            return Err(Error::shape("concat", "wanted at least one tensor, got none"));
        };
        first.axis_size("concat", axis)?;
        let mut shape = first.shape().to_vec();
        shape[axis] = 0;
        for x in tensors {
            let fits = x.rank() == first.rank()
                && (0..x.rank()).all(|at| at == axis || x.shape()[at] == first.shape()[at]);
            if !fits {
                let detail = format!("wanted {:?} but for axis {axis}, got {:?}", first.shape(), x.shape());
                return Err(Error::shape("concat", detail));
            }
            if x.dtype() != first.dtype() {
                let detail = format!("wanted {:?} as the first, got {:?}", first.dtype(), x.dtype());
                return Err(Error::dtype("concat", detail));
            }
            shape[axis] += x.shape()[axis];
        }
        let _op = first.gpu().op(|| format!("concat axis {axis} -> {shape:?} {}", first.dtype()));
        let y = Tensor::empty(first.gpu(), &shape, first.dtype())?;
        let to = steps_of(&shape);
        let mut at = 0;
        let joined = match tensors {
            [a, b] if a.join_pays() => a.join_into(b, axis, &y)?,
            _ => false,
        };
        for x in tensors.iter().filter(|_| !joined) {
            x.move_into(&y, "concat", x.shape(), (&steps_of(x.shape()), 0), (&to, at * to[axis]))?;
            at += x.shape()[axis];
        }
        if tensors.iter().all(|x| !x.wants_gradient()) {
            return Ok(y);
        }
        let parts: Vec<(usize, bool)> =
            tensors.iter().map(|x| (x.shape()[axis], x.wants_gradient())).collect();
        Ok(y.made_by_all(tensors, move |_, dy| {
            let mut at = 0;
            let part = |&(len, wants): &(usize, bool)| {
                at += len;
                wants.then(|| dy.narrow(axis, at - len, len)).transpose()
            };
            parts.iter().map(part).collect()
        }))
    }

    /// Repeats axes of size 1, and the whole along new leading axes: [1, n] to [b, m, n] -> [b, m, n].
    ///
    /// Errors: [`Error::Shape`] when an axis of another size would change.
    pub fn expand(&self, shape: &[usize]) -> Result<Tensor> {
        let fits = shape.len() >= self.rank()
            && self
                .shape()
                .iter()
                .rev()
                .zip(shape.iter().rev())
                .all(|(&own, &wanted)| own == wanted || own == 1);
        if !fits {
            let detail = format!("{:?} does not repeat to {shape:?}: sizes are equal or 1", self.shape());
            return Err(Error::shape("expand", detail));
        }
        if shape == self.shape() {
            return Ok(self.clone());
        }
        let _op = self.gpu().op(|| format!("expand {self} -> {shape:?}"));
        let y = Tensor::empty(self.gpu(), shape, self.dtype())?;
        self.move_into(&y, "expand", shape, (&steps_in(self.shape(), shape), 0), (&steps_of(shape), 0))?;
        if !self.wants_gradient() {
            return Ok(y);
        }
        let own = self.shape().to_vec();
        Ok(y.made_by([self], move |_, dy| Ok([Some(dy.sum_to(&own)?)])))
    }

    /// Zeros before and after each of the last axes, in the order of the axes: [.., n] by [(b, a)] ->
    /// [.., b + n + a]. PyTorch's `pad` takes the last axis first.
    ///
    /// Errors: [`Error::Shape`] when there are more pairs than axes.
    pub fn pad(&self, trailing: &[(usize, usize)]) -> Result<Tensor> {
        let Some(kept) = self.rank().checked_sub(trailing.len()) else {
            let detail =
                format!("wanted at most {} pairs for {:?}, got {trailing:?}", self.rank(), self.shape());
            return Err(Error::shape("pad", detail));
        };
        let mut shape = self.shape().to_vec();
        for (size, (before, after)) in shape[kept..].iter_mut().zip(trailing) {
            *size = size.saturating_add(*before).saturating_add(*after);
        }
        let _op = self.gpu().op(|| format!("pad {self} -> {shape:?}"));
        let y = Tensor::zeros(self.gpu(), &shape, self.dtype())?;
        let to = steps_of(&shape);
        let start = to[kept..].iter().zip(trailing).map(|(step, (before, _))| step * before).sum();
        self.move_into(&y, "pad", self.shape(), (&steps_of(self.shape()), 0), (&to, start))?;
        if !self.wants_gradient() {
            return Ok(y);
        }
        let own = self.shape().to_vec();
        Ok(y.made_by([self], move |_, dy| {
            let _op = dy.gpu().op(|| format!("pad backward {dy} -> {own:?}"));
            let dx = Tensor::empty(dy.gpu(), &own, dy.dtype())?;
            dy.move_into(&dx, "pad", &own, (&to, start), (&steps_of(&own), 0))?;
            Ok([Some(dx)])
        }))
    }

    fn axis_size(&self, op: &str, axis: usize) -> Result<usize> {
        match self.shape().get(axis) {
            Some(&size) => Ok(size),
            None => Err(Error::shape(op, format!("{:?} has no axis {axis}", self.shape()))),
        }
    }

    /// Moves a block of `shape` from here into `y`; each place is given by steps along the axes and a start, in
    /// elements.
    fn move_into(
        &self,
        y: &Tensor,
        op: &'static str,
        shape: &[usize],
        (from, from_start): (&[usize], usize),
        (to, to_start): (&[usize], usize),
    ) -> Result<()> {
        if shape.contains(&0) {
            return Ok(());
        }
        let axes: Vec<Axis> =
            (0..shape.len()).map(|at| Axis { size: shape[at], steps: [from[at], to[at], 0] }).collect();
        let walk = Walk::new(op, &axes, [from_start, to_start, 0])?;
        let (gpu, size) = (self.gpu(), self.dtype().bytes());
        if let Some(bytes) = copied_bytes(&walk, size, y.len()) {
            let at = |x: &Tensor, start: usize| x.first_byte() + (start * size) as u64;
            let (from, to) = (at(self, from_start), at(y, to_start));
            return gpu.copy(self.buffer(), from, y.buffer(), to, bytes as u64);
        }
        if let Some(tiles) = walk.in_tiles().filter(|_| size == 4) {
            return self.move_tiles(y, op, tiles);
        }
        let widest = if super::words_pay(gpu) { 32 } else { 16 };
        let width = cell_width(&walk, size, widest);
        let cell_bytes = width * size;
        let walk = walk.in_cells(width, [true; 3]);
        let n_axes = walk.axes.len();
        // f16 is needed only where a single one moves.
        let scalar = if cell_bytes == 2 { Scalar::F16 } else { Scalar::F32 };
        let width = if cell_bytes == 32 { 8 } else { 4 };
        let variant = Variant { scalar, width, workgroup: gpu.flat_workgroup() };
        for piece in walk.pieces(gpu, op, [cell_bytes; 3])? {
            let spread = piece.spread();
            let form = (n_axes << 9 | cell_bytes << 1 | usize::from(spread.is_some())) as u64;
            let text = || text(n_axes, cell_bytes, spread.is_some());
            gpu.run(&Launch {
                program: Program::generated("layout", "forward", variant, form, &text),
                params: &spread.as_ref().unwrap_or(&piece).params([cell_bytes; 3]),
                inputs: &[piece.binding(self, 0, cell_bytes)],
                outputs: &[piece.binding(y, 1, cell_bytes)],
                groups: flat_groups(gpu, op, piece.n())?,
                work: Work { flops: 0, bytes: (2 * piece.n() * cell_bytes) as u64 },
            })?;
        }
        Ok(())
    }
}

impl Tensor {
    /// Moves four by four elements of 4 bytes at once, turned.
    fn move_tiles(&self, y: &Tensor, op: &'static str, walk: Walk) -> Result<()> {
        const CELL: usize = 16;
        let (gpu, n_axes) = (self.gpu(), walk.axes.len());
        let variant = Variant { scalar: Scalar::F32, width: 4, workgroup: 64 };
        let form = (n_axes << 8 | CELL) as u64;
        for piece in walk.pieces(gpu, op, [CELL; 3])? {
            gpu.run(&Launch {
                program: Program::generated("layout", "tiles", variant, form, &|| text(n_axes, CELL, false)),
                params: &piece.params([CELL; 3]),
                inputs: &[piece.binding(self, 0, CELL)],
                outputs: &[piece.binding(y, 1, CELL)],
                groups: gpu.grid(op, piece.n().div_ceil(64) as u64)?,
                work: Work { flops: 0, bytes: (2 * 4 * piece.n() * CELL) as u64 },
            })?;
        }
        Ok(())
    }
}

/// Bytes of a plain copy between buffers, where the walk is one: a single run whose ends lie on whole words, or
/// whose end may spill into the padding of `y`.
fn copied_bytes(walk: &Walk, size: usize, y_len: usize) -> Option<usize> {
    let run = walk.inner();
    let whole = |elements: usize| (elements * size).is_multiple_of(4);
    let starts_whole = whole(walk.starts[0]) && whole(walk.starts[1]);
    let ends_well = whole(run.size) || walk.starts[1] + run.size == y_len;
    let one_run = walk.axes.len() == 1 && run.steps[0] == 1 && run.steps[1] == 1;
    (one_run && starts_whole && ends_well).then(|| (run.size * size).next_multiple_of(4))
}

/// Elements of the widest cell, up to `widest` bytes, that the walk keeps whole in both tensors.
fn cell_width(walk: &Walk, size: usize, widest: usize) -> usize {
    let (inner, outer) = (walk.inner(), &walk.axes[1..]);
    if inner.steps[..2] != [1, 1] {
        return 1;
    }
    let whole = |width: usize| {
        inner.size.is_multiple_of(width)
            && walk.starts.iter().all(|start| start.is_multiple_of(width))
            && outer.iter().flat_map(|axis| axis.steps).all(|step| step.is_multiple_of(width))
    };
    let mut width = widest / size;
    while !whole(width) {
        width /= 2;
    }
    width
}

/// The shader type that moves so many bytes; of f16s only a lone one needs the device's f16.
pub(super) fn cell_type(cell_bytes: usize) -> &'static str {
    match cell_bytes {
        16 => "vec4<u32>",
        8 => "vec2<u32>",
        4 => "u32",
        _ => "scalar",
    }
}

/// The shader's text for cells of so many bytes.
fn text(n_axes: usize, cell_bytes: usize, spread: bool) -> String {
    let (cell, carried) = match cell_bytes {
        // Third of the walk's starts, which is 0 as it has no third tensor.
        32 => ("stored", "moved(v, params.c_start)"),
        _ => (cell_type(cell_bytes), "v"),
    };
    let head = format!(
        "const AXES = {n_axes}u;\nconst SPREAD = {spread};\nalias cell = {cell};\n\
         fn carried(v: cell) -> cell {{ return {carried}; }}"
    );
    [&head, shaders!("layout"), common::INDEX, common::WALK].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::tensor::DType;
    use crate::testing::{assert_gradients, gpu, gpu_with, random, validate};
    use half::f16;

    /// Element at every index of `shape`, row-major, by a function of the index.
    fn reference(shape: &[usize], value: impl Fn(&[usize]) -> f32) -> Vec<f32> {
        (0..shape.iter().product())
            .map(|flat| {
                let (mut index, mut rest) = (vec![0; shape.len()], flat);
                for at in (0..shape.len()).rev() {
                    index[at] = rest % shape[at];
                    rest /= shape[at];
                }
                value(&index)
            })
            .collect()
    }

    fn flat(shape: &[usize], index: &[usize]) -> f32 {
        // Below 2048, so that f16 holds them.
        (shape.iter().zip(index).fold(0, |at, (d, i)| at * d + i) % 2039) as f32
    }

    /// A tensor whose elements tell where they were.
    fn numbered(gpu: &Gpu, shape: &[usize], dtype: DType) -> Tensor {
        let values = reference(shape, |index| flat(shape, index));
        match dtype {
            DType::F16 => {
                let half: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
                Tensor::new(gpu, shape, &half).unwrap()
            }
            _ => Tensor::new(gpu, shape, &values).unwrap(),
        }
    }

    const FLOATS: [DType; 2] = [DType::F32, DType::F16];

    fn check_permute(gpu: &Gpu, shape: &[usize], axes: &[usize]) {
        for dtype in FLOATS {
            let y = numbered(gpu, shape, dtype).permute(axes).unwrap();
            let to: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
            assert_eq!((y.shape(), y.dtype()), (&to[..], dtype));
            let want = reference(&to, |index| {
                let mut from = vec![0; shape.len()];
                for (&axis, &i) in axes.iter().zip(index) {
                    from[axis] = i;
                }
                flat(shape, &from)
            });
            assert_eq!(y.to_vec().unwrap(), want, "{shape:?} {axes:?} {dtype:?}");
        }
    }

    fn check_narrow(gpu: &Gpu, shape: &[usize], axis: usize, start: usize, len: usize) {
        for dtype in FLOATS {
            let y = numbered(gpu, shape, dtype).narrow(axis, start, len).unwrap();
            let want = reference(y.shape(), |index| {
                let mut from = index.to_vec();
                from[axis] += start;
                flat(shape, &from)
            });
            assert_eq!(y.to_vec().unwrap(), want, "{shape:?} {axis} {start} {len} {dtype:?}");
        }
    }

    fn check_concat(gpu: &Gpu, shapes: &[&[usize]], axis: usize) {
        for dtype in FLOATS {
            let tensors: Vec<Tensor> = shapes.iter().map(|shape| numbered(gpu, shape, dtype)).collect();
            let y = Tensor::concat(&tensors.iter().collect::<Vec<_>>(), axis).unwrap();
            let want = reference(y.shape(), |index| {
                let mut index = index.to_vec();
                let mut shapes = shapes.iter();
                loop {
                    let shape = shapes.next().unwrap();
                    match index[axis].checked_sub(shape[axis]) {
                        Some(rest) => index[axis] = rest,
                        None => return flat(shape, &index),
                    }
                }
            });
            assert_eq!(y.to_vec().unwrap(), want, "{shapes:?} {axis} {dtype:?}");
        }
    }

    fn check_pad(gpu: &Gpu, shape: &[usize], trailing: &[(usize, usize)]) {
        for dtype in FLOATS {
            let y = numbered(gpu, shape, dtype).pad(trailing).unwrap();
            let kept = shape.len() - trailing.len();
            let want = reference(y.shape(), |index| {
                let mut from = index.to_vec();
                for (at, &(before, _)) in trailing.iter().enumerate() {
                    match from[kept + at].checked_sub(before) {
                        Some(i) if i < shape[kept + at] => from[kept + at] = i,
                        _ => return 0.0,
                    }
                }
                flat(shape, &from)
            });
            assert_eq!(y.to_vec().unwrap(), want, "{shape:?} {trailing:?} {dtype:?}");
        }
    }

    fn check_expand(gpu: &Gpu, from: &[usize], to: &[usize]) {
        for dtype in FLOATS {
            let y = numbered(gpu, from, dtype).expand(to).unwrap();
            let new = to.len() - from.len();
            let want = reference(to, |index| {
                let own: Vec<usize> =
                    from.iter().zip(&index[new..]).map(|(&d, &i)| if d == 1 { 0 } else { i }).collect();
                flat(from, &own)
            });
            assert_eq!(y.to_vec().unwrap(), want, "{from:?} {to:?} {dtype:?}");
        }
    }

    #[test]
    fn permute() {
        let Some(gpu) = gpu() else { return };
        for (shape, axes) in [
            (&[7, 13][..], &[1, 0][..]),
            (&[2, 5, 3, 8], &[0, 2, 1, 3]),
            (&[2, 5, 3, 6], &[0, 2, 1, 3]),
            (&[2, 5, 3, 7], &[2, 0, 1, 3]),
            (&[2, 12, 20], &[0, 2, 1]),
            (&[3, 36, 68], &[2, 0, 1]),
            (&[2, 4, 6, 10], &[0, 2, 3, 1]),
            (&[2, 3, 8, 4, 12], &[4, 1, 0, 3, 2]),
            (&[2, 3, 5, 32], &[0, 2, 1, 3]),
            (&[2, 3, 5, 24], &[1, 0, 2, 3]),
            (&[2, 3, 4, 5, 6, 7], &[5, 3, 1, 0, 2, 4]),
            (&[5, 1, 7], &[2, 1, 0]),
            (&[3, 4, 5], &[0, 1, 2]),
            (&[70_001, 3], &[1, 0]),
            (&[], &[]),
            (&[3, 0, 2], &[1, 0, 2]),
        ] {
            check_permute(&gpu, shape, axes);
        }
    }

    #[test]
    fn narrow() {
        let Some(gpu) = gpu() else { return };
        for (shape, axis, start, len) in [
            (&[7][..], 0, 0, 7),
            (&[7], 0, 3, 4),
            (&[9], 0, 2, 3),
            (&[5, 8], 1, 4, 4),
            (&[5, 8], 1, 3, 2),
            (&[5, 16], 1, 8, 8),
            (&[3, 5, 6], 1, 1, 3),
            (&[3, 5], 0, 1, 1),
            (&[3, 5], 1, 5, 0),
        ] {
            check_narrow(&gpu, shape, axis, start, len);
        }
    }

    #[test]
    fn concat() {
        let Some(gpu) = gpu() else { return };
        check_concat(&gpu, &[&[5], &[3], &[1]], 0);
        check_concat(&gpu, &[&[2, 3], &[0, 3], &[5, 3]], 0);
        check_concat(&gpu, &[&[3, 8], &[3, 16]], 1);
        check_concat(&gpu, &[&[7, 64], &[7, 32], &[7, 8]], 1);
        check_concat(&gpu, &[&[3, 7], &[3, 1], &[3, 4]], 1);
        check_concat(&gpu, &[&[2, 3, 5], &[2, 1, 5]], 1);
        check_concat(&gpu, &[&[4, 4]], 1);
    }

    #[test]
    fn pad() {
        let Some(gpu) = gpu() else { return };
        check_pad(&gpu, &[5], &[(1, 2)]);
        check_pad(&gpu, &[2, 3, 4, 8], &[(1, 1), (2, 0), (0, 0)]);
        check_pad(&gpu, &[2, 3, 4, 5], &[(1, 0), (0, 1), (2, 2), (0, 3)]);
        check_pad(&gpu, &[2, 0], &[(1, 1), (1, 2)]);
        check_pad(&gpu, &[3], &[]);
    }

    #[test]
    fn expand() {
        let Some(gpu) = gpu() else { return };
        check_expand(&gpu, &[1, 8], &[3, 8]);
        check_expand(&gpu, &[5, 1], &[5, 7]);
        check_expand(&gpu, &[3, 1, 4], &[2, 3, 5, 4]);
        check_expand(&gpu, &[], &[9]);
        check_expand(&gpu, &[1], &[0]);
        check_expand(&gpu, &[2, 3], &[2, 3]);
    }

    #[test]
    fn tensors_larger_than_a_binding_go_in_pieces() {
        let options = Options { binding_bytes: Some(1024), ..Options::default() };
        let Some(gpu) = gpu_with(options) else { return };
        check_permute(&gpu, &[61, 37], &[1, 0]);
        check_permute(&gpu, &[3, 52, 44], &[0, 2, 1]);
        check_permute(&gpu, &[5, 3, 7, 20], &[0, 2, 1, 3]);
        check_narrow(&gpu, &[30, 99], 1, 7, 71);
        check_concat(&gpu, &[&[9, 64], &[9, 67]], 1);
        check_pad(&gpu, &[11, 53], &[(1, 1), (0, 3)]);
        check_expand(&gpu, &[1, 300], &[4, 300]);
        check_expand(&gpu, &[300, 1], &[300, 4]);
    }

    /// Gradients of a move. The way there, run on places in the inputs laid end to end, tells the reference which value
    /// went where; it has its own tests.
    fn check_gradients(
        gpu: &Gpu,
        shapes: &[&[usize]],
        forward: impl Fn(&[Tensor]) -> Result<Tensor>,
        what: &str,
    ) {
        // Places from 1 on; 0 stands for padding.
        let n: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
        assert!(n < 1 << 24, "places are whole numbers in f32");
        let mut at = 0;
        let places: Vec<Tensor> = shapes
            .iter()
            .map(|shape| {
                let len: usize = shape.iter().product();
                at += len;
                let values: Vec<f32> = (at - len..at).map(|place| place as f32 + 1.0).collect();
                Tensor::new(gpu, shape, &values).unwrap()
            })
            .collect();
        let moved = forward(&places).unwrap().to_vec().unwrap();
        let values: Vec<Vec<f32>> = shapes.iter().map(|shape| random(shape, 1.0)).collect();
        let inputs: Vec<(&[usize], &[f32])> =
            shapes.iter().zip(&values).map(|(&shape, values)| (shape, &values[..])).collect();
        let halves = if gpu.facts().features.f16 { &FLOATS[..] } else { &FLOATS[..1] };
        for &dtype in halves {
            assert_gradients(
                gpu,
                &inputs,
                |x| {
                    let x = x.iter().map(|x| x.cast(dtype)).collect::<Result<Vec<_>>>()?;
                    forward(&x)?.cast(DType::F32)
                },
                |x| {
                    let all = x.concat();
                    moved.iter().map(|&at| if at == 0.0 { 0.0 } else { all[at as usize - 1] }).collect()
                },
                // Moved as it is, or a few f16 summed.
                if dtype == DType::F16 { 2e-3 } else { 1e-5 },
                &format!("{what} {dtype}"),
            );
        }
    }

    #[test]
    fn gradients_move_back() {
        let Some(gpu) = gpu() else { return };
        for (shape, axes) in [
            (&[7, 13][..], &[1, 0][..]),
            (&[2, 5, 3, 7], &[2, 0, 1, 3]),
            (&[3, 36, 68], &[2, 0, 1]),
            (&[5, 1, 7], &[0, 2, 1]),
        ] {
            check_gradients(&gpu, &[shape], |x| x[0].permute(axes), &format!("permute {shape:?} {axes:?}"));
        }
        for (shape, axis, start, len) in
            [(&[9][..], 0, 2, 3), (&[5, 16], 1, 8, 8), (&[3, 5, 6], 1, 1, 3), (&[3, 5], 1, 0, 5)]
        {
            let narrow = |x: &[Tensor]| x[0].narrow(axis, start, len);
            check_gradients(&gpu, &[shape], narrow, &format!("narrow {shape:?} {axis} {start} {len}"));
        }
        for (shapes, axis) in [
            (&[&[5][..], &[3], &[1]][..], 0),
            (&[&[3, 7], &[3, 1], &[3, 4]], 1),
            (&[&[2, 3, 8], &[2, 1, 8]], 1),
        ] {
            let concat = |x: &[Tensor]| Tensor::concat(&x.iter().collect::<Vec<_>>(), axis);
            check_gradients(&gpu, shapes, concat, &format!("concat {shapes:?} {axis}"));
        }
        for (own, to) in
            [(&[1, 8][..], &[3, 8][..]), (&[5, 1], &[5, 7]), (&[3, 1, 4], &[2, 3, 5, 4]), (&[], &[9])]
        {
            check_gradients(&gpu, &[own], |x| x[0].expand(to), &format!("expand {own:?} {to:?}"));
        }
        for (shape, trailing) in
            [(&[5][..], &[(1, 2)][..]), (&[2, 3, 4, 8], &[(1, 1), (2, 0), (0, 0)]), (&[3, 5], &[(0, 3)])]
        {
            check_gradients(&gpu, &[shape], |x| x[0].pad(trailing), &format!("pad {shape:?} {trailing:?}"));
        }
    }

    #[test]
    fn only_what_wants_a_gradient_gets_one() {
        let plan = Gpu::plan();
        let x = Tensor::empty(&plan, &[2, 3], DType::F32).unwrap();
        let p = x.parameter();
        let y = Tensor::concat(&[&x, &p, &x], 1).unwrap();
        let back =
            (y.made().unwrap().backward)(&y, &Tensor::empty(&plan, &[2, 9], DType::F32).unwrap()).unwrap();
        assert_eq!(back.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(back[1].as_ref().unwrap().shape(), [2, 3]);
        for y in [x.permute(&[1, 0]), x.narrow(0, 0, 1), x.pad(&[(1, 1)]), x.expand(&[4, 2, 3])] {
            assert!(y.unwrap().made().is_none());
        }
    }

    #[test]
    fn what_stays_in_place_costs_nothing() {
        let plan = Gpu::plan();
        let x = Tensor::empty(&plan, &[2, 1, 3], DType::F32).unwrap();
        assert_eq!(x.permute(&[1, 0, 2]).unwrap().shape(), [1, 2, 3]);
        assert_eq!(x.narrow(2, 0, 3).unwrap().node(), x.node());
        assert_eq!(x.expand(&[2, 1, 3]).unwrap().node(), x.node());
        assert_eq!((plan.counts().dispatches, plan.live_buffers()), (0, 1));
    }

    #[test]
    fn ids_move_too() {
        let Some(gpu) = gpu() else { return };
        let x = Tensor::new(&gpu, &[2, 2], &[i32::MIN, 1, -1, 2_139_095_041]).unwrap();
        assert_eq!(x.permute(&[1, 0]).unwrap().to_ids().unwrap(), [i32::MIN, -1, 1, 2_139_095_041]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let plan = Gpu::plan();
        let x = Tensor::empty(&plan, &[2, 3], DType::F32).unwrap();
        let shape = |result: Result<Tensor>, op: &str| {
            let error = result.unwrap_err();
            assert!(matches!(&error, Error::Shape { op: at, .. } if at == op), "{error}");
        };
        shape(x.permute(&[0]), "permute");
        shape(x.permute(&[0, 0]), "permute");
        shape(x.permute(&[0, 2]), "permute");
        shape(x.narrow(2, 0, 1), "narrow");
        shape(x.narrow(1, 2, 2), "narrow");
        shape(x.narrow(1, usize::MAX, 2), "narrow");
        shape(x.expand(&[3]), "expand");
        shape(x.expand(&[4, 3]), "expand");
        shape(x.pad(&[(0, 0); 3]), "pad");
        shape(x.pad(&[(usize::MAX, 1)]), "tensor");
        shape(Tensor::concat(&[], 0), "concat");
        shape(Tensor::concat(&[&x], 2), "concat");
        shape(Tensor::concat(&[&x, &x.reshape(&[3, 2]).unwrap()], 0), "concat");
        shape(Tensor::concat(&[&x, &x.reshape(&[6]).unwrap()], 0), "concat");
        let ids = Tensor::empty(&plan, &[2, 3], DType::I32).unwrap();
        assert!(matches!(Tensor::concat(&[&x, &ids], 0), Err(Error::DType { .. })));
    }

    #[test]
    fn shader_twin() {
        for n_axes in 1..=6 {
            for cell_bytes in [32, 16, 8, 4, 2] {
                let (scalar, width) = match cell_bytes {
                    32 => (Scalar::F32, 8),
                    _ => (Scalar::F16, 4),
                };
                let variant = Variant { scalar, width, workgroup: 64 };
                let generate = || text(n_axes, cell_bytes, n_axes > 1);
                let program = Program::generated("layout", "forward", variant, 0, &generate);
                let label = format!("layout {n_axes} {cell_bytes}");
                validate(&label, &program.text(true), super::super::walk::FIELDS);
            }
        }
    }
}
