//! `mindreel train classify`: cross-validated classifiers on a folder in SEED-DV's layout.

use super::report;
use super::sweep::shard;
use crate::cli::progress::{Progress, duration};
use crate::cli::settings::SettingsFile;
use crate::cli::{Float, Shell, stop};
use crate::data::{Examples, Fold, Input, Protocol, SeedDv, Task, folds};
use crate::error::{Error, Result};
use crate::eval::check_permutations;
use crate::files;
use crate::gpu::Gpu;
use crate::models::{check_classifier, takes_features};
use crate::signal::montage::SAMPLE_RATE_HZ;
use crate::signal::{Form, Segments, Units};
use crate::train::classify::{CHECKPOINT, Place, RESULT, Recipe, UnitResult, run_unit};
use crate::train::{Course, Plateau, Rates, Rule, Sweep, Unit};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// No settings file is longer.
const SETTINGS_BYTES: u64 = 1 << 20;

const EXAMPLES: &str = "\
The data: a folder with EEG/sub1.npy .. ([7, 62, 104000], or segmented) and meta_info/, as SEED-DV has them and
`mindreel prepare simulate` makes them. Every block is the test set once; the one before it chooses the epoch; the rest
is learnt from, and scaled by. Beside every accuracy stand chance, a permutation p-value and the same training on
shuffled labels.

An example of samples is a window with the mean of each channel taken off, then scaled by what the training windows are
like (`scaler.safetensors` of a unit); `mindreel forward` takes what is already so.

Examples:
  mindreel train classify --data sim --output runs/shallow
  mindreel train classify --data sim --output runs/de --model MLP,GLMNetMLP --input de --task 40c,fast-slow
  mindreel train classify --data SEED-DV --output runs/all --subjects sub1,sub2 --shard 0/4
  mindreel train classify --data SEED-DV --output runs/habits --model GLMNetMLP --input de --reproduce-original

Ctrl-C keeps a checkpoint, --resume goes on from it bit for bit; finished units are skipped. --shard defaults to what
Slurm's job array says.";

/// Cross-validate EEG classifiers
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The data set
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Where units, tables and pictures go
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// Settings by the names of these flags; flags win
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,

    /// Architectures, by the names `mindreel info --models` lists [default: ShallowNet]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    model: Vec<String>,

    /// 40c, 9c, colour, fast-slow, numbers, face, human [default: 40c]
    #[arg(long, value_delimiter = ',', value_name = "TASK,…")]
    task: Vec<String>,

    /// raw, de, psd, raw+de or raw+psd [default: what the model takes: raw, de or raw+de]
    #[arg(long)]
    input: Option<String>,

    /// Subjects, as the files are called: sub1,sub3 [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    subjects: Vec<String>,

    /// Test the blocks of these numbers, from 0 [default: all]
    #[arg(long, value_delimiter = ',', value_name = "K,…")]
    folds: Vec<u64>,

    /// A training for each seed [default: 0]
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    seeds: Vec<u64>,

    /// Test each subject on a model trained on the others
    #[arg(long)]
    cross_subject: bool,

    /// What the recording's numbers are: V or uV [default: V]
    #[arg(long)]
    units: Option<String>,

    /// Seconds of a window [default: 1]
    #[arg(long, value_name = "S")]
    window_s: Option<f64>,

    /// Seconds from one window to the next within a clip [default: the window]
    #[arg(long, value_name = "S")]
    step_s: Option<f64>,

    /// Most passes over the training data [default: 60]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,

    /// Windows per step [default: 128]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,

    /// adamw, adam or sgd (with momentum 0.9) [default: adamw]
    #[arg(long)]
    optimizer: Option<String>,

    /// [default: 0.001]
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,

    /// [default: 0.01]
    #[arg(long, value_name = "X")]
    weight_decay: Option<f64>,

    /// constant, cosine, step (halves every tenth of the run) or plateau [default: constant]
    #[arg(long)]
    schedule: Option<String>,

    /// Steps in which the learning rate rises [default: 0]
    #[arg(long, value_name = "N")]
    warmup_steps: Option<u64>,

    /// Most the norm of the gradients may be [default: none]
    #[arg(long, value_name = "X")]
    clip_norm: Option<f64>,

    /// Share of the target given to all classes alike [default: 0]
    #[arg(long, value_name = "X")]
    label_smoothing: Option<f64>,

    /// Epochs without better validation until a unit ends; 0: never [default: 15]
    #[arg(long, value_name = "N")]
    patience: Option<usize>,

    /// Number type of activations; parameters are f32 [default: f32]
    #[arg(long)]
    dtype: Option<Float>,

    /// Steps between checkpoints within an epoch [default: 0, after each epoch alone]
    #[arg(long, value_name = "N")]
    checkpoint_steps: Option<usize>,

    /// Leave out the trainings on shuffled labels
    #[arg(long)]
    no_controls: bool,

    /// The originals' habits beside ours: validation within the training set, each set scaled by itself, their features
    #[arg(long)]
    reproduce_original: bool,

    /// Permutations behind a p-value [default: 10000]
    #[arg(long, value_name = "N")]
    permutations: Option<usize>,

    /// This part of the units alone: I/N, I from 0 [default: Slurm's job array, else all]
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,

    /// Go on from the checkpoints in --output
    #[arg(long)]
    resume: bool,

    /// Start anew where other settings or checkpoints are in --output
    #[arg(long)]
    force: bool,
}

