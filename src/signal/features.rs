//! Differential entropy and power spectral density in five bands.     [channels, samples] -> 2 × [channels, 5]
//!
//! Corrected (ours), with x in µV and its mean removed:
//!
//! ```text
//! w[t] = ½ − ½ cos(2πt/N),  t = 0 … N − 1       Hann, as long as the segment
//! P[k] = 2 |FFT(x w)[k]|² / (fs Σ w²)           µV²/Hz, one-sided; DC and fs/2 are not doubled
//! PSD  = mean of P[k],     σ² = fs/N · Σ P[k]   over the bins with lo ≤ k fs/N < hi
//! DE   = ½ ln(2πe max(σ², 1e-12))               nats, of a Gaussian with the band's power
//! ```
//!
//! P equals SciPy's `signal.periodogram(x, fs, window="hann")`. A batch is simply more rows: `[n · channels,
//! samples]`, one plan of the transform for all.
//!
//! Original, as published with EEG2Video (`DE_PSD`) and kept for its checkpoints, oddities included: a
//! 200-point transform whatever the length (longer segments lose all but their first 200 windowed samples,
//! shorter ones are padded), bins one too low, no normalisation, DE = log2(100 · PSD), numbers as they stand.

use super::Real;
use crate::error::{Error, Result};
use realfft::RealFftPlanner;
use std::f64::consts::{E, PI, TAU};

/// The bands: name, first and last frequency in hertz.
pub const BANDS: [(&str, f64, f64); 5] = [
    ("delta", 1.0, 4.0),
    ("theta", 4.0, 8.0),
    ("alpha", 8.0, 14.0),
    ("beta", 14.0, 31.0),
    ("gamma", 31.0, 99.0),
];

/// Length of the transform in the original form.
const ORIGINAL_FFT: usize = 200;
/// Least band power in µV²; a flat channel has DE −12.4 instead of minus infinity.
const LEAST_POWER: f64 = 1e-12;

/// Which arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// EEG2Video's, for checkpoints trained on its features.
    Original,
    /// Calibrated; see the head of this module.
    #[default]
    Corrected,
}

impl std::str::FromStr for Form {
    type Err = Error;

    /// `original` or `corrected`.
    fn from_str(text: &str) -> Result<Form> {
        match text {
            "original" => Ok(Form::Original),
            "corrected" => Ok(Form::Corrected),
            other => {
                let detail = format!("\"{}\" is not known; give corrected or original", other.escape_debug());
                Err(Error::setting("--form", detail))
            }
        }
    }
}

/// `signal` `[channels, samples]` -> (DE, PSD), each `[channels, 5]`, δ θ α β γ. The corrected form takes
/// volts and gives nats and µV²/Hz; the original takes any unit.
///
/// Errors: [`Error::Shape`] when `signal` is not `[n_channels, n_samples]`, holds NaN or infinity, or is too
/// short for a bin in each band; [`Error::Setting`] when the rate has no room for 99 Hz, or is not 200 Hz in
/// the original form; and there, where the published code stops too, [`Error::Shape`] for a channel of zeros.
pub fn de_psd<T: Real>(
    signal: &[T],
    n_channels: usize,
    n_samples: usize,
    sample_rate_hz: f64,
    form: Form,
) -> Result<(Vec<f64>, Vec<f64>)> {
    if n_channels.checked_mul(n_samples) != Some(signal.len()) || signal.is_empty() {
        let detail = format!("{} values are not [{n_channels} channels, {n_samples} samples]", signal.len());
        return Err(Error::shape("de_psd", detail));
    }
    if let Some(at) = signal.iter().position(|&v| !v.into().is_finite()) {
        let (channel, sample) = (at / n_samples, at % n_samples);
        let detail = format!("channel {channel}, sample {sample} is not a finite number; repair it first");
        return Err(Error::shape("de_psd", detail));
    }
    match form {
        Form::Original => original(signal, n_samples, sample_rate_hz),
        Form::Corrected => corrected(signal, n_samples, sample_rate_hz),
    }
}

