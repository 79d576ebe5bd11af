//! NeuroVision's transformers against transformers' own: tests/golden/neurovision.py made the fixtures.

mod common;
#[path = "common/fixture.rs"]
mod fixture;

use common::gpu;
use fixture::{Golden, output, relative_error};
use mindreel::error::Error;
use mindreel::gpu::{Gpu, Options};
use mindreel::models::{
    self, Config, Decoding, EarlyStopping, Ending, Input, Inputs, Opt, OptConfig, Padding, Prompts, Text,
};
use mindreel::nn::{self, Precision};
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
    told(opt.generate(&long, 3).err(), "has 20 positions");

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

/// `opt_decoding`: its model, its prompts as embeddings, and how texts end there.
struct Texts {
    golden: Golden,
    model: Opt,
    ending: Ending,
    ids: Vec<Vec<i64>>,
    padding: Padding,
}

impl Texts {
    fn open(gpu: &Gpu) -> Texts {
        let golden = Golden::open("opt_decoding");
        let folder = tempfile::tempdir().unwrap();
        golden.checkpoint(folder.path(), Dtype::F32);
        let config = Config::open(folder.path().join("config.json")).unwrap();
        let checkpoint = models::architecture("OPTForCausalLM").unwrap().checkpoint(folder.path()).unwrap();
        let sizes = OptConfig::new(&config).unwrap();
        let load = |weights: &nn::Weights| Opt::load(weights, &sizes);
        let model = nn::open(gpu, checkpoint, Precision::F32, load).unwrap().model;
        let ids = sequences(&golden, "in.input_ids");
        let mask = sequences(&golden, "in.attention_mask").concat();
        let padding = Padding::new(&mask, [ids.len(), ids[0].len()]).unwrap();
        Texts { golden, model, ending: Ending::new(&config).unwrap(), ids, padding }
    }

    /// The texts behind some of the prompts, which have these ids, as far as they have any.
    fn generate(&self, rows: &[usize], has_ids: bool, decoding: &Decoding) -> Vec<Vec<Text>> {
        let ids: Vec<Vec<i64>> = rows.iter().map(|&row| self.ids[row].clone()).collect();
        let padding = self.padding.pick(rows);
        let embeddings = self.model.embed(&ids.concat(), &padding.shape()).unwrap();
        // Padding says nothing.
        let seen = |(at, ids): (usize, &Vec<i64>)| {
            let places = padding.pick(&[at]).places(0);
            ids.iter().zip(places).filter(|(_, place)| has_ids && *place >= 0).map(|(id, _)| *id).collect()
        };
        let seen: Vec<Vec<i64>> = ids.iter().enumerate().map(seen).collect();
        let prompts =
            Prompts { embeddings: &embeddings, padding: &padding, ids: &seen, first: rows[0] as u64 };
        models::generate(&self.model, &prompts, &self.ending, decoding, &mut |_| Ok(())).unwrap()
    }

    /// What the fixture calls one of its cases of `kind`.
    fn cases(&self, kind: &str) -> Vec<(String, Decoding)> {
        let settings: serde_json::Value = serde_json::from_str(&self.golden.file.metadata()[kind]).unwrap();
        settings.as_object().unwrap().iter().map(|(name, given)| (name.clone(), decoding(given))).collect()
    }
}

/// Settings by transformers' names.
fn decoding(given: &serde_json::Value) -> Decoding {
    let number = |key: &str, usual: f64| given.get(key).map_or(usual, |v| v.as_f64().unwrap());
    let count = |key: &str, usual: usize| given.get(key).map_or(usual, |v| v.as_u64().unwrap() as usize);
    Decoding {
        temperature: number("temperature", 1.0),
        top_k: count("top_k", 50),
        top_p: number("top_p", 1.0),
        repetition_penalty: number("repetition_penalty", 1.0),
        num_beams: count("num_beams", 1),
        length_penalty: number("length_penalty", 1.0),
        early_stopping: match given.get("early_stopping") {
            None => EarlyStopping::False,
            Some(serde_json::Value::Bool(true)) => EarlyStopping::True,
            Some(_) => EarlyStopping::Never,
        },
        num_return_sequences: count("num_return_sequences", 1),
        min_new_tokens: count("min_new_tokens", 0),
        ..Decoding::greedy(12)
    }
}

