//! Clips: stretches of equal length cut from recordings, each knowing where it came from.
//!
//! ```text
//! continuous [channels, T]      windows of 2 s, one after the other (or by another stride)
//! SEED-DV block [62, 104000]    40 slots of 2600 samples: 600 of cue, then five clips of 400
//! SEED-DV clips [7, 40, 5, …]   as they are
//! ```
//!
//! Protocol: Liu et al., "EEG2Video", NeurIPS 2024, `segment_raw_signals_200Hz`.

use super::checks::{self, Findings};
use super::montage::SAMPLE_RATE_HZ;
use super::recording::{Layout, Recordings};
use crate::error::{Error, Result, bytes};
use std::fmt;

/// Slots (concepts) in a SEED-DV block.
pub const SLOTS: usize = 40;
/// Clips in a slot.
pub const CLIPS: usize = 5;
/// Samples of cue at the head of a slot: 3 s.
pub const CUE_SAMPLES: usize = 600;
/// Samples of a clip: 2 s.
pub const CLIP_SAMPLES: usize = 400;
/// Samples of a slot: 13 s.
pub const SLOT_SAMPLES: usize = CUE_SAMPLES + CLIPS * CLIP_SAMPLES;
/// Most bytes cut at once; a stride of one sample multiplies a recording by four hundred.
pub(super) const MAX_BYTES: u64 = 8 << 30;

/// What to do about bad samples; ends the error that tells of them.
pub const REPAIR: &str = "repair the channels";

/// First sample of a clip in its block. Slots and clips are counted from 0.
pub fn clip_start(slot: usize, clip: usize) -> usize {
    slot * SLOT_SAMPLES + CUE_SAMPLES + clip * CLIP_SAMPLES
}

/// How continuous recordings are cut, and what is put up with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Length of a segment in seconds.
    pub window_s: f64,
    /// From the start of one to the start of the next, in seconds.
    pub stride_s: f64,
    /// Keep segments with bad samples: gaps are bridged by straight lines, the segments stay marked.
    pub allows_bad: bool,
}

impl Cut {
    /// Clips of 2 s end to end, bad samples refused: what EEG2Video decodes.
    pub const CLIPS: Cut = Cut { window_s: 2.0, stride_s: 2.0, allows_bad: false };
}

/// Where a segment came from; everything counts from 0, as in the data set's arrays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin {
    /// A stretch of a continuous recording.
    Span {
        /// Which recording of the file.
        recording: usize,
        /// Start in seconds.
        start_s: f64,
        /// End in seconds.
        end_s: f64,
    },
    /// A clip of SEED-DV's protocol.
    Clip {
        /// Block, 0 to 6.
        block: usize,
        /// Place in the block's order of concepts, 0 to 39.
        slot: usize,
        /// Clip of the slot, 0 to 4.
        clip: usize,
    },
}

impl fmt::Display for Origin {
    /// `recording 3, 4.0–6.0 s` or `block 6, slot 12, clip 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Origin::Span { recording, start_s, end_s } => {
                // One decimal where it says everything, three where it would not.
                let fine = [start_s, end_s].iter().any(|s| (s * 10.0 - (s * 10.0).round()).abs() > 1e-6);
                let digits = if fine { 3 } else { 1 };
                write!(f, "recording {recording}, {start_s:.digits$}–{end_s:.digits$} s")
            }
            Origin::Clip { block, slot, clip } => write!(f, "block {block}, slot {slot}, clip {clip}"),
        }
    }
}

/// Clips of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Segments {
    /// `[n, channels, samples]`, volts.
    pub data: Vec<f32>,
    /// Segments.
    pub n: usize,
    /// Channels of each.
    pub n_channels: usize,
    /// Samples per channel of each.
    pub n_samples: usize,
    /// Samples per second.
    pub sample_rate_hz: f64,
    /// One name per channel.
    pub channel_names: Vec<String>,
    /// Where each came from.
    pub origins: Vec<Origin>,
    /// What is wrong with each; clean unless bad samples were allowed.
    pub findings: Vec<Findings>,
}

impl Segments {
    /// `[channels, samples]` of one segment, volts; `None` beyond the last.
    pub fn segment(&self, idx: usize) -> Option<&[f32]> {
        let size = self.n_channels * self.n_samples;
        self.data.get(idx.checked_mul(size)?..(idx + 1).checked_mul(size)?)
    }

    /// The segments at `indices`, in that order. Errors: [`Error::Setting`] for one beyond the last.
    pub fn pick(&self, indices: &[usize]) -> Result<Segments> {
        let mut picked = Segments {
            data: Vec::with_capacity(indices.len() * self.n_channels * self.n_samples),
            n: indices.len(),
            channel_names: self.channel_names.clone(),
            origins: Vec::new(),
            findings: Vec::new(),
            ..*self
        };
        for &idx in indices {
            let (Some(segment), Some(origin), Some(findings)) =
                (self.segment(idx), self.origins.get(idx), self.findings.get(idx))
            else {
                return Err(Error::setting("segment", format!("{idx} is beyond the last, {}", self.n - 1)));
            };
            picked.data.extend_from_slice(segment);
            picked.origins.push(*origin);
            picked.findings.push(findings.clone());
        }
        Ok(picked)
    }
}

