//! OPT's byte-level BPE, which is GPT-2's: a text -> [`</s>`, …], and ids -> text.
//!
//! ```text
//! split at contractions, letters, digits, the rest, each with the space before it -> bytes as printable characters
//!   -> merges; `</s>` before all of it
//! ```
//!
//! Same as transformers' `GPT2Tokenizer` (5.23.0) with `add_bos_token`, as OPT and BLIP-2 are published with.

use super::folder::{self, content, from_json, ids_of};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;
use tokenizers::Tokenizer;

/// What a folder need not say.
const USUAL: [(&str, &str); 4] =
    [("bos_token", "</s>"), ("eos_token", "</s>"), ("unk_token", "</s>"), ("pad_token", "<pad>")];

/// An OPT tokenizer, read from the folder of a checkpoint.
pub struct OptTokenizer {
    tokenizer: Tokenizer,
    start: Option<u32>,
    pad: Option<u32>,
}

impl OptTokenizer {
    /// Opens a folder with `tokenizer.json`, or with `vocab.json` and `merges.txt`; `tokenizer_config.json` names the
    /// special tokens, where they are others than OPT's.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for a file above 64 MiB, broken JSON, merges outside the vocabulary, a
    /// vocabulary without the token that begins a text, or added tokens with gaps between their ids.
    pub fn open(folder: impl AsRef<Path>) -> Result<OptTokenizer> {
        let folder = folder.as_ref();
        let settings = folder::settings(folder)?;
        let (file, tokenizer) = match folder::whole(folder)? {
            Some(whole) => whole,
            None => (folder.join("vocab.json"), from_vocabulary(folder, &settings)?),
        };
        let begins = settings.get("add_bos_token").and_then(Value::as_bool).unwrap_or(true);
        let bos = content(settings.get("bos_token")).unwrap_or(USUAL[0].1);
        let start = tokenizer.token_to_id(bos);
        if begins && start.is_none() {
            return Err(Error::format(file, format!("has no token {bos:?}; is it an OPT tokenizer?")));
        }
        let pad = tokenizer.token_to_id(content(settings.get("pad_token")).unwrap_or(USUAL[3].1));
        Ok(OptTokenizer { tokenizer, start: start.filter(|_| begins), pad })
    }

    /// The ids of `text`, behind the token that begins it.
    ///
    /// Errors: [`Error::Shape`] for text that the tokenizer cannot encode (a vocabulary without single bytes).
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        Ok(self.start.into_iter().chain(ids_of(&self.tokenizer, text)?).map(i64::from).collect())
    }

    /// The text of `ids`, special tokens left out; bytes that are no UTF-8 become U+FFFD, ids that nothing stands for
    /// are passed over.
    ///
    /// Errors: [`Error::Shape`] for what the tokenizer cannot decode.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let ids: Vec<u32> = ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
        self.tokenizer.decode(&ids, true).map_err(|e| Error::shape("tokenizer", e.to_string()))
    }

    /// Id that stands for nothing, 1 as published; none where the folder has none.
    pub fn pad_id(&self) -> Option<i64> {
        self.pad.map(i64::from)
    }

    /// The id of a token: `<image>`, say.
    pub fn id(&self, token: &str) -> Option<i64> {
        self.tokenizer.token_to_id(token).map(i64::from)
    }

    /// Number of tokens, added ones included: 50265 for OPT, one more for BLIP-2.
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }
}

