//! Sliding windows inside a segment.           [channels, samples] -> [n, channels, window]
//!
//! The Seq2Seq model looks at 0.5 s every 0.25 s: `[62, 400]` -> `[7, 62, 100]` (EEG2Video,
//! `segment_sliding_window`). Windows never cross segments.

use super::segments::MAX_BYTES;
use crate::error::{Error, Result, bytes};
use std::iter::StepBy;
use std::ops::Range;

/// Window of the Seq2Seq model, in samples: 0.5 s.
pub const SEQ2SEQ_WINDOW: usize = 100;
/// Step of the Seq2Seq model, in samples: 0.25 s.
pub const SEQ2SEQ_STEP: usize = 50;

/// First samples of the windows that fit; none when the stretch is shorter than one.
pub fn starts(n_samples: usize, window: usize, step: usize) -> StepBy<Range<usize>> {
    let end = (n_samples + 1).saturating_sub(window);
    (0..end).step_by(step.max(1))
}

/// `[channels, samples]` -> `[n, channels, window]`, n = ⌊(samples − window) / step⌋ + 1; returns it with n.
/// The same as NumPy's `sliding_window_view(x, window, axis=1)[:, ::step]` with its first axes swapped.
///
/// Errors: [`Error::Setting`] when window or step is 0; [`Error::Shape`] when `data` is not whole channels
/// or shorter than a window.
pub fn sliding(data: &[f32], n_channels: usize, window: usize, step: usize) -> Result<(Vec<f32>, usize)> {
    if window == 0 || step == 0 {
        return Err(Error::setting(
            "window",
            format!("{window} samples every {step}, both must be at least 1"),
        ));
    }
    if n_channels == 0 || !data.len().is_multiple_of(n_channels) {
        let detail = format!("{} values are not [{n_channels} channels, samples]", data.len());
        return Err(Error::shape("windows", detail));
    }
    let n_samples = data.len() / n_channels;
    let starts = starts(n_samples, window, step);
    let n = starts.len();
    if n == 0 {
        return Err(Error::shape("windows", format!("{n_samples} samples, wanted at least {window}")));
    }
    within_memory((n as u64).saturating_mul((n_channels * window) as u64), 4)?;
    let mut out = Vec::with_capacity(n * n_channels * window);
    for start in starts {
        for channel in data.chunks_exact(n_samples) {
            out.extend_from_slice(&channel[start..start + window]);
        }
    }
    Ok((out, n))
}

/// Refuses so many values of `bytes` each where they are more than anyone means to make.
///
/// Errors: [`Error::Setting`].
pub(super) fn within_memory(n_values: u64, size: usize) -> Result<()> {
    let needed = n_values.saturating_mul(size as u64);
    match needed > MAX_BYTES {
        false => Ok(()),
        true => {
            let detail = format!(
                "windows would take {}, at most {}; let them overlap less",
                bytes(needed),
                bytes(MAX_BYTES)
            );
            Err(Error::setting("window", detail))
        }
    }
}

/// The Seq2Seq model's windows of a clip: `[62, 400]` -> `[7, 62, 100]`. Errors as [`sliding`].
pub fn seq2seq(data: &[f32], n_channels: usize) -> Result<(Vec<f32>, usize)> {
    sliding(data, n_channels, SEQ2SEQ_WINDOW, SEQ2SEQ_STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_gives_seven_windows() {
        let data: Vec<f32> = (0..62 * 400).map(|i| i as f32).collect();
        let (windows, n) = seq2seq(&data, 62).unwrap();
        assert_eq!((n, windows.len()), (7, 7 * 62 * 100));
        // Window 6, channel 61, its last sample is the clip's last.
        assert_eq!(windows[windows.len() - 1], (62 * 400 - 1) as f32);
        // Window 2, channel 3, sample 4 is sample 2 · 50 + 4 of that channel.
        assert_eq!(windows[(2 * 62 + 3) * 100 + 4], (3 * 400 + 104) as f32);
    }

    #[test]
    fn awkward_sizes_count_right() {
        for (n_samples, window, step, wanted) in [(7, 7, 3, 1), (7, 6, 1, 2), (10, 3, 4, 2), (1, 1, 1, 1)] {
            let data = vec![0.0; 2 * n_samples];
            assert_eq!(sliding(&data, 2, window, step).unwrap().1, wanted);
        }
        assert!(sliding(&[0.0; 6], 2, 4, 1).is_err());
        assert!(sliding(&[0.0; 6], 4, 1, 1).is_err());
        assert!(sliding(&[0.0; 6], 0, 1, 1).is_err());
        assert!(sliding(&[0.0; 6], 2, 0, 1).is_err());
        assert!(sliding(&[0.0; 6], 2, 1, 0).is_err());
        assert_eq!(starts(5, usize::MAX, 1).len(), 0);
    }
}
