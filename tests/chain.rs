//! The chain of trainings and the demo that runs on what it makes, a few steps of each.

mod common;
#[path = "common/runs.rs"]
mod runs;

use runs::mindreel;
use serde_json::Value;
use std::path::Path;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn everything_is_trained_by_one_command_and_decodes() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("chain");
    let chain = |out: &Path| {
        let mut command = mindreel();
        command.args(["train", "chain", "--quick", "--output"]).arg(out);
        command
    };
    chain(&out).assert().success();
    let manifest = read(&out.join("model/manifest.json"));
    let hashes = manifest["sha256"].as_object().unwrap();
    for part in ["semantic", "seq2seq", "dynamics", "vae", "unet", "classifier"] {
        assert!(hashes.keys().any(|name| name.starts_with(part)), "{part}: {hashes:?}");
    }
    assert!(manifest["command"].as_str().unwrap().contains("train chain"));
    let rows = manifest["scores"]["rows"].as_array().expect("scores by row");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    for name in ["prediction", "noise EEG", "shuffled", "mean clip", "class-mean clip", "truth"] {
        assert!(names.iter().any(|known| known.contains(name)), "{name}: {names:?}");
    }
    let demo = out.join("demo");
    for file in ["sheet.png", "sheet.gif", "scores/report.html", "shown/clip-0002.gif", "noise/clip-0002.gif"]
    {
        assert!(demo.join(file).is_file(), "{file}");
    }
    // The same again: nothing is trained anew, the same weights stand there. And elsewhere, from the beginning, the same
    // weights, scores and all come about.
    chain(&out).assert().success();
    assert_eq!(read(&out.join("model/manifest.json")), manifest);
    let other = folder.path().join("elsewhere");
    chain(&other).assert().success();
    assert_eq!(read(&other.join("model/manifest.json")), manifest);

    // An ablation of the same checkpoint, elsewhere; and what is wrong ends in one line.
    let ablation = folder.path().join("ablation");
    let demo = |model: &Path| {
        let mut command = mindreel();
        command.args(["demo", "--clips", "2", "--num-inference-steps", "1", "--without-semantic"]);
        command.args(["--ablations", "--output"]).arg(&ablation).arg("--model").arg(model);
        command
    };
    demo(&out.join("model")).assert().success();
    let run = std::fs::read_to_string(ablation.join("without-seq2seq/run.json")).unwrap();
    assert!(run.contains("--without-semantic") && run.contains("--without-seq2seq"));
    let table = std::fs::read_to_string(ablation.join("scores/table.md")).unwrap();
    assert!(table.contains("without seq2seq") && table.contains("without DANA"), "{table}");
    let again = demo(&out.join("model")).assert().code(5).get_output().stderr.clone();
    assert_eq!(String::from_utf8_lossy(&again).lines().count(), 1, "{}", String::from_utf8_lossy(&again));
    let bare = folder.path().join("bare");
    std::fs::create_dir(&bare).unwrap();
    let refused = demo(&bare).assert().code(3).get_output().stderr.clone();
    assert!(String::from_utf8_lossy(&refused).contains("manifest.json"));
}
