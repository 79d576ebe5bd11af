//! Temporal and then spatial filters over EEG, run as one convolution.
//!
//! Nothing, or a batch norm, stands between the first two convolutions of ShallowNet, EEGNet and their kin, so together
//! they are one linear map:
//!
//! ```text
//! W[o, c, t] = sum_f spatial[o, f, c] scale[f] temporal[f, t]
//! b[o]       = spatial bias[o] + sum_f (scale[f] temporal bias[f] + shift[f]) sum_c spatial[o, f, c]
//! ```
//!
//! The image of every filter on every channel, by far the largest of the network, is never made; for 40 filters of 62
//! channels it is 2.6 times less arithmetic, too. Gradients flow through the sums to all weights.
//!
//! What the norm divides by in training, mean and variance of that image, follows from the windows alone:
//!
//! ```text
//! mean[f] = temporal[f] · m + temporal bias[f],  m[t]    = mean of eeg[.., s + t] over items, channels and steps s
//! var[f]  = temporal[f] R temporal[f]ᵀ - (..)²,  R[t, u] = mean of eeg[.., s + t] eeg[.., s + u]
//! ```

use super::{BatchNorm, Weights};
use crate::error::Result;
use crate::ops::{ConvWeight, Epilogue, Window};
use crate::tensor::{DType, Tensor};

/// Sizes of a [`FilterBank`].
#[derive(Clone, Copy, Debug)]
pub struct FilterSizes {
    /// EEG channels.
    pub n_chans: usize,
    /// Temporal filters.
    pub filters: usize,
    /// Samples of a temporal filter.
    pub kernel: usize,
    /// Samples of silence put before and after a window.
    pub padding: [usize; 2],
    /// Spatial filters.
    pub outputs: usize,
    /// Parts that filters and outputs are cut into, each for itself: `filters` where spatial filters are depthwise.
    pub groups: usize,
    /// Whether both convolutions have a bias.
    pub has_bias: bool,
}

impl FilterSizes {
    /// As many spatial filters as temporal ones, each over all of them, with biases: ShallowNet's and its kin's.
    pub fn full(n_chans: usize, filters: usize, kernel: usize) -> FilterSizes {
        FilterSizes { n_chans, filters, kernel, padding: [0, 0], outputs: filters, groups: 1, has_bias: true }
    }
}

/// The filters, as one weight where no statistics of a batch are wanted.
pub struct FilterBank {
    sizes: FilterSizes,
    /// `[groups, filters / groups, kernel]`.
    temporal: Tensor,
    /// `[groups, filters / groups, 1]`.
    temporal_bias: Option<Tensor>,
    norm: Option<BatchNorm>,
    /// `[groups, outputs / groups, channels by fours, filters / groups]`.
    spatial: Tensor,
    spatial_bias: Option<Tensor>,
    dtype: DType,
    whole: Option<Whole>,
}

/// One convolution.
struct Whole {
    weight: ConvWeight,
    bias: Option<Tensor>,
}

impl FilterBank {
    /// `temporal`: `weight [filters, 1, 1, kernel]`, `bias`; `norm`, where there is one: a [`BatchNorm`]'s; `spatial`:
    /// `weight [outputs, filters / groups, n_chans, 1]`, `bias`.
    pub fn load(
        temporal: &Weights,
        norm: Option<&Weights>,
        spatial: &Weights,
        sizes: FilterSizes,
    ) -> Result<FilterBank> {
        let FilterSizes { n_chans, filters, kernel, outputs, groups, has_bias, .. } = sizes;
        let (each, outputs_each) = (filters / groups, outputs / groups);
        let in_time = temporal.tensor("weight", &[filters, 1, 1, kernel])?;
        let in_space = spatial.tensor("weight", &[outputs, each, n_chans, 1])?;
        let in_space = in_space.reshape(&[groups, outputs_each, each, n_chans])?.permute(&[0, 1, 3, 2])?;
        // Channels by fours: kernels then move four values at once.
        let added = n_chans.next_multiple_of(4) - n_chans;
        let bias = |weights: &Weights, shape: &[usize]| {
            let bias = || weights.tensor("bias", &[shape.iter().product()])?.reshape(shape);
            has_bias.then(bias).transpose()
        };
        let mut bank = FilterBank {
            sizes,
            temporal: in_time.reshape(&[groups, each, kernel])?,
            temporal_bias: bias(temporal, &[groups, each, 1])?,
            norm: norm.map(|norm| BatchNorm::load(norm, filters)).transpose()?,
            spatial: in_space.pad(&[(0, 0), (0, 0), (0, added), (0, 0)])?,
            spatial_bias: bias(spatial, &[outputs])?,
            dtype: temporal.dtype(),
            whole: None,
        };
        bank.whole = match &bank.norm {
            None => Some(bank.joined(None)?),
            Some(norm) => norm.running()?.map(|affine| bank.joined(Some(affine))).transpose()?,
        };
        Ok(bank)
    }

