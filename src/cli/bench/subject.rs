//! What is measured: models by name at a named size, or those of a folder, with inputs of one call.

use crate::error::{Error, Result, nearest};
use crate::gpu::{Gpu, Trace};
use crate::models::{self, Clip, Config, Input, Inputs, Named, Part, Preset, architecture, preset, singles};
use crate::nn::{Loaded, Precision};
use crate::weights::Dtype;
use clap::ValueEnum;
use std::path::{Path, PathBuf};

/// `--size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Size {
    /// The parts of `init tiny`
    Small,
    /// The parts of `init sd14-eeg2video`: Stable Diffusion's
    Full,
}

/// The names of single models.
pub(super) const NAMES: [&str; 7] = ["unet", "vae", "text", "semantic", "seq2seq", "dynamics", "image"];
/// Those that stand for a whole clip, text instead of EEG included.
const CLIP: [&str; 6] = ["unet", "vae", "text", "semantic", "seq2seq", "dynamics"];

/// A model with what it is to run on.
pub(super) struct Case {
    pub(super) name: String,
    config: Config,
    inputs: Inputs,
    source: Source,
}

enum Source {
    Random(Part),
    Folder(PathBuf),
}

/// The models this name means: one of [`NAMES`], a preset, a folder; without a name those of a clip.
///
/// Errors: [`Error::Setting`] with the known names; what the folder's configs are refused for.
pub(super) fn cases(name: Option<&str>, size: Size) -> Result<Vec<Case>> {
    let presets = [("tiny", Size::Small), ("sd14-eeg2video", Size::Full)];
    let of = |size: Size| preset(presets[usize::from(size == Size::Full)].0);
    let all = |preset: Preset| CLIP.iter().map(|name| Case::named(&preset, name)).collect();
    match name {
        None => all(of(size)?),
        Some(name) if NAMES.contains(&name) => Ok(vec![Case::named(&of(size)?, name)?]),
        Some(name) if presets.iter().any(|known| known.0 == name) => all(preset(name)?),
        Some(name) if let Some(single) = singles().into_iter().find(|single| single.name == name) => {
            let config = single.part.model_config()?;
            let inputs = Inputs::example(&config, &Clip::FULL)?;
            Ok(vec![Case { name: name.to_string(), config, inputs, source: Source::Random(single.part) }])
        }
        Some(name) if let Some(stack) = stack(name)? => Ok(vec![stack]),
        Some(name) if Path::new(name).is_dir() => folder(Path::new(name)),
        Some(name) => {
            let singles = singles().into_iter().map(|single| single.name);
            let known = NAMES.into_iter().chain(presets.map(|known| known.0)).chain(singles);
            let near = nearest(name, known.clone()).map(|near| format!("; did you mean '{near}'?"));
            let list = known.collect::<Vec<_>>().join(", ");
            let detail = format!("'{name}' is no folder and none of {list}{}", near.unwrap_or_default());
            Err(Error::setting("model", detail))
        }
    }
}

/// `NAME-N-layers`: a named transformer with so many of its layers, for machines that cannot hold all of them.
fn stack(name: &str) -> Result<Option<Case>> {
    let Some((name, layers)) = name.strip_suffix("-layers").and_then(|rest| rest.rsplit_once('-')) else {
        return Ok(None);
    };
    let (Ok(layers), Some(single)) =
        (layers.parse::<usize>(), singles().into_iter().find(|single| single.name == name))
    else {
        return Ok(None);
    };
    let mut part = single.part;
    if layers == 0 || part.config["num_hidden_layers"].as_u64().is_none_or(|all| layers as u64 > all) {
        let detail =
            format!("'{name}' has {} layers, {layers} were asked for", part.config["num_hidden_layers"]);
        return Err(Error::setting("model", detail));
    }
    part.config["num_hidden_layers"] = layers.into();
    let config = part.model_config()?;
    let inputs = Inputs::example(&config, &Clip::FULL)?;
    let name = format!("{name}-{layers}-layers");
    Ok(Some(Case { name, config, inputs, source: Source::Random(part) }))
}

/// The models of a folder with a `config.json`, or of the parts of a pipeline.
fn folder(folder: &Path) -> Result<Vec<Case>> {
    let case = |folder: &Path| -> Result<Case> {
        let config = Config::open(folder.join("config.json"))?;
        let name = folder.file_name().unwrap_or(folder.as_os_str()).display().to_string();
        let inputs = Inputs::example(&config, &Clip::FULL)?;
        architecture(config.architecture()?)
            .map_err(|error| Error::format(config.path(), error.to_string()))?;
        Ok(Case { name, config, inputs, source: Source::Folder(folder.to_path_buf()) })
    };
    if folder.join("config.json").is_file() {
        return Ok(vec![case(folder)?]);
    }
    let entries = std::fs::read_dir(folder).map_err(Error::read(folder))?;
    let mut parts: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    parts.retain(|part| part.join("config.json").is_file());
    parts.sort();
    match parts.is_empty() {
        true => Err(Error::format(folder, "holds no config.json, nor do its parts; is it a checkpoint?")),
        false => parts.iter().map(|part| case(part)).collect(),
    }
}

