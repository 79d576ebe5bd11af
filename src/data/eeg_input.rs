//! Clips of EEG as a network reads them, scaled by what training clips said.
//!
//! ```text
//! Segments [clips, channels, samples] ─Features─> [clips, windows · channels · 5]     z-scores of each feature
//!                                     └Windows──> [clips · n, channels, n_times]      z-scores of each channel
//! ```
//!
//! Training and `mindreel video` go through the same lines here, so that a network is shown what it has learnt on.

use crate::error::{Error, Result};
use crate::signal::features::BANDS;
use crate::signal::{Form, Segments, StandardScaler, de_psd, windows};
use std::borrow::Cow;

/// What is cut of a clip.
#[derive(Clone, Debug, PartialEq)]
pub enum EegInput {
    /// Differential entropy in five bands, of windows of equal length behind each other, as one row.
    Features {
        /// Windows of a clip.
        n_windows: usize,
        /// Which arithmetic.
        form: Form,
    },
    /// Samples of windows.
    Windows {
        /// Samples of a window.
        n_times: usize,
        /// Samples from one to the next.
        step: usize,
        /// Whether each channel's mean over the clip is taken away: where a recording drifts, the level tells which
        /// minute a clip is of.
        is_centred: bool,
    },
}

/// Examples, clip by clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// `[n, shape..]`.
    pub values: Vec<f32>,
    /// Of one example.
    pub shape: Vec<usize>,
    /// Clip of each example.
    pub clips: Vec<usize>,
}

impl Inputs {
    /// Examples.
    pub fn len(&self) -> usize {
        self.clips.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.clips.is_empty()
    }

    /// Values of one example.
    pub fn example(&self, at: usize) -> &[f32] {
        let size: usize = self.shape.iter().product();
        &self.values[at * size..(at + 1) * size]
    }
}

impl EegInput {
    /// Mean and scale of each feature, or of each channel, over some clips.
    ///
    /// Errors: those of [`EegInput::cut`]; [`Error::Shape`] without clips.
    pub fn fit(&self, eeg: &Segments, clips: &[usize]) -> Result<StandardScaler> {
        let eeg = eeg.pick(clips)?;
        match *self {
            EegInput::Features { n_windows, form } => {
                let (rows, n_features) = features(&eeg, n_windows, form)?;
                StandardScaler::fit(&rows, n_features)
            }
            EegInput::Windows { is_centred, .. } => channel_scaler(&eeg, is_centred),
        }
    }

    /// The examples of all clips. Without a scaler, features stay as they are and each channel of each clip is scaled
    /// by itself.
    ///
    /// Errors: [`Error::Shape`] when no window fits a clip, or the scaler is of another width; those of [`de_psd`].
    pub fn cut(&self, eeg: &Segments, scaler: Option<&StandardScaler>) -> Result<Inputs> {
        match *self {
            EegInput::Features { n_windows, form } => {
                let (rows, n_features) = features(eeg, n_windows, form)?;
                let rows = match scaler {
                    Some(scaler) => scaler.transform(&rows)?,
                    None => rows,
                };
                let values = rows.into_iter().map(|v| v as f32).collect();
                Ok(Inputs { values, shape: vec![n_features], clips: (0..eeg.n).collect() })
            }
            EegInput::Windows { n_times, step, is_centred } => {
                if let Some(scaler) = scaler.filter(|scaler| scaler.mean.len() != eeg.n_channels) {
                    let detail = format!(
                        "the scaler is of {} channels, the EEG has {}",
                        scaler.mean.len(),
                        eeg.n_channels
                    );
                    return Err(Error::shape("scaler", detail));
                }
                let (mut values, mut clips) = (Vec::new(), Vec::new());
                for (clip, data) in eeg.data.chunks_exact(eeg.n_channels * eeg.n_samples).enumerate() {
                    let scaled = standardized(data, eeg.n_samples, scaler, is_centred);
                    let (cut, n) = windows::sliding(&scaled, eeg.n_channels, n_times, step)?;
                    values.extend(cut);
                    clips.extend(std::iter::repeat_n(clip, n));
                }
                Ok(Inputs { values, shape: vec![eeg.n_channels, n_times], clips })
            }
        }
    }
}

