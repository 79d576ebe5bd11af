//! The roofline as a picture: FLOPs per byte against FLOPs per second, both in powers of ten; the two roofs, a dot
//! for every op that computes, numbers and names for those that take most of the time.

use super::report::{Row, digits, percent, rate};
use super::roofline::{Roof, intensity};
use crate::plot::axes::{Axes, Scale, heading};
use crate::plot::colour::{INK, MUTED, kind};
use crate::plot::scene::{Pen, Scene, Text, fitted};

const SIZE: [f64; 2] = [1060.0, 660.0];
/// Left, top, right and bottom of the axes.
const FRAME: [f64; 4] = [70.0, 100.0, 670.0, 600.0];
/// Ops that get a name.
const NAMED: usize = 34;
/// From one name to the next.
const LINE: f64 = 15.0;

/// Draws `rows`, the ones that matter most first, under `roof`.
pub(super) fn draw(rows: &[Row], roof: Roof) -> Scene {
    let mut scene = Scene::new(SIZE[0], SIZE[1], "Roofline");
    let dots: Vec<(f64, f64, &Row)> = rows
        .iter()
        .filter(|row| row.work.flops > 0 && row.sample.median_s > 0.0)
        .map(|row| (intensity(row.work), row.work.flops as f64 / row.sample.median_s, row))
        .collect();
    let ridge = roof.flops / roof.bytes;
    let told = format!(
        "{} and {} measured; ridge at {} FLOP per byte",
        rate(roof.flops, "FLOP"),
        rate(roof.bytes, "B"),
        digits(ridge)
    );
    heading(&mut scene, "Roofline", &told);

    let decades = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        let decade = |exponent: f64| 10f64.powf(exponent);
        Scale { low: decade(low.log10().floor()), high: decade(high.log10().ceil()), is_log: true }
    };
    let x = decades(&mut dots.iter().map(|dot| dot.0).chain([0.3 * ridge, 3.0 * ridge]));
    let giga = 1e-9 * roof.flops;
    let y = decades(&mut dots.iter().map(|dot| 1e-9 * dot.1).chain([0.1 * giga, 1.1 * giga]));
    let axes = Axes { frame: FRAME, x, y };
    axes.draw(&mut scene, "FLOP per byte", "GFLOP/s");

    // The slope ends where it meets the left edge or the floor.
    let start = x.low.max(y.low * 1e9 / roof.bytes);
    let slope = axes.at(start, 1e-9 * start * roof.bytes);
    scene.line(&[slope, axes.at(ridge, giga), axes.at(x.high, giga)], Pen::new(MUTED, 2.0));

    let mut kinds: Vec<&str> = Vec::new();
    for (.., row) in &dots {
        if !kinds.contains(&row.kind()) {
            kinds.push(row.kind());
        }
    }
    let colour = |row: &Row| kind(kinds.iter().position(|kind| *kind == row.kind()).unwrap_or(0));
    let [_, top, right, _] = FRAME;
    scene.text(
        Text::new([right + 28.0, top - 12.0], "share of the nearer roof, most time first")
            .size(10.0)
            .colour(MUTED),
    );
    for (at, &(x, y, row)) in dots.iter().enumerate().rev() {
        let (colour, place) = (colour(row), axes.at(x, 1e-9 * y));
        let is_named = at < NAMED;
        scene.dot(place, if is_named { 3.6 } else { 2.2 }, colour);
        if is_named {
            scene.text(Text::new([place[0] + 5.0, place[1] - 3.0], (at + 1).to_string()).size(8.0));
            let line = top + 6.0 + LINE * at as f64;
            scene.dot([right + 32.0, line - 3.5], 3.6, colour);
            let small = |x: f64, text: String| Text::new([x, line], text).size(10.0).colour(INK);
            let share = row.roof.share(row.work, row.sample.median_s).0;
            scene.text(small(right + 58.0, (at + 1).to_string()).end());
            scene.text(small(right + 104.0, percent(share)).end());
            scene.text(small(right + 112.0, fitted(&row.name, 10.0, SIZE[0] - right - 130.0)));
        }
    }
    scene
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::gpu::Work;
    use crate::plot::scene::Shape;

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
        let rows = [
            row("conv2d", 1 << 34, 1 << 24, 0.4),
            row("silu", 1 << 24, 1 << 24, 0.01),
            row("concat", 0, 99, 0.1),
        ];
        let dots = |scene: &Scene, colour| {
            let own = |shape: &&Shape| matches!(shape, Shape::Circle { fill, .. } if *fill == Some(colour));
            let places = scene.shapes.iter().filter(own).filter_map(|shape| match shape {
                Shape::Circle { centre, .. } => Some(*centre),
                _ => None,
            });
            places.collect::<Vec<_>>()
        };
        let scene = draw(&rows, roof);
        for idx in 0..2 {
            // One among the names, one in the frame.
            let [_, inside] = dots(&scene, kind(idx))[..] else { panic!("two dots of {idx}") };
            let inside = dots(&scene, kind(idx)).into_iter().find(|dot| dot[0] < FRAME[2]).unwrap_or(inside);
            assert!((FRAME[0]..FRAME[2]).contains(&inside[0]) && (FRAME[1]..FRAME[3]).contains(&inside[1]));
        }
        assert_eq!(dots(&scene, kind(2)).len(), 0, "a copy computes nothing");
        assert_eq!(dots(&draw(&[], roof), kind(0)).len(), 0);
        let folder = tempfile::tempdir().unwrap();
        for name in ["roofline.png", "roofline.svg"] {
            scene.save(folder.path().join(name)).unwrap();
        }
        // Measurements of nothing and of everything do not break it.
        let odd = Roof { flops: 1.0, bytes: 1e15 };
        draw(&[row("x", u64::MAX, 1, 1e-9), row("y", 1, u64::MAX, 1e9)], odd).pixels(1).unwrap();
    }
}
