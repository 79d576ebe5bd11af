//! Training of the parts that read EEG, from outside: a small data set on disk, the command line, and `mindreel video`'s
//! own code on what came out.

mod common;
#[path = "common/runs.rs"]
mod runs;

use assert_cmd::Command;
use mindreel::data::SeedDv;
use mindreel::generate::{Conditions, Folder, Run, Settings};
use mindreel::models::{Config, architecture};
use mindreel::signal::{Units, npy};
use mindreel::weights::{self, Checkpoint, Dtype, NewTensor, random};
use runs::{files, mindreel, refused, same};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

const BLOCKS: usize = 3;
const CHANNELS: usize = 6;
const SAMPLES: usize = 400;

/// Another order of the classes in each block.
fn class(block: usize, slot: usize) -> usize {
    (slot * 7 + block * 13) % 40
}

/// Three blocks of 200 clips, each class with a strength of its own on each channel; fast ones on the last one, too.
fn data_set() -> &'static (TempDir, PathBuf) {
    static DATA: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    DATA.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let mut state = 1_u64;
        let mut noise = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut eeg = Vec::with_capacity(BLOCKS * 200 * CHANNELS * SAMPLES);
        let (mut flow, mut pictures) = (Vec::new(), Vec::new());
        for block in 0..BLOCKS {
            for clip in 0..200 {
                let class = class(block, clip / 5);
                for channel in 0..CHANNELS {
                    let strength = match channel + 1 == CHANNELS {
                        true => 1.0 + 8.0 * (class % 2) as f32,
                        false => 1.0 + ((class * (channel * 2 + 3) + channel) % 11) as f32,
                    };
                    eeg.extend((0..SAMPLES).map(|_| 1e-6 * strength * noise()));
                }
                flow.push((class % 2) as f64 * 2.0 + 0.001 * clip as f64);
                for frame in 0..6 {
                    let grey = |at: usize| (6 * class + 3 * frame + at % 16) as u8;
                    pictures.extend((0..8 * 16).flat_map(|at| [grey(at), grey(at) / 2, 200]));
                }
            }
        }
        let order = (0..BLOCKS).flat_map(|block| (0..40).map(move |slot| (class(block, slot) + 1) as f64));
        let names: Vec<String> =
            (0..40).map(|i| format!("{} thing {}\n", ["slow", "fast"][i % 2], i / 2)).collect();
        let shape = [BLOCKS, 40, 5, CHANNELS, SAMPLES];
        npy::write(data.join("EEG/sub1.npy"), &shape, &eeg).unwrap();
        let meta = data.join("meta_info");
        npy::write(meta.join("All_video_label.npy"), &[BLOCKS, 40], &order.collect::<Vec<_>>()).unwrap();
        npy::write(meta.join("All_video_optical_flow_score.npy"), &[BLOCKS, 200], &flow).unwrap();
        std::fs::write(meta.join("class_names.txt"), names.concat()).unwrap();
        npy::write(data.join("Video/clips.npy"), &[BLOCKS, 200, 6, 8, 16, 3], &pictures).unwrap();
        let texts = data.join("texts.safetensors");
        let mut command = mindreel();
        command.args(["prepare", "text-embeddings", "--words", "64", "--data"]).arg(&data);
        command.arg("--output").arg(texts).assert().success();
        (folder, data)
    })
}

fn train(what: &str, output: &Path, more: &[&str]) -> Command {
    let data = &data_set().1;
    let mut command = mindreel();
    command.args(["train", what, "--data"]).arg(data).arg("--output").arg(output).args(more);
    if what == "semantic" {
        command.arg("--text").arg(data.join("texts.safetensors"));
    }
    command
}

/// A part of random weights under this config.
fn part(folder: &Path, config: serde_json::Value) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let config = Config::open(folder.join("config.json")).unwrap();
    let wanted = architecture(config.architecture().unwrap()).unwrap().wanted(&config).unwrap();
    let tensors = wanted.into_iter().filter(|tensor| !tensor.optional).map(|tensor| {
        let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
        NewTensor::streamed(tensor.name, Dtype::F32, tensor.shape, move |sink| {
            let mut values = vec![0.0; shape.iter().product()];
            random::fill(&name, &shape, 1, &mut values);
            sink.put_f32(&values)
        })
    });
    let path = folder.join("diffusion_pytorch_model.safetensors");
    weights::write(path, tensors.collect(), &BTreeMap::new()).unwrap();
}

/// An autoencoder that halves once.
fn vae(folder: &Path) {
    let config = serde_json::json!({
        "_class_name": "AutoencoderKL",
        "block_out_channels": [8, 8],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "scaling_factor": 0.5,
    });
    part(folder, config);
}

