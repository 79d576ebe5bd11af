//! `mindreel prepare alljoined`: parquet files to a data set of spectrograms and pictures.

use super::super::progress::Progress;
use super::super::recipe::RecipeFlags;
use super::super::{Shell, stop};
use crate::data::alljoined::{Alljoined, Trial};
use crate::data::draw::{self, Draw};
use crate::data::pairs::{METADATA, Pair, Pairs, Use};
use crate::error::{Error, Result};
use crate::files;
use crate::signal::spectrogram::Spectrograms;
use crate::signal::{npy, torch};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Settings of a data set that was begun; others do not go on with it.
const SETTINGS: &str = "alljoined.json";
/// Rows, rows to validate and rows to test of the original.
const ORIGINAL: [usize; 3] = [17_000, 2_800, 200];
const SHARE: f64 = 0.1;

const EXAMPLES: &str = "\
The output folder gets spectrograms/<split>/sample_<row>.npy, [64, bins, frames], and metadata.csv: image_path,
spectrogram_path, split, and row, subject, session, block, trial and picture of each. Rows are numbered through all
files, train-*.parquet first. With --images, COCO's pictures are copied into images/.

The split goes by picture: of all that were shown, a tenth is for validation and a tenth for the test, whoever saw them.
--reproduce-original draws rows as NeuroVision did, 14000, 2800 and 200 of 17000 with seed 42 (pandas' sample, then
scikit-learn's train_test_split): nearly every picture of its test set is in its training set. It also takes its
constants (see `mindreel prepare spectrogram --help`), writes .pt and three columns alone.

A call that was stopped goes on where it was.

Examples:
  mindreel prepare alljoined --data 05_125 --output dataset --images coco
  mindreel prepare alljoined --data 05_125/data --output old --reproduce-original
  mindreel prepare alljoined --data test-00000-of-00001.parquet --output small --rows 60 --val 0.2 --test 0.2";

/// A data set of spectrograms from Alljoined's parquet files
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder with train-*.parquet and test-*.parquet, or a file
    #[arg(long, value_name = "DIR|FILE")]
    data: PathBuf,

    /// Folder to make
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// Folder with COCO's pictures, or with train2017 and val2017
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,

    /// Rows to take, at random [default: all; 17000 of the original]
    #[arg(long, value_name = "N")]
    rows: Option<usize>,

    /// For validation: share of the pictures [default: 0.1]; with --reproduce-original rows [default: 2800]
    #[arg(long, value_name = "SHARE|N")]
    val: Option<f64>,

    /// For the test: share of the pictures [default: 0.1]; with --reproduce-original rows [default: 200]
    #[arg(long, value_name = "SHARE|N")]
    test: Option<f64>,

    /// Seed of the draw
    #[arg(long, default_value_t = 42)]
    seed: u32,

    #[command(flatten)]
    recipe: RecipeFlags,

    /// Begin again, whatever is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    let output = &args.output;
    files::refuse_existing(&output.join(METADATA), args.force)?;
    let recipe = args.recipe.recipe()?;
    let rows = Alljoined::open(&args.data)?;
    let draw = drawn(args, &rows.trials)?;
    let pairs: Vec<Pair> =
        draw.iter().map(|&(row, split)| pair(args, &rows.trials[row], row, split)).collect();
    let pictures = pictures(args, &rows, &draw)?;
    let settings = json!({
        "rows_of_files": rows.len(), "recipe": format!("{recipe:?}"), "sample_rate_hz": args.recipe.rate_hz(),
        "rows": args.rows, "val": args.val, "test": args.test, "seed": args.seed,
        "reproduce_original": args.recipe.reproduce_original,
    });
    begin(output, &settings, args.force)?;

    let places: BTreeMap<usize, &Pair> = draw.iter().map(|&(row, _)| row).zip(&pairs).collect();
    let mut progress = Progress::new(shell.quiet, "alljoined", draw.len() as u64);
    let (mut n_done, mut shapes) = (0, BTreeSet::new());
    rows.each(
        |row| places.contains_key(&row),
        |file, row, epoch| {
            stop::check(
                stopped,
                &format!("{n_done} of {} rows are finished and kept; the same call goes on", draw.len()),
            )?;
            let path = output.join(&places[&row].spectrogram);
            // What is there is whole, and of these settings.
            if args.force || !path.exists() {
                let (made, _) = args.recipe.spectrograms(file, &epoch)?;
                shapes.insert(made.shape());
                write(&path, &made)?;
            }
            n_done += 1;
            progress.set(n_done);
            Ok(())
        },
    )?;
    progress.finish();
    for (from, to) in &pictures {
        stop::check(stopped, "the spectrograms are finished and kept; the same call goes on")?;
        copy(from, &output.join(to))?;
    }
    Pairs::write(output, &pairs, &columns(args, &rows.trials, &draw))?;
    tell(args, shell, &rows.trials, &draw, &shapes)
}

/// Which rows are for what.
fn drawn(args: &Args, trials: &[Trial]) -> Result<Draw> {
    if args.recipe.reproduce_original {
        let count = |flag: &str, value: Option<f64>, usual: usize| match value {
            None => Ok(usual),
            Some(n) if n >= 0.0 && n.fract() == 0.0 && n < 1e9 => Ok(n as usize),
            Some(n) => {
                Err(Error::setting(flag, format!("{n}, wanted a number of rows, as the original counts")))
            }
        };
        let [n, val, test] = ORIGINAL;
        let (val, test) = (count("--val", args.val, val)?, count("--test", args.test, test)?);
        return draw::by_row(trials.len(), args.rows.unwrap_or(n), val, test, args.seed);
    }
    let pictures: Vec<i64> = trials.iter().map(|trial| trial.coco_id).collect();
    let (val, test) = (args.val.unwrap_or(SHARE), args.test.unwrap_or(SHARE));
    let draw = draw::by_picture(&pictures, val, test, args.seed.into())?;
    let Some(n) = args.rows else { return Ok(draw) };
    if n == 0 || n > draw.len() {
        return Err(Error::setting("--rows", format!("{n}, wanted 1 to {}, the rows there are", draw.len())));
    }
    // Any rows will do, so long as they are the same ones next time.
    let taken: BTreeSet<usize> =
        draw::by_row(trials.len(), n, 0, 0, args.seed)?.into_iter().map(|(row, _)| row).collect();
    Ok(draw.into_iter().filter(|(row, _)| taken.contains(row)).collect())
}

