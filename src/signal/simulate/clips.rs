//! The clips: one to four objects of one shape and colour that move, slowly or fast, over a grey ground, and bounce
//! off the edges.
//!
//! Pictures are described in units of half their height, y downwards, and sampled at pixel centres with soft edges; the
//! same clip may be drawn at any size.

use super::super::portable::{Stream, sin_cos_turns};
use super::super::seed_dv::CLASSES;

/// What is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A disc.
    Ball,
    /// A square.
    Box,
    /// Five points.
    Star,
    /// A disc with eyes and a mouth.
    Face,
    /// Head, body, limbs.
    Person,
}

/// In which colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Code 1 of SEED-DV.
    Red,
    /// Code 2.
    Green,
    /// Code 3.
    Blue,
    /// Code 4.
    Yellow,
}

impl Shape {
    pub(super) const ALL: [Shape; 5] = [Shape::Ball, Shape::Box, Shape::Star, Shape::Face, Shape::Person];

    fn names(self) -> [&'static str; 2] {
        match self {
            Shape::Ball => ["ball", "balls"],
            Shape::Box => ["box", "boxes"],
            Shape::Star => ["star", "stars"],
            Shape::Face => ["face", "faces"],
            Shape::Person => ["person", "people"],
        }
    }
}

impl Colour {
    pub(super) const ALL: [Colour; 4] = [Colour::Red, Colour::Green, Colour::Blue, Colour::Yellow];

    /// Its number in SEED-DV's colour array.
    pub fn code(self) -> u8 {
        1 + self as u8
    }

    fn name(self) -> &'static str {
        super::seed_dv::COLOURS[usize::from(self.code())]
    }

    fn rgb(self) -> [f64; 3] {
        match self {
            Colour::Red => [215.0, 45.0, 45.0],
            Colour::Green => [45.0, 165.0, 70.0],
            Colour::Blue => [50.0, 80.0, 215.0],
            Colour::Yellow => [230.0, 200.0, 45.0],
        }
    }
}

/// One clip, and what there is to know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Concept, 1 to 40.
    pub class: u8,
    /// What is seen.
    pub shape: Shape,
    /// In which colour.
    pub colour: Colour,
    /// Whether the concept is a fast one.
    pub is_fast: bool,
    /// Mean way of the objects from frame to frame, in pixels of a picture 36 high.
    pub flow: f64,
    /// Radius of the objects.
    radius: f64,
    /// Of each object: where it starts, in shares of the ground it can reach, and its way in units per frame.
    objects: Vec<[f64; 4]>,
    rgb: [f64; 3],
    /// Grey of the ground, above and below.
    ground: [f64; 2],
}

/// Pixels of flow to units of half the height.
const UNITS_PER_PIXEL: f64 = 2.0 / 36.0;

/// Shape, colour and speed of a concept (1 to 40).
fn concept(class: u8) -> (Shape, Colour, bool) {
    let idx = usize::from(class.clamp(1, CLASSES as u8)) - 1;
    (Shape::ALL[idx / 8], Colour::ALL[idx / 2 % 4], idx % 2 == 1)
}

/// `slow red ball` to `fast yellow person`.
pub fn class_names() -> Vec<String> {
    let name = |class| {
        let (shape, colour, is_fast) = concept(class);
        format!("{} {} {}", if is_fast { "fast" } else { "slow" }, colour.name(), shape.names()[0])
    };
    (1..=CLASSES as u8).map(name).collect()
}

impl Clip {
    pub(super) fn draw(seed: u64, block: usize, idx: usize, class: u8) -> Clip {
        let mut stream = Stream::under(seed, &[1, block as u64, idx as u64]);
        let (shape, colour, is_fast) = concept(class);
        let flow = if is_fast { stream.within(2.2, 6.0) } else { stream.within(0.3, 1.4) };
        let count = match stream.uniform() {
            u if u < 0.6 => 1,
            u if u < 0.8 => 2,
            _ => 4,
        };
        let radius = stream.within(0.9, 1.1) * [0.5, 0.5, 0.36, 0.3, 0.26][count];
        let objects = (0..count).map(|i| {
            let (sin, cos) = sin_cos_turns(stream.uniform());
            let way = flow * UNITS_PER_PIXEL;
            // Each starts in a part of the width of its own.
            let x = (i as f64 + stream.within(0.25, 0.75)) / count as f64;
            [x, stream.within(0.1, 0.9), way * cos, way * sin]
        });
        let objects = objects.collect();
        let rgb = colour.rgb().map(|v| v + stream.within(-20.0, 20.0));
        let ground = [stream.within(60.0, 190.0), stream.within(60.0, 190.0)];
        Clip { class, shape, colour, is_fast, flow, radius, objects, rgb, ground }
    }

