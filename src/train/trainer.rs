//! One step of training after another: micro-batches, clipping, loss scale, statistics, a new set of parameters.

use super::checkpoint::changes;
use super::optimizer::{Optimizer, matches};
use super::rates::Rates;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::nn::{self, Parameters, Precision, Training, Weights};
use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a run goes, whatever it trains.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Of dropout and of whatever else is drawn.
    pub seed: u64,
    /// Learning rate by step.
    pub rates: Rates,
    /// Most the norm of all gradients may be; larger ones are scaled down.
    pub clip_norm: Option<f64>,
    /// Micro-batches whose gradients are added up to one step.
    pub accumulate: usize,
    /// Compute in f16 with parameters in f32 and a loss scale, or all in f32.
    pub precision: Precision,
}

/// The loss scale f16 begins with, its bounds, and the steps without overflow until it doubles: PyTorch's `GradScaler`.
const FIRST_SCALE: f64 = 65_536.0;
const LARGEST_SCALE: f64 = 16_777_216.0;
const STEPS_TO_DOUBLE: u64 = 2000;

/// Parameters on their way.
pub struct Trainer {
    gpu: Gpu,
    parameters: Arc<Parameters>,
    optimizer: Optimizer,
    settings: Settings,
    steps: u64,
    scale: f64,
    steps_at_scale: u64,
}

/// What a step gives.
pub struct Stepped {
    /// Mean loss of its micro-batches, one number, on the device.
    pub loss: Tensor,
    /// `[2]`: norm of the gradients before they were clipped, and what they were scaled by; on the device.
    pub clip: Tensor,
    /// False when f16 overflowed: the loss scale went down, the parameters stayed.
    pub is_taken: bool,
}

impl Trainer {
    /// Before the first step. `parameters` that are [`Tensor::is_parameter`] learn.
    ///
    /// Errors: [`Error::Setting`] for settings that make no sense.
    pub fn new(
        gpu: &Gpu,
        parameters: Parameters,
        optimizer: Optimizer,
        settings: Settings,
    ) -> Result<Trainer> {
        settings.rates.check()?;
        if settings.accumulate == 0 {
            return Err(Error::setting("accumulate", "wanted at least 1, got 0"));
        }
        if settings.clip_norm.is_some_and(|norm| norm.is_nan() || norm <= 0.0) {
            let detail = format!("wanted above 0, got {}", settings.clip_norm.unwrap_or_default());
            return Err(Error::setting("clip-norm", detail));
        }
        let is_half = settings.precision == Precision::F16 && gpu.facts().features.f16;
        let scale = if is_half { FIRST_SCALE } else { 1.0 };
        let parameters = Arc::new(parameters);
        Ok(Trainer { gpu: gpu.clone(), parameters, optimizer, settings, steps: 0, scale, steps_at_scale: 0 })
    }

