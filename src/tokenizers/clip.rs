//! CLIP's byte-level BPE: a prompt -> [start, …, end, pad, …] of fixed length.
//!
//! ```text
//! NFC, one space for any white space, lower case -> split at contractions, letters, single digits, the rest
//!   -> bytes as printable characters -> merges, the last piece of a word marked "</w>"
//! ```
//!
//! Same as transformers' `CLIPTokenizer` (5.23.0, `models/clip/tokenization_clip.py`) with `padding="max_length"`
//! and `truncation=True`.

use super::folder::{self, content, from_json, ids_of};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;
use tokenizers::Tokenizer;

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A CLIP tokenizer, read from the `tokenizer/` folder of a checkpoint.
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    start: u32,
    end: u32,
    pad: u32,
}

impl ClipTokenizer {
    /// Opens a folder with `tokenizer.json`, or with `vocab.json` and `merges.txt`.
    ///
    /// The padding token is what `tokenizer_config.json` or `special_tokens_map.json` names, else the end token
    /// (as Stable Diffusion v1 pads).
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for a file above 64 MiB, broken JSON, merges outside the
    /// vocabulary, or a vocabulary without `<|startoftext|>`, `<|endoftext|>` or the padding token.
    pub fn open(folder: impl AsRef<Path>) -> Result<ClipTokenizer> {
        let folder = folder.as_ref();
        let settings = folder::settings(folder)?;
        let (file, tokenizer) = match folder::whole(folder)? {
            Some(whole) => whole,
            None => {
                let file = folder.join("vocab.json");
                let tokenizer = from_vocabulary(&file, &folder.join("merges.txt"), &settings)?;
                (file, tokenizer)
            }
        };
        let id = |token: &str| {
            let missing = || Error::format(&file, format!("has no token {token:?}; is it a CLIP tokenizer?"));
            tokenizer.token_to_id(token).ok_or_else(missing)
        };
        let pad = content(settings.get("pad_token")).unwrap_or(END);
        let (start, end, pad) = (id(START)?, id(END)?, id(pad)?);
        Ok(ClipTokenizer { tokenizer, start, end, pad })
    }

    /// The ids of `text`: start token, text, end token, padding up to `max_length` (77 for Stable Diffusion).
    /// Longer text is cut before the end token.
    ///
    /// Errors: [`Error::Setting`] for a length without room for both marks; [`Error::Shape`] for text that the
    /// tokenizer cannot encode (a vocabulary without single bytes).
    pub fn encode(&self, text: &str, max_length: usize) -> Result<Vec<i64>> {
        if max_length < 2 {
            let detail = format!("{max_length} was given, wanted at least 2 for the start and end tokens");
            return Err(Error::setting("max_length", detail));
        }
        let words = ids_of(&self.tokenizer, text)?.into_iter().take(max_length - 2);
        let ids = std::iter::once(self.start).chain(words).chain([self.end]);
        Ok(ids.chain(std::iter::repeat(self.pad)).take(max_length).map(i64::from).collect())
    }

    /// Tokens of `text`, without those that begin and end it.
    ///
    /// Errors: as [`ClipTokenizer::encode`].
    pub fn n_tokens(&self, text: &str) -> Result<usize> {
        Ok(ids_of(&self.tokenizer, text)?.len())
    }

    /// Id of `<|startoftext|>`, 49406 as published.
    pub fn start_id(&self) -> i64 {
        self.start.into()
    }

    /// Id of `<|endoftext|>`, 49407 as published; the text encoder pools there.
    pub fn end_id(&self) -> i64 {
        self.end.into()
    }

    /// Number of tokens, 49408 as published.
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }
}

