//! A scene as pixels. A shape covers a pixel as far as its edge is from the pixel's middle, so edges are smooth; the
//! parts of one shape are joined before it is laid over what is there, so its joints do not darken.

use super::colour::Colour;
use super::font;
use super::scene::{Pen, Point, Scene, Shape};
use crate::error::{Error, Result};
use crate::media::frames;

/// Pixels `[height, width, 3]`, height and width.
pub(super) fn draw(scene: &Scene, scale: usize) -> Result<(Vec<u8>, usize, usize)> {
    let side = |length: f64| (length * scale as f64) as usize;
    let (height, width) = (side(scene.height), side(scene.width));
    frames::within_limits(1, height, width).map_err(|detail| Error::shape("plot", detail))?;
    let mut canvas = Canvas { rgb: vec![255; height * width * 3], height, width };
    let scale = scale as f64;
    let scaled = |point: &Point| [point[0] * scale, point[1] * scale];
    for shape in &scene.shapes {
        match shape {
            Shape::Line { points, pen } => {
                let points: Vec<Point> = points.iter().map(scaled).collect();
                canvas.strokes(&dashes(points, pen.dash * scale), pen.width * scale, pen.colour);
            }
            Shape::Area { points, fill } => {
                let points: Vec<Point> = points.iter().map(scaled).collect();
                canvas.paint(bounds(&points, 1.0), *fill, |at| 0.5 - distance_to_polygon(at, &points));
            }
            Shape::Rect { corner, size, fill } => {
                let ([x0, y0], [x1, y1]) =
                    (scaled(corner), scaled(&[corner[0] + size[0], corner[1] + size[1]]));
                let share = |at: f64, low: f64, high: f64| (at + 0.5).min(high) - (at - 0.5).max(low);
                canvas.paint([x0, y0, x1, y1], *fill, |[x, y]| {
                    share(x, x0, x1).max(0.0) * share(y, y0, y1).max(0.0)
                });
            }
            Shape::Circle { centre, radius, fill, pen } => {
                let ([x, y], radius) = (scaled(centre), radius * scale);
                let reach = radius + pen.map_or(0.0, |pen| pen.width * scale) + 1.0;
                let around = [x - reach, y - reach, x + reach, y + reach];
                if let Some(fill) = fill {
                    canvas.paint(around, *fill, |at| radius + 0.5 - (at[0] - x).hypot(at[1] - y));
                }
                if let Some(Pen { colour, width, .. }) = pen {
                    let width = width * scale;
                    canvas.paint(around, *colour, |at| {
                        let off = ((at[0] - x).hypot(at[1] - y) - radius).abs();
                        (0.5 * width + 0.5 - off).min(width)
                    });
                }
            }
            Shape::Text(text) => {
                let strokes = font::strokes(text);
                let strokes: Vec<Vec<Point>> =
                    strokes.iter().map(|stroke| stroke.iter().map(scaled).collect()).collect();
                canvas.strokes(&strokes, font::stroke_width(text) * scale, text.colour);
            }
            Shape::Image { corner, size, rgb, pixels } => {
                canvas.image(scaled(corner), scaled(size), rgb, *pixels);
            }
        }
    }
    Ok((canvas.rgb, height, width))
}

struct Canvas {
    rgb: Vec<u8>,
    height: usize,
    width: usize,
}

impl Canvas {
    /// The pixels whose middles may lie within `[x0, y0, x1, y1]` and a pixel around: first and past the last.
    fn clip(&self, [x0, y0, x1, y1]: [f64; 4]) -> [usize; 4] {
        let low = |v: f64| (v - 1.0).max(0.0) as usize;
        let high = |v: f64, end: usize| ((v + 2.0).max(0.0) as usize).min(end);
        [low(x0), low(y0), high(x1, self.width), high(y1, self.height)]
    }

    /// Lays a colour over a pixel, so much of it.
    fn blend(&mut self, x: usize, y: usize, colour: Colour, cover: f64) {
        if cover <= 0.0 {
            return;
        }
        let at = 3 * (y * self.width + x);
        for (old, new) in self.rgb[at..at + 3].iter_mut().zip(colour) {
            *old = (f64::from(*old) + (f64::from(new) - f64::from(*old)) * cover.min(1.0)).round() as u8;
        }
    }