    /// One step: `loss` builds the model from the weights and runs it on micro-batch 0, 1, .. and returns one number.
    /// `rate` is multiplied with that of the settings: 1, or what a plateau says.
    ///
    /// Errors: whatever `loss` returns; what the optimizer refuses.
    pub fn step(
        &mut self,
        rate: f64,
        mut loss: impl FnMut(&Weights, usize) -> Result<Tensor>,
    ) -> Result<Stepped> {
        let n = self.settings.accumulate;
        let training = Arc::new(Training::new(self.settings.seed, self.steps));
        let (mut gradients, mut losses) = (BTreeMap::<String, Tensor>::new(), Vec::new());
        for micro in 0..n {
            let weights = Weights::from_parameters(
                &self.gpu,
                &self.parameters,
                self.settings.precision,
                Some(&training),
            );
            let loss = loss(&weights, micro)?;
            let scaled = loss.scale((self.scale / n as f64) as f32, 0.0)?;
            let mut found = scaled.backward()?;
            losses.push(loss.detach().cast(DType::F32)?.reshape(&[1])?);
            for (name, parameter) in self.parameters.iter() {
                let Some(gradient) = found.take(parameter) else { continue };
                let sum = match gradients.remove(name) {
                    Some(before) => before.add(&gradient)?,
                    None => gradient,
                };
                gradients.insert(name.to_string(), sum);
            }
        }
        if gradients.is_empty() {
            return Err(Error::shape("train", "the loss depends on no parameter that learns"));
        }
        let loss = Tensor::concat(&losses.iter().collect::<Vec<_>>(), 0)?.mean(&[0])?;
        let largest = self.settings.clip_norm.unwrap_or(f64::INFINITY);
        let clip = Tensor::clip(&gradients.values().collect::<Vec<_>>(), 1.0 / self.scale, largest)?;
        // A plan computes nothing that could overflow.
        let is_taken = self.scale == 1.0 || self.gpu.is_plan() || clip.to_vec()?[0].is_finite();
        if is_taken {
            let rate = rate * self.settings.rates.at(self.steps);
            let changed = self.optimizer.step(&self.parameters, &gradients, &clip, rate)?;
            let parameters = Arc::get_mut(&mut self.parameters).expect("the step's weights are gone");
            parameters.update(changed);
            parameters.update(training.take_statistics());
        }
        self.settle_scale(is_taken);
        self.steps += 1;
        Ok(Stepped { loss, clip, is_taken })
    }

    /// Halves the loss scale after an overflow, doubles it after many steps without.
    fn settle_scale(&mut self, is_taken: bool) {
        if self.scale == 1.0 && self.settings.precision != Precision::F16 {
            return;
        }
        self.steps_at_scale = if is_taken { self.steps_at_scale + 1 } else { 0 };
        if !is_taken {
            self.scale = (self.scale / 2.0).max(2.0);
        } else if self.steps_at_scale == STEPS_TO_DOUBLE && self.scale > 1.0 {
            (self.scale, self.steps_at_scale) = ((self.scale * 2.0).min(LARGEST_SCALE), 0);
        }
    }

    /// Weights as they are now, to run the model with: no gradients, no dropout, running statistics.
    pub fn weights(&self) -> Weights {
        self.weights_with(&BTreeMap::new())
    }

    /// The same with other tensors in the place of some parameters: an average, the best so far.
    pub fn weights_with(&self, others: &BTreeMap<String, Tensor>) -> Weights {
        let still = Arc::new(self.parameters.detached(others));
        Weights::from_parameters(&self.gpu, &still, self.settings.precision, None)
    }

    /// All tensors as they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// What the optimizer keeps.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Steps so far, skipped ones included.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How the run goes.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Loss scale, and steps since it last changed.
    pub fn scale(&self) -> (f64, u64) {
        (self.scale, self.steps_at_scale)
    }

    /// Goes on from a snapshot.
    ///
    /// Errors: [`Error::Shape`] when it is not of these parameters and this optimizer.
    pub fn restore(&mut self, snapshot: &super::Snapshot) -> Result<()> {
        let wrong = |detail: String| Error::shape("checkpoint", detail);
        let mut changed = Vec::new();
        for (name, tensor) in self.parameters.iter().filter(|(name, tensor)| changes(name, tensor)) {
            let (shape, values) = snapshot
                .model
                .get(name)
                .ok_or_else(|| wrong(format!("holds no '{name}'; is it of another model?")))?;
            if shape != tensor.shape() {
                let want = tensor.shape();
                return Err(wrong(format!("'{name}' is {shape:?}, this model's is {want:?}")));
            }
            let new = Tensor::new(&self.gpu, shape, values)?;
            changed.push((name.to_string(), if tensor.is_parameter() { new.parameter() } else { new }));
        }
        let state = snapshot
            .optimizer
            .iter()
            .map(|(name, (shape, values))| Ok((name.clone(), Tensor::new(&self.gpu, shape, values)?)));
        let state: BTreeMap<String, Tensor> = state.collect::<Result<_>>()?;
        let parameters = Arc::get_mut(&mut self.parameters).expect("no weights are about between steps");
        parameters.update(changed);
        self.optimizer.restore(snapshot.optimizer_steps, &self.parameters, state)?;
        (self.steps, self.scale, self.steps_at_scale) =
            (snapshot.steps, snapshot.scale, snapshot.steps_at_scale);
        Ok(())
    }
}

