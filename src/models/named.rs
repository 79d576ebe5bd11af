//! Any architecture behind one face: named tensors in, named tensors out, in the reference's names and shapes.
//!
//! ```text
//! folder (config.json + weights) -> open -> Box<dyn Named> -> forward(Inputs) -> [(name, Output)]
//! ```
//!
//! Images cross this face channels-first, as PyTorch has them; inside they are channels-last.

mod transformers;

use self::transformers::Writer;
use super::config::Config;
use super::*;
use crate::error::{Error, Result, none_of};
use crate::gpu::{Gpu, Memory, Trace};
use crate::nn::{self, Loaded, Precision, Weights};
use crate::tensor::{DType, Tensor};
use crate::weights::{self, Checkpoint, Wanted};
use std::collections::BTreeMap;
use std::path::Path;

/// An input as it came: floats or ids, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Shape and values.
    Floats(Vec<usize>, Vec<f32>),
    /// Shape and values.
    Ids(Vec<usize>, Vec<i64>),
}

/// Named inputs of one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs(pub BTreeMap<String, Input>);

/// A named result, in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The reference's field name.
    pub name: &'static str,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// A model that takes and gives named tensors.
pub trait Named {
    /// Runs the model.
    ///
    /// Errors: a missing, unknown or misshapen input, by name.
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>>;

    /// Texts that go on from a prompt by the most likely token each time: rows of ids of one length, the prompt
    /// included.
    ///
    /// Errors: as [`Named::forward`]; a model that writes no texts.
    fn generate(&self, inputs: &Inputs, max_new_tokens: usize) -> Result<Vec<Vec<i64>>> {
        let _ = (inputs, max_new_tokens);
        Err(Error::setting("--component", "'generate' is for language models; this one writes no text"))
    }
}

/// An architecture by the name its configs carry.
pub struct Architecture {
    /// `_class_name`, or an entry of `architectures`.
    pub name: &'static str,
    /// Inputs with their shapes, for people.
    pub inputs: &'static str,
    /// Outputs with their shapes.
    pub outputs: &'static str,
    rename: fn(&str) -> Option<String>,
    load: Load,
}

/// Loads a model; the checkpoint is at hand for sizes that the config leaves out.
type Load = fn(&Weights, &Config) -> Result<Box<dyn Named>>;

/// What EEG networks read and give.
const WINDOWS: &str = "eeg [b, 1, n_chans, n_times]";
const FEATURES: &str = "eeg [b, n_chans, bands]";
const BOTH: &str = "eeg [b, 1, n_chans, n_times], features [b, n_chans, bands]";
const LOGITS: &str = "logits [b, n_outputs]";

