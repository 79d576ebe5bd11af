//! One layer of a transformer: attention and a feed-forward, each with a residual and a norm, before it (ViT, OPT) or
//! after it (BERT, OPT-350m). Every architecture fills it under names of its own.

use super::{LayerNorm, Linear, MultiheadAttention, Past};
use crate::error::Result;
use crate::ops::{Activation, Sight};
use crate::tensor::Tensor;

/// A layer's parts.
pub struct TransformerLayer {
    /// Among the tokens themselves.
    pub attention: MultiheadAttention,
    /// Its norm.
    pub attention_norm: LayerNorm,
    /// To a context, with its norm.
    pub cross: Option<(MultiheadAttention, LayerNorm)>,
    /// Feed-forward, the way in.
    pub fc1: Linear,
    /// Feed-forward, the way out.
    pub fc2: Linear,
    /// Of the feed-forward.
    pub feed_forward_norm: LayerNorm,
    /// Between its two.
    pub activation: Activation,
    /// Norms come before, not after.
    pub norm_first: bool,
}

impl TransformerLayer {
    /// x [batch, tokens, width] -> the same; `mask [batch, tokens]` is 0 where a token is hidden.
    pub fn forward(&self, x: &Tensor, sight: Sight, mask: Option<&Tensor>) -> Result<Tensor> {
        let x = self.attend(x, |x, residual| self.attention.forward_masked(x, x, sight, mask, residual))?;
        self.feed_forward(&x)
    }

    /// The same with a context [batch, keys, context width] for the layers that look at one, after their own tokens;
    /// `mask [batch, keys]` hides parts of the context.
    pub fn forward_across(&self, x: &Tensor, context: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let mut x = self.attend(x, |x, residual| self.attention.forward(x, x, Sight::All, residual))?;
        if let Some((attention, norm)) = &self.cross {
            let look = |x: &Tensor, residual: &Tensor| {
                attention.forward_masked(x, context, Sight::All, mask, residual)
            };
            x = self.around(&x, norm, look)?;
        }
        self.feed_forward(&x)
    }

    /// Tokens behind those of `past`, each of which sees what came before it; the mask is of all tokens so far.
    pub fn forward_after(&self, past: &mut Past, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let x = self.attend(x, |x, residual| self.attention.forward_after(past, x, mask, residual))?;
        self.feed_forward(&x)
    }

    fn attend(&self, x: &Tensor, f: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
        self.around(x, &self.attention_norm, f)
    }

    fn feed_forward(&self, x: &Tensor) -> Result<Tensor> {
        self.around(x, &self.feed_forward_norm, |x, residual| {
            let h = self.fc1.forward_with(x, self.activation, None)?;
            self.fc2.forward_with(&h, Activation::None, Some(residual))
        })
    }

    /// `f(what it reads, the residual)` with the norm on its side.
    fn around(
        &self,
        x: &Tensor,
        norm: &LayerNorm,
        f: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if self.norm_first { f(&norm.forward(x)?, x) } else { norm.forward(&f(x, x)?) }
    }
}
