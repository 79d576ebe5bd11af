//! `mindreel prepare stats`: mean and standard deviation of every channel over spectrograms.

use super::super::progress::Progress;
use super::super::{Shell, stop};
use super::batch;
use crate::data::channel_stats::{self, STATS};
use crate::data::pairs::{METADATA, Pairs, Use};
use crate::error::{Error, Result};
use crate::files;
use crate::signal::channel_stats::Moments;
use crate::signal::spectrogram::Spectrograms;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
Mean and population standard deviation of every channel, over all spectrograms, bins and frames, in float64: NumPy's
x.mean((0, 2, 3)) and x.std((0, 2, 3)). A data set (a folder with metadata.csv) is taken for its training part alone.
The output folder gets stats.safetensors (mean, std), mean.npy and std.npy; with --reproduce-original spec_mean.pt and
spec_std.pt in float32 as well.

Examples:
  mindreel prepare stats --spectrograms dataset --output dataset
  mindreel prepare stats --spectrograms spectrograms.npy --output stats";

/// Mean and deviation of every channel of spectrograms
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Data set with metadata.csv, folder of .npy and .pt, or file: [..., channels, bins, frames]
    #[arg(long, value_name = "DIR|FILE")]
    spectrograms: PathBuf,

    /// Folder for stats.safetensors, mean.npy and std.npy
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// Wanted number of channels; other spectrograms are refused
    #[arg(long, value_name = "N")]
    channels: Option<usize>,

    /// Also the original's spec_mean.pt and spec_std.pt
    #[arg(long)]
    reproduce_original: bool,

    /// Replace statistics that are there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    files::refuse_existing(&args.output.join(STATS), args.force)?;
    let sources = sources(&args.spectrograms)?;
    let mut progress = Progress::new(shell.quiet, "statistics", sources.len() as u64);
    let (mut moments, mut n, mut first) = (Moments::default(), 0, None);
    for (idx, path) in sources.iter().enumerate() {
        stop::check(stopped, "nothing was written")?;
        let spectrograms = Spectrograms::read(path, None)?;
        let n_channels = spectrograms.n_channels;
        let wanted = args.channels.or(first);
        if wanted.is_some_and(|wanted| wanted != n_channels) {
            let detail = format!(
                "has spectrograms of {n_channels} channels, {} {}",
                if args.channels.is_some() { "--channels says" } else { "those before have" },
                wanted.unwrap_or_default()
            );
            return Err(Error::format(path, detail));
        }
        first = Some(n_channels);
        moments.add(&spectrograms)?;
        n += spectrograms.n();
        progress.set(idx as u64 + 1);
    }
    progress.finish();
    let stats = moments.stats()?;
    channel_stats::write(&args.output, &stats, args.reproduce_original)?;
    let flat: Vec<usize> = (0..stats.n_channels()).filter(|&channel| stats.std[channel] == 0.0).collect();
    if !flat.is_empty() {
        shell.note(&format!("warning: channels {flat:?} never change"));
    }
    let range = |values: &[f64]| {
        let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{lowest:.4e} to {highest:.4e}")
    };
    let output = args.output.join(STATS).display().to_string();
    let text = format!(
        "{output}: {} channels over {n} spectrograms, mean {}, std {}",
        stats.n_channels(),
        range(&stats.mean),
        range(&stats.std)
    );
    let json = json!({
        "output": output, "spectrograms": n, "values_per_channel": moments.n_values(), "mean": stats.mean, "std": stats.std,
    });
    shell.print(&text, &json)
}

/// The files that are meant.
fn sources(path: &Path) -> Result<Vec<PathBuf>> {
    let is_table = path.file_name().is_some_and(|name| name == METADATA);
    if is_table || path.join(METADATA).is_file() {
        let set = Pairs::open(path)?;
        set.check_files(false)?;
        let train = set.of(Use::Train);
        if train.is_empty() {
            return Err(Error::format(path, "has no rows of the split train"));
        }
        return Ok(train.into_iter().map(|pair| set.root.join(&pair.spectrogram)).collect());
    }
    if path.is_dir() { batch::files_in(path, &["npy", "pt"]) } else { Ok(vec![path.to_path_buf()]) }
}
