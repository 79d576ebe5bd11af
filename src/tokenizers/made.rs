//! Vocabularies for checkpoints with random weights: of any size, with words that can be read, the same on every machine.
//!
//! ```text
//! single bytes -> words of captions, letter by letter -> syllables, and syllables behind each other, until it is full
//! ```
//!
//! The files are those of a published tokenizer: `vocab.json` and `merges.txt`, or `vocab.txt`, and
//! `tokenizer_config.json`. The text in them is not: what they split is not split as OPT, CLIP or BERT split it.

use crate::error::{Error, Result};
use crate::files;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::path::Path;

/// Words that captions are made of.
const WORDS: [&str; 64] = [
    "a", "the", "of", "on", "in", "and", "with", "to", "at", "is", "are", "man", "woman", "people", "person",
    "child", "dog", "cat", "horse", "bird", "sheep", "cow", "bear", "zebra", "giraffe", "elephant", "red",
    "blue", "green", "white", "black", "brown", "small", "large", "old", "young", "sitting", "standing",
    "riding", "walking", "holding", "eating", "playing", "looking", "street", "beach", "field", "table",
    "room", "kitchen", "water", "snow", "grass", "tree", "sky", "car", "bus", "train", "bike", "boat",
    "plate", "food", "ball", "picture",
];
const CONSONANTS: &str = "bcdfghjklmnprstvwxyz";
const VOWELS: &str = "aeiou";
/// The mark of a space before a word.
const SPACE: &str = "Ġ";

/// A tokenizer of OPT's kind: `<s>`, `<pad>`, `</s>`, `<unk>`, bytes, words with the space before them; the line break at id
/// `newline`, and `<image>` as the last of the tokens where it is wanted.
///
/// Errors: [`Error::Setting`] for fewer tokens than bytes; [`Error::Write`].
pub fn write_opt(folder: &Path, tokens: usize, newline: usize, has_image: bool) -> Result<()> {
    let own = tokens - usize::from(has_image && tokens > 0);
    let mut made = Made::new(own, 256)?;
    for token in ["<s>", "<pad>", "</s>", "<unk>"] {
        made.add(token.to_string());
    }
    // Added at its place when the others are known.
    let line_break = char_of(b'\n').to_string();
    made.known.insert(line_break.clone());
    made.most -= 1;
    for byte in 0..=255 {
        made.add(char_of(byte).to_string());
    }
    for word in WORDS {
        made.word(std::iter::once(SPACE.to_string()).chain(word.chars().map(String::from)));
    }
    let syllables = made.syllables("");
    let pairs = made.pairs(&syllables, &syllables);
    let spaced: Vec<String> = pairs.iter().filter_map(|pair| made.join(SPACE, pair)).collect();
    made.pairs(&spaced, &syllables);
    made.check(newline < own)?;
    made.tokens.insert(newline, line_break);
    let mut settings = json!({
        "tokenizer_class": "GPT2Tokenizer", "add_bos_token": true, "bos_token": "</s>", "eos_token": "</s>",
        "unk_token": "</s>", "pad_token": "<pad>",
    });
    if has_image {
        settings["added_tokens_decoder"] =
            json!({ own.to_string(): { "content": "<image>", "special": true } });
    }
    made.write(folder, &settings)
}

/// A tokenizer of CLIP's kind: bytes, bytes that end words, words, `<|startoftext|>`, `<|endoftext|>`.
///
/// Errors: as [`write_opt`].
pub fn write_clip(folder: &Path, tokens: usize) -> Result<()> {
    const END: &str = "</w>";
    let mut made = Made::new(tokens.saturating_sub(2), 512)?;
    for end in ["", END] {
        for byte in 0..=255 {
            made.add(format!("{}{end}", char_of(byte)));
        }
    }
    for word in WORDS {
        let last = word.chars().count() - 1;
        made.word(
            word.chars().enumerate().map(|(at, c)| if at == last { format!("{c}{END}") } else { c.into() }),
        );
    }
    let (syllables, ends) = (made.syllables(""), made.syllables(END));
    made.pairs(&syllables, &ends);
    let pairs = made.pairs(&syllables, &syllables);
    made.pairs(&pairs, &ends);
    made.check(true)?;
    made.tokens.extend(["<|startoftext|>", "<|endoftext|>"].map(String::from));
    let end = "<|endoftext|>";
    let settings = json!({
        "tokenizer_class": "CLIPTokenizer", "bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end,
        "pad_token": end, "model_max_length": 77,
    });
    made.write(folder, &settings)
}