fn report(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("report.json")).unwrap()).unwrap()
}

/// The same run, cut off after some steps and gone on with, leaves the same bytes.
fn resumes(what: &str, whole: &Path, more: &[&str], cut: &str) {
    let pieces = whole.with_extension("pieces");
    train(what, &pieces, &[more, &["--stop-after", cut]].concat()).assert().code(130);
    refused(&mut train(what, &pieces, more), 3, "--resume goes on");
    train(what, &pieces, &[more, &["--resume"]].concat()).assert().success();
    same(whole, &pieces);
}

#[test]
fn embeddings_are_learnt_and_found_among_forty() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let whole = work.path().join("whole");
    let more =
        ["--hidden-dims", "128", "--steps", "150", "--validation-steps", "50", "--learning-rate", "3e-3"];
    train("semantic", &whole, &more).assert().success();
    let found = report(&whole);
    let number = |part: &str, name: &str| found[part][name].as_f64().unwrap();
    assert_eq!((found["n_clips"].as_u64(), found["chance_top1"].as_f64()), (Some(200), Some(0.025)));
    assert!(number("scores", "top1") > 0.25 && number("shuffled_pairs", "top1") < 0.1, "{found}");
    assert!(number("scores", "top5") > number("scores", "top1"), "{found}");
    let mean = found["mean_embedding_mse"].as_f64().unwrap();
    assert!(number("scores", "mse") < mean && mean < number("shuffled_pairs", "mse"), "{found}");
    let log = std::fs::read_to_string(whole.join("log.csv")).unwrap();
    assert!(log.lines().next().unwrap().contains("validation_cosine,validation_top1"), "{log}");
    let scaler = Checkpoint::open(whole.join("scaler.safetensors")).unwrap();
    assert_eq!(scaler.get("features.mean").unwrap().shape, [CHANNELS * 5]);
    resumes("semantic", &whole, &more, "70");
}

#[test]
fn motion_is_learnt() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let whole = work.path().join("whole");
    let more = ["--model", "MLP", "--steps", "60", "--validation-steps", "20", "--batch-size", "32"];
    train("dynamics", &whole, &more).assert().success();
    let found = report(&whole);
    let number = |name: &str| found[name].as_f64().unwrap();
    assert!(number("accuracy") > 0.7 && number("shuffled_pairs_accuracy") < 0.65, "{found}");
    assert!(number("majority_chance") < 0.6 && number("fast_from_flow") > 1.0, "{found}");
    resumes("dynamics", &whole, &more, "31");
}

#[test]
fn a_sweep_in_parts_is_the_sweep() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| work.path().join(name));
    let few = ["--model", "MLP", "--steps", "6", "--validation-steps", "3", "--subjects", "all"];
    let sweep = |output: &Path, more: &[&str]| {
        train("dynamics", output, &[&few[..], &["--seeds", "0,1"], more].concat())
    };
    sweep(&whole, &[]).assert().success();
    sweep(&parts, &["--shard", "1/2"]).assert().success();
    assert!(!parts.join("sub1-seed0").exists());
    // What Slurm says is heard; what is finished stays.
    let slurm =
        [("SLURM_ARRAY_TASK_ID", "5"), ("SLURM_ARRAY_TASK_COUNT", "2"), ("SLURM_ARRAY_TASK_MIN", "5")];
    sweep(&parts, &[]).envs(slurm).assert().success();
    sweep(&parts, &[]).assert().success();
    same(&whole, &parts);
    let table = std::fs::read_to_string(whole.join("runs.csv")).unwrap();
    let runs: Vec<_> = table.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(runs, ["run", "sub1-seed0", "sub1-seed1"]);
    let weights = |run: &str| std::fs::read(whole.join(run).join("dynamics/model.safetensors")).unwrap();
    assert_ne!(weights("sub1-seed0"), weights("sub1-seed1"));
    // A run alone is the sweep's.
    let alone = work.path().join("alone");
    train("dynamics", &alone, &[&few[..6], &["--seed", "1"]].concat()).assert().success();
    same(&whole.join("sub1-seed1"), &alone);
    refused(&mut train("dynamics", &alone, &["--shard", "0/2"]), 2, "one run has no parts");
    refused(&mut sweep(&whole, &["--batch-size", "5"]), 3, "run of other settings");
    let twice = ["--subjects", "sub1,sub1"];
    refused(&mut train("dynamics", &alone, &twice), 2, "named twice");
}

