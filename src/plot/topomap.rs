//! Scalp maps: a value an electrode, spread over the head seen from above, nose up.
//!
//! Between electrodes by spherical splines (F. Perrin et al., Electroencephalography and Clinical Neurophysiology 72,
//! 1989) on a sphere whose equator is at the height of the ears:
//!
//! ```text
//! v(x) = c0 + Σ ci g(cos(x, xi)),  Σ ci = 0        g(t) = 1/4π Σn (2n + 1) / (n (n + 1))⁴ Pn(t),  n = 1 … 40
//! ```
//!
//! The surface passes through every value. Places are EEGLAB's: degrees from the nose, and the distance from the
//! vertex, where 0.5 is a quarter turn.

use super::axes::{MARGIN, Scale, colour_bar, heading};
use super::colour::{self, INK, WHITE};
use super::scene::{Pen, Point, Scene, Shape, Text, fitted};
use crate::error::{Error, Result};
use crate::signal::montage::Electrode;
use std::f64::consts::PI;

/// Maps at most.
pub const MAX_MAPS: usize = 12;
/// Electrodes at most.
pub const MAX_ELECTRODES: usize = 256;
/// Radius of the head in units of electrodes' places: the outermost lie inside.
const HEAD: f64 = 0.54;
/// How far beyond the head's rim colours are known.
const EDGE: f64 = 1.05;
/// Pixels across a map, and cells across for its contours.
const PIXELS: usize = 120;
const CELLS: usize = 60;
/// Terms of g, and steps of the table it is read from.
const TERMS: usize = 40;
const STEPS: usize = 4000;

/// One head.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// What it shows.
    pub label: String,
    /// One value an electrode; what is not finite is filled in from the others.
    pub values: Vec<f64>,
}

/// Heads side by side, each with its own range of colours in `unit`. One alone is large, with the electrodes' names.
///
/// Errors: [`Error::Shape`] when there is no map or more than [`MAX_MAPS`], no electrode or more than
/// [`MAX_ELECTRODES`], values are not one an electrode, fewer than three are finite, or two electrodes have one place.
pub fn topomap(title: &str, unit: &str, electrodes: &[Electrode], maps: &[Map]) -> Result<Scene> {
    let refuse = |detail: String| Err(Error::shape("topomap", detail));
    if maps.is_empty() || maps.len() > MAX_MAPS {
        return refuse(format!("{} maps, 1 to {MAX_MAPS} are drawn", maps.len()));
    }
    if electrodes.len() > MAX_ELECTRODES {
        return refuse(format!("{} electrodes, at most {MAX_ELECTRODES} are taken", electrodes.len()));
    }
    let is_alone = maps.len() == 1;
    let radius = if is_alone { 200.0 } else { 78.0 };
    let columns = if maps.len() == 4 { 2 } else { maps.len().min(3) };
    // Ears, colour bar and its labels stand beside a head, its name above.
    let step = [2.0 * radius + if is_alone { 120.0 } else { 112.0 }, 2.1 * radius + 60.0];
    let mut scene = Scene::new(2.0 * MARGIN + columns as f64 * step[0], 0.0, title);
    let top = heading(&mut scene, title, unit) + 12.0;
    scene.height = (top + maps.len().div_ceil(columns) as f64 * step[1] + 0.5 * MARGIN).ceil();
    let table = table();
    for (idx, map) in maps.iter().enumerate() {
        if map.values.len() != electrodes.len() {
            return refuse(format!("{} values for {} electrodes", map.values.len(), electrodes.len()));
        }
        let there = electrodes.iter().zip(&map.values).filter(|(_, value)| value.is_finite());
        let (places, values): (Vec<Electrode>, Vec<f64>) = there.map(|(e, v)| (*e, *v)).unzip();
        if values.len() < 3 {
            return refuse(format!("\"{}\" has {} finite values, a map needs 3", map.label, values.len()));
        }
        let surface = Surface::through(&places, &values, &table)?;
        let corner = [MARGIN + (idx % columns) as f64 * step[0], top + (idx / columns) as f64 * step[1]];
        let centre = [corner[0] + radius + 16.0, corner[1] + 1.1 * radius + 34.0];
        if !map.label.is_empty() {
            scene.text(Text::new([centre[0], corner[1] + 20.0], &map.label).bold().middle());
        }
        let Some(range) = Scale::over(values.iter().copied(), false) else { continue };
        let range = range.widened();
        draw(&mut scene, centre, radius, &surface, range);
        for (electrode, value) in electrodes.iter().zip(&map.values) {
            let [x, y] = flat(electrode);
            let at = [centre[0] + x / HEAD * radius, centre[1] + y / HEAD * radius];
            let fill = Some(if value.is_finite() { INK } else { WHITE });
            let (dot, pen) = (if is_alone { 2.4 } else { 1.3 }, Some(Pen::new(INK, 0.6)));
            scene.shapes.push(Shape::Circle { centre: at, radius: dot, fill, pen });
            if is_alone && electrodes.len() <= 80 {
                let paper = colour::scale(range.place(surface.at(unit_vector(x, y))));
                let name = fitted(electrode.name, 8.0, 40.0);
                // Towards the middle, so that the rim stays clear.
                let beside = if y < -0.2 { 11.0 } else { -5.0 };
                scene.text(
                    Text::new([at[0], at[1] + beside], name).size(8.0).colour(colour::on(paper)).middle(),
                );
            }
        }
        let bar = if is_alone { 220.0 } else { 1.5 * radius };
        let place = [centre[0] + radius + 22.0, centre[1] - 0.5 * bar];
        colour_bar(&mut scene, place, bar, range, |_, text| text, &[]);
    }
    Ok(scene)
}

