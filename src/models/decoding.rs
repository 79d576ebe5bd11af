//! Texts that grow token by token from prompts: the likeliest token each time, one drawn at random, or several texts
//! beside each other of which the best stay (beams).
//!
//! ```text
//! prompts -> Opt with its past -> scores of the last place, read back -> filters -> a token for each text -> Opt …
//! ```
//!
//! By the definitions of transformers' `generate` (4.57 to 5): token for token what it writes without sampling. With it,
//! the distribution that a token is drawn from is the same; the draw is ours (see [`Decoding::seed`]).

mod beams;
mod filters;

use super::config::Config;
use super::opt::{Opt, OptPast};
use super::padding::Padding;
use crate::error::{Error, Result};
use crate::ops::random_words;
use crate::tensor::Tensor;
use serde::Serialize;
use serde_json::json;

/// Which tokens end texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Any of these ends a text.
    pub eos_token_id: Vec<i64>,
    /// What stands behind a text that has ended while others go on.
    pub pad_token_id: i64,
}

impl Ending {
    /// As the config of a language model has it. Without a padding token the first ending one serves.
    pub fn new(config: &Config) -> Result<Ending> {
        // OPT's own ids where a config leaves them out.
        let ids = |key: &str, id: i64| if config.has(key) { config.ids(key) } else { Ok(vec![id]) };
        Ok(Ending::of(ids("eos_token_id", 2)?, ids("pad_token_id", 1)?))
    }

    /// As transformers settles it for a model of its own: from `generation_config.json`, where it stands beside the
    /// config, else as [`Ending::new`].
    ///
    /// Errors: a generation config that asks for more than greedy decoding.
    pub fn beside(config: &Config) -> Result<Ending> {
        let path = config.path().with_file_name("generation_config.json");
        if !path.is_file() {
            return Ending::new(config);
        }
        let own = Config::open(path)?;
        own.only(&[
            ("num_beams", json!(1)),
            ("repetition_penalty", json!(1.0)),
            ("no_repeat_ngram_size", json!(0)),
            ("min_length", json!(0)),
            ("min_new_tokens", json!(0)),
            ("forced_bos_token_id", json!(null)),
            ("forced_eos_token_id", json!(null)),
            ("suppress_tokens", json!(null)),
            ("begin_suppress_tokens", json!(null)),
            ("bad_words_ids", json!(null)),
            ("sequence_bias", json!(null)),
        ])?;
        // It leaves out what is not wanted.
        Ok(Ending::of(own.ids("eos_token_id")?, own.ids("pad_token_id")?))
    }

    fn of(eos_token_id: Vec<i64>, pad_token_id: Vec<i64>) -> Ending {
        let pad_token_id = pad_token_id.first().or(eos_token_id.first()).copied().unwrap_or(0);
        Ending { eos_token_id, pad_token_id }
    }
}

/// When a search with beams ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EarlyStopping {
    /// When no text can become better than those that have ended, judged by its length so far.
    #[default]
    False,
    /// As soon as as many texts as beams have ended.
    True,
    /// As `False`, judged by the length at which a text would be best.
    Never,
}

/// How a text is chosen, by the names of transformers' `GenerationConfig`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decoding {
    /// Draw tokens at random, by their probability, in the place of the likeliest.
    pub do_sample: bool,
    /// Divides the scores before a draw: below 1 the likely become likelier.
    pub temperature: f64,
    /// Draw among this many of the likeliest; 0 for all.
    pub top_k: usize,
    /// Draw among the likeliest that together have this probability; 1 for all.
    pub top_p: f64,
    /// Makes tokens that a text, its prompt included, has already less likely; 1 for nothing of it.
    pub repetition_penalty: f64,
    /// Texts followed beside each other.
    pub num_beams: usize,
    /// A beam's score is the sum of its tokens' log-probabilities over its length to this power.
    pub length_penalty: f64,
    /// When beams end.
    pub early_stopping: EarlyStopping,
    /// Texts for each prompt, the best first.
    pub num_return_sequences: usize,
    /// Most tokens of a text.
    pub max_new_tokens: usize,
    /// A text does not end before.
    pub min_new_tokens: usize,
    /// Of the draws. Token i of a text is drawn with word i of the counter generator's stream for this text, as the
    /// first id, in ascending order, up to which the filtered probabilities add up to more than (word + 1/2) / 2^32.
    pub seed: u64,
}

impl Decoding {
    /// The likeliest token each time.
    pub fn greedy(max_new_tokens: usize) -> Decoding {
        Decoding {
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            repetition_penalty: 1.0,
            num_beams: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::False,
            num_return_sequences: 1,
            max_new_tokens,
            min_new_tokens: 0,
            seed: 0,
        }
    }

