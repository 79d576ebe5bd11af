//! `mindreel demo`: unseen simulated EEG to clips, beside what was shown, with scores.

use super::stages::{Stages, words};
use super::video;
use super::{Shell, manifest};
use crate::data::{Clips, SeedDv, Task};
use crate::error::{Error, Result};
use crate::eval::judges::Judge;
use crate::files;
use crate::media::{Frames, gif};
use crate::nn::Precision;
use crate::plot::gallery::{Card, Picture, gallery};
use crate::signal::Units;
use crate::signal::seed_dv::{BLOCK_CLIPS, CLASSES};
use crate::signal::segments::CLIPS;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Simulates the data set whose first five blocks the shipped weights learnt from, decodes clips of its last block, which no
training saw, and decodes noise in its place; then scores both. Offline, no GPU needed. Left in --output:

  sheet.png, sheet.gif     what was shown above what was decoded
  eeg/, noise/, shown/     the clips, and run.json with every setting
  scores/                  the table, scores of each clip, report.html

Every stage is a command that is told before it runs and could be typed.

Examples:
  mindreel demo
  mindreel demo --clips 200 --output out/all
  mindreel demo --clips 200 --ablations --output out/ablations";

/// The offline tour: unseen EEG in, clips out, with scores
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder for clips, sheet and scores [default: demo]
    #[arg(long, short, value_name = "DIR", default_value = "demo", hide_default_value = true)]
    output: PathBuf,

    /// A checkpoint of `mindreel train chain` [default: the one that comes with this program, weights/demo]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Clips of the unseen block, up to 200; 40 are one of each class
    #[arg(long, value_name = "N", default_value_t = 40)]
    clips: usize,

    /// Denoising steps [default: what the checkpoint says]
    #[arg(long, value_name = "N")]
    num_inference_steps: Option<usize>,

    /// Seed of the noise that is denoised
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Without what the semantic predictor says
    #[arg(long)]
    without_semantic: bool,

    /// Steer by predicted embeddings as they are, not by the nearest text
    #[arg(long)]
    texts_as_predicted: bool,

    /// Start from noise alone, not from predicted latents
    #[arg(long)]
    without_seq2seq: bool,

    /// Noise every frame by itself, not by predicted motion
    #[arg(long)]
    without_dana: bool,

    /// Decode without each of the four in turn, too, as further columns of the table
    #[arg(long)]
    ablations: bool,

    /// Replace a demo that is there; one that was cut off is replaced without it
    #[arg(long)]
    force: bool,
}

