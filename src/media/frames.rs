//! Frames: count × height × width × RGB, with their rate; and the limits every reader and writer keeps.

use crate::error::{Error, Result};

/// Longest side of a picture, in pixels.
pub const MAX_SIDE: usize = 8192;
/// Most pixels of a clip, all frames together.
pub const MAX_PIXELS: u64 = 64_000_000;
/// Most frames of a clip.
pub const MAX_FRAMES: usize = 2000;

/// A clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Frames {
    /// Frames.
    pub count: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// `[count, height, width, 3]`, red, green, blue.
    pub rgb: Vec<u8>,
    /// Frames per second.
    pub frame_rate_fps: f64,
}

/// How a value in [0, 1] becomes a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest of 0 to 255.
    #[default]
    Nearest,
    /// Cut off after × 255, as EEG2Video's writer does: half a step darker on average.
    Truncate,
}

impl Frames {
    /// Wraps bytes `[count, height, width, 3]`.
    ///
    /// Errors: [`Error::Shape`] when the length differs, an axis is 0 or beyond the limits above;
    /// [`Error::Setting`] when the rate is not a positive number.
    pub fn new(
        count: usize,
        height: usize,
        width: usize,
        rgb: Vec<u8>,
        frame_rate_fps: f64,
    ) -> Result<Frames> {
        let frames = Frames { count, height, width, rgb, frame_rate_fps };
        frames.check()?;
        Ok(frames)
    }

    /// From `values` `[count, height, width, 3]`, clamped to [0, 1].
    ///
    /// Errors: as [`Frames::new`]; [`Error::Shape`] when a value is NaN or infinite.
    pub fn from_unit(
        values: &[f32],
        count: usize,
        height: usize,
        width: usize,
        frame_rate_fps: f64,
        rounding: Rounding,
    ) -> Result<Frames> {
        refuse_nonfinite(values)?;
        let rgb = values.iter().map(|&v| byte(v, rounding)).collect();
        Frames::new(count, height, width, rgb, frame_rate_fps)
    }

    /// From `values` `[count, 3, height, width]`, as image models write them, clamped to [0, 1].
    ///
    /// Errors: as [`Frames::from_unit`].
    pub fn from_unit_planes(
        values: &[f32],
        count: usize,
        height: usize,
        width: usize,
        frame_rate_fps: f64,
        rounding: Rounding,
    ) -> Result<Frames> {
        refuse_nonfinite(values)?;
        let plane = check_size(count, height, width)?;
        if values.len() != count * 3 * plane {
            let detail = format!("{} values are not [{count}, 3, {height}, {width}]", values.len());
            return Err(Error::shape("frames", detail));
        }
        let mut rgb = Vec::with_capacity(values.len());
        for frame in values.chunks_exact(3 * plane) {
            for pixel in 0..plane {
                rgb.extend([0, 1, 2].map(|colour| byte(frame[colour * plane + pixel], rounding)));
            }
        }
        Frames::new(count, height, width, rgb, frame_rate_fps)
    }

    /// The bytes `[height, width, 3]` of one frame; `None` beyond the last.
    pub fn frame(&self, idx: usize) -> Option<&[u8]> {
        if idx >= self.count {
            return None;
        }
        let size = self.height * self.width * 3;
        self.rgb.get(idx * size..(idx + 1) * size)
    }

    /// Length in seconds.
    pub fn duration_s(&self) -> f64 {
        self.count as f64 / self.frame_rate_fps
    }

    /// That the fields agree with each other; writers ask before they start. Errors as [`Frames::new`].
    pub fn check(&self) -> Result<()> {
        let plane = check_size(self.count, self.height, self.width)?;
        if self.rgb.len() != self.count * plane * 3 {
            let Frames { count, height, width, rgb, .. } = self;
            let detail = format!("{} bytes are not [{count}, {height}, {width}, 3]", rgb.len());
            return Err(Error::shape("frames", detail));
        }
        if !(self.frame_rate_fps.is_finite() && self.frame_rate_fps > 0.0) {
            let detail = format!("{} is no frame rate, it must be above 0", self.frame_rate_fps);
            return Err(Error::setting("--fps", detail));
        }
        Ok(())
    }
}

