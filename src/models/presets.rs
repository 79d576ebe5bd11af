//! Named configurations: whole EEG-to-video checkpoints that `init` fills with random weights.
//!
//! ```text
//! name -> Preset (parts with their configs) -> write -> folder as product pipelines lay it out
//! DIR/{semantic,seq2seq,dynamics,unet,vae,scheduler}/, scaler.safetensors, negative.safetensors, model_index.json
//! ```
//!
//! Weights follow [`crate::weights::random`]: variance 1 / fan_in keeps every branch near the scale of what it
//! reads, and each branch of a residual model begins with a norm, so streams grow like the square root of the
//! depth and stay far inside f16.

use super::config::Config;
use super::example::Clip;
use super::named::{Architecture, Inputs, architecture};
use crate::error::{Error, Result, none_of};
use crate::files;
use crate::gpu::{Gpu, Memory};
use crate::nn::Precision;
use crate::weights::{self, Dtype, NewTensor, Wanted, random};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

/// Values made at once; each thread makes a share.
const PIECE_VALUES: usize = 1 << 22;

/// One folder of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its name: `unet`, `vae`, …; empty for a model that stands alone.
    pub folder: &'static str,
    /// Who knows the class: `diffusers`, `transformers` or `mindreel`.
    pub library: &'static str,
    /// What `config.json` (or `scheduler_config.json`) holds; `_class_name` or `architectures` first.
    pub config: Value,
}

/// A whole checkpoint, without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// What the user types.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Number type on disk where none is asked for.
    pub dtype: Dtype,
    /// The parts.
    pub parts: Vec<Part>,
    /// Frames of a clip.
    pub num_frames: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Columns of a frame.
    pub width: usize,
    /// DE features of a clip: channels x bands.
    pub n_features: usize,
    /// Shape of an embedding: tokens, width.
    pub embedding: [usize; 2],
    /// The text encoder whose embeddings these are. A checkpoint of EEG needs none, and `write` makes none.
    pub text_encoder: Part,
}

/// The named configurations.
pub fn presets() -> Vec<Preset> {
    vec![sd14_eeg2video(), tiny()]
}

/// The configuration of this name.
///
/// Errors: [`Error::Setting`] with the known names.
pub fn preset(name: &str) -> Result<Preset> {
    let mut all = presets();
    match all.iter().position(|preset| preset.name == name) {
        Some(at) => Ok(all.swap_remove(at)),
        None => Err(Error::setting("NAME", none_of(name, all.iter().map(|preset| preset.name)))),
    }
}

/// EEG2Video on Stable Diffusion v1-4, at full size.
///
/// Numbers: `unet/config.json`, `vae/config.json`, `scheduler/scheduler_config.json` of the model
/// CompVis/stable-diffusion-v1-4, the block names of showlab/Tune-A-Video 7d4a89a
/// (`UNet3DConditionModel.from_pretrained_2d`), and XuanhaoLiu/EEG2Video 7254ad8 (`EEG2Video_New`).
fn sd14_eeg2video() -> Preset {
    Preset {
        name: "sd14-eeg2video",
        about: "EEG2Video on Stable Diffusion v1-4 at full size: 6 frames of 288x512",
        dtype: Dtype::F16,
        parts: vec![
            semantic(&[10_000; 4], [77, 768]),
            seq2seq(512, 2048, [2, 4], [4, 36, 64]),
            dynamics(256),
            unet(&[320, 640, 1280, 1280], 2, 8, 768, 32, 64),
            vae(&[128, 256, 512, 512], 2, 32, 512),
            scheduler(),
        ],
        num_frames: 6,
        height: 288,
        width: 512,
        n_features: 310,
        embedding: [77, 768],
        text_encoder: text_encoder(768, 12, 12),
    }
}

