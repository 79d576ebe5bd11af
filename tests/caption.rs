//! `mindreel caption` and `caption-images`, from checkpoints of random weights to texts.

#![cfg(feature = "cli")]

#[path = "common/binary.rs"]
mod binary;
mod common;

use binary::{init, json, mindreel, outcome, refusal};
use common::gpu;
use mindreel::gpu::Gpu;
use mindreel::media::picture;
use mindreel::media::resize::{self, Filter};
use mindreel::models::{
    self, Blip2Config, Blip2Language, Config, Decoding, Ending, Input, Inputs, Padding, Prompts,
};
use mindreel::nn::{self, Precision};
use mindreel::signal::channel_stats::{ChannelStats, Divisor};
use mindreel::signal::npy;
use mindreel::signal::spectrogram::Spectrograms;
use mindreel::tensor::Tensor;
use mindreel::{data, tokenizers};
use serde_json::Value;
use std::path::{Path, PathBuf};

const SHAPE: [usize; 4] = [3, 64, 65, 4];

/// Values between 0 and 1 that follow no line.
fn values(n: usize) -> Vec<f32> {
    (0..n as u64).map(|i| (i.wrapping_mul(2_654_435_761) >> 7 & 1023) as f32 / 1023.0).collect()
}

/// Spectrograms that have little in common.
fn spectrograms() -> Vec<f32> {
    let size: usize = SHAPE[1..].iter().product();
    let all = values(SHAPE[0] * size);
    let value = |(at, v): (usize, &f32)| match (at / size, at % size / 260) {
        (0, _) => 0.1 * v,
        (1, channel) => v * (1.0 + channel as f32 / 4.0),
        (_, channel) => {
            if channel % 2 == 0 {
                6.0 - v
            } else {
                -3.0 * v
            }
        }
    };
    all.iter().enumerate().map(value).collect()
}

fn statistics() -> ChannelStats {
    let of = |scale: f64, offset: f64| (0..64).map(|c| offset + scale * f64::from(c)).collect();
    ChannelStats::new(of(0.01, 0.1), of(0.02, 0.2)).unwrap()
}

/// A checkpoint with statistics that matter, and spectrograms.
fn eeg_folder() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model = init(folder.path(), "neurovision-tiny");
    data::channel_stats::write(&model, &statistics(), false).unwrap();
    let path = folder.path().join("spectrograms.npy");
    npy::write(&path, &SHAPE, &spectrograms()).unwrap();
    (folder, model, path)
}

fn caption(model: &Path, eeg: &Path, more: &[&str]) -> Value {
    json(mindreel().arg("caption").arg("--model").arg(model).arg("--eeg").arg(eeg).args(more))
}

/// Ids of every caption of every item.
fn ids(run: &Value) -> Vec<Vec<Vec<i64>>> {
    let of_item = |item: &Value| {
        let captions = item["captions"].as_array().unwrap();
        captions.iter().map(|c| serde_json::from_value(c["ids"].clone()).unwrap()).collect()
    };
    run["items"].as_array().unwrap().iter().map(of_item).collect()
}