    /// Colours the pixels within `bounds` as far as `cover` says of their middles.
    fn paint(&mut self, bounds: [f64; 4], colour: Colour, cover: impl Fn(Point) -> f64) {
        let [left, top, right, bottom] = self.clip(bounds);
        for y in top..bottom {
            for x in left..right {
                self.blend(x, y, colour, cover([x as f64 + 0.5, y as f64 + 0.5]));
            }
        }
    }

    /// Lines of one width and colour, as one shape.
    fn strokes(&mut self, strokes: &[Vec<Point>], width: f64, colour: Colour) {
        // A lone point is a dot, somewhat larger than the line is wide.
        let (reach, dot) = (0.5 * width + 0.5, 0.65 * width + 0.5);
        let [left, top, right, bottom] = self.clip(bounds(strokes.iter().flatten(), dot));
        if left >= right || top >= bottom {
            return;
        }
        let mut mask = vec![0.0f32; (right - left) * (bottom - top)];
        for stroke in strokes {
            let (reach, ends): (f64, &mut dyn Iterator<Item = (Point, Point)>) = match stroke[..] {
                [point] => (dot, &mut std::iter::once((point, point))),
                _ => (reach, &mut stroke.windows(2).map(|pair| (pair[0], pair[1]))),
            };
            for (a, b) in ends {
                let [x0, y0, x1, y1] = self.clip(bounds(&[a, b], reach));
                for y in y0..y1 {
                    for x in x0..x1 {
                        let off = distance_to_segment([x as f64 + 0.5, y as f64 + 0.5], a, b);
                        let cover = (reach - off).min(width) as f32;
                        let slot = &mut mask[(y - top) * (right - left) + x - left];
                        *slot = slot.max(cover);
                    }
                }
            }
        }
        for (row, line) in mask.chunks_exact(right - left).enumerate() {
            for (column, &cover) in line.iter().enumerate() {
                self.blend(left + column, top + row, colour, f64::from(cover));
            }
        }
    }

    /// A picture stretched over a rectangle, its pixels mixed with their neighbours.
    fn image(&mut self, corner: Point, size: Point, rgb: &[u8], [rows, columns]: [usize; 2]) {
        if rows == 0 || columns == 0 || rgb.len() != 3 * rows * columns {
            return;
        }
        let [left, top, right, bottom] =
            self.clip([corner[0], corner[1], corner[0] + size[0], corner[1] + size[1]]);
        for y in top..bottom {
            for x in left..right {
                let across = (x as f64 + 0.5 - corner[0]) / size[0];
                let down = (y as f64 + 0.5 - corner[1]) / size[1];
                if !(0.0..1.0).contains(&across) || !(0.0..1.0).contains(&down) {
                    continue;
                }
                let ([c0, c1], c) = neighbours(across, columns);
                let ([r0, r1], r) = neighbours(down, rows);
                let at =
                    |row: usize, column: usize, k: usize| f64::from(rgb[3 * (row * columns + column) + k]);
                let mixed = [0, 1, 2].map(|k| {
                    let (above, below) =
                        (mix(at(r0, c0, k), at(r0, c1, k), c), mix(at(r1, c0, k), at(r1, c1, k), c));
                    mix(above, below, r).round() as u8
                });
                self.blend(x, y, mixed, 1.0);
            }
        }
    }
}

/// The two pixels of `n` whose middles lie around a place between 0 and 1, and how near the second is.
fn neighbours(place: f64, n: usize) -> ([usize; 2], f64) {
    let at = (place * n as f64 - 0.5).clamp(0.0, (n - 1) as f64);
    let first = at as usize;
    ([first, (first + 1).min(n - 1)], at - first as f64)
}

fn mix(a: f64, b: f64, share: f64) -> f64 {
    a + (b - a) * share
}

fn bounds<'a>(points: impl IntoIterator<Item = &'a Point>, pad: f64) -> [f64; 4] {
    let start = [f64::MAX, f64::MAX, f64::MIN, f64::MIN];
    let [x0, y0, x1, y1] = points
        .into_iter()
        .fold(start, |[x0, y0, x1, y1], &[x, y]| [x0.min(x), y0.min(y), x1.max(x), y1.max(y)]);
    [x0 - pad, y0 - pad, x1 + pad, y1 + pad]
}

