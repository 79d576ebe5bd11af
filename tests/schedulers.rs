//! Walks of the samplers against traces of diffusers (tests/golden/README.md, "Schedulers").
//!
//! The toy model is e(x, t) = 0.1·x + t/1000.

use mindreel::diffusion::{Plan, SchedulerConfig, Spacing, Walk, plan};
use mindreel::weights::{Checkpoint, to_f32, to_i64};
use std::path::{Path, PathBuf};

const COUNTS: [usize; 6] = [1, 2, 3, 10, 50, 100];
/// The reference makes its coefficients in f32; what that costs is said in the README of the fixtures.
const TOLERANCE: f64 = 2e-6;

struct Golden {
    path: PathBuf,
    file: Checkpoint,
}

impl Golden {
    fn open(name: &str) -> Golden {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.safetensors"));
        Golden { file: Checkpoint::open(&path).unwrap(), path }
    }

    fn config(&self) -> SchedulerConfig {
        SchedulerConfig::from_json(&self.path, self.file.metadata()["config"].as_bytes()).unwrap()
    }

    fn values(&self, name: &str) -> Vec<f64> {
        let view = self.file.get(name).unwrap_or_else(|| panic!("{name} in {}", self.path.display()));
        to_f32(&view).unwrap().into_iter().map(f64::from).collect()
    }

    fn times(&self, name: &str) -> Vec<usize> {
        to_i64(&self.file.get(name).unwrap()).unwrap().into_iter().map(|t| t as usize).collect()
    }
}

/// x after each call; `noise` by call.
fn trace(plan: &Plan, start: &[f64], noise: &[f64]) -> Vec<f64> {
    let (mut walk, mut trace) = (Walk::new(start.to_vec()), Vec::new());
    for (call, step) in plan.steps().iter().enumerate() {
        let output: Vec<f64> = walk.x.iter().map(|x| 0.1 * x + step.timestep as f64 / 1000.0).collect();
        let noise = noise.chunks(start.len()).nth(call).unwrap_or(&[]);
        walk.apply(step, &output, noise).unwrap();
        trace.extend(&walk.x);
    }
    trace
}

fn largest_difference(got: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    got.iter().zip(wanted).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max)
}

/// Times and x after each call, for fields that end in `suffix`.
fn compare(plan: &Plan, golden: &Golden, suffix: &str, noise: &[f64]) {
    let got = trace(plan, &golden.values("in.x"), noise);
    let difference = largest_difference(&got, &golden.values(&format!("out.x_{suffix}")));
    assert!(difference < TOLERANCE, "{} {suffix}: {difference:e}", golden.path.display());
}

fn compare_times(plan: &Plan, golden: &Golden, suffix: &str) {
    let times = golden.times(&format!("out.timesteps_{suffix}"));
    assert_eq!(plan.timesteps().collect::<Vec<_>>(), times);
}

#[test]
fn ddim_follows_the_reference() {
    let golden = Golden::open("scheduler_ddim");
    for count in COUNTS {
        let plain = plan("ddim", &golden.config(), count, 0.0).unwrap();
        compare_times(&plain, &golden, &format!("{count}"));
        compare(&plain, &golden, &format!("{count}"), &[]);
        let noisy = plan("ddim", &golden.config(), count, 1.0).unwrap();
        compare(&noisy, &golden, &format!("eta1_{count}"), &golden.values(&format!("in.noise_{count}")));
    }
}

#[test]
fn pndm_follows_the_reference() {
    let golden = Golden::open("scheduler_pndm");
    for count in COUNTS {
        let plan = plan("pndm", &golden.config(), count, 0.0).unwrap();
        compare_times(&plan, &golden, &format!("{count}"));
        compare(&plan, &golden, &format!("{count}"), &[]);
    }
}

#[test]
fn dpm_solver_follows_the_reference() {
    let golden = Golden::open("scheduler_dpm");
    for (prefix, spacing) in [("", None), ("leading_", Some(Spacing::Leading))] {
        let config = SchedulerConfig { timestep_spacing: spacing, ..golden.config() };
        for count in COUNTS {
            let plan = plan("dpmsolver++", &config, count, 0.0).unwrap();
            compare_times(&plan, &golden, &format!("{prefix}{count}"));
            compare(&plan, &golden, &format!("{prefix}{count}"), &[]);
        }
    }
}

