//! `mindreel prepare sample`: a few seconds of simulated EEG.

use super::super::Shell;
use crate::error::Result;
use crate::files;
use crate::signal::sample::{EPOCH, sample_epochs};
use crate::signal::{npy, sample_recording};
use serde_json::json;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  mindreel prepare sample --output eeg.npy              8 seconds: four clips of 2 seconds
  mindreel prepare sample --output long.npy --seed 7 --seconds 600

The file holds [62, samples] in volts at 200 Hz, channels in SEED-DV's order, as `mindreel video`
takes it. The same seed gives the same bytes on every machine, and a longer recording begins with
the shorter one. It is nobody's brain: 1/f noise and an alpha rhythm. Nothing can be decoded from it.";

/// A recording of simulated EEG, for a first try without a data set
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// File to write
    #[arg(long, short, value_name = "FILE.npy")]
    output: PathBuf,

    /// Seed of the simulation
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Length in seconds, at most 7200
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,

    /// So many epochs of 64 channels at 512 Hz in its place, as Alljoined has them, for `caption` and `reconstruct`
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    epochs: Option<usize>,

    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let path = args.output.display();
    super::batch::refuse_other_than_npy("--output", &args.output)?;
    files::refuse_existing(&args.output, args.force)?;
    if let Some(n) = args.epochs {
        return epochs(args, n, shell);
    }
    let eeg = sample_recording(args.seed, args.seconds)?;
    npy::write(&args.output, &[eeg.n_channels, eeg.n_samples], &eeg.data)?;
    let (seconds, rate) = (eeg.duration_s(), eeg.sample_rate_hz);
    shell.print(
        &format!(
            "{path}: simulated EEG, {} channels, {seconds} s at {rate} Hz, volts, seed {}",
            eeg.n_channels, args.seed
        ),
        &json!({
            "output": args.output.display().to_string(),
            "seed": args.seed,
            "shape": [eeg.n_channels, eeg.n_samples],
            "seconds": seconds,
            "sample_rate_hz": rate,
            "units": "V",
        }),
    )
}

/// Epochs in the place of a recording.
fn epochs(args: &Args, n: usize, shell: &Shell) -> Result<()> {
    let data = sample_epochs(args.seed, n)?;
    let ([n_channels, n_samples], rate) = EPOCH;
    npy::write(&args.output, &[n, n_channels, n_samples], &data)?;
    let (path, seed) = (args.output.display(), args.seed);
    shell.print(
        &format!("{path}: {n} simulated epochs of {n_channels} channels at {rate} Hz, volts, seed {seed}"),
        &json!({
            "output": path.to_string(),
            "seed": seed,
            "shape": [n, n_channels, n_samples],
            "sample_rate_hz": rate,
            "units": "V",
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::shell;
    use super::*;
    use crate::signal::{Cut, Options, Recordings};

    fn args(output: PathBuf, force: bool) -> Args {
        Args { output, seed: 3, seconds: 8.0, epochs: None, force }
    }

    #[test]
    fn what_is_written_is_what_video_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eeg.npy");
        run(&args(path.clone(), false), &shell()).unwrap();
        let read = Recordings::load(&path, &Options::seed_dv()).unwrap();
        assert_eq!(read.data, sample_recording(3, 8.0).unwrap().data);
        assert_eq!(read.segments(Cut::CLIPS).unwrap().n, 4);
    }

    #[test]
    fn a_file_that_is_there_stays_without_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eeg.npy");
        std::fs::write(&path, "mine").unwrap();
        let error = run(&args(path.clone(), false), &shell()).unwrap_err();
        assert_eq!((error.exit_code(), std::fs::read(&path).unwrap()), (5, b"mine".to_vec()));
        run(&args(path.clone(), true), &shell()).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"\x93NUMPY"));
        let error = run(&args(folder.path().join("eeg.edf"), false), &shell()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
