//! `mindreel train semantic`: EEG to the text embeddings that steer the denoiser.

use super::fit::{FitArgs, Usual};
use super::heads::{self, EegArgs};
use crate::cli::Shell;
use crate::cli::settings::SettingsFile;
use crate::data::{EegInput, SeedDv, TextTable};
use crate::error::{Error, Result, none_of};
use crate::generate::{encode_texts, semantic_input};
use crate::models::{Config, EEG_MODELS, SemanticInput, SemanticModelConfig, takes_features};
use crate::nn::Precision;
use crate::signal::features::BANDS;
use crate::train::Fit;
use crate::train::heads::{Sets, first_parameters, weights_of};
use crate::train::semantic::{Recipe, Semantic, Targets};
use crate::weights::{self, NewTensor};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

const EXAMPLES: &str = "\
The part is written as --output/semantic, with scaler.safetensors and negative.safetensors beside it; --into puts them
into a checkpoint. Beside the scores on the validation block (mean squared error, cosine, how often the class is found
among the forty by cosine) stand those of the same predictions beside the texts of other clips.

--model is SemanticPredictor (linear layers on band features) or any EEG network of `mindreel info --models`; networks
on samples see windows of --window-s, and a clip's windows are averaged.

Examples:
  mindreel prepare text-embeddings --data sim --output texts.safetensors --words 64
  mindreel train semantic --data sim --text texts.safetensors --output runs/semantic
  mindreel train semantic --data sim --text texts.safetensors --output runs/shallow --model ShallowNet --steps 2000
  mindreel train semantic --data SEED-DV --text-encoder stable-diffusion-v1-4 --output runs/own --reproduce-original";

/// EEG to text embeddings
#[derive(clap::Args, Clone)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("texts").required(true).args(["text", "text_encoder"]))]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) eeg: EegArgs,

    /// Embeddings by class or clip, as `prepare text-embeddings` writes them
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    text: Option<PathBuf>,

    /// Captions through the text encoder of this folder instead
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    text_encoder: Option<PathBuf>,

    /// SemanticPredictor, or an EEG network [default: SemanticPredictor]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    model: Option<String>,

    /// Band features of the predictor: de (of the clip) or de-windows (of its two seconds) [default: de]
    #[arg(long, help_heading = "Model")]
    features: Option<String>,

    /// Widths of the predictor's hidden layers [default: 512,512; 10000 four times with --reproduce-original]
    #[arg(long, value_delimiter = ',', value_name = "N,…", help_heading = "Model")]
    hidden_dims: Vec<usize>,

    /// Share of values dropped in training [default: 0.3 for the predictor, the network's own]
    #[arg(long, value_name = "P", help_heading = "Model")]
    drop_prob: Option<f64>,

    /// Seconds of a network's window [default: 1]
    #[arg(long, value_name = "S", help_heading = "Model")]
    window_s: Option<f64>,

    /// Seconds from one training window to the next [default: half the window]
    #[arg(long, value_name = "S", help_heading = "Model")]
    step_s: Option<f64>,

    /// Share of examples that are mixed with another one [default: 0]
    #[arg(long, value_name = "P", help_heading = "Model")]
    mixup: Option<f64>,

    /// First steps on class numbers in the place of EEG, as the authors do [default: 0]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pretrain_steps: Option<u64>,

    /// The original's habits: its features and layers, Adam at 5e-4 along a cosine, one caption for the five clips of a
    /// class, and captions of every block in the order of block 0; no choice by validation
    #[arg(long, help_heading = "Model")]
    reproduce_original: bool,

    #[command(flatten)]
    pub(super) fit: FitArgs,
}

/// Names of its own in a settings file.
const OWN: [&str; 11] = [
    "text",
    "text-encoder",
    "model",
    "features",
    "hidden-dims",
    "drop-prob",
    "window-s",
    "step-s",
    "mixup",
    "pretrain-steps",
    "reproduce-original",
];

const USUAL: Usual = Usual {
    steps: 1500,
    batch_size: 64,
    learning_rate: 1e-3,
    weight_decay: 0.01,
    schedule: "cosine",
    clip_norm: 1.0,
    ema: 0.0,
    validation_steps: 100,
    snapshot_steps: 500,
};

