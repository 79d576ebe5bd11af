//! The training of the video chain from outside: an autoencoder and a diffusion fine-tune on a few small clips.

mod common;

use assert_cmd::Command;
use mindreel::signal::npy;
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
    for block in 0..BLOCKS {
        let name = ["1st", "2nd", "3rd"][block];
        let captions = ["a red ground", "a green ground", "a blue ground", "a yellow ground"];
        let path = data.join(format!("BLIP-caption/{name}_10min.txt"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, captions.join("\n") + "\n").unwrap();
    }
    data
}

fn mindreel() -> Command {
    let mut command = Command::cargo_bin("mindreel").unwrap();
    command.arg("--quiet");
    command
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

fn refused(command: &mut Command, code: i32, says: &str) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("mindreel:")).collect();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(lines.len() == 1 && lines[0].contains(says), "wanted '{says}', got {text}");
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
    let factor = config["scaling_factor"].as_f64().unwrap();
    assert!(factor.is_finite() && factor > 0.0 && factor != 1.0, "{factor}");
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