    /// Refuses what no model can do.
    ///
    /// Errors: [`Error::Setting`] naming the flag.
    pub fn check(&self) -> Result<()> {
        let wrong = |name: &str, detail: String| Err(Error::setting(name, detail));
        let above = |value: f64| value.is_finite() && value > 0.0;
        if !above(self.temperature) {
            return wrong(
                "--temperature",
                format!("wanted a number above 0, got {}; without sampling it is left out", self.temperature),
            );
        }
        if !(above(self.top_p) && self.top_p <= 1.0) {
            return wrong("--top-p", format!("wanted above 0 and at most 1, got {}", self.top_p));
        }
        if !above(self.repetition_penalty) {
            return wrong(
                "--repetition-penalty",
                format!("wanted a number above 0, got {}", self.repetition_penalty),
            );
        }
        if !self.length_penalty.is_finite() {
            return wrong("--length-penalty", format!("wanted a number, got {}", self.length_penalty));
        }
        if self.num_beams == 0 || self.num_beams > 64 {
            return wrong("--num-beams", format!("wanted 1 to 64, got {}", self.num_beams));
        }
        if self.do_sample && self.num_beams > 1 {
            return wrong(
                "--num-beams",
                format!("{} beams are searched, not sampled; leave out one of the two", self.num_beams),
            );
        }
        let n = self.num_return_sequences;
        if n == 0 || n > 64 {
            return wrong("--num-return-sequences", format!("wanted 1 to 64, got {n}"));
        }
        if !self.do_sample && n > self.num_beams {
            return wrong(
                "--num-return-sequences",
                format!("{n} texts need as many beams (--num-beams), or sampling (--temperature, --top-p)"),
            );
        }
        if self.max_new_tokens == 0 {
            return wrong("--max-new-tokens", "wanted at least 1, got 0".into());
        }
        if self.min_new_tokens > self.max_new_tokens {
            return wrong(
                "--min-new-tokens",
                format!(
                    "wanted at most --max-new-tokens, {}, got {}",
                    self.max_new_tokens, self.min_new_tokens
                ),
            );
        }
        Ok(())
    }
}

/// What texts grow from.
pub struct Prompts<'a> {
    /// [batch, tokens, width], as embeddings.
    pub embeddings: &'a Tensor,
    /// Which of them are tokens.
    pub padding: &'a Padding,
    /// Ids of each text that the repetition penalty counts; none where the prompt has no ids.
    pub ids: &'a [Vec<i64>],
    /// The number of the first text among all of a run: its draws do not depend on the batch it is in.
    pub first: u64,
}

/// A text that was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Text {
    /// New ids; the one that ended the text is the last.
    pub ids: Vec<i64>,
    /// Sum of the log-probabilities of its tokens over its length to the power of [`Decoding::length_penalty`]. With
    /// beams they are those of the search, penalties included; else the model's own.
    pub score: f64,
}

/// The texts that follow prompts: for each its texts, the best first. `watch` is told the tokens so far after each; its
/// error ends the writing.
///
/// Errors: as [`Decoding::check`]; a prompt that leaves too few positions; as [`Opt::forward`]; what `watch` returns.
pub fn generate(
    model: &Opt,
    prompts: &Prompts,
    ending: &Ending,
    decoding: &Decoding,
    watch: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<Text>>> {
    decoding.check()?;
    let batch = prompts.padding.shape()[0];
    if prompts.ids.len() != batch {
        let detail = format!("ids of {} prompts for a batch of {batch}", prompts.ids.len());
        return Err(Error::shape("decoding", detail));
    }
    let (longest, places) = (prompts.padding.longest(), model.config().max_position_embeddings);
    // The last token is written, not read.
    if longest.saturating_add(decoding.max_new_tokens) > places + 1 {
        let detail = format!(
            "the longest prompt has {longest} tokens, {} more were asked for, the language model has {places} positions; \
             shorten the prompt or ask for fewer tokens",
            decoding.max_new_tokens
        );
        return Err(Error::setting("--prompt, --max-new-tokens", detail));
    }
    let (mut writer, scores) = Writer::new(model, prompts.embeddings, prompts.padding)?;
    match decoding.num_beams {
        1 => lines(&mut writer, scores, prompts, ending, decoding, watch),
        _ => beams::search(&mut writer, scores, prompts, ending, decoding, watch),
    }
}

/// The likeliest tokens behind prompts [batch, tokens, width], as embeddings: the new ids of each, all of one length.
///
/// Errors: as [`generate`].
pub fn greedy(
    model: &Opt,
    embeddings: &Tensor,
    padding: &Padding,
    ending: &Ending,
    max_new_tokens: usize,
) -> Result<Vec<Vec<i64>>> {
    let ids = vec![Vec::new(); padding.shape()[0]];
    let prompts = Prompts { embeddings, padding, ids: &ids, first: 0 };
    let texts = generate(model, &prompts, ending, &Decoding::greedy(max_new_tokens), &mut |_| Ok(()))?;
    let mut rows: Vec<Vec<i64>> = texts.into_iter().flatten().map(|text| text.ids).collect();
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    rows.iter_mut().for_each(|row| row.resize(longest, ending.pad_token_id));
    Ok(rows)
}

/// A model in the middle of texts.
struct Writer<'a> {
    model: &'a Opt,
    past: OptPast,
    padding: Padding,
}