fn distance_to_segment([x, y]: Point, [ax, ay]: Point, [bx, by]: Point) -> f64 {
    let (dx, dy) = (bx - ax, by - ay);
    let along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy).max(1e-12)).clamp(0.0, 1.0);
    (x - ax - along * dx).hypot(y - ay - along * dy)
}

/// Distance to the edge, negative inside (even-odd).
fn distance_to_polygon(at: Point, corners: &[Point]) -> f64 {
    let (mut nearest, mut is_inside) = (f64::MAX, false);
    for (i, &b) in corners.iter().enumerate() {
        let a = corners[(i + corners.len() - 1) % corners.len()];
        nearest = nearest.min(distance_to_segment(at, a, b));
        if (a[1] > at[1]) != (b[1] > at[1]) && at[0] < (b[0] - a[0]) * (at[1] - a[1]) / (b[1] - a[1]) + a[0] {
            is_inside = !is_inside;
        }
    }
    if is_inside { -nearest } else { nearest }
}

/// Cuts a line into dashes of a length with gaps as long; 0 leaves it whole.
fn dashes(points: Vec<Point>, length: f64) -> Vec<Vec<Point>> {
    if length <= 0.0 {
        return vec![points];
    }
    let (mut found, mut dash) = (Vec::new(), vec![points[0]]);
    let (mut left, mut is_drawn) = (length, true);
    for pair in points.windows(2) {
        let (mut a, b) = (pair[0], pair[1]);
        loop {
            let whole = (b[0] - a[0]).hypot(b[1] - a[1]);
            if whole <= left {
                left -= whole;
                dash.push(b);
                break;
            }
            a = [mix(a[0], b[0], left / whole), mix(a[1], b[1], left / whole)];
            dash.push(a);
            let done = std::mem::replace(&mut dash, vec![a]);
            found.extend(is_drawn.then_some(done));
            (left, is_drawn) = (length, !is_drawn);
        }
    }
    found.extend((is_drawn && dash.len() > 1).then_some(dash));
    found
}

#[cfg(test)]
mod tests {
    use super::super::scene::Text;
    use super::*;

    const RED: Colour = [200, 0, 0];
    const WHITE: Colour = [255; 3];

    fn pixel(picture: &(Vec<u8>, usize, usize), x: usize, y: usize) -> Colour {
        let at = 3 * (y * picture.2 + x);
        [picture.0[at], picture.0[at + 1], picture.0[at + 2]]
    }

    fn inked(picture: &(Vec<u8>, usize, usize)) -> usize {
        picture.0.chunks_exact(3).filter(|pixel| *pixel != WHITE).count()
    }

    #[test]
    fn a_rectangle_covers_its_pixels_and_halves_its_edges() {
        let mut scene = Scene::new(8.0, 6.0, "");
        scene.rect([2.0, 1.0], [3.5, 2.0], RED);
        let picture = scene.pixels(1).unwrap();
        assert_eq!((picture.1, picture.2, inked(&picture)), (6, 8, 8));
        assert_eq!([pixel(&picture, 2, 1), pixel(&picture, 4, 2)], [RED; 2]);
        assert_eq!(pixel(&picture, 5, 1), [228, 128, 128]); // half of it
        assert_eq!([pixel(&picture, 1, 1), pixel(&picture, 2, 3)], [WHITE; 2]);
        let large = scene.pixels(2).unwrap();
        assert_eq!((large.1, large.2, inked(&large)), (12, 16, 28));
    }

    #[test]
    fn lines_have_their_width_and_smooth_edges() {
        let mut scene = Scene::new(20.0, 20.0, "");
        scene.line(&[[3.5, 4.5], [15.5, 4.5]], Pen::new(RED, 1.0));
        let picture = scene.pixels(1).unwrap();
        assert!((4..15).all(|x| pixel(&picture, x, 4) == RED && pixel(&picture, x, 5) == WHITE));
        let mut scene = Scene::new(20.0, 20.0, "");
        scene.line(&[[2.0, 2.0], [18.0, 13.0]], Pen::new(RED, 2.0));
        let picture = scene.pixels(1).unwrap();
        let shades: std::collections::BTreeSet<u8> =
            picture.0.chunks_exact(3).map(|pixel| pixel[1]).collect();
        assert!(shades.len() > 10, "{shades:?}");
        // As much ink as the line is long and wide, and its ends.
        let ink: f64 = picture.0.chunks_exact(3).map(|pixel| (255.0 - f64::from(pixel[1])) / 255.0).sum();
        let wanted = 2.0 * 16f64.hypot(11.0) + std::f64::consts::PI;
        assert!((ink / wanted - 1.0).abs() < 0.03, "{ink}, wanted {wanted}");
    }

