//! scheduler_config.json as diffusers writes it -> [`SchedulerConfig`] -> ᾱ and the times of the model calls.
//!
//! ```text
//! linear         β_i = linspace(β_start, β_end, n)        scaled_linear  β_i = linspace(√β_start, √β_end, n)²
//! ᾱ_i = Π_{j≤i} (1 − β_j)
//! leading  i·⌊n/N⌋ + offset      linspace  round(linspace(0, n−1, N))      trailing  round(n − i·n/N) − 1
//! ```
//!
//! β in f32 and the product in f64 rounded to f32, as torch does it: a walk of 1,000 steps shows the difference.
//! Source: huggingface/diffusers 0.42.1, `scheduling_ddim.py` and `scheduling_dpmsolver_multistep.py`.

use crate::error::{Error, Result};
use crate::files;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

const CONFIG_LIMIT_BYTES: u64 = 1 << 20;
const MOST_TIMESTEPS: u64 = 100_000;

/// How β grows with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetaSchedule {
    /// β itself is linear.
    Linear,
    /// √β is linear; latent diffusion.
    ScaledLinear,
}

/// What the model's output means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The noise ε in x.
    Epsilon,
    /// v = √ᾱ·ε − √(1−ᾱ)·x₀.
    V,
}

/// How the times of the model calls are spread; names and formulas of table 2 in Lin et al., "Common diffusion
/// noise schedules and sample steps are flawed" (2023).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Equal strides from the clean end.
    Leading,
    /// Both ends taken.
    Linspace,
    /// Equal strides from the noisy end.
    Trailing,
}

/// A scheduler's settings by diffusers' keys. Keys that a sampler does not look at are ignored.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// Length of the training schedule.
    pub num_train_timesteps: usize,
    /// β at time 0.
    pub beta_start: f64,
    /// β at the last time.
    pub beta_end: f64,
    /// How β grows between.
    pub beta_schedule: BetaSchedule,
    /// What the model's output means.
    pub prediction_type: Prediction,
    /// Added to the times of `leading`.
    pub steps_offset: usize,
    /// Whether the last step leads to ᾱ = 1 instead of ᾱ₀; absent: DDIM yes, PNDM no.
    pub set_alpha_to_one: Option<bool>,
    /// Spread of the times; absent: DDIM and PNDM `leading`, DPM-Solver++ `linspace`.
    pub timestep_spacing: Option<Spacing>,
    /// The file as it was read, for what only one sampler looks at (`clip_sample`, `solver_order`, …).
    pub fields: Map<String, Value>,
}

/// ᾱ at every time.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    alphas_cumprod: Vec<f64>,
}

impl SchedulerConfig {
    /// Stable Diffusion v1-4, from its `scheduler/scheduler_config.json` (CompVis/stable-diffusion-v1-4).
    pub fn stable_diffusion() -> SchedulerConfig {
        SchedulerConfig {
            num_train_timesteps: 1000,
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_schedule: BetaSchedule::ScaledLinear,
            prediction_type: Prediction::Epsilon,
            steps_offset: 1,
            set_alpha_to_one: Some(false),
            timestep_spacing: None,
            fields: Map::new(),
        }
    }

