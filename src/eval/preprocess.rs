//! Pictures as the judges want them: Pillow's resize, a crop, a scale; as transformers' image processors do.
//!
//! ```text
//! u8 [height, width, 3] ─resize─> u8 ─centre crop─> u8 [size, size, 3] ─(x / 255 - mean) / std─> f32
//! ```
//!
//! The resize is Pillow's for bytes, bit for bit: a filter widened with the scale where a picture shrinks, weights in
//! whole numbers of 22 bits, along rows first and rounded to bytes, then along columns (Pillow 12
//! `src/libImaging/Resample.c`; Pillow 13 goes along columns first where a picture shrinks much in height, which may
//! differ by one of 255).
//!
//! Processors followed: huggingface/transformers 5 `ViTImageProcessor` (resize to the square, no crop, 0.5 and 0.5),
//! `VideoMAEImageProcessor` and `CLIPImageProcessor` (shortest side, centre crop, their means and deviations).

use crate::error::{Error, Result};

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

/// How a picture becomes values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocess {
    /// Height and width of what the model takes.
    pub size: [usize; 2],
    /// Of the resize.
    pub filter: Filter,
    /// The shortest side is brought to size and the middle cut out; else the picture is pressed into the size.
    pub crop: bool,
    /// Of each colour.
    pub mean: [f64; 3],
    /// Of each colour.
    pub std: [f64; 3],
}

impl Preprocess {
    /// `ViTImageProcessor`.
    pub fn vit(size: [usize; 2]) -> Preprocess {
        Preprocess { size, filter: Filter::Bilinear, crop: false, mean: [0.5; 3], std: [0.5; 3] }
    }

    /// `VideoMAEImageProcessor` with ImageNet's mean and deviation, as the published checkpoints set it.
    pub fn videomae(size: [usize; 2]) -> Preprocess {
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        Preprocess { size, filter: Filter::Bilinear, crop: true, mean, std }
    }

    /// `CLIPImageProcessor`.
    pub fn clip(size: usize) -> Preprocess {
        let mean = [0.481_454_66, 0.457_827_5, 0.408_210_73];
        let std = [0.268_629_54, 0.261_302_58, 0.275_777_11];
        Preprocess { size: [size; 2], filter: Filter::Bicubic, crop: true, mean, std }
    }

    /// A picture of the size a [`crate::models::ClipClassifier`] takes, values in [-1, 1].
    pub fn symmetric(size: [usize; 2]) -> Preprocess {
        Preprocess::vit(size)
    }

    /// u8 [height, width, 3] -> f32 [size, size, 3].
    ///
    /// Errors: [`Error::Shape`] when the picture is not of that size.
    pub fn apply(&self, rgb: &[u8], height: usize, width: usize) -> Result<Vec<f32>> {
        if rgb.len() != height * width * 3 || rgb.is_empty() {
            let detail = format!("{} bytes are not [{height}, {width}, 3]", rgb.len());
            return Err(Error::shape("preprocess", detail));
        }
        let [to_height, to_width] = self.size;
        let [tall, wide] = if self.crop {
            // As small as covers both sides, in proportion, rounded down.
            match to_height * width / height >= to_width {
                true => [to_height, to_height * width / height],
                false => [to_width * height / width, to_width],
            }
        } else {
            self.size
        };
        let picture = resize(rgb, [height, width], [tall, wide], self.filter);
        let [top, left] = [(tall - to_height.min(tall)) / 2, (wide - to_width.min(wide)) / 2];
        let mut values = Vec::with_capacity(to_height * to_width * 3);
        for row in 0..to_height {
            let line = &picture[((top + row) * wide + left) * 3..][..to_width * 3];
            let value = |(at, &v): (usize, &u8)| {
                ((f64::from(v) / 255.0 - self.mean[at % 3]) / self.std[at % 3]) as f32
            };
            values.extend(line.iter().enumerate().map(value));
        }
        Ok(values)
    }
}

/// Bits of the weights' fraction.
const BITS: u32 = 22;

/// Pillow's `Image.resize` of an RGB picture: u8 [height, width, 3] -> u8 of another height and width.
pub fn resize(
    rgb: &[u8],
    [height, width]: [usize; 2],
    [to_height, to_width]: [usize; 2],
    filter: Filter,
) -> Vec<u8> {
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
        let grey = |values: &[u8]| values.iter().flat_map(|&v| [v; 3]).collect::<Vec<u8>>();
        // Twice the size: a triangle of radius 1 between centres. Half of it: radius 2, cut at the edges.
        assert_eq!(resize(&grey(&[0, 100]), [1, 2], [1, 4], Filter::Bilinear), grey(&[0, 25, 75, 100]));
        assert_eq!(resize(&grey(&[0, 100, 200, 40]), [1, 4], [1, 2], Filter::Bilinear), grey(&[71, 117]));
        assert_eq!(resize(&grey(&[7, 9]), [2, 1], [2, 1], Filter::Bicubic), grey(&[7, 9]));
        assert_eq!(resize(&grey(&[50; 6]), [2, 3], [5, 4], Filter::Bicubic), grey(&[50; 20]));
    }

    #[test]
    fn crops_take_the_middle() {
        let picture: Vec<u8> = (0..2 * 6).flat_map(|at| [(at % 6 * 40) as u8; 3]).collect();
        let cut = Preprocess { crop: true, ..Preprocess::vit([2, 2]) };
        let got = cut.apply(&picture, 2, 6).unwrap();
        let want = |column: usize| (column as f32 * 40.0 / 255.0 - 0.5) / 0.5;
        assert_eq!(got.len(), 12);
        assert!((got[0] - want(2)).abs() < 1e-6 && (got[5] - want(3)).abs() < 1e-6, "{got:?}");
        assert!(cut.apply(&picture, 3, 6).is_err());
        // Both sides are covered, whatever their proportion.
        for size in [[2, 5], [4, 2], [2, 8], [7, 1]] {
            let cut = Preprocess { crop: true, ..Preprocess::vit(size) };
            let got = cut.apply(&picture, 2, 6).unwrap();
            assert_eq!(got.len(), size[0] * size[1] * 3);
            assert!(
                got.chunks(size[1] * 3).all(|line| line == &got[..size[1] * 3]),
                "rows are alike: {size:?}"
            );
        }
    }
}
