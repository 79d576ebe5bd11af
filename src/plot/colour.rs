//! Colours that people who see few of them can tell apart, and that a grey print keeps.

/// Red, green and blue, as sRGB has them.
pub type Colour = [u8; 3];

/// Text.
pub const INK: Colour = [33, 37, 44];
/// Labels.
pub const MUTED: Colour = [96, 103, 115];
/// Axes.
pub const AXIS: Colour = [150, 156, 166];
/// Lines to read values by.
pub const GRID: Colour = [228, 231, 236];
/// Where there is nothing.
pub const NOTHING: Colour = [240, 241, 244];
/// Paper.
pub const WHITE: Colour = [255; 3];

/// Kinds of things, in the order they are used: the palette of M. Okabe and K. Ito (2008), without yellow, which
/// white paper swallows, and with a brown and a grey.
pub const KINDS: [Colour; 8] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [122, 80, 50],
    [110, 116, 126],
];

/// The colour of the kind with this number; they repeat.
pub fn kind(idx: usize) -> Colour {
    KINDS[idx % KINDS.len()]
}

/// From dark to bright in even steps of lightness: "viridis" of S. van der Walt and N. Smith (2015, CC0), at
/// sixteen places.
const SCALE: [Colour; 16] = [
    [68, 1, 84],
    [72, 26, 108],
    [71, 47, 125],
    [65, 68, 135],
    [57, 86, 140],
    [49, 104, 142],
    [42, 120, 142],
    [35, 136, 142],
    [31, 152, 139],
    [34, 168, 132],
    [53, 183, 121],
    [84, 197, 104],
    [122, 209, 81],
    [165, 219, 54],
    [210, 226, 27],
    [253, 231, 37],
];

/// The colour of a share between 0 (dark) and 1 (bright); beyond them the nearest, [`NOTHING`] for NaN.
pub fn scale(share: f64) -> Colour {
    if share.is_nan() {
        return NOTHING;
    }
    let at = share.clamp(0.0, 1.0) * (SCALE.len() - 1) as f64;
    let low = (at as usize).min(SCALE.len() - 2);
    mixed(SCALE[low], SCALE[low + 1], at - low as f64)
}

/// So much of `b` in `a`.
pub fn mixed(a: Colour, b: Colour, share: f64) -> Colour {
    [0, 1, 2].map(|k| (f64::from(a[k]) + (f64::from(b[k]) - f64::from(a[k])) * share).round() as u8)
}

/// Black or white, whichever is easier to read on it.
pub fn on(background: Colour) -> Colour {
    if luminance(background) > 0.3 { INK } else { WHITE }
}

/// Relative luminance, 0 to 1 (W3C, WCAG 2).
fn luminance(colour: Colour) -> f64 {
    let linear = colour.map(|v| {
        let v = f64::from(v) / 255.0;
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CIE L*.
    fn lightness(colour: Colour) -> f64 {
        116.0 * luminance(colour).cbrt() - 16.0
    }

    #[test]
    fn the_scale_grows_lighter_in_even_steps() {
        let steps: Vec<f64> = SCALE.windows(2).map(|pair| lightness(pair[1]) - lightness(pair[0])).collect();
        let mean = steps.iter().sum::<f64>() / steps.len() as f64;
        assert!(steps.iter().all(|step| (0.7..1.3).contains(&(step / mean))), "{steps:?}");
        assert_eq!((scale(-1.0), scale(2.0), scale(f64::NAN)), (SCALE[0], SCALE[15], NOTHING));
        assert_eq!(scale(1.0 / 15.0), SCALE[1]);
    }

    #[test]
    fn kinds_can_be_told_apart_and_seen() {
        for (at, &one) in KINDS.iter().enumerate() {
            assert!(lightness(one) < 80.0, "{one:?} fades on white");
            for &other in &KINDS[..at] {
                let apart: i32 =
                    one.iter().zip(other).map(|(&a, b)| (i32::from(a) - i32::from(b)).abs()).sum();
                assert!(apart > 60, "{one:?} {other:?}");
            }
        }
        assert_eq!((on(SCALE[0]), on(SCALE[15])), (WHITE, INK));
    }
}
