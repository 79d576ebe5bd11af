//! Another sample rate, by a polyphase filter.     [rows, samples] -> [rows, ⌈samples · up / down⌉]
//!
//! ```text
//! y[i] = Σ_k h[i · down − k · up] x[k]        h: a low-pass of 20 · max(up, down) + 1 taps, cut off at the lower of
//!                                             both half rates, windowed by Kaiser's β = 5, its sum `up`
//! ```
//!
//! The same as `scipy.signal.resample_poly(x, up, down)`: linear phase, so no delay, and zeros assumed before the
//! first and after the last sample, which pulls the first and last few samples towards zero. Sums in f64.

use super::{Real, stack};
use crate::error::{Error, Result};
use std::f64::consts::PI;

/// Largest factor of a conversion.
const MAX_FACTOR: u64 = 20_000;
/// Taps to each side of the middle, in units of the larger factor.
const HALF_LENGTH: usize = 10;
const KAISER_BETA: f64 = 5.0;

/// The smallest whole numbers with `to / from = up / down`; rates may have three decimals.
///
/// Errors: [`Error::Setting`] when a rate is not above 0, has more decimals, or the numbers pass 20,000.
pub fn factors(from_hz: f64, to_hz: f64) -> Result<(usize, usize)> {
    let thousandths = |hz: f64| -> Result<u64> {
        let scaled = (hz * 1e3).round();
        if !(hz.is_finite() && (1.0..1e12).contains(&scaled) && (hz * 1e3 - scaled).abs() < 1e-6 * scaled) {
            let detail = format!("{hz} Hz, wanted a rate above 0 with at most three decimals");
            return Err(Error::setting("sample rate", detail));
        }
        Ok(scaled as u64)
    };
    let (from, to) = (thousandths(from_hz)?, thousandths(to_hz)?);
    let divisor = greatest_common_divisor(from, to);
    let (up, down) = (to / divisor, from / divisor);
    if up.max(down) > MAX_FACTOR {
        let detail = format!(
            "{from_hz} to {to_hz} Hz is {up}/{down}, wanted at most {MAX_FACTOR}; go by a rate between them"
        );
        return Err(Error::setting("sample rate", detail));
    }
    Ok((up as usize, down as usize))
}

/// Samples after conversion.
pub fn n_resampled(n_samples: usize, up: usize, down: usize) -> usize {
    (n_samples as u128 * up as u128).div_ceil(down.max(1) as u128) as usize
}

/// Resamples each row of `n_samples`; returns the rows, [`n_resampled`] long. The factors need not be the smallest.
///
/// Errors: [`Error::Setting`] when a factor is 0; [`Error::Shape`] when `data` is not whole rows.
pub fn resample_poly<T: Real>(data: &[T], n_samples: usize, up: usize, down: usize) -> Result<Vec<T>> {
    if up == 0 || down == 0 {
        return Err(Error::setting("sample rate", format!("{up}/{down} is no conversion")));
    }
    if n_samples == 0 || !data.len().is_multiple_of(n_samples) {
        return Err(Error::shape("resample", format!("{} values are not rows of {n_samples}", data.len())));
    }
    let divisor = greatest_common_divisor(up as u64, down as u64) as usize;
    let (up, down) = (up / divisor, down / divisor);
    if up == down {
        return Ok(data.to_vec());
    }
    let (taps, middle) = (low_pass(up, down), HALF_LENGTH * up.max(down));
    let n_out = n_resampled(n_samples, up, down);
    let n_rows = data.len() / n_samples;
    // Each row of the result begins with its number, so that threads need not share anything else.
    let mut rows: Vec<(usize, Vec<T>)> = (0..n_rows).map(|row| (row, Vec::new())).collect();
    stack::each_row(&mut rows, 1, |one| {
        for (row, out) in one {
            let x = &data[*row * n_samples..][..n_samples];
            let values = (0..n_out).map(|i| {
                let at = i * down + middle; // where tap 0 would meet sample 0
                let first = at.saturating_sub(taps.len() - 1).div_ceil(up);
                let last = (at / up).min(n_samples - 1);
                let sum: f64 = (first..=last).map(|k| taps[at - k * up] * x[k].into()).sum();
                T::from_f64(sum)
            });
            *out = values.collect();
        }
        Ok(())
    })?;
    Ok(rows.into_iter().flat_map(|(_, row)| row).collect())
}

