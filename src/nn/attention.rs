//! Attention layers: diffusers' (`to_q`, `to_k`, `to_v`, `to_out.0`), PyTorch's (`in_proj_weight`, `out_proj`), and
//! transformers', where every architecture has names of its own.

use super::{Linear, Projection, Projections, Weights};
use crate::error::Result;
use crate::ops::{Activation, Sight};
use crate::tensor::Tensor;

/// diffusers' attention block of x to itself: `to_q`, `to_k`, `to_v`, `to_out.0`.
pub struct Attention {
    projections: Projections,
    to_out: Linear,
    heads: usize,
}

impl Attention {
    /// All projections are `channels -> channels`; `bias` says whether those to queries, keys and values have one (the
    /// output always has).
    pub fn load(weights: &Weights, channels: usize, heads: usize, bias: bool) -> Result<Attention> {
        let layer = |name: &str| {
            let weights = weights.at(name);
            let bias = bias.then(|| weights.tensor("bias", &[channels])).transpose()?;
            Ok(Projection { weights, outputs: channels, bias })
        };
        let layers: Vec<_> = ["to_q", "to_k", "to_v"].into_iter().map(layer).collect::<Result<_>>()?;
        let projections = Projections::load(&layers, channels)?;
        let to_out = Linear::load(&weights.at("to_out.0"), channels, channels)?;
        Ok(Attention { projections, to_out, heads })
    }

    /// x [batch, tokens, channels] -> attention(x) + residual.
    pub fn forward(&self, x: &Tensor, sight: Sight, residual: &Tensor) -> Result<Tensor> {
        let projected = self.projections.forward(x)?;
        let [q, k, v] = &projected[..] else { unreachable!("three were loaded") };
        let seen = q.attention(k, v, self.heads, None, sight)?;
        self.to_out.forward_with(&seen, Activation::None, Some(residual))
    }
}

/// diffusers' attention block of x to keys and values that are made elsewhere: `to_q`, `to_out.0`.
pub struct CrossAttention {
    to_q: Linear,
    to_out: Linear,
    heads: usize,
}

impl CrossAttention {
    /// Both projections are `channels -> channels`; that to queries has no bias.
    pub fn load(weights: &Weights, channels: usize, heads: usize) -> Result<CrossAttention> {
        Ok(CrossAttention {
            to_q: Linear::load_without_bias(&weights.at("to_q"), channels, channels)?,
            to_out: Linear::load(&weights.at("to_out.0"), channels, channels)?,
            heads,
        })
    }

    /// x [batch, tokens, channels], keys and values [.., keys, channels] -> attention(x) + residual.
    pub fn forward(&self, x: &Tensor, k: &Tensor, v: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let seen = self.to_q.forward(x)?.attention(k, v, self.heads, None, Sight::All)?;
        self.to_out.forward_with(&seen, Activation::None, Some(residual))
    }
}

