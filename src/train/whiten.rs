//! Latents that diffusion can begin from: whitened, without another model.
//!
//! An autoencoder's channels say much the same: a few directions hold nearly all variance, and details lie in the rest,
//! far below the noise of most of a schedule. With the lower triangle L of their covariance, L Lᵀ = Σ, over positions of
//! training frames,
//!
//! ```text
//! latents' = L⁻¹ (latents - mean)      latents = L latents' + mean
//! ```
//!
//! are of mean 0, variance 1 and uncorrelated. Both are linear over channels, so that `quant_conv` takes the first and
//! `post_quant_conv` the second, and pixels come back as before. Variances of the posterior cannot go the same way, for
//! the encoder gives their logarithms: each channel keeps its mean over the frames.

use super::checkpoint::Values;
use crate::error::{Error, Result};

/// Least variance of a direction, by the mean of all: nothing is made louder than this.
const LEAST: f64 = 1e-3;

/// What latents are like over frames: sums over positions.
pub struct Moments {
    n: f64,
    sum: Vec<f64>,
    /// `[channels, channels]`.
    products: Vec<f64>,
    /// Of the posterior.
    variances: Vec<f64>,
}

impl Moments {
    /// Of nothing yet.
    pub fn new(channels: usize) -> Moments {
        Moments {
            n: 0.0,
            sum: vec![0.0; channels],
            products: vec![0.0; channels * channels],
            variances: vec![0.0; channels],
        }
    }

    /// These positions, too: means and logarithms of variances, `[positions, channels]`.
    pub fn add(&mut self, means: &[f32], logvars: &[f32]) {
        let c = self.sum.len();
        for (mean, logvar) in means.chunks_exact(c).zip(logvars.chunks_exact(c)) {
            self.n += 1.0;
            for i in 0..c {
                let value = f64::from(mean[i]);
                self.sum[i] += value;
                self.variances[i] += f64::from(logvar[i]).exp();
                let products = &mut self.products[i * c..=i * c + i];
                for (product, &other) in products.iter_mut().zip(mean) {
                    *product += value * f64::from(other);
                }
            }
        }
    }

    /// Mean, and L row by row.
    ///
    /// Errors: [`Error::Shape`] when all latents are alike, from which nothing comes back.
    fn spread(&self) -> Result<(Vec<f64>, Vec<f64>)> {
        let c = self.sum.len();
        let mean: Vec<f64> = self.sum.iter().map(|sum| sum / self.n).collect();
        let covariance = |i: usize, j: usize| self.products[i * c + j] / self.n - mean[i] * mean[j];
        let all = (0..c).map(|i| covariance(i, i)).sum::<f64>() / c as f64;
        if !all.is_finite() || all < 1e-12 {
            let detail = format!("latents have a variance of {all}: they hold nothing");
            return Err(Error::shape("vae", detail));
        }
        let mut l = vec![0.0; c * c];
        for i in 0..c {
            for j in 0..=i {
                let rest = covariance(i, j) - (0..j).map(|k| l[i * c + k] * l[j * c + k]).sum::<f64>();
                l[i * c + j] = if i == j { rest.max(LEAST * all).sqrt() } else { rest / l[j * c + j] };
            }
        }
        Ok((mean, l))
    }

