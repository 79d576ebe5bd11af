//! `mindreel prepare clips`: films into 2-s clips of a few frames.

use super::super::progress::Progress;
use super::super::{Shell, stop};
use super::batch::files_in;
use crate::error::{Error, Result, bytes};
use crate::files;
use crate::media::video::{self, Choice, Request};
use crate::media::{self, Format, Frames};
use crate::signal::stack::BLOCKS;
use crate::signal::{npy, seed_dv};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
SEED-DV's films, 24 frames a second: 40 slots of 312 frames, 72 of cue and then five clips of 48, of which frames
0, 8, 16, 24, 32, 40 are kept. 1st_10min.mp4 to 7th_10min.mp4 become Block0 to Block6, other films go by their name;
clips are numbered from 1, in order of presentation, and play at 3 frames a second.

Films need an installed ffmpeg; a .gif, or a folder of .png, does not.

Examples:
  mindreel prepare clips --video Video --output Video_Gif
  mindreel prepare clips --video Video/1st_10min.mp4 --output clips --format npy --height 36 --width 64
  mindreel prepare clips --video holiday.mp4 --output clips --continuous";

/// Frames per second at which SEED-DV counts.
const RATE_FPS: u64 = 24;
const CLIP_FRAMES: u64 = 2 * RATE_FPS;
const SLOT_FRAMES: u64 = 13 * RATE_FPS;
const CUE_FRAMES: u64 = 3 * RATE_FPS;
/// Most bytes of one array of clips.
const MAX_BYTES: u64 = 4 << 30;

/// Films into 2-s clips, down-sampled
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A film, a .gif, a folder of .png (one film), or a folder of films
    #[arg(long, value_name = "FILE|DIR")]
    video: PathBuf,

    /// Folder to write to
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// gif, png (folders of frames), or npy: [clips, frames, height, width, 3] of each film
    #[arg(long, default_value = "gif")]
    format: As,

    /// Frames kept of a clip: 1, 2, 3, 4, 6, 8, 12, 16, 24 or 48
    #[arg(long, default_value_t = 6)]
    frames: u64,

    /// Pixels of a clip
    #[arg(long, value_name = "PX", default_value_t = 288)]
    height: usize,

    /// Pixels of a clip
    #[arg(long, value_name = "PX", default_value_t = 512)]
    width: usize,

    /// No cues: clips of 2 s end to end
    #[arg(long)]
    continuous: bool,

    /// Frames per second of a folder of .png
    #[arg(long, value_name = "X", default_value_t = RATE_FPS as f64)]
    fps: f64,

    /// Replace clips that are there; without it finished films are skipped
    #[arg(long)]
    force: bool,
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum As {
    /// A file each
    Gif,
    /// A folder of frames each
    Png,
    /// One array
    Npy,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    let request = request(args)?;
    let films = films(&args.video)?;
    let names = films.iter().map(|film| name_of(film)).collect::<Result<Vec<_>>>()?;
    for (at, name) in names.iter().enumerate() {
        if let Some(first) = names[..at].iter().position(|other| other == name) {
            let (one, other) = (films[first].display(), films[at].display());
            let detail = format!("{one} and {other} would both become '{}'; rename one", name.display());
            return Err(Error::setting("--video", detail));
        }
    }
    let per_film = if args.continuous { 0 } else { seed_dv::BLOCK_CLIPS };
    let mut progress = Progress::new(shell.quiet, "clips", (films.len() * per_film) as u64);
    let (mut lines, mut told, mut done) = (Vec::new(), Vec::new(), 0);
    for (film, name) in films.iter().zip(&names) {
        let output = args.output.join(name);
        let output = if args.format == As::Npy { output.with_added_extension("npy") } else { output };
        let is_finished = !args.force && output.exists();
        let n = if is_finished {
            finished(&output, args)?
        } else {
            let mut step = || {
                done += 1;
                progress.set(done);
                stop::check(stopped, "finished films are kept; the same call goes on")
            };
            cut(film, &output, args, &request, &mut step)?
        };
        let skipped = if is_finished { ", finished before" } else { "" };
        lines.push(format!("{} -> {}, {n} clips{skipped}", film.display(), output.display()));
        told.push(json!({
            "input": film.display().to_string(),
            "output": output.display().to_string(),
            "clips": n,
            "frames": args.frames,
            "height": args.height,
            "width": args.width,
            "skipped": is_finished,
        }));
    }
    progress.finish();
    shell.print(&lines.join("\n"), &Value::Array(told))
}

