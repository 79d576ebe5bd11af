//! The windows of a convolution as columns of a matrix, PyTorch's `F.unfold` of channels-last images but for the order of
//! taps and channels: what the gradient of a convolution's weight multiplies with. The way forward never makes it.

use super::{bind_rows, common, params, shaders};
use crate::error::Result;
use crate::gpu::{Launch, Program, Variant, Work};
use crate::ops::Window;
use crate::tensor::Tensor;
use std::ops::Range;

params! {
    struct Params {
        units: u32,
        fours: u32,
        kernel_height: u32,
        kernel_width: u32,
        height: u32,
        width: u32,
        out_height: u32,
        out_width: u32,
        stride: u32,
        pad: u32,
        dilation: u32,
        first_pixel: u32,
        end_pixel: u32,
        origin: u32,
    }
}

/// The shader's.
const BLOCK: usize = 16;

/// The shader, with the writing of `width` channels of four pixels.
fn text(width: u32) -> String {
    let put = match width {
        4 => (0..4)
            .map(|i| {
                let at = if i == 0 { "to".to_string() } else { format!("to + {i}u * params.fours") };
                format!("    y[{at}] = vec4<scalar>(a[{i}], b[{i}], c[{i}], d[{i}]);\n")
            })
            .collect(),
        _ => "    y[to] = vec4<scalar>(a, b, c, d);\n".to_string(),
    };
    let put = format!("fn put(to: u32, a: stored, b: stored, c: stored, d: stored) {{\n{put}}}");
    [shaders!("unfold"), &put, common::INDEX].join("\n")
}

impl Tensor {
    /// x [images, height, width, channels] -> [taps * channels, pixels], for these output pixels of the
    /// convolution's `[images, out height, out width]`; columns of zeros make their number a multiple of 4.
    pub(super) fn unfold(
        &self,
        kernel: [usize; 2],
        window: Window,
        [out_height, out_width]: [usize; 2],
        pixels: Range<usize>,
    ) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("unfold {self} {}x{}", kernel[0], kernel[1]));
        let (height, width, channels) = (self.dim(2), self.dim(1), self.dim(0));
        let (taps, fours) = (kernel[0] * kernel[1], pixels.len().div_ceil(4));
        let y = Tensor::empty(self.gpu(), &[taps * channels, 4 * fours], self.dtype())?;
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
        let count = fours.next_multiple_of(BLOCK) * channels / unit as usize;
        let params = Params {
            units: channels as u32 / unit,
            fours: fours as u32,
            kernel_height: kernel[0] as u32,
            kernel_width: kernel[1] as u32,
            height: height as u32,
            width: width as u32,
            out_height: out_height as u32,
            out_width: out_width as u32,
            stride: pair(window.stride),
            pad: pair([window.padding[0], window.padding[2]]),
            dilation: pair(window.dilation),
            first_pixel: pixels.start as u32,
            end_pixel: pixels.end as u32,
            origin: images.start as u32 - skip,
        };
        self.gpu().run(&Launch {
            program: Program::generated("unfold", "forward", variant, 0, &|| text(unit)),
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
    use crate::gpu::Scalar;
    use crate::testing::{gpu, random_from, validate};

    #[test]
    fn both_widths_validate_without_a_gpu() {
        for (scalar, width) in [(Scalar::F32, 1), (Scalar::F32, 4), (Scalar::F16, 1), (Scalar::F16, 4)] {
            let variant = Variant { scalar, width, workgroup: 64 };
            let generate = || text(width);
            let program = Program::generated("unfold", "forward", variant, 0, &generate);
            validate(&format!("unfold {variant:?}"), &program.text(true), Params::FIELDS);
        }
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
            let (rows, columns) = (kernel[0] * kernel[1] * c, pixels.len().next_multiple_of(4));
            let mut want = vec![0.0; rows * columns];
            for (at_column, pixel) in pixels.clone().enumerate() {
                let (image, oy, ox) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
                for (ky, kx) in (0..kernel[0]).flat_map(|ky| (0..kernel[1]).map(move |kx| (ky, kx))) {
                    let y = (oy * window.stride[0] + ky * window.dilation[0]).wrapping_sub(top);
                    let column = (ox * window.stride[1] + kx * window.dilation[1]).wrapping_sub(left);
                    for channel in 0..c {
                        let inside = y < h && column < w;
                        let at = ((image * h + y.min(h)) * w + column.min(w)) * c + channel;
                        let row = (ky * kernel[1] + kx) * c + channel;
                        want[row * columns + at_column] = if inside { x[at] } else { 0.0 };
                    }
                }
            }
            let x = Tensor::new(&gpu, &shape, &x).unwrap();
            let y = x.unfold(kernel, window, [oh, ow], pixels).unwrap();
            assert_eq!(y.shape(), [rows, columns]);
            assert_eq!(y.to_vec().unwrap(), want);
        }
    }
}
