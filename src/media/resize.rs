//! Another size, by interpolation between pixel centres.     [height, width, 3] -> another [height, width, 3]
//!
//! Bilinear: the same as OpenCV's `resize(…, INTER_LINEAR)`, which EEG2Video uses, to within the rounding of its
//! fixed-point weights: four neighbours whatever the scale, edges repeated.
//!
//! Bicubic: the same as Pillow's (up to 12) `resize(…, BICUBIC)`, which CLIP's and BLIP-2's processors use, to the byte: Keys' cubic
//! with a = -1/2, as wide as the step where an axis shrinks, nothing beyond the edges, rows first, a byte in between.

/// Resizes one picture; `rgb` is `[height, width, 3]`.
///
/// Panics when `rgb` is not of that size, or one of the sizes is 0: readers have checked them.
pub fn bilinear(rgb: &[u8], height: usize, width: usize, to_height: usize, to_width: usize) -> Vec<u8> {
    assert!(rgb.len() == height * width * 3 && height * width > 0, "a picture of another size");
    if (height, width) == (to_height, to_width) {
        return rgb.to_vec();
    }
    // Lower neighbour, upper neighbour, share of the upper one.
    let taps = |from: usize, to: usize| -> Vec<(usize, usize, f32)> {
        let tap = |i: usize| {
            let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
            let low = at.floor() as usize;
            (low, (low + 1).min(from - 1), (at - low as f64) as f32)
        };
        (0..to).map(tap).collect()
    };
    let (rows, columns) = (taps(height, to_height), taps(width, to_width));
    let mut out = Vec::with_capacity(to_height * to_width * 3);
    for &(top, bottom, down) in &rows {
        let (top, bottom) = (&rgb[top * width * 3..][..width * 3], &rgb[bottom * width * 3..][..width * 3]);
        for &(left, right, along) in &columns {
            for colour in 0..3 {
                let mix = |line: &[u8]| {
                    let (a, b) = (f32::from(line[3 * left + colour]), f32::from(line[3 * right + colour]));
                    a + (b - a) * along
                };
                let (a, b) = (mix(top), mix(bottom));
                out.push((a + (b - a) * down + 0.5) as u8);
            }
        }
    }
    out
}

/// Bits behind the point of Pillow's weights.
const WEIGHT_BITS: u32 = 32 - 8 - 2;

/// Resizes one picture; `rgb` is `[height, width, 3]`.
///
/// Panics as [`bilinear`].
pub fn bicubic(rgb: &[u8], height: usize, width: usize, to_height: usize, to_width: usize) -> Vec<u8> {
    assert!(rgb.len() == height * width * 3 && height * width > 0, "a picture of another size");
    let narrow = along(rgb, width, to_width, 3);
    // Columns as rows of as many pixels as the picture is high: what lies a line apart.
    along(&narrow, height, to_height, to_width * 3)
}

/// Resizes an axis of `n` places, `stride` bytes apart, whatever stands before it.
fn along(bytes: &[u8], n: usize, to: usize, stride: usize) -> Vec<u8> {
    if n == to {
        return bytes.to_vec();
    }
    let weights = cubic_weights(n, to);
    let mut out = Vec::with_capacity(bytes.len() / n * to);
    for line in bytes.chunks_exact(n * stride) {
        for (first, weights) in &weights {
            for offset in 0..stride {
                let sum: i64 = weights
                    .iter()
                    .enumerate()
                    .map(|(i, &weight)| weight * i64::from(line[(first + i) * stride + offset]))
                    .sum();
                let rounded = (sum + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS;
                out.push(rounded.clamp(0, 255) as u8);
            }
        }
    }
    out
}

/// For each place of an axis of `to`: the first place of the axis of `n` that counts, and the weights from there on, with
/// [`WEIGHT_BITS`] behind the point.
fn cubic_weights(n: usize, to: usize) -> Vec<(usize, Vec<i64>)> {
    const A: f64 = -0.5;
    let cubic = |x: f64| {
        let x = x.abs();
        match x {
            _ if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            _ if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    };
    let step = n as f64 / to as f64;
    let scale = step.max(1.0);
    let reach = 2.0 * scale;
    let of_place = |place: usize| {
        let centre = (place as f64 + 0.5) * step;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(n);
        let near: Vec<f64> =
            (first..end).map(|at| cubic((at as f64 - centre + 0.5) * (1.0 / scale))).collect();
        let sum: f64 = near.iter().sum();
        let fixed = |weight: &f64| (weight / sum * f64::from(1 << WEIGHT_BITS)).round() as i64;
        (first, near.iter().map(fixed).collect())
    };
    (0..to).map(of_place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_values() {
        // One row of grey 0, 100, 200 to twice and to half the size: OpenCV gives the same.
        let grey = |values: &[u8]| values.iter().flat_map(|&v| [v; 3]).collect::<Vec<u8>>();
        assert_eq!(bilinear(&grey(&[0, 100, 200]), 1, 3, 1, 6), grey(&[0, 25, 75, 125, 175, 200]));
        assert_eq!(bilinear(&grey(&[0, 100, 200, 40]), 1, 4, 1, 2), grey(&[50, 120]));
        assert_eq!(bilinear(&grey(&[0, 100, 200, 40]), 4, 1, 2, 1), grey(&[50, 120]));
        assert_eq!(bilinear(&grey(&[7, 9]), 2, 1, 2, 1), grey(&[7, 9]));
        assert_eq!(bilinear(&grey(&[7]), 1, 1, 3, 2), grey(&[7; 6]));
    }
}
