//! NeuroVision's transformers against transformers' own: tests/golden/neurovision.py made the fixtures.

mod common;
#[path = "common/fixture.rs"]
mod fixture;

use common::gpu;
use fixture::{Golden, output, relative_error};
use mindreel::error::Error;
use mindreel::gpu::{Gpu, Options};
use mindreel::models::{self, Input, Inputs};
use mindreel::nn::Precision;
use mindreel::weights::{Dtype, to_i64};

/// Runs a fixture on all its inputs and holds the fields against it.
fn check(gpu: &Gpu, name: &str, precision: Precision, fields: &[&str]) {
    let golden = Golden::open(name);
    let folder = tempfile::tempdir().unwrap();
    golden.checkpoint(folder.path(), Dtype::F32);
    let loaded = models::open(gpu, folder.path(), precision).unwrap();
    assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
    let outputs = loaded.model.forward(&inputs(&golden)).unwrap();
    let tolerance = if precision == Precision::F32 { 1e-4 } else { 5e-3 };
    for field in fields {
        let got = output(&outputs, field);
        assert_eq!(got.shape, golden.shape(&format!("out.{field}")), "{name}.{field}");
        let error = relative_error(&got.values, &golden.values(&format!("out.{field}")));
        eprintln!("{name}.{field} {precision:?}: relative error {error:.1e}");
        assert!(
            error <= tolerance,
            "{name}.{field} {precision:?}: relative error {error:.2e} > {tolerance:.0e}"
        );
    }
}

fn check_both(name: &str, fields: &[&str]) {
    let Some(gpu) = gpu() else { return };
    check(&gpu, name, Precision::F32, fields);
    check(&gpu, name, Precision::F16, fields);
}

/// Matrices in signed bytes stay within 2e-2.
#[test]
fn bytes_for_weights_keep_the_logits() {
    let Some(gpu) = gpu() else { return };
    for name in ["opt_a", "opt_b", "blip2_a"] {
        let golden = Golden::open(name);
        let folder = tempfile::tempdir().unwrap();
        golden.checkpoint(folder.path(), Dtype::F32);
        let outputs = |precision| {
            let model = models::open(&gpu, folder.path(), precision).unwrap().model;
            output(&model.forward(&inputs(&golden)).unwrap(), "logits").values.clone()
        };
        let error = relative_error(&outputs(Precision::Int8), &golden.values("out.logits"));
        let rounded = relative_error(&outputs(Precision::Int8), &outputs(Precision::F16));
        eprintln!("{name}.logits Int8: relative error {error:.1e}");
        assert!(
            (1e-3..2e-2).contains(&error) && rounded > 1e-3,
            "{name}: {error:.1e}, {rounded:.1e} from f16"
        );
    }
}

/// All inputs of a fixture.
fn inputs(golden: &Golden) -> Inputs {
    let names: Vec<&str> = golden.file.names().filter_map(|name| name.strip_prefix("in.")).collect();
    golden.inputs(&names.iter().map(|&name| (name, name)).collect::<Vec<_>>())
}

/// Rows of ids of a fixture.
fn sequences(golden: &Golden, name: &str) -> Vec<Vec<i64>> {
    let view = golden.file.get(name).unwrap();
    to_i64(&view).unwrap().chunks(view.shape[1]).map(<[i64]>::to_vec).collect()
}

#[test]
fn bert() {
    for name in ["bert_a", "bert_b"] {
        check_both(name, &["last_hidden_state", "pooler_output"]);
    }
}

#[test]
fn opt() {
    for name in ["opt_a", "opt_b", "opt_c", "opt_generate"] {
        check_both(name, &["logits"]);
    }
}

#[test]
fn vision_transformers() {
    for name in ["vit_a", "vit_b", "videomae_a", "videomae_b"] {
        check_both(name, &["logits"]);
    }
    for name in ["clip_vision_a", "clip_vision_b"] {
        check_both(name, &["image_embeds", "last_hidden_state"]);
    }
}

#[test]
fn qformer() {
    for name in ["qformer_a", "qformer_b"] {
        check_both(name, &["last_hidden_state"]);
    }
}

#[test]
fn blip2() {
    for name in ["blip2_a", "blip2_b"] {
        check_both(name, &["logits", "qformer_last_hidden_state"]);
    }
}

#[test]
fn eeg_encoder() {
    check_both("eeg_encoder", &["last_hidden_state"]);
}

#[test]
fn greedy_texts_are_the_references_token_for_token() {
    let Some(gpu) = gpu() else { return };
    for (name, fields) in
        [("opt_generate", &["sequences"][..]), ("blip2_a", &["sequences", "bare_sequences"])]
    {
        let golden = Golden::open(name);
        let folder = tempfile::tempdir().unwrap();
        golden.checkpoint(folder.path(), Dtype::F32);
        let model = models::open(&gpu, folder.path(), Precision::F32).unwrap().model;
        for field in fields {
            let mut given = inputs(&golden);
            if *field == "bare_sequences" {
                given.0.retain(|name, _| name == "pixel_values");
            }
            let want = sequences(&golden, &format!("out.{field}"));
            let prompt = match given.0.get("input_ids") {
                Some(Input::Ids(shape, _)) => shape[1],
                _ => 5, // four places of the image, and the token that begins a text
            };
            let most = if name == "opt_generate" { 11 } else { 8 };
            let got = model.generate(&given, most).unwrap();
            assert_eq!(got, want, "{name}.{field}");
            assert!(got[0].len() > prompt);
            // Fewer tokens are the first of many.
            let first: Vec<_> = want.iter().map(|row| row[..prompt + 2].to_vec()).collect();
            assert_eq!(model.generate(&given, 2).unwrap(), first, "{name}.{field}");
        }
        assert!(model.generate(&inputs(&golden), 0).is_err());
    }
}