/// Every architecture `forward`, `init` and `info` know.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "UNet3DConditionModel",
        inputs: "sample [b, c, f, h, w], timestep [b] or [1], encoder_hidden_states [b, tokens, width]",
        outputs: "sample [b, c, f, h, w]",
        rename: weights::plain,
        load: |weights, config| load_unet(weights, config, true),
    },
    Architecture {
        name: "UNet2DConditionModel",
        inputs: "sample [b, c, h, w], timestep [b] or [1], encoder_hidden_states [b, tokens, width]",
        outputs: "sample [b, c, h, w]",
        rename: weights::plain,
        load: |weights, config| load_unet(weights, config, false),
    },
    Architecture {
        name: "AutoencoderKL",
        inputs: "latents [b, 4, h, w] to decode, or sample [b, 3, h, w] to encode",
        outputs: "sample [b, 3, 8 h, 8 w], or mean and logvar [b, 4, h / 8, w / 8]",
        rename: weights::vae_names,
        load: |weights, config| host(weights, Vae::load(weights, &VaeConfig::new(config)?, Halves::Both)?),
    },
    Architecture {
        name: "CLIPTextModel",
        inputs: "input_ids [b, tokens]",
        outputs: "last_hidden_state [b, tokens, hidden], pooler_output [b, hidden]",
        rename: weights::clip_text_names,
        load: |weights, config| {
            host_full(weights, |weights| ClipText::load(weights, &ClipTextConfig::new(config)?))
        },
    },
    Architecture {
        name: "CLIPVisionModelWithProjection",
        inputs: "pixel_values [b, 3, h, w]",
        outputs: "image_embeds [b, projection], last_hidden_state [b, patches + 1, hidden]",
        rename: weights::clip_vision_names,
        load: |weights, config| host(weights, ClipVision::load(weights, &ClipVisionConfig::new(config)?)?),
    },
    Architecture {
        name: "ViTForImageClassification",
        inputs: "pixel_values [b, 3, h, w]",
        outputs: "logits [b, labels]",
        rename: weights::vit_names,
        load: |weights, config| host(weights, Vit::load(weights, &VitConfig::new(config)?)?),
    },
    Architecture {
        name: "VideoMAEForVideoClassification",
        inputs: "pixel_values [b, f, 3, h, w]",
        outputs: "logits [b, labels]",
        rename: weights::videomae_names,
        load: |weights, config| host(weights, VideoMae::load(weights, &VideoMaeConfig::new(config)?)?),
    },
    Architecture {
        name: "ClipClassifier",
        inputs: "pixel_values [b, f, 3, h, w] in [-1, 1]",
        outputs: "logits [b, labels]",
        rename: weights::plain,
        load: |weights, config| {
            host_full(weights, |weights| ClipClassifier::load(weights, &ClipClassifierConfig::new(config)?))
        },
    },
    Architecture {
        name: "BertModel",
        inputs: "input_ids [b, tokens], attention_mask [b, tokens], token_type_ids [b, tokens] or none",
        outputs: "last_hidden_state [b, tokens, hidden], pooler_output [b, hidden] with a pooler",
        rename: weights::bert_names,
        load: |weights, config| host_full(weights, |weights| Bert::load(weights, &BertConfig::new(config)?)),
    },
    Architecture {
        name: "Blip2QFormerModel",
        inputs: "query_embeds [b, queries, hidden], encoder_hidden_states [b, keys, encoder hidden]",
        outputs: "last_hidden_state [b, queries, hidden]",
        rename: weights::qformer_names,
        load: |weights, config| {
            host_full(weights, |weights| QFormer::load(weights, &QFormerConfig::new(config)?))
        },
    },
    Architecture {
        name: "OPTForCausalLM",
        inputs: "input_ids [b, tokens], attention_mask [b, tokens]",
        outputs: "logits [b, tokens, vocabulary]; generate: sequences [b, tokens and new ones]",
        rename: weights::opt_names,
        load: |weights, config| {
            host(weights, Writer::new(Opt::load(weights, &OptConfig::new(config)?)?, config))
        },
    },
    Architecture {
        name: "Blip2ForConditionalGeneration",
        inputs: "pixel_values [b, 3, h, w], input_ids [b, tokens], attention_mask [b, tokens]",
        outputs: "logits [b, tokens, vocabulary], qformer_last_hidden_state [b, queries, hidden]",
        rename: weights::blip2_names,
        load: |weights, config| {
            host(weights, Writer::new(Blip2::load(weights, &Blip2Config::new(config)?)?, config))
        },
    },
    Architecture {
        name: "EEGTransformerEncoder",
        inputs: "spectrogram [b, 64, 224, 224]",
        outputs: "last_hidden_state [b, 3136, 1408]",
        rename: weights::eeg_encoder_names,
        load: |weights, config| {
            host_full(weights, |weights| {
                EegEncoder::load(weights, &EegEncoderConfig::new(config, weights.checkpoint())?)
            })
        },
    },
    Architecture {
        name: "SemanticPredictor",
        inputs: "eeg [b, 310]",
        outputs: "embeddings [b, 77, 768]",
        rename: weights::plain,
        load: |weights, config| {
            host_full(weights, |weights| {
                SemanticPredictor::load(weights, &SemanticConfig::new(config, weights.checkpoint())?)
            })
        },
    },
    Architecture {
        name: "EEG2VideoTransformer",
        inputs: "eeg [b, 7, 62, 100]",
        outputs: "class_logits [b, 13], latents [b, 7, 4, 36, 64]",
        rename: weights::plain,
        load: |weights, config| {
            host_full(weights, |weights| Seq2Seq::load(weights, &Seq2SeqConfig::new(config)?))
        },
    },
    Architecture {
        name: "ShallowNet",
        inputs: WINDOWS,
        outputs: LOGITS,
        rename: weights::plain,
        load: load_eeg,
    },
    Architecture {
        name: "DeepNet",
        inputs: WINDOWS,
        outputs: LOGITS,
        rename: weights::plain,
        load: load_eeg,
    },
    Architecture { name: "EEGNet", inputs: WINDOWS, outputs: LOGITS, rename: weights::plain, load: load_eeg },
    Architecture { name: "TSConv", inputs: WINDOWS, outputs: LOGITS, rename: weights::plain, load: load_eeg },
    Architecture {
        name: "Conformer",
        inputs: WINDOWS,
        outputs: LOGITS,
        rename: weights::plain,
        load: load_eeg,
    },
    Architecture { name: "GLMNet", inputs: WINDOWS, outputs: LOGITS, rename: weights::plain, load: load_eeg },
    Architecture { name: "MLP", inputs: FEATURES, outputs: LOGITS, rename: weights::plain, load: load_eeg },
    Architecture {
        name: "GLMNetMLP",
        inputs: FEATURES,
        outputs: LOGITS,
        rename: weights::plain,
        load: load_eeg,
    },
    Architecture {
        name: "ShallowNetEncoder",
        inputs: WINDOWS,
        outputs: "embeddings [b, width]",
        rename: weights::plain,
        load: load_eeg,
    },
    Architecture {
        name: "MLPEncoder",
        inputs: FEATURES,
        outputs: LOGITS,
        rename: weights::plain,
        load: load_eeg,
    },
    Architecture {
        name: "MLPEncoder_feat",
        inputs: FEATURES,
        outputs: "embeddings [b, 128]",
        rename: weights::plain,
        load: load_eeg,
    },
    Architecture {
        name: "GLMNetEncoder",
        inputs: "eeg [b, n_chans, bands], or [b, 1, n_chans, n_times] where input_type is raw",
        outputs: "embeddings [b, 77, 768]",
        rename: weights::plain,
        load: load_eeg,
    },
    Architecture { name: "GLMNetCV", inputs: BOTH, outputs: LOGITS, rename: weights::plain, load: load_eeg },
    Architecture {
        name: "GLMNetMatched",
        inputs: BOTH,
        outputs: "logits [b, n_outputs], embeddings [b, 2 * emb_dim]",
        rename: weights::plain,
        load: load_matched,
    },
    Architecture {
        name: "MyEEGNet_embedding",
        inputs: WINDOWS,
        outputs: "embeddings [b, emb_dim]",
        rename: weights::plain,
        load: load_eeg,
    },
];

