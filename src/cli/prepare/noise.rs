//! `mindreel prepare noise`: noise in the place of EEG.

use super::super::Shell;
use super::batch::{Batch, Eeg, Job, in_own_type};
use crate::error::Result;
use crate::signal::{Real, noise, stack, stack::Stack};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
Every channel becomes white Gaussian noise of its own mean and deviation. A decoder that scores on it what it scores on
the recording decodes nothing.

Examples:
  mindreel prepare noise --eeg eeg.npy --output noise.npy
  mindreel prepare noise --eeg EEG --output Noise --seed 1";

/// Noise in the place of EEG, channel by channel: a control
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    eeg: Eeg,

    /// File to write, or folder where --eeg is one
    #[arg(long, short, value_name = "FILE.npy|DIR")]
    output: PathBuf,

    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    let outputs = [("--output", args.output.as_path())];
    let settings = json!({ "seed": args.seed });
    let batch = Batch { shell, stopped, label: "noise", eeg: &args.eeg, outputs: &outputs, settings };
    let shape = |shape: &[usize]| stack::axes(shape).map(|_| shape.to_vec());
    batch.run(shape, |job| in_own_type!(job, noisy(job, args.seed)))
}

fn noisy<T: Real>(job: &Job, seed: u64) -> Result<()> {
    let mut eeg = Stack::<T>::read(&job.input, job.array, false)?;
    noise::replace(&mut eeg.data, eeg.n_samples, seed)?;
    eeg.write(&job.outputs[0])
}
