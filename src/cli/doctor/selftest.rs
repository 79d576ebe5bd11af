//! The kernels a denoiser lives on, run on the device and held against plain f64 loops on the host.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::ops::{ConvWeight, Epilogue, Packed, Sight, SourceType, Window};
use crate::tensor::{DType, Tensor};
use crate::weights::random;

/// One test, run.
pub(super) struct Outcome {
    pub(super) name: &'static str,
    /// Largest |got - wanted| / max(1, |wanted|), or what went wrong.
    pub(super) error: Result<f64>,
    /// Largest error that passes.
    pub(super) tolerance: f64,
}

impl Outcome {
    pub(super) fn is_ok(&self) -> bool {
        matches!(self.error, Ok(error) if error <= self.tolerance) // NaN is none of both
    }
}

struct Test {
    name: &'static str,
    tolerance: f64,
    run: fn(&Gpu) -> Result<f64>,
}

/// Sums of about a hundred products in f32.
const F32: f64 = 1e-5;
/// The result is rounded to f16 once, by 2^-11 of it at most; four times that.
const F16: f64 = 2e-3;

const TESTS: &[Test] = &[
    Test { name: "transfer", tolerance: 0.0, run: transfer },
    Test { name: "normal", tolerance: 0.0, run: normal },
    Test { name: "linear", tolerance: F32, run: |gpu| linear(gpu, false) },
    Test { name: "conv2d", tolerance: F32, run: conv2d },
    Test { name: "attention", tolerance: F32, run: attention },
    Test { name: "group_norm", tolerance: F32, run: group_norm },
];
const HALF: Test = Test { name: "linear f16", tolerance: F16, run: |gpu| linear(gpu, true) };

/// How many tests [`run`] makes on this device.
pub(super) fn count(gpu: &Gpu) -> usize {
    TESTS.len() + usize::from(gpu.facts().features.f16)
}

/// Every test; `done` hears how many are through.
pub(super) fn run(gpu: &Gpu, mut done: impl FnMut(u64)) -> Vec<Outcome> {
    let half = gpu.facts().features.f16.then_some(&HALF);
    let tests = TESTS.iter().chain(half).enumerate();
    tests
        .map(|(i, test)| {
            let error = (test.run)(gpu);
            done(i as u64 + 1);
            Outcome { name: test.name, error, tolerance: test.tolerance }
        })
        .collect()
}

/// `count` values in [-1, 1), all bits of f32 in use.
fn values(name: &str, count: usize) -> Vec<f32> {
    let mut out = vec![0.0; count];
    random::fill(name, &[count, 3], 0, &mut out); // spread sqrt(3 / 3)
    out
}

fn largest_error(got: &[f32], wanted: impl IntoIterator<Item = f64>) -> f64 {
    let pairs = got.iter().zip(wanted).map(|(&got, wanted)| (f64::from(got), wanted));
    pairs.map(|(got, wanted)| (got - wanted).abs() / wanted.abs().max(1.0)).fold(
        0.0,
        // Unlike f64::max, keeps NaN.
        |worst, error| if worst.is_nan() || error <= worst { worst } else { error },
    )
}

/// Up, turned around, and down again.
fn transfer(gpu: &Gpu) -> Result<f64> {
    let x = values("transfer", 127 * 65);
    let back = Tensor::new(gpu, &[127, 65], &x)?.permute(&[1, 0])?.to_vec()?;
    Ok(largest_error(&back, (0..x.len()).map(|i| f64::from(x[i % 127 * 65 + i / 127]))))
}

/// The generator's bits on the device and on the host.
fn normal(gpu: &Gpu) -> Result<f64> {
    let got = Tensor::normal(gpu, &[1001], 42, 7)?.to_vec()?;
    Ok(largest_error(&got, Tensor::normal_host(42, 7, 0, 1001).into_iter().map(f64::from)))
}

fn linear(gpu: &Gpu, half: bool) -> Result<f64> {
    let [m, k, n] = [65, 67, 63];
    let (mut x, mut w, b) = (values("x", m * k), values("w", n * k), values("b", n));
    if half {
        // Exact in f16, so that only the kernel's own rounding shows.
        x.iter_mut().chain(&mut w).for_each(|v| *v = (*v * 256.0).round() / 256.0);
    }
    let weight = Packed::from_bytes(gpu, [n, k, 1], SourceType::F32, bytemuck::cast_slice(&w), half)?;
    let bias = Tensor::new(gpu, &[n], &b)?;
    let dtype = if half { DType::F16 } else { DType::F32 };
    let x_device = Tensor::new(gpu, &[m, k], &x)?.cast(dtype)?;
    let y = x_device.linear(&weight, Epilogue { bias: Some(&bias), ..Default::default() })?;
    let wanted = (0..m * n).map(|at| {
        let (row, column) = (at / n, at % n);
        let product = |i: usize| f64::from(x[row * k + i]) * f64::from(w[column * k + i]);
        f64::from(b[column]) + (0..k).map(product).sum::<f64>()
    });
    Ok(largest_error(&y.cast(DType::F32)?.to_vec()?, wanted))
}

