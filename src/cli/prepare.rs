//! `mindreel prepare`: recordings, and what is made from them before a model sees any. One file per sub-command.

mod alljoined;
mod batch;
mod clips;
mod de_psd;
mod features;
mod filter;
mod meta;
mod noise;
mod reference;
mod resample;
mod sample;
mod segment;
mod simulate;
mod span;
mod spectrogram;
mod text_embeddings;
mod stats;
mod windows;

use super::{Shell, stop};
use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  mindreel prepare sample --output eeg.npy                                       simulated EEG, for a first try
  mindreel prepare simulate --output sim                                         a simulated SEED-DV
  mindreel prepare resample --eeg raw --output 200hz --sample-rate 1000 --to 200
  mindreel prepare filter --eeg 200hz --output clean --low 0.5 --high 75 --notch 50
  mindreel prepare segment --eeg clean --output clips                            SEED-DV's blocks into 2-s clips
  mindreel prepare features --eeg clips --output-de de --output-psd psd          DE and PSD in five bands
  mindreel prepare text-embeddings --data sim --output texts.safetensors --words 64   what semantic predicts
  mindreel prepare alljoined --data 05_125 --output dataset                      spectrograms of Alljoined's epochs
  mindreel prepare stats --spectrograms dataset --output dataset                 and their mean and deviation
  mindreel prepare captions --images coco_images --model blip2 --output dataset  what the pictures show, by BLIP-2

Recordings are NumPy arrays [..., channels, samples]. A folder stands for every .npy in it; files that are
finished already are skipped, so that a batch that was stopped goes on where it was.";

/// Make or prepare recordings
#[derive(clap::Args)]
#[command(arg_required_else_help = true, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Sample(sample::Args),
    Simulate(simulate::Args),
    Reference(reference::Args),
    Noise(noise::Args),
    Filter(filter::Args),
    Resample(resample::Args),
    Segment(segment::Args),
    Windows(windows::Args),
    DePsd(de_psd::Args),
    Features(features::Args),
    Clips(clips::Args),
    Spectrogram(spectrogram::Args),
    Alljoined(alljoined::Args),
    Stats(stats::Args),
    Meta(meta::Args),
    TextEmbeddings(text_embeddings::Args),
    Captions(Box<super::caption_images::Args>),
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    match &args.what {
        What::Sample(args) => sample::run(args, shell),
        What::Simulate(args) => simulate::run(args, shell, &*stop::watch(shell.quiet)?),
        What::Reference(args) => reference::run(args, shell, &*stop::watch(shell.quiet)?),
        What::Noise(args) => noise::run(args, shell, &*stop::watch(shell.quiet)?),
        What::Filter(args) => filter::run(args, shell, &*stop::watch(shell.quiet)?),
        What::Resample(args) => resample::run(args, shell, &*stop::watch(shell.quiet)?),
        What::Segment(args) => segment::run(args, shell, &*stop::watch(shell.quiet)?),
        What::Windows(args) => windows::run(args, shell, &*stop::watch(shell.quiet)?),
        What::DePsd(args) => de_psd::run(args, shell, &*stop::watch(shell.quiet)?),
        What::Features(args) => features::run(args, shell, &*stop::watch(shell.quiet)?),
        What::Clips(args) => clips::run(args, shell, &*stop::watch(shell.quiet)?),
        What::Spectrogram(args) => spectrogram::run(args, shell, &*stop::watch(shell.quiet)?),
        What::Alljoined(args) => alljoined::run(args, shell, &*stop::watch(shell.quiet)?),
        What::Stats(args) => stats::run(args, shell, &*stop::watch(shell.quiet)?),
        What::Meta(args) => meta::run(args, shell, &*stop::watch(shell.quiet)?),
        What::TextEmbeddings(args) => text_embeddings::run(args, shell),
        What::Captions(args) => super::caption_images::run(args, shell),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kernels, Shell};
    use crate::signal::npy;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::AtomicBool;

    /// A shell that says nothing.
    pub(super) fn shell() -> Shell {
        let (kernels, checked) = (Kernels::Auto, false);
        Shell { adapter: None, kernels, checked, quiet: true, json: false, check_finite: false }
    }

    /// What Ctrl-C would raise.
    pub(super) fn going() -> AtomicBool {
        AtomicBool::new(false)
    }

    /// A folder with `a2.npy` and `a10.npy`, each `[2, 3, 800]` of 10 µV at 10 Hz and a little of everything.
    pub(super) fn two_files() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let eeg = folder.path().join("eeg");
        for (name, seed) in [("a2.npy", 1usize), ("a10.npy", 2)] {
            let value = |i: usize| {
                let noise = (i * i * seed % 101) as f64 - 50.0;
                ((std::f64::consts::TAU * 10.0 * i as f64 / 200.0).sin() + 0.02 * noise) * 1e-5
            };
            let data: Vec<f32> = (0..2 * 3 * 800).map(|i| value(i) as f32).collect();
            npy::write(eeg.join(name), &[2, 3, 800], &data).unwrap();
        }
        (folder, eeg)
    }

    pub(super) fn shape(path: &Path) -> Vec<usize> {
        npy::list(path).unwrap()[0].shape.clone()
    }
}
