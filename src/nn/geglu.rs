//! Gated linear layer of a feed-forward, diffusers' `GEGLU`: `proj.weight [2 outputs, inputs]`, `proj.bias [2 outputs]`,
//! values first, then their gates.

use super::Weights;
use crate::error::Result;
use crate::ops::Packed;
use crate::tensor::Tensor;

/// `y = value gelu(gate)`, `[value, gate] = x weight^T + bias`.
pub struct GeGlu {
    weight: Packed,
    bias: Tensor,
}

impl GeGlu {
    /// `proj.weight` and `proj.bias`.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize) -> Result<GeGlu> {
        let proj = weights.at("proj");
        let weight = proj.gated_matrix("weight", [2 * outputs, inputs])?;
        Ok(GeGlu { weight, bias: proj.tensor("bias", &[2 * outputs])? })
    }

    /// [.., inputs] -> [.., outputs].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.linear_geglu(&self.weight, Some(&self.bias))
    }
}
