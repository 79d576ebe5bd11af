//! From the first step to the last: the loop that every `train` command but `classify` runs.
//!
//! ```text
//! Batches ─┐
//! Trainer ─┴─step─> log ─┬─ every so often: evaluate (with the average, where one is kept), keep the best
//!                        └─ every so often, at the end, on stop: snapshot.safetensors, log.csv, loss.png
//! ```
//!
//! A run that was stopped, or killed, goes on from its snapshot bit for bit: batches come from seed and counter, noise
//! from seed and step ([`Batches`], [`crate::nn::Training::draw`], [`Tensor::normal`]), and nothing else changes.
//!
//! ```no_run
//! # use mindreel::{error::Result, nn::Weights, tensor::Tensor, train::{Batches, Fit, Trainer, fit}};
//! # fn go(trainer: Trainer, folder: &std::path::Path, loss_of: impl Fn(&Weights, &[usize]) -> Result<Tensor>) -> Result<()> {
//! let batches = Batches { n: 1000, size: 32, seed: 0 };
//! let plan = fit::Plan { steps: 500, evaluate_every: 100, ema: Some(0.999), ..fit::Plan::default() };
//! let mut fit = Fit::new(trainer, plan)?;
//! let stop = std::sync::atomic::AtomicBool::new(false);
//! let mut place = fit::Place { folder, resume: true, stop: &stop, stop_after: None, progress: &mut |_| () };
//! fit.run(
//!     &mut place,
//!     &mut |weights, step, _micro| loss_of(weights, &batches.at(step)),
//!     &mut |weights, _step| Ok(vec![("validation_loss".into(), 0.0)]),
//! )?;
//! let values = fit.result()?; // for `write_model`
//! # Ok(())
//! # }
//! ```
//!
//! The moving average follows diffusers' `EMAModel`: its decay rises as (1 + n) / (10 + n).

use super::checkpoint::{Snapshot, Values, changes, read_back};
use super::classify::shuffled;
use super::log::{Log, Row};
use super::trainer::{Stepped, Trainer};
use crate::error::{Error, Result};
use crate::files;
use crate::nn::Weights;
use crate::tensor::Tensor;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a run goes on from.
pub const SNAPSHOT: &str = "snapshot.safetensors";

/// What follows a step, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps between looks at losses, which wait on the device until then.
    pub log_every: u64,
    /// Steps between snapshots; 0: at the end, and when stopped.
    pub snapshot_every: u64,
    /// Steps between evaluations, of which the last step is one; 0: none.
    pub evaluate_every: u64,
    /// Decay of a moving average of the parameters, which is then evaluated and kept in their place.
    pub ema: Option<f64>,
    /// Keep the parameters with the least value of this name among evaluations, not the last.
    pub best_by: Option<&'static str>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { steps: 1000, log_every: 10, snapshot_every: 0, evaluate_every: 0, ema: None, best_by: None }
    }
}

/// Where a run's files are, whether to go on from there, and who may stop it.
pub struct Place<'a> {
    /// Folder of the run, which is there.
    pub folder: &'a Path,
    /// Go on from the snapshot, if there is one.
    pub resume: bool,
    /// Raised to stop after the step under way.
    pub stop: &'a AtomicBool,
    /// Stop by itself after this many steps of this call.
    pub stop_after: Option<u64>,
    /// Told the steps done, after each and once before the first.
    pub progress: &'a mut dyn FnMut(u64),
}

/// The loss of weights at a step (from 0) and micro-batch: one number.
pub type Loss<'a> = &'a mut dyn FnMut(&Weights, u64, usize) -> Result<Tensor>;

/// Numbers by name, measured with weights after so many steps. Nothing in it may depend on when it is called.
pub type Evaluate<'a> = &'a mut dyn FnMut(&Weights, u64) -> Result<Vec<(String, f64)>>;

/// Which examples a step sees: by epochs, each in an order of its own; batches are full and go over the ends of epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Examples.
    pub n: usize,
    /// Examples of a batch.
    pub size: usize,
    /// Of the orders.
    pub seed: u64,
}

