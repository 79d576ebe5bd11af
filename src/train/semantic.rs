//! Training of whatever stands in `semantic/`: EEG features or windows to text embeddings, by mean squared error.
//!
//! ```text
//! example of clip i ──model──> [tokens, width]  ~  row of the table for clip i (or its class)
//! ```
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG2Video_New/Semantic/eeg_text.py` with [`Targets::Original`]: there the first
//! caption of a class in a block stands for all five, and captions of every block are put in order by block 0's order
//! of classes, so that in other blocks a clip is paired with the caption of another class. The authors first train on
//! class numbers instead of EEG; `pretrain_steps` does.
//!
//! What is held out is scored by the mean squared error, the cosine of whole embeddings, and how often the class's own
//! embedding is the nearest (or among the five nearest) of the forty by cosine; beside it the same predictions paired
//! with the texts of other clips, and what always predicting the mean gives.

use super::classify::shuffled;
use super::fit::Batches;
use super::heads::{Sets, draw};
use crate::data::TextTable;
use crate::error::{Error, Result};
use crate::generate::by_clip;
use crate::gpu::Gpu;
use crate::models::{SemanticModel, SemanticModelConfig};
use crate::nn::{Weights, loss};
use crate::signal::seed_dv::{BLOCK_CLIPS, CLASSES};
use crate::signal::segments::CLIPS;
use crate::tensor::Tensor;
use serde::Serialize;

/// Which text belongs to a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Its own, or that of its class.
    Own,
    /// The original's pairing, described above.
    Original,
}

/// How it learns, beside what every run has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Examples of a step.
    pub batch_size: usize,
    /// Of order and draws.
    pub seed: u64,
    /// Share of examples that are mixed with another one, EEG and text alike, in a share drawn for each.
    pub mixup: f64,
    /// First steps on class numbers (from 1) in the place of every EEG value.
    pub pretrain_steps: u64,
    /// Which text belongs to a clip.
    pub targets: Targets,
}

/// Measures of predicted embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Mean squared error.
    pub mse: f64,
    /// Mean cosine of whole embeddings.
    pub cosine: f64,
    /// Share of clips whose class's embedding is the nearest of the forty by cosine.
    pub top1: f64,
    /// Share with it among the five nearest.
    pub top5: f64,
}

/// What is said of a trained predictor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Clips scored; none of them was learnt from.
    pub n_clips: usize,
    /// Scores of the predictions.
    pub scores: Scores,
    /// The same predictions, each beside the text of another clip drawn at random.
    pub shuffled_pairs: Scores,
    /// Mean squared error of predicting the mean of the training texts.
    pub mean_embedding_mse: f64,
    /// Of guessing.
    pub chance_top1: f64,
    /// Of guessing.
    pub chance_top5: f64,
}

/// A predictor's training data.
pub struct Semantic {
    gpu: Gpu,
    config: SemanticModelConfig,
    sets: Sets,
    table: TextTable,
    recipe: Recipe,
    /// Class of each training clip.
    train_classes: Vec<usize>,
    /// Row of the table for each training clip.
    train_rows: Vec<usize>,
    /// Class of each validation clip.
    classes: Vec<usize>,
    /// Row of the table for each validation clip.
    rows: Vec<usize>,
    /// Embedding of each class: its row, or the mean of those of its training clips.
    prototypes: Vec<f32>,
}

impl Semantic {
    /// `classes` are those of all clips of the recording, from 0.
    ///
    /// Errors: [`Error::Shape`] when the table's embeddings are not what the model gives, or lack a clip.
    pub fn new(
        gpu: &Gpu,
        config: SemanticModelConfig,
        sets: Sets,
        table: TextTable,
        classes: &[usize],
        recipe: Recipe,
    ) -> Result<Semantic> {
        if config.output_shape != [table.tokens, table.width] {
            let detail = format!(
                "the model gives {:?}, the texts are [{}, {}]",
                config.output_shape, table.tokens, table.width
            );
            return Err(Error::shape("semantic", detail));
        }
        let class_of = |clip: usize| {
            let detail = || format!("no class is known of clip {clip}");
            classes.get(clip).copied().ok_or_else(|| Error::shape("semantic", detail()))
        };
        let row = |clip: &usize| table.row_of(*clip, class_of(*clip)?);
        let taught = |clip: &usize| match recipe.targets {
            Targets::Own => row(clip),
            Targets::Original => row(&original_text(*clip, classes)),
        };
        let train_rows: Vec<usize> = sets.train_clips.iter().map(taught).collect::<Result<_>>()?;
        let rows = sets.validation_clips.iter().map(row).collect::<Result<_>>()?;
        let of = |clips: &[usize]| clips.iter().map(|&clip| class_of(clip)).collect::<Result<Vec<_>>>();
        let (train_classes, classes) = (of(&sets.train_clips)?, of(&sets.validation_clips)?);
        let own: Vec<usize> = sets.train_clips.iter().map(row).collect::<Result<_>>()?;
        let prototypes = prototypes(&table, &train_classes, &own);
        let gpu = gpu.clone();
        Ok(Semantic {
            gpu,
            config,
            sets,
            table,
            recipe,
            train_classes,
            train_rows,
            classes,
            rows,
            prototypes,
        })
    }

    /// What it is trained on.
    pub fn sets(&self) -> &Sets {
        &self.sets
    }

    /// The loss of a micro-batch: its number over the run, and the step it belongs to.
    ///
    /// Errors: those of the model.
    pub fn loss(&self, weights: &Weights, step: u64, number: u64) -> Result<Tensor> {
        let Recipe { batch_size, seed, mixup, pretrain_steps, .. } = self.recipe;
        let batches = Batches { n: self.sets.train.len(), size: batch_size, seed };
        let indices = batches.at(number);
        let size: usize = self.sets.train.shape.iter().product();
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for (nth, &at) in indices.iter().enumerate() {
            let clip = self.sets.train.clips[at];
            if step < pretrain_steps {
                let class = self.train_classes[clip];
                x.resize(x.len() + size, (class + 1) as f32);
                y.extend_from_slice(self.prototype(class));
                continue;
            }
            let place = number * batch_size as u64 + nth as u64;
            let (example, text) = (self.sets.train.example(at), self.table.row(self.train_rows[clip]));
            if draw(seed, "mixup", place) >= mixup {
                x.extend_from_slice(example);
                y.extend_from_slice(text);
                continue;
            }
            let other = (draw(seed, "partner", place) * self.sets.train.len() as f64) as usize;
            let share = draw(seed, "share", place) as f32;
            let mix = |a: &[f32], b: &[f32], into: &mut Vec<f32>| {
                into.extend(a.iter().zip(b).map(|(a, b)| share * a + (1.0 - share) * b));
            };
            mix(example, self.sets.train.example(other), &mut x);
            mix(text, self.table.row(self.train_rows[self.sets.train.clips[other]]), &mut y);
        }
        let shape = [&[indices.len()], &self.sets.train.shape[..]].concat();
        let x = Tensor::new(&self.gpu, &shape, &x)?;
        let y = Tensor::new(&self.gpu, &[indices.len(), self.table.tokens, self.table.width], &y)?;
        loss::mse(&self.model(weights)?.forward(&x)?, &y)
    }

    /// Scores of the validation clips.
    ///
    /// Errors: those of the model.
    pub fn scores(&self, weights: &Weights) -> Result<Scores> {
        let own: Vec<usize> = (0..self.rows.len()).collect();
        Ok(self.compare(&self.predictions(weights)?, &own))
    }

    /// Scores with their controls.
    ///
    /// Errors: those of the model.
    pub fn report(&self, weights: &Weights) -> Result<Report> {
        let predictions = self.predictions(weights)?;
        let n = self.rows.len();
        let own: Vec<usize> = (0..n).collect();
        let mut mean = vec![0.0_f64; self.table.tokens * self.table.width];
        for &row in &self.train_rows {
            mean.iter_mut().zip(self.table.row(row)).for_each(|(mean, &v)| *mean += f64::from(v));
        }
        let mean: Vec<f32> = mean.iter().map(|sum| (sum / self.train_rows.len() as f64) as f32).collect();
        let mean_embedding_mse =
            self.rows.iter().map(|&row| mse(&mean, self.table.row(row))).sum::<f64>() / n as f64;
        Ok(Report {
            n_clips: n,
            scores: self.compare(&predictions, &own),
            shuffled_pairs: self.compare(&predictions, &shuffled(n, self.recipe.seed, 2)),
            mean_embedding_mse,
            chance_top1: 1.0 / CLASSES as f64,
            chance_top5: 5.0 / CLASSES as f64,
        })
    }

    fn model(&self, weights: &Weights) -> Result<SemanticModel> {
        SemanticModel::load(&weights.with_full_activations(), &self.config)
    }

    /// `[validation clips, tokens, width]`.
    fn predictions(&self, weights: &Weights) -> Result<Vec<f32>> {
        let model = self.model(weights)?;
        by_clip(&self.gpu, &self.sets.validation, self.rows.len(), &|x| model.forward(x))
    }

    fn prototype(&self, class: usize) -> &[f32] {
        let size = self.table.tokens * self.table.width;
        &self.prototypes[class * size..(class + 1) * size]
    }

    /// Predictions beside the texts of the clips that `pairs` names.
    fn compare(&self, predictions: &[f32], pairs: &[usize]) -> Scores {
        let size = self.table.tokens * self.table.width;
        let (mut scores, n) = (Scores { mse: 0.0, cosine: 0.0, top1: 0.0, top5: 0.0 }, pairs.len() as f64);
        for (prediction, &pair) in predictions.chunks_exact(size).zip(pairs) {
            let text = self.table.row(self.rows[pair]);
            scores.mse += mse(prediction, text) / n;
            scores.cosine += cosine(prediction, text) / n;
            let near: Vec<f64> =
                (0..CLASSES).map(|class| cosine(prediction, self.prototype(class))).collect();
            let truth = self.classes[pair];
            let nearer = (0..CLASSES)
                .filter(|&c| near[c] > near[truth] || (near[c] == near[truth] && c < truth))
                .count();
            scores.top1 += f64::from(u8::from(nearer < 1));
            scores.top5 += f64::from(u8::from(nearer < 5));
        }
        Scores { top1: scores.top1 / n, top5: scores.top5 / n, ..scores }
    }
}

/// The clip whose caption the original teaches for a clip: the first one of the slot that shows its class in block 0,
/// in the clip's own block.
fn original_text(clip: usize, classes: &[usize]) -> usize {
    let (block, class) = (clip / BLOCK_CLIPS, classes[clip]);
    let slot = (0..BLOCK_CLIPS / CLIPS).find(|slot| classes[slot * CLIPS] == class).unwrap_or(0);
    block * BLOCK_CLIPS + slot * CLIPS
}

/// Embedding of each class; zeros for one that no training clip shows.
fn prototypes(table: &TextTable, classes: &[usize], rows: &[usize]) -> Vec<f32> {
    let size = table.tokens * table.width;
    if table.is_by_class() {
        return (0..CLASSES).flat_map(|class| table.row(class)).copied().collect();
    }
    let (mut sums, mut counts) = (vec![0.0_f64; CLASSES * size], [0.0_f64; CLASSES]);
    for (&class, &row) in classes.iter().zip(rows) {
        counts[class] += 1.0;
        sums[class * size..][..size]
            .iter_mut()
            .zip(table.row(row))
            .for_each(|(sum, &v)| *sum += f64::from(v));
    }
    sums.iter().enumerate().map(|(at, sum)| (sum / counts[at / size].max(1.0)) as f32).collect()
}

fn mse(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>() / a.len() as f64
}

/// Cosine of two embeddings as one vector each; 0 where one is nothing.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_pairs_by_the_order_of_block_0() {
        // Class of slot s: s in block 0, 39 - s in block 1.
        let classes: Vec<usize> =
            (0..400).map(|clip| if clip < 200 { clip / 5 } else { 39 - (clip - 200) / 5 }).collect();
        assert_eq!(original_text(13, &classes), 10, "the first of its own slot");
        // Clip 203 shows class 39, which stands in slot 39 of block 0.
        assert_eq!(original_text(203, &classes), 200 + 195);
        assert_ne!(classes[original_text(203, &classes)], classes[203]);
    }

    #[test]
    fn prototypes_are_rows_or_means() {
        let values: Vec<f32> = (0..400).map(|i| i as f32).collect();
        let table = TextTable::new([1, 2], values, vec![0.0; 2]).unwrap();
        let found = prototypes(&table, &[3, 3, 0], &[0, 2, 9]);
        assert_eq!(
            (&found[6..8], &found[..2], &found[2..4]),
            (&[2.0, 3.0][..], &[18.0, 19.0][..], &[0.0; 2][..])
        );
        assert_eq!(cosine(&[1.0, 1.0], &[2.0, 2.0]), 1.0);
        assert_eq!((cosine(&[0.0], &[1.0]), mse(&[1.0, 3.0], &[1.0, 1.0])), (0.0, 2.0));
    }
}
