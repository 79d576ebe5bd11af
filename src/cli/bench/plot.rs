//! The roofline as a picture: FLOPs per byte against FLOPs per second, both in powers of ten; the two roofs, a dot
//! for every op that computes, numbers and names for those that take most of the time.

use super::font;
use super::report::{Row, digits, percent, rate};
use super::roofline::{Roof, intensity};
use crate::error::Result;
use crate::media::png;
use std::path::Path;

const WIDTH: usize = 1600;
const HEIGHT: usize = 900;
/// Left, top, right and bottom of the axes.
const FRAME: [f64; 4] = [130.0, 70.0, 1000.0, 820.0];
/// Ops that get a name.
const NAMED: usize = 34;
/// Letters of a name; more are cut.
const LETTERS: usize = 46;

type Colour = [u8; 3];
const INK: Colour = [40, 44, 52];
const GREY: Colour = [225, 228, 232];
const ROOF: Colour = [90, 96, 110];
/// One for each kind of op, in the order they come.
const COLOURS: [Colour; 8] = [
    [31, 119, 180],
    [214, 39, 40],
    [44, 160, 44],
    [148, 103, 189],
    [255, 127, 14],
    [23, 150, 170],
    [140, 86, 75],
    [227, 119, 194],
];

/// Draws `rows`, the ones that matter most first, under `roof`.
///
/// Errors: [`crate::error::Error::Write`].
pub(super) fn write(path: &Path, rows: &[Row], roof: Roof) -> Result<()> {
    let canvas = draw(rows, roof);
    png::write(path, &canvas.rgb, HEIGHT, WIDTH, "")
}

fn draw(rows: &[Row], roof: Roof) -> Canvas {
    let mut canvas = Canvas { rgb: vec![255; 3 * WIDTH * HEIGHT] };
    let dots: Vec<(f64, f64, &Row)> = rows
        .iter()
        .filter(|row| row.work.flops > 0 && row.sample.median_s > 0.0)
        .map(|row| (intensity(row.work), row.work.flops as f64 / row.sample.median_s, row))
        .collect();
    let ridge = roof.flops / roof.bytes;
    let decades = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        (low.log10().floor(), high.log10().ceil())
    };
    let x = decades(&mut dots.iter().map(|dot| dot.0).chain([0.3 * ridge, 3.0 * ridge]));
    let y = decades(&mut dots.iter().map(|dot| dot.1).chain([0.1 * roof.flops, 1.1 * roof.flops]));
    let [left, top, right, bottom] = FRAME;
    let at_x = |v: f64| left + (v.log10() - x.0) / (x.1 - x.0) * (right - left);
    let at_y = |v: f64| bottom - (v.log10() - y.0) / (y.1 - y.0) * (bottom - top);

    for decade in x.0 as i32..=x.1 as i32 {
        let value = 10_f64.powi(decade);
        canvas.line([at_x(value), top], [at_x(value), bottom], 1.0, GREY);
        let label = if decade < 0 { format!("{value}") } else { format!("{value:.0}") };
        canvas.text(at_x(value) - 6.0 * label.len() as f64, bottom + 14.0, 2, &label, INK);
    }
    for decade in y.0 as i32..=y.1 as i32 {
        let value = 10_f64.powi(decade);
        canvas.line([left, at_y(value)], [right, at_y(value)], 1.0, GREY);
        let (scaled, unit) = match decade {
            12.. => (value * 1e-12, "T"),
            9.. => (value * 1e-9, "G"),
            6.. => (value * 1e-6, "M"),
            _ => (value, ""),
        };
        let label = format!("{scaled:.0} {unit}");
        canvas.text(left - 14.0 - 12.0 * label.len() as f64, at_y(value) - 7.0, 2, &label, INK);
    }
    canvas.text(left, bottom + 44.0, 2, "FLOP per byte", INK);
    canvas.text(left - 100.0, top - 36.0, 2, "FLOP/s", INK);

    // The slope ends where it meets the left edge or the floor.
    let start = 10_f64.powf(x.0).max(10_f64.powf(y.0) / roof.bytes);
    canvas.line([at_x(start), at_y(start * roof.bytes)], [at_x(ridge), at_y(roof.flops)], 3.0, ROOF);
    canvas.line([at_x(ridge), at_y(roof.flops)], [right, at_y(roof.flops)], 3.0, ROOF);
    let peaks = format!("{} and {} measured", rate(roof.flops, "FLOP"), rate(roof.bytes, "B"));
    canvas.text(right - 12.0 * peaks.len() as f64, at_y(roof.flops) - 26.0, 2, &peaks, ROOF);

    let mut kinds: Vec<&str> = Vec::new();
    for (.., row) in &dots {
        if !kinds.contains(&row.kind()) {
            kinds.push(row.kind());
        }
    }
    let colour = |row: &Row| {
        let at = kinds.iter().position(|kind| *kind == row.kind()).unwrap_or(0);
        COLOURS[at % COLOURS.len()]
    };
    for (at, &(x, y, row)) in dots.iter().enumerate().rev() {
        let (colour, x, y) = (colour(row), at_x(x), at_y(y));
        let named = at < NAMED;
        canvas.disc([x, y], if named { 6.0 } else { 3.5 }, colour);
        if named {
            canvas.text(x + 8.0, y - 12.0, 1, &(at + 1).to_string(), INK);
            let line = top + 22.0 * at as f64;
            canvas.disc([right + 36.0, line + 5.0], 5.0, colour);
            let share = row.roof.share(row.work, row.sample.median_s).0;
            let name: String = row.name.chars().take(LETTERS).collect();
            let label = format!("{:>2} {:>7} {name}", at + 1, percent(share));
            canvas.text(right + 48.0, line, 1, &label, INK);
        }
    }
    let share =
        format!("share of the nearer roof, most time first; ridge at {} FLOP per byte", digits(ridge));
    canvas.text(right + 36.0, top - 28.0, 1, &share, INK);
    canvas
}

