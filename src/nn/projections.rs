//! Linear layers that read the same x: queries, keys and values.

use super::{Linear, Weights};
use crate::error::Result;
use crate::ops::Packed;
use crate::tensor::Tensor;

/// `N` linear layers of equal sizes. One product where their weights come from a file, which stand side by side then;
/// one each where they learn, and may have adapters.
pub enum Projections<const N: usize> {
    /// Weights `[N * outputs, inputs]`, biases `[N * outputs]`.
    Stacked(Packed, Option<Tensor>),
    /// As they are.
    Apart([Linear; N]),
}

impl<const N: usize> Projections<N> {
    /// `NAME.weight [outputs, inputs]` of each, and `NAME.bias [outputs]` where there is a `bias`.
    pub fn load(
        weights: &Weights,
        names: [&str; N],
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Projections<N>> {
        let Some(weight) = weights.stacked(&names.map(|name| format!("{name}.weight")), [outputs, inputs])?
        else {
            let load = if bias { Linear::load } else { Linear::load_without_bias };
            let layers: Vec<Linear> =
                names.iter().map(|name| load(&weights.at(name), inputs, outputs)).collect::<Result<_>>()?;
            return Ok(Projections::Apart(
                layers.try_into().unwrap_or_else(|_| unreachable!("one for each name")),
            ));
        };
        let biases = || {
            let each = names.iter().map(|name| weights.at(name).tensor("bias", &[outputs]));
            let each = each.collect::<Result<Vec<_>>>()?;
            Tensor::concat(&each.iter().collect::<Vec<_>>(), 0)
        };
        Ok(Projections::Stacked(weight, bias.then(biases).transpose()?))
    }

    /// [.., inputs] -> `N` times [.., outputs].
    pub fn forward(&self, x: &Tensor) -> Result<[Tensor; N]> {
        let all = match self {
            Projections::Stacked(weight, bias) => x.linear_stacked(weight, bias.as_ref(), N)?,
            Projections::Apart(layers) => {
                layers.iter().map(|layer| layer.forward(x)).collect::<Result<_>>()?
            }
        };
        Ok(all.try_into().unwrap_or_else(|_| unreachable!("as many as there are layers")))
    }
}