/// 200 passes over 1200 clips, 38 batches each.
const ORIGINAL: Usual = Usual {
    steps: 7600,
    batch_size: 32,
    learning_rate: 5e-4,
    weight_decay: 0.0,
    schedule: "cosine",
    clip_norm: 0.0,
    ema: 0.0,
    validation_steps: 380,
    snapshot_steps: 380,
};

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let file = args.fit.file(&[&OWN[..], &heads::NAMES].concat())?;
    let original = args.reproduce_original || file.switch("reproduce-original")?;
    let mut common = args.fit.merge(&file, if original { &ORIGINAL } else { &USUAL })?;
    if !original && common.plan.evaluate_every > 0 {
        common.plan.best_by = Some("validation_loss");
    }
    args.eeg.refuse_existing("semantic", &args.fit)?;
    let share = |given: Option<f64>, name: &str| -> Result<Option<f64>> {
        match given.or(file.number(name)?) {
            Some(share) if !(0.0..1.0).contains(&share) => {
                Err(Error::setting(name, format!("wanted 0 to below 1, got {share}")))
            }
            share => Ok(share),
        }
    };
    let (drop_prob, mixup) =
        (share(args.drop_prob, "drop-prob")?, share(args.mixup, "mixup")?.unwrap_or(0.0));
    let pretrain_steps = args.pretrain_steps.or(file.count("pretrain-steps")?).unwrap_or(0);
    let model = args.model.clone().or(file.word("model")?).unwrap_or("SemanticPredictor".into());
    if model != "SemanticPredictor" && !EEG_MODELS.contains(&model.as_str()) {
        let names = ["SemanticPredictor"].into_iter().chain(EEG_MODELS);
        return Err(Error::setting("model", none_of(&model, names)));
    }
    let recording = args.eeg.read(&file, &mut common, original)?;
    let classes = recording.classes()?;
    let text =
        args.text.clone().or(file.word("text")?.map(PathBuf::from)).filter(|_| args.text_encoder.is_none());
    let table = text.as_ref().map(TextTable::open).transpose()?;
    let window = window(args, &file, &recording)?;
    let mut config = sizes(args, &file, &recording, &model, original, window[0])?;
    if let Some(p) = drop_prob {
        config["drop_prob"] = p.into();
    }

    for (name, value) in [("text", &text), ("text-encoder", &args.text_encoder)] {
        if let Some(value) = value {
            common.put(name, value.display().to_string());
        }
    }
    common.put("config", config.clone());
    common.put("step-s", window[1] as f64 / recording.eeg.sample_rate_hz);
    common.put("mixup", mixup);
    common.put("pretrain-steps", pretrain_steps);
    common.put("reproduce-original", original);
    args.fit.claim("semantic", &common)?;

    let gpu = shell.open_gpu()?;
    let table = match table {
        Some(table) => table,
        None => {
            let folder = args.text_encoder.as_ref().expect("clap wants one of the two");
            let captions = recording.data.captions(SeedDv::n_blocks(recording.eeg.n))?;
            let texts: Vec<String> = captions.into_iter().chain([String::new()]).collect();
            let (shape, mut values) = encode_texts(&gpu, folder, Precision::F32, &texts)?;
            let negative = values.split_off((texts.len() - 1) * shape[0] * shape[1]);
            TextTable::new(shape, values, negative)?
        }
    };
    let config = with_outputs(config, &model, [table.tokens, table.width])?;
    let sizes = SemanticModelConfig::new(&config, None)?;
    let input = semantic_input(&sizes.input, original);
    let taught = match &input {
        EegInput::Windows { n_times, is_centred, .. } => {
            EegInput::Windows { n_times: *n_times, step: window[1], is_centred: *is_centred }
        }
        features => features.clone(),
    };
    let [train, validation] = recording.split();
    let sets = Sets::new(&recording.eeg, [&taught, &input], train, validation)?;
    let seed = common.settings.seed;
    let targets = if original { Targets::Original } else { Targets::Own };
    let recipe = Recipe { batch_size: common.batch_size, seed, mixup, pretrain_steps, targets };
    let negative = table.negative().to_vec();
    let shape = [table.tokens, table.width];
    let name = match sizes.input {
        SemanticInput::Features { .. } => "features",
        SemanticInput::Windows { .. } => "semantic",
    };
    let task = Semantic::new(&gpu, sizes, sets, table, &classes, recipe)?;
    let parameters = first_parameters(&gpu, &config, seed)?;
    let n_values: usize = parameters.iter().map(|(_, tensor)| tensor.len()).sum();
    shell.note(&format!(
        "{model} of {n_values} parameters, {} examples of blocks {:?}; on '{}'",
        task.sets().train.len(),
        recording.train_blocks,
        gpu.facts().name
    ));
    let mut fit = Fit::new(common.trainer(&gpu, parameters)?, common.plan.clone())?;
    fit.wait_for(recording.patience);
    let accumulate = common.settings.accumulate as u64;
    args.fit.run(
        shell,
        &mut fit,
        common.plan.steps,
        &mut |weights, step, micro| task.loss(weights, step, step * accumulate + micro as u64),
        &mut |weights, _| {
            let scores = task.scores(weights)?;
            Ok(vec![
                ("validation_loss".into(), scores.mse),
                ("validation_cosine".into(), scores.cosine),
                ("validation_top1".into(), scores.top1),
                ("validation_top5".into(), scores.top5),
            ])
        },
    )?;

    let report = task.report(&weights_of(&gpu, &fit.result()?, common.settings.precision)?)?;
    let scaler = (name, &task.sets().scaler);
    let into = args.eeg.keep("semantic", &config, scaler, (&args.fit, &common, &fit))?;
    let tensor = NewTensor::from_f32("negative", shape, &negative);
    weights::write(into.join("negative.safetensors"), vec![tensor], &BTreeMap::new())?;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let said = format!(
        "validation mse {:.4} (mean {:.4}), cosine {:.3}, top-1 {} and top-5 {} of 40 (shuffled {} and {}, chance 2.5 % and 12.5 %)",
        report.scores.mse,
        report.mean_embedding_mse,
        report.scores.cosine,
        percent(report.scores.top1),
        percent(report.scores.top5),
        percent(report.shuffled_pairs.top1),
        percent(report.shuffled_pairs.top5),
    );
    heads::tell(shell, &fit, &args.fit.output, &into.join("semantic"), &report, &said)
}

