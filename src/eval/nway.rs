//! n-way top-k: is what was shown among the k likeliest of n classes, one of them right and the others drawn?
//!
//! ```text
//! judge's scores of the truth -> its likeliest class (or, as in the original, its three likeliest)
//! judge's scores of the prediction, n - 1 other classes drawn -> right when a positive ranks among the k best
//! ```
//!
//! **Chance.** One positive: k / n. The original asks whether any of three positives is among the k best of itself and
//! n - 1 others drawn from outside of the three; of n + 2 classes whose order is random, all k best must be drawn ones for
//! it to fail: chance is 1 - C(n-1, k) / C(n+2, k), for k = 1 it is 3 / (n + 2): 75 % of 2, 7.1 % of 40.
//!
//! Follows MinD-Video's metric, which EEG2Video 7254ad8 `40_class_run_metrics.py` copies; draws come from a seed and the
//! number of the question, where the original's come from nowhere.

use crate::error::{Error, Result};
use crate::weights::random::splitmix64;

/// Whose classes count as right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positives {
    /// The likeliest class of what was shown.
    One,
    /// The three likeliest, any of them: the original's.
    Three,
}

impl Positives {
    /// How many.
    pub fn count(self) -> usize {
        if self == Positives::One { 1 } else { 3 }
    }
}

/// A question asked many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NWay {
    /// Classes to choose from.
    pub n: usize,
    /// Places that count as right.
    pub k: usize,
    /// Draws of the other classes.
    pub trials: usize,
    /// Whose classes are right.
    pub positives: Positives,
}

impl NWay {
    /// Share of questions that scores at random answer right.
    pub fn chance(&self) -> f64 {
        let (drawn, all) = (self.n - 1, self.n - 1 + self.positives.count());
        // C(drawn, k) / C(all, k), factor by factor.
        let missed = (0..self.k).map(|i| drawn.saturating_sub(i) as f64 / (all - i) as f64);
        1.0 - missed.product::<f64>()
    }

    /// Refuses what cannot be asked of so many classes.
    ///
    /// Errors: [`Error::Setting`].
    pub fn check(&self, n_classes: usize) -> Result<()> {
        let most = (n_classes + 1).saturating_sub(self.positives.count());
        if self.n < 2 || self.n > most {
            let detail = format!("{}-way of {n_classes} classes, wanted 2 to {most}", self.n);
            return Err(Error::setting("--ways", detail));
        }
        if self.k == 0 || self.k >= self.n {
            let detail = format!("top-{} of {}, wanted 1 to {}", self.k, self.n, self.n - 1);
            return Err(Error::setting("--top-k", detail));
        }
        if self.trials == 0 {
            return Err(Error::setting("--trials", "wanted 1 or more, got 0"));
        }
        Ok(())
    }

    /// Share of right answers about one picture: scores `[classes]` of prediction and truth, logits or probabilities.
    /// The same `seed` and `question` draw the same classes.
    ///
    /// Errors: as [`NWay::answer`]; [`Error::Shape`] for other numbers of classes.
    pub fn ask(&self, predicted: &[f32], truth: &[f32], seed: u64, question: u64) -> Result<f64> {
        if predicted.len() != truth.len() {
            let detail = format!("{} classes against {}", predicted.len(), truth.len());
            return Err(Error::shape("n-way", detail));
        }
        self.answer(predicted, &likeliest(truth, self.positives.count()), seed, question)
    }

    /// The same where it is known which classes are right: as many as there are positives.
    ///
    /// Errors: [`Error::Setting`] as [`NWay::check`]; [`Error::Shape`] for a NaN.
    pub fn answer(&self, predicted: &[f32], right: &[usize], seed: u64, question: u64) -> Result<f64> {
        if predicted.iter().any(|score| score.is_nan()) {
            return Err(Error::shape("n-way", "a score is NaN; do the judge's weights fit its config?"));
        }
        self.check(predicted.len())?;
        let mut others: Vec<usize> = (0..predicted.len()).filter(|class| !right.contains(class)).collect();
        // The best of the positives decides; among equals the lower class is likelier.
        let best = *likeliest_of(predicted, right);
        let beats = |other: usize| {
            let (theirs, ours) = (predicted[other], predicted[best]);
            theirs > ours || (theirs == ours && other < best)
        };
        let (mut answered, drawn) = (0, self.n - 1);
        for trial in 0..self.trials {
            let mut state = splitmix64(splitmix64(seed ^ splitmix64(question)).wrapping_add(trial as u64));
            let mut swaps = Vec::with_capacity(drawn);
            let mut better = 0;
            for at in 0..drawn {
                state = splitmix64(state);
                let left = (others.len() - at) as u128;
                let pick = at + ((u128::from(state) * left) >> 64) as usize;
                others.swap(at, pick);
                swaps.push(pick);
                better += usize::from(beats(others[at]));
            }
            // Back in order, so that a draw depends on its number alone.
            for (at, pick) in swaps.into_iter().enumerate().rev() {
                others.swap(at, pick);
            }
            answered += usize::from(better < self.k);
        }
        Ok(answered as f64 / self.trials as f64)
    }
}