/// Recording, first sample, origin.
type Place = (usize, usize, Origin);

impl Recordings {
    /// Cuts the recordings into segments: continuous ones by `cut`, SEED-DV's by its protocol, whose clips
    /// are 2 s whatever `cut` says.
    ///
    /// Errors: [`Error::Setting`] for a window or stride of no samples; [`Error::Format`] when a recording is
    /// shorter than one window, a block is not at 200 Hz, more than 5 % of a recording's samples are bad, and
    /// when segments hold bad samples that `cut` does not allow.
    pub fn segments(&self, cut: Cut) -> Result<Segments> {
        self.refuse_ruined()?;
        let (n_samples, places) = match self.layout {
            Layout::Continuous => self.windows(cut)?,
            Layout::Blocks => self.clips_of_blocks()?,
            Layout::Clips { slots, clips } => {
                let origin = |i: usize| Origin::Clip {
                    block: i / clips / slots,
                    slot: i / clips % slots,
                    clip: i % clips,
                };
                (self.n_samples, (0..self.n).map(|i| (i, 0, origin(i))).collect())
            }
        };
        let size = self.n_channels as u64 * n_samples as u64;
        let needed = (places.len() as u64).saturating_mul(size).saturating_mul(4);
        if needed > MAX_BYTES {
            let detail = format!(
                "{} segments would take {}, at most {}; take a longer stride",
                places.len(),
                bytes(needed),
                bytes(MAX_BYTES)
            );
            return Err(Error::setting("--stride", detail));
        }
        let mut data = Vec::with_capacity(places.len() * self.n_channels * n_samples);
        for &(recording, start, _) in &places {
            for channel in 0..self.n_channels {
                let at = (recording * self.n_channels + channel) * self.n_samples + start;
                data.extend_from_slice(&self.data[at..at + n_samples]);
            }
        }
        let size = self.n_channels * n_samples;
        let mut segments = Segments {
            findings: data.chunks_exact(size).map(|one| checks::inspect(one, n_samples)).collect(),
            data,
            n: places.len(),
            n_channels: self.n_channels,
            n_samples,
            sample_rate_hz: self.sample_rate_hz,
            channel_names: self.channel_names.clone(),
            origins: places.into_iter().map(|(_, _, origin)| origin).collect(),
        };
        if !cut.allows_bad {
            self.refuse_bad(&segments)?;
        }
        // Only what is marked is touched, so that clean segments keep their bits.
        for (one, findings) in segments.data.chunks_exact_mut(size).zip(&segments.findings) {
            for finding in &findings.nonfinite {
                checks::bridge(&mut one[finding.channel_idx * n_samples..][..n_samples]);
            }
        }
        Ok(segments)
    }

    /// Length and places of windows over continuous recordings.
    fn windows(&self, cut: Cut) -> Result<(usize, Vec<Place>)> {
        let samples = |name: &str, seconds: f64| {
            let n = (seconds * self.sample_rate_hz).round();
            if n.is_finite() && (1.0..1e9).contains(&n) {
                return Ok(n as usize);
            }
            let detail = format!("{seconds} s at {} Hz is not one sample or more", self.sample_rate_hz);
            Err(Error::setting(name, detail))
        };
        let (window, stride) = (samples("--window", cut.window_s)?, samples("--stride", cut.stride_s)?);
        let starts = super::windows::starts(self.n_samples, window, stride);
        if starts.len() == 0 {
            let detail = format!(
                "{:.3} s long ({} samples), wanted at least one window of {} s ({window} samples)",
                self.duration_s(),
                self.n_samples,
                cut.window_s
            );
            return Err(Error::format(&self.source, detail));
        }
        let seconds = |sample: usize| sample as f64 / self.sample_rate_hz;
        let places = (0..self.n).flat_map(|recording| {
            starts.clone().map(move |start| {
                let (start_s, end_s) = (seconds(start), seconds(start + window));
                (recording, start, Origin::Span { recording, start_s, end_s })
            })
        });
        Ok((window, places.collect()))
    }

    /// The same for SEED-DV blocks.
    fn clips_of_blocks(&self) -> Result<(usize, Vec<Place>)> {
        if self.sample_rate_hz != SAMPLE_RATE_HZ || self.n_samples < SLOTS * SLOT_SAMPLES {
            let detail = format!(
                "{} samples at {} Hz are not a block of SEED-DV, wanted {} at {SAMPLE_RATE_HZ} Hz",
                self.n_samples,
                self.sample_rate_hz,
                SLOTS * SLOT_SAMPLES
            );
            return Err(Error::format(&self.source, detail));
        }
        let clips = |block| {
            (0..SLOTS * CLIPS).map(move |i| {
                let (slot, clip) = (i / CLIPS, i % CLIPS);
                (block, clip_start(slot, clip), Origin::Clip { block, slot, clip })
            })
        };
        Ok((CLIP_SAMPLES, (0..self.n).flat_map(clips).collect()))
    }

