//! Labelled examples: windows of clips, as they were recorded or as band features.

use crate::error::{Error, Result};
use crate::signal::features::BANDS;
use crate::signal::{Form, Segments, de_psd, windows};

/// What a model is shown of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Samples, `[channels, samples]`, each channel's mean over the window taken away: where a recording drifts, the
    /// level alone tells which minute a window is of, and in a block each class has its own minute.
    Raw,
    /// Differential entropy, `[channels, 5]`.
    De,
    /// Power spectral density, `[channels, 5]`.
    Psd,
    /// Samples, and behind them differential entropy, `[channels, samples + 5]`: for networks with a branch of each.
    RawDe,
    /// The same with power spectral density.
    RawPsd,
}

impl Input {
    /// All of them, with the names a user types.
    pub const ALL: [(&'static str, Input); 5] = [
        ("raw", Input::Raw),
        ("de", Input::De),
        ("psd", Input::Psd),
        ("raw+de", Input::RawDe),
        ("raw+psd", Input::RawPsd),
    ];

    /// The name a user types.
    pub fn name(self) -> &'static str {
        Input::ALL.iter().find(|(_, input)| *input == self).map_or("", |(name, _)| name)
    }

    /// Whether it holds samples.
    pub fn has_samples(self) -> bool {
        matches!(self, Input::Raw | Input::RawDe | Input::RawPsd)
    }

    /// Whether it holds features.
    pub fn has_features(self) -> bool {
        self != Input::Raw
    }
}

/// Examples of one subject, in the order of presentation.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    /// `[n, rows, cols]`: channels, and samples, bands or both.
    pub data: Vec<f32>,
    /// Channels.
    pub rows: usize,
    /// Samples and bands.
    pub cols: usize,
    /// How many of the columns are samples: the first ones.
    pub samples: usize,
    /// Class of each.
    pub labels: Vec<usize>,
    /// Clip each was cut from, counted over the recording.
    pub clips: Vec<usize>,
}