/// The architecture of this name.
///
/// Errors: [`Error::Setting`] with the known names.
pub fn architecture(name: &str) -> Result<&'static Architecture> {
    ARCHITECTURES.iter().find(|known| known.name == name).ok_or_else(|| {
        Error::setting("architecture", none_of(name, ARCHITECTURES.iter().map(|known| known.name)))
    })
}

/// Opens a folder with `config.json` and weights, whatever its architecture.
///
/// Errors: as [`nn::open`]; a config without a known architecture.
pub fn open(gpu: &Gpu, folder: &Path, precision: Precision) -> Result<Loaded<Box<dyn Named>>> {
    let config = Config::open(folder.join("config.json"))?;
    let name = config.architecture()?;
    let architecture = architecture(name).map_err(|error| match error {
        Error::Setting { detail, .. } => Error::format(config.path(), format!("architecture {detail}")),
        other => other,
    })?;
    let checkpoint = architecture.checkpoint(folder)?;
    nn::open(gpu, checkpoint, precision, |weights| (architecture.load)(weights, &config))
}

impl Architecture {
    /// The weights of a folder under the names this architecture asks for.
    pub fn checkpoint(&self, folder: &Path) -> Result<Checkpoint> {
        Checkpoint::open(folder)?.renamed(self.rename)
    }

