//! `mindreel image` and `reconstruct`, offline, from checkpoints of random weights to pictures.

#![cfg(feature = "cli")]

#[path = "common/binary.rs"]
mod binary;
mod common;

use assert_cmd::Command;
use binary::{init, json, mindreel, outcome, refusal};
use common::gpu;
use mindreel::media::png;
use mindreel::signal::npy;
use mindreel::tokenizers;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn image(model: &Path, output: &Path, more: &[&str]) -> Command {
    let mut command = mindreel();
    command.arg("image").arg("--model").arg(model).arg("--output").arg(output);
    command.args(["--num-inference-steps", "2"]).args(more);
    command
}

fn rgb(path: impl AsRef<Path>) -> Vec<u8> {
    png::read(path).unwrap().0.rgb
}

fn made(command: &mut Command) -> Vec<Vec<u8>> {
    let run = json(command);
    let images = run["images"].as_array().unwrap();
    images.iter().map(|image| rgb(image["file"].as_str().unwrap())).collect()
}

/// From EEG to a grid of pictures under their captions: the whole journey, on checkpoints made on the spot.
#[test]
fn eeg_becomes_captions_pictures_and_a_grid() {
    if gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (captions, images) = (init(folder.path(), "neurovision-tiny"), init(folder.path(), "sd15-tiny"));
    let volts: Vec<f32> = (0..2 * 64 * 334_u64)
        .map(|i| ((i.wrapping_mul(2_654_435_761) >> 7 & 1023) as f32 / 1023.0 - 0.5) * 1e-4)
        .collect();
    npy::write(at("eeg.npy"), &[2, 64, 334], &volts).unwrap();
    std::fs::create_dir(at("shown")).unwrap();
    for name in ["colour.jpg", "noise.png"] {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures").join(name);
        std::fs::copy(golden, at("shown").join(name)).unwrap();
    }
    let reconstruct = |output: &str, more: &[&str]| {
        let mut command = mindreel();
        command.arg("reconstruct").arg("--eeg").arg(at("eeg.npy"));
        command.arg("--caption-model").arg(&captions).arg("--image-model").arg(&images);
        command.arg("--output").arg(at(output)).args(["--num-inference-steps", "2", "--max-new-tokens", "6"]);
        command.args(more);
        command
    };
    let shown = at("shown");
    let more = ["--truth", shown.to_str().unwrap(), "--num-beams", "2", "--seed", "5"];
    let run = json(&mut reconstruct("out", &more));
    let items = run["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert!(items[0]["truth"].as_str().unwrap().ends_with("colour.jpg"));
    let written: Value = serde_json::from_slice(&std::fs::read(at("out/run.json")).unwrap()).unwrap();
    assert_eq!((&written["items"], &written["grid"]), (&run["items"], &run["grid"]));

    // Each picture is the one that its caption and its seed give.
    let caption = items[1]["captions"][0]["text"].as_str().unwrap();
    let prompt = format!("--prompt={caption}");
    let again = made(&mut image(&images, &at("again"), &[&prompt, "--seed", "6"]));
    assert_eq!(rgb(at("out/image-0001.png")), again[0]);
    let best: Value = serde_json::from_slice(&std::fs::read(at("out/captions.json")).unwrap()).unwrap();
    assert_eq!(best["1"], caption);

    // Two columns of a picture above another, with a title under each: 160 logical pixels to a side.
    let (grid, comment) = png::read(at("out/grid.png")).unwrap();
    assert!(grid.width > 2 * 2 * 160 && grid.height > 2 * 2 * 160 && grid.height < 2 * 2 * 280);
    assert!(comment.unwrap().contains("mindreel reconstruct --eeg"));
    // In the middle of a column lies a picture, not the paper.
    let pixel = |x: usize, y: usize| &grid.rgb[3 * (y * grid.width + x)..][..3];
    assert!((200..500).any(|y| pixel(200, y) != [255; 3]));

    // Nothing is overwritten, and as many pictures as items are wanted.
    let text = refusal(&mut reconstruct("out", &more), 5);
    assert!(text.contains("image-0000.png") && text.contains("--force"), "{text}");
    std::fs::remove_file(at("shown/noise.png")).unwrap();
    let text = refusal(&mut reconstruct("other", &more), 3);
    assert!(text.contains("holds 1 pictures for 2 items"), "{text}");
    assert!(!at("other").exists());
    // What is wrong with the painter is known before a caption is written.
    std::fs::remove_dir_all(images.join("tokenizer")).unwrap();
    let text = refusal(&mut reconstruct("third", &[]), 3);
    assert!(text.contains("tokenizer"), "{text}");
    assert!(!at("third").exists());
}

#[test]
fn a_picture_depends_on_its_words_and_its_seed_alone() {
    if gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let model = init(folder.path(), "sd15-tiny");
    let at = |name: &str| folder.path().join(name);
    let two = ["--prompt", "a dog", "--prompt", "a red car", "--num-images-per-prompt", "2", "--seed", "4"];
    let one_by_one = made(&mut image(&model, &at("a"), &two));
    assert_eq!(one_by_one.len(), 4);
    assert!(at("a/sheet.png").is_file() && at("a/run.json").is_file());
    let together = made(&mut image(&model, &at("b"), &[&two[..], &["--image-batch-size", "3"]].concat()));
    let apart = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    for (a, b) in one_by_one.iter().zip(&together) {
        assert!(apart(a, b) <= 1);
    }
    assert!(apart(&one_by_one[0], &one_by_one[1]) > 3 && apart(&one_by_one[0], &one_by_one[2]) > 3);

    // Inside is the command that makes it again.
    let (_, comment) = png::read(at("a/image-0003.png")).unwrap();
    let command = comment.unwrap().split_once("mindreel image ").unwrap().1.to_string();
    let words = command.replace("'a red car'", "a\u{1}red\u{1}car");
    let words: Vec<String> = words.split(' ').map(|word| word.replace('\u{1}', " ")).collect();
    let mut again = mindreel();
    again.current_dir(folder.path()).arg("image").args(words);
    assert_eq!(outcome(&mut again).0, 0);
    assert_eq!(rgb(at("again/image-0000.png")), one_by_one[3]);
}

#[test]
fn every_setting_makes_another_picture() {
    if gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let model = init(folder.path(), "sd15-tiny");
    let mut pictures: Vec<Vec<u8>> = Vec::new();
    for more in [
        &["--seed", "1"][..],
        &["--seed", "1", "--scheduler", "ddim"],
        &["--seed", "1", "--scheduler", "ddim", "--eta", "1"],
        &["--seed", "1", "--scheduler", "dpmsolver++"],
        &["--seed", "1", "--scheduler", "dpmsolver++", "--use-karras-sigmas"],
        &["--seed", "1", "--negative-prompt", "blurry"],
        &["--seed", "1", "--guidance-scale", "1"],
    ] {
        let output = folder.path().join(format!("out{}", pictures.len()));
        let flags = [&["--prompt", "a dog", "--height", "32", "--width", "64"][..], more].concat();
        let mut run = image(&model, &output, &flags);
        let picture = made(&mut run).remove(0);
        assert_eq!(picture.len(), 32 * 64 * 3);
        assert!(!pictures.contains(&picture), "{more:?}");
        pictures.push(picture);
    }
}

#[test]
fn mistakes_are_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let model = init(folder.path(), "sd15-tiny");
    let output: PathBuf = folder.path().join("out");
    let refused = |more: &[&str], code: i32| {
        refusal(&mut image(&model, &output, &[&["--prompt", "a dog"][..], more].concat()), code)
    };
    let told = |text: String, wanted: &str| assert!(text.contains(wanted), "wanted '{wanted}', got '{text}'");
    told(refused(&["--seed", "1,2"], 2), "2 seeds for 1 pictures");
    told(refused(&["--num-images-per-prompt", "0"], 2), "--num-images-per-prompt");
    told(refused(&["--guidance-scale", "NaN"], 2), "--guidance-scale");
    if gpu().is_none() {
        return;
    }
    told(refused(&["--height", "30"], 2), "the nearest is 32");
    told(refused(&["--scheduler", "eulr"], 2), "eulr");
    told(refused(&["--use-karras-sigmas"], 2), "is for --scheduler dpmsolver++, not for pndm");
    told(refused(&["--max-memory", "0.000001"], 4), "--dtype f16");
    told(refused(&["--eta", "0.5"], 2), "is for --scheduler ddim, not for pndm");
    told(refused(&["--vae-tile", "4"], 2), "--vae-tile");
    told(refused(&["--seed", "-1"], 2), "--seed");
    // A sampler that is none of ours is replaced, and said to be.
    let scheduler = model.join("scheduler/scheduler_config.json");
    let known = std::fs::read_to_string(&scheduler).unwrap();
    std::fs::write(&scheduler, known.replace("PNDMScheduler", "EulerDiscreteScheduler")).unwrap();
    let (code, _, stderr) = outcome(&mut image(&model, &output, &["--prompt", "a dog"]));
    assert!(code == 0 && stderr.contains("EulerDiscreteScheduler, is none of ours; pndm"), "{stderr}");
    std::fs::remove_dir_all(&output).unwrap();
    std::fs::write(&scheduler, known).unwrap();
    // A prompt that is not heard to its end is warned of.
    let long = "word ".repeat(90);
    let (code, _, stderr) = outcome(&mut image(&model, &output, &["--prompt", &long]));
    assert!(code == 0 && stderr.contains("the text encoder hears the first 75"), "{stderr}");
    std::fs::remove_dir_all(&output).unwrap();
    tokenizers::write_clip(&model.join("tokenizer"), 4000).unwrap();
    told(refused(&[], 3), "a tokenizer of 4000 tokens, the text encoder has embeddings for 1024");
    std::fs::remove_dir_all(model.join("tokenizer")).unwrap();
    told(refused(&[], 3), "tokenizer");
    std::fs::remove_dir_all(model.join("text_encoder")).unwrap();
    told(refused(&[], 3), "has no text_encoder");
    assert!(!output.exists());
}
