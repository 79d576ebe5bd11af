//! Zero-phase filters: Butterworth low-, high- and band-pass, and a notch.     [rows, samples] -> the same shape
//!
//! ```text
//! butterworth   scipy.signal.butter(order, hz, btype, fs=rate, output="sos")
//! notch         scipy.signal.iirnotch(hz, q, fs=rate)
//! filtfilt      scipy.signal.sosfiltfilt(sos, x) and filtfilt(b, a, x): forwards, then backwards, each pass begun in
//!               the steady state of its first sample, after an odd extension by 3 · (2 sections + 1 − those of first
//!               order) samples at both ends
//! ```
//!
//! An order of n is passed twice: the slope is that of 2n, and at the corners −6 dB are left. MNE's
//! `raw.filter(method="iir")` does the same with an order of 4. Sums in f64.

use super::{Real, stack};
use crate::error::{Error, Result};
use realfft::num_complex::Complex;
use std::f64::consts::PI;

/// Highest order taken; the poles of higher ones crowd so that f64 is not enough.
pub const MAX_ORDER: usize = 16;

/// Least sum of a denominator: below it, its rounding shows.
const LEAST: f64 = 1e-13;

/// What passes, corners in hertz.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pass {
    /// Up to a corner.
    Low(f64),
    /// From a corner on.
    High(f64),
    /// Between two corners.
    Band(f64, f64),
}

/// One biquad, a0 = 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Section {
    /// b0, b1, b2.
    pub b: [f64; 3],
    /// a1, a2.
    pub a: [f64; 2],
}

/// A filter as a cascade of second-order sections.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// In the order they are passed.
    pub sections: Vec<Section>,
}

impl Filter {
    /// A Butterworth filter of `order` (a band-pass has that order at each of its two corners).
    ///
    /// Errors: [`Error::Setting`] for an order outside 1 to 16 and corners that do not lie, rising, between 0 and
    /// half the rate.
    pub fn butterworth(order: usize, pass: Pass, sample_rate_hz: f64) -> Result<Filter> {
        if !(1..=MAX_ORDER).contains(&order) {
            return Err(Error::setting("order", format!("{order}, wanted 1 to {MAX_ORDER}")));
        }
        // Bilinear transform at a rate of 2, corners warped so that they land where they were asked for.
        let warped = |hz: f64| -> Result<f64> {
            inside(hz, sample_rate_hz)?;
            Ok(4.0 * (PI * hz / sample_rate_hz).tan())
        };
        let prototype = (0..order).map(|i| {
            let angle = PI * (2.0 * i as f64 + 1.0 - order as f64) / (2.0 * order as f64);
            -Complex::from_polar(1.0, angle)
        });
        // Poles, gain, and the zeros at infinity; those at 0 make up the rest.
        let (poles, gain, n_infinite): (Vec<Complex<f64>>, f64, usize) = match pass {
            Pass::Low(hz) => {
                let corner = warped(hz)?;
                (prototype.map(|p| p * corner).collect(), corner.powi(order as i32), order)
            }
            Pass::High(hz) => {
                let corner = warped(hz)?;
                let gain = prototype.clone().fold(Complex::new(1.0, 0.0), |product, p| product * -p).re;
                (prototype.map(|p| corner / p).collect(), 1.0 / gain, 0)
            }
            Pass::Band(low, high) => {
                let (low_w, high_w) = (warped(low)?, warped(high)?);
                if low >= high {
                    return Err(Error::setting(
                        "band",
                        format!("{low} to {high} Hz, wanted the lower corner first"),
                    ));
                }
                let (width, centre) = (high_w - low_w, (low_w * high_w).sqrt());
                let poles = prototype.flat_map(|p| {
                    let half = p * (width / 2.0);
                    let root = (half * half - centre * centre).sqrt();
                    [half + root, half - root]
                });
                (poles.collect(), width.powi(order as i32), order)
            }
        };
        let n_zero = poles.len() - n_infinite; // at s = 0, which becomes z = 1; infinity becomes z = −1
        let denominator = poles.iter().fold(Complex::new(1.0, 0.0), |product, p| product * (4.0 - p));
        let gain = gain * (Complex::new(4f64.powi(n_zero as i32), 0.0) / denominator).re;
        let poles: Vec<_> = poles.into_iter().map(|p| (4.0 + p) / (4.0 - p)).collect();
        let (Pass::Low(lowest) | Pass::High(lowest) | Pass::Band(lowest, _)) = pass;
        Filter::checked(sections(&poles, n_zero, gain), lowest, sample_rate_hz)
    }