    /// 1, 2, or 3 for many.
    pub fn number(&self) -> u8 {
        self.objects.len().min(3) as u8
    }

    /// A sentence: `two red balls drift to the left`.
    pub fn caption(&self) -> String {
        let (colour, [one, several]) = (self.colour.name(), self.shape.names());
        let [_, _, x, y] = self.objects[0];
        let direction = match (x.abs() >= y.abs(), x > 0.0, y > 0.0) {
            (true, true, _) => "to the right",
            (true, false, _) => "to the left",
            (false, _, true) => "downwards",
            (false, _, false) => "upwards",
        };
        let is_bright = self.ground[0] + self.ground[1] > 250.0;
        let ground = if is_bright { "a bright background" } else { "a dark background" };
        match (self.objects.len(), self.is_fast) {
            (1, false) => format!("a {colour} {one} drifts slowly {direction} on {ground}"),
            (1, true) => format!("a {colour} {one} rushes {direction} on {ground}"),
            (n, is_fast) => {
                let number = if n == 2 { "two" } else { "many" };
                let moves = if is_fast { "rush across" } else { "drift slowly over" };
                format!("{number} {colour} {several} {moves} {ground}")
            }
        }
    }

    /// `[count, height, width, 3]`, red, green, blue: `count` frames over the 2 s of the clip. The way between two
    /// frames is that of six frames a clip, however many are drawn.
    pub fn frames(&self, count: usize, height: usize, width: usize) -> Vec<u8> {
        let unit = 2.0 / height.max(1) as f64; // of a pixel
        let half_width = width as f64 / height.max(1) as f64;
        let star = star();
        let mut rgb = Vec::with_capacity(count * height * width * 3);
        for frame in 0..count {
            let time = 6.0 * frame as f64 / count as f64;
            let centres: Vec<[f64; 2]> =
                self.objects.iter().map(|o| self.centre(o, time, half_width)).collect();
            for row in 0..height {
                let y = (row as f64 + 0.5) * unit - 1.0;
                let ground = self.ground[0] + (self.ground[1] - self.ground[0]) * (y + 1.0) / 2.0;
                for column in 0..width {
                    let x = (column as f64 + 0.5) * unit - half_width;
                    let mut pixel = [ground; 3];
                    for &[cx, cy] in &centres {
                        let (u, v) = ((x - cx) / self.radius, (y - cy) / self.radius);
                        if u * u + v * v < 1.7 {
                            self.paint(&mut pixel, u, v, unit / self.radius, &star);
                        }
                    }
                    rgb.extend(pixel.map(|v| (v + 0.5).clamp(0.0, 255.0) as u8));
                }
            }
        }
        rgb
    }

    /// Where an object is; it bounces between the edges.
    fn centre(&self, [x, y, dx, dy]: &[f64; 4], time: f64, half_width: f64) -> [f64; 2] {
        let bounce = |share: f64, way: f64, half: f64| {
            let reach = (half - self.radius).max(0.05);
            // A triangle wave of period 4 · reach.
            let phase = (share * 2.0 * reach + way * time) / (4.0 * reach);
            let phase = phase - phase.floor();
            if phase < 0.5 { reach * (4.0 * phase - 1.0) } else { reach * (3.0 - 4.0 * phase) }
        };
        [bounce(*x, *dx, half_width), bounce(*y, *dy, 1.0)]
    }

