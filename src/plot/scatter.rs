//! Points of a plane by class: what t-SNE makes of embeddings.

use super::axes::{MARGIN, Scale, heading, mark};
use super::colour::{AXIS, MUTED};
use super::scene::{Pen, Scene, Text, fitted};
use crate::error::{Error, Result};

/// Classes that get a mark of their own.
pub const MAX_CLASSES: usize = 40;
/// Side of the frame.
const SIDE: f64 = 600.0;
/// Names below each other at most.
const ROWS: usize = 32;

/// Points, each with the mark of its class: a colour and a shape. `classes` are empty (all alike) or one a point;
/// `names` are empty (numbers) or reach to the highest class. Axes have no numbers: only nearness means anything.
/// Points that are not finite are left out, and how many is said.
///
/// Errors: [`Error::Shape`] when no point is finite, `classes` are neither none nor one a point, one has no name, or
/// there are more than [`MAX_CLASSES`].
pub fn scatter(title: &str, points: &[[f64; 2]], classes: &[usize], names: &[String]) -> Result<Scene> {
    if !classes.is_empty() && classes.len() != points.len() {
        return Err(Error::shape(
            "scatter",
            format!("{} classes for {} points", classes.len(), points.len()),
        ));
    }
    let mut there: Vec<usize> = classes.to_vec();
    there.sort_unstable();
    there.dedup();
    if there.len() > MAX_CLASSES {
        let detail = format!("{} classes, marks tell {MAX_CLASSES} apart", there.len());
        return Err(Error::shape("scatter", detail));
    }
    if let Some(class) = there.iter().find(|&&class| !names.is_empty() && class >= names.len()) {
        return Err(Error::shape("scatter", format!("class {class} has no name, {} are given", names.len())));
    }
    let is_finite = |point: &&[f64; 2]| point.iter().all(|v| v.is_finite());
    let range = |k: usize| Scale::over(points.iter().filter(is_finite).map(|point| point[k]), false);
    let (Some(x), Some(y)) = (range(0), range(1)) else {
        let detail = format!("none of {} points is finite", points.len());
        return Err(Error::shape("scatter", detail));
    };

    let columns = there.len().div_ceil(ROWS);
    let rows = there.len().div_ceil(columns.max(1)).max(1);
    let mut scene = Scene::new(2.0 * MARGIN + SIDE + 150.0 * columns as f64, 0.0, title);
    let n = points.iter().filter(is_finite).count();
    let mut told = format!("{n} points");
    if n < points.len() {
        told += &format!(", {} left out: not finite", points.len() - n);
    }
    let top = heading(&mut scene, title, &told) + 16.0;
    scene.height = top + SIDE + MARGIN;
    scene.outline([MARGIN + 0.5, top.floor() + 0.5], [SIDE, SIDE], Pen::new(AXIS, 1.0));

    // One scale for both, so that distances are what they are.
    let (radius, pad) = (if n > 1500 { 2.4 } else { 3.4 }, 16.0);
    let longest = (x.high - x.low).max(y.high - y.low).max(f64::MIN_POSITIVE);
    let scale = (SIDE - 2.0 * pad) / longest;
    let middle = [MARGIN + 0.5 * SIDE, top + 0.5 * SIDE];
    for (idx, point) in points.iter().enumerate().filter(|(_, point)| is_finite(point)) {
        let at = [
            middle[0] + (point[0] - 0.5 * (x.low + x.high)) * scale,
            middle[1] - (point[1] - 0.5 * (y.low + y.high)) * scale,
        ];
        let kind = classes.get(idx).and_then(|class| there.binary_search(class).ok()).unwrap_or(0);
        mark(&mut scene, at, radius, kind);
    }
    for (kind, &class) in there.iter().enumerate() {
        let left = MARGIN + SIDE + 22.0 + 150.0 * (kind / rows) as f64;
        let line = top + 12.0 + 18.0 * (kind % rows) as f64;
        mark(&mut scene, [left, line - 4.0], 4.2, kind);
        let name = names.get(class).map_or(format!("class {class}"), |name| fitted(name, 12.0, 112.0));
        scene.text(Text::new([left + 12.0, line], name).colour(MUTED));
    }
    Ok(scene)
}

#[cfg(test)]
mod tests {
    use super::super::colour::kind;
    use super::super::scene::Shape;
    use super::*;

    #[test]
    fn classes_have_their_marks_and_distances_their_scale() {
        let points = [[0.0, 0.0], [10.0, 0.0], [0.0, 5.0], [f64::NAN, 1.0]];
        let scene = scatter("", &points, &[7, 7, 3, 3], &[]).unwrap();
        let dots: Vec<_> = scene
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Circle { centre, fill, .. } => Some((*centre, *fill)),
                _ => None,
            })
            .collect();
        assert_eq!(dots.len(), 5, "three points and two names");
        assert_eq!([dots[0].1, dots[2].1], [Some(kind(1)), Some(kind(0))]);
        let (across, up) = (dots[1].0[0] - dots[0].0[0], dots[0].0[1] - dots[2].0[1]);
        assert!((across / up - 2.0).abs() < 1e-9);
        let says = |wanted: &str| {
            scene.shapes.iter().any(|s| matches!(s, Shape::Text(t) if t.text.contains(wanted)))
        };
        assert!(says("class 7") && says("3 points, 1 left out"));
    }

    #[test]
    fn forty_classes_look_different() {
        let points: Vec<[f64; 2]> = (0..40).map(|i| [f64::from(i % 7), f64::from(i / 7)]).collect();
        let classes: Vec<usize> = (0..40).collect();
        assert!(scatter("", &points, &classes, &[]).unwrap().pixels(1).is_ok());
        let mut looks = std::collections::BTreeSet::new();
        for idx in 0..40 {
            let mut scene = Scene::new(20.0, 20.0, "");
            mark(&mut scene, [10.0, 10.0], 4.0, idx);
            assert!(looks.insert(scene.pixels(1).unwrap().0), "{idx}");
        }
        let classes: Vec<usize> = (0..41).collect();
        assert!(
            scatter("", &vec![[0.0; 2]; 41], &classes, &[]).unwrap_err().to_string().contains("41 classes")
        );
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refused = |points: &[[f64; 2]], classes: &[usize], names: &[String]| {
            scatter("", points, classes, names).unwrap_err().to_string()
        };
        assert!(refused(&[], &[], &[]).contains("none of 0 points"));
        assert!(refused(&[[f64::NAN; 2]], &[], &[]).contains("none of 1 points"));
        assert!(refused(&[[0.0; 2]], &[1, 2], &[]).contains("2 classes for 1 points"));
        assert!(refused(&[[0.0; 2]], &[1], &["zero".into()]).contains("class 1 has no name"));
        assert!(scatter("", &[[5.0; 2]], &[], &[]).is_ok(), "one point is a picture");
    }
}
