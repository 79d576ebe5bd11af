//! Named checkpoints of several parts beside EEG2Video's: NeuroVision's, from EEG to text, and Stable Diffusion v1.5, from
//! text to pictures; each also `-tiny`.
//!
//! ```text
//! neurovision   model_index.json, eeg_encoder/, blip2/ (without its image encoder), tokenizer/, stats.safetensors
//! sd15          model_index.json, text_encoder/, tokenizer/, unet/, vae/, scheduler/
//! ```
//!
//! Numbers: Ajinkya-18/NeuroVision `notebooks/eeg_text_image.ipynb`, Salesforce/blip2-opt-2.7b, and the folders of
//! stable-diffusion-v1-5/stable-diffusion-v1-5.

use super::presets::{Part, scheduler, text_encoder, unet, vae};
use super::transformer_presets::{blip2, eeg, of, tiny_blip2, tiny_eeg};
use crate::error::Result;
use crate::files;
use crate::weights::{self, Dtype, NewTensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What a tokenizer must be like to go with a language model of random weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// OPT's: so many tokens, a line break at this id, an image's places at the last one where there are images.
    Opt {
        /// Tokens, the image's included.
        tokens: usize,
        /// Id of the line break, which ends a caption.
        newline: usize,
        /// Whether the last id is `<image>`.
        has_image: bool,
    },
    /// CLIP's, of so many tokens.
    Clip {
        /// Tokens, start and end included.
        tokens: usize,
    },
    /// BERT's, of so many tokens.
    Bert {
        /// Tokens, special ones included.
        tokens: usize,
    },
}

/// A checkpoint of several parts, without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// What the user types.
    pub name: &'static str,
    /// The class of `model_index.json`.
    pub class: &'static str,
    /// Number type on disk where none is asked for.
    pub dtype: Dtype,
    /// The parts.
    pub parts: Vec<Part>,
    /// What stands in `tokenizer/`.
    pub vocabulary: Vocabulary,
    /// EEG channels that `stats.safetensors` has a mean and a deviation of.
    pub n_chans: Option<usize>,
}

/// The named pipelines.
pub fn pipelines() -> Vec<Pipeline> {
    vec![
        neurovision("neurovision", eeg(), blip2(), Dtype::F16),
        // Small enough that a caption takes a moment on a CPU: 64 tokens of EEG where the full size has 3136.
        neurovision(
            "neurovision-tiny",
            of(tiny_eeg(), json!({ "image_size": 32 })),
            tiny_blip2(),
            Dtype::F32,
        ),
        Pipeline {
            name: "sd15",
            class: "StableDiffusionPipeline",
            dtype: Dtype::F16,
            parts: vec![
                text_encoder(768, 12, 12),
                flat(unet(&[320, 640, 1280, 1280], 2, 8, 768, 32, 64)),
                vae(&[128, 256, 512, 512], 2, 32, 512),
                scheduler(),
            ],
            vocabulary: Vocabulary::Clip { tokens: 49_408 },
            n_chans: None,
        },
        Pipeline {
            name: "sd15-tiny",
            class: "StableDiffusionPipeline",
            dtype: Dtype::F32,
            parts: vec![
                with(
                    text_encoder(64, 2, 4),
                    json!({ "vocab_size": 1024, "bos_token_id": 1022, "eos_token_id": 1023 }),
                ),
                flat(unet(&[32, 64], 1, 4, 64, 8, 8)),
                vae(&[16, 32, 32, 32], 1, 8, 64),
                scheduler(),
            ],
            vocabulary: Vocabulary::Clip { tokens: 1024 },
            n_chans: None,
        },
    ]
}