/// Every sampler with what the commands offer beside its usual settings.
#[test]
fn options_follow_the_reference() {
    let golden = Golden::open("scheduler_options");
    let usual: serde_json::Value = serde_json::from_str(&golden.file.metadata()["config"]).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&golden.file.metadata()["cases"]).unwrap();
    let cases = cases.as_object().unwrap();
    assert!(cases.len() > 12);
    for (name, case) in cases {
        let mut settings = usual.clone();
        for (key, value) in case[2].as_object().unwrap() {
            settings[key] = value.clone();
        }
        let config = SchedulerConfig::from_json(&golden.path, settings.to_string().as_bytes()).unwrap();
        let (count, eta) = (case[1].as_u64().unwrap() as usize, case[3].as_f64().unwrap());
        let plan = plan(case[0].as_str().unwrap(), &config, count, eta).unwrap();
        compare_times(&plan, &golden, name);
        let noise = if eta > 0.0 { golden.values("in.noise") } else { Vec::new() };
        compare(&plan, &golden, name, &noise);
    }
}

#[test]
fn noise_is_added_as_in_training() {
    let golden = Golden::open("scheduler_noise");
    let schedule = golden.config().schedule().unwrap();
    let alphas = golden.values("out.alphas_cumprod");
    assert_eq!(schedule.alphas_cumprod(), alphas); // to the bit
    let (x, noise, noisy) = (golden.values("in.x"), golden.values("in.noise"), golden.values("out.noisy"));
    for (i, t) in golden.times("in.timesteps").into_iter().enumerate() {
        let (signal, spread) = schedule.add_noise(t).unwrap();
        for j in 6 * i..6 * (i + 1) {
            assert!((signal * x[j] + spread * noise[j] - noisy[j]).abs() < 1e-6); // f32 in the reference
        }
    }
}

/// Hand-checked walks of the toy model from x = 1, 10 steps of Stable Diffusion's schedule.
#[test]
fn the_published_walks_hold() {
    let config = SchedulerConfig::stable_diffusion();
    let pndm = [
        0.992286, 1.023651, 1.095567, 1.207146, 1.345351, 1.492659, 1.631863, 1.749024, 1.834626, 1.867582,
        1.866724,
    ];
    let ddim =
        [0.992286, 1.025249, 1.093172, 1.184723, 1.285648, 1.381923, 1.462221, 1.518484, 1.528511, 1.527296];
    for (sampler, wanted) in [("pndm", &pndm[..]), ("ddim", &ddim[..])] {
        let got = trace(&plan(sampler, &config, 10, 0.0).unwrap(), &[1.0], &[]);
        assert!(largest_difference(&got, wanted) < 1e-6, "{sampler}: {got:?}");
    }
}

/// Settings the fixtures leave out: x after the last call from x = 1, by diffusers 0.42.1.
#[test]
fn other_settings_follow_the_reference() {
    let with = |sampler: &str, fields: &str, count: usize, last: f64| {
        let json = format!(
            r#"{{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1{fields}}}"#
        );
        let config = SchedulerConfig::from_json(Path::new("scheduler_config.json"), json.as_bytes()).unwrap();
        let got = trace(&plan(sampler, &config, count, 0.0).unwrap(), &[1.0], &[]);
        let difference = (got[got.len() - 1] - last).abs();
        assert!(difference < TOLERANCE, "{sampler} {fields}: {got:?}, wanted {last}");
    };
    with("pndm", r#", "prediction_type": "v_prediction""#, 6, 0.339616597);
    with("pndm", r#", "timestep_spacing": "linspace""#, 7, 1.642598024);
    with("pndm", r#", "timestep_spacing": "trailing""#, 7, 1.698857037);
    with("ddim", r#", "prediction_type": "v_prediction""#, 6, 0.235108649);
    with("ddim", r#", "set_alpha_to_one": false, "timestep_spacing": "linspace""#, 7, 0.898968625);
    with("ddim", r#", "set_alpha_to_one": false, "timestep_spacing": "trailing""#, 7, 0.818119799);
    with("dpmsolver++", r#", "timestep_spacing": "trailing""#, 7, 1.222242644);
    with("dpmsolver++", r#", "final_sigmas_type": "sigma_min""#, 6, 1.128806078);
    with(
        "dpmsolver++",
        r#", "final_sigmas_type": "sigma_min", "prediction_type": "v_prediction""#,
        16,
        0.441246694,
    );
    with("dpmsolver++", r#", "solver_order": 1"#, 6, 0.690850899);
}
