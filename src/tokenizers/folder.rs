//! What the tokenizers' folders have in common: their files, their settings.

use crate::error::{Error, Result};
use crate::files;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

pub(super) const FILE_LIMIT_BYTES: u64 = 64 << 20;

/// Tokens with their ids.
pub(super) type Vocabulary = HashMap<String, u32>;

/// The tokenizer of `tokenizer.json`, where the folder has one.
pub(super) fn whole(folder: &Path) -> Result<Option<(PathBuf, Tokenizer)>> {
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        return Ok(None);
    }
    let tokenizer = from_json(&path, &files::read_small(&path, FILE_LIMIT_BYTES)?)?;
    Ok(Some((path, tokenizer)))
}

/// A tokenizer from JSON; `path` is for messages.
pub(super) fn from_json(path: &Path, json: &[u8]) -> Result<Tokenizer> {
    let mut tokenizer =
        Tokenizer::from_bytes(json).map_err(|e| Error::format(path, format!("is no tokenizer: {e}")))?;
    // Length is a matter of `encode`; a file may carry its own.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|e| Error::format(path, e.to_string()))?;
    Ok(tokenizer)
}

/// `vocab.json` and the pairs of `merges.txt`, all of whose tokens it has.
pub(super) fn vocabulary(vocab: &Path, merges: &Path) -> Result<(Vocabulary, Vec<[String; 2]>)> {
    let tokens: Vocabulary = serde_json::from_slice(&files::read_small(vocab, FILE_LIMIT_BYTES)?)
        .map_err(|e| Error::format(vocab, format!("is no vocabulary, token to id: {e}")))?;
    let text = text(merges)?;
    let mut pairs = Vec::new();
    for (line_idx, line) in text.lines().enumerate() {
        if line.trim().is_empty() || (line_idx == 0 && line.starts_with("#version")) {
            continue;
        }
        let pair =
            line.split_once(' ').filter(|(_, second)| !second.trim().is_empty() && !second.contains(' '));
        let Some((first, second)) = pair else {
            return Err(Error::format(
                merges,
                format!("line {}: wanted two tokens, got {line:?}", line_idx + 1),
            ));
        };
        for token in [first, second, &format!("{first}{second}")] {
            if !tokens.contains_key(token) {
                let detail = format!("line {}: {token:?} is not in {}", line_idx + 1, vocab.display());
                return Err(Error::format(merges, detail));
            }
        }
        pairs.push([first.to_string(), second.to_string()]);
    }
    Ok((tokens, pairs))
}

/// A text file whole.
pub(super) fn text(path: &Path) -> Result<String> {
    String::from_utf8(files::read_small(path, FILE_LIMIT_BYTES)?)
        .map_err(|_| Error::format(path, "is not UTF-8"))
}

/// `special_tokens_map.json` under `tokenizer_config.json`, as far as they are there.
pub(super) fn settings(folder: &Path) -> Result<Map<String, Value>> {
    let mut settings = Map::new();
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        settings.extend(object(&folder.join(name))?.into_iter().filter(|(_, value)| !value.is_null()));
    }
    Ok(settings)
}

/// A JSON object; an empty one where there is no such file.
pub(super) fn object(path: &Path) -> Result<Map<String, Value>> {
    if !path.exists() {
        return Ok(Map::new());
    }
    serde_json::from_slice(&files::read_small(path, FILE_LIMIT_BYTES)?)
        .map_err(|e| Error::format(path, format!("is no JSON object: {e}")))
}

/// A special token is written as its text, or as an object with `content`.
pub(super) fn content(token: Option<&Value>) -> Option<&str> {
    token.and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()))
}

/// Entries of `added_tokens`: the special tokens of the settings and what the folder adds beside its vocabulary, by
/// their ids. `usual` are what the settings need not say. A special token without an id is left out.
pub(super) fn added(
    folder: &Path,
    settings: &Map<String, Value>,
    tokens: &Vocabulary,
    usual: &[(&str, &str)],
) -> Result<Vec<Value>> {
    let more = object(&folder.join("added_tokens.json"))?;
    let mut added: Vec<(u64, Value)> = Vec::new();
    let mut add = |id: u64, token: &Value, is_special: bool| {
        let flag = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
        if let Some(content) = content(Some(token))
            && !added.iter().any(|(known, _)| *known == id)
        {
            let special = token.get("special").and_then(Value::as_bool).unwrap_or(is_special);
            let entry = json!({
                "id": id, "content": content, "single_word": flag("single_word"), "lstrip": flag("lstrip"),
                "rstrip": flag("rstrip"), "normalized": flag("normalized"), "special": special,
            });
            added.push((id, entry));
        }
    };
    for (id, token) in settings.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
        let Ok(id) = id.parse() else {
            let path = folder.join("tokenizer_config.json");
            return Err(Error::format(path, format!("added_tokens_decoder: wanted ids, got {id:?}")));
        };
        add(id, token, false);
    }
    let id_of = |text: &str| {
        tokens.get(text).map(|&id| u64::from(id)).or_else(|| more.get(text).and_then(Value::as_u64))
    };
    for (key, text) in usual {
        let usual = json!(text);
        let token = settings.get(*key).unwrap_or(&usual);
        if let Some(id) = content(Some(token)).and_then(id_of) {
            add(id, token, true);
        }
    }
    for (text, id) in &more {
        if let Some(id) = id.as_u64() {
            add(id, &json!(text), false);
        }
    }
    // New ids are given out in the order of this list.
    added.sort_by_key(|(id, _)| *id);
    Ok(added.into_iter().map(|(_, entry)| entry).collect())
}

/// Refuses a tokenizer whose added tokens got other ids than the folder gives them: ids behind the vocabulary have no
/// gaps.
pub(super) fn check_added(path: &Path, tokenizer: &Tokenizer, added: &[Value]) -> Result<()> {
    for token in added {
        let (text, id) = (token["content"].as_str().unwrap_or_default(), token["id"].as_u64());
        let got = tokenizer.token_to_id(text);
        if got.map(u64::from) != id {
            let detail = format!(
                "the added token {text:?} has id {}, behind the vocabulary it would be {}",
                id.unwrap_or_default(),
                got.unwrap_or_default()
            );
            return Err(Error::format(path, detail));
        }
    }
    Ok(())
}

/// The ids of a text, without those that begin or end it.
pub(super) fn ids_of(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode_fast(text, false);
    let encoding = encoding.map_err(|e| Error::shape("tokenizer", e.to_string()))?;
    Ok(encoding.get_ids().to_vec())
}
