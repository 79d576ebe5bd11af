//! What charts share: a range of values with its ticks, a frame with grid and labels, headings, legends, colour bars.

use super::colour::{self, AXIS, Colour, GRID, INK, MUTED};
use super::scene::{Pen, Point, Scene, Text, fitted, text_width};

/// Room at the sides of a chart.
pub(crate) const MARGIN: f64 = 24.0;
/// Room for ticks and a label below a frame.
pub(crate) const AXIS_ROOM: f64 = 52.0;
/// Shades of a colour bar.
const SHADES: usize = 100;
/// Size of labels.
pub(crate) const LABEL: f64 = 11.0;

/// A range of values, and whether powers of ten lie equally far apart in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) is_log: bool,
}

impl Scale {
    /// The range of what is finite (and above zero on a logarithmic one); `None` when nothing is.
    pub(crate) fn over(values: impl IntoIterator<Item = f64>, is_log: bool) -> Option<Scale> {
        let usable = values.into_iter().filter(|v| v.is_finite() && (!is_log || *v > 0.0));
        let (low, high) = usable.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        (low <= high).then_some(Scale { low, high, is_log })
    }

    /// The same range, wide enough to draw in and ending on ticks, about `n` of them.
    pub(crate) fn rounded(mut self, n: usize) -> Scale {
        self = self.widened();
        if self.is_log {
            // Whole decades where there are several, else the nearest of 1, 2 and 5.
            let (low, high) = (self.low.log10(), self.high.log10());
            if high - low > 2.5 {
                self.low = 10f64.powf((low + 1e-9).floor());
                self.high = 10f64.powf((high - 1e-9).ceil());
            } else {
                let around: Vec<f64> = fine_decades(self.low / 10.0, self.high * 10.0);
                let below = around.iter().rev().find(|&&v| v <= self.low * (1.0 + 1e-9));
                let above = around.iter().find(|&&v| v >= self.high * (1.0 - 1e-9));
                (self.low, self.high) =
                    (below.copied().unwrap_or(self.low), above.copied().unwrap_or(self.high));
            }
            return self;
        }
        let step = step(self.high - self.low, n);
        self.low = (self.low / step + 1e-9).floor() * step;
        self.high = (self.high / step - 1e-9).ceil() * step;
        self
    }

    /// The same range, or one around it when it is a single value.
    pub(crate) fn widened(mut self) -> Scale {
        let is_narrow = self.high - self.low <= 1e-9 * self.low.abs().max(self.high.abs());
        match (is_narrow, self.is_log) {
            (true, true) => (self.low, self.high) = (self.low / 2.0, self.high * 2.0),
            (true, false) => {
                let around = if self.low == 0.0 { 1.0 } else { 0.1 * self.low.abs() };
                (self.low, self.high) = (self.low - around, self.high + around);
            }
            _ => {}
        }
        self
    }

    /// Where a value lies between 0 (low) and 1 (high); NaN for what a logarithmic range cannot show.
    pub(crate) fn place(&self, value: f64) -> f64 {
        match self.is_log {
            true if value > 0.0 => (value / self.low).ln() / (self.high / self.low).ln(),
            true => f64::NAN,
            false => (value - self.low) / (self.high - self.low),
        }
    }

    /// Values to read by with their labels, about `n`.
    pub(crate) fn ticks(&self, n: usize) -> Vec<(f64, String)> {
        if self.is_log {
            let inside = |v: &f64| *v >= self.low * (1.0 - 1e-9) && *v <= self.high * (1.0 + 1e-9);
            let (low, high) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
            let stride = ((high - low) as usize).div_ceil(n.max(1)).max(1);
            let decades: Vec<f64> =
                (low..=high).step_by(stride).map(|e| 10f64.powi(e)).filter(inside).collect();
            let values = if decades.len() >= 3 {
                decades
            } else {
                fine_decades(self.low, self.high).into_iter().filter(inside).collect()
            };
            return values.into_iter().map(|v| (v, plain(v))).collect();
        }
        let step = step(self.high - self.low, n);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        let values = (first..=last).map(|i| i as f64 * step);
        let largest = self.low.abs().max(self.high.abs());
        if !(1e-4..1e6).contains(&largest) {
            return values.map(|v| (v, plain(v))).collect();
        }
        let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
        values.map(|v| (v, minus(format!("{v:.decimals$}")))).collect()
    }
}

/// 1, 2 or 5 times a power of ten, so that about `n` of it fill the range.
fn step(range: f64, n: usize) -> f64 {
    let raw = range / n.max(1) as f64;
    let decade = 10f64.powf(raw.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| times * decade >= raw * (1.0 - 1e-9));
    times.unwrap_or(10.0) * decade
}

/// 1, 2 and 5 times each power of ten around the range.
fn fine_decades(low: f64, high: f64) -> Vec<f64> {
    // Beyond them f64 has none.
    let whole = |decade: f64| decade.clamp(-308.0, 308.0) as i32;
    let decades = whole(low.log10().floor())..=whole(high.log10().ceil());
    decades.flat_map(|e| [1.0, 2.0, 5.0].map(|times| times * 10f64.powi(e))).collect()
}

