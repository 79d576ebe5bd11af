//! Training an autoencoder on frames of clips.
//!
//! ```text
//! pixels -> mean, logvar -> mean + exp(logvar / 2) noise -> pixels'     loss = |pixels' - pixels| + w KL
//! ```
//!
//! Both parts are means, the first over pixels, the second over latents. At the end latents are whitened
//! ([`Moments::whiten`]), so that diffusion begins at variance 1 in every direction.
//!
//! Kingma and Welling 2013; Rombach et al. 2022, section G (without their adversarial part).

use super::fit::stream;
use super::whiten::Moments;
use crate::data::Clips;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{Config, Halves, Vae, VaeConfig};
use crate::nn::{self, Parameters, Weights, loss};
use crate::tensor::{DType, Tensor};
use serde_json::json;

/// Sizes of a small autoencoder, by their names in diffusers' config.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    /// Channels of each level; every level but the last halves height and width.
    pub block_out_channels: Vec<usize>,
    /// Resnets of a level going in; one more coming out.
    pub layers_per_block: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Groups of every GroupNorm.
    pub norm_num_groups: usize,
    /// Whether the middle has an attention.
    pub mid_block_add_attention: bool,
}

impl Sizes {
    /// diffusers' config for frames of this size.
    ///
    /// Errors: [`Error::Setting`] for sizes that no autoencoder has, or that the frames do not divide by.
    pub fn config(&self, [height, width]: [usize; 2], scaling_factor: f64) -> Result<Config> {
        let n = self.block_out_channels.len();
        let config = json!({
            "_class_name": "AutoencoderKL",
            "act_fn": "silu",
            "block_out_channels": self.block_out_channels,
            "down_block_types": vec!["DownEncoderBlock2D"; n],
            "in_channels": 3,
            "latent_channels": self.latent_channels,
            "layers_per_block": self.layers_per_block,
            "mid_block_add_attention": self.mid_block_add_attention,
            "norm_num_groups": self.norm_num_groups,
            "out_channels": 3,
            "sample_size": height.max(width),
            "scaling_factor": scaling_factor,
            "up_block_types": vec!["UpDecoderBlock2D"; n],
        });
        let config = Config::from_json("config.json", config.to_string().as_bytes())?;
        let sizes = VaeConfig::new(&config).map_err(|error| match error {
            Error::Format { detail, .. } => Error::setting("autoencoder", detail),
            other => other,
        })?;
        let counts = [self.layers_per_block, self.latent_channels];
        if sizes.block_out_channels.contains(&0) || counts.contains(&0) || n > 8 {
            return Err(Error::setting("autoencoder", "wanted 1 to 8 levels, and no size of 0"));
        }
        let scale = sizes.downscale();
        if height % scale != 0 || width % scale != 0 {
            let detail = format!(
                "{n} levels divide height and width by {scale}, frames are {width} x {height}; take fewer levels, or make \
                 the clips again at another size"
            );
            return Err(Error::setting("block-out-channels", detail));
        }
        Ok(config)
    }
}

/// PyTorch's first weights of an autoencoder, on the device.
///
/// Errors: [`Error::Format`] for a config it cannot have; [`Error::Device`].
pub fn first_parameters(gpu: &Gpu, config: &Config, seed: u64) -> Result<Parameters> {
    let sizes = VaeConfig::new(config)?;
    let wanted = nn::wanted(|weights| Vae::load(weights, &sizes, Halves::Both))?;
    super::place(gpu, &nn::initial(&wanted, seed), &[])
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Mean absolute difference of pixels, not mean square.
    pub l1: bool,
    /// Weight of the KL divergence from N(0, 1).
    pub kl_weight: f64,
}

