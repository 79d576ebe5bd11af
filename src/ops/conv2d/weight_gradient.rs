//! Gradient of a convolution's weight: a product over all output pixels.
//!
//! Adapters of the subgroup family add up outer products as the images lie ([`crate::ops::outer`]). On others, where
//! every pixel has its window, no window is written out: a tap sees the image shifted by so many pixels, so with x
//! turned to `[channels, pixels]` each tap is one product
//!
//! ```text
//! dw[tap] = x[channels, pixels + shift(tap)] * dy[pixels, outputs]
//! ```
//!
//! on the grid of the padded image, dy with zeros where no window fits. dy is packed once for all taps; shifts that are
//! no multiple of 4 read a copy of x moved by the rest. With a stride the windows are unfolded, some at a time.

use super::Window;
use crate::error::Result;
use crate::ops::gemm::{Epilogue, Product};
use crate::ops::matmul::MAX_K;
use crate::ops::outer::{self, Taps};
use crate::ops::pack::Packed;
use crate::tensor::Tensor;
use std::ops::Range;

/// Elements of unfolded windows held at once.
const UNFOLDED: usize = 16 << 20;

impl Tensor {
    /// x `[batch, height, width, channels]`, dy `[batch, out height, out width, outputs]` -> `[outputs, channels, taps]`.
    pub(super) fn conv2d_dw(&self, kernel: [usize; 2], window: Window, dy: &Tensor) -> Result<Tensor> {
        let [ky, kx] = kernel;
        let _op = self.gpu().op(|| format!("conv2d weight gradient {self} {ky}x{kx} -> {}", dy.dim(0)));
        // A single channel is one row of an outer product, but a row of taps is many rows of a matrix product.
        let is_signal = self.dim(0) == 1 && kx > 4 && window.stride == [1, 1];
        if !is_signal
            && outer::serves(self, dy, ky * kx)
            && window.padding.into_iter().chain(window.dilation).chain(window.stride).all(|n| n < 1 << 16)
        {
            let [top, _, left, _] = window.padding;
            let taps = Taps {
                size: [self.dim(2), self.dim(1)],
                out: [dy.dim(2), dy.dim(1)],
                kernel,
                stride: window.stride,
                pad: [top, left],
                dilation: window.dilation,
            };
            outer::product("conv2d", self, dy, Some(&taps))?.permute(&[2, 1, 0])
        } else if window.stride == [1, 1] && !dy.is_empty() {
            self.dw_by_shifts(kernel, window, dy)
        } else {
            self.dw_by_windows(kernel, window, dy)
        }
    }

    fn dw_by_shifts(&self, kernel: [usize; 2], window: Window, dy: &Tensor) -> Result<Tensor> {
        let (channels, outputs, taps) = (self.dim(0), dy.dim(0), kernel[0] * kernel[1]);
        let [top, bottom, left, right] = window.padding;
        let x = self.pad(&[(top, bottom), (left, right), (0, 0)])?;
        let (height, width) = (x.dim(2), x.dim(1));
        let dy = dy.pad(&[(0, height - dy.dim(2)), (0, width - dy.dim(1)), (0, 0)])?;
        let shift =
            |tap: usize| tap / kernel[1] * window.dilation[0] * width + tap % kernel[1] * window.dilation[1];
        let pixels = x.len() / channels;
        let n = pixels.next_multiple_of(4);
        let pitch = (n + shift(taps - 1)).next_multiple_of(4);
        // A single tap is not shifted.
        let most_rest = if taps > 1 { 3 } else { 0 };
        let rows = x.reshape(&[pixels, channels])?.pad(&[(0, pitch + most_rest - pixels), (0, 0)])?;
        let dy = dy.reshape(&[pixels, outputs])?.pad(&[(0, n - pixels), (0, 0)])?;
        // A single channel needs no turning, and a row of taps is a product by itself: its rows lie a pixel apart.
        let limit = self.gpu().facts().limits.binding_bytes;
        let single = channels == 1 && rows.bytes() + 512 <= limit;
        let mut turned: [Option<Tensor>; 4] = Default::default();
        if !single {
            for tap in 0..taps {
                let rest = shift(tap) % 4;
                if turned[rest].is_none() {
                    turned[rest] = Some(rows.turned(rest..rest + pitch)?);
                }
            }
        }
        let mut sum: Option<Tensor> = None;
        for start in (0..n).step_by(MAX_K) {
            let k: Range<usize> = start..n.min(start + MAX_K);
            let packed = Packed::from_matrices(&dy, 1, k.clone(), false, true)?;
            let dw = Tensor::empty(self.gpu(), &[taps, channels, outputs], self.dtype())?;
            let step = if single { kernel[1] } else { 1 };
            for tap in (0..taps).step_by(step) {
                let copy = turned[shift(tap) % 4].as_ref();
                let product = Product {
                    op: "conv2d",
                    a: copy.unwrap_or(&rows),
                    a_stride: if single { window.dilation[1] } else { pitch },
                    a_offset: k.start + if single { shift(tap) } else { shift(tap) / 4 * 4 },
                    b: &packed,
                    c: &dw,
                    c_stride: outputs,
                    c_offset: tap * channels * outputs,
                    m: if single { kernel[1] } else { channels },
                    batch: 1,
                    image: None,
                    epilogue: Epilogue::default(),
                };
                product.run()?;
            }
            sum = Some(match sum {
                Some(sum) => sum.add(&dw)?,
                None => dw,
            });
        }
        sum.expect("there are pixels").permute(&[2, 1, 0])
    }

    fn dw_by_windows(&self, kernel: [usize; 2], window: Window, dy: &Tensor) -> Result<Tensor> {
        let (channels, outputs, taps) = (self.dim(0), dy.dim(0), kernel[0] * kernel[1]);
        let (pixels, out) = (dy.len() / outputs, [dy.dim(2), dy.dim(1)]);
        let dy = dy.reshape(&[pixels, outputs])?;
        let most = (UNFOLDED / (taps * channels) / 4 * 4).clamp(64, pixels.max(64));
        let mut sum: Option<Tensor> = None;
        for start in (0..pixels).step_by(most) {
            let some = start..pixels.min(start + most);
            // The larger side, the windows, is the left one: it is not packed.
            let windows = self.unfold(kernel, window, out, some.clone())?;
            let slopes = if some.len() == pixels { dy.clone() } else { dy.narrow(0, start, some.len())? };
            let slopes = match windows.dim(0) - some.len() {
                0 => slopes,
                missing => slopes.pad(&[(0, missing), (0, 0)])?,
            };
            let part = windows.matmul(&slopes, false)?;
            sum = Some(match sum {
                Some(sum) => sum.add(&part)?,
                None => part,
            });
        }
        let dw =
            sum.map_or_else(|| Tensor::zeros(self.gpu(), &[taps * channels, outputs], self.dtype()), Ok)?;
        dw.reshape(&[taps, channels, outputs])?.permute(&[2, 1, 0])
    }
}