/// A number as short as it can be said: `0.05`, `200`, `1e−5`.
pub(crate) fn plain(value: f64) -> String {
    let text = match value.abs() {
        v if v == 0.0 || (1e-3 * (1.0 - 1e-9)..1e5).contains(&v) => {
            let text = format!("{value:.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }
        _ => {
            let text = format!("{value:.2e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
    };
    minus(text)
}

/// With a true minus; -0 is 0.
fn minus(text: String) -> String {
    let is_zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if is_zero { text.trim_start_matches('-').to_string() } else { text.replace('-', "−") }
}

/// A share as `12.5 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A frame to draw values in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axes {
    /// Left, top, right and bottom.
    pub(crate) frame: [f64; 4],
    pub(crate) x: Scale,
    pub(crate) y: Scale,
}

impl Axes {
    /// Where a pair of values lies; what is outside comes to lie on the frame, NaN stays.
    pub(crate) fn at(&self, x: f64, y: f64) -> Point {
        let [left, top, right, bottom] = self.frame;
        let inside = |place: f64| if place.is_nan() { place } else { place.clamp(0.0, 1.0) };
        [left + inside(self.x.place(x)) * (right - left), bottom - inside(self.y.place(y)) * (bottom - top)]
    }

    /// Grid, axes, ticks and their labels, under what is drawn later.
    pub(crate) fn draw(&self, scene: &mut Scene, x_label: &str, y_label: &str) {
        let [left, top, right, bottom] = self.frame;
        for (value, label) in self.x.ticks(((right - left) / 70.0) as usize) {
            let x = crisp(self.at(value, self.y.low)[0]);
            scene.line(&[[x, top], [x, bottom]], Pen::new(GRID, 1.0));
            scene.line(&[[x, bottom], [x, bottom + 4.0]], Pen::new(AXIS, 1.0));
            scene.text(Text::new([x, bottom + 18.0], label).size(LABEL).colour(MUTED).middle());
        }
        self.draw_y(scene, y_label);
        scene.line(&[[left, crisp(bottom)], [right, crisp(bottom)]], Pen::new(AXIS, 1.0));
        let middle = 0.5 * (left + right);
        scene.text(Text::new([middle, bottom + 36.0], x_label).size(LABEL).colour(MUTED).middle());
    }

    /// The same for y alone.
    pub(crate) fn draw_y(&self, scene: &mut Scene, y_label: &str) {
        let [left, top, right, bottom] = self.frame;
        for (value, label) in self.y.ticks(((bottom - top) / 52.0) as usize) {
            let y = crisp(self.at(self.x.low, value)[1]);
            scene.line(&[[left, y], [right, y]], Pen::new(GRID, 1.0));
            scene.text(Text::new([left - 8.0, y + 0.36 * LABEL], label).size(LABEL).colour(MUTED).end());
        }
        scene.line(&[[crisp(left), top], [crisp(left), bottom]], Pen::new(AXIS, 1.0));
        // Upright above its axis, where nobody has to turn their head.
        scene.text(Text::new([left, top - 12.0], y_label).bold());
    }
}

/// The middle of a pixel, where a thin straight line is sharp.
pub(crate) fn crisp(at: f64) -> f64 {
    at.floor() + 0.5
}

/// Title and what is said below it; returns how far down they reach.
pub(crate) fn heading(scene: &mut Scene, title: &str, subtitle: &str) -> f64 {
    let width = scene.width - 2.0 * MARGIN;
    let mut y = 14.0;
    if !title.is_empty() {
        y += 20.0;
        scene.text(Text::new([MARGIN, y], fitted(title, 16.0, 0.97 * width)).size(16.0).bold());
    }
    if !subtitle.is_empty() {
        y += 20.0;
        scene.text(Text::new([MARGIN, y], fitted(subtitle, 12.0, width)).colour(MUTED));
    }
    y
}

/// Names with their lines from left to right, in as many rows as they need, from `top` down; returns where the next
/// thing may begin.
pub(crate) fn legend(scene: &mut Scene, top: f64, entries: &[(&str, Pen)]) -> f64 {
    if entries.is_empty() {
        return top;
    }
    let (right, mut x, mut y) = (scene.width - MARGIN, MARGIN, top + 12.0);
    for (name, pen) in entries {
        let name = fitted(name, 12.0, 220.0);
        let width = 29.0 + text_width(&name, 12.0);
        if x + width > right && x > MARGIN {
            (x, y) = (MARGIN, y + 19.0);
        }
        scene.line(&[[x, y - 4.0], [x + 22.0, y - 4.0]], *pen);
        scene.text(Text::new([x + 29.0, y], name));
        x += width + 20.0;
    }
    y + 8.0
}

/// A mark of its own shape and colour for each of 40 kinds.
pub(crate) fn mark(scene: &mut Scene, [x, y]: Point, r: f64, idx: usize) {
    let fill = colour::kind(idx);
    let corners =
        |points: &[Point]| points.iter().map(|[dx, dy]| [x + r * dx, y + r * dy]).collect::<Vec<_>>();
    match idx / colour::KINDS.len() % 5 {
        0 => scene.dot([x, y], r, fill),
        1 => scene.rect([x - 0.85 * r, y - 0.85 * r], [1.7 * r, 1.7 * r], fill),
        2 => scene.area(&corners(&[[0.0, -1.15], [1.1, 0.8], [-1.1, 0.8]]), fill),
        3 => scene.area(&corners(&[[0.0, -1.25], [1.25, 0.0], [0.0, 1.25], [-1.25, 0.0]]), fill),
        _ => {
            let pen = Pen::new(fill, 0.6 * r);
            scene.line(&corners(&[[-0.8, -0.8], [0.8, 0.8]]), pen);
            scene.line(&corners(&[[0.8, -0.8], [-0.8, 0.8]]), pen);
        }
    }
}

/// The colours of a range from bottom to top, with ticks at their right; `marks` are values to point at.
pub(crate) fn colour_bar(
    scene: &mut Scene,
    [x, y]: Point,
    height: f64,
    range: Scale,
    label: impl Fn(f64, String) -> String,
    marks: &[(f64, &str)],
) {
    let width = 14.0;
    for step in 0..SHADES {
        // Each goes down to the end, so that no seams show.
        let down = height * step as f64 / SHADES as f64;
        let fill = colour::scale(1.0 - step as f64 / (SHADES - 1) as f64);
        scene.rect([x, y + down], [width, height - down], fill);
    }
    let place = |value: f64| crisp(y + (1.0 - range.place(value)) * height);
    for (value, text) in range.ticks((height / 26.0) as usize) {
        let at = place(value);
        scene.line(&[[x + width, at], [x + width + 4.0, at]], Pen::new(AXIS, 1.0));
        let text = Text::new([x + width + 8.0, at + 0.36 * LABEL], label(value, text));
        scene.text(text.size(LABEL).colour(MUTED));
    }
    for (value, name) in marks {
        let at = place(*value);
        scene.area(&[[x, at], [x - 6.0, at - 4.0], [x - 6.0, at + 4.0]], INK);
        scene.text(Text::new([x - 10.0, at + 0.36 * LABEL], *name).size(LABEL).end());
    }
}

/// A line of its own colour, and dashes when the colours are used up.
pub(crate) fn pen(idx: usize) -> Pen {
    let pen = Pen::new(colour::kind(idx), 1.8);
    match idx / colour::KINDS.len() {
        0 => pen,
        round => pen.dashed(2.0 + 3.0 * round as f64),
    }
}

/// A colour between it and white.
pub(crate) fn pale(colour: Colour, share: f64) -> Colour {
    colour::mixed(colour::WHITE, colour, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, is_log: bool, n: usize) -> Vec<String> {
        Scale { low, high, is_log }.rounded(n).ticks(n).into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(0.03, 0.97, false, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(1.0, 40.0, false, 5), ["0", "10", "20", "30", "40"]);
        assert_eq!(labels(-3.0, 4.0, false, 4), ["−4", "−2", "0", "2", "4"]);
        assert_eq!(labels(1e-6, 3e-6, false, 3), ["1e−6", "2e−6", "3e−6"]);
        assert_eq!(labels(0.02, 400.0, true, 6), ["0.01", "0.1", "1", "10", "100", "1000"]);
        assert_eq!(labels(0.3, 1.8, true, 6), ["0.2", "0.5", "1", "2"]);
        assert_eq!(labels(2.0, 2.0, false, 4), ["1.8", "1.9", "2.0", "2.1", "2.2"]);
        assert_eq!(labels(0.0, 0.0, false, 2), ["−1", "0", "1"]);
        assert!(!labels(1.7e307, 1.7e307, true, 4).is_empty() && !labels(5e-324, 5e-324, true, 4).is_empty());
        assert_eq!(labels(1e-7, 1e5, true, 4), ["1e−7", "1e−4", "0.1", "100", "1e5"]);
    }

    #[test]
    fn values_find_their_place() {
        let frame = [10.0, 20.0, 110.0, 70.0];
        let axes = Axes {
            frame,
            x: Scale { low: 0.0, high: 10.0, is_log: false },
            y: Scale { low: 1.0, high: 100.0, is_log: true },
        };
        assert_eq!(axes.at(5.0, 10.0), [60.0, 45.0]);
        assert_eq!(axes.at(99.0, 1e9), [110.0, 20.0]);
        assert!(axes.at(5.0, 0.0)[1].is_nan() && axes.at(f64::NAN, 1.0)[0].is_nan());
        assert_eq!(Scale::over([f64::NAN, -1.0, 0.0], true), None);
        assert_eq!(Scale::over([f64::INFINITY], false), None);
        let range = Scale::over([3.0, f64::NAN, -1.0, 5.0], true).unwrap();
        assert_eq!((range.low, range.high), (3.0, 5.0));
    }

    #[test]
    fn numbers_are_short() {
        let told = [0.0, -0.0, 0.05, 200.0, 1e-5, -2.5e7, 0.001].map(plain);
        assert_eq!(told, ["0", "0", "0.05", "200", "1e−5", "−2.5e7", "0.001"]);
    }
}
