//! Samplers as arithmetic on coefficients: scheduler_config.json -> [`Plan`] -> one [`Step`] per model call.
//!
//! ```text
//! for step in plan.steps():
//!     output = model(x, step.timestep)
//!     kept   = Σ c·operand   (step.keep, when not empty: goes to the front of the history)
//!     x      = Σ c·operand   (step.next)
//! ```
//!
//! Every sampler here is linear in its tensors, so a step is nothing but numbers (f64, made on the host) and can
//! run as one kernel. This room knows no tensor and no model; [`Walk`] runs a plan on plain vectors.
//!
//! Follows huggingface/diffusers 0.42.1, `src/diffusers/schedulers`.

pub mod dana;
mod ddim;
mod dpm_solver;
mod pndm;
mod schedule;
mod walk;

pub use ddim::inversion;
pub use schedule::{BetaSchedule, Prediction, Schedule, SchedulerConfig, Spacing};
pub use walk::Walk;

use crate::error::{Error, Result, none_of};

/// The samplers by the name a user types.
pub const SAMPLERS: [&str; 3] = ["ddim", "pndm", "dpmsolver++"];

/// Standard deviation of the noise a walk starts from; 1 for every sampler here.
pub const INIT_NOISE_SIGMA: f64 = 1.0;

/// A tensor that takes part in a step. All are as they were before the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// x, the input of this model call.
    Sample,
    /// What the model returned for x.
    Output,
    /// Kept `k` keeps ago: 1 is the newest in the history.
    Earlier(usize),
    /// The sample of the last step with `remember_sample`.
    Remembered,
    /// Fresh standard normal noise of x's shape.
    Noise,
}

/// A linear combination of tensors; each operand at most once.
pub type Terms = Vec<(Operand, f64)>;

/// What happens after one model call.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The time the model is called with.
    pub timestep: usize,
    /// The new x.
    pub next: Terms,
    /// Goes to the front of the history, after `next` was computed; empty: the history stays.
    pub keep: Terms,
    /// Whether this step's x becomes [`Operand::Remembered`].
    pub remember_sample: bool,
}

/// A whole denoising walk, one [`Step`] per model call.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    steps: Vec<Step>,
    start_alpha_cumprod: f64,
}

impl Plan {
    fn new(schedule: &Schedule, steps: Vec<Step>) -> Result<Plan> {
        let first = steps.first().map_or(0, |step| step.timestep);
        Ok(Plan { start_alpha_cumprod: schedule.alpha_cumprod(first)?, steps })
    }

    /// In the order of the model calls. PNDM makes one call more than it was asked for steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The times of all model calls.
    pub fn timesteps(&self) -> impl Iterator<Item = usize> + '_ {
        self.steps.iter().map(|step| step.timestep)
    }

    /// How many kept tensors a walk must hold at most: the largest k of [`Operand::Earlier`].
    pub fn history(&self) -> usize {
        let depth = |&(operand, _): &(Operand, f64)| if let Operand::Earlier(k) = operand { k } else { 0 };
        self.steps.iter().flat_map(|step| step.next.iter().chain(&step.keep)).map(depth).max().unwrap_or(0)
    }

    /// ᾱ at the first model call: x starts as √ᾱ·(clean) + √(1−ᾱ)·(noise).
    pub fn start_alpha_cumprod(&self) -> f64 {
        self.start_alpha_cumprod
    }
}

/// The plan of a sampler by name. `eta` (0 deterministic, 1 as noisy as DDPM) concerns `ddim` alone.
///
/// Errors: [`Error::Setting`] for an unknown name, for 0 steps or more than the schedule has, for an `eta` with
/// no real solution, and for a setting in `config` that this sampler does not follow, by its key.
///
/// ```
/// use mindreel::diffusion::{SchedulerConfig, plan};
/// let plan = plan("pndm", &SchedulerConfig::stable_diffusion(), 100, 0.0)?;
/// assert_eq!(plan.timesteps().take(4).collect::<Vec<_>>(), [991, 981, 981, 971]);
/// # Ok::<(), mindreel::error::Error>(())
/// ```
pub fn plan(sampler: &str, config: &SchedulerConfig, num_inference_steps: usize, eta: f64) -> Result<Plan> {
    if eta > 0.0 && sampler != "ddim" {
        return Err(Error::setting("--eta", format!("is for --scheduler ddim, not for {sampler}")));
    }
    match sampler {
        "ddim" => ddim::plan(config, num_inference_steps, eta),
        "pndm" => pndm::plan(config, num_inference_steps),
        "dpmsolver++" => dpm_solver::plan(config, num_inference_steps),
        other => Err(Error::setting("--scheduler", none_of(other, SAMPLERS))),
    }
}

