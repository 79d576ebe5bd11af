//! Mean and standard deviation of every channel, and what is made of spectrograms with them.
//!
//! ```text
//! many [channels, bins, frames] ─Moments─> ChannelStats: mean, std [channels]
//! one [channels, bins, frames] ─resize─> [channels, 224, 224] ─(x − mean) / divisor─> what the network takes
//! ```
//!
//! The same as NumPy's `x.mean((0, 2, 3))` and `x.std((0, 2, 3))` (population) in float64, to its last digits: sums are
//! of differences from a first guess, with their rounding carried along.

use super::interpolate;
use super::spectrogram::Spectrograms;
use crate::error::{Error, Result};

/// Sides of what the network takes.
pub const SIDE: usize = 224;
/// What the original adds to a standard deviation, in the unit of the values.
const ORIGINAL_EPS: f64 = 1e-6;
/// What we add, as a share of the channels' root mean square.
const EPS: f64 = 1e-6;

/// Mean and standard deviation of every channel.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelStats {
    /// `[channels]`.
    pub mean: Vec<f64>,
    /// `[channels]`, population.
    pub std: Vec<f64>,
}

/// What a standard deviation becomes before it divides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Divisor {
    /// A millionth of the channels' root mean square is added: a dead channel divides by little, not by nothing, in any
    /// unit.
    #[default]
    Relative,
    /// 1e-6 is added, as NeuroVision does: spectrograms of volts, 1e-13 in size, are divided by that alone.
    Original,
}

impl ChannelStats {
    /// Errors: what is wrong with the numbers: other counts, NaN or infinity, a negative deviation.
    pub fn new(mean: Vec<f64>, std: Vec<f64>) -> Result<ChannelStats, String> {
        if mean.is_empty() || mean.len() != std.len() {
            return Err(format!("{} means and {} standard deviations", mean.len(), std.len()));
        }
        let is_bad = |(mean, std): (&f64, &f64)| !mean.is_finite() || !std.is_finite() || *std < 0.0;
        if let Some(channel) = mean.iter().zip(&std).position(is_bad) {
            let (mean, std) = (mean[channel], std[channel]);
            return Err(format!("channel {channel} has mean {mean} and standard deviation {std}"));
        }
        Ok(ChannelStats { mean, std })
    }

    /// Channels.
    pub fn n_channels(&self) -> usize {
        self.mean.len()
    }

    /// What the channels are divided by; never 0.
    pub fn divisors(&self, divisor: Divisor) -> Vec<f64> {
        let eps = match divisor {
            Divisor::Original => ORIGINAL_EPS,
            Divisor::Relative => {
                EPS * (self.std.iter().map(|s| s * s).sum::<f64>() / self.std.len() as f64).sqrt()
            }
        };
        let nothing = |divisor: f64| if divisor > 0.0 { divisor } else { 1.0 };
        self.std.iter().map(|std| nothing(std + eps)).collect()
    }

    /// `[…, channels, bins, frames]` -> `[n, channels, height, width]`, resized, then each channel less its mean and
    /// divided. One after another through `each`, so that they need not be in memory together.
    ///
    /// Errors: [`Error::Shape`] for spectrograms of another number of channels; whatever `each` returns.
    pub fn inputs(
        &self,
        spectrograms: &Spectrograms,
        size: [usize; 2],
        divisor: Divisor,
        mut each: impl FnMut(Vec<f32>) -> Result<()>,
    ) -> Result<()> {
        let (wanted, got) = (self.n_channels(), spectrograms.n_channels);
        if wanted != got {
            let detail = format!(
                "spectrograms of {got} channels, the statistics are of {wanted}; make them again with `mindreel prepare stats`"
            );
            return Err(Error::shape("statistics", detail));
        }
        let divisors = self.divisors(divisor);
        for one in spectrograms.each() {
            let mut input = interpolate::resize(one, [spectrograms.n_bins, spectrograms.n_frames], size)?;
            let channels = input.chunks_exact_mut(size[0] * size[1]);
            for ((channel, mean), divisor) in channels.zip(&self.mean).zip(&divisors) {
                channel.iter_mut().for_each(|v| *v = ((f64::from(*v) - mean) / divisor) as f32);
            }
            each(input)?;
        }
        Ok(())
    }
}

/// A sum whose rounding errors are carried along (Neumaier).
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        self.lost +=
            if self.sum.abs() >= value.abs() { (self.sum - sum) + value } else { (value - sum) + self.sum };
        self.sum = sum;
    }

    fn value(self) -> f64 {
        self.sum + self.lost
    }
}

/// What grows, spectrogram by spectrogram, into [`ChannelStats`].
#[derive(Clone, Debug, Default)]
pub struct Moments {
    channels: Vec<Channel>,
    n_values: u64,
}

#[derive(Clone, Debug)]
struct Channel {
    guess: f64,
    sum: Sum,
    squares: Sum,
}