fn corrected<T: Real>(signal: &[T], n_samples: usize, rate: f64) -> Result<(Vec<f64>, Vec<f64>)> {
    let highest = BANDS[4].2;
    if !rate.is_finite() || rate < 2.0 * highest {
        let detail = format!("{rate} Hz, the gamma band needs at least {} Hz", 2.0 * highest);
        return Err(Error::setting("sample rate", detail));
    }
    let width_hz = rate / n_samples as f64;
    let mut bins = Vec::with_capacity(BANDS.len());
    for (name, lo, hi) in BANDS {
        // A hair is taken off before rounding up, so that a bin on a border does not depend on rounding.
        let bin = |hz: f64| (hz / width_hz - 1e-9).ceil() as usize;
        if bin(lo) >= bin(hi) {
            let detail = format!(
                "{n_samples} samples at {rate} Hz have no bin between {lo} and {hi} Hz ({name}), take a longer window"
            );
            return Err(Error::shape("de_psd", detail));
        }
        bins.push(bin(lo)..bin(hi));
    }
    let window: Vec<f64> =
        (0..n_samples).map(|t| 0.5 - 0.5 * (TAU * t as f64 / n_samples as f64).cos()).collect();
    let scale = 1.0 / (rate * window.iter().map(|w| w * w).sum::<f64>());
    let mut transform = Transform::new(n_samples);
    let (mut de, mut psd) = (Vec::new(), Vec::new());
    for channel in signal.chunks_exact(n_samples) {
        let mean = channel.iter().map(|&v| v.into()).sum::<f64>() / n_samples as f64;
        let windowed = channel.iter().zip(&window).map(|(&v, w)| (v.into() - mean) * 1e6 * w);
        let power = transform.power(windowed)?;
        for bins in &bins {
            let doubled = |k: usize| if 2 * k == n_samples { 1.0 } else { 2.0 }; // fs/2 stands alone
            let sum: f64 = bins.clone().map(|k| doubled(k) * scale * power[k]).sum();
            psd.push(sum / bins.len() as f64);
            de.push(0.5 * (2.0 * PI * E * (sum * width_hz).max(LEAST_POWER)).ln());
        }
    }
    Ok((de, psd))
}

fn original<T: Real>(signal: &[T], n_samples: usize, rate: f64) -> Result<(Vec<f64>, Vec<f64>)> {
    if rate != ORIGINAL_FFT as f64 {
        let detail =
            format!("{rate} Hz, the original form reads its bins as hertz, which holds at 200 Hz only");
        return Err(Error::setting("sample rate", detail));
    }
    let window = |t: usize| 0.5 - 0.5 * (TAU * (t + 1) as f64 / (n_samples + 1) as f64).cos();
    let mut transform = Transform::new(ORIGINAL_FFT);
    let (mut de, mut psd) = (Vec::new(), Vec::new());
    for (idx, channel) in signal.chunks_exact(n_samples).enumerate() {
        let windowed = channel.iter().take(ORIGINAL_FFT).enumerate().map(|(t, &v)| v.into() * window(t));
        let power = transform.power(windowed)?;
        for (_, lo, hi) in BANDS {
            let sum: f64 = power[lo as usize - 1..=hi as usize - 1].iter().sum();
            let mean = sum / (hi - lo + 1.0);
            if mean <= 0.0 {
                let detail = format!("channel {idx} has no power, its logarithm is not finite; leave it out");
                return Err(Error::shape("de_psd", detail));
            }
            psd.push(mean);
            de.push((100.0 * mean).log2());
        }
    }
    Ok((de, psd))
}

/// |FFT|² of real rows of one length.
pub(super) struct Transform {
    plan: std::sync::Arc<dyn realfft::RealToComplex<f64>>,
    input: Vec<f64>,
    output: Vec<realfft::num_complex::Complex<f64>>,
    scratch: Vec<realfft::num_complex::Complex<f64>>,
}

impl Transform {
    pub(super) fn new(n: usize) -> Transform {
        let plan = RealFftPlanner::new().plan_fft_forward(n);
        let (input, output) = (plan.make_input_vec(), plan.make_output_vec());
        Transform { scratch: plan.make_scratch_vec(), plan, input, output }
    }

