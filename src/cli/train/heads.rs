//! What `train semantic`, `seq2seq` and `dynamics` have in common: a subject's EEG split by blocks, and the parts of an
//! EEG-to-video checkpoint they write.
//!
//! ```text
//! INTO/semantic/ | seq2seq/ | dynamics/    config.json and model.safetensors, as `mindreel video` opens them
//! INTO/scaler.safetensors                  of the training clips; each part's under a name of its own
//! OUTPUT/report.json                       scores on the validation block, with their controls
//! ```

use super::fit::{Common, FitArgs};
use crate::cli::Shell;
use crate::cli::settings::SettingsFile;
use crate::data::{SeedDv, Task};
use crate::error::{Error, Result};
use crate::files;
use crate::models::Config;
use crate::signal::seed_dv::BLOCK_CLIPS;
use crate::signal::{Segments, StandardScaler, Units};
use crate::train::{Fit, heads};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// `#[command(flatten)]`, before the flags of the command.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Data")]
pub(super) struct EegArgs {
    /// The data set, in SEED-DV's layout
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,

    /// Whose EEG [default: the first]
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,

    /// A run of each of these subjects, in folders of --output; `all` for everybody
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", conflicts_with = "subject")]
    subjects: Vec<String>,

    /// What the recording's numbers are: V or uV [default: V]
    #[arg(long)]
    units: Option<String>,

    /// Blocks to learn from, from 0 [default: all but the last two]
    #[arg(long, value_delimiter = ',', value_name = "K,…")]
    train_blocks: Vec<usize>,

    /// Block to validate by [default: the one before the last]
    #[arg(long, value_name = "K")]
    validation_block: Option<usize>,

    /// Validations without a better one until it ends; 0: never [default: 0]
    #[arg(long, value_name = "N")]
    patience: Option<u64>,

    /// EEG-to-video checkpoint that gets the part [default: --output]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

/// Their names in a settings file.
pub(super) const NAMES: [&str; 5] = ["subject", "units", "train-blocks", "validation-block", "patience"];

/// A subject's recording, and which clips are for what.
pub(super) struct Recording {
    pub data: SeedDv,
    pub eeg: Segments,
    pub train_blocks: Vec<usize>,
    pub validation_block: usize,
    /// Validations without a better one that are waited for; 0: all.
    pub patience: u64,
}

impl EegArgs {
    /// Subjects that are to have a run each.
    pub(super) fn swept(&self) -> Result<Vec<String>> {
        match &self.subjects[..] {
            [one] if one == "all" => {
                Ok(SeedDv::open(&self.data, Units::Volts)?.subjects().map(str::to_string).collect())
            }
            some => Ok(some.to_vec()),
        }
    }

    /// Makes this the run of a sweep that has this name.
    pub(super) fn set_unit(&mut self, name: &str, subject: Option<&str>) {
        self.subject = subject.map(str::to_string).or(self.subject.take());
        self.into = self.into.take().map(|into| into.join(name));
    }

