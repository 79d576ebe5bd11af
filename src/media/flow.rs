//! Dense optical flow between two frames, and how fast a clip is.     u8 [height, width, 3] ×2 -> [height, width] of (x, y)
//!
//! Lucas and Kanade (1981) around every pixel, from coarse to fine over a pyramid (Bouguet, 2000): the step d that
//! solves, over a Gaussian window w around the pixel and over the three colours,
//!
//! ```text
//! (Σ w [gx², gx gy; gx gy, gy²] + λ) d = −Σ w [gx, gy] (b(p + u) − a(p)),    u <- u + d,  |d| at most 1 a side
//! ```
//!
//! with the gradient g of a by central differences and b read between its pixels by bilinear interpolation; after each
//! level a 3 × 3 median takes single outliers away, and twice the flow is where the finer level starts. λ keeps pixels
//! without texture where the coarser level has put them.
//!
//! A clip's score is the mean of |u| over all pixels and all pairs of neighbouring frames, in pixels of a picture of
//! [`ROWS`] rows: clips of other sizes are scaled to it first, so that the score does not depend on the resolution.

use super::resize;
use crate::error::{Error, Result};

/// Rows of the picture whose pixels the score is in.
pub const ROWS: usize = 36;
/// Levels of the pyramid; each has half the rows and columns of the one below.
const LEVELS: usize = 3;
/// Steps at each level.
const STEPS: usize = 5;
/// Standard deviation of the window, in pixels; it is cut off at three.
const WINDOW: f64 = 4.0;
/// Grey levels², beside the squares of the gradients.
const LAMBDA: f32 = 1.0;
/// Binomial filter before rows and columns are halved.
const BINOMIAL: [f32; 5] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0, 4.0 / 16.0, 1.0 / 16.0];

/// One plane of numbers.
#[derive(Clone)]
struct Plane {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

/// Where each pixel of `a` has gone in `b`, in pixels to the right and downwards.
///
/// Errors: [`Error::Shape`] when a frame is not `[height, width, 3]`, or smaller than 2 × 2.
pub fn flow(a: &[u8], b: &[u8], height: usize, width: usize) -> Result<Vec<[f32; 2]>> {
    let n = height * width * 3;
    if a.len() != n || b.len() != n || height < 2 || width < 2 {
        let detail = format!("frames of {} and {} bytes, wanted [{height}, {width}, 3]", a.len(), b.len());
        return Err(Error::shape("optical flow", detail));
    }
    let window = gaussian();
    let mut levels = vec![(planes(a, height, width), planes(b, height, width))];
    while levels.len() < LEVELS && levels.last().is_some_and(|(a, _)| a[0].height.min(a[0].width) >= 8) {
        let (a, b) = levels.last().expect("not empty");
        levels.push((a.each_ref().map(Plane::halved), b.each_ref().map(Plane::halved)));
    }
    let mut found: Option<[Plane; 2]> = None;
    for (a, b) in levels.iter().rev() {
        let (height, width) = (a[0].height, a[0].width);
        let start = match found {
            None => [Plane::zeros(height, width), Plane::zeros(height, width)],
            Some(coarse) => coarse.map(|plane| plane.doubled(height, width)),
        };
        found = Some(refined(a, b, start, &window));
    }
    let [x, y] = found.expect("a level at least");
    Ok(x.values.into_iter().zip(y.values).map(|(x, y)| [x, y]).collect())
}

/// How fast a clip is: `rgb` is `[count, height, width, 3]`. One frame does not move.
///
/// Errors: [`Error::Shape`] when it is not, or a side is smaller than 2.
pub fn score(rgb: &[u8], count: usize, height: usize, width: usize) -> Result<f64> {
    let bytes = height.checked_mul(width).and_then(|n| n.checked_mul(3)).filter(|&n| n > 0);
    if bytes.and_then(|n| n.checked_mul(count)) != Some(rgb.len()) || count == 0 || height < 2 || width < 2 {
        let detail = format!("{} bytes are not [{count}, {height}, {width}, 3]", rgb.len());
        return Err(Error::shape("optical flow", detail));
    }
    let to_width = ((width * ROWS) as f64 / height as f64).round().max(2.0) as usize;
    let frames: Vec<Vec<u8>> = rgb
        .chunks_exact(height * width * 3)
        .map(|frame| {
            // Halved first, so that nothing is skipped between the four neighbours a pixel is read from.
            let (mut frame, mut h, mut w) = (frame.to_vec(), height, width);
            while h >= 2 * ROWS && w >= 4 {
                let halves = planes(&frame, h, w).each_ref().map(Plane::halved);
                (h, w) = (halves[0].height, halves[0].width);
                frame = (0..h * w).flat_map(|at| [0, 1, 2].map(|c| byte(halves[c].values[at]))).collect();
            }
            resize::bilinear(&frame, h, w, ROWS, to_width)
        })
        .collect();
    let mut sum = 0.0;
    for pair in frames.windows(2) {
        let flow = flow(&pair[0], &pair[1], ROWS, to_width)?;
        let lengths = flow.iter().map(|[x, y]| f64::from(x.hypot(*y))).sum::<f64>();
        sum += lengths / flow.len() as f64;
    }
    Ok(sum / (count - 1).max(1) as f64)
}

/// The steps of one level.
fn refined(a: &[Plane; 3], b: &[Plane; 3], start: [Plane; 2], window: &[f32]) -> [Plane; 2] {
    let (height, width) = (a[0].height, a[0].width);
    let gradients = a.each_ref().map(|plane| [plane.slope(0, 1), plane.slope(1, 0)]);
    let over = |of: &dyn Fn(usize, usize) -> f32| {
        let sums = (0..height * width).map(|at| (0..3).map(|c| of(c, at)).sum()).collect();
        Plane { height, width, values: sums }.filtered(window)
    };
    let product =
        |i: usize, j: usize| over(&|c, at| gradients[c][i].values[at] * gradients[c][j].values[at]).values;
    let (xx, xy, yy) = (product(0, 0), product(0, 1), product(1, 1));
    let [mut x, mut y] = start;
    for _ in 0..STEPS {
        let moved = b.each_ref().map(|plane| plane.moved(&x, &y));
        let change = |i: usize| {
            over(&|c, at| gradients[c][i].values[at] * (moved[c].values[at] - a[c].values[at])).values
        };
        let (p, q) = (change(0), change(1));
        for at in 0..height * width {
            let (a, b, c) = (xx[at] + LAMBDA, xy[at], yy[at] + LAMBDA);
            let determinant = a * c - b * b; // at least λ²
            x.values[at] -= ((c * p[at] - b * q[at]) / determinant).clamp(-1.0, 1.0);
            y.values[at] -= ((a * q[at] - b * p[at]) / determinant).clamp(-1.0, 1.0);
        }
    }
    [x.median(), y.median()]
}

fn byte(value: f32) -> u8 {
    (value + 0.5).clamp(0.0, 255.0) as u8
}

fn planes(rgb: &[u8], height: usize, width: usize) -> [Plane; 3] {
    [0, 1, 2].map(|colour| {
        let values = rgb.iter().skip(colour).step_by(3).map(|&v| f32::from(v)).collect();
        Plane { height, width, values }
    })
}

/// Taps of the window, which sum to 1.
fn gaussian() -> Vec<f32> {
    let reach = (3.0 * WINDOW).round() as i32;
    let taps: Vec<f64> = (-reach..=reach).map(|i| (-0.5 * (f64::from(i) / WINDOW).powi(2)).exp()).collect();
    let sum: f64 = taps.iter().sum();
    taps.into_iter().map(|tap| (tap / sum) as f32).collect()
}

impl Plane {
    fn zeros(height: usize, width: usize) -> Plane {
        Plane { height, width, values: vec![0.0; height * width] }
    }