/// Names the folder as ours.
const MARK: &str = "demo.json";
/// State of a demo that is not through, in its mark.
const UNDER_WAY: &str = "under way";
/// What a file of ours holds at most.
const JSON_BYTES: u64 = 4 << 20;
/// The block no training saw.
const TEST_BLOCK: usize = 6;
/// Folder, name in the table and flag of each ablation.
const ABLATIONS: [(&str, &str, &str); 4] = [
    ("without-semantic", "without semantic", "--without-semantic"),
    ("texts-as-predicted", "texts as predicted", "--texts-as-predicted"),
    ("without-seq2seq", "without seq2seq", "--without-seq2seq"),
    ("without-dana", "without DANA", "--without-dana"),
];
/// Clips of a row of the sheet, and of the sheet.
const COLUMNS: usize = 5;
const ON_SHEET: usize = 20;

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    if !(1..=BLOCK_CLIPS).contains(&args.clips) {
        return Err(Error::setting("--clips", format!("{}, wanted 1 to {BLOCK_CLIPS}", args.clips)));
    }
    let model = model(args)?;
    let manifest = manifest_of(&model)?;
    let is_cut_off = read_json(&args.output.join(MARK)).is_ok_and(|told| told["state"] == UNDER_WAY);
    files::refuse_foreign_folder(&args.output, MARK, "demo", args.force || is_cut_off)?;
    let out = |name: &str| args.output.join(name);
    let picked = picked(args.clips);
    let clips: Vec<String> = picked.iter().map(|at| (TEST_BLOCK * BLOCK_CLIPS + at).to_string()).collect();
    let asked = [
        (args.without_semantic, "--without-semantic"),
        (args.texts_as_predicted, "--texts-as-predicted"),
        (args.without_seq2seq, "--without-seq2seq"),
        (args.without_dana, "--without-dana"),
    ];
    let asked: Vec<&str> = asked.into_iter().filter(|(is_on, _)| *is_on).map(|(_, flag)| flag).collect();
    let decoding = |folder: &str, eeg: &Path, flags: &[&str]| {
        let mut words = words![
            "video",
            "--eeg",
            eeg,
            "--clips",
            clips.join(","),
            "--model",
            &model,
            "--output",
            out(folder),
            "--seed",
            args.seed.to_string(),
        ];
        for (key, value) in manifest["decode"].as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            let value = match (key.as_str(), args.num_inference_steps) {
                ("num-inference-steps", Some(steps)) => steps.to_string(),
                _ => value,
            };
            words.extend(words![format!("--{key}"), value]);
        }
        words.extend(flags.iter().map(OsString::from));
        words
    };
    // What a stage would refuse is refused before anything is made.
    let gpu = shell.open_gpu()?;
    let sizes = video::rehearse(&decoding("eeg", Path::new("sub1.npy"), &asked), &gpu)?;
    Judge::open(&gpu, &model.join("classifier"), sizes.num_frames, Precision::F32)?;
    drop(gpu);
    let stages = Stages::new(shell, "the same command starts again")?;
    if args.output.exists() {
        let folders = ["eeg", "noise", "shown", "scores"].into_iter();
        for name in folders.chain(ABLATIONS.map(|(folder, _, _)| folder)) {
            let folder = out(name);
            if folder.is_dir() {
                std::fs::remove_dir_all(&folder).map_err(Error::write(&folder))?;
            }
        }
    }
    files::make_folder(&args.output)?;
    files::sweep(&args.output)?;
    files::write_json(out(MARK), &json!({ "model": model.display().to_string(), "state": UNDER_WAY }))?;
    // The recording is large and made again in seconds: it does not stay.
    let world = tempfile::Builder::new()
        .prefix(".tmp-world-")
        .tempdir_in(&args.output)
        .map_err(Error::write(&args.output))?;
    let data = world.path().join("sim");
    let told = |key: &str| manifest["simulation"][key].to_string();
    stages.run(words![
        "prepare",
        "simulate",
        "--output",
        &data,
        "--seed",
        told("seed"),
        "--snr",
        told("snr_db"),
        "--height",
        told("height"),
        "--width",
        told("width"),
    ])?;
    let noise = world.path().join("noise.npy");
    let eeg = data.join("EEG/sub1.npy");
    stages.run(words![
        "prepare",
        "noise",
        "--eeg",
        &eeg,
        "--output",
        &noise,
        "--seed",
        args.seed.to_string()
    ])?;

    let set = SeedDv::open(&data, Units::Volts)?;
    let labels = set.labels(Task::Concept, TEST_BLOCK + 1)?;
    let captions = set.captions(TEST_BLOCK + 1)?;
    let class = |&at: &usize| labels[TEST_BLOCK * BLOCK_CLIPS + at].unwrap_or(0);
    let classes: Vec<usize> = picked.iter().map(class).collect();
    let shown = shown(&data, &picked, &out("shown"))?;
    files::write_json(out("shown/labels.json"), &json!({ "labels": classes }))?;

    let mut runs = vec![("eeg", &eeg, asked.clone()), ("noise", &noise, asked.clone())];
    if args.ablations {
        let each = ABLATIONS.iter().filter(|(_, _, flag)| !asked.contains(flag));
        runs.extend(each.map(|(folder, _, flag)| (*folder, &eeg, [&asked[..], &[*flag]].concat())));
    }
    for (folder, eeg, flags) in &runs {
        stages.run(decoding(folder, eeg, flags))?;
    }
    let mut words = words!["eval", "video", "--pred", out("eeg"), "--truth", out("shown")];
    words.extend(words!["--control", format!("noise EEG={}", out("noise").display())]);
    for (folder, name, _) in ABLATIONS {
        if runs.iter().any(|run| run.0 == folder) {
            words.extend(words!["--control", format!("{name}={}", out(folder).display())]);
        }
    }
    words.extend(words![
        "--train",
        &data,
        "--classifier",
        model.join("classifier"),
        "--output",
        out("scores")
    ]);
    let table = stages.run(words)?;
    let names = class_names(&data)?;
    let captions: Vec<&str> =
        picked.iter().map(|at| captions[TEST_BLOCK * BLOCK_CLIPS + at].as_str()).collect();
    let sheets = sheets(args, &shown, &captions, &classes, &names)?;
    let scores: Value = read_json(&out("scores/eval.json"))?;
    let result = json!({
        "model": model.display().to_string(),
        "clips": clips,
        "classes": classes,
        "class_names": names,
        "sheets": sheets.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "report": out("scores/report.html").display().to_string(),
        "scores": scores,
    });
    files::write_json(out(MARK), &result)?;
    let paths: Vec<String> =
        sheets.iter().chain([&out("scores/report.html")]).map(|path| path.display().to_string()).collect();
    shell.print(&format!("{}\n\n{}", table.trim_end(), paths.join("\n")), &result)
}