#[test]
fn what_is_trained_decodes_clips() {
    let Some(gpu) = common::gpu() else { return };
    let work = TempDir::new().unwrap();
    let model = work.path().join("model");
    mindreel().args(["init", "tiny", "--output"]).arg(&model).assert().success();
    for part in ["semantic", "seq2seq", "dynamics", "vae"] {
        std::fs::remove_dir_all(model.join(part)).unwrap();
    }
    // What these files of it say is of other sizes.
    for file in ["scaler.safetensors", "negative.safetensors", "model_index.json"] {
        std::fs::remove_file(model.join(file)).unwrap();
    }
    vae(&model.join("vae"));
    let vae = model.join("vae").display().to_string();
    let into = model.display().to_string();
    let sequence = work.path().join("seq2seq");
    let small = [
        "--vae",
        &vae,
        "--d-model",
        "16",
        "--dim-feedforward",
        "16",
        "--n-decoder-layers",
        "1",
        "--steps",
        "6",
        "--validation-steps",
        "3",
        "--batch-size",
        "8",
        "--free-share",
        "0.3",
    ];
    train("seq2seq", &sequence, &small).assert().success();
    let found = report(&sequence);
    for name in ["mse", "mean_latent_mse", "shuffled_pairs_mse"] {
        assert!(found[name].as_f64().is_some_and(|v| v > 0.0 && v < 1e3), "{found}");
    }
    resumes("seq2seq", &sequence, &small, "4");
    // Into one checkpoint: the sequence model, a network on samples for the words, another one for motion.
    let again = work.path().join("again");
    train("seq2seq", &again, &[&small[..], &["--into", &into]].concat()).assert().success();
    assert!(
        files(&model.join("seq2seq")) == files(&sequence.join("seq2seq")),
        "the same seed, the same weights"
    );
    let few = ["--steps", "3", "--batch-size", "8", "--into", &into];
    let shallow =
        [&few[..], &["--model", "ShallowNet", "--pretrain-steps", "1", "--validation-steps", "0"]].concat();
    train("semantic", &work.path().join("semantic"), &shallow).assert().success();
    train("dynamics", &work.path().join("dynamics"), &[&few[..], &["--model", "MLP"]].concat())
        .assert()
        .success();
    let names: Vec<String> =
        Checkpoint::open(model.join("scaler.safetensors")).unwrap().names().map(str::to_string).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    refused(&mut train("semantic", &work.path().join("other"), &few), 5, "it exists already");

    let eeg =
        SeedDv::open(&data_set().1, Units::Volts).unwrap().clips("sub1").unwrap().pick(&[400, 599]).unwrap();
    let settings =
        Settings { num_inference_steps: 2, height: Some(8), width: Some(16), ..Settings::default() };
    let run = Run::new(&gpu, Folder::open(&model).unwrap(), settings.clone()).unwrap();
    let conditions = Conditions::from_eeg(&gpu, run.folder(), &settings, &eeg).unwrap();
    assert!(conditions.motion(1).is_some());
    let latents = conditions.latents(&gpu, 1).unwrap().unwrap();
    assert_eq!(latents.shape(), [6, 4, 8, 4]);
    assert_eq!(conditions.text(&gpu, &[0, 1], true).unwrap().shape(), [4, 4, 64]);
    let mut clips = Vec::new();
    let mut sink = |clip: mindreel::generate::Clip| {
        clips.push(clip.frames);
        Ok(())
    };
    run.make(&conditions, &AtomicBool::new(false), &mut |_| {}, &mut sink).unwrap();
    assert_eq!((clips.len(), clips[0].count, clips[0].height, clips[0].width), (2, 6, 8, 16));
    assert_ne!(clips[0].rgb, clips[1].rgb);
}

#[test]
fn the_originals_form_is_there() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    vae(&work.path().join("vae"));
    let vae = work.path().display().to_string();
    let few = ["--steps", "2", "--batch-size", "4", "--validation-steps", "0", "--reproduce-original"];
    let sequence = work.path().join("seq2seq");
    let small = ["--vae", &vae, "--d-model", "16", "--dim-feedforward", "16"];
    train("seq2seq", &sequence, &[&few[..], &small].concat()).assert().success();
    let config = std::fs::read_to_string(sequence.join("seq2seq/config.json")).unwrap();
    assert!(
        config.contains("\"target_embedding\": false") && config.contains("\"latent_scale\": 1.0"),
        "{config}"
    );
    let file = Checkpoint::open(sequence.join("seq2seq/model.safetensors")).unwrap();
    assert!(file.get("img_embedding.weight").is_none() && file.get("predictor.weight").is_some());
    let semantic = work.path().join("semantic");
    train("semantic", &semantic, &[&few[..], &["--hidden-dims", "16"]].concat()).assert().success();
    let told = std::fs::read_to_string(semantic.join("train.json")).unwrap();
    // All blocks but the last are learnt from, as there; the last is what is scored.
    assert!(
        told.contains("\"validation-block\": 2") && told.contains("\"feature_form\": \"original\""),
        "{told}"
    );
}