impl Case {
    fn named(preset: &Preset, name: &str) -> Result<Case> {
        let find = |folder: &str| preset.parts.iter().find(|part| part.folder == folder).cloned();
        let part = match name {
            "text" => Some(preset.text_encoder.clone()),
            // Stable Diffusion itself: the same sizes for one image.
            "image" => find("unet").map(|mut part| {
                part.config["_class_name"] = "UNet2DConditionModel".into();
                part
            }),
            other => find(other),
        };
        let part =
            part.ok_or_else(|| Error::setting("model", format!("{} has no part '{name}'", preset.name)))?;
        let config = part.model_config()?;
        let inputs = Inputs::example(&config, &preset.clip())?;
        Ok(Case { name: name.to_string(), config, inputs, source: Source::Random(part) })
    }

    /// What one call asks of a device like `gpu`; nothing is allocated there.
    ///
    /// Errors: as the model's own forward.
    pub(super) fn trace(&self, gpu: &Gpu, precision: Precision) -> Result<Trace> {
        architecture(self.config.architecture()?)?.trace(gpu, &self.config, precision, &self.inputs)
    }

    /// The model on the device: from its folder, or with random weights of this number type, which lie in a temporary
    /// folder while they are loaded. `written` hears how many values more there are; an error from it ends that.
    ///
    /// Errors: as [`models::open`]; [`Error::Write`] for the temporary folder.
    pub(super) fn open(
        &self,
        gpu: &Gpu,
        precision: Precision,
        written: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Loaded<Box<dyn Named>>> {
        match &self.source {
            Source::Folder(folder) => models::open(gpu, folder, precision),
            Source::Random(part) => {
                let folder = tempfile::tempdir().map_err(Error::write(std::env::temp_dir()))?;
                let dtype = if precision == Precision::F32 { Dtype::F32 } else { Dtype::F16 };
                let mut part = part.clone();
                if part.config.get("eos_token_id").is_some() {
                    // Texts of random weights end anywhere; while they are timed they shall not.
                    part.config["eos_token_id"] = serde_json::json!([]);
                }
                part.write(folder.path(), 0, dtype, written)?;
                models::open(gpu, folder.path(), precision)
            }
        }
    }

    /// Values of random weights that [`Case::open`] makes.
    pub(super) fn n_values(&self) -> Result<u64> {
        match &self.source {
            Source::Folder(_) => Ok(0),
            Source::Random(part) => {
                let sizes = part.wanted()?;
                Ok(sizes.iter().map(|wanted| wanted.shape.iter().product::<usize>() as u64).sum())
            }
        }
    }

    pub(super) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// What one token alone asks of a language model; nothing of other models.
    ///
    /// Errors: as the model's own forward.
    pub(super) fn one_token(&self, gpu: &Gpu, precision: Precision) -> Result<Option<Trace>> {
        if self.config.architecture()? != "OPTForCausalLM" {
            return Ok(None);
        }
        let one = |name: &str, id: i64| (name.to_string(), Input::Ids(vec![1, 1], vec![id]));
        let inputs = Inputs([one("input_ids", 2), one("attention_mask", 1)].into());
        architecture("OPTForCausalLM")?.trace(gpu, &self.config, precision, &inputs).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leaves_a_trace() {
        let plan = Gpu::plan();
        for name in NAMES {
            let case = cases(Some(name), Size::Small).unwrap().pop().unwrap();
            for precision in [Precision::F32, Precision::F16] {
                let trace = case.trace(&plan, precision).unwrap();
                assert!(trace.work().flops > 0, "{name}");
                // Every op that launches has said its name and what it costs.
                for op in &trace.ops {
                    assert!(op.label.contains(' ') && op.work().bytes > 0, "{name}: {}", op.label);
                }
            }
        }
    }

    #[test]
    fn a_stack_has_as_many_layers_as_its_name_says() {
        let layers = |name: &str| {
            let case = cases(Some(name), Size::Full).unwrap().pop().unwrap();
            (case.name.clone(), case.n_values().unwrap())
        };
        let (two, three) = (layers("opt-2.7b-2-layers"), layers("opt-2.7b-3-layers"));
        assert_eq!((two.0.as_str(), three.1 - two.1), ("opt-2.7b-2-layers", 78_676_480));
        let one = cases(Some("opt-2.7b-2-layers"), Size::Full).unwrap().pop().unwrap();
        let plan = Gpu::plan();
        let bytes = |precision| one.one_token(&plan, precision).unwrap().unwrap().work().bytes;
        // Most of what a token reads is halves, or bytes; the head and half of attention stay halves.
        let (half, eight) = (bytes(Precision::F16), bytes(Precision::Int8));
        assert!((560_000_000..620_000_000).contains(&half), "{half}");
        assert!(eight < half - 80_000_000, "{eight} {half}");
        let error = cases(Some("opt-2.7b-33-layers"), Size::Full).err().expect("refused");
        assert!(error.to_string().contains("has 32 layers, 33 were asked for"), "{error}");
        assert!(cases(Some("opt-9-2-layers"), Size::Full).is_err());
    }

    #[test]
    fn an_unknown_name_gets_its_neighbour() {
        let error = cases(Some("unte"), Size::Small).err().expect("refused");
        assert!(error.exit_code() == 2 && error.to_string().contains("did you mean 'unet'?"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        let error = cases(empty.path().to_str(), Size::Small).err().expect("refused");
        assert!(error.to_string().contains("config.json"), "{error}");
    }
}