/// Values by name, as a snapshot or an initialisation has them -> parameters on the device. What is a statistic
/// (`running_mean`, `running_var`, `num_batches_tracked`) does not learn, nor what `trainable` leaves out: patterns of
/// names, of which one must match; none: everything learns.
///
/// Errors: [`Error::Setting`] for a pattern that matches nothing.
pub fn place(
    gpu: &Gpu,
    values: &BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    trainable: &[String],
) -> Result<Parameters> {
    if let Some(idle) = trainable.iter().find(|&pattern| !values.keys().any(|name| matches(pattern, name))) {
        return Err(Error::setting("trainable", format!("no parameter's name holds '{idle}'")));
    }
    let tensors = values.iter().map(|(name, (shape, values))| {
        let tensor = Tensor::new(gpu, shape, values)?;
        let learns = !nn::is_statistic(name)
            && (trainable.is_empty() || trainable.iter().any(|pattern| matches(pattern, name)));
        Ok((name.clone(), if learns { tensor.parameter() } else { tensor }))
    });
    Ok(Parameters::new(tensors.collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::super::optimizer::{Group, Rule};
    use super::super::rates::Course;
    use super::*;
    use crate::gpu::Options;
    use crate::nn::{BatchNorm, Dropout, Linear};
    use crate::testing::{gpu_with, random_from};

    #[test]
    fn a_thousand_steps_leave_no_buffer_behind() {
        let Some(gpu) = gpu_with(Options::default()) else { return };
        let make = |seed, shape: &[usize]| {
            Tensor::new(&gpu, shape, &random_from(seed, shape.iter().product(), 0.5)).unwrap()
        };
        let mut tensors = BTreeMap::new();
        for (seed, name, shape) in
            [(1, "0.weight", &[8, 6][..]), (2, "0.bias", &[8]), (3, "2.weight", &[3, 8]), (4, "2.bias", &[3])]
        {
            tensors.insert(name.to_string(), make(seed, shape).parameter());
        }
        for (name, value) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
            let tensor = Tensor::full(&gpu, &[8], DType::F32, value).unwrap();
            let learns = !name.starts_with("running_");
            tensors.insert(format!("1.{name}"), if learns { tensor.parameter() } else { tensor });
        }
        let rates = Rates { base: 1e-2, warmup: 0, course: Course::Constant };
        let settings =
            Settings { seed: 0, rates, clip_norm: Some(1.0), accumulate: 2, precision: Precision::F32 };
        let group = Group { pattern: String::new(), rate: 1.0, decay: 0.01 };
        let optimizer = Optimizer::new(Rule::ADAMW, vec![group]);
        let mut trainer = Trainer::new(&gpu, Parameters::new(tensors), optimizer, settings).unwrap();
        let x = make(5, &[5, 6]);
        let (mut held, mut losses) = (None, Vec::new());
        for step in 1..=1000 {
            let stepped = trainer
                .step(1.0, |weights, _| {
                    let y = Linear::load(&weights.at("0"), 6, 8)?.forward(&x)?;
                    let y = BatchNorm::load(&weights.at("1"), 8)?.forward(&y)?.elu()?;
                    let y = Dropout::new(0.25, weights).forward(&y)?;
                    let y = Linear::load(&weights.at("2"), 8, 3)?.forward(&y)?;
                    y.cross_entropy(&[0, 2, 1, 1, 0], 0.0)
                })
                .unwrap();
            if step % 100 == 0 {
                losses.push(stepped.loss.to_vec().unwrap()[0]);
                drop(stepped);
                assert_eq!(*held.get_or_insert(gpu.live_buffers()), gpu.live_buffers(), "after {step} steps");
            }
        }
        assert!(losses[9] < losses[0], "{losses:?}");
        drop((trainer, x));
        assert_eq!(gpu.live_buffers(), 0);
    }
}
