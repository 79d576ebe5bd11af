//! Two pictures of one size, pixel by pixel: SSIM, MSE, PSNR, hue.
//!
//! ```text
//! SSIM = mean over 7 x 7 windows and colours of (2 mx my + C1)(2 cxy + C2) / ((mx² + my² + C1)(vx + vy + C2))
//! MSE  = mean of (a / 255 - b / 255)²            PSNR = 10 log10(1 / MSE) dB
//! hue  = sum of w |hue a - hue b| / sum of w     in degrees, 0 to 180; w the larger of both saturations
//! ```
//!
//! SSIM as scikit-image's `structural_similarity(a, b, channel_axis=-1, win_size=7, data_range=255)`: uniform windows,
//! sample covariance, windows that leave the picture left out (Wang et al. 2004). Windows are summed in whole numbers.
//!
//! Hue and saturation are those of HSV. A pixel without a colour in one of the pictures counts as 90 degrees, what a hue
//! drawn at random gives: a grey picture is no better than a wrong one. EEG2Video names such a metric and never defines
//! it; this definition is ours.

use crate::error::{Error, Result};
use crate::media::Frames;

/// Side of SSIM's window.
pub const WINDOW: usize = 7;
/// (0.01 · 255)² and (0.03 · 255)².
const C1: f64 = 6.5025;
const C2: f64 = 58.5225;

/// Structural similarity of two pictures `[height, width, 3]`; 1 for the same picture.
///
/// Errors: [`Error::Shape`] when they are not of that size, or smaller than a window.
pub fn ssim(a: &[u8], b: &[u8], height: usize, width: usize) -> Result<f64> {
    check("ssim", a, b, height, width)?;
    if height.min(width) < WINDOW {
        let detail = format!("wanted pictures of {WINDOW} x {WINDOW} pixels or more, got {width} x {height}");
        return Err(Error::shape("ssim", detail));
    }
    let (rows, columns) = (height - WINDOW + 1, width - WINDOW + 1);
    let n = (WINDOW * WINDOW) as f64;
    let of_sample = n / (n - 1.0);
    let mut total = 0.0;
    for colour in 0..3 {
        // Sums of x, y, xx, yy, xy: down a window's height for each column, then along its width.
        let terms = |row: usize, column: usize| {
            let at = (row * width + column) * 3 + colour;
            let (x, y) = (i64::from(a[at]), i64::from(b[at]));
            [x, y, x * x, y * y, x * y]
        };
        let mut tall = vec![[0_i64; 5]; width];
        let change = |sums: &mut [i64; 5], terms: [i64; 5], sign: i64| {
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += sign * term);
        };
        for row in 0..WINDOW - 1 {
            (0..width).for_each(|column| change(&mut tall[column], terms(row, column), 1));
        }
        for row in 0..rows {
            for (column, sums) in tall.iter_mut().enumerate() {
                change(sums, terms(row + WINDOW - 1, column), 1);
            }
            let mut wide = [0_i64; 5];
            tall[..WINDOW - 1].iter().for_each(|&sums| change(&mut wide, sums, 1));
            for column in 0..columns {
                change(&mut wide, tall[column + WINDOW - 1], 1);
                let [mx, my, xx, yy, xy] = wide.map(|sum| sum as f64 / n);
                let [vx, vy, cxy] = [xx - mx * mx, yy - my * my, xy - mx * my].map(|v| v * of_sample);
                total +=
                    (2.0 * mx * my + C1) * (2.0 * cxy + C2) / ((mx * mx + my * my + C1) * (vx + vy + C2));
                change(&mut wide, tall[column], -1);
            }
            for (column, sums) in tall.iter_mut().enumerate() {
                change(sums, terms(row, column), -1);
            }
        }
    }
    Ok(total / (3 * rows * columns) as f64)
}

/// Mean squared difference of two pictures of any size, values in [0, 1].
///
/// Errors: [`Error::Shape`] when they differ in size or are empty.
pub fn mse(a: &[u8], b: &[u8]) -> Result<f64> {
    if a.len() != b.len() || a.is_empty() {
        let detail = format!("wanted two pictures of one size, got {} and {} bytes", a.len(), b.len());
        return Err(Error::shape("mse", detail));
    }
    let square = |(&a, &b): (&u8, &u8)| u64::from(u32::from(a.abs_diff(b)).pow(2));
    let sum: u64 = a.iter().zip(b).map(square).sum();
    Ok(sum as f64 / a.len() as f64 / 65_025.0)
}

/// Peak signal-to-noise ratio in dB; infinite for the same picture.
///
/// Errors: as [`mse`].
pub fn psnr(a: &[u8], b: &[u8]) -> Result<f64> {
    Ok(-10.0 * mse(a, b)?.log10())
}

/// Mean difference of hue in degrees, weighted by the larger saturation: 0 for the same colours, 90 for colours at
/// random or none, 180 for complements. 0 where neither picture has a colour.
///
/// Errors: as [`mse`].
pub fn hue(a: &[u8], b: &[u8]) -> Result<f64> {
    mse(a, b)?;
    let (mut sum, mut weights) = (0.0, 0.0);
    for (a, b) in a.chunks_exact(3).zip(b.chunks_exact(3)) {
        let (a, b) = (hue_saturation(a), hue_saturation(b));
        let weight = a.1.max(b.1);
        let difference = match (a.0, b.0) {
            (Some(a), Some(b)) => {
                let apart = (a - b).abs();
                apart.min(360.0 - apart)
            }
            _ => 90.0,
        };
        sum += weight * difference;
        weights += weight;
    }
    Ok(if weights > 0.0 { sum / weights } else { 0.0 })
}