/// Names a settings file may hold.
const KNOWN: [&str; 25] = [
    "model",
    "task",
    "input",
    "subjects",
    "folds",
    "seeds",
    "cross-subject",
    "units",
    "window-s",
    "step-s",
    "epochs",
    "batch-size",
    "optimizer",
    "learning-rate",
    "weight-decay",
    "schedule",
    "warmup-steps",
    "clip-norm",
    "label-smoothing",
    "patience",
    "dtype",
    "checkpoint-steps",
    "no-controls",
    "reproduce-original",
    "permutations",
];

/// Everything after flags, file and defaults are merged.
struct Merged {
    sweep: Sweep,
    input: Option<Input>,
    cross_subject: bool,
    units: Units,
    /// Seconds of a window, and from one to the next.
    window_s: [f64; 2],
    recipe: Recipe,
    schedule: String,
    permutations: usize,
    form: Form,
}

pub(super) fn compare(args: &Args, shell: &Shell) -> Result<()> {
    let file = SettingsFile::open(args.config.as_deref(), &KNOWN)?;
    let models =
        if args.model.is_empty() { file.words("model")?.unwrap_or_default() } else { args.model.clone() };
    if each_once(models).len() < 2 {
        return Err(Error::setting("--model", "compare wants two models or more, such as ShallowNet,EEGNet"));
    }
    run(args, shell)
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let file = SettingsFile::open(args.config.as_deref(), &KNOWN)?;
    let units = args.units.clone().or(file.word("units")?).unwrap_or("V".into()).parse::<Units>()?;
    let data = SeedDv::open(&args.data, units)?;
    let merged = merge(args, &file, &data, units)?;
    let shard = shard(args.shard.as_deref())?;
    let all = merged.sweep.units();
    let mine = shard.pick(all.clone());
    claim(args, &merged, &mine)?;
    if mine.is_empty() {
        let text = format!("{} units, none of them in this part: there is nothing to do", all.len());
        return shell.print(&text, &json!({ "output": args.output.display().to_string(), "summaries": [] }));
    }
    let todo: Vec<&Unit> = mine.iter().filter(|unit| !folder_of(args, unit).join(RESULT).exists()).collect();
    shell.note(&format!(
        "{} of {} units in this part, {} finished before",
        mine.len(),
        all.len(),
        mine.len() - todo.len()
    ));
    let stopped = stop::watch(shell.quiet)?;
    if !todo.is_empty() {
        let gpu = shell.open_gpu()?;
        shell.note(&format!("on '{}'", gpu.facts().name));
        let mut source = Source { data: &data, merged: &merged, clips: None, cut: None };
        for (nth, unit) in todo.iter().enumerate() {
            let label = format!("{}/{} {}", nth + 1, todo.len(), unit.name());
            run_one(&gpu, unit, &mut source, args, shell, &stopped, &label)?;
        }
    }
    let results = crate::train::report::read_results(&[args.output.join("units")])?;
    let summaries = report::write(&args.output, &results, merged.permutations)?;
    report::print(&args.output, &summaries, shell)
}

