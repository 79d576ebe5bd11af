//! The training of the video chain from outside: an autoencoder and a diffusion fine-tune on a few small clips.

mod common;
#[path = "common/runs.rs"]
mod runs;

use assert_cmd::Command;
use mindreel::data::TextTable;
use mindreel::signal::npy;
use mindreel::weights::{self, Checkpoint};
use runs::{mindreel, refused};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const BLOCKS: usize = 3;
const CLIPS: usize = 4;
const SHAPE: [usize; 3] = [2, 8, 16];

/// Three blocks of four clips: a bright square that moves over a ground of the clip's colour.
fn data_set(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    let [frames, height, width] = SHAPE;
    let mut bytes: Vec<u8> = Vec::new();
    for block in 0..BLOCKS {
        for clip in 0..CLIPS {
            let ground = [[200, 40, 40], [40, 180, 60], [50, 60, 210], [220, 200, 40]][clip];
            for frame in 0..frames {
                for y in 0..height {
                    for x in 0..width {
                        let inside = y / 4 == block % 2 && x / 4 == (clip + frame) % 4;
                        bytes.extend(if inside { [250, 250, 250] } else { ground });
                    }
                }
            }
        }
    }
    npy::write(data.join("Video/clips.npy"), &[BLOCKS, CLIPS, frames, height, width, 3], &bytes).unwrap();
    data
}

/// `train vae` of two levels: a second.
fn vae(data: &Path, output: &Path, more: &[&str]) -> Command {
    let small = ["--block-out-channels", "8,8", "--norm-num-groups", "4", "--latent-channels", "2"];
    let mut command = train("vae", data, output, &["--train-blocks", "0,1", "--validation-block", "2"]);
    command.args(small).args(["--batch-size", "4", "--learning-rate", "0.01"]).args(more);
    command
}

fn train(what: &str, data: &Path, output: &Path, more: &[&str]) -> Command {
    let mut command = mindreel();
    command.args(["train", what, "--data"]).arg(data).arg("--output").arg(output).args(more);
    command
}

/// The files of a run that do not depend on how it was cut.
fn same(a: &Path, b: &Path, files: &[&str]) {
    for file in files {
        let [one, other] = [a, b].map(|folder| std::fs::read(folder.join(file)).unwrap());
        assert!(one == other, "{file} differs");
    }
}

const RUN: [&str; 4] = ["train.json", "log.jsonl", "log.csv", "snapshot.safetensors"];
const MODEL: [&str; 2] = ["model/config.json", "model/diffusion_pytorch_model.safetensors"];

#[test]
fn an_autoencoder_learns_and_goes_on_where_it_stopped() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let data = data_set(work.path());
    let more = ["--steps", "6", "--snapshot-steps", "0", "--validation-steps", "4", "--ema", "0.9"];
    let [whole, pieces] = ["whole", "pieces"].map(|name| work.path().join(name));
    vae(&data, &whole, &more).assert().success();
    let stopped = [&more[..], &["--stop-after", "3"]].concat();
    refused(&mut vae(&data, &pieces, &stopped), 130, "--resume goes on");
    refused(&mut vae(&data, &pieces, &more), 3, "--resume");
    refused(
        &mut vae(&data, &pieces, &[&more[..], &["--kl-weight", "0.5", "--resume"]].concat()),
        3,
        "other settings",
    );
    vae(&data, &pieces, &[&more[..], &["--resume"]].concat()).assert().success();
    same(&whole, &pieces, &RUN);
    same(&whole, &pieces, &MODEL);
    for file in ["loss.png", "reconstructions.png"] {
        assert!(whole.join(file).is_file(), "{file}");
    }
    mindreel().arg("info").arg(whole.join("model")).assert().success();
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(whole.join("model/config.json")).unwrap()).unwrap();
    assert_eq!(config["scaling_factor"], 1.0, "latents are whitened");
    let model = Checkpoint::open(whole.join("model")).unwrap();
    let quant = weights::to_f32(&model.get("quant_conv.weight").unwrap()).unwrap();
    assert!(quant[..8].iter().all(|&v| v != 0.0) && quant[8..] == [0.0; 8], "{quant:?}");
    // Longer, it learns; what is written in f16 is half as large.
    let long = work.path().join("long");
    vae(&data, &long, &["--steps", "60", "--schedule", "constant", "--save-dtype", "f16"]).assert().success();
    let log = std::fs::read_to_string(long.join("log.jsonl")).unwrap();
    let losses: Vec<f64> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap())
        .collect();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[50..]) < 0.7 * mean(&losses[..5]), "{losses:?}");
    let size = |folder: &Path| std::fs::metadata(folder.join(MODEL[1])).unwrap().len() as f64;
    assert!(size(&long) < 0.7 * size(&whole));
}

