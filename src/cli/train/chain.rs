//! `mindreel train chain`: everything the demo's checkpoint needs, one training after another, from committed settings.

use crate::cli::stages::{Stages, line, words};
use crate::cli::{Shell, manifest};
use crate::error::{Error, Result};
use crate::files;
use crate::generate::TEXTS;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Simulates a data set, makes a table of text embeddings, and trains on blocks 0 to 4 of 7: a classifier of true clips (the
judge), the VAE, the semantic predictor, the sequence model, the dynamics classifier, the denoiser, first on single
frames, then on whole clips. Block 5 chooses (the judge learns from its true clips, too). No training learns from
block 6 (the judge is tested on its true clips): it is for `mindreel demo`, which runs at the end and whose scores go
into OUTPUT/model/manifest.json.

The settings of each training are those of configs/demo, part of this program; they are written to OUTPUT/configs. Each
stage is a command of its own, which is told before it runs. What is finished is skipped, so that the same command goes
on after a stop.

Examples:
  mindreel train chain --output runs/demo               a few hours on two cores, minutes on a GPU
  mindreel train chain --output runs/quick --quick      a few steps of everything, to see that it goes
  mindreel train chain --output runs/loud --snr 0       the same brain, easier to hear";

/// Train every part of an EEG-to-video checkpoint on the simulator
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder for the data, the runs and the checkpoint
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// Power of the simulated response by that of everything else, in dB
    #[arg(long, value_name = "DB", default_value_t = -8.0)]
    snr: f64,

    /// Seed of the simulation and of every training
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// A few steps of everything on small clips
    #[arg(long)]
    quick: bool,
}

/// Settings of the trainings, by the names of their files.
const CONFIGS: [(&str, &str); 7] = [
    ("classifier", include_str!("../../../configs/demo/classifier.toml")),
    ("vae", include_str!("../../../configs/demo/vae.toml")),
    ("semantic", include_str!("../../../configs/demo/semantic.toml")),
    ("seq2seq", include_str!("../../../configs/demo/seq2seq.toml")),
    ("dynamics", include_str!("../../../configs/demo/dynamics.toml")),
    ("stills", include_str!("../../../configs/demo/stills.toml")),
    ("video", include_str!("../../../configs/demo/video.toml")),
];
/// Sizes of the denoiser.
const UNET: &str = include_str!("../../../configs/demo/unet.json");
/// How `mindreel demo` decodes.
const DECODE: &str = include_str!("../../../configs/demo/decode.toml");

