//! DDIM: x' = √a'·x₀ + √(1−a'−σ²)·ε + σ·n,  σ = η·√((1−a')/(1−a))·√(1−a/a').
//!
//! a is ᾱ at the step's time, a' one stride earlier; x₀ and ε as the model tells them. Song, Meng, Ermon,
//! "Denoising diffusion implicit models" (2021), formulas 12 and 16. Same as diffusers' `DDIMScheduler`
//! without clipping: `clip_sample: true` is refused, absent it counts as false, as Stable Diffusion's pipelines have it.

use super::{Operand, Plan, SchedulerConfig, Spacing, Step, clean_and_noise, sum};
use crate::error::{Error, Result};

pub(super) fn plan(config: &SchedulerConfig, num_inference_steps: usize, eta: f64) -> Result<Plan> {
    config.refuse_if_on("clip_sample", "clipping is not linear; Stable Diffusion does not use it")?;
    config.refuse_if_on("thresholding", "thresholding is not linear")?;
    config.refuse_if_on("rescale_betas_zero_snr", "this sampler follows the schedule as trained")?;
    if !(eta.is_finite() && eta >= 0.0) {
        return Err(Error::setting(
            "--eta",
            format!("{eta} was given, wanted 0 (deterministic) to 1 (as DDPM)"),
        ));
    }
    let schedule = config.schedule()?;
    let stride = config.stride(num_inference_steps)?;
    let mut steps = Vec::new();
    for t in config.timesteps(num_inference_steps, Spacing::Leading, false)? {
        let a = schedule.alpha_cumprod(t)?;
        let a_next =
            schedule.alpha_cumprod_or_final(t.checked_sub(stride), config.set_alpha_to_one.unwrap_or(true));
        let sigma = eta * ((1.0 - a_next) / (1.0 - a) * (1.0 - a / a_next)).sqrt();
        let direction = 1.0 - a_next - sigma * sigma;
        // At eta 1 and the last step both sides are 0 but for rounding.
        if direction < -1e-12 {
            let detail = format!("{eta} adds more noise at timestep {t} than is left there; wanted 0 to 1");
            return Err(Error::setting("--eta", detail));
        }
        let output = [(Operand::Output, 1.0)];
        let (clean, noise) = clean_and_noise(config.prediction_type, a, Operand::Sample, &output);
        let mut next = sum(a_next.sqrt(), &clean, direction.max(0.0).sqrt(), &noise);
        if sigma > 0.0 {
            next.push((Operand::Noise, sigma));
        }
        steps.push(Step { timestep: t, next, keep: vec![], remember_sample: false });
    }
    Plan::new(&schedule, steps)
}

/// DDIM backwards, from a clean sample to the noise that leads to it: the times of `ddim` in reverse, each step
/// to the larger noise level. As Tune-A-Video's `ddim_inversion` (showlab/Tune-A-Video, `tuneavideo/util.py`).
///
/// Errors: as [`super::plan`].
pub fn inversion(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Plan> {
    config.refuse_if_on("rescale_betas_zero_snr", "this sampler follows the schedule as trained")?;
    let schedule = config.schedule()?;
    let stride = config.stride(num_inference_steps)?;
    let mut steps = Vec::new();
    for t in config.timesteps(num_inference_steps, Spacing::Leading, false)?.into_iter().rev() {
        let a =
            schedule.alpha_cumprod_or_final(t.checked_sub(stride), config.set_alpha_to_one.unwrap_or(true));
        let a_next = schedule.alpha_cumprod(t)?;
        let output = [(Operand::Output, 1.0)];
        let (clean, noise) = clean_and_noise(config.prediction_type, a, Operand::Sample, &output);
        let next = sum(a_next.sqrt(), &clean, (1.0 - a_next).sqrt(), &noise);
        steps.push(Step { timestep: t, next, keep: vec![], remember_sample: false });
    }
    Plan::new(&schedule, steps)
}

#[cfg(test)]
mod tests {
    use super::super::{Prediction, Walk};
    use super::*;

    #[test]
    fn inversion_undoes_the_walk() {
        let config = SchedulerConfig::stable_diffusion();
        let mut walk = Walk::new(vec![1.0, -2.0]);
        let noise = [0.3, 0.7]; // a model that does not look at x makes both directions exact inverses
        for step in inversion(&config, 25).unwrap().steps() {
            walk.apply(step, &noise, &[]).unwrap();
        }
        assert!((walk.x[0] - 1.0).abs() > 0.5);
        for step in plan(&config, 25, 0.0).unwrap().steps() {
            walk.apply(step, &noise, &[]).unwrap();
        }
        for (x, start) in walk.x.iter().zip([1.0, -2.0]) {
            assert!((x - start).abs() < 1e-12); // 50 steps of f64 rounding
        }
    }

    #[test]
    fn a_model_that_knows_the_noise_is_led_to_the_clean_sample() {
        let config = SchedulerConfig { set_alpha_to_one: Some(true), ..SchedulerConfig::stable_diffusion() };
        let config = SchedulerConfig { steps_offset: 0, ..config };
        for prediction in [Prediction::Epsilon, Prediction::V] {
            let config = SchedulerConfig { prediction_type: prediction, ..config.clone() };
            let schedule = config.schedule().unwrap();
            let plan = plan(&config, 20, 0.0).unwrap();
            let (clean, noise) = (0.8, -1.3);
            let (signal, spread) = schedule.add_noise(plan.steps()[0].timestep).unwrap();
            let mut walk = Walk::new(vec![signal * clean + spread * noise]);
            for step in plan.steps() {
                let (signal, spread) = schedule.add_noise(step.timestep).unwrap();
                let output = match prediction {
                    Prediction::Epsilon => noise,
                    Prediction::V => signal * noise - spread * clean,
                };
                walk.apply(step, &[output], &[]).unwrap();
            }
            assert!((walk.x[0] - clean).abs() < 1e-12, "{prediction:?}");
        }
    }

    #[test]
    fn eta_and_clipping_are_refused_by_name() {
        let config = SchedulerConfig::stable_diffusion();
        for eta in [-0.1, f64::NAN, f64::INFINITY, 3.0] {
            assert!(plan(&config, 10, eta).unwrap_err().to_string().starts_with("--eta: "));
        }
        let json = br#"{"clip_sample": true}"#;
        let config = SchedulerConfig::from_json(std::path::Path::new("scheduler_config.json"), json).unwrap();
        assert!(plan(&config, 10, 0.0).unwrap_err().to_string().starts_with("clip_sample: "));
    }
}