fn conv2d(gpu: &Gpu) -> Result<f64> {
    let [height, width, channels, outputs] = [9, 7, 5, 6];
    let (x, w) = (values("image", height * width * channels), values("kernel", outputs * channels * 9));
    let shape = [outputs, channels, 3, 3];
    let weight = ConvWeight::from_bytes(gpu, shape, 1, SourceType::F32, bytemuck::cast_slice(&w), false)?;
    let image = Tensor::new(gpu, &[1, height, width, channels], &x)?;
    let y = image.conv2d(&weight, Window::padded(1), Epilogue::default())?;
    let wanted = (0..height * width * outputs).map(|at| {
        let (row, column, output) = (at / outputs / width, at / outputs % width, at % outputs);
        let tap = |i: usize| {
            let (channel, ky, kx) = (i / 9, i / 3 % 3, i % 3);
            let (y, x_) = (row + ky, column + kx); // one further than in the image: padding
            if y == 0 || x_ == 0 || y > height || x_ > width {
                return 0.0;
            }
            let value = x[((y - 1) * width + x_ - 1) * channels + channel];
            f64::from(value) * f64::from(w[output * channels * 9 + i])
        };
        (0..channels * 9).map(tap).sum()
    });
    Ok(largest_error(&y.to_vec()?, wanted.collect::<Vec<f64>>()))
}

fn attention(gpu: &Gpu) -> Result<f64> {
    let [queries, keys, heads, width] = [33, 35, 4, 8];
    let channels = heads * width;
    let (q, k, v) =
        (values("q", queries * channels), values("k", keys * channels), values("v", keys * channels));
    let tensor = |rows, values: &[f32]| Tensor::new(gpu, &[1, rows, channels], values);
    let y =
        tensor(queries, &q)?.attention(&tensor(keys, &k)?, &tensor(keys, &v)?, heads, None, Sight::All)?;
    let mut wanted = vec![0.0; queries * channels];
    for (query, head) in (0..queries).flat_map(|query| (0..heads).map(move |head| (query, head))) {
        let at = |row: usize, i: usize| row * channels + head * width + i;
        let score = |key: usize| {
            let products = (0..width).map(|i| f64::from(q[at(query, i)]) * f64::from(k[at(key, i)]));
            (products.sum::<f64>() / (width as f64).sqrt()).exp()
        };
        let scores: Vec<f64> = (0..keys).map(score).collect();
        let total: f64 = scores.iter().sum();
        for i in 0..width {
            let seen = scores.iter().enumerate().map(|(key, score)| score * f64::from(v[at(key, i)]));
            wanted[at(query, i)] = seen.sum::<f64>() / total;
        }
    }
    Ok(largest_error(&y.to_vec()?, wanted))
}

fn group_norm(gpu: &Gpu) -> Result<f64> {
    let [images, positions, channels, groups] = [2, 35, 12, 3];
    let (x, w, b) =
        (values("x", images * positions * channels), values("w", channels), values("b", channels));
    let vector = |values: &[f32]| Tensor::new(gpu, &[channels], values);
    let tensor = Tensor::new(gpu, &[images, positions, channels], &x)?;
    let y = tensor.group_norm(groups, &vector(&w)?, &vector(&b)?, 1e-5, true)?;
    let per_group = channels / groups;
    let wanted = (0..x.len()).map(|at| {
        let (image, channel) = (at / channels / positions, at % channels);
        let first = channel / per_group * per_group;
        let members = (0..positions * per_group).map(|i| {
            let (position, c) = (i / per_group, first + i % per_group);
            f64::from(x[(image * positions + position) * channels + c])
        });
        let n = (positions * per_group) as f64;
        let mean = members.clone().sum::<f64>() / n;
        let variance = members.map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let normed = (f64::from(x[at]) - mean) / (variance + 1e-5).sqrt();
        let scaled = normed * f64::from(w[channel]) + f64::from(b[channel]);
        scaled / (1.0 + (-scaled).exp())
    });
    Ok(largest_error(&y.to_vec()?, wanted.collect::<Vec<f64>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_passes() {
        let Some(gpu) = crate::testing::gpu() else { return };
        let mut heard = 0;
        let outcomes = run(&gpu, |done| heard = done);
        assert_eq!((outcomes.len(), heard as usize), (count(&gpu), count(&gpu)));
        for outcome in outcomes {
            assert!(outcome.is_ok(), "{}: {:?}", outcome.name, outcome.error);
        }
    }

    #[test]
    fn a_wrong_value_and_nan_fail() {
        let outcome = |error| Outcome { name: "x", error: Ok(error), tolerance: F32 };
        assert!(outcome(largest_error(&[1.0, 2.0], [1.0, 2.0])).is_ok());
        assert!(!outcome(largest_error(&[1.0, 2.1], [1.0, 2.0])).is_ok());
        assert!(!outcome(largest_error(&[f32::NAN, 2.0], [1.0, 2.0])).is_ok());
    }
}
