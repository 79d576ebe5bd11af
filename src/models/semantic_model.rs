//! Whatever turns EEG into text embeddings: the predictor of EEG2Video on band features, or any EEG network whose
//! outputs are as many as the embedding has values.
//!
//! ```text
//! config.json { "_class_name": "ShallowNet", "n_outputs": 256, "output_shape": [4, 64], .. }
//! features [batch, n_features] | windows [batch, n_chans, n_times] -> embeddings [batch, tokens, width]
//! ```

use super::config::Config;
use super::eeg_model::{EegModel, Takes, eeg_model};
use super::{EegConfig, SemanticConfig, SemanticPredictor};
use crate::error::{Error, Result};
use crate::nn::Weights;
use crate::tensor::Tensor;
use crate::weights::Checkpoint;

/// What a model of text embeddings is shown of a clip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SemanticInput {
    /// Band features of windows of equal length, behind each other.
    Features {
        /// All of them.
        n_features: usize,
        /// Windows of a clip.
        n_windows: usize,
        /// Whether they are computed as EEG2Video does, whatever the settings.
        is_original: bool,
    },
    /// Samples of windows; the embeddings of a clip's windows are averaged.
    Windows {
        /// EEG channels.
        n_chans: usize,
        /// Samples of a window.
        n_times: usize,
        /// Whether each channel's mean over the clip is taken away before.
        is_centred: bool,
    },
}

/// Sizes of such a model.
#[derive(Clone, Debug)]
pub struct SemanticModelConfig {
    /// What it is shown.
    pub input: SemanticInput,
    /// Tokens and width of the embedding.
    pub output_shape: [usize; 2],
    predictor: Option<SemanticConfig>,
    file: Config,
}

impl SemanticModelConfig {
    /// Reads the config of a `SemanticPredictor`, or that of an EEG network with `output_shape`.
    ///
    /// Errors: [`Error::Format`] for another architecture, or an `output_shape` that `n_outputs` do not fill.
    pub fn new(config: &Config, checkpoint: Option<&Checkpoint>) -> Result<SemanticModelConfig> {
        let is_original = match config.word_or("feature_form", "corrected")? {
            "corrected" => false,
            "original" => true,
            _ => return Err(config.wrong("feature_form", "corrected or original")),
        };
        if config.architecture()? == "SemanticPredictor" {
            let sizes = SemanticConfig::new(config, checkpoint)?;
            return Ok(SemanticModelConfig {
                input: SemanticInput::Features {
                    n_features: sizes.n_features,
                    n_windows: config.positive_or("n_windows", 1)?,
                    is_original,
                },
                output_shape: [sizes.n_tokens, sizes.emb_dim],
                predictor: Some(sizes),
                file: config.clone(),
            });
        }
        let eeg = EegConfig::new(config)?;
        let output_shape: [usize; 2] = config
            .sizes("output_shape")?
            .try_into()
            .map_err(|_| config.wrong("output_shape", "tokens and width"))?;
        if eeg.n_outputs != Some(output_shape[0] * output_shape[1]) || output_shape.contains(&0) {
            let detail =
                format!("{} values, as many as \"output_shape\" has", output_shape[0] * output_shape[1]);
            return Err(config.wrong("n_outputs", &detail));
        }
        let input = match takes_features(config.architecture()?) {
            true => SemanticInput::Features { n_features: eeg.n_features, n_windows: 1, is_original },
            false => SemanticInput::Windows {
                n_chans: eeg.n_chans,
                n_times: eeg.n_times,
                is_centred: config.switch_or("centred", false)?,
            },
        };
        Ok(SemanticModelConfig { input, output_shape, predictor: None, file: config.clone() })
    }
}

/// Whether an EEG network is shown band features, not samples.
pub fn takes_features(architecture: &str) -> bool {
    architecture.starts_with("MLP") || architecture == "GLMNetMLP" || architecture == "SemanticPredictor"
}

enum Inner {
    Predictor(SemanticPredictor),
    Network(EegModel),
}

/// A model of text embeddings, ready to run.
pub struct SemanticModel {
    inner: Inner,
    config: SemanticModelConfig,
}

impl SemanticModel {
    /// Under the names of its architecture.
    ///
    /// Errors: [`Error::Format`] for a network that wants windows and features both.
    pub fn load(weights: &Weights, config: &SemanticModelConfig) -> Result<SemanticModel> {
        let inner = match &config.predictor {
            Some(sizes) => Inner::Predictor(SemanticPredictor::load(weights, sizes)?),
            None => {
                let network = eeg_model(weights, &config.file)?;
                let wanted = match config.input {
                    SemanticInput::Features { .. } => Takes::Features,
                    SemanticInput::Windows { .. } => Takes::Windows,
                };
                if network.takes() != [wanted] {
                    let detail = "takes more than windows or features alone; it cannot predict embeddings";
                    return Err(Error::format(config.file.path(), detail));
                }
                Inner::Network(network)
            }
        };
        Ok(SemanticModel { inner, config: config.clone() })
    }

    /// [batch, ..] -> embeddings [batch, tokens, width].
    ///
    /// Errors: [`Error::Shape`] for another shape than the config has.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.inner {
            Inner::Predictor(predictor) => predictor.forward(x),
            Inner::Network(network) => {
                let [tokens, width] = self.config.output_shape;
                let batch = x.shape().first().copied().unwrap_or(0);
                network.forward(&[x])?.reshape(&[batch, tokens, width])
            }
        }
    }
}
