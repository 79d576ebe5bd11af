//! `mindreel prepare spectrogram`: EEG to the spectrograms that NeuroVision's networks take.

use super::super::progress::Progress;
use super::super::recipe::RecipeFlags;
use super::super::{Shell, stop};
use super::batch::{self, Batch, Eeg, Job, in_own_type};
use crate::data::alljoined::Alljoined;
use crate::data::mindbigdata;
use crate::error::{Error, Result};
use crate::files;
use crate::signal::{Real, npy, stack::Stack};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
[..., channels, samples] becomes [..., channels, bins, frames] in float32, ln(1 + PSD): notches at 50 and 60 Hz, a
Butterworth band-pass of order 5 from 4 to 100 Hz, all forwards and backwards, then the power spectral density in
uV^2/Hz of frames of 250 ms every 125 ms (SciPy's spectrogram: periodic Tukey window, each frame less its mean).
At 512 Hz that is 65 bins, 4 Hz apart, and 4 frames for Alljoined's 334 samples.

--reproduce-original computes what NeuroVision published: 250 Hz is said of recordings at 512 Hz, so that its corners
lie at 2.048 times their names; numbers stay as stored (volts, so that values are about 1e-13); every channel is cut to
its last 334 samples, or padded in front with zeros.

Besides .npy, --eeg takes Alljoined's parquet (a file, or the folder of all: one array of all rows) and MindBigData's
CSV (128 Hz, channels in microvolts: no corner may reach 64 Hz).

Examples:
  mindreel prepare spectrogram --eeg epochs.npy --output spectrograms.npy
  mindreel prepare spectrogram --eeg test-00000-of-00001.parquet --output test.npy
  mindreel prepare spectrogram --eeg Insight --output Spectrograms --high 60 --window-s 0.5 --hop-s 0.25
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
    match kind(&args.eeg.eeg)? {
        Kind::Parquet => parquet(args, shell, stopped),
        Kind::Csv(files) => csv(args, &files, shell, stopped),
        Kind::Arrays => {
            let plan = args.recipe.recipe()?.plan(args.recipe.rate_hz())?;
            let outputs = [("--output", args.output.as_path())];
            let settings = args.recipe.settings()?;
            let eeg = &args.eeg;
            let batch = Batch { shell, stopped, label: "spectrogram", eeg, outputs: &outputs, settings };
            batch.run(|shape| plan.shape(shape), |job| in_own_type!(job, spectrogram(job, &args.recipe)))
        }
    }
}

/// What `--eeg` is.
enum Kind {
    /// `.npy`, `.npz`, or a folder of them.
    Arrays,
    /// Alljoined: a file, or a folder of them.
    Parquet,
    /// MindBigData: files of one picture each.
    Csv(Vec<PathBuf>),
}

fn kind(eeg: &Path) -> Result<Kind> {
    let ends = |path: &Path, wanted: &str| {
        path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(wanted))
    };
    if !eeg.is_dir() {
        return Ok(match eeg {
            eeg if ends(eeg, "parquet") => Kind::Parquet,
            eeg if ends(eeg, "csv") => Kind::Csv(vec![eeg.to_path_buf()]),
            _ => Kind::Arrays,
        });
    }
    let found = batch::files_in(eeg, &["npy", "parquet", "csv"])?;
    let all = |ending| found.iter().all(|path| ends(path, ending));
    match () {
        () if all("npy") => Ok(Kind::Arrays),
        () if all("parquet") => Ok(Kind::Parquet),
        () if all("csv") => Ok(Kind::Csv(found)),
        () => Err(Error::format(
            eeg,
            "holds recordings of several kinds; give a folder with one of .npy, .parquet, .csv",
        )),
    }
}

fn spectrogram<T: Real>(job: &Job, recipe: &RecipeFlags) -> Result<()> {
    let eeg = Stack::<T>::read(&job.input, job.array, false)?;
    let (made, _) = recipe.spectrograms(&job.input, &eeg)?;
    npy::write(&job.outputs[0], &made.shape(), &made.data)
}

/// All rows into one array, a few in memory at a time.
fn parquet(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    batch::refuse_other_than_npy("--output", &args.output)?;
    files::refuse_existing(&args.output, args.eeg.force)?;
    let path = &args.eeg.eeg;
    let plan = args.recipe.recipe()?.plan(args.recipe.rate_hz())?;
    let rows = Alljoined::open(path)?;
    let wrong = |detail: String| Error::format(path, detail);
    let one = plan.shape(&rows.first()?.shape()).map_err(wrong)?;
    let shape = [&[rows.len()], &one[..]].concat();
    let mut progress = Progress::new(shell.quiet, "spectrogram", rows.len() as u64);
    npy::write_parts(&args.output, &shape, |put| {
        rows.each(
            |_| true,
            |file, row, epoch| {
                stop::check(stopped, "nothing was written")?;
                let (made, _) = args.recipe.spectrograms(file, &epoch)?;
                if made.shape() != one {
                    let detail =
                        format!("row {row}: spectrogram {:?}, those before are {one:?}", made.shape());
                    return Err(Error::format(file, detail));
                }
                progress.set(row as u64 + 1);
                put(&made.data)
            },
        )
    })?;
    progress.finish();
    let output = args.output.display().to_string();
    let text = format!("{} {} rows -> {output} {shape:?}", path.display(), rows.len());
    shell.print(&text, &json!({"input": path.display().to_string(), "outputs": [output], "shape": shape}))
}

/// Each picture's file into an array of its own name.
fn csv(args: &Args, inputs: &[PathBuf], shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    let recipe = args.recipe.or_rate(mindbigdata::SAMPLE_RATE_HZ);
    recipe.recipe()?;
    let is_folder = args.eeg.eeg.is_dir();
    if !is_folder {
        batch::refuse_other_than_npy("--output", &args.output)?;
        files::refuse_existing(&args.output, args.eeg.force)?;
    }
    let mut progress = Progress::new(shell.quiet, "spectrogram", inputs.len() as u64);
    let (mut lines, mut told) = (vec![], vec![]);
    for (idx, input) in inputs.iter().enumerate() {
        stop::check(
            stopped,
            &format!("{idx} of {} files are finished and kept; the same call goes on", inputs.len()),
        )?;
        let stem = input.file_stem().unwrap_or_default();
        let output =
            if is_folder { args.output.join(stem).with_added_extension("npy") } else { args.output.clone() };
        if is_folder && output.exists() && !args.eeg.force {
            lines.push(format!("{}, finished before", output.display()));
            continue;
        }
        let signals = mindbigdata::read(input)?;
        let (made, _) = recipe.spectrograms(input, &signals.eeg)?;
        npy::write(&output, &made.shape(), &made.data)?;
        let channels = signals.channel_names.join(" ");
        lines.push(format!("{} {channels} -> {} {:?}", input.display(), output.display(), made.shape()));
        told.push(json!({
            "input": input.display().to_string(), "channels": signals.channel_names,
            "outputs": [output.display().to_string()], "shape": made.shape(),
        }));
        progress.set(idx as u64 + 1);
    }
    progress.finish();
    shell.print(&lines.join("\n"), &Value::Array(told))
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
