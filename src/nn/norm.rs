//! Normalisation layers: `weight`, `bias`, and for batch norms the running statistics.

use super::Weights;
use crate::error::Result;
use crate::tensor::Tensor;

/// GroupNorm over channels-last tensors, with SiLU on the way where wanted.
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// `weight [channels]`, `bias [channels]`.
    pub fn load(weights: &Weights, groups: usize, channels: usize, eps: f64) -> Result<GroupNorm> {
        let vector = |name| weights.tensor(name, &[channels]);
        Ok(GroupNorm { weight: vector("weight")?, bias: vector("bias")?, groups, eps })
    }

    /// [batch, .., channels]: statistics over everything of one batch item and group.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.group_norm(self.groups, &self.weight, &self.bias, self.eps, false)
    }

    /// The same, then SiLU.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        x.group_norm(self.groups, &self.weight, &self.bias, self.eps, true)
    }

    /// As [`GroupNorm::forward_silu`] with statistics shared by every `images / batch` images:
    /// x [images, height, width, channels].
    pub fn forward_silu_shared(&self, x: &Tensor, batch: usize) -> Result<Tensor> {
        let channels = x.dim(0);
        let joined = x.reshape(&[batch, x.len() / (batch * channels).max(1), channels])?;
        self.forward_silu(&joined)?.reshape(x.shape())
    }
}

/// LayerNorm over the last axis.
pub struct LayerNorm {
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    eps: f64,
}

impl LayerNorm {
    /// `weight [channels]`, `bias [channels]`.
    pub fn load(weights: &Weights, channels: usize, eps: f64) -> Result<LayerNorm> {
        let vector = |name| Ok(Some(weights.tensor(name, &[channels])?));
        Ok(LayerNorm { weight: vector("weight")?, bias: vector("bias")?, eps })
    }

    /// Without scale and shift: PyTorch's `elementwise_affine=False`.
    pub fn plain(eps: f64) -> LayerNorm {
        LayerNorm { weight: None, bias: None, eps }
    }

    /// [.., channels] -> [.., channels].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.layer_norm(self.weight.as_ref(), self.bias.as_ref(), self.eps)
    }
}

/// BatchNorm with its running statistics (inference).
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    eps: f64,
}

impl BatchNorm {
    /// `weight`, `bias`, `running_mean`, `running_var`, each `[channels]`; PyTorch's eps 1e-5.
    pub fn load(weights: &Weights, channels: usize) -> Result<BatchNorm> {
        let vector = |name| weights.tensor(name, &[channels]);
        Ok(BatchNorm {
            weight: vector("weight")?,
            bias: vector("bias")?,
            running_mean: vector("running_mean")?,
            running_var: vector("running_var")?,
            eps: 1e-5,
        })
    }

    /// [.., channels] -> [.., channels].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.batch_norm(&self.running_mean, &self.running_var, &self.weight, &self.bias, self.eps)
    }
}
