//! 2-D convolution layer on channels-last images: `weight [outputs, channels / groups, ky, kx]`, `bias [outputs]`.

use super::Weights;
use crate::error::Result;
use crate::ops::{ConvWeight, Epilogue, Window};
use crate::tensor::Tensor;

/// A convolution with its window.
pub struct Conv2d {
    weight: ConvWeight,
    bias: Option<Tensor>,
    window: Window,
}

impl Conv2d {
    /// `weight` and `bias`.
    pub fn load(
        weights: &Weights,
        channels: usize,
        outputs: usize,
        kernel: [usize; 2],
        window: Window,
    ) -> Result<Conv2d> {
        let bias = Some(weights.tensor("bias", &[outputs])?);
        let weight = weights.convolution("weight", [outputs, channels, kernel[0], kernel[1]], 1)?;
        Ok(Conv2d { weight, bias, window })
    }

    /// A 3-D convolution whose steps are its kernel, `weight [outputs, channels, kernel t, kernel y, kernel x]`: frames
    /// of a step lie in the channels of one image, channel by channel.
    pub fn load_tubelets(
        weights: &Weights,
        channels: usize,
        outputs: usize,
        kernel: [usize; 3],
    ) -> Result<Conv2d> {
        let bias = Some(weights.tensor("bias", &[outputs])?);
        let [frames, ky, kx] = kernel;
        let weight = weights.convolution_3d("weight", [outputs, channels, frames, ky, kx])?;
        Ok(Conv2d { weight, bias, window: Window { stride: [ky, kx], ..Window::padded(0) } })
    }

    /// `weight` alone, in groups of channels.
    pub fn load_grouped(
        weights: &Weights,
        channels: usize,
        outputs: usize,
        kernel: [usize; 2],
        groups: usize,
        window: Window,
    ) -> Result<Conv2d> {
        let shape = [outputs, channels / groups, kernel[0], kernel[1]];
        Ok(Conv2d { weight: weights.convolution("weight", shape, groups)?, bias: None, window })
    }

    /// [batch, height, width, channels] -> [batch, out height, out width, outputs].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, None)
    }

    /// As `forward`, plus a residual of the output's shape.
    pub fn forward_with(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        x.conv2d(
            &self.weight,
            self.window,
            Epilogue { bias: self.bias.as_ref(), residual, ..Default::default() },
        )
    }

    /// As `forward`, with `[groups, outputs]` in the place of the bias, one row for every `batch / groups` images.
    pub fn forward_shifted(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        x.conv2d(&self.weight, self.window, Epilogue { bias: Some(bias), ..Default::default() })
    }
}