impl Batches {
    /// Indices of a batch by its number: the step, or step · accumulate + micro.
    pub fn at(&self, number: u64) -> Vec<usize> {
        let (n, first) = (self.n.max(1) as u64, number.saturating_mul(self.size as u64));
        let mut order = (u64::MAX, Vec::new());
        let index = |place: u64| {
            if order.0 != place / n {
                order = (place / n, shuffled(self.n, self.seed, 16 + place / n));
            }
            order.1.get((place % n) as usize).copied()
        };
        (first..first.saturating_add(self.size as u64)).filter_map(index).collect()
    }
}

/// A stream of [`Tensor::normal`] for a micro-batch by its number; `purpose` tells uses within one apart, below 256.
/// Layers draw from others ([`crate::nn::Training::draw`]).
pub fn stream(number: u64, purpose: u8) -> u64 {
    1 << 63 | number << 8 | u64::from(purpose)
}

/// A run.
pub struct Fit {
    trainer: Trainer,
    plan: Plan,
    log: Log,
    average: BTreeMap<String, Tensor>,
    best: Values,
    best_value: Option<f64>,
    /// Evaluations without a better one that are waited for; 0: all.
    patience: u64,
    /// Evaluations since the best.
    waited: u64,
    /// Steps whose losses are still on the device, with their rates.
    waiting: Vec<(Stepped, f64)>,
}

impl Fit {
    /// Before the first step.
    ///
    /// Errors: [`Error::Setting`] for a plan that makes no sense.
    pub fn new(trainer: Trainer, plan: Plan) -> Result<Fit> {
        if plan.steps == 0 || plan.log_every == 0 {
            let name = if plan.steps == 0 { "steps" } else { "log-steps" };
            return Err(Error::setting(name, "wanted at least 1, got 0"));
        }
        if let Some(decay) = plan.ema.filter(|decay| !(0.0..1.0).contains(decay)) {
            return Err(Error::setting("ema", format!("wanted 0 to below 1, got {decay}")));
        }
        if plan.best_by.is_some() && plan.evaluate_every == 0 {
            return Err(Error::setting(
                "validation-steps",
                "the best is kept by validation: wanted at least 1, got 0",
            ));
        }
        let average = match plan.ema {
            Some(_) => copies(&trainer),
            None => BTreeMap::new(),
        };
        let (log, best, waiting) = (Log::default(), Values::new(), Vec::new());
        Ok(Fit { trainer, plan, log, average, best, best_value: None, patience: 0, waited: 0, waiting })
    }

    /// Ends the run after so many evaluations without a better one of [`Plan::best_by`]; 0, as it begins: never.
    pub fn wait_for(&mut self, evaluations: u64) {
        self.patience = evaluations;
    }

    fn is_over(&self) -> bool {
        self.trainer.steps() >= self.plan.steps || (self.patience > 0 && self.waited >= self.patience)
    }

    /// What it runs.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// What was said of its steps.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Step after step until the last.
    ///
    /// Errors: what `loss` and `evaluate` return; [`Error::Shape`] when a loss is no number; [`Error::Interrupted`]
    /// when stopped, with a snapshot; [`Error::Format`] for a snapshot of another run; [`Error::Write`].
    pub fn run(&mut self, place: &mut Place, loss: Loss, evaluate: Evaluate) -> Result<()> {
        let snapshot = place.folder.join(SNAPSHOT);
        if place.resume && snapshot.exists() {
            self.restore(&snapshot)?;
        }
        self.log = Log::begin(place.folder, self.trainer.steps())?;
        let end = place.stop_after.map_or(u64::MAX, |n| self.trainer.steps().saturating_add(n));
        (place.progress)(self.trainer.steps());
        while !self.is_over() {
            let step = self.trainer.steps();
            let rate = self.trainer.settings().rates.at(step);
            let stepped = self.trainer.step(1.0, |weights, micro| loss(weights, step, micro))?;
            if stepped.is_taken {
                self.follow()?;
            }
            self.waiting.push((stepped, rate));
            let done = step + 1;
            (place.progress)(done);
            let is_due = |every: u64| every > 0 && done.is_multiple_of(every);
            let ends = done == self.plan.steps;
            let evaluates = is_due(self.plan.evaluate_every) || (ends && self.plan.evaluate_every > 0);
            let stops = place.stop.load(Ordering::SeqCst) || done >= end;
            if !(evaluates
                || stops
                || ends
                || is_due(self.plan.snapshot_every)
                || is_due(self.plan.log_every))
            {
                continue;
            }
            self.settle()?;
            if evaluates {
                let numbers = evaluate(&self.weights(), done)?;
                self.weigh(&numbers)?;
                self.log.add(numbers);
            }
            let is_last = self.is_over();
            let keeps = is_due(self.plan.snapshot_every) || stops || is_last;
            self.log.append(place.folder)?;
            if keeps {
                self.save(&snapshot)?;
                self.log.finish(place.folder)?;
            }
            if stops && !is_last {
                let steps = self.plan.steps;
                let kept =
                    format!("step {done} of {steps} is kept in {}; --resume goes on", snapshot.display());
                return Err(Error::Interrupted(kept));
            }
        }
        Ok(())
    }

