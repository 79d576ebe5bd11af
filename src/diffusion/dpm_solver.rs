//! DPM-Solver++ 2M: a two-step method on the predicted clean sample, in the variable λ = ln(α/σ).
//!
//! ```text
//! α = √ᾱ, σ = √(1−ᾱ), m₀ the clean sample of this call, m₁ of the one before; ' marks the next time
//! g  = α' − σ'·α/σ                                (= −α'·(e^{−h} − 1), h = λ' − λ)
//! first order    x' = σ'/σ·x + g·m₀
//! second order   x' = σ'/σ·x + g·(m₀ + ½·h/h₁·(m₀ − m₁)),   h₁ = λ − λ of the call before
//! ```
//!
//! Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver++" (2022), algorithm 2. Same as diffusers'
//! `DPMSolverMultistepScheduler` with `algorithm_type` dpmsolver++, `solver_type` midpoint, order 1 or 2. The
//! first call is of first order, and so is the last when it goes to σ = 0, or with `lower_order_final` and fewer
//! than 15 steps.

use super::{Operand, Plan, SchedulerConfig, Spacing, Step, clean_and_noise, sum};
use crate::error::{Error, Result};

pub(super) fn plan(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Plan> {
    let order = refuse_unsupported(config)?;
    let ends_at_zero = config.choice("final_sigmas_type", &["zero", "sigma_min"])? == "zero";
    let lower_order_final = config.flag("lower_order_final").unwrap_or(true) && num_inference_steps < 15;
    let schedule = config.schedule()?;
    config.stride(num_inference_steps)?;
    if schedule.alphas_cumprod().len() < 2 {
        return Err(Error::setting("num_train_timesteps", "dpmsolver++ wants 2 or more, got 1"));
    }
    // Times of the calls, ᾱ at each, and where the last one leads.
    let (times, mut a) = if config.flag("use_karras_sigmas").unwrap_or(false) {
        karras(schedule.alphas_cumprod(), num_inference_steps)
    } else {
        let times = config.timesteps(num_inference_steps, Spacing::Linspace, true)?;
        if times.windows(2).any(|pair| pair[0] == pair[1]) {
            let detail =
                format!("{num_inference_steps} steps repeat a timestep of this schedule; give fewer");
            return Err(Error::setting("--num-inference-steps", detail));
        }
        let a = times.iter().map(|&t| schedule.alpha_cumprod(t)).collect::<Result<Vec<f64>>>()?;
        (times, a)
    };
    a.push(if ends_at_zero { 1.0 } else { schedule.alpha_cumprod(0)? });
    let log_snr = |a: f64| 0.5 * (a / (1.0 - a)).ln();

    let mut steps = Vec::new();
    for (call, &t) in times.iter().enumerate() {
        let (now, next) = (a[call], a[call + 1]);
        let ratio = ((1.0 - next) / (1.0 - now)).sqrt();
        let g = next.sqrt() - ratio * now.sqrt();
        let output = [(Operand::Output, 1.0)];
        let (clean, _) = clean_and_noise(config.prediction_type, now, Operand::Sample, &output);
        let is_last = call + 1 == times.len();
        let ends_low = ends_at_zero || lower_order_final || config.flag("euler_at_final").unwrap_or(false);
        let x = [(Operand::Sample, ratio)];
        let next = if order == 1 || call == 0 || (is_last && ends_low) {
            sum(1.0, &x, g, &clean)
        } else {
            let (h, h_before) = (log_snr(next) - log_snr(now), log_snr(now) - log_snr(a[call - 1]));
            let extrapolation = 0.5 * h / h_before;
            let before = [(Operand::Earlier(1), 1.0)];
            sum(1.0, &x, g, &sum(1.0 + extrapolation, &clean, -extrapolation, &before))
        };
        let keep = if order == 1 { vec![] } else { clean };
        steps.push(Step { timestep: t, next, keep, remember_sample: false });
    }
    Plan::new(&schedule, steps)
}

/// Calls whose σ/α lie evenly in their seventh root, from the schedule's last to its first (Karras, Aittala, Aila, Laine
/// 2022): the nearest times, between which the logarithm of σ/α is taken for straight, and ᾱ. Several may share a time.
fn karras(alphas: &[f64], n: usize) -> (Vec<usize>, Vec<f64>) {
    const RHO: f64 = 7.0;
    let logs: Vec<f64> = alphas.iter().map(|a| 0.5 * ((1.0 - a) / a).ln()).collect();
    let root = |log: f64| (log / RHO).exp();
    let (most, least) = (root(logs[logs.len() - 1]), root(logs[0]));
    let call = |i: usize| {
        let along = if n > 1 { i as f64 / (n - 1) as f64 } else { 0.0 };
        let sigma = (most + along * (least - most)).powf(RHO);
        let log = sigma.ln();
        let low = logs.partition_point(|&known| known <= log).clamp(1, logs.len() - 1) - 1;
        let share = ((log - logs[low]) / (logs[low + 1] - logs[low])).clamp(0.0, 1.0);
        ((low as f64 + share).round() as usize, 1.0 / (1.0 + sigma * sigma))
    };
    (0..n).map(call).unzip()
}

/// Returns the order, 1 or 2.
fn refuse_unsupported(config: &SchedulerConfig) -> Result<u64> {
    for key in [
        "use_lu_lambdas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "use_flow_sigmas",
        "use_dynamic_shifting",
    ] {
        config.refuse_if_on(key, "only the schedule's own sigmas and Karras' are supported")?;
    }
    config.refuse_if_on("thresholding", "thresholding is not linear")?;
    config.refuse_if_on("rescale_betas_zero_snr", "this sampler follows the schedule as trained")?;
    config.refuse_if_set("lambda_min_clipped", "clipping of λ is for cosine schedules")?;
    config.refuse_if_set("variance_type", "the model must predict the mean alone")?;
    config.choice("algorithm_type", &["dpmsolver++"])?;
    config.choice("solver_type", &["midpoint"])?;
    match config.field("solver_order") {
        None => Ok(2),
        Some(value) => value
            .as_u64()
            .filter(|order| [1, 2].contains(order))
            .ok_or_else(|| Error::setting("solver_order", format!("{value} is not supported; 1 and 2 are"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Prediction, Walk};
    use super::*;
    use std::path::Path;

    #[test]
    fn a_model_that_knows_the_clean_sample_is_led_to_it() {
        for prediction in [Prediction::Epsilon, Prediction::V] {
            let config =
                SchedulerConfig { prediction_type: prediction, ..SchedulerConfig::stable_diffusion() };
            let schedule = config.schedule().unwrap();
            for count in [1, 2, 3, 14, 15, 40] {
                let plan = plan(&config, count).unwrap();
                let mut walk = Walk::new(vec![0.4]);
                for step in plan.steps() {
                    let (signal, spread) = schedule.add_noise(step.timestep).unwrap();
                    let noise = (walk.x[0] - signal * 0.8) / spread;
                    let output = match prediction {
                        Prediction::Epsilon => noise,
                        Prediction::V => signal * noise - spread * 0.8,
                    };
                    walk.apply(step, &[output], &[]).unwrap();
                }
                assert!((walk.x[0] - 0.8).abs() < 1e-10, "{prediction:?} {count}: {}", walk.x[0]);
            }
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (json, name) in [
            (r#"{"use_lu_lambdas": true}"#, "use_lu_lambdas"),
            (r#"{"algorithm_type": "sde-dpmsolver++"}"#, "algorithm_type"),
            (r#"{"solver_type": "heun"}"#, "solver_type"),
            (r#"{"solver_order": 3}"#, "solver_order"),
            (r#"{"solver_order": "2"}"#, "solver_order"),
            (r#"{"lambda_min_clipped": -5.1}"#, "lambda_min_clipped"),
            (r#"{"final_sigmas_type": "one"}"#, "final_sigmas_type"),
        ] {
            let config = SchedulerConfig::from_json(Path::new("c.json"), json.as_bytes()).unwrap();
            let text = plan(&config, 10).unwrap_err().to_string();
            assert!(text.starts_with(&format!("{name}: ")), "{text}");
        }
        assert!(plan(&SchedulerConfig::stable_diffusion(), 1000).is_err()); // 1001 points on 1000 times
        assert!(plan(&SchedulerConfig::stable_diffusion(), 999).is_ok());
    }
}
