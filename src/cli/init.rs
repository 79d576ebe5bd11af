//! `mindreel init`: a checkpoint of a named configuration with random weights.

use super::progress::Progress;
use super::{Float, Shell, stop};
use crate::error::{Error, Result, bytes, none_of};
use crate::files;
use crate::models::{
    Network, Part, Pipeline, Preset, Vocabulary, n_parameters, pipelines, presets, singles, vocabulary_of,
};
use crate::tokenizers;
use crate::weights::Dtype;
use serde_json::json;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Configurations:
  tiny              every part of EEG2Video in a few MB: clips of 6 frames, 72x128
  sd14-eeg2video    EEG2Video on Stable Diffusion v1-4 at full size (UNet of 909 M parameters, 3.6 GiB in f16)

Single EEG networks, for 62 channels, 1 s at 200 Hz, 40 classes:
  shallownet, deepnet, eegnet, tsconv, conformer, glmnet     of windows
  mlp, glmnet-mlp                                            of features in five bands

From EEG to text, and from text to pictures, each also with '-tiny' behind its name:
  neurovision       EEG encoder, Q-Former and OPT-2.7B, with tokenizer and statistics (5.2 GiB in f16)
  sd15              Stable Diffusion v1.5 with its tokenizer (2 GiB in f16)

Single transformers, each also with '-tiny' behind its name:
  blip2-opt-2.7b, blip2-qformer, opt-2.7b, neurovision-eeg, all-minilm-l6-v2, clip-vit-base-patch32,
  vit-base-patch16-224, videomae-base

Examples:
  mindreel init tiny --output model --seed 0
  mindreel init sd14-eeg2video --output full --seed 0 --dtype f16
  mindreel init eegnet --output eegnet

The folder is laid out as diffusers lays out a pipeline, or a model. Tokenizers that go with it are of made-up words. The same name, seed and number type give the same bytes
on every machine. Random weights decode nothing: they are for tests, benchmarks and size checks.";

/// A checkpoint of a named configuration with random weights
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Configuration: tiny, sd14-eeg2video, neurovision, sd15, an EEG network, or a transformer
    name: String,

    /// Folder to make
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Number type on disk [default: f32, f16 for sd14-eeg2video, neurovision, sd15, blip2-opt-2.7b and opt-2.7b]
    #[arg(long)]
    dtype: Option<Float>,

    /// Replace a checkpoint that is there
    #[arg(long)]
    force: bool,
}

/// What is made.
enum Made {
    Video(Preset),
    Pipeline(Pipeline),
    Network(Network),
}

impl Made {
    fn named(name: &str) -> Result<Made> {
        if let Some(network) = singles().into_iter().find(|network| network.name == name) {
            return Ok(Made::Network(network));
        }
        if let Some(preset) = presets().into_iter().find(|preset| preset.name == name) {
            return Ok(Made::Video(preset));
        }
        if let Some(pipeline) = pipelines().into_iter().find(|pipeline| pipeline.name == name) {
            return Ok(Made::Pipeline(pipeline));
        }
        let (presets, pipelines, networks) = (presets(), pipelines(), singles());
        let names = (presets.iter().map(|known| known.name))
            .chain(pipelines.iter().map(|known| known.name))
            .chain(networks.iter().map(|known| known.name));
        Err(Error::setting("NAME", none_of(name, names)))
    }

    fn dtype(&self) -> Dtype {
        match self {
            Made::Video(preset) => preset.dtype,
            Made::Pipeline(pipeline) => pipeline.dtype,
            Made::Network(network) => network.dtype,
        }
    }

    fn parts(&self) -> &[Part] {
        match self {
            Made::Video(preset) => &preset.parts,
            Made::Pipeline(pipeline) => &pipeline.parts,
            Made::Network(network) => std::slice::from_ref(&network.part),
        }
    }

    fn n_values(&self) -> Result<u64> {
        match self {
            Made::Video(preset) => preset.n_values(),
            Made::Pipeline(pipeline) => pipeline.n_values(),
            Made::Network(network) => network.part.n_values(),
        }
    }

