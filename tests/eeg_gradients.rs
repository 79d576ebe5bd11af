//! EEG networks in training against PyTorch: gradients of every parameter, running statistics, losses of 20 steps.

mod common;
#[path = "common/fixture.rs"]
mod fixture;

use common::gpu;
use fixture::{Golden, relative_error};
use mindreel::gpu::Gpu;
use mindreel::models::{Config, Takes, eeg_model};
use mindreel::nn::{Parameters, Precision, Training, Weights};
use mindreel::tensor::Tensor;
use mindreel::weights::random;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Values by name, with their shapes.
type Values = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn is_statistic(name: &str) -> bool {
    name.contains("running_")
}

/// One network of the fixture.
struct Case<'a> {
    gpu: &'a Gpu,
    golden: &'a Golden,
    name: &'a str,
    case: &'a Value,
    config: Config,
}

/// What one step of training gives.
struct Step {
    loss: f32,
    gradients: BTreeMap<String, Vec<f32>>,
    statistics: BTreeMap<String, Vec<f32>>,
}

impl Case<'_> {
    /// The fixture's weights, by formula.
    fn weights(&self) -> Values {
        let tensors: BTreeMap<String, Vec<usize>> =
            serde_json::from_value(self.case["tensors"].clone()).unwrap();
        let make = |(name, shape): (String, Vec<usize>)| {
            let mut values = vec![0.0; shape.iter().product()];
            random::fill(&name, &shape, self.golden.seed, &mut values);
            (name, (shape, values))
        };
        tensors.into_iter().map(make).collect()
    }

    fn input(&self, takes: Takes) -> Tensor {
        let name = if takes == Takes::Windows { "in.windows" } else { "in.features" };
        let mut shape = self.golden.shape(name);
        shape.retain(|&axis| axis != 1);
        Tensor::new(self.gpu, &shape, &self.golden.values(name)).unwrap()
    }

    fn step(&self, values: &Values, number: u64) -> Step {
        let tensors: BTreeMap<String, Tensor> = values
            .iter()
            .map(|(name, (shape, values))| {
                let tensor = Tensor::new(self.gpu, shape, values).unwrap();
                (name.clone(), if is_statistic(name) { tensor } else { tensor.parameter() })
            })
            .collect();
        let parameters = Arc::new(Parameters::new(tensors));
        let training = Arc::new(Training::new(0, number));
        let weights = Weights::from_parameters(self.gpu, &parameters, Precision::F32, Some(&training));
        let model = eeg_model(&weights, &self.config).unwrap();
        let inputs: Vec<Tensor> = model.takes().iter().map(|&takes| self.input(takes)).collect();
        let labels: Vec<i64> = self.golden.values("in.labels").into_iter().map(|id| id as i64).collect();
        let logits = model.forward(&inputs.iter().collect::<Vec<_>>()).unwrap();
        let loss = logits.cross_entropy(&labels, 0.0).unwrap();
        let gradients = loss.backward().unwrap();
        let read = |(name, parameter): (&str, &Tensor)| {
            Some((name.to_string(), gradients.get(parameter)?.to_vec().unwrap()))
        };
        Step {
            loss: loss.to_vec().unwrap()[0],
            gradients: parameters.iter().filter_map(read).collect(),
            statistics: training
                .take_statistics()
                .into_iter()
                .map(|(name, value)| (name, value.to_vec().unwrap()))
                .collect(),
        }
    }

    fn golden(&self, field: &str) -> Vec<f32> {
        self.golden.values(&format!("out.{}.{field}", self.name))
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

fn each_case(check: impl Fn(&Case)) {
    let Some(gpu) = gpu() else { return };
    let golden = Golden::open("eeg_training");
    for (name, case) in &golden.cases() {
        let config = Config::from_json("config.json", case["config"].to_string().as_bytes()).unwrap();
        check(&Case { gpu: &gpu, golden: &golden, name, case, config });
    }
}

#[test]
fn gradients_and_statistics_are_pytorchs() {
    each_case(|case| {
        let (name, step) = (case.name, case.step(&case.weights(), 0));
        let places: BTreeMap<String, Vec<usize>> =
            serde_json::from_value(case.case["gradients"].clone()).unwrap();
        assert_eq!(step.gradients.keys().collect::<Vec<_>>(), places.keys().collect::<Vec<_>>(), "{name}");
        let (norms, sampled) = (case.golden("norms"), case.golden("sampled"));
        let whole = norm(&norms);
        let mut sampled = sampled.into_iter();
        let mut worst = 0.0_f64;
        for ((parameter, gradient), want) in step.gradients.iter().zip(norms) {
            let want = f64::from(want);
            if want < 1e-9 * whole {
                // A bias that a norm of the batch takes away again: nothing is left but rounding.
                let got = norm(gradient);
                assert!(got <= 1e-5 * whole, "{name}.{parameter}: norm {got} for {want}");
                sampled.by_ref().take(places[parameter].len()).for_each(drop);
                continue;
            }
            let error = (norm(gradient) - want).abs() / want;
            assert!(error <= 1e-3, "{name}.{parameter}: norm {} for {want}", norm(gradient));
            worst = worst.max(error);
            // Relative to what an element of this gradient is like.
            let usual = want / (gradient.len() as f64).sqrt();
            for &place in &places[parameter] {
                let (got, want) = (f64::from(gradient[place]), f64::from(sampled.next().unwrap()));
                let error = (got - want).abs() / want.abs().max(usual);
                assert!(error <= 1e-3, "{name}.{parameter} at {place}: {got} for {want}");
                worst = worst.max(error);
            }
        }
        assert!(sampled.next().is_none());
        let statistics: Vec<String> = serde_json::from_value(case.case["statistics"].clone()).unwrap();
        assert_eq!(step.statistics.keys().cloned().collect::<Vec<_>>(), statistics, "{name}");
        if !statistics.is_empty() {
            let got: Vec<f32> = step.statistics.values().flat_map(|v| v.iter().take(5).copied()).collect();
            let error = relative_error(&got, &case.golden("statistics"));
            assert!(error <= 1e-5, "{name}: statistics {error:.1e}");
        }
        eprintln!("{name}: {} gradients, worst {worst:.1e}", step.gradients.len());
    });
}

/// AdamW (Loshchilov and Hutter 2019) as PyTorch writes it, in f64, for one tensor.
struct AdamW {
    first: Vec<f64>,
    second: Vec<f64>,
}

impl AdamW {
    fn step(&mut self, values: &mut [f32], gradient: &[f32], [rate, decay]: [f64; 2], number: i32) {
        let (b1, b2) = (0.9_f64, 0.999_f64);
        for (i, value) in values.iter_mut().enumerate() {
            let g = f64::from(gradient[i]);
            self.first[i] = b1 * self.first[i] + (1.0 - b1) * g;
            self.second[i] = b2 * self.second[i] + (1.0 - b2) * g * g;
            let mean = self.first[i] / (1.0 - b1.powi(number));
            let spread = (self.second[i] / (1.0 - b2.powi(number))).sqrt() + 1e-8;
            *value = (f64::from(*value) * (1.0 - rate * decay) - rate * mean / spread) as f32;
        }
    }
}

#[test]
fn twenty_steps_lose_as_in_pytorch() {
    let golden = Golden::open("eeg_training");
    let optimiser: Value = serde_json::from_str(&golden.file.metadata()["optimiser"]).unwrap();
    let number = |key: &str| optimiser[key].as_f64().unwrap();
    let rates = [number("learning_rate"), number("weight_decay")];
    each_case(|case| {
        let mut values = case.weights();
        let mut moments: BTreeMap<String, AdamW> = BTreeMap::new();
        let mut losses = Vec::new();
        for at in 0..number("steps") as u64 {
            let step = case.step(&values, at);
            losses.push(step.loss);
            for (name, gradient) in step.gradients {
                let n = gradient.len();
                let moments = moments
                    .entry(name.clone())
                    .or_insert_with(|| AdamW { first: vec![0.0; n], second: vec![0.0; n] });
                let (_, values) = values.get_mut(&name).unwrap();
                moments.step(values, &gradient, rates, at as i32 + 1);
            }
            for (name, statistic) in step.statistics {
                values.get_mut(&name).unwrap().1 = statistic;
            }
        }
        let error = relative_error(&losses, &case.golden("losses"));
        eprintln!("{}: losses {:.4} to {:.4}, {error:.1e}", case.name, losses[0], losses[losses.len() - 1]);
        assert!(error <= 1e-3, "{}: {losses:?} for {:?}", case.name, case.golden("losses"));
    });
}
