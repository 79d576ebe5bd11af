//! DANA, dynamics-aware noise adding: the start of a walk from predicted latents, noisier across frames for
//! fast clips than for slow ones.
//!
//! ```text
//! x_T = √a·z₀ + √(1−a)·( √(1−β)·ε_d + √β·ε_s )
//! z₀ predicted latents [frames, channels, height, width]; ε_d noise of the same shape; ε_s noise of one frame,
//! the same for all. The noise has unit variance and correlation β between frames.
//! ```
//!
//! Liu et al., "EEG2Video" (2024), section 3.4. By default a is the sampler's own ᾱ at its first call and z₀ is
//! scaled as the VAE's latents are; [`original`] gives the arithmetic of the authors' script instead
//! (XuanhaoLiu/EEG2Video, `DANA_module`): another noise schedule, a random time, and β the other way round than
//! the paper's text.

use super::{BetaSchedule, Plan, SchedulerConfig};
use crate::error::{Error, Result};
use crate::weights::random::splitmix64;

/// Mean optical flow (pixels per frame) from which the authors call a clip fast.
pub const FAST_FLOW: f64 = 1.799;

/// How a clip moves, as a classifier on EEG predicts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// Frames resemble each other: more shared noise.
    Slow,
    /// Frames differ.
    Fast,
}

/// x_T = latents·z₀ + each·ε_d + shared·ε_s
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficients {
    /// Of the predicted latents.
    pub latents: f64,
    /// Of the noise drawn for each frame.
    pub each: f64,
    /// Of the noise drawn once for all frames.
    pub shared: f64,
}

impl Motion {
    /// β as the paper says: slow 0.3, fast 0.2.
    pub fn beta(self) -> f64 {
        match self {
            Motion::Slow => 0.3,
            Motion::Fast => 0.2,
        }
    }
}

/// The corrected start: ᾱ of `plan` at its first model call, latents times the VAE's `scaling_factor` (0.18215
/// for Stable Diffusion; 1 when they are scaled already).
///
/// Errors: [`Error::Setting`] for a factor that is not a positive number.
pub fn coefficients(plan: &Plan, motion: Motion, scaling_factor: f64) -> Result<Coefficients> {
    if !(scaling_factor.is_finite() && scaling_factor > 0.0) {
        return Err(Error::setting("scaling_factor", format!("{scaling_factor} was given, wanted above 0")));
    }
    let mixed = mix(plan.start_alpha_cumprod(), motion.beta());
    Ok(Coefficients { latents: mixed.latents * scaling_factor, ..mixed })
}

/// The start without DANA: the same ᾱ, noise drawn for each frame alone.
///
/// Errors: as [`coefficients`].
pub fn plain(plan: &Plan, scaling_factor: f64) -> Result<Coefficients> {
    let mixed = coefficients(plan, Motion::Slow, scaling_factor)?;
    Ok(Coefficients { each: mixed.each.hypot(mixed.shared), shared: 0.0, ..mixed })
}

/// The authors' script (`--reproduce-original`): β linear from 1e-4 to 0.02 over 500 times, a time drawn per
/// clip, β 0.3 for fast and 0.2 for slow clips, latents as predicted. Their generator is not repeated: the time is
/// splitmix64 of `seed` and `clip_idx`, modulo 500.
///
/// Errors: none for any input; the schedule's own are passed on.
pub fn original(motion: Motion, seed: u64, clip_idx: u64) -> Result<Coefficients> {
    let config = SchedulerConfig {
        num_train_timesteps: 500,
        beta_start: 1e-4,
        beta_end: 0.02,
        beta_schedule: BetaSchedule::Linear,
        ..SchedulerConfig::stable_diffusion()
    };
    let t = splitmix64(splitmix64(seed) ^ clip_idx) % 500;
    let beta = match motion {
        Motion::Slow => Motion::Fast.beta(),
        Motion::Fast => Motion::Slow.beta(),
    };
    Ok(mix(config.schedule()?.alpha_cumprod(t as usize)?, beta))
}

fn mix(a: f64, beta: f64) -> Coefficients {
    let noise = (1.0 - a).sqrt();
    Coefficients { latents: a.sqrt(), each: noise * (1.0 - beta).sqrt(), shared: noise * beta.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_and_latents_have_the_variance_of_the_first_time() {
        let plan = super::super::plan("pndm", &SchedulerConfig::stable_diffusion(), 100, 0.0).unwrap();
        for (motion, beta) in [(Motion::Slow, 0.3), (Motion::Fast, 0.2)] {
            let c = coefficients(&plan, motion, 1.0).unwrap();
            assert!((c.latents.powi(2) - 0.00513006).abs() < 1e-7); // ᾱ at 991
            assert!((c.latents.powi(2) + c.each.powi(2) + c.shared.powi(2) - 1.0).abs() < 1e-15);
            assert!((c.shared.powi(2) / (c.shared.powi(2) + c.each.powi(2)) - beta).abs() < 1e-15);
            let scaled = coefficients(&plan, motion, 0.18215).unwrap();
            assert_eq!((scaled.latents, scaled.each), (c.latents * 0.18215, c.each));
        }
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(coefficients(&plan, Motion::Slow, factor).is_err());
        }
    }

    #[test]
    fn the_original_draws_all_times_and_swaps_the_shares() {
        let mut seen = std::collections::BTreeSet::new();
        for clip_idx in 0..5000 {
            let c = original(Motion::Fast, 3407, clip_idx).unwrap();
            seen.insert(c.latents.to_bits());
            assert!((c.shared.powi(2) / (c.shared.powi(2) + c.each.powi(2)) - 0.3).abs() < 1e-12);
        }
        assert!(seen.len() > 490, "{}", seen.len()); // 5000 draws miss each of 500 with probability e^-10
        let (low, high) = (f64::from_bits(*seen.first().unwrap()), f64::from_bits(*seen.last().unwrap()));
        assert!((low.powi(2) - 0.0064).abs() < 2e-4 && (high.powi(2) - 0.9999).abs() < 2e-4);
    }
}