/// Clips of the test block, by their places: with 40 or fewer each of a class of its own.
fn picked(n: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..BLOCK_CLIPS).collect();
    all.sort_by_key(|at| (at % CLIPS, at / CLIPS));
    all.truncate(n);
    all.sort_unstable();
    all
}

/// The checkpoint: the one named, else beside the program or in the working folder.
fn model(args: &Args) -> Result<PathBuf> {
    if let Some(model) = &args.model {
        return Ok(model.clone());
    }
    let shipped = Path::new("weights").join("demo");
    let program = std::env::current_exe().map_err(Error::read("this program"))?;
    let beside = program.ancestors().skip(1).take(4).map(|folder| folder.join(&shipped));
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(&shipped);
    let known = [shipped.clone(), built];
    known.into_iter().chain(beside).find(|folder| folder.join(manifest::NAME).is_file()).ok_or_else(|| {
        let detail =
            "is neither here nor beside the program; run in the repository's folder, or give --model";
        Error::format(&shipped, detail)
    })
}

/// What `train chain` says of a checkpoint.
fn manifest_of(model: &Path) -> Result<Value> {
    let manifest = manifest::read(model)?;
    for key in ["seed", "snr_db", "height", "width"] {
        if !manifest["simulation"][key].is_number() {
            let detail = format!(
                "has no number simulation.{key}; the demo wants a checkpoint of `mindreel train chain`"
            );
            return Err(Error::format(model.join(manifest::NAME), detail));
        }
    }
    Ok(manifest)
}

fn read_json(path: &Path) -> Result<Value> {
    files::read_json(path, JSON_BYTES)
}

/// Slow red ball, and so on.
fn class_names(data: &Path) -> Result<Vec<String>> {
    let path = data.join("meta_info/class_names.txt");
    let text = String::from_utf8(files::read_small(&path, JSON_BYTES)?)
        .map_err(|_| Error::format(&path, "is not UTF-8 text"))?;
    let names: Vec<String> = text.lines().map(str::to_string).filter(|line| !line.is_empty()).collect();
    match names.len() {
        CLASSES => Ok(names),
        n => Err(Error::format(&path, format!("holds {n} names, wanted {CLASSES}"))),
    }
}

/// Writes what was shown, under the names of what is decoded.
fn shown(data: &Path, picked: &[usize], folder: &Path) -> Result<Vec<Frames>> {
    let clips = Clips::open(data)?;
    let [count, height, width] = clips.shape();
    files::make_folder(folder)?;
    let mut shown = Vec::new();
    for (at, &clip) in picked.iter().enumerate() {
        let rgb = clips.clip(TEST_BLOCK, clip)?;
        let frames = Frames { count, height, width, frame_rate_fps: 3.0, rgb };
        gif::write(folder.join(format!("clip-{at:04}.gif")), &frames, "shown")?;
        shown.push(frames);
    }
    Ok(shown)
}

