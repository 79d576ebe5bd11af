//! A small classifier of clips: which of a few known concepts is shown, and how it moves. Trained on true clips alone,
//! it says whether a decoded clip can be recognised.
//!
//! ```text
//! frames [batch, frames, height, width, 3] in [-1, 1]
//!   -> each frame beside what changes until the next   [batch x (frames - 1), height, width, 6]
//!   -> convolutions, each halving height and width
//!   -> mean and maximum over the picture, mean over time -> logits [batch, num_labels]
//! ```
//!
//! What moves is in the differences of frames, so that no convolution over time is needed. Ours; PyTorch's names.

use super::config::Config;
use crate::error::{Error, Result};
use crate::nn::{Conv2d, GroupNorm, Linear, Weights};
use crate::ops::Window;
use crate::tensor::Tensor;

/// Sizes of a clip classifier, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipClassifierConfig {
    /// Frames of a clip.
    pub num_frames: usize,
    /// Height and width of a frame.
    pub image_size: [usize; 2],
    /// Channels of each halving convolution.
    pub channels: Vec<usize>,
    /// Groups of the norms.
    pub norm_num_groups: usize,
    /// Classes.
    pub num_labels: usize,
}

impl ClipClassifierConfig {
    /// Reads a `ClipClassifier` config.
    pub fn new(config: &Config) -> Result<ClipClassifierConfig> {
        let sizes = ClipClassifierConfig {
            num_frames: config.size_or("num_frames", 6)?,
            image_size: config.pair_or("image_size", 64)?,
            channels: if config.get("channels").is_some() {
                config.sizes("channels")?
            } else {
                vec![16, 32, 64]
            },
            norm_num_groups: config.positive_or("norm_num_groups", 8)?,
            num_labels: config.labels()?,
        };
        if sizes.num_frames < 2 {
            return Err(config.wrong("num_frames", "at least 2: what moves is seen from one to the next"));
        }
        let groups = sizes.norm_num_groups;
        if sizes.channels.is_empty() || sizes.channels.iter().any(|&c| c == 0 || !c.is_multiple_of(groups)) {
            return Err(config.wrong("channels", &format!("some, each divided by {groups} groups")));
        }
        if sizes.channels.len() > 8 {
            return Err(config.wrong("channels", "at most 8"));
        }
        Ok(sizes)
    }
}

/// A convolution, its norm, SiLU.
struct Block {
    conv: Conv2d,
    norm: GroupNorm,
}

/// PyTorch's default.
const EPS: f64 = 1e-5;

impl Block {
    fn load(weights: &Weights, [inputs, outputs]: [usize; 2], stride: usize, groups: usize) -> Result<Block> {
        let window = Window { stride: [stride; 2], ..Window::padded(1) };
        Ok(Block {
            conv: Conv2d::load(&weights.at("conv"), inputs, outputs, [3, 3], window)?,
            norm: GroupNorm::load(&weights.at("norm"), groups, outputs, EPS)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward_silu(&self.conv.forward(x)?)
    }
}

/// The classifier.
pub struct ClipClassifier {
    config: ClipClassifierConfig,
    blocks: Vec<Block>,
    classifier: Linear,
}

impl ClipClassifier {
    /// `blocks.0.conv`, `blocks.0.norm`, …, the last block without a stride; `classifier`.
    pub fn load(weights: &Weights, config: &ClipClassifierConfig) -> Result<ClipClassifier> {
        let (groups, last) = (config.norm_num_groups, config.channels[config.channels.len() - 1]);
        let mut blocks = Vec::new();
        let mut inputs = 6;
        let strided = config.channels.iter().map(|&outputs| (outputs, 2));
        for (i, (outputs, stride)) in strided.chain([(last, 1)]).enumerate() {
            blocks.push(Block::load(&weights.at(format!("blocks.{i}")), [inputs, outputs], stride, groups)?);
            inputs = outputs;
        }
        let classifier = Linear::load(&weights.at("classifier"), 2 * last, config.num_labels)?;
        Ok(ClipClassifier { config: config.clone(), blocks, classifier })
    }

    /// Sizes.
    pub fn config(&self) -> &ClipClassifierConfig {
        &self.config
    }

    /// [batch, frames, height, width, 3] in [-1, 1] -> [batch, labels].
    ///
    /// Errors: a clip of another size or number of frames.
    pub fn forward(&self, frames: &Tensor) -> Result<Tensor> {
        let ClipClassifierConfig { num_frames, image_size: [height, width], .. } = self.config;
        let &[batch, n, h, w, 3] = frames.shape() else {
            let detail = format!("wanted [batch, frames, height, width, 3], got {:?}", frames.shape());
            return Err(Error::shape("ClipClassifier", detail));
        };
        if [n, h, w] != [num_frames, height, width] {
            let detail =
                format!("wanted {num_frames} frames of {height} x {width}, got {:?}", frames.shape());
            return Err(Error::shape("ClipClassifier", detail));
        }
        let now = frames.narrow(1, 0, n - 1)?;
        let change = frames.narrow(1, 1, n - 1)?.sub(&now)?;
        let mut x = Tensor::concat(&[&now, &change], 4)?.reshape(&[batch * (n - 1), h, w, 6])?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        // [batch x (frames - 1), channels], twice -> mean over time
        let seen = Tensor::concat(&[&x.mean(&[1, 2])?, &x.amax(&[1, 2])?], 1)?;
        let seen = seen.reshape(&[batch, n - 1, seen.dim(0)])?.mean(&[1])?;
        self.classifier.forward(&seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: serde_json::Value) -> Result<ClipClassifierConfig> {
        ClipClassifierConfig::new(&Config::from_json("config.json", value.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn sizes_are_checked() {
        let sizes = config(json!({ "image_size": [40, 64], "num_labels": 40 })).unwrap();
        assert_eq!((sizes.num_frames, sizes.image_size, sizes.num_labels), (6, [40, 64], 40));
        for wrong in [
            json!({ "num_frames": 1 }),
            json!({ "channels": [] }),
            json!({ "channels": [12] }),
            json!({ "channels": [8, 8, 8, 8, 8, 8, 8, 8, 8] }),
            json!({ "norm_num_groups": 0 }),
        ] {
            assert!(config(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