    /// Weights of an AutoencoderKL whose latents are these -> the same autoencoder of whitened ones.
    ///
    /// Errors: [`Error::Shape`] without `quant_conv` and `post_quant_conv` of as many channels, or when all latents are
    /// alike.
    pub fn whiten(&self, values: &mut Values) -> Result<()> {
        let c = self.sum.len();
        let (mean, l) = self.spread()?;
        let solve = |column: &mut [f64]| {
            for i in 0..c {
                let rest = column[i] - (0..i).map(|k| l[i * c + k] * column[k]).sum::<f64>();
                column[i] = rest / l[i * c + i];
            }
        };
        // Columns of the encoder's last matrix, its bias as one more.
        let mut weight = take(values, "quant_conv.weight", 4 * c * c)?;
        let mut bias = take(values, "quant_conv.bias", 2 * c)?;
        let inputs = 2 * c;
        for input in 0..inputs {
            let mut column: Vec<f64> = (0..c).map(|i| weight[i * inputs + input]).collect();
            solve(&mut column);
            (0..c).for_each(|i| weight[i * inputs + input] = column[i]);
        }
        let mut column: Vec<f64> = (0..c).map(|i| bias[i] - mean[i]).collect();
        solve(&mut column);
        bias[..c].copy_from_slice(&column);
        // Variance of L⁻¹ x, whose channels have these variances.
        let mut variances = vec![0.0; c];
        for k in 0..c {
            let mut unit: Vec<f64> = (0..c).map(|i| f64::from(u8::from(i == k))).collect();
            solve(&mut unit);
            let own = self.variances[k] / self.n;
            (0..c).for_each(|i| variances[i] += unit[i] * unit[i] * own);
        }
        weight[c * inputs..].fill(0.0);
        (0..c).for_each(|i| bias[c + i] = variances[i].ln());
        put(values, "quant_conv.weight", &weight);
        put(values, "quant_conv.bias", &bias);

        let weight = take(values, "post_quant_conv.weight", c * c)?;
        let mut bias = take(values, "post_quant_conv.bias", c)?;
        let mut turned = vec![0.0; c * c];
        for row in 0..c {
            let own = &weight[row * c..(row + 1) * c];
            bias[row] += own.iter().zip(&mean).map(|(w, m)| w * m).sum::<f64>();
            for j in 0..c {
                turned[row * c + j] = (j..c).map(|k| own[k] * l[k * c + j]).sum();
            }
        }
        put(values, "post_quant_conv.weight", &turned);
        put(values, "post_quant_conv.bias", &bias);
        Ok(())
    }
}

fn take(values: &Values, name: &str, n: usize) -> Result<Vec<f64>> {
    match values.get(name) {
        Some((_, found)) if found.len() == n => Ok(found.iter().map(|&v| f64::from(v)).collect()),
        found => {
            let got = found.map_or("none".into(), |(shape, _)| format!("{shape:?}"));
            Err(Error::shape("vae", format!("wanted a '{name}' of {n} values, got {got}")))
        }
    }
}