/// a·(first) + b·(second), operands joined.
fn sum(a: f64, first: &[(Operand, f64)], b: f64, second: &[(Operand, f64)]) -> Terms {
    let mut terms: Terms = first.iter().map(|&(operand, c)| (operand, a * c)).collect();
    for &(operand, c) in second {
        match terms.iter_mut().find(|(known, _)| *known == operand) {
            Some((_, coefficient)) => *coefficient += b * c,
            None => terms.push((operand, b * c)),
        }
    }
    terms
}

/// The clean sample and the noise in `sample`, as the model's `output` tells them. `a` is ᾱ at its time.
fn clean_and_noise(
    prediction: Prediction,
    a: f64,
    sample: Operand,
    output: &[(Operand, f64)],
) -> (Terms, Terms) {
    let (signal, noise) = (a.sqrt(), (1.0 - a).sqrt());
    let x = [(sample, 1.0)];
    match prediction {
        Prediction::Epsilon => (sum(1.0 / signal, &x, -noise / signal, output), output.to_vec()),
        Prediction::V => (sum(signal, &x, -noise, output), sum(noise, &x, signal, output)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_samplers_and_counts_are_refused() {
        let config = SchedulerConfig::stable_diffusion();
        let text = plan("euler", &config, 10, 0.0).unwrap_err().to_string();
        assert_eq!(text, "--scheduler: 'euler' is none of ddim, pndm, dpmsolver++");
        let text = plan("ddmi", &config, 10, 0.0).unwrap_err().to_string();
        assert!(text.ends_with("did you mean 'ddim'?"), "{text}");
        let text = plan("dpmsolver+", &config, 10, 0.0).unwrap_err().to_string();
        assert!(text.ends_with("did you mean 'dpmsolver++'?"), "{text}");
        for sampler in SAMPLERS {
            for count in [0, 1001, usize::MAX] {
                let text = plan(sampler, &config, count, 0.0).unwrap_err().to_string();
                assert!(text.contains("wanted 1 to 1000"), "{sampler} {count}: {text}");
            }
        }
    }

    #[test]
    fn every_plan_a_user_can_ask_for_is_finite_or_refused_by_name() {
        for spacing in [Spacing::Leading, Spacing::Linspace, Spacing::Trailing] {
            for prediction in [Prediction::Epsilon, Prediction::V] {
                let config = SchedulerConfig {
                    timestep_spacing: Some(spacing),
                    prediction_type: prediction,
                    num_train_timesteps: 100,
                    ..SchedulerConfig::stable_diffusion()
                };
                for (sampler, count) in SAMPLERS.iter().flat_map(|s| (1..=100).map(move |n| (s, n))) {
                    let eta = if *sampler == "ddim" { 1.0 } else { 0.0 };
                    match plan(sampler, &config, count, eta) {
                        Ok(plan) => {
                            let terms = plan.steps().iter().flat_map(|s| s.next.iter().chain(&s.keep));
                            assert!(
                                terms.clone().all(|(_, c)| c.is_finite()),
                                "{sampler} {spacing:?} {count}"
                            );
                            assert!(plan.timesteps().all(|t| t < 100));
                            assert!(
                                plan.steps().len() == count + usize::from(*sampler == "pndm" && count > 1)
                            );
                        }
                        Err(e) => assert!(e.to_string().contains("num-inference-steps"), "{e}"),
                    }
                }
            }
        }
        let error = plan("pndm", &SchedulerConfig::stable_diffusion(), 10, 0.5).unwrap_err();
        assert!(error.to_string().contains("is for --scheduler ddim, not for pndm"), "{error}");
    }
}