    /// Lays the object over a pixel at (u, v), in radii from its middle; `soft` is the size of a pixel.
    fn paint(&self, pixel: &mut [f64; 3], u: f64, v: f64, soft: f64, star: &[[f64; 2]]) {
        let mut lay = |distance: f64, rgb: [f64; 3]| {
            let cover = (0.5 - distance / soft).clamp(0.0, 1.0);
            pixel.iter_mut().zip(rgb).for_each(|(p, c)| *p += cover * (c - *p));
        };
        let disc = |x: f64, y: f64, radius: f64| ((u - x) * (u - x) + (v - y) * (v - y)).sqrt() - radius;
        let limb = |a: [f64; 2], b: [f64; 2]| segment(u, v, a, b) - 0.1;
        match self.shape {
            Shape::Ball => lay(disc(0.0, 0.0, 1.0), self.rgb),
            Shape::Box => lay(u.abs().max(v.abs()) - 0.85, self.rgb),
            Shape::Star => lay(polygon(u, v, star), self.rgb),
            Shape::Face => {
                lay(disc(0.0, 0.0, 1.0), self.rgb);
                let dark = [25.0; 3];
                lay(disc(-0.36, -0.25, 0.16), dark);
                lay(disc(0.36, -0.25, 0.16), dark);
                let mouth = disc(0.0, 0.05, 0.55).abs() - 0.09;
                lay(mouth.max(0.2 - v), dark);
            }
            Shape::Person => {
                let body = segment(u, v, [0.0, -0.3], [0.0, 0.25]) - 0.2;
                let legs = limb([0.0, 0.25], [-0.35, 1.0]).min(limb([0.0, 0.25], [0.35, 1.0]));
                let arms = limb([0.0, -0.3], [-0.6, 0.15]).min(limb([0.0, -0.3], [0.6, 0.15]));
                lay(body.min(legs).min(arms).min(disc(0.0, -0.75, 0.28)), self.rgb);
            }
        }
    }
}

/// Corners of a star of radius 1.
fn star() -> Vec<[f64; 2]> {
    let corner = |i: usize| {
        let (sin, cos) = sin_cos_turns(i as f64 / 10.0);
        let radius = if i.is_multiple_of(2) { 1.1 } else { 0.45 };
        [radius * sin, -radius * cos]
    };
    (0..10).map(corner).collect()
}

/// Distance from (u, v) to the line between two points.
fn segment(u: f64, v: f64, a: [f64; 2], b: [f64; 2]) -> f64 {
    let (along, off) = ([b[0] - a[0], b[1] - a[1]], [u - a[0], v - a[1]]);
    let share = (off[0] * along[0] + off[1] * along[1]) / (along[0] * along[0] + along[1] * along[1]);
    let share = share.clamp(0.0, 1.0);
    let (x, y) = (off[0] - share * along[0], off[1] - share * along[1]);
    (x * x + y * y).sqrt()
}

/// Distance to a polygon's edge, negative inside.
fn polygon(u: f64, v: f64, corners: &[[f64; 2]]) -> f64 {
    let (mut distance, mut is_inside) = (f64::INFINITY, false);
    for (i, &b) in corners.iter().enumerate() {
        let a = corners[(i + corners.len() - 1) % corners.len()];
        distance = distance.min(segment(u, v, a, b));
        if (a[1] > v) != (b[1] > v) && u < a[0] + (v - a[1]) / (b[1] - a[1]) * (b[0] - a[0]) {
            is_inside = !is_inside;
        }
    }
    if is_inside { -distance } else { distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concepts_have_names_of_their_own() {
        let names = class_names();
        assert_eq!((names[0].as_str(), names[39].as_str()), ("slow red ball", "fast yellow person"));
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), 40);
    }

    #[test]
    fn clips_show_what_they_say() {
        for class in 1..=40 {
            let clip = Clip::draw(5, 0, usize::from(class), class);
            let frames = clip.frames(6, 36, 64);
            assert_eq!(frames.len(), 6 * 36 * 64 * 3);
            // The object's colour is there, and the picture changes; faster clips change more.
            let near = |p: &[u8]| p.iter().zip(clip.rgb).all(|(&a, b)| (f64::from(a) - b).abs() < 2.0);
            let share = frames.chunks_exact(3).filter(|p| near(p)).count() as f64 / (6.0 * 36.0 * 64.0);
            assert!((0.01..0.7).contains(&share), "{class}: {share}");
            assert!(frames[..36 * 64 * 3] != frames[36 * 64 * 3..2 * 36 * 64 * 3]);
            assert_eq!(clip.flow >= crate::signal::seed_dv::FAST_FLOW, clip.is_fast);
            let caption = clip.caption();
            assert!(caption.contains(clip.colour.name()) && caption.split(' ').count() < 20, "{caption}");
            let large = clip.frames(1, 72, 128);
            let differs = |i: usize| {
                let (y, x) = (i / 64, i % 64);
                let at = ((2 * y + 1) * 128 + 2 * x + 1) * 3;
                (0..3).any(|c| large[at + c].abs_diff(frames[3 * i + c]) > 90)
            };
            assert!((0..36 * 64).filter(|&i| differs(i)).count() < 40, "one picture at two sizes");
        }
    }
}