/// Puts the two files into the one form that the `tokenizers` crate reads.
fn from_vocabulary(folder: &Path, settings: &Map<String, Value>) -> Result<Tokenizer> {
    let vocab = folder.join("vocab.json");
    let (tokens, pairs) = folder::vocabulary(&vocab, &folder.join("merges.txt"))?;
    let added = folder::added(folder, settings, &tokens, &USUAL)?;
    let space = settings.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
    let bytes = |space: bool| json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": true});
    let whole = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": bytes(space),
        "post_processor": null,
        "decoder": bytes(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "vocab": tokens, "merges": pairs,
        },
    });
    let tokenizer = from_json(&vocab, whole.to_string().as_bytes())?;
    folder::check_added(&vocab, &tokenizer, &added)?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer_opt")
    }

    fn cases() -> Value {
        serde_json::from_slice(&std::fs::read(golden().join("cases.json")).unwrap()).unwrap()
    }

    fn ids(value: &Value) -> Vec<i64> {
        serde_json::from_value(value.clone()).unwrap()
    }

    /// A copy of the golden folder with files of its own.
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

    /// Ids and texts by transformers 5.23.0; `tests/golden/text_cases.py` made them.
    #[test]
    fn ids_and_texts_are_those_of_the_reference() {
        let two = OptTokenizer::open(golden()).unwrap();
        let folder = folder_with(&[]);
        std::fs::copy(golden().join("tokenizer_config.json"), folder.path().join("tokenizer_config.json"))
            .unwrap();
        two.tokenizer.save(folder.path().join("tokenizer.json"), false).unwrap();
        let one = OptTokenizer::open(folder.path()).unwrap();
        let cases = cases();
        for tokenizer in [&two, &one] {
            assert_eq!(tokenizer.vocabulary_size() as u64, cases["vocab_size"].as_u64().unwrap());
            assert_eq!(tokenizer.id("<image>"), cases["image_token_id"].as_i64());
            assert_eq!(tokenizer.pad_id(), Some(1));
            for case in cases["cases"].as_array().unwrap() {
                let text = case["text"].as_str().unwrap();
                let want = ids(&case["ids"]);
                assert_eq!(tokenizer.encode(text).unwrap(), want, "{text:?}");
                assert_eq!(tokenizer.decode(&want).unwrap(), case["decoded"].as_str().unwrap(), "{text:?}");
            }
            for case in cases["decoded"].as_array().unwrap() {
                let ids = ids(&case["ids"]);
                assert_eq!(tokenizer.decode(&ids).unwrap(), case["text"].as_str().unwrap(), "{ids:?}");
            }
        }
        assert!(cases["cases"].as_array().unwrap().len() > 160);
        assert_eq!(two.encode(&"cat ".repeat(20_000)).unwrap()[0], 2);
        assert_eq!(two.decode(&[-3, 1 << 40, 2]).unwrap(), "");
    }

    #[test]
    fn the_settings_are_followed() {
        let bare = OptTokenizer::open(folder_with(&[]).path()).unwrap();
        assert_eq!((bare.encode("").unwrap(), bare.pad_id(), bare.id("<image>")), (vec![2], Some(1), None));
        let plain =
            folder_with(&[("tokenizer_config.json", r#"{"add_bos_token": false, "bos_token": "<s>"}"#)]);
        assert!(OptTokenizer::open(plain.path()).unwrap().encode("").unwrap().is_empty());
        let other = folder_with(&[("tokenizer_config.json", r#"{"bos_token": {"content": "<s>"}}"#)]);
        assert_eq!(OptTokenizer::open(other.path()).unwrap().encode("").unwrap(), [0]);
        let size = bare.vocabulary_size();
        let image = folder_with(&[("added_tokens.json", &format!(r#"{{"<image>": {size}}}"#))]);
        let with = OptTokenizer::open(image.path()).unwrap();
        assert_eq!(with.encode("<image>a").unwrap()[..2], [2, size as i64]);
    }

    #[test]
    fn broken_folders_are_refused_in_one_line() {
        let far = r#"{"added_tokens_decoder": {"9999": {"content": "<image>"}}}"#;
        for (name, text, wanted) in [
            ("vocab.json", "[]", "is no vocabulary"),
            ("merges.txt", "a b c\n", "line 1: wanted two tokens"),
            ("tokenizer.json", "{}", "is no tokenizer"),
            ("tokenizer_config.json", r#"{"bos_token": "<b>"}"#, r#"has no token "<b>""#),
            ("tokenizer_config.json", far, "has id 9999"),
            ("tokenizer_config.json", r#"{"added_tokens_decoder": {"x": "<i>"}}"#, "wanted ids"),
        ] {
            let folder = folder_with(&[(name, text)]);
            let error = OptTokenizer::open(folder.path()).err().unwrap_or_else(|| panic!("{name} {text}"));
            assert!(error.to_string().contains(wanted) && !error.to_string().contains('\n'), "{error}");
        }
    }
}