/// The same parts, a few MB together, for tests and first steps. Its 9 latent rows do not halve evenly: the way
/// up is forced to the size of the skips, as at full size.
fn tiny() -> Preset {
    Preset {
        name: "tiny",
        about: "every part of EEG2Video in a few MB: 6 frames of 72x128",
        dtype: Dtype::F32,
        parts: vec![
            semantic(&[128, 128], [77, 64]),
            seq2seq(64, 128, [1, 2], [4, 9, 16]),
            dynamics(16),
            unet(&[32, 64], 1, 4, 64, 8, 16),
            vae(&[16, 32, 32, 32], 1, 8, 128),
            scheduler(),
        ],
        num_frames: 6,
        height: 72,
        width: 128,
        n_features: 310,
        embedding: [77, 64],
        text_encoder: text_encoder(64, 2, 4),
    }
}

fn semantic(hidden_dims: &[usize], [n_tokens, emb_dim]: [usize; 2]) -> Part {
    Part {
        folder: "semantic",
        library: "mindreel",
        config: json!({
            "_class_name": "SemanticPredictor",
            "n_features": 310,
            "hidden_dims": hidden_dims,
            "n_tokens": n_tokens,
            "emb_dim": emb_dim,
        }),
    }
}

fn seq2seq(d_model: usize, dim_feedforward: usize, layers: [usize; 2], latent_shape: [usize; 3]) -> Part {
    Part {
        folder: "seq2seq",
        library: "mindreel",
        config: json!({
            "_class_name": "EEG2VideoTransformer",
            "n_windows": 7,
            "n_chans": 62,
            "n_times": 100,
            "d_model": d_model,
            "n_heads": 4,
            "dim_feedforward": dim_feedforward,
            "n_encoder_layers": layers[0],
            "n_decoder_layers": layers[1],
            "n_classes": 13,
            "latent_shape": latent_shape,
        }),
    }
}

fn dynamics(emb_dim: usize) -> Part {
    Part {
        folder: "dynamics",
        library: "mindreel",
        config: json!({
            "_class_name": "GLMNet",
            "n_outputs": 2,
            "n_chans": 62,
            "n_times": 400,
            "emb_dim": emb_dim,
        }),
    }
}

/// Attention on every level but the deepest, as Stable Diffusion has it.
pub(super) fn unet(
    channels: &[usize],
    layers: usize,
    heads: usize,
    text: usize,
    groups: usize,
    side: usize,
) -> Part {
    let deepest = channels.len() - 1;
    let blocks = |with: &'static str, without: &'static str| {
        (0..=deepest).map(|level| if level < deepest { with } else { without }).collect::<Vec<_>>()
    };
    let mut up = blocks("CrossAttnUpBlock3D", "UpBlock3D");
    up.reverse();
    Part {
        folder: "unet",
        library: "diffusers",
        config: json!({
            "_class_name": "UNet3DConditionModel",
            "_diffusers_version": "0.11.1",
            "act_fn": "silu",
            "attention_head_dim": heads,
            "block_out_channels": channels,
            "center_input_sample": false,
            "cross_attention_dim": text,
            "down_block_types": blocks("CrossAttnDownBlock3D", "DownBlock3D"),
            "downsample_padding": 1,
            "flip_sin_to_cos": true,
            "freq_shift": 0,
            "in_channels": 4,
            "layers_per_block": layers,
            "mid_block_scale_factor": 1,
            "mid_block_type": "UNetMidBlock3DCrossAttn",
            "norm_eps": 1e-5,
            "norm_num_groups": groups,
            "out_channels": 4,
            "sample_size": side,
            "up_block_types": up,
        }),
    }
}

pub(super) fn vae(channels: &[usize], layers: usize, groups: usize, side: usize) -> Part {
    Part {
        folder: "vae",
        library: "diffusers",
        config: json!({
            "_class_name": "AutoencoderKL",
            "_diffusers_version": "0.11.1",
            "act_fn": "silu",
            "block_out_channels": channels,
            "down_block_types": vec!["DownEncoderBlock2D"; channels.len()],
            "in_channels": 3,
            "latent_channels": 4,
            "layers_per_block": layers,
            "norm_num_groups": groups,
            "out_channels": 3,
            "sample_size": side,
            "scaling_factor": 0.18215,
            "up_block_types": vec!["UpDecoderBlock2D"; channels.len()],
        }),
    }
}