    fn refuse_bad(&self, segments: &Segments) -> Result<()> {
        let bad: Vec<usize> = (0..segments.n).filter(|&i| !segments.findings[i].is_clean()).collect();
        let Some(&first) = bad.first() else { return Ok(()) };
        let detail = format!(
            "{} of {} segments hold bad samples, first {} ({}); {REPAIR}",
            bad.len(),
            segments.n,
            segments.origins[first],
            segments.findings[first].describe(&self.channel_names)
        );
        Err(Error::format(&self.source, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::super::recording::BLOCK_SAMPLES;
    use super::super::{Recording, sample_recording};
    use super::*;

    /// One channel whose sample is its own index.
    fn ramp(n: usize) -> Recordings {
        Recording::new((0..n).map(|i| i as f32).collect(), 200.0, vec!["CZ".into()]).unwrap().into()
    }

    #[test]
    fn windows_lie_end_to_end_and_are_labelled() {
        let segments = ramp(1399).segments(Cut::CLIPS).unwrap();
        assert_eq!((segments.n, segments.n_samples), (3, 400));
        assert_eq!(segments.segment(2).unwrap()[0], 800.0);
        assert!(segments.segment(3).is_none() && segments.segment(usize::MAX).is_none());
        assert_eq!(segments.origins[2].to_string(), "recording 0, 4.0–6.0 s");
        let closer = ramp(1399).segments(Cut { stride_s: 0.125, ..Cut::CLIPS }).unwrap();
        assert_eq!(closer.n, (1399 - 400) / 25 + 1);
        assert_eq!(closer.origins[1].to_string(), "recording 0, 0.125–2.125 s");
        let picked = closer.pick(&[1, 0]).unwrap();
        assert_eq!((picked.n, picked.segment(0).unwrap()[0]), (2, 25.0));
        assert!(closer.pick(&[closer.n]).is_err());
    }

    #[test]
    fn blocks_follow_the_protocol() {
        assert_eq!(SLOTS * SLOT_SAMPLES, BLOCK_SAMPLES);
        assert_eq!((clip_start(0, 0), clip_start(12, 3), clip_start(39, 4)), (600, 33_000, 103_600));
        let mut blocks = ramp(2 * BLOCK_SAMPLES);
        (blocks.n, blocks.n_samples, blocks.layout) = (2, BLOCK_SAMPLES, Layout::Blocks);
        let segments = blocks.segments(Cut::CLIPS).unwrap();
        assert_eq!((segments.n, segments.n_samples), (400, 400));
        assert_eq!(segments.segment(263).unwrap()[0], (BLOCK_SAMPLES + 33_000) as f32);
        assert_eq!(segments.origins[263].to_string(), "block 1, slot 12, clip 3");
        blocks.sample_rate_hz = 1000.0;
        assert!(blocks.segments(Cut::CLIPS).unwrap_err().to_string().contains("not a block of SEED-DV"));
    }

    #[test]
    fn clips_keep_their_places() {
        let mut clips = ramp(2 * 3 * 5 * 4);
        (clips.n, clips.n_samples, clips.layout) = (30, 4, Layout::Clips { slots: 3, clips: 5 });
        let segments = clips.segments(Cut::CLIPS).unwrap();
        assert_eq!((segments.n, segments.n_samples), (30, 4));
        assert_eq!(segments.origins[29], Origin::Clip { block: 1, slot: 2, clip: 4 });
        assert_eq!(segments.data, clips.data);
    }

    #[test]
    fn bad_segments_are_refused_or_bridged_and_clean_ones_keep_their_bits() {
        let mut recording = sample_recording(1, 6.0).unwrap();
        let clean = Recordings::from(recording.clone()).segments(Cut::CLIPS).unwrap();
        let at = 59 * recording.n_samples + 450;
        recording.data[at..at + 10].fill(f32::NAN);
        let recordings = Recordings::from(recording);
        let refused = recordings.segments(Cut::CLIPS).unwrap_err().to_string();
        let wanted = "1 of 3 segments hold bad samples, first recording 0, 2.0–4.0 s (10 samples are NaN or \
                      infinite, first in OZ at sample 50)";
        assert!(refused.contains(wanted), "{refused}");
        let kept = recordings.segments(Cut { allows_bad: true, ..Cut::CLIPS }).unwrap();
        assert_eq!(kept.findings.iter().filter(|f| !f.is_clean()).count(), 1);
        assert!(kept.data.iter().all(|v| v.is_finite()));
        assert_eq!(kept.segment(0), clean.segment(0));
        assert_eq!(kept.segment(2), clean.segment(2));
    }

    #[test]
    fn impossible_cuts_are_refused() {
        assert!(ramp(399).segments(Cut::CLIPS).unwrap_err().to_string().contains("1.995 s long"));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.001] {
            assert!(ramp(800).segments(Cut { stride_s: seconds, ..Cut::CLIPS }).is_err());
            assert!(ramp(800).segments(Cut { window_s: seconds, ..Cut::CLIPS }).is_err());
        }
        let dense = Cut { window_s: 500.0, stride_s: 0.005, allows_bad: true };
        assert!(ramp(4_000_000).segments(dense).unwrap_err().to_string().contains("longer stride"));
    }
}