impl<'a> Writer<'a> {
    /// Reads the prompts; the scores of what comes next, [batch, vocabulary].
    fn new(model: &'a Opt, prompts: &Tensor, padding: &Padding) -> Result<(Writer<'a>, Vec<f32>)> {
        let mut writer = Writer { model, past: OptPast::default(), padding: padding.clone() };
        let scores = writer.read(prompts)?;
        Ok((writer, scores))
    }

    fn vocabulary(&self) -> usize {
        self.model.config().vocab_size
    }

    /// Goes on from these rows of the texts so far, each with its token; the scores of what comes next.
    fn go_on(&mut self, rows: &[usize], tokens: &[i64]) -> Result<Vec<f32>> {
        let stay =
            rows.len() == self.padding.shape()[0] && rows.iter().enumerate().all(|(at, &row)| at == row);
        if !stay {
            self.past = self.past.pick(rows)?;
            self.padding = self.padding.pick(rows);
        }
        self.padding.grow();
        let x = self.model.embed(tokens, &[tokens.len(), 1])?;
        self.read(&x)
    }

    fn read(&mut self, x: &Tensor) -> Result<Vec<f32>> {
        let hidden = self.model.forward(x, &self.padding, Some(&mut self.past))?;
        let scores = self.model.logits(&hidden.narrow(1, x.dim(1) - 1, 1)?)?.to_vec()?;
        match scores.iter().position(|score| score.is_nan()) {
            None => Ok(scores),
            Some(at) => {
                let (text, id) = (at / self.vocabulary(), at % self.vocabulary());
                let detail = format!(
                    "the score of token {id} of text {text} is not a number; the checkpoint or what it was shown may be \
                     broken, or too large for f16: try --dtype f32"
                );
                Err(Error::Device(detail))
            }
        }
    }
}

/// A text of its own, whose tokens are the likeliest or drawn.
struct Line {
    /// Row of the prompts.
    prompt: usize,
    /// What the repetition penalty counts.
    seen: Vec<i64>,
    ids: Vec<i64>,
    /// Sum of log-probabilities.
    sum: f64,
    words: Box<dyn Iterator<Item = u32>>,
    ended: bool,
}

