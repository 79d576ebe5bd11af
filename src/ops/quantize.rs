//! Weights in signed bytes: each output channel (a row of the weight, a column of its panels) has a factor of its own,
//! its largest size / 127. Half of f16's memory; a product multiplies its sums with the factors at the end.
//!
//! Symmetric, weights only, without outliers apart: Dettmers et al. 2022 call it vector-wise absmax quantisation.

use super::pack::{Packed, SourceType};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::tensor::n_elements;

impl Packed {
    /// A matrix `[n, k]` row-major, as linear layers keep it, from the bytes of a file; rounded to bytes on the host, by
    /// all cores.
    ///
    /// Errors: [`Error::Shape`] when the bytes do not fit the sizes, [`Error::Limit`] when memory is out.
    pub fn quantized(gpu: &Gpu, [n, k]: [usize; 2], kind: SourceType, bytes: &[u8]) -> Result<Packed> {
        if n_elements(&[n, k])? * kind.bytes() != bytes.len() {
            let detail = format!("[{n}, {k}] is not {} bytes of {kind:?}", bytes.len());
            return Err(Error::shape("weights", detail));
        }
        let _op = gpu.op(|| format!("pack [{n}, {k}] {kind:?} as int8"));
        let (mut values, mut factors) = (vec![0_u8; n * k], vec![0.0_f32; n]);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = n.div_ceil(threads).max(1);
        if k > 0 {
            let parts = values.chunks_mut(share * k).zip(factors.chunks_mut(share));
            std::thread::scope(|scope| {
                for ((values, factors), bytes) in parts.zip(bytes.chunks(share * k * kind.bytes())) {
                    scope.spawn(move || quantize(kind, bytes, k, values, factors));
                }
            });
        }
        Packed::from_quantized(gpu, n, k, &values, &factors)
    }

    /// The same without content, for a plan.
    pub fn planned_int8(gpu: &Gpu, [n, k]: [usize; 2]) -> Result<Packed> {
        Packed::planned_quantized(gpu, n, k)
    }
}