    /// Reads `scheduler_config.json`, or the folder that holds it. What is absent takes diffusers' value.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] naming key and value when one is out of range or not supported.
    pub fn open(path: impl AsRef<Path>) -> Result<SchedulerConfig> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join("scheduler_config.json") } else { PathBuf::from(path) };
        SchedulerConfig::from_json(&path, &files::read_small(&path, CONFIG_LIMIT_BYTES)?)
    }

    /// As [`SchedulerConfig::open`], from text; `path` is named in errors.
    pub fn from_json(path: &Path, json: &[u8]) -> Result<SchedulerConfig> {
        let refuse = |detail: String| Error::format(path, detail);
        let json = String::from_utf8_lossy(json);
        let fields: Map<String, Value> = serde_json::from_str(&without_infinities(&json))
            .map_err(|e| refuse(format!("is no scheduler_config.json: {e}")))?;
        let get = |key: &str| fields.get(key).filter(|value| !value.is_null());
        let bad =
            |key: &str, value: &Value, wanted: &str| refuse(format!("{key} is {value}, wanted {wanted}"));
        let number = |key: &str, absent: f64| match get(key) {
            None => Ok(absent),
            Some(value) => value.as_f64().ok_or_else(|| bad(key, value, "a number")),
        };
        let count = |key: &str, absent: u64, limit: u64| match get(key) {
            None => Ok(absent as usize),
            Some(value) => match value.as_u64() {
                Some(count) if count <= limit => Ok(count as usize),
                _ => Err(bad(key, value, &format!("a whole number up to {limit}"))),
            },
        };
        if let Some(betas) = get("trained_betas") {
            return Err(bad("trained_betas", betas, "null: schedules come from beta_start and beta_end"));
        }
        let config = SchedulerConfig {
            num_train_timesteps: count("num_train_timesteps", 1000, MOST_TIMESTEPS)?,
            beta_start: number("beta_start", 0.0001)?,
            beta_end: number("beta_end", 0.02)?,
            beta_schedule: match get("beta_schedule").map(|v| (v, v.as_str())) {
                None | Some((_, Some("linear"))) => BetaSchedule::Linear,
                Some((_, Some("scaled_linear"))) => BetaSchedule::ScaledLinear,
                Some((other, _)) => return Err(bad("beta_schedule", other, "linear or scaled_linear")),
            },
            prediction_type: match get("prediction_type").map(|v| (v, v.as_str())) {
                None | Some((_, Some("epsilon"))) => Prediction::Epsilon,
                Some((_, Some("v_prediction"))) => Prediction::V,
                Some((other, _)) => return Err(bad("prediction_type", other, "epsilon or v_prediction")),
            },
            steps_offset: count("steps_offset", 0, MOST_TIMESTEPS)?,
            set_alpha_to_one: match get("set_alpha_to_one") {
                None => None,
                Some(value) => {
                    Some(value.as_bool().ok_or_else(|| bad("set_alpha_to_one", value, "true or false"))?)
                }
            },
            timestep_spacing: match get("timestep_spacing").map(|v| (v, v.as_str())) {
                None => None,
                Some((_, Some("leading"))) => Some(Spacing::Leading),
                Some((_, Some("linspace"))) => Some(Spacing::Linspace),
                Some((_, Some("trailing"))) => Some(Spacing::Trailing),
                Some((other, _)) => {
                    return Err(bad("timestep_spacing", other, "leading, linspace or trailing"));
                }
            },
            fields,
        };
        config.schedule().map_err(|e| refuse(e.to_string()))?;
        Ok(config)
    }

    /// The sampler that `_class_name` names, when it is one of [`super::SAMPLERS`].
    pub fn sampler(&self) -> Option<&'static str> {
        match self.field("_class_name")?.as_str()? {
            "DDIMScheduler" => Some("ddim"),
            "PNDMScheduler" => Some("pndm"),
            "DPMSolverMultistepScheduler" => Some("dpmsolver++"),
            _ => None,
        }
    }

    /// The sampler to take: what was asked for, else the file's, else `usual`; with a warning where the file names one
    /// we do not have.
    pub fn sampler_or(&self, asked: Option<&str>, usual: &str) -> (String, Option<String>) {
        let named = self.field("_class_name").and_then(|name| name.as_str());
        match (asked.or(self.sampler()), named) {
            (Some(sampler), _) => (sampler.to_string(), None),
            (None, None) => (usual.to_string(), None),
            (None, Some(other)) => {
                let other = other.escape_debug();
                (
                    usual.to_string(),
                    Some(format!("its scheduler, {other}, is none of ours; {usual} takes its place")),
                )
            }
        }
    }

    /// ᾱ at every time of training.
    ///
    /// Errors: [`Error::Setting`] when ᾱ would reach 0 or stay 1, where no step is defined.
    pub fn schedule(&self) -> Result<Schedule> {
        let (n, start, end) = (self.num_train_timesteps, self.beta_start, self.beta_end);
        let betas: Vec<f32> = match self.beta_schedule {
            BetaSchedule::Linear => linspace_f32(start as f32, end as f32, n),
            BetaSchedule::ScaledLinear => {
                let roots = linspace_f32(start.sqrt() as f32, end.sqrt() as f32, n);
                roots.into_iter().map(|root| root * root).collect()
            }
        };
        let mut product = 1.0;
        let alphas_cumprod: Vec<f64> = betas
            .into_iter()
            .map(|beta| {
                product *= f64::from(1.0 - beta);
                f64::from(product as f32)
            })
            .collect();
        if n == 0 || !alphas_cumprod.iter().all(|&a| a > 0.0 && a < 1.0) {
            let detail = format!(
                "{start} to beta_end {end} over {n} timesteps gives no noise schedule; \
                 Stable Diffusion has 0.00085 to 0.012 over 1000"
            );
            return Err(Error::setting("beta_start", detail));
        }
        Ok(Schedule { alphas_cumprod })
    }

    /// The times of N model calls, descending. With `beyond`, N + 1 times are spread and the cleanest left out.
    pub(super) fn timesteps(
        &self,
        num_inference_steps: usize,
        absent: Spacing,
        beyond: bool,
    ) -> Result<Vec<usize>> {
        let (n, count) = (self.num_train_timesteps, num_inference_steps);
        self.stride(count)?;
        let first = usize::from(beyond);
        let times: Vec<usize> = match self.timestep_spacing.unwrap_or(absent) {
            Spacing::Leading => {
                let stride = n / (count + first);
                (first..count + first).map(|i| i * stride + self.steps_offset).collect()
            }
            Spacing::Linspace => {
                let n_intervals = (count + first - 1).max(1);
                let step = (n - 1) as f64 / n_intervals as f64;
                (first..count + first).map(|i| (i as f64 * step).round_ties_even() as usize).collect()
            }
            Spacing::Trailing => {
                // As numpy's arange walks, rounding included; its extra entry −1 at some counts is left out.
                let step = (n as f64 - n as f64 / count as f64) - n as f64;
                let at = |i: usize| (n as f64 + i as f64 * step).round_ties_even() as usize;
                (0..count).rev().map(|i| at(i).saturating_sub(1)).collect()
            }
        };
        match times.last() {
            Some(&last) if last >= n => {
                let detail = format!(
                    "{count} steps with steps_offset {} begin at timestep {last}, the schedule ends at {}; give fewer",
                    self.steps_offset,
                    n - 1
                );
                Err(Error::setting("--num-inference-steps", detail))
            }
            _ => Ok(times.into_iter().rev().collect()),
        }
    }

    /// How far one step goes: n/N, rounded down.
    pub(super) fn stride(&self, num_inference_steps: usize) -> Result<usize> {
        let n = self.num_train_timesteps;
        if (1..=n).contains(&num_inference_steps) {
            return Ok(n / num_inference_steps);
        }
        Err(Error::setting(
            "--num-inference-steps",
            format!("{num_inference_steps} was given, wanted 1 to {n}"),
        ))
    }

    /// A key's value; `None` when absent or null.
    pub(super) fn field(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.field(key)?.as_bool()
    }

    /// A key's text, which must be one of `supported`; the first when absent.
    pub(super) fn choice<'a>(&'a self, key: &str, supported: &[&'a str]) -> Result<&'a str> {
        let Some(value) = self.field(key) else { return Ok(supported[0]) };
        value.as_str().filter(|text| supported.contains(text)).ok_or_else(|| {
            Error::setting(key, format!("{value} is not supported, wanted {}", supported.join(" or ")))
        })
    }

    pub(super) fn refuse_if_on(&self, key: &str, why: &str) -> Result<()> {
        match self.field(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(value) => Err(Error::setting(key, format!("{value} is not supported: {why}"))),
        }
    }

    pub(super) fn refuse_if_set(&self, key: &str, why: &str) -> Result<()> {
        match self.field(key) {
            None => Ok(()),
            Some(value) => Err(Error::setting(key, format!("{value} is not supported: {why}"))),
        }
    }
}

