//! Every architecture against the reference implementation: PyTorch, diffusers, transformers.

mod common;

use common::{Golden, gpu, output, relative_error};
use mindreel::gpu::{Gpu, Options};
use mindreel::models;
use mindreel::nn::Precision;
use mindreel::weights::Dtype;

/// Runs a fixture and holds the named fields against it.
fn check(gpu: &Gpu, name: &str, precision: Precision, inputs: &[(&str, &str)], fields: &[&str]) {
    let golden = Golden::open(name);
    let folder = tempfile::tempdir().unwrap();
    golden.checkpoint(folder.path(), Dtype::F32);
    let loaded = models::open(gpu, folder.path(), precision).unwrap();
    let outputs = loaded.model.forward(&golden.inputs(inputs)).unwrap();
    let tolerance = if precision == Precision::F32 { 1e-4 } else { 5e-3 };
    for field in fields {
        let got = output(&outputs, field);
        assert_eq!(got.shape, golden.shape(&format!("out.{field}")), "{name}.{field}");
        let error = relative_error(&got.values, &golden.values(&format!("out.{field}")));
        eprintln!("{name}.{field} {precision:?}: relative error {error:.1e}");
        assert!(
            error <= tolerance,
            "{name}.{field} {precision:?}: relative error {error:.2e} > {tolerance:.0e}"
        );
    }
}

fn check_both(name: &str, inputs: &[(&str, &str)], fields: &[&str]) {
    let Some(gpu) = gpu() else { return };
    check(&gpu, name, Precision::F32, inputs, fields);
    check(&gpu, name, Precision::F16, inputs, fields);
}

const UNET: [(&str, &str); 3] =
    [("sample", "sample"), ("timestep", "timestep"), ("encoder_hidden_states", "encoder_hidden_states")];

#[test]
fn tune_a_video_unet() {
    check_both("unet3d_a", &UNET, &["sample"]);
    check_both("unet3d_b", &UNET, &["sample"]);
}

#[test]
fn image_unet() {
    check_both("unet2d_a", &UNET, &["sample"]);
    check_both("unet2d_b", &UNET, &["sample"]);
}

#[test]
fn autoencoder() {
    for name in ["vae_a", "vae_b"] {
        check_both(name, &[("latents", "latents")], &["sample"]);
        check_both(name, &[("sample", "sample")], &["mean", "logvar"]);
    }
}

#[test]
fn clip_text() {
    for name in ["clip_text_a", "clip_text_b"] {
        check_both(name, &[("input_ids", "input_ids")], &["last_hidden_state", "pooler_output"]);
    }
}

#[test]
fn eeg_models() {
    check_both("shallownet", &[("eeg", "eeg")], &["logits"]);
    check_both("glmnet", &[("eeg", "eeg")], &["logits"]);
    check_both("semantic_predictor", &[("eeg", "features")], &["embeddings"]);
}

#[test]
fn eeg_to_video_transformer() {
    let Some(gpu) = gpu() else { return };
    let golden = Golden::open("eeg2video_transformer");
    let folder = tempfile::tempdir().unwrap();
    golden.checkpoint(folder.path(), Dtype::F32);
    for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::F16, 5e-3)] {
        let loaded = models::open(&gpu, folder.path(), precision).unwrap();
        let outputs = loaded.model.forward(&golden.inputs(&[("eeg", "eeg")])).unwrap();
        let logits = output(&outputs, "class_logits");
        let error = relative_error(&logits.values, &golden.values("out.class_logits"));
        assert!(error <= tolerance, "class_logits {precision:?}: {error:.2e}");
        let latents = output(&outputs, "latents");
        assert_eq!(latents.shape, [2, 7, 4, 36, 64]);
        let sample: Vec<f32> = latents.values.iter().step_by(37).copied().collect();
        let error = relative_error(&sample, &golden.values("out.latents_sample"));
        assert!(error <= tolerance, "latents {precision:?}: {error:.2e}");
        let norms: Vec<f32> =
            latents.values.chunks(4 * 36 * 64).map(|v| v.iter().map(|x| x * x).sum::<f32>().sqrt()).collect();
        let error = relative_error(&norms, &golden.values("out.latents_norm"));
        assert!(error <= tolerance, "latents_norm {precision:?}: {error:.2e}");
    }
}

#[test]
fn the_plain_kernels_give_the_same() {
    if gpu().is_none() {
        return;
    }
    let adapter = std::env::var("MINDREEL_ADAPTER").ok();
    let options =
        Options { adapter, without_subgroups: true, without_immediates: true, ..Default::default() };
    let plain = Gpu::open(&options).unwrap();
    check(&plain, "unet3d_a", Precision::F32, &UNET, &["sample"]);
    check(&plain, "vae_a", Precision::F32, &[("latents", "latents")], &["sample"]);
}
