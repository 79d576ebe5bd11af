//! Texts and pictures as points: near each other where they mean the same.
//!
//! ```text
//! text ─WordPiece─> BertModel ─mean over tokens─> length 1             all-MiniLM-L6-v2, as sentence-transformers has it
//! text ─CLIP's BPE─> CLIPTextModel ─end token─> text_projection        text_embeds, where the checkpoint has one
//! picture ─resize, crop─> CLIPVisionModelWithProjection                image_embeds
//! ```
//!
//! Sentences come out at length 1, CLIP's embeddings as the reference gives them.

use super::judges::to_unit;
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::Gpu;
use crate::media::Frames;
use crate::models::{
    Bert, BertConfig, ClipText, ClipTextConfig, ClipVision, ClipVisionConfig, Config, Padding, Preprocess,
    architecture,
};
use crate::nn::{self, Linear, Precision, Weights};
use crate::tensor::{DType, Tensor};
use crate::tokenizers::{BertTokenizer, ClipTokenizer};
use crate::weights::Checkpoint;
use serde_json::Value;
use std::path::Path;

/// Tokens of a sentence, of which later ones are cut off, where the folder does not say.
const MAX_TOKENS: usize = 256;
/// Texts at a time.
const BATCH: usize = 32;

/// What is embedded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Sentences.
    Texts,
    /// Pictures.
    Images,
}

enum Model {
    Sentences { tokenizer: BertTokenizer, model: Bert, max_tokens: usize, has_unit_length: bool },
    Texts { tokenizer: ClipTokenizer, model: ClipText, projection: Option<Linear> },
    Images { model: ClipVision, preprocess: Preprocess },
}

/// A model that embeds.
pub struct Embedder {
    gpu: Gpu,
    dtype: DType,
    model: Model,
    /// What there was to say about its files.
    pub warnings: Vec<String>,
}

impl Embedder {
    /// Opens a folder: a `BertModel` with its tokenizer, for texts; a CLIP model of texts (with its tokenizer, or that of
    /// the Stable Diffusion folder it lies in), of pictures, or whole. Sentences are taken by the mean of their tokens,
    /// as `1_Pooling/config.json` must say where there is one.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for another architecture, another pooling, a tokenizer that is missing
    /// or has more tokens than the model; those of [`nn::open`].
    pub fn open(gpu: &Gpu, folder: &Path, of: Of, precision: Precision) -> Result<Embedder> {
        let part = folder.join("text_encoder");
        let is_pipeline = of == Of::Texts && !folder.join("config.json").exists() && part.is_dir();
        let own = if is_pipeline { part } else { folder.to_path_buf() };
        let tokenizer = folder.join("tokenizer");
        if is_pipeline && !tokenizer.is_dir() {
            return Err(Error::format(folder, "has no tokenizer folder; its text_encoder wants one"));
        }
        let tokenizer = if tokenizer.is_dir() { tokenizer } else { folder.to_path_buf() };
        let config = Config::open(own.join("config.json"))?;
        match (of, config.architecture()?) {
            (Of::Texts, "BertModel") => sentences(gpu, &own, &tokenizer, &config, precision),
            (Of::Texts, "CLIPTextModel" | "CLIPTextModelWithProjection" | "CLIPModel") => {
                texts(gpu, &own, &tokenizer, &config, precision)
            }
            (Of::Images, "CLIPVisionModelWithProjection" | "CLIPModel") => {
                images(gpu, &own, &config, precision)
            }
            (of, other) => {
                let wanted = match of {
                    Of::Texts => {
                        "BertModel, CLIPTextModel, CLIPTextModelWithProjection or CLIPModel for texts"
                    }
                    Of::Images => "CLIPVisionModelWithProjection or CLIPModel for pictures",
                };
                let detail = format!("architecture '{}', wanted {wanted}", other.escape_debug());
                Err(Error::format(config.path(), detail))
            }
        }
    }

    /// Tokens of a text and how many of them the model hears, where those are fewer.
    ///
    /// Errors: those of the tokenizer.
    pub fn too_long(&self, text: &str) -> Result<Option<[usize; 2]>> {
        let [n, heard] = match &self.model {
            Model::Sentences { tokenizer, max_tokens, .. } => {
                [tokenizer.encode(text, usize::MAX)?.len(), *max_tokens]
            }
            Model::Texts { tokenizer, model, .. } => {
                let heard = model.config().max_position_embeddings;
                [tokenizer.n_tokens(text)?, heard.saturating_sub(2)]
            }
            Model::Images { .. } => [0, 0],
        };
        Ok((n > heard).then_some([n, heard]))
    }

