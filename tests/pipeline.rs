//! The journey through the library, on a small checkpoint made on the spot.
#![cfg(feature = "cli")]

mod common;

use common::gpu;
use mindreel::data::TextTable;
use mindreel::generate::{Clip, Conditions, Folder, Run, Settings};
use mindreel::gpu::Gpu;
use mindreel::models::{Config, Halves, UNet, UNetConfig, Vae, VaeConfig, architecture};
use mindreel::nn::{self, Precision};
use mindreel::signal::{Cut, Recordings, Segments, sample_recording};
use mindreel::tensor::Tensor;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// A `tiny` checkpoint.
fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model");
    let run = Command::new(env!("CARGO_BIN_EXE_mindreel"))
        .args(["--quiet", "init", "tiny", "--seed", "3", "--output"])
        .arg(&output)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    folder
}

fn eeg(clips: usize) -> Segments {
    Recordings::from(sample_recording(5, 2.0 * clips as f64).unwrap()).segments(Cut::CLIPS).unwrap()
}

fn settings() -> Settings {
    Settings { num_inference_steps: 2, ..Settings::default() }
}

fn decode(gpu: &Gpu, model: &Path, settings: &Settings, eeg: &Segments) -> Vec<Clip> {
    let run = Run::new(gpu, Folder::open(model).unwrap(), settings.clone()).unwrap();
    let conditions = Conditions::from_eeg(gpu, run.folder(), run.settings(), eeg).unwrap();
    let mut clips = Vec::new();
    let mut sink = |clip| {
        clips.push(clip);
        Ok(())
    };
    run.make(&conditions, &AtomicBool::new(false), &mut |_| {}, &mut sink).unwrap();
    clips
}

fn pictures(clips: &[Clip]) -> Vec<Vec<u8>> {
    clips.iter().map(|clip| clip.frames.rgb.clone()).collect()
}