/// DE `[clips, windows · channels · 5]`.
fn features(eeg: &Segments, n_windows: usize, form: Form) -> Result<(Vec<f64>, usize)> {
    let window = eeg.n_samples / n_windows.max(1);
    if n_windows == 0 || window == 0 {
        let detail = format!("{n_windows} windows in {} samples", eeg.n_samples);
        return Err(Error::shape("features", detail));
    }
    let n_features = n_windows * eeg.n_channels * BANDS.len();
    let cut: Cow<[f32]> = if n_windows == 1 {
        Cow::Borrowed(&eeg.data)
    } else {
        let mut cut = Vec::with_capacity(eeg.data.len());
        for clip in eeg.data.chunks_exact(eeg.n_channels * eeg.n_samples) {
            let (values, n) = windows::sliding(clip, eeg.n_channels, window, window)?;
            cut.extend_from_slice(&values[..n.min(n_windows) * eeg.n_channels * window]);
        }
        Cow::Owned(cut)
    };
    let (de, _) = de_psd(&cut, eeg.n * n_windows * eeg.n_channels, window, eeg.sample_rate_hz, form)?;
    Ok((de, n_features))
}

/// `[channels, samples]` of a clip with mean 0 and deviation 1.
fn standardized(
    clip: &[f32],
    n_samples: usize,
    scaler: Option<&StandardScaler>,
    is_centred: bool,
) -> Vec<f32> {
    let mut values = Vec::with_capacity(clip.len());
    for (channel, samples) in clip.chunks_exact(n_samples).enumerate() {
        let level = if is_centred || scaler.is_none() { mean(samples) } else { 0.0 };
        let (middle, scale) = match scaler {
            Some(scaler) => (scaler.mean[channel] + level, scaler.scale[channel]),
            None => {
                let variance =
                    samples.iter().map(|&v| (f64::from(v) - level).powi(2)).sum::<f64>() / n_samples as f64;
                (level, if variance > 0.0 { variance.sqrt() } else { 1.0 })
            }
        };
        values.extend(samples.iter().map(|&v| ((f64::from(v) - middle) / scale) as f32));
    }
    values
}

/// Mean and population deviation of each channel over all samples.
fn channel_scaler(eeg: &Segments, is_centred: bool) -> Result<StandardScaler> {
    if eeg.n == 0 || eeg.n_samples == 0 {
        return Err(Error::shape("scaler", "no clip to fit on"));
    }
    let n = (eeg.n * eeg.n_samples) as f64;
    let mut sums = vec![[0.0; 2]; eeg.n_channels];
    // Around the mean of the first clip: nothing is lost to a level much larger than the signal.
    let first: Vec<f64> = eeg.data.chunks_exact(eeg.n_samples).take(eeg.n_channels).map(mean).collect();
    for (row, samples) in eeg.data.chunks_exact(eeg.n_samples).enumerate() {
        let channel = row % eeg.n_channels;
        let level = if is_centred { mean(samples) } else { first[channel] };
        for &v in samples {
            let v = f64::from(v) - level;
            sums[channel][0] += v;
            sums[channel][1] += v * v;
        }
    }
    let level = |channel: usize| if is_centred { 0.0 } else { first[channel] };
    let mean: Vec<f64> = sums.iter().enumerate().map(|(at, [sum, _])| level(at) + sum / n).collect();
    let scale = sums.iter().map(|[sum, square]| {
        let variance = square / n - (sum / n).powi(2);
        if variance > 0.0 { variance.sqrt() } else { 1.0 }
    });
    Ok(StandardScaler { scale: scale.collect(), mean })
}

