//! Gradient of a convolution's image: dy convolved with the taps in reverse.
//!
//! Where the window steps by s > 1, pixels of x that lie s apart meet the same taps, and others meet others. So each of
//! the s · s phases of x is a convolution of dy by its own taps, without steps; the phases are interleaved:
//!
//! ```text
//! dx[s j + r] = sum_t w[r + s t + e] dy[j + c - t],  c = ceil(padding / s),  e = padding - s c
//! ```

use super::super::gemm::{Image, Product};
use super::{Epilogue, Window};
use crate::error::Result;
use crate::ops::pack::Packed;
use crate::tensor::Tensor;
use std::ops::Range;

impl Tensor {
    /// dx of an image x of this shape, from dy.
    pub(super) fn conv2d_dx(
        &self,
        weight: &Packed,
        kernel: [usize; 2],
        window: Window,
        dy: &Tensor,
    ) -> Result<Tensor> {
        let &[batch, height, width, channels] = self.shape() else { unreachable!("conv2d has four axes") };
        let (source, outputs) = (weight.source()?, weight.n());
        let before = [window.padding[0], window.padding[2]];
        if window.stride == [1, 1] {
            let packed = Packed::reversed(&source, [outputs, channels, kernel[0] * kernel[1]])?;
            let reach = [0, 1].map(|axis| (kernel[axis] - 1) * window.dilation[axis]);
            let front = [0, 1].map(|axis| reach[axis] as isize - before[axis] as isize);
            return apart(dy, &packed, kernel, window.dilation, front, [height, width]);
        }
        let source = source.reshape(&[outputs, channels, kernel[0], kernel[1]])?;
        let source = spread(&spread(&source, 2, window.dilation[0])?, 3, window.dilation[1])?;
        let axes =
            [0, 1].map(|axis| Phases::new(source.shape()[2 + axis], window.stride[axis], before[axis]));
        let [sy, sx] = window.stride;
        let taps = source.pad(&[(0, 0), (0, 0), axes[0].margins(), axes[1].margins()])?;
        let taps = taps.reshape(&[outputs, channels, axes[0].taps, sy, axes[1].taps, sx])?;
        let size = [height.div_ceil(sy), width.div_ceil(sx)];
        let phase = |ry: usize, rx: usize| {
            let [ty, tx] = [axes[0].of(ry), axes[1].of(rx)];
            if ty.is_empty() || tx.is_empty() {
                return Tensor::zeros(dy.gpu(), &[batch, size[0], size[1], channels], dy.dtype());
            }
            let own = taps.narrow(3, ry, 1)?.narrow(5, rx, 1)?;
            let own = own.narrow(2, ty.start, ty.len())?.narrow(4, tx.start, tx.len())?;
            let own = own.reshape(&[outputs, channels * ty.len() * tx.len()])?;
            let packed = Packed::reversed(&own, [outputs, channels, ty.len() * tx.len()])?;
            let front = [ty.end as isize - 1 - axes[0].centre, tx.end as isize - 1 - axes[1].centre];
            apart(dy, &packed, [ty.len(), tx.len()], [1, 1], front, size)
        };
        let row = |ry: usize| {
            let parts = (0..sx).map(|rx| phase(ry, rx)).collect::<Result<Vec<_>>>()?;
            interleaved(&parts, &[batch * size[0] * size[1], channels])?.reshape(&[
                batch,
                size[0],
                size[1] * sx * channels,
            ])
        };
        let rows = (0..sy).map(row).collect::<Result<Vec<_>>>()?;
        let whole = interleaved(&rows, &[batch * size[0], size[1] * sx * channels])?;
        let whole = whole.reshape(&[batch, size[0] * sy, size[1] * sx, channels])?;
        whole.narrow(1, 0, height)?.narrow(2, 0, width)
    }
}