/// CLIP's, with the numbers of openai/clip-vit-large-patch14 at a width of 768.
pub(super) fn text_encoder(width: usize, layers: usize, heads: usize) -> Part {
    Part {
        folder: "text_encoder",
        library: "transformers",
        config: json!({
            "_class_name": "CLIPTextModel",
            "hidden_act": "quick_gelu",
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "max_position_embeddings": 77,
            "num_attention_heads": heads,
            "num_hidden_layers": layers,
            "vocab_size": 49_408,
        }),
    }
}

/// What `scheduler_config.json` of Stable Diffusion v1-4 holds.
pub fn scheduler_config() -> Value {
    scheduler().config
}

pub(super) fn scheduler() -> Part {
    Part {
        folder: "scheduler",
        library: "diffusers",
        config: json!({
            "_class_name": "PNDMScheduler",
            "_diffusers_version": "0.11.1",
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "clip_sample": false,
            "num_train_timesteps": 1000,
            "set_alpha_to_one": false,
            "skip_prk_steps": true,
            "steps_offset": 1,
            "trained_betas": null,
        }),
    }
}

impl Part {
    /// The class its config names.
    pub fn class(&self) -> &str {
        let named = self.config.get("_class_name").or_else(|| self.config.get("architectures")?.get(0));
        named.and_then(Value::as_str).unwrap_or_default()
    }

    /// Name of the config file.
    pub fn config_file(&self) -> &'static str {
        if self.folder == "scheduler" { "scheduler_config.json" } else { "config.json" }
    }

    /// Name of the weights file.
    pub fn weights_file(&self) -> &'static str {
        if self.library == "diffusers" { "diffusion_pytorch_model.safetensors" } else { "model.safetensors" }
    }

    /// The model behind it; a scheduler has none.
    pub fn architecture(&self) -> Option<&'static Architecture> {
        architecture(self.class()).ok()
    }

    /// The config as a model reads it.
    pub fn model_config(&self) -> Result<Config> {
        Config::from_json(Path::new(self.folder).join(self.config_file()), self.config.to_string().as_bytes())
    }

    /// Every tensor of its model; none for a scheduler.
    pub fn wanted(&self) -> Result<Vec<Wanted>> {
        match self.architecture() {
            Some(architecture) => architecture.wanted(&self.model_config()?),
            None => Ok(Vec::new()),
        }
    }

    /// Memory on a device like `gpu` to hold the model and run it once on `inputs`; nothing is allocated.
    ///
    /// Errors: as the model's own forward.
    pub fn memory(&self, gpu: &Gpu, precision: Precision, inputs: &Inputs) -> Result<Memory> {
        match self.architecture() {
            Some(architecture) => architecture.memory(gpu, &self.model_config()?, precision, inputs),
            None => Ok(Memory::default()),
        }
    }

    /// Values of all its tensors.
    pub fn n_values(&self) -> Result<u64> {
        Ok(self.wanted()?.iter().map(n_values).sum())
    }

    /// Values of those of its tensors whose names are wanted.
    pub fn n_values_of(&self, wants: &dyn Fn(&str) -> bool) -> Result<u64> {
        Ok(self.wanted()?.iter().filter(|wanted| wants(&wanted.name)).map(n_values).sum())
    }

    /// Writes its config and weights from the seed into `folder`; the same part, seed and number type give the same
    /// bytes everywhere. `written` hears how many values more are done; an error from it ends the writing.
    ///
    /// Errors: [`Error::Write`]; what `written` returns.
    pub fn write(
        &self,
        folder: &Path,
        seed: u64,
        dtype: Dtype,
        written: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        self.write_of(&|_| true, folder, seed, dtype, written)
    }

    /// The same with those tensors alone whose names are wanted.
    pub fn write_of(
        &self,
        wants: &dyn Fn(&str) -> bool,
        folder: &Path,
        seed: u64,
        dtype: Dtype,
        written: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        files::write_json(folder.join(self.config_file()), &self.config)?;
        let report = &RefCell::new(written);
        let tensors: Vec<NewTensor> = self
            .wanted()?
            .into_iter()
            .filter(|wanted| wants(&wanted.name))
            .map(move |wanted| random_tensor(wanted.name, wanted.shape, seed, dtype, report))
            .collect();
        match tensors.is_empty() {
            true => Ok(()),
            false => weights::write(folder.join(self.weights_file()), tensors, &BTreeMap::new()),
        }
    }
}

