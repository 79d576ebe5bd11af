//! What can be wrong with samples: not numbers, flat channels, saturated channels, other units.
//!
//! One function looks at any stretch `[channels, samples]`, be it a recording or a two-second clip.

/// A channel is saturated when this share of a stretch, in runs, sits at its highest or at its lowest value.
const SATURATED_SHARE: f64 = 0.05;
/// Fewer equal samples in a row are chance, or the crest of a slow wave in coarse steps.
const SATURATED_RUN: usize = 3;

/// Samples of one channel that are no measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Channel, from 0.
    pub channel_idx: usize,
    /// First such sample, from 0.
    pub first_sample: usize,
    /// How many.
    pub n_samples: usize,
}

/// Everything wrong with one stretch, by kind; a sample is counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// NaN or infinite samples, by channel.
    pub nonfinite: Vec<Finding>,
    /// Channels that never change.
    pub flat: Vec<Finding>,
    /// Channels that stick to their extremes.
    pub saturated: Vec<Finding>,
}

impl Findings {
    /// Nothing was found.
    pub fn is_clean(&self) -> bool {
        self.n_bad() == 0
    }

    /// Bad samples of all kinds.
    pub fn n_bad(&self) -> usize {
        self.all().map(|finding| finding.n_samples).sum()
    }

    /// One line: `12 samples are NaN or infinite, first in FP1 at sample 30; flat: OZ`.
    pub fn describe(&self, channel_names: &[String]) -> String {
        let name = |finding: &Finding| match channel_names.get(finding.channel_idx) {
            Some(name) => name.clone(),
            None => format!("channel {}", finding.channel_idx),
        };
        let list = |findings: &[Finding]| {
            let shown = findings.iter().take(8).map(name).collect::<Vec<_>>().join(", ");
            if findings.len() > 8 { format!("{shown} and {} more", findings.len() - 8) } else { shown }
        };
        let mut parts = Vec::new();
        if let Some(first) = self.nonfinite.first() {
            let total: usize = self.nonfinite.iter().map(|finding| finding.n_samples).sum();
            let what = if total == 1 { "sample is" } else { "samples are" };
            let place = format!("first in {} at sample {}", name(first), first.first_sample);
            parts.push(format!("{total} {what} NaN or infinite, {place}"));
        }
        for (kind, findings) in [("flat", &self.flat), ("saturated", &self.saturated)] {
            if !findings.is_empty() {
                parts.push(format!("{kind}: {}", list(findings)));
            }
        }
        parts.join("; ")
    }

    fn all(&self) -> impl Iterator<Item = &Finding> {
        self.nonfinite.iter().chain(&self.flat).chain(&self.saturated)
    }
}

/// Looks at `data` `[channels, samples]`. A lone sample per channel is not called flat.
pub fn inspect(data: &[f32], n_samples: usize) -> Findings {
    let mut findings = Findings::default();
    for (channel_idx, samples) in data.chunks_exact(n_samples.max(1)).enumerate() {
        let n_bad = samples.iter().filter(|v| !v.is_finite()).count();
        if n_bad > 0 {
            let first_sample = samples.iter().position(|v| !v.is_finite()).unwrap_or(0);
            findings.nonfinite.push(Finding { channel_idx, first_sample, n_samples: n_bad });
        }
        let finite = || samples.iter().copied().filter(|v| v.is_finite());
        let lowest = finite().fold(f32::INFINITY, f32::min);
        let highest = finite().fold(f32::NEG_INFINITY, f32::max);
        let n_finite = samples.len() - n_bad;
        if lowest == highest && n_finite > 1 {
            let first_sample = samples.iter().position(|v| v.is_finite()).unwrap_or(0);
            findings.flat.push(Finding { channel_idx, first_sample, n_samples: n_finite });
            continue;
        }
        let (mut n_stuck, mut first_stuck) = (0, samples.len());
        for extreme in [lowest, highest] {
            let (n, first) = stuck(samples, extreme);
            if n as f64 >= SATURATED_SHARE * samples.len() as f64 && n > 0 {
                n_stuck += n;
                first_stuck = first_stuck.min(first);
            }
        }
        if n_stuck > 0 {
            findings.saturated.push(Finding { channel_idx, first_sample: first_stuck, n_samples: n_stuck });
        }
    }
    findings
}

/// Samples in runs at `value`, and where the first run starts.
fn stuck(samples: &[f32], value: f32) -> (usize, usize) {
    let (mut n, mut first, mut at) = (0, samples.len(), 0);
    for run in samples.chunk_by(|a, b| a == b) {
        if run[0] == value && run.len() >= SATURATED_RUN {
            n += run.len();
            first = first.min(at);
        }
        at += run.len();
    }
    (n, first)
}