    /// Reads the recording and puts what it was into the run's settings. With `original`, all blocks but the last are
    /// learnt from, and that is held out.
    ///
    /// Errors: those of [`SeedDv`]; [`Error::Setting`] for blocks there are not, or a validation block that is learnt
    /// from.
    pub(super) fn read(&self, file: &SettingsFile, common: &mut Common, original: bool) -> Result<Recording> {
        let units = self.units.clone().or(file.word("units")?).unwrap_or("V".into());
        let data = SeedDv::open(&self.data, units.parse::<Units>()?)?;
        let first = || data.subjects().next().unwrap_or_default().to_string();
        let subject = self.subject.clone().or(file.word("subject")?).unwrap_or_else(first);
        let n_blocks = SeedDv::n_blocks(data.n_clips(&subject)?);
        let held = if original { 1 } else { 2 };
        let Some(usual) = n_blocks.checked_sub(held).filter(|&n| n > 0) else {
            let detail = format!("{subject} has {n_blocks} blocks, wanted {} or more", held + 1);
            return Err(Error::setting("data", detail));
        };
        let train_blocks = match (&self.train_blocks[..], file.counts("train-blocks")?) {
            ([], None) => (0..usual).collect(),
            ([], Some(blocks)) => blocks.into_iter().map(|block| block as usize).collect(),
            (given, _) => given.to_vec(),
        };
        let validation_block = self.validation_block.or(file.size("validation-block")?).unwrap_or(usual);
        for (name, block) in
            train_blocks.iter().map(|&b| ("train-blocks", b)).chain([("validation-block", validation_block)])
        {
            if block >= n_blocks {
                let detail = format!("no block {block}: {subject} has 0 to {}", n_blocks - 1);
                return Err(Error::setting(name, detail));
            }
        }
        if train_blocks.contains(&validation_block) {
            let detail =
                format!("block {validation_block} is learnt from; give one that is not in train-blocks");
            return Err(Error::setting("validation-block", detail));
        }
        let patience = self.patience.or(file.count("patience")?).unwrap_or(0);
        common.put("data", self.data.display().to_string());
        common.put("subject", subject.clone());
        common.put("units", units);
        common.put("train-blocks", train_blocks.clone());
        common.put("validation-block", validation_block);
        common.put("patience", patience);
        let eeg = data.clips(&subject)?;
        Ok(Recording { data, eeg, train_blocks, validation_block, patience })
    }

    /// Refuses to replace a part of another checkpoint unasked.
    pub(super) fn refuse_existing(&self, part: &str, fit: &FitArgs) -> Result<()> {
        match &self.into {
            Some(into) if *into != fit.output => files::refuse_existing(&into.join(part), fit.may_replace()),
            _ => Ok(()),
        }
    }

    /// Writes a part into its checkpoint, with its scaler.
    pub(super) fn keep(
        &self,
        part: &str,
        config: &Config,
        scaler: (&str, &StandardScaler),
        run: (&FitArgs, &Common, &Fit),
    ) -> Result<PathBuf> {
        let (args, common, fit) = run;
        let into = self.into.clone().unwrap_or_else(|| args.output.clone());
        files::make_folder(&into)?;
        common.keep(&into.join(part), config, None, &fit.result()?)?;
        heads::write_scaler(&into, scaler.0, scaler.1)?;
        Ok(into)
    }
}

impl Recording {
    /// Clips of some blocks, counted over the recording.
    pub(super) fn clips(&self, blocks: &[usize]) -> Vec<usize> {
        blocks.iter().flat_map(|block| block * BLOCK_CLIPS..(block + 1) * BLOCK_CLIPS).collect()
    }

    /// Training and validation clips.
    pub(super) fn split(&self) -> [Vec<usize>; 2] {
        [self.clips(&self.train_blocks), self.clips(&[self.validation_block])]
    }

    /// The class of each clip, from 0.
    pub(super) fn classes(&self) -> Result<Vec<usize>> {
        let labels = self.data.labels(Task::Concept, SeedDv::n_blocks(self.eeg.n))?;
        Ok(labels.into_iter().map(|label| label.unwrap_or(0)).collect())
    }

    /// Seconds as samples, one at least.
    pub(super) fn samples(&self, name: &str, seconds: f64) -> Result<usize> {
        let samples = (seconds * self.eeg.sample_rate_hz).round();
        if !(1.0..=self.eeg.n_samples as f64).contains(&samples) {
            let clip = self.eeg.n_samples as f64 / self.eeg.sample_rate_hz;
            return Err(Error::setting(name, format!("{seconds} s, wanted up to the {clip} s of a clip")));
        }
        Ok(samples as usize)
    }
}

/// Writes report.json and prints it, the controls beside the scores.
pub(super) fn tell(
    shell: &Shell,
    fit: &Fit,
    output: &Path,
    part: &Path,
    report: &impl Serialize,
    text: &str,
) -> Result<()> {
    let report = serde_json::to_value(report).unwrap_or(Value::Null);
    files::write_json(output.join("report.json"), &report)?;
    let steps = fit.trainer().steps();
    let told = json!({ "part": part.display().to_string(), "steps": steps, "validation": report });
    shell.print(&format!("{}: {steps} steps, {text}", part.display()), &told)
}
