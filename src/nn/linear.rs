//! Linear layer: `weight [outputs, inputs]`, `bias [outputs]`.

use super::Weights;
use crate::error::Result;
use crate::ops::{Activation, Epilogue, Packed};
use crate::tensor::Tensor;

/// `y = x weight^T + bias`.
pub struct Linear {
    weight: Packed,
    bias: Option<Tensor>,
}

impl Linear {
    /// `weight` and `bias`.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize) -> Result<Linear> {
        let bias = Some(weights.tensor("bias", &[outputs])?);
        Ok(Linear { weight: weights.matrix("weight", [outputs, inputs])?, bias })
    }

    /// `weight` alone.
    pub fn load_without_bias(weights: &Weights, inputs: usize, outputs: usize) -> Result<Linear> {
        Ok(Linear { weight: weights.matrix("weight", [outputs, inputs])?, bias: None })
    }

    /// From parts that stand elsewhere.
    pub fn from_parts(weight: Packed, bias: Option<Tensor>) -> Linear {
        Linear { weight, bias }
    }

    /// [.., inputs] -> [.., outputs].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, Activation::None, None)
    }

    /// [.., inputs] -> [.., outputs]: `activation(y) + residual`.
    pub fn forward_with(
        &self,
        x: &Tensor,
        activation: Activation,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        x.linear(&self.weight, Epilogue { bias: self.bias.as_ref(), activation, residual })
    }
}