#[test]
fn mistakes_in_an_autoencoder_are_one_line() {
    let work = TempDir::new().unwrap();
    let data = data_set(work.path());
    let out = work.path().join("out");
    let refused_vae = |data: &Path, more: &[&str], code: i32, says: &str| {
        refused(&mut train("vae", data, &out, &[&["--train-blocks", "0,1"], more].concat()), code, says);
    };
    refused_vae(&work.path().join("none"), &[], 3, "cannot be read");
    let empty = work.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    refused_vae(&empty, &[], 3, "holds no clips");
    let measured = ["--validation-block", "2"];
    for (more, says) in [
        (["--block-out-channels", "8,8,8,8,8"], "divide height and width by 16"),
        (["--norm-num-groups", "3"], "norm_num_groups"),
        (["--weight-decay", "nan"], "weight-decay"),
        (["--steps", "0"], "steps"),
    ] {
        refused_vae(&data, &[measured, more].concat(), 2, says);
    }
    refused_vae(&data, &["--validation-block", "1"], 2, "block 1 is learnt from");
    refused_vae(&data, &["--validation-block", "7"], 2, "no block 7");
    let config = work.path().join("vae.toml");
    std::fs::write(&config, "kl-wieght = 1\n").unwrap();
    refused(vae(&data, &out, &[]).arg("--config").arg(&config), 2, "did you mean 'kl-weight'");
    assert!(!out.exists());
}

/// An autoencoder, texts by clip and the config of a UNet for it.
struct Parts {
    vae: PathBuf,
    text: PathBuf,
    init: PathBuf,
}

fn parts(work: &Path, data: &Path) -> Parts {
    let run = work.join("vae");
    vae(data, &run, &["--steps", "2", "--validation-steps", "0"]).assert().success();
    let text = work.join("texts.safetensors");
    table(&text, 6);
    let init = work.join("unet.json");
    std::fs::write(&init, unet(2).to_string()).unwrap();
    Parts { vae: run.join("model"), text, init }
}

/// A text for each clip: its colour.
fn table(path: &Path, width: usize) {
    let value = |row: usize, at: usize| if at % 4 == row % 4 { 1.0 } else { 0.0 };
    let values = (0..200).flat_map(|row| (0..2 * width).map(move |at| value(row, at))).collect();
    TextTable::new([2, width], values, vec![0.5; 2 * width]).unwrap().write(path, &BTreeMap::new()).unwrap();
}

fn unet(channels: usize) -> serde_json::Value {
    serde_json::json!({
        "_class_name": "UNet3DConditionModel",
        "attention_head_dim": 2,
        "block_out_channels": [8, 16],
        "cross_attention_dim": 6,
        "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
        "in_channels": channels,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "out_channels": channels,
        "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
    })
}

/// `train video` of these parts, six steps of two videos.
fn video(data: &Path, parts: &Parts, output: &Path, more: &[&str]) -> Command {
    let mut command = train("video", data, output, &["--train-blocks", "0,1", "--validation-block", "2"]);
    command.args(["--steps", "6", "--batch-size", "2", "--num-inference-steps", "2"]);
    command.arg("--vae").arg(&parts.vae).arg("--text").arg(&parts.text).args(more);
    command
}

