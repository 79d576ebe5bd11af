//! What is done to the scores of the next token, in transformers' order.
//!
//! ```text
//! scores -> repetition penalty -> no end before min_new_tokens -> likeliest, or
//!        -> / temperature -> top-k -> top-p -> softmax -> a draw
//! ```

use super::{Decoding, Ending};

impl Decoding {
    /// Scores of the next token behind `step` new ones, as the likeliest is chosen among them: `seen` are penalised,
    /// endings that come too early are at minus infinity.
    ///
    /// Same as transformers' `RepetitionPenaltyLogitsProcessor` (padding before a prompt is not counted, as from 5 on)
    /// and `MinNewTokensLengthLogitsProcessor`.
    pub fn processed(&self, scores: &[f32], seen: &[i64], step: usize, ending: &Ending) -> Vec<f32> {
        let mut processed = scores.to_vec();
        if self.repetition_penalty != 1.0 {
            let penalty = self.repetition_penalty as f32;
            for at in seen.iter().filter_map(|&id| usize::try_from(id).ok()).filter(|&at| at < scores.len()) {
                // From the score as it was: a token counts once however often it stands there.
                let score = scores[at];
                processed[at] = if score < 0.0 { score * penalty } else { score / penalty };
            }
        }
        if step < self.min_new_tokens {
            for at in ending.eos_token_id.iter().filter_map(|&id| usize::try_from(id).ok()) {
                if let Some(score) = processed.get_mut(at) {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
        processed
    }

    /// The distribution that the next token is drawn from; adds up to 1.
    ///
    /// Same as [`Decoding::processed`], then `TemperatureLogitsWarper`, `TopKLogitsWarper` (those as likely as the last
    /// that stays stay too), `TopPLogitsWarper`, softmax.
    pub fn probabilities(&self, scores: &[f32], seen: &[i64], step: usize, ending: &Ending) -> Vec<f64> {
        let mut scores = self.processed(scores, seen, step, ending);
        if self.temperature != 1.0 {
            scores.iter_mut().for_each(|score| *score /= self.temperature as f32);
        }
        if self.top_k > 0 && self.top_k < scores.len() {
            let mut sorted = scores.clone();
            let (_, last, _) = sorted.select_nth_unstable_by(self.top_k - 1, |a, b| b.total_cmp(a));
            let last = *last;
            scores.iter_mut().filter(|score| **score < last).for_each(|score| *score = f32::NEG_INFINITY);
        }
        let whole = log_sum_exp(&scores);
        let mut probabilities: Vec<f64> =
            scores.iter().map(|&score| (f64::from(score) - whole).exp()).collect();
        if self.top_p < 1.0 {
            let mut order: Vec<usize> = (0..scores.len()).filter(|&at| probabilities[at] > 0.0).collect();
            // Least likely first. Of equals transformers' sort promises no order; here the last id goes first.
            order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
            let mut sum = 0.0;
            let stays = order.len().saturating_sub(1);
            for &at in &order[..stays] {
                sum += probabilities[at];
                if sum > 1.0 - self.top_p {
                    break;
                }
                probabilities[at] = 0.0;
            }
            let rest: f64 = probabilities.iter().sum();
            probabilities.iter_mut().for_each(|p| *p /= rest);
        }
        probabilities
    }
}

/// ln of the sum of the exponentials, in f64.
pub(super) fn log_sum_exp(scores: &[f32]) -> f64 {
    let most = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + scores.iter().map(|&score| (f64::from(score) - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending() -> Ending {
        Ending { eos_token_id: vec![1], pad_token_id: 0 }
    }

    #[test]
    fn what_was_said_is_less_likely_and_ends_come_late() {
        let decoding = Decoding { repetition_penalty: 2.0, min_new_tokens: 2, ..Decoding::greedy(5) };
        let scores = [3.0, 4.0, -1.0, 2.0];
        let got = decoding.processed(&scores, &[0, 2, 0, 99, -1], 1, &ending());
        assert_eq!(got, [1.5, f32::NEG_INFINITY, -2.0, 2.0]);
        assert_eq!(decoding.processed(&scores, &[], 2, &ending()), scores);
    }

    #[test]
    fn only_the_likeliest_can_be_drawn() {
        let scores = [2.0_f32, 0.0, 1.0, 1.0, -3.0].map(|p: f32| p);
        let of = |decoding: &Decoding| decoding.probabilities(&scores, &[], 0, &ending());
        let free = Decoding { top_k: 0, ..Decoding::greedy(5) };
        let all = of(&free);
        assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-12 && all.iter().all(|&p| p > 0.0));
        // Two are equally likely: both stay.
        let some = of(&Decoding { top_k: 2, ..free.clone() });
        assert_eq!(some.iter().map(|&p| p > 0.0).collect::<Vec<_>>(), [true, false, true, true, false]);
        let most = of(&Decoding { top_p: 0.5, ..free.clone() });
        assert_eq!(most, [1.0, 0.0, 0.0, 0.0, 0.0]);
        let least = of(&Decoding { top_p: 1e-9, ..free.clone() });
        assert_eq!(least, [1.0, 0.0, 0.0, 0.0, 0.0]);
        let cold = of(&Decoding { temperature: 0.1, ..free });
        assert!(cold[0] > 0.99 && cold[0] > all[0]);
    }
}