impl Examples {
    /// Windows of the clips that have a label, `window` samples long and `step` apart; `form` is that of the features.
    ///
    /// Errors: [`Error::Shape`] when no window fits a clip or the labels are not one for each; those of [`de_psd`].
    pub fn cut(
        clips: &Segments,
        labels: &[Option<usize>],
        input: Input,
        [window, step]: [usize; 2],
        form: Form,
    ) -> Result<Examples> {
        if labels.len() != clips.n {
            let detail = format!("{} labels for {} clips", labels.len(), clips.n);
            return Err(Error::shape("examples", detail));
        }
        let samples = if input.has_samples() { window } else { 0 };
        let bands = if input.has_features() { BANDS.len() } else { 0 };
        let mut examples = Examples {
            data: Vec::new(),
            rows: clips.n_channels,
            cols: samples + bands,
            samples,
            labels: Vec::new(),
            clips: Vec::new(),
        };
        for (clip, label) in labels.iter().enumerate() {
            let (Some(label), Some(data)) = (label, clips.segment(clip)) else { continue };
            let (cut, n) = windows::sliding(data, clips.n_channels, window, step)?;
            // Windows are rows of channels: one transform for all.
            let (rows, rate) = (n * clips.n_channels, clips.sample_rate_hz);
            let features = match input {
                Input::Raw => Vec::new(),
                Input::De | Input::RawDe => de_psd(&cut, rows, window, rate, form)?.0,
                Input::Psd | Input::RawPsd => de_psd(&cut, rows, window, rate, form)?.1,
            };
            for (row, channel) in cut.chunks_exact(window).enumerate() {
                if samples > 0 {
                    let mean = channel.iter().map(|&v| f64::from(v)).sum::<f64>() / window as f64;
                    examples.data.extend(channel.iter().map(|&v| (f64::from(v) - mean) as f32));
                }
                examples.data.extend(features[row * bands..][..bands].iter().map(|&v| v as f32));
            }
            examples.labels.extend(std::iter::repeat_n(*label, n));
            examples.clips.extend(std::iter::repeat_n(clip, n));
        }
        Ok(examples)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// One example, `[rows, cols]`.
    pub fn example(&self, at: usize) -> &[f32] {
        let size = self.rows * self.cols;
        &self.data[at * size..(at + 1) * size]
    }

    /// Those at `indices`, in that order.
    pub fn pick(&self, indices: &[usize]) -> Examples {
        Examples {
            data: indices.iter().flat_map(|&at| self.example(at)).copied().collect(),
            rows: self.rows,
            cols: self.cols,
            samples: self.samples,
            labels: indices.iter().map(|&at| self.labels[at]).collect(),
            clips: indices.iter().map(|&at| self.clips[at]).collect(),
        }
    }

    /// Those of several subjects behind each other; clips are counted on.
    ///
    /// Errors: [`Error::Shape`] when their shapes differ.
    pub fn join(parts: &[Examples], clips_each: usize) -> Result<Examples> {
        let Some(first) = parts.first() else { return Err(Error::shape("examples", "none were given")) };
        let mut joined = first.clone();
        for (nth, part) in parts.iter().enumerate().skip(1) {
            if (part.rows, part.cols, part.samples) != (first.rows, first.cols, first.samples) {
                let detail = format!(
                    "subjects differ: [{}, {}] and [{}, {}]",
                    first.rows, first.cols, part.rows, part.cols
                );
                return Err(Error::shape("examples", detail));
            }
            joined.data.extend_from_slice(&part.data);
            joined.labels.extend_from_slice(&part.labels);
            joined.clips.extend(part.clips.iter().map(|clip| clip + nth * clips_each));
        }
        Ok(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{Layout, Options, Recordings, Units};

    fn clips(n: usize) -> Segments {
        let data: Vec<f32> = (0..n * 2 * 400).map(|i| ((i * 37 % 101) as f32 - 50.0) * 1e-6).collect();
        let findings = vec![crate::signal::checks::inspect(&data[..800], 400); n];
        let options = Options { units: Units::Volts, ..Options::seed_dv() };
        Recordings {
            source: "test".into(),
            data,
            n,
            n_channels: 2,
            n_samples: 400,
            sample_rate_hz: options.sample_rate_hz,
            channel_names: vec!["A".into(), "B".into()],
            layout: Layout::Clips { slots: n, clips: 1 },
            findings,
        }
        .segments(crate::signal::Cut::CLIPS)
        .unwrap()
    }

    #[test]
    fn windows_keep_their_label_and_clip() {
        let clips = clips(3);
        let labels = [Some(4), None, Some(1)];
        let raw = Examples::cut(&clips, &labels, Input::Raw, [200, 100], Form::Corrected).unwrap();
        assert_eq!((raw.len(), raw.rows, raw.cols), (6, 2, 200));
        assert_eq!(raw.labels, [4, 4, 4, 1, 1, 1]);
        assert_eq!(raw.clips, [0, 0, 0, 2, 2, 2]);
        let (got, from) = (&raw.example(1)[..200], &clips.segment(0).unwrap()[100..300]);
        let level = from[0] - got[0];
        assert!(got.iter().zip(from).all(|(got, v)| (v - got - level).abs() < 1e-11));
        assert!(got.iter().sum::<f32>().abs() < 1e-9);
        let de = Examples::cut(&clips, &labels, Input::De, [200, 200], Form::Corrected).unwrap();
        assert_eq!((de.len(), de.rows, de.cols), (4, 2, 5));
        let (want, _) = de_psd(raw.example(2), 2, 200, 200.0, Form::Corrected).unwrap();
        assert_eq!(de.example(1), want.iter().map(|&v| v as f32).collect::<Vec<_>>());
        let both = Examples::cut(&clips, &labels, Input::RawDe, [200, 200], Form::Corrected).unwrap();
        assert_eq!((both.len(), both.rows, both.cols, both.samples), (4, 2, 205, 200));
        for at in 0..4 {
            for row in 0..2 {
                let (both, de) = (&both.example(at)[row * 205..][..205], &de.example(at)[row * 5..][..5]);
                assert_eq!(both[200..], *de);
                let nth = [0, 2, 3, 5][at]; // raw windows step by half
                assert_eq!(both[..200], raw.example(nth)[row * 200..][..200]);
            }
        }
        assert_eq!(raw.pick(&[5, 0]).labels, [1, 4]);
        let joined = Examples::join(&[raw.clone(), raw], 3).unwrap();
        assert_eq!((joined.len(), joined.clips[6], joined.clips[11]), (12, 3, 5));
        assert!(Examples::cut(&clips, &labels[..2], Input::Raw, [200, 100], Form::Corrected).is_err());
    }
}