    /// Every tensor a model of this config holds.
    pub fn wanted(&self, config: &Config) -> Result<Vec<Wanted>> {
        nn::wanted(|weights| (self.load)(weights, config))
    }

    /// Holds the weights of a folder against its config, without a device. Returns warnings.
    ///
    /// Errors: as [`open`], but values are not looked at.
    pub fn check(&self, folder: &Path, config: &Config) -> Result<Vec<String>> {
        nn::check(self.checkpoint(folder)?, |weights| (self.load)(weights, config))
    }

    /// Memory on a device like `gpu` to hold a model of this config and run it once on `inputs`; nothing is
    /// allocated.
    ///
    /// Errors: as the model's own forward.
    pub fn memory(
        &self,
        gpu: &Gpu,
        config: &Config,
        precision: Precision,
        inputs: &Inputs,
    ) -> Result<Memory> {
        let plan = gpu.planner();
        let model = (self.load)(&Weights::planned(&plan, None, precision), config)?;
        model.forward(inputs)?;
        Ok(plan.memory())
    }

    /// What a model of this config asks of a device like `gpu` when it runs once on `inputs`; nothing is allocated.
    ///
    /// Errors: as the model's own forward.
    pub fn trace(&self, gpu: &Gpu, config: &Config, precision: Precision, inputs: &Inputs) -> Result<Trace> {
        let plan = gpu.planner();
        let model = (self.load)(&Weights::planned(&plan, None, precision), config)?;
        let listener = plan.listen()?;
        model.forward(inputs)?;
        listener.finish()
    }
}

impl Inputs {
    /// All tensors of a safetensors file.
    ///
    /// Errors: [`Error::Read`], [`Error::Format`].
    pub fn open(path: &Path) -> Result<Inputs> {
        let file = Checkpoint::open(path)?;
        let read = |view: weights::View| -> Result<(String, Input)> {
            let shape = view.shape.to_vec();
            let input = match view.dtype {
                weights::Dtype::I64 | weights::Dtype::I32 | weights::Dtype::U8 | weights::Dtype::BOOL => {
                    Input::Ids(shape, weights::to_i64(&view)?)
                }
                _ => Input::Floats(shape, weights::to_f32(&view)?),
            };
            Ok((view.name.to_string(), input))
        };
        Ok(Inputs(file.views().map(read).collect::<Result<_>>()?))
    }

    /// Whether an input was given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A floating-point input with this many axes.
    fn floats(&self, op: &str, name: &str, rank: usize) -> Result<(&[usize], Vec<f32>)> {
        let (shape, values) = match self.get(op, name)? {
            Input::Floats(shape, values) => (shape, values.clone()),
            Input::Ids(shape, ids) => (shape, ids.iter().map(|&id| id as f32).collect()),
        };
        if shape.len() != rank || shape.contains(&0) {
            return Err(Error::shape(
                op,
                format!("input '{name}' wants {rank} axes, none empty, got {shape:?}"),
            ));
        }
        Ok((shape, values))
    }

    /// Axes of an input.
    fn rank(&self, op: &str, name: &str) -> Result<usize> {
        match self.get(op, name)? {
            Input::Floats(shape, _) | Input::Ids(shape, _) => Ok(shape.len()),
        }
    }

    /// Ids with this many axes.
    fn ids(&self, op: &str, name: &str, rank: usize) -> Result<(&[usize], &[i64])> {
        match self.get(op, name)? {
            Input::Ids(shape, ids) if shape.len() == rank && !shape.contains(&0) => Ok((shape, ids)),
            Input::Ids(shape, _) => {
                Err(Error::shape(op, format!("input '{name}' wants {rank} axes, got {shape:?}")))
            }
            Input::Floats(..) => Err(Error::dtype(op, format!("input '{name}' wants whole numbers (i64)"))),
        }
    }

    fn get(&self, op: &str, name: &str) -> Result<&Input> {
        self.0.get(name).ok_or_else(|| {
            let given = self.0.keys().cloned().collect::<Vec<_>>().join("', '");
            Error::shape(op, format!("input '{name}' is missing; given: '{given}'"))
        })
    }

