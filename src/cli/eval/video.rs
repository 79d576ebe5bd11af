//! `mindreel eval video`: decoded clips against those that were shown.

use super::report;
use crate::cli::progress::Progress;
use crate::cli::{Float, Shell, stop};
use crate::error::{Error, Result, none_of};
use crate::eval::video::{Column, Metric, Questions, SHUFFLED, Scored, Scorer, Seen, Table, columns, once};
use crate::eval::{Clip, Confusion, Judge, Shown, check_resamples, clips, judges, labels, pictures};
use crate::files;
use crate::media::Frames;
use crate::signal::seed_dv::CLASSES;
use crate::weights::random::splitmix64;
use serde_json::json;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Clips: folders of .gif, .mp4 (through an installed ffmpeg) or folders of .png, an .npy [n, frames, h, w, 3], or a data set
with Video/ and meta_info/, of which one block is taken. Predictions and truth go pair by pair in the natural order of
their names.

Metrics:
  ssim, psnr, mse, hue      of pixels: scikit-image's SSIM; hue in degrees, weighted by saturation, 90 at random
  clip, clip-pcc            CLIP: cosine with what was shown, n-way identification; cosine of neighbouring frames
  topk-image, topk-video    n-way top-k by ViT (frames) and VideoMAE (clips): is the likeliest class of what was shown
                            among the k likeliest of n, the others drawn? --reproduce-original adds the form with
                            three right classes, whose chance is 3/4 of 2 and 3/42 of 40 (clip-Nway asks for the first place alone)
  class                     a ClipClassifier of `mindreel train clip-classifier`: top-1 and top-5 against --labels
Judges see frames as their folder's preprocessor_config.json says, where it has one.
Every mean has a 95 % bootstrap interval over clips. p: one-sided sign-flip test against shuffled pairs.

Rows beside the predictions: the truth against itself, the predictions in another order (200 pairs or more), with --train the mean clip
and the mean clip of the class; and each --control.

Examples:
  mindreel eval video --pred decoded --truth shown --metrics ssim,psnr,hue
  mindreel eval video --pred decoded --truth shown --classifier vit --classifier videomae --clip clip-vit-base-patch32
  mindreel eval video --pred decoded --truth sim --train sim --classifier runs/judge/model \\
      --control noise=decoded-noise --control shuffled=decoded-shuffled --output scores";

/// Decoded clips against those that were shown
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Decoded clips
    #[arg(long, value_name = "DIR")]
    pred: PathBuf,

    /// What was shown: as many clips
    #[arg(long, value_name = "DIR")]
    truth: PathBuf,

    /// What is scored [default: ssim, psnr, mse, hue, and what the classifiers allow]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    metrics: Vec<String>,

    /// Folder of a ViT, VideoMAE, CLIP or ClipClassifier; again for each
    #[arg(long, value_name = "DIR")]
    classifier: Vec<PathBuf>,

    /// Folder of a ViTForImageClassification
    #[arg(long, value_name = "DIR")]
    image_classifier: Option<PathBuf>,

    /// Folder of a VideoMAEForVideoClassification
    #[arg(long, value_name = "DIR")]
    video_classifier: Option<PathBuf>,

    /// Folder of a ClipClassifier
    #[arg(long, value_name = "DIR")]
    clip_classifier: Option<PathBuf>,

    /// Folder of a CLIPVisionModelWithProjection
    #[arg(long, value_name = "DIR")]
    clip: Option<PathBuf>,

    /// Class of each clip, from 0: .npy, .json or lines of text [default: labels.json beside the truth]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Clips stand in the order of their classes, as EEG2Video's outputs do: as many of each; a data set's clips are
    /// put in that order
    #[arg(long, conflicts_with = "labels")]
    class_order: bool,

    /// A data set whose other blocks give the mean clip and the mean clip of each class
    #[arg(long, value_name = "DIR")]
    train: Option<PathBuf>,

    /// Block of a data set that was tested, from 0 [default: the last]
    #[arg(long, value_name = "K")]
    test_block: Option<usize>,

    /// truth, shuffled, mean, class-mean; or none [default: all there are data for]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    baselines: Vec<String>,

    /// Further predictions, such as those from noise: NAME=DIR; again for each
    #[arg(long, value_name = "NAME=DIR")]
    control: Vec<String>,

    /// Bring predictions to the truth's size
    #[arg(long)]
    resize: bool,

    /// Classes to choose from
    #[arg(long, value_delimiter = ',', value_name = "N,…", default_values_t = [2, 40])]
    ways: Vec<usize>,

    /// Places that count as right
    #[arg(long, value_name = "K", default_value_t = 1)]
    top_k: usize,

    /// Draws of the other classes, for each picture
    #[arg(long, value_name = "N", default_value_t = 100)]
    trials: usize,

    /// The original's three right classes, too
    #[arg(long)]
    reproduce_original: bool,

    /// Resamples behind an interval
    #[arg(long, value_name = "N", default_value_t = 2000)]
    resamples: usize,

    /// Of draws, resamples and shuffled pairs
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// What sheets are ranked by: a column of the table [default: clip-cosine or ssim, else the first]
    #[arg(long, value_name = "NAME")]
    rank_by: Option<String>,

    /// Number type of the judges' activations
    #[arg(long, default_value = "f32")]
    dtype: Float,

    /// Folder for JSON, CSV, Markdown, sheets and report.html
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Replace scores that are there
    #[arg(long)]
    force: bool,
}

