//! Training of the classifier of motion: EEG of a clip to slow or fast, where fast is an optical flow of at least the
//! median of the training clips.

use super::classify::{rank, shuffled};
use super::fit::Batches;
use super::heads::Sets;
use crate::error::{Error, Result};
use crate::generate::by_clip;
use crate::gpu::Gpu;
use crate::models::{Config, eeg_model};
use crate::nn::Weights;
use crate::tensor::Tensor;
use serde::Serialize;

/// What is said of a trained classifier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Clips scored; none of them was learnt from.
    pub n_clips: usize,
    /// Optical flow from which a clip is fast.
    pub fast_from_flow: f64,
    /// Share of clips told right.
    pub accuracy: f64,
    /// Of always giving the more frequent answer.
    pub majority_chance: f64,
    /// Of the same answers, each beside another clip drawn at random.
    pub shuffled_pairs_accuracy: f64,
}

/// A classifier's training data.
pub struct Dynamics {
    gpu: Gpu,
    config: Config,
    sets: Sets,
    batch_size: usize,
    seed: u64,
    threshold: f64,
    /// Whether each training and validation clip is fast.
    labels: [Vec<usize>; 2],
}

/// The flow in the middle: of an even number, the upper of the two. `None` without any.
pub fn median(flows: &[f64]) -> Option<f64> {
    let mut sorted = flows.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

impl Dynamics {
    /// `flows` are those of all clips of the recording.
    ///
    /// Errors: [`Error::Shape`] when a clip's flow is missing, or all training clips move alike.
    pub fn new(
        gpu: &Gpu,
        config: Config,
        sets: Sets,
        flows: &[f64],
        [batch_size, seed]: [u64; 2],
    ) -> Result<Dynamics> {
        let of = |clips: &[usize]| -> Result<Vec<f64>> {
            let flow = |&clip: &usize| {
                let missing = || Error::shape("dynamics", format!("no flow is known of clip {clip}"));
                flows.get(clip).copied().ok_or_else(missing)
            };
            clips.iter().map(flow).collect()
        };
        let (train, validation) = (of(&sets.train_clips)?, of(&sets.validation_clips)?);
        let threshold = median(&train).unwrap_or(0.0);
        let labels = [train, validation]
            .map(|flows| flows.iter().map(|&v| usize::from(v >= threshold)).collect::<Vec<_>>());
        if !labels[0].contains(&0) {
            return Err(Error::shape(
                "dynamics",
                "no training clip is slower than the median; all move alike",
            ));
        }
        let batch_size = batch_size as usize;
        Ok(Dynamics { gpu: gpu.clone(), config, sets, batch_size, seed, threshold, labels })
    }

    /// What it is trained on.
    pub fn sets(&self) -> &Sets {
        &self.sets
    }

    /// Optical flow from which a clip is fast.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Cross-entropy of a micro-batch by its number over the run.
    ///
    /// Errors: those of the model.
    pub fn loss(&self, weights: &Weights, number: u64) -> Result<Tensor> {
        let batches = Batches { n: self.sets.train.len(), size: self.batch_size, seed: self.seed };
        let indices = batches.at(number);
        let labels: Vec<i64> =
            indices.iter().map(|&at| self.labels[0][self.sets.train.clips[at]] as i64).collect();
        let model = eeg_model(&weights.with_full_activations(), &self.config)?;
        model.scores(&[&self.sets.batch(&self.gpu, &indices)?], 2)?.cross_entropy(&labels, 0.0)
    }

    /// Cross-entropy of the validation clips' mean scores, and the share told right.
    ///
    /// Errors: those of the model.
    pub fn scores(&self, weights: &Weights) -> Result<[f64; 2]> {
        let logits = self.logits(weights)?;
        let labels = &self.labels[1];
        let loss = |(row, &label): (&[f32], &usize)| {
            let largest = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = row.iter().map(|&v| f64::from(v - largest).exp()).sum();
            sum.ln() - f64::from(row[label] - largest)
        };
        let mean = logits.chunks_exact(2).zip(labels).map(loss).sum::<f64>() / labels.len() as f64;
        Ok([mean, accuracy(&logits, labels)])
    }

    /// Accuracy beside chance.
    ///
    /// Errors: those of the model.
    pub fn report(&self, weights: &Weights) -> Result<Report> {
        let (logits, labels) = (self.logits(weights)?, &self.labels[1]);
        let n = labels.len();
        let fast = labels.iter().sum::<usize>() as f64 / n as f64;
        let others: Vec<usize> = shuffled(n, self.seed, 2).into_iter().map(|at| labels[at]).collect();
        Ok(Report {
            n_clips: n,
            fast_from_flow: self.threshold,
            accuracy: accuracy(&logits, labels),
            majority_chance: fast.max(1.0 - fast),
            shuffled_pairs_accuracy: accuracy(&logits, &others),
        })
    }

    fn logits(&self, weights: &Weights) -> Result<Vec<f32>> {
        let model = eeg_model(&weights.with_full_activations(), &self.config)?;
        let n = self.sets.validation_clips.len();
        by_clip(&self.gpu, &self.sets.validation, n, &|x| model.scores(&[x], 2))
    }
}

fn accuracy(logits: &[f32], labels: &[usize]) -> f64 {
    let right = logits.chunks_exact(2).zip(labels).filter(|(row, label)| rank(row, **label) == 0).count();
    right as f64 / labels.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_halves() {
        assert_eq!(median(&[3.0, 1.0, 2.0, 5.0]), Some(3.0));
        assert_eq!((median(&[4.0]), median(&[])), (Some(4.0), None));
        assert_eq!(accuracy(&[0.0, 1.0, 2.0, 1.0], &[1, 1]), 0.5);
    }
}
