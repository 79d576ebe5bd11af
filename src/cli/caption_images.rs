//! `mindreel caption-images`: pictures in, captions out.

use super::captioning::{Captions, DecodingFlags, settle, told};
use super::journey::{RunFile, make_output, refuse_there};
use super::progress::duration;
use super::{Number, Shell, stop};
use crate::error::{Error, Result};
use crate::generate::{CaptionFolder, CaptionRun, Source};
use crate::media::picture;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

const EXAMPLES: &str = "\
The checkpoint: a BLIP-2 folder with OPT as published (Salesforce/blip2-opt-2.7b), or one that holds it as blip2/.
Pictures are resized to the model's square as the bicubic of Pillow up to 12 does.

Examples:
  mindreel caption-images coco_images --model blip2-opt-2.7b --output captions
  mindreel caption-images photos --model blip2-opt-2.7b --dtype int8 --num-beams 4 --num-return-sequences 2
  mindreel caption-images photos --model blip2-opt-2.7b --prompt 'Question: what is this? Answer:'

With --output: captions.json (name of the picture to its best caption) and run.json (all captions with their scores).
`mindreel prepare captions --images DIR` is the same: training and scoring read that captions.json.";

/// Describe pictures in words, by BLIP-2
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder of .jpg and .png, or one such file
    #[arg(value_name = "DIR|FILE", required_unless_present = "folder")]
    images: Option<PathBuf>,

    /// The same, as `prepare captions` takes it
    #[arg(id = "folder", long = "images", value_name = "DIR|FILE", conflicts_with = "images")]
    folder: Option<PathBuf>,

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
    let settings = args.decoding.settings(args.seed, args.batch_size, args.dtype, false)?;
    if let Some(output) = &args.output {
        refuse_there(output, ["captions.json".into(), "run.json".into()], args.force)?;
    }
    let folder = CaptionFolder::open(&args.model)?;
    let images = args.images.as_ref().or(args.folder.as_ref());
    let images = images.ok_or_else(|| Error::setting("--images", "no folder was given"))?;
    let paths = if images.is_file() { vec![images.clone()] } else { picture::list(images)? };
    // A file that is no picture is told of now, not after an hour of the others.
    paths.iter().try_for_each(|path| picture::read(path).map(drop))?;
    let names =
        paths.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy().into()).collect();
    let source = Source::Pictures(paths);
    let gpu = shell.open_gpu()?;
    let run = CaptionRun::of_pictures(&gpu, folder, settings)?;
    settle(&run, source.n(), &gpu, shell, args.max_memory)?;
    if let Some(output) = &args.output {
        make_output(output)?;
    }
    let stopped = stop::watch(shell.quiet)?;
    let about = json!({
        "model": args.model.display().to_string(), // may be no UTF-8
        "images": images.display().to_string(),
        "settings": told(run.settings()),
        "need_bytes": run.need(),
        "items": [],
    });
    let mut file = RunFile::new(args.output.as_deref(), &gpu, about);
    let mut captions = Captions::new(names, true, args.output.as_deref());
    captions.make(&run, &source, &stopped, shell, &mut file, &mut |file| {
        file.write(started.elapsed().as_secs_f64(), &gpu)
    })?;
    shell.note(&format!("done in {}", duration(started.elapsed().as_secs_f64())));
    shell.print(&captions.table(), &file.value)
}
