//! `mindreel prepare spectrogram`: EEG to the spectrograms that NeuroVision's networks take.

use super::super::Shell;
use super::super::recipe::RecipeFlags;
use super::batch::{Batch, Eeg, Job, in_own_type};
use crate::error::Result;
use crate::signal::{Real, npy, stack::Stack};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
[..., channels, samples] becomes [..., channels, bins, frames] in float32, ln(1 + PSD): notches at 50 and 60 Hz, a
Butterworth band-pass of order 5 from 4 to 100 Hz, all forwards and backwards, then the power spectral density in
uV^2/Hz of frames of 250 ms every 125 ms (SciPy's spectrogram: periodic Tukey window, each frame less its mean).
At 512 Hz that is 65 bins, 4 Hz apart, and 4 frames for Alljoined's 334 samples.

--reproduce-original computes what NeuroVision published: 250 Hz is said of recordings at 512 Hz, so that its corners
lie at 2.048 times their names; numbers stay as stored (volts, so that values are about 1e-13); every channel is cut to
its last 334 samples, or padded in front with zeros.

Examples:
  mindreel prepare spectrogram --eeg epochs.npy --output spectrograms.npy
  mindreel prepare spectrogram --eeg EEG --output Spectrograms --low 0.5 --notch 60
  mindreel prepare spectrogram --eeg epochs.npy --output old.npy --reproduce-original

`mindreel prepare alljoined` makes a whole data set from parquet files; `mindreel prepare stats` follows.";

/// Spectrograms for NeuroVision
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    eeg: Eeg,

    /// File to write, or folder where --eeg is one
    #[arg(long, short, value_name = "FILE.npy|DIR")]
    output: PathBuf,

    #[command(flatten)]
    recipe: RecipeFlags,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    let plan = args.recipe.recipe()?.plan(args.recipe.rate_hz())?;
    let outputs = [("--output", args.output.as_path())];
    let batch = Batch { shell, stopped, label: "spectrogram", eeg: &args.eeg, outputs: &outputs };
    batch.run(|shape| plan.shape(shape), |job| in_own_type!(job, spectrogram(job, &args.recipe)))
}

fn spectrogram<T: Real>(job: &Job, recipe: &RecipeFlags) -> Result<()> {
    let eeg = Stack::<T>::read(&job.input, job.array, false)?;
    let (made, _) = recipe.spectrograms(&job.input, &eeg)?;
    npy::write(&job.outputs[0], &made.shape(), &made.data)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{going, shape, shell, two_files};
    use super::*;
    use crate::signal::spectrogram::Spectrograms;

    fn args(eeg: PathBuf, output: PathBuf) -> Args {
        Args { eeg: Eeg { eeg, array: None, force: false }, output, recipe: RecipeFlags::default() }
    }

    #[test]
    fn a_folder_becomes_spectrograms_in_both_forms() {
        let (folder, eeg) = two_files();
        let output = folder.path().join("out");
        run(&args(eeg.clone(), output.clone()), &shell(), &going()).unwrap();
        assert_eq!(shape(&output.join("a10.npy")), [2, 3, 65, 11]);
        // 10 Hz at 200 Hz is 25.6 Hz where 512 are said: bins 6 and 7 of 4 Hz; volts were told by their size.
        let made = Spectrograms::read(output.join("a2.npy"), None).unwrap();
        let bins: Vec<f32> = made.data[..65 * 11].chunks_exact(11).map(|frames| frames[5]).collect();
        let highest = (0..65).max_by(|&a, &b| bins[a].total_cmp(&bins[b])).unwrap();
        assert!((6..=7).contains(&highest) && bins[highest] > 0.5, "{highest}: {bins:?}");
        let mut old = args(eeg.join("a2.npy"), folder.path().join("old.npy"));
        old.recipe.reproduce_original = true;
        run(&old, &shell(), &going()).unwrap();
        let old = Spectrograms::read(&old.output, None).unwrap();
        assert_eq!(old.shape(), [2, 3, 65, 4]);
        assert!(old.data.iter().all(|&v| (0.0..1e-9).contains(&v)));
    }
}