/// Colours, contours, outline, nose and ears.
fn draw(scene: &mut Scene, [x, y]: Point, radius: f64, surface: &Surface, range: Scale) {
    // A little beyond the rim, which a white ring then makes smooth.
    let at = |across: f64, down: f64| surface.at(unit_vector(across * EDGE * HEAD, down * EDGE * HEAD));
    let middle = |pixel: usize| (2.0 * pixel as f64 + 1.0) / PIXELS as f64 - 1.0;
    let pixel = |i: usize| {
        let (across, down) = (middle(i % PIXELS), middle(i / PIXELS));
        if across.hypot(down) > 1.0 { WHITE } else { colour::scale(range.place(at(across, down))) }
    };
    let rgb: Vec<u8> = (0..PIXELS * PIXELS).flat_map(pixel).collect();
    let reach = EDGE * radius;
    scene.image([x - reach, y - reach], [2.0 * reach, 2.0 * reach], rgb, [PIXELS, PIXELS]);

    let corner = |i: usize| 2.0 * i as f64 / CELLS as f64 - 1.0;
    let grid = (0..=CELLS).flat_map(|row| (0..=CELLS).map(move |column| (row, column)));
    let values: Vec<f64> = grid.map(|(row, column)| at(corner(column), corner(row))).collect();
    let (low, high) = (range.low, range.high);
    for level in (1..6).map(|nth| low + (high - low) * f64::from(nth) / 6.0) {
        for points in contour(&values, level) {
            let place = |[column, row]: Point| {
                let from_middle = |cell: f64| reach * (2.0 * cell / CELLS as f64 - 1.0);
                [x + from_middle(column), y + from_middle(row)]
            };
            let points = points.map(place);
            if points.iter().all(|p| (p[0] - x).hypot(p[1] - y) <= radius) {
                scene.line(
                    &points,
                    Pen::new(colour::mixed(colour::scale(range.place(level)), INK, 0.45), 0.7),
                );
            }
        }
    }
    let around = 0.12 * radius;
    let ring = |radius: f64, pen: Pen| Shape::Circle { centre: [x, y], radius, fill: None, pen: Some(pen) };
    scene.shapes.push(ring(radius + 0.5 * around, Pen::new(WHITE, around)));
    let pen = Pen::new(INK, if radius > 100.0 { 2.0 } else { 1.4 });
    scene.shapes.push(ring(radius, pen));
    let head = |points: &[Point]| {
        points.iter().map(|[dx, dy]| [x + radius * dx, y + radius * dy]).collect::<Vec<_>>()
    };
    scene.line(&head(&[[-0.09, -0.996], [0.0, -1.1], [0.09, -0.996]]), pen);
    for side in [-1.0, 1.0] {
        let ear = [
            [0.992, -0.13],
            [1.02, -0.165],
            [1.055, -0.16],
            [1.075, -0.1],
            [1.07, 0.0],
            [1.075, 0.09],
            [1.055, 0.16],
            [1.02, 0.17],
            [0.992, 0.13],
        ];
        scene.line(&head(&ear.map(|[dx, dy]| [side * dx, dy])), pen);
    }
}

/// Where an electrode lies on the flattened head: to the right and down, 0.5 at the height of the ears.
fn flat(electrode: &Electrode) -> Point {
    let angle = electrode.angle_deg.to_radians();
    [electrode.radius * angle.sin(), -electrode.radius * angle.cos()]
}

