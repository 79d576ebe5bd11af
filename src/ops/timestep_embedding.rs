//! Sines and cosines of timesteps at falling frequencies, as diffusion models take their time.
//! Same as diffusers' `get_timestep_embedding` with `max_period` 10000, but exact to f32 also where the angle is
//! large: that function reckons the angle in f32, which is off by up to 6e-5 at t = 1000.

use super::{common, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Kernel, Launch, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor};
use std::f64::consts::TAU;

const FORWARD: Kernel = Kernel::new(
    "timestep_embedding",
    "forward",
    &[shaders!("timestep_embedding"), common::INDEX, common::WIDE],
);

/// Slowest angle per timestep is 1 / this, nearly.
const MAX_PERIOD: f64 = 10_000.0;
/// Timesteps that ride in one launch's parameters: nothing is uploaded.
const PER_LAUNCH: usize = 12;
/// Timesteps above this are a mistake, and would leave the fixed point short of bits.
const MAX_TIMESTEP: f64 = (1 << 20) as f64;

params! {
    struct Params {
        turns: [[u32; 4]; 6],
        ratio_high: u32,
        ratio_low: u32,
        count: u32,
        first_row: u32,
        dim: u32,
        cos_first: u32,
    }
}

impl Tensor {
    /// Timesteps -> [timesteps, dim], f32: dim / 2 sines, then as many cosines (the other way round with
    /// `flip_sin_to_cos`), of t * 10000^(-k / (dim / 2 - freq_shift)); an odd `dim` ends in 0.
    ///
    /// Errors: timesteps outside 0..=1048576, `dim` below 2, `freq_shift` at or above dim / 2.
    pub fn timestep_embedding(
        gpu: &Gpu,
        timesteps: &[f64],
        dim: usize,
        flip_sin_to_cos: bool,
        freq_shift: f64,
    ) -> Result<Tensor> {
        let op = "timestep_embedding";
        let _op = gpu.op(|| format!("{op} [{}, {dim}]", timesteps.len()));
        let half = (dim / 2) as f64;
        if dim < 2 || freq_shift.is_nan() || freq_shift >= half {
            let detail = format!("wanted dim above 2 times freq_shift, got {dim} and {freq_shift}");
            return Err(Error::shape(op, detail));
        }
        if let Some(t) = timesteps.iter().find(|t| !(0.0..=MAX_TIMESTEP).contains(*t)) {
            let detail = format!("wanted timesteps from 0 to {MAX_TIMESTEP}, got {t}");
            return Err(Error::Setting { name: op.into(), detail });
        }
        let y = Tensor::empty(gpu, &[timesteps.len(), dim], DType::F32)?;
        let ratio = fixed((-MAX_PERIOD.ln() / (half - freq_shift)).exp() * 2_f64.powi(64));
        let variant = Variant { scalar: Scalar::F32, width: 1, workgroup: gpu.flat_workgroup() };
        for (at, some) in timesteps.chunks(PER_LAUNCH).enumerate() {
            let mut turns = [[0; 4]; 6];
            for (pair, t) in turns.as_flattened_mut().chunks_mut(2).zip(some) {
                pair.copy_from_slice(&fixed(t / TAU * 2_f64.powi(32)));
            }
            let params = Params {
                turns,
                ratio_high: ratio[0],
                ratio_low: ratio[1],
                count: some.len() as u32,
                first_row: (at * PER_LAUNCH) as u32,
                dim: dim as u32,
                cos_first: flip_sin_to_cos.into(),
            };
            let values = (some.len() * dim) as u64;
            gpu.run(&Launch {
                program: FORWARD.program(variant),
                params: params.as_bytes(),
                inputs: &[],
                outputs: &[y.binding()],
                groups: gpu.grid(op, values.div_ceil(u64::from(variant.workgroup)))?,
                work: Work { flops: 10 * values, bytes: 4 * values },
            })?;
        }
        Ok(y)
    }
}

/// The whole part of a number below 2^64, high word first.
fn fixed(value: f64) -> [u32; 2] {
    let bits = value as u64;
    [(bits >> 32) as u32, bits as u32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gpu, shader_twin};

    /// diffusers' formula in f64.
    fn reference(timesteps: &[f64], dim: usize, flip: bool, shift: f64) -> Vec<f64> {
        let half = dim / 2;
        let mut y = Vec::new();
        for &t in timesteps {
            let angle = |k: usize| t * (-MAX_PERIOD.ln() * k as f64 / (half as f64 - shift)).exp();
            let sines = (0..half).map(|k| angle(k).sin());
            let cosines = (0..half).map(|k| angle(k).cos());
            if flip {
                y.extend(cosines.chain(sines));
            } else {
                y.extend(sines.chain(cosines));
            }
            y.extend((0..dim % 2).map(|_| 0.0));
        }
        y
    }

    #[test]
    fn values_match_the_formula_at_large_angles_too() {
        let Some(gpu) = gpu() else { return };
        let some =
            [0.0, 1.0, 0.5, 21.0, 123.456, 500.0, 981.0, 991.0, 999.0, 1000.0, 0.001, 7.0, 3.0, 65_535.0];
        let all: Vec<f64> = (0..1000).map(f64::from).collect();
        let cases: [(&[f64], usize, bool, f64); 8] = [
            (&some, 320, true, 0.0),
            (&some[..12], 320, false, 1.0),
            (&some[..1], 2, true, 0.0),
            (&some, 3, false, 0.0),
            (&some[..13], 257, true, 0.5),
            (&some, 5120, false, 0.0),
            (&some, 4, true, -1.0),
            (&all, 320, true, 0.0),
        ];
        for (timesteps, dim, flip, shift) in cases {
            let y = Tensor::timestep_embedding(&gpu, timesteps, dim, flip, shift).unwrap();
            assert_eq!(y.shape(), [timesteps.len(), dim]);
            let want = reference(timesteps, dim, flip, shift);
            // a rounding or two of f32
            let label = format!("{} timesteps, dim {dim}", timesteps.len());
            assert_close(&y.to_vec().unwrap(), &want, 3e-7, &label);
        }
    }

    #[test]
    fn wrong_calls_are_refused_and_nothing_gives_nothing() {
        let gpu = Gpu::plan();
        let make = |t: &[f64], dim, shift| Tensor::timestep_embedding(&gpu, t, dim, true, shift);
        assert!(make(&[1.0], 320, 0.0).is_ok());
        assert!(make(&[], 320, 0.0).unwrap().is_empty());
        for dim in [0, 1] {
            assert!(make(&[1.0], dim, 0.0).is_err());
        }
        assert!(make(&[1.0], 2, 1.0).is_err());
        assert!(make(&[1.0], 8, f64::NAN).is_err());
        for t in [-1.0, f64::NAN, f64::INFINITY, 2e6] {
            assert!(matches!(make(&[1.0, t], 8, 0.0), Err(Error::Setting { .. })), "{t}");
        }
    }

    #[test]
    fn shader_twin_of_timestep_embedding() {
        shader_twin(&FORWARD, Params::FIELDS);
    }
}
