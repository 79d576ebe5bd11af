//! ShallowNet and GLMNet: EEG windows to class scores.
//!
//! ```text
//! eeg [batch, n_chans, n_times] -> logits [batch, n_outputs]
//! ```
//!
//! Follows XuanhaoLiu/EEG2Video 7254ad8 `EEG-VP/models.py` (`shallownet`, `glfnet`, the paper's GLMNet), after
//! Schirrmeister et al. 2017. The original's last layer fits 200 samples only; here its size follows `n_times`.

use super::config::Config;
use crate::error::{Error, Result};
use crate::nn::{BatchNorm, Conv2d, Linear, Weights};
use crate::ops::Window;
use crate::tensor::Tensor;

/// Filters of both convolutions.
const FILTERS: usize = 40;
/// Samples of the temporal filter, and of the pooling with its step.
const KERNEL: usize = 25;
const POOL: usize = 51;
const POOL_STEP: usize = 5;
/// Channels over visual cortex in SEED-DV's order: PO7 .. CB2.
const OCCIPITAL: std::ops::Range<usize> = 50..62;

/// Sizes, in braindecode's words.
#[derive(Clone, Debug, PartialEq)]
pub struct EegConfig {
    /// Classes.
    pub n_outputs: usize,
    /// EEG channels.
    pub n_chans: usize,
    /// Samples of a window.
    pub n_times: usize,
    /// Width of each branch's embedding (GLMNet).
    pub emb_dim: usize,
}

impl EegConfig {
    /// Reads a `ShallowNet` or `GLMNet` config; `n_chans` 62, `n_times` 200, `emb_dim` 256 unless given.
    pub fn new(config: &Config) -> Result<EegConfig> {
        let sizes = EegConfig {
            n_outputs: config.size("n_outputs")?,
            n_chans: config.size_or("n_chans", 62)?,
            n_times: config.size_or("n_times", 200)?,
            emb_dim: config.size_or("emb_dim", 256)?,
        };
        match sizes.pooled() {
            0 => Err(config.wrong("n_times", &format!("at least {} samples", KERNEL + POOL - 1))),
            _ => Ok(sizes),
        }
    }

    /// Samples left after convolution and pooling.
    fn pooled(&self) -> usize {
        (self.n_times + 1).checked_sub(KERNEL + POOL - 1).map_or(0, |room| match room {
            0 => 0,
            room => (room - 1) / POOL_STEP + 1,
        })
    }
}

/// Temporal filters, spatial filters, log-power-like pooling, a linear layer.
pub struct ShallowNet {
    temporal: Conv2d,
    spatial: Conv2d,
    norm: BatchNorm,
    out: Linear,
    pooled: usize,
}

impl ShallowNet {
    /// `net.0`, `net.1`, `net.2`, `out`.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<ShallowNet> {
        let conv = |name: &str, channels, kernel| {
            Conv2d::load(&weights.at(name), channels, FILTERS, kernel, Window::padded(0))
        };
        Ok(ShallowNet {
            temporal: conv("net.0", 1, [1, KERNEL])?,
            spatial: conv("net.1", FILTERS, [config.n_chans, 1])?,
            norm: BatchNorm::load(&weights.at("net.2"), FILTERS)?,
            out: Linear::load(&weights.at("out"), FILTERS * config.pooled(), config.n_outputs)?,
            pooled: config.pooled(),
        })
    }

    /// [batch, n_chans, n_times] -> [batch, n_outputs].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        let &[batch, n_chans, n_times] = eeg.shape() else {
            return Err(Error::shape(
                "ShallowNet",
                format!("wanted [batch, n_chans, n_times], got {:?}", eeg.shape()),
            ));
        };
        let x = self.temporal.forward(&eeg.reshape(&[batch, n_chans, n_times, 1])?)?;
        let x = self.norm.forward(&self.spatial.forward(&x)?)?.elu()?;
        let x = x.avg_pool2d([1, POOL], [1, POOL_STEP])?;
        // The original flattens filters first.
        let x = x.reshape(&[batch, self.pooled, FILTERS])?.permute(&[0, 2, 1])?;
        self.out.forward(&x.reshape(&[batch, FILTERS * self.pooled])?)
    }
}

/// All channels and the occipital ones, each through a ShallowNet; then one linear layer. The dynamics classifier.
pub struct GlmNet {
    globalnet: ShallowNet,
    occipital_localnet: ShallowNet,
    out: Linear,
    n_chans: usize,
}

impl GlmNet {
    /// `globalnet`, `occipital_localnet`, `out`.
    ///
    /// Errors: [`Error::Setting`] for fewer than 62 channels: the occipital ones are taken by place.
    pub fn load(weights: &Weights, config: &EegConfig) -> Result<GlmNet> {
        if config.n_chans < OCCIPITAL.end {
            let detail =
                format!("GLMNet takes channels 50..61 of SEED-DV's 62, n_chans is {}", config.n_chans);
            return Err(Error::setting("n_chans", detail));
        }
        let branch = |name: &str, n_chans| {
            let config = EegConfig { n_outputs: config.emb_dim, n_chans, ..config.clone() };
            ShallowNet::load(&weights.at(name), &config)
        };
        Ok(GlmNet {
            globalnet: branch("globalnet", config.n_chans)?,
            occipital_localnet: branch("occipital_localnet", OCCIPITAL.len())?,
            out: Linear::load(&weights.at("out"), 2 * config.emb_dim, config.n_outputs)?,
            n_chans: config.n_chans,
        })
    }

    /// [batch, n_chans, n_times] -> [batch, n_outputs].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        if eeg.rank() != 3 || eeg.dim(1) != self.n_chans {
            let detail = format!("wanted [batch, {}, n_times], got {:?}", self.n_chans, eeg.shape());
            return Err(Error::shape("GLMNet", detail));
        }
        let local = eeg.narrow(1, OCCIPITAL.start, OCCIPITAL.len())?;
        let parts = [self.globalnet.forward(eeg)?, self.occipital_localnet.forward(&local)?];
        self.out.forward(&Tensor::concat(&[&parts[0], &parts[1]], 1)?)
    }
}