impl Moments {
    /// Takes spectrograms in; the first tell the number of channels.
    ///
    /// Errors: [`Error::Shape`] for another number of channels than before.
    pub fn add(&mut self, spectrograms: &Spectrograms) -> Result<()> {
        let (n_channels, size) = (spectrograms.n_channels, spectrograms.n_bins * spectrograms.n_frames);
        if self.channels.is_empty() {
            let mean = |channel: &[f32]| channel.iter().map(|&v| f64::from(v)).sum::<f64>() / size as f64;
            let first = spectrograms.data.chunks_exact(size).take(n_channels);
            let channel =
                |channel| Channel { guess: mean(channel), sum: Sum::default(), squares: Sum::default() };
            self.channels = first.map(channel).collect();
        }
        if self.channels.len() != n_channels {
            let detail = format!("{n_channels} channels, before it were {}", self.channels.len());
            return Err(Error::shape("statistics", detail));
        }
        for one in spectrograms.each() {
            for (values, channel) in one.chunks_exact(size).zip(&mut self.channels) {
                for &value in values {
                    let off = f64::from(value) - channel.guess;
                    channel.sum.add(off);
                    channel.squares.add(off * off);
                }
            }
            self.n_values += size as u64;
        }
        Ok(())
    }

    /// Values of each channel so far.
    pub fn n_values(&self) -> u64 {
        self.n_values
    }

    /// The statistics of all that was added. Errors: [`Error::Shape`] when there was nothing, or numbers that are not
    /// finite.
    pub fn stats(&self) -> Result<ChannelStats> {
        let n = self.n_values as f64;
        let off = |channel: &Channel| channel.sum.value() / n;
        let mean = self.channels.iter().map(|channel| channel.guess + off(channel)).collect();
        let variance = |channel: &Channel| (channel.squares.value() / n - off(channel).powi(2)).max(0.0);
        let std = self.channels.iter().map(|channel| variance(channel).sqrt()).collect();
        ChannelStats::new(mean, std).map_err(|detail| Error::shape("statistics", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(leading: &[usize], n_channels: usize, value: impl Fn(usize, usize) -> f32) -> Spectrograms {
        let n: usize = leading.iter().product();
        let values = (0..n * n_channels * 6).map(|i| value(i / 6 % n_channels, i)).collect();
        Spectrograms::new(&[leading, &[n_channels, 3, 2]].concat(), values).unwrap()
    }

    #[test]
    fn statistics_are_those_of_two_passes_however_far_from_zero() {
        let value = |channel: usize, i: usize| 1e4 * channel as f32 + ((i * i) % 101) as f32 * 1e-2;
        let (one, other) = (made(&[7], 3, value), made(&[2, 5], 3, |c, i| value(c, i + 13)));
        let mut moments = Moments::default();
        moments.add(&one).unwrap();
        moments.add(&other).unwrap();
        let stats = moments.stats().unwrap();
        assert_eq!(moments.n_values(), 17 * 6);
        for channel in 0..3 {
            let all: Vec<f64> = (one.each().chain(other.each()))
                .flat_map(|one| one[channel * 6..][..6].iter().map(|&v| f64::from(v)))
                .collect();
            let mean = all.iter().sum::<f64>() / 102.0;
            let std = (all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 102.0).sqrt();
            assert!((stats.mean[channel] / mean - 1.0).abs() < 1e-14);
            assert!((stats.std[channel] / std - 1.0).abs() < 1e-12);
        }
        assert!(
            moments
                .add(&made(&[], 4, value))
                .unwrap_err()
                .to_string()
                .contains("4 channels, before it were 3")
        );
        assert!(Moments::default().stats().is_err());
    }

    #[test]
    fn inputs_are_resized_and_divided() {
        let stats = ChannelStats::new(vec![1.0, 2.0], vec![2.0, 0.0]).unwrap();
        let spectrograms = made(&[4], 2, |channel, _| if channel == 0 { 5.0 } else { 2.0 });
        let mut n = 0;
        let each = |input: Vec<f32>| {
            assert_eq!(input.len(), 2 * 20);
            assert!(
                input[..20].iter().all(|v| (v - 2.0).abs() < 1e-5) && input[20..].iter().all(|&v| v == 0.0)
            );
            n += 1;
            Ok(())
        };
        stats.inputs(&spectrograms, [5, 4], Divisor::Relative, each).unwrap();
        assert_eq!(n, 4);
        let original = stats.divisors(Divisor::Original);
        assert_eq!(original, [2.0 + 1e-6, 1e-6]);
        let relative = stats.divisors(Divisor::Relative);
        assert!((relative[1] - 1e-6 * 2f64.sqrt()).abs() < 1e-20);
        assert_eq!(ChannelStats::new(vec![0.0], vec![0.0]).unwrap().divisors(Divisor::Relative), [1.0]);
        let error = stats.inputs(&made(&[], 3, |_, _| 0.0), [5, 4], Divisor::Relative, |_| Ok(()));
        assert!(error.unwrap_err().to_string().contains("3 channels, the statistics are of 2"));
    }

    #[test]
    fn statistics_that_are_none_are_refused() {
        assert!(ChannelStats::new(vec![], vec![]).is_err());
        assert!(ChannelStats::new(vec![0.0], vec![1.0, 1.0]).unwrap_err().contains("1 means and 2"));
        assert!(ChannelStats::new(vec![f64::NAN], vec![1.0]).is_err());
        assert!(ChannelStats::new(vec![0.0; 2], vec![1.0, -1.0]).unwrap_err().contains("channel 1"));
    }
}
