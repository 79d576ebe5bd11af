//! A small font of strokes: the same picture on systems with any fonts or none, at any size, upright or turned.
//!
//! A glyph is a text: strokes apart by spaces, a stroke a row of points, a point two digits to base 36 (x, y), in
//! fourteenths of a capital's height: y is 0 at the top of capitals, 4 at the top of small letters, e (14)
//! where letters stand, i (18) where they end below. `~` before a point makes it the control point of a quadratic
//! curve, and between two such points lies one on the curve, as in TrueType. A stroke of one point is a dot.
//! Proportions are near those of the sans-serif fonts that readers of SVG use, so that one layout serves both.

use super::scene::{Anchor, Point, Text};

/// Units of a glyph to the size of the font: capitals, 14 units, are 0.72 of it.
const UNITS: f64 = 14.0 / 0.72;
/// Room after a glyph.
const GAP: f64 = 4.0;
const SPACE: f64 = 5.6;
/// Pieces of a curve.
const PIECES: usize = 5;

/// Width of a line of text.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let units: f64 = text.chars().map(advance).sum();
    (units - if text.is_empty() { 0.0 } else { GAP }).max(0.0) * size / UNITS
}

/// Width of the strokes.
pub(super) fn stroke_width(text: &Text) -> f64 {
    text.size * if text.bold { 0.125 } else { 0.085 }
}

/// The strokes of a text, where they lie in the drawing.
pub(super) fn strokes(text: &Text) -> Vec<Vec<Point>> {
    let scale = text.size / UNITS;
    let whole = width(&text.text, text.size);
    let mut pen = match text.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => -0.5 * whole,
        Anchor::End => -whole,
    };
    let mut strokes = Vec::new();
    for letter in text.text.chars() {
        for mut stroke in glyph(letter).map(outline).into_iter().flatten() {
            for point in &mut stroke {
                let (along, above) = (pen + point[0] * scale, (14.0 - point[1]) * scale);
                let [x, y] = text.at;
                *point = if text.turned { [x - above, y - along] } else { [x + along, y - above] };
            }
            strokes.push(stroke);
        }
        pen += advance(letter) * scale;
    }
    strokes
}

fn advance(letter: char) -> f64 {
    if letter == ' ' || letter == '\u{a0}' {
        return SPACE;
    }
    if letter.is_ascii_digit() {
        return 8.0 + GAP; // tables line up
    }
    let wide = glyph(letter).into_iter().flat_map(outline).flatten().map(|point| point[0]);
    wide.fold(0.0, f64::max) + GAP
}

/// `None` for white space; an empty box for what is not there.
fn glyph(letter: char) -> Option<&'static str> {
    if letter.is_whitespace() {
        return None;
    }
    GLYPHS.iter().find(|glyph| glyph.0 == letter).map(|glyph| glyph.1).or(Some(MISSING))
}

/// The strokes of a glyph in units, curves in pieces.
fn outline(glyph: &str) -> Vec<Vec<Point>> {
    let digit = |byte: u8| f64::from(char::from(byte).to_digit(36).unwrap_or(0));
    glyph
        .split(' ')
        .map(|stroke| {
            let (mut points, mut control): (Vec<Point>, Option<Point>) = (Vec::new(), None);
            let mut rest = stroke.as_bytes();
            while let Some(at) = rest.iter().position(|&byte| byte != b'~').filter(|_| rest.len() > 1) {
                let point = [digit(rest[at]), digit(*rest.get(at + 1).unwrap_or(&b'0'))];
                let (is_control, bent) = (at > 0, control.is_some());
                let end = match control {
                    Some(before) if is_control => {
                        [0.5 * (before[0] + point[0]), 0.5 * (before[1] + point[1])]
                    }
                    _ => point,
                };
                if let (Some(bend), Some(&start)) = (control, points.last()) {
                    points.extend((1..=PIECES).map(|piece| {
                        let t = piece as f64 / PIECES as f64;
                        [0, 1].map(|k| {
                            (1.0 - t) * (1.0 - t) * start[k] + 2.0 * t * (1.0 - t) * bend[k] + t * t * end[k]
                        })
                    }));
                } else if !is_control && !bent {
                    points.push(point);
                }
                control = is_control.then_some(point);
                rest = &rest[(at + 2).min(rest.len())..];
            }
            points
        })
        .collect()
}

const MISSING: &str = "00707e0e00";