/// Taps along one axis, by the place of a pixel within a step.
struct Phases {
    kernel: usize,
    stride: usize,
    /// Taps of a phase, those that no pixel meets included.
    taps: usize,
    /// c.
    centre: isize,
    /// -e: taps that no pixel meets, in front.
    margin: usize,
}

impl Phases {
    fn new(kernel: usize, stride: usize, padding: usize) -> Phases {
        let centre = padding.div_ceil(stride);
        let margin = stride * centre - padding;
        Phases { kernel, stride, taps: (margin + kernel).div_ceil(stride), centre: centre as isize, margin }
    }

    /// Zeros before and behind the kernel that make it whole steps.
    fn margins(&self) -> (usize, usize) {
        (self.margin, self.taps * self.stride - self.margin - self.kernel)
    }

    /// The taps that pixels of a phase do meet.
    fn of(&self, r: usize) -> Range<usize> {
        let is_there = |t: &usize| (self.margin..self.margin + self.kernel).contains(&(r + self.stride * t));
        let first = (0..self.taps).find(is_there).unwrap_or(0);
        let last = (0..self.taps).rfind(is_there).map_or(first, |t| t + 1);
        first..last
    }
}

/// Zeros between the taps of an axis: a dilated kernel, written out.
fn spread(weight: &Tensor, axis: usize, dilation: usize) -> Result<Tensor> {
    let mut shape = weight.shape().to_vec();
    let taps = shape[axis];
    if dilation == 1 || taps < 2 {
        return Ok(weight.clone());
    }
    shape.insert(axis + 1, 1);
    let mut margins = vec![(0, 0); shape.len()];
    margins[axis + 1] = (0, dilation - 1);
    let wide = weight.reshape(&shape)?.pad(&margins)?;
    shape.remove(axis + 1);
    shape[axis] = taps * dilation;
    wide.reshape(&shape)?.narrow(axis, 0, (taps - 1) * dilation + 1)
}

/// Parts of this shape, row by row in turn.
fn interleaved(parts: &[Tensor], shape: &[usize; 2]) -> Result<Tensor> {
    let parts = parts.iter().map(|part| part.reshape(shape)).collect::<Result<Vec<_>>>()?;
    Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1)
}

/// dy convolved with packed taps: `front` zeros before it, or so many pixels of it left out; `size` pixels come out.
fn apart(
    dy: &Tensor,
    packed: &Packed,
    kernel: [usize; 2],
    dilation: [usize; 2],
    front: [isize; 2],
    size: [usize; 2],
) -> Result<Tensor> {
    let (batch, outputs, channels) = (dy.shape()[0], dy.dim(0), packed.n());
    let shape = [batch, size[0], size[1], channels];
    // The padding in front of those pixels held nothing of x.
    let skipped = front.map(|pixels| (-pixels).max(0) as usize);
    if skipped[0] >= dy.dim(2) || skipped[1] >= dy.dim(1) {
        return Tensor::zeros(dy.gpu(), &shape, dy.dtype());
    }
    let dy = match skipped {
        [0, 0] => dy,
        [y, x] => &dy.narrow(1, y, dy.dim(2) - y)?.narrow(2, x, dy.dim(1) - x)?,
    };
    let dx = Tensor::empty(dy.gpu(), &shape, dy.dtype())?;
    let image = Image {
        height: dy.dim(2),
        width: dy.dim(1),
        out_height: size[0],
        out_width: size[1],
        kernel_width: kernel[1],
        stride: [1, 1],
        pad: front.map(|pixels| pixels.max(0) as usize),
        dilation,
    };
    let product = Product {
        op: "conv2d",
        a: dy,
        a_stride: outputs,
        a_offset: 0,
        b: packed,
        c: &dx,
        c_stride: channels,
        c_offset: 0,
        m: batch * size[0] * size[1],
        batch: 1,
        image: Some(image),
        epilogue: Epilogue::default(),
    };
    product.run()?;
    Ok(dx)
}