    /// What a constant meets is a small sum of large numbers; f64 has 16 digits for it.
    fn checked(sections: Vec<Section>, hz: f64, rate: f64) -> Result<Filter> {
        if sections.iter().all(|Section { b, a }| b[0].is_finite() && 1.0 + a[0] + a[1] > LEAST) {
            return Ok(Filter { sections });
        }
        let detail = format!("{hz} Hz, too near 0 for f64 at a rate of {rate} Hz; resample first");
        Err(Error::setting("frequency", detail))
    }

    /// A notch at `hz`, `hz / q` wide between its −3 dB points (one pass).
    ///
    /// Errors: [`Error::Setting`] when `hz` does not lie between 0 and half the rate, or `q` makes it as wide as that.
    pub fn notch(hz: f64, q: f64, sample_rate_hz: f64) -> Result<Filter> {
        inside(hz, sample_rate_hz)?;
        let angle = 2.0 * PI * hz / sample_rate_hz;
        let half_width = angle / q / 2.0;
        if !(q.is_finite() && q > 0.0 && half_width < PI / 2.0) {
            let least = 2.0 * hz / sample_rate_hz; // as wide as all there is
            return Err(Error::setting("Q", format!("{q} at {hz} Hz, wanted above {least} (30 is usual)")));
        }
        let gain = 1.0 / (1.0 + half_width.tan());
        let turn = -2.0 * angle.cos();
        let section = Section { b: [gain, gain * turn, gain], a: [gain * turn, 2.0 * gain - 1.0] };
        Filter::checked(vec![section], hz, sample_rate_hz)
    }

    /// Samples by which both ends are extended; a row must be longer than that.
    pub fn n_padding(&self) -> usize {
        let n_first_order = self.sections.iter().filter(|s| s.b[2] == 0.0 && s.a[1] == 0.0).count();
        3 * (2 * self.sections.len() + 1 - n_first_order)
    }

    /// Filters each row of `n_samples` in place, forwards and backwards. Rows run on all cores, with the same bits.
    ///
    /// Errors: [`Error::Shape`] when `data` is not whole rows, or they are no longer than [`Filter::n_padding`].
    pub fn filtfilt<T: Real>(&self, data: &mut [T], n_samples: usize) -> Result<()> {
        let n_padding = self.n_padding();
        if n_samples <= n_padding {
            let detail =
                format!("{n_samples} samples, wanted more than the {n_padding} it extends the ends by");
            return Err(Error::shape("filter", detail));
        }
        if !data.len().is_multiple_of(n_samples) {
            return Err(Error::shape("filter", format!("{} values are not rows of {n_samples}", data.len())));
        }
        stack::each_row(data, n_samples, |row| {
            let at = |i: usize| -> f64 { row[i].into() };
            let (first, last) = (at(0), at(n_samples - 1));
            let mut x: Vec<f64> = Vec::with_capacity(n_samples + 2 * n_padding);
            x.extend((1..=n_padding).rev().map(|i| 2.0 * first - at(i)));
            x.extend(row.iter().map(|&v| v.into()));
            x.extend((1..=n_padding).map(|i| 2.0 * last - at(n_samples - 1 - i)));
            self.pass(&mut x);
            x.reverse();
            self.pass(&mut x);
            let kept = x.iter().rev().skip(n_padding);
            row.iter_mut().zip(kept).for_each(|(slot, &v)| *slot = T::from_f64(v));
            Ok(())
        })
    }

    /// One pass in direct form II transposed, from the steady state of the first sample.
    fn pass(&self, x: &mut [f64]) {
        let mut level = x.first().copied().unwrap_or(0.0);
        for Section { b, a } in &self.sections {
            let out = level * (b[0] + b[1] + b[2]) / (1.0 + a[0] + a[1]);
            let mut second = b[2] * level - a[1] * out;
            let mut first = b[1] * level - a[0] * out + second;
            for v in x.iter_mut() {
                let y = b[0] * *v + first;
                first = b[1] * *v - a[0] * y + second;
                second = b[2] * *v - a[1] * y;
                *v = y;
            }
            level = out;
        }
    }
}

fn inside(hz: f64, rate: f64) -> Result<()> {
    if !rate.is_finite() {
        return Err(Error::setting("rate", format!("{rate} Hz, wanted a number")));
    }
    if hz.is_finite() && hz > 0.0 && 2.0 * hz < rate {
        return Ok(());
    }
    let detail = format!("{hz} Hz, wanted above 0 and below {} Hz, half the rate", rate / 2.0);
    Err(Error::setting("frequency", detail))
}