fn put(values: &mut Values, name: &str, new: &[f64]) {
    if let Some((_, old)) = values.get_mut(name) {
        *old = new.iter().map(|&v| v as f32).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::super::vae::{Sizes, first_parameters, model};
    use super::super::{place, read_back};
    use super::*;
    use crate::nn::{Parameters, Precision, Weights};
    use crate::tensor::Tensor;
    use crate::testing::{assert_close, gpu, random_from};
    use std::sync::Arc;

    #[test]
    fn latents_become_white_and_pixels_stay() {
        let Some(gpu) = gpu() else { return };
        let sizes = Sizes {
            block_out_channels: vec![8, 8],
            layers_per_block: 1,
            latent_channels: 3,
            norm_num_groups: 4,
            mid_block_add_attention: false,
        };
        let config = sizes.config([8, 12], 1.0).unwrap();
        let first = first_parameters(&gpu, &config, 3).unwrap();
        let mut values = read_back(first.iter()).unwrap();
        // Off the middle, and one channel much like another.
        values.get_mut("quant_conv.bias").unwrap().1[..3].copy_from_slice(&[2.0, -1.0, 0.5]);
        let weight = &mut values.get_mut("quant_conv.weight").unwrap().1;
        (0..6).for_each(|input| weight[6 + input] = 0.9 * weight[input] + 0.1 * weight[6 + input]);
        let pixels = Tensor::new(&gpu, &[5, 8, 12, 3], &random_from(1, 1440, 1.0)).unwrap();
        let run = |values: &Values| -> [Vec<f32>; 3] {
            let parameters: Arc<Parameters> = Arc::new(place(&gpu, values, &[]).unwrap());
            let weights = Weights::from_parameters(&gpu, &parameters, Precision::F32, None);
            let vae = model(&weights, &config).unwrap();
            let (mean, logvar) = vae.encode(&pixels).unwrap();
            let back = vae.decode(&mean).unwrap();
            [mean, logvar, back].map(|tensor| tensor.to_vec().unwrap())
        };
        let moments = |means: &[f32], logvars: &[f32]| {
            let mut moments = Moments::new(3);
            moments.add(means, logvars);
            moments
        };
        let [mean, logvar, back] = run(&values);
        moments(&mean, &logvar).whiten(&mut values).unwrap();
        let [white, variance, same] = run(&values);
        let wide: Vec<f64> = back.iter().map(|&v| f64::from(v)).collect();
        assert_close(&same, &wide, 1e-4, "pixels");
        let (mean, l) = moments(&white, &variance).spread().unwrap();
        for i in 0..3 {
            assert!(mean[i].abs() < 1e-4, "{mean:?}");
            for j in 0..3 {
                let want = f64::from(u8::from(i == j));
                assert!((l[3 * i + j] - want).abs() < 1e-3, "{l:?}");
            }
        }
        assert!(variance.chunks(3).all(|one| one == &variance[..3]), "the same everywhere");
    }

    #[test]
    fn variances_go_along_and_dead_channels_stay_quiet() {
        // Channel 1 is twice channel 0 and a little of its own; channel 2 says nothing.
        let means: Vec<f32> = random_from(2, 4000, 1.0)
            .chunks(2)
            .flat_map(|pair| [pair[0], 2.0 * pair[0] + 0.5 * pair[1], 4.0])
            .collect();
        let logvars = vec![0.0; means.len()];
        let mut moments = Moments::new(3);
        moments.add(&means, &logvars);
        let matrix = |rows: usize, columns: usize| {
            let one = |at: usize| f32::from(u8::from(at / columns == at % columns));
            (vec![rows, columns, 1, 1], (0..rows * columns).map(one).collect())
        };
        let mut values: Values = [
            ("quant_conv.weight".to_string(), matrix(6, 6)),
            ("quant_conv.bias".to_string(), (vec![6], vec![0.0; 6])),
            ("post_quant_conv.weight".to_string(), matrix(3, 3)),
            ("post_quant_conv.bias".to_string(), (vec![3], vec![0.0; 3])),
        ]
        .into();
        moments.whiten(&mut values).unwrap();
        let l: Vec<f64> = values["post_quant_conv.weight"].1.iter().map(|&v| f64::from(v)).collect();
        assert!((l[3] / l[0] - 2.0).abs() < 0.05 && l[1] == 0.0 && l[4] < 0.6 * l[0], "{l:?}");
        let all = (0..3).map(|i| (0..=i).map(|j| l[3 * i + j].powi(2)).sum::<f64>()).sum::<f64>() / 3.0;
        assert!(l[8] * l[8] < 1.1 * LEAST * all, "{l:?}");
        assert_eq!(values["post_quant_conv.bias"].1[2], 4.0);
        // L⁻¹ by hand, row by row.
        let inverse = [[1.0 / l[0], 0.0], [-l[3] / l[0] / l[4], 1.0 / l[4]]];
        for (row, parts) in inverse.iter().enumerate() {
            let want: f64 = parts.iter().map(|part| part * part).sum::<f64>().ln();
            let got = f64::from(values["quant_conv.bias"].1[3 + row]);
            assert!((got - want).abs() < 1e-4, "{got} {want}");
        }
        assert!(values["quant_conv.weight"].1[18..].iter().all(|&v| v == 0.0));
        values.remove("post_quant_conv.bias");
        assert!(moments.whiten(&mut values).unwrap_err().to_string().contains("post_quant_conv.bias"));
        assert!(Moments::new(2).whiten(&mut values).is_err(), "of nothing");
    }
}
