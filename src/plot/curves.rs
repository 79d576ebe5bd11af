//! Curves over epochs or steps: loss and accuracy, training and validation, side by side.

use super::axes::{AXIS_ROOM, Axes, MARGIN, Scale, heading, legend, pen};
use super::colour::MUTED;
use super::scene::{Pen, Point, Scene, Text};
use crate::error::{Error, Result};

/// Width and height of a panel's frame.
const PANEL: [f64; 2] = [380.0, 270.0];
/// Panels in a row.
const COLUMNS: usize = 2;
/// Room for labels left of a frame and above it.
const LEFT: f64 = 46.0;
const TOP: f64 = 40.0;

/// A named line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend; the same name has the same colour in every panel.
    pub name: String,
    /// x and y; a value that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A line over 1, 2, 3 and so on: one value an epoch.
    pub fn over_epochs(name: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Series {
        let points = values.into_iter().enumerate().map(|(idx, v)| ((idx + 1) as f64, v));
        Series { name: name.into(), points: points.collect() }
    }
}

/// One frame of a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    /// What its y is, with the unit.
    pub y_label: String,
    /// Its lines.
    pub series: Vec<Series>,
    /// Whether powers of ten lie equally far apart; values up to 0 then leave gaps.
    pub is_log: bool,
    /// A level to compare with, such as chance, and its name.
    pub level: Option<(f64, String)>,
}

/// Panels of lines with one legend, two to a row.
///
/// Errors: [`Error::Shape`] when there is no panel, or a panel has no value that can be shown.
pub fn curves(title: &str, x_label: &str, panels: &[Panel]) -> Result<Scene> {
    if panels.is_empty() {
        return Err(Error::shape("curves", "no panel to draw"));
    }
    let mut names: Vec<&str> = Vec::new();
    for series in panels.iter().flat_map(|panel| &panel.series) {
        if !names.contains(&series.name.as_str()) {
            names.push(&series.name);
        }
    }
    let columns = panels.len().min(COLUMNS);
    let step = [PANEL[0] + LEFT + 20.0, PANEL[1] + TOP + AXIS_ROOM];
    let mut scene = Scene::new(2.0 * MARGIN + columns as f64 * step[0], 0.0, title);
    let mut y = heading(&mut scene, title, "");
    if names.len() > 1 || names.first().is_some_and(|name| !name.is_empty()) {
        let entries: Vec<(&str, Pen)> =
            names.iter().enumerate().map(|(idx, name)| (*name, pen(idx))).collect();
        y = legend(&mut scene, y + 8.0, &entries);
    }
    for (idx, panel) in panels.iter().enumerate() {
        let left = MARGIN + LEFT + (idx % columns) as f64 * step[0];
        let top = y + TOP + (idx / columns) as f64 * step[1];
        draw(&mut scene, [left, top], x_label, panel, &names)?;
    }
    scene.height = (y + panels.len().div_ceil(columns) as f64 * step[1] + 4.0).ceil();
    Ok(scene)
}

fn draw(scene: &mut Scene, [left, top]: Point, x_label: &str, panel: &Panel, names: &[&str]) -> Result<()> {
    let shown = |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (!panel.is_log || y > 0.0);
    let points =
        || panel.series.iter().flat_map(|series| &series.points).copied().filter(|point| shown(point));
    let level = panel.level.iter().map(|level| level.0);
    let ranges =
        (Scale::over(points().map(|p| p.0), false), Scale::over(points().map(|p| p.1), panel.is_log));
    let (Some(x), Some(mut y)) = ranges else {
        let detail = format!("\"{}\" has no value that can be shown", panel.y_label.escape_debug());
        return Err(Error::shape("curves", detail));
    };
    if let Some(level) = Scale::over(level, panel.is_log) {
        (y.low, y.high) = (y.low.min(level.low), y.high.max(level.high));
    }
    let frame = [left, top, left + PANEL[0], top + PANEL[1]];
    let axes = Axes { frame, x: x.widened(), y: y.rounded(5) };
    axes.draw(scene, x_label, &panel.y_label);
    if let Some((level, name)) = &panel.level {
        let [end, at] = axes.at(axes.x.high, *level);
        scene.line(&[[left, at], [end, at]], Pen::new(MUTED, 1.2).dashed(4.0));
        scene.text(Text::new([end, at - 5.0], name).size(11.0).colour(MUTED).end());
    }
    // The first names lie on top.
    for series in panel.series.iter().rev() {
        let idx = names.iter().position(|name| *name == series.name).unwrap_or(0);
        let places: Vec<Point> = series
            .points
            .iter()
            .map(|point| if shown(point) { axes.at(point.0, point.1) } else { [f64::NAN; 2] })
            .collect();
        scene.line(&places, pen(idx));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::scene::Shape;
    use super::*;

    fn panel(values: &[f64]) -> Panel {
        Panel {
            y_label: "loss".into(),
            series: vec![Series::over_epochs("train", values.iter().copied())],
            ..Panel::default()
        }
    }

    fn lines(scene: &Scene, colour: [u8; 3]) -> Vec<&[Point]> {
        let mut found = Vec::new();
        for shape in &scene.shapes {
            match shape {
                Shape::Line { points, pen } if pen.colour == colour => found.push(&points[..]),
                _ => {}
            }
        }
        found
    }

    #[test]
    fn a_falling_loss_falls() {
        let scene = curves("run", "epoch", &[panel(&[4.0, 3.0, 2.0, 1.0])]).unwrap();
        let [key, line] = lines(&scene, super::super::colour::KINDS[0])[..] else {
            panic!("a key and a line")
        };
        assert_eq!((key.len(), line.len()), (2, 4));
        assert!(line.windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] < pair[1][1]));
        assert!(line.iter().all(|[x, y]| (0.0..scene.width).contains(x) && (0.0..scene.height).contains(y)));
    }

    #[test]
    fn gaps_stay_gaps() {
        let scene = curves("", "epoch", &[panel(&[4.0, 3.0, f64::NAN, 2.0, 1.0, f64::INFINITY])]).unwrap();
        assert_eq!(lines(&scene, super::super::colour::KINDS[0]).len(), 3);
        let mut log = panel(&[1.0, 0.1, 0.0, 0.01, 0.001]);
        log.is_log = true;
        log.level = Some((0.0, "zero".into())); // has no place there
        assert!(lines(&curves("", "", &[log]).unwrap(), super::super::colour::KINDS[0]).len() == 3);
    }

    #[test]
    fn a_name_keeps_its_colour_in_every_panel() {
        let mut second = panel(&[0.1, 0.2]);
        second.series.insert(0, Series::over_epochs("validation", [0.1, 0.1]));
        let scene = curves("", "epoch", &[panel(&[2.0, 1.0]), second]).unwrap();
        let [first, other] = [0, 1].map(|idx| lines(&scene, super::super::colour::KINDS[idx]).len());
        assert_eq!((first, other), (3, 2), "with the keys");
    }

    #[test]
    fn nothing_is_not_drawn() {
        assert!(curves("", "", &[]).is_err());
        for values in [&[][..], &[f64::NAN, f64::INFINITY]] {
            let error = curves("", "", &[panel(values)]).unwrap_err().to_string();
            assert!(error.contains("\"loss\" has no value"), "{error}");
        }
        let mut log = panel(&[0.0, -1.0]);
        log.is_log = true;
        assert!(curves("", "", &[log]).is_err());
        // A single value is a dot.
        assert!(curves("", "", &[panel(&[1.0])]).is_ok());
    }
}
