//! Bilinear resizing of planes.     [planes, height, width] -> [planes, height', width']
//!
//! The same as PyTorch's `interpolate(mode="bilinear", align_corners=False, antialias=True)` and torchvision's `resize`:
//! centres of pixels lie at halves, beyond the border there is nothing. Where an axis grows this is plain bilinear
//! interpolation; where it shrinks, the triangle is as wide as the step.

use crate::error::{Error, Result};

/// Resizes planes from `[height, width]` to another size. Sums in f64.
///
/// Errors: [`Error::Shape`] for values that are no whole planes and for sizes of 0.
pub fn resize(planes: &[f32], size: [usize; 2], to: [usize; 2]) -> Result<Vec<f32>> {
    let area = size[0].checked_mul(size[1]).unwrap_or(0);
    if area == 0 || to.contains(&0) || !planes.len().is_multiple_of(area) {
        let detail = format!("{} values, wanted planes of {size:?}, to become {to:?}", planes.len());
        return Err(Error::shape("resize", detail));
    }
    let (rows, columns) = (weights(size[0], to[0]), weights(size[1], to[1]));
    let mut resized = Vec::with_capacity(planes.len() / area * to[0] * to[1]);
    let mut wide = vec![0.0f64; size[0] * to[1]];
    for plane in planes.chunks_exact(area) {
        for (line, out) in plane.chunks_exact(size[1]).zip(wide.chunks_exact_mut(to[1])) {
            for (slot, (first, weights)) in out.iter_mut().zip(&columns) {
                *slot = weights.iter().zip(&line[*first..]).map(|(w, &v)| w * f64::from(v)).sum();
            }
        }
        for (first, weights) in &rows {
            resized.extend((0..to[1]).map(|x| {
                let sum: f64 =
                    weights.iter().enumerate().map(|(i, w)| w * wide[(first + i) * to[1] + x]).sum();
                sum as f32
            }));
        }
    }
    Ok(resized)
}

/// For each place of an axis of `to`: the first place of the axis of `n` that counts, and the weights from there on.
fn weights(n: usize, to: usize) -> Vec<(usize, Vec<f64>)> {
    let step = n as f64 / to as f64;
    let reach = step.max(1.0);
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * step;
            let first = ((centre - reach + 0.5).max(0.0) as usize).min(n - 1);
            let end = ((centre + reach + 0.5) as usize).clamp(first + 1, n);
            let triangle = |at: usize| (1.0 - ((at as f64 + 0.5 - centre) / reach).abs()).max(0.0);
            let weights: Vec<f64> = (first..end).map(triangle).collect();
            let sum: f64 = weights.iter().sum();
            (first, weights.into_iter().map(|w| w / sum).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sizes() {
        assert_eq!(resize(&[1.0, 3.0], [1, 2], [1, 4]).unwrap(), [1.0, 1.5, 2.5, 3.0]);
        assert_eq!(resize(&[1.0, 3.0], [2, 1], [4, 1]).unwrap(), [1.0, 1.5, 2.5, 3.0]);
        assert_eq!(resize(&[1.0, 2.0, 5.0], [1, 3], [1, 3]).unwrap(), [1.0, 2.0, 5.0]);
        assert_eq!(resize(&[7.0; 12], [3, 4], [5, 9]).unwrap(), [7.0; 45]);
        assert_eq!(resize(&[7.0; 12], [3, 4], [1, 1]).unwrap(), [7.0]);
        assert_eq!(resize(&[2.0; 4], [1, 1], [1, 2]).unwrap(), [2.0; 8]);
    }

    #[test]
    fn what_is_no_plane_is_refused() {
        assert!(resize(&[1.0; 5], [2, 3], [4, 4]).is_err());
        assert!(resize(&[1.0; 6], [2, 3], [0, 4]).is_err());
        assert!(resize(&[], [0, 3], [4, 4]).is_err());
    }
}