    /// Both ways with the same taps, edges repeated.
    fn filtered(&self, taps: &[f32]) -> Plane {
        let (height, width, reach) = (self.height, self.width, taps.len() / 2);
        let mut along = Plane::zeros(height, width);
        for (row, out) in self.values.chunks_exact(width).zip(along.values.chunks_exact_mut(width)) {
            let mut padded = vec![row[0]; reach];
            padded.extend_from_slice(row);
            padded.resize(width + 2 * reach, row[width - 1]);
            for (at, value) in out.iter_mut().enumerate() {
                *value = padded[at..at + taps.len()].iter().zip(taps).map(|(v, tap)| v * tap).sum();
            }
        }
        let mut down = Plane::zeros(height, width);
        for (row, out) in down.values.chunks_exact_mut(width).enumerate() {
            for (i, &tap) in taps.iter().enumerate() {
                let row = (row + i).saturating_sub(reach).min(height - 1);
                let row = &along.values[row * width..][..width];
                out.iter_mut().zip(row).for_each(|(out, v)| *out += tap * v);
            }
        }
        down
    }

    /// Half the rows and columns, smoothed before.
    fn halved(&self) -> Plane {
        let smooth = self.filtered(&BINOMIAL);
        let (height, width) = (self.height.div_ceil(2), self.width.div_ceil(2));
        let at = |i: usize| smooth.values[i / width * 2 * self.width + i % width * 2];
        Plane { height, width, values: (0..height * width).map(at).collect() }
    }

    /// The flow of a coarser level at this size: twice as many pixels, each half as large.
    fn doubled(&self, height: usize, width: usize) -> Plane {
        let at = |i: usize| 2.0 * self.between((i % width) as f32 / 2.0, (i / width) as f32 / 2.0);
        Plane { height, width, values: (0..height * width).map(at).collect() }
    }

    /// Central difference towards (down, right), edges repeated.
    fn slope(&self, down: usize, right: usize) -> Plane {
        let (height, width) = (self.height, self.width);
        let at = |i: usize| {
            let (row, column) = (i / width, i % width);
            let next = ((row + down).min(height - 1)) * width + (column + right).min(width - 1);
            let last = row.saturating_sub(down) * width + column.saturating_sub(right);
            0.5 * (self.values[next] - self.values[last])
        };
        Plane { height, width, values: (0..height * width).map(at).collect() }
    }

