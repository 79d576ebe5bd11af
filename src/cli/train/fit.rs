//! What the `train` commands that run [`crate::train::Fit`] have in common: flags, their names in a settings file, the
//! folder a run claims, progress, Ctrl-C.
//!
//! ```text
//! OUTPUT/train.json            settings, everything merged
//! OUTPUT/log.jsonl, log.csv, loss.png
//! OUTPUT/snapshot.safetensors  what --resume goes on from
//! OUTPUT/model/                config.json and weights
//! ```
//!
//! A command goes: `args.fit.file(&OWN)`, `args.fit.merge(&file, &USUAL)`, its own settings with [`Common::put`],
//! [`FitArgs::claim`], [`Common::trainer`], [`Fit::new`], [`FitArgs::run`], [`Common::keep`], [`FitArgs::tell`].

use super::sweep::SweepArgs;
use crate::cli::progress::{Progress, duration};
use crate::cli::settings::SettingsFile;
use crate::cli::{Float, Shell, stop};
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::Gpu;
use crate::models::Config;
use crate::nn::{Parameters, Precision};
use crate::ops::Sgd;
use crate::train::fit::{Evaluate, Loss, Place, Plan, SNAPSHOT};
use crate::train::{Course, Fit, Group, Optimizer, Rates, Rule, Settings, Trainer, Values, write_model};
use crate::weights::{Checkpoint, Dtype};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Flags of every run: `#[command(flatten)]`, behind the flags of the command.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Run")]
pub(super) struct FitArgs {
    /// Folder of the run
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,

    /// Settings by the names of these flags; flags win
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,

    /// Steps of the run
    #[arg(long, value_name = "N")]
    steps: Option<u64>,

    /// Examples of a micro-batch
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,

    /// Micro-batches whose gradients make a step [default: 1]
    #[arg(long, value_name = "N")]
    accumulate: Option<usize>,

    /// adamw, adam or sgd (with momentum 0.9) [default: adamw]
    #[arg(long)]
    optimizer: Option<String>,

    /// Learning rate
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,

    /// Weight decay
    #[arg(long, value_name = "X")]
    weight_decay: Option<f64>,

    /// constant or cosine
    #[arg(long)]
    schedule: Option<String>,

    /// Steps in which the learning rate rises [default: 0]
    #[arg(long, value_name = "N")]
    warmup_steps: Option<u64>,

    /// Most the norm of the gradients may be; 0: no limit
    #[arg(long, value_name = "X")]
    clip_norm: Option<f64>,

    /// Decay of a moving average of the parameters, which is what is validated and kept; 0: none
    #[arg(long, value_name = "X")]
    ema: Option<f64>,

    /// Number type of activations; what learns is kept in f32 [default: f32]
    #[arg(long)]
    dtype: Option<Float>,

    /// Number type of the weights that are written [default: f32]
    #[arg(long)]
    save_dtype: Option<Float>,

    /// Of first weights, order, noise [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    #[command(flatten)]
    pub sweep: SweepArgs,

    /// Steps between looks at the loss [default: 10]
    #[arg(long, value_name = "N")]
    log_steps: Option<u64>,

    /// Steps between validations; 0: none
    #[arg(long, value_name = "N")]
    validation_steps: Option<u64>,

    /// Steps between snapshots; 0: at the end, and when stopped
    #[arg(long, value_name = "N")]
    snapshot_steps: Option<u64>,

    /// Stop after this many steps, as Ctrl-C does: for queues with a time limit
    #[arg(long, value_name = "N")]
    stop_after: Option<u64>,

    /// Go on from the snapshot in --output
    #[arg(long)]
    resume: bool,

    /// Start anew where another run is in --output
    #[arg(long)]
    force: bool,
}

/// Their names in a settings file.
const NAMES: [&str; 16] = [
    "steps",
    "batch-size",
    "accumulate",
    "optimizer",
    "learning-rate",
    "weight-decay",
    "schedule",
    "warmup-steps",
    "clip-norm",
    "ema",
    "dtype",
    "save-dtype",
    "seed",
    "log-steps",
    "validation-steps",
    "snapshot-steps",
];

/// What a command does where nothing is said.
pub(super) struct Usual {
    pub steps: u64,
    pub batch_size: usize,
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub schedule: &'static str,
    /// 0: no limit.
    pub clip_norm: f64,
    /// 0: none.
    pub ema: f64,
    pub validation_steps: u64,
    pub snapshot_steps: u64,
}

/// Flags, file and defaults, merged.
pub(super) struct Common {
    pub plan: Plan,
    pub settings: Settings,
    pub batch_size: usize,
    pub save_dtype: Dtype,
    rule: Rule,
    decay: f64,
    /// By their names; a command puts its own beside them.
    pub table: Map<String, Value>,
}

/// Most examples of a batch.
const MOST_TOGETHER: usize = 1 << 20;

impl FitArgs {
    /// The settings file; `own` are the names of the command's own settings.
    pub(super) fn file(&self, own: &[&str]) -> Result<SettingsFile> {
        SettingsFile::open(self.config.as_deref(), &[&NAMES[..], own].concat())
    }