/// Pixels of one frame, when the sizes are within the limits.
fn check_size(count: usize, height: usize, width: usize) -> Result<usize> {
    within_limits(count, height, width).map_err(|detail| Error::shape("frames", detail))?;
    Ok(height * width)
}

/// Says which limit `count` frames of `height` × `width` exceed. Readers ask before they allocate.
pub(crate) fn within_limits(count: usize, height: usize, width: usize) -> Result<(), String> {
    let size = format!("{count} frames of {width} × {height}");
    if count == 0 || height == 0 || width == 0 {
        return Err(format!("{size} hold no pixel"));
    }
    if height.max(width) > MAX_SIDE {
        return Err(format!("{size}, a side has at most {MAX_SIDE} pixels"));
    }
    if count > MAX_FRAMES {
        return Err(format!("{size}, a clip has at most {MAX_FRAMES} frames"));
    }
    // The limits above keep the product far below 2^64.
    if count as u64 * height as u64 * width as u64 > MAX_PIXELS {
        return Err(format!("{size}, a clip has at most {MAX_PIXELS} pixels"));
    }
    Ok(())
}

fn refuse_nonfinite(values: &[f32]) -> Result<()> {
    let Some(first) = values.iter().position(|v| !v.is_finite()) else { return Ok(()) };
    let n = values.iter().filter(|v| !v.is_finite()).count();
    let detail = format!("{n} of {} values are NaN or infinite, the first at {first}", values.len());
    Err(Error::shape("frames", detail))
}

fn byte(value: f32, rounding: Rounding) -> u8 {
    let scaled = value.clamp(0.0, 1.0) * 255.0;
    match rounding {
        Rounding::Nearest => scaled.round() as u8,
        Rounding::Truncate => scaled as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_values_become_bytes() {
        let values = [-0.5, 0.0, 0.001, 0.002, 0.5, 0.999, 1.0, 7.0, 0.25, 0.75, 0.3, 0.6];
        let nearest = Frames::from_unit(&values, 2, 1, 2, 3.0, Rounding::Nearest).unwrap();
        assert_eq!(nearest.rgb, [0, 0, 0, 1, 128, 255, 255, 255, 64, 191, 77, 153]);
        let cut = Frames::from_unit(&values, 2, 1, 2, 3.0, Rounding::Truncate).unwrap();
        assert_eq!(cut.rgb, [0, 0, 0, 0, 127, 254, 255, 255, 63, 191, 76, 153]);
        assert_eq!(cut.frame(1).unwrap(), [255, 255, 63, 191, 76, 153]);
        assert!(cut.frame(2).is_none());
        assert!(Frames::from_unit(&[f32::NAN; 6], 1, 1, 2, 3.0, Rounding::Nearest).is_err());
    }

    #[test]
    fn planes_are_interleaved() {
        let planes = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5].map(|v: f32| v * 10.0 / 255.0);
        let frames = Frames::from_unit_planes(&planes, 1, 1, 2, 3.0, Rounding::Nearest).unwrap();
        assert_eq!(frames.rgb, [0, 2, 4, 1, 3, 5]);
        assert!(Frames::from_unit_planes(&planes, 1, 2, 2, 3.0, Rounding::Nearest).is_err());
    }

    #[test]
    fn limits_and_contradictions_are_refused() {
        let refused =
            |count, height, width| Frames::new(count, height, width, vec![], 3.0).unwrap_err().to_string();
        assert!(refused(0, 4, 4).contains("no pixel"));
        assert!(refused(1, 8193, 1).contains("8192"));
        assert!(refused(2001, 1, 1).contains("2000"));
        assert!(refused(2, 8000, 8000).contains("64000000"));
        assert!(refused(usize::MAX, usize::MAX, usize::MAX).contains("a side"));
        assert!(refused(1, 2, 2).contains("0 bytes"));
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Frames::new(1, 1, 1, vec![0; 3], rate).is_err());
        }
    }
}
