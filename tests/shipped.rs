//! The weights that come with the repository: whole, small, from the settings that stand beside them, and able to read
//! EEG they were not trained on.
#![cfg(feature = "cli")]

mod common;
#[path = "common/runs.rs"]
mod runs;

use runs::{files, mindreel, refused};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// Most that may come with the repository.
const MOST_BYTES: u64 = 25 << 20;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn manifest() -> Value {
    serde_json::from_slice(&std::fs::read(root().join("weights/demo/manifest.json")).unwrap()).unwrap()
}

#[test]
fn weights_are_those_of_the_manifest() {
    let folder = root().join("weights/demo");
    let all = files(&folder);
    let bytes: u64 = all.values().map(|bytes| bytes.len() as u64).sum();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
    let hash =
        |bytes: &[u8]| -> String { Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect() };
    let there: BTreeMap<String, Value> = all
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|ending| ending == "safetensors"))
        .map(|(path, bytes)| {
            let name = path.to_str().unwrap().replace('\\', "/");
            (name, hash(bytes).into())
        })
        .collect();
    let told: BTreeMap<String, Value> =
        manifest()["sha256"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!(there, told);
}

#[test]
fn the_manifest_holds_the_settings_of_the_repository() {
    for (name, text) in manifest()["configs"].as_object().unwrap() {
        let path = root().join(format!("configs/demo/{name}.toml"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text.as_str().unwrap(), "{}", path.display());
    }
    let text = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let decode: toml::Table = text("configs/demo/decode.toml").parse().unwrap();
    assert_eq!(serde_json::to_value(decode).unwrap(), manifest()["decode"]);
    let [asked, unet]: [Value; 2] = ["configs/demo/unet.json", "weights/demo/unet/config.json"]
        .map(|path| serde_json::from_str(&text(path)).unwrap());
    for (key, value) in asked.as_object().unwrap() {
        assert_eq!(&unet[key], value, "{key}");
    }
}

#[test]
fn unseen_eeg_becomes_clips_of_its_class() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    mindreel().args(["demo", "--clips", "10", "--output"]).arg(&out).assert().success();
    let told: Value = serde_json::from_slice(&std::fs::read(out.join("demo.json")).unwrap()).unwrap();
    let rows = told["scores"]["rows"].as_array().unwrap();
    let top5 = |name: &str| {
        let row = rows.iter().find(|row| row["name"].as_str().unwrap().contains(name)).unwrap();
        row["scores"]["class-top5"]["mean"].as_f64().unwrap_or_else(|| panic!("{row:#}"))
    };
    // Chance is 12.5 %.
    assert!(top5("prediction") >= 0.5 && top5("noise EEG") < 0.5, "{rows:#?}");
}

#[test]
fn a_demo_is_refused_before_it_makes_anything_and_one_cut_off_is_in_nobodys_way() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    let demo = |more: &[&str]| {
        let mut command = mindreel();
        command.arg("demo").args(more).arg("--output").arg(&out);
        command
    };
    for steps in ["0", "100000"] {
        refused(&mut demo(&["--num-inference-steps", steps]), 2, "--num-inference-steps");
        assert!(!out.exists());
    }
    let model = folder.path().join("model");
    for (name, bytes) in files(&root().join("weights/demo")) {
        let path = model.join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let model_words = ["--model", model.to_str().unwrap()];
    for part in ["classifier", "unet"] {
        let (there, away) = (model.join(part), folder.path().join("away"));
        std::fs::rename(&there, &away).unwrap();
        refused(&mut demo(&model_words), 3, part);
        assert!(!out.exists());
        std::fs::rename(&away, &there).unwrap();
    }
    // What a demo leaves when it is stopped does not keep the next one from its work; what one finished does.
    std::fs::create_dir(&out).unwrap();
    let none = ["--num-inference-steps", "0"];
    std::fs::write(out.join("demo.json"), r#"{"state": "under way"}"#).unwrap();
    refused(&mut demo(&none), 2, "--num-inference-steps");
    std::fs::write(out.join("demo.json"), r#"{"scores": {}}"#).unwrap();
    refused(&mut demo(&none), 5, "it exists already");
}