/// Median of |x − mean of its channel| over `[rows, samples]`, from at most a million samples; `None` when
/// no sample is finite. The mean goes first, because an amplifier's offset can be thousands of times the EEG.
pub fn median_amplitude(data: &[f32], n_samples: usize) -> Option<f64> {
    let step = (data.len() / 1_000_000).max(1);
    let mut amplitudes = Vec::with_capacity(data.len() / step + 1);
    for (row, samples) in data.chunks_exact(n_samples.max(1)).enumerate() {
        let finite = || samples.iter().filter(|v| v.is_finite()).map(|&v| f64::from(v));
        let mean = finite().sum::<f64>() / finite().count().max(1) as f64;
        // Continue the stride across rows, so that short rows are sampled as well.
        let skipped = (step - row * n_samples % step) % step;
        let taken = samples.iter().skip(skipped).step_by(step).filter(|v| v.is_finite());
        amplitudes.extend(taken.map(|&v| (f64::from(v) - mean).abs()));
    }
    let middle = amplitudes.len() / 2;
    if amplitudes.is_empty() {
        return None;
    }
    let (_, median, _) = amplitudes.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*median)
}

/// Puts a straight line between the neighbours of each NaN or infinite sample in `samples` of one channel;
/// the nearest good sample at the ends, zero when there is none. Good samples keep their bits.
pub fn bridge(samples: &mut [f32]) {
    let mut at = 0;
    while at < samples.len() {
        if samples[at].is_finite() {
            at += 1;
            continue;
        }
        let end = samples[at..].iter().position(|v| v.is_finite()).map_or(samples.len(), |n| at + n);
        let before = at.checked_sub(1).map(|i| samples[i]);
        let after = samples.get(end).copied();
        let (from, to) = match (before, after) {
            (Some(from), Some(to)) => (from, to),
            (Some(only), None) | (None, Some(only)) => (only, only),
            (None, None) => (0.0, 0.0),
        };
        let gap = (end - at + 1) as f32;
        for (i, sample) in samples[at..end].iter_mut().enumerate() {
            *sample = from + (to - from) * ((i + 1) as f32 / gap);
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[2, 400]`: 10 µV at 10 Hz and at 7 Hz.
    fn clean() -> Vec<f32> {
        let wave = |hz: f64| (0..400).map(move |t| (1e-5 * (hz * t as f64 / 31.83).sin()) as f32);
        wave(10.0).chain(wave(7.0)).collect()
    }

    #[test]
    fn clean_samples_stay_unmarked_even_in_coarse_steps() {
        assert!(inspect(&clean(), 400).is_clean());
        // A 1 Hz wave of 50 µV from an amplifier with steps of 1 µV.
        let coarse: Vec<f32> = (0..400)
            .map(|t| ((50.0 * (std::f64::consts::TAU * f64::from(t) / 200.0).sin()).round() * 1e-6) as f32)
            .collect();
        assert!(inspect(&coarse, 400).is_clean());
        assert!(inspect(&[], 400).is_clean());
        assert!(inspect(&[1.0, 2.0], 1).is_clean());
    }

    #[test]
    fn planted_faults_are_all_found() {
        for share in [0.01, 0.1, 0.5] {
            let mut data = clean();
            let n = (800.0 * share) as usize;
            for i in 0..n {
                data[i * 800 / n] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][i % 3];
            }
            let findings = inspect(&data, 400);
            assert_eq!(findings.n_bad(), n);
            assert_eq!((findings.nonfinite[0].channel_idx, findings.nonfinite[0].first_sample), (0, 0));
        }
        let mut flat = clean();
        flat[400..].fill(2e-5);
        assert_eq!(inspect(&flat, 400).flat, [Finding { channel_idx: 1, first_sample: 0, n_samples: 400 }]);
        let clipped: Vec<f32> = clean().iter().map(|v| v.clamp(-8e-6, 8e-6)).collect();
        assert_eq!(inspect(&clipped, 400).saturated.len(), 2);
        let names = ["FP1".to_string(), "OZ".to_string()];
        assert_eq!(inspect(&flat, 400).describe(&names), "flat: OZ");
        assert_eq!(inspect(&clipped, 400).describe(&names), "saturated: FP1, OZ");
    }

    #[test]
    fn the_median_ignores_offsets_and_gaps() {
        let mut data: Vec<f32> = clean().iter().map(|v| v + 0.02).collect();
        data[5] = f32::NAN;
        let median = median_amplitude(&data, 400).unwrap();
        assert!((5e-6..9e-6).contains(&median), "{median}"); // 0.707 of the amplitude for a sine
        assert_eq!(median_amplitude(&[f32::NAN; 4], 4), None);
        assert_eq!(median_amplitude(&[], 4), None);
    }

    #[test]
    fn gaps_are_bridged_and_good_samples_kept() {
        let nan = f32::NAN;
        let mut samples = [nan, 1.0, nan, nan, nan, 5.0, f32::INFINITY];
        bridge(&mut samples);
        assert_eq!(samples, [1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0]);
        let mut none = [nan, nan];
        bridge(&mut none);
        assert_eq!(none, [0.0, 0.0]);
    }
}
