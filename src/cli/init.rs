//! `mindreel init`: a checkpoint of a named configuration with random weights.

use super::progress::Progress;
use super::{Float, Shell, stop};
use crate::error::{Result, bytes};
use crate::files;
use crate::models::{n_parameters, preset};
use crate::weights::Dtype;
use serde_json::json;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Configurations:
  tiny              every part of EEG2Video in a few MB: clips of 6 frames, 72x128
  sd14-eeg2video    EEG2Video on Stable Diffusion v1-4 at full size (UNet of 909 M parameters, 3.6 GiB in f16)

Examples:
  mindreel init tiny --output model --seed 0
  mindreel init sd14-eeg2video --output full --seed 0 --dtype f16

The folder is laid out as diffusers lays out a pipeline. The same name, seed and number type give the same bytes
on every machine. Random weights decode nothing: they are for tests, benchmarks and size checks.";

/// A checkpoint of a named configuration with random weights
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Configuration: tiny or sd14-eeg2video
    name: String,

    /// Folder to make
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Number type on disk [default: f32 for tiny, f16 for sd14-eeg2video]
    #[arg(long)]
    dtype: Option<Float>,

    /// Replace a checkpoint that is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let preset = preset(&args.name)?;
    refuse_foreign(&args.output, args.force)?;
    let dtype = match args.dtype {
        None => preset.dtype,
        Some(Float::F32) => Dtype::F32,
        Some(Float::F16) => Dtype::F16,
    };
    let value_bytes = (dtype.bitsize() / 8) as u64;
    let n_values = preset.n_values()?;
    let stopped = stop::watch(shell.quiet)?;
    let mut progress = Progress::bytes(shell.quiet, format!("init {}", preset.name), n_values * value_bytes);
    files::make_folder_atomically(&args.output, |folder| {
        preset.write(folder, args.seed, dtype, |done| {
            progress.set(done * value_bytes);
            stop::check(&stopped, "nothing was written")
        })
    })?;
    progress.finish();

    let (mut text, mut parts) = (String::new(), Vec::new());
    for part in &preset.parts {
        let parameters = n_parameters(&part.wanted()?);
        text += &match parameters {
            0 => format!("{:<10} {}\n", part.folder, part.class()),
            n => format!("{:<10} {:<24} {:>13} parameters\n", part.folder, part.class(), n),
        };
        parts.push(json!({ "folder": part.folder, "class": part.class(), "parameters": parameters }));
    }
    let (path, size) = (args.output.display(), bytes(n_values * value_bytes));
    text += &format!("{path}: {}, seed {}, {dtype}, {size}\n", preset.name, args.seed);
    shell.print(
        &text,
        &json!({
            "output": args.output.display().to_string(), // may be no UTF-8
            "name": preset.name,
            "seed": args.seed,
            "dtype": format!("{dtype:?}").to_lowercase(),
            "parts": parts,
            "bytes": n_values * value_bytes,
        }),
    )
}

fn refuse_foreign(path: &Path, force: bool) -> Result<()> {
    files::refuse_foreign_folder(path, "model_index.json", "checkpoint", force)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_checkpoint_or_an_empty_folder_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refuse_foreign(&folder.path().join("new"), false).is_ok());
        assert!(refuse_foreign(folder.path(), false).is_ok());
        std::fs::write(folder.path().join("thesis.txt"), "").unwrap();
        assert_eq!(refuse_foreign(folder.path(), false).unwrap_err().exit_code(), 5);
        let text = refuse_foreign(folder.path(), true).unwrap_err().to_string();
        assert!(text.contains("no checkpoint"), "{text}");
        std::fs::write(folder.path().join("model_index.json"), "{}").unwrap();
        assert!(refuse_foreign(folder.path(), false).is_err());
        assert!(refuse_foreign(folder.path(), true).is_ok());
    }
}
