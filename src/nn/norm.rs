//! Normalisation layers: `weight`, `bias`, and for batch norms the running statistics.

use super::{Training, Weights};
use crate::error::Result;
use crate::tensor::Tensor;
use std::sync::Arc;

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

/// BatchNorm: with its running statistics, or while it is trained with those of the batch, which move the running ones.
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    eps: f64,
    learning: Option<Learning>,
}

/// Where the running statistics of a layer in training go.
struct Learning {
    training: Arc<Training>,
    weights: Weights,
}

/// PyTorch's default.
const MOMENTUM: f64 = 0.1;

impl BatchNorm {
    /// `weight`, `bias`, `running_mean`, `running_var`, each `[channels]`; PyTorch's eps 1e-5 and momentum 0.1.
    pub fn load(weights: &Weights, channels: usize) -> Result<BatchNorm> {
        let vector = |name| weights.tensor(name, &[channels]);
        let learning =
            |training: &Arc<Training>| Learning { training: training.clone(), weights: weights.clone() };
        Ok(BatchNorm {
            weight: vector("weight")?,
            bias: vector("bias")?,
            running_mean: vector("running_mean")?,
            running_var: vector("running_var")?,
            eps: 1e-5,
            learning: weights.training().map(learning),
        })
    }

    /// [.., channels] -> [.., channels].
    ///
    /// In training the new `running_mean` and `running_var` are put into [`Training`], by their whole names.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (mean, var) = (&self.running_mean, &self.running_var);
        let Some(Learning { training, weights }) = &self.learning else {
            return x.batch_norm(mean, var, &self.weight, &self.bias, self.eps);
        };
        let made = x.batch_norm_training(mean, var, &self.weight, &self.bias, MOMENTUM, self.eps)?;
        training.put(weights.path("running_mean"), made.running_mean);
        training.put(weights.path("running_var"), made.running_var);
        Ok(made.y)
    }

    /// Factor and shift of each channel by the running statistics, `[channels]` each; none while it is trained.
    pub(super) fn running(&self) -> Result<Option<[Tensor; 2]>> {
        let fixed = self.learning.is_none();
        fixed.then(|| self.affine(&self.running_mean, &self.running_var)).transpose()
    }

    /// Factor and shift of each channel while it is trained, for a batch whose `n` values of each channel have this mean
    /// and this variance (with its bias). The new running statistics are put into [`Training`].
    pub(super) fn of_batch(&self, mean: &Tensor, var: &Tensor, n: usize) -> Result<[Tensor; 2]> {
        if let Some(Learning { training, weights }) = &self.learning {
            let unbiased = n as f64 / (n as f64 - 1.0).max(1.0);
            for (name, old, new, factor) in [
                ("running_mean", &self.running_mean, mean, 1.0),
                ("running_var", &self.running_var, var, unbiased),
            ] {
                let moved = [(&old.detach(), 1.0 - MOMENTUM), (&new.detach(), MOMENTUM * factor)];
                training.put(weights.path(name), Tensor::combine(&moved)?);
            }
        }
        self.affine(mean, var)
    }

    fn affine(&self, mean: &Tensor, var: &Tensor) -> Result<[Tensor; 2]> {
        let scale = self.weight.div(&var.scale(1.0, self.eps as f32)?.sqrt()?)?;
        let shift = self.bias.sub(&mean.mul(&scale)?)?;
        Ok([scale, shift])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Parameters, Precision};
    use crate::testing::{assert_close, gpu, random};

    #[test]
    fn batch_norm_learns_its_statistics_in_training_alone() {
        let Some(gpu) = gpu() else { return };
        let vector = |v: f32| Tensor::new(&gpu, &[3], &[v; 3]).unwrap();
        let named = [("weight", 2.0), ("bias", 0.5), ("running_mean", 1.0), ("running_var", 4.0)];
        let tensors = named.map(|(name, value)| (format!("block.norm.{name}"), vector(value)));
        let parameters = Arc::new(Parameters::new(tensors.into_iter().collect()));
        let training = Arc::new(Training::new(0, 0));
        let weights = Weights::from_parameters(&gpu, &parameters, Precision::F32, Some(&training));
        let weights = weights.at("block").at("norm");
        let values = random(&[5, 3], 2.0);
        let x = Tensor::new(&gpu, &[5, 3], &values).unwrap();

        let fixed = BatchNorm::load(&weights.eval(), 3).unwrap().forward(&x).unwrap();
        let want: Vec<f64> =
            values.iter().map(|&v| (f64::from(v) - 1.0) / (4.0 + 1e-5_f64).sqrt() * 2.0 + 0.5).collect();
        assert_close(&fixed.to_vec().unwrap(), &want, 1e-6, "eval");
        assert!(training.take_statistics().is_empty());

        let y = BatchNorm::load(&weights, 3).unwrap().forward(&x).unwrap().to_vec().unwrap();
        let column =
            |v: &[f32], c: usize| v.iter().skip(c).step_by(3).map(|&v| f64::from(v)).collect::<Vec<_>>();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (mut means, mut vars) = (vec![], vec![]);
        for c in 0..3 {
            assert!((mean(&column(&y, c)) - 0.5).abs() < 1e-6, "the bias is the mean");
            let own = column(&values, c);
            let middle = mean(&own);
            means.push(0.9 + 0.1 * middle);
            vars.push(3.6 + 0.1 * own.iter().map(|v| (v - middle).powi(2)).sum::<f64>() / 4.0);
        }
        let statistics = training.take_statistics();
        let names: Vec<&str> = statistics.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["block.norm.running_mean", "block.norm.running_var"]);
        assert_close(&statistics[0].1.to_vec().unwrap(), &means, 1e-6, "running_mean");
        assert_close(&statistics[1].1.to_vec().unwrap(), &vars, 1e-6, "running_var");
    }
}