fn mean(samples: &[f32]) -> f64 {
    samples.iter().map(|&v| f64::from(v)).sum::<f64>() / samples.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{Cut, Layout, Options, Recordings};

    fn clips(n: usize) -> Segments {
        let data: Vec<f32> = (0..n * 2 * 400)
            .map(|i| {
                let level = 5.0 * ((i / 400) % 7) as f32;
                ((i * 37 % 101) as f32 - 50.0 + level) * 1e-6 * (1 + i / 400 % 2) as f32
            })
            .collect();
        let findings = vec![crate::signal::checks::inspect(&data[..800], 400); n];
        Recordings {
            source: "test".into(),
            data,
            n,
            n_channels: 2,
            n_samples: 400,
            sample_rate_hz: Options::seed_dv().sample_rate_hz,
            channel_names: vec!["A".into(), "B".into()],
            layout: Layout::Clips { slots: n, clips: 1 },
            findings,
        }
        .segments(Cut::CLIPS)
        .unwrap()
    }

    #[test]
    fn features_are_those_of_the_windows() {
        let eeg = clips(3);
        let cut =
            |n_windows| EegInput::Features { n_windows, form: Form::Corrected }.cut(&eeg, None).unwrap();
        let (whole, halves) = (cut(1), cut(2));
        assert_eq!((whole.len(), &whole.shape[..], &halves.shape[..]), (3, &[10][..], &[20][..]));
        let second: Vec<f32> = eeg.segment(1).unwrap().chunks(400).flat_map(|c| c[200..].to_vec()).collect();
        let (want, _) = de_psd(&second, 2, 200, 200.0, Form::Corrected).unwrap();
        let near = |a: &[f32], b: &[f64]| a.iter().zip(b).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5);
        assert!(near(&halves.example(1)[10..], &want));
        let input = EegInput::Features { n_windows: 1, form: Form::Corrected };
        let scaler = input.fit(&eeg, &[0, 1, 2]).unwrap();
        let scaled = input.cut(&eeg, Some(&scaler)).unwrap();
        let sum: f32 = (0..3).map(|clip| scaled.example(clip)[4]).sum();
        assert!(sum.abs() < 1e-4, "{sum}");
        assert!(EegInput::Features { n_windows: 0, form: Form::Corrected }.cut(&eeg, None).is_err());
    }

    #[test]
    fn windows_are_scaled_by_channel_and_centred_by_clip() {
        let eeg = clips(4);
        for is_centred in [false, true] {
            let input = EegInput::Windows { n_times: 100, step: 50, is_centred };
            let scaler = input.fit(&eeg, &[0, 1, 2, 3]).unwrap();
            let whole = EegInput::Windows { n_times: 400, step: 400, is_centred };
            let scaled = whole.cut(&eeg, Some(&scaler)).unwrap();
            for channel in 0..2 {
                let values: Vec<f64> = (0..4)
                    .flat_map(|clip| scaled.example(clip)[channel * 400..][..400].to_vec())
                    .map(f64::from)
                    .collect();
                let mean = values.iter().sum::<f64>() / 1600.0;
                let square = values.iter().map(|v| v * v).sum::<f64>() / 1600.0;
                assert!(mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-4, "{is_centred} {mean} {square}");
            }
            let first = scaled.example(1)[..400].iter().sum::<f32>() / 400.0;
            assert_eq!(first.abs() < 1e-5, is_centred, "{first}");
            let cut = input.cut(&eeg, Some(&scaler)).unwrap();
            assert_eq!((cut.len(), &cut.shape[..], cut.clips[7]), (28, &[2, 100][..], 1));
            assert_eq!(cut.example(8)[..100], scaled.example(1)[50..150]);
            let other = StandardScaler { mean: vec![0.0; 3], scale: vec![1.0; 3] };
            assert!(input.cut(&eeg, Some(&other)).is_err());
        }
        // Without a scaler each channel of each clip is a z-score.
        let alone = EegInput::Windows { n_times: 400, step: 400, is_centred: false }.cut(&eeg, None).unwrap();
        assert!(alone.example(2)[400..].iter().sum::<f32>().abs() < 1e-2);
    }
}
