//! The way back of a nearest-neighbour resize: each pixel gets the sum of those it was taken for.

use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::ops::{MAX_TURNS, bind_rows, common, params, pieces, rows_fit, shaders, width_of};
use crate::tensor::Tensor;
use std::ops::Range;

const BACKWARD: Kernel =
    Kernel::new("upsample_nearest", "backward", &[shaders!("upsample_nearest_backward"), common::INDEX]);

params! {
    struct Params {
        units: u32,
        rows: u32,
        first_row: u32,
        first_y_row: u32,
        skip: u32,
        in_height: u32,
        in_width: u32,
        out_height: u32,
        out_width: u32,
    }
}

/// dy [batch, height, width, channels] -> [batch, in_height, in_width, channels].
pub(super) fn backward(dy: &Tensor, [in_height, in_width]: [usize; 2]) -> Result<Tensor> {
    let (op, gpu) = ("upsample_nearest", dy.gpu());
    let _op = gpu.op(|| format!("{op} gradient {dy} -> {in_height}x{in_width}"));
    let &[batch, height, width, channels] = dy.shape() else { unreachable!("images have four axes") };
    let turns = (height.div_ceil(in_height) + 1) * (width.div_ceil(in_width) + 1);
    if turns > MAX_TURNS {
        return Err(Error::Limit {
            what: format!("{op}: the pixels taken from one"),
            needed: turns as u64,
            available_what: "the most turns an invocation takes".into(),
            available: MAX_TURNS as u64,
        });
    }
    let dx = Tensor::empty(gpu, &[batch, in_height, in_width, channels], dy.dtype())?;
    let unit = width_of(channels);
    let units = channels / unit as usize;
    let variant = Variant { scalar: dy.scalar(op)?, width: unit, workgroup: gpu.flat_workgroup() };
    let (x_cols, y_cols) = (in_width * channels, width * channels);
    let (x_bytes, y_bytes) = (x_cols * dy.dtype().bytes(), y_cols * dy.dtype().bytes());
    // The first output row taken from an input row or a later one of its image.
    let y_row = |row: usize| row / in_height * height + (row % in_height * height).div_ceil(in_height);
    let y_rows = |rows: &Range<usize>| {
        let last = rows.end - 1;
        let end = last / in_height * height + ((last % in_height + 1) * height).div_ceil(in_height);
        let start = y_row(rows.start).min(batch * height - 1);
        start..end.max(start + 1)
    };
    let fits = |rows: &Range<usize>| rows_fit(gpu, rows, x_bytes) && rows_fit(gpu, &y_rows(rows), y_bytes);
    for rows in pieces(gpu, op, batch * in_height, x_bytes.max(y_bytes), fits)? {
        let taken = y_rows(&rows);
        let (dy, skip_y) = bind_rows(dy, taken.clone(), y_cols);
        let (out, skip) = bind_rows(&dx, rows.clone(), x_cols);
        let params = Params {
            units: units as u32,
            rows: rows.len() as u32,
            first_row: rows.start as u32,
            first_y_row: taken.start as u32 - skip_y,
            skip,
            in_height: in_height as u32,
            in_width: in_width as u32,
            out_height: height as u32,
            out_width: width as u32,
        };
        let invocations = (rows.len() * in_width * units) as u64;
        gpu.run(&Launch {
            program: BACKWARD.program(variant),
            params: params.as_bytes(),
            inputs: &[dy],
            outputs: &[out],
            groups: gpu.grid(op, invocations.div_ceil(u64::from(variant.workgroup)))?,
            work: Work {
                flops: (taken.len() * y_cols) as u64,
                bytes: (rows.len() * x_bytes + taken.len() * y_bytes) as u64,
            },
        })?;
    }
    Ok(dx)
}

#[cfg(test)]
mod tests {
    use super::super::tests::reference;
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::tensor::DType;
    use crate::testing::{assert_gradients, gpu, gpu_with, random, shader_twin};

    fn case(gpu: &Gpu, shape: [usize; 4], height: usize, width: usize) {
        assert_gradients(
            gpu,
            &[(&shape, &random(&shape, 1.0))],
            |inputs| inputs[0].upsample_nearest(height, width),
            |values| reference(&values[0], shape, height, width),
            // the differences are good to 1e-6; up to thousands of values are added in f32
            5e-5,
            &format!("{shape:?} to {height} x {width}"),
        );
    }

    #[test]
    fn gradients_match_the_differences() {
        let Some(gpu) = gpu() else { return };
        case(&gpu, [1, 1, 1, 1], 1, 1);
        case(&gpu, [2, 5, 8, 12], 9, 16);
        case(&gpu, [3, 4, 7, 5], 8, 14);
        case(&gpu, [1, 7, 3, 20], 3, 11); // smaller one way, larger the other: some pixels are taken by none
        case(&gpu, [1, 1, 1, 4], 60, 61);
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        case(&gpu, [3, 18, 8, 12], 36, 16);
        case(&gpu, [2, 5, 8, 7], 9, 16);
        case(&gpu, [1, 90, 16, 4], 7, 5);
    }

    #[test]
    fn half_precision_storage() {
        let Some(gpu) = gpu() else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        let dy = Tensor::new(&gpu, &[1, 6, 4, 4], &[half::f16::from_f32(0.5); 96]).unwrap();
        let dx = backward(&dy, [3, 2]).unwrap();
        assert_eq!(dx.dtype(), DType::F16);
        assert_eq!(dx.to_vec().unwrap(), [2.0; 24]);
    }

    #[test]
    fn one_pixel_for_thousands_is_refused() {
        let plan = Gpu::plan();
        let dy = Tensor::empty(&plan, &[1, 200, 200, 4], DType::F32).unwrap();
        assert!(matches!(backward(&dy, [1, 1]), Err(Error::Limit { .. })));
    }

    #[test]
    fn shader_twin_of_backward() {
        shader_twin(&BACKWARD, Params::FIELDS);
    }
}
