//! t-SNE: vectors to points of a plane, neighbours near each other.     [n, d] -> [n, 2]
//!
//! ```text
//! p(j|i) = exp(-|xi - xj|² / 2σi²) / Σk,  σi such that its entropy is ln(perplexity);  p = (p(j|i) + p(i|j)) / 2n
//! q      = (1 + |yi - yj|²)⁻¹ / Σ          dC/dyi = 4 Σj (p - q) (1 + |yi - yj|²)⁻¹ (yi - yj)
//! ```
//!
//! The exact form, without trees: time grows with n², memory with 4 n² bytes; hence [`MAX_POINTS`]. Source: L. van
//! der Maaten and G. Hinton, JMLR 9 (2008); early exaggeration by 12 for 250 steps and a rate of n / 48 (at least 50)
//! as in A. Belkina et al., Nature Communications 10 (2019). Rows are shared among threads and each is summed in
//! one order: the same seed gives the same points, whatever the number of cores.

use crate::error::{Error, Result};
use crate::weights::random::splitmix64;
use std::f64::consts::TAU;

/// Points at most: 64 MiB of affinities, and minutes.
pub const MAX_POINTS: usize = 4096;
/// Steps with exaggerated affinities.
const EARLY: usize = 250;
const EXAGGERATION: f64 = 12.0;

/// What is asked of t-SNE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How many neighbours count; at most a third of the points are taken.
    pub perplexity: f64,
    /// Steps.
    pub steps: usize,
    /// Seed of the places points start at.
    pub seed: u64,
}

impl Options {
    /// The perplexity that this many points allow.
    pub fn perplexity_of(&self, n: usize) -> f64 {
        self.perplexity.min((n as f64 - 1.0) / 3.0)
    }
}

impl Default for Options {
    fn default() -> Options {
        Options { perplexity: 30.0, steps: 1000, seed: 0 }
    }
}

/// `data` `[n, d]` to `n` points around zero, and the divergence of Kullback and Leibler that remains. `watch` is told
/// how many steps are done.
///
/// Errors: [`Error::Shape`] when `data` is no `[n, d]` of 4 to [`MAX_POINTS`] rows, or a number is not finite;
/// [`Error::Setting`] when the perplexity is below 1 or no number.
pub fn tsne(
    data: &[f32],
    d: usize,
    options: Options,
    mut watch: impl FnMut(usize),
) -> Result<(Vec<[f64; 2]>, f64)> {
    let n = data.len().checked_div(d).unwrap_or(0);
    if n * d != data.len() || !(4..=MAX_POINTS).contains(&n) {
        let detail =
            format!("{} numbers in rows of {d} are not 4 to {MAX_POINTS} rows; take fewer", data.len());
        return Err(Error::shape("tsne", detail));
    }
    if let Some(at) = data.iter().position(|v| !v.is_finite()) {
        return Err(Error::shape("tsne", format!("row {}, column {} is not finite", at / d, at % d)));
    }
    if !(1.0..).contains(&options.perplexity) {
        let detail = format!("{} is no number of neighbours, give 5 to 50", options.perplexity);
        return Err(Error::setting("--perplexity", detail));
    }
    let p = affinities(data, n, d, options.perplexity_of(n));

    let mut y = start(n, options.seed);
    let (mut speed, mut gains) = (vec![[0.0; 2]; n], vec![[1.0f64; 2]; n]);
    let rate = (n as f64 / (4.0 * EXAGGERATION)).max(50.0);
    for step in 0..options.steps {
        let (pull, momentum) = if step < EARLY { (EXAGGERATION, 0.5) } else { (1.0, 0.8) };
        let slopes = gradient(&p, &y, pull);
        for i in 0..n {
            for k in 0..2 {
                // Steps grow where the slope keeps its sign (R. Jacobs, 1988).
                let turns = (slopes[i][k] > 0.0) == (speed[i][k] > 0.0);
                gains[i][k] = if turns { (0.8 * gains[i][k]).max(0.01) } else { gains[i][k] + 0.2 };
                speed[i][k] = momentum * speed[i][k] - rate * gains[i][k] * slopes[i][k];
                y[i][k] += speed[i][k];
            }
        }
        let mean = [0, 1].map(|k| y.iter().map(|point| point[k]).sum::<f64>() / n as f64);
        y.iter_mut().for_each(|point| [0, 1].into_iter().for_each(|k| point[k] -= mean[k]));
        watch(step + 1);
    }
    let divergence = divergence(&p, &y);
    Ok((y, divergence))
}