/// Largest difference of two pictures, in steps of 255.
fn apart(a: &[u8], b: &[u8]) -> u8 {
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn a_seed_repeats_its_clips_in_any_batch_and_another_seed_does_not() {
    let Some(gpu) = gpu() else { return };
    let (folder, eeg) = (model(), eeg(3));
    let path = folder.path().join("model");
    let one = decode(&gpu, &path, &settings(), &eeg);
    assert_eq!(one.len(), 3);
    let frames = &one[0].frames;
    assert_eq!((frames.count, frames.height, frames.width), (6, 72, 128));
    assert_eq!(pictures(&one), pictures(&decode(&gpu, &path, &settings(), &eeg)), "the same run");
    let batch = decode(&gpu, &path, &Settings { batch_size: 2, ..settings() }, &eeg);
    for (one, batch) in one.iter().zip(&batch) {
        assert!(apart(&one.frames.rgb, &batch.frames.rgb) <= 1, "sums in another order, no more");
    }
    let other = decode(&gpu, &path, &Settings { seed: 1, ..settings() }, &eeg);
    assert!(apart(&one[0].frames.rgb, &other[0].frames.rgb) > 20);
    assert!(apart(&one[0].frames.rgb, &one[1].frames.rgb) > 20, "clips differ");
}

#[test]
fn every_ablation_and_sampler_runs_and_differs() {
    let Some(gpu) = gpu() else { return };
    let (folder, eeg) = (model(), eeg(1));
    let path = folder.path().join("model");
    let scheduler = |name: &str| Settings { scheduler: Some(name.into()), ..settings() };
    let ways = [
        settings(),
        Settings { without_dana: true, ..settings() },
        Settings { without_seq2seq: true, ..settings() },
        Settings { reproduce_original: true, ..settings() },
        Settings { guidance_scale: 1.0, ..settings() },
        scheduler("ddim"),
        Settings { eta: 1.0, ..scheduler("ddim") },
        scheduler("dpmsolver++"),
    ];
    let made: Vec<_> = ways.iter().map(|way| pictures(&decode(&gpu, &path, way, &eeg))).collect();
    for (i, a) in made.iter().enumerate() {
        for (j, b) in made.iter().enumerate().skip(i + 1) {
            assert!(apart(&a[0], &b[0]) > 2, "{:?} and {:?} give the same", ways[i], ways[j]);
        }
    }
    // An absent part is an ablation.
    std::fs::remove_dir_all(path.join("dynamics")).unwrap();
    assert_eq!(pictures(&decode(&gpu, &path, &settings(), &eeg)), made[1]);
    std::fs::remove_dir_all(path.join("seq2seq")).unwrap();
    assert_eq!(pictures(&decode(&gpu, &path, &settings(), &eeg)), made[2]);
    std::fs::remove_dir_all(path.join("semantic")).unwrap();
    assert_eq!(decode(&gpu, &path, &settings(), &eeg).len(), 1);
}

#[test]
fn a_checkpoint_with_texts_steers_by_the_nearest() {
    let Some(gpu) = gpu() else { return };
    let (folder, eeg) = (model(), eeg(2));
    let path = folder.path().join("model");
    let text = |settings: &Settings| {
        let folder = Folder::open(&path).unwrap();
        let conditions = Conditions::from_eeg(&gpu, &folder, settings, &eeg)?;
        let text = conditions.text(&gpu, &[0, 1], false)?;
        Ok::<_, mindreel::error::Error>((text.shape().to_vec(), text.to_vec()?))
    };
    let (shape, raw) = text(&settings()).unwrap();
    let [tokens, width] = [shape[1], shape[2]];
    let size = tokens * width;
    let row = |row: usize| -> Vec<f32> {
        let of = |at: usize| if row == 7 { 5.0 * raw[at] } else { ((row * 31 + at * 17) % 23) as f32 - 11.0 };
        (0..size).map(of).collect()
    };
    let write = |shape: [usize; 2]| {
        let values = (0..40).flat_map(row).take(40 * shape[0] * shape[1]).collect();
        let table = TextTable::new(shape, values, vec![0.0; shape[0] * shape[1]]).unwrap();
        table.write(path.join("texts.safetensors"), &Default::default()).unwrap();
    };
    write([tokens, width]);
    let (_, near) = text(&settings()).unwrap();
    assert_eq!(near[..size], row(7), "the text that a prediction points to, in its own length");
    assert!((0..40).any(|at| near[size..] == row(at)[..]));
    let as_predicted = Settings { texts_as_predicted: true, ..settings() };
    assert_eq!(text(&as_predicted).unwrap().1, raw);
    write([tokens, width / 2]);
    let error = text(&settings()).unwrap_err().to_string();
    assert!(error.contains("texts.safetensors: holds texts"), "{error}");
}

#[test]
fn f16_is_near_f32() {
    let Some(gpu) = gpu() else { return };
    let (folder, eeg) = (model(), eeg(1));
    let path = folder.path().join("model");
    let [full, half] = [false, true].map(|half| {
        let settings = Settings { half, guidance_scale: 2.0, without_seq2seq: true, ..settings() };
        decode(&gpu, &path, &settings, &eeg).remove(0).frames.rgb
    });
    let mean =
        full.iter().zip(&half).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / full.len() as f64;
    assert!(mean < 4.0, "mean difference {mean} of 255");
}

#[test]
fn a_stop_keeps_the_clips_that_are_whole() {
    let Some(gpu) = gpu() else { return };
    let (folder, eeg) = (model(), eeg(3));
    let run = Run::new(&gpu, Folder::open(folder.path().join("model")).unwrap(), settings()).unwrap();
    let conditions = Conditions::from_eeg(&gpu, run.folder(), run.settings(), &eeg).unwrap();
    let (stop, mut whole) = (AtomicBool::new(false), 0);
    let mut sink = |_| {
        whole += 1;
        stop.store(true, Ordering::Relaxed);
        Ok(())
    };
    let error = run.make(&conditions, &stop, &mut |_| {}, &mut sink).expect_err("stopped");
    assert_eq!((error.exit_code(), whole), (130, 1));
}

#[test]
fn memory_is_told_before() {
    let Some(gpu) = gpu() else { return };
    let (folder, eeg) = (model(), eeg(1));
    let path = folder.path().join("model");
    let need = Run::new(&gpu, Folder::open(&path).unwrap(), settings()).unwrap().need();
    gpu.trim().unwrap();
    decode(&gpu, &path, &settings(), &eeg);
    let peak = gpu.memory().peak_reserved;
    assert!(need.weights > 0 && need.peak >= peak, "told {need:?}, took {peak}");
    assert!(need.peak < 8 * peak, "told {need:?}, took {peak}");
}

#[test]
fn slices_and_tiles_decode_like_the_whole() {
    let Some(gpu) = gpu() else { return };
    let folder = model();
    let path = folder.path().join("model/vae");
    let config = VaeConfig::new(&Config::open(path.join("config.json")).unwrap()).unwrap();
    let checkpoint = architecture("AutoencoderKL").unwrap().checkpoint(&path).unwrap();
    let load = |weights: &nn::Weights| Vae::load(weights, &config, Halves::Both);
    let vae = nn::open(&gpu, checkpoint, Precision::F32, load).unwrap().model;
    let latents = Tensor::normal(&gpu, &[2, 10, 13, 4], 1, 0).unwrap();
    let whole = vae.decode(&latents).unwrap();
    assert_eq!(whole.shape(), [2, 80, 104, 3]);
    let whole = whole.to_vec().unwrap();
    let largest = |other: &[f32]| whole.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest(&vae.decode_sliced(&latents).unwrap().to_vec().unwrap()) < 1e-4);
    // One tile is the whole; several see other statistics, but the picture stays.
    assert!(largest(&vae.decode_tiled(&latents, 16).unwrap().to_vec().unwrap()) < 1e-4);
    let tiled = vae.decode_tiled(&latents, 8).unwrap();
    assert_eq!(tiled.shape(), [2, 80, 104, 3]);
    let tiled = tiled.to_vec().unwrap();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let alike = dot(&whole, &tiled) / (dot(&whole, &whole) * dot(&tiled, &tiled)).sqrt();
    assert!(alike > 0.8, "cosine {alike}"); // tiles out of place would be near 0
}