/// Marks a folder of ours.
const MARK: &str = "eval.json";
/// Names of rows, beside [`SHUFFLED`].
const PREDICTION: &str = "prediction";
const MEAN: &str = "mean clip";
const CLASS_MEAN: &str = "class-mean clip";
const TRUTH: &str = "truth";
/// Names of the baselines.
const BASELINES: [&str; 4] = ["truth", "shuffled", "mean", "class-mean"];

/// Clips of one origin, on their way.
struct Origin {
    name: String,
    clips: Vec<Frames>,
    seen: Vec<Seen>,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    check_resamples(args.resamples)?;
    let asked: Vec<Metric> = args.metrics.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    let asked = once(asked);
    let mut baselines = baselines(args)?;
    let controls = controls(&args.control)?;
    let folders = classifiers(args)?;
    if let Some(output) = &args.output {
        files::refuse_foreign_folder(output, MARK, "folder of scores", args.force)?;
    }
    if args.test_block.is_some() && args.train.is_none() && !is_data_set(&args.truth) {
        let detail = format!("is of a data set: {} is none, and there is no --train", args.truth.display());
        return Err(Error::setting("--test-block", detail));
    }
    let (truth, own_labels) = truth(args)?;
    let mut predicted = clips::read(&args.pred)?;
    clips::pair(&mut predicted, &truth, [&args.pred, &args.truth], args.resize)?;
    note_names(&predicted, &truth, &args.pred, shell);
    let n_frames = truth[0].frames.count;
    if let Some(other) = truth.iter().find(|clip| clip.frames.count != n_frames) {
        let detail = format!("has {} frames, the first clip {n_frames}", other.frames.count);
        return Err(Error::format(&other.path, detail));
    }
    let mut origins = vec![origin(PREDICTION, predicted)];
    for (name, folder) in controls {
        let mut clips = clips::read(folder)?;
        clips::pair(&mut clips, &truth, [folder, &args.truth], args.resize)?;
        note_names(&clips, &truth, folder, shell);
        origins.push(origin(name, clips));
    }
    let learnt = learnt(args)?;

    let metrics = if asked.is_empty() { possible(&folders) } else { asked };
    let is_small = |clip: &&Clip| clip.frames.height.min(clip.frames.width) < pictures::WINDOW;
    if let Some(small) = truth.iter().find(is_small).filter(|_| metrics.contains(&Metric::Ssim)) {
        let Frames { height, width, .. } = small.frames;
        let detail = format!(
            "frames are {width} x {height}, ssim wants {0} x {0} or more; name other --metrics",
            pictures::WINDOW
        );
        return Err(Error::format(&small.path, detail));
    }
    let wanted: Vec<judges::Kind> = metrics.iter().filter_map(|metric| metric.judge()).collect();
    let is_given = args.labels.is_some() || args.class_order;
    let labels = match wanted.contains(&judges::Kind::Concept) || learnt.is_some() || is_given {
        true => class_labels(args, own_labels, truth.len())?,
        false => None,
    };
    let shown: Vec<&Frames> = truth.iter().map(|clip| &clip.frames).collect();
    for name in ["shuffled", "mean", "class-mean"] {
        let Some(place) = baselines.iter().position(|known| *known == name) else { continue };
        if let Some(error) = hindrance(name, args, learnt.as_ref(), &shown, labels.as_deref()) {
            if args.baselines.iter().any(|asked| asked == name) {
                return Err(error);
            }
            baselines.remove(place);
            shell.note(&format!("warning: without the row '{name}': {error}"));
        }
    }
    let mut judges = Vec::new();
    if folders.iter().any(|(kind, _)| wanted.contains(kind)) {
        let gpu = shell.open_gpu()?;
        shell.note(&format!("on '{}'", gpu.facts().name));
        for (_, folder) in folders.iter().filter(|(kind, _)| wanted.contains(kind)) {
            let (judge, warnings) = Judge::open(&gpu, folder, n_frames, args.dtype.precision())?;
            for warning in warnings {
                shell.note(&format!("warning: {}: {warning}", folder.display()));
            }
            judges.push(judge);
        }
    }