fn neurovision(name: &'static str, eeg: Value, blip2: Value, dtype: Dtype) -> Pipeline {
    let part = |folder, library, class: Value, config: &Value| Part {
        folder,
        library,
        config: of(class, config.clone()),
    };
    let n_chans = eeg["n_chans"].as_u64().map(|n| n as usize);
    Pipeline {
        name,
        class: "NeuroVisionPipeline",
        dtype,
        vocabulary: opt_vocabulary(&blip2["text_config"], Some(&blip2["image_token_index"])),
        parts: vec![
            part(
                "eeg_encoder",
                "mindreel",
                json!({ "_class_name": "EEGTransformerEncoder" }),
                &of(json!({ "n_chans": 64 }), eeg),
            ),
            part(
                "blip2",
                "transformers",
                json!({ "architectures": ["Blip2ForConditionalGeneration"] }),
                &blip2,
            ),
        ],
        n_chans: n_chans.or(Some(64)),
    }
}

/// The image model of an EEG2Video UNet.
fn flat(part: Part) -> Part {
    let text = part.config.to_string().replace("UNet3DConditionModel", "UNet2DConditionModel");
    let text = text.replace("Block3D", "Block2D").replace("MidBlock3D", "MidBlock2D");
    Part { config: serde_json::from_str(&text).unwrap_or(part.config), ..part }
}

fn with(part: Part, more: Value) -> Part {
    Part { config: of(part.config, more), ..part }
}

fn opt_vocabulary(text: &Value, image: Option<&Value>) -> Vocabulary {
    let id = |value: &Value| value.as_u64().unwrap_or_default() as usize;
    match image {
        Some(image) => {
            Vocabulary::Opt { tokens: id(image) + 1, newline: id(&text["eos_token_id"]), has_image: true }
        }
        // As published: seven rows of the embedding stand for nothing.
        None if id(&text["vocab_size"]) == 50_272 => {
            Vocabulary::Opt { tokens: 50_265, newline: 50_118, has_image: false }
        }
        None => Vocabulary::Opt { tokens: id(&text["vocab_size"]), newline: 10, has_image: false },
    }
}

/// The vocabulary that belongs into the folder of a model that stands alone, if it is one of texts.
pub fn vocabulary_of(part: &Part) -> Option<Vocabulary> {
    match part.class() {
        "BertModel" => part.config["vocab_size"].as_u64().map(|n| Vocabulary::Bert { tokens: n as usize }),
        "OPTForCausalLM" => Some(opt_vocabulary(&part.config, None)),
        "Blip2ForConditionalGeneration" => {
            Some(opt_vocabulary(&part.config["text_config"], Some(&part.config["image_token_index"])))
        }
        _ => None,
    }
}

impl Pipeline {
    /// Whether a tensor of a part is written: NeuroVision's BLIP-2 does without an image encoder.
    fn wants(&self, name: &str) -> bool {
        !(self.class == "NeuroVisionPipeline" && name.starts_with("vision_model."))
    }

    /// Values of all tensors `write` makes.
    pub fn n_values(&self) -> Result<u64> {
        let mut total = 2 * self.n_chans.unwrap_or(0) as u64;
        for part in &self.parts {
            total += part.n_values_of(&|name| self.wants(name))?;
        }
        Ok(total)
    }

    /// What `model_index.json` holds.
    pub fn index(&self) -> Value {
        let mut index = json!({ "_class_name": self.class, "_mindreel_version": env!("CARGO_PKG_VERSION") });
        for part in &self.parts {
            index[part.folder] = json!([part.library, part.class()]);
        }
        let tokenizer = match self.vocabulary {
            Vocabulary::Opt { .. } => "GPT2Tokenizer",
            Vocabulary::Clip { .. } => "CLIPTokenizer",
            Vocabulary::Bert { .. } => "BertTokenizer",
        };
        index["tokenizer"] = json!(["transformers", tokenizer]);
        index
    }