fn run_one(
    gpu: &Gpu,
    unit: &Unit,
    source: &mut Source,
    args: &Args,
    shell: &Shell,
    stopped: &AtomicBool,
    label: &str,
) -> Result<()> {
    let started = Instant::now();
    let folder = folder_of(args, unit);
    files::make_folder(&folder)?;
    let (task, merged) = (unit.task.parse::<Task>()?, source.merged);
    let (examples, fold, clips_per_group) = source.of(unit, task)?;
    let mut recipe = merged.recipe.clone();
    let n_train =
        (0..examples.len()).filter(|&at| fold.train.contains(&(examples.clips[at] / clips_per_group)));
    let steps = n_train.count().div_ceil(recipe.batch_size).max(1).saturating_mul(recipe.epochs);
    recipe.rates.course = course(&merged.schedule, steps as u64)?;
    let mut progress = Progress::new(shell.quiet, label, steps as u64);
    let mut tell = |epoch: usize, step: usize, of: usize| progress.set((epoch * of + step) as u64);
    let mut place = Place { folder: &folder, resume: args.resume, stop: stopped, progress: &mut tell };
    let group = |at: usize| examples.clips[at] / clips_per_group;
    let result = run_unit(gpu, unit, task, examples, &group, &fold, &recipe, &mut place);
    progress.finish();
    let result = result?;
    shell.note(&format!(
        "{label}: {:.1} % of {} clips, chance {:.1} %, best epoch {} of {}, {}",
        100.0 * result.top(1),
        result.clips.len(),
        100.0 / result.n_classes as f64,
        result.best_epoch + 1,
        result.epochs.len(),
        duration(started.elapsed().as_secs_f64())
    ));
    Ok(())
}

/// Clips and examples as units ask for them; what one leaves behind the next may use.
struct Source<'a> {
    data: &'a SeedDv,
    merged: &'a Merged,
    clips: Option<(String, Segments)>,
    cut: Option<(String, Examples, usize)>,
}

impl Source<'_> {
    /// Examples of a unit, its fold, and the clips of a block (or subject).
    fn of(&mut self, unit: &Unit, task: Task) -> Result<(&Examples, Fold, usize)> {
        let input = input_of(&unit.model, self.merged.input)?;
        let across = self.merged.cross_subject;
        let subject = if across { "all".to_string() } else { unit.subject.clone() };
        let form = if unit.protocol() == Protocol::Original { Form::Original } else { self.merged.form };
        let key = format!("{subject} {} {} {form:?}", task.name(), input.name());
        if self.cut.as_ref().is_none_or(|(known, ..)| *known != key) {
            let (examples, clips_per_group) = if across {
                let mut parts = Vec::new();
                let mut n_clips = 0;
                for subject in &self.merged.sweep.subjects {
                    let (part, n) = self.cut(&subject.clone(), task, input, form)?;
                    if n_clips != 0 && n != n_clips {
                        let detail = format!("{subject} has {n} clips, others {n_clips}");
                        return Err(Error::shape("subjects", detail));
                    }
                    n_clips = n;
                    parts.push(part);
                }
                (Examples::join(&parts, n_clips)?, n_clips)
            } else {
                let (examples, n_clips) = self.cut(&subject, task, input, form)?;
                (examples, n_clips / SeedDv::n_blocks(n_clips))
            };
            self.cut = Some((key, examples, clips_per_group));
        }
        let fold = if across {
            let subjects = &self.merged.sweep.subjects;
            let at = subjects.iter().position(|name| *name == unit.subject).unwrap_or(0);
            folds(subjects.len(), unit.protocol())?.swap_remove(at)
        } else {
            let (_, examples, per) = self.cut.as_ref().expect("made just above");
            let n_blocks = examples.clips.iter().max().map_or(0, |clip| clip / per + 1);
            let mut folds = folds(n_blocks, unit.protocol())?;
            if unit.fold >= folds.len() {
                let detail =
                    format!("{} has blocks 0 to {}, got {}", unit.subject, folds.len() - 1, unit.fold);
                return Err(Error::setting("folds", detail));
            }
            folds.swap_remove(unit.fold)
        };
        let (_, examples, per) = self.cut.as_ref().expect("made just above");
        Ok((examples, fold, *per))
    }

    /// Windows of a subject's clips, and how many clips there are.
    fn cut(&mut self, subject: &str, task: Task, input: Input, form: Form) -> Result<(Examples, usize)> {
        if self.clips.as_ref().is_none_or(|(known, _)| known != subject) {
            self.clips = None; // one recording at a time
            self.clips = Some((subject.to_string(), self.data.clips(subject)?));
        }
        let (_, clips) = self.clips.as_ref().expect("read just above");
        let labels = self.data.labels(task, SeedDv::n_blocks(clips.n))?;
        let window = self.merged.window_s.map(|s| ((s * clips.sample_rate_hz).round() as usize).max(1));
        if window[0] > clips.n_samples {
            let [given, clip] = [window[0], clips.n_samples].map(|n| n as f64 / clips.sample_rate_hz);
            return Err(Error::setting(
                "window-s",
                format!("wanted at most a clip of {clip} s, got {given} s"),
            ));
        }
        // There is a label for each clip: what does not fit is the window.
        let examples = Examples::cut(clips, &labels, input, window, form).map_err(|error| match error {
            Error::Shape { detail, .. } => Error::setting("window-s", detail),
            other => other,
        })?;
        Ok((examples, clips.n))
    }
}

