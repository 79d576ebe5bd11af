//! Walks of the samplers against traces of diffusers (tests/golden/README.md, "Schedulers").
//!
//! The toy model is e(x, t) = 0.1·x + t/1000.

use mindreel::diffusion::{Plan, SchedulerConfig, Walk, plan};
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

fn compare(
    plan: &Plan,
    golden: &Golden,
    suffix: &str,
    start: &[f64],
    noise: &[f64],
    count: usize,
    tolerance: f64,
) {
    let got = trace(plan, start, noise);
    let difference = largest_difference(&got, &golden.values(&format!("out.x_{suffix}{count}")));
    println!("{suffix}{count}: {difference:e}");
    assert!(difference < tolerance, "{} {suffix}{count}: {difference:e}", golden.path.display());
}

#[test]
fn ddim_follows_the_reference() {
    let golden = Golden::open("scheduler_ddim");
    let start = golden.values("in.x");
    for count in COUNTS {
        let plan = plan("ddim", &golden.config(), count, 0.0).unwrap();
        assert_eq!(plan.timesteps().collect::<Vec<_>>(), golden.times(&format!("out.timesteps_{count}")));
        compare(&plan, &golden, "", &start, &[], count, TOLERANCE);
        let plan = mindreel::diffusion::plan("ddim", &golden.config(), count, 1.0).unwrap();
        compare(
            &plan,
            &golden,
            "eta1_",
            &start,
            &golden.values(&format!("in.noise_{count}")),
            count,
            TOLERANCE,
        );
    }
}

#[test]
fn pndm_follows_the_reference() {
    let golden = Golden::open("scheduler_pndm");
    for count in COUNTS {
        let plan = plan("pndm", &golden.config(), count, 0.0).unwrap();
        assert_eq!(plan.timesteps().collect::<Vec<_>>(), golden.times(&format!("out.timesteps_{count}")));
        compare(&plan, &golden, "", &golden.values("in.x"), &[], count, TOLERANCE);
    }
}

#[test]
fn dpm_solver_follows_the_reference() {
    let golden = Golden::open("scheduler_dpm");
    for (suffix, spacing) in [("", None), ("leading_", Some(mindreel::diffusion::Spacing::Leading))] {
        let config = SchedulerConfig { timestep_spacing: spacing, ..golden.config() };
        for count in COUNTS {
            let plan = plan("dpmsolver++", &config, count, 0.0).unwrap();
            let times = golden.times(&format!("out.timesteps_{suffix}{count}"));
            assert_eq!(plan.timesteps().collect::<Vec<_>>(), times);
            compare(&plan, &golden, suffix, &golden.values("in.x"), &[], count, 2e-5); // its sample is f32 as well
        }
    }
}

#[test]
fn noise_is_added_as_in_training() {
    let golden = Golden::open("scheduler_noise");
    let schedule = golden.config().schedule().unwrap();
    let alphas = golden.values("out.alphas_cumprod");
    let different = schedule.alphas_cumprod().iter().zip(&alphas).filter(|(a, b)| a != b).count();
    println!("{different} of 1000 not equal to the bit");
    assert!(largest_difference(schedule.alphas_cumprod(), &alphas) < 1e-6);
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
