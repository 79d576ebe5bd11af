//! `mindreel prepare segment`: SEED-DV's blocks into clips.

use super::super::Shell;
use super::batch::{Batch, Eeg, Job, in_own_type};
use crate::error::Result;
use crate::signal::stack::{self, Stack};
use crate::signal::{Real, montage};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
Every block has 40 slots of 13 s: 3 s of cue, then five clips of 2 s. [7, 62, 104000] becomes
[7, 40, 5, 62, 400] (block, slot, clip, channel, sample), at 200 Hz. Numbers stay as they stand: nothing is
filtered, referenced or scaled.

Examples:
  mindreel prepare segment --eeg EEG/sub1.npy --output Segmented/sub1.npy
  mindreel prepare segment --eeg EEG --output Segmented            all subjects; finished ones are skipped";

/// SEED-DV's blocks into 2-s clips
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    eeg: Eeg,

    /// File to write, or folder where --eeg is one
    #[arg(long, short, value_name = "FILE.npy|DIR")]
    output: PathBuf,

    /// Samples per second of the recording; the protocol is cut at 200
    #[arg(long, visible_alias = "rate", value_name = "HZ", default_value_t = montage::SAMPLE_RATE_HZ)]
    sample_rate: f64,

    /// Copy NaN and infinite samples, too, instead of refusing the file
    #[arg(long)]
    allow_bad: bool,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    if args.sample_rate != montage::SAMPLE_RATE_HZ {
        let detail = format!(
            "{} Hz, clips are cut at {} Hz; resample first: mindreel prepare resample --to {1}",
            args.sample_rate,
            montage::SAMPLE_RATE_HZ
        );
        return Err(crate::error::Error::setting("--sample-rate", detail));
    }
    let outputs = [("--output", args.output.as_path())];
    let settings = json!({});
    let batch = Batch { shell, stopped, label: "segment", eeg: &args.eeg, outputs: &outputs, settings };
    batch.run(stack::segmented_shape, |job| in_own_type!(job, segment(job, args.allow_bad)))
}

fn segment<T: Real>(job: &Job, allows_bad: bool) -> Result<()> {
    Stack::<T>::read(&job.input, job.array, allows_bad)?.segmented()?.write(&job.outputs[0])
}
