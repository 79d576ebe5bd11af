//! Attention layers: diffusers' (`to_q`, `to_k`, `to_v`, `to_out.0`) and PyTorch's (`in_proj_weight`, `out_proj`).

use super::{Linear, Weights};
use crate::error::Result;
use crate::ops::{Activation, Sight};
use crate::tensor::Tensor;

/// diffusers' attention block: queries from x, keys and values from a context.
pub struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
}

impl Attention {
    /// Projections `channels -> channels` for queries, `context -> channels` for keys and values; `bias` says
    /// whether those three have one (the output always has).
    pub fn load(
        weights: &Weights,
        channels: usize,
        context: usize,
        heads: usize,
        bias: bool,
    ) -> Result<Attention> {
        let project = |name: &str, inputs| {
            let load = if bias { Linear::load } else { Linear::load_without_bias };
            load(&weights.at(name), inputs, channels)
        };
        Ok(Attention {
            to_q: project("to_q", channels)?,
            to_k: project("to_k", context)?,
            to_v: project("to_v", context)?,
            to_out: Linear::load(&weights.at("to_out.0"), channels, channels)?,
            heads,
        })
    }

    /// x [batch, tokens, channels], context [.., keys, context] -> attention(x) + residual.
    pub fn forward(&self, x: &Tensor, context: &Tensor, sight: Sight, residual: &Tensor) -> Result<Tensor> {
        let (q, k, v) = (self.to_q.forward(x)?, self.to_k.forward(context)?, self.to_v.forward(context)?);
        let seen = q.attention(&k, &v, self.heads, None, sight)?;
        self.to_out.forward_with(&seen, Activation::None, Some(residual))
    }
}

/// PyTorch's `nn.MultiheadAttention`: the three projections stand stacked in one tensor.
pub struct MultiheadAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    out_proj: Linear,
    heads: usize,
}

impl MultiheadAttention {
    /// `in_proj_weight [3 * width, width]`, `in_proj_bias [3 * width]`, `out_proj`.
    pub fn load(weights: &Weights, width: usize, heads: usize) -> Result<MultiheadAttention> {
        let bias = weights.tensor("in_proj_bias", &[3 * width])?;
        let part = |index: usize| {
            let rows = index * width..(index + 1) * width;
            let weight = weights.matrix_rows("in_proj_weight", [3 * width, width], rows.clone())?;
            Ok(Linear::from_parts(weight, Some(bias.narrow(0, rows.start, width)?)))
        };
        Ok(MultiheadAttention {
            q: part(0)?,
            k: part(1)?,
            v: part(2)?,
            out_proj: Linear::load(&weights.at("out_proj"), width, width)?,
            heads,
        })
    }

    /// x [batch, tokens, width], context [batch, keys, width] -> attention(x) + residual.
    pub fn forward(&self, x: &Tensor, context: &Tensor, sight: Sight, residual: &Tensor) -> Result<Tensor> {
        let (q, k, v) = (self.q.forward(x)?, self.k.forward(context)?, self.v.forward(context)?);
        let seen = q.attention(&k, &v, self.heads, None, sight)?;
        self.out_proj.forward_with(&seen, Activation::None, Some(residual))
    }
}
