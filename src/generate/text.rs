//! Texts to embeddings, through the tokenizer and the text encoder of a Stable Diffusion folder.

use super::conditions::in_batches;
use super::vocabulary;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{self, ClipText, ClipTextConfig, Config};
use crate::nn::{self, Precision, Weights};
use crate::tokenizers::ClipTokenizer;
use crate::weights::{self, Checkpoint};
use std::path::Path;

/// What the text encoder of `folder` (its `text_encoder/` and `tokenizer/`) makes of texts: (tokens and width,
/// `[texts, tokens, width]`).
///
/// Errors: [`Error::Read`] and [`Error::Format`] for a folder that lacks them, holds another encoder or another model's
/// tokenizer; those of [`nn::open`].
pub fn encode_texts(
    gpu: &Gpu,
    folder: &Path,
    precision: Precision,
    texts: &[String],
) -> Result<([usize; 2], Vec<f32>)> {
    let (tokenizer, config, checkpoint) = words_of(folder)?;
    let open = |weights: &Weights| ClipText::load(&weights.with_full_activations(), &config);
    let model = nn::open(gpu, checkpoint, precision, open)?.model;
    let tokens = config.max_position_embeddings;
    let ids: Vec<Vec<i64>> =
        texts.iter().map(|text| tokenizer.encode(text, tokens)).collect::<Result<_>>()?;
    let values = in_batches(texts.len(), |batch| {
        model.forward(&ids[batch.clone()].concat(), batch.len())?.0.to_vec()
    })?;
    Ok(([tokens, config.hidden_size], values))
}

/// Tokenizer, sizes and weights of a folder's text encoder, held against each other; nothing is loaded.
///
/// Errors: as [`encode_texts`].
pub(super) fn words_of(folder: &Path) -> Result<(ClipTokenizer, ClipTextConfig, Checkpoint)> {
    let part = folder.join("text_encoder");
    let config = Config::open(part.join("config.json"))?;
    let name = config.architecture()?;
    if name != "CLIPTextModel" {
        return Err(Error::format(config.path(), format!("wanted CLIPTextModel, got '{name}'")));
    }
    let path = folder.join("tokenizer");
    if !path.is_dir() {
        return Err(Error::format(folder, "has no tokenizer folder; its text_encoder wants one"));
    }
    let tokenizer = ClipTokenizer::open(&path)?;
    let checkpoint = models::architecture(name)?.checkpoint(&part)?;
    let config = ClipTextConfig::new(&config)?;
    vocabulary::check(&path, tokenizer.vocabulary_size(), "the text encoder", config.vocab_size)?;
    let wanted = nn::wanted(|weights| ClipText::load(weights, &config))?;
    weights::check(&checkpoint, &wanted, false)?;
    Ok((tokenizer, config, checkpoint))
}