/// A tokenizer of BERT's kind, `vocab.txt`: the special tokens at their published places, printable characters, words,
/// syllables, and places that are not used.
///
/// Errors: as [`write_opt`].
pub fn write_bert(folder: &Path, tokens: usize) -> Result<()> {
    const SPECIAL: [&str; 4] = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let mut made = Made::new(tokens, 300)?;
    // [UNK] is 100 in published vocabularies.
    let begin = std::iter::once("[PAD]".to_string()).chain((0..99).map(|i| format!("[unused{i}]")));
    let printable = ('!'..='~').filter(|c| !c.is_ascii_uppercase()).map(String::from);
    let inner = ('0'..='9').chain('a'..='z').map(|c| format!("##{c}"));
    let pairs = || CONSONANTS.chars().flat_map(|c| VOWELS.chars().map(move |v| format!("{c}{v}")));
    let tokens_of = |tokens: &[&str]| tokens.iter().map(ToString::to_string).collect::<Vec<_>>();
    let known = begin
        .chain(tokens_of(&SPECIAL))
        .chain(printable)
        .chain(inner)
        .chain(tokens_of(&WORDS))
        .chain(pairs())
        .chain(pairs().map(|pair| format!("##{pair}")));
    for token in known.chain((99..tokens).map(|i| format!("[unused{i}]"))) {
        made.add(token);
    }
    files::make_folder(folder)?;
    let settings = json!({
        "tokenizer_class": "BertTokenizer", "do_lower_case": true, "unk_token": "[UNK]", "cls_token": "[CLS]",
        "sep_token": "[SEP]", "mask_token": "[MASK]", "pad_token": "[PAD]", "model_max_length": 512,
    });
    files::write_text(folder.join("vocab.txt"), &(made.tokens.join("\n") + "\n"))?;
    files::write_json(folder.join("tokenizer_config.json"), &settings)
}