impl Objective {
    /// The loss of pixels `[frames, height, width, 3]` in [-1, 1]; `number` of the micro-batch and `seed` draw the
    /// posterior's sample.
    ///
    /// Errors: those of the model.
    pub fn loss(&self, vae: &Vae, pixels: &Tensor, seed: u64, number: u64) -> Result<Tensor> {
        let (mean, logvar) = vae.encode(&pixels.cast(vae.dtype())?)?;
        let (mean, logvar) = (mean.cast(DType::F32)?, logvar.cast(DType::F32)?);
        let noise = Tensor::normal(pixels.gpu(), mean.shape(), seed, stream(number, 0))?;
        let latents = mean.add(&logvar.scale(0.5, 0.0)?.exp()?.mul(&noise)?)?;
        let decoded = vae.decode(&latents.cast(vae.dtype())?)?.cast(DType::F32)?;
        let axes = [0, 1, 2, 3];
        let reconstruction = match self.l1 {
            // |d| = relu(d) + relu(-d)
            true => {
                let d = decoded.sub(pixels)?;
                d.relu()?.add(&d.scale(-1.0, 0.0)?.relu()?)?.mean(&axes)?
            }
            false => loss::mse(&decoded, pixels)?,
        };
        // mean² + variance - 1 - log variance, halved
        let kl = mean.square()?.add(&logvar.exp()?)?.sub(&logvar)?.scale(0.5, -0.5)?.mean(&axes)?;
        reconstruction.add(&kl.scale(self.kl_weight as f32, 0.0)?)
    }
}

/// The model of these weights.
///
/// Errors: those of [`Vae::load`].
pub fn model(weights: &Weights, config: &Config) -> Result<Vae> {
    Vae::load(weights, &VaeConfig::new(config)?, Halves::Both)
}

/// Frames of clips as the models take them: `[frames, height, width, 3]` in [-1, 1], one frame of each clip of
/// `chosen` (block, number, frame).
///
/// Errors: as [`Clips::clip`].
pub fn pixels(gpu: &Gpu, clips: &Clips, chosen: &[(usize, usize, usize)]) -> Result<Tensor> {
    let [_, height, width] = clips.shape();
    let size = height * width * 3;
    let mut values = Vec::with_capacity(chosen.len() * size);
    let mut last: Option<((usize, usize), Vec<u8>)> = None;
    for &(block, number, frame) in chosen {
        if last.as_ref().is_none_or(|(known, _)| *known != (block, number)) {
            last = Some(((block, number), clips.clip(block, number)?));
        }
        let (_, bytes) = last.as_ref().expect("read just above");
        values.extend(bytes[frame * size..(frame + 1) * size].iter().map(|&v| from_byte(v)));
    }
    Tensor::new(gpu, &[chosen.len(), height, width, 3], &values)
}

/// 0 to 255 -> [-1, 1], as the diffusion fine-tune has it: v / 127.5 - 1.
pub fn from_byte(value: u8) -> f32 {
    f32::from(value) / 127.5 - 1.0
}

/// Every frame of these clips.
pub fn frames(clips: &Clips, places: &[(usize, usize)]) -> Vec<(usize, usize, usize)> {
    let n = clips.shape()[0];
    places.iter().flat_map(|&(block, number)| (0..n).map(move |frame| (block, number, frame))).collect()
}

/// Up to `most` of these, evenly spread.
pub fn spread<T: Copy>(all: &[T], most: usize) -> Vec<T> {
    let n = most.min(all.len());
    (0..n).map(|at| all[at * all.len() / n]).collect()
}

/// Frames through the autoencoder at a time while nothing learns.
const TOGETHER: usize = 16;

/// Mean square error of what comes back of frames, by the posterior's mean, and the PSNR in dB of 8-bit pixels it makes.
///
/// Errors: those of the model and of [`pixels`].
pub fn reconstruction(
    vae: &Vae,
    gpu: &Gpu,
    clips: &Clips,
    chosen: &[(usize, usize, usize)],
) -> Result<[f64; 2]> {
    let mut sum = 0.0;
    for some in chosen.chunks(TOGETHER) {
        let pixels = pixels(gpu, clips, some)?;
        let back = vae.decode(&vae.encode(&pixels.cast(vae.dtype())?)?.0)?.cast(DType::F32)?;
        let error = loss::mse(&back.clamp(-1.0, 1.0)?, &pixels)?;
        sum += f64::from(error.to_vec()?[0]) * some.len() as f64;
    }
    let mse = sum / chosen.len().max(1) as f64;
    // Pixels span 2 here.
    Ok([mse, 10.0 * (4.0 / mse).log10()])
}

