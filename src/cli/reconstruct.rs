//! `mindreel reconstruct`: EEG in; captions, pictures of them and a grid out.

use super::captioning::{self, Captions, DecodingFlags, EegFlags, open_for_eeg};
use super::journey::{RunFile, make_output, refuse_there};
use super::painting::{self, ImageFlags, comment};
use super::progress::{Progress, duration};
use super::{Number, Shell, stop};
use crate::error::{Error, Result};
use crate::generate::{CaptionRun, Folder, ImageRun, Order, Source};
use crate::media::{Frames, picture, png};
use crate::plot::gallery::{self, Card, MAX_CARDS, Picture, gallery};
use crate::plot::scene::PNG_SCALE;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

const EXAMPLES: &str = "\
The caption checkpoint is that of `mindreel caption`, the image checkpoint that of `mindreel image`. With --truth, a
folder of as many pictures as there are items, each stands above what was made of its EEG: the first by name with the
first item, and so on.

Examples:
  mindreel reconstruct --eeg epochs.npy --caption-model neurovision --image-model stable-diffusion-v1-5 --output seen
  mindreel reconstruct --eeg test.npy --caption-model neurovision --image-model sd --output seen --truth shown --num-beams 4

The folder gets captions.json, image-0000.png and so on (picture i has seed + i), grid.png, and run.json. 20 steps of the
checkpoint's scheduler and guidance 7.5 unless said otherwise, as NeuroVision. Ctrl-C keeps what is whole.";

/// Steps where none are asked for: NeuroVision's.
const STEPS: usize = 20;

/// Decode EEG into captions and pictures of them
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    eeg: EegFlags,

    /// Checkpoint from EEG to text
    #[arg(long, value_name = "DIR")]
    caption_model: PathBuf,

    /// Checkpoint from text to pictures
    #[arg(long, value_name = "DIR")]
    image_model: PathBuf,

    /// Where everything goes
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// What was shown: a folder of as many pictures as items
    #[arg(long, value_name = "DIR")]
    truth: Option<PathBuf>,

    /// Columns of the grid [default: about as many as rows]
    #[arg(long, value_name = "N")]
    columns: Option<usize>,

    #[command(flatten)]
    decoding: DecodingFlags,

    #[command(flatten)]
    image: ImageFlags,

    /// Seed of the draws, and of the first picture
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,

    /// Captions written together
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch_size: usize,

    /// Number type of activations and weights; for pictures int8 is f16
    #[arg(long, default_value = "f32")]
    dtype: Number,

    /// Refuse to start when more memory than this would be needed [default: what is free, on a software adapter]
    #[arg(long, value_name = "GIB")]
    max_memory: Option<f64>,

    /// Replace what is there
    #[arg(long)]
    force: bool,
}