/// Hears how many values more are done.
type Report<'a> = RefCell<&'a mut dyn FnMut(usize) -> Result<()>>;

/// A tensor of random values, made piece by piece while it is written.
fn random_tensor<'a>(
    name: String,
    shape: Vec<usize>,
    seed: u64,
    dtype: Dtype,
    report: &'a Report<'_>,
) -> NewTensor<'a> {
    NewTensor::streamed(name.clone(), dtype, shape.clone(), move |sink| {
        let total: usize = shape.iter().product();
        let mut piece = vec![0.0; PIECE_VALUES.min(total)];
        for start in (0..total).step_by(PIECE_VALUES) {
            let piece = &mut piece[..PIECE_VALUES.min(total - start)];
            fill(&name, &shape, seed, start, piece);
            sink.put_f32(piece)?;
            (report.borrow_mut())(piece.len())?;
        }
        Ok(())
    })
}

impl Preset {
    /// The sizes of its clips.
    pub fn clip(&self) -> Clip {
        let (num_frames, height, width) = (self.num_frames, self.height, self.width);
        Clip { num_frames, height, width, tokens: self.embedding[0] }
    }

    /// Values of all tensors `write` makes.
    pub fn n_values(&self) -> Result<u64> {
        let mut total = (2 * self.n_features + self.embedding.iter().product::<usize>()) as u64;
        for part in &self.parts {
            total += part.n_values()?;
        }
        Ok(total)
    }

    /// What `model_index.json` holds.
    pub fn index(&self) -> Value {
        let mut index = serde_json::Map::new();
        index.insert("_class_name".into(), json!("EEG2VideoPipeline"));
        index.insert("_mindreel_version".into(), json!(env!("CARGO_PKG_VERSION")));
        for part in &self.parts {
            index.insert(part.folder.into(), json!([part.library, part.class()]));
        }
        for (key, value) in [("num_frames", self.num_frames), ("height", self.height), ("width", self.width)]
        {
            index.insert(key.into(), json!(value));
        }
        Value::Object(index)
    }

    /// Writes the checkpoint into `folder`: every part with weights from the seed, the scaler as identity, the
    /// unconditional embedding. The same name, seed and number type give the same bytes everywhere.
    ///
    /// `written` hears how many values are done; an error from it ends the writing.
    ///
    /// Errors: [`Error::Write`]; what `written` returns.
    pub fn write(
        &self,
        folder: &Path,
        seed: u64,
        dtype: Dtype,
        mut written: impl FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        let mut report = |n: usize| {
            done += n as u64;
            written(done)
        };
        for part in &self.parts {
            part.write(&folder.join(part.folder), seed, dtype, &mut report)?;
        }
        let negative: Report = RefCell::new(&mut report);
        let embedding = random_tensor("embedding".into(), self.embedding.to_vec(), seed, dtype, &negative);
        weights::write(folder.join("negative.safetensors"), vec![embedding], &BTreeMap::new())?;
        let (mean, scale) = (vec![0.0; self.n_features], vec![1.0; self.n_features]);
        let scaler = vec![
            NewTensor::from_f32("features.mean", [self.n_features], &mean),
            NewTensor::from_f32("features.scale", [self.n_features], &scale),
        ];
        weights::write(folder.join("scaler.safetensors"), scaler, &BTreeMap::new())?;
        report(2 * self.n_features)?;
        files::write_json(folder.join("model_index.json"), &self.index())
    }
}