    /// A step that is neither logged nor kept: to reckon memory on a plan.
    ///
    /// Errors: what `loss` returns.
    pub fn rehearse(&mut self, loss: Loss) -> Result<()> {
        let step = self.trainer.steps();
        self.trainer.step(1.0, |weights, micro| loss(weights, step, micro))?;
        self.follow()
    }

    /// Weights to run the model with as it stands: the average where one is kept.
    pub fn weights(&self) -> Weights {
        self.trainer.weights_with(&self.average)
    }

    /// What the run is for: the best parameters, or the average, or the last, with statistics; what was frozen is not
    /// among them.
    ///
    /// Errors: [`Error::Device`].
    pub fn result(&self) -> Result<Values> {
        if !self.best.is_empty() {
            return Ok(self.best.clone());
        }
        let parameters = self.trainer.parameters().iter();
        let changing = parameters.filter(|(name, tensor)| changes(name, tensor));
        read_back(changing.map(|(name, tensor)| (name, self.average.get(name).unwrap_or(tensor))))
    }

    /// Losses from the device to the log.
    fn settle(&mut self) -> Result<()> {
        let first = self.trainer.steps() - self.waiting.len() as u64;
        let numbers: Vec<Tensor> = self
            .waiting
            .iter()
            .flat_map(|(stepped, _)| [stepped.loss.reshape(&[1]), stepped.clip.narrow(0, 0, 1)])
            .collect::<Result<_>>()?;
        let mut numbers =
            numbers.chunks(CHUNK).map(|some| Tensor::concat(&some.iter().collect::<Vec<_>>(), 0)?.to_vec());
        let numbers: Vec<f32> = numbers.try_fold(Vec::new(), |mut all, some| {
            all.extend(some?);
            Ok::<_, Error>(all)
        })?;
        for (nth, ((_, rate), numbers)) in self.waiting.drain(..).zip(numbers.chunks(2)).enumerate() {
            let (step, [loss, norm]) = (first + nth as u64 + 1, [numbers[0], numbers[1]].map(f64::from));
            if !loss.is_finite() {
                let detail = format!(
                    "the loss is {loss} at step {step}; look for bad samples, or lower the learning rate"
                );
                return Err(Error::shape("train", detail));
            }
            let gradient_norm = if norm.is_finite() { norm } else { f64::NAN };
            self.log.push(Row { step, loss, rate, gradient_norm, more: Vec::new() });
        }
        Ok(())
    }

    /// Moves the average towards the parameters.
    fn follow(&mut self) -> Result<()> {
        let Some(decay) = self.plan.ema else { return Ok(()) };
        let n = self.trainer.optimizer().steps() as f64;
        let decay = decay.min((1.0 + n) / (10.0 + n));
        for (name, average) in &mut self.average {
            let now = self.trainer.parameters().get(name).expect("copied from there").detach();
            *average = Tensor::combine(&[(average, decay), (&now, 1.0 - decay)])?;
        }
        Ok(())
    }

