//! The binary as its users meet it: exit codes, one line on stderr, results on stdout.

#![cfg(feature = "cli")]

mod common;
#[path = "common/binary.rs"]
mod binary;

use assert_cmd::Command;
use binary::{json, mindreel, outcome, refusal};
use common::gpu;
use mindreel::models::{self, Inputs};
use mindreel::nn::Precision;
use mindreel::weights::{self, Checkpoint, Dtype, NewTensor, random};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A `tiny` checkpoint in a folder of its own.
fn tiny() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    mindreel().args(["init", "tiny", "--seed", "3", "--output"]).arg(&model).assert().success();
    (folder, model)
}

/// Tensors by name.
type Shapes<'a> = &'a [(&'a str, &'a [usize])];

fn write(path: &Path, tensors: Shapes) {
    let values: Vec<Vec<f32>> = tensors
        .iter()
        .map(|(name, shape)| {
            let mut values = vec![0.0; shape.iter().product()];
            random::fill(name, &[values.len()], 1, &mut values);
            values
        })
        .collect();
    let tensors = tensors.iter().zip(&values);
    let tensors = tensors.map(|((name, shape), values)| NewTensor::from_f32(*name, *shape, values));
    weights::write(path, tensors.collect(), &BTreeMap::new()).unwrap();
}

#[test]
fn every_command_has_help_with_examples() {
    for command in ["doctor", "info", "init", "prepare", "forward", "video", "bench"] {
        let (code, stdout, stderr) = outcome(mindreel().args([command, "--help"]));
        assert_eq!(code, 0);
        assert!(stdout.contains("Usage: mindreel") && stdout.contains("Examples:"), "{command}: {stdout}");
        assert!(stdout.lines().all(|line| line.chars().count() <= 120), "{command}: {stdout}");
        assert!(stderr.is_empty());
    }
    let (code, stdout, _) = outcome(mindreel().arg("--help"));
    assert!(code == 0 && stdout.contains("Exit codes"));
    let (code, stdout, _) = outcome(mindreel().arg("--version"));
    assert!(code == 0 && stdout.starts_with("mindreel "));
}

#[test]
fn a_wrong_call_ends_with_2_in_one_line() {
    let (code, stdout, _) = outcome(&mut mindreel());
    assert!(code == 2 && stdout.is_empty());
    for (args, wanted) in [
        (&["forwrad"][..], "'forward'"),
        (&["forward"], "--model"),
        (&["forward", "--modle", "x"], "'--model'"),
        (&["forward", "--model", "a", "--input", "b", "--output", "c", "--dtype", "f64"], "f32, f16"),
        (&["init", "tinny", "--output", "never-made"], "did you mean 'tiny'?"),
        (&["init", "tiny", "--output", "never-made", "--seed", "many"], "'many'"),
        (&["info"], "<PATH>"),
    ] {
        let line = refusal(mindreel().args(args), 2);
        assert!(line.contains(wanted), "{args:?}: {line}");
    }
    assert!(!Path::new("never-made").exists());
}