    /// One vector for each text; `done` hears how many there are so far.
    ///
    /// Errors: [`Error::Setting`] for a model of pictures; those of the tokenizer and the device; whatever `done` returns.
    pub fn texts(
        &self,
        texts: &[String],
        mut done: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Vec<f32>>> {
        let mut rows = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH) {
            rows.extend(self.batch(batch)?);
            done(rows.len())?;
        }
        Ok(rows)
    }

    fn batch(&self, batch: &[String]) -> Result<Vec<Vec<f32>>> {
        match &self.model {
            Model::Sentences { tokenizer, model, max_tokens, has_unit_length } => {
                let mut rows = mean_of_tokens(tokenizer, model, *max_tokens, batch)?;
                if *has_unit_length {
                    rows.iter_mut().for_each(|row| to_unit(row));
                }
                Ok(rows)
            }
            Model::Texts { tokenizer, model, projection } => {
                let tokens = model.config().max_position_embeddings;
                let ids: Vec<Vec<i64>> =
                    batch.iter().map(|text| tokenizer.encode(text, tokens)).collect::<Result<_>>()?;
                let (_, pooled) = model.forward(&ids.concat(), batch.len())?;
                match projection {
                    Some(projection) => rows_of(&projection.forward(&pooled)?),
                    None => rows_of(&pooled),
                }
            }
            Model::Images { .. } => Err(Error::setting("--text", "the model embeds pictures; give --image")),
        }
    }

    /// The vector of one picture.
    ///
    /// Errors: [`Error::Setting`] for a model of texts; those of the device.
    pub fn image(&self, picture: &Frames) -> Result<Vec<f32>> {
        let Model::Images { model, preprocess } = &self.model else {
            return Err(Error::setting("--image", "the model embeds texts; give --text"));
        };
        let frame = picture.frame(0).unwrap_or_default();
        let pixels = preprocess.apply(frame, picture.height, picture.width)?;
        let [height, width] = preprocess.size;
        let pixels = Tensor::new(&self.gpu, &[1, height, width, 3], &pixels)?.cast(self.dtype)?;
        Ok(rows_of(&model.forward(&pixels)?.1)?.concat())
    }
}

fn sentences(
    gpu: &Gpu,
    folder: &Path,
    tokenizer: &Path,
    config: &Config,
    precision: Precision,
) -> Result<Embedder> {
    let pooling = folder.join("1_Pooling/config.json");
    if json(&pooling)?.get("pooling_mode_mean_tokens").is_some_and(|mean| mean != &Value::Bool(true)) {
        let detail =
            "does not say pooling_mode_mean_tokens; sentences are only taken as the mean of their tokens";
        return Err(Error::format(pooling, detail));
    }
    let normalizes = |module: &Value| module["type"].as_str().is_some_and(|name| name.ends_with("Normalize"));
    let modules = json(&folder.join("modules.json"))?;
    let has_unit_length = modules.as_array().is_none_or(|modules| modules.iter().any(normalizes));
    let sizes = BertConfig::new(config)?;
    let most = json(&folder.join("sentence_bert_config.json"))?["max_seq_length"].as_u64();
    let most = most.and_then(|n| usize::try_from(n).ok()).unwrap_or(MAX_TOKENS);
    let max_tokens = most.min(sizes.max_position_embeddings);
    let words = BertTokenizer::open(tokenizer)?;
    fits(tokenizer, words.vocabulary_size(), sizes.vocab_size)?;
    let checkpoint = architecture("BertModel")?.checkpoint(folder)?;
    let load = |weights: &Weights| Bert::load(&weights.with_full_activations(), &sizes);
    let opened = nn::open(gpu, checkpoint, precision, load)?;
    let model = Model::Sentences { tokenizer: words, model: opened.model, max_tokens, has_unit_length };
    Ok(Embedder { gpu: gpu.clone(), dtype: DType::F32, model, warnings: opened.warnings })
}

fn texts(
    gpu: &Gpu,
    folder: &Path,
    tokenizer: &Path,
    config: &Config,
    precision: Precision,
) -> Result<Embedder> {
    let is_whole = config.has("text_config");
    let sizes = ClipTextConfig::new(&if is_whole { config.part("text_config")? } else { config.clone() })?;
    let words = ClipTokenizer::open(tokenizer)?;
    fits(tokenizer, words.vocabulary_size(), sizes.vocab_size)?;
    // 2 is what early files say, and means the largest id.
    if sizes.eos_token_id != 2 && sizes.eos_token_id != words.end_id() {
        let detail = format!(
            "\"eos_token_id\" is {}, its tokenizer ends texts with {}: all would get the vector of their first token; \
             set it",
            sizes.eos_token_id,
            words.end_id()
        );
        return Err(Error::format(config.path(), detail));
    }
    let checkpoint = architecture("CLIPTextModel")?.checkpoint(folder)?;
    let projected = projection_width(&checkpoint, sizes.hidden_size)?;
    let opened = nn::open(gpu, checkpoint, precision, |weights: &Weights| {
        let weights = weights.with_full_activations();
        let project =
            |width| Linear::load_without_bias(&weights.at("text_projection"), sizes.hidden_size, width);
        Ok((ClipText::load(&weights, &sizes)?, projected.map(project).transpose()?))
    })?;
    let (model, projection) = opened.model;
    // Of a whole model the other half is not asked for.
    let warnings = if is_whole { vec![] } else { opened.warnings };
    let model = Model::Texts { tokenizer: words, model, projection };
    Ok(Embedder { gpu: gpu.clone(), dtype: DType::F32, model, warnings })
}