fn request(args: &Args) -> Result<Request> {
    if args.frames == 0 || !CLIP_FRAMES.is_multiple_of(args.frames) {
        let detail =
            format!("{}, wanted a divisor of the {CLIP_FRAMES} frames of a clip, such as 6", args.frames);
        return Err(Error::setting("--frames", detail));
    }
    for (flag, n) in [("--height", args.height), ("--width", args.width)] {
        if !(1..=4096).contains(&n) {
            return Err(Error::setting(flag, format!("{n} pixels, wanted 1 to 4096")));
        }
    }
    if !(args.fps.is_finite() && args.fps > 0.0) {
        return Err(Error::setting("--fps", format!("{}, wanted a rate above 0", args.fps)));
    }
    let step = CLIP_FRAMES / args.frames;
    let choice = match args.continuous {
        true => Choice { period: CLIP_FRAMES, first: 0, step },
        false => Choice { period: SLOT_FRAMES, first: CUE_FRAMES, step },
    };
    let (height, width, sequence_fps) = (args.height, args.width, args.fps);
    Ok(Request { choice, rate_fps: RATE_FPS as f64, sequence_fps, height, width })
}

/// One film, or those of a folder; a folder of PNG is a film itself.
fn films(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() || files_in(path, &["png"]).is_ok() {
        std::fs::metadata(path).map_err(Error::read(path))?;
        return Ok(vec![path.to_path_buf()]);
    }
    files_in(path, &[&video::ENDINGS[..], &["gif"]].concat())
}

/// `Block0` for `1st_10min.mp4`, the name without its ending for others.
fn name_of(film: &Path) -> Result<PathBuf> {
    let film = film.canonicalize().map_err(Error::read(film))?;
    let stem = if film.is_dir() { film.file_name() } else { film.file_stem() };
    let stem = PathBuf::from(stem.unwrap_or("clips".as_ref()));
    let block = (0..BLOCKS).find(|&block| stem.as_os_str() == seed_dv::block_stem(block).as_str());
    Ok(block.map_or(stem, |block| format!("Block{block}").into()))
}

/// How many clips are there from before.
///
/// Errors: [`Error::Format`] when they are not what this call makes.
fn finished(output: &Path, args: &Args) -> Result<usize> {
    let (n, fits) = if args.format == As::Npy {
        let shape = npy::describe(output, None)?.shape;
        let wanted = [args.frames as usize, args.height, args.width, 3];
        (shape.first().copied().unwrap_or(0), shape.get(1..) == Some(&wanted[..]))
    } else {
        let entries = std::fs::read_dir(output).map_err(Error::read(output))?;
        let is_folder = args.format == As::Png;
        let clips: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir() == is_folder).collect();
        let first = clips.iter().min().map(|first| video::read(first, args.fps)).transpose()?;
        let wanted = (args.frames as usize, args.height, args.width);
        (clips.len(), first.is_none_or(|first| (first.count, first.height, first.width) == wanted))
    };
    if !fits || n == 0 || (!args.continuous && n != seed_dv::BLOCK_CLIPS) {
        let detail =
            "holds other clips than this call makes; give another folder, or --force to replace them";
        return Err(Error::format(output, detail));
    }
    Ok(n)
}

/// Cuts one film, whole or not at all; returns how many clips it has.
fn cut(
    film: &Path,
    output: &Path,
    args: &Args,
    request: &Request,
    step: &mut impl FnMut() -> Result<()>,
) -> Result<usize> {
    if args.format != As::Npy {
        let mut n = 0;
        files::make_folder_atomically(output, |folder| {
            n = each_clip(film, args, request, &mut |n, rgb| {
                let frames = Frames::new(
                    args.frames as usize,
                    args.height,
                    args.width,
                    rgb,
                    args.frames as f64 / 2.0,
                )?;
                let format = if args.format == As::Gif { Format::Gif } else { Format::Png };
                media::save(&frames, folder.join(n.to_string()), format, "")?;
                step()
            })?;
            Ok(())
        })?;
        return Ok(n);
    }
    let mut all: Vec<u8> = Vec::new();
    let n = each_clip(film, args, request, &mut |_, rgb| {
        all.extend_from_slice(&rgb);
        if all.len() as u64 > MAX_BYTES {
            let detail = format!("more than {} in one array; take gif, or fewer pixels", bytes(MAX_BYTES));
            return Err(Error::setting("--format", detail));
        }
        step()
    })?;
    npy::write(output, &[n, args.frames as usize, args.height, args.width, 3], &all)?;
    Ok(n)
}