/// HSV's hue in degrees, none for a grey, and saturation.
fn hue_saturation(rgb: &[u8]) -> (Option<f64>, f64) {
    let [r, g, b] = [0, 1, 2].map(|colour| f64::from(rgb[colour]));
    let (largest, least) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = largest - least;
    if chroma == 0.0 {
        return (None, 0.0);
    }
    let sixth = if largest == r {
        ((g - b) / chroma).rem_euclid(6.0)
    } else if largest == g {
        (b - r) / chroma + 2.0
    } else {
        (r - g) / chroma + 4.0
    };
    (Some(60.0 * sixth), chroma / largest)
}

/// The mean of a score over the frames of two clips of one size.
///
/// Errors: [`Error::Shape`] when they differ in size or number of frames; those of `score`.
pub fn over_frames(
    a: &Frames,
    b: &Frames,
    score: impl Fn(&[u8], &[u8], usize, usize) -> Result<f64>,
) -> Result<f64> {
    if [a.count, a.height, a.width] != [b.count, b.height, b.width] {
        let size = |f: &Frames| format!("{} frames of {} x {}", f.count, f.width, f.height);
        return Err(Error::shape("clips", format!("{} against {}", size(a), size(b))));
    }
    let mut sum = 0.0;
    for at in 0..a.count {
        let [a_frame, b_frame] = [a, b].map(|frames| frames.frame(at).unwrap_or_default());
        sum += score(a_frame, b_frame, a.height, a.width)?;
    }
    Ok(sum / a.count as f64)
}

fn check(op: &str, a: &[u8], b: &[u8], height: usize, width: usize) -> Result<()> {
    let wanted = height * width * 3;
    if a.len() == wanted && b.len() == wanted && wanted > 0 {
        return Ok(());
    }
    let detail = format!("wanted two of [{height}, {width}, 3], got {} and {} bytes", a.len(), b.len());
    Err(Error::shape(op, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pictures of the specification: a plaid, and the same with a texture on it.
    fn plaids() -> [Vec<u8>; 2] {
        let plaid = |texture: bool| {
            let mut picture = Vec::new();
            for y in 0..32 {
                for x in 0..48 {
                    for c in 0..3 {
                        let extra = if texture { (y * x) % 17 } else { 0 };
                        picture.push(((3 * y + 5 * x + 40 * c + extra) % 256) as u8);
                    }
                }
            }
            picture
        };
        [plaid(false), plaid(true)]
    }

    /// Values of scikit-image, as the specification gives them.
    #[test]
    fn golden_pictures() {
        let [a, b] = plaids();
        assert!(
            (ssim(&a, &b, 32, 48).unwrap() - 0.776_989).abs() < 5e-7,
            "{}",
            ssim(&a, &b, 32, 48).unwrap()
        );
        assert!((mse(&a, &b).unwrap() - 0.029_065_27).abs() < 5e-9);
        assert!((psnr(&a, &b).unwrap() - 15.366_26).abs() < 5e-6);
        assert!((ssim(&a, &a, 32, 48).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(psnr(&a, &a).unwrap(), f64::INFINITY);
        assert_eq!(hue(&a, &a).unwrap(), 0.0);
    }

    #[test]
    fn hues_by_hand() {
        let of = |a: [u8; 3], b: [u8; 3]| hue(&a, &b).unwrap();
        assert_eq!(of([255, 0, 0], [0, 255, 0]), 120.0);
        assert_eq!(of([255, 0, 0], [0, 255, 255]), 180.0);
        assert!((of([255, 0, 10], [255, 10, 0]) - 2.0 * 60.0 * 10.0 / 255.0).abs() < 1e-9);
        assert_eq!(of([200, 0, 0], [90, 90, 90]), 90.0, "no colour where there is one");
        assert_eq!(of([7, 7, 7], [90, 90, 90]), 0.0);
        // Half saturated, hue 0 against 60: weight 1/2; then equal and saturated: weight 1.
        let got = hue(&[100, 50, 50, 0, 0, 9], &[100, 100, 50, 0, 0, 9]).unwrap();
        assert!((got - 0.5 * 60.0 / 1.5).abs() < 1e-12, "{got}");
    }

    /// Hues at random are 90 degrees apart on average, and so is no colour.
    #[test]
    fn hues_at_random_are_at_chance() {
        let mut state = 1;
        let mut byte = || {
            state = crate::weights::random::splitmix64(state);
            (state >> 32) as u8
        };
        let [a, b] = [0, 1].map(|_| (0..60_000).map(|_| byte()).collect::<Vec<u8>>());
        let got = hue(&a, &b).unwrap();
        assert!((got - 90.0).abs() < 1.5, "{got}");
    }

    #[test]
    fn sizes_are_checked() {
        assert!(ssim(&[0; 48], &[0; 48], 4, 4).unwrap_err().to_string().contains("7 x 7"));
        assert!(ssim(&[0; 12], &[0; 15], 2, 2).is_err());
        assert!(mse(&[], &[]).is_err() && hue(&[1, 2, 3], &[1]).is_err());
        let clip = |n: usize| Frames::new(n, 1, 1, vec![n as u8; 3 * n], 3.0).unwrap();
        assert!(over_frames(&clip(1), &clip(2), |a, b, _, _| mse(a, b)).is_err());
        assert_eq!(over_frames(&clip(2), &clip(2), |a, b, _, _| mse(a, b)).unwrap(), 0.0);
    }
}