/// Texts beside each other do not see each other, nor their padding: alone each gets the same.
#[test]
fn a_text_alone_goes_on_as_in_a_batch() {
    let Some(gpu) = gpu() else { return };
    let golden = Golden::open("opt_generate");
    let folder = tempfile::tempdir().unwrap();
    golden.checkpoint(folder.path(), Dtype::F32);
    let model = models::open(&gpu, folder.path(), Precision::F32).unwrap().model;
    let (ids, mask) = (sequences(&golden, "in.input_ids"), sequences(&golden, "in.attention_mask"));
    for (row, want) in sequences(&golden, "out.sequences").iter().enumerate() {
        let seen = mask[row].iter().filter(|&&seen| seen == 1).count();
        let alone = ids[row][6 - seen..].to_vec();
        let given = Inputs([("input_ids".to_string(), Input::Ids(vec![1, seen], alone))].into());
        let got = model.generate(&given, 11).unwrap().remove(0);
        assert_eq!(got[seen..], want[6..6 + got.len() - seen], "text {row}");
    }
}

#[test]
fn the_plain_kernels_give_the_same() {
    if gpu().is_none() {
        return;
    }
    let adapter = Options::from_env().unwrap().adapter;
    let options =
        Options { adapter, without_subgroups: true, without_immediates: true, ..Default::default() };
    let plain = Gpu::open(&options).unwrap();
    check(&plain, "bert_a", Precision::F32, &["last_hidden_state"]);
    check(&plain, "opt_a", Precision::F32, &["logits"]);
}

/// What a caller can get wrong is told by name, in one line.
#[test]
fn mistakes_are_refused_by_name() {
    let Some(gpu) = gpu() else { return };
    let open = |name: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let golden = Golden::open(name);
        let folder = tempfile::tempdir().unwrap();
        golden.checkpoint(folder.path(), Dtype::F32);
        let path = folder.path().join("config.json");
        let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        std::fs::write(&path, config.to_string()).unwrap();
        models::open(&gpu, folder.path(), Precision::F32).map(|loaded| (loaded.model, inputs(&golden)))
    };
    let told = |error: Option<Error>, wanted: &str| {
        let text = error.unwrap_or_else(|| panic!("wanted '{wanted}'")).to_string();
        assert!(text.contains(wanted) && !text.contains('\n'), "wanted '{wanted}', got '{text}'");
    };
    let ids = |shape: [usize; 2], id: i64| Input::Ids(shape.to_vec(), vec![id; shape[0] * shape[1]]);

    let (bert, given) = open("bert_a", &|_| ()).unwrap();
    let with = |name: &str, input: Input| {
        let mut given = given.clone();
        given.0.insert(name.to_string(), input);
        bert.forward(&given).err()
    };
    told(with("attention_mask", ids([3, 18], 1)), "attention_mask");
    told(with("token_type_ids", ids([3, 19], 2)), "wanted ids below 2");
    told(with("input_ids", ids([3, 19], 99)), "wanted ids below 99");
    told(with("pixels", ids([3, 19], 1)), "unknown input 'pixels'");
    told(bert.generate(&given, 3).err(), "writes no text");
    let long = Inputs([("input_ids".to_string(), ids([1, 41], 1))].into());
    told(bert.forward(&long).err(), "up to 40");

    let (opt, _) = open("opt_generate", &|_| ()).unwrap();
    let long = Inputs([("input_ids".to_string(), ids([1, 19], 5))].into());
    told(opt.generate(&long, 3).err(), "a text of 21 tokens, there are positions for 20");

    let (blip2, mut given) = open("blip2_a", &|_| ()).unwrap();
    given.0.insert("input_ids".to_string(), ids([2, 9], 60));
    told(blip2.forward(&given).err(), "18 places of images");

    let (vit, _) = open("vit_a", &|_| ()).unwrap();
    let small =
        Inputs([("pixel_values".to_string(), Input::Floats(vec![1, 3, 20, 42], vec![0.0; 2520]))].into());
    told(vit.forward(&small).err(), "wanted images of 30 x 42");

    told(
        open("bert_a", &|c| c["position_embedding_type"] = "relative_key".into()).err(),
        "position_embedding_type",
    );
    told(open("bert_a", &|c| c["num_attention_heads"] = 5.into()).err(), "num_attention_heads");
    told(open("opt_a", &|c| c["activation_function"] = "mish".into()).err(), "activation_function");
    told(open("opt_a", &|c| c["ffn_dim"] = 99.into()).err(), "fc1");
    told(open("vit_a", &|c| c["patch_size"] = 0.into()).err(), "patch_size");
    told(open("blip2_a", &|c| c["text_config"]["model_type"] = "t5".into()).err(), "model_type");
    told(
        open("qformer_a", &|c| c["cross_attention_frequency"] = 0.into()).err(),
        "cross_attention_frequency",
    );
}