    /// [batch, n_chans, n_times] -> [batch, 1, n_times + padding - kernel + 1, outputs].
    pub fn forward(&self, eeg: &Tensor) -> Result<Tensor> {
        let (batch, n_chans, n_times) = (eeg.shape()[0], eeg.dim(1), eeg.dim(0));
        let [before, after] = self.sizes.padding;
        let of_batch = match (&self.whole, &self.norm) {
            (None, Some(norm)) => Some(self.joined(Some(self.of_batch(norm, eeg)?))?),
            _ => None,
        };
        let whole = of_batch.as_ref().or(self.whole.as_ref()).expect("either the norm learns or it does not");
        let channels = self.spatial.dim(1);
        let image = eeg.permute(&[0, 2, 1])?.pad(&[(0, 0), (0, 0), (0, channels - n_chans)])?;
        let window = Window { padding: [0, 0, before, after], ..Window::padded(0) };
        let epilogue = Epilogue { bias: whole.bias.as_ref(), ..Default::default() };
        image.reshape(&[batch, 1, n_times, channels])?.conv2d(&whole.weight, window, epilogue)
    }

    /// Both convolutions and what stands between them: a factor and a shift of each filter.
    fn joined(&self, affine: Option<[Tensor; 2]>) -> Result<Whole> {
        let FilterSizes { filters, kernel, outputs, groups, .. } = self.sizes;
        let (each, channels) = (filters / groups, self.spatial.dim(1));
        let column = |vector: Tensor| vector.reshape(&[groups, each, 1]);
        let (mut temporal, mut bias) = (self.temporal.clone(), self.temporal_bias.clone());
        if let Some([scale, shift]) = affine {
            let (scale, shift) = (column(scale)?, column(shift)?);
            temporal = temporal.mul(&scale)?;
            bias = Some(match bias {
                Some(bias) => bias.mul(&scale)?.add(&shift)?,
                None => shift,
            });
        }
        let rows = self.spatial.reshape(&[groups, outputs / groups * channels, each])?;
        let weight = rows.matmul(&temporal, false)?.reshape(&[outputs, channels, 1, kernel])?;
        let through = |bias: Tensor| self.spatial.sum(&[2])?.matmul(&bias, false)?.reshape(&[outputs]);
        let bias = match (bias.map(through).transpose()?, &self.spatial_bias) {
            (Some(a), Some(b)) => Some(a.add(b)?),
            (a, b) => a.or(b.clone()),
        };
        Ok(Whole { weight: ConvWeight::from_tensor(&weight.cast(self.dtype)?, 1)?, bias })
    }

