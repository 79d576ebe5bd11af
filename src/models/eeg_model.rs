//! EEG networks by the name their configs carry, behind one face: EEG in, scores or an embedding out.
//!
//! ```text
//! Config -> eeg_model(weights, config) -> EegModel -> forward([windows], [features]) -> [batch, n_outputs]
//! ```
//!
//! For whoever runs any of them: `forward` on tensors by name, training on its own parameters, step by step.

use super::config::Config;
use super::*;
use crate::error::{Error, Result, none_of};
use crate::nn::Weights;
use crate::tensor::Tensor;

/// What a network reads of a window of EEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Samples: [batch, n_chans, n_times].
    Windows,
    /// Features: [batch, n_chans, bands] or [batch, n_features].
    Features,
}

/// A model and its forward, as one.
type Run = Box<dyn Fn(&[&Tensor]) -> Result<Tensor>>;

/// An EEG network, ready to run.
pub struct EegModel {
    takes: &'static [Takes],
    gives: &'static str,
    run: Run,
}

impl EegModel {
    /// What it reads, in this order.
    pub fn takes(&self) -> &'static [Takes] {
        self.takes
    }

    /// What it gives: `logits` of classes, or `embeddings`.
    pub fn gives(&self) -> &'static str {
        self.gives
    }

    /// One tensor for each of [`EegModel::takes`] -> logits [batch, n_outputs], or embeddings [batch, ..].
    ///
    /// Errors: [`Error::Shape`] for another number of tensors, or of another shape than the config has.
    pub fn forward(&self, eeg: &[&Tensor]) -> Result<Tensor> {
        if eeg.len() != self.takes.len() {
            let detail = format!("wanted {:?}, got {} tensors", self.takes, eeg.len());
            return Err(Error::shape("eeg", detail));
        }
        (self.run)(eeg)
    }

    /// The same of a network that is to tell `n_classes` classes apart -> logits [batch, n_classes].
    ///
    /// Errors: also [`Error::Shape`] for one that gives something else.
    pub fn scores(&self, eeg: &[&Tensor], n_classes: usize) -> Result<Tensor> {
        let scores = self.forward(eeg)?;
        match scores.shape() {
            [_, n] if *n == n_classes => Ok(scores),
            other => {
                let detail = format!(
                    "wanted scores of {n_classes} classes, the network gives {} {other:?}; take one that ends in a \
                     classifier, such as ShallowNet",
                    self.gives
                );
                Err(Error::shape("eeg", detail))
            }
        }
    }
}

/// The names [`eeg_model`] knows.
pub const EEG_MODELS: [&str; 15] = [
    "ShallowNet",
    "DeepNet",
    "EEGNet",
    "TSConv",
    "Conformer",
    "GLMNet",
    "MLP",
    "GLMNetMLP",
    "ShallowNetEncoder",
    "MLPEncoder",
    "MLPEncoder_feat",
    "GLMNetEncoder",
    "GLMNetCV",
    "GLMNetMatched",
    "MyEEGNet_embedding",
];

/// Those of them that end in embeddings and tell no classes apart.
const EMBEDDERS: [&str; 4] = ["ShallowNetEncoder", "MLPEncoder_feat", "GLMNetEncoder", "MyEEGNet_embedding"];

/// Refuses, for the setting `model`, what is none of [`EEG_MODELS`] or tells no classes apart.
///
/// Errors: [`Error::Setting`] with the nearest name.
pub fn check_classifier(model: &str) -> Result<()> {
    let detail = match EEG_MODELS.contains(&model) {
        true if !EMBEDDERS.contains(&model) => return Ok(()),
        true => {
            let others: Vec<&str> = EEG_MODELS.into_iter().filter(|name| !EMBEDDERS.contains(name)).collect();
            format!("{model} gives embeddings and tells no classes apart; take one of {}", others.join(", "))
        }
        false => none_of(model, EEG_MODELS),
    };
    Err(Error::setting("model", detail))
}