#[test]
fn bench_peaks_tells_rates_and_costs() {
    let Some(gpu) = gpu() else { return };
    let (code, stdout, stderr) = outcome(mindreel().args(["bench", "peaks", "--json", "--quiet"]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    let result: Value = serde_json::from_str(&stdout).unwrap();
    let peaks = &result["peaks"];
    for rate in ["f32_flop_per_s", "copy_bytes_per_s"] {
        let number = |key: &str| peaks[rate][key].as_f64().unwrap_or_else(|| panic!("{rate} {key}: {peaks}"));
        assert!(number("best") >= number("median") && number("median") > 1e6, "{peaks}");
    }
    for cost in ["record_s", "encode_s", "dispatch_s", "submission_s"] {
        assert!(peaks[cost].as_f64().is_some_and(|s| s > 0.0), "{cost}: {peaks}");
    }
    assert_eq!(peaks["matrix_flop_per_s"].is_null(), gpu.facts().features.matrix_edge.is_none(), "{peaks}");
    for key in ["mindreel", "command", "date", "cores", "adapter"] {
        assert!(!result[key].is_null(), "{key}: {result}");
    }
}

#[test]
fn bench_kernels_measures_the_ops_of_a_model_and_compares() {
    if gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [result, log, plot] = ["a.json", "a.jsonl", "a.png"].map(|name| folder.path().join(name));
    let kernels = |filter: &str| {
        let mut command = mindreel();
        let model = ["--model", "unet", "--size", "small", "--time", "0.05"];
        command.args(["bench", "kernels", "--filter", filter]).args(model);
        command
    };
    let kept = || {
        let mut command = kernels("layer_norm");
        command.arg("--output").arg(&result).arg("--log").arg(&log).arg("--plot").arg(&plot);
        command
    };
    let (code, stdout, stderr) = outcome(kept().arg("--quiet"));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("| layer_norm [12, 144, 32] f32") && stdout.contains("bound by"), "{stdout}");
    let told: Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    let ops = told["ops"].as_array().unwrap();
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 1 + ops.len());
    assert!(std::fs::read(&plot).unwrap().starts_with(b"\x89PNG"));
    for op in ops {
        assert!(op["op"].as_str().unwrap().starts_with("layer_norm ["), "{op}");
        assert!(op["median_s"].as_f64().unwrap() > 0.0 && op["share"].as_f64().unwrap() > 0.0, "{op}");
        assert!(op["calls"].as_u64().unwrap() > 0 && op["runs"].as_u64().unwrap() > 0, "{op}");
    }
    // What is there stays.
    refusal(&mut kept(), 5);

    // Against a result that was a million times faster, everything is slower.
    let mut fast = told.clone();
    for op in fast["ops"].as_array_mut().unwrap() {
        op["median_s"] = (1e-6 * op["median_s"].as_f64().unwrap()).into();
        op["noise"] = 0.0.into();
    }
    std::fs::write(&result, fast.to_string()).unwrap();
    let (code, stdout, stderr) = outcome(kernels("layer_norm").args(["--quiet", "--compare"]).arg(&result));
    assert_eq!(code, 1, "{stderr}");
    assert!(stdout.contains("SLOWER") && stderr.contains("slower than in"), "{stdout}{stderr}");

    let line = refusal(&mut kernels("no such op"), 2);
    assert!(line.contains("conv2d") && line.contains("attention"), "{line}");
    std::fs::write(&result, "{}").unwrap();
    refusal(kernels("layer_norm").arg("--compare").arg(&result), 3);
}

#[test]
fn bench_tune_keeps_a_table_that_the_next_command_takes() {
    if gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/table.json");
    let told = json(mindreel().args(["bench", "tune", "--time", "2", "--output"]).arg(&path));
    let table: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(told["tuning"], table);
    assert!(table["adapter"].is_string() && table["choices"].is_object(), "{table}");
    mindreel().args(["doctor", "--quiet"]).env("MINDREEL_TUNING", &path).assert().success();
    std::fs::write(&path, "{}").unwrap();
    let line = refusal(mindreel().args(["bench", "peaks"]).env("MINDREEL_TUNING", &path), 3);
    assert!(line.contains("not a table of measured choices"), "{line}");
    let line = refusal(mindreel().args(["bench", "tune", "--time", "0"]), 2);
    assert!(line.contains("--time"), "{line}");
}

#[test]
fn bench_model_profiles_a_call_by_op() {
    if gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let mut command = mindreel();
    command
        .args(["bench", "model", "semantic", "--size", "small", "--json", "--quiet", "--trace"])
        .arg(&trace);
    let (code, stdout, stderr) = outcome(&mut command);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let result: Value = serde_json::from_str(&stdout).unwrap();
    let summary = &result["models"][0];
    assert!(summary["dispatches"].as_u64().unwrap() > 2 && summary["submissions"].as_u64().unwrap() > 0);
    assert!(summary["ops_s"].as_f64().unwrap() > 0.0, "{summary}");
    let is_linear = |op: &Value| op["op"].as_str().unwrap().starts_with("linear");
    assert!(result["ops"].as_array().unwrap().iter().any(is_linear));
    let trace: Value = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
    assert!(trace["traceEvents"].as_array().unwrap().iter().any(|event| event["ph"] == "X"));
    let line = refusal(mindreel().args(["bench", "model", "unte"]), 2);
    assert!(line.contains("did you mean 'unet'?"), "{line}");
}

