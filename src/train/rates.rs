//! Learning rates over a run: a warm-up, then constant, cosine or steps; or whatever the plateau of a score says.
//! As PyTorch's `LambdaLR`, `CosineAnnealingLR`, `StepLR` and `ReduceLROnPlateau`, with diffusers' linear warm-up.

use crate::error::{Error, Result};

/// What follows the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Course {
    /// The base rate throughout.
    Constant,
    /// From the base rate to `least` of it along half a cosine, at step `steps` after the warm-up.
    Cosine {
        /// Steps until the least rate, which then stays.
        steps: u64,
        /// Share of the base rate at the end.
        least: f64,
    },
    /// The base rate times `factor` after every `every` steps.
    Step {
        /// Steps between.
        every: u64,
        /// Of each fall.
        factor: f64,
    },
}

/// Learning rate by step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// The base rate.
    pub base: f64,
    /// Steps in which the rate rises from 0 to the base.
    pub warmup: u64,
    /// What follows.
    pub course: Course,
}

impl Rates {
    /// The rate of a step, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.base * step as f64 / self.warmup as f64;
        }
        let after = step - self.warmup;
        let share = match self.course {
            Course::Constant => 1.0,
            Course::Cosine { steps, least } => {
                let done = (after.min(steps) as f64) / (steps.max(1) as f64);
                least + (1.0 - least) * (1.0 + (std::f64::consts::PI * done).cos()) / 2.0
            }
            Course::Step { every, factor } => factor.powf((after / every.max(1)) as f64),
        };
        self.base * share
    }

    /// Refuses rates that are not numbers above 0.
    ///
    /// Errors: [`Error::Setting`].
    pub fn check(&self) -> Result<()> {
        if !(self.base.is_finite() && self.base > 0.0) {
            return Err(Error::setting("learning-rate", format!("wanted above 0, got {}", self.base)));
        }
        Ok(())
    }
}

/// Lowers the rate when a score has not risen for a while: `ReduceLROnPlateau(mode="max")` with its relative threshold
/// of 1e-4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plateau {
    /// Of each fall.
    pub factor: f64,
    /// Scores without a better one that are waited for.
    pub patience: u64,
    /// Share of the base rate that is never gone below.
    pub least: f64,
    /// Best score so far.
    pub best: f64,
    /// Scores since.
    pub waited: u64,
    /// What the rate is multiplied with.
    pub share: f64,
}

impl Plateau {
    /// Before any score.
    pub fn new(factor: f64, patience: u64, least: f64) -> Plateau {
        Plateau { factor, patience, least, best: f64::NEG_INFINITY, waited: 0, share: 1.0 }
    }

    /// Takes in a score (higher is better).
    pub fn see(&mut self, score: f64) {
        let bound = if self.best.is_finite() { self.best + 1e-4 * self.best.abs() } else { self.best };
        if score > bound {
            (self.best, self.waited) = (score, 0);
            return;
        }
        self.waited += 1;
        if self.waited > self.patience {
            self.share = (self.share * self.factor).max(self.least);
            self.waited = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_a_course() {
        let rates = Rates { base: 0.1, warmup: 4, course: Course::Constant };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        for (step, want) in [(0, 0.0), (1, 0.025), (4, 0.1), (1000, 0.1)] {
            close(rates.at(step), want);
        }
        let cosine = Rates { warmup: 0, course: Course::Cosine { steps: 10, least: 0.1 }, ..rates };
        close(cosine.at(0), 0.1);
        close(cosine.at(5), 0.055);
        close(cosine.at(10), 0.01);
        close(cosine.at(99), 0.01);
        let falls = Rates { warmup: 1, course: Course::Step { every: 3, factor: 0.5 }, ..rates };
        for (step, want) in [(1, 0.1), (3, 0.1), (4, 0.05), (7, 0.025)] {
            close(falls.at(step), want);
        }
        assert!(Rates { base: f64::NAN, ..rates }.check().is_err());
    }

    #[test]
    fn a_plateau_waits_and_falls() {
        // torch.optim.lr_scheduler.ReduceLROnPlateau(mode="max", factor=0.5, patience=1), base rate 1
        let mut plateau = Plateau::new(0.5, 1, 0.2);
        let shares: Vec<f64> = [0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]
            .into_iter()
            .map(|score| {
                plateau.see(score);
                plateau.share
            })
            .collect();
        assert_eq!(shares, [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2]);
    }
}