/// Symmetric p, `[n, n]`; all together are 1.
fn affinities(data: &[f32], n: usize, d: usize, perplexity: f64) -> Vec<f32> {
    let mut p = vec![0.0f32; n * n];
    by_rows(&mut p, n, |i, row| {
        let own = &data[i * d..(i + 1) * d];
        let squares: Vec<f64> = data
            .chunks_exact(d)
            .map(|other| own.iter().zip(other).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum())
            .collect();
        let nearest = (0..n).filter(|&j| j != i).map(|j| squares[j]).fold(f64::MAX, f64::min);
        // beta = 1 / 2σ² by halving, from twice too small to twice too large.
        let (mut low, mut high) = (0.0, f64::INFINITY);
        let scale = squares.iter().sum::<f64>() / n as f64;
        let mut beta = if scale > 0.0 { 1.0 / scale } else { 1.0 };
        for _ in 0..64 {
            let (mut sum, mut weighted) = (0.0, 0.0);
            for (j, slot) in row.iter_mut().enumerate() {
                let off = squares[j] - nearest;
                let value = if j == i { 0.0 } else { (-beta * off).exp() };
                sum += value;
                weighted += value * off;
                *slot = value as f32;
            }
            row.iter_mut().for_each(|slot| *slot = (f64::from(*slot) / sum) as f32);
            let entropy = sum.ln() + beta * weighted / sum;
            let off = entropy - perplexity.ln();
            if off.abs() < 1e-5 {
                break;
            }
            if off > 0.0 {
                low = beta;
                beta = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * beta };
            } else {
                high = beta;
                beta = 0.5 * (low + high);
            }
        }
    });
    for i in 0..n {
        for j in 0..i {
            let both = ((f64::from(p[i * n + j]) + f64::from(p[j * n + i])) / (2.0 * n as f64)) as f32;
            (p[i * n + j], p[j * n + i]) = (both, both);
        }
    }
    p
}

/// Near zero, from a seed.
fn start(n: usize, seed: u64) -> Vec<[f64; 2]> {
    let uniform = |at: u64| (splitmix64(splitmix64(seed) ^ at) >> 11) as f64 / (1u64 << 53) as f64;
    let normal = |at: u64| {
        let (radius, angle) = ((-2.0 * (1.0 - uniform(2 * at)).ln()).sqrt(), TAU * uniform(2 * at + 1));
        [1e-4 * radius * angle.cos(), 1e-4 * radius * angle.sin()]
    };
    (0..n as u64).map(normal).collect()
}

fn gradient(p: &[f32], y: &[[f64; 2]], pull: f64) -> Vec<[f64; 2]> {
    let n = y.len();
    // Towards neighbours, away from all, and the sum that turns the second into shares.
    let mut parts = vec![[0.0; 5]; n];
    by_rows(&mut parts, 1, |i, part| {
        let (mut sums, [x, z]) = ([0.0; 5], y[i]);
        for (&p, other) in p[i * n..(i + 1) * n].iter().zip(y) {
            let (dx, dz) = (x - other[0], z - other[1]);
            let near = 1.0 / (1.0 + dx * dx + dz * dz);
            let (attract, repel) = (f64::from(p) * near, near * near);
            sums[0] += attract * dx;
            sums[1] += attract * dz;
            sums[2] += repel * dx;
            sums[3] += repel * dz;
            sums[4] += near;
        }
        sums[4] -= 1.0; // itself
        part[0] = sums;
    });
    let total: f64 = parts.iter().map(|part| part[4]).sum();
    parts.iter().map(|part| [0, 1].map(|k| 4.0 * (pull * part[k] - part[2 + k] / total))).collect()
}

fn divergence(p: &[f32], y: &[[f64; 2]]) -> f64 {
    let n = y.len();
    let near = |i: usize, j: usize| 1.0 / (1.0 + (y[i][0] - y[j][0]).powi(2) + (y[i][1] - y[j][1]).powi(2));
    let pairs = || (0..n).flat_map(|i| (0..n).filter(move |&j| j != i).map(move |j| (i, j)));
    let total: f64 = pairs().map(|(i, j)| near(i, j)).sum();
    let term = |(i, j): (usize, usize)| {
        let p = f64::from(p[i * n + j]);
        if p > 0.0 { p * (p * total / near(i, j)).ln() } else { 0.0 }
    };
    pairs().map(term).sum()
}

