//! BLIP-2: an image, and a text that goes on from it.
//!
//! ```text
//! pixels -> vision model -> tokens -> Q-Former with learnt queries -> language projection -> in the image's places of
//! the text -> OPT -> logits
//! ```
//!
//! Follows huggingface/transformers 5 `models/blip_2/modeling_blip_2.py` (`Blip2ForConditionalGeneration`,
//! `Blip2VisionModel`, which is EVA's ViT-g/14); Li et al. 2023.

use super::config::Config;
use super::opt::{Opt, OptConfig};
use super::padding::Padding;
use super::qformer::{QFormer, QFormerConfig};
use crate::error::{Error, Result};
use crate::nn::{Conv2d, LayerNorm, Linear, MultiheadAttention, Patches, TransformerLayer, Weights};
use crate::ops::{Activation, Sight, Window};
use crate::tensor::{DType, Tensor};

/// Sizes of the image encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Blip2VisionConfig {
    /// Side of an image.
    pub image_size: usize,
    /// Side of a patch.
    pub patch_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward.
    pub intermediate_size: usize,
    /// Of the feed-forward.
    pub hidden_act: Activation,
    /// Of the norms.
    pub layer_norm_eps: f64,
    /// Queries, keys and values have biases.
    pub qkv_bias: bool,
}

impl Blip2VisionConfig {
    /// Reads a `vision_config`.
    pub fn new(config: &Config) -> Result<Blip2VisionConfig> {
        let hidden_size = config.size_or("hidden_size", 1408)?;
        Ok(Blip2VisionConfig {
            image_size: config.positive_or("image_size", 224)?,
            patch_size: config.positive_or("patch_size", 14)?,
            hidden_size,
            num_hidden_layers: config.layers_or("num_hidden_layers", 39)?,
            num_attention_heads: config.heads_or("num_attention_heads", 16, hidden_size)?,
            intermediate_size: config.size_or("intermediate_size", 6144)?,
            hidden_act: config.activation("hidden_act", "gelu")?,
            layer_norm_eps: config.number_or("layer_norm_eps", 1e-6)?,
            qkv_bias: config.switch_or("qkv_bias", true)?,
        })
    }
}

/// The image encoder.
pub struct Blip2Vision {
    embeddings: Patches,
    layers: Vec<TransformerLayer>,
    post_layernorm: LayerNorm,
}

impl Blip2Vision {
    /// The published names, without `vision_model.`.
    pub fn load(weights: &Weights, config: &Blip2VisionConfig) -> Result<Blip2Vision> {
        let (width, patch) = (config.hidden_size, config.patch_size);
        let norm =
            |weights: &Weights, name: &str| LayerNorm::load(&weights.at(name), width, config.layer_norm_eps);
        let patches = (config.image_size / patch).pow(2);
        let layer = |i: usize| {
            let weights = weights.at(format!("encoder.layers.{i}"));
            let attention = weights.at("self_attn");
            let attention = MultiheadAttention::stacked(
                &attention,
                ["qkv.weight", "qkv.bias"],
                config.qkv_bias,
                Linear::load(&attention.at("projection"), width, width)?,
                width,
                config.num_attention_heads,
            )?;
            Ok(TransformerLayer {
                attention,
                attention_norm: norm(&weights, "layer_norm1")?,
                cross: None,
                fc1: Linear::load(&weights.in_bytes().at("mlp.fc1"), width, config.intermediate_size)?,
                fc2: Linear::load(&weights.in_bytes().at("mlp.fc2"), config.intermediate_size, width)?,
                feed_forward_norm: norm(&weights, "layer_norm2")?,
                activation: config.hidden_act,
                norm_first: true,
            })
        };
        let embeddings = weights.at("embeddings");
        let window = Window { stride: [patch; 2], ..Window::padded(0) };
        Ok(Blip2Vision {
            embeddings: Patches {
                projection: Conv2d::load(&embeddings.at("patch_embedding"), 3, width, [patch; 2], window)?,
                class: embeddings.tensor("class_embedding", &[1, 1, width])?,
                positions: embeddings.tensor("position_embedding", &[1, 1 + patches, width])?,
            },
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            post_layernorm: norm(weights, "post_layernorm")?,
        })
    }

    /// [batch, height, width, 3] -> [batch, 1 + patches, hidden].
    ///
    /// Errors: more patches than positions.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut x = self.embeddings.forward(images)?;
        for layer in &self.layers {
            x = layer.forward(&x, Sight::All, None)?;
        }
        self.post_layernorm.forward(&x)
    }
}

/// Sizes of all parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Blip2Config {
    /// The image encoder.
    pub vision: Blip2VisionConfig,
    /// What asks it.
    pub qformer: QFormerConfig,
    /// The language model.
    pub text: OptConfig,
    /// Queries, and places of an image in a text.
    pub num_query_tokens: usize,
    /// The id that holds an image's places; without one, an image stands before its text.
    pub image_token_id: Option<i64>,
}

impl Blip2Config {
    /// Reads a `Blip2ForConditionalGeneration` config. Language models other than OPT are refused.
    pub fn new(config: &Config) -> Result<Blip2Config> {
        let (vision, text) = (config.part("vision_config")?, config.part("text_config")?);
        if text.word_or("model_type", "opt")? != "opt" {
            return Err(text.wrong("model_type", "\"opt\" (no other language model is written yet)"));
        }
        let vision = Blip2VisionConfig::new(&vision)?;
        let qformer = QFormerConfig::new(&config.part("qformer_config")?)?;
        let opt = OptConfig::new(&text)?;
        if opt.word_embed_proj_dim != opt.hidden_size {
            return Err(text.wrong("word_embed_proj_dim", "hidden_size, which images are projected to"));
        }
        let mut image_token_id = config.ids("image_token_index")?;
        image_token_id.extend(config.ids("image_token_id")?);
        Ok(Blip2Config {
            // As the reference has it, whatever the Q-Former's own config says.
            qformer: QFormerConfig { encoder_hidden_size: vision.hidden_size, ..qformer },
            vision,
            text: opt,
            num_query_tokens: config.size_or("num_query_tokens", 32)?,
            image_token_id: image_token_id.first().copied(),
        })
    }
}