/// What the parts of the checkpoint say one after the other.
fn by_hand(gpu: &Gpu, model: &Path, decoding: &Decoding, original: bool) -> Vec<Vec<i64>> {
    let spectrograms = Spectrograms::new(&SHAPE, spectrograms()).unwrap();
    let (mut inputs, divisor) = (Vec::new(), if original { Divisor::Original } else { Divisor::Relative });
    let stats = statistics();
    stats
        .inputs(&spectrograms, [32, 32], divisor, |input| {
            inputs.extend(input);
            Ok(())
        })
        .unwrap();
    let encoder = models::open(gpu, &model.join("eeg_encoder"), Precision::F32).unwrap().model;
    let input = Input::Floats(vec![3, 64, 32, 32], inputs);
    let seen = encoder.forward(&Inputs([("spectrogram".into(), input)].into())).unwrap().remove(0);
    let seen = Tensor::new(gpu, &seen.shape, &seen.values).unwrap();

    let blip2 = model.join("blip2");
    let config = Config::open(blip2.join("config.json")).unwrap();
    let sizes = Blip2Config::new(&config).unwrap();
    let file = models::architecture("Blip2ForConditionalGeneration").unwrap().checkpoint(&blip2).unwrap();
    let language = nn::open(gpu, file, Precision::F32, |weights| Blip2Language::load_alone(weights, &sizes))
        .unwrap()
        .model;
    let answers = language.ask(&seen).unwrap();
    // Eight places of the image, and the token that begins a text.
    let row = [vec![511; 8], vec![2]].concat();
    let (embeddings, padding) = match original {
        true => language.bare(&answers).unwrap(),
        false => language.prompt(&answers, &row.repeat(3), &Padding::none([3, 9])).unwrap(),
    };
    let seen = vec![if original { Vec::new() } else { row }; 3];
    let prompts = Prompts { embeddings: &embeddings, padding: &padding, ids: &seen, first: 0 };
    let ending = Ending::new(&config.part("text_config").unwrap()).unwrap();
    let texts =
        models::generate(language.language_model(), &prompts, &ending, decoding, &mut |_| Ok(())).unwrap();
    texts.into_iter().map(|mut texts| texts.remove(0).ids).collect()
}

#[test]
fn captions_of_eeg_are_what_the_parts_say() {
    let Some(gpu) = gpu() else { return };
    let (folder, model, eeg) = eeg_folder();
    let output = folder.path().join("captions");
    let out = output.to_str().unwrap();
    let greedy = caption(&model, &eeg, &["--output", out, "--max-new-tokens", "9"]);
    let want = by_hand(&gpu, &model, &Decoding::greedy(9), false);
    assert_eq!(ids(&greedy).concat(), want);
    assert!(want[0] != want[1] || want[1] != want[2], "the three are alike");
    // The files say the same; each batch by itself, too.
    let written: Value = serde_json::from_slice(&std::fs::read(output.join("run.json")).unwrap()).unwrap();
    assert_eq!(written["items"], greedy["items"]);
    let best: Value = serde_json::from_slice(&std::fs::read(output.join("captions.json")).unwrap()).unwrap();
    assert_eq!(best["2"], greedy["items"][2]["captions"][0]["text"]);
    assert_eq!(best.as_object().unwrap().len(), 3);
    assert_eq!(greedy["items"][1]["name"], "spectrograms.npy:1");
    let alone = caption(&model, &eeg, &["--batch-size", "1", "--max-new-tokens", "9"]);
    assert_eq!(ids(&alone), ids(&greedy));

    let original = caption(&model, &eeg, &["--reproduce-original"]);
    let decoding =
        Decoding { num_beams: 4, repetition_penalty: 1.4, min_new_tokens: 5, ..Decoding::greedy(15) };
    assert_eq!(ids(&original).concat(), by_hand(&gpu, &model, &decoding, true));
}

#[test]
fn pictures_are_captioned_as_blip2_generates() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = init(folder.path(), "blip2-opt-2.7b-tiny");
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures");
    let run = json(mindreel().arg("caption-images").arg(&images).arg("--model").arg(&model).args([
        "--max-new-tokens",
        "8",
        "--batch-size",
        "3",
    ]));
    let paths = picture::list(&images).unwrap();
    let (mean, std) = ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]);
    let mut pixels = Vec::new();
    for path in &paths {
        let picture = picture::read(path).unwrap();
        let rgb = resize::pillow(&picture.rgb, [picture.height, picture.width], [32; 2], Filter::Bicubic);
        for c in 0..3 {
            pixels.extend(rgb.chunks(3).map(|p| (f32::from(p[c]) / 255.0 - mean[c]) / std[c]));
        }
    }
    let input = Input::Floats(vec![paths.len(), 3, 32, 32], pixels);
    let blip2 = models::open(&gpu, &model, Precision::F32).unwrap().model;
    let whole = blip2.generate(&Inputs([("pixel_values".into(), input)].into()), 8).unwrap();
    // The prompt is eight places of the image and one token; a text that has ended is padded.
    let want: Vec<Vec<i64>> = whole.iter().map(|row| row[9..].to_vec()).collect();
    for (got, want) in ids(&run).concat().iter().zip(&want) {
        let (own, rest) = want.split_at(got.len());
        assert_eq!(got, own);
        assert!(rest.iter().all(|&id| id == 1), "{rest:?}");
    }
    assert_eq!(run["items"][1]["name"], "grey.jpg");
    // The data set's captions are made the same way.
    let set = folder.path().join("set");
    let prepared = json(
        mindreel()
            .args(["prepare", "captions", "--max-new-tokens", "8", "--images"])
            .arg(&images)
            .arg("--model")
            .arg(&model)
            .arg("--output")
            .arg(&set),
    );
    assert_eq!(ids(&prepared), ids(&run));
    let captions = data::pairs::Captions::open(set.join("captions.json")).unwrap();
    assert_eq!(captions.get("noise.png", 2), run["items"][2]["captions"][0]["text"].as_str());
}