    /// Power of each bin from 0 to half the rate; a short row is padded with zeros.
    pub(super) fn power(&mut self, row: impl Iterator<Item = f64>) -> Result<Vec<f64>> {
        self.input.fill(0.0);
        self.input.iter_mut().zip(row).for_each(|(slot, v)| *slot = v);
        self.plan
            .process_with_scratch(&mut self.input, &mut self.output, &mut self.scratch)
            .map_err(|e| Error::shape("de_psd", e.to_string()))?;
        Ok(self.output.iter().map(|bin| bin.norm_sqr()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signal of the golden vectors, in numbers as they stand.
    fn chirps(n: usize) -> Vec<f64> {
        let wave = |t: f64| {
            (TAU * 10.0 * t).sin()
                + 0.5 * (TAU * 20.0 * t).sin()
                + 0.25 * (TAU * 40.0 * t).cos()
                + 0.1 * (TAU * 2.0 * t).cos()
        };
        (0..n).map(|k| wave(k as f64 / 200.0)).collect()
    }

    fn close(got: &[f64], wanted: &[f64], tolerance: f64) {
        assert_eq!(got.len(), wanted.len());
        for (g, w) in got.iter().zip(wanted) {
            assert!((g - w).abs() <= tolerance, "got {got:?}, wanted {wanted:?}");
        }
    }

    #[test]
    fn the_original_form_gives_the_published_codes_numbers() {
        // From two independent float64 implementations; printed with five decimals, hence the tolerance.
        let golden = [
            (
                200,
                [9.88002, 6.95875, 15.71637, 12.35381, 8.41520],
                [9.42283, 1.24392, 538.39314, 52.34405, 3.41372],
            ),
            (
                400,
                [10.62679, 11.73011, 15.66366, 12.33494, 8.49176],
                [15.81184, 33.97142, 519.07614, 51.66398, 3.59976],
            ),
            (
                100,
                [9.18717, 8.87701, 14.72306, 11.40945, 7.42239],
                [5.82928, 4.70161, 270.44740, 27.20109, 1.71538],
            ),
        ];
        for (n, de, psd) in golden {
            let got = de_psd(&chirps(n), 1, n, 200.0, Form::Original).unwrap();
            close(&got.0, &de, 1e-5);
            close(&got.1, &psd, 1e-5);
        }
    }

    #[test]
    fn the_corrected_form_agrees_with_scipy() {
        // SciPy 1.17.1, signal.periodogram(x, 200, window="hann"), bins picked by frequency; x in µV.
        let golden = [
            (
                400,
                [1.25843083, 0.0526215301, 3.37375967, 2.63651955, 2.13231531],
                [0.241804024, 0.0162619319, 8.31351756, 0.671627563, 0.0612522836],
            ),
            (
                101,
                [1.21977057, 2.41711728, 3.29842932, 2.6822397, 2.24134793],
                [0.169537699, 1.85895305, 7.22229261, 0.78975219, 0.076939292],
            ),
        ];
        for (n, de, psd) in golden {
            let noise = (0..n as u64).map(|k| ((37 * k * k) % 101) as f64 / 25.0 - 2.0);
            let x: Vec<f64> = chirps(n).iter().zip(noise).map(|(v, e)| (10.0 * v + e + 3.0) * 1e-6).collect();
            let got = de_psd(&x, 1, n, 200.0, Form::Corrected).unwrap();
            close(&got.0, &de, 1e-8);
            close(&got.1, &psd, 1e-8);
        }
    }

    #[test]
    fn a_sine_has_its_power_in_its_band() {
        // A sine of 20 µV has a power of 200 µV², spread by the window over 9.5, 10 and 10.5 Hz.
        for n in [200, 400, 1000] {
            let sine: Vec<f64> = (0..n).map(|t| 20e-6 * (TAU * 10.0 * t as f64 / 200.0).sin()).collect();
            let (de, psd) = de_psd(&sine, 1, n, 200.0, Form::Corrected).unwrap();
            close(&[de[2]], &[0.5 * (2.0 * PI * E * 200.0).ln()], 1e-9);
            close(&[psd[2]], &[200.0 / 6.0], 1e-6);
            assert!([0, 1, 3, 4].iter().all(|&band| de[band] < -5.0 && psd[band] < 1e-12));
        }
    }

    #[test]
    fn rows_do_not_see_each_other_and_f32_follows_f64() {
        let one = chirps(400);
        let both: Vec<f32> = one.iter().chain(&vec![0.0; 400]).map(|&v| (v * 1e-5) as f32).collect();
        let (de, psd) = de_psd(&both, 2, 400, 200.0, Form::Corrected).unwrap();
        let scaled: Vec<f64> = one.iter().map(|v| v * 1e-5).collect();
        let alone = de_psd(&scaled, 1, 400, 200.0, Form::Corrected).unwrap();
        close(&de[..5], &alone.0, 1e-5);
        assert_eq!(psd[5..], [0.0; 5]);
        close(&de[5..], &[0.5 * (2.0 * PI * E * 1e-12).ln(); 5], 1e-12);
    }

    #[test]
    fn impossible_requests_are_refused() {
        let x = vec![0.0f32; 400];
        let de = |x: &[f32], n, rate, form| de_psd(x, 1, n, rate, form).unwrap_err().to_string();
        assert!(de(&x, 399, 200.0, Form::Corrected).contains("400 values"));
        assert!(de(&[], 0, 200.0, Form::Corrected).contains("0 values"));
        assert!(de(&x, 400, 128.0, Form::Corrected).contains("198 Hz"));
        assert!(de(&x, 400, f64::NAN, Form::Corrected).contains("NaN Hz"));
        assert!(de(&x[..40], 40, 200.0, Form::Corrected).contains("delta"));
        assert!(de(&x, 400, 250.0, Form::Original).contains("200 Hz only"));
        assert!(de(&x, 400, 200.0, Form::Original).contains("no power"));
        assert!(de(&[f32::NAN; 400], 400, 200.0, Form::Original).contains("sample 0"));
        assert!("orginal".parse::<Form>().is_err());
    }
}