#[test]
fn a_nan_is_named_with_the_op_that_made_it() {
    if gpu().is_none() {
        return;
    }
    let (folder, model) = tiny();
    let [input, output] = ["in.safetensors", "out.safetensors"].map(|name| folder.path().join(name));
    // Sums of such values leave f32.
    let eeg = vec![f32::MAX; 310];
    weights::write(&input, vec![NewTensor::from_f32("eeg", [1, 310], &eeg)], &BTreeMap::new()).unwrap();
    let forward = |flags: &[&str]| {
        let mut command = mindreel();
        command.args(["forward", "--component", "semantic", "--force"]).args(flags);
        command.arg("--model").arg(&model).arg("--input").arg(&input).arg("--output").arg(&output);
        command
    };
    forward(&[]).assert().success();
    let line = refusal(&mut forward(&["--check-finite"]), 4);
    assert!(line.contains("linear [1, 310] f32") && line.contains("NaN or an infinity"), "{line}");
}

#[test]
fn init_gives_the_same_bytes_for_the_same_seed() {
    let folder = tempfile::tempdir().unwrap();
    let init = |name: &str, seed: &str| {
        let into = folder.path().join(name);
        let (code, stdout, stderr) =
            outcome(mindreel().args(["init", "tiny", "--seed", seed, "--json", "--output"]).arg(&into));
        assert_eq!((code, stderr.as_str()), (0, ""));
        let result: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(result["seed"].to_string(), seed);
        into
    };
    let (one, same, other) = (init("a", "5"), init("b", "5"), init("c", "6"));
    let mut compared = 0;
    for part in ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "semantic/model", "negative"]
    {
        let read = |model: &Path| std::fs::read(model.join(format!("{part}.safetensors"))).unwrap();
        assert!(read(&one) == read(&same), "{part}");
        assert!(read(&one) != read(&other), "{part}");
        compared += read(&one).len();
    }
    assert!(compared > 1 << 20);
    let names = std::fs::read_dir(&one).unwrap().count();
    assert_eq!(names, 9, "six parts, two tensors, one index");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "nothing temporary is left");
    let line = refusal(mindreel().args(["init", "tiny", "--output"]).arg(&one), 5);
    assert!(line.contains("--force"), "{line}");
    mindreel().args(["init", "tiny", "--force", "--quiet", "--output"]).arg(&one).assert().success();
}

#[test]
fn forward_gives_what_the_library_gives() {
    let Some(gpu) = gpu() else { return };
    let (folder, model) = tiny();
    let (input, output) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    let unet: Shapes =
        &[("sample", &[1, 4, 3, 9, 7]), ("timestep", &[1]), ("encoder_hidden_states", &[1, 5, 64])];
    let cases: [(&str, Shapes, usize); 5] = [
        ("unet", unet, 1),
        ("vae", &[("latents", &[1, 4, 3, 5])], 1),
        ("semantic", &[("eeg", &[2, 310])], 1),
        ("seq2seq", &[("eeg", &[1, 7, 62, 100])], 2),
        ("dynamics", &[("eeg", &[2, 1, 62, 400])], 1),
    ];
    for (part, tensors, n_outputs) in cases {
        write(&input, tensors);
        let paths = |command: &mut Command| {
            let command = command.arg("forward").arg("--model").arg(&model).args(["--component", part]);
            outcome(command.arg("--input").arg(&input).arg("--output").arg(&output).arg("--force"))
        };
        let (code, stdout, stderr) = paths(&mut mindreel());
        assert_eq!((code, stderr.as_str()), (0, ""), "{part}");
        let loaded = models::open(&gpu, &model.join(part), Precision::F32).unwrap();
        let wanted = loaded.model.forward(&Inputs::open(&input).unwrap()).unwrap();
        let file = Checkpoint::open(&output).unwrap();
        assert_eq!((file.names().count(), wanted.len()), (n_outputs, n_outputs));
        for tensor in wanted {
            let got = file.get(tensor.name).unwrap();
            assert_eq!((got.dtype, got.shape), (Dtype::F32, &tensor.shape[..]), "{part}");
            assert_eq!(weights::to_f32(&got).unwrap(), tensor.values, "{part}");
            assert!(tensor.values.iter().all(|value| value.is_finite()), "{part}");
            assert!(stdout.contains(&format!("{} {:?}", tensor.name, tensor.shape)), "{stdout}");
        }
        let (code, _, _) = paths(mindreel().env("MINDREEL_ADAPTER", "no such card"));
        assert_eq!(code, 4);
    }
}

