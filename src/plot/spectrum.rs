//! Power spectral density by Welch's method.     volts [channels, samples] -> µV²/Hz [channels, frequencies]
//!
//! Windows of Hann, half over each other, each without its mean; one-sided. The same as SciPy's
//! `signal.welch(x, fs, "hann", nperseg, detrend="constant")`. Source: P. D. Welch, IEEE Trans. Audio
//! Electroacoustics 15 (1967).

use crate::error::{Error, Result};
use crate::signal::Recording;
use realfft::RealFftPlanner;
use std::f64::consts::TAU;

/// Power by frequency, for every channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    /// Frequencies, from 0 to half the sample rate.
    pub frequencies_hz: Vec<f64>,
    /// `[channels, frequencies]`, µV²/Hz; NaN for a channel without a window of finite samples.
    pub density: Vec<f64>,
    /// One name a channel.
    pub channel_names: Vec<String>,
}

impl Spectrum {
    /// Averages over windows of `window_s` seconds (all of a shorter recording); windows with a sample that is not
    /// finite are left out.
    ///
    /// Errors: [`Error::Setting`] when a window would hold fewer than 8 samples; [`Error::Shape`] when no channel
    /// has a window of finite samples.
    pub fn welch(recording: &Recording, window_s: f64) -> Result<Spectrum> {
        let rate = recording.sample_rate_hz;
        let wanted = (window_s * rate).round() as usize; // NaN: 0
        let n = wanted.min(recording.n_samples);
        if n < 8 {
            let detail = format!("{n} samples are too few for a spectrum, take at least 8");
            return Err(Error::setting("window", detail));
        }
        let hann: Vec<f64> = (0..n).map(|t| 0.5 - 0.5 * (TAU * t as f64 / n as f64).cos()).collect();
        let scale = 1.0 / (rate * hann.iter().map(|w| w * w).sum::<f64>());
        let plan = RealFftPlanner::<f64>::new().plan_fft_forward(n);
        let (mut input, mut output) = (plan.make_input_vec(), plan.make_output_vec());
        let n_bins = output.len();
        let mut density = Vec::with_capacity(recording.n_channels * n_bins);
        for channel in recording.data.chunks_exact(recording.n_samples) {
            let (mut sum, mut n_windows) = (vec![0.0; n_bins], 0usize);
            for window in channel.windows(n).step_by(n - n / 2) {
                if window.iter().any(|v| !v.is_finite()) {
                    continue;
                }
                let mean = window.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
                for ((slot, &v), w) in input.iter_mut().zip(window).zip(&hann) {
                    *slot = 1e6 * (f64::from(v) - mean) * w;
                }
                plan.process(&mut input, &mut output).map_err(|e| Error::shape("welch", e.to_string()))?;
                for (k, (sum, bin)) in sum.iter_mut().zip(&output).enumerate() {
                    let doubled = if k == 0 || 2 * k == n { 1.0 } else { 2.0 };
                    *sum += doubled * scale * bin.norm_sqr();
                }
                n_windows += 1;
            }
            density.extend(sum.iter().map(|sum| sum / n_windows as f64)); // 0/0: NaN
        }
        if density.iter().all(|v| v.is_nan()) {
            let detail = format!("no channel has {n} finite samples in a row");
            return Err(Error::shape("welch", detail));
        }
        let frequencies_hz = (0..n_bins).map(|k| k as f64 * rate / n as f64).collect();
        Ok(Spectrum { frequencies_hz, density, channel_names: recording.channel_names.clone() })
    }

