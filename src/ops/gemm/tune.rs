//! The bounded tuner: a few candidates per shape, each timed a few times, until the time it was given is spent.

use super::choice::{self, Choice};
use super::{Epilogue, KERNELS, Product, trial};
use crate::error::Result;
use crate::gpu::{Class, Gpu, Tuning};
use crate::ops::pack::{Packed, SourceType};
use crate::tensor::{DType, Tensor};
use std::time::{Duration, Instant};

const WARM_UPS: usize = 2;
const TIMINGS: usize = 5;
/// A choice has to beat the rule's by this much to stand in the table.
const GAIN: f64 = 0.97;

/// Rows, columns and k of the shapes that are tried, the most telling first: those of an SD 1.5 UNet at its four
/// resolutions, with and without guidance, then single rows.
const SHAPES: &[[usize; 3]] = &[
    [8192, 320, 2880],
    [2048, 640, 5760],
    [512, 1280, 11520],
    [8192, 320, 320],
    [2048, 640, 640],
    [512, 1280, 1280],
    [8192, 2560, 320],
    [2048, 5120, 640],
    [512, 10240, 1280],
    [128, 1280, 11520],
    [4096, 4096, 4096],
    [128, 1280, 1280],
    [154, 320, 768],
    [154, 1280, 768],
    [2, 1280, 1280],
    [1, 1280, 320],
    [32768, 128, 1152],
];

/// Times candidates for the shapes that models use, in f32 and, where there is f16, in half precision, for at most
/// `budget` and what is under way by then. The table holds only what beats the rule; it is used once
/// [`Gpu::set_tuning`] has it, and kept where [`Tuning::write`] puts it. On software adapters it stays empty: there
/// the rule is what was measured.
///
/// Errors: whatever a kernel meets.
pub fn tune(gpu: &Gpu, budget: Duration) -> Result<Tuning> {
    let mut table = Tuning {
        adapter: Tuning::adapter_of(gpu.facts()),
        driver: gpu.facts().driver.clone(),
        kernels: KERNELS.into(),
        ..Tuning::default()
    };
    if gpu.facts().class == Class::Software || gpu.is_plan() {
        return Ok(table);
    }
    let start = Instant::now();
    for &[m, n, k] in SHAPES {
        for half in [true, false] {
            if half && !gpu.facts().features.f16 {
                continue;
            }
            if start.elapsed() >= budget {
                return Ok(table);
            }
            let (name, rule, best) = best_of(gpu, [m, n, k], half)?;
            if best != rule {
                table.choices.insert(name, best.to_string());
            }
        }
    }
    Ok(table)
}

/// The shape's row, the rule's choice for it, and the best one.
fn best_of(gpu: &Gpu, [m, n, k]: [usize; 3], half: bool) -> Result<(String, Choice, Choice)> {
    let dtype = if half { DType::F16 } else { DType::F32 };
    let a = Tensor::zeros(gpu, &[m, k], dtype)?;
    // The first layers of feed-forwards are gated.
    let gated = n == 8 * k;
    let b = match gated {
        true => Packed::planned_gated(gpu, [n, k], SourceType::F32, half)?,
        false => Packed::planned(gpu, [n, k, 1], SourceType::F32, half)?,
    };
    let c = Tensor::empty(gpu, &[m, if gated { n / 2 } else { n }], dtype)?;
    let product = Product {
        op: "tune",
        a: &a,
        a_stride: k,
        a_offset: 0,
        b: &b,
        c: &c,
        c_stride: c.dim(0),
        c_offset: 0,
        m,
        batch: 1,
        image: None,
        epilogue: Epilogue::default(),
    };
    let shape = product.shape();
    let candidates = choice::candidates(gpu.facts(), trial::of(gpu), &shape);
    let rule = candidates[0];
    let mut best = (rule, f64::MAX);
    for choice in candidates {
        let needed = if choice == rule { 1.0 } else { GAIN };
        let seconds = time(gpu, &product, choice)?;
        if seconds < best.1 * needed {
            best = (choice, seconds);
        }
    }
    Ok((shape.bucket(), rule, best.0))
}

/// Median of a few runs, each long enough for a host's clock.
fn time(gpu: &Gpu, product: &Product, choice: Choice) -> Result<f64> {
    let mut turns = 1;
    let run = |turns: usize| -> Result<f64> {
        let start = Instant::now();
        for _ in 0..turns {
            product.run_as(choice)?;
        }
        gpu.wait()?;
        Ok(start.elapsed().as_secs_f64() / turns as f64)
    };
    for _ in 0..WARM_UPS {
        let seconds = run(turns)?;
        turns = ((1e-3 / seconds.max(1e-6)) as usize).clamp(1, 50);
    }
    let mut times = (0..TIMINGS).map(|_| run(turns)).collect::<Result<Vec<_>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[TIMINGS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_adapters_keep_the_rule() {
        let table = tune(&Gpu::plan(), Duration::from_secs(1)).unwrap();
        assert!(table.choices.is_empty() && table.kernels == KERNELS);
    }
}