#[test]
fn captions_go_through_a_text_encoder() {
    if common::gpu().is_none() {
        return;
    }
    let work = TempDir::new().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer");
    let model = work.path().join("sd");
    std::fs::create_dir_all(model.join("tokenizer")).unwrap();
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(golden.join(name), model.join("tokenizer").join(name)).unwrap();
    }
    let cases: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden.join("cases.json")).unwrap()).unwrap();
    let config = serde_json::json!({
        "_class_name": "CLIPTextModel",
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "max_position_embeddings": 12,
        "vocab_size": cases["vocab_size"],
    });
    part(&model.join("text_encoder"), config);
    let encoder = model.join("text_encoder");
    std::fs::rename(encoder.join("diffusion_pytorch_model.safetensors"), encoder.join("model.safetensors"))
        .unwrap();
    let table = work.path().join("table.safetensors");
    let prepare = |more: &[&str]| {
        let mut command = mindreel();
        command.args(["prepare", "text-embeddings", "--data"]).arg(&data_set().1);
        command.arg("--output").arg(&table).arg("--text-encoder").arg(&model).args(more);
        command
    };
    refused(&mut prepare(&[]), 3, "1st_10min.txt"); // the data set has no captions
    prepare(&["--by", "class"]).assert().success();
    let file = Checkpoint::open(&table).unwrap();
    assert_eq!(file.get("embeddings").unwrap().shape, [40, 12, 8]);
    assert_eq!(file.get("negative").unwrap().shape, [12, 8]);
    let values = weights::to_f32(&file.get("embeddings").unwrap()).unwrap();
    assert!(values.iter().all(|v| v.is_finite()) && values[..96] != values[96..192]);
}

#[test]
fn mistakes_are_one_line() {
    let work = TempDir::new().unwrap();
    let output = work.path().join("out");
    let no = |what: &str, more: &[&str], code, says| refused(&mut train(what, &output, more), code, says);
    no("semantic", &["--model", "ShalowNet"], 2, "did you mean 'ShallowNet'?");
    no("semantic", &["--validation-block", "0"], 2, "block 0 is learnt from");
    no("semantic", &["--train-blocks", "0,3"], 2, "no block 3");
    no("semantic", &["--mixup", "1.5"], 2, "wanted 0 to below 1");
    no("semantic", &["--features", "psd"], 2, "de, de-windows");
    no("semantic", &["--subject", "sub9"], 2, "'sub9'");
    no("dynamics", &["--window-s", "3"], 2, "window-s");
    no("dynamics", &["--model", "ShallowNetEncoder"], 2, "tells no classes apart");
    no("dynamics", &["--model", "SemanticPredictor"], 2, "is none of");
    no("seq2seq", &["--vae", "nowhere"], 3, "nowhere");
    let data = data_set().1.display().to_string();
    no("seq2seq", &["--vae", &data], 3, "holds no autoencoder");
    no("seq2seq", &["--vae", &data, "--free-share", "2"], 2, "free-share");
    let config = work.path().join("heads.toml");
    std::fs::write(&config, "mixupp = 0.2\n").unwrap();
    no("semantic", &["--config", &config.display().to_string()], 2, "did you mean 'mixup'?");
    // A data set without flow, clips or texts.
    let bare = work.path().join("bare");
    std::fs::create_dir_all(bare.join("meta_info")).unwrap();
    std::fs::copy(
        data_set().1.join("meta_info/All_video_label.npy"),
        bare.join("meta_info/All_video_label.npy"),
    )
    .unwrap();
    let eeg: Vec<f32> = (0..BLOCKS * 200 * 2 * 400).map(|i| (i * 37 % 101) as f32 * 1e-7).collect();
    npy::write(bare.join("sub1.npy"), &[BLOCKS, 40, 5, 2, 400], &eeg).unwrap();
    let bare = |what: &str, more: &[&str]| {
        let mut command = mindreel();
        command.args(["train", what, "--data"]).arg(&bare).arg("--output").arg(&output).args(more);
        command
    };
    refused(&mut bare("seq2seq", &["--vae", &data]), 3, "holds no clips");
    refused(&mut bare("semantic", &["--text", "no.safetensors"]), 3, "no.safetensors");
    assert!(!output.exists(), "nothing was begun");
}