/// Fills `out`, rows of `width`, on all cores; `fill` is given the number of a row and the row.
fn by_rows<T: Send>(out: &mut [T], width: usize, fill: impl Fn(usize, &mut [T]) + Sync) {
    let n = out.len() / width;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(n / 64 + 1);
    let rows = n.div_ceil(threads);
    std::thread::scope(|scope| {
        for (nth, part) in out.chunks_mut(rows * width).enumerate() {
            let fill = &fill;
            let mut work = move || {
                part.chunks_exact_mut(width).enumerate().for_each(|(i, row)| fill(nth * rows + i, row));
            };
            if threads == 1 { work() } else { drop(scope.spawn(work)) }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_points_may_count() {
        let options = Options { perplexity: 50.0, ..Options::default() };
        assert_eq!([121, 151, 4000].map(|n| options.perplexity_of(n)), [40.0, 50.0, 50.0]);
    }

    /// Three clouds of `n` points in `d` dimensions.
    fn clouds(n: usize, d: usize) -> (Vec<f32>, Vec<usize>) {
        let noise = |at: usize| (splitmix64(at as u64) >> 40) as f32 / (1u32 << 24) as f32 - 0.5;
        let data = (0..3 * n * d).map(|at| {
            let (row, column) = (at / d, at % d);
            noise(at) + if column == row % 3 { 4.0 } else { 0.0 }
        });
        (data.collect(), (0..3 * n).map(|row| row % 3).collect())
    }

    const QUICK: Options = Options { perplexity: 10.0, steps: 400, seed: 3 };

    #[test]
    fn clouds_stay_apart() {
        let (data, classes) = clouds(40, 12);
        let mut told = 0;
        let (points, divergence) = tsne(&data, 12, QUICK, |step| told = step).unwrap();
        assert_eq!(told, 400);
        assert!(divergence.is_finite() && divergence < 1.0, "{divergence}");
        for (i, point) in points.iter().enumerate() {
            let off = |j: usize| (point[0] - points[j][0]).hypot(point[1] - points[j][1]);
            let nearest = (0..points.len()).filter(|&j| j != i).min_by(|&a, &b| off(a).total_cmp(&off(b)));
            assert_eq!(classes[nearest.unwrap()], classes[i], "point {i}");
        }
    }

    #[test]
    fn seeds_repeat_and_differ() {
        let (data, _) = clouds(50, 5);
        let run = |seed| tsne(&data, 5, Options { steps: 60, seed, ..QUICK }, |_| {}).unwrap().0;
        let bits = |points: Vec<[f64; 2]>| points.concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(run(1)), bits(run(1)));
        assert_ne!(bits(run(1)), bits(run(2)));
    }

    #[test]
    fn the_gradient_is_the_divergences() {
        let (data, _) = clouds(7, 4);
        let p = affinities(&data, 21, 4, 5.0);
        let total: f64 = p.iter().map(|&v| f64::from(v)).sum();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
        let mut y: Vec<[f64; 2]> = start(21, 9).iter().map(|point| point.map(|v| 1e4 * v)).collect();
        let slopes = gradient(&p, &y, 1.0);
        for (i, k) in [(0, 0), (7, 1), (20, 0)] {
            let place = y[i][k];
            let mut at = |v: f64| {
                y[i][k] = v;
                divergence(&p, &y)
            };
            let slope = (at(place + 1e-5) - at(place - 1e-5)) / 2e-5;
            at(place);
            assert!((slope - slopes[i][k]).abs() < 1e-6, "{slope} {}", slopes[i][k]);
        }
    }

    #[test]
    fn rows_have_the_perplexity_that_is_asked() {
        let (data, _) = clouds(30, 6);
        let p = affinities(&data, 90, 6, 12.0);
        // Symmetric rows have it only about.
        for row in p.chunks_exact(90) {
            let sum: f64 = row.iter().map(|&v| f64::from(v)).sum();
            let entropy: f64 =
                row.iter().filter(|v| **v > 0.0).map(|&v| f64::from(v) / sum).map(|v| -v * v.ln()).sum();
            assert!((8.0..22.0).contains(&entropy.exp()), "{}", entropy.exp());
        }
    }

    #[test]
    fn odd_data_is_refused_or_survives() {
        let refused = |data: &[f32], d| tsne(data, d, QUICK, |_| {}).unwrap_err().to_string();
        assert!(refused(&[], 3).contains("4 to 4096 rows"));
        assert!(refused(&[0.0; 9], 0).contains("rows of 0"));
        assert!(refused(&[0.0; 10], 3).contains("rows of 3"));
        assert!(refused(&vec![0.0; 4097], 1).contains("take fewer"));
        let mut data = vec![0.0; 30];
        data[10] = f32::NAN;
        assert!(refused(&data, 3).contains("row 3, column 1"));
        let same = tsne(&[1.0; 30], 3, QUICK, |_| {}).unwrap();
        assert!(same.0.iter().flatten().all(|v| v.is_finite()), "equal vectors do not break it");
        assert!(tsne(&[1.0; 30], 3, Options { perplexity: f64::NAN, ..QUICK }, |_| {}).is_err());
    }
}
