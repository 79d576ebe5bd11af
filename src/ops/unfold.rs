//! The windows of a convolution as rows of a matrix, PyTorch's `F.unfold` on channels-last images: what the gradient
//! of a convolution's weight multiplies with. The way forward never makes it.

use super::{bind_rows, common, params, shaders};
use crate::error::Result;
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::ops::Window;
use crate::tensor::Tensor;
use std::ops::Range;

const FORWARD: Kernel = Kernel::new("unfold", "forward", &[shaders!("unfold"), common::INDEX]);

params! {
    struct Params {
        count: u32,
        units: u32,
        taps: u32,
        kernel_width: u32,
        height: u32,
        width: u32,
        out_height: u32,
        out_width: u32,
        stride: u32,
        pad: u32,
        dilation: u32,
        first_pixel: u32,
        origin: u32,
    }
}

impl Tensor {
    /// x [images, height, width, channels] -> [pixels, taps * channels], for these output pixels of the
    /// convolution's `[images, out height, out width]`.
    pub(super) fn unfold(
        &self,
        kernel: [usize; 2],
        window: Window,
        [out_height, out_width]: [usize; 2],
        pixels: Range<usize>,
    ) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("unfold {self} {}x{}", kernel[0], kernel[1]));
        let (height, width, channels) = (self.dim(2), self.dim(1), self.dim(0));
        let taps = kernel[0] * kernel[1];
        let y = Tensor::empty(self.gpu(), &[pixels.len(), taps * channels], self.dtype())?;
        if y.is_empty() {
            return Ok(y);
        }
        let per_image = out_height * out_width;
        let images = pixels.start / per_image..pixels.end.div_ceil(per_image);
        let (x, skip) = bind_rows(self, images.clone(), height * width * channels);
        let unit = super::width_of(channels);
        let variant =
            Variant { scalar: self.scalar("unfold")?, width: unit, workgroup: self.gpu().flat_workgroup() };
        let pair = |[y, x]: [usize; 2]| y as u32 | (x as u32) << 16;
        let count = y.len() / unit as usize;
        let params = Params {
            count: count as u32,
            units: channels as u32 / unit,
            taps: taps as u32,
            kernel_width: kernel[1] as u32,
            height: height as u32,
            width: width as u32,
            out_height: out_height as u32,
            out_width: out_width as u32,
            stride: pair(window.stride),
            pad: pair([window.padding[0], window.padding[2]]),
            dilation: pair(window.dilation),
            first_pixel: pixels.start as u32,
            origin: images.start as u32 - skip,
        };
        self.gpu().run(&Launch {
            program: FORWARD.program(variant),
            params: params.as_bytes(),
            inputs: &[x],
            outputs: &[y.binding()],
            groups: self.gpu().grid("unfold", (count as u64).div_ceil(u64::from(variant.workgroup)))?,
            work: Work { flops: 0, bytes: 2 * y.bytes() },
        })?;
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gpu, random_from, shader_twin};

    #[test]
    fn shader_twin_of_unfold() {
        shader_twin(&FORWARD, Params::FIELDS);
    }

    #[test]
    fn windows_match_the_plain_loops() {
        let Some(gpu) = gpu() else { return };
        for (shape, kernel, window) in [
            ([2, 5, 7, 3], [3, 3], Window::padded(1)),
            ([3, 6, 5, 4], [3, 2], Window { stride: [2, 1], padding: [1, 0, 0, 1], dilation: [1, 2] }),
        ] {
            let [images, h, w, c] = shape;
            let x = random_from(7, shape.iter().product(), 1.0);
            let reach = |axis: usize| (kernel[axis] - 1) * window.dilation[axis] + 1;
            let [top, bottom, left, right] = window.padding;
            let oh = (h + top + bottom - reach(0)) / window.stride[0] + 1;
            let ow = (w + left + right - reach(1)) / window.stride[1] + 1;
            let pixels = 3..images * oh * ow - 2;
            let mut want = Vec::new();
            for pixel in pixels.clone() {
                let (image, oy, ox) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
                for (ky, kx) in (0..kernel[0]).flat_map(|ky| (0..kernel[1]).map(move |kx| (ky, kx))) {
                    let y = (oy * window.stride[0] + ky * window.dilation[0]).wrapping_sub(top);
                    let column = (ox * window.stride[1] + kx * window.dilation[1]).wrapping_sub(left);
                    for channel in 0..c {
                        let inside = y < h && column < w;
                        let at = ((image * h + y.min(h)) * w + column.min(w)) * c + channel;
                        want.push(if inside { x[at] } else { 0.0 });
                    }
                }
            }
            let x = Tensor::new(&gpu, &shape, &x).unwrap();
            let y = x.unfold(kernel, window, [oh, ow], pixels).unwrap();
            assert_eq!(y.to_vec().unwrap(), want);
        }
    }
}
