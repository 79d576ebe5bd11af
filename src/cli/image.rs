//! `mindreel image`: words in, pictures out.

use super::journey::{RunFile, make_output, refuse_there};
use super::painting::{ImageFlags, comment, settle, told, warn_of_length};
use super::progress::{Progress, duration};
use super::{Float, Shell, stop};
use crate::error::{Error, Result};
use crate::generate::{Folder, ImageRun, Order};
use crate::media::{Frames, png};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

const EXAMPLES: &str = "\
The checkpoint: a Stable Diffusion v1 folder as published (unet, vae, text_encoder, tokenizer, scheduler).

Examples:
  mindreel image --prompt 'a red car on a road' --model stable-diffusion-v1-5 --output pictures
  mindreel image --prompt 'a dog' --prompt 'a cat' --negative-prompt blurry --num-images-per-prompt 4 --model sd --output pets
  mindreel image --prompt 'a beach' --seed 7,11,13 --num-images-per-prompt 3 --model sd --output beach
  mindreel image --prompt 'a beach' --scheduler dpmsolver++ --num-inference-steps 20 --model sd --output beach

Pictures are image-0000.png and so on, the command that makes each again inside (`mindreel info FILE`); sheet.png shows
all of them, a row to a prompt. Without a list of seeds picture i has seed + i. Ctrl-C keeps what is whole.";

/// Most pictures on the sheet.
const MOST_IN_SHEET: usize = 64;

/// Make pictures of words, by Stable Diffusion
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What a picture shall show; may be given several times
    #[arg(long, value_name = "TEXT", required = true)]
    prompt: Vec<String>,

    /// The checkpoint folder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// Where the pictures go
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// Pictures of each prompt
    #[arg(long, value_name = "N", default_value_t = 1)]
    num_images_per_prompt: usize,

    /// Seed of the first picture, or one for each picture: 7,11,13
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0")]
    seed: Vec<u64>,

    #[command(flatten)]
    image: ImageFlags,

    /// Number type of activations
    #[arg(long, default_value = "f32")]
    dtype: Float,

    /// Refuse to start when more memory than this would be needed [default: what is free, on a software adapter]
    #[arg(long, value_name = "GIB")]
    max_memory: Option<f64>,

    /// Replace pictures that are there
    #[arg(long)]
    force: bool,
}

impl Args {
    fn orders(&self) -> Result<Vec<Order>> {
        let each = self.num_images_per_prompt;
        let n = self.prompt.len().saturating_mul(each);
        if each == 0 || n > 10_000 {
            let detail = format!("wanted 1 to 10000 pictures in all, got {n}");
            return Err(Error::setting("--num-images-per-prompt", detail));
        }
        let seed = |at: usize| match self.seed.as_slice() {
            [first] => first.wrapping_add(at as u64),
            seeds => seeds[at],
        };
        if self.seed.len() != 1 && self.seed.len() != n {
            let detail = format!("{} seeds for {n} pictures; give one, or one for each", self.seed.len());
            return Err(Error::setting("--seed", detail));
        }
        let order = |at: usize| Order {
            prompt: self.prompt[at / each].clone(),
            negative_prompt: self.image.negative_prompt.clone(),
            seed: seed(at),
        };
        Ok((0..n).map(order).collect())
    }
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let started = Instant::now();
    let settings = args.image.settings(50, args.dtype == Float::F16)?;
    let orders = args.orders()?;
    let name = |index: usize| format!("image-{index:04}.png");
    let names = (0..orders.len()).map(name).chain(["run.json".into(), "sheet.png".into()]);
    refuse_there(&args.output, names, args.force)?;
    let folder = Folder::open(&args.model)?;
    warn_of_length(&folder, &orders, shell)?;
    let gpu = shell.open_gpu()?;
    let run = ImageRun::new(&gpu, folder, settings)?;
    settle(&run, orders.len(), &gpu, shell, args.max_memory)?;
    make_output(&args.output)?;
    let stopped = stop::watch(shell.quiet)?;
    let about = json!({
        "model": args.model.display().to_string(), // may be no UTF-8
        "settings": told(&run),
        "need_bytes": run.need(),
        "images": [],
    });
    let mut file = RunFile::new(Some(&args.output), &gpu, about);
    let mut progress = Progress::new(shell.quiet, "denoising", (orders.len() * run.n_calls()) as u64);
    let (mut pictures, mut paths) = (Vec::new(), Vec::new());
    let made =
        run.make(&orders, &stopped, &mut |done, _| progress.set(done as u64), &mut |index, picture| {
            let path = args.output.join(name(index));
            let comment = comment(&orders[index], &run, &args.model);
            png::write(&path, &picture.rgb, picture.height, picture.width, &comment)?;
            paths.push(path.display().to_string());
            let mut told = serde_json::to_value(&orders[index]).unwrap_or_default();
            told["file"] = json!(path.display().to_string());
            file.push("images", told);
            pictures.push(picture);
            file.write(started.elapsed().as_secs_f64(), &gpu)
        });
    progress.finish();
    if pictures.is_empty() {
        // Nothing was made: nothing is left behind but what was there before.
        let _ = std::fs::remove_dir(&args.output);
    } else if (2..=MOST_IN_SHEET).contains(&pictures.len()) {
        let rows: Vec<Frames> =
            pictures.chunks(args.num_images_per_prompt).map(row).collect::<Result<_>>()?;
        let sheet = png::overview(&rows, 4)?;
        let path = args.output.join("sheet.png");
        let about = file.value["command"].as_str().unwrap_or_default();
        png::write(&path, &sheet.rgb, sheet.height, sheet.width, about)?;
        file.value["sheet"] = json!(path.display().to_string());
        file.write(started.elapsed().as_secs_f64(), &gpu)?;
    }
    made?;
    shell.note(&format!("done in {}", duration(started.elapsed().as_secs_f64())));
    shell.print(&paths.join("\n"), &file.value)
}

/// Pictures of one size as frames beside each other.
fn row(pictures: &[Frames]) -> Result<Frames> {
    let rgb: Vec<u8> = pictures.iter().flat_map(|picture| picture.rgb.iter().copied()).collect();
    Frames::new(pictures.len(), pictures[0].height, pictures[0].width, rgb, 1.0)
}