    /// Writes all but the tokenizer into `folder`: every part with weights from the seed, statistics that change nothing.
    /// `written` hears how many values are done; an error from it ends the writing.
    ///
    /// Errors: [`crate::error::Error::Write`]; what `written` returns.
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
            let into = folder.join(part.folder);
            part.write_of(&|name| self.wants(name), &into, seed, dtype, &mut report)?;
        }
        if let Some(n) = self.n_chans {
            let (mean, std) = (vec![0.0; n], vec![1.0; n]);
            let stats = vec![NewTensor::from_f32("mean", [n], &mean), NewTensor::from_f32("std", [n], &std)];
            weights::write(folder.join("stats.safetensors"), stats, &BTreeMap::new())?;
            report(2 * n)?;
        }
        files::write_json(folder.join("model_index.json"), &self.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Class, Family, Gpu, Options};
    use crate::models::{UNet, UNetConfig, n_parameters};
    use crate::nn::{Precision, Weights};
    use crate::tensor::{DType, Tensor};
    use crate::testing::gpu_with;

    #[test]
    fn pipelines_have_the_originals_parameters() {
        let named = |name: &str| pipelines().into_iter().find(|pipeline| pipeline.name == name).unwrap();
        let counts = |name: &str| {
            let of_part = |part: &Part| (part.folder, n_parameters(&part.wanted().unwrap()));
            named(name).parts.iter().map(of_part).collect::<Vec<_>>()
        };
        assert_eq!(
            counts("sd15"),
            [("text_encoder", 123_060_480), ("unet", 859_520_964), ("vae", 83_653_863), ("scheduler", 0)]
        );
        let neurovision = named("neurovision");
        // Without the image encoder, and with two numbers a channel and the statistics of batch norms.
        let (eeg, statistics) = (31_784_064 + 1_082_752, 2 * (192 + 384 + 768));
        let language = 3_744_761_856 - 985_952_256;
        assert_eq!(neurovision.n_values().unwrap(), eeg + statistics + language + 128);
        assert_eq!(
            neurovision.vocabulary,
            Vocabulary::Opt { tokens: 50_266, newline: 50_118, has_image: true }
        );
    }

    #[test]
    fn a_denoising_step_is_few_launches() {
        let sd15 = pipelines().into_iter().find(|pipeline| pipeline.name == "sd15").unwrap();
        let unet = sd15.parts.iter().find(|part| part.folder == "unet").unwrap();
        let config = UNetConfig::new(&unet.model_config().unwrap()).unwrap();
        let mut plans = vec![Gpu::plan()];
        let family = Some(Family::Tiled);
        plans.extend(gpu_with(Options { family, ..Default::default() }).map(|gpu| gpu.planner()));
        plans.push(Gpu::card_plan());
        for plan in plans {
            let weights = Weights::planned(&plan, None, Precision::F16);
            let unet = UNet::load(&weights, &config, false).unwrap();
            let x = Tensor::empty(&plan, &[2, 64, 64, 4], DType::F16).unwrap();
            let text = Tensor::empty(&plan, &[2, 77, 768], DType::F16).unwrap();
            let text = unet.read(&text).unwrap();
            let before = plan.counts().dispatches;
            let time = unet.embed_times(&plan, &[1.0; 2]).unwrap();
            unet.forward_at(&x, &time, &text, 1).unwrap();
            let launches = plan.counts().dispatches - before;
            let facts = plan.facts();
            let most = if facts.class == Class::Software { 660 } else { 400 };
            assert!((250..most).contains(&launches), "{:?} {:?}: {launches}", facts.class, facts.family);
        }
    }

    #[test]
    fn tiny_ones_are_a_few_megabytes() {
        for pipeline in pipelines().iter().filter(|pipeline| pipeline.name.ends_with("-tiny")) {
            let bytes = 4 * pipeline.n_values().unwrap();
            assert!((1 << 18..8 << 20).contains(&bytes), "{}: {bytes}", pipeline.name);
            assert!(pipeline.parts.iter().all(|part| pipeline.index()[part.folder].is_array()));
        }
    }
}