/// Puts the two files into the one form that the `tokenizers` crate reads.
fn from_vocabulary(vocab: &Path, merges: &Path, settings: &Map<String, Value>) -> Result<Tokenizer> {
    let (tokens, pairs) = folder::vocabulary(vocab, merges)?;
    let added: Vec<Value> = [START, END]
        .iter()
        .zip(["bos_token", "eos_token"])
        .filter_map(|(token, key)| {
            // Where the config marks it so, capitals match too: the text is searched after lower-casing.
            let normalized = settings.get(key).and_then(|v| v.get("normalized")).and_then(Value::as_bool);
            Some(json!({
                "id": tokens.get(*token)?, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": normalized.unwrap_or(false), "special": true,
            }))
        })
        .collect();
    let whole = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": END, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "vocab": tokens,
            "merges": pairs,
        },
    });
    from_json(vocab, whole.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer")
    }

    /// A folder with the golden vocabulary and merges, and files of its own.
    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["vocab.json", "merges.txt"] {
            std::fs::copy(golden().join(name), folder.path().join(name)).unwrap();
        }
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    /// Ids by transformers 5.23.0 for odd strings; `tests/golden/tokenizer_cases.py` made them.
    #[test]
    fn ids_are_those_of_the_reference() {
        let tokenizer = ClipTokenizer::open(golden()).unwrap();
        let cases: Value =
            serde_json::from_slice(&std::fs::read(golden().join("cases.json")).unwrap()).unwrap();
        assert_eq!(tokenizer.vocabulary_size() as u64, cases["vocab_size"].as_u64().unwrap());
        assert_eq!(tokenizer.start_id(), cases["bos_token_id"].as_i64().unwrap());
        assert_eq!(tokenizer.end_id(), cases["eos_token_id"].as_i64().unwrap());
        let max_length = cases["max_length"].as_u64().unwrap() as usize;
        let ids = |value: &Value| -> Vec<i64> { serde_json::from_value(value.clone()).unwrap() };
        let all = ["cases", "special_cases"].map(|key| cases[key].as_array().unwrap().clone()).concat();
        assert!(all.len() > 40);
        for case in all {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text, max_length).unwrap(), ids(&case["ids"]), "{text:?}");
            let whole = ids(&case["untruncated"]);
            assert_eq!(tokenizer.encode(text, whole.len()).unwrap(), whole, "{text:?}");
        }
    }

    #[test]
    fn one_file_and_two_files_agree() {
        let two = ClipTokenizer::open(golden()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        two.tokenizer.save(folder.path().join("tokenizer.json"), false).unwrap();
        let one = ClipTokenizer::open(folder.path()).unwrap();
        for text in ["a cat<|endoftext|>", "It's 12 CAFE\u{301}S!", ""] {
            assert_eq!(one.encode(text, 77).unwrap(), two.encode(text, 77).unwrap());
        }
    }

    #[test]
    fn the_padding_token_comes_from_the_settings() {
        let bang = r#"{"pad_token": {"content": "!", "lstrip": false}}"#;
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let folder = folder_with(&[(name, bang)]);
            let tokenizer = ClipTokenizer::open(folder.path()).unwrap();
            let ids = tokenizer.encode("", 4).unwrap();
            assert_eq!(ids, [tokenizer.start_id(), tokenizer.end_id(), 0, 0]); // "!" is the first byte character
        }
        let folder = folder_with(&[("tokenizer_config.json", r#"{"pad_token": "<pad>"}"#)]);
        let text = ClipTokenizer::open(folder.path()).err().unwrap().to_string();
        assert!(text.contains(r#"vocab.json: has no token "<pad>""#), "{text}");
    }

    #[test]
    fn capitals_of_a_special_token_match_where_the_settings_say_so() {
        let settings = r#"{"eos_token": {"content": "<|endoftext|>", "normalized": true}}"#;
        let folder = folder_with(&[("tokenizer_config.json", settings)]);
        let loose = ClipTokenizer::open(folder.path()).unwrap();
        let strict = ClipTokenizer::open(golden()).unwrap();
        let text = "a <|EndOfText|>";
        assert_eq!(loose.encode(text, 4).unwrap()[2], loose.end_id());
        assert_ne!(strict.encode(text, 4).unwrap()[2], strict.end_id());
    }

    #[test]
    fn broken_files_are_refused_in_one_line() {
        for (name, content, wanted) in [
            ("tokenizer.json", "{", "tokenizer.json: is no tokenizer: "),
            ("tokenizer.json", "{}", "tokenizer.json: is no tokenizer: "),
            ("vocab.json", r#"{"a": "b"}"#, "vocab.json: is no vocabulary, token to id: "),
            ("vocab.json", r#"{"a": -1}"#, "vocab.json: is no vocabulary, token to id: "),
            ("vocab.json", "{}", "line 2: \"i\" is not in "),
            ("merges.txt", "#version\nzq zq\n", "line 2: \"zq\" is not in "),
            ("merges.txt", "i n g\n", "line 1: wanted two tokens, got \"i n g\""),
            ("merges.txt", "", ""),
            ("tokenizer_config.json", "[]", "tokenizer_config.json: is no JSON object: "),
            ("tokenizer_config.json", "", "tokenizer_config.json: is no JSON object: "),
        ] {
            let folder = folder_with(&[(name, content)]);
            match ClipTokenizer::open(folder.path()) {
                Ok(_) => assert!(wanted.is_empty(), "{name} {content}"),
                Err(e) => {
                    let text = e.to_string();
                    assert!(text.contains(wanted) && !wanted.is_empty() && !text.contains('\n'), "{text}");
                }
            }
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(ClipTokenizer::open(empty.path()), Err(Error::Read { .. })));
        std::fs::write(empty.path().join("vocab.json"), "{}").unwrap();
        std::fs::write(empty.path().join("merges.txt"), "").unwrap();
        assert!(
            ClipTokenizer::open(empty.path()).err().unwrap().to_string().contains("is it a CLIP tokenizer?")
        );
    }

    #[test]
    fn lengths_without_room_are_refused_and_long_text_is_cut() {
        let tokenizer = ClipTokenizer::open(golden()).unwrap();
        assert!(tokenizer.encode("a", 1).is_err());
        let ids = tokenizer.encode(&"cat ".repeat(10_000), 77).unwrap();
        assert_eq!((ids.len(), ids[0], ids[76]), (77, tokenizer.start_id(), tokenizer.end_id()));
    }
}
