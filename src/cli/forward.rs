//! `mindreel forward`: one model, tensors in, tensors out. The way another tool drives or checks a model.

use super::{Number, Shell};
use crate::error::{Error, Result, none_of};
use crate::files;
use crate::gpu::Gpu;
use crate::models::{self, Inputs, Output};
use crate::nn::Loaded;
use crate::weights::{self, NewTensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The component that is no part: what a language model writes.
const GENERATE: &str = "generate";

const EXAMPLES: &str = "\
Inputs carry the reference's argument names and shapes, outputs its field names, in f32:
  UNet3DConditionModel   sample [b, c, f, h, w], timestep [b] or [1], encoder_hidden_states [b, tokens, width]
  AutoencoderKL          latents [b, c, h, w] to decode, or sample [b, 3, h, w] to encode
  SemanticPredictor      eeg [b, 310]
`mindreel info --models` lists every architecture.

Examples:
  mindreel forward --model unet/ --input in.safetensors --output out.safetensors
  mindreel forward --model model/ --component vae --input latents.safetensors --output frames.safetensors
  mindreel forward --model unet/ --input in.safetensors --output out.safetensors --dtype f16 --force
  mindreel forward --model opt/ --component generate --max-new-tokens 20 --input ids.safetensors --output text.safetensors

In Python: safetensors.torch.save_file({\"sample\": x, \"timestep\": t, …}, \"in.safetensors\")";

/// Run one model: tensors in, tensors out
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder with config.json and the weights, as diffusers and transformers write them
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// Named inputs
    #[arg(long, value_name = "IN.safetensors")]
    input: PathBuf,

    /// Where the named outputs go
    #[arg(long, value_name = "OUT.safetensors")]
    output: PathBuf,

    /// Number type of activations; f16 halves memory where the GPU computes in it
    #[arg(long, default_value = "f32")]
    dtype: Number,

    /// Part of a pipeline folder: unet, vae, semantic, …; or 'generate', to let a language model write
    #[arg(long, value_name = "NAME")]
    component: Option<String>,

    /// Tokens a text grows by at most, with '--component generate'
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,

    /// Replace an output that is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    files::refuse_existing(&args.output, args.force)?;
    let max_new_tokens = writes(args)?;
    let part = args.component.as_deref().filter(|_| max_new_tokens.is_none());
    let folder = component(&args.model, part)?;
    let inputs = Inputs::open(&args.input)?;
    let gpu = shell.open_gpu()?;
    let Loaded { model, warnings } = models::open(&gpu, &folder, args.dtype.precision())?;
    for warning in warnings {
        shell.note(&format!("warning: {}: {warning}", folder.display()));
    }
    let start = Instant::now();
    // What does not fit a model comes from the file.
    let named = |error: Error| match error {
        Error::Shape { .. } | Error::DType { .. } => Error::format(&args.input, error.to_string()),
        other => other,
    };
    let texts = max_new_tokens.map(|n| model.generate(&inputs, n)).transpose().map_err(named)?;
    if let Some(texts) = texts {
        return write_texts(&texts, args, shell, &gpu, start.elapsed().as_secs_f64());
    }
    let outputs = model.forward(&inputs).map_err(named)?;
    let seconds = start.elapsed().as_secs_f64();
    for output in &outputs {
        let bad = output.values.iter().filter(|value| !value.is_finite()).count();
        if bad > 0 {
            let (name, all) = (output.name, output.values.len());
            shell.note(&format!("warning: {name}: {bad} of {all} values are NaN or infinite"));
        }
    }
    let tensors = outputs.iter().map(|out| NewTensor::from_f32(out.name, out.shape.clone(), &out.values));
    weights::write(&args.output, tensors.collect(), &BTreeMap::new())?;

    let text: String = outputs.iter().map(|out| format!("{} {:?}\n", out.name, out.shape)).collect();
    let tensor = |out: &Output| json!({ "name": out.name, "shape": out.shape, "dtype": "f32" });
    let result = json!({
        "output": args.output.display().to_string(), // may be no UTF-8
        "tensors": outputs.iter().map(tensor).collect::<Vec<Value>>(),
        "adapter": gpu.facts().name,
        "seconds": seconds,
        "peak_bytes": gpu.memory().peak,
    });
    shell.print(&text, &result)
}

/// Tokens a text may grow by, where a text is asked for.
fn writes(args: &Args) -> Result<Option<usize>> {
    let is_part = args.model.join("model_index.json").is_file() && args.model.join(GENERATE).is_dir();
    match (args.component.as_deref() == Some(GENERATE) && !is_part, args.max_new_tokens) {
        (true, Some(0)) => Err(Error::setting("--max-new-tokens", "wanted at least 1, got 0")),
        (true, Some(n)) => Ok(Some(n)),
        (true, None) => {
            Err(Error::setting("--max-new-tokens", "is missing; '--component generate' wants it"))
        }
        (false, Some(_)) => Err(Error::setting("--max-new-tokens", "goes with '--component generate' alone")),
        (false, None) => Ok(None),
    }
}

/// `sequences [texts, tokens]` in i64, prompts included.
fn write_texts(texts: &[Vec<i64>], args: &Args, shell: &Shell, gpu: &Gpu, seconds: f64) -> Result<()> {
    let shape = [texts.len(), texts.first().map_or(0, Vec::len)];
    let ids = texts.concat();
    let sequences = NewTensor::from_i64("sequences", shape, &ids);
    weights::write(&args.output, vec![sequences], &BTreeMap::new())?;
    let result = json!({
        "output": args.output.display().to_string(), // may be no UTF-8
        "tensors": [{ "name": "sequences", "shape": shape, "dtype": "i64" }],
        "adapter": gpu.facts().name,
        "seconds": seconds,
        "peak_bytes": gpu.memory().peak,
    });
    shell.print(&format!("sequences {shape:?}\n"), &result)
}

/// The folder of the model: `model` itself, or the part of a pipeline that `--component` names.
fn component(model: &Path, name: Option<&str>) -> Result<PathBuf> {
    let is_pipeline = model.join("model_index.json").is_file();
    let Some(name) = name else {
        if is_pipeline && !model.join("config.json").is_file() {
            let (path, parts) = (model.display(), parts(model)?.join(", "));
            return Err(Error::setting(
                "--component",
                format!("'{path}' is a pipeline; name one of its parts: {parts}"),
            ));
        }
        return Ok(model.to_path_buf());
    };
    if !is_pipeline {
        let detail = format!("'{}' is one model, it has no parts; leave --component out", model.display());
        return Err(Error::setting("--component", detail));
    }
    let parts = parts(model)?;
    if parts.iter().any(|part| part == name) {
        return Ok(model.join(name));
    }
    Err(Error::setting("--component", none_of(name, parts.iter().map(String::as_str))))
}

/// Folders of a pipeline that hold a model.
fn parts(pipeline: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(pipeline).map_err(Error::read(pipeline))? {
        let entry = entry.map_err(Error::read(pipeline))?;
        if entry.path().join("config.json").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_and_strangers_refused() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path();
        let text = |name| component(model, name).unwrap_err().to_string();
        assert_eq!(component(model, None).unwrap(), model);
        assert!(text(Some("unet")).contains("it has no parts"));
        std::fs::write(model.join("model_index.json"), "{}").unwrap();
        for part in ["unet", "vae"] {
            std::fs::create_dir(model.join(part)).unwrap();
            std::fs::write(model.join(part).join("config.json"), "{}").unwrap();
        }
        assert_eq!(component(model, Some("vae")).unwrap(), model.join("vae"));
        assert!(text(None).contains("name one of its parts: unet, vae"));
        assert!(text(Some("unett")).contains("did you mean 'unet'?"));
        assert!(text(Some("../vae")).contains("none of unet, vae"));
        assert_eq!(component(model, Some("x")).unwrap_err().exit_code(), 2);
    }
}