    /// Refuses inputs that nothing reads.
    fn only(&self, op: &str, names: &[&str]) -> Result<()> {
        match self.0.keys().find(|given| !names.contains(&given.as_str())) {
            Some(unknown) => {
                Err(Error::shape(op, format!("unknown input '{unknown}'; wanted: {}", names.join(", "))))
            }
            None => Ok(()),
        }
    }
}

/// A model with the device its inputs go to.
struct Host<M> {
    model: M,
    gpu: Gpu,
    dtype: DType,
    video: bool,
}

fn host<M>(weights: &Weights, model: M) -> Result<Box<dyn Named>>
where
    Host<M>: Named + 'static,
{
    Ok(Box::new(Host { model, gpu: weights.gpu().clone(), dtype: weights.dtype(), video: false }))
}

/// A small model: its activations stay in f32.
fn host_full<M>(weights: &Weights, load: impl FnOnce(&Weights) -> Result<M>) -> Result<Box<dyn Named>>
where
    Host<M>: Named + 'static,
{
    let weights = weights.with_full_activations();
    host(&weights, load(&weights)?)
}

fn load_unet(weights: &Weights, config: &Config, video: bool) -> Result<Box<dyn Named>> {
    let model = UNet::load(weights, &UNetConfig::new(config)?, video)?;
    Ok(Box::new(Host { model, gpu: weights.gpu().clone(), dtype: weights.dtype(), video }))
}

fn load_eeg(weights: &Weights, config: &Config) -> Result<Box<dyn Named>> {
    host_full(weights, |weights| eeg_model(weights, config))
}

fn load_matched(weights: &Weights, config: &Config) -> Result<Box<dyn Named>> {
    host_full(weights, |weights| GlmNetMatched::load(weights, &EegConfig::new(config)?))
}

impl<M> Host<M> {
    /// Values on the device, in the model's number type.
    fn put(&self, shape: &[usize], values: &[f32]) -> Result<Tensor> {
        Tensor::new(&self.gpu, shape, values)?.cast(self.dtype)
    }

    /// [b, c, h, w] -> [b, h, w, c] on the device.
    fn put_image(&self, shape: &[usize], values: &[f32]) -> Result<Tensor> {
        self.put(shape, values)?.permute(&[0, 2, 3, 1])
    }
}

/// A result under its name; a plan gives its shape alone.
fn give(name: &'static str, tensor: &Tensor) -> Result<Output> {
    let values = if tensor.gpu().is_plan() { Vec::new() } else { tensor.to_vec()? };
    Ok(Output { name, shape: tensor.shape().to_vec(), values })
}

/// [b, h, w, c] -> [b, c, h, w], read back.
fn give_image(name: &'static str, image: &Tensor) -> Result<Output> {
    give(name, &image.permute(&[0, 3, 1, 2])?)
}

impl Named for Host<UNet> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        let op = "unet";
        inputs.only(op, &["sample", "timestep", "encoder_hidden_states"])?;
        let rank = if self.video { 5 } else { 4 };
        let (shape, values) = inputs.floats(op, "sample", rank)?;
        let (time_shape, times) = inputs.floats(op, "timestep", 1)?;
        let (text_shape, text) = inputs.floats(op, "encoder_hidden_states", 3)?;
        let batch = shape[0];
        let timesteps: Vec<f64> = match time_shape[0] {
            1 => vec![f64::from(times[0]); batch],
            n if n == batch => times.iter().map(|&t| f64::from(t)).collect(),
            n => {
                return Err(Error::shape(op, format!("input 'timestep' wants 1 or {batch} values, got {n}")));
            }
        };
        let sample = self.put(shape, &values)?;
        let text = self.put(text_shape, &text)?;
        if !self.video {
            let image = sample.permute(&[0, 2, 3, 1])?;
            return Ok(vec![give_image("sample", &self.model.forward(&image, &timesteps, &text, 1)?)?]);
        }
        let &[b, c, f, h, w] = shape else { unreachable!("five axes were asked for") };
        let images = sample.permute(&[0, 2, 3, 4, 1])?.reshape(&[b * f, h, w, c])?;
        let out = self.model.forward(&images, &timesteps, &text, f)?;
        let out = out.reshape(&[b, f, h, w, self.model.config().out_channels])?;
        Ok(vec![give("sample", &out.permute(&[0, 4, 1, 2, 3])?)?])
    }
}