    /// Keeps the parameters if they are the best so far.
    fn weigh(&mut self, numbers: &[(String, f64)]) -> Result<()> {
        let Some(name) = self.plan.best_by else { return Ok(()) };
        let value = numbers.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
        let value = value.ok_or_else(|| Error::setting("best", format!("no '{name}' was measured")))?;
        self.waited += 1;
        if self.best_value.is_none_or(|best| value < best) {
            self.best.clear();
            self.best = self.result()?;
            (self.best_value, self.waited) = (Some(value), 0);
        }
        Ok(())
    }

    fn save(&self, path: &Path) -> Result<()> {
        let mut snapshot = Snapshot::of(
            &self.trainer,
            self.best.clone(),
            json!({ "best_value": self.best_value, "waited": self.waited }),
        )?;
        snapshot.average = read_back(self.average.iter())?;
        snapshot.write(path)
    }

    fn restore(&mut self, path: &Path) -> Result<()> {
        files::sweep(path.parent().unwrap_or(Path::new(".")))?;
        let snapshot = Snapshot::read(path)?;
        let wrong =
            |detail: &str| Error::format(path, format!("{detail}; --force in place of --resume starts anew"));
        self.trainer.restore(&snapshot).map_err(|error| wrong(&error.to_string()))?;
        if snapshot.steps > self.plan.steps {
            return Err(wrong(&format!("is at step {} of {}", snapshot.steps, self.plan.steps)));
        }
        for (name, average) in &mut self.average {
            let kept = snapshot.average.get(name).filter(|(shape, _)| shape == average.shape());
            let (shape, values) = kept.ok_or_else(|| wrong(&format!("holds no average of '{name}'")))?;
            *average = Tensor::new(self.trainer.gpu(), shape, values)?;
        }
        self.best = snapshot.best;
        let kept = |name: &str| snapshot.state.get(name);
        self.best_value = kept("best_value").and_then(serde_json::Value::as_f64);
        self.waited = kept("waited").and_then(serde_json::Value::as_u64).unwrap_or(0);
        Ok(())
    }
}

/// Numbers joined in one read.
const CHUNK: usize = 256;