#[test]
fn a_video_unet_learns_and_goes_on_where_it_stopped() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let data = data_set(work.path());
    let parts = parts(work.path(), &data);
    let init = parts.init.to_str().unwrap();
    let more = [
        ["--init", init],
        ["--learning-rate", "0.001"],
        ["--accumulate", "2"],
        ["--ema", "0.9"],
        ["--validation-steps", "4"],
        ["--condition-noise", "0.1"],
        ["--latents", "sample"],
    ]
    .concat();
    let [whole, pieces] = ["whole", "pieces"].map(|name| work.path().join(name));
    video(&data, &parts, &whole, &more).assert().success();
    let stopped = [&more[..], &["--stop-after", "3"]].concat();
    refused(&mut video(&data, &parts, &pieces, &stopped), 130, "--resume goes on");
    video(&data, &parts, &pieces, &[&more[..], &["--resume"]].concat()).assert().success();
    same(&whole, &pieces, &RUN);
    same(&whole, &pieces, &MODEL);
    same(&whole, &pieces, &["validation/step-000006/clip-0000.gif", "validation/step-000004/sheet.png"]);
    mindreel().arg("info").arg(whole.join("model")).assert().success();

    // Single frames first, then clips from where those got to.
    let stills = work.path().join("stills");
    video(&data, &parts, &stills, &["--init", init, "--frames", "1"]).assert().success();
    let told = std::fs::read_to_string(stills.join("train.json")).unwrap();
    assert!(told.contains("\"frames\": 1"), "{told}");
    let begun = stills.join("model");
    let clips = work.path().join("clips");
    video(&data, &parts, &clips, &["--unet", begun.to_str().unwrap(), "--trainable", "*"]).assert().success();

    // The result as a checkpoint to go on from: what the originals train, then adapters.
    let trained = whole.join("model");
    let quick = ["--unet", trained.to_str().unwrap(), "--gradient-checkpointing", "--validation-clips", "0"];
    let quick = [&quick[..], &["--learning-rate", "0.01"]].concat();
    let open = |folder: &Path| Checkpoint::open(folder.join("model")).unwrap();
    let changed = |folder: &Path| -> Vec<String> {
        let (before, after) = (open(&whole), open(folder));
        assert!(before.names().eq(after.names()));
        let values = |file: &Checkpoint, name: &str| weights::to_f32(&file.get(name).unwrap()).unwrap();
        let differs = |name: &&str| values(&before, name) != values(&after, name);
        before.names().filter(differs).map(str::to_string).collect()
    };
    let tuned = work.path().join("tuned");
    video(&data, &parts, &tuned, &quick).assert().success();
    let names = changed(&tuned);
    let learns =
        |name: &String| ["attn1.to_q", "attn2.to_q", "attn_temp"].iter().any(|part| name.contains(part));
    assert!(names.len() == 28 && names.iter().all(learns), "{names:?}");
    let adapted = work.path().join("adapted");
    video(&data, &parts, &adapted, &[&quick[..], &["--lora-rank", "2"]].concat()).assert().success();
    let names = changed(&adapted);
    assert!(names.len() == 48 && names.iter().all(|name| name.contains(".to_")), "{names:?}");
    let adapters = Checkpoint::open(adapted.join("lora/pytorch_lora_weights.safetensors")).unwrap();
    assert_eq!(adapters.names().count(), 96);
    assert!(adapters.names().all(|name| name.starts_with("unet.")));
}

#[test]
fn mistakes_in_a_fine_tune_are_one_line() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let data = data_set(work.path());
    let parts = parts(work.path(), &data);
    let out = work.path().join("out");
    let init = ["--init", parts.init.to_str().unwrap()];
    let says = |more: &[&str], code: i32, says: &str| {
        refused(&mut video(&data, &parts, &out, more), code, says);
    };
    says(&[], 2, "--init");
    says(&["--init", "tinny"], 2, "did you mean 'tiny'");
    says(&[&init[..], &["--trainable", "attn3"]].concat(), 2, "no parameter's name holds 'attn3'");
    says(&[&init[..], &["--condition-dropout", "2"]].concat(), 2, "condition-dropout");
    says(&[&init[..], &["--max-memory", "0.001"]].concat(), 4, "--gradient-checkpointing");
    says(&[&init[..], &["--latents", "mode"]].concat(), 2, "mean, sample");
    for frames in ["0", "3"] {
        says(&[&init[..], &["--frames", frames]].concat(), 2, "wanted 1 to the clips' 2, got");
    }
    let other = work.path().join("other.json");
    std::fs::write(&other, unet(3).to_string()).unwrap();
    says(&["--init", other.to_str().unwrap()], 3, "has 2 latent channels, the UNet takes 3");
    let config = work.path().join("video.toml");
    std::fs::write(&config, "lora_rnak = 2\n").unwrap();
    says(&[&init[..], &["--config", config.to_str().unwrap()]].concat(), 2, "did you mean 'lora-rank'");
    table(&parts.text, 8);
    says(&init, 2, "embeddings are 8 wide, the UNet takes 6");
    std::fs::remove_file(&parts.text).unwrap();
    says(&init, 3, "cannot be read");
    std::fs::remove_file(data.join("Video/clips.npy")).unwrap();
    says(&init, 3, "holds no clips");
    assert!(!out.exists());
}