    let stopped = stop::watch(shell.quiet)?;
    // The truth is looked at, every origin looked at and scored, every baseline scored.
    let n_shuffles = if baselines.contains(&"shuffled") { n_shuffles(truth.len()) } else { 0 };
    let n_plain = baselines.iter().filter(|&&name| name != "shuffled").count();
    let n_steps = truth.len() * (2 * origins.len() + 1 + n_plain + n_shuffles);
    let mut progress = Progress::new(shell.quiet, "clips", n_steps as u64);
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress.set(done);
        stop::check(&stopped, "nothing was written")
    };
    let questions = Questions {
        ways: once(args.ways.iter().copied()),
        top_k: args.top_k,
        trials: args.trials,
        reproduce_original: args.reproduce_original,
        seed: args.seed,
    };
    let rank_by = rank_by(args, &columns(&metrics, &judges, &questions, &shown, labels.as_deref())?)?;
    let scorer = Scorer::new(&metrics, &judges, questions, shown.clone(), labels.clone(), &mut step)?;
    for origin in &mut origins {
        for clip in &origin.clips {
            origin.seen.push(scorer.see(clip)?);
            step()?;
        }
    }
    let means = means(&baselines, learnt.as_ref(), &shown, labels.as_deref(), &scorer)?;

    let mut rows = Vec::new();
    for origin in &origins {
        let (clips, seen): (Vec<_>, Vec<_>) = origin.clips.iter().zip(&origin.seen).unzip();
        rows.push(scorer.score(&origin.name, &clips, &seen, &mut step)?);
    }
    let mut shuffles = Vec::new();
    for nth in 0..n_shuffles {
        let first = &origins[0];
        let order = shuffled(truth.len(), args.seed, nth as u64);
        let clips: Vec<&Frames> = order.iter().map(|&at| &first.clips[at]).collect();
        let seen: Vec<&Seen> = order.iter().map(|&at| &first.seen[at]).collect();
        shuffles.push(scorer.score(SHUFFLED, &clips, &seen, &mut step)?);
    }
    rows.extend(Scored::mean(shuffles));
    for (name, picked) in &means {
        let (clips, seen): (Vec<&Frames>, Vec<&Seen>) = picked.iter().map(|both| (&both.0, &both.1)).unzip();
        rows.push(scorer.score(name, &clips, &seen, &mut step)?);
    }
    if baselines.contains(&"truth") {
        let seen: Vec<&Seen> = scorer.truth_seen().iter().collect();
        rows.push(scorer.score(TRUTH, &shown, &seen, &mut step)?);
    }
    progress.finish();

    let names = truth.iter().map(|clip| clip.name.clone()).collect();
    let table = Table { columns: scorer.columns().to_vec(), clips: names, rows };
    let classes = scorer.classes(&origins[0].seen.iter().collect::<Vec<_>>());
    let confusion = match (&labels, &classes) {
        (Some(labels), Some(classes)) => {
            let n_classes =
                judges.iter().find(|judge| judge.kind() == judges::Kind::Concept).map_or(0, Judge::n_classes);
            Some(Confusion::new(labels, classes, n_classes)?)
        }
        _ => None,
    };
    let scores = report::Scores {
        table: &table,
        pred: &origins[0].clips,
        truth: &shown,
        classes: classes.as_deref(),
        labels: labels.as_deref(),
        confusion: confusion.as_ref(),
        n_resamples: args.resamples,
        seed: args.seed,
        rank_by,
        settings: settings(args, &metrics, &judges),
    };
    scores.tell(args.output.as_deref(), shell)
}

