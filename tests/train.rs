//! Training from outside: a small data set on disk, the command line, and what it leaves behind.

mod common;
#[path = "common/runs.rs"]
mod runs;

use assert_cmd::Command;
use mindreel::signal::npy;
use runs::{files, mindreel, refused, same};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const BLOCKS: usize = 3;
const CHANNELS: usize = 6;
const SAMPLES: usize = 400;

/// Three blocks of 200 clips whose class shows: each class has a strength of its own on each channel.
fn data_set(folder: &Path, subjects: usize) -> PathBuf {
    let data = folder.join("data");
    std::fs::create_dir_all(data.join("EEG")).unwrap();
    std::fs::create_dir_all(data.join("meta_info")).unwrap();
    let mut state = 1_u64;
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    // Another order of the classes in each block.
    let class = |block: usize, slot: usize| (slot * 7 + block * 13) % 40;
    for subject in 1..=subjects {
        let mut eeg = Vec::with_capacity(BLOCKS * 200 * CHANNELS * SAMPLES);
        for block in 0..BLOCKS {
            for clip in 0..200 {
                let class = class(block, clip / 5);
                for channel in 0..CHANNELS {
                    let strength = 1.0 + ((class * (channel * 2 + 3) + channel) % 11) as f32;
                    eeg.extend((0..SAMPLES).map(|_| 1e-6 * strength * noise()));
                }
            }
        }
        npy::write(data.join(format!("EEG/sub{subject}.npy")), &[BLOCKS, 40, 5, CHANNELS, SAMPLES], &eeg)
            .unwrap();
    }
    let labels: Vec<f64> =
        (0..BLOCKS).flat_map(|block| (0..40).map(move |slot| (class(block, slot) + 1) as f64)).collect();
    npy::write(data.join("meta_info/All_video_label.npy"), &[BLOCKS, 40], &labels).unwrap();
    data
}

/// `train classify` of an MLP on band features: seconds.
fn train(data: &Path, output: &Path, more: &[&str]) -> Command {
    let mut command = mindreel();
    command.args(["train", "classify", "--model", "MLP", "--epochs", "6", "--permutations", "199"]);
    command.arg("--data").arg(data).arg("--output").arg(output).args(more);
    command
}

#[test]
fn a_sweep_in_parts_is_the_sweep_and_its_scores_stand_beside_chance() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let data = data_set(work.path(), 1);
    let whole = work.path().join("whole");
    train(&data, &whole, &[]).assert().success();
    // Three folds, each with its control.
    assert_eq!(std::fs::read_dir(whole.join("units")).unwrap().count(), 6);
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(whole.join("report.json")).unwrap()).unwrap();
    let score = |key: &str| report[0][key].as_f64().unwrap();
    assert!(score("top1") > 0.2 && score("p_value") <= 0.01, "{report}");
    assert!(score("shuffled_labels_top1") < 0.1, "{report}");
    assert!((score("uniform_chance") - 0.025).abs() < 1e-9);
    for file in [
        "results.csv",
        "report.md",
        "confusion-MLP-40c-clean.png",
        "curves-MLP-40c-clean.png",
        "settings.toml",
    ] {
        assert!(whole.join(file).is_file(), "{file}");
    }
    // The same in two parts, joined.
    let parts = [0, 1].map(|part| work.path().join(format!("part{part}")));
    for (nth, part) in parts.iter().enumerate() {
        train(&data, part, &["--shard", &format!("{nth}/2")]).assert().success();
    }
    let merged = work.path().join("merged");
    mindreel()
        .args(["train", "report", "--merge", "--permutations", "199"])
        .args(&parts)
        .arg("--output")
        .arg(&merged)
        .assert()
        .success();
    for file in ["results.csv", "report.md", "report.json"] {
        let read = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
        assert!(read(&whole) == read(&merged), "{file} differs");
    }
    let report = |folders: &[&Path]| {
        let mut command = Command::cargo_bin("mindreel").unwrap();
        command.args(["train", "report", "--permutations", "9"]).args(folders);
        command.arg("--output").arg(work.path().join("report"));
        String::from_utf8(command.assert().success().get_output().stderr.clone()).unwrap()
    };
    assert!(!report(&[&parts[0], &parts[1]]).contains("not finished"));
    let told = report(&[&parts[0]]);
    assert!(told.contains("are not finished, such as MLP-40c-"), "{told}");
    let together = work.path().join("together");
    for part in &parts {
        for (path, bytes) in files(&part.join("units")) {
            let path = together.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    same(&whole.join("units"), &together);
    // The kept model is a checkpoint like any other.
    let model = whole.join("units/MLP-40c-sub1-fold0-seed0/model");
    mindreel().arg("info").arg(&model).assert().success();
    // What is finished is not done again.
    let before = files(&whole);
    train(&data, &whole, &[]).assert().success();
    assert!(before == files(&whole));
    // Other settings do not mix in.
    refused(&mut train(&data, &whole, &["--batch-size", "64"]), 3, "settings.toml");
}

#[test]
fn a_run_that_was_killed_ends_in_the_same_bits() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let data = data_set(work.path(), 1);
    let more = ["--folds", "1", "--checkpoint-steps", "1", "--no-controls", "--patience", "0"];
    let whole = work.path().join("whole");
    train(&data, &whole, &more).assert().success();
    let broken = work.path().join("broken");
    let checkpoint = broken.join("units/MLP-40c-sub1-fold1-seed0/checkpoint.safetensors");
    // Killed once a checkpoint is there, at three different ages of it.
    for kill in 0..3 {
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("mindreel"))
            .args([
                "--quiet",
                "train",
                "classify",
                "--model",
                "MLP",
                "--epochs",
                "6",
                "--permutations",
                "199",
            ])
            .arg("--data")
            .arg(&data)
            .arg("--output")
            .arg(&broken)
            .args(more)
            .arg("--resume")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let first = std::fs::metadata(&checkpoint).and_then(|m| m.modified()).ok();
        for _ in 0..6000 {
            let now = std::fs::metadata(&checkpoint).and_then(|m| m.modified()).ok();
            if (now.is_some() && now != first) || child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        std::thread::sleep(std::time::Duration::from_millis(7 * kill));
        let _ = child.kill();
        child.wait().unwrap();
    }
    if checkpoint.exists() {
        refused(&mut train(&data, &broken, &more), 3, "--resume");
    }
    train(&data, &broken, &[&more[..], &["--resume"]].concat()).assert().success();
    let without_leftovers = |folder: &Path| {
        let mut files = files(folder);
        files.retain(|path, _| !path.to_string_lossy().contains(".tmp-"));
        files
    };
    let (whole, broken) = (without_leftovers(&whole), without_leftovers(&broken));
    assert_eq!(whole.keys().collect::<Vec<_>>(), broken.keys().collect::<Vec<_>>());
    assert!(whole == broken, "other bits");
}