/// The name of a picture of COCO.
fn picture_name(trial: &Trial) -> String {
    format!("{:012}.jpg", trial.coco_id)
}

fn pair(args: &Args, trial: &Trial, row: usize, split: Use) -> Pair {
    let (folder, ending) =
        if args.recipe.reproduce_original { ("coco_images_17k", "pt") } else { ("images", "npy") };
    Pair {
        image: format!("{folder}/{}", picture_name(trial)),
        spectrogram: format!("spectrograms/{}/sample_{row}.{ending}", split.name()),
        split,
    }
}

/// Pictures to copy, from where to where.
///
/// Errors: [`Error::Format`] naming the first that is not there.
fn pictures(args: &Args, rows: &Alljoined, draw: &Draw) -> Result<BTreeMap<PathBuf, String>> {
    let Some(folder) = &args.images else { return Ok(BTreeMap::new()) };
    let mut found = BTreeMap::new();
    for &(row, split) in draw {
        let trial = &rows.trials[row];
        let name = picture_name(trial);
        let places = ["train2017", "val2017", ""].map(|part| folder.join(part).join(&name));
        let Some(from) = places.into_iter().find(|path| path.is_file()) else {
            let detail =
                format!("holds no {name}, the picture of row {row} (nor do train2017 and val2017 in it)");
            return Err(Error::format(folder, detail));
        };
        found.insert(from, pair(args, trial, row, split).image);
    }
    Ok(found)
}

/// Refuses to go on with a data set of other settings.
fn begin(output: &Path, settings: &Value, force: bool) -> Result<()> {
    let path = output.join(SETTINGS);
    if path.exists() && !force {
        let there: Value = serde_json::from_slice(&files::read_small(&path, 1 << 20)?)
            .map_err(|e| Error::format(&path, format!("is no JSON: {e}; give --force to begin again")))?;
        if there != *settings {
            let detail =
                "is of a data set with other settings; give another --output, or --force to begin again";
            return Err(Error::format(&path, detail));
        }
        return Ok(());
    }
    files::write_atomically(&path, |file| {
        file.write_all(format!("{settings:#}\n").as_bytes()).map_err(Error::write(&path))
    })
}

fn write(path: &Path, made: &Spectrograms) -> Result<()> {
    if path.extension().is_some_and(|ending| ending == "pt") {
        return torch::write(path, &made.shape(), &made.data);
    }
    npy::write(path, &made.shape(), &made.data)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let mut source = std::fs::File::open(from).map_err(Error::read(from))?;
    files::write_atomically(to, |mut file| {
        std::io::copy(&mut source, &mut file).map(drop).map_err(Error::write(to))
    })
}

/// What ours tells of every row behind the original's three columns.
fn columns(args: &Args, trials: &[Trial], draw: &Draw) -> Vec<(&'static str, Vec<String>)> {
    if args.recipe.reproduce_original {
        return vec![];
    }
    let column = |of: &dyn Fn(usize, &Trial) -> i64| {
        draw.iter().map(|&(row, _)| of(row, &trials[row]).to_string()).collect::<Vec<_>>()
    };
    vec![
        ("row", column(&|row, _| row as i64)),
        ("subject_id", column(&|_, trial| trial.subject_id)),
        ("session", column(&|_, trial| trial.session)),
        ("block", column(&|_, trial| trial.block)),
        ("trial", column(&|_, trial| trial.trial)),
        ("nsd_id", column(&|_, trial| trial.nsd_id)),
        ("coco_id", column(&|_, trial| trial.coco_id)),
    ]
}

fn tell(
    args: &Args,
    shell: &Shell,
    trials: &[Trial],
    draw: &Draw,
    shapes: &BTreeSet<Vec<usize>>,
) -> Result<()> {
    let pictures = |split: Use| -> BTreeSet<i64> {
        draw.iter().filter(|(_, of)| *of == split).map(|(row, _)| trials[*row].coco_id).collect()
    };
    let (mut text, mut splits) = (String::new(), vec![]);
    let learnt = pictures(Use::Train);
    for split in Use::ALL {
        let seen = pictures(split);
        let n = draw.iter().filter(|(_, of)| *of == split).count();
        let known = if split == Use::Train { 0 } else { seen.intersection(&learnt).count() };
        let warning = if known > 0 { format!(", {known} of them in train too") } else { String::new() };
        text += &format!("{:<5} {n:>6} rows {:>5} pictures{warning}\n", split.name(), seen.len());
        splits.push(
            json!({"split": split.name(), "rows": n, "pictures": seen.len(), "pictures_in_train": known}),
        );
    }
    let path = args.output.join(METADATA).display().to_string();
    let shape = shapes.iter().map(|shape| format!(", spectrograms {shape:?}")).collect::<String>();
    text += &format!("{path}: {} rows{shape}", draw.len());
    shell.print(&text, &json!({"output": path, "splits": splits, "shapes": shapes}))
}