impl Schedule {
    /// ᾱ at every time of training, descending from nearly 1.
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// ᾱ at time `t`.
    ///
    /// Errors: [`Error::Setting`] past the end of the schedule.
    pub fn alpha_cumprod(&self, t: usize) -> Result<f64> {
        let last = self.alphas_cumprod.len() - 1;
        self.alphas_cumprod
            .get(t)
            .copied()
            .ok_or_else(|| Error::setting("timestep", format!("{t} was given, the schedule ends at {last}")))
    }

    /// DDPM's forward process: x_t = (first)·x₀ + (second)·ε, that is (√ᾱ_t, √(1−ᾱ_t)).
    ///
    /// Errors: [`Error::Setting`] past the end of the schedule.
    pub fn add_noise(&self, t: usize) -> Result<(f64, f64)> {
        let a = self.alpha_cumprod(t)?;
        Ok((a.sqrt(), (1.0 - a).sqrt()))
    }

    /// ᾱ at `t`, or beyond the clean end (`None`) 1 or ᾱ₀. Times here come from the schedule itself.
    pub(super) fn alpha_cumprod_or_final(&self, t: Option<usize>, set_alpha_to_one: bool) -> f64 {
        match t.and_then(|t| self.alphas_cumprod.get(t)) {
            Some(&a) => a,
            None if set_alpha_to_one => 1.0,
            None => self.alphas_cumprod[0],
        }
    }
}

