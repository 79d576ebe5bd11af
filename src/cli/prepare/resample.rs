//! `mindreel prepare resample`: another sample rate.

use super::super::Shell;
use super::batch::{Batch, Eeg, Job, in_own_type};
use crate::error::Result;
use crate::signal::resample::{factors, n_resampled, resample_poly};
use crate::signal::stack::{self, Stack};
use crate::signal::{Real, montage};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
A polyphase filter with SciPy's defaults (resample_poly): nothing is delayed, and what the new rate cannot hold is
filtered out. Zeros are assumed beyond both ends, so an amplifier's offset is best taken off first (prepare filter
--low 0.1). Resample whole recordings, before they are cut.

Examples:
  mindreel prepare resample --eeg raw.npy --output eeg.npy --sample-rate 1000
  mindreel prepare resample --eeg raw --output 200hz --sample-rate 512 --to 200";

/// Another sample rate
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    eeg: Eeg,

    /// File to write, or folder where --eeg is one
    #[arg(long, short, value_name = "FILE.npy|DIR")]
    output: PathBuf,

    /// Samples per second of the recording
    #[arg(long, visible_alias = "rate", value_name = "HZ")]
    sample_rate: f64,

    /// Samples per second to make
    #[arg(long, value_name = "HZ", default_value_t = montage::SAMPLE_RATE_HZ)]
    to: f64,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    let (up, down) = factors(args.sample_rate, args.to)?;
    let outputs = [("--output", args.output.as_path())];
    let settings = json!({ "sample_rate": args.sample_rate, "to": args.to });
    let batch = Batch { shell, stopped, label: "resample", eeg: &args.eeg, outputs: &outputs, settings };
    let shape = |shape: &[usize]| {
        let (leading, n_channels, n_samples) = stack::axes(shape)?;
        Ok([leading, &[n_channels, n_resampled(n_samples, up, down)]].concat())
    };
    batch.run(shape, |job| in_own_type!(job, resample(job, up, down)))
}

fn resample<T: Real>(job: &Job, up: usize, down: usize) -> Result<()> {
    let eeg = Stack::<T>::read(&job.input, job.array, false)?;
    let data = resample_poly(&eeg.data, eeg.n_samples, up, down)?;
    let n_samples = n_resampled(eeg.n_samples, up, down);
    Stack { n_samples, data, ..eeg }.write(&job.outputs[0])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{going, shape, shell, two_files};
    use super::*;

    fn args(eeg: PathBuf, output: PathBuf, sample_rate: f64, to: f64) -> Args {
        Args { eeg: Eeg { eeg, array: None, force: false }, output, sample_rate, to }
    }

    #[test]
    fn lengths_follow_the_rates() {
        let (folder, eeg) = two_files();
        let output = folder.path().join("out");
        run(&args(eeg.clone(), output.clone(), 512.0, 200.0), &shell(), &going()).unwrap();
        assert_eq!(shape(&output.join("a2.npy")), [2, 3, 313]);
        let error = run(&args(eeg, output, 0.0, 200.0), &shell(), &going()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
