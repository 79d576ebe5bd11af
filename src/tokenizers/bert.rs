//! BERT's WordPiece: a text -> [`[CLS]`, …, `[SEP]`].
//!
//! ```text
//! control characters out, spaces around CJK, lower case without accents (an uncased model) -> split at white space and
//!   punctuation -> the longest piece of the vocabulary first, later ones marked "##"
//! ```
//!
//! Same as transformers' `BertTokenizer` (5.23.0, `models/bert/tokenization_bert.py`).

use super::folder::{self, Vocabulary, content, from_json, ids_of};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;
use tokenizers::Tokenizer;

/// What a folder need not say.
const USUAL: [(&str, &str); 5] = [
    ("cls_token", "[CLS]"),
    ("sep_token", "[SEP]"),
    ("unk_token", "[UNK]"),
    ("pad_token", "[PAD]"),
    ("mask_token", "[MASK]"),
];

/// A BERT tokenizer, read from the folder of a checkpoint.
pub struct BertTokenizer {
    tokenizer: Tokenizer,
    start: u32,
    end: u32,
    pad: u32,
}

impl BertTokenizer {
    /// Opens a folder with `tokenizer.json`, or with `vocab.txt`; `tokenizer_config.json` says whether case and accents
    /// count (`do_lower_case`, `strip_accents`, `tokenize_chinese_chars`) and names the special tokens.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for a file above 64 MiB, broken JSON, or a vocabulary without the
    /// tokens that begin, end and pad a text.
    pub fn open(folder: impl AsRef<Path>) -> Result<BertTokenizer> {
        let folder = folder.as_ref();
        let settings = folder::settings(folder)?;
        let (file, tokenizer) = match folder::whole(folder)? {
            Some(whole) => whole,
            None => (folder.join("vocab.txt"), from_vocabulary(folder, &settings)?),
        };
        let id = |(key, usual): (&str, &str)| {
            let token = content(settings.get(key)).unwrap_or(usual);
            let missing = || Error::format(&file, format!("has no token {token:?}; is it a BERT tokenizer?"));
            tokenizer.token_to_id(token).ok_or_else(missing)
        };
        let (start, end, pad) = (id(USUAL[0])?, id(USUAL[1])?, id(USUAL[3])?);
        Ok(BertTokenizer { tokenizer, start, end, pad })
    }

    /// The ids of `text`: start token, text, end token; longer text is cut before the end token to `max_length` in all.
    ///
    /// Errors: [`Error::Setting`] for a length without room for both marks.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<Vec<i64>> {
        if max_length < 2 {
            let detail = format!("{max_length} was given, wanted at least 2 for the start and end tokens");
            return Err(Error::setting("max_length", detail));
        }
        let words = ids_of(&self.tokenizer, text)?.into_iter().take(max_length - 2);
        Ok(std::iter::once(self.start).chain(words).chain([self.end]).map(i64::from).collect())
    }

    /// Id that stands for nothing, 0 as published.
    pub fn pad_id(&self) -> i64 {
        self.pad.into()
    }

    /// Number of tokens, 30522 as published.
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }
}

/// Puts the vocabulary, a token to a line, into the form that the `tokenizers` crate reads.
fn from_vocabulary(folder: &Path, settings: &Map<String, Value>) -> Result<Tokenizer> {
    let vocab = folder.join("vocab.txt");
    let text = folder::text(&vocab)?.replace("\r\n", "\n").replace('\r', "\n");
    let lines = text.strip_suffix('\n').unwrap_or(&text).split('\n');
    let tokens: Vocabulary = lines.enumerate().map(|(id, token)| (token.to_string(), id as u32)).collect();
    let unknown = content(settings.get("unk_token")).unwrap_or(USUAL[2].1);
    if !tokens.contains_key(unknown) {
        return Err(Error::format(&vocab, format!("has no token {unknown:?}; is it a BERT tokenizer?")));
    }
    let added = folder::added(folder, settings, &tokens, &USUAL)?;
    let switch = |key: &str, usual: bool| settings.get(key).and_then(Value::as_bool).unwrap_or(usual);
    let whole = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": switch("tokenize_chinese_chars", true),
            "strip_accents": settings.get("strip_accents").and_then(Value::as_bool),
            "lowercase": switch("do_lower_case", true),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": tokens,
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
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer_bert")
    }

    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(golden().join("vocab.txt"), folder.path().join("vocab.txt")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    /// Ids by transformers 5.23.0; `tests/golden/text_cases.py` made them.
    #[test]
    fn ids_are_those_of_the_reference() {
        let lines = BertTokenizer::open(golden()).unwrap();
        let folder = folder_with(&[]);
        lines.tokenizer.save(folder.path().join("tokenizer.json"), false).unwrap();
        let whole = BertTokenizer::open(folder.path()).unwrap();
        let settings = r#"{"do_lower_case": false, "tokenize_chinese_chars": false}"#;
        let cased = BertTokenizer::open(folder_with(&[("tokenizer_config.json", settings)]).path()).unwrap();
        let cases: Value =
            serde_json::from_slice(&std::fs::read(golden().join("cases.json")).unwrap()).unwrap();
        let max_length = cases["max_length"].as_u64().unwrap() as usize;
        let ids = |value: &Value| -> Vec<i64> { serde_json::from_value(value.clone()).unwrap() };
        let all = cases["cases"].as_array().unwrap();
        assert!(all.len() > 160);
        for case in all {
            let text = case["text"].as_str().unwrap();
            for tokenizer in [&lines, &whole] {
                assert_eq!(tokenizer.encode(text, max_length).unwrap(), ids(&case["ids"]), "{text:?}");
                assert_eq!(
                    tokenizer.encode(text, usize::MAX).unwrap(),
                    ids(&case["untruncated"]),
                    "{text:?}"
                );
            }
            assert_eq!(cased.encode(text, usize::MAX).unwrap(), ids(&case["cased"]), "{text:?}");
        }
        assert_eq!(
            (lines.pad_id(), lines.vocabulary_size() as u64),
            (0, cases["vocab_size"].as_u64().unwrap())
        );
        assert!(lines.encode("a", 1).is_err());
    }

    #[test]
    fn broken_folders_are_refused_in_one_line() {
        for (name, text, wanted) in [
            ("vocab.txt", "a\nb\n", r#"has no token "[UNK]""#),
            ("vocab.txt", "[UNK]\n[CLS]\n[PAD]\n", r#"has no token "[SEP]""#),
            ("tokenizer.json", "[]", "is no tokenizer"),
            ("tokenizer_config.json", "7", "is no JSON object"),
        ] {
            let error = BertTokenizer::open(folder_with(&[(name, text)]).path()).err().unwrap();
            assert!(error.to_string().contains(wanted) && !error.to_string().contains('\n'), "{error}");
        }
        assert!(matches!(BertTokenizer::open(tempfile::tempdir().unwrap().path()), Err(Error::Read { .. })));
    }

    #[test]
    fn lines_may_end_as_windows_ends_them() {
        let text = std::fs::read_to_string(golden().join("vocab.txt")).unwrap().replace('\n', "\r\n");
        let folder = folder_with(&[("vocab.txt", &text)]);
        let (here, there) =
            (BertTokenizer::open(golden()).unwrap(), BertTokenizer::open(folder.path()).unwrap());
        assert_eq!(here.encode("a cat sat", 77).unwrap(), there.encode("a cat sat", 77).unwrap());
    }
}