/// Classes likelier than `class`; among equals the lower number is likelier, and NaN is behind all.
pub fn rank(scores: &[f32], class: usize) -> usize {
    let own = scores[class];
    if own.is_nan() {
        return scores.len() - 1;
    }
    scores.iter().enumerate().filter(|&(at, &v)| v > own || (v == own && at < class)).count()
}

/// The `n` likeliest classes, best first.
fn likeliest(scores: &[f32], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(n);
    order
}

fn likeliest_of<'a>(scores: &[f32], classes: &'a [usize]) -> &'a usize {
    let best = classes.iter().min_by(|&&a, &&b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    best.expect("there is a positive at least")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(n: usize, k: usize, positives: Positives) -> NWay {
        NWay { n, k, trials: 20, positives }
    }

    #[test]
    fn what_is_not_told_is_the_last() {
        assert_eq!(rank(&[0.5, f32::NAN, 0.25], 1), 2);
        assert_eq!(rank(&[f32::NAN; 4], 0), 3);
        assert_eq!(rank(&[0.5, f32::NAN, 0.75], 0), 1);
    }

    #[test]
    fn chances_are_those_of_the_definition() {
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} {want}");
        near(question(2, 1, Positives::One).chance(), 0.5);
        near(question(40, 1, Positives::One).chance(), 0.025);
        near(question(40, 5, Positives::One).chance(), 0.125);
        near(question(2, 1, Positives::Three).chance(), 0.75);
        near(question(40, 1, Positives::Three).chance(), 3.0 / 42.0);
        near(question(5, 2, Positives::Three).chance(), 1.0 - 4.0 * 3.0 / (7.0 * 6.0));
    }

    /// Scores at random, many times: each form reaches its stated chance, to five standard errors.
    #[test]
    fn random_scores_are_at_chance() {
        let mut state = 7;
        let mut score = || {
            state = splitmix64(state);
            (state >> 40) as f32
        };
        for (n, k, positives) in [
            (2, 1, Positives::One),
            (10, 1, Positives::One),
            (40, 1, Positives::One),
            (10, 3, Positives::One),
            (2, 1, Positives::Three),
            (40, 1, Positives::Three),
            (10, 3, Positives::Three),
        ] {
            let asked = question(n, k, positives);
            let pictures = 3000;
            let mut sum = 0.0;
            for at in 0..pictures {
                let [predicted, truth] = [0, 1].map(|_| (0..60).map(|_| score()).collect::<Vec<f32>>());
                sum += asked.ask(&predicted, &truth, 3, at).unwrap();
            }
            let (got, chance) = (sum / pictures as f64, asked.chance());
            let error = (chance * (1.0 - chance) / pictures as f64).sqrt();
            assert!((got - chance).abs() < 5.0 * error, "{asked:?}: {got}, stated {chance}");
        }
    }

    #[test]
    fn the_right_answer_is_right_and_draws_repeat() {
        let scores: Vec<f32> = (0..50).map(|at| (at * 7 % 50) as f32).collect();
        let worst: Vec<f32> = scores.iter().map(|score| -score).collect();
        for positives in [Positives::One, Positives::Three] {
            let asked = question(40, 1, positives);
            assert_eq!(asked.ask(&scores, &scores, 0, 0).unwrap(), 1.0);
            assert_eq!(asked.ask(&worst, &scores, 0, 0).unwrap(), 0.0);
        }
        let asked = NWay { n: 5, k: 1, trials: 100, positives: Positives::One };
        let middling: Vec<f32> = scores.iter().map(|score| (score - 30.0).abs()).collect();
        let first = asked.ask(&middling, &scores, 1, 9).unwrap();
        assert_eq!(first, asked.ask(&middling, &scores, 1, 9).unwrap());
        assert!(first > 0.0 && first < 1.0, "{first}");
        assert_ne!(first, asked.ask(&middling, &scores, 1, 10).unwrap());
        assert_eq!(rank(&[0.5, 2.0, 2.0], 2), 1);
    }

    #[test]
    fn impossible_questions_are_refused() {
        let scores = [0.0; 10];
        let refused = |asked: NWay| asked.ask(&scores, &scores, 0, 0).unwrap_err().to_string();
        assert!(refused(question(11, 1, Positives::One)).contains("wanted 2 to 10"));
        assert!(refused(question(9, 1, Positives::Three)).contains("wanted 2 to 8"));
        assert!(refused(question(5, 5, Positives::One)).contains("--top-k"));
        assert!(refused(NWay { trials: 0, ..question(5, 1, Positives::One) }).contains("--trials"));
        assert!(question(2, 1, Positives::One).ask(&[f32::NAN, 0.0], &[0.0, 1.0], 0, 0).is_err());
        assert!(question(2, 1, Positives::One).ask(&[0.0], &[0.0, 1.0], 0, 0).is_err());
    }
}
