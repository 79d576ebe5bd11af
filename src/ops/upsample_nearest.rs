//! Nearest-neighbour resize of channels-last images.
//! y[row, column] = x[floor(row * in_height / out_height), floor(column * in_width / out_width)], in integers;
//! PyTorch's `interpolate(mode="nearest", size=..)` where f32 does not round its ratio past an integer.

mod backward;

use super::{MAX_TURNS, bind_rows, common, params, pieces, rows_fit, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::tensor::Tensor;
use std::ops::Range;

const FORWARD: Kernel =
    Kernel::new("upsample_nearest", "forward", &[shaders!("upsample_nearest"), common::INDEX]);

/// Units of a pixel that one invocation reads.
const UNITS_PER_INVOCATION: usize = 4;

params! {
    struct Params {
        units: u32,
        slices: u32,
        rows: u32,
        first_row: u32,
        first_x_row: u32,
        skip: u32,
        in_height: u32,
        in_width: u32,
        out_height: u32,
        out_width: u32,
        nothing: u32,
    }
}

impl Tensor {
    /// [batch, in_height, in_width, channels] -> [batch, height, width, channels]. Gradients flow back.
    ///
    /// Errors: on other ranks, on ids, from an empty image to one that is not; [`Error::Limit`] for one pixel to
    /// thousands side by side.
    pub fn upsample_nearest(&self, height: usize, width: usize) -> Result<Tensor> {
        let op = "upsample_nearest";
        let _op = self.gpu().op(|| format!("{op} {self} -> {height}x{width}"));
        let &[batch, in_height, in_width, channels] = self.shape() else {
            let detail = format!("wanted [batch, height, width, channels], got {:?}", self.shape());
            return Err(Error::shape(op, detail));
        };
        let scalar = self.scalar(op)?;
        let y = Tensor::empty(self.gpu(), &[batch, height, width, channels], self.dtype())?;
        if y.is_empty() {
            return Ok(y);
        }
        for (from, to) in [(in_height, height), (in_width, width)] {
            if from == 0 {
                let detail = format!("{:?} has no pixel to take for {height} x {width}", self.shape());
                return Err(Error::shape(op, detail));
            }
            if i32::try_from((from as u64 + 1) * (to as u64 + 1)).is_err() {
                return Err(Error::shape(op, format!("{from} to {to} is more than shaders can reckon with")));
            }
        }
        let turns = UNITS_PER_INVOCATION * (width.div_ceil(in_width) + 1);
        if turns > MAX_TURNS {
            return Err(Error::Limit {
                what: format!("{op}: {in_width} columns to {width}"),
                needed: turns as u64,
                available_what: "the most turns an invocation takes".into(),
                available: MAX_TURNS as u64,
            });
        }
        let words = super::words_pay(self.gpu()) && channels.is_multiple_of(8);
        let unit = if words { 8 } else { super::width_of(channels) };
        let units = channels / unit as usize;
        let slices = units.div_ceil(UNITS_PER_INVOCATION);
        let variant = Variant { scalar, width: unit, workgroup: self.gpu().flat_workgroup() };
        let (x_cols, y_cols) = (in_width * channels, width * channels);
        let (x_bytes, y_bytes) = (x_cols * self.dtype().bytes(), y_cols * self.dtype().bytes());
        let x_row = |row: usize| row / height * in_height + row % height * in_height / height;
        let x_rows = |rows: &Range<usize>| x_row(rows.start)..x_row(rows.end - 1) + 1;
        let fits = |rows: &Range<usize>| {
            rows_fit(self.gpu(), rows, y_bytes) && rows_fit(self.gpu(), &x_rows(rows), x_bytes)
        };
        for rows in pieces(self.gpu(), op, batch * height, x_bytes.max(y_bytes), fits)? {
            let from = x_rows(&rows);
            let (x, skip_x) = bind_rows(self, from.clone(), x_cols);
            let (out, skip) = bind_rows(&y, rows.clone(), y_cols);
            let params = Params {
                units: units as u32,
                slices: slices as u32,
                rows: rows.len() as u32,
                first_row: rows.start as u32,
                first_x_row: from.start as u32 - skip_x,
                skip,
                in_height: in_height as u32,
                in_width: in_width as u32,
                out_height: height as u32,
                out_width: width as u32,
                nothing: 0,
            };
            let invocations = (rows.len() * in_width * slices) as u64;
            self.gpu().run(&Launch {
                program: FORWARD.program(variant),
                params: params.as_bytes(),
                inputs: &[x],
                outputs: &[out],
                groups: self.gpu().grid(op, invocations.div_ceil(u64::from(variant.workgroup)))?,
                work: Work { flops: 0, bytes: (from.len() * x_bytes + rows.len() * y_bytes) as u64 },
            })?;
        }
        Ok(y.made_by([self], move |_, dy| Ok([Some(backward::backward(dy, [in_height, in_width])?)])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options, Scalar};
    use crate::tensor::DType;
    use crate::testing::{gpu, gpu_with, random, shader_twin, validate};

    pub(super) fn reference<T: Copy>(
        x: &[T],
        [batch, h, w, c]: [usize; 4],
        height: usize,
        width: usize,
    ) -> Vec<T> {
        let mut y = Vec::new();
        for image in 0..batch {
            for row in 0..height {
                for column in 0..width {
                    let at = ((image * h + row * h / height) * w + column * w / width) * c;
                    y.extend_from_slice(&x[at..at + c]);
                }
            }
        }
        y
    }

    fn case(gpu: &Gpu, shape: [usize; 4], height: usize, width: usize) {
        let x = random(&shape, 1.0);
        let y = Tensor::new(gpu, &shape, &x).unwrap().upsample_nearest(height, width).unwrap();
        assert_eq!(y.shape(), [shape[0], height, width, shape[3]]);
        let want = reference(&x, shape, height, width);
        assert!(y.to_vec().unwrap() == want, "{shape:?} to {height} x {width}");
    }

    #[test]
    fn five_to_nine_repeats_all_but_the_last() {
        let Some(gpu) = gpu() else { return };
        let x = Tensor::new(&gpu, &[1, 5, 1, 1], &[0.0_f32, 1.0, 2.0, 3.0, 4.0]).unwrap();
        let y = x.upsample_nearest(9, 1).unwrap().to_vec().unwrap();
        assert_eq!(y, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0]);
    }

    #[test]
    fn pixels_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        case(&gpu, [1, 1, 1, 1], 1, 1);
        case(&gpu, [2, 5, 8, 12], 9, 16);
        case(&gpu, [3, 4, 7, 5], 8, 14);
        case(&gpu, [1, 7, 3, 20], 3, 11); // smaller one way, larger the other
        case(&gpu, [2, 3, 2, 68], 257, 2);
        case(&gpu, [2, 3, 5, 72], 6, 10);
        case(&gpu, [1, 1, 1, 4], 300, 301);
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        case(&gpu, [3, 18, 8, 12], 36, 16);
        case(&gpu, [2, 5, 8, 7], 9, 16);
        case(&gpu, [1, 90, 16, 4], 7, 5);
        let wide = Tensor::empty(&gpu, &[1, 2, 600, 4], DType::F32).unwrap();
        assert!(matches!(wide.upsample_nearest(4, 600), Err(Error::Limit { .. })));
    }

    #[test]
    fn half_precision_storage() {
        let Some(gpu) = gpu() else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        for shape in [[2, 3, 5, 7], [2, 5, 3, 8]] {
            let x: Vec<half::f16> = random(&shape, 1.0).into_iter().map(half::f16::from_f32).collect();
            let y = Tensor::new(&gpu, &shape, &x).unwrap().upsample_nearest(7, 9).unwrap();
            let want: Vec<f32> = reference(&x, shape, 7, 9).into_iter().map(f32::from).collect();
            assert_eq!(y.to_vec().unwrap(), want);
        }
    }

    #[test]
    fn wrong_calls_are_refused_and_nothing_gives_nothing() {
        let gpu = Gpu::plan();
        let make = |shape: &[usize], dtype| Tensor::empty(&gpu, shape, dtype).unwrap();
        assert!(make(&[2, 3, 4], DType::F32).upsample_nearest(2, 2).is_err());
        assert!(make(&[1, 2, 3, 4], DType::I32).upsample_nearest(2, 2).is_err());
        assert!(make(&[1, 0, 3, 4], DType::F32).upsample_nearest(2, 2).is_err());
        assert!(make(&[1, 1 << 17, 1, 1], DType::F32).upsample_nearest(1 << 17, 1).is_err());
        assert!(make(&[0, 2, 3, 4], DType::F32).upsample_nearest(2, 2).unwrap().is_empty());
        assert!(make(&[1, 2, 3, 4], DType::F32).upsample_nearest(0, 2).unwrap().is_empty());
        // The decoder's largest: 151 MB of output for one image.
        assert!(make(&[2, 144, 256, 256], DType::F32).upsample_nearest(288, 512).is_ok());
    }

    #[test]
    fn shader_twin_of_upsample_nearest() {
        shader_twin(&FORWARD, Params::FIELDS);
        for scalar in [Scalar::F32, Scalar::F16] {
            let text = FORWARD.program(Variant { scalar, width: 8, workgroup: 64 }).text(true);
            validate("upsample_nearest in words", &text, Params::FIELDS);
        }
    }
}
