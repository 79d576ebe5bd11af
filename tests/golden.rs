//! Every architecture against the reference implementation: PyTorch, diffusers, transformers.

mod common;
#[path = "common/fixture.rs"]
mod fixture;

use common::gpu;
use fixture::{Golden, output, relative_error};
use mindreel::gpu::{Checks, Family, Gpu, Options};
use mindreel::models;
use mindreel::nn::Precision;
use mindreel::weights::{self, Checkpoint, Dtype, NewTensor};
use std::collections::BTreeMap;

/// Runs a fixture and holds the named fields against it; hands back their values.
fn check(
    gpu: &Gpu,
    name: &str,
    precision: Precision,
    inputs: &[(&str, &str)],
    fields: &[&str],
) -> Vec<Vec<f32>> {
    let golden = Golden::open(name);
    let folder = tempfile::tempdir().unwrap();
    golden.checkpoint(folder.path(), Dtype::F32);
    let loaded = models::open(gpu, folder.path(), precision).unwrap();
    let outputs = loaded.model.forward(&golden.inputs(inputs)).unwrap();
    let tolerance = if precision == Precision::F32 { 1e-4 } else { 5e-3 };
    let mut values = Vec::new();
    for field in fields {
        let got = output(&outputs, field);
        assert_eq!(got.shape, golden.shape(&format!("out.{field}")), "{name}.{field}");
        let error = relative_error(&got.values, &golden.values(&format!("out.{field}")));
        eprintln!("{name}.{field} {precision:?}: relative error {error:.1e}");
        assert!(
            error <= tolerance,
            "{name}.{field} {precision:?}: relative error {error:.2e} > {tolerance:.0e}"
        );
        values.push(got.values.clone());
    }
    values
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
    check_both("unet2d_c", &UNET, &["sample"]);
}

#[test]
fn autoencoder() {
    for name in ["vae_a", "vae_b", "vae_c"] {
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

/// Every EEG network, at the originals' length and at others.
#[test]
fn eeg_networks() {
    let Some(gpu) = gpu() else { return };
    let golden = Golden::open("eeg_networks");
    for (name, case) in golden.cases() {
        let words = |key: &str| -> Vec<String> { serde_json::from_value(case[key].clone()).unwrap() };
        let inputs = words("inputs");
        let inputs: Vec<_> = ["eeg", "features"].into_iter().zip(inputs.iter().map(String::as_str)).collect();
        let folder = tempfile::tempdir().unwrap();
        golden.case(&case, folder.path(), Dtype::F32);
        for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::F16, 5e-3)] {
            let loaded = models::open(&gpu, folder.path(), precision).unwrap();
            assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
            let outputs = loaded.model.forward(&golden.inputs(&inputs)).unwrap();
            assert_eq!(outputs.len(), words("outputs").len(), "{name}");
            for field in words("outputs") {
                let (got, want) = (output(&outputs, &field), format!("out.{name}.{field}"));
                assert_eq!(got.shape, golden.shape(&want), "{want}");
                let error = relative_error(&got.values, &golden.values(&want));
                eprintln!("{want} {precision:?}: relative error {error:.1e}");
                assert!(error <= tolerance, "{want} {precision:?}: {error:.2e} > {tolerance:.0e}");
            }
        }
    }
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

/// A file in half precision holds the positions rounded; the original adds what its file holds.
#[test]
fn positions_in_a_file_are_the_ones_added() {
    let Some(gpu) = gpu() else { return };
    let golden = Golden::open("eeg2video_transformer");
    let folder = tempfile::tempdir().unwrap();
    golden.checkpoint(folder.path(), Dtype::F32);
    let whole = Checkpoint::open(folder.path().join("model.safetensors")).unwrap();
    let values: Vec<_> =
        whole.views().map(|view| (view.name, view.shape, weights::to_f32(&view).unwrap())).collect();
    let logits = |positions: &[f32]| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), &golden.file.metadata()["config"]).unwrap();
        let tensor = |(name, shape, values): &(&str, &[usize], Vec<f32>)| {
            let (name, shape, values) = (name.to_string(), shape.to_vec(), values.clone());
            NewTensor::streamed(name, Dtype::F32, shape, move |sink| sink.put_f32(&values))
        };
        let mut tensors: Vec<_> = values.iter().map(tensor).collect();
        let shape = [1, positions.len() / 512, 512];
        tensors.push(NewTensor::from_f32("positional_encoding.pe", shape, positions));
        weights::write(folder.path().join("model.safetensors"), tensors, &BTreeMap::new()).unwrap();
        let loaded = models::open(&gpu, folder.path(), Precision::F32)?;
        assert!(!loaded.warnings.concat().contains("positional"), "{:?}", loaded.warnings);
        let outputs = loaded.model.forward(&golden.inputs(&[("eeg", "eeg")]))?;
        let error =
            relative_error(&output(&outputs, "class_logits").values, &golden.values("out.class_logits"));
        Ok::<_, mindreel::error::Error>(error)
    };
    let sinusoids: Vec<f32> = (0..9 * 512)
        .map(|at| {
            let angle = (at / 512) as f64 * 10_000_f64.powf(-((at % 512 / 2 * 2) as f64) / 512.0);
            (if at % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
        })
        .collect();
    assert!(logits(&sinusoids).unwrap() <= 1e-4);
    assert!(logits(&vec![0.0; 9 * 512]).unwrap() > 1e-2);
    assert!(logits(&sinusoids[..6 * 512]).unwrap_err().to_string().contains("7 or more"));
}

