//! A thousand odd strings: the ids of transformers, by their hashes (tests/golden/odd_strings.py made them).
#![cfg(feature = "text")]

use mindreel::tokenizers::{BertTokenizer, ClipTokenizer, OptTokenizer};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn fixture() -> Value {
    serde_json::from_slice(&std::fs::read(golden("odd_strings.json")).unwrap()).unwrap()
}

/// A text, or a unit so many times with something behind it.
fn text(case: &Value) -> String {
    match case {
        Value::String(text) => text.clone(),
        case => {
            let part = |i: usize| case[i].as_str().unwrap();
            part(0).repeat(case[1].as_u64().unwrap() as usize) + part(2)
        }
    }
}

/// FNV-1a, 64 bits, over ids as little-endian u32.
fn hash(ids: &[i64]) -> String {
    let bytes = ids.iter().flat_map(|&id| u32::try_from(id).unwrap().to_le_bytes());
    let h =
        bytes.fold(0xCBF2_9CE4_8422_2325u64, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    format!("{h:016x}")
}

#[track_caller]
fn all_equal(name: &str, encode: impl Fn(&str) -> Vec<i64>) {
    let fixture = fixture();
    let (hashes, strings) =
        (fixture["hashes"][name].as_array().unwrap(), fixture["strings"].as_array().unwrap());
    assert_eq!((hashes.len(), strings.len()), (1000, 1000));
    let differing: Vec<String> = strings
        .iter()
        .zip(hashes)
        .map(|(case, wanted)| (text(case), wanted))
        .filter(|(text, wanted)| hash(&encode(text)) != wanted.as_str().unwrap())
        .map(|(text, _)| format!("{:?}", text.chars().take(60).collect::<String>()))
        .collect();
    let n = differing.len();
    assert!(
        n == 0,
        "{name}: {n} differ: {}",
        differing.iter().take(20).cloned().collect::<Vec<_>>().join(", ")
    );
}

#[test]
fn opts_ids_are_the_references() {
    let tokenizer = OptTokenizer::open(golden("tokenizer_opt")).unwrap();
    all_equal("opt", |text| tokenizer.encode(text).unwrap());
}

#[test]
fn clips_ids_are_the_references() {
    let tokenizer = ClipTokenizer::open(golden("tokenizer")).unwrap();
    all_equal("clip", |text| tokenizer.encode(text, 77).unwrap());
}

#[test]
fn berts_ids_are_the_references() {
    let tokenizer = BertTokenizer::open(golden("tokenizer_bert")).unwrap();
    all_equal("bert", |text| tokenizer.encode(text, 256).unwrap());
}

/// With the published vocabularies, where they are: `MINDREEL_MINILM` and `MINDREEL_CLIP` name their folders.
#[test]
fn published_vocabularies_give_the_references_ids() {
    let folder = |variable: &str| {
        let folder = std::env::var_os(variable).map(PathBuf::from);
        if folder.is_none() {
            eprintln!("skipped: {variable} does not name a folder with the published vocabulary");
        }
        folder
    };
    if let Some(folder) = folder("MINDREEL_MINILM") {
        let whole = BertTokenizer::open(&folder).unwrap();
        all_equal("minilm", |text| whole.encode(text, 256).unwrap());
        // The same from vocab.txt alone.
        let alone = tempfile::tempdir().unwrap();
        std::fs::copy(folder.join("vocab.txt"), alone.path().join("vocab.txt")).unwrap();
        let words = BertTokenizer::open(alone.path()).unwrap();
        all_equal("minilm", |text| words.encode(text, 256).unwrap());
    }
    if let Some(folder) = folder("MINDREEL_CLIP") {
        let tokenizer = ClipTokenizer::open(folder).unwrap();
        all_equal("clip_published", |text| tokenizer.encode(text, 77).unwrap());
    }
}
