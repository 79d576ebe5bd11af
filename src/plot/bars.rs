//! Bars: a value a name, with the spread around it and the level that chance would reach.

use super::axes::{Axes, LABEL, MARGIN, Scale, crisp, heading, pale, plain};
use super::colour::{INK, KINDS, MUTED};
use super::scene::{Pen, Scene, Text, fitted, text_width};
use crate::error::{Error, Result};

/// Bars at most.
pub const MAX_BARS: usize = 64;
/// Height of the frame.
const HEIGHT: f64 = 280.0;
/// Widest name.
const NAME: f64 = 130.0;

/// One bar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// How high it is; NaN leaves its place empty.
    pub value: f64,
    /// How far its whisker goes up and down, such as a standard deviation.
    pub error: Option<f64>,
    /// What chance would reach.
    pub chance: Option<f64>,
    /// The single values behind it, such as one a fold; drawn as dots.
    pub points: Vec<f64>,
}

/// Bars from zero, side by side. One line shows chance where all bars share it, else each bar has its own.
///
/// Errors: [`Error::Shape`] when there is no bar, none has a finite value, or there are more than [`MAX_BARS`].
pub fn bars(title: &str, y_label: &str, bars: &[Bar]) -> Result<Scene> {
    let refuse = |detail: String| Err(Error::shape("bars", detail));
    if bars.len() > MAX_BARS {
        return refuse(format!("{} bars, at most {MAX_BARS} are drawn", bars.len()));
    }
    if !bars.iter().any(|bar| bar.value.is_finite()) {
        return refuse(format!("none of {} bars has a finite value", bars.len()));
    }
    let reach = |bar: &Bar| {
        let error = bar.error.filter(|error| error.is_finite()).map_or(0.0, f64::abs);
        let ends = [bar.value - error, bar.value + error, bar.chance.unwrap_or(f64::NAN)];
        ends.into_iter().chain(bar.points.iter().copied()).collect::<Vec<_>>()
    };
    let Some(range) = Scale::over(bars.iter().flat_map(reach).chain([0.0]), false) else {
        return refuse("no finite value".into());
    };

    let slot = (720.0 / bars.len() as f64).clamp(26.0, 108.0);
    let names: Vec<String> = bars.iter().map(|bar| fitted(&bar.name, LABEL, NAME)).collect();
    let widest = names.iter().map(|name| text_width(name, LABEL)).fold(0.0, f64::max);
    let is_turned = widest > slot - 8.0;
    let left = MARGIN + 40.0 + if is_turned { 0.0 } else { 4.0 };
    let frame_width = (slot * bars.len() as f64).max(240.0);
    let mut scene = Scene::new(left + frame_width + MARGIN, 0.0, title);
    let top = heading(&mut scene, title, "") + 40.0;
    let bottom = top + HEIGHT;
    scene.height = (bottom + if is_turned { widest + 26.0 } else { 40.0 }).ceil();

    // Without x ticks: names stand there.
    let x = Scale { low: 0.0, high: frame_width / slot, is_log: false };
    let axes = Axes { frame: [left, top, left + frame_width, bottom], x, y: range.rounded(5) };
    axes.draw_y(&mut scene, y_label);
    let zero = crisp(axes.at(0.0, 0.0)[1]);
    let wide = 0.58 * slot.min(90.0);
    let told = bars.iter().filter(|bar| bar.value.is_finite()).map(|bar| three_digits(bar.value));
    let has_room = told.map(|text| text_width(&text, LABEL)).fold(0.0, f64::max) < slot - 6.0;
    for (idx, (bar, name)) in bars.iter().zip(&names).enumerate() {
        let middle = axes.at(idx as f64 + 0.5, 0.0)[0];
        let at = |value: f64| axes.at(0.0, value)[1];
        if bar.value.is_finite() {
            let y = at(bar.value);
            scene.rect([middle - 0.5 * wide, y.min(zero)], [wide, (zero - y).abs()], pale(KINDS[0], 0.75));
        } else {
            scene.text(Text::new([middle, zero - 6.0], "–").colour(MUTED).middle());
        }
        let points: Vec<f64> = bar.points.iter().copied().filter(|v| v.is_finite()).collect();
        for (nth, &value) in points.iter().enumerate() {
            // Side by side, so that equal values show.
            let aside = (nth as f64 + 0.5) / points.len() as f64 - 0.5;
            scene.dot([middle + 0.8 * wide * aside, at(value)], 2.2, pale(INK, 0.7));
        }
        let error = bar.error.filter(|error| error.is_finite() && bar.value.is_finite());
        if let Some(error) = error {
            let (low, high, pen) = (at(bar.value - error), at(bar.value + error), Pen::new(INK, 1.3));
            scene.line(&[[middle, low], [middle, high]], pen);
            for y in [low, high] {
                scene.line(&[[middle - 4.0, y], [middle + 4.0, y]], pen);
            }
        }
        if bar.value.is_finite() && has_room {
            let highest = reach(bar).into_iter().filter(|v| v.is_finite()).fold(0.0, f64::max);
            let chance = bar.chance.filter(|chance| chance.is_finite()).map_or(f64::MAX, at);
            let mut y = at(highest) - 6.0;
            if (chance - 14.0..chance + 2.0).contains(&y) {
                y = chance - 16.0; // not on the line
            }
            scene.text(Text::new([middle, y], three_digits(bar.value)).size(LABEL).middle());
        }
        let below = [middle, bottom + 18.0];
        match is_turned {
            true => scene.text(Text::new([middle + 4.0, bottom + 8.0], name).size(LABEL).turned().end()),
            false => scene.text(Text::new(below, name).size(LABEL).middle()),
        }
    }
    scene.line(&[[left, zero], [left + frame_width, zero]], Pen::new(super::colour::AXIS, 1.0));

    let pen = Pen::new(KINDS[1], 1.5).dashed(4.0);
    let chances: Vec<Option<f64>> = bars.iter().map(|bar| bar.chance.filter(|v| v.is_finite())).collect();
    match chances[0] {
        Some(chance) if chances.iter().all(|other| *other == Some(chance)) => {
            let [right, y] = axes.at(x.high, chance);
            scene.line(&[[left, y], [right, y]], pen);
            let name = format!("chance {}", three_digits(chance));
            scene.text(Text::new([right, top - 12.0], name).size(LABEL).colour(KINDS[1]).end());
        }
        _ => {
            for (idx, chance) in chances.iter().enumerate().filter_map(|(idx, c)| c.map(|c| (idx, c))) {
                let [start, y] = axes.at(idx as f64 + 0.08, chance);
                scene.line(&[[start, y], [start + 0.84 * slot, y]], pen);
            }
            if chances.iter().any(Option::is_some) {
                let at = [left + frame_width, top - 12.0];
                scene.text(Text::new(at, "– – chance").size(LABEL).colour(KINDS[1]).end());
            }
        }
    }
    Ok(scene)
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        v if v == 0.0 || !(1e-4..1e5).contains(&v) => plain(value),
        v => {
            let decimals = (2.0 - v.log10().floor()).clamp(0.0, 6.0) as i32;
            plain((value * 10f64.powi(decimals)).round() / 10f64.powi(decimals))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::Shape;
    use super::*;

    fn bar(name: &str, value: f64) -> Bar {
        Bar { name: name.into(), value, error: Some(0.02), chance: Some(0.025), points: vec![] }
    }

    fn heights(scene: &Scene) -> Vec<f64> {
        let height = |shape: &Shape| if let Shape::Rect { size, .. } = shape { Some(size[1]) } else { None };
        scene.shapes.iter().filter_map(height).collect()
    }

    fn chance_lines(scene: &Scene) -> usize {
        let is_one = |shape: &&Shape| matches!(shape, Shape::Line { pen, .. } if pen.colour == KINDS[1]);
        scene.shapes.iter().filter(is_one).count()
    }

    #[test]
    fn bars_are_as_high_as_their_values() {
        let scene = bars("", "accuracy", &[bar("a", 0.1), bar("b", 0.2), bar("c", f64::NAN)]).unwrap();
        let [a, b] = heights(&scene)[..] else { panic!("two bars") };
        assert!((b / a - 2.0).abs() < 0.05, "{a} {b}");
        assert_eq!(chance_lines(&scene), 1);
        let below = bars("", "", &[bar("a", -0.1), bar("b", 0.1)]).unwrap();
        let [a, b] = heights(&below)[..] else { panic!("two bars") };
        assert!((a - b).abs() < 1.5, "{a} {b}");
    }

    #[test]
    fn tasks_with_their_own_chance_have_their_own_line() {
        let other = Bar { chance: Some(0.5), points: vec![0.55, f64::NAN, 0.65], ..bar("fast or slow", 0.6) };
        let scene = bars("", "accuracy", &[bar("40 classes", 0.1), other]).unwrap();
        assert_eq!(chance_lines(&scene), 2);
        let none = Bar { chance: None, ..bar("a", 0.1) };
        assert_eq!(chance_lines(&bars("", "", &[none]).unwrap()), 0);
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        assert!(bars("", "", &[]).unwrap_err().to_string().contains("none of 0 bars"));
        assert!(bars("", "", &[bar("a", f64::NAN)]).is_err());
        assert!(bars("", "", &vec![bar("a", 0.1); 65]).unwrap_err().to_string().contains("at most 64"));
        assert!(bars("", "", &vec![bar("a long name of a model", 0.1); 64]).unwrap().pixels(1).is_ok());
        assert!(bars("", "", &[bar("zero", 0.0)]).is_ok());
        assert_eq!(
            [0.123456, 12.3456, 1234.5, 0.0, 0.5].map(three_digits),
            ["0.123", "12.3", "1235", "0", "0.5"]
        );
    }
}
