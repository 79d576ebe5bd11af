//! Pooling of channels-last images: the mean or the maximum of each window of pixels.
//! Same as PyTorch `avg_pool2d` and `max_pool2d` without padding, sizes rounded down:
//! out = floor((in - kernel) / stride) + 1.

use super::{MAX_TURNS, bind_rows, common, params, pieces, rows_fit, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::tensor::{DType, Tensor};
use std::ops::Range;

const SOURCES: &[&str] = &[shaders!("pool2d"), common::INDEX];
const MEAN: Kernel = Kernel::new("pool2d", "mean", SOURCES);
const LARGEST: Kernel = Kernel::new("pool2d", "largest", SOURCES);
const WINNER: Kernel = Kernel::new("pool2d", "winner", SOURCES);
const MEAN_BACKWARD: Kernel = Kernel::new("pool2d", "mean_backward", SOURCES);
const LARGEST_BACKWARD: Kernel = Kernel::new("pool2d", "largest_backward", SOURCES);

params! {
    struct Params {
        units: u32,
        rows: u32,
        first_row: u32,
        first_read: u32,
        skip: u32,
        in_height: u32,
        in_width: u32,
        out_height: u32,
        out_width: u32,
        kernel_height: u32,
        kernel_width: u32,
        stride_height: u32,
        stride_width: u32,
    }
}

impl Tensor {
    /// [batch, height, width, channels] -> [batch, out_height, out_width, channels], the mean of each window of
    /// `kernel` rows and columns, `stride` apart. Gradients flow back.
    ///
    /// Errors: on other ranks, on ids, on zero sizes, on a kernel larger than the image;
    /// [`Error::Limit`] for one of more than 16,000 pixels.
    pub fn avg_pool2d(&self, kernel: [usize; 2], stride: [usize; 2]) -> Result<Tensor> {
        let op = "avg_pool2d";
        let y = self.pool2d(op, &MEAN, kernel, stride, self.dtype())?;
        let size = [self.dim(2), self.dim(1)];
        Ok(y.made_by([self], move |_, dy| Ok([Some(backward(op, dy, None, size, kernel, stride)?)])))
    }

    /// [batch, height, width, channels] -> [batch, out_height, out_width, channels], the maximum of each window
    /// of `kernel` rows and columns, `stride` apart. Gradients flow back, to the first of several equal ones.
    ///
    /// Errors: as [`Tensor::avg_pool2d`].
    pub fn max_pool2d(&self, kernel: [usize; 2], stride: [usize; 2]) -> Result<Tensor> {
        let op = "max_pool2d";
        let y = self.pool2d(op, &LARGEST, kernel, stride, self.dtype())?;
        let (x, size) = (self.detach(), [self.dim(2), self.dim(1)]);
        Ok(y.made_by([self], move |_, dy| {
            let winners = x.pool2d(op, &WINNER, kernel, stride, DType::F32)?;
            Ok([Some(backward(op, dy, Some(&winners), size, kernel, stride)?)])
        }))
    }

    /// One value in `dtype` of each window.
    fn pool2d(
        &self,
        op: &str,
        program: &Kernel,
        kernel: [usize; 2],
        stride: [usize; 2],
        dtype: DType,
    ) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("{op} {self} {}x{}", kernel[0], kernel[1]));
        let &[batch, in_height, in_width, channels] = self.shape() else {
            let detail = format!("wanted [batch, height, width, channels], got {:?}", self.shape());
            return Err(Error::shape(op, detail));
        };
        let sizes_fit = kernel[0] <= in_height && kernel[1] <= in_width;
        if !sizes_fit || kernel.contains(&0) || stride.contains(&0) {
            let detail = format!(
                "a kernel of {kernel:?} by steps of {stride:?} does not fit {in_height} x {in_width} pixels"
            );
            return Err(Error::shape(op, detail));
        }
        if kernel[0].saturating_mul(kernel[1]) > MAX_TURNS {
            return Err(Error::Limit {
                what: format!("{op}: a kernel in pixels"),
                needed: kernel[0].saturating_mul(kernel[1]) as u64,
                available_what: "the most an invocation walks".into(),
                available: MAX_TURNS as u64,
            });
        }
        let height = (in_height - kernel[0]) / stride[0] + 1;
        let width = (in_width - kernel[1]) / stride[1] + 1;
        let scalar = self.scalar(op)?;
        let y = Tensor::empty(self.gpu(), &[batch, height, width, channels], dtype)?;
        if y.is_empty() {
            return Ok(y);
        }
        let unit = super::width_of(channels);
        let units = channels / unit as usize;
        let variant = Variant { scalar, width: unit, workgroup: self.gpu().flat_workgroup() };
        let (x_cols, y_cols) = (in_width * channels, width * channels);
        let (x_bytes, y_bytes) = (x_cols * self.dtype().bytes(), y_cols * dtype.bytes());
        let x_row = |row: usize| row / height * in_height + row % height * stride[0];
        let x_rows = |rows: &Range<usize>| x_row(rows.start)..x_row(rows.end - 1) + kernel[0];
        let fits = |rows: &Range<usize>| {
            rows_fit(self.gpu(), rows, y_bytes) && rows_fit(self.gpu(), &x_rows(rows), x_bytes)
        };
        for rows in pieces(self.gpu(), op, batch * height, (x_bytes * kernel[0]).max(y_bytes), fits)? {
            let from = x_rows(&rows);
            let (x, skip_x) = bind_rows(self, from.clone(), x_cols);
            let (out, skip) = bind_rows(&y, rows.clone(), y_cols);
            let params = Params {
                units: units as u32,
                rows: rows.len() as u32,
                first_row: rows.start as u32,
                first_read: from.start as u32 - skip_x,
                skip,
                in_height: in_height as u32,
                in_width: in_width as u32,
                out_height: height as u32,
                out_width: width as u32,
                kernel_height: kernel[0] as u32,
                kernel_width: kernel[1] as u32,
                // A step past the image is never taken.
                stride_height: stride[0].min(in_height) as u32,
                stride_width: stride[1].min(in_width) as u32,
            };
            let invocations = (rows.len() * width * units) as u64;
            self.gpu().run(&Launch {
                program: program.program(variant),
                params: params.as_bytes(),
                inputs: &[x],
                outputs: &[out],
                groups: self.gpu().grid(op, invocations.div_ceil(u64::from(variant.workgroup)))?,
                work: Work {
                    flops: (rows.len() * y_cols * kernel[0] * kernel[1]) as u64,
                    bytes: (from.len() * x_bytes + rows.len() * y_bytes) as u64,
                },
            })?;
        }
        Ok(y)
    }
}