#[cfg(feature = "generate")]
#[test]
fn a_guided_walk_of_twelve_steps() {
    use mindreel::diffusion::{SchedulerConfig, plan};
    use mindreel::generate::{Guidance, denoise};
    use mindreel::models::{Config, UNet, UNetConfig, architecture};
    use mindreel::tensor::Tensor;

    let Some(gpu) = gpu() else { return };
    let golden = Golden::open("ddim_guided");
    let folder = tempfile::tempdir().unwrap();
    golden.checkpoint(folder.path(), Dtype::F32);
    let config = UNetConfig::new(&Config::open(folder.path().join("config.json")).unwrap()).unwrap();
    let checkpoint = architecture("UNet3DConditionModel").unwrap().checkpoint(folder.path()).unwrap();
    let load = |weights: &mindreel::nn::Weights| UNet::load(weights, &config, true);
    let unet = mindreel::nn::open(&gpu, checkpoint, Precision::F32, load).unwrap().model;

    let metadata = golden.file.metadata();
    let scheduler = metadata["scheduler_config"].as_bytes();
    let scheduler = SchedulerConfig::from_json("scheduler_config.json".as_ref(), scheduler).unwrap();
    let steps = metadata["num_inference_steps"].parse().unwrap();
    let plan = plan("ddim", &scheduler, steps, 0.0).unwrap();
    let timesteps: Vec<f32> = plan.timesteps().map(|t| t as f32).collect();
    assert_eq!(timesteps, golden.values("out.timesteps"));

    let text_shape = golden.shape("in.encoder_hidden_states");
    let text = Tensor::new(&gpu, &text_shape, &golden.values("in.encoder_hidden_states")).unwrap();
    let [_, c, f, h, w] = golden.shape("in.latents")[..] else { panic!("five axes") };
    let latents = Tensor::new(&gpu, &[c, f, h, w], &golden.values("in.latents")).unwrap();
    let guidance = Guidance { scale: metadata["guidance_scale"].parse().unwrap(), text: &text };
    let start = latents.permute(&[1, 2, 3, 0]).unwrap();
    let end = denoise(&unet, &plan, start, &guidance, f, None, &mut |_| Ok(())).unwrap();
    let end = end.permute(&[3, 0, 1, 2]).unwrap().to_vec().unwrap();
    let error = relative_error(&end, &golden.values("out.latents"));
    eprintln!("twelve guided steps: relative error {error:.1e}");
    assert!(error <= 1e-3, "{error:.2e}");
}

#[test]
fn the_plain_kernels_give_the_same() {
    if gpu().is_none() {
        return;
    }
    let adapter = Options::from_env().unwrap().adapter;
    let options =
        Options { adapter, without_subgroups: true, without_immediates: true, ..Default::default() };
    let plain = Gpu::open(&options).unwrap();
    check(&plain, "unet3d_a", Precision::F32, &UNET, &["sample"]);
    check(&plain, "vae_a", Precision::F32, &[("latents", "latents")], &["sample"]);
}

#[test]
fn every_family_gives_the_same_with_run_time_checks_and_without() {
    if gpu().is_none() {
        return;
    }
    let adapter = Options::from_env().unwrap().adapter;
    for family in Family::ALL {
        let open = |checks| {
            let family = Some(family);
            Gpu::open(&Options { adapter: adapter.clone(), family, checks, ..Default::default() })
        };
        let Ok(checked) = open(Checks::All) else {
            eprintln!("skipped: this adapter does not run the kernels '{family}'");
            continue;
        };
        let bare = open(Checks::None).unwrap();
        for precision in [Precision::F32, Precision::F16] {
            let inputs = [("latents", "latents")];
            let outputs = [&checked, &bare].map(|gpu| check(gpu, "vae_a", precision, &inputs, &["sample"]));
            assert!(outputs[0] == outputs[1], "vae_a {family} {precision:?}: run-time checks change bits");
        }
    }
}
