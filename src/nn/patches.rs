//! Images to tokens, as vision transformers do it: patches through a convolution of their size, behind a class token,
//! plus positions.

use super::Conv2d;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The parts, which every architecture keeps under names of its own.
pub struct Patches {
    /// Its kernel is its stride.
    pub projection: Conv2d,
    /// [1, 1, width]
    pub class: Tensor,
    /// [1, 1 + patches, width]
    pub positions: Tensor,
}

impl Patches {
    /// [batch, height, width, channels] -> [batch, 1 + patches, width], patches row by row. An image of fewer patches
    /// takes the first positions.
    ///
    /// Errors: more patches than positions, another number of channels.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let patches = self.projection.forward(images)?;
        let &[batch, rows, columns, width] = patches.shape() else {
            unreachable!("convolutions have four axes")
        };
        let (tokens, most) = (1 + rows * columns, self.positions.dim(1));
        if tokens > most {
            let detail = format!("{rows} x {columns} patches, there are positions for {}", most - 1);
            return Err(Error::shape("patches", detail));
        }
        let class = self.class.cast(patches.dtype())?.expand(&[batch, 1, width])?;
        let x = Tensor::concat(&[&class, &patches.reshape(&[batch, rows * columns, width])?], 1)?;
        match tokens == most {
            true => x.add(&self.positions),
            false => x.add(&self.positions.narrow(1, 0, tokens)?),
        }
    }
}
