//! A language model from the command line: `forward --component generate`.

#![cfg(feature = "cli")]

mod common;

use assert_cmd::Command;
use mindreel::models::{self, Input, Inputs};
use mindreel::nn::Precision;
use mindreel::weights::{self, Checkpoint, Dtype, NewTensor};
use std::collections::BTreeMap;
use std::path::Path;

fn mindreel() -> Command {
    let mut command = Command::cargo_bin("mindreel").expect("the binary is built for this test");
    command.arg("--quiet");
    command
}

fn write_ids(path: &Path, tensors: &[(&str, &[i64])]) {
    let tensors = tensors.iter().map(|(name, ids)| NewTensor::from_i64(*name, [2, ids.len() / 2], ids));
    weights::write(path, tensors.collect(), &BTreeMap::new()).unwrap();
}

#[test]
fn a_text_goes_on_from_its_prompt() {
    let Some(gpu) = common::gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    mindreel().args(["init", "opt-2.7b-tiny", "--output"]).arg(at("opt")).assert().success();
    let (ids, mask) = ([2, 7, 300, 41, 1, 1, 2, 99], [1, 1, 1, 1, 0, 0, 1, 1]);
    write_ids(&at("in.safetensors"), &[("input_ids", &ids), ("attention_mask", &mask)]);
    let forward = |model: &str, more: &[&str]| {
        let mut command = mindreel();
        command.args(["forward", "--force", "--model"]).arg(at(model));
        command.arg("--input").arg(at("in.safetensors")).arg("--output").arg(at("out.safetensors"));
        command.args(more);
        command
    };
    let generate = ["--component", "generate", "--max-new-tokens", "6"];
    forward("opt", &generate).assert().success();
    let out = Checkpoint::open(at("out.safetensors")).unwrap();
    let sequences = out.get("sequences").unwrap();
    assert_eq!((sequences.dtype, sequences.shape[0], out.names().count()), (Dtype::I64, 2, 1));

    let model = models::open(&gpu, &at("opt"), Precision::F32).unwrap().model;
    let input = |ids: [i64; 8]| Input::Ids(vec![2, 4], ids.to_vec());
    let given = [("input_ids".to_string(), input(ids)), ("attention_mask".to_string(), input(mask))];
    let want = model.generate(&Inputs(given.into()), 6).unwrap();
    assert_eq!(weights::to_i64(&sequences).unwrap(), want.concat());
    assert_eq!([&want[0][..4], &want[1][..4]].concat(), ids);

    forward("opt", &["--dtype", "int8"]).assert().success();
    let logits = Checkpoint::open(at("out.safetensors")).unwrap();
    assert_eq!(logits.get("logits").unwrap().shape, [2, 4, 512]);

    let refused = |command: &mut Command, wanted: &str| {
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && text.contains(wanted), "{text}");
    };
    refused(&mut forward("opt", &generate[..2]), "--max-new-tokens");
    refused(&mut forward("opt", &generate[2..]), "--component generate");
    refused(&mut forward("opt", &["--component", "generate", "--max-new-tokens", "0"]), "at least 1");
    mindreel().args(["init", "all-minilm-l6-v2-tiny", "--output"]).arg(at("bert")).assert().success();
    refused(&mut forward("bert", &generate), "writes no text");
}