/// torch.linspace in f32: both halves counted from their own end, each value rounded once (a fused multiply-add).
fn linspace_f32(start: f32, end: f32, n: usize) -> Vec<f32> {
    if n == 1 {
        return vec![start];
    }
    let step = f64::from((end - start) / (n as f32 - 1.0));
    let (start, end) = (f64::from(start), f64::from(end));
    let value = |i: usize| if i < n / 2 { start + step * i as f64 } else { end - step * (n - 1 - i) as f64 };
    (0..n).map(|i| value(i) as f32).collect()
}

/// Python writes `-Infinity` (lambda_min_clipped), which is not JSON; outside of strings it becomes null.
fn without_infinities(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut rest, mut in_string) = (json, false);
    while let Some(c) = rest.chars().next() {
        let special = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| rest.starts_with(word));
        let taken = match special {
            Some(word) if !in_string => {
                out.push_str("null");
                word.len()
            }
            _ => {
                let escaped = if in_string && c == '\\' { rest[1..].chars().next() } else { None };
                in_string ^= c == '"';
                let length = c.len_utf8() + escaped.map_or(0, char::len_utf8);
                out.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<SchedulerConfig> {
        SchedulerConfig::from_json(Path::new("scheduler_config.json"), json.as_bytes())
    }

    /// Values of torch 2.15 with diffusers 0.42.1.
    #[test]
    fn alphas_are_those_of_the_reference() {
        let check = |config: SchedulerConfig, values: &[(usize, f64)]| {
            let schedule = config.schedule().unwrap();
            for &(t, wanted) in values {
                let got = schedule.alpha_cumprod(t).unwrap();
                assert!((got / wanted - 1.0).abs() < 1e-6, "{t}: {got} {wanted}"); // f32 and its printing
            }
            assert!(schedule.alpha_cumprod(1000).is_err());
        };
        let scaled = [
            (0, 0.999149978),
            (1, 0.998296022),
            (250, 0.673792303),
            (500, 0.276332468),
            (750, 0.0561698042),
            (981, 0.0057754959),
            (991, 0.00513006235),
            (999, 0.00466009509),
        ];
        check(SchedulerConfig::stable_diffusion(), &scaled);
        let linear = [
            (0, 0.999899983),
            (1, 0.999780059),
            (250, 0.521422982),
            (500, 0.0777966529),
            (750, 0.00330015854),
            (999, 4.03583035e-05),
        ];
        check(parse("{}").unwrap(), &linear);
    }

    /// Times of diffusers 0.42.1 for 7 steps.
    #[test]
    fn times_are_those_of_the_reference() {
        let times = |spacing, absent| {
            let config = SchedulerConfig { timestep_spacing: spacing, ..SchedulerConfig::stable_diffusion() };
            config.timesteps(7, absent, absent == Spacing::Linspace).unwrap()
        };
        let (leading, linspace, trailing) = (Spacing::Leading, Spacing::Linspace, Spacing::Trailing);
        assert_eq!(times(None, leading), [853, 711, 569, 427, 285, 143, 1]);
        assert_eq!(times(Some(linspace), leading), [999, 832, 666, 500, 333, 166, 0]);
        assert_eq!(times(Some(trailing), leading), [999, 856, 713, 570, 428, 285, 142]);
        assert_eq!(times(Some(leading), linspace), [876, 751, 626, 501, 376, 251, 126]);
        assert_eq!(times(None, linspace), [999, 856, 714, 571, 428, 285, 143]);
        assert_eq!(times(Some(trailing), linspace), [999, 856, 713, 570, 428, 285, 142]);
    }

    #[test]
    fn an_offset_past_the_schedule_is_refused() {
        let config = SchedulerConfig::stable_diffusion();
        let text = config.timesteps(1000, Spacing::Leading, false).unwrap_err().to_string();
        let wanted = "--num-inference-steps: 1000 steps with steps_offset 1 begin at timestep 1000, the schedule ends at 999";
        assert!(text.starts_with(wanted), "{text}");
    }

    #[test]
    fn unsupported_values_are_refused_by_key() {
        for (json, wanted) in [
            (
                r#"{"beta_schedule": "squaredcos_cap_v2"}"#,
                r#"beta_schedule is "squaredcos_cap_v2", wanted linear"#,
            ),
            (r#"{"prediction_type": "sample"}"#, r#"prediction_type is "sample", wanted epsilon or"#),
            (r#"{"timestep_spacing": 3}"#, "timestep_spacing is 3, wanted leading"),
            (r#"{"trained_betas": [0.1]}"#, "trained_betas is [0.1], wanted null"),
            (r#"{"num_train_timesteps": 1e30}"#, "num_train_timesteps is 1e+30, wanted a whole number"),
            (r#"{"num_train_timesteps": 0}"#, "gives no noise schedule"),
            (r#"{"beta_start": "0.1"}"#, "beta_start is \"0.1\", wanted a number"),
            (r#"{"beta_start": -1, "beta_schedule": "scaled_linear"}"#, "gives no noise schedule"),
            (r#"{"beta_end": 0, "beta_start": 0}"#, "gives no noise schedule"),
            (r#"{"beta_end": 2}"#, "gives no noise schedule"),
            ("[]", "is no scheduler_config.json"),
            ("{", "is no scheduler_config.json"),
        ] {
            let text = parse(json).unwrap_err().to_string();
            assert!(text.starts_with("scheduler_config.json: ") && text.contains(wanted), "{json}: {text}");
        }
    }

    #[test]
    fn unknown_keys_and_pythons_infinity_are_read() {
        let json = r#"{"_class_name": "PNDMScheduler", "lambda_min_clipped": -Infinity, "a": "-Infinity \" NaN",
                       "b": [NaN, Infinity], "steps_offset": 1}"#;
        let config = parse(json).unwrap();
        assert_eq!((config.sampler(), config.steps_offset), (Some("pndm"), 1));
        assert!(config.field("lambda_min_clipped").is_none());
        assert_eq!(config.field("a").unwrap(), "-Infinity \" NaN");
    }
}