/// Pixels `[HEIGHT, WIDTH, 3]`.
struct Canvas {
    rgb: Vec<u8>,
}

impl Canvas {
    /// Lays a colour over a pixel, so much of it.
    fn blend(&mut self, x: i64, y: i64, colour: Colour, cover: f64) {
        if x < 0 || y < 0 || x >= WIDTH as i64 || y >= HEIGHT as i64 || cover <= 0.0 {
            return;
        }
        let at = 3 * (y as usize * WIDTH + x as usize);
        for (old, new) in self.rgb[at..at + 3].iter_mut().zip(colour) {
            *old = (f64::from(*old) + (f64::from(new) - f64::from(*old)) * cover.min(1.0)).round() as u8;
        }
    }

    /// Colours what lies within `reach` of something, with soft edges; `distance` is from a pixel's middle.
    fn near(
        &mut self,
        [x0, y0, x1, y1]: [f64; 4],
        reach: f64,
        colour: Colour,
        distance: impl Fn(f64, f64) -> f64,
    ) {
        let pad = reach + 1.0;
        for y in (y0 - pad).floor() as i64..=(y1 + pad).ceil() as i64 {
            for x in (x0 - pad).floor() as i64..=(x1 + pad).ceil() as i64 {
                let cover = reach + 0.5 - distance(x as f64, y as f64);
                self.blend(x, y, colour, cover);
            }
        }
    }

    fn disc(&mut self, [x, y]: [f64; 2], radius: f64, colour: Colour) {
        self.near([x, y, x, y], radius, colour, |px, py| (px - x).hypot(py - y));
    }

    fn line(&mut self, [ax, ay]: [f64; 2], [bx, by]: [f64; 2], width: f64, colour: Colour) {
        let (dx, dy) = (bx - ax, by - ay);
        let length = (dx * dx + dy * dy).max(1e-9);
        let distance = |px: f64, py: f64| {
            let along = (((px - ax) * dx + (py - ay) * dy) / length).clamp(0.0, 1.0);
            (px - ax - along * dx).hypot(py - ay - along * dy)
        };
        self.near([ax.min(bx), ay.min(by), ax.max(bx), ay.max(by)], 0.5 * width - 0.5, colour, distance);
    }

    /// Text from its upper left corner, `scale` pixels to a dot.
    fn text(&mut self, x: f64, y: f64, scale: i64, text: &str, colour: Colour) {
        let (left, top) = (x.round() as i64, y.round() as i64);
        for (at, letter) in text.chars().enumerate() {
            for (row, bits) in font::glyph(letter).into_iter().enumerate() {
                for column in (0..5).filter(|column| bits >> (4 - column) & 1 == 1) {
                    let dot_x = left + scale * ((at * font::ADVANCE) as i64 + column);
                    let dot_y = top + scale * row as i64;
                    for (dx, dy) in (0..scale).flat_map(|dy| (0..scale).map(move |dx| (dx, dy))) {
                        self.blend(dot_x + dx, dot_y + dy, colour, 1.0);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::gpu::Work;

    #[test]
    fn every_op_that_computes_has_a_dot_in_the_frame() {
        let roof = Roof { flops: 1e11, bytes: 5e9 };
        let row = |name: &str, flops: u64, bytes: u64, median_s: f64| Row {
            model: "unet".into(),
            name: name.into(),
            calls: 1,
            launches: 1,
            sample: Sample { median_s, spread: 0.0, n: 9 },
            work: Work { flops, bytes },
            roof,
        };
        let blank = draw(&[], roof);
        let rows = [
            row("conv2d", 1 << 34, 1 << 24, 0.4),
            row("silu", 1 << 24, 1 << 24, 0.01),
            row("concat", 0, 99, 0.1),
        ];
        let canvas = draw(&rows, roof);
        let has =
            |canvas: &Canvas, colour: Colour| canvas.rgb.chunks_exact(3).filter(|rgb| *rgb == colour).count();
        for colour in &COLOURS[..2] {
            assert!(has(&canvas, *colour) > 100 && has(&blank, *colour) == 0);
        }
        assert_eq!(has(&canvas, COLOURS[2]), 0, "a copy computes nothing");
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("roofline.png"), &rows, roof).unwrap();
        // Measurements of nothing and of everything do not break it.
        draw(&[row("x", u64::MAX, 1, 1e-9), row("y", 1, u64::MAX, 1e9)], Roof { flops: 1.0, bytes: 1e15 });
    }
}