fn merge(args: &Args, file: &SettingsFile, data: &SeedDv, units: Units) -> Result<Merged> {
    let words = |given: &[String], name: &str, usual: &str| -> Result<Vec<String>> {
        if !given.is_empty() {
            return Ok(each_once(given.to_vec()));
        }
        Ok(each_once(file.words(name)?.unwrap_or_else(|| vec![usual.to_string()])))
    };
    let models = words(&args.model, "model", "ShallowNet")?;
    for model in &models {
        check_classifier(model)?;
    }
    let tasks = words(&args.task, "task", "40c")?;
    let input = match args.input.clone().or(file.word("input")?) {
        None => None,
        Some(text) => match Input::ALL.iter().find(|(name, _)| *name == text) {
            Some(&(_, input)) => Some(input),
            None => {
                let detail = format!("'{}' is none of raw, de, psd, raw+de, raw+psd", text.escape_debug());
                return Err(Error::setting("input", detail));
            }
        },
    };
    let known: Vec<String> = data.subjects().map(str::to_string).collect();
    let subjects = words(&args.subjects, "subjects", "")?;
    let subjects = if subjects == [""] { known.clone() } else { subjects };
    if let Some(unknown) = subjects.iter().find(|name| !known.contains(name)) {
        let detail = format!("'{}' is none of {}", unknown.escape_debug(), known.join(", "));
        return Err(Error::setting("subjects", detail));
    }
    let counts = |given: &[u64], name: &str| -> Result<Option<Vec<u64>>> {
        let counts = if given.is_empty() { file.counts(name)? } else { Some(given.to_vec()) };
        Ok(counts.map(each_once))
    };
    let cross_subject = args.cross_subject || file.switch("cross-subject")?;
    if cross_subject && subjects.len() < 3 {
        let detail = format!("across subjects wants 3 subjects or more, got {}", subjects.len());
        return Err(Error::setting("cross-subject", detail));
    }
    let chosen = counts(&args.folds, "folds")?;
    if cross_subject && chosen.is_some() {
        return Err(Error::setting("folds", "across subjects each subject is a fold; leave it out"));
    }
    let folds = match chosen {
        Some(folds) => folds.into_iter().map(|fold| fold as usize).collect(),
        None if cross_subject => vec![0],
        None => (0..SeedDv::n_blocks(data.n_clips(&subjects[0])?)).collect(),
    };
    let seeds = counts(&args.seeds, "seeds")?.unwrap_or_else(|| vec![0]);
    let original = args.reproduce_original || file.switch("reproduce-original")?;
    let number = |given: Option<f64>, name: &str, usual: f64| -> Result<f64> {
        Ok(given.or(file.number(name)?).unwrap_or(usual))
    };
    let size = |given: Option<usize>, name: &str, usual: usize| -> Result<usize> {
        Ok(given.or(file.size(name)?).unwrap_or(usual))
    };
    let window = number(args.window_s, "window-s", 1.0)?;
    let step = number(args.step_s, "step-s", window)?;
    for (name, value) in [("window-s", window), ("step-s", step)] {
        if !(value.is_finite() && value >= 1.0 / SAMPLE_RATE_HZ) {
            return Err(Error::setting(name, format!("wanted a sample or more, got {value} s")));
        }
    }
    let batch_size = size(args.batch_size, "batch-size", 128)?;
    let epochs = size(args.epochs, "epochs", 60)?;
    for (name, value) in [("batch-size", batch_size), ("epochs", epochs)] {
        if value == 0 {
            return Err(Error::setting(name, "wanted at least 1, got 0"));
        }
    }
    let smoothing = number(args.label_smoothing, "label-smoothing", 0.0)?;
    if !(0.0..1.0).contains(&smoothing) {
        return Err(Error::setting("label-smoothing", format!("wanted 0 to below 1, got {smoothing}")));
    }
    let decay = number(args.weight_decay, "weight-decay", 0.01)?;
    if !(decay.is_finite() && decay >= 0.0) {
        return Err(Error::setting("weight-decay", format!("wanted 0 or more, got {decay}")));
    }
    let rule = match args.optimizer.clone().or(file.word("optimizer")?).as_deref() {
        None | Some("adamw") => Rule::ADAMW,
        Some("adam") => Rule::ADAM,
        Some("sgd") => Rule::Sgd(crate::ops::Sgd { momentum: 0.9, nesterov: false }),
        Some(other) => {
            let detail = format!("'{}' is none of adamw, adam, sgd", other.escape_debug());
            return Err(Error::setting("optimizer", detail));
        }
    };
    let schedule = args.schedule.clone().or(file.word("schedule")?).unwrap_or("constant".into());
    course(&schedule, 1)?;
    let half = match (args.dtype, file.word("dtype")?.as_deref()) {
        (Some(dtype), _) => dtype,
        (None, None | Some("f32")) => Float::F32,
        (None, Some("f16")) => Float::F16,
        (None, Some(other)) => {
            return Err(Error::setting("dtype", format!("wanted f32 or f16, got '{other}'")));
        }
    };
    let protocols = protocols(original);
    let controls = !(args.no_controls || file.switch("no-controls")?);
    let recipe = Recipe {
        epochs,
        batch_size,
        rule,
        rates: Rates {
            base: number(args.learning_rate, "learning-rate", 1e-3)?,
            warmup: args.warmup_steps.or(file.count("warmup-steps")?).unwrap_or(0),
            course: Course::Constant, // of the unit's steps
        },
        plateau: (schedule == "plateau").then(|| Plateau::new(0.8, 10, 1e-3)),
        decay,
        clip_norm: args.clip_norm.or(file.number("clip-norm")?),
        label_smoothing: smoothing,
        patience: size(args.patience, "patience", 15)?,
        precision: half.precision(),
        checkpoint_steps: size(args.checkpoint_steps, "checkpoint-steps", 0)?,
    };
    recipe.rates.check()?;
    let tasks = each_once(tasks.iter().map(|task| task.parse()).collect::<Result<_>>()?);
    for model in &models {
        input_of(model, input)?;
    }
    let permutations = size(args.permutations, "permutations", report::PERMUTATIONS)?;
    check_permutations(permutations)?;
    Ok(Merged {
        sweep: Sweep { models, tasks, subjects, folds, seeds, protocols, controls },
        input,
        cross_subject,
        units,
        window_s: [window, step],
        recipe,
        schedule,
        permutations,
        form: Form::Corrected,
    })
}

