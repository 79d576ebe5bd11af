//! `mindreel prepare windows`: sliding windows of every stretch.

use super::super::Shell;
use super::batch::{Batch, Eeg, Job, in_own_type};
use super::span::Span;
use crate::error::{Error, Result};
use crate::signal::stack::{self, Stack};
use crate::signal::{Real, montage};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
[..., channels, samples] becomes [..., windows, channels, size]; windows never cross from one stretch into the
next. Sizes are time with its unit (500ms, 0.5s) or, without one, samples (100). The defaults are EEG2Video's
Seq2Seq windows: 0.5 s, overlapping by 0.25 s, 7 to a clip.

Examples:
  mindreel prepare windows --eeg Segmented --output Segmented_500ms_sw
  mindreel prepare windows --eeg eeg.npy --output 1s.npy --size 1s --overlap 0s
  mindreel prepare windows --eeg eeg.npy --output w.npy --size 100 --overlap 50";

/// Sliding windows
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    eeg: Eeg,

    /// File to write, or folder where --eeg is one
    #[arg(long, short, value_name = "FILE.npy|DIR")]
    output: PathBuf,

    /// Length of a window
    #[arg(long, value_name = "TIME|SAMPLES", default_value = "500ms")]
    size: Span,

    /// What a window shares with the next one, less than --size
    #[arg(long, value_name = "TIME|SAMPLES", default_value = "250ms")]
    overlap: Span,

    /// Samples per second of the recording
    #[arg(long, visible_alias = "rate", value_name = "HZ", default_value_t = montage::SAMPLE_RATE_HZ)]
    sample_rate: f64,

    /// Copy NaN and infinite samples, too, instead of refusing the file
    #[arg(long)]
    allow_bad: bool,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    let (window, step) = window_and_step(args.size, args.overlap, args.sample_rate)?;
    let outputs = [("--output", args.output.as_path())];
    let settings = json!({ "window": window, "step": step });
    let batch = Batch { shell, stopped, label: "windows", eeg: &args.eeg, outputs: &outputs, settings };
    batch.run(
        |shape| stack::windowed_shape(shape, window, step),
        |job| in_own_type!(job, windows(job, window, step, args.allow_bad)),
    )
}

/// In samples.
///
/// Errors: [`Error::Setting`] when the window is empty or the overlap does not leave a step.
pub(super) fn window_and_step(size: Span, overlap: Span, rate: f64) -> Result<(usize, usize)> {
    let (window, shared) = (size.samples("--size", rate)?, overlap.samples("--overlap", rate)?);
    if window == 0 {
        return Err(Error::setting("--size", "a window of no samples; give one or more"));
    }
    match window.checked_sub(shared) {
        Some(step @ 1..) => Ok((window, step)),
        _ => {
            let detail = format!("{overlap} ({shared} samples), wanted less than --size, {window} samples");
            Err(Error::setting("--overlap", detail))
        }
    }
}

fn windows<T: Real>(job: &Job, window: usize, step: usize, allows_bad: bool) -> Result<()> {
    Stack::<T>::read(&job.input, job.array, allows_bad)?.windows(window, step)?.write(&job.outputs[0])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{going, shape, shell, two_files};
    use super::*;

    fn args(eeg: PathBuf, output: PathBuf, size: &str, overlap: &str) -> Args {
        Args {
            eeg: Eeg { eeg, array: None, force: false },
            output,
            size: size.parse().unwrap(),
            overlap: overlap.parse().unwrap(),
            sample_rate: 200.0,
            allow_bad: false,
        }
    }

    #[test]
    fn windows_of_a_folder() {
        let (folder, eeg) = two_files();
        let output = folder.path().join("out");
        run(&args(eeg, output.clone(), "500ms", "250ms"), &shell(), &going()).unwrap();
        assert_eq!(shape(&output.join("a2.npy")), [2, 15, 3, 100]);
    }

    #[test]
    fn impossible_windows_are_refused() {
        let (folder, eeg) = two_files();
        for (size, overlap, code) in
            [("100", "100", 2), ("0", "0", 2), ("100", "200", 2), ("5s", "0", 3), ("333ms", "0", 2)]
        {
            let error = run(&args(eeg.clone(), folder.path().join("out"), size, overlap), &shell(), &going())
                .unwrap_err();
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }
}
