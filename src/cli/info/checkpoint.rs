//! Checkpoints: a file, a folder of one model, a pipeline of several.

use super::{Told, grouped, shown};
use crate::cli::manifest;
use crate::error::{Error, Result, bytes};
use crate::models::{self, Blip2Config, Blip2Language, Config};
use crate::nn;
use crate::weights::{Checkpoint, Dtype, View};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// A safetensors file or index, or a folder with nothing but weights.
pub(super) fn file(path: &Path, with_tensors: bool) -> Result<Told> {
    let checkpoint = Checkpoint::open(path)?;
    let (text, json) = tensors(&checkpoint, with_tensors);
    Ok((format!("{}\n{text}", path.display()), json))
}

/// A folder with `config.json`, with or without weights, or with `scheduler_config.json`.
pub(super) fn part(folder: &Path, with_tensors: bool) -> Result<Told> {
    let scheduler = folder.join("scheduler_config.json");
    if scheduler.is_file() && !folder.join("config.json").is_file() {
        return scheduler_config(&scheduler);
    }
    let config = Config::open(folder.join("config.json"))?;
    let name = config.architecture()?;
    let known = models::architecture(name).ok();
    let mut text = format!("{}: {}\n", folder.display(), shown(name));
    let mut json = json!({ "architecture": name, "known": known.is_some() });
    let checkpoint = match Checkpoint::open(folder) {
        Ok(checkpoint) => checkpoint,
        // The config alone still tells something.
        Err(error) => {
            text += &format!("  weights     {error}\n");
            json["trouble"] = json!(error.to_string());
            return Ok((text, json));
        }
    };
    let (listed, facts) = tensors(&checkpoint, with_tensors);
    text += &listed;
    // As NeuroVision takes it, with an encoder of EEG in the place of the image encoder.
    let is_alone = name == "Blip2ForConditionalGeneration"
        && !checkpoint.names().any(|name| name.contains("vision_model."));
    let checked = known.map(|architecture| match is_alone {
        true => {
            let sizes = Blip2Config::new(&config)?;
            nn::check(architecture.checkpoint(folder)?, |weights| Blip2Language::load_alone(weights, &sizes))
        }
        false => architecture.check(folder, &config),
    });
    let verdict = match checked {
        Some(Ok(warnings)) if is_alone && warnings.is_empty() => {
            "every tensor is there, in its shape, but for the image encoder's".to_string()
        }
        None => "not known here; `mindreel info --models` lists what is".to_string(),
        Some(Ok(warnings)) if warnings.is_empty() => "every tensor is there, in its shape".to_string(),
        Some(Ok(warnings)) => warnings.join("; "),
        Some(Err(Error::Weights { detail, .. })) => format!("does not fit its config: {detail}"),
        Some(Err(error)) => error.to_string(),
    };
    text += &format!("  model       {verdict}\n");
    json["fits"] = json!(verdict);
    if let (Value::Object(json), Value::Object(facts)) = (&mut json, facts) {
        json.extend(facts);
    }
    Ok((text, json))
}

fn scheduler_config(path: &Path) -> Result<Told> {
    let config = crate::diffusion::SchedulerConfig::open(path)?;
    let name = config.fields.get("_class_name").and_then(Value::as_str).unwrap_or("no class name");
    let sampler = config.sampler().unwrap_or("none of ours");
    let text = format!(
        "{}: {}\n  sampler     {sampler}, {} training steps, betas {} to {}\n",
        path.display(),
        shown(name),
        config.num_train_timesteps,
        config.beta_start,
        config.beta_end
    );
    Ok((text, json!({ "architecture": name, "sampler": config.sampler(), "settings": config.fields })))
}