/// The EEG network a config describes.
///
/// Errors: [`Error::Format`] for a config of no such network, or with sizes it cannot have; what its `load` is refused.
pub fn eeg_model(weights: &Weights, config: &Config) -> Result<EegModel> {
    let eeg = EegConfig::new(config)?;
    let name = config.architecture()?;
    let model = match name {
        "ShallowNet" => ShallowNet::load(weights, &eeg).map(|m| of_windows(m, ShallowNet::forward)),
        "DeepNet" => DeepNet::load(weights, &eeg).map(|m| of_windows(m, DeepNet::forward)),
        "EEGNet" => EegNet::load(weights, &eeg).map(|m| of_windows(m, EegNet::forward)),
        "TSConv" => TsConv::load(weights, &eeg).map(|m| of_windows(m, TsConv::forward)),
        "Conformer" => Conformer::load(weights, &ConformerConfig::new(config)?)
            .map(|m| of_windows(m, Conformer::forward)),
        "GLMNet" => GlmNet::load(weights, &eeg).map(|m| of_windows(m, GlmNet::forward)),
        "MLP" => Mlp::load(weights, &eeg).map(|m| of_features(m, Mlp::forward)),
        "GLMNetMLP" => GlmNetMlp::load(weights, &eeg).map(|m| of_features(m, GlmNetMlp::forward)),
        "ShallowNetEncoder" => {
            ShallowNetEncoder::load(weights, &eeg).map(|m| of_windows(m, ShallowNetEncoder::forward))
        }
        "MLPEncoder" => MlpEncoder::load(weights, &eeg).map(|m| of_features(m, MlpEncoder::forward)),
        "MLPEncoder_feat" => {
            MlpEncoderFeat::load(weights, &eeg).map(|m| of_features(m, MlpEncoderFeat::forward))
        }
        "GLMNetEncoder" => {
            let sizes = GlmNetEncoderConfig::new(config)?;
            GlmNetEncoder::load(weights, &sizes).map(|m| match sizes.input_type {
                InputType::Frequency => of_features(m, GlmNetEncoder::forward),
                InputType::Raw => of_windows(m, GlmNetEncoder::forward),
            })
        }
        "GLMNetCV" => GlmNetCv::load(weights, &eeg).map(|m| of_both(m, GlmNetCv::forward)),
        "GLMNetMatched" => GlmNetMatched::load(weights, &eeg).map(|m| of_both(m, GlmNetMatched::forward)),
        "MyEEGNet_embedding" => {
            EegNetEmbedding::load(weights, &eeg).map(|m| of_windows(m, EegNetEmbedding::forward))
        }
        other => return Err(Error::format(config.path(), none_of(other, EEG_MODELS))),
    };
    let gives = if EMBEDDERS.contains(&name) { "embeddings" } else { "logits" };
    // A size that does not go is the config's.
    model.map(|model| EegModel { gives, ..model }).map_err(|error| match error {
        Error::Setting { name, detail } => Error::format(config.path(), format!("\"{name}\": {detail}")),
        other => other,
    })
}

/// One tensor in, one out.
type Forward<M> = fn(&M, &Tensor) -> Result<Tensor>;

fn of_windows<M: 'static>(model: M, forward: Forward<M>) -> EegModel {
    let run = move |eeg: &[&Tensor]| forward(&model, eeg[0]);
    EegModel { takes: &[Takes::Windows], gives: "logits", run: Box::new(run) }
}

fn of_features<M: 'static>(model: M, forward: Forward<M>) -> EegModel {
    EegModel { takes: &[Takes::Features], ..of_windows(model, forward) }
}

fn of_both<M: 'static>(model: M, forward: fn(&M, &Tensor, &Tensor) -> Result<Tensor>) -> EegModel {
    let run = move |eeg: &[&Tensor]| forward(&model, eeg[0], eeg[1]);
    EegModel { takes: &[Takes::Windows, Takes::Features], gives: "logits", run: Box::new(run) }
}