/// Height and width of the clips.
const SIZE: [usize; 2] = [32, 48];
const QUICK_SIZE: [usize; 2] = [16, 24];
/// Width of the text embeddings.
const TEXT_WIDTH: &str = "64";
/// Bytes of a published checkpoint's config; weights are larger.
const CONFIG_BYTES: u64 = 1 << 20;

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let stages = Stages::new(shell, "what is finished is kept; the same command goes on")?;
    let out = |name: &str| args.output.join(name);
    files::make_folder(&out("configs"))?;
    files::make_folder(&out("model"))?;
    for (name, text) in CONFIGS {
        files::write_text(out(&format!("configs/{name}.toml")), text)?;
    }
    let unet = out("configs/unet.json");
    files::write_text(&unet, UNET)?;
    let (data, texts, model) = (out("data"), out("texts.safetensors"), out("model"));
    let seed = args.seed.to_string();
    let [height, width] = if args.quick { QUICK_SIZE } else { SIZE };
    let mut told = Vec::new();
    let mut stage = |words: Vec<OsString>, made: &Path| -> Result<()> {
        told.push(line(&words).replace(&args.output.display().to_string(), "DIR"));
        if made.exists() {
            return stages.check();
        }
        stages.run(words).map(drop)
    };
    let simulation = words![
        "prepare",
        "simulate",
        "--output",
        &data,
        "--seed",
        &seed,
        "--snr",
        args.snr.to_string(),
        "--height",
        height.to_string(),
        "--width",
        width.to_string(),
        "--force",
    ];
    stage(simulation, &data.join("simulation.json"))?;
    let table = words![
        "prepare",
        "text-embeddings",
        "--data",
        &data,
        "--output",
        &texts,
        "--words",
        TEXT_WIDTH,
        "--seed",
        &seed,
    ];
    stage(table, &texts)?;
    for (name, _) in CONFIGS {
        let run = out(name);
        let kind = match name {
            "classifier" => "clip-classifier",
            "stills" => "video",
            _ => name,
        };
        let mut words = words![
            "train",
            kind,
            "--data",
            &data,
            "--output",
            &run,
            "--config",
            out(&format!("configs/{name}.toml")),
            "--seed",
            &seed,
            "--resume",
        ];
        let vae = out("vae/model");
        match name {
            "semantic" => words.extend(words!["--text", &texts, "--into", &model]),
            "seq2seq" => words.extend(words!["--vae", &vae, "--into", &model]),
            "dynamics" => words.extend(words!["--into", &model]),
            "stills" => words.extend(words!["--vae", &vae, "--text", &texts, "--init", &unet]),
            "video" => {
                words.extend(words!["--vae", &vae, "--text", &texts, "--unet", out("stills/model")]);
            }
            _ => {}
        }
        if args.quick {
            words.extend(words!["--steps", "3", "--batch-size", "4", "--validation-steps", "3"]);
        }
        // A part that goes into the checkpoint is there when its training is through; so is a run's own model.
        let into = ["semantic", "seq2seq", "dynamics"].contains(&name);
        let made = if into { model.join(name) } else { run.join("model") };
        stage(words, &made)?;
    }
    for (part, run) in [("vae", "vae"), ("unet", "video"), ("classifier", "classifier")] {
        copy_folder(&out(run).join("model"), &model.join(part))?;
    }
    copy_file(&texts, &model.join(TEXTS))?;
    files::write_json(model.join("scheduler/scheduler_config.json"), &crate::models::scheduler_config())?;
    files::write_json(model.join("model_index.json"), &index(height, width))?;

    let mut about = json!({
        "what": "trained by `mindreel train chain` on simulated EEG; nobody's brain",
        "program": format!("mindreel {}", env!("CARGO_PKG_VERSION")),
        "command": line(&command(args)),
        "stages": told,
        "simulation": { "seed": args.seed, "snr_db": args.snr, "height": height, "width": width },
        "decode": DECODE.parse::<toml::Table>().expect("part of this program"),
        "configs": CONFIGS.iter().map(|(name, text)| (name.to_string(), json!(text))).collect::<serde_json::Map<_, _>>(),
        "sha256": manifest::hashes(&model)?,
    });
    let path = model.join(manifest::NAME);
    files::write_json(&path, &about)?;
    let demo = out("demo");
    let mut words = words!["demo", "--model", &model, "--output", &demo, "--force"];
    if args.quick {
        words.extend(words!["--clips", "3", "--num-inference-steps", "2"]);
    }
    let text = stages.run(words)?;
    let scores = demo.join("scores/eval.json");
    let scores = files::read_small(&scores, CONFIG_BYTES)?;
    let mut scores: Value = serde_json::from_slice(&scores).unwrap_or(Value::Null);
    // They name folders of this run, which is none of the checkpoint's.
    if let Some(scores) = scores.as_object_mut() {
        scores.remove("settings");
    }
    about["scores"] = scores;
    files::write_json(&path, &about)?;
    let result = json!({ "model": model.display().to_string(), "scores": about["scores"] });
    shell.print(&format!("{}\n{}", text.trim_end(), model.display()), &result)
}

/// The command without what does not change its result.
fn command(args: &Args) -> Vec<OsString> {
    let mut words = words!["train", "chain", "--output", "DIR", "--snr", args.snr.to_string(), "--seed"];
    words.push(args.seed.to_string().into());
    if args.quick {
        words.push("--quick".into());
    }
    words
}

/// What `model_index.json` holds, in diffusers' form.
fn index(height: usize, width: usize) -> Value {
    json!({
        "_class_name": "EEG2VideoPipeline",
        "_mindreel_version": env!("CARGO_PKG_VERSION"),
        "semantic": ["mindreel", "ShallowNet"],
        "seq2seq": ["mindreel", "EEG2VideoTransformer"],
        "dynamics": ["mindreel", "GLMNet"],
        "unet": ["diffusers", "UNet3DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "num_frames": 6,
        "height": height,
        "width": width,
    })
}

/// Config and weights of a model into the checkpoint, file by file.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    files::make_folder(to)?;
    for entry in std::fs::read_dir(from).map_err(Error::read(from))? {
        let path = entry.map_err(Error::read(from))?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else { continue };
        copy_file(&path, &to.join(name))?;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    files::write_atomically(to, |w| {
        let mut file = std::fs::File::open(from).map_err(Error::read(from))?;
        std::io::copy(&mut file, w).map(drop).map_err(Error::write(to))
    })
}