/// SciPy's `zpk2sos`: the poles nearest to the unit circle come last and choose first among the zeros, of which `n_one`
/// lie at 1 and the others at −1: each takes the nearest that are left, so that no section swells what the next one
/// shrinks. Conjugate poles are paired, real ones with one another. All gain is in the first section.
fn sections(poles: &[Complex<f64>], n_one: usize, gain: f64) -> Vec<Section> {
    let is_real = |p: &Complex<f64>| p.im.abs() <= 1e-10 * p.norm();
    let mut real: Vec<f64> = poles.iter().filter(|p| is_real(p)).map(|p| p.re).collect();
    real.sort_by(|p, q| q.abs().total_cmp(&p.abs()));
    let upper = poles.iter().filter(|p| !is_real(p) && p.im > 0.0);
    // The pole that chooses, and the denominator.
    let mut denominators: Vec<(Complex<f64>, Vec<f64>)> =
        upper.map(|p| (*p, vec![-2.0 * p.re, p.norm_sqr()])).collect();
    denominators.extend(real.chunks(2).map(|pair| match *pair {
        [p, q] => (p.into(), vec![-(p + q), p * q]),
        _ => (pair[0].into(), vec![-pair[0]]),
    }));
    denominators.sort_by(|(p, _), (q, _)| q.norm().total_cmp(&p.norm()));
    let (mut ones, mut minus_ones) = (n_one, poles.len() - n_one);
    let mut zero_near = |pole: Complex<f64>| {
        let takes_one = minus_ones == 0 || ones > 0 && pole.re > 0.0;
        *(if takes_one { &mut ones } else { &mut minus_ones }) -= 1;
        if takes_one { 1.0 } else { -1.0 }
    };
    let mut sections: Vec<Section> = (denominators.iter())
        .map(|(pole, a)| match a[..] {
            [a1, a2] => {
                let zeros = [zero_near(*pole), zero_near(*pole)];
                Section { b: [1.0, -(zeros[0] + zeros[1]), zeros[0] * zeros[1]], a: [a1, a2] }
            }
            _ => Section { b: [1.0, -zero_near(*pole), 0.0], a: [a[0], 0.0] },
        })
        .collect();
    sections.reverse();
    sections.iter_mut().take(1).for_each(|first| first.b = first.b.map(|b| b * gain));
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 200.0;

    fn sine(hz: f64, n: usize) -> Vec<f64> {
        (0..n).map(|t| (2.0 * PI * hz * t as f64 / RATE).sin()).collect()
    }

    fn rms(x: &[f64]) -> f64 {
        (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64).sqrt()
    }

    /// What is left of a sine, away from the ends.
    fn left(filter: &Filter, hz: f64) -> f64 {
        let mut x = sine(hz, 4000);
        filter.filtfilt(&mut x, 4000).unwrap();
        rms(&x[1000..3000]) / rms(&sine(hz, 4000)[1000..3000])
    }

    #[test]
    fn what_passes_stays_and_the_rest_goes() {
        let band = Filter::butterworth(4, Pass::Band(1.0, 40.0), RATE).unwrap();
        assert!((left(&band, 10.0) - 1.0).abs() < 1e-3);
        assert!((left(&band, 40.0) - 0.5).abs() < 1e-3, "a corner is passed twice: -6 dB");
        assert!(left(&band, 0.1) < 1e-4 && left(&band, 80.0) < 1e-4);
        let notch = Filter::notch(50.0, 30.0, RATE).unwrap();
        assert!(left(&notch, 50.0) < 1e-3 && (left(&notch, 40.0) - 1.0).abs() < 0.01);
        for order in 1..=MAX_ORDER {
            let low = Filter::butterworth(order, Pass::Low(30.0), RATE).unwrap();
            let high = Filter::butterworth(order, Pass::High(30.0), RATE).unwrap();
            assert_eq!(low.sections.len(), order.div_ceil(2));
            let corner = [left(&low, 30.0), left(&high, 30.0)];
            assert!(corner.iter().all(|left| (left - 0.5).abs() < 1e-3), "{order}: {corner:?}");
            let inside = [left(&low, 0.5), left(&high, 99.0)];
            assert!(inside.iter().all(|left| (left - 1.0).abs() < 1e-3), "{order}: {inside:?}");
        }
    }

    #[test]
    fn a_wide_band_of_high_order_keeps_its_precision() {
        // 20 * sin(t / 7) + 3 * cos(t), t = 0 .. 2000, through scipy.signal.sosfiltfilt(butter(order, corners,
        // "bandpass", fs=rate, output="sos"), x): samples 1000 and 1999.
        for (order, low, high, rate, wanted) in [
            (16, 0.5, 75.0, 200.0, [-18.490055185862825, 2.571779190797105]),
            (12, 0.5, 75.0, 200.0, [-19.388510924299847, -2.33940231151634]),
            (10, 4.0, 450.0, 1000.0, [-18.116684486496663, -5.434011465272032]),
            (8, 0.1, 450.0, 1000.0, [-20.913668567872726, 12.149859402689025]),
            (7, 1.0, 40.0, 200.0, [-18.25797395631474, -1.3334047816992634]),
            (5, 1.0, 40.0, 200.0, [-18.31830179344599, 5.467617141986613]),
            (3, 8.0, 13.0, 200.0, [-0.008512124485630771, -0.11241795256199175]),
            (16, 1.0, 40.0, 200.0, [-18.225767586418968, -2.086883991105198]),
        ] {
            let mut x: Vec<f64> =
                (0..2000).map(|t| 20.0 * (t as f64 / 7.0).sin() + 3.0 * (t as f64).cos()).collect();
            Filter::butterworth(order, Pass::Band(low, high), rate).unwrap().filtfilt(&mut x, 2000).unwrap();
            for (at, want) in [1000, 1999].into_iter().zip(wanted) {
                let error = (x[at] - want).abs();
                assert!(
                    error < 1e-6,
                    "order {order}, {low} to {high} Hz of {rate}: {} at {at}, wanted {want}",
                    x[at]
                );
            }
        }
    }

    #[test]
    fn the_phase_stays() {
        let mut x = sine(10.0, 2000);
        Filter::butterworth(3, Pass::Band(4.0, 30.0), RATE).unwrap().filtfilt(&mut x, 2000).unwrap();
        let wanted = sine(10.0, 2000);
        assert!(x[500..1500].iter().zip(&wanted[500..1500]).all(|(a, b)| (a - b).abs() < 1e-3));
    }

    #[test]
    fn rows_are_filtered_by_themselves_and_a_constant_knows_its_level() {
        let low = Filter::butterworth(2, Pass::Low(20.0), RATE).unwrap();
        let mut both: Vec<f64> = sine(5.0, 300).into_iter().chain(vec![3.0; 300]).collect();
        low.filtfilt(&mut both, 300).unwrap();
        let mut alone = sine(5.0, 300);
        low.filtfilt(&mut alone, 300).unwrap();
        assert_eq!(both[..300], alone);
        assert!(both[300..].iter().all(|v| (v - 3.0).abs() < 1e-12), "no transient at the ends");
    }

    #[test]
    fn impossible_filters_are_refused() {
        let butter = |order, pass| Filter::butterworth(order, pass, RATE).unwrap_err().to_string();
        assert!(butter(0, Pass::Low(10.0)).contains("1 to 16"));
        assert!(butter(17, Pass::Low(10.0)).contains("1 to 16"));
        assert!(butter(4, Pass::Low(100.0)).contains("below 100 Hz"));
        assert!(butter(4, Pass::High(0.0)).contains("above 0"));
        assert!(butter(4, Pass::High(f64::NAN)).contains("NaN"));
        assert!(butter(4, Pass::Band(40.0, 1.0)).contains("lower corner first"));
        assert!(Filter::notch(120.0, 30.0, RATE).is_err());
        for q in [0.0, 0.5, f64::NAN] {
            assert!(Filter::notch(50.0, q, RATE).unwrap_err().to_string().contains("wanted above 0.5"));
        }
        for (low, rate) in [(1.0, f64::INFINITY), (1.0, 1e300), (1e-9, 1000.0)] {
            assert!(Filter::butterworth(2, Pass::High(low), rate).is_err(), "{low} of {rate}");
            assert!(Filter::butterworth(4, Pass::Band(low, 30.0), rate).is_err(), "{low} of {rate}");
        }
        assert!(Filter::notch(1e-20, 30.0, RATE).is_err());
        let low = Filter::butterworth(4, Pass::Low(10.0), RATE).unwrap();
        assert_eq!(low.n_padding(), 15);
        assert!(low.filtfilt(&mut [0.0f32; 15], 15).unwrap_err().to_string().contains("more than the 15"));
        assert!(low.filtfilt(&mut [0.0f32; 33], 16).is_err());
    }
}
