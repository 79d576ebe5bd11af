//! Another size, by bilinear interpolation between pixel centres.     [height, width, 3] -> another [height, width, 3]
//!
//! The same as OpenCV's `resize(…, INTER_LINEAR)`, which EEG2Video uses, to within the rounding of its fixed-point
//! weights: four neighbours whatever the scale, edges repeated.

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
