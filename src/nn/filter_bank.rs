//! Temporal and then spatial filters over EEG, run as one convolution.
//!
//! Nothing stands between the first two convolutions of ShallowNet and its kin, so together they are one linear map:
//!
//! ```text
//! W[o, c, t] = sum_f spatial[o, f, c] temporal[f, t],  b[o] = spatial bias[o] + sum_f temporal bias[f] sum_c spatial[o, f, c]
//! ```
//!
//! For 40 filters of 62 channels that is 2.6 times less arithmetic, and the image of every filter on every channel, by
//! far the largest of the network, is never made. Gradients flow through the sum to both weights.

use super::Weights;
use crate::error::Result;
use crate::ops::{ConvWeight, Epilogue, Window};
use crate::tensor::Tensor;

/// The filters as one weight.
pub struct FilterBank {
    weight: ConvWeight,
    bias: Tensor,
    channels: usize,
}

impl FilterBank {
    /// `temporal`: `weight [filters, 1, 1, kernel]`, `bias`; `spatial`: `weight [outputs, filters, n_chans, 1]`, `bias`.
    pub fn load(
        temporal: &Weights,
        spatial: &Weights,
        [filters, outputs]: [usize; 2],
        kernel: usize,
        n_chans: usize,
    ) -> Result<FilterBank> {
        let in_time = temporal.tensor("weight", &[filters, 1, 1, kernel])?.reshape(&[filters, kernel])?;
        let time_bias = temporal.tensor("bias", &[filters])?.reshape(&[filters, 1])?;
        let in_space = spatial.tensor("weight", &[outputs, filters, n_chans, 1])?;
        let in_space = in_space.reshape(&[outputs, filters, n_chans])?.permute(&[0, 2, 1])?;
        // Channels by fours: kernels then move four values at once.
        let channels = n_chans.next_multiple_of(4);
        let rows = in_space.pad(&[(0, 0), (0, channels - n_chans), (0, 0)])?;
        let weight = rows.reshape(&[outputs * channels, filters])?.matmul(&in_time, false)?;
        let bias = in_space.sum(&[1])?.matmul(&time_bias, false)?.reshape(&[outputs])?;
        Ok(FilterBank {
            weight: ConvWeight::from_tensor(&weight.reshape(&[outputs, channels, 1, kernel])?, 1)?,
            bias: bias.add(&spatial.tensor("bias", &[outputs])?)?,
            channels,
        })
    }

    /// [batch, n_chans, n_times] -> [batch, 1, n_times - kernel + 1, outputs].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        let (batch, n_chans, n_times) = (eeg.shape()[0], eeg.dim(1), eeg.dim(0));
        let image = eeg.permute(&[0, 2, 1])?.pad(&[(0, 0), (0, 0), (0, self.channels - n_chans)])?;
        let epilogue = Epilogue { bias: Some(&self.bias), ..Default::default() };
        image.reshape(&[batch, 1, n_times, self.channels])?.conv2d(&self.weight, Window::padded(0), epilogue)
    }
}