/// The point of the sphere above a place of the flattened head.
fn unit_vector(x: f64, y: f64) -> [f64; 3] {
    let radius = x.hypot(y);
    let (inclination, along) = (radius * PI, if radius > 0.0 { 1.0 / radius } else { 0.0 });
    [inclination.sin() * x * along, inclination.sin() * y * along, inclination.cos()]
}

/// g from -1 to 1.
fn table() -> Vec<f64> {
    let g = |t: f64| {
        let (mut before, mut legendre, mut sum) = (1.0, t, 0.0);
        for n in 1..=TERMS {
            let k = n as f64;
            sum += (2.0 * k + 1.0) / (k * (k + 1.0)).powi(4) * legendre;
            (before, legendre) = (legendre, ((2.0 * k + 1.0) * t * legendre - k * before) / (k + 1.0));
        }
        sum / (4.0 * PI)
    };
    (0..=STEPS).map(|i| g(2.0 * i as f64 / STEPS as f64 - 1.0)).collect()
}

/// A spline through values on the sphere.
struct Surface<'a> {
    places: Vec<[f64; 3]>,
    /// One an electrode, and the constant.
    weights: Vec<f64>,
    table: &'a [f64],
}

impl Surface<'_> {
    fn through<'a>(electrodes: &[Electrode], values: &[f64], table: &'a [f64]) -> Result<Surface<'a>> {
        let places: Vec<[f64; 3]> = electrodes.iter().map(flat).map(|[x, y]| unit_vector(x, y)).collect();
        let n = places.len();
        // Rows of the system: a value each, and the sum that is zero.
        let mut rows: Vec<Vec<f64>> = (0..n)
            .map(|i| {
                let mut row: Vec<f64> = places.iter().map(|other| g(table, &places[i], other)).collect();
                row.extend([1.0, values[i]]);
                row
            })
            .collect();
        rows.push((0..n).map(|_| 1.0).chain([0.0, 0.0]).collect());
        let weights = solve(rows).ok_or_else(|| {
            Error::shape("topomap", "two electrodes have the same place; leave one of them out")
        })?;
        Ok(Surface { places, weights, table })
    }

    fn at(&self, place: [f64; 3]) -> f64 {
        let sum: f64 =
            self.places.iter().zip(&self.weights).map(|(own, w)| w * g(self.table, own, &place)).sum();
        sum + self.weights.last().copied().unwrap_or(0.0)
    }
}

/// g of the angle between two places, from its table.
fn g(table: &[f64], a: &[f64; 3], b: &[f64; 3]) -> f64 {
    let cosine = (a[0] * b[0] + a[1] * b[1] + a[2] * b[2]).clamp(-1.0, 1.0);
    let at = 0.5 * (cosine + 1.0) * STEPS as f64;
    let low = (at as usize).min(STEPS - 1);
    table[low] + (table[low + 1] - table[low]) * (at - low as f64)
}

/// Solves rows `[a | b]` by elimination with the largest pivot; `None` when they do not determine the answer.
fn solve(mut rows: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let n = rows.len();
    let largest = rows.iter().flatten().fold(0.0f64, |most, v| most.max(v.abs()));
    for k in 0..n {
        let pivot = (k..n).max_by(|&a, &b| rows[a][k].abs().total_cmp(&rows[b][k].abs()))?;
        rows.swap(k, pivot);
        if rows[k][k].abs() <= 1e-15 * largest {
            return None;
        }
        let (done, below) = rows.split_at_mut(k + 1);
        let own = &done[k];
        for row in below {
            let times = row[k] / own[k];
            for (value, own) in row[k..].iter_mut().zip(&own[k..]) {
                *value -= times * own;
            }
        }
    }
    let mut x = vec![0.0; n];
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| rows[k][j] * x[j]).sum();
        x[k] = (rows[k][n] - known) / rows[k][k];
    }
    Some(x)
}