/// Trained values among `tensors`: statistics of a BatchNorm are not counted.
pub fn n_parameters(tensors: &[Wanted]) -> u64 {
    let is_statistic =
        |name: &str| [".running_mean", ".running_var"].iter().any(|ending| name.ends_with(ending));
    tensors.iter().filter(|wanted| !is_statistic(&wanted.name)).map(n_values).sum()
}

fn n_values(wanted: &Wanted) -> u64 {
    wanted.shape.iter().map(|&axis| axis as u64).product()
}

/// A piece of a random tensor, made by all cores.
fn fill(name: &str, shape: &[usize], seed: u64, start: usize, piece: &mut [f32]) {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = piece.len().div_ceil(n_threads).max(1 << 14);
    std::thread::scope(|scope| {
        for (i, part) in piece.chunks_mut(share).enumerate() {
            let at = (start + i * share) as u64;
            scope.spawn(move || random::fill_range(name, shape, seed, at, part));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(preset: &Preset, folder: &str) -> u64 {
        let part = preset.parts.iter().find(|part| part.folder == folder).unwrap();
        n_parameters(&part.wanted().unwrap())
    }

    /// Counts of the original modules.
    #[test]
    fn the_full_size_has_the_originals_parameters() {
        let full = preset("sd14-eeg2video").unwrap();
        assert_eq!(parameters(&full, "unet"), 909_120_004);
        assert_eq!(parameters(&full, "vae"), 83_653_863);
        assert_eq!(parameters(&full, "semantic"), 894_559_136);
        assert_eq!(parameters(&full, "scheduler"), 0);
    }

    #[test]
    fn tiny_is_a_few_megabytes_and_its_sizes_agree() {
        let tiny = preset("tiny").unwrap();
        let bytes = 4 * tiny.n_values().unwrap();
        assert!((1 << 20..16 << 20).contains(&bytes), "{bytes}");
        for preset in presets() {
            let config =
                |folder: &str| preset.parts.iter().find(|p| p.folder == folder).unwrap().config.clone();
            assert_eq!(config("seq2seq")["latent_shape"], json!([4, preset.height / 8, preset.width / 8]));
            assert_eq!(config("unet")["cross_attention_dim"], json!(preset.embedding[1]));
            assert_eq!(config("semantic")["n_features"], json!(preset.n_features));
        }
    }

    #[test]
    fn an_unknown_name_gets_its_neighbour() {
        let text = preset("tinny").unwrap_err().to_string();
        assert_eq!(text, "NAME: 'tinny' is none of sd14-eeg2video, tiny; did you mean 'tiny'?");
    }

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_does_not() {
        let (tiny, folder) = (preset("tiny").unwrap(), tempfile::tempdir().unwrap());
        let write = |name: &str, seed| {
            let into = folder.path().join(name);
            let mut last = 0;
            tiny.write(&into, seed, Dtype::F16, |done| {
                last = done;
                Ok(())
            })
            .unwrap();
            assert_eq!(last, tiny.n_values().unwrap());
            std::fs::read(into.join("unet/diffusion_pytorch_model.safetensors")).unwrap()
        };
        let first = write("a", 7);
        assert!(first == write("b", 7));
        assert!(first != write("c", 8));
    }

    #[test]
    fn writing_ends_when_the_listener_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let stop = |_| Err(Error::Interrupted("planted".into()));
        let error = preset("tiny").unwrap().write(folder.path(), 0, Dtype::F32, stop).unwrap_err();
        assert_eq!(error.exit_code(), 130);
        assert!(!folder.path().join("model_index.json").exists());
    }
}