/// Every text by itself: greedy, or drawn.
fn lines(
    writer: &mut Writer,
    mut scores: Vec<f32>,
    prompts: &Prompts,
    ending: &Ending,
    decoding: &Decoding,
    watch: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<Text>>> {
    let (n, size) = (decoding.num_return_sequences, writer.vocabulary());
    let batch = prompts.ids.len();
    let line = |at: usize| {
        let stream = (prompts.first + (at / n) as u64) << 16 | (at % n) as u64;
        Line {
            prompt: at / n,
            seen: prompts.ids[at / n].clone(),
            ids: Vec::new(),
            sum: 0.0,
            words: Box::new(random_words(decoding.seed, stream)),
            ended: false,
        }
    };
    let mut lines: Vec<Line> = (0..batch * n).map(line).collect();
    // Where in the scores a text's are: those of its prompt first, its own afterwards.
    let mut rows: Vec<usize> = lines.iter().map(|line| line.prompt).collect();
    for step in 0..decoding.max_new_tokens {
        for (line, &row) in lines.iter_mut().zip(&rows) {
            let own = &scores[row * size..(row + 1) * size];
            let word = line.words.next().unwrap_or_default();
            if line.ended {
                line.ids.push(ending.pad_token_id);
                continue;
            }
            let next = match decoding.do_sample {
                false => most_likely(&decoding.processed(own, &line.seen, step, ending)),
                true => draw(&decoding.probabilities(own, &line.seen, step, ending), word),
            };
            line.sum += f64::from(own[next as usize]) - filters::log_sum_exp(own);
            line.ended = ending.eos_token_id.contains(&next);
            line.seen.push(next);
            line.ids.push(next);
        }
        watch(step + 1)?;
        if step + 1 == decoding.max_new_tokens || lines.iter().all(|line| line.ended) {
            break;
        }
        let last: Vec<i64> = lines.iter().map(|line| line.ids[step]).collect();
        scores = writer.go_on(&rows, &last)?;
        rows = (0..lines.len()).collect();
    }
    let mut texts = vec![Vec::new(); batch];
    for line in lines {
        let own = line.seen.len() - prompts.ids[line.prompt].len();
        let ids: Vec<i64> = line.ids[..own].to_vec();
        let score = line.sum / (own as f64).powf(decoding.length_penalty);
        texts[line.prompt].push(Text { ids, score });
    }
    for texts in &mut texts {
        texts.sort_by(|a: &Text, b| b.score.total_cmp(&a.score));
    }
    Ok(texts)
}

/// The place of the largest score, the first of several.
fn most_likely(scores: &[f32]) -> i64 {
    let largest = |best: usize, at: usize| if scores[at] > scores[best] { at } else { best };
    (0..scores.len()).fold(0, largest) as i64
}

/// The first id up to which the probabilities add up to more than the word's share of 1.
fn draw(probabilities: &[f64], word: u32) -> i64 {
    let share = (f64::from(word) + 0.5) / 4_294_967_296.0;
    let (mut sum, mut last) = (0.0, 0);
    for (id, &p) in probabilities.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        sum += p;
        last = id;
        if sum > share {
            break;
        }
    }
    last as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &std::path::Path, own: Option<&str>) -> Config {
        if let Some(own) = own {
            std::fs::write(folder.join("generation_config.json"), own).unwrap();
        }
        Config::from_json(folder.join("config.json"), br#"{"eos_token_id": [5, 6], "pad_token_id": null}"#)
            .unwrap()
    }

    #[test]
    fn endings_are_settled_as_the_reference_does() {
        let folder = tempfile::tempdir().unwrap();
        let ending = Ending::beside(&config(folder.path(), None)).unwrap();
        assert_eq!((ending.eos_token_id, ending.pad_token_id), (vec![5, 6], 5));
        let own = config(folder.path(), Some(r#"{"eos_token_id": 9, "num_beams": 1}"#));
        let ending = Ending::beside(&own).unwrap();
        assert_eq!((ending.eos_token_id, ending.pad_token_id), (vec![9], 9));
        assert_eq!(Ending::new(&own).unwrap().eos_token_id, [5, 6]);
        let beams = config(folder.path(), Some(r#"{"num_beams": 4}"#));
        assert!(Ending::beside(&beams).unwrap_err().to_string().contains("num_beams"));
    }

    #[test]
    fn the_first_of_the_largest_is_taken() {
        assert_eq!(most_likely(&[1.0, 3.0, 3.0, -1.0]), 1);
    }

    #[test]
    fn a_draw_is_by_probability() {
        let p = [0.0, 0.25, 0.0, 0.5, 0.25, 0.0];
        assert_eq!([0, 1 << 29, 1 << 30, 3 << 30, u32::MAX].map(|word| draw(&p, word)), [1, 1, 3, 4, 4]);
        // What rounding leaves at the end goes to the last that can be drawn.
        assert_eq!(draw(&[0.5, 0.4999, 0.0], u32::MAX), 1);
        let words = random_words(7, 3).take(20_000);
        let count = words.filter(|&word| draw(&p, word) == 3).count();
        assert!((9_700..10_300).contains(&count), "{count}");
    }

    #[test]
    fn settings_that_cannot_be_are_refused_by_name() {
        let greedy = Decoding::greedy(5);
        assert!(greedy.check().is_ok());
        for (wrong, flag) in [
            (Decoding { temperature: 0.0, ..greedy.clone() }, "--temperature"),
            (Decoding { top_p: 1.5, ..greedy.clone() }, "--top-p"),
            (Decoding { repetition_penalty: f64::NAN, ..greedy.clone() }, "--repetition-penalty"),
            (Decoding { length_penalty: f64::INFINITY, ..greedy.clone() }, "--length-penalty"),
            (Decoding { num_beams: 0, ..greedy.clone() }, "--num-beams"),
            (Decoding { num_beams: 2, do_sample: true, ..greedy.clone() }, "--num-beams"),
            (Decoding { num_return_sequences: 2, ..greedy.clone() }, "--num-return-sequences"),
            (Decoding { max_new_tokens: 0, ..greedy.clone() }, "--max-new-tokens"),
            (Decoding { min_new_tokens: 6, ..greedy.clone() }, "--min-new-tokens"),
        ] {
            let text = wrong.check().unwrap_err().to_string();
            assert!(text.starts_with(flag) && !text.contains('\n'), "{text}");
        }
        let drawn = Decoding { do_sample: true, num_return_sequences: 3, ..greedy.clone() };
        let beams = Decoding { num_beams: 3, num_return_sequences: 3, ..greedy };
        assert!(drawn.check().is_ok() && beams.check().is_ok());
    }
}
