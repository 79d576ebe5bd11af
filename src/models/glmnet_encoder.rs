//! GLMNetEncoder: EEG to text embeddings, all channels and local ones each by a way of its own.
//!
//! ```text
//! eeg [batch, n_features]       -> embeddings [batch, n_tokens, token_dim]      of features
//! eeg [batch, n_chans, n_times] -> embeddings [batch, n_tokens, token_dim]      of windows
//! ```
//!
//! Follows gaspachoo/EEG2Video 6322092 `Gaspard_model/models/encoders.py`. Its form for windows cannot be built there
//! (its parts lack what it asks them for); here it is what was meant: the features' trunk over all samples of all
//! channels, and a [`ShallowNetEncoder`] over the local ones.

use super::config::Config;
use super::eeg::{EegConfig, pick};
use super::{MlpEncoderFeat, ShallowNetEncoder};
use crate::error::Result;
use crate::nn::{Linear, Weights};
use crate::ops::Activation;
use crate::tensor::Tensor;

/// Usual width of both ways for features.
const HIDDEN: usize = 2048;

/// What an encoder reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputType {
    /// Features of each channel.
    Frequency,
    /// Samples of each channel.
    Raw,
}

/// Sizes of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct GlmNetEncoderConfig {
    /// Those of every EEG network. `emb_dim` is the width of the ways for features, 2048 unless given.
    pub eeg: EegConfig,
    /// Features or samples.
    pub input_type: InputType,
    /// Whether the local way sees `local_chans` alone, or all channels.
    pub is_local: bool,
    /// Tokens of the embedding.
    pub n_tokens: usize,
    /// Width of a token.
    pub token_dim: usize,
}

impl GlmNetEncoderConfig {
    /// Reads a `GLMNetEncoder` config: `input_type` `"frequency"`, 77 tokens of 768 unless given. Without
    /// `local_chans` the local way sees all channels, as in the original.
    ///
    /// Errors: [`crate::error::Error::Format`] with the key.
    pub fn new(config: &Config) -> Result<GlmNetEncoderConfig> {
        Ok(GlmNetEncoderConfig {
            eeg: EegConfig::new(config)?,
            input_type: match config.word_or("input_type", "frequency")? {
                "frequency" => InputType::Frequency,
                "raw" => InputType::Raw,
                _ => return Err(config.wrong("input_type", "\"frequency\" or \"raw\"")),
            },
            is_local: config.get("local_chans").is_some(),
            n_tokens: config.size_or("n_tokens", 77)?,
            token_dim: config.size_or("token_dim", 768)?,
        })
    }
}

/// The two ways.
#[allow(clippy::large_enum_variant)] // one for each model
enum Ways {
    Frequency { global_encoder: Box<[Linear; 2]>, local_encoder: Box<[Linear; 2]>, bands: usize },
    Raw { global_encoder: Box<MlpEncoderFeat>, local_encoder: Box<ShallowNetEncoder> },
}

/// Two ways, then one linear layer to all tokens.
pub struct GlmNetEncoder {
    ways: Ways,
    projection: Linear,
    local: Vec<[usize; 2]>,
    config: GlmNetEncoderConfig,
}

impl GlmNetEncoder {
    /// `global_encoder`, `local_encoder`, `projection`. To freeze one, freeze the names that begin with it.
    pub fn load(weights: &Weights, config: &GlmNetEncoderConfig) -> Result<GlmNetEncoder> {
        let eeg = &config.eeg;
        let (local, n_local) = match config.is_local {
            true => (eeg.local_runs("GLMNetEncoder")?, eeg.local_chans.len()),
            false => (vec![[0, eeg.n_chans]], eeg.n_chans),
        };
        let (global_part, local_part) = (weights.at("global_encoder"), weights.at("local_encoder"));
        let (ways, width) = match config.input_type {
            InputType::Frequency => {
                let (bands, hidden) = (eeg.bands()?, eeg.emb_dim.unwrap_or(HIDDEN));
                let way = |part: &Weights, n_features| {
                    let first = Linear::load(&part.at("0"), n_features, hidden)?;
                    Ok(Box::new([first, Linear::load(&part.at("2"), hidden, hidden)?]))
                };
                let global_encoder = way(&global_part, eeg.n_features)?;
                let local_encoder = way(&local_part, bands * n_local)?;
                (Ways::Frequency { global_encoder, local_encoder, bands }, 2 * hidden)
            }
            InputType::Raw => {
                let all = EegConfig { n_features: eeg.n_chans * eeg.n_times, ..eeg.clone() };
                let some = EegConfig { n_chans: n_local, ..eeg.clone() };
                let width = MlpEncoderFeat::WIDTH + ShallowNetEncoder::width(&some)?;
                let global_encoder = Box::new(MlpEncoderFeat::load(&global_part, &all)?);
                let local_encoder = Box::new(ShallowNetEncoder::load(&local_part, &some)?);
                (Ways::Raw { global_encoder, local_encoder }, width)
            }
        };
        let outputs = config.n_tokens * config.token_dim;
        let projection = Linear::load(&weights.at("projection"), width, outputs)?;
        Ok(GlmNetEncoder { ways, projection, local, config: config.clone() })
    }

    /// [batch, n_features] or [batch, n_chans, n_times], by `input_type` -> [batch, n_tokens, token_dim].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        let sizes = &self.config.eeg;
        let parts = match &self.ways {
            Ways::Frequency { global_encoder, local_encoder, bands } => {
                let row = sizes.row("GLMNetEncoder", eeg)?;
                let batch = row.shape()[0];
                let local = pick(&row.reshape(&[batch, sizes.n_chans, *bands])?, &self.local)?;
                let local = local.reshape(&[batch, local.len() / batch.max(1)])?;
                let run = |way: &[Linear; 2], x: &Tensor| {
                    way[1].forward_with(
                        &way[0].forward_with(x, Activation::Relu, None)?,
                        Activation::Relu,
                        None,
                    )
                };
                [run(global_encoder, &row)?, run(local_encoder, &local)?]
            }
            Ways::Raw { global_encoder, local_encoder } => {
                sizes.image("GLMNetEncoder", eeg)?;
                [global_encoder.forward(eeg)?, local_encoder.forward(&pick(eeg, &self.local)?)?]
            }
        };
        let embeddings = self.projection.forward(&Tensor::concat(&[&parts[0], &parts[1]], 1)?)?;
        embeddings.reshape(&[eeg.shape()[0], self.config.n_tokens, self.config.token_dim])
    }
}
