//! `mindreel prepare simulate`: a simulated SEED-DV.

use super::super::Shell;
use super::super::progress::Progress;
use super::super::stop;
use crate::error::{Error, Result};
use crate::files;
use crate::media::{Frames, gif};
use crate::signal::segments::CLIPS;
use crate::signal::simulate::{DEFAULT_SNR_DB, Simulation};
use crate::signal::stack::BLOCKS;
use crate::signal::{montage, npy, recording, seed_dv};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
The folder has SEED-DV's layout:
  EEG/sub1.npy ...            [7, 62, 104000] float32, volts, 200 Hz (180 MB each)
  meta_info/                  All_video_label.npy and the others; class_names.txt
  BLIP-caption/1st_10min.txt  200 captions a block
  Video/clips.npy             [7, 200, 6, height, width, 3] uint8; or, with --clips gif, Video/Block0/1.gif ...
  README.md, simulation.json  that it is a simulation, and how to make it again

The 40 concepts are 5 shapes x 4 colours x 2 speeds; EEG answers to them at the chosen ratio. It is nobody's brain,
and no score on it says anything about real EEG. The same seed gives the same EEG and clips on every machine, and
more subjects leave the first ones as they were.

Examples:
  mindreel prepare simulate --output sim
  mindreel prepare simulate --output sim --subjects 5 --snr -10 --seed 7 --clips none
  mindreel prepare simulate --output sim --height 72 --width 128 --clips gif";

/// Marks a folder of ours, which --force may replace.
const MARK: &str = "simulation.json";
/// Most subjects: SEED-DV's 20, several times over.
const MAX_SUBJECTS: usize = 200;

/// A simulated SEED-DV: EEG, labels, captions and clips
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder to make
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// How many people
    #[arg(long, default_value_t = 1)]
    subjects: usize,

    /// Power of the response by that of everything else, in dB
    #[arg(long, value_name = "DB", default_value_t = DEFAULT_SNR_DB)]
    snr: f64,

    /// Seed of the simulation
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// How the clips are written
    #[arg(long, default_value = "npy")]
    clips: Clips,

    /// Pixels of a clip
    #[arg(long, value_name = "PX", default_value_t = 36)]
    height: usize,

    /// Pixels of a clip
    #[arg(long, value_name = "PX", default_value_t = 64)]
    width: usize,

    /// Replace a simulation that is there
    #[arg(long)]
    force: bool,
}

/// `--clips`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Clips {
    /// One array
    Npy,
    /// A GIF each
    Gif,
    /// Not at all
    None,
}

/// Frames of a clip, and how many there are in a second.
const FRAMES: usize = 6;
const FRAME_RATE_FPS: f64 = 3.0;

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    if !(1..=MAX_SUBJECTS).contains(&args.subjects) {
        return Err(Error::setting("--subjects", format!("{}, wanted 1 to {MAX_SUBJECTS}", args.subjects)));
    }
    for (flag, n) in [("--height", args.height), ("--width", args.width)] {
        if !(8..=1024).contains(&n) {
            return Err(Error::setting(flag, format!("{n} pixels, wanted 8 to 1024")));
        }
    }
    let world = Simulation::new(args.seed, args.snr).map_err(|error| match error {
        Error::Setting { detail, .. } => Error::setting("--snr", detail),
        other => other,
    })?;
    files::refuse_foreign_folder(&args.output, MARK, "simulation", args.force)?;
    let clip_steps = if args.clips == Clips::None { 0 } else { BLOCKS };
    let total = args.subjects * BLOCKS + clip_steps;
    let mut progress = Progress::new(shell.quiet, "blocks", total as u64);
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress.set(done);
        stop::check(stopped, "nothing was written")
    };
    files::make_folder_atomically(&args.output, |folder| {
        for subject in 0..args.subjects {
            eeg(&world, subject, &folder.join(format!("EEG/sub{}.npy", subject + 1)), &mut step)?;
        }
        world.meta().write(folder.join("meta_info"))?;
        captions(&world, folder)?;
        clips(&world, args, &folder.join("Video"), &mut step)?;
        let told = serde_json::to_string_pretty(&settings(args)).unwrap_or_default();
        files::write_text(folder.join(MARK), &format!("{told}\n"))?;
        files::write_text(folder.join("README.md"), &readme(args))
    })?;
    progress.finish();
    let path = args.output.display();
    let people = if args.subjects == 1 { "1 subject".into() } else { format!("{} subjects", args.subjects) };
    let mut json = settings(args);
    json["output"] = json!(path.to_string());
    shell.print(&format!("{path}: simulated SEED-DV, {people}, {} dB, seed {}", args.snr, args.seed), &json)
}

