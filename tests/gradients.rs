//! Whole models' gradients against PyTorch's: every parameter's norm, and a few of its values.

mod common;
#[path = "common/fixture.rs"]
mod fixture;

use common::gpu;
use fixture::Golden;
use mindreel::diffusion::{Prediction, SchedulerConfig};
use mindreel::error::Result;
use mindreel::gpu::Gpu;
use mindreel::models::{Config, EegConfig, Seq2Seq, Seq2SeqConfig, ShallowNet, UNet, UNetConfig};
use mindreel::nn::{Parameters, Precision, Weights};
use mindreel::tensor::{DType, Tensor};
use mindreel::train::video::{self, Batch};
use mindreel::weights::random;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A fixture of gradients, with the one its inputs stand in.
struct Case<'a> {
    gpu: &'a Gpu,
    gradients: Golden,
    forward: Golden,
}

impl<'a> Case<'a> {
    fn open(gpu: &'a Gpu, name: &str) -> Case<'a> {
        let gradients = Golden::open(&format!("gradients_{name}"));
        let forward = Golden::open(&gradients.file.metadata()["inputs"]);
        Case { gpu, gradients, forward }
    }

    fn config(&self) -> Config {
        Config::from_json("config.json", self.gradients.file.metadata()["config"].as_bytes()).unwrap()
    }

    fn input(&self, name: &str) -> Tensor {
        let name = format!("in.{name}");
        Tensor::new(self.gpu, &self.forward.shape(&name), &self.forward.values(&name)).unwrap()
    }

    /// Values by the formula of the weights.
    fn formula(&self, name: &str, shape: &[usize]) -> Tensor {
        let mut values = vec![0.0; shape.iter().product()];
        random::fill(name, shape, self.gradients.seed, &mut values);
        Tensor::new(self.gpu, shape, &values).unwrap()
    }

    /// Every tensor of the model; those that have a gradient in the fixture as parameters.
    fn parameters(&self) -> Arc<Parameters> {
        let listed = |key: &str| &self.gradients.file.metadata()[key];
        let tensors: BTreeMap<String, Vec<usize>> = serde_json::from_str(listed("tensors")).unwrap();
        let learning: BTreeMap<String, Vec<usize>> = serde_json::from_str(listed("gradients")).unwrap();
        let make = |(name, shape): (String, Vec<usize>)| {
            let tensor = self.formula(&name, &shape);
            let learns = learning.contains_key(&name);
            (name, if learns { tensor.parameter() } else { tensor })
        };
        Arc::new(Parameters::new(tensors.into_iter().map(make).collect()))
    }

    /// The part of the loss that an output makes: times what is to be its gradient, summed up.
    fn part(&self, name: &str, output: &Tensor) -> Result<Tensor> {
        let axes: Vec<usize> = (0..output.rank()).collect();
        output.mul(&self.formula(&format!("gradient.{name}"), output.shape()))?.sum(&axes)
    }

    /// Builds a model, runs it, walks back, compares.
    fn check<T>(
        &self,
        precision: Precision,
        tolerance: f64,
        load: impl Fn(&Weights) -> Result<T>,
        loss: impl Fn(&T) -> Result<Tensor>,
    ) {
        let name = &self.gradients.file.metadata()["inputs"];
        let parameters = self.parameters();
        let weights = Weights::from_parameters(self.gpu, &parameters, precision, None);
        let loss = loss(&load(&weights).unwrap()).unwrap();
        let found = loss.backward().unwrap();
        let places: BTreeMap<String, Vec<usize>> =
            serde_json::from_str(&self.gradients.file.metadata()["gradients"]).unwrap();
        let (norms, sampled) = (self.gradients.values("out.norms"), self.gradients.values("out.sampled"));
        let mut sampled = sampled.iter();
        let (mut worst, mut worst_at) = (0.0, String::new());
        for ((parameter, places), &norm) in places.iter().zip(&norms) {
            let tensor = parameters.get(parameter).expect("listed above");
            let gradient = found.get(tensor).unwrap_or_else(|| panic!("{name}: no gradient of {parameter}"));
            assert_eq!(gradient.dtype(), tensor.dtype(), "{name}: gradient of {parameter}");
            let values = gradient.to_vec().unwrap();
            let got_norm = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            // A value may be small beside its neighbours: what counts is its error beside theirs.
            let usual = f64::from(norm) / (values.len() as f64).sqrt();
            let mut errors = vec![(got_norm - f64::from(norm)).abs() / f64::from(norm)];
            for &place in places {
                let want = f64::from(*sampled.next().expect("as many as places"));
                errors.push((f64::from(values[place]) - want).abs() / want.abs().max(usual));
            }
            let error = errors.into_iter().fold(0.0, f64::max);
            if error > worst {
                (worst, worst_at) = (error, parameter.clone());
            }
        }
        let n = norms.len();
        eprintln!("{name} {precision:?}: {n} gradients, largest relative error {worst:.1e} ({worst_at})");
        assert!(worst <= tolerance, "{name} {precision:?}: relative error {worst:.2e} of {worst_at}");
    }
}

#[test]
fn a_video_unet_with_attention_over_text_and_frames() {
    let Some(gpu) = gpu() else { return };
    let case = Case::open(&gpu, "unet3d");
    let config = UNetConfig::new(&case.config()).unwrap();
    let times: Vec<f64> = case.forward.values("in.timestep").into_iter().map(f64::from).collect();
    let forward = |unet: &UNet| {
        let (sample, text) = (case.input("sample"), case.input("encoder_hidden_states"));
        let &[b, c, f, h, w] = sample.shape() else { panic!("a video has five axes") };
        let images = sample.permute(&[0, 2, 3, 4, 1])?.reshape(&[b * f, h, w, c])?;
        let out = unet.forward(&images.cast(unet.dtype())?, &times, &text.cast(unet.dtype())?, f)?;
        let out = out.cast(DType::F32)?.reshape(&[b, f, h, w, c])?;
        case.part("sample", &out.permute(&[0, 4, 1, 2, 3])?)
    };
    let load = |weights: &Weights| UNet::load(weights, &config, true);
    case.check(Precision::F32, 1e-3, load, forward);
    if gpu.facts().features.f16 {
        // Every step of the way rounds to 11 bits.
        case.check(Precision::F16, 5e-2, load, forward);
    }
}

#[test]
fn a_step_of_the_diffusion_fine_tune() {
    let Some(gpu) = gpu() else { return };
    let case = Case::open(&gpu, "finetune");
    let config = UNetConfig::new(&case.config()).unwrap();
    let schedule = SchedulerConfig::stable_diffusion().schedule().unwrap();
    // Videos [b, c, f, h, w] as images with channels last.
    let images = |video: Tensor| {
        let &[b, c, f, h, w] = video.shape() else { panic!("a video has five axes") };
        video.permute(&[0, 2, 3, 4, 1]).unwrap().reshape(&[b * f, h, w, c]).unwrap()
    };
    let sample = case.input("sample");
    let (shape, frames) = (sample.shape().to_vec(), sample.shape()[2]);
    let batch = Batch {
        shares: None,
        latents: images(sample),
        noise: images(case.formula("gradient.noise", &shape)),
        timesteps: vec![37, 801], // make_gradients.py
        text: case.input("encoder_hidden_states"),
        frames,
    };
    let want = f64::from(case.gradients.values("out.loss")[0]);
    for recomputes in [false, true] {
        let load = |weights: &Weights| video::model(weights, &config, recomputes);
        let loss = |unet: &UNet| {
            let loss = video::noise_loss(unet, &schedule, Prediction::Epsilon, &batch)?;
            let got = f64::from(loss.to_vec()?[0]);
            assert!((got - want).abs() <= 1e-4 * want, "loss {got}, PyTorch's is {want}");
            Ok(loss)
        };
        case.check(Precision::F32, 1e-3, load, loss);
    }
}

#[test]
fn eeg_to_video_transformer() {
    let Some(gpu) = gpu() else { return };
    let case = Case::open(&gpu, "eeg2video_transformer");
    let config = Seq2SeqConfig::new(&case.config()).unwrap();
    case.check(
        Precision::F32,
        1e-3,
        |weights| Seq2Seq::load(weights, &config),
        |model| {
            let (classes, latents) = model.forward(&case.input("eeg"))?;
            case.part("class_logits", &classes)?.add(&case.part("latents", &latents)?)
        },
    );
}

#[test]
fn shallownet() {
    let Some(gpu) = gpu() else { return };
    let case = Case::open(&gpu, "shallownet");
    let config = EegConfig::new(&case.config()).unwrap();
    case.check(
        Precision::F32,
        1e-3,
        |weights| ShallowNet::load(weights, &config),
        |model| {
            let eeg = case.input("eeg");
            let &[batch, 1, channels, samples] = eeg.shape() else { panic!("four axes") };
            case.part("logits", &model.forward(&eeg.reshape(&[batch, channels, samples])?)?)
        },
    );
}
