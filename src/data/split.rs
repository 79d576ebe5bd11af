//! Splits by block, and scaling that has seen nothing but the training data.

use super::Examples;
use crate::error::{Error, Result};
use crate::signal::StandardScaler;

/// Whose habits a run follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Validation block outside the training set; the scaler is fitted on training data only.
    Clean,
    /// The original's: validation inside the training set, each set scaled by itself.
    Original,
}

impl Protocol {
    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Clean => "clean",
            Protocol::Original => "original",
        }
    }
}

/// Groups of examples (blocks, or subjects) by their use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Learnt from.
    pub train: Vec<usize>,
    /// Chosen by.
    pub validation: Vec<usize>,
    /// Reported.
    pub test: Vec<usize>,
}

/// Each of `n` groups is the test set once, the one before it the validation set: fold k tests k and validates k − 1.
///
/// Errors: [`Error::Setting`] for fewer than three groups, which leave nothing to train on.
pub fn folds(n: usize, protocol: Protocol) -> Result<Vec<Fold>> {
    if n < 3 {
        let detail =
            format!("{n} blocks cannot be split in training, validation and test, wanted at least 3");
        return Err(Error::setting("folds", detail));
    }
    let fold = |test: usize| {
        let validation = (test + n - 1) % n;
        let learns =
            |&group: &usize| group != test && (protocol == Protocol::Original || group != validation);
        Fold { train: (0..n).filter(learns).collect(), validation: vec![validation], test: vec![test] }
    };
    Ok((0..n).map(fold).collect())
}

/// z-scores: per channel over time for samples, per feature for features.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// Of channels, where there are samples, then of features, where there are any.
    scaler: StandardScaler,
}

impl Scaling {
    /// Fits on training examples.
    ///
    /// Errors: [`Error::Shape`] without examples, or with NaN among them.
    pub fn fit(examples: &Examples) -> Result<Scaling> {
        let &Examples { rows, cols, samples, .. } = examples;
        let mut scaler = StandardScaler { mean: Vec::new(), scale: Vec::new() };
        let mut add = |values: &[f32], n: usize| -> Result<()> {
            let part = StandardScaler::fit(values, n)?;
            scaler.mean.extend(part.mean);
            scaler.scale.extend(part.scale);
            Ok(())
        };
        if samples > 0 {
            // Channels become the columns of rows that are samples.
            let mut by_sample = Vec::with_capacity(examples.len() * rows * samples);
            for at in 0..examples.len() {
                let example = examples.example(at);
                for col in 0..samples {
                    by_sample.extend((0..rows).map(|row| example[row * cols + col]));
                }
            }
            add(&by_sample, rows)?;
        }
        if samples < cols {
            let features: Vec<f32> =
                examples.data.chunks_exact(cols).flat_map(|row| &row[samples..]).copied().collect();
            add(&features, rows * (cols - samples))?;
        }
        Ok(Scaling { scaler })
    }

    /// The examples as z-scores.
    ///
    /// Errors: [`Error::Shape`] for examples of another shape than those fitted on.
    pub fn apply(&self, examples: &mut Examples) -> Result<()> {
        let &mut Examples { rows, cols, samples, .. } = examples;
        let (channels, bands) = (if samples > 0 { rows } else { 0 }, cols - samples);
        let n_features = channels + rows * bands;
        if self.scaler.mean.len() != n_features {
            let detail = format!("fitted on {} features, got {n_features}", self.scaler.mean.len());
            return Err(Error::shape("scaling", detail));
        }
        for (at, value) in examples.data.iter_mut().enumerate() {
            let (row, col) = (at / cols % rows, at % cols);
            let feature = if col < samples { row } else { channels + row * bands + col - samples };
            *value = ((f64::from(*value) - self.scaler.mean[feature]) / self.scaler.scale[feature]) as f32;
        }
        Ok(())
    }

    /// Means and scales, `[features]` each.
    pub fn scaler(&self) -> &StandardScaler {
        &self.scaler
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_split_shares_no_block() {
        for (at, fold) in folds(7, Protocol::Clean).unwrap().iter().enumerate() {
            assert_eq!((fold.test[0], fold.validation[0], fold.train.len()), (at, (at + 6) % 7, 5));
            assert!(!fold.train.contains(&fold.test[0]) && !fold.train.contains(&fold.validation[0]));
        }
        let original = &folds(7, Protocol::Original).unwrap()[3];
        assert_eq!(
            (original.train.len(), original.train.contains(&2), original.train.contains(&3)),
            (6, true, false)
        );
        assert!(folds(2, Protocol::Clean).is_err());
    }

    #[test]
    fn scaling_by_channel_and_by_feature() {
        // Both columns are samples, none is, the first is.
        for (samples, places) in [(2, [0, 0, 1, 1]), (0, [0, 1, 2, 3]), (1, [0, 2, 1, 3])] {
            let examples = Examples {
                data: vec![1.0, 3.0, 10.0, 30.0, 5.0, 7.0, 50.0, 70.0],
                rows: 2,
                cols: 2,
                samples,
                labels: vec![0, 1],
                clips: vec![0, 1],
            };
            let mut scaled = examples.clone();
            let scaling = Scaling::fit(&examples).unwrap();
            scaling.apply(&mut scaled).unwrap();
            let n = places.iter().max().unwrap() + 1;
            assert_eq!(scaling.scaler().mean.len(), n);
            for feature in 0..n {
                let of = |at: usize| places[at % 4];
                let values: Vec<f32> =
                    (0..8).filter(|&at| of(at) == feature).map(|at| scaled.data[at]).collect();
                let mean = values.iter().sum::<f32>() / values.len() as f32;
                let square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
                assert!(mean.abs() < 1e-6 && (square - 1.0).abs() < 1e-5, "{samples} {feature}");
            }
        }
    }
}
