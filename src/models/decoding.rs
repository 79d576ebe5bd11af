//! A text that grows token by token from a prompt: the most likely one each time (greedy).
//!
//! ```text
//! prompt -> Opt with its past -> scores of the last place, read back -> a token for each text -> Opt …
//! ```
//!
//! Token for token what transformers' `generate(do_sample=False)` writes.

use super::config::Config;
use super::opt::{Opt, OptPast};
use super::padding::Padding;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
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

/// The texts that follow prompts [batch, tokens, width], as embeddings: the new ids of each, all of one length.
///
/// Errors: [`Error::Setting`] for no new tokens at all; as [`Opt::forward`].
pub fn greedy(
    model: &Opt,
    prompts: &Tensor,
    padding: &Padding,
    ending: &Ending,
    max_new_tokens: usize,
) -> Result<Vec<Vec<i64>>> {
    if max_new_tokens == 0 {
        return Err(Error::setting("--max-new-tokens", "wanted at least 1, got 0"));
    }
    let batch = padding.shape()[0];
    let (mut past, mut padding) = (OptPast::default(), padding.clone());
    let (mut x, mut texts, mut ended) = (prompts.clone(), vec![Vec::new(); batch], vec![false; batch]);
    for step in 0..max_new_tokens {
        if step > 0 {
            let last: Vec<i64> = texts.iter().map(|text| text[step - 1]).collect();
            padding.grow();
            x = model.embed(&last, &[batch, 1])?;
        }
        let hidden = model.forward(&x, &padding, Some(&mut past))?;
        let scores = model.logits(&hidden.narrow(1, x.dim(1) - 1, 1)?)?.to_vec()?;
        for (row, scores) in scores.chunks(model.config().vocab_size).enumerate() {
            let next = if ended[row] { ending.pad_token_id } else { most_likely(scores) };
            ended[row] |= ending.eos_token_id.contains(&next);
            texts[row].push(next);
        }
        if ended.iter().all(|&ended| ended) {
            break;
        }
    }
    Ok(texts)
}

/// The place of the largest score, the first of several.
fn most_likely(scores: &[f32]) -> i64 {
    let largest = |best: usize, at: usize| if scores[at] > scores[best] { at } else { best };
    (0..scores.len()).fold(0, largest) as i64
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
}