/// sheet.png with captions, sheet.gif that moves: above what was shown, below what was decoded. The first clips in
/// their order, whatever came of them.
fn sheets(
    args: &Args,
    shown: &[Frames],
    captions: &[&str],
    classes: &[usize],
    names: &[String],
) -> Result<[PathBuf; 2]> {
    let n = shown.len().min(ON_SHEET);
    let judged = read_json(&args.output.join("scores/eval.json"))?;
    let judged: Vec<Option<usize>> = match judged["predicted_classes"].as_array() {
        Some(list) => list.iter().map(|class| class.as_u64().map(|class| class as usize)).collect(),
        None => vec![None; shown.len()],
    };
    let mut decoded = Vec::new();
    for at in 0..n {
        decoded.push(gif::read(args.output.join(format!("eeg/clip-{at:04}.gif")))?);
    }
    let picture = |frames: &Frames, label: &str| -> Picture {
        let frame = frames.frame(frames.count / 2).unwrap_or_default();
        Picture { rgb: frame.to_vec(), height: frames.height, width: frames.width, label: label.into() }
    };
    let card = |at: usize| {
        let said = judged.get(at).copied().flatten().and_then(|class| names.get(class));
        let verdict = match said {
            Some(name) if judged[at] == Some(classes[at]) => format!(" - judged: {name}, right"),
            Some(name) => format!(" - judged: {name}"),
            None => String::new(),
        };
        Card {
            pictures: vec![picture(&shown[at], "shown"), picture(&decoded[at], "decoded from EEG")],
            title: format!("{}{verdict}", captions[at]),
        }
    };
    let cards: Vec<Card> = (0..n).map(card).collect();
    let [still, moving] = ["sheet.png", "sheet.gif"].map(|name| args.output.join(name));
    gallery("Simulated EEG of a block that no training saw, decoded", &cards, COLUMNS)?.save(&still)?;
    gif::write(&moving, &tiled(&shown[..n], &decoded)?, "above: shown, below: decoded from EEG")?;
    Ok([still, moving])
}

/// All clips in one that moves: a row of what was shown above the row of what was decoded.
fn tiled(shown: &[Frames], decoded: &[Frames]) -> Result<Frames> {
    const GAP: usize = 3;
    let Frames { count, height, width, frame_rate_fps, .. } = shown[0];
    let columns = shown.len().min(2 * COLUMNS);
    let rows = 2 * shown.len().div_ceil(columns);
    let (high, wide) = (rows * (height + GAP) + GAP, columns * (width + GAP) + GAP);
    let mut rgb = vec![255; count * high * wide * 3];
    for (at, pair) in shown.iter().zip(decoded).enumerate() {
        for (below, clip) in [pair.0, pair.1].into_iter().enumerate() {
            let top = GAP + (at / columns * 2 + below) * (height + GAP);
            let left = GAP + at % columns * (width + GAP);
            for frame in 0..count.min(clip.count) {
                let Some(pixels) = clip.frame(frame) else { continue };
                for (y, row) in pixels.chunks_exact(width * 3).enumerate() {
                    let start = ((frame * high + top + y) * wide + left) * 3;
                    rgb[start..start + width * 3].copy_from_slice(row);
                }
            }
        }
    }
    Frames::new(count, high, wide, rgb, frame_rate_fps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forty_clips_are_one_of_each_class() {
        let slots = |n| picked(n).iter().map(|at| at / CLIPS).collect::<Vec<_>>();
        assert_eq!(slots(40), (0..40).collect::<Vec<_>>());
        assert_eq!(picked(200), (0..200).collect::<Vec<_>>());
        assert_eq!(picked(41).len(), 41);
        assert_eq!(picked(3), [0, 5, 10]);
    }
}