/// PyTorch's `nn.MultiheadAttention`, and what is the same under other names.
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
        let out_proj = Linear::load(&weights.at("out_proj"), width, width)?;
        MultiheadAttention::stacked(weights, ["in_proj_weight", "in_proj_bias"], true, out_proj, width, heads)
    }

    /// The three projections stacked in one matrix `[3 * width, width]`, and `[3 * width]` where there is a bias.
    pub fn stacked(
        weights: &Weights,
        [weight, bias]: [&str; 2],
        has_bias: bool,
        out_proj: Linear,
        width: usize,
        heads: usize,
    ) -> Result<MultiheadAttention> {
        let bias = has_bias.then(|| weights.tensor(bias, &[3 * width])).transpose()?;
        let part = |index: usize| {
            let rows = index * width..(index + 1) * width;
            let weight = weights.matrix_rows(weight, [3 * width, width], rows.clone())?;
            let bias = bias.as_ref().map(|bias| bias.narrow(0, rows.start, width)).transpose()?;
            Ok(Linear::from_parts(weight, bias))
        };
        Ok(MultiheadAttention { q: part(0)?, k: part(1)?, v: part(2)?, out_proj, heads })
    }

    /// Four layers under names of their own: queries, keys, values, output.
    pub fn from_parts([q, k, v, out_proj]: [Linear; 4], heads: usize) -> MultiheadAttention {
        MultiheadAttention { q, k, v, out_proj, heads }
    }

    /// x [batch, tokens, width], context [batch, keys, width] -> attention(x) + residual.
    pub fn forward(&self, x: &Tensor, context: &Tensor, sight: Sight, residual: &Tensor) -> Result<Tensor> {
        let (q, k, v) = (self.q.forward(x)?, self.k.forward(context)?, self.v.forward(context)?);
        self.finish(&q, &k, &v, sight, None, residual)
    }

    /// The same for a batch with padding: `mask [batch, keys]` is 1 where a key may be seen and 0 elsewhere.
    pub fn forward_masked(
        &self,
        x: &Tensor,
        context: &Tensor,
        sight: Sight,
        mask: Option<&Tensor>,
        residual: &Tensor,
    ) -> Result<Tensor> {
        let (q, k, v) = (self.q.forward(x)?, self.k.forward(context)?, self.v.forward(context)?);
        self.finish(&q, &k, &v, sight, mask, residual)
    }

    /// Tokens behind those of `past`, which then holds them, too: x [batch, tokens, width] -> attention(x) + residual.
    /// Each sees what came before it and itself; the mask is of all tokens so far.
    ///
    /// Errors: more than one token where there is a past.
    pub fn forward_after(
        &self,
        past: &mut Past,
        x: &Tensor,
        mask: Option<&Tensor>,
        residual: &Tensor,
    ) -> Result<Tensor> {
        let (q, k, v) = (self.q.forward(x)?, self.k.forward(x)?, self.v.forward(x)?);
        let sight = if x.dim(1) == 1 { Sight::All } else { Sight::Causal };
        let (k, v) = past.append(k, v)?;
        self.finish(&q, &k, &v, sight, mask, residual)
    }

    fn finish(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        sight: Sight,
        mask: Option<&Tensor>,
        residual: &Tensor,
    ) -> Result<Tensor> {
        let seen = match mask {
            Some(mask) => q.masked_attention(k, v, self.heads, None, sight, mask)?,
            None => q.attention(k, v, self.heads, None, sight)?,
        };
        self.out_proj.forward_with(&seen, Activation::None, Some(residual))
    }
}

/// Keys and values of the tokens so far, of one layer: what lets a text grow token by token.
#[derive(Clone, Default)]
pub struct Past(Option<[Tensor; 2]>);

impl Past {
    /// Tokens so far.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |[k, _]| k.dim(1))
    }

    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Of these texts of the batch, in this order.
    ///
    /// Errors: a text beyond the batch.
    pub fn pick(&self, texts: &[usize]) -> Result<Past> {
        let rows: Vec<i64> = texts.iter().map(|&text| text as i64).collect();
        let pick = |all: &Tensor| {
            let &[batch, tokens, width] = all.shape() else { unreachable!("keys have three axes") };
            let picked = all.reshape(&[batch, tokens * width])?.embedding(&rows, &[rows.len()])?;
            picked.reshape(&[rows.len(), tokens, width])
        };
        let both = self.0.as_ref().map(|[k, v]| Ok::<_, crate::error::Error>([pick(k)?, pick(v)?]));
        Ok(Past(both.transpose()?))
    }

    /// Keys and values [batch, tokens, width] behind those so far; all of them.
    fn append(&mut self, k: Tensor, v: Tensor) -> Result<(Tensor, Tensor)> {
        let both = match self.0.take() {
            None => [k, v],
            Some([keys, values]) => [Tensor::concat(&[&keys, &k], 1)?, Tensor::concat(&[&values, &v], 1)?],
        };
        let [k, v] = self.0.insert(both);
        Ok((k.clone(), v.clone()))
    }
}