fn settings(args: &Args, metrics: &[Metric], judges: &[Judge]) -> serde_json::Value {
    json!({
        "mindreel": env!("CARGO_PKG_VERSION"),
        "pred": args.pred.display().to_string(),
        "truth": args.truth.display().to_string(),
        "metrics": metrics.iter().map(|metric| metric.name()).collect::<Vec<_>>(),
        "classifiers": judges.iter().map(|judge| json!({
            "architecture": judge.kind().architecture(),
            "folder": judge.folder().display().to_string(),
            "classes": judge.n_classes(),
        })).collect::<Vec<_>>(),
        "controls": args.control,
        "train": args.train.as_ref().map(|train| train.display().to_string()),
        "resize": args.resize,
        "ways": args.ways,
        "top_k": args.top_k,
        "trials": args.trials,
        "reproduce_original": args.reproduce_original,
        "resamples": args.resamples,
        "seed": args.seed,
    })
}

/// The column sheets are ranked by.
fn rank_by(args: &Args, columns: &[Column]) -> Result<usize> {
    let keys: Vec<&str> = columns.iter().map(|column| column.key.as_str()).collect();
    match &args.rank_by {
        None => {
            let usual = |name: &&str| keys.iter().position(|key| key == name);
            Ok(["clip-cosine", "ssim"].iter().find_map(usual).unwrap_or(0))
        }
        Some(name) => (keys.iter().position(|key| key == name))
            .ok_or_else(|| Error::setting("--rank-by", none_of(name, keys.iter().copied()))),
    }
}

fn baselines(args: &Args) -> Result<Vec<&'static str>> {
    if args.baselines.is_empty() {
        let known = BASELINES.into_iter();
        return Ok(known.filter(|name| args.train.is_some() || !name.ends_with("mean")).collect());
    }
    if args.baselines == ["none"] {
        return Ok(Vec::new());
    }
    if args.baselines.iter().any(|name| name == "none") {
        return Err(Error::setting("--baselines", "'none' stands alone"));
    }
    let known = |name: &String| {
        let found = BASELINES.into_iter().find(|known| known == name).ok_or_else(|| {
            Error::setting("--baselines", none_of(name, BASELINES.into_iter().chain(["none"])))
        })?;
        if found.ends_with("mean") && args.train.is_none() {
            let detail = format!("'{found}' is a mean of training clips; give their data set with --train");
            return Err(Error::setting("--baselines", detail));
        }
        Ok(found)
    };
    args.baselines.iter().map(known).collect()
}

/// Further predictions by their names, each a row of its own.
fn controls(texts: &[String]) -> Result<Vec<(&str, &Path)>> {
    let mut found: Vec<(&str, &Path)> = Vec::new();
    for text in texts {
        let (name, folder) = control(text)?;
        let rows = [PREDICTION, SHUFFLED, MEAN, CLASS_MEAN, TRUTH];
        if rows.into_iter().chain(found.iter().map(|(known, _)| *known)).any(|row| row == name) {
            let detail =
                format!("'{}' is the name of another row; give it one of its own", name.escape_debug());
            return Err(Error::setting("--control", detail));
        }
        found.push((name, folder));
    }
    Ok(found)
}

fn control(text: &str) -> Result<(&str, &Path)> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => Ok((name, Path::new(folder))),
        _ => Err(Error::setting("--control", format!("wanted NAME=DIR, got '{}'", text.escape_debug()))),
    }
}

/// Every folder with a judge, by what it is; no two of a kind.
fn classifiers(args: &Args) -> Result<Vec<(judges::Kind, PathBuf)>> {
    use judges::Kind;
    let mut found: Vec<(Kind, PathBuf)> = Vec::new();
    let named = [
        ("--image-classifier", Kind::Image, &args.image_classifier),
        ("--video-classifier", Kind::Video, &args.video_classifier),
        ("--clip", Kind::Clip, &args.clip),
        ("--clip-classifier", Kind::Concept, &args.clip_classifier),
    ];
    let named =
        named.into_iter().filter_map(|(flag, kind, folder)| Some((flag, Some(kind), folder.as_ref()?)));
    for (flag, wanted, folder) in
        named.chain(args.classifier.iter().map(|folder| ("--classifier", None, folder)))
    {
        let kind = Kind::of(folder)?;
        if let Some(wanted) = wanted.filter(|&wanted| wanted != kind) {
            let (got, wanted) = (kind.architecture(), wanted.architecture());
            let detail = format!("{} is a {got}, wanted a {wanted}", folder.display());
            return Err(Error::setting(flag, detail));
        }
        if found.iter().any(|(known, _)| *known == kind) {
            let detail =
                format!("{} is a second {}; one of each is taken", folder.display(), kind.architecture());
            return Err(Error::setting(flag, detail));
        }
        found.push((kind, folder.clone()));
    }
    Ok(found)
}