#[rustfmt::skip]
const GLYPHS: &[(char, &str)] = &[
    ('0', "40~00~0e~8e~8040"), ('1', "13505e"), ('2', "04~0040~8084~870e8e"),
    ('3', "03~0040~8083~8747~878a~8e4e~0e0b"), ('4', "6e600a8a"), ('5', "701007~2545~8589~8e4e~0e0b"),
    ('6', "73~7040~0009~0e4e~8e89~8545~0509"), ('7', "00803e"),
    ('8', "40~1013~1747~7773~7040 47~070a~0e4e~8e8a~8747"), ('9', "1b~1e4e~8e85~8040~0005~0949~8985"),
    ('A', "0e50ae 2989"), ('B', "000e 0040~8083~8747 0747~979a~9e5e0e"), ('C', "94~9050~0007~0e5e~9e9a"),
    ('D', "000e4e~9e97~904000"), ('E', "80000e8e 0777"), ('F', "80000e 0777"), ('G', "94~9050~0007~0e5e~9e9858"),
    ('H', "000e 909e 0797"), ('I', "000e"), ('J', "606a~6e3e~0e0a"), ('K', "000e 8009 368e"), ('L', "000e7e"),
    ('M', "0e005aa0ae"), ('N', "0e009e90"), ('O', "50~00~0e~ae~a050"), ('P', "0e0050~9094~985808"),
    ('Q', "50~00~0e~ae~a050 6aaf"), ('R', "0e0050~9094~985808 589e"), ('S', "84~8040~0003~0747~878a~8e4e~0e0a"),
    ('T', "0080 404e"), ('U', "0009~0e4e~8e8980"), ('V', "005ea0"), ('W', "003e629ec0"), ('X', "009e 900e"),
    ('Y', "0057a0 575e"), ('Z', "00900e9e"),
    ('a', "16~1444~74787e 7838~080b~0e3e~7e7a"), ('b', "000e 09~0444~8489~8e4e~0e09"),
    ('c', "77~7444~0409~0e4e~7e7b"), ('d', "808e 89~8444~0409~0e4e~8e89"), ('e', "0989~8444~0409~0e4e~7e8c"),
    ('f', "50~20232e 0454"), ('g', "848e~8i4i~1i1g 89~8444~0409~0e4e~8e89"), ('h', "000e 08~0444~74787e"),
    ('i', "040e 01"), ('j', "242f~2i0i 21"), ('k', "000e 740a 287e"), ('l', "000c~0e2e"),
    ('m', "040e 07~0434~64676e 67~6494~c4c7ce"), ('n', "040e 08~0444~74787e"), ('o', "44~04~0e~8e~8444"),
    ('p', "040i 09~0444~8489~8e4e~0e09"), ('q', "848i 89~8444~0409~0e4e~8e89"), ('r', "040e 09~0454"),
    ('s', "76~7444~0406~0949~797b~7e4e~0e0c"), ('t', "212b~2e5e 0454"), ('u', "040a~0e3e~7e7a 747e"),
    ('v', "044e84"), ('w', "043e669ec4"), ('x', "047e 740e"), ('y', "044e 844e~3i0i"), ('z', "04740e7e"),
    ('.', "0d"), (',', "1c0g"), (':', "05 0d"), (';', "15 1c0g"), ('!', "000a 0d"),
    ('?', "03~0040~7073~76484a 4d"), ('-', "0949"), ('–', "0989"), ('−', "0888"), ('+', "444c 0888"),
    ('±', "424a 0686 0e8e"), ('×', "157b 751b"), ('·', "08"), ('/', "0f60"), ('\\', "006f"), ('=', "0686 0a8a"),
    ('<', "84088c"), ('>', "04880c"), ('~', "09~2649~6a87"), ('%', "20~00~06~46~4020 98~78~7e~be~b898 a11d"),
    ('(', "30~0408~0c3g"), (')', "00~3438~3c0g"), ('[', "30000g3g"), (']', "00303g0g"),
    ('{', "40~2024~2808~282c~2g4g"), ('}', "00~2024~2848~282c~2g0g"), ('|', "000g"), ('_', "0g8g"),
    ('\'', "0003"), ('’', "1003"), ('"', "0003 3033"), ('*', "3036 0165 6105"), ('#', "301e 807e 0595 0999"),
    ('&', "9e23~2040~7073~7537~090b~0e4e~9e98"), ('$', "84~8040~0003~0747~878a~8e4e~0e0a 4g40"),
    ('@', "75~7353~3338~3b5b~7b78 757a~7bab~a7a6~a050~0008~0f5f8e"), ('^', "043064"), ('…', "0d 4d 8d"), ('→', "08a8 64a86c"),
    ('°', "20~00~04~44~4020"), ('²', "01~0020~4042~430747"), ('³', "004023~4345~4717~0706"),
    ('µ', "040i 0a~0e3e~7e7a 747e"), ('μ', "040i 0a~0e3e~7e7a 747e"), ('α', "84~6e3e~0e09~0434~648e"),
    ('β', "0i04~0040~7073~7636~868a~8e4e~0e0a"), ('γ', "04~244d 844d4i"),
    ('δ', "71~6040~1012~1455~868a~8e4e~0e09~0555"), ('θ', "40~10~1e~7e~7040 1777"), ('σ', "8444~0409~0e4e~8e89~8454"),
    ('Δ', "0e50ae0e"), ('π', "0484 242e 646e"), ('Ω', "0e3e~0b05~0050~a0a5~ab7eae"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glyphs_are_distinct_and_lie_between_the_lines() {
        for (at, (letter, strokes)) in GLYPHS.iter().enumerate() {
            for point in outline(strokes).iter().flatten() {
                assert!((0.0..=12.0).contains(&point[0]) && (0.0..=18.0).contains(&point[1]), "{letter}");
            }
            assert!(outline(strokes).iter().all(|stroke| !stroke.is_empty()), "{letter}");
            let twins = [('µ', 'μ')];
            let same = |other: &(char, &str)| {
                other.0 == *letter || (other.1 == *strokes && !twins.contains(&(other.0, *letter)))
            };
            assert!(!GLYPHS[..at].iter().any(same), "{letter}");
        }
        for letter in (' '..='~').filter(|letter| *letter != '`') {
            assert!(letter == ' ' || GLYPHS.iter().any(|glyph| glyph.0 == letter), "{letter} is missing");
        }
    }

    #[test]
    fn curves_pass_through_their_points() {
        let [circle] = &outline("40~00~0e~8e~8040")[..] else { panic!("one stroke") };
        for point in [[4.0, 0.0], [0.0, 7.0], [4.0, 14.0], [8.0, 7.0]] {
            assert!(circle.contains(&point), "{point:?} in {circle:?}");
        }
        assert_eq!(circle.first(), circle.last());
        assert_eq!(outline("0d"), [[[0.0, 13.0]]]);
        assert_eq!(outline("00~0ee0 12"), [&outline("00~0ee0")[0][..], &[[1.0, 2.0]]]);
    }

    #[test]
    fn anchors_and_turns_put_text_in_place() {
        let ends = |text: &Text| {
            let points: Vec<Point> = strokes(text).concat();
            let over = |k: usize, pick: fn(f64, f64) -> f64, start: f64| {
                points.iter().map(|point| point[k]).fold(start, pick)
            };
            [over(0, f64::min, 1e9), over(1, f64::min, 1e9), over(0, f64::max, -1e9), over(1, f64::max, -1e9)]
        };
        let text = Text::new([100.0, 50.0], "HEH").size(20.0);
        let wide = width("HEH", 20.0);
        let close = |got: [f64; 4], wanted: [f64; 4]| {
            assert!(got.iter().zip(wanted).all(|(g, w)| (g - w).abs() < 1e-9), "{got:?} {wanted:?}");
        };
        close(ends(&text), [100.0, 50.0 - 14.4, 100.0 + wide, 50.0]);
        close(ends(&text.clone().end()), [100.0 - wide, 50.0 - 14.4, 100.0, 50.0]);
        close(ends(&text.clone().middle()), [100.0 - 0.5 * wide, 50.0 - 14.4, 100.0 + 0.5 * wide, 50.0]);
        close(ends(&text.turned()), [100.0 - 14.4, 50.0 - wide, 100.0, 50.0]);
        assert_eq!((width("", 9.0), width("11", 9.0)), (0.0, width("88", 9.0)));
        assert_eq!(strokes(&Text::new([0.0, 0.0], " \n")).len(), 0);
        assert_eq!(strokes(&Text::new([0.0, 0.0], "種")).len(), 1, "an empty box");
    }
}