/// Two blocks at a time where there are two cores; the bits do not depend on it.
fn eeg(world: &Simulation, subject: usize, path: &Path, step: &mut impl FnMut() -> Result<()>) -> Result<()> {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(BLOCKS);
    let shape = [BLOCKS, montage::ELECTRODES.len(), recording::BLOCK_SAMPLES];
    npy::write_parts::<f32>(path, &shape, |put| {
        let blocks: Vec<usize> = (0..BLOCKS).collect();
        for together in blocks.chunks(n_threads) {
            let made: Vec<Vec<f32>> = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    together.iter().map(|&block| scope.spawn(move || world.block(subject, block))).collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<f32>>| match thread.join() {
                    Ok(block) => block,
                    Err(panic) => std::panic::resume_unwind(panic),
                };
                threads.into_iter().map(join).collect()
            });
            for block in made {
                put(&block)?;
                step()?;
            }
        }
        Ok(())
    })
}

fn captions(world: &Simulation, folder: &Path) -> Result<()> {
    for block in 0..BLOCKS {
        let lines: Vec<String> = world.clips(block).iter().map(|clip| clip.caption()).collect();
        let path = folder.join(format!("BLIP-caption/{}.txt", seed_dv::block_stem(block)));
        files::write_text(&path, &format!("{}\n", lines.join("\n")))?;
    }
    Ok(())
}

fn clips(
    world: &Simulation,
    args: &Args,
    folder: &Path,
    step: &mut impl FnMut() -> Result<()>,
) -> Result<()> {
    let (height, width) = (args.height, args.width);
    match args.clips {
        Clips::None => Ok(()),
        Clips::Npy => {
            let shape = [BLOCKS, seed_dv::BLOCK_CLIPS, FRAMES, height, width, 3];
            npy::write_parts::<u8>(folder.join("clips.npy"), &shape, |put| {
                for block in 0..BLOCKS {
                    world
                        .clips(block)
                        .iter()
                        .try_for_each(|clip| put(&clip.frames(FRAMES, height, width)))?;
                    step()?;
                }
                Ok(())
            })
        }
        Clips::Gif => {
            for block in 0..BLOCKS {
                let into = folder.join(format!("Block{block}"));
                for (i, clip) in world.clips(block).iter().enumerate() {
                    let rgb = clip.frames(FRAMES, height, width);
                    let frames = Frames::new(FRAMES, height, width, rgb, FRAME_RATE_FPS)?;
                    gif::write(into.join(format!("{}.gif", i + 1)), &frames, &clip.caption())?;
                }
                step()?;
            }
            Ok(())
        }
    }
}

fn settings(args: &Args) -> serde_json::Value {
    json!({
        "simulation": true,
        "mindreel": env!("CARGO_PKG_VERSION"),
        "seed": args.seed,
        "snr_db": args.snr,
        "subjects": args.subjects,
        "sample_rate_hz": montage::SAMPLE_RATE_HZ,
        "units": "V",
        "height": args.height,
        "width": args.width,
        "frames": FRAMES,
        "clips": format!("{:?}", args.clips).to_lowercase(),
    })
}