#[test]
fn a_part_without_units_is_no_mistake_and_what_is_named_twice_is_trained_once() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let data = data_set(work.path(), 1);
    let place = |name: &str| work.path().join(name);
    let one = ["--folds", "0,0", "--model", "MLP", "--seeds", "1,1", "--no-controls", "--task", "40c,40c"];
    train(&data, &place("whole"), &one).assert().success();
    assert_eq!(std::fs::read_dir(place("whole/units")).unwrap().count(), 1);
    let mut report = mindreel();
    report.args(["train", "report", "--merge", "--permutations", "199", "--output"]).arg(place("merged"));
    for shard in 0..3 {
        let part = place(&format!("part{shard}"));
        let told = train(&data, &part, &one).args(["--shard", &format!("{shard}/3")]).assert().success();
        let told = String::from_utf8(told.get_output().stdout.clone()).unwrap();
        assert_eq!(told.contains("nothing to do"), shard > 0, "{told}");
        report.arg(part);
    }
    report.assert().success();
    for name in ["results.csv", "report.md", "report.json"] {
        let read = |folder: &str| std::fs::read(place(folder).join(name)).unwrap();
        assert!(read("merged") == read("whole"), "{name} differs");
    }
    let mut compare = mindreel();
    compare.args(["train", "compare", "--model", "MLP,MLP", "--data"]).arg(&data);
    refused(compare.arg("--output").arg(place("two")), 2, "two models");
}

