//! Another size, by interpolation between pixel centres.     [height, width, 3] -> another [height, width, 3]
//!
//! Bilinear: the same as OpenCV's `resize(…, INTER_LINEAR)`, which EEG2Video uses, to within the rounding of its
//! fixed-point weights: four neighbours whatever the scale, edges repeated.
//!
//! Pillow's `resize`, which the processors of CLIP, ViT, VideoMAE and BLIP-2 use, to the byte: a filter widened with the
//! scale where a picture shrinks, nothing beyond the edges, weights in whole numbers of 22 bits, along rows first and
//! rounded to bytes, then along columns (Pillow 12 `src/libImaging/Resample.c`; Pillow 13 goes along columns first where a
//! picture shrinks much in height, which may differ by one of 255).

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

/// The kernel a resize weighs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A triangle of radius 1.
    Bilinear,
    /// Keys' cubic with a = -1/2, radius 2.
    Bicubic,
}

impl Filter {
    fn radius(self) -> f64 {
        if self == Filter::Bilinear { 1.0 } else { 2.0 }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Filter::Bicubic => 0.0,
        }
    }
}

/// Bits of the weights' fraction.
const BITS: u32 = 22;

/// Pillow's `Image.resize` of an RGB picture: u8 [height, width, 3] -> u8 of another height and width.
///
/// Panics as [`bilinear`].
pub fn pillow(
    rgb: &[u8],
    [height, width]: [usize; 2],
    [to_height, to_width]: [usize; 2],
    filter: Filter,
) -> Vec<u8> {
    assert!(rgb.len() == height * width * 3 && height * width > 0, "a picture of another size");
    let mut picture = rgb.to_vec();
    if width != to_width {
        let taps = taps(width, to_width, filter);
        let mut out = Vec::with_capacity(height * to_width * 3);
        for line in picture.chunks_exact(width * 3) {
            for (first, weights) in &taps {
                for colour in 0..3 {
                    let at = |i: usize| line[(first + i) * 3 + colour];
                    out.push(weigh(weights, at));
                }
            }
        }
        picture = out;
    }
    if height != to_height {
        let taps = taps(height, to_height, filter);
        let line = to_width * 3;
        let mut out = Vec::with_capacity(to_height * line);
        for (first, weights) in &taps {
            for at in 0..line {
                out.push(weigh(weights, |i| picture[(first + i) * line + at]));
            }
        }
        picture = out;
    }
    picture
}

fn weigh(weights: &[i64], value: impl Fn(usize) -> u8) -> u8 {
    let half = 1_i64 << (BITS - 1);
    let sum: i64 = weights.iter().enumerate().map(|(i, weight)| weight * i64::from(value(i))).sum();
    ((half + sum) >> BITS).clamp(0, 255) as u8
}

/// For each place of the output, its first input and the weights from there on.
fn taps(size: usize, to: usize, filter: Filter) -> Vec<(usize, Vec<i64>)> {
    let scale = size as f64 / to as f64;
    let widened = scale.max(1.0);
    let (radius, narrowed) = (filter.radius() * widened, 1.0 / widened);
    let tap = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        let first = (centre - radius + 0.5).max(0.0) as usize;
        let end = ((centre + radius + 0.5) as usize).min(size);
        let weights: Vec<f64> =
            (first..end).map(|i| filter.weight((i as f64 - centre + 0.5) * narrowed)).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: f64| {
            let scaled = weight / sum * f64::from(1_u32 << BITS);
            (scaled + 0.5_f64.copysign(scaled)) as i64
        };
        (first, weights.into_iter().map(fixed).collect())
    };
    (0..to).map(tap).collect()
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

    #[test]
    fn pillow_by_hand() {
        let grey = |values: &[u8]| values.iter().flat_map(|&v| [v; 3]).collect::<Vec<u8>>();
        // Twice the size: a triangle of radius 1 between centres. Half of it: radius 2, cut at the edges.
        assert_eq!(pillow(&grey(&[0, 100]), [1, 2], [1, 4], Filter::Bilinear), grey(&[0, 25, 75, 100]));
        assert_eq!(pillow(&grey(&[0, 100, 200, 40]), [1, 4], [1, 2], Filter::Bilinear), grey(&[71, 117]));
        assert_eq!(pillow(&grey(&[7, 9]), [2, 1], [2, 1], Filter::Bicubic), grey(&[7, 9]));
        assert_eq!(pillow(&grey(&[50; 6]), [2, 3], [5, 4], Filter::Bicubic), grey(&[50; 20]));
    }
}