/// dy [batch, out_height, out_width, channels] -> [batch, in_height, in_width, channels]; `winners` are the places in
/// their windows that get all of it, where not every place gets its share.
fn backward(
    op: &str,
    dy: &Tensor,
    winners: Option<&Tensor>,
    [in_height, in_width]: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
) -> Result<Tensor> {
    let gpu = dy.gpu();
    let _op = gpu.op(|| format!("{op} gradient {dy} {}x{}", kernel[0], kernel[1]));
    let &[batch, height, width, channels] = dy.shape() else { unreachable!("images have four axes") };
    if dy.is_empty() {
        return Tensor::zeros(gpu, &[batch, in_height, in_width, channels], dy.dtype());
    }
    let dx = Tensor::empty(gpu, &[batch, in_height, in_width, channels], dy.dtype())?;
    let unit = super::width_of(channels);
    let units = channels / unit as usize;
    let variant = Variant { scalar: dy.scalar(op)?, width: unit, workgroup: gpu.flat_workgroup() };
    let (x_cols, y_cols) = (in_width * channels, width * channels);
    let x_bytes = x_cols * dy.dtype().bytes();
    let y_bytes = y_cols * if winners.is_some() { 4 } else { dy.dtype().bytes() };
    // Windows that look at rows: those of the first row, up to those of the last.
    let y_rows = |rows: &Range<usize>| {
        let (top, last) = (rows.start % in_height, (rows.end - 1) % in_height);
        let first = (top + 1).saturating_sub(kernel[0]).div_ceil(stride[0]).min(height - 1);
        let start = rows.start / in_height * height + first;
        let end = (rows.end - 1) / in_height * height + (last / stride[0] + 1).min(height);
        start..end.max(start + 1)
    };
    // From where on they are bound: rows aligned in dy's type are aligned in f32.
    let y_bound = |rows: &Range<usize>| {
        let seen = y_rows(rows);
        super::aligned_row(seen.start, y_cols * dy.dtype().bytes())..seen.end
    };
    let limit = gpu.facts().limits.binding_bytes as usize;
    let fits = |rows: &Range<usize>| rows_fit(gpu, rows, x_bytes) && y_bound(rows).len() * y_bytes <= limit;
    for rows in pieces(gpu, op, batch * in_height, x_bytes.max(y_bytes * kernel[0]), fits)? {
        let seen = y_bound(&rows);
        let bind = |tensor| Tensor::window(tensor, seen.start * y_cols..seen.end * y_cols);
        let (out, skip) = bind_rows(&dx, rows.clone(), x_cols);
        let params = Params {
            units: units as u32,
            rows: rows.len() as u32,
            first_row: rows.start as u32,
            first_read: seen.start as u32,
            skip,
            in_height: in_height as u32,
            in_width: in_width as u32,
            out_height: height as u32,
            out_width: width as u32,
            kernel_height: kernel[0] as u32,
            kernel_width: kernel[1] as u32,
            stride_height: stride[0].min(in_height) as u32,
            stride_width: stride[1].min(in_width) as u32,
        };
        let invocations = (rows.len() * in_width * units) as u64;
        let (program, winners) = match winners {
            Some(winners) => (LARGEST_BACKWARD, winners),
            None => (MEAN_BACKWARD, dy),
        };
        let both = [dy, winners].map(bind);
        gpu.run(&Launch {
            program: program.program(variant),
            params: params.as_bytes(),
            inputs: &both,
            outputs: &[out],
            groups: gpu.grid(op, invocations.div_ceil(u64::from(variant.workgroup)))?,
            work: Work {
                flops: (seen.len() * y_cols * kernel[0] * kernel[1]) as u64,
                bytes: (rows.len() * x_bytes + seen.len() * y_bytes) as u64,
            },
        })?;
    }
    Ok(dx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, random, shader_twin};

    /// Means and maxima in f64 and plain loops.
    fn reference<T: Copy + Into<f64>>(
        x: &[T],
        [batch, h, w, c]: [usize; 4],
        kernel: [usize; 2],
        stride: [usize; 2],
    ) -> (Vec<usize>, Vec<f64>, Vec<f64>) {
        let (height, width) = ((h - kernel[0]) / stride[0] + 1, (w - kernel[1]) / stride[1] + 1);
        let (mut means, mut maxima) = (Vec::new(), Vec::new());
        for image in 0..batch {
            for (row, column) in (0..height).flat_map(|r| (0..width).map(move |w| (r, w))) {
                for channel in 0..c {
                    let of_window =
                        (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j))).map(|(i, j)| {
                            let (r, s) = (row * stride[0] + i, column * stride[1] + j);
                            x[((image * h + r) * w + s) * c + channel].into()
                        });
                    means.push(of_window.clone().sum::<f64>() / (kernel[0] * kernel[1]) as f64);
                    maxima.push(of_window.fold(f64::MIN, f64::max));
                }
            }
        }
        (vec![batch, height, width, c], means, maxima)
    }

    fn case(gpu: &Gpu, shape: [usize; 4], kernel: [usize; 2], stride: [usize; 2]) {
        let x = random(&shape, 1.0);
        let there = Tensor::new(gpu, &shape, &x).unwrap();
        let (out, means, maxima) = reference(&x, shape, kernel, stride);
        let label = format!("{shape:?}, {kernel:?} by {stride:?}");
        let mean = there.avg_pool2d(kernel, stride).unwrap();
        assert_eq!(mean.shape(), out, "{label}");
        assert_close(&mean.to_vec().unwrap(), &means, 2e-6, &label);
        let largest = there.max_pool2d(kernel, stride).unwrap();
        assert_close(&largest.to_vec().unwrap(), &maxima, 0.0, &label);
    }

    #[test]
    fn windows_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        case(&gpu, [1, 1, 1, 1], [1, 1], [1, 1]);
        case(&gpu, [2, 5, 7, 3], [2, 2], [2, 2]);
        case(&gpu, [2, 6, 9, 8], [3, 2], [1, 3]);
        case(&gpu, [3, 1, 200, 40], [1, 51], [1, 5]); // over time only, as in EEG networks
        case(&gpu, [1, 13, 11, 4], [13, 11], [100, 1]);
        case(&gpu, [1, 65, 1, 2], [2, 1], [3, 1]);
        case(&gpu, [1, 125, 128, 4], [125, 128], [1, 1]);
    }

    #[test]
    fn negative_pixels_have_a_negative_maximum() {
        let Some(gpu) = gpu() else { return };
        let x = Tensor::new(&gpu, &[1, 2, 2, 1], &[-3.0_f32, -2.0, -5.0, -4.0]).unwrap();
        assert_eq!(x.max_pool2d([2, 2], [2, 2]).unwrap().to_vec().unwrap(), [-2.0]);
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let Some(gpu) = gpu() else { return };
        for (channels, nan) in [(1, 0), (1, 1), (1, 3), (4, 5), (4, 14)] {
            let mut x = vec![1.0_f32; 4 * channels];
            x[nan] = f32::NAN;
            let x = Tensor::new(&gpu, &[1, 2, 2, channels], &x).unwrap();
            let y = x.max_pool2d([2, 2], [2, 2]).unwrap().to_vec().unwrap();
            for (channel, y) in y.iter().enumerate() {
                assert_eq!(y.is_nan(), channel == nan % channels, "{nan} of {channels}: {y}");
            }
        }
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        case(&gpu, [3, 40, 9, 8], [2, 2], [2, 2]);
        case(&gpu, [2, 60, 12, 3], [3, 5], [1, 1]);
        let wide = Tensor::empty(&gpu, &[1, 4, 400, 1], DType::F32).unwrap();
        assert!(matches!(wide.avg_pool2d([4, 4], [1, 1]), Err(Error::Limit { .. })));
    }

    #[test]
    fn half_precision_storage() {
        let Some(gpu) = gpu() else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        for shape in [[2, 6, 5, 7], [2, 5, 6, 8]] {
            let x: Vec<half::f16> = random(&shape, 1.0).into_iter().map(half::f16::from_f32).collect();
            let wide: Vec<f32> = x.iter().map(|v| v.to_f32()).collect();
            let there = Tensor::new(&gpu, &shape, &x).unwrap();
            let (_, means, maxima) = reference(&wide, shape, [2, 3], [2, 1]);
            // one rounding to f16
            let mean = there.avg_pool2d([2, 3], [2, 1]).unwrap();
            assert_close(&mean.to_vec().unwrap(), &means, 1e-3, "f16 mean");
            let largest = there.max_pool2d([2, 3], [2, 1]).unwrap();
            assert_close(&largest.to_vec().unwrap(), &maxima, 0.0, "f16 maximum");
        }
    }

    fn gradients(gpu: &Gpu, shape: [usize; 4], kernel: [usize; 2], stride: [usize; 2]) {
        let n: usize = shape.iter().product();
        // Far enough apart that no step of a difference changes which one is largest.
        let x: Vec<f32> = (0..n).map(|at| (at * 7919 % n) as f32 / 100.0).collect();
        let what = format!("{shape:?}, {kernel:?} by {stride:?}");
        assert_gradients(
            gpu,
            &[(&shape, &x)],
            |x| x[0].avg_pool2d(kernel, stride),
            |x| reference(&x[0], shape, kernel, stride).1,
            1e-5,
            &what,
        );
        assert_gradients(
            gpu,
            &[(&shape, &x)],
            |x| x[0].max_pool2d(kernel, stride),
            |x| reference(&x[0], shape, kernel, stride).2,
            1e-5,
            &what,
        );
    }

    #[test]
    fn gradients_match_the_differences() {
        let Some(gpu) = gpu() else { return };
        gradients(&gpu, [1, 1, 1, 1], [1, 1], [1, 1]);
        gradients(&gpu, [2, 5, 7, 3], [2, 2], [2, 2]);
        gradients(&gpu, [2, 6, 9, 8], [3, 2], [1, 3]);
        gradients(&gpu, [3, 1, 200, 4], [1, 51], [1, 5]);
        gradients(&gpu, [1, 13, 11, 4], [13, 11], [100, 1]);
        gradients(&gpu, [1, 65, 2, 2], [2, 1], [5, 1]); // rows that no window sees
        let small = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() });
        let small = small.expect("opened above");
        gradients(&small, [3, 40, 9, 8], [2, 2], [2, 2]);
        gradients(&small, [2, 60, 12, 3], [3, 5], [1, 1]);
    }

    #[test]
    fn the_first_of_equal_maxima_gets_the_gradient() {
        let Some(gpu) = gpu() else { return };
        let values = [1.0, 3.0, 3.0, 2.0].map(half::f16::from_f32);
        let mut wanted =
            vec![(Tensor::new(&gpu, &[1, 1, 4, 1], &[1.0_f32, 3.0, 3.0, 2.0]).unwrap(), 2.0_f32)];
        if gpu.facts().features.f16 {
            wanted.push((Tensor::new(&gpu, &[1, 1, 4, 1], &values).unwrap(), 0.5));
        }
        for (x, slope) in wanted {
            let y = x.parameter().max_pool2d([1, 4], [1, 4]).unwrap();
            let dy = Tensor::full(&gpu, &[1, 1, 1, 1], y.dtype(), slope).unwrap();
            let dx = (y.made().expect("made from a parameter").backward)(&y, &dy).unwrap();
            assert_eq!(dx[0].as_ref().unwrap().to_vec().unwrap(), [0.0, slope, 0.0, 0.0]);
            assert_eq!(dx[0].as_ref().unwrap().dtype(), x.dtype());
        }
    }

    #[test]
    fn wrong_calls_are_refused_and_nothing_gives_nothing() {
        let gpu = Gpu::plan();
        let make = |shape: &[usize], dtype| Tensor::empty(&gpu, shape, dtype).unwrap();
        let x = make(&[1, 4, 4, 8], DType::F32);
        for (kernel, stride) in
            [([5, 1], [1, 1]), ([1, 5], [1, 1]), ([0, 1], [1, 1]), ([2, 2], [0, 1]), ([2, 2], [1, 0])]
        {
            assert!(
                matches!(x.avg_pool2d(kernel, stride), Err(Error::Shape { .. })),
                "{kernel:?} {stride:?}"
            );
            assert!(
                matches!(x.max_pool2d(kernel, stride), Err(Error::Shape { .. })),
                "{kernel:?} {stride:?}"
            );
        }
        assert!(make(&[4, 4, 8], DType::F32).max_pool2d([2, 2], [2, 2]).is_err());
        assert!(make(&[1, 4, 4, 8], DType::U32).max_pool2d([2, 2], [2, 2]).is_err());
        assert!(make(&[0, 4, 4, 8], DType::F32).max_pool2d([2, 2], [2, 2]).unwrap().is_empty());
        let large = make(&[1, 300, 300, 4], DType::F32);
        assert!(matches!(large.avg_pool2d([300, 300], [1, 1]), Err(Error::Limit { .. })));
    }

    #[test]
    fn shader_twins() {
        for kernel in [MEAN, LARGEST, WINNER, MEAN_BACKWARD, LARGEST_BACKWARD] {
            shader_twin(&kernel, Params::FIELDS);
        }
    }
}