/// The parameters that learn, as an average begins.
fn copies(trainer: &Trainer) -> BTreeMap<String, Tensor> {
    let learning = trainer.parameters().iter().filter(|(_, tensor)| tensor.is_parameter());
    learning.map(|(name, tensor)| (name.to_string(), tensor.detach())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::optimizer::{Group, Optimizer, Rule};
    use super::super::rates::{Course, Rates};
    use super::super::trainer::Settings;
    use super::*;
    use crate::gpu::Gpu;
    use crate::nn::{Parameters, Precision, loss};
    use crate::testing::{gpu, random_from};

    #[test]
    fn batches_show_every_example_as_often() {
        let batches = Batches { n: 10, size: 4, seed: 3 };
        let mut seen = [0; 10];
        (0..5).flat_map(|number| batches.at(number)).for_each(|at| seen[at] += 1);
        assert_eq!(seen, [2; 10]);
        assert_eq!(batches.at(7), batches.at(7));
        assert_ne!(batches.at(0), Batches { seed: 4, ..batches }.at(0));
        // A batch may be larger than the set.
        assert_eq!(Batches { n: 3, size: 7, seed: 0 }.at(1).len(), 7);
    }

    fn make(gpu: &Gpu) -> Trainer {
        let weight = Tensor::new(gpu, &[4, 8], &random_from(1, 32, 0.5)).unwrap().parameter();
        let frozen = Tensor::new(gpu, &[1, 4], &random_from(2, 4, 0.5)).unwrap();
        let tensors = BTreeMap::from([("weight".to_string(), weight), ("frozen".to_string(), frozen)]);
        let rates = Rates { base: 0.05, warmup: 2, course: Course::Constant };
        let settings =
            Settings { seed: 0, rates, clip_norm: Some(1.0), accumulate: 2, precision: Precision::F32 };
        let group = Group { pattern: String::new(), rate: 1.0, decay: 0.01 };
        let optimizer = Optimizer::new(Rule::ADAMW, vec![group]);
        Trainer::new(gpu, Parameters::new(tensors), optimizer, settings).unwrap()
    }

    fn run(gpu: &Gpu, folder: &Path, resume: bool, stop_after: Option<u64>) -> Result<Values> {
        let batches = Batches { n: 6, size: 2, seed: 5 };
        let plan = Plan {
            steps: 9,
            log_every: 4,
            snapshot_every: 2,
            evaluate_every: 3,
            ema: Some(0.9),
            best_by: Some("validation_loss"),
        };
        let mut fit = Fit::new(make(gpu), plan)?;
        let all = Tensor::new(gpu, &[6, 8], &random_from(3, 48, 1.0))?;
        let loss_of = |weights: &Weights, rows: &[usize]| {
            let rows: Vec<Tensor> = rows.iter().map(|&row| all.narrow(0, row, 1)).collect::<Result<_>>()?;
            let x = Tensor::concat(&rows.iter().collect::<Vec<_>>(), 0)?;
            let y = x.matmul(&weights.tensor("weight", &[4, 8])?, true)?;
            loss::mse(&y, &weights.tensor("frozen", &[1, 4])?.expand(y.shape())?)
        };
        let stop = AtomicBool::new(false);
        let mut told = Vec::new();
        let mut progress = |done| told.push(done);
        let mut place = Place { folder, resume, stop: &stop, stop_after, progress: &mut progress };
        fit.run(
            &mut place,
            &mut |weights, step, micro| loss_of(weights, &batches.at(2 * step + micro as u64)),
            &mut |weights, _| {
                let all: Vec<usize> = (0..6).collect();
                Ok(vec![("validation_loss".into(), loss_of(weights, &all)?.to_vec()?[0].into())])
            },
        )?;
        assert_eq!(told.last(), Some(&9));
        let losses: Vec<f64> = fit.log().values("loss").map(|(_, loss)| loss).collect();
        assert!(losses.len() == 9 && losses[8] < losses[0], "{losses:?}");
        fit.result()
    }

    #[test]
    fn a_run_in_pieces_is_the_run() {
        let Some(gpu) = gpu() else { return };
        let [whole, pieces] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let want = run(&gpu, whole.path(), false, None).unwrap();
        assert_eq!(want.keys().collect::<Vec<_>>(), ["weight"], "what is frozen is not kept");
        for after in [1, 3, 4] {
            let error = run(&gpu, pieces.path(), true, Some(after)).unwrap_err();
            assert_eq!(error.exit_code(), 130, "{error}");
        }
        assert_eq!(run(&gpu, pieces.path(), true, None).unwrap(), want);
        for file in [SNAPSHOT, "log.jsonl", "log.csv"] {
            let read = |folder: &tempfile::TempDir| std::fs::read(folder.path().join(file)).unwrap();
            assert!(read(&whole) == read(&pieces), "{file} differs");
        }
        // Once through, nothing is left to do.
        assert_eq!(run(&gpu, pieces.path(), true, None).unwrap(), want);
    }

    #[test]
    fn plans_that_make_no_sense_are_refused() {
        let gpu = Gpu::plan();
        let make = || {
            let tensors = BTreeMap::from([(
                "a".to_string(),
                Tensor::zeros(&gpu, &[2], crate::tensor::DType::F32).unwrap(),
            )]);
            let rates = Rates { base: 0.1, warmup: 0, course: Course::Constant };
            let settings =
                Settings { seed: 0, rates, clip_norm: None, accumulate: 1, precision: Precision::F32 };
            Trainer::new(&gpu, Parameters::new(tensors), Optimizer::new(Rule::SGD, vec![]), settings).unwrap()
        };
        let code = |plan: Plan| Fit::new(make(), plan).err().map(|error| error.exit_code());
        assert_eq!(code(Plan::default()), None);
        assert_eq!(code(Plan { steps: 0, ..Plan::default() }), Some(2));
        assert_eq!(code(Plan { log_every: 0, ..Plan::default() }), Some(2));
        assert_eq!(code(Plan { ema: Some(1.0), ..Plan::default() }), Some(2));
        assert_eq!(code(Plan { best_by: Some("x"), ..Plan::default() }), Some(2));
    }
}