/// Samples of a network's window, and from one to the next in training.
fn window(args: &Args, file: &SettingsFile, recording: &heads::Recording) -> Result<[usize; 2]> {
    let seconds = args.window_s.or(file.number("window-s")?).unwrap_or(1.0);
    let step = args.step_s.or(file.number("step-s")?).unwrap_or(seconds / 2.0);
    Ok([recording.samples("window-s", seconds)?, recording.samples("step-s", step)?])
}

/// The config but for its outputs, which the texts say.
fn sizes(
    args: &Args,
    file: &SettingsFile,
    recording: &heads::Recording,
    model: &str,
    original: bool,
    window: usize,
) -> Result<serde_json::Value> {
    let n_chans = recording.eeg.n_channels;
    let form = if original { "original" } else { "corrected" };
    if model != "SemanticPredictor" {
        let mut config = json!({ "_class_name": model, "n_chans": n_chans });
        match takes_features(model) {
            true => {
                config["n_features"] = (n_chans * BANDS.len()).into();
                config["feature_form"] = form.into();
            }
            false => {
                config["n_times"] = window.into();
                config["centred"] = true.into();
            }
        }
        if model == "Conformer" {
            config["attention_scale"] = "head_dim".into();
        }
        return Ok(config);
    }
    let n_windows = match args.features.clone().or(file.word("features")?).as_deref() {
        None | Some("de") => 1,
        Some("de-windows") => 2,
        Some(other) => {
            let detail = format!("'{}' is none of de, de-windows", other.escape_debug());
            return Err(Error::setting("features", detail));
        }
    };
    let hidden = match (&args.hidden_dims[..], file.counts("hidden-dims")?) {
        ([], None) if original => vec![10_000; 4],
        ([], None) => vec![512; 2],
        ([], Some(widths)) => widths.into_iter().map(|width| width as usize).collect(),
        (given, _) => given.to_vec(),
    };
    if hidden.contains(&0) {
        return Err(Error::setting("hidden-dims", "wanted widths of at least 1, got 0"));
    }
    Ok(json!({
        "_class_name": model,
        "n_features": n_windows * n_chans * BANDS.len(),
        "n_windows": n_windows,
        "hidden_dims": hidden,
        "drop_prob": if original { 0.0 } else { 0.3 },
        "feature_form": form,
    }))
}

fn with_outputs(mut config: serde_json::Value, model: &str, [tokens, width]: [usize; 2]) -> Result<Config> {
    if model == "SemanticPredictor" {
        config["n_tokens"] = tokens.into();
        config["emb_dim"] = width.into();
    } else {
        config["n_outputs"] = (tokens * width).into();
        config["output_shape"] = json!([tokens, width]);
    }
    Config::from_json("config.json", config.to_string().as_bytes())
}