#[test]
fn forward_names_what_is_wrong() {
    if gpu().is_none() {
        return;
    }
    let (folder, model) = tiny();
    let (input, output) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    write(&input, &[("eeg", &[2, 311])]);
    let forward = |model: &Path, input: &Path, more: &[&str]| {
        let mut command = mindreel();
        command.arg("forward").arg("--model").arg(model).arg("--input").arg(input);
        command.arg("--output").arg(&output).args(more);
        command
    };
    let semantic = model.join("semantic");
    let part = |name: &'static str| ["--component", name];
    for (mut command, code, wanted) in [
        (forward(&semantic, &input, &[]), 3, "wanted 310 features, got 311"),
        (forward(&model, &input, &[]), 2, "name one of its parts"),
        (forward(&model, &input, &part("unett")), 2, "did you mean 'unet'?"),
        (forward(&semantic, &input, &part("unet")), 2, "it has no parts"),
        (forward(&folder.path().join("nothing"), &input, &[]), 3, "cannot be read"),
        (forward(&semantic, &folder.path().join("nothing"), &[]), 3, "cannot be read"),
        (forward(&semantic, &semantic.join("config.json"), &[]), 3, "config.json"),
        (forward(&model.join("vae"), &input, &[]), 3, "unknown input 'eeg'"),
        (forward(&model.join("scheduler"), &input, &[]), 3, "config.json: cannot be read"),
        (forward(&semantic, &input, &["--adapter", "no such card"]), 4, "no adapter is called"),
    ] {
        let line = refusal(&mut command, code);
        assert!(line.contains(wanted), "{line}");
        assert!(!output.exists());
    }
    std::fs::write(&output, "mine").unwrap();
    assert!(refusal(&mut forward(&semantic, &input, &[]), 5).contains("--force"));
    assert_eq!(std::fs::read(&output).unwrap(), b"mine");
    write(&input, &[("eeg", &[2, 310])]);
    let nowhere = output.join("below a file");
    let mut command = mindreel();
    command.arg("forward").arg("--model").arg(&semantic).arg("--input").arg(&input);
    assert!(refusal(command.arg("--output").arg(nowhere), 5).contains("cannot be written"));
}

#[test]
fn single_eeg_networks_run_and_say_what_they_want() {
    if gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    let init = |name: &str| {
        let model = folder.path().join(name);
        mindreel().args(["init", name, "--output"]).arg(&model).assert().success();
        model
    };
    let (eegnet, glmnet_mlp) = (init("eegnet"), init("glmnet-mlp"));
    let forward = |model: &Path, eeg: &[usize]| {
        write(&input, &[("eeg", eeg)]);
        let mut command = mindreel();
        command.arg("forward").arg("--force").arg("--model").arg(model).arg("--input").arg(&input);
        command.arg("--output").arg(&output);
        command
    };
    for (model, eeg) in
        [(&eegnet, &[3, 1, 62, 200][..]), (&glmnet_mlp, &[3, 62, 5]), (&glmnet_mlp, &[3, 310])]
    {
        let (code, stdout, stderr) = outcome(&mut forward(model, eeg));
        assert_eq!((code, stdout.as_str()), (0, "logits [3, 40]\n"), "{stderr}");
    }
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(eegnet.join("config.json")).unwrap()).unwrap();
    for (model, eeg, wanted) in [
        (&eegnet, &[3, 1, 62, 199][..], "wanted [batch, 62, 200], got [3, 62, 199]"),
        (&eegnet, &[3, 2, 62, 200], "'eeg' wants [batch, 1, n_chans, n_times], got [3, 2, 62, 200]"),
        (&glmnet_mlp, &[3, 62, 4], "wanted 310 features of each item"),
    ] {
        let line = refusal(&mut forward(model, eeg), 3);
        assert!(line.contains(wanted) && line.contains("in.safetensors: "), "{line}");
    }
    config["n_times"] = 96.into();
    std::fs::write(eegnet.join("config.json"), config.to_string()).unwrap();
    let line = refusal(&mut forward(&eegnet, &[3, 1, 62, 96]), 3);
    assert!(line.contains("config.json: \"n_times\": EEGNet wants at least 97 samples, got 96"), "{line}");
}

