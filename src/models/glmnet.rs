//! GLMNet: all channels and the occipital ones, each through a network of its own; then one linear layer.
//!
//! ```text
//! eeg [batch, n_chans, n_times] -> logits [batch, n_outputs]            GlmNet, of ShallowNets
//! eeg [batch, n_chans, bands]   -> logits [batch, n_outputs]            GlmNetMlp, of MLPs
//! ```
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG-VP/models.py` (`glfnet`, the paper's GLMNet, and `glfnet_mlp`).

use super::eeg::{EegConfig, pick};
use super::{Mlp, ShallowNet};
use crate::error::Result;
use crate::nn::{Linear, Weights};
use crate::tensor::Tensor;

/// Usual widths of a branch's embedding, of windows and of features.
const EMB_DIM: usize = 256;
const EMB_DIM_MLP: usize = 64;

/// Two ShallowNets on windows. The dynamics classifier.
pub struct GlmNet {
    globalnet: ShallowNet,
    occipital_localnet: ShallowNet,
    out: Linear,
    local: Vec<[usize; 2]>,
    config: EegConfig,
}

impl GlmNet {
    /// `globalnet`, `occipital_localnet`, `out`.
    ///
    /// Errors: [`crate::error::Error::Setting`] for fewer than 62 channels unless `local_chans` says which are local;
    /// for windows too short.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<GlmNet> {
        let emb_dim = config.emb_dim.unwrap_or(EMB_DIM);
        let branch = |name: &str, n_chans| {
            let config = EegConfig { n_outputs: Some(emb_dim), n_chans, ..config.clone() };
            ShallowNet::load(&weights.at(name), &config)
        };
        Ok(GlmNet {
            local: config.local_runs("GLMNet")?,
            globalnet: branch("globalnet", config.n_chans)?,
            occipital_localnet: branch("occipital_localnet", config.local_chans.len())?,
            out: Linear::load(&weights.at("out"), 2 * emb_dim, config.outputs(weights, "out")?)?,
            config: config.clone(),
        })
    }

    /// [batch, n_chans, n_times] -> [batch, n_outputs].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        self.config.image("GLMNet", eeg)?;
        let local = pick(eeg, &self.local)?;
        let parts = [self.globalnet.forward(eeg)?, self.occipital_localnet.forward(&local)?];
        self.out.forward(&Tensor::concat(&[&parts[0], &parts[1]], 1)?)
    }
}

/// Two MLPs on features.
pub struct GlmNetMlp {
    globalnet: Mlp,
    occipital_localnet: Mlp,
    out: Linear,
    local: Vec<[usize; 2]>,
    bands: usize,
    config: EegConfig,
}

impl GlmNetMlp {
    /// `globalnet`, `occipital_localnet`, `out`.
    ///
    /// Errors: as [`GlmNet::load`]; for features that are not as many for each channel.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<GlmNetMlp> {
        let emb_dim = config.emb_dim.unwrap_or(EMB_DIM_MLP);
        let (bands, local) = (config.bands()?, config.local_runs("GLMNetMLP")?);
        let branch = |name: &str, n_features| {
            let config = EegConfig { n_outputs: Some(emb_dim), n_features, ..config.clone() };
            Mlp::load(&weights.at(name), &config)
        };
        Ok(GlmNetMlp {
            globalnet: branch("globalnet", config.n_features)?,
            occipital_localnet: branch("occipital_localnet", bands * config.local_chans.len())?,
            out: Linear::load(&weights.at("out"), 2 * emb_dim, config.outputs(weights, "out")?)?,
            local,
            bands,
            config: config.clone(),
        })
    }

    /// [batch, n_chans, bands] -> [batch, n_outputs].
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let row = self.config.row("GLMNetMLP", features)?;
        let by_channel = row.reshape(&[row.shape()[0], self.config.n_chans, self.bands])?;
        let local = pick(&by_channel, &self.local)?;
        let parts = [self.globalnet.forward(&row)?, self.occipital_localnet.forward(&local)?];
        self.out.forward(&Tensor::concat(&[&parts[0], &parts[1]], 1)?)
    }
}