#[test]
fn every_way_to_choose_writes_the_references_texts() {
    let Some(gpu) = gpu() else { return };
    let texts = Texts::open(&gpu);
    let mut cases: Vec<_> =
        texts.cases("texts").into_iter().map(|(name, decoding)| (name, decoding, true)).collect();
    assert_eq!(cases.len(), 9);
    let penalty = cases.iter().find(|case| case.0 == "penalty").unwrap().1.clone();
    cases.push(("embeds".into(), penalty, false));
    for (name, decoding, has_ids) in cases {
        let want = sequences(&texts.golden, &format!("out.{name}_sequences"));
        let batch: &[usize] = if has_ids { &[0, 1, 2] } else { &[0] };
        let got = texts.generate(batch, has_ids, &decoding);
        let rows: Vec<&Text> = got.iter().flatten().collect();
        assert_eq!(rows.len(), want.len(), "{name}");
        for (text, want) in rows.iter().zip(&want) {
            // Behind its end a text is padded; an end is the last of its ids.
            let (own, rest) = want.split_at(text.ids.len().min(want.len()));
            assert_eq!(text.ids, own, "{name}");
            assert!(
                rest.iter().all(|&id| id == texts.ending.pad_token_id),
                "{name}: {:?} {want:?}",
                text.ids
            );
        }
        if texts.golden.file.get(&format!("out.{name}_scores")).is_some() {
            for (text, want) in rows.iter().zip(texts.golden.values(&format!("out.{name}_scores"))) {
                let close = (text.score - f64::from(want)).abs() < 1e-4 * f64::from(want.abs());
                assert!(close, "{name}: {} {want}", text.score);
            }
        }
        // A prompt alone gets the same.
        let last = batch.len() - 1;
        let alone = texts.generate(&batch[last..], has_ids, &decoding);
        let same = |(a, b): (&Text, &Text)| a.ids == b.ids && (a.score - b.score).abs() < 1e-5;
        assert!(alone[0].iter().zip(&got[last]).all(same), "{name}: {alone:?} {:?}", got[last]);
    }
}

#[test]
fn tokens_are_drawn_from_the_references_distributions() {
    let golden = Golden::open("opt_decoding");
    let (ids, mask) = (sequences(&golden, "in.input_ids"), sequences(&golden, "in.attention_mask"));
    let config = Config::from_json("config.json", golden.file.metadata()["config"].as_bytes()).unwrap();
    let ending = Ending::new(&config).unwrap();
    let draws: serde_json::Value = serde_json::from_str(&golden.file.metadata()["draws"]).unwrap();
    let scores = golden.values("out.next");
    let mut largest = 0.0_f64;
    for (name, given) in draws.as_object().unwrap() {
        let decoding = Decoding { do_sample: true, ..decoding(given) };
        let want = golden.values(&format!("out.{name}_probabilities"));
        for (row, want) in want.chunks(101).enumerate() {
            let own = ids[row].iter().zip(&mask[row]).filter(|(_, seen)| **seen == 1).map(|(id, _)| *id);
            let got =
                decoding.probabilities(&scores[row * 101..][..101], &own.collect::<Vec<_>>(), 0, &ending);
            for (got, &want) in got.iter().zip(want) {
                assert_eq!(*got > 0.0, want > 0.0, "{name} {row}: {got} {want}");
                largest = largest.max((got - f64::from(want)).abs());
            }
        }
    }
    assert!(largest < 1e-6, "{largest:e}");
}

#[test]
fn draws_repeat_by_seed_whatever_the_batch() {
    let Some(gpu) = gpu() else { return };
    let texts = Texts::open(&gpu);
    let drawn =
        Decoding { do_sample: true, num_return_sequences: 2, top_k: 0, seed: 5, ..Decoding::greedy(9) };
    let all = texts.generate(&[0, 1, 2], true, &drawn);
    assert_eq!(all, texts.generate(&[0, 1, 2], true, &drawn));
    let ids = |texts: &[Text]| texts.iter().map(|text| text.ids.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&all[1]), ids(&texts.generate(&[1], true, &drawn)[0]));
    assert_ne!(ids(&all[0]), ids(&all[1]));
    assert_ne!(all[0][0].ids, all[0][1].ids);
    assert!(all.iter().all(|texts| texts[0].score >= texts[1].score));
    let other = texts.generate(&[0, 1, 2], true, &Decoding { seed: 6, ..drawn.clone() });
    assert!(all.iter().zip(&other).any(|(a, b)| ids(a) != ids(b)));
    // So cold that nothing but the likeliest is drawn.
    let cold = Decoding { temperature: 1e-4, num_return_sequences: 1, ..drawn };
    assert_eq!(
        ids(&texts.generate(&[0, 1, 2], true, &cold).concat()),
        ids(&texts.generate(&[0, 1, 2], true, &Decoding::greedy(9)).concat())
    );
}

#[test]
fn a_prompt_that_leaves_no_room_is_refused() {
    let Some(gpu) = gpu() else { return };
    let texts = Texts::open(&gpu);
    let embeddings = texts.model.embed(&texts.ids.concat(), &texts.padding.shape()).unwrap();
    let ids = vec![Vec::new(); 3];
    let prompts = Prompts { embeddings: &embeddings, padding: &texts.padding, ids: &ids, first: 0 };
    let write =
        |n| models::generate(&texts.model, &prompts, &texts.ending, &Decoding::greedy(n), &mut |_| Ok(()));
    let text = write(20).err().unwrap().to_string();
    assert!(text.contains("the longest prompt has 6 tokens, 20 more were asked for"), "{text}");
    assert!(text.contains("has 24 positions") && !text.contains('\n'), "{text}");
    let stop = |n| match n {
        3 => Err(Error::Interrupted("planted".into())),
        _ => Ok(()),
    };
    let stopped =
        models::generate(&texts.model, &prompts, &texts.ending, &Decoding::greedy(9), &mut |n| stop(n));
    assert_eq!(stopped.err().unwrap().exit_code(), 130);
}