    #[test]
    fn a_bent_line_is_no_darker_at_its_joints() {
        let mut scene = Scene::new(12.0, 12.0, "");
        let points: Vec<Point> = (0..50).map(|i| [1.0 + 0.2 * f64::from(i), 6.3]).collect();
        scene.line(&points, Pen::new(RED, 1.0));
        let mut whole = Scene::new(12.0, 12.0, "");
        whole.line(&[points[0], points[49]], Pen::new(RED, 1.0));
        assert_eq!(scene.pixels(1).unwrap(), whole.pixels(1).unwrap());
    }

    #[test]
    fn discs_rings_and_polygons_have_their_areas() {
        let area = |scene: &Scene| {
            let picture = scene.pixels(4).unwrap();
            picture.0.chunks_exact(3).map(|pixel| (255.0 - f64::from(pixel[1])) / 255.0).sum::<f64>() / 16.0
        };
        let mut scene = Scene::new(20.0, 20.0, "");
        scene.dot([10.0, 10.0], 5.0, RED);
        assert!((area(&scene) / (25.0 * std::f64::consts::PI) - 1.0).abs() < 0.01);
        let mut scene = Scene::new(20.0, 20.0, "");
        let pen = Some(Pen::new(RED, 2.0));
        scene.shapes.push(Shape::Circle { centre: [10.0, 10.0], radius: 5.0, fill: None, pen });
        assert!((area(&scene) / (20.0 * std::f64::consts::PI) - 1.0).abs() < 0.01);
        let mut scene = Scene::new(20.0, 20.0, "");
        scene.area(&[[2.0, 2.0], [18.0, 2.0], [2.0, 18.0]], RED);
        assert!((area(&scene) / 128.0 - 1.0).abs() < 0.01);
    }

    #[test]
    fn dashes_leave_as_much_as_they_draw() {
        let cut = dashes(vec![[0.0, 0.0], [10.0, 0.0], [10.0, 5.0]], 2.0);
        assert_eq!(cut.len(), 4);
        assert_eq!(cut[0], [[0.0, 0.0], [2.0, 0.0]]);
        assert_eq!(cut[3], [[10.0, 2.0], [10.0, 4.0]]);
        let bent = dashes(vec![[0.0, 0.0], [1.0, 0.0], [1.0, 5.0]], 2.0);
        assert_eq!(bent[0], [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]);
    }

    #[test]
    fn pictures_stretch_and_what_lies_outside_is_cut() {
        let mut scene = Scene::new(8.0, 4.0, "");
        scene.image([0.0, 0.0], [8.0, 4.0], vec![0, 0, 0, 255, 255, 255], [1, 2]);
        let picture = scene.pixels(1).unwrap();
        let row: Vec<u8> = (0..8).map(|x| pixel(&picture, x, 1)[0]).collect();
        assert_eq!((row[0], row[7]), (0, 255));
        assert!(row.is_sorted() && row[3] < 128 && row[4] > 127, "{row:?}");
        let mut scene = Scene::new(8.0, 4.0, "");
        scene.dot([-5.0, -5.0], 2.0, RED);
        scene.rect([-1e12, -1e12], [1.0, 1.0], RED);
        scene.rect([1e12, 1e12], [1.0, 1.0], RED);
        scene.line(&[[-100.0, 50.0], [100.0, 50.0]], Pen::new(RED, 1.0));
        scene.text(Text::new([100.0, 100.0], "outside"));
        scene.image([0.0, 0.0], [4.0, 4.0], vec![1, 2], [1, 2]);
        assert_eq!(inked(&scene.pixels(1).unwrap()), 0);
    }

    #[test]
    fn text_leaves_ink_where_it_stands() {
        let mut scene = Scene::new(60.0, 30.0, "");
        scene.text(Text::new([5.0, 20.0], "Hi").size(16.0).colour(RED));
        let picture = scene.pixels(2).unwrap();
        assert_eq!(pixel(&picture, 10, 30), RED, "the left leg of the H");
        assert!(inked(&picture) > 60);
        assert!((0..60).all(|x| pixel(&picture, 2 * x, 50) == WHITE), "nothing below the line");
    }
}