    /// `written` hears how many values are done.
    fn write(
        &self,
        folder: &Path,
        seed: u64,
        dtype: Dtype,
        mut written: impl FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        match self {
            Made::Video(preset) => preset.write(folder, seed, dtype, written),
            Made::Pipeline(pipeline) => {
                write_vocabulary(pipeline.vocabulary, &folder.join("tokenizer"))?;
                pipeline.write(folder, seed, dtype, written)
            }
            Made::Network(network) => {
                if let Some(vocabulary) = vocabulary_of(&network.part) {
                    write_vocabulary(vocabulary, folder)?;
                }
                let mut done = 0;
                network.part.write(folder, seed, dtype, &mut |n| {
                    done += n as u64;
                    written(done)
                })
            }
        }
    }
}

fn write_vocabulary(vocabulary: Vocabulary, folder: &Path) -> Result<()> {
    match vocabulary {
        Vocabulary::Opt { tokens, newline, has_image } => {
            tokenizers::write_opt(folder, tokens, newline, has_image)
        }
        Vocabulary::Clip { tokens } => tokenizers::write_clip(folder, tokens),
        Vocabulary::Bert { tokens } => tokenizers::write_bert(folder, tokens),
    }
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let made = Made::named(&args.name)?;
    refuse_foreign(&args.output, args.force)?;
    let dtype = match args.dtype {
        None => made.dtype(),
        Some(Float::F32) => Dtype::F32,
        Some(Float::F16) => Dtype::F16,
    };
    let value_bytes = (dtype.bitsize() / 8) as u64;
    let n_values = made.n_values()?;
    let stopped = stop::watch(shell.quiet)?;
    let mut progress = Progress::bytes(shell.quiet, format!("init {}", args.name), n_values * value_bytes);
    files::make_folder_atomically(&args.output, |folder| {
        made.write(folder, args.seed, dtype, |done| {
            progress.set(done * value_bytes);
            stop::check(&stopped, "nothing was written")
        })
    })?;
    progress.finish();

    let (mut text, mut parts) = (String::new(), Vec::new());
    for part in made.parts() {
        let parameters = n_parameters(&part.wanted()?);
        text += &match parameters {
            0 => format!("{:<10} {}\n", part.folder, part.class()),
            n => format!("{:<10} {:<24} {:>13} parameters\n", part.folder, part.class(), n),
        };
        parts.push(json!({ "folder": part.folder, "class": part.class(), "parameters": parameters }));
    }
    let (path, size) = (args.output.display(), bytes(n_values * value_bytes));
    text += &format!("{path}: {}, seed {}, {dtype}, {size}\n", args.name, args.seed);
    shell.print(
        &text,
        &json!({
            "output": args.output.display().to_string(), // may be no UTF-8
            "name": args.name,
            "seed": args.seed,
            "dtype": format!("{dtype:?}").to_lowercase(),
            "parts": parts,
            "bytes": n_values * value_bytes,
        }),
    )
}

fn refuse_foreign(path: &Path, force: bool) -> Result<()> {
    let is_empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty {
        return Ok(());
    }
    files::refuse_existing(path, force)?;
    let has = |name: &str| path.join(name).is_file();
    let is_checkpoint = has("model_index.json") || (has("config.json") && has("model.safetensors"));
    if path.exists() && !is_checkpoint {
        let source = std::io::Error::new(
            std::io::ErrorKind::AlreadyExists,
            "it is no checkpoint (no model_index.json, no model.safetensors with its config.json), so --force does not \
             replace it; give another name",
        );
        return Err(Error::Write { path: path.to_path_buf(), source });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::preset;

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
        std::fs::remove_file(folder.path().join("model_index.json")).unwrap();
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        assert!(refuse_foreign(folder.path(), true).is_err(), "any program may have a config.json");
        std::fs::write(folder.path().join("model.safetensors"), "").unwrap();
        assert!(refuse_foreign(folder.path(), true).is_ok());
    }

    #[test]
    fn an_unknown_name_gets_its_neighbour() {
        let text = Made::named("egnet").err().unwrap().to_string();
        assert!(text.starts_with("NAME: 'egnet' is none of sd14-eeg2video, tiny, neurovision, "), "{text}");
        assert!(text.ends_with("; did you mean 'eegnet'?"), "{text}");
        assert_eq!(Made::named("tiny").unwrap().parts().len(), preset("tiny").unwrap().parts.len());
        assert_eq!(Made::named("mlp").unwrap().parts()[0].class(), "MLP");
    }
}