#[test]
fn mistakes_are_one_line() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let data = data_set(work.path(), 1);
    let out = work.path().join("out");
    refused(&mut train(&data, &out, &["--task", "41c"]), 2, "40c");
    refused(&mut train(&data, &out, &["--subjects", "sub9"]), 2, "sub1");
    refused(&mut train(&data, &out, &["--folds", "3"]), 2, "0 to 2");
    refused(&mut train(&data, &out, &["--shard", "2/2"]), 2, "0/4");
    refused(&mut train(&data, &out, &["--learning-rate", "0"]), 2, "learning-rate");
    refused(&mut train(&data, &out, &["--window-s", "3"]), 2, "window-s: wanted at most a clip of 2 s");
    refused(&mut train(&data, &out, &["--window-s", "0.01"]), 2, "window-s");
    refused(&mut train(&data, &data.join("EEG/sub1.npy"), &[]), 2, "is a file, wanted a folder");
    refused(&mut train(&data, &out, &["--input", "raw"]), 2, "features: de or psd");
    refused(&mut train(&data, &out, &["--cross-subject"]), 2, "3 subjects");
    refused(&mut train(&data, &out, &["--task", "face"]), 3, "All_video_face_apperance.npy");
    refused(&mut train(&work.path().join("none"), &out, &[]), 3, "cannot be read");
    let model = |name: &str| {
        let mut command = mindreel();
        command
            .args(["train", "classify", "--model", name])
            .arg("--data")
            .arg(&data)
            .arg("--output")
            .arg(&out);
        command
    };
    refused(model("ShallowNet").args(["--window-s", "0.05"]), 2, "window-s: ShallowNet wants at least");
    refused(&mut model("ShalowNet"), 2, "did you mean 'ShallowNet'");
    let mut compare = mindreel();
    compare.args(["train", "compare", "--model", "MLP"]).arg("--data").arg(&data).arg("--output").arg(&out);
    refused(&mut compare, 2, "two models");
    // Labels out of range, and samples that are none.
    let labels = vec![41.0; BLOCKS * 40];
    npy::write(data.join("meta_info/All_video_label.npy"), &[BLOCKS, 40], &labels).unwrap();
    refused(&mut train(&data, &out, &[]), 3, "classes 1 to 40");
    let mut eeg = vec![1e-6_f32; BLOCKS * 200 * 2 * SAMPLES];
    eeg[..4000].fill(f32::NAN);
    npy::write(data.join("EEG/sub1.npy"), &[BLOCKS, 40, 5, 2, SAMPLES], &eeg).unwrap();
    refused(&mut train(&data, &out, &[]), 3, "sub1.npy");
    for (at, value) in eeg.iter_mut().enumerate().skip(20) {
        *value = 1e-6 * ((at * 37 % 101) as f32 - 50.0);
    }
    npy::write(data.join("EEG/sub1.npy"), &[BLOCKS, 40, 5, 2, SAMPLES], &eeg).unwrap();
    let bad = train(&data, &out, &[]).assert().code(3).get_output().stderr.clone();
    let bad = String::from_utf8(bad).unwrap();
    assert!(bad.contains("sub1.npy") && bad.trim_end().ends_with("repair the channels"), "{bad}");
    npy::write(data.join("EEG/sub1.npy"), &[2, 10_400], &eeg[4000..24_800]).unwrap();
    refused(&mut train(&data, &out, &[]), 3, "is [2, 10400], wanted blocks");
    refused(&mut train(&work.path().join("data/EEG/sub1.npy"), &out, &[]), 3, "cannot be read");
}

#[test]
fn a_network_of_two_branches_sees_samples_and_features() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let (data, out) = (data_set(work.path(), 1), work.path().join("out"));
    let run = |more: &[&str]| {
        let mut command = mindreel();
        command.args([
            "train",
            "classify",
            "--model",
            "GLMNetCV",
            "--epochs",
            "1",
            "--folds",
            "0",
            "--no-controls",
        ]);
        command.arg("--data").arg(&data).arg("--output").arg(&out).args(more);
        command
    };
    refused(&mut run(&["--input", "de"]), 2, "raw+de");
    run(&[]).assert().success();
    let model = out.join("units/GLMNetCV-40c-sub1-fold0-seed0/model");
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(model.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["n_chans"], CHANNELS);
    assert_eq!(config["n_features"], 5 * CHANNELS);
    let scaler = std::fs::read(model.join("scaler.safetensors")).unwrap();
    let scaler = safetensors::SafeTensors::deserialize(&scaler).unwrap();
    assert_eq!(
        scaler.tensor("mean").unwrap().shape(),
        [CHANNELS + 5 * CHANNELS],
        "of channels, then of features"
    );
}

/// A disk that is full: writing fails, the last checkpoint stays.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let data = data_set(work.path(), 1);
    let out = work.path().join("out");
    // No file may grow beyond 64 KiB: the checkpoint of an MLP does.
    let mindreel = assert_cmd::cargo::cargo_bin("mindreel");
    let script = format!(
        "ulimit -f 64; trap '' XFSZ; exec {} --quiet train classify --model MLP --epochs 2 --no-controls --folds 0 \
         --data {} --output {}",
        mindreel.display(),
        data.display(),
        out.display()
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("checkpoint.safetensors") && text.contains("cannot be written"), "{text}");
    let left = files(&out);
    assert!(!left.keys().any(|path| path.ends_with("checkpoint.safetensors")), "{:?}", left.keys());
}
