//! `mindreel caption`: EEG in, captions out.

use super::captioning::{Captions, DecodingFlags, EegFlags, open_for_eeg, settle, told};
use super::journey::{RunFile, make_output, refuse_there};
use super::progress::duration;
use super::{Number, Shell, stop};
use crate::error::Result;
use crate::generate::{CaptionRun, Source};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

const EXAMPLES: &str = "\
The checkpoint: a folder with eeg_encoder/ and blip2/ (config.json and weights each; blip2/ as published, without its
image encoder if you like), tokenizer/ and stats.safetensors (`mindreel prepare stats`). EEG becomes spectrograms by the
constants of `mindreel prepare spectrogram`.

Examples:
  mindreel caption --eeg epochs.npy --model neurovision
  mindreel caption --eeg a.npy b.npy --model neurovision --num-beams 4 --num-return-sequences 4 --output captions
  mindreel caption --eeg epochs.npy --model neurovision --temperature 0.85 --top-p 0.9 --seed 7
  mindreel caption --eeg spectrograms.npy --model neurovision --prompt 'a photo of' --dtype int8
  mindreel caption --eeg epochs.npy --model neurovision --reproduce-original

With --output: captions.json (item number to its best caption) and run.json (all captions with their scores). The same
seed draws the same captions, whatever the batch.";

/// Decode EEG into captions
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    eeg: EegFlags,

    /// The checkpoint folder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// Where captions.json and run.json go
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    #[command(flatten)]
    decoding: DecodingFlags,

    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Captions written together
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch_size: usize,

    /// Number type of activations and weights
    #[arg(long, default_value = "f32")]
    dtype: Number,

    /// Refuse to start when more memory than this would be needed [default: what is free, on a software adapter]
    #[arg(long, value_name = "GIB")]
    max_memory: Option<f64>,

    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let started = Instant::now();
    let original = args.eeg.recipe.reproduce_original;
    let settings = args.decoding.settings(args.seed, args.batch_size, args.dtype, original)?;
    if let Some(output) = &args.output {
        refuse_there(output, ["captions.json".into(), "run.json".into()], args.force)?;
    }
    let (folder, n_chans) = open_for_eeg(&args.model)?;
    let (spectrograms, names) = args.eeg.read(n_chans)?;
    let source = Source::Eeg(spectrograms);
    let gpu = shell.open_gpu()?;
    let run = CaptionRun::of_eeg(&gpu, folder, settings)?;
    run.check(&source)?;
    settle(&run, source.n(), &gpu, shell, args.max_memory)?;
    if let Some(output) = &args.output {
        make_output(output)?;
    }
    let stopped = stop::watch(shell.quiet)?;
    let about = json!({
        "model": args.model.display().to_string(), // may be no UTF-8
        "eeg": args.eeg.paths(),
        "settings": told(run.settings()),
        "need_bytes": run.need(),
        "items": [],
    });
    let mut file = RunFile::new(args.output.as_deref(), &gpu, about);
    let mut captions = Captions::new(names, false, args.output.as_deref());
    captions.make(&run, &source, &stopped, shell, &mut file, &mut |file| {
        file.write(started.elapsed().as_secs_f64(), &gpu)
    })?;
    shell.note(&format!("done in {}", duration(started.elapsed().as_secs_f64())));
    shell.print(&captions.table(), &file.value)
}