    /// Factor and shift of each filter by mean and variance of what the temporal filters make of this batch.
    fn of_batch(&self, norm: &BatchNorm, eeg: &Tensor) -> Result<[Tensor; 2]> {
        let FilterSizes { filters, kernel, padding: [before, after], .. } = self.sizes;
        let x = eeg.cast(DType::F32)?.pad(&[(0, 0), (0, 0), (before, after)])?;
        let (length, n_rows) = (x.dim(0), eeg.shape()[0] * eeg.dim(1));
        let steps = length - kernel + 1;
        let by_sample = x.reshape(&[n_rows, length])?.permute(&[1, 0])?;
        let m = by_sample.mean(&[1])?.reshape(&[1, length, 1, 1])?.avg_pool2d([steps, 1], [1, 1])?;
        // A step later is a row and a column further in the product of all samples with all: in rows that are one
        // longer, the next row of the same column.
        let products = by_sample.matmul(&by_sample, true)?.reshape(&[length * length])?;
        let diagonals = products.pad(&[(0, length)])?.reshape(&[1, length, length + 1, 1])?;
        let sums = diagonals.avg_pool2d([steps, 1], [1, 1])?.reshape(&[kernel * (length + 1)])?;
        let sums = sums.narrow(0, 0, kernel * length)?.reshape(&[kernel, length])?.narrow(1, 0, kernel)?;
        let r = sums.scale(1.0 / n_rows as f32, 0.0)?;

        let temporal = self.temporal.reshape(&[filters, kernel])?;
        let mean = temporal.matmul(&m.reshape(&[kernel, 1])?, false)?.reshape(&[filters])?;
        let var = temporal.matmul(&r, false)?.mul(&temporal)?.sum(&[1])?.sub(&mean.square()?)?;
        let mean = match &self.temporal_bias {
            Some(bias) => mean.add(&bias.reshape(&[filters])?)?,
            None => mean,
        };
        norm.of_batch(&mean, &var.reshape(&[filters])?, n_rows * steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Conv2d, Parameters, Precision, Training};
    use crate::testing::{assert_close, gpu, random_from};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn sizes(
        n_chans: usize,
        n: [usize; 3],
        kernel: usize,
        padding: [usize; 2],
        has_bias: bool,
    ) -> FilterSizes {
        let [filters, outputs, groups] = n;
        FilterSizes { n_chans, filters, kernel, padding, outputs, groups, has_bias }
    }

    /// One layer after the other, as the networks are written down.
    fn plain(weights: &Weights, x: &Tensor, has_norm: bool, sizes: FilterSizes) -> Tensor {
        let FilterSizes { n_chans, filters, kernel, padding, outputs, groups, has_bias } = sizes;
        let conv = |name: &str, channels, outputs, kernel, groups, padding: [usize; 2]| {
            let (weights, padding) = (weights.at(name), [0, 0, padding[0], padding[1]]);
            let window = Window { padding, ..Window::padded(0) };
            match has_bias {
                true => Conv2d::load(&weights, channels, outputs, kernel, window).unwrap(),
                false => Conv2d::load_grouped(&weights, channels, outputs, kernel, groups, window).unwrap(),
            }
        };
        let image = x.reshape(&[x.shape()[0], n_chans, x.dim(0), 1]).unwrap();
        let mut y = conv("temporal", 1, filters, [1, kernel], 1, padding).forward(&image).unwrap();
        if has_norm {
            y = BatchNorm::load(&weights.at("norm"), filters).unwrap().forward(&y).unwrap();
        }
        conv("spatial", filters, outputs, [n_chans, 1], groups, [0, 0]).forward(&y).unwrap()
    }

    #[test]
    fn it_is_one_layer_after_the_other() {
        let Some(gpu) = gpu() else { return };
        let cases = [
            (false, sizes(5, [3, 4, 1], 7, [0, 0], true)),
            (true, sizes(5, [3, 4, 1], 7, [0, 0], true)),
            (true, sizes(6, [3, 6, 3], 8, [3, 4], false)),
            (true, sizes(4, [4, 8, 2], 5, [2, 2], false)),
            (true, sizes(1, [1, 2, 1], 23, [0, 0], true)),
            (true, sizes(3, [2, 2, 2], 1, [0, 5], false)),
        ];
        for (has_norm, sizes) in cases {
            let FilterSizes { n_chans, filters, kernel, outputs, groups, has_bias, .. } = sizes;
            let mut named = BTreeMap::new();
            let mut put = |name: &str, shape: &[usize], shift: f32| {
                let values = random_from(named.len() as u64 + 1, shape.iter().product(), 1.0);
                let values: Vec<f32> = values.into_iter().map(|v| v + shift).collect();
                let tensor = Tensor::new(&gpu, shape, &values).unwrap();
                let learns = !name.contains("running");
                named.insert(name.to_string(), if learns { tensor.parameter() } else { tensor });
            };
            put("temporal.weight", &[filters, 1, 1, kernel], 0.0);
            put("spatial.weight", &[outputs, filters / groups, n_chans, 1], 0.0);
            if has_bias {
                put("temporal.bias", &[filters], 0.3);
                put("spatial.bias", &[outputs], 0.0);
            }
            if has_norm {
                for (name, shift) in
                    [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 2.0)]
                {
                    put(&format!("norm.{name}"), &[filters], shift);
                }
            }
            let parameters = Arc::new(Parameters::new(named));
            let x = random_from(90, 3 * n_chans * 31, 1.0).into_iter().map(|v| v + 0.4).collect::<Vec<_>>();
            let x = Tensor::new(&gpu, &[3, n_chans, 31], &x).unwrap();
            let f64s = |x: &Tensor| x.to_vec().unwrap().into_iter().map(f64::from).collect::<Vec<_>>();
            for in_training in [false, true] {
                let what = format!("{sizes:?}, norm {has_norm}, training {in_training}");
                let make = || {
                    let training = Arc::new(Training::new(0, 0));
                    let given = in_training.then_some(&training);
                    let weights = Weights::from_parameters(&gpu, &parameters, Precision::F32, given);
                    (weights, training)
                };
                let ((weights, training), (plain_weights, plain_training)) = (make(), make());
                let norm = weights.at("norm");
                let (temporal, spatial) = (weights.at("temporal"), weights.at("spatial"));
                let bank = FilterBank::load(&temporal, has_norm.then_some(&norm), &spatial, sizes).unwrap();
                let (got, want) = (bank.forward(&x).unwrap(), plain(&plain_weights, &x, has_norm, sizes));
                assert_eq!(got.shape(), want.shape(), "{what}");
                assert_close(&got.to_vec().unwrap(), &f64s(&want), 2e-5, &what);
                let moved = training.take_statistics();
                assert_eq!(moved.is_empty(), !(has_norm && in_training), "{what}");
                for ((name, got), (_, want)) in moved.iter().zip(plain_training.take_statistics()) {
                    assert_close(&got.to_vec().unwrap(), &f64s(&want), 1e-5, &format!("{name}, {what}"));
                }
                let dy = random_from(91, got.len(), 1.0);
                let dy = Tensor::new(&gpu, got.shape(), &dy).unwrap();
                let [got, want] = [got, want].map(|y| y.backward_from(&dy).unwrap());
                for (name, parameter) in parameters.iter().filter(|(_, tensor)| tensor.is_parameter()) {
                    // The norm takes the bias before it away again.
                    if has_norm && in_training && name == "temporal.bias" {
                        continue;
                    }
                    let of =
                        |gradients: &crate::autograd::Gradients| gradients.get(parameter).unwrap().clone();
                    let (got, want) = (of(&got).to_vec().unwrap(), f64s(&of(&want)));
                    assert_close(&got, &want, 1e-4, &format!("{name}, {what}"));
                }
            }
        }
    }
}