    /// The densities of each channel.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.density.chunks_exact(self.frequencies_hz.len())
    }

    /// Channels without a window of finite samples.
    pub fn empty_channels(&self) -> Vec<&str> {
        let named = self.channel_names.iter().zip(self.rows());
        named.filter(|(_, row)| row.iter().all(|v| v.is_nan())).map(|(name, _)| name.as_str()).collect()
    }

    /// Mean density of each channel over the frequencies from `low` up to, not including, `high`.
    ///
    /// Errors: [`Error::Setting`] when no frequency lies there.
    pub fn band(&self, low: f64, high: f64) -> Result<Vec<f64>> {
        let inside: Vec<usize> = (0..self.frequencies_hz.len())
            .filter(|&k| (low..high).contains(&self.frequencies_hz[k]))
            .collect();
        if inside.is_empty() {
            let nyquist = self.frequencies_hz.last().copied().unwrap_or(0.0);
            let detail = format!("no frequency between {low} and {high} Hz; they go up to {nyquist} Hz");
            return Err(Error::setting("band", detail));
        }
        let mean = |row: &[f64]| inside.iter().map(|&k| row[k]).sum::<f64>() / inside.len() as f64;
        Ok(self.rows().map(mean).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(data: Vec<f32>, n_channels: usize) -> Recording {
        Recording::new(data, 200.0, vec!["a".into(); n_channels]).unwrap()
    }

    fn wave(n: usize) -> Vec<f32> {
        (0..n as u64)
            .map(|t| (((37 * t * t) % 101) as f64 / 4.0 - 12.0 + 3.0 * (t % 10) as f64) as f32 * 1e-6)
            .collect()
    }

    #[test]
    fn it_agrees_with_scipy() {
        // SciPy 1.17, signal.welch(1e6 * wave(n), 200, "hann", nperseg) of float32 samples.
        for (n, nperseg, bins, wanted) in GOLDEN {
            let spectrum = Spectrum::welch(&recording(wave(*n), 1), *nperseg as f64 / 200.0).unwrap();
            assert_eq!(spectrum.frequencies_hz.len(), nperseg / 2 + 1);
            for (k, wanted) in bins.iter().zip(wanted) {
                let got = spectrum.density[*k];
                assert!(
                    (got - wanted).abs() <= 1e-6 * wanted,
                    "{n} {nperseg} bin {k}: {got}, wanted {wanted}"
                );
            }
        }
    }

    const GOLDEN: &[(usize, usize, [usize; 4], [f64; 4])] = &[
        (
            1000,
            400,
            [0, 3, 100, 200],
            [0.0010734475362829305, 0.30766511274864483, 0.0010261981508809294, 3.00221073843665],
        ),
        (
            733,
            101,
            [0, 3, 25, 50],
            [0.1263531408940922, 0.8903711291060917, 0.11111287620024977, 1.1205209848924345],
        ),
        (
            64,
            64,
            [0, 3, 16, 32],
            [0.102017996102167, 1.1632803289337115, 2.1168468120350123, 1.0179214609592873],
        ),
    ];

    #[test]
    fn a_sine_has_its_power() {
        // 20 µV at 10 Hz: 200 µV², in three bins of half a hertz.
        let sine = (0..2000).map(|t| 20e-6 * (TAU * 10.0 * f64::from(t) / 200.0).sin() as f32).collect();
        let spectrum = Spectrum::welch(&recording(sine, 1), 2.0).unwrap();
        let power: f64 = spectrum.density.iter().sum::<f64>() * 0.5;
        assert!((power - 200.0).abs() < 0.01, "{power}");
        assert!((spectrum.band(9.5, 11.0).unwrap()[0] - 400.0 / 3.0).abs() < 0.01);
        assert!(spectrum.band(120.0, 130.0).unwrap_err().to_string().contains("up to 100 Hz"));
    }

    #[test]
    fn windows_with_gaps_are_left_out() {
        let mut data = [wave(2000), wave(2000), vec![f32::NAN; 2000]].concat();
        data[700] = f32::NAN;
        let spectrum = Spectrum::welch(&recording(data, 3), 1.0).unwrap();
        let rows: Vec<&[f64]> = spectrum.rows().collect();
        assert!(rows[0].iter().all(|v| v.is_finite()) && rows[2].iter().all(|v| v.is_nan()));
        assert!((rows[0][10] / rows[1][10] - 1.0).abs() < 0.5);
        assert!(Spectrum::welch(&recording(vec![f32::NAN; 400], 1), 1.0).is_err());
        assert!(Spectrum::welch(&recording(wave(7), 1), 2.0).unwrap_err().to_string().contains("7 samples"));
        assert!(Spectrum::welch(&recording(wave(400), 1), f64::NAN).is_err());
        assert_eq!(Spectrum::welch(&recording(wave(50), 1), 2.0).unwrap().frequencies_hz.len(), 26);
    }
}
