//! PNDM without its Runge-Kutta warm-up, also called PLMS: a linear multistep method on the model's outputs.
//!
//! ```text
//! call 0     e = e₁                                from x at t to t−r; x and e₁ are kept
//! call 1     e = (e₁ + e₂)/2                       the same time as after call 0, again from the x of call 0
//! call 2     e = (3e₁ − e₂)/2
//! call 3     e = (23e₁ − 16e₂ + 5e₃)/12
//! later      e = (55e₁ − 59e₂ + 37e₃ − 9e₄)/24     e₁ the newest
//! x' = √(a'/a)·x − (a'−a)·e / (a·√(1−a') + √(a·(1−a)·a'))
//! ```
//!
//! Liu, Ren, Lin, Zhao, "Pseudo numerical methods for diffusion models on manifolds" (2022), formulas 9 and 12.
//! Same as diffusers' `PNDMScheduler` with `skip_prk_steps` (false is refused, absent it
//! counts as true); what Stable Diffusion v1-4 names in its folder.

use super::{Operand, Plan, SchedulerConfig, Spacing, Step, Terms, clean_and_noise, sum};
use crate::error::{Error, Result};

pub(super) fn plan(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Plan> {
    if config.flag("skip_prk_steps") == Some(false) {
        return Err(Error::setting(
            "skip_prk_steps",
            "false is not supported: set it to true, as Stable Diffusion does",
        ));
    }
    let schedule = config.schedule()?;
    let stride = config.stride(num_inference_steps)?;
    let mut times = config.timesteps(num_inference_steps, Spacing::Leading, false)?;
    if let Some(&second) = times.get(1) {
        times.insert(1, second);
    }
    let mut steps = Vec::new();
    for (call, t) in times.into_iter().enumerate() {
        // Call 1 goes the way of call 0 once more, now with the slope at its end as well.
        let (from, to, sample) = match call {
            1 => (t + stride, Some(t), Operand::Remembered),
            _ => (t, t.checked_sub(stride), Operand::Sample),
        };
        let a = schedule.alpha_cumprod(from)?;
        let a_next = schedule.alpha_cumprod_or_final(to, config.set_alpha_to_one.unwrap_or(false));
        let (_, noise) = clean_and_noise(config.prediction_type, a, sample, &multistep(call));
        let slope = -(a_next - a) / (a * (1.0 - a_next).sqrt() + (a * (1.0 - a) * a_next).sqrt());
        let keep = if call == 1 { vec![] } else { vec![(Operand::Output, 1.0)] };
        let next = sum((a_next / a).sqrt(), &[(sample, 1.0)], slope, &noise);
        steps.push(Step { timestep: t, next, keep, remember_sample: call == 0 });
    }
    Plan::new(&schedule, steps)
}

/// e of the given call.
fn multistep(call: usize) -> Terms {
    let (divisor, weights): (f64, &[f64]) = match call {
        0 => (1.0, &[1.0]),
        1 => (2.0, &[1.0, 1.0]),
        2 => (2.0, &[3.0, -1.0]),
        3 => (12.0, &[23.0, -16.0, 5.0]),
        _ => (24.0, &[55.0, -59.0, 37.0, -9.0]),
    };
    let operands = std::iter::once(Operand::Output).chain((1..).map(Operand::Earlier));
    operands.zip(weights).map(|(operand, weight)| (operand, weight / divisor)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerConfig;
    use super::*;

    #[test]
    fn the_second_time_is_called_twice_and_three_outputs_are_kept() {
        let config = SchedulerConfig::stable_diffusion();
        let plan = plan(&config, 10).unwrap();
        let times: Vec<usize> = plan.timesteps().collect();
        assert_eq!(times, [901, 801, 801, 701, 601, 501, 401, 301, 201, 101, 1]);
        assert_eq!(plan.history(), 3);
        assert_eq!(super::plan(&config, 1).unwrap().steps().len(), 1);
    }

    #[test]
    fn weights_of_every_call_sum_to_one() {
        for call in 0..6 {
            assert!((multistep(call).iter().map(|(_, c)| c).sum::<f64>() - 1.0).abs() < 1e-15);
        }
    }

    #[test]
    fn the_runge_kutta_form_is_refused_by_name() {
        let json = br#"{"skip_prk_steps": false}"#;
        let config = SchedulerConfig::from_json(std::path::Path::new("c.json"), json).unwrap();
        assert!(plan(&config, 10).unwrap_err().to_string().starts_with("skip_prk_steps: "));
    }
}