impl Named for Host<Vae> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        let op = "vae";
        inputs.only(op, &["latents", "sample"])?;
        let mut outputs = Vec::new();
        if inputs.has("latents") {
            let (shape, values) = inputs.floats(op, "latents", 4)?;
            outputs.push(give_image("sample", &self.model.decode(&self.put_image(shape, &values)?)?)?);
        }
        if inputs.has("sample") || outputs.is_empty() {
            let (shape, values) = inputs.floats(op, "sample", 4)?;
            let (mean, logvar) = self.model.encode(&self.put_image(shape, &values)?)?;
            outputs.extend([give_image("mean", &mean)?, give_image("logvar", &logvar)?]);
        }
        Ok(outputs)
    }
}

impl Named for Host<ClipText> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        // No padding mask: the reference pipelines give none.
        inputs.only("clip_text", &["input_ids"])?;
        let (shape, ids) = inputs.ids("clip_text", "input_ids", 2)?;
        let (hidden, pooled) = self.model.forward(ids, shape[0])?;
        Ok(vec![give("last_hidden_state", &hidden)?, give("pooler_output", &pooled)?])
    }
}

impl Named for Host<SemanticPredictor> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        inputs.only("SemanticPredictor", &["eeg"])?;
        let (shape, values) = inputs.floats("SemanticPredictor", "eeg", 2)?;
        Ok(vec![give("embeddings", &self.model.forward(&self.put(shape, &values)?)?)?])
    }
}

impl Named for Host<Seq2Seq> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        inputs.only("EEG2VideoTransformer", &["eeg"])?;
        let (shape, values) = inputs.floats("EEG2VideoTransformer", "eeg", 4)?;
        let (class_logits, latents) = self.model.forward(&self.put(shape, &values)?)?;
        Ok(vec![give("class_logits", &class_logits)?, give("latents", &latents)?])
    }
}

impl Named for Host<EegModel> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        let read = eeg(self, "EEG network", self.model.takes(), inputs)?;
        Ok(vec![give(self.model.gives(), &self.model.forward(&read.iter().collect::<Vec<_>>())?)?])
    }
}

impl Named for Host<GlmNetMatched> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        let read = eeg(self, "GLMNetMatched", &[Takes::Windows, Takes::Features], inputs)?;
        let embeddings = self.model.embed(&read[0], &read[1])?;
        Ok(vec![give("logits", &self.model.classify(&embeddings)?)?, give("embeddings", &embeddings)?])
    }
}

/// What an EEG network reads, on the device: the first of it is the input `eeg`, the second `features`.
fn eeg<M>(host: &Host<M>, op: &str, takes: &[Takes], inputs: &Inputs) -> Result<Vec<Tensor>> {
    let names = &["eeg", "features"][..takes.len()];
    inputs.only(op, names)?;
    let read = |(&takes, name): (&Takes, &&str)| {
        let rank = inputs.rank(op, name)?;
        let (shape, values) = inputs.floats(op, name, rank)?;
        match (takes, shape) {
            (Takes::Windows, &[batch, 1, n_chans, n_times]) => host.put(&[batch, n_chans, n_times], &values),
            (Takes::Windows, [_, _, _]) | (Takes::Features, [_, _] | [_, _, _]) => host.put(shape, &values),
            (Takes::Windows, _) => {
                let detail = format!("input '{name}' wants [batch, 1, n_chans, n_times], got {shape:?}");
                Err(Error::shape(op, detail))
            }
            (Takes::Features, _) => {
                let detail = format!("input '{name}' wants [batch, n_chans, bands], got {shape:?}");
                Err(Error::shape(op, detail))
            }
        }
    };
    takes.iter().zip(names).map(read).collect()
}