#[test]
fn an_image_checkpoint_inflates_to_video() {
    let Some(gpu) = gpu() else { return };
    // The 3-D form's weights without their temporal layers are an image checkpoint.
    let folder = model();
    let path = folder.path().join("model/unet");
    let file = path.join("diffusion_pytorch_model.safetensors");
    let tensors: Vec<_> = {
        let checkpoint = mindreel::weights::Checkpoint::open(&file).unwrap();
        let spatial = checkpoint.views().filter(|view| !view.name.contains("_temp."));
        spatial
            .map(|v| (v.name.to_string(), v.shape.to_vec(), mindreel::weights::to_f32(&v).unwrap()))
            .collect()
    };
    let tensors = tensors.iter().map(|(name, shape, values)| {
        mindreel::weights::NewTensor::from_f32(name.as_str(), shape.as_slice(), values)
    });
    mindreel::weights::write(&file, tensors.collect(), &Default::default()).unwrap();
    let config = std::fs::read_to_string(path.join("config.json")).unwrap().replace("3D", "2D");
    std::fs::write(path.join("config.json"), config).unwrap();

    let config = UNetConfig::new(&Config::open(path.join("config.json")).unwrap()).unwrap();
    let open = |video: bool| {
        let checkpoint = architecture("UNet2DConditionModel").unwrap().checkpoint(&path).unwrap();
        nn::open(&gpu, checkpoint, Precision::F32, |weights| UNet::load(weights, &config, video))
            .unwrap()
            .model
    };
    let sample = Tensor::normal(&gpu, &[1, 9, 16, 4], 1, 0).unwrap();
    let text = Tensor::normal(&gpu, &[1, 77, config.cross_attention_dim], 2, 0).unwrap();
    let image = open(false).forward(&sample, &[500.0], &text, 1).unwrap().to_vec().unwrap();
    let video = open(true);
    assert_eq!(video.forward(&sample, &[500.0], &text, 1).unwrap().to_vec().unwrap(), image);
    // A still video: every frame sees the same, so every frame is the image.
    let still = sample.expand(&[3, 9, 16, 4]).unwrap();
    let frames = video.forward(&still, &[500.0], &text, 3).unwrap().to_vec().unwrap();
    for frame in frames.chunks(image.len()) {
        let largest = frame.iter().zip(&image).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-4, "{largest}");
    }
    // The whole chain takes the folder as well.
    assert_eq!(decode(&gpu, &folder.path().join("model"), &settings(), &eeg(1)).len(), 1);
}