    /// Makes this the run of a sweep that has this name: it goes on from what is there, unless it is to start anew.
    pub(super) fn set_unit(&mut self, name: &str, seed: Option<u64>) {
        self.output.push(name);
        self.seed = seed.or(self.seed);
        self.resume = !self.force;
    }

    /// Errors: [`Error::Setting`] naming the flag.
    pub(super) fn merge(&self, file: &SettingsFile, usual: &Usual) -> Result<Common> {
        let number = |given: Option<f64>, name: &str, usual: f64| -> Result<f64> {
            let value = given.or(file.number(name)?).unwrap_or(usual);
            match value.is_finite() && value >= 0.0 {
                true => Ok(value),
                false => Err(Error::setting(name, format!("wanted 0 or more, got {value}"))),
            }
        };
        let count = |given: Option<u64>, name: &str, usual: u64| -> Result<u64> {
            Ok(given.or(file.count(name)?).unwrap_or(usual))
        };
        let size = |given: Option<usize>, name: &str, usual: usize| -> Result<usize> {
            match given.or(file.size(name)?).unwrap_or(usual) {
                0 => Err(Error::setting(name, "wanted at least 1, got 0")),
                size => Ok(size),
            }
        };
        let float = |given: Option<Float>, name: &str| match (given, file.word(name)?.as_deref()) {
            (Some(float), _) => Ok(float),
            (None, None | Some("f32")) => Ok(Float::F32),
            (None, Some("f16")) => Ok(Float::F16),
            (None, Some(other)) => Err(Error::setting(name, format!("wanted f32 or f16, got '{other}'"))),
        };
        let positive = |given: Option<u64>, name: &str, usual: u64| -> Result<u64> {
            match count(given, name, usual)? {
                0 => Err(Error::setting(name, "wanted at least 1, got 0")),
                count => Ok(count),
            }
        };
        let steps = positive(self.steps, "steps", usual.steps)?;
        let batch_size = size(self.batch_size, "batch-size", usual.batch_size)?;
        if batch_size > MOST_TOGETHER {
            let detail = format!(
                "wanted 1 to {MOST_TOGETHER}, got {batch_size}; --accumulate makes more of less memory"
            );
            return Err(Error::setting("batch-size", detail));
        }
        let accumulate = size(self.accumulate, "accumulate", 1)?;
        let optimizer = self.optimizer.clone().or(file.word("optimizer")?).unwrap_or("adamw".into());
        let rule = match optimizer.as_str() {
            "adamw" => Rule::ADAMW,
            "adam" => Rule::ADAM,
            "sgd" => Rule::Sgd(Sgd { momentum: 0.9, nesterov: false }),
            other => {
                let detail = format!("'{}' is none of adamw, adam, sgd", other.escape_debug());
                return Err(Error::setting("optimizer", detail));
            }
        };
        let base = number(self.learning_rate, "learning-rate", usual.learning_rate)?;
        let decay = number(self.weight_decay, "weight-decay", usual.weight_decay)?;
        let warmup = count(self.warmup_steps, "warmup-steps", 0)?;
        let schedule = self.schedule.clone().or(file.word("schedule")?).unwrap_or(usual.schedule.into());
        let course = match schedule.as_str() {
            "constant" => Course::Constant,
            "cosine" => Course::Cosine { steps: steps.saturating_sub(warmup).max(1), least: 0.0 },
            other => {
                let detail = format!("'{}' is none of constant, cosine", other.escape_debug());
                return Err(Error::setting("schedule", detail));
            }
        };
        let clip_norm = number(self.clip_norm, "clip-norm", usual.clip_norm)?;
        let ema = number(self.ema, "ema", usual.ema)?;
        let precision = float(self.dtype, "dtype")?.precision();
        let save_dtype = match float(self.save_dtype, "save-dtype")? {
            Float::F32 => Dtype::F32,
            Float::F16 => Dtype::F16,
        };
        let seed = count(self.seed, "seed", 0)?;
        let plan = Plan {
            steps,
            log_every: positive(self.log_steps, "log-steps", 10)?,
            snapshot_every: count(self.snapshot_steps, "snapshot-steps", usual.snapshot_steps)?,
            evaluate_every: count(self.validation_steps, "validation-steps", usual.validation_steps)?,
            ema: (ema > 0.0).then_some(ema),
            best_by: None,
        };
        let rates = Rates { base, warmup, course };
        rates.check()?;
        let settings = Settings {
            seed,
            rates,
            clip_norm: (clip_norm > 0.0).then_some(clip_norm),
            accumulate,
            precision,
        };
        let names = |half: bool| if half { "f16" } else { "f32" };
        let table = json!({
            "steps": steps,
            "batch-size": batch_size,
            "accumulate": accumulate,
            "optimizer": optimizer,
            "learning-rate": base,
            "weight-decay": decay,
            "schedule": schedule,
            "warmup-steps": warmup,
            "clip-norm": clip_norm,
            "ema": ema,
            "dtype": names(precision == Precision::F16),
            "save-dtype": names(save_dtype == Dtype::F16),
            "seed": seed,
            "log-steps": plan.log_every,
            "validation-steps": plan.evaluate_every,
            "snapshot-steps": plan.snapshot_every,
        });
        let table = match table {
            Value::Object(table) => table,
            _ => Map::new(),
        };
        Ok(Common { plan, settings, batch_size, save_dtype, rule, decay, table })
    }