/// The character that stands for a byte in GPT-2's vocabularies: itself where it can be seen, another one elsewhere.
fn char_of(byte: u8) -> char {
    let is_seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_seen(byte) {
        return char::from(byte);
    }
    let place = (0..byte).filter(|&before| !is_seen(before)).count() as u32;
    char::from_u32(256 + place).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// A vocabulary that grows.
struct Made {
    tokens: Vec<String>,
    known: HashSet<String>,
    merges: Vec<[String; 2]>,
    most: usize,
    wanted: usize,
}

impl Made {
    /// Of at most so many tokens, of which `bytes` come first.
    fn new(most: usize, bytes: usize) -> Result<Made> {
        if most < bytes + 8 {
            return Err(too_small(most));
        }
        let (tokens, known, merges) = (Vec::new(), HashSet::new(), Vec::new());
        Ok(Made { tokens, known, merges, most, wanted: most })
    }

    /// That all places are taken.
    fn check(&self, is_room: bool) -> Result<()> {
        if is_room && self.tokens.len() == self.most { Ok(()) } else { Err(too_small(self.wanted)) }
    }

    /// Whether there was room for a token that was not there.
    fn add(&mut self, token: String) -> bool {
        let is_new = self.tokens.len() < self.most && self.known.insert(token.clone());
        if is_new {
            self.tokens.push(token);
        }
        is_new
    }

    /// Two tokens as one; nothing without room.
    fn join(&mut self, first: &str, second: &str) -> Option<String> {
        let both = format!("{first}{second}");
        if self.add(both.clone()) {
            self.merges.push([first.to_string(), second.to_string()]);
        }
        self.known.contains(&both).then_some(both)
    }

    /// A word from its letters, from left to right.
    fn word(&mut self, letters: impl Iterator<Item = String>) {
        let mut sofar: Option<String> = None;
        for letter in letters {
            sofar = match sofar {
                None => Some(letter),
                Some(before) => match self.join(&before, &letter) {
                    Some(both) => Some(both),
                    None => return,
                },
            };
        }
    }

    /// A consonant and a vowel each.
    fn syllables(&mut self, end: &str) -> Vec<String> {
        let pairs = CONSONANTS.chars().flat_map(|c| VOWELS.chars().map(move |v| (c, v)));
        pairs.filter_map(|(c, v)| self.join(&c.to_string(), &format!("{v}{end}"))).collect()
    }

    fn pairs(&mut self, firsts: &[String], seconds: &[String]) -> Vec<String> {
        let mut made = Vec::new();
        for first in firsts {
            if self.tokens.len() >= self.most {
                break;
            }
            made.extend(seconds.iter().filter_map(|second| self.join(first, second)));
        }
        made
    }

    fn write(&self, folder: &Path, settings: &Value) -> Result<()> {
        files::make_folder(folder)?;
        let ids: Map<String, Value> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let mut merges = "#version: 0.2\n".to_string();
        self.merges.iter().for_each(|[first, second]| merges += &format!("{first} {second}\n"));
        for (name, text) in [
            ("vocab.json", Value::Object(ids).to_string()),
            ("merges.txt", merges),
            ("tokenizer_config.json", format!("{settings:#}\n")),
        ] {
            files::write_text(folder.join(name), &text)?;
        }
        Ok(())
    }
}

fn too_small(tokens: usize) -> Error {
    Error::setting("vocabulary", format!("{tokens} tokens cannot be made: wanted a few hundred to 100000"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizers::{BertTokenizer, ClipTokenizer, OptTokenizer};

    #[test]
    fn opt_reads_what_was_written_at_any_size() {
        let folder = tempfile::tempdir().unwrap();
        for (tokens, newline, has_image) in [(512, 10, true), (512, 511, false), (50_266, 50_118, true)] {
            write_opt(folder.path(), tokens, newline, has_image).unwrap();
            let tokenizer = OptTokenizer::open(folder.path()).unwrap();
            assert_eq!(tokenizer.vocabulary_size(), tokens);
            assert_eq!(tokenizer.encode("\n").unwrap(), [2, newline as i64]);
            assert_eq!(tokenizer.id("<image>"), has_image.then_some(tokens as i64 - 1));
            assert_eq!(tokenizer.pad_id(), Some(1));
            for text in [" a man riding a horse on the beach", "Größe 日本 🦀\n", " bacadi"] {
                let ids = tokenizer.encode(text).unwrap();
                assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            }
        }
        let full = OptTokenizer::open(folder.path()).unwrap();
        assert!((6..10).contains(&full.encode(" a man riding a horse").unwrap().len()));
    }

    #[test]
    fn clip_reads_what_was_written_at_any_size() {
        let folder = tempfile::tempdir().unwrap();
        for tokens in [1024, 49_408] {
            write_clip(folder.path(), tokens).unwrap();
            let tokenizer = ClipTokenizer::open(folder.path()).unwrap();
            assert_eq!(tokenizer.vocabulary_size(), tokens);
            assert_eq!((tokenizer.start_id(), tokenizer.end_id()), (tokens as i64 - 2, tokens as i64 - 1));
            let ids = tokenizer.encode("a dog and a cat", 77).unwrap();
            let words = ids.iter().position(|&id| id == tokenizer.end_id()).unwrap() - 1;
            assert_eq!(words, tokenizer.n_tokens("a dog and a cat").unwrap());
            assert!((5..9).contains(&words), "{ids:?}");
        }
    }

    #[test]
    fn bert_reads_what_was_written_at_any_size() {
        let folder = tempfile::tempdir().unwrap();
        for tokens in [308, 512, 30_522] {
            write_bert(folder.path(), tokens).unwrap();
            let tokenizer = BertTokenizer::open(folder.path()).unwrap();
            assert_eq!((tokenizer.vocabulary_size(), tokenizer.pad_id()), (tokens, 0));
            let ids = tokenizer.encode("A dog, a CAT", 16).unwrap();
            assert_eq!((ids[0], ids[ids.len() - 1]), (101, 102));
            assert!(ids.len() == 7 && !ids.contains(&100), "{ids:?}");
            assert_eq!(tokenizer.encode("日本", 16).unwrap(), [101, 100, 100, 102]);
        }
    }

    #[test]
    fn a_vocabulary_that_cannot_be_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_opt(folder.path(), 100, 10, true).is_err());
        assert!(write_opt(folder.path(), 0, 0, true).is_err());
        assert!(write_opt(folder.path(), 512, 600, true).is_err());
        assert!(write_clip(folder.path(), 300).is_err());
        assert!(write_bert(folder.path(), 307).is_err());
    }
}