/// Where a grid `[CELLS + 1, CELLS + 1]` has a value: a piece of line for each cell it passes through (marching
/// squares; a saddle gets both of its pieces).
fn contour(values: &[f64], level: f64) -> Vec<[Point; 2]> {
    let mut found = Vec::new();
    for cell in 0..CELLS * CELLS {
        let (row, column) = (cell / CELLS, cell % CELLS);
        let corners = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)];
        let mut crossed: Vec<Point> = Vec::new();
        for side in 0..4 {
            let (a, b) = (corners[side], corners[(side + 1) % 4]);
            let (va, vb) = (values[a.0 * (CELLS + 1) + a.1], values[b.0 * (CELLS + 1) + b.1]);
            if (va < level) != (vb < level) {
                let share = (level - va) / (vb - va);
                let between = |from: usize, to: usize| from as f64 + (to as f64 - from as f64) * share;
                crossed.push([between(a.1, b.1), between(a.0, b.0)]);
            }
        }
        found.extend(crossed.chunks_exact(2).map(|pair| [pair[0], pair[1]]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::montage::{ELECTRODES, index_of};

    fn map(values: Vec<f64>) -> Map {
        Map { label: "alpha".into(), values }
    }

    #[test]
    fn the_surface_passes_through_every_value() {
        let table = table();
        let values: Vec<f64> = (0..62).map(|i| f64::from((i * 37) % 23) - 5.0).collect();
        let surface = Surface::through(&ELECTRODES, &values, &table).unwrap();
        for (electrode, value) in ELECTRODES.iter().zip(&values) {
            let [x, y] = flat(electrode);
            let got = surface.at(unit_vector(x, y));
            assert!((got - value).abs() < 1e-4, "{}: {got}, wanted {value}", electrode.name);
        }
        let level = Surface::through(&ELECTRODES, &[4.0; 62], &table).unwrap();
        assert!((level.at(unit_vector(0.1, 0.3)) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_slope_over_the_head_stays_one() {
        // Left to right, as seen from above: between C3 and C4 it is zero, and each side keeps its sign.
        let values: Vec<f64> = ELECTRODES.iter().map(|electrode| flat(electrode)[0]).collect();
        let table = table();
        let surface = Surface::through(&ELECTRODES, &values, &table).unwrap();
        assert!(surface.at(unit_vector(0.0, 0.2)).abs() < 1e-3);
        let across: Vec<f64> = (-5..=5).map(|i| surface.at(unit_vector(0.1 * f64::from(i), 0.05))).collect();
        assert!(across.is_sorted(), "{across:?}");
    }

    #[test]
    fn the_back_of_the_head_is_at_the_bottom() {
        let mut values = vec![0.0; 62];
        values[index_of("OZ").unwrap()] = 10.0;
        let scene = topomap("", "", &ELECTRODES, &[map(values)]).unwrap();
        let Some(Shape::Image { rgb, .. }) =
            scene.shapes.iter().find(|s| matches!(s, Shape::Image { pixels: [PIXELS, _], .. }))
        else {
            panic!("a map")
        };
        let pixel = |row: usize, column: usize| &rgb[3 * (row * PIXELS + column)..][..3];
        assert!(pixel(PIXELS * 95 / 100, PIXELS / 2)[0] > 220, "the back shines");
        assert!(pixel(PIXELS / 20, PIXELS / 2)[0] < 90, "the nose stays dark");
    }

    #[test]
    fn contours_lie_where_the_value_is() {
        let n = CELLS + 1;
        let values: Vec<f64> = (0..n * n).map(|i| (i % n) as f64).collect();
        let pieces = contour(&values, 7.25);
        assert_eq!(pieces.len(), CELLS);
        assert!(pieces.iter().flatten().all(|point| (point[0] - 7.25).abs() < 1e-9));
        assert_eq!(contour(&values, -1.0).len(), 0);
    }

    #[test]
    fn gaps_are_filled_and_what_cannot_be_is_refused() {
        let mut values: Vec<f64> = (0..62).map(f64::from).collect();
        values[7] = f64::NAN;
        let five: Vec<Map> = (0..5).map(|_| map(values.clone())).collect();
        assert!(topomap("", "dB", &ELECTRODES, &five).unwrap().pixels(1).is_ok());
        let refused = |electrodes: &[Electrode], maps: &[Map]| {
            topomap("", "", electrodes, maps).unwrap_err().to_string()
        };
        assert!(refused(&ELECTRODES, &[]).contains("0 maps"));
        assert!(refused(&ELECTRODES, &[map(vec![1.0; 61])]).contains("61 values for 62"));
        assert!(refused(&ELECTRODES, &[map(vec![f64::NAN; 62])]).contains("0 finite values"));
        let twice = [ELECTRODES[0], ELECTRODES[1], ELECTRODES[2], ELECTRODES[0]];
        assert!(refused(&twice, &[map(vec![1.0, 2.0, 3.0, 4.0])]).contains("same place"));
        assert!(topomap("", "", &ELECTRODES, &[map(vec![2.5; 62])]).is_ok(), "one level is a map");
    }
}