/// Image encoder, and what speaks of what it sees.
pub struct Blip2 {
    vision_model: Blip2Vision,
    language: Blip2Language,
}

impl Blip2 {
    /// The published names: `vision_model`, and those of [`Blip2Language`].
    pub fn load(weights: &Weights, config: &Blip2Config) -> Result<Blip2> {
        Ok(Blip2 {
            vision_model: Blip2Vision::load(&weights.at("vision_model"), &config.vision)?,
            language: Blip2Language::load(weights, config)?,
        })
    }

    /// What speaks.
    pub fn language(&self) -> &Blip2Language {
        &self.language
    }

    /// The Q-Former's answers to images: [batch, height, width, 3] -> [batch, queries, hidden], in f32.
    pub fn ask(&self, images: &Tensor) -> Result<Tensor> {
        self.language.ask(&self.vision_model.forward(images)?)
    }
}

/// Learnt queries, Q-Former, projection and language model: BLIP-2 without its image encoder, in whose place NeuroVision
/// sets one of EEG.
pub struct Blip2Language {
    config: Blip2Config,
    query_tokens: Tensor,
    qformer: QFormer,
    language_projection: Linear,
    language_model: Opt,
}

impl Blip2Language {
    /// The published names: `query_tokens`, `qformer`, `language_projection`, `language_model`. The Q-Former's
    /// activations stay in f32, as transformers keeps it.
    pub fn load(weights: &Weights, config: &Blip2Config) -> Result<Blip2Language> {
        let (inner, outer) = (config.qformer.hidden_size, config.text.hidden_size);
        let full = weights.with_full_activations();
        Ok(Blip2Language {
            query_tokens: full.tensor("query_tokens", &[1, config.num_query_tokens, inner])?,
            qformer: QFormer::load(&full.at("qformer"), &config.qformer)?,
            language_projection: Linear::load(&weights.at("language_projection"), inner, outer)?,
            language_model: Opt::load(&weights.at("language_model"), &config.text)?,
            config: config.clone(),
        })
    }

    /// The same from a file that may hold an image encoder, too, which is passed over.
    pub fn load_alone(weights: &Weights, config: &Blip2Config) -> Result<Blip2Language> {
        let names = weights.checkpoint().into_iter().flat_map(|file| file.names());
        names.filter(|name| name.starts_with("vision_model.")).for_each(|name| weights.pass_over(name));
        Blip2Language::load(weights, config)
    }

    /// Sizes.
    pub fn config(&self) -> &Blip2Config {
        &self.config
    }

    /// The language model.
    pub fn language_model(&self) -> &Opt {
        &self.language_model
    }

    /// The Q-Former's answers to an encoder's tokens: [batch, tokens, width] -> [batch, queries, hidden], in f32.
    pub fn ask(&self, tokens: &Tensor) -> Result<Tensor> {
        self.qformer.forward(&self.query_tokens, &tokens.cast(DType::F32)?, None)
    }

    /// Answers [batch, queries, hidden] as the language model hears them, and nothing else: NeuroVision's prompt.
    pub fn bare(&self, answers: &Tensor) -> Result<(Tensor, Padding)> {
        let dtype = self.language_model.embed(&[0], &[1])?.dtype();
        let x = self.language_projection.forward(&answers.cast(dtype)?)?;
        let padding = Padding::none([x.shape()[0], x.dim(1)]);
        Ok((x, padding))
    }

    /// A prompt for the language model: answers [batch, queries, hidden] in the places of a text's ids
    /// `[batch, tokens]` that are the image's, or all before the text where the config names no such id.
    ///
    /// Errors: more places than answers, an id outside the vocabulary.
    pub fn prompt(&self, answers: &Tensor, ids: &[i64], padding: &Padding) -> Result<(Tensor, Padding)> {
        let [batch, tokens] = padding.shape();
        let wrong = |detail: String| Error::shape("blip2", detail);
        if answers.shape()[0] != batch || ids.len() != batch * tokens {
            let detail =
                format!("{} ids for {:?} of a text, {} images", ids.len(), [batch, tokens], answers.dim(2));
            return Err(wrong(detail));
        }
        let model = &self.language_model;
        let (images, _) = self.bare(answers)?;
        let Some(image_id) = self.config.image_token_id else {
            let text = model.embed(ids, &[batch, tokens])?;
            return Ok((Tensor::concat(&[&images, &text], 1)?, padding.after(images.dim(1))));
        };
        let width = images.dim(0);
        let answers = images.len() / width;
        // Rows of the answers come first, in order; those of the text stand behind them.
        let mut next = 0;
        let rows: Vec<i64> = ids
            .iter()
            .enumerate()
            .map(|(at, &id)| {
                let row = if id == image_id { next } else { answers + at };
                next += usize::from(id == image_id);
                row as i64
            })
            .collect();
        if next > answers {
            return Err(wrong(format!(
                "{next} places of images in the text, there are {answers} answers for them"
            )));
        }
        let text = model.embed(ids, &[batch * tokens])?;
        let all = Tensor::concat(&[&images.reshape(&[answers, width])?, &text], 0)?;
        Ok((all.embedding(&rows, &[batch, tokens])?, padding.clone()))
    }
}