/// Width of what comes out of `text_projection.weight` `[projection, hidden]`.
fn projection_width(checkpoint: &Checkpoint, hidden: usize) -> Result<Option<usize>> {
    match checkpoint.get("text_projection.weight").map(|view| view.shape.to_vec()).as_deref() {
        None => Ok(None),
        Some(&[width, inputs]) if inputs == hidden => Ok(Some(width)),
        Some(shape) => {
            let detail = format!("text_projection.weight has shape {shape:?}, wanted [projection, {hidden}]");
            Err(Error::weights(checkpoint.path(), detail))
        }
    }
}

fn images(gpu: &Gpu, folder: &Path, config: &Config, precision: Precision) -> Result<Embedder> {
    let sizes = ClipVisionConfig::new(config)?;
    let preprocess = Preprocess::open(folder, Preprocess::clip(sizes.image_size))?;
    let checkpoint = architecture("CLIPVisionModelWithProjection")?.checkpoint(folder)?;
    let dtype = std::cell::Cell::new(DType::F32);
    let opened = nn::open(gpu, checkpoint, precision, |weights: &Weights| {
        dtype.set(weights.dtype());
        ClipVision::load(weights, &sizes)
    })?;
    // Of a whole model the other half is not asked for.
    let warnings = if config.has("vision_config") { vec![] } else { opened.warnings };
    let model = Model::Images { model: opened.model, preprocess };
    Ok(Embedder { gpu: gpu.clone(), dtype: dtype.get(), model, warnings })
}

/// A JSON file of settings; null where there is none.
fn json(path: &Path) -> Result<Value> {
    if !path.exists() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&files::read_small(path, 1 << 20)?)
        .map_err(|e| Error::format(path, format!("is no JSON: {e}")))
}

/// Errors: [`Error::Format`] when the tokenizer gives ids that the model has no row for.
fn fits(folder: &Path, n_tokens: usize, n_rows: usize) -> Result<()> {
    if n_tokens <= n_rows {
        return Ok(());
    }
    let detail =
        format!("the tokenizer has {n_tokens} tokens, the model rows for {n_rows}; they do not go together");
    Err(Error::format(folder, detail))
}

/// Mean of the last hidden states of each text's own tokens.
fn mean_of_tokens(
    tokenizer: &BertTokenizer,
    model: &Bert,
    most: usize,
    texts: &[String],
) -> Result<Vec<Vec<f32>>> {
    let ids: Vec<Vec<i64>> = texts.iter().map(|text| tokenizer.encode(text, most)).collect::<Result<_>>()?;
    let shape = [ids.len(), ids.iter().map(Vec::len).max().unwrap_or(0)];
    let (mut padded, mut mask) = (Vec::new(), Vec::new());
    for ids in &ids {
        let rest = shape[1] - ids.len();
        padded.extend(ids.iter().copied().chain(std::iter::repeat_n(tokenizer.pad_id(), rest)));
        mask.extend(std::iter::repeat_n(1, ids.len()).chain(std::iter::repeat_n(0, rest)));
    }
    let hidden = model.forward(&padded, None, &Padding::new(&mask, shape)?)?;
    let (values, width) = (hidden.to_vec()?, hidden.dim(0));
    let rows = values.chunks_exact(shape[1] * width).zip(&ids).map(|(states, ids)| {
        let mut sums = vec![0.0f64; width];
        for state in states.chunks_exact(width).take(ids.len()) {
            sums.iter_mut().zip(state).for_each(|(sum, &v)| *sum += f64::from(v));
        }
        sums.into_iter().map(|sum| (sum / ids.len() as f64) as f32).collect()
    });
    Ok(rows.collect())
}

/// `[n, width]` read back, row by row.
fn rows_of(embeds: &Tensor) -> Result<Vec<Vec<f32>>> {
    Ok(embeds.to_vec()?.chunks_exact(embeds.dim(0)).map(<[f32]>::to_vec).collect())
}

/// Cosine of the angle between two vectors of any length; 0 where one is of zeros.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}