/// What the latents of frames are like, to whiten them by.
///
/// Errors: those of the model and of [`pixels`].
pub fn moments(vae: &Vae, gpu: &Gpu, clips: &Clips, chosen: &[(usize, usize, usize)]) -> Result<Moments> {
    let mut moments = Moments::new(vae.config().latent_channels);
    for some in chosen.chunks(TOGETHER) {
        let (mean, logvar) = vae.encode(&pixels(gpu, clips, some)?.cast(vae.dtype())?)?;
        moments.add(&mean.to_vec()?, &logvar.to_vec()?);
    }
    Ok(moments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Precision;
    use crate::testing::{gpu, random_from};
    use std::sync::Arc;

    fn sizes() -> Sizes {
        Sizes {
            block_out_channels: vec![8, 8],
            layers_per_block: 1,
            latent_channels: 2,
            norm_num_groups: 4,
            mid_block_add_attention: true,
        }
    }

    #[test]
    fn the_loss_is_its_formula_and_reaches_every_weight() {
        let Some(gpu) = gpu() else { return };
        let config = sizes().config([4, 6], 1.0).unwrap();
        let parameters = Arc::new(first_parameters(&gpu, &config, 1).unwrap());
        let weights = Weights::from_parameters(&gpu, &parameters, Precision::F32, None);
        let vae = model(&weights, &config).unwrap();
        let shape = [3, 4, 6, 3];
        let values = random_from(5, 216, 1.0);
        let pixels = Tensor::new(&gpu, &shape, &values).unwrap();
        let (mean, logvar) = vae.encode(&pixels).unwrap();
        let noise = Tensor::normal_host(9, stream(4, 0), 0, mean.len());
        let [mean_of, logvar_of] = [&mean, &logvar].map(|t| t.to_vec().unwrap());
        let z: Vec<f32> =
            (0..noise.len()).map(|i| mean_of[i] + (0.5 * logvar_of[i]).exp() * noise[i]).collect();
        let back = vae.decode(&Tensor::new(&gpu, mean.shape(), &z).unwrap()).unwrap().to_vec().unwrap();
        let n = back.len() as f64;
        let differences = || back.iter().zip(&values).map(|(a, b)| f64::from(a - b));
        let kl = mean_of.iter().zip(&logvar_of).map(|(&m, &l)| {
            let (m, l) = (f64::from(m), f64::from(l));
            0.5 * (m * m + l.exp() - 1.0 - l)
        });
        let kl = kl.sum::<f64>() / mean_of.len() as f64;
        for (l1, part) in [
            (false, differences().map(|d| d * d).sum::<f64>() / n),
            (true, differences().map(f64::abs).sum::<f64>() / n),
        ] {
            let objective = Objective { l1, kl_weight: 0.3 };
            let loss = objective.loss(&vae, &pixels, 9, 4).unwrap();
            let (got, want) = (f64::from(loss.to_vec().unwrap()[0]), part + 0.3 * kl);
            assert!((got - want).abs() < 1e-5 * want, "{got} {want}");
            let gradients = loss.backward().unwrap();
            assert_eq!(gradients.len(), parameters.iter().count());
        }
    }

    #[test]
    fn sizes_that_do_not_go_together_are_refused() {
        let text = sizes().config([5, 6], 1.0).unwrap_err().to_string();
        assert!(text.contains("6 x 5") && text.contains("by 2"), "{text}");
        let code = |sizes: Sizes| sizes.config([8, 8], 1.0).unwrap_err().exit_code();
        assert_eq!(code(Sizes { norm_num_groups: 3, ..sizes() }), 2);
        assert_eq!(code(Sizes { latent_channels: 0, ..sizes() }), 2);
        assert_eq!(code(Sizes { block_out_channels: vec![], ..sizes() }), 2);
        let config = sizes().config([8, 8], 1.0).unwrap();
        let scaled = config.with("scaling_factor", 0.25);
        assert_eq!(VaeConfig::new(&scaled).unwrap().scaling_factor, 0.25);
    }

    #[test]
    fn spread_takes_evenly() {
        assert_eq!(spread(&[0, 1, 2, 3, 4, 5], 3), [0, 2, 4]);
        assert_eq!(spread(&[0, 1], 5), [0, 1]);
        assert!(spread::<u8>(&[], 5).is_empty());
    }
}