/// Rows of `k` values to bytes and a factor each: value = byte / 127 * factor.
fn quantize(kind: SourceType, bytes: &[u8], k: usize, values: &mut [u8], factors: &mut [f32]) {
    let widen = |bytes: &[u8]| match *bytes {
        [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
        [a, b] if kind == SourceType::F16 => half::f16::from_le_bytes([a, b]).to_f32(),
        [a, b] => half::bf16::from_le_bytes([a, b]).to_f32(),
        _ => 0.0,
    };
    let mut row = vec![0.0_f32; k];
    let rows = bytes.chunks_exact(k * kind.bytes()).zip(values.chunks_exact_mut(k)).zip(factors);
    for ((bytes, values), factor) in rows {
        row.iter_mut().zip(bytes.chunks_exact(kind.bytes())).for_each(|(v, bytes)| *v = widen(bytes));
        *factor = row.iter().fold(0.0, |largest: f32, v| largest.max(v.abs()));
        let scale = if *factor > 0.0 { 127.0 / *factor } else { 0.0 };
        for (byte, v) in values.iter_mut().zip(&row) {
            *byte = (v * scale).round().clamp(-127.0, 127.0) as i8 as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Options;
    use crate::ops::{Activation, Epilogue};
    use crate::tensor::{DType, Tensor};
    use crate::testing::{assert_close, gpu, gpu_with, random_from};

    /// A weight, and what bytes keep of it.
    fn weight(n: usize, k: usize) -> (Vec<f32>, Vec<f64>) {
        let mut w = random_from(7, n * k, 1.0);
        // Rows of very different size, and one of nothing.
        w.chunks_mut(k).enumerate().for_each(|(row, w)| {
            let size = if row == 1 { 0.0 } else { 10.0_f32.powi(row as i32 % 5 - 2) };
            w.iter_mut().for_each(|w| *w *= size);
        });
        let kept = w.chunks(k).flat_map(|row| {
            let largest = f64::from(row.iter().fold(0.0_f32, |a, v| a.max(v.abs())));
            let byte =
                move |&v: &f32| if largest > 0.0 { (f64::from(v) / largest * 127.0).round() } else { 0.0 };
            row.iter().map(move |v| byte(v) / 127.0 * largest).collect::<Vec<_>>()
        });
        let kept = kept.collect();
        (w, kept)
    }

    fn check(gpu: &Gpu, [m, n, k]: [usize; 3], dtype: DType) {
        let (w, kept) = weight(n, k);
        let packed = Packed::quantized(gpu, [n, k], SourceType::F32, bytemuck::cast_slice(&w)).unwrap();
        let what = format!("[{m}, {k}] x [{k}, {n}] {dtype:?}");
        assert_close(&packed.source().unwrap().to_vec().unwrap(), &kept, 1e-6, &what);
        let (x, bias) = (random_from(3, m * k, 1.0), random_from(4, n, 1.0));
        let x = Tensor::new(gpu, &[m, k], &x).unwrap().cast(dtype).unwrap();
        let values = x.to_vec().unwrap();
        let residual = Tensor::new(gpu, &[m, n], &random_from(5, m * n, 1.0)).unwrap().cast(dtype).unwrap();
        let b = Tensor::new(gpu, &[n], &bias).unwrap();
        let epilogue = Epilogue { bias: Some(&b), activation: Activation::Relu, residual: Some(&residual) };
        let y = x.linear(&packed, epilogue).unwrap();
        let more = residual.to_vec().unwrap();
        let want: Vec<f64> = (0..m * n)
            .map(|at| {
                let (row, column) = (at / n, at % n);
                let sum: f64 = (0..k).map(|i| f64::from(values[row * k + i]) * kept[column * k + i]).sum();
                (sum + f64::from(bias[column])).max(0.0) + f64::from(more[at])
            })
            .collect();
        // f16 rounds the result to 11 bits; sums of up to 2,100 in f32, of values up to 100.
        let tolerance = if dtype == DType::F16 { 1e-3 } else { 2e-4 };
        assert_close(&y.cast(DType::F32).unwrap().to_vec().unwrap(), &want, tolerance, &what);
    }

    fn check_all(gpu: &Gpu) {
        for sizes in [[1, 5, 7], [3, 33, 64], [9, 64, 12], [40, 130, 33], [2, 70, 2100], [70, 65, 128]] {
            check(gpu, sizes, DType::F32);
            if gpu.facts().features.f16 {
                check(gpu, sizes, DType::F16);
            }
        }
    }

    #[test]
    fn products_are_those_of_what_bytes_keep() {
        let Some(gpu) = gpu() else { return };
        check_all(&gpu);
    }

    #[test]
    fn the_tiled_family_gives_the_same() {
        let Some(gpu) = gpu_with(Options { without_subgroups: true, ..Default::default() }) else { return };
        check_all(&gpu);
    }

    #[test]
    fn a_matrix_larger_than_a_binding_keeps_its_factors() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(16 << 10), ..Default::default() }) else {
            return;
        };
        check(&gpu, [5, 700, 64], DType::F32);
    }

    #[test]
    fn files_of_halves_are_read_and_misfits_refused() {
        let Some(gpu) = gpu() else { return };
        let (w, _) = weight(6, 8);
        let halves: Vec<half::f16> = w.iter().map(|&v| half::f16::from_f32(v)).collect();
        let of = |kind, bytes: &[u8]| Packed::quantized(&gpu, [6, 8], kind, bytes);
        let half = of(SourceType::F16, bytemuck::cast_slice(&halves)).unwrap();
        let want: Vec<f64> = w.iter().map(|&v| v.into()).collect();
        let got = half.source().unwrap().to_vec().unwrap();
        // Half a step of 1 / 127 of a row's largest value, at most 100.
        got.iter().zip(&want).for_each(|(g, w)| assert!((f64::from(*g) - w).abs() < 0.5, "{g} {w}"));
        assert!(of(SourceType::F32, bytemuck::cast_slice(&halves)).is_err());
        assert_eq!(half.to_string(), "-> 6, int8 weights");
    }
}
