//! Temporal filters and the average pooling after them, run as one convolution.
//!
//! The mean of neighbouring outputs of a filter is the output of the filter's own running sum:
//!
//! ```text
//! W[o, j] = 1 / pool · sum_i temporal[o, i] [i <= j < i + pool],  j < kernel + pool - 1, every `stride` samples
//! ```
//!
//! Samples of a stride lie in the channels of one image, so that the convolution goes step by step. The image of every
//! filter on every channel at every sample, by far the largest of TSConv, is never made.

use super::Weights;
use crate::error::Result;
use crate::ops::{ConvWeight, Epilogue, Window};
use crate::tensor::Tensor;

/// The filters and the pooling as one weight.
pub struct PooledFilters {
    weight: ConvWeight,
    bias: Tensor,
    stride: usize,
}

impl PooledFilters {
    /// `weight [filters, 1, 1, kernel]` and `bias`, with a mean over `pool` outputs every `stride`.
    pub fn load(
        weights: &Weights,
        filters: usize,
        kernel: usize,
        [pool, stride]: [usize; 2],
    ) -> Result<PooledFilters> {
        let temporal = weights.tensor("weight", &[filters, 1, 1, kernel])?.reshape(&[filters, kernel])?;
        // Zeros after the last tap fill the last stride.
        let taps = (kernel + pool - 1).div_ceil(stride);
        let share = 1.0 / pool as f32;
        let means: Vec<f32> = (0..kernel)
            .flat_map(|i| {
                (0..taps * stride).map(move |j| if (i..i + pool).contains(&j) { share } else { 0.0 })
            })
            .collect();
        let means = Tensor::new(weights.gpu(), &[kernel, taps * stride], &means)?.cast(temporal.dtype())?;
        let weight =
            temporal.matmul(&means, false)?.reshape(&[filters, taps, stride])?.permute(&[0, 2, 1])?;
        Ok(PooledFilters {
            weight: ConvWeight::from_tensor(&weight.reshape(&[filters, stride, 1, taps])?, 1)?,
            bias: weights.tensor("bias", &[filters])?,
            stride,
        })
    }

    /// `[batch, n_chans, n_times] -> [batch, n_chans, steps, filters]`, of which the first `steps` are asked for.
    pub fn forward(&self, eeg: &Tensor, steps: usize) -> Result<Tensor> {
        let (batch, n_chans, n_times) = (eeg.shape()[0], eeg.dim(1), eeg.dim(0));
        let length = n_times.next_multiple_of(self.stride);
        let image = eeg.pad(&[(0, 0), (0, 0), (0, length - n_times)])?;
        let image = image.reshape(&[batch * n_chans, 1, length / self.stride, self.stride])?;
        let epilogue = Epilogue { bias: Some(&self.bias), ..Default::default() };
        let y = image.conv2d(&self.weight, Window::padded(0), epilogue)?;
        let filters = y.dim(0);
        y.narrow(2, 0, steps)?.reshape(&[batch, n_chans, steps, filters])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Conv2d, Parameters, Precision};
    use crate::testing::{assert_close, gpu, random_from};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[test]
    fn it_is_the_convolution_and_the_pooling() {
        let Some(gpu) = gpu() else { return };
        for (n_times, kernel, pool) in
            [(200, 25, [51, 5]), (83, 25, [51, 5]), (31, 7, [5, 3]), (12, 4, [5, 4])]
        {
            let make = |seed, shape: &[usize]| {
                Tensor::new(&gpu, shape, &random_from(seed, shape.iter().product(), 1.0)).unwrap()
            };
            let named = [("weight", make(1, &[6, 1, 1, kernel])), ("bias", make(2, &[6]))];
            let named: BTreeMap<String, Tensor> =
                named.into_iter().map(|(name, tensor)| (name.to_string(), tensor.parameter())).collect();
            let parameters = Arc::new(Parameters::new(named));
            let weights = Weights::from_parameters(&gpu, &parameters, Precision::F32, None);
            let x = make(3, &[2, 3, n_times]);
            let plain = Conv2d::load(&weights, 1, 6, [1, kernel], Window::padded(0)).unwrap();
            let want = plain.forward(&x.reshape(&[2, 3, n_times, 1]).unwrap()).unwrap();
            let want = want.avg_pool2d([1, pool[0]], [1, pool[1]]).unwrap();
            let folded = PooledFilters::load(&weights, 6, kernel, pool).unwrap();
            let got = folded.forward(&x, want.dim(1)).unwrap();
            assert_eq!(got.shape(), want.shape());
            let f64s = |x: &Tensor| x.to_vec().unwrap().into_iter().map(f64::from).collect::<Vec<_>>();
            assert_close(&got.to_vec().unwrap(), &f64s(&want), 1e-5, "outputs");
            let dy = make(4, want.shape());
            let [got, want] = [got, want].map(|y| y.backward_from(&dy).unwrap());
            for name in ["weight", "bias"] {
                let of = |gradients: &crate::autograd::Gradients| {
                    gradients.get(parameters.get(name).unwrap()).unwrap().clone()
                };
                assert_close(&of(&got).to_vec().unwrap(), &f64s(&of(&want)), 1e-4, name);
            }
        }
    }
}
