//! Inputs to try a model with: the sizes of one guided clip, values by formula. For benchmarks and memory plans.

use super::config::Config;
use super::named::{Input, Inputs};
use super::{EEG_MODELS, EegConfig, Takes, eeg_model};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::nn::{Precision, Weights};
use crate::weights::random;

/// What a clip is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clip {
    /// Frames.
    pub num_frames: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Columns of a frame.
    pub width: usize,
    /// Tokens of a text or its stand-in.
    pub tokens: usize,
}

impl Clip {
    /// EEG2Video's: 6 frames of 288 x 512, 77 tokens.
    pub const FULL: Clip = Clip { num_frames: 6, height: 288, width: 512, tokens: 77 };
}

impl Inputs {
    /// Inputs of one call of the model a config describes: of a UNet a guided step of `clip` (of an image model at
    /// the size it was trained on), of an autoencoder one frame to decode, of the others one item. Nothing for an
    /// architecture without a named form.
    ///
    /// Errors: [`crate::error::Error::Format`] when the config has a key of another kind than its model wants.
    pub fn example(config: &Config, clip: &Clip) -> Result<Inputs> {
        let (height, width, tokens) = (clip.height / 8, clip.width / 8, clip.tokens);
        let inputs = match config.architecture()? {
            name @ ("UNet3DConditionModel" | "UNet2DConditionModel") => {
                let channels = config.size_or("in_channels", 4)?;
                let side = config.size_or("sample_size", 64)?;
                let sample = match name {
                    "UNet3DConditionModel" => floats(&[2, channels, clip.num_frames, height, width]),
                    _ => floats(&[2, channels, side, side]),
                };
                let text = floats(&[2, tokens, config.size_or("cross_attention_dim", 1280)?]);
                vec![
                    ("sample", sample),
                    ("timestep", Input::Floats(vec![1], vec![500.0])),
                    ("encoder_hidden_states", text),
                ]
            }
            "AutoencoderKL" => {
                vec![("latents", floats(&[1, config.size_or("latent_channels", 4)?, height, width]))]
            }
            "CLIPTextModel" => {
                let tokens = tokens.min(config.size_or("max_position_embeddings", 77)?);
                // The last id ends the text.
                let last = config.size_or("vocab_size", 49_408)?.max(1) as i64 - 1;
                let mut ids: Vec<i64> = (0..tokens as i64).map(|at| 7 * at % last.max(1)).collect();
                ids.last_mut().into_iter().for_each(|id| *id = last);
                vec![("input_ids", Input::Ids(vec![1, tokens], ids))]
            }
            "CLIPVisionModelWithProjection" | "ViTForImageClassification" => {
                let [height, width] = config.pair_or("image_size", 224)?;
                vec![("pixel_values", floats(&[1, config.size_or("num_channels", 3)?, height, width]))]
            }
            "VideoMAEForVideoClassification" => {
                let [height, width] = config.pair_or("image_size", 224)?;
                let (frames, channels) =
                    (config.size_or("num_frames", 16)?, config.size_or("num_channels", 3)?);
                vec![("pixel_values", floats(&[1, frames, channels, height, width]))]
            }
            "ClipClassifier" => {
                let [height, width] = config.pair_or("image_size", 64)?;
                vec![("pixel_values", floats(&[1, config.size_or("num_frames", 6)?, 3, height, width]))]
            }
            "BertModel" => text(config, 30_522, 128.min(config.size_or("max_position_embeddings", 512)?))?,
            "OPTForCausalLM" => {
                text(config, 50_272, 32.min(config.size_or("max_position_embeddings", 2048)?))?
            }
            "Blip2QFormerModel" => vec![
                ("query_embeds", floats(&[1, 32, config.size_or("hidden_size", 768)?])),
                ("encoder_hidden_states", floats(&[1, 257, config.size_or("encoder_hidden_size", 1408)?])),
            ],
            "Blip2ForConditionalGeneration" => {
                let side = config.part("vision_config")?.size_or("image_size", 224)?;
                let mut ids =
                    config.ids("image_token_index")?.repeat(config.size_or("num_query_tokens", 32)?);
                ids.push(config.part("text_config")?.size_or("bos_token_id", 2)? as i64);
                let n = ids.len();
                vec![
                    ("pixel_values", floats(&[1, 3, side, side])),
                    ("input_ids", Input::Ids(vec![1, n], ids)),
                    ("attention_mask", Input::Ids(vec![1, n], vec![1; n])),
                ]
            }
            "EEGTransformerEncoder" => {
                vec![("spectrogram", floats(&[1, config.size_or("n_chans", 64)?, 224, 224]))]
            }
            "SemanticPredictor" => vec![("eeg", floats(&[1, config.size_or("n_features", 310)?]))],
            "EEG2VideoTransformer" => vec![(
                "eeg",
                floats(&[
                    1,
                    config.size_or("n_windows", 7)?,
                    config.size_or("n_chans", 62)?,
                    config.size_or("n_times", 100)?,
                ]),
            )],
            name if EEG_MODELS.contains(&name) => {
                let sizes = EegConfig::new(config)?;
                // The shapes alone are looked at: on a plan, no weights are needed.
                let takes = eeg_model(&Weights::planned(&Gpu::plan(), None, Precision::F32), config)?.takes();
                let input = |takes| match takes {
                    Takes::Windows => floats(&[1, 1, sizes.n_chans, sizes.n_times]),
                    Takes::Features => floats(&[1, sizes.n_features]),
                };
                ["eeg", "features"].into_iter().zip(takes.iter().copied().map(input)).collect()
            }
            _ => Vec::new(),
        };
        Ok(Inputs(inputs.into_iter().map(|(name, input)| (name.to_string(), input)).collect()))
    }
}

/// Ids of a text without padding.
fn text(config: &Config, vocabulary: usize, tokens: usize) -> Result<Vec<(&'static str, Input)>> {
    let last = config.size_or("vocab_size", vocabulary)?.max(1) as i64;
    let ids = (0..tokens as i64).map(|at| 7 * at % last).collect();
    Ok(vec![
        ("input_ids", Input::Ids(vec![1, tokens], ids)),
        ("attention_mask", Input::Ids(vec![1, tokens], vec![1; tokens])),
    ])
}

fn floats(shape: &[usize]) -> Input {
    let mut values = vec![0.0; shape.iter().product()];
    random::fill("example", &[values.len()], 0, &mut values);
    // The formula gives a lone axis a fifth.
    values.iter_mut().for_each(|value| *value *= 5.0);
    Input::Floats(shape.to_vec(), values)
}