fn file_name(index: usize) -> String {
    format!("image-{index:04}.png")
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let started = Instant::now();
    let original = args.eeg.recipe.reproduce_original;
    let caption_settings = args.decoding.settings(args.seed, args.batch_size, args.dtype, original)?;
    let image_settings = args.image.settings(STEPS, args.dtype != Number::F32)?;
    if args.columns == Some(0) {
        return Err(Error::setting("--columns", "wanted at least 1, got 0"));
    }
    let (folder, n_chans) = open_for_eeg(&args.caption_model)?;
    let painter = Folder::open(&args.image_model)?;
    let (spectrograms, names) = args.eeg.read(n_chans)?;
    let n = names.len();
    let others = ["captions.json", "grid.png", "run.json"].map(String::from);
    refuse_there(&args.output, (0..n).map(file_name).chain(others), args.force)?;
    let truth = args.truth.as_deref().map(|folder| shown(folder, n)).transpose()?;
    let source = Source::Eeg(spectrograms);
    let gpu = shell.open_gpu()?;

    // Both are settled before one begins: neither fails for want of the other's memory.
    let captioner = CaptionRun::of_eeg(&gpu, folder, caption_settings)?;
    captioner.check(&source)?;
    let run = ImageRun::new(&gpu, painter, image_settings)?;
    captioning::settle(&captioner, n, &gpu, shell, args.max_memory)?;
    painting::settle(&run, n, &gpu, shell, args.max_memory)?;
    make_output(&args.output)?;
    let stopped = stop::watch(shell.quiet)?;
    let path = |path: &Path| path.display().to_string(); // may be no UTF-8
    let about = json!({
        "caption_model": path(&args.caption_model),
        "image_model": path(&args.image_model),
        "eeg": args.eeg.paths(),
        "truth": args.truth.as_deref().map(path),
        "caption_settings": captioning::told(captioner.settings()),
        "image_settings": painting::told(&run),
        "need_bytes": { "captions": captioner.need(), "images": run.need() },
        "items": [],
    });
    let mut file = RunFile::new(Some(&args.output), &gpu, about);
    let mut captions = Captions::new(names.clone(), false, Some(&args.output));
    captions.make(&captioner, &source, &stopped, shell, &mut file, &mut |file| {
        file.write(started.elapsed().as_secs_f64(), &gpu)
    })?;
    // The captions' models are gone; so is what they held.
    gpu.trim()?;

    let best = |index: usize| captions.all[index].first().map_or(String::new(), |best| best.text.clone());
    let order = |index: usize| Order {
        prompt: best(index),
        negative_prompt: args.image.negative_prompt.clone(),
        seed: args.seed.wrapping_add(index as u64),
    };
    let orders: Vec<Order> = (0..n).map(order).collect();
    let mut progress = Progress::new(shell.quiet, "denoising", (n * run.n_calls()) as u64);
    let mut made: Vec<Frames> = Vec::new();
    let result =
        run.make(&orders, &stopped, &mut |done, _| progress.set(done as u64), &mut |index, picture| {
            let path = args.output.join(file_name(index));
            let comment = comment(&orders[index], &run, &args.image_model);
            png::write(&path, &picture.rgb, picture.height, picture.width, &comment)?;
            file.value["items"][index]["image"] = json!(path.display().to_string());
            file.value["items"][index]["seed"] = json!(orders[index].seed);
            if let Some(truth) = &truth {
                file.value["items"][index]["truth"] = json!(truth[index].display().to_string());
            }
            if made.len() < MAX_CARDS {
                made.push(picture);
            }
            file.write(started.elapsed().as_secs_f64(), &gpu)
        });
    progress.finish();
    if !made.is_empty() {
        let cards = cards(&made, truth.as_deref(), &best)?;
        let columns = args.columns.unwrap_or((cards.len() as f64).sqrt().ceil() as usize);
        let grid = args.output.join("grid.png");
        let about = format!(
            "mindreel {}: {}",
            env!("CARGO_PKG_VERSION"),
            file.value["command"].as_str().unwrap_or_default()
        );
        let (rgb, height, width) = gallery("Reconstructions", &cards, columns)?.pixels(PNG_SCALE)?;
        png::write(&grid, &rgb, height, width, &about)?;
        file.value["grid"] = json!(grid.display().to_string());
        file.write(started.elapsed().as_secs_f64(), &gpu)?;
    }
    result?;
    shell.note(&format!("done in {}", duration(started.elapsed().as_secs_f64())));
    let grid = file.value["grid"].as_str().unwrap_or_default().to_string();
    shell.print(&format!("{}{grid}\n", captions.table()), &file.value)
}

/// The pictures that were shown, one for each item; all can be read.
fn shown(folder: &Path, n: usize) -> Result<Vec<PathBuf>> {
    let paths = picture::list(folder)?;
    if paths.len() != n {
        let detail =
            format!("holds {} pictures for {n} items; wanted one for each, in their order", paths.len());
        return Err(Error::format(folder, detail));
    }
    paths.iter().try_for_each(|path| picture::read(path).map(drop))?;
    Ok(paths)
}

/// A card for every picture, with what was shown above it.
fn cards(made: &[Frames], truth: Option<&[PathBuf]>, caption: &dyn Fn(usize) -> String) -> Result<Vec<Card>> {
    let one = |frames: Frames, label: &str| Picture {
        rgb: frames.rgb,
        height: frames.height,
        width: frames.width,
        label: label.into(),
    };
    let card = |(index, frames): (usize, &Frames)| -> Result<Card> {
        let mut pictures = Vec::new();
        if let Some(truth) = truth {
            pictures.push(one(picture::read(&truth[index])?, "shown"));
        }
        pictures.push(one(frames.clone(), if truth.is_some() { "reconstructed" } else { "" }));
        Ok(gallery::Card { pictures, title: caption(index) })
    };
    made.iter().enumerate().map(card).collect()
}