#[test]
fn the_best_come_first_and_draws_repeat_by_seed() {
    if gpu().is_none() {
        return;
    }
    let (_folder, model, eeg) = eeg_folder();
    let beams =
        caption(&model, &eeg, &["--num-beams", "3", "--num-return-sequences", "3", "--max-new-tokens", "6"]);
    for item in beams["items"].as_array().unwrap() {
        let scores: Vec<f64> =
            item["captions"].as_array().unwrap().iter().map(|c| c["score"].as_f64().unwrap()).collect();
        assert!(scores.len() == 3 && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    }
    let drawn = |seed: &str, batch: &str| {
        let flags = ["--temperature", "1.5", "--top-p", "0.95", "--num-return-sequences", "2"];
        let more = ["--seed", seed, "--batch-size", batch, "--max-new-tokens", "6"];
        ids(&caption(&model, &eeg, &[&flags[..], &more].concat()))
    };
    let first = drawn("7", "8");
    assert_eq!(first, drawn("7", "2"));
    assert_ne!(first, drawn("8", "8"));
    assert_ne!(first[0][0], first[0][1]);
}

#[test]
fn eeg_and_its_spectrogram_say_the_same() {
    if gpu().is_none() {
        return;
    }
    let (folder, model, _) = eeg_folder();
    let (eeg, made) = (folder.path().join("eeg.npy"), folder.path().join("made.npy"));
    let volts: Vec<f32> = values(2 * 64 * 334).iter().map(|v| (v - 0.5) * 1e-4).collect();
    npy::write(&eeg, &[2, 64, 334], &volts).unwrap();
    mindreel()
        .args(["prepare", "spectrogram", "--quiet", "--eeg"])
        .arg(&eeg)
        .arg("--output")
        .arg(&made)
        .assert()
        .success();
    let said = |path: &Path| ids(&caption(&model, path, &["--max-new-tokens", "6"]));
    assert_eq!(said(&eeg), said(&made));
    assert_eq!(said(&eeg).len(), 2);
}

#[test]
fn int8_weights_and_f16_speak_too() {
    if gpu().is_none() {
        return;
    }
    let (_folder, model, eeg) = eeg_folder();
    for dtype in ["f16", "int8"] {
        let run = caption(&model, &eeg, &["--dtype", dtype, "--max-new-tokens", "3"]);
        assert_eq!(ids(&run).concat().len(), 3, "{dtype}");
        assert_eq!(run["settings"]["dtype"], dtype);
    }
}

/// What a checkpoint or a file can have wrong is told in one line, before anything is loaded.
#[test]
fn mistakes_are_told_in_one_line() {
    let (folder, model, eeg) = eeg_folder();
    let refused = |eeg: &Path, more: &[&str], code: i32| {
        refusal(mindreel().arg("caption").arg("--model").arg(&model).arg("--eeg").arg(eeg).args(more), code)
    };
    let told = |text: String, wanted: &str| assert!(text.contains(wanted), "wanted '{wanted}', got '{text}'");
    let file = |name: &str, shape: &[usize]| {
        let path = folder.path().join(name);
        npy::write(&path, shape, &values(shape.iter().product())).unwrap();
        path
    };
    told(
        refused(&file("few.npy", &[2, 63, 65, 4]), &[], 3),
        "shape [2, 63, 65, 4], wanted EEG [..., 64, samples] or spectrograms [..., 64, bins, frames]",
    );
    told(refused(&file("both.npy", &[64, 64, 4]), &[], 3), "--input eeg or spectrogram");
    told(refused(&file("short.npy", &[64, 20]), &[], 3), "short.npy");
    told(refused(&eeg, &["--num-beams", "0"], 2), "--num-beams");
    told(refused(&eeg, &["--num-beams", "2", "--temperature", "0.5"], 2), "searched, not sampled");
    told(refused(&eeg, &["--num-return-sequences", "2"], 2), "--num-beams");
    told(refused(&eeg, &["--prompt", "a photo", "--reproduce-original"], 2), "--prompt");
    let missing =
        refusal(mindreel().args(["caption", "--model"]).arg(folder.path()).arg("--eeg").arg(&eeg), 3);
    told(missing, "neither a NeuroVision checkpoint");
    if gpu().is_none() {
        return;
    }
    told(refused(&eeg, &["--prompt", &"word ".repeat(200)], 2), "do not fit the 128 positions");
    told(refused(&eeg, &["--max-memory", "0.000001"], 4), "--dtype int8");

    // What is there is not overwritten.
    let there = folder.path().join("there");
    std::fs::create_dir(&there).unwrap();
    std::fs::write(there.join("run.json"), "{}").unwrap();
    told(refused(&eeg, &["--output", there.to_str().unwrap()], 5), "--force");

    // The checkpoint's parts do not go together.
    let stats = ChannelStats::new(vec![0.0; 63], vec![1.0; 63]).unwrap();
    data::channel_stats::write(&model, &stats, false).unwrap();
    told(refused(&eeg, &[], 3), "has statistics of 63 channels, the encoder takes 64");
    data::channel_stats::write(&model, &statistics(), false).unwrap();
    tokenizers::write_opt(&model.join("tokenizer"), 2000, 10, true).unwrap();
    told(refused(&eeg, &[], 3), "a tokenizer of 2000 tokens, the language model has embeddings for 512");
    std::fs::remove_dir_all(model.join("tokenizer")).unwrap();
    told(refused(&eeg, &[], 3), "has no tokenizer");
}

#[test]
fn help_shows_examples_and_info_knows_the_folder() {
    for command in ["caption", "caption-images", "image", "reconstruct"] {
        let (code, stdout, _) = outcome(mindreel().args([command, "--help"]));
        assert!(code == 0 && stdout.contains(&format!("mindreel {command}")), "{command}");
    }
    let (_folder, model, _) = eeg_folder();
    let (code, stdout, _) = outcome(mindreel().arg("info").arg(&model));
    assert!(code == 0 && stdout.contains("NeuroVisionPipeline"), "{stdout}");
    assert!(stdout.contains("but for the image encoder's") && stdout.contains("std"), "{stdout}");
}

#[test]
fn what_is_no_picture_or_no_image_model_is_told_in_one_line() {
    let (folder, model, _) = eeg_folder();
    let blip2 = init(folder.path(), "blip2-opt-2.7b-tiny");
    let images = folder.path().join("images");
    std::fs::create_dir(&images).unwrap();
    let run = |model: &Path| {
        let mut command = mindreel();
        command.arg("caption-images").arg(&images).arg("--model").arg(model);
        command
    };
    let told = |text: String, wanted: &str| assert!(text.contains(wanted), "wanted '{wanted}', got '{text}'");
    told(refusal(&mut run(&blip2), 3), "holds no picture");
    std::fs::write(images.join("a.jpg"), "not a jpeg").unwrap();
    told(refusal(&mut run(&blip2), 3), "neither JPEG nor PNG");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures/grey.jpg");
    std::fs::copy(golden, images.join("a.jpg")).unwrap();
    if gpu().is_none() {
        return;
    }
    told(refusal(&mut run(&model), 3), "holds no image encoder");
    std::fs::remove_file(blip2.join("vocab.json")).unwrap();
    told(refusal(&mut run(&blip2), 3), "has no tokenizer");
}