#[test]
fn half_precision_stays_finite_and_near() {
    if gpu().is_none() {
        return;
    }
    let (folder, model) = tiny();
    let (input, output) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    write(
        &input,
        &[("sample", &[1, 4, 2, 9, 16]), ("timestep", &[1]), ("encoder_hidden_states", &[1, 77, 64])],
    );
    let run = |dtype: &str| {
        let mut command = mindreel();
        command.arg("forward").arg("--model").arg(model.join("unet")).arg("--input").arg(&input);
        command.arg("--output").arg(&output).args(["--force", "--dtype", dtype]).assert().success();
        weights::to_f32(&Checkpoint::open(&output).unwrap().get("sample").unwrap()).unwrap()
    };
    let (full, half) = (run("f32"), run("f16"));
    let norm =
        |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let difference = norm(&mut full.iter().zip(&half).map(|(a, b)| a - b));
    let size = norm(&mut full.iter().copied());
    assert!(difference / size < 5e-3, "{difference} of {size}"); // the contract's bound for f16
}

#[test]
fn doctor_tells_what_there_is() {
    let (code, stdout, _) = outcome(mindreel().args(["doctor", "--json", "--quiet"]));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["mindreel"], env!("CARGO_PKG_VERSION"));
    if gpu().is_some() {
        assert_eq!((code, &report["verdict"]), (0, &Value::from("ok")), "{stdout}");
        assert!(report["self_test"].as_array().unwrap().len() >= 6);
        assert_eq!(report["adapters"][0]["index"], 0);
        assert!(report["would_run"][0]["peak_bytes"].as_u64().unwrap() > 1 << 30);
        let (code, stdout, stderr) = outcome(mindreel().args(["doctor", "--adapter", "no such card"]));
        assert!(code == 4 && stdout.contains("verdict: no adapter"), "{stdout}");
        assert!(stderr.contains("no adapter is called 'no such card'") && stderr.lines().count() == 1);
    } else {
        assert_eq!((code, &report["verdict"]), (4, &Value::from("no adapter")));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn without_a_driver_doctor_says_what_to_install() {
    let mut command = mindreel();
    // The loader's two names for the same list of drivers.
    command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent").arg("doctor");
    let (code, stdout, stderr) = outcome(&mut command);
    assert_eq!(code, 4, "{stdout}");
    assert!(stdout.contains("mesa-vulkan-drivers") && stdout.contains("none found"), "{stdout}");
    assert!(stderr.starts_with("mindreel: gpu: no adapter found") && stderr.lines().count() == 1, "{stderr}");
}

fn info(args: &[&str], path: &Path) -> (String, Value) {
    let (code, text, stderr) = outcome(mindreel().arg("info").args(args).arg(path));
    assert_eq!((code, stderr.as_str()), (0, ""), "{text}");
    let (code, json, _) = outcome(mindreel().arg("info").args(args).arg(path).arg("--json"));
    assert_eq!(code, 0);
    (text, serde_json::from_str(&json).unwrap())
}

#[test]
fn info_lists_the_architectures() {
    let (code, stdout, _) = outcome(mindreel().args(["info", "--models"]));
    assert_eq!(code, 0);
    for wanted in
        ["UNet3DConditionModel", "encoder_hidden_states", "909,120,004", "83,653,863", "894,559,136"]
    {
        assert!(stdout.contains(wanted), "{wanted}: {stdout}");
    }
}

#[test]
fn info_looks_into_checkpoints() {
    let (_folder, model) = tiny();
    let (text, json) = info(&[], &model);
    assert!(text.contains("EEG2VideoPipeline") && text.contains("clips of 6 frames, 72x128"), "{text}");
    assert_eq!(text.matches("every tensor is there").count(), 5, "{text}");
    assert_eq!(json["parts"]["unet"]["parameters"], 832_356);
    assert_eq!(json["parts"]["scheduler"]["sampler"], "pndm");
    let (_, json) = info(&["--tensors"], &model.join("vae"));
    assert!(json["list"].as_array().unwrap().len() > 100);
    let (text, _) = info(&[], &model.join("unet/diffusion_pytorch_model.safetensors"));
    assert!(text.contains("832,356") && text.contains("f32"), "{text}");

    // What is wrong is told, not failed on.
    let config = model.join("semantic/config.json");
    let changed = std::fs::read_to_string(&config).unwrap().replace("310", "311");
    std::fs::write(&config, changed).unwrap();
    let (text, _) = info(&[], &model.join("semantic"));
    assert!(text.contains("does not fit its config") && text.contains("[128, 311]"), "{text}");
    std::fs::write(model.join("dynamics/model.safetensors"), [0xff; 100]).unwrap();
    let (text, _) = info(&[], &model);
    assert!(text.contains("dynamics/model.safetensors: "), "{text}");
}

#[test]
fn info_looks_into_recordings_and_results() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eeg.npy");
    let recording = mindreel::signal::sample_recording(0, 9.0).unwrap();
    mindreel::signal::npy::write(&path, &[62, 1800], &recording.data).unwrap();
    let (text, json) = info(&[], &path);
    assert!(text.contains("[62, 1800] of <f4") && text.contains("4 clips of 2 s"), "{text}");
    assert_eq!((&json["channels"], &json["clips"]), (&Value::from(62), &Value::from(4)));
    assert_eq!(json["duration_s"], 9.0);
    let (text, json) = info(&["--rate", "250"], &path);
    assert!(text.contains("refused") && text.contains("7.20 s"), "{text}");
    assert!(json["clips"].is_null());
    mindreel::signal::npy::write(&path, &[61, 1800], &recording.data[..61 * 1800]).unwrap();
    assert!(info(&[], &path).0.contains("61 channels, wanted 62"));

    let run = r#"{"command": ["mindreel", "video", "--eeg", "my eeg.npy"], "settings": {"seed": 4}}"#;
    std::fs::write(folder.path().join("run.json"), run).unwrap();
    let (text, json) = info(&[], folder.path());
    assert!(text.contains("mindreel video --eeg 'my eeg.npy'") && json["settings"]["seed"] == 4, "{text}");

    for (name, content, wanted) in [
        ("text.txt", &b"hello"[..], "is nothing known"),
        ("cut.npy", b"\x93NUMPY\x01\x00\xff", "cut.npy"),
        ("weights.pt", b"PK\x03\x04", "pickle"),
        ("cut.gif", b"GIF89a", "gif"),
        ("list.json", b"[1]", "wanted a JSON object"),
        ("huge.safetensors", &[0xff; 16], "huge.safetensors"),
        ("empty.safetensors", b"", "empty.safetensors"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let line = refusal(mindreel().arg("info").arg(&path), 3);
        assert!(line.contains(wanted), "{name}: {line}");
    }
    let nothing = folder.path().join("nothing");
    refusal(mindreel().arg("info").arg(&nothing), 3);
    std::fs::create_dir(&nothing).unwrap();
    assert!(refusal(mindreel().arg("info").arg(&nothing), 3).contains("holds no model_index.json"));
    refusal(mindreel().args(["info", "--rate", "x"]).arg(&path), 2);
    refusal(mindreel().args(["info", "--units", "mV"]).arg(&path), 2);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    use std::process::Stdio;
    let mut command = std::process::Command::new(mindreel().get_program());
    command.args(["info", "--models"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_told_and_odd_names_are_taken() {
    use std::os::unix::ffi::OsStrExt;
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = std::process::Command::new(mindreel().get_program());
    let output = command.args(["info", "--models"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(output.stderr.starts_with(b"mindreel: stdout: cannot be written"));

    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"m\xffdel\n"));
    mindreel().args(["init", "tiny", "--json", "--quiet", "--output"]).arg(&odd).assert().success();
    mindreel().args(["info", "--json"]).arg(&odd).assert().success();
    mindreel().arg("info").arg(&odd).assert().success();
    if gpu().is_some() {
        let (eeg, clips) = (odd.join("eeg.npy"), odd.join("clips"));
        mindreel().args(["prepare", "sample", "--output"]).arg(&eeg).assert().success();
        let mut video = mindreel();
        video.args(["video", "--num-inference-steps", "1", "--clips", "0", "--eeg"]).arg(&eeg);
        video.arg("--model").arg(&odd).arg("--output").arg(&clips).assert().success();
        mindreel().arg("info").arg(&clips).assert().success();
    }
}