/// What can be scored with these judges.
fn possible(folders: &[(judges::Kind, PathBuf)]) -> Vec<Metric> {
    let has =
        |metric: &Metric| metric.judge().is_none_or(|kind| folders.iter().any(|(known, _)| *known == kind));
    let mut metrics: Vec<Metric> = Metric::ALL.iter().map(|(_, metric)| *metric).filter(has).collect();
    // What one wants to know first.
    metrics.sort_by_key(|metric| *metric != Metric::Class);
    metrics
}

/// Says so where clips go together by their order though their names tell of another.
fn note_names(clips: &[Clip], truth: &[Clip], folder: &Path, shell: &Shell) {
    if let Some([ours, theirs]) = clips::at_odds(clips, truth) {
        shell.note(&format!(
            "warning: {}: '{ours}' goes with '{theirs}', by their order; other names are the same in both",
            folder.display()
        ));
    }
}

fn origin(name: &str, clips: Vec<Clip>) -> Origin {
    Origin { name: name.into(), clips: clips.into_iter().map(|clip| clip.frames).collect(), seen: Vec::new() }
}

fn is_data_set(folder: &Path) -> bool {
    folder.join("meta_info").is_dir() && folder.join("Video").is_dir()
}

/// The block of a data set that is tested.
fn test_block(args: &Args, folder: &Path) -> Result<usize> {
    let n = Shown::n_blocks(folder)?;
    match args.test_block {
        None => Ok(n - 1),
        Some(block) if block < n => Ok(block),
        Some(block) => {
            let detail = format!("{} has blocks 0 to {}, got {block}", folder.display(), n - 1);
            Err(Error::setting("--test-block", detail))
        }
    }
}

/// What was shown, and its classes where they come with it.
fn truth(args: &Args) -> Result<(Vec<Clip>, Option<Vec<usize>>)> {
    if !is_data_set(&args.truth) {
        return Ok((clips::read(&args.truth)?, None));
    }
    let test = test_block(args, &args.truth)?;
    let shown = Shown::open(&args.truth, |block| block == test)?;
    let clip = |(at, frames)| Clip { name: format!("{at:04}"), path: args.truth.clone(), frames };
    let mut both: Vec<_> = shown.clips.into_iter().zip(shown.labels).collect();
    if args.class_order {
        both.sort_by_key(|(_, label)| *label);
    }
    let (clips, labels): (Vec<_>, Vec<_>) = both.into_iter().unzip();
    Ok((clips.into_iter().enumerate().map(clip).collect(), Some(labels)))
}

/// The clips that could be learnt from.
fn learnt(args: &Args) -> Result<Option<Shown>> {
    let Some(folder) = &args.train else { return Ok(None) };
    let test = test_block(args, folder)?;
    Ok(Some(Shown::open(folder, |block| block != test)?))
}

/// The class of each clip: from the file, the order, the data set, or beside the truth.
fn class_labels(args: &Args, own: Option<Vec<usize>>, n: usize) -> Result<Option<Vec<usize>>> {
    let labels = match &args.labels {
        Some(path) => {
            let labels = labels::read(path)?;
            if labels.len() != n {
                return Err(Error::format(
                    path,
                    format!("holds {} classes, there are {n} clips", labels.len()),
                ));
            }
            labels
        }
        None if args.class_order && own.is_none() => {
            if !n.is_multiple_of(CLASSES) {
                let detail = format!("{n} clips are not as many of each of {CLASSES} classes");
                return Err(Error::setting("--class-order", detail));
            }
            (0..n).map(|at| at / (n / CLASSES)).collect()
        }
        None => match (own, args.truth.join("labels.json")) {
            (Some(labels), _) => labels,
            (None, beside) if beside.is_file() => labels::read(&beside)?,
            _ => return Ok(None),
        },
    };
    Ok(Some(labels))
}

