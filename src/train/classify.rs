//! Training of a classifier on one fold: `mindreel train classify` is this, unit by unit.
//!
//! ```text
//! Examples -> Fold -> Scaling -> epochs (checkpoint after each) -> best by validation -> test -> UnitResult
//! ```
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG-VP/EEG_VP_train_test.py` in what is trained; in how it is validated only
//! with [`Protocol::Original`].

use super::checkpoint::{Snapshot, Values};
use super::optimizer::{Group, Optimizer, Rule};
use super::rates::{Plateau, Rates};
use super::trainer::{self, Settings, Trainer};
use super::unit::Unit;
use crate::data::{Examples, Fold, Protocol, Scaling, Task};
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::Gpu;
use crate::models::{self, Config, EegModel, eeg_model};
use crate::nn::{self, Precision, Weights};
use crate::tensor::Tensor;
use crate::weights::random::splitmix64;
use crate::weights::{self, NewTensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// How every unit of a sweep is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Most passes over the training data.
    pub epochs: usize,
    /// Examples per step.
    pub batch_size: usize,
    /// How gradients become steps.
    pub rule: Rule,
    /// Learning rate by step.
    pub rates: Rates,
    /// Lowers the rate when validation stops rising.
    pub plateau: Option<Plateau>,
    /// Weight decay.
    pub decay: f64,
    /// Most the norm of the gradients may be.
    pub clip_norm: Option<f64>,
    /// Share of the target given to all classes alike.
    pub label_smoothing: f64,
    /// Epochs without a better validation that are waited for; 0: all epochs.
    pub patience: usize,
    /// Compute in f16 or f32.
    pub precision: Precision,
    /// Steps between checkpoints within an epoch; 0: after each epoch alone.
    pub checkpoint_steps: usize,
}

/// One epoch as it went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Mean over the epoch's steps.
    pub train_loss: f64,
    /// Cross-entropy on the validation set.
    pub validation_loss: f64,
    /// Share of validation windows told right.
    pub validation_accuracy: f64,
    /// At its last step.
    pub learning_rate: f64,
}

/// What a unit gives: enough for every score, and nothing that changes from run to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitResult {
    /// Which.
    pub unit: Unit,
    /// Classes of the task.
    pub n_classes: usize,
    /// Windows to learn from, choose by, and test.
    pub n_windows: [usize; 3],
    /// Parameters that learn.
    pub n_parameters: usize,
    /// Epoch whose weights were tested, from 0.
    pub best_epoch: usize,
    /// Every epoch.
    pub epochs: Vec<Epoch>,
    /// Share of test windows told right, and with the truth among the five likeliest.
    pub window_top1: f64,
    /// The same for the five likeliest.
    pub window_top5: f64,
    /// The tested clips, counted over the recording.
    pub clips: Vec<usize>,
    /// Their classes.
    pub truth: Vec<usize>,
    /// What the mean of their windows' logits says.
    pub predicted: Vec<usize>,
    /// Place of the truth among the classes, 0 the likeliest.
    pub rank: Vec<usize>,
}

impl UnitResult {
    /// Share of test clips with the truth among the `k` likeliest.
    pub fn top(&self, k: usize) -> f64 {
        self.rank.iter().filter(|&&rank| rank < k).count() as f64 / self.rank.len().max(1) as f64
    }
}

/// The state a run is in between two steps, beside parameters and optimizer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    unit: String,
    epoch: usize,
    /// Batches of the epoch that are done.
    position: usize,
    /// Losses of those.
    losses: Vec<f32>,
    epochs: Vec<Epoch>,
    best_epoch: usize,
    plateau: Option<[f64; 3]>,
}

/// Where a unit's files are, whether to go on from there, and who may stop it.
pub struct Place<'a> {
    /// Folder of the unit.
    pub folder: &'a Path,
    /// Go on from the checkpoint, if there is one.
    pub resume: bool,
    /// Raised to stop after the step under way.
    pub stop: &'a AtomicBool,
    /// Told after every step: epoch, step of the epoch, steps of an epoch.
    pub progress: &'a mut dyn FnMut(usize, usize, usize),
}

/// The name of a unit's checkpoint while it runs.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// The name of its result; where it is, the unit is finished.
pub const RESULT: &str = "result.json";

/// The config of a model for these sizes.
pub fn model_config(model: &str, task: Task, examples: &Examples, protocol: Protocol) -> Result<Config> {
    let mut config = serde_json::json!({
        "_class_name": model,
        "n_outputs": task.n_classes(),
        "n_chans": examples.rows,
    });
    let sizes = config.as_object_mut().expect("made as an object");
    // The attention of a network nobody has trained yet is scaled as attention is defined.
    if model == "Conformer" && protocol == Protocol::Clean {
        sizes.insert("attention_scale".into(), "head_dim".into());
    }
    let &Examples { rows, cols, samples, .. } = examples;
    if samples > 0 {
        sizes.insert("n_times".into(), samples.into());
    }
    if samples < cols {
        sizes.insert("n_features".into(), (rows * (cols - samples)).into());
    }
    Config::from_json("config.json", config.to_string().as_bytes())
}

/// Trains and tests one unit. `group` tells the block (or subject) of each example.
///
/// Errors: those of the model for sizes it cannot have; [`Error::Interrupted`] when stopped, with the checkpoint
/// written; [`Error::Shape`] when the loss is no number any more; [`Error::Write`].
pub fn run_unit(
    gpu: &Gpu,
    unit: &Unit,
    task: Task,
    examples: &Examples,
    group: &dyn Fn(usize) -> usize,
    fold: &Fold,
    recipe: &Recipe,
    place: &mut Place,
) -> Result<UnitResult> {
    let mut sets = [&fold.train, &fold.validation, &fold.test].map(|groups| {
        let chosen: Vec<usize> = (0..examples.len()).filter(|&at| groups.contains(&group(at))).collect();
        examples.pick(&chosen)
    });
    if let Some(nth) = sets.iter().position(Examples::is_empty) {
        let which = ["training", "validation", "test"][nth];
        return Err(Error::setting("task", format!("{}: the {which} set holds no example", unit.name())));
    }
    if unit.is_control {
        let [train, validation, _] = &mut sets;
        for (set, stream) in [(train, 1), (validation, 2)] {
            shuffle_labels(set, unit.seed, stream);
        }
    }
    let scaling = Scaling::fit(&sets[0])?;
    for (nth, set) in sets.iter_mut().enumerate() {
        match unit.protocol() {
            Protocol::Original if nth > 0 => Scaling::fit(set)?.apply(set)?,
            _ => scaling.apply(set)?,
        }
    }
    let config = model_config(&unit.model, task, examples, unit.protocol())?;
    let mut run = Run::new(gpu, unit, &config, recipe, &sets)?;
    run.train(place)?;
    let result = run.test(task)?;
    run.keep(place.folder, &config, &scaling)?;
    files::write_json(place.folder.join(RESULT), &result)?;
    // The result stands: what was only there to go on from is not needed any more.
    let checkpoint = place.folder.join(CHECKPOINT);
    match std::fs::remove_file(&checkpoint) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::write(&checkpoint)(error)),
        _ => Ok(result),
    }
}

/// A unit under way.
struct Run<'a> {
    unit: &'a Unit,
    config: &'a Config,
    recipe: &'a Recipe,
    sets: &'a [Examples; 3],
    trainer: Trainer,
    n_parameters: usize,
    best: Values,
    state: State,
    plateau: Option<Plateau>,
}

impl<'a> Run<'a> {
    fn new(
        gpu: &Gpu,
        unit: &'a Unit,
        config: &'a Config,
        recipe: &'a Recipe,
        sets: &'a [Examples; 3],
    ) -> Result<Run<'a>> {
        // The config is made of the examples: too few samples are a window too short.
        let wanted = models::architecture(&unit.model)?.wanted(config).map_err(|error| match error {
            Error::Format { path, detail } => match detail.strip_prefix("\"n_times\": ") {
                Some(samples) => Error::setting("window-s", samples),
                None => Error::format(path, detail),
            },
            other => other,
        })?;
        let initial = match unit.protocol() {
            Protocol::Clean => nn::initial(&wanted, unit.seed),
            Protocol::Original => nn::initial_xavier(&wanted, unit.seed),
        };
        let parameters = trainer::place(gpu, &initial, &[])?;
        let n_parameters = parameters.iter().filter(|(_, t)| t.is_parameter()).map(|(_, t)| t.len()).sum();
        let group = Group { pattern: String::new(), rate: 1.0, decay: recipe.decay };
        let settings = Settings {
            seed: unit.seed,
            rates: recipe.rates,
            clip_norm: recipe.clip_norm,
            accumulate: 1,
            precision: recipe.precision,
        };
        let trainer = Trainer::new(gpu, parameters, Optimizer::new(recipe.rule, vec![group]), settings)?;
        let state = State {
            unit: unit.name(),
            epoch: 0,
            position: 0,
            losses: Vec::new(),
            epochs: Vec::new(),
            best_epoch: 0,
            plateau: None,
        };
        let (best, plateau) = (Values::new(), recipe.plateau);
        Ok(Run { unit, config, recipe, sets, trainer, n_parameters, best, state, plateau })
    }

    /// Epoch after epoch, until the last one or until validation has not risen for long enough.
    fn train(&mut self, place: &mut Place) -> Result<()> {
        let checkpoint = place.folder.join(CHECKPOINT);
        if place.resume && checkpoint.exists() {
            self.restore(&checkpoint)?;
        }
        let n_batches = self.batches(0).len();
        while self.state.epoch < self.recipe.epochs && !self.is_over() {
            let batches = self.batches(self.state.epoch);
            let mut losses = Vec::new(); // on the device until someone asks
            while self.state.position < batches.len() {
                let share = self.plateau.map_or(1.0, |plateau| plateau.share);
                losses.push(self.step(&batches[self.state.position], share)?);
                self.state.position += 1;
                (place.progress)(self.state.epoch, self.state.position, n_batches);
                let stopped = place.stop.load(Ordering::SeqCst);
                let is_due = self.recipe.checkpoint_steps > 0
                    && self.trainer.steps().is_multiple_of(self.recipe.checkpoint_steps as u64);
                if (stopped || is_due) && self.state.position < batches.len() {
                    self.read_losses(&mut losses)?;
                    self.save(&checkpoint)?;
                }
                if stopped && self.state.position < batches.len() {
                    return Err(self.interrupted());
                }
            }
            self.read_losses(&mut losses)?;
            self.end_epoch()?;
            self.save(&checkpoint)?;
            if place.stop.load(Ordering::SeqCst) {
                return Err(self.interrupted());
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let waited = self.state.epoch.saturating_sub(self.state.best_epoch + 1);
        self.recipe.patience > 0 && waited >= self.recipe.patience
    }

    fn interrupted(&self) -> Error {
        Error::Interrupted(format!(
            "{} is kept at epoch {}; --resume goes on",
            self.unit.name(),
            self.state.epoch
        ))
    }

    /// Indices of each batch of an epoch: the same for the same seed. A rest of one example is left out: a batch norm
    /// learns nothing from it.
    fn batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        let order = shuffled(self.sets[0].len(), self.unit.seed, 16 + epoch as u64);
        let mut batches: Vec<Vec<usize>> =
            order.chunks(self.recipe.batch_size).map(<[usize]>::to_vec).collect();
        if batches.len() > 1 {
            batches.pop_if(|last| last.len() == 1);
        }
        batches
    }

    /// One step on these examples; the loss stays on the device.
    fn step(&mut self, indices: &[usize], rate: f64) -> Result<Tensor> {
        let batch = self.sets[0].pick(indices);
        let x = upload(self.trainer.gpu(), &batch)?;
        let x: Vec<&Tensor> = x.iter().collect();
        let ids: Vec<i64> = batch.labels.iter().map(|&label| label as i64).collect();
        let (config, smoothing, n_classes) =
            (self.config, self.recipe.label_smoothing, self.config.size("n_outputs")?);
        let loss = |weights: &Weights, _| {
            network(weights, config)?.scores(&x, n_classes)?.cross_entropy(&ids, smoothing)
        };
        Ok(self.trainer.step(rate, loss)?.loss)
    }

    /// Losses from the device to the state.
    ///
    /// Errors: [`Error::Shape`] at the first that is no number.
    fn read_losses(&mut self, losses: &mut Vec<Tensor>) -> Result<()> {
        if losses.is_empty() {
            return Ok(());
        }
        let refs: Vec<Tensor> = losses.drain(..).map(|loss| loss.reshape(&[1])).collect::<Result<_>>()?;
        let values = Tensor::concat(&refs.iter().collect::<Vec<_>>(), 0)?.to_vec()?;
        if let Some(at) = values.iter().position(|loss| !loss.is_finite()) {
            let (unit, epoch) = (self.unit.name(), self.state.epoch);
            let step = self.state.losses.len() + at;
            let detail = format!(
                "{unit}: the loss is {} at step {step} of epoch {epoch}; look for bad samples, or lower the learning rate",
                values[at]
            );
            return Err(Error::shape("train", detail));
        }
        self.state.losses.extend(values);
        Ok(())
    }

    fn end_epoch(&mut self) -> Result<()> {
        let logits = self.logits(&self.trainer.weights(), &self.sets[1])?;
        let (loss, accuracy) = score(&logits, &self.sets[1].labels);
        let losses = &self.state.losses;
        let train_loss = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len().max(1) as f64;
        let last = self.trainer.steps().saturating_sub(1);
        let share = self.plateau.map_or(1.0, |plateau| plateau.share);
        let epoch = Epoch {
            train_loss,
            validation_loss: loss,
            validation_accuracy: accuracy,
            learning_rate: self.recipe.rates.at(last) * share,
        };
        let is_better = self
            .state
            .epochs
            .get(self.state.best_epoch)
            .is_none_or(|best| (accuracy, -loss) > (best.validation_accuracy, -best.validation_loss));
        self.state.epochs.push(epoch);
        if is_better {
            self.state.best_epoch = self.state.epoch;
            let read = |tensor: &Tensor| Ok((tensor.shape().to_vec(), tensor.to_vec()?));
            let all = self.trainer.parameters().iter();
            self.best =
                all.map(|(name, tensor)| Ok((name.to_string(), read(tensor)?))).collect::<Result<_>>()?;
        }
        if let Some(plateau) = &mut self.plateau {
            plateau.see(accuracy);
        }
        self.state.epoch += 1;
        self.state.position = 0;
        self.state.losses.clear();
        Ok(())
    }

    /// `[n, classes]` of a set, in batches.
    fn logits(&self, weights: &Weights, set: &Examples) -> Result<Vec<Vec<f32>>> {
        let model = network(weights, self.config)?;
        let all: Vec<usize> = (0..set.len()).collect();
        let mut rows = Vec::with_capacity(set.len());
        for indices in all.chunks(self.recipe.batch_size) {
            let x = upload(self.trainer.gpu(), &set.pick(indices))?;
            let logits = model.forward(&x.iter().collect::<Vec<_>>())?;
            let n_classes = logits.dim(0);
            rows.extend(logits.to_vec()?.chunks(n_classes).map(<[f32]>::to_vec));
        }
        Ok(rows)
    }

    /// The best epoch's weights on the test set.
    fn test(&self, task: Task) -> Result<UnitResult> {
        let gpu = self.trainer.gpu();
        let tensors = self
            .best
            .iter()
            .map(|(name, (shape, values))| Ok((name.clone(), Tensor::new(gpu, shape, values)?)));
        let parameters = std::sync::Arc::new(nn::Parameters::new(tensors.collect::<Result<_>>()?));
        let weights = Weights::from_parameters(gpu, &parameters, self.recipe.precision, None);
        let set = &self.sets[2];
        let logits = self.logits(&weights, set)?;
        let ranks: Vec<usize> =
            logits.iter().zip(&set.labels).map(|(row, &label)| rank(row, label)).collect();
        let share = |k: usize| ranks.iter().filter(|&&rank| rank < k).count() as f64 / ranks.len() as f64;
        // Windows of a clip stand together: their mean is the clip's.
        let mut by_clip: BTreeMap<usize, (usize, Vec<f32>)> = BTreeMap::new();
        for ((row, &clip), &label) in logits.iter().zip(&set.clips).zip(&set.labels) {
            let sum = &mut by_clip.entry(clip).or_insert_with(|| (label, vec![0.0; row.len()])).1;
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        Ok(UnitResult {
            unit: self.unit.clone(),
            n_classes: task.n_classes(),
            n_windows: [0, 1, 2].map(|nth: usize| self.sets[nth].len()),
            n_parameters: self.n_parameters,
            best_epoch: self.state.best_epoch,
            epochs: self.state.epochs.clone(),
            window_top1: share(1),
            window_top5: share(5),
            clips: by_clip.keys().copied().collect(),
            truth: by_clip.values().map(|(label, _)| *label).collect(),
            predicted: by_clip.values().map(|(_, sum)| likeliest(sum)).collect(),
            rank: by_clip.values().map(|(label, sum)| rank(sum, *label)).collect(),
        })
    }

    /// The best weights as a checkpoint `mindreel forward` opens, the scaler beside them.
    fn keep(&self, folder: &Path, config: &Config, scaling: &Scaling) -> Result<()> {
        files::make_folder_atomically(&folder.join("model"), |folder| {
            config.write(folder.join("config.json"))?;
            let tensors = self
                .best
                .iter()
                .map(|(name, (shape, values))| NewTensor::from_f32(name.clone(), shape.clone(), values));
            weights::write(folder.join("model.safetensors"), tensors.collect(), &BTreeMap::new())?;
            let scaler = scaling.scaler();
            let [mean, scale] =
                [&scaler.mean, &scaler.scale].map(|v| v.iter().map(|&v| v as f32).collect::<Vec<_>>());
            let tensors = vec![
                NewTensor::from_f32("mean", [mean.len()], &mean),
                NewTensor::from_f32("scale", [scale.len()], &scale),
            ];
            weights::write(folder.join("scaler.safetensors"), tensors, &BTreeMap::new())
        })
    }

    fn save(&mut self, path: &Path) -> Result<()> {
        self.state.plateau = self.plateau.map(|p| [p.best, p.waited as f64, p.share]);
        let state = serde_json::to_value(&self.state).expect("numbers and names");
        Snapshot::of(&self.trainer, self.best.clone(), state)?.write(path)
    }

    fn restore(&mut self, path: &Path) -> Result<()> {
        let snapshot = Snapshot::read(path)?;
        let wrong =
            |detail: &str| Error::format(path, format!("{detail}; --force in place of --resume starts anew"));
        let state: State = serde_json::from_value(snapshot.state.clone())
            .map_err(|_| wrong("is a checkpoint of something else"))?;
        if state.unit != self.unit.name() {
            return Err(wrong(&format!("is of {}, this is {}", state.unit, self.unit.name())));
        }
        self.trainer.restore(&snapshot).map_err(|error| wrong(&error.to_string()))?;
        self.best = snapshot.best;
        if let (Some(plateau), Some([best, waited, share])) = (&mut self.plateau, state.plateau) {
            (plateau.best, plateau.waited, plateau.share) = (best, waited as u64, share);
        }
        self.state = state;
        Ok(())
    }
}

/// [batch, rows, samples] and [batch, rows, bands] on the device, where there are any.
fn upload(gpu: &Gpu, examples: &Examples) -> Result<Vec<Tensor>> {
    let &Examples { rows, cols, samples, .. } = examples;
    let whole = Tensor::new(gpu, &[examples.len(), rows, cols], &examples.data)?;
    match samples == 0 || samples == cols {
        true => Ok(vec![whole]),
        false => Ok(vec![whole.narrow(2, 0, samples)?, whole.narrow(2, samples, cols - samples)?]),
    }
}

/// Mean cross-entropy and share told right.
fn score(logits: &[Vec<f32>], labels: &[usize]) -> (f64, f64) {
    let (mut loss, mut right) = (0.0, 0);
    for (row, &label) in logits.iter().zip(labels) {
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|&v| f64::from(v - largest).exp()).sum();
        loss += sum.ln() - f64::from(row[label] - largest);
        right += usize::from(rank(row, label) == 0);
    }
    (loss / labels.len().max(1) as f64, right as f64 / labels.len().max(1) as f64)
}

/// Classes likelier than the truth; among equals the lower number is likelier.
pub(super) fn rank(row: &[f32], label: usize) -> usize {
    let truth = row[label];
    row.iter().enumerate().filter(|&(at, &v)| v > truth || (v == truth && at < label)).count()
}

fn likeliest(row: &[f32]) -> usize {
    (0..row.len()).find(|&at| rank(row, at) == 0).unwrap_or(0)
}

/// 0..n in an order of its own for each seed and stream (Fisher and Yates).
pub(super) fn shuffled(n: usize, seed: u64, stream: u64) -> Vec<usize> {
    let mut state = splitmix64(seed ^ splitmix64(stream));
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        state = splitmix64(state);
        let at = ((u128::from(state) * (last as u128 + 1)) >> 64) as usize;
        order.swap(last, at);
    }
    order
}

/// Gives every run of equal labels the label of another: windows and clips that stand together stay together, so that
/// nothing but the link between EEG and label is broken.
fn shuffle_labels(set: &mut Examples, seed: u64, stream: u64) {
    let mut runs: Vec<(usize, usize, usize)> = Vec::new(); // label, first, one past the last
    for (at, &label) in set.labels.iter().enumerate() {
        match runs.last_mut() {
            Some((known, _, end)) if *known == label => *end = at + 1,
            _ => runs.push((label, at, at + 1)),
        }
    }
    let order = shuffled(runs.len(), seed, stream);
    for (&(_, start, end), &other) in runs.iter().zip(&order) {
        set.labels[start..end].fill(runs[other].0);
    }
}

/// The network of a config; small models keep their activations in f32.
fn network(weights: &Weights, config: &Config) -> Result<EegModel> {
    eeg_model(&weights.with_full_activations(), config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_permutations_and_differ() {
        for n in [0, 1, 2, 17, 1000] {
            let mut order = shuffled(n, 3, 4);
            order.sort_unstable();
            assert!(order.iter().copied().eq(0..n));
        }
        assert_ne!(shuffled(50, 0, 16), shuffled(50, 0, 17));
        assert_ne!(shuffled(50, 0, 16), shuffled(50, 1, 16));
        assert_eq!(shuffled(50, 0, 16), shuffled(50, 0, 16));
        // Each place takes each value about as often.
        let mut counts = [[0; 4]; 4];
        for seed in 0..4000 {
            shuffled(4, seed, 0).iter().enumerate().for_each(|(at, &v)| counts[at][v] += 1);
        }
        assert!(counts.iter().flatten().all(|&n| (850..1150).contains(&n)), "{counts:?}");
    }

    #[test]
    fn ranks_and_scores() {
        let row = [0.5, 2.0, 2.0, -1.0];
        assert_eq!([0, 1, 2, 3].map(|label| rank(&row, label)), [2, 0, 1, 3]);
        assert_eq!(likeliest(&row), 1);
        let (loss, accuracy) = score(&[vec![0.0, 0.0], vec![3.0, 0.0]], &[1, 0]);
        let want = (2_f64.ln() + (1.0 + (-3_f64).exp()).ln()) / 2.0;
        assert!((loss - want).abs() < 1e-12 && accuracy == 0.5, "{loss} {accuracy}");
    }

    #[test]
    fn shuffled_labels_keep_their_runs() {
        let labels: Vec<usize> = (0..40).flat_map(|label| [label; 5]).collect();
        let mut set = Examples {
            data: vec![0.0; 200],
            rows: 1,
            cols: 1,
            samples: 1,
            labels: labels.clone(),
            clips: (0..200).collect(),
        };
        shuffle_labels(&mut set, 1, 2);
        assert_ne!(set.labels, labels);
        assert!(set.labels.chunks(5).all(|run| run.iter().all(|label| label == &run[0])));
        let mut sorted = set.labels.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, labels);
    }
}