/// Hands over the clips, numbered from 1.
///
/// Errors: [`Error::Format`] when the film is too short for one clip, or is no whole block.
fn each_clip(
    film: &Path,
    args: &Args,
    request: &Request,
    sink: &mut dyn FnMut(usize, Vec<u8>) -> Result<()>,
) -> Result<usize> {
    let clip_bytes = args.frames as usize * args.height * args.width * 3;
    let (mut clip, mut n) = (Vec::with_capacity(clip_bytes), 0);
    let most = if args.continuous { usize::MAX } else { seed_dv::BLOCK_CLIPS };
    video::each_frame(film, request, &mut |frame| {
        if n == most {
            return Ok(()); // credits
        }
        clip.extend_from_slice(&frame);
        if clip.len() == clip_bytes {
            n += 1;
            sink(n, std::mem::replace(&mut clip, Vec::with_capacity(clip_bytes)))?;
        }
        Ok(())
    })?;
    if n == 0 || (!args.continuous && n != seed_dv::BLOCK_CLIPS) {
        let detail = match args.continuous {
            true => "is shorter than a clip of 2 s".to_string(),
            false => format!(
                "holds {n} of the {} clips of a SEED-DV block, {} frames; it is cut short, or give --continuous",
                seed_dv::BLOCK_CLIPS,
                40 * SLOT_FRAMES
            ),
        };
        return Err(Error::format(film, detail));
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{going, shape, shell};
    use super::*;
    use crate::media::{gif, png};

    fn args(video: PathBuf, output: PathBuf) -> Args {
        Args {
            video,
            output,
            format: As::Gif,
            frames: 6,
            height: 4,
            width: 6,
            continuous: true,
            fps: 24.0,
            force: false,
        }
    }

    /// 5 s at 8 frames a second; a frame's grey is 6 times its number.
    fn film(folder: &Path) -> PathBuf {
        let rgb = (0..40u8).flat_map(|i| vec![6 * i; 8 * 12 * 3]).collect();
        let path = folder.join("films/2nd_10min.gif");
        gif::write(&path, &Frames::new(40, 8, 12, rgb, 8.0).unwrap(), "").unwrap();
        path
    }

    #[test]
    fn a_film_becomes_clips() {
        let folder = tempfile::tempdir().unwrap();
        let (path, output) = (film(folder.path()), folder.path().join("out"));
        let films = folder.path().join("films");
        run(&args(films.clone(), output.clone()), &shell(), &going()).unwrap();
        assert_eq!(std::fs::read_dir(output.join("Block1")).unwrap().count(), 2);
        let clip = gif::read(output.join("Block1/2.gif")).unwrap();
        assert_eq!((clip.count, clip.height, clip.width), (6, 4, 6));
        // Clip 2 begins at 2 s; six frames lie 8/24 s apart: frames 16, 18, 21, 24, 26, 29 of the gif.
        let greys: Vec<u8> = (0..6).map(|i| clip.frame(i).unwrap()[0]).collect();
        let wanted = [16u8, 18, 21, 24, 26, 29].map(|n| 6 * n);
        assert!(greys.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 3), "{greys:?}");
        // Finished films are skipped, other arrays are not.
        run(&args(path.clone(), output.clone()), &shell(), &going()).unwrap();
        let into = |format| Args { format, ..args(path.clone(), output.clone()) };
        run(&into(As::Npy), &shell(), &going()).unwrap();
        assert_eq!(shape(&output.join("Block1.npy")), [2, 6, 4, 6, 3]);
        let other = Args { height: 5, ..into(As::Npy) };
        assert_eq!(run(&other, &shell(), &going()).unwrap_err().exit_code(), 3);
        run(&Args { force: true, ..into(As::Png) }, &shell(), &going()).unwrap();
        assert_eq!(png::read(output.join("Block1/1/000.png")).unwrap().0.height, 4);
    }

    #[test]
    fn the_protocol_is_the_data_sets() {
        let choice = request(&Args { continuous: false, ..args("".into(), "".into()) }).unwrap().choice;
        let taken: Vec<u64> = (0..12_480).filter(|&n| choice.takes(n)).collect();
        assert_eq!(taken.len(), 200 * 6);
        for (clip, frames) in taken.chunks(6).enumerate() {
            let start = 312 * (clip as u64 / 5) + 72 + 48 * (clip as u64 % 5);
            assert!(frames.iter().enumerate().all(|(i, &n)| n == start + 8 * i as u64));
        }
    }

    #[test]
    fn mistakes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, output) = (film(folder.path()), folder.path().join("out"));
        let refused = |args: Args| {
            let error = run(&args, &shell(), &going()).unwrap_err();
            assert!(
                !output.exists() || std::fs::read_dir(&output).unwrap().count() == 0,
                "nothing half-done"
            );
            (error.exit_code(), error.to_string())
        };
        let usual = || args(path.clone(), output.clone());
        assert_eq!(refused(Args { frames: 7, ..usual() }).0, 2);
        assert_eq!(refused(Args { height: 0, ..usual() }).0, 2);
        assert_eq!(refused(Args { fps: -1.0, ..usual() }).0, 2);
        assert_eq!(refused(Args { video: folder.path().join("no"), ..usual() }).0, 3);
        let (code, text) = refused(Args { continuous: false, ..usual() });
        assert!(code == 3 && text.contains("holds 1 of the 200 clips"), "{text}");
        let stopped = AtomicBool::new(true);
        assert_eq!(run(&usual(), &shell(), &stopped).unwrap_err().exit_code(), 130);
    }
}
