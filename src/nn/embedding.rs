//! Table of embeddings: `weight [n, width]`.

use super::Weights;
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// Rows by id.
pub struct Embedding {
    weight: Tensor,
    dtype: DType,
}

impl Embedding {
    /// `weight [n, width]`.
    pub fn load(weights: &Weights, n: usize, width: usize) -> Result<Embedding> {
        Ok(Embedding { weight: weights.table("weight", [n, width])?, dtype: weights.dtype() })
    }

    /// ids of `shape` -> [shape.., width].
    ///
    /// Errors: an id outside the table.
    pub fn forward(&self, ids: &[i64], shape: &[usize]) -> Result<Tensor> {
        self.weight.embedding(ids, shape)?.cast(self.dtype)
    }
}