/// Why a baseline cannot be had from these clips.
fn hindrance(
    name: &str,
    args: &Args,
    learnt: Option<&Shown>,
    truth: &[&Frames],
    labels: Option<&[usize]>,
) -> Option<Error> {
    let size = |clip: &Frames| [clip.count, clip.height, clip.width];
    let like = truth[0];
    if truth.iter().any(|clip| size(clip) != size(like)) {
        return Some(Error::format(&args.truth, "holds clips of several sizes"));
    }
    if name == "shuffled" {
        return (truth.len() < 2)
            .then(|| Error::format(&args.truth, "holds one clip, there is no other order"));
    }
    let (folder, learnt) = (args.train.as_ref()?, learnt?);
    let ([n, h, w], [m, y, x]) = (size(&learnt.clips[0]), size(like));
    if n != m || ((h, w) != (y, x) && !args.resize) {
        let next = if n == m { "; --resize brings frames to the truth's size" } else { "" };
        let detail = format!("clips of {n} frames of {w} x {h}, the truth's are {m} of {x} x {y}{next}");
        return Some(Error::format(folder, detail));
    }
    if name != "class-mean" {
        return None;
    }
    let Some(labels) = labels else {
        return Some(Error::setting("--labels", "is missing: 'class-mean' wants the class of each clip"));
    };
    let missing = labels.iter().find(|label| !learnt.labels.contains(label))?;
    Some(Error::format(folder, format!("holds no clip of class {missing} (from 0) to learn from")))
}

/// A clip and what the judges see in it.
type Looked = std::rc::Rc<(Frames, Seen)>;

/// The mean clips, one for each place of the truth; [`hindrance`] has had its say.
fn means(
    baselines: &[&'static str],
    learnt: Option<&Shown>,
    truth: &[&Frames],
    labels: Option<&[usize]>,
    scorer: &Scorer,
) -> Result<Vec<(&'static str, Vec<Looked>)>> {
    let Some(learnt) = learnt else { return Ok(Vec::new()) };
    let like = truth[0];
    let look = |of: Vec<&Frames>| -> Result<Looked> {
        let mut mean = clips::mean(of)?;
        if [mean.height, mean.width] != [like.height, like.width] {
            mean = clips::resized(&mean, like.height, like.width)?;
        }
        let seen = scorer.see(&mean)?;
        Ok(Looked::new((mean, seen)))
    };
    let mut found = Vec::new();
    if baselines.contains(&"mean") {
        let mean = look(learnt.clips.iter().collect())?;
        found.push((MEAN, vec![mean; truth.len()]));
    }
    if let Some(labels) = labels.filter(|_| baselines.contains(&"class-mean")) {
        let mut by_class = std::collections::BTreeMap::new();
        for &label in labels {
            if let std::collections::btree_map::Entry::Vacant(place) = by_class.entry(label) {
                let of = learnt.clips.iter().zip(&learnt.labels).filter(|(_, known)| **known == label);
                place.insert(look(of.map(|(clip, _)| clip).collect())?);
            }
        }
        found.push((CLASS_MEAN, labels.iter().map(|label| by_class[label].clone()).collect()));
    }
    Ok(found)
}

/// Pairs that are shuffled at least: of fewer clips several orders are taken, so that chance shows.
const SHUFFLED_PAIRS: usize = 200;

fn n_shuffles(n_clips: usize) -> usize {
    SHUFFLED_PAIRS.div_ceil(n_clips)
}

/// 0..n in an order of its own for each seed and number (Fisher and Yates).
fn shuffled(n: usize, seed: u64, nth: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut state = splitmix64(seed ^ splitmix64(0x7368_7566 + nth));
    for last in (1..n).rev() {
        state = splitmix64(state);
        order.swap(last, ((u128::from(state) * (last as u128 + 1)) >> 64) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_drawn_by_seed_and_number() {
        for n in [1, 2, 17, 200] {
            let mut sorted = shuffled(n, 5, 0);
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..n));
        }
        assert_ne!(shuffled(50, 0, 0), shuffled(50, 1, 0));
        assert_ne!(shuffled(50, 0, 0), shuffled(50, 0, 1));
        assert_eq!([1, 40, 200, 999].map(n_shuffles), [200, 5, 1, 1]);
    }

    #[test]
    fn controls_are_named() {
        let refused = |names: &[&str]| {
            let texts: Vec<String> = names.iter().map(|name| format!("{name}=x")).collect();
            controls(&texts).unwrap_err()
        };
        for names in [&["truth"][..], &["prediction"], &["shuffled pairs"], &["mean clip"], &["a", "b", "a"]]
        {
            let error = refused(names);
            let name = names[names.len() - 1];
            assert!(error.to_string().contains(&format!("'{name}' is the name of another row")), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        assert_eq!(control("noise=a=b").unwrap(), ("noise", Path::new("a=b")));
        assert!(control("noise").is_err() && control("=x").is_err() && control("x=").is_err());
    }
}
