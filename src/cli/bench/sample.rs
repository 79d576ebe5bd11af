//! Repeated measurements of one thing: the middle, the spread, and when there are enough of them.

use crate::error::Result;
use std::time::{Duration, Instant};

/// Fewest measurements a spread is told of.
const LEAST: usize = 5;
/// Most that are kept.
const MOST: usize = 2000;

/// Seconds of one op, measured so many times.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// Half of them took less.
    pub(super) median_s: f64,
    /// Half of the range that the middle half covers, as a share of the median: robust against a neighbour's spike.
    pub(super) spread: f64,
    /// Measurements.
    pub(super) n: usize,
}

impl Sample {
    /// Of these measurements; nothing of none.
    pub(super) fn of(seconds: &[f64]) -> Option<Sample> {
        let mut sorted: Vec<f64> = seconds.iter().copied().filter(|s| s.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let median_s = quantile(&sorted, 0.5)?;
        let middle = quantile(&sorted, 0.75)? - quantile(&sorted, 0.25)?;
        let spread = if median_s > 0.0 { 0.5 * middle / median_s } else { 0.0 };
        Some(Sample { median_s, spread, n: sorted.len() })
    }

    /// How far the median may be off, as a share of it: the spread, less with more measurements. Fewer than
    /// [`LEAST`] have shown no spread, and are taken to be off by a tenth.
    pub(super) fn noise(&self) -> f64 {
        // Of normally distributed values half the middle range is 0.674 sigma, and the median is off by
        // 1.253 sigma / sqrt(n).
        let noise = 1.253 / 0.674 * self.spread / (self.n as f64).sqrt();
        if self.n < LEAST { noise.max(0.1) } else { noise }
    }
}

/// The value below which this share of sorted values lies, between neighbours by their distance.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}

/// When to stop measuring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Seconds for one op, its first run apart.
    pub(super) seconds: f64,
    /// Noise that is low enough to stop before.
    pub(super) noise: f64,
}

impl Budget {
    /// Measures until the noise is low enough or the time is up. `run` measures so many times in a row; its first
    /// call, which compiles and fetches, does not count. `between` is called between rounds.
    ///
    /// Errors: what `run` or `between` returns.
    pub(super) fn measure(
        &self,
        mut run: impl FnMut(usize) -> Result<Vec<f64>>,
        mut between: impl FnMut() -> Result<()>,
    ) -> Result<Sample> {
        let first = run(1)?;
        let (mut seconds, mut at_once) = (Vec::new(), 1);
        let (start, limit) = (Instant::now(), Duration::from_secs_f64(self.seconds.clamp(0.0, 1e6)));
        loop {
            between()?;
            let round = Instant::now();
            seconds.extend(run(at_once)?);
            // Rounds of about a tenth of the budget: what a round costs beside the op shall not count.
            if round.elapsed() < limit / 10 {
                at_once = (2 * at_once).min(64);
            }
            let sample = Sample::of(&seconds);
            let is_quiet = sample.is_some_and(|s| s.n >= LEAST && s.noise() <= self.noise);
            let elapsed = start.elapsed();
            let is_late = elapsed + round.elapsed() > limit;
            // A median of fewer than three is none: time for those is lent.
            if is_quiet || is_late && (seconds.len() >= 3 || elapsed >= 5 * limit) || seconds.len() >= MOST {
                break;
            }
        }
        let nothing = Sample { median_s: f64::NAN, spread: 0.0, n: 0 };
        Ok(Sample::of(&seconds).or(Sample::of(&first)).unwrap_or(nothing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_moves_neither_the_median_nor_the_spread() {
        let mut seconds = vec![1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.0];
        let calm = Sample::of(&seconds).unwrap();
        assert_eq!((calm.median_s, calm.n), (1.0, 7));
        seconds[6] = 50.0;
        let spiked = Sample::of(&seconds).unwrap();
        assert!((spiked.median_s - 1.0).abs() < 0.06 && spiked.spread < 2.5 * calm.spread);
        assert_eq!(Sample::of(&[]), None);
        assert_eq!(Sample::of(&[f64::NAN]), None);
        assert_eq!(Sample::of(&[2.0]).unwrap().median_s, 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), Some(2.5));
    }

    #[test]
    fn more_measurements_are_less_noise_and_few_are_never_quiet() {
        let noise = |n: usize| Sample { median_s: 1.0, spread: 0.02, n }.noise();
        assert!(noise(100) < noise(25) && (noise(25) / noise(100) - 2.0).abs() < 1e-9);
        assert_eq!(Sample { median_s: 1.0, spread: 0.0, n: 3 }.noise(), 0.1);
        assert_eq!(Sample { median_s: 1.0, spread: 0.0, n: 5 }.noise(), 0.0);
    }

    #[test]
    fn measuring_ends_when_it_is_quiet_or_the_time_is_up() {
        let steady = |n: usize| Ok(vec![1e-3; n]);
        let budget = Budget { seconds: 3600.0, noise: 0.01 };
        let sample = budget.measure(steady, || Ok(())).unwrap();
        assert!((LEAST..64).contains(&sample.n) && sample.median_s == 1e-3);
        let mut turn = 0.0;
        let wild = |n: usize| {
            turn += 1.0;
            Ok(vec![turn; n])
        };
        let sample = Budget { seconds: 0.0, noise: 0.0 }.measure(wild, || Ok(())).unwrap();
        assert_eq!(sample.n, 1);
        let stop = || Err(crate::error::Error::Interrupted("planted".into()));
        assert!(budget.measure(steady, stop).is_err());
    }
}