    /// Takes the output folder for these settings: refuses one of another run, or a snapshot nobody asked to go on from.
    ///
    /// Errors: [`Error::Format`], [`Error::Write`].
    pub(super) fn claim(&self, command: &str, common: &Common) -> Result<()> {
        let path = self.output.join(TOLD);
        let told = json!({
            "program": "mindreel",
            "version": env!("CARGO_PKG_VERSION"),
            "command": format!("train {command}"),
            "settings": common.table,
        });
        let text = format!("{told:#}\n");
        let snapshot = self.output.join(SNAPSHOT);
        match std::fs::read(&path) {
            Ok(known) if known == text.as_bytes() => {
                if snapshot.exists() && !self.resume && !self.force {
                    let detail = "is there from an earlier run; --resume goes on, --force starts anew";
                    return Err(Error::format(&snapshot, detail));
                }
            }
            Ok(_) if snapshot.exists() && !self.force => {
                let detail =
                    "was written by a run of other settings; give another --output, or --force to start anew";
                return Err(Error::format(&path, detail));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                files::refuse_foreign_folder(&self.output, TOLD, "run of `mindreel train`", self.force)?;
            }
            Ok(_) => {}
            Err(error) => return Err(Error::read(&path)(error)),
        }
        if !self.resume {
            match std::fs::remove_file(&snapshot) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::write(&snapshot)(error));
                }
                _ => {}
            }
        }
        files::write_text(&path, &text)
    }

    /// Runs `fit` to its end with progress and Ctrl-C.
    ///
    /// Errors: as [`Fit::run`].
    pub(super) fn run(
        &self,
        shell: &Shell,
        fit: &mut Fit,
        steps: u64,
        loss: Loss,
        evaluate: Evaluate,
    ) -> Result<()> {
        let stopped = stop::watch(shell.quiet)?;
        let started = Instant::now();
        let mut bar: Option<Progress> = None;
        let mut first = 0;
        let mut progress = |done: u64| {
            // What an earlier call did says nothing of this one's rate.
            let bar = bar.get_or_insert_with(|| {
                first = done;
                Progress::new(shell.quiet, "steps", steps - done.min(steps))
            });
            bar.set(done - first);
        };
        let mut place = Place {
            folder: &self.output,
            resume: self.resume,
            stop: &stopped,
            stop_after: self.stop_after,
            progress: &mut progress,
        };
        let ran = fit.run(&mut place, loss, evaluate);
        drop(bar);
        ran?;
        shell.note(&format!("{} steps, {}", steps - first, duration(started.elapsed().as_secs_f64())));
        Ok(())
    }

    /// Whether what is there may go.
    pub(super) fn may_replace(&self) -> bool {
        self.force || self.resume
    }

    /// Whether an earlier call's work is gone on with.
    pub(super) fn resumes(&self) -> bool {
        self.resume
    }

    /// Where the model goes.
    pub(super) fn model(&self) -> PathBuf {
        self.output.join("model")
    }

    /// Says what came out, and where it is.
    pub(super) fn tell(&self, shell: &Shell, fit: &Fit) -> Result<()> {
        let model = self.model();
        let mut last = Map::new();
        for row in fit.log().rows() {
            last.insert("loss".into(), row.loss.into());
            last.extend(row.more.iter().map(|(name, value)| (name.clone(), (*value).into())));
        }
        let numbers: Vec<String> = last
            .iter()
            .map(|(name, value)| {
                format!("{} {:.5}", name.replace('_', " "), value.as_f64().unwrap_or(f64::NAN))
            })
            .collect();
        let steps = fit.trainer().steps();
        let text = format!("{}: {steps} steps, {}", model.display(), numbers.join(", "));
        shell.print(&text, &json!({ "model": model.display().to_string(), "steps": steps, "last": last }))
    }
}

/// The merged settings of a run, which mark its folder.
const TOLD: &str = "train.json";

impl Common {
    /// A trainer of these parameters.
    pub(super) fn trainer(&self, gpu: &Gpu, parameters: Parameters) -> Result<Trainer> {
        let group = Group { pattern: String::new(), rate: 1.0, decay: self.decay };
        Trainer::new(gpu, parameters, Optimizer::new(self.rule, vec![group]), self.settings.clone())
    }

    /// How gradients become steps.
    pub(super) fn rule(&self) -> Rule {
        self.rule
    }

    /// The model a run was for.
    pub(super) fn keep(
        &self,
        folder: &Path,
        config: &Config,
        base: Option<&Checkpoint>,
        values: &Values,
    ) -> Result<()> {
        write_model(folder, config, base, values, self.save_dtype)
    }

    /// Puts a setting of the command's own into the table.
    pub(super) fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.table.insert(name.to_string(), value.into());
    }
}