/// Every part a `model_index.json` names.
pub(super) fn pipeline(folder: &Path, with_tensors: bool) -> Result<Told> {
    let index = Config::open(folder.join("model_index.json"))?;
    let name = index.architecture().unwrap_or("no class name");
    let mut text = format!("{}: {}\n", folder.display(), shown(name));
    let size = |key: &str| index.get(key).and_then(Value::as_u64);
    if let (Some(frames), Some(height), Some(width)) = (size("num_frames"), size("height"), size("width")) {
        text += &format!("  clips of {frames} frames, {height}x{width}\n");
    }
    let (mut parts, mut total, mut total_bytes) = (serde_json::Map::new(), 0, 0);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let entry = entry.map_err(Error::read(folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    for name in names {
        let path = folder.join(&name);
        let is_model = path.join("config.json").is_file() || path.join("scheduler_config.json").is_file();
        let told = if is_model {
            part(&path, with_tensors)
        } else if name.ends_with(".safetensors") {
            file(&path, true)
        } else {
            continue;
        };
        let json = match told {
            Ok((more, json)) => {
                text += &format!("\n{more}");
                json
            }
            Err(error) => {
                text += &format!("\n{error}\n");
                json!({ "trouble": error.to_string() })
            }
        };
        if is_model {
            total += json["parameters"].as_u64().unwrap_or(0);
        }
        total_bytes += json["bytes"].as_u64().unwrap_or(0);
        parts.insert(name, json);
    }
    let differing: Vec<String> =
        manifest::differing(folder)?.iter().map(|path| path.display().to_string()).collect();
    for path in &differing {
        text += &format!("\n{path} is not what {} lists\n", manifest::NAME);
    }
    text += &format!("\ntogether {} parameters, {}\n", grouped(total), bytes(total_bytes));
    Ok((
        text,
        json!({
            "pipeline": name,
            "num_frames": size("num_frames"),
            "height": size("height"),
            "width": size("width"),
            "parts": parts,
            "parameters": total,
            "bytes": total_bytes,
            "differing": differing,
        }),
    ))
}

fn tensors(checkpoint: &Checkpoint, with_tensors: bool) -> Told {
    let is_parameter = |view: &View| {
        let is_float = matches!(view.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
        is_float && !view.name.ends_with(".running_mean") && !view.name.ends_with(".running_var")
    };
    let count = |view: &View| view.n_values() as u64;
    let parameters: u64 = checkpoint.views().filter(is_parameter).map(|view| count(&view)).sum();
    let mut types: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for view in checkpoint.views() {
        let entry = types.entry(view.dtype.to_string().to_lowercase()).or_default();
        *entry = (entry.0 + 1, entry.1 + count(&view));
    }
    let n_tensors = checkpoint.names().count();
    let of_type = |(dtype, (tensors, values)): (&String, &(u64, u64))| {
        let tensors = if *tensors == 1 { "1 tensor".to_string() } else { format!("{tensors} tensors") };
        format!("{dtype} ({tensors}, {} values)", grouped(*values))
    };
    let mut text = format!(
        "  tensors     {n_tensors}, {}\n  parameters  {}\n  types       {}\n",
        bytes(checkpoint.size_bytes()),
        grouped(parameters),
        types.iter().map(of_type).collect::<Vec<_>>().join(", ")
    );
    for (key, value) in checkpoint.metadata().iter().filter(|(key, _)| *key != "format") {
        text += &format!("  metadata    {}: {}\n", shown(key), shown(value));
    }
    let mut json = json!({
        "tensors": n_tensors,
        "parameters": parameters,
        "bytes": checkpoint.size_bytes(),
        "types": types.keys().collect::<Vec<_>>(),
        "metadata": checkpoint.metadata(),
    });
    if with_tensors {
        let mut list = Vec::new();
        for view in checkpoint.views() {
            let dtype = view.dtype.to_string().to_lowercase();
            text += &format!("  {dtype:<6} {:<24} {}\n", format!("{:?}", view.shape), shown(view.file_name));
            list.push(json!({ "name": view.file_name, "dtype": dtype, "shape": view.shape }));
        }
        json["list"] = Value::Array(list);
    }
    (text, json)
}
