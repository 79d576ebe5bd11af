//! Beam search: several texts of each prompt beside each other, of which the best go on, and the best that have ended
//! are kept.
//!
//! ```text
//! log-probabilities, filtered, + a beam's sum -> the 2 n best ways to go on
//!   -> those among the n best that end are held against the ended ones, by sum / length^length_penalty
//!   -> the n best that do not end are the beams
//! ```
//!
//! Same as transformers' `GenerationMixin._beam_search`, whose batch goes on until none of its prompts can become better;
//! a prompt that cannot is left alone from then on, so that prompts do not depend on each other.

use super::filters::log_sum_exp;
use super::{Decoding, EarlyStopping, Ending, Prompts, Text, Writer};
use crate::error::Result;

/// A text on its way.
#[derive(Clone)]
struct Beam {
    ids: Vec<i64>,
    /// Sum of log-probabilities.
    sum: f64,
}

/// The search of one prompt.
struct Search<'a> {
    decoding: &'a Decoding,
    ending: &'a Ending,
    prompt: &'a [i64],
    beams: Vec<Beam>,
    /// Those that have ended, the best first.
    ended: Vec<Text>,
    /// Whether one that goes on can still be better.
    is_open: bool,
}

/// A way to go on: a beam, a token, the sum with it.
type Way = (usize, i64, f64);

impl Search<'_> {
    /// Takes scores [beams, vocabulary] of what follows the beams; where each beam that goes on comes from. Nothing
    /// where none does.
    fn step(&mut self, scores: &[&[f32]]) -> Vec<usize> {
        let Decoding { num_beams: n, max_new_tokens, length_penalty, early_stopping, .. } = *self.decoding;
        let length = self.beams[0].ids.len() + 1;
        let ways = self.best(scores, self.ending.eos_token_id.len().max(1) * n + n);
        let ends =
            |&(_, token, _): &Way| length == max_new_tokens || self.ending.eos_token_id.contains(&token);
        let with = |&(beam, token, sum): &Way| {
            let mut ids = self.beams[beam].ids.clone();
            ids.push(token);
            Beam { ids, sum }
        };
        let is_full = self.ended.len() == n;
        if self.is_open && !(is_full && early_stopping == EarlyStopping::True) {
            let weight = (length as f64).powf(length_penalty);
            let new = ways[..n.min(ways.len())].iter().filter(|way| ends(way)).map(&with);
            self.ended.extend(new.map(|beam| Text { ids: beam.ids, score: beam.sum / weight }));
            self.ended.sort_by(|a, b| b.score.total_cmp(&a.score));
            self.ended.truncate(n);
        }
        let on: Vec<Way> = ways.iter().filter(|way| !ends(way)).take(n).copied().collect();
        self.beams = on.iter().map(&with).collect();
        let Some(best) = self.beams.first() else {
            self.is_open = false;
            return Vec::new();
        };
        if self.ended.len() == n {
            let reach = match early_stopping {
                EarlyStopping::Never if length_penalty > 0.0 => max_new_tokens,
                _ => length,
            };
            let possible = best.sum / (reach as f64).powf(length_penalty);
            self.is_open &= early_stopping != EarlyStopping::True && possible > self.ended[n - 1].score;
        }
        on.iter().map(|way| way.0).collect()
    }

    /// The best ways to go on, best first.
    fn best(&self, scores: &[&[f32]], most: usize) -> Vec<Way> {
        let mut best: Vec<Way> = Vec::with_capacity(most + 1);
        for (at, (beam, scores)) in self.beams.iter().zip(scores).enumerate() {
            let whole = log_sum_exp(scores);
            let logs: Vec<f32> = scores.iter().map(|&score| (f64::from(score) - whole) as f32).collect();
            let seen = [self.prompt, &beam.ids].concat();
            let logs = self.decoding.processed(&logs, &seen, beam.ids.len(), self.ending);
            for (token, &log) in logs.iter().enumerate().filter(|(_, log)| log.is_finite()) {
                let sum = beam.sum + f64::from(log);
                if best.len() == most && best[most - 1].2 >= sum {
                    continue;
                }
                let place = best.partition_point(|way| way.2 >= sum);
                best.insert(place, (at, token as i64, sum));
                best.truncate(most);
            }
        }
        best
    }
}

/// The best texts behind each prompt; `scores` are those behind the prompts.
pub(super) fn search(
    writer: &mut Writer,
    mut scores: Vec<f32>,
    prompts: &Prompts,
    ending: &Ending,
    decoding: &Decoding,
    watch: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<Text>>> {
    let size = writer.vocabulary();
    let start = |prompt| {
        let beams = vec![Beam { ids: Vec::new(), sum: 0.0 }];
        Search { decoding, ending, prompt, beams, ended: Vec::new(), is_open: true }
    };
    let mut searches: Vec<Search> = prompts.ids.iter().map(|ids| start(ids.as_slice())).collect();
    for step in 0..decoding.max_new_tokens {
        // Rows of the scores stand as the beams do.
        let (mut row, mut rows, mut tokens) = (0, Vec::new(), Vec::new());
        for search in searches.iter_mut().filter(|search| !search.beams.is_empty()) {
            let n = search.beams.len();
            let own: Vec<&[f32]> = scores[row * size..(row + n) * size].chunks(size).collect();
            let parents = search.step(&own);
            if search.is_open {
                rows.extend(parents.iter().map(|parent| row + parent));
                tokens.extend(search.beams.iter().map(|beam| beam.ids[step]));
            } else {
                search.beams.clear();
            }
            row += n;
        }
        watch(step + 1)?;
        if rows.is_empty() {
            break;
        }
        scores = writer.go_on(&rows, &tokens)?;
    }
    let best = |search: Search| {
        let mut ended = search.ended;
        ended.truncate(decoding.num_return_sequences);
        ended
    };
    Ok(searches.into_iter().map(best).collect())
}