    /// Each pixel read where the flow says.
    fn moved(&self, x: &Plane, y: &Plane) -> Plane {
        let width = self.width;
        let at = |i: usize| self.between((i % width) as f32 + x.values[i], (i / width) as f32 + y.values[i]);
        Plane { values: (0..self.values.len()).map(at).collect(), ..*self }
    }

    /// Between the pixels, by bilinear interpolation; beyond the edge the edge.
    fn between(&self, x: f32, y: f32) -> f32 {
        let (x, y) = (x.clamp(0.0, (self.width - 1) as f32), y.clamp(0.0, (self.height - 1) as f32));
        let (left, top) = (x as usize, y as usize);
        let (right, bottom) = ((left + 1).min(self.width - 1), (top + 1).min(self.height - 1));
        let (along, down) = (x - left as f32, y - top as f32);
        let at = |row: usize, column: usize| self.values[row * self.width + column];
        let upper = at(top, left) + along * (at(top, right) - at(top, left));
        let lower = at(bottom, left) + along * (at(bottom, right) - at(bottom, left));
        upper + down * (lower - upper)
    }

    /// Of 3 × 3 neighbours, edges repeated.
    fn median(&self) -> Plane {
        let (height, width) = (self.height, self.width);
        let at = |i: usize| {
            let mut near = [0.0; 9];
            for (n, value) in near.iter_mut().enumerate() {
                let row = (i / width + n / 3).saturating_sub(1).min(height - 1);
                let column = (i % width + n % 3).saturating_sub(1).min(width - 1);
                *value = self.values[row * width + column];
            }
            *near.select_nth_unstable_by(4, f32::total_cmp).1
        };
        Plane { height, width, values: (0..height * width).map(at).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A texture of three waves, moved by (x, y).
    fn texture(height: usize, width: usize, [dx, dy]: [f32; 2]) -> Vec<u8> {
        let wave = |x: f32, y: f32, c: f32| {
            let value =
                (0.35 * x + 0.2 * y + c).sin() + (0.15 * x - 0.4 * y).cos() + (0.3 * y + 2.0 * c).sin();
            byte(127.0 + 40.0 * value)
        };
        let pixel = |i: usize| {
            let (x, y) = ((i % width) as f32 - dx, (i / width) as f32 - dy);
            [wave(x, y, 0.0), wave(x, y, 1.0), wave(x, y, 2.0)]
        };
        (0..height * width).flat_map(pixel).collect()
    }

    #[test]
    fn a_known_motion_is_found() {
        for way in [[0.0, 0.0], [1.0, 0.0], [-0.5, 0.75], [2.5, -1.5], [0.0, 4.0]] {
            let (height, width) = (40, 52);
            let (a, b) = (texture(height, width, [0.0, 0.0]), texture(height, width, way));
            let found = flow(&a, &b, height, width).unwrap();
            // Away from the edges, where something has come in.
            let inner: Vec<[f32; 2]> = (0..height * width)
                .filter(|i| (8..height - 8).contains(&(i / width)) && (8..width - 8).contains(&(i % width)))
                .map(|i| found[i])
                .collect();
            let error =
                inner.iter().map(|[x, y]| (x - way[0]).hypot(y - way[1])).sum::<f32>() / inner.len() as f32;
            assert!(error < 0.1 + 0.05 * way[0].hypot(way[1]), "{way:?}: {error}");
        }
    }

    #[test]
    fn the_score_is_a_speed_and_does_not_depend_on_the_size() {
        let still = texture(36, 64, [0.0, 0.0]).repeat(3);
        assert_eq!(score(&still, 3, 36, 64).unwrap(), 0.0);
        assert_eq!(score(&still[..36 * 64 * 3], 1, 36, 64).unwrap(), 0.0);
        let clip = |height: usize, width: usize, speed: f32| {
            let frame = |n: usize| {
                let small = texture(36, 64, [speed * n as f32, 0.0]);
                resize::bilinear(&small, 36, 64, height, width)
            };
            (0..3).flat_map(frame).collect::<Vec<u8>>()
        };
        let slow = score(&clip(36, 64, 0.5), 3, 36, 64).unwrap();
        let fast = score(&clip(36, 64, 2.0), 3, 36, 64).unwrap();
        assert!((0.4..0.65).contains(&slow) && (1.7..2.6).contains(&fast), "{slow} {fast}");
        let large = score(&clip(144, 256, 2.0), 3, 144, 256).unwrap();
        assert!((large / fast - 1.0).abs() < 0.1, "{large} {fast}");
        assert!(score(&still, 3, 36, 63).is_err() && score(&[], 0, 36, 64).is_err());
        assert!(score(&[0; 6], 1, 1, 2).is_err() && flow(&[0; 12], &[0; 11], 2, 2).is_err());
    }
}
