//! How sure a mean over clips is: percentile bootstrap, and a paired sign-flip test.
//!
//! ```text
//! scores of n clips -> n drawn with replacement, 2000 times -> the middle 95 % of their means
//! differences of n pairs -> signs flipped at random, 9999 times -> share of means at least as large
//! ```
//!
//! Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 and 15. Draws come from a seed and
//! their number.

use crate::weights::random::splitmix64;
use serde::Serialize;

/// A mean and the interval around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Over clips.
    pub mean: f64,
    /// 2.5th percentile of resampled means.
    pub low: f64,
    /// 97.5th.
    pub high: f64,
}

impl Interval {
    /// Whether it covers a value.
    pub fn covers(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// Most resamples that are drawn; intervals stop moving long before.
const MOST_RESAMPLES: usize = 100_000;
/// Permutations at most: more digits of p than anyone reads.
const MOST_PERMUTATIONS: usize = 1_000_000;

/// Refuses a count of resamples that is none or absurd.
///
/// Errors: [`crate::error::Error::Setting`].
pub fn check_resamples(count: usize) -> crate::error::Result<()> {
    check_count("--resamples", count, MOST_RESAMPLES)
}

/// Refuses a count of permutations that is none or absurd.
///
/// Errors: [`crate::error::Error::Setting`].
pub fn check_permutations(count: usize) -> crate::error::Result<()> {
    check_count("--permutations", count, MOST_PERMUTATIONS)
}

fn check_count(flag: &str, count: usize, most: usize) -> crate::error::Result<()> {
    match (1..=most).contains(&count) {
        true => Ok(()),
        false => Err(crate::error::Error::setting(flag, format!("wanted 1 to {most}, got {count}"))),
    }
}

/// Which clips each resample holds: told by the seed alone, so that all scores of them are resampled alike.
pub struct Resamples {
    n: usize,
    count: usize,
    start: u64,
}

impl Resamples {
    /// `count` resamples of `n` clips.
    pub fn new(n: usize, count: usize, seed: u64) -> Resamples {
        Resamples { n, count, start: splitmix64(seed ^ splitmix64(0x626f_6f74)) }
    }

    /// The clips of a resample.
    fn drawn(&self, nth: usize) -> impl Iterator<Item = usize> {
        let first = self.start.wrapping_add((nth * self.n) as u64);
        (0..self.n as u64)
            .map(move |at| ((u128::from(splitmix64(first.wrapping_add(at))) * self.n as u128) >> 64) as usize)
    }

    /// The same of shares between 0 and 1. Where every clip is wrong, or every one right, resamples cannot tell how
    /// sure that is; the exact bound of a binomial does (Clopper and Pearson 1934): 1 - 0.025^(1/n) beside a 0.
    ///
    /// Panics as [`Resamples::interval`].
    pub fn share(&self, values: &[f64]) -> Interval {
        let interval = self.interval(values);
        let bound = 1.0 - 0.025_f64.powf(1.0 / self.n as f64);
        let all = |value: f64| values.iter().all(|&v| v == value);
        match (all(0.0), all(1.0)) {
            (true, false) => Interval { high: bound, ..interval },
            (false, true) => Interval { low: 1.0 - bound, ..interval },
            _ => interval,
        }
    }

    /// Mean and 95 % interval of a score. Without clips everything is NaN; without resamples the interval is the mean.
    ///
    /// Panics when there is not a value for each clip.
    pub fn interval(&self, values: &[f64]) -> Interval {
        assert_eq!(values.len(), self.n, "a value for each clip");
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let of = |nth| self.drawn(nth).map(|at| values[at]).sum::<f64>() / self.n as f64;
        let mut means: Vec<f64> = (0..self.count).map(of).collect();
        means.sort_by(f64::total_cmp);
        let (low, high) = match means.len() {
            0 => (mean, mean),
            _ => (percentile(&means, 0.025), percentile(&means, 0.975)),
        };
        Interval { mean, low, high }
    }
}

/// NumPy's `percentile`, linear between neighbours; `sorted` is not empty.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    // Infinities are their own neighbours.
    if low == high { low } else { low + (high - low) * place.fract() }
}

/// Permutations of a paired test.
pub const FLIPS: usize = 9999;

/// p of a one-sided paired test that `a` is larger than `b` clip by clip: signs of the differences are flipped at
/// random, and those count whose mean is at least as large. Nothing where a difference is not finite.
///
/// Panics when there are not as many of both.
pub fn paired_p(a: &[f64], b: &[f64], seed: u64) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "pairs");
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    if differences.is_empty() || differences.iter().any(|d| !d.is_finite()) {
        return None;
    }
    let observed: f64 = differences.iter().sum();
    // Sums in another order differ by rounding: what is equal counts as equal.
    let slack = 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let start = splitmix64(seed ^ splitmix64(0x7369_676e));
    let words = differences.len().div_ceil(64) as u64;
    let as_large = (0..FLIPS as u64).filter(|flip| {
        let sum: f64 = differences
            .chunks(64)
            .enumerate()
            .map(|(at, part)| {
                let signs = splitmix64(start.wrapping_add(flip * words + at as u64));
                let flipped = part.iter().enumerate().map(|(i, d)| if signs >> i & 1 == 1 { -d } else { *d });
                flipped.sum::<f64>()
            })
            .sum();
        sum >= observed - slack
    });
    Some((1 + as_large.count()) as f64 / (1 + FLIPS) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u64) -> Vec<f64> {
        (0..n as u64)
            .map(|i| (splitmix64(seed ^ splitmix64(i)) >> 11) as f64 / (1_u64 << 53) as f64)
            .collect()
    }

    #[test]
    fn intervals_have_the_width_of_the_normal_approximation() {
        let values = noise(400, 1);
        let got = Resamples::new(400, 4000, 0).interval(&values);
        let error = (1.0 / 12.0_f64 / 400.0).sqrt();
        assert!(((got.high - got.low) / (2.0 * 1.96 * error) - 1.0).abs() < 0.1, "{got:?}");
        assert!(got.covers(got.mean) && !got.covers(got.mean + 1.0));
        assert_eq!(got, Resamples::new(400, 4000, 0).interval(&values));
        assert_ne!(got, Resamples::new(400, 4000, 1).interval(&values));
    }

    /// Of many experiments, the interval holds the truth in about 95 of 100.
    #[test]
    fn intervals_cover_the_truth() {
        let n = 60;
        let resamples = Resamples::new(n, 400, 3);
        let covered = (0..300).filter(|&seed| resamples.interval(&noise(n, 1000 + seed)).covers(0.5)).count();
        assert!((266..=298).contains(&covered), "{covered} of 300");
    }

    #[test]
    fn odd_values_stay_what_they_are() {
        let resamples = Resamples::new(3, 100, 0);
        let same = resamples.interval(&[2.0; 3]);
        assert_eq!((same.mean, same.low, same.high), (2.0, 2.0, 2.0));
        let endless = resamples.interval(&[f64::INFINITY; 3]);
        assert!(endless.low == f64::INFINITY && endless.high == f64::INFINITY);
        assert!(Resamples::new(0, 10, 0).interval(&[]).mean.is_nan());
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 0.75), 3.0);
    }

    #[test]
    fn none_of_forty_may_still_be_chance() {
        let resamples = Resamples::new(40, 100, 0);
        let none = resamples.share(&[0.0; 40]);
        // binom.test(0, 40) in R.
        assert!(none.low == 0.0 && (none.high - 0.088_097_3).abs() < 1e-6 && none.covers(0.025), "{none:?}");
        let all = resamples.share(&[1.0; 40]);
        assert!(all.high == 1.0 && (all.low - (1.0 - 0.088_097_3)).abs() < 1e-6);
        let some: Vec<f64> = (0..40).map(|at| f64::from(u8::from(at % 4 == 0))).collect();
        assert_eq!(resamples.share(&some), resamples.interval(&some));
    }

    #[test]
    fn paired_tests_tell_more_from_alike() {
        let base = noise(50, 2);
        let more: Vec<f64> = base.iter().zip(noise(50, 3)).map(|(b, e)| b + 0.2 * e).collect();
        assert_eq!(paired_p(&more, &base, 0).unwrap(), 1.0 / 10_000.0);
        assert!(paired_p(&base, &more, 0).unwrap() > 0.99);
        assert_eq!(paired_p(&base, &base, 0), Some(1.0));
        // Three pairs, all larger: one of eight sign patterns is as extreme.
        let p = paired_p(&[2.0, 3.0, 4.0], &[1.0, 1.0, 1.0], 5).unwrap();
        assert!((p - 0.125).abs() < 0.015, "{p}");
        assert_eq!(paired_p(&[f64::INFINITY], &[0.0], 0), None);
        // Under no difference p is uniform.
        let low = (0..400)
            .filter(|&s| paired_p(&noise(20, 5000 + s), &noise(20, 9000 + s), s).unwrap() < 0.1)
            .count();
        assert!((18..=66).contains(&low), "{low} of 400 below 0.1");
    }
}