/// `scipy.signal.firwin(20 · max + 1, 1 / max, window=("kaiser", 5))`, times `up`.
fn low_pass(up: usize, down: usize) -> Vec<f64> {
    let larger = up.max(down);
    let half = HALF_LENGTH * larger;
    let cutoff = 1.0 / larger as f64;
    let tap = |i: usize| {
        let from_middle = i as f64 - half as f64;
        let angle = PI * cutoff * from_middle;
        let sinc = if i == half { 1.0 } else { angle.sin() / angle };
        let side = from_middle / half as f64;
        cutoff * sinc * bessel_i0(KAISER_BETA * (1.0 - side * side).max(0.0).sqrt())
    };
    let taps: Vec<f64> = (0..=2 * half).map(tap).collect();
    let sum: f64 = taps.iter().sum();
    taps.into_iter().map(|tap| tap / sum * up as f64).collect()
}

/// Modified Bessel function of the first kind, Σ ((x/2)ⁿ / n!)².
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term, mut n) = (1.0, 1.0, 0.0);
    while term > 1e-18 * sum {
        n += 1.0;
        term *= (x / 2.0 / n) * (x / 2.0 / n);
        sum += term;
    }
    sum
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, rate: f64, n: usize) -> Vec<f64> {
        (0..n).map(|t| (2.0 * PI * hz * t as f64 / rate).sin()).collect()
    }

    #[test]
    fn a_sine_is_the_same_sine_at_another_rate() {
        for (from, to) in [(1000.0, 200.0), (128.0, 200.0), (250.0, 200.0), (200.0, 512.0), (512.0, 200.0)] {
            let (up, down) = factors(from, to).unwrap();
            let n = 4 * from as usize;
            let y = resample_poly(&sine(7.0, from, n), n, up, down).unwrap();
            assert_eq!(y.len(), n_resampled(n, up, down));
            let wanted = sine(7.0, to, y.len());
            let middle = y.len() / 4..3 * y.len() / 4;
            let worst = middle.map(|i| (y[i] - wanted[i]).abs()).fold(0.0, f64::max);
            assert!(worst < 2e-3, "{from} to {to}: {worst}");
        }
    }

    #[test]
    fn what_the_new_rate_cannot_hold_goes() {
        let y = resample_poly(&sine(180.0, 1000.0, 4000), 4000, 1, 5).unwrap();
        assert!(y[100..700].iter().all(|v| v.abs() < 5e-3));
    }

    #[test]
    fn rows_keep_their_places_and_lengths_round_up() {
        let x: Vec<f32> = (0..3 * 11).map(|i| i as f32).collect();
        let y = resample_poly(&x, 11, 2, 3).unwrap();
        assert_eq!(y.len(), 3 * 8);
        assert_eq!(y[8..16], resample_poly(&x[11..22], 11, 4, 6).unwrap());
        assert_eq!(resample_poly(&x, 11, 3, 3).unwrap(), x);
        assert!(resample_poly(&x, 10, 2, 3).is_err() && resample_poly(&x, 11, 0, 3).is_err());
    }

    #[test]
    fn factors_are_the_smallest() {
        assert_eq!(factors(1000.0, 200.0).unwrap(), (1, 5));
        assert_eq!(factors(128.0, 200.0).unwrap(), (25, 16));
        assert_eq!(factors(512.5, 200.0).unwrap(), (16, 41));
        for (from, to) in [(0.0, 200.0), (-1.0, 200.0), (f64::NAN, 1.0), (200.0, 1e20), (999.983, 200.001)] {
            assert!(factors(from, to).is_err(), "{from} {to}");
        }
    }
}