/// What was named, in its order, without what was named before.
fn each_once<T: PartialEq>(named: Vec<T>) -> Vec<T> {
    let mut once = Vec::new();
    for one in named {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

/// What a model is shown: what was asked for, or what it takes.
fn input_of(model: &str, asked: Option<Input>) -> Result<Input> {
    let usual = match model {
        "GLMNetCV" | "GLMNetMatched" => Input::RawDe,
        _ if takes_features(model) => Input::De,
        _ => Input::Raw,
    };
    let kinds = |input: Input| (input.has_samples(), input.has_features());
    let takes = |input: Input| kinds(input) == kinds(usual);
    match asked {
        None => Ok(usual),
        Some(asked) if takes(asked) => Ok(asked),
        Some(asked) => {
            let fitting: Vec<_> =
                Input::ALL.into_iter().filter(|&(_, input)| takes(input)).map(|(name, _)| name).collect();
            let what = match kinds(usual) {
                (true, true) => "samples and features",
                (false, true) => "features",
                _ => "samples",
            };
            let detail = format!("{model} takes {what}: {}, got '{}'", fitting.join(" or "), asked.name());
            Err(Error::setting("input", detail))
        }
    }
}

/// The course of a schedule over a run of this many steps.
fn course(schedule: &str, steps: u64) -> Result<Course> {
    match schedule {
        "constant" | "plateau" => Ok(Course::Constant),
        "cosine" => Ok(Course::Cosine { steps, least: 0.0 }),
        "step" => Ok(Course::Step { every: (steps / 10).max(1), factor: 0.5 }),
        other => {
            let detail = format!("'{}' is none of constant, cosine, step, plateau", other.escape_debug());
            Err(Error::setting("schedule", detail))
        }
    }
}

fn folder_of(args: &Args, unit: &Unit) -> PathBuf {
    args.output.join("units").join(unit.name())
}

/// Takes the output folder for these settings: refuses one of other settings, and checkpoints nobody asked to go on from.
fn claim(args: &Args, merged: &Merged, mine: &[Unit]) -> Result<()> {
    if args.output.is_file() {
        let detail = format!("'{}' is a file, wanted a folder", args.output.display());
        return Err(Error::setting("--output", detail));
    }
    let path = args.output.join("settings.toml");
    let text = merged.to_toml(&args.data);
    match std::fs::read(&path) {
        Ok(known) if known == text.as_bytes() => {}
        Ok(_) if !args.force && has_work(&args.output.join("units")) => {
            let detail =
                "was written by a run of other settings; give another --output, or --force to start anew";
            return Err(Error::format(&path, detail));
        }
        Ok(_) if !args.force && !is_settings(&path)? => {
            let detail = "is no settings of such a run; give another --output, or --force to replace it";
            return Err(Error::format(&path, detail));
        }
        Ok(_) => {
            let units = args.output.join("units");
            std::fs::remove_dir_all(&units).or_else(missing_is_fine).map_err(Error::write(&units))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::read(&path)(error)),
    }
    for unit in mine {
        files::sweep(&folder_of(args, unit))?;
        let checkpoint = folder_of(args, unit).join(CHECKPOINT);
        if checkpoint.exists() && !args.resume {
            if !args.force {
                let detail = "is there from a run that was cut off; --resume goes on, --force starts anew";
                return Err(Error::format(&checkpoint, detail));
            }
            std::fs::remove_file(&checkpoint).or_else(missing_is_fine).map_err(Error::write(&checkpoint))?;
        }
    }
    files::write_text(&path, &text)
}

/// Whose habits are followed.
fn protocols(original: bool) -> Vec<Protocol> {
    if original { vec![Protocol::Clean, Protocol::Original] } else { vec![Protocol::Clean] }
}

/// Whether a settings file is one that [`Merged::to_toml`] wrote.
fn is_settings(path: &Path) -> Result<bool> {
    let bytes = files::read_small(path, SETTINGS_BYTES)?;
    let table = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse::<toml::Table>().ok());
    Ok(table.is_some_and(|table| {
        ["model", "task", "subjects", "seeds"].iter().all(|name| table.contains_key(*name))
    }))
}

/// Says which units the settings of these runs ask for and none of them holds.
pub(in crate::cli) fn note_missing(folders: &[PathBuf], results: &[UnitResult], shell: &Shell) -> Result<()> {
    let found: BTreeSet<String> = results.iter().map(|result| result.unit.name()).collect();
    for folder in folders {
        let path = folder.join("settings.toml");
        if !path.is_file() || !is_settings(&path)? {
            continue;
        }
        let asked = sweep_of(&SettingsFile::open(Some(&path), &KNOWN)?)?.units();
        let missing: Vec<String> =
            asked.iter().map(Unit::name).filter(|name| !found.contains(name)).collect();
        if let Some(first) = missing.first() {
            shell.note(&format!(
                "warning: {} of {} units that {} asks for are not finished, such as {first}; what is told is of the others",
                missing.len(),
                asked.len(),
                path.display()
            ));
        }
    }
    Ok(())
}

/// The sweep of settings that [`Merged::to_toml`] wrote.
fn sweep_of(file: &SettingsFile) -> Result<Sweep> {
    let tasks = file.words("task")?.unwrap_or_default();
    let folds = file.counts("folds")?.unwrap_or_else(|| vec![0]);
    Ok(Sweep {
        models: file.words("model")?.unwrap_or_default(),
        tasks: tasks.iter().map(|task| task.parse()).collect::<Result<_>>()?,
        subjects: file.words("subjects")?.unwrap_or_default(),
        folds: folds.into_iter().map(|fold| fold as usize).collect(),
        seeds: file.counts("seeds")?.unwrap_or_default(),
        protocols: protocols(file.switch("reproduce-original")?),
        controls: !file.switch("no-controls")?,
    })
}

/// Whether a unit was finished or got as far as a checkpoint.
fn has_work(units: &Path) -> bool {
    std::fs::read_dir(units).is_ok_and(|entries| {
        entries.flatten().any(|unit| [RESULT, CHECKPOINT].iter().any(|name| unit.path().join(name).exists()))
    })
}

fn missing_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

impl Merged {
    /// The settings as `--config` takes them.
    fn to_toml(&self, data: &Path) -> String {
        let mut table = toml::Table::new();
        let mut put = |name: &str, value: toml::Value| _ = table.insert(name.to_string(), value);
        let words = |words: &[String]| toml::Value::from(words.to_vec());
        let counts = |counts: Vec<i64>| toml::Value::from(counts);
        let sweep = &self.sweep;
        put("model", words(&sweep.models));
        let tasks: Vec<String> = sweep.tasks.iter().map(|task| task.name().to_string()).collect();
        put("task", words(&tasks));
        put("subjects", words(&sweep.subjects));
        if !self.cross_subject {
            put("folds", counts(sweep.folds.iter().map(|&fold| fold as i64).collect()));
        }
        put("seeds", counts(sweep.seeds.iter().map(|&seed| seed as i64).collect()));
        if let Some(input) = self.input {
            put("input", input.name().into());
        }
        put("cross-subject", self.cross_subject.into());
        put("units", if self.units == Units::Volts { "V" } else { "uV" }.into());
        put("window-s", self.window_s[0].into());
        put("step-s", self.window_s[1].into());
        let recipe = &self.recipe;
        put("epochs", (recipe.epochs as i64).into());
        put("batch-size", (recipe.batch_size as i64).into());
        let optimizer = match recipe.rule {
            Rule::Sgd(_) => "sgd",
            rule if rule == Rule::ADAM => "adam",
            Rule::Adam(_) => "adamw",
        };
        put("optimizer", optimizer.into());
        put("learning-rate", recipe.rates.base.into());
        put("weight-decay", recipe.decay.into());
        put("schedule", self.schedule.clone().into());
        put("warmup-steps", (recipe.rates.warmup as i64).into());
        if let Some(norm) = recipe.clip_norm {
            put("clip-norm", norm.into());
        }
        put("label-smoothing", recipe.label_smoothing.into());
        put("patience", (recipe.patience as i64).into());
        let half = recipe.precision == Float::F16.precision();
        put("dtype", if half { "f16" } else { "f32" }.into());
        put("checkpoint-steps", (recipe.checkpoint_steps as i64).into());
        put("no-controls", (!sweep.controls).into());
        put("reproduce-original", sweep.protocols.contains(&Protocol::Original).into());
        put("permutations", (self.permutations as i64).into());
        format!("# mindreel train classify --data {} --config THIS\n{table}", data.display())
    }
}