fn readme(args: &Args) -> String {
    let clips = match args.clips {
        Clips::Npy => format!(
            "| `Video/clips.npy` | [{BLOCKS}, {}, {FRAMES}, {}, {}, 3] uint8, RGB: block, clip in order of presentation, \
             frame |\n",
            seed_dv::BLOCK_CLIPS,
            args.height,
            args.width
        ),
        Clips::Gif => {
            format!("| `Video/Block0/1.gif` to `Video/Block6/200.gif` | {FRAMES} frames at 3 fps |\n")
        }
        Clips::None => String::new(),
    };
    format!(
        "# A simulation\n\n\
         Nothing in this folder was measured. The EEG is computed from a formula and the clips are drawn; nobody was \
         recorded, and no score reached on it says anything about real EEG. It has the layout of SEED-DV, so that the \
         same commands run on both.\n\n\
         Made by `mindreel prepare simulate --subjects {} --snr {} --seed {} --clips {} --height {} --width {} --output DIR`, \
         Mindreel {}. The same call gives the same numbers on every machine.\n\n\
         | file | what it holds |\n|---|---|\n\
         | `EEG/sub1.npy` ... | [{BLOCKS}, 62, 104000] float32, volts, 200 Hz, channels in SEED-DV's order |\n\
         | `meta_info/All_video_label.npy` | [{BLOCKS}, 40], concept of each slot, 1 to 40; names in `class_names.txt` |\n\
         | `meta_info/All_video_*.npy` | [{BLOCKS}, 200]: colour, face, human, number of objects, optical flow |\n\
         | `BLIP-caption/*.txt` | 200 captions a block |\n{clips}\n\
         A block has 40 slots of 13 s: 3 s of cue, then {CLIPS} clips of 2 s. The 40 concepts are 5 shapes (ball, box, \
         star, face, person) x 4 colours (red, green, blue, yellow) x 2 speeds (slow, fast).\n\n\
         The EEG is a 1/f background, an alpha rhythm that falls while a clip is shown, sensor noise and drift, and a \
         response: for every shape, colour, speed, number and concept a rhythm grows at a place of its own and a wave \
         follows the start of the clip. Its power is {} dB against background, alpha and sensors, over all channels \
         and the seconds of the clips. Subjects differ in places, strengths, rhythms and latencies, blocks in the seat \
         of the cap and in strengths; attention comes and goes. Cues hold no trace of the concept.\n",
        args.subjects,
        args.snr,
        args.seed,
        format!("{:?}", args.clips).to_lowercase(),
        args.height,
        args.width,
        env!("CARGO_PKG_VERSION"),
        args.snr,
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{going, shape, shell};
    use super::*;

    fn args(output: PathBuf) -> Args {
        Args { output, subjects: 1, snr: 0.0, seed: 1, clips: Clips::Npy, height: 9, width: 16, force: false }
    }

    #[test]
    fn clips_and_captions_have_the_layout_of_the_data_set() {
        let folder = tempfile::tempdir().unwrap();
        let world = Simulation::new(1, 0.0).unwrap();
        let mut n = 0;
        let mut step = || {
            n += 1;
            Ok(())
        };
        let args = args(folder.path().join("sim"));
        clips(&world, &args, folder.path(), &mut step).unwrap();
        assert_eq!(shape(&folder.path().join("clips.npy")), [7, 200, 6, 9, 16, 3]);
        captions(&world, folder.path()).unwrap();
        let captions = std::fs::read_to_string(folder.path().join("BLIP-caption/7th_10min.txt")).unwrap();
        assert_eq!((captions.lines().count(), n), (200, 7));
        assert!(readme(&args).contains("Nothing in this folder was measured"));
    }

    #[test]
    fn what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.txt"), "").unwrap();
        let run = |force| run(&Args { force, ..args(folder.path().into()) }, &shell(), &going()).unwrap_err();
        assert_eq!(run(false).exit_code(), 5);
        assert!(run(true).to_string().contains("no simulation"));
    }

    #[test]
    fn mistakes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("sim");
        let code = |args: Args| run(&args, &shell(), &going()).unwrap_err().exit_code();
        assert_eq!(code(Args { subjects: 0, ..args(output.clone()) }), 2);
        assert_eq!(code(Args { snr: f64::NAN, ..args(output.clone()) }), 2);
        assert_eq!(code(Args { height: 7, ..args(output.clone()) }), 2);
        assert_eq!(code(Args { width: 4000, ..args(output.clone()) }), 2);
        let stopped = AtomicBool::new(true);
        assert_eq!(run(&args(output.clone()), &shell(), &stopped).unwrap_err().exit_code(), 130);
        assert!(!output.exists());
    }
}
