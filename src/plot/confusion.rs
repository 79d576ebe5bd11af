//! Confusion matrix: which class was taken for which.     counts [true, predicted] -> rows of shares

use super::axes::{LABEL, MARGIN, Scale, colour_bar, heading, percent};
use super::colour::{self, MUTED, NOTHING};
use super::scene::{Scene, Text, fitted, text_width};
use crate::error::{Error, Result};

/// Classes at most.
pub const CONFUSION_MAX_CLASSES: usize = 400;
/// Longest side of the matrix.
const SIDE: f64 = 600.0;
/// Widest name.
const NAME: f64 = 130.0;

/// A heat map of `counts` `[true, predicted]`, each row as shares of its trials, with accuracy and chance above it.
/// `names` are the classes', or empty; rows without a trial stay grey.
///
/// Errors: [`Error::Shape`] when `counts` is no square of 1 to [`CONFUSION_MAX_CLASSES`] classes, `names` are neither none nor
/// one a class, or no trial is there.
pub fn confusion(title: &str, counts: &[u64], names: &[String]) -> Result<Scene> {
    let n = counts.len().isqrt();
    if n == 0 || n * n != counts.len() || n > CONFUSION_MAX_CLASSES {
        let detail =
            format!("{} counts are no square matrix of 1 to {CONFUSION_MAX_CLASSES} classes", counts.len());
        return Err(Error::shape("confusion", detail));
    }
    if !names.is_empty() && names.len() != n {
        return Err(Error::shape("confusion", format!("{} names for {n} classes", names.len())));
    }
    let totals: Vec<u128> =
        counts.chunks_exact(n).map(|row| row.iter().map(|&count| u128::from(count)).sum()).collect();
    let trials: u128 = totals.iter().sum();
    if trials == 0 {
        return Err(Error::shape("confusion", "no trial is counted"));
    }
    let share = |row: usize, column: usize| counts[row * n + column] as f64 / totals[row] as f64; // NaN: no trial
    let right: u128 = (0..n).map(|class| u128::from(counts[class * n + class])).sum();
    let majority = totals.iter().max().map_or(0.0, |&most| most as f64 / trials as f64);
    let (accuracy, chance) = (right as f64 / trials as f64, 1.0 / n as f64);
    let mut told = format!("accuracy {} · chance {}", percent(accuracy), percent(chance));
    if majority > 1.005 * chance {
        told += &format!(" · majority {}", percent(majority));
    }
    told += &format!(" · {} trials, {n} classes", thousands(trials));

    // Whole pixels to a cell, else seams show between them.
    let cell = (SIDE / n as f64).floor().clamp(1.0, 64.0);
    let side = cell * n as f64;
    let size = (0.78 * cell).clamp(8.0, LABEL);
    // Names where a line of text fits, numbers every few classes elsewhere.
    let every = [1, 2, 5, 10, 20, 50].into_iter().find(|&every| cell * f64::from(every) >= 1.15 * size);
    let every = every.unwrap_or(100) as usize;
    let label = |class: usize| match names.get(class) {
        Some(name) if every == 1 => fitted(name, size, NAME),
        _ => class.to_string(),
    };
    let room = (0..n).step_by(every).map(|class| text_width(&label(class), size)).fold(0.0, f64::max);
    let is_turned = room + 0.3 * size > cell * every as f64;
    let below = if is_turned { room } else { size };

    let left = (MARGIN + 22.0 + room + 8.0).round();
    let width = (left + side + 130.0).max(2.0 * MARGIN + text_width(&told, 12.0) + 20.0);
    let mut scene = Scene::new(width, 0.0, title);
    let top = heading(&mut scene, title, &told) + 22.0;
    scene.height = (top + side + below + 52.0).max(top + 160.0).ceil();

    let shares = || (0..n * n).map(|at| share(at / n, at % n));
    let highest = shares().filter(|share| share.is_finite()).fold(chance, f64::max);
    let range = Scale { low: 0.0, high: highest, is_log: false }.rounded(5);
    let range = Scale { high: range.high.min(1.0), ..range };
    for (at, share) in shares().enumerate() {
        let fill = if share.is_nan() { NOTHING } else { colour::scale(range.place(share)) };
        let corner = [left + cell * (at % n) as f64, top + cell * (at / n) as f64];
        scene.rect(corner, [cell, cell], fill);
        if cell >= 30.0 && share.is_finite() {
            let middle = [corner[0] + 0.5 * cell, corner[1] + 0.5 * cell + 4.0];
            let percent = format!("{:.0}", 100.0 * share);
            scene.text(Text::new(middle, percent).size(LABEL).colour(colour::on(fill)).middle());
        }
    }
    for class in (0..n).step_by(every) {
        let (middle, line) = (cell * (class as f64 + 0.5), 0.36 * size);
        let text = |at| Text::new(at, label(class)).size(size);
        scene.text(text([left - 8.0, top + middle + line]).end());
        scene.text(match is_turned {
            true => text([left + middle + line, top + side + 8.0]).turned().end(),
            false => text([left + middle, top + side + 8.0 + 2.0 * line]).middle(),
        });
    }
    let axis = |at, text: &str| Text::new(at, text).colour(MUTED).middle();
    scene.text(axis([MARGIN + 6.0, top + 0.5 * side], "true class").turned());
    scene.text(axis([left + 0.5 * side, top + side + below + 32.0], "predicted class"));

    let decimals = usize::from(range.high < 0.05);
    let told = |share: f64, _| format!("{:.decimals$} %", 100.0 * share);
    let bar = [left + side + 66.0, top];
    colour_bar(&mut scene, bar, side.clamp(120.0, 260.0), range, told, &[(chance, "chance")]);
    Ok(scene)
}

/// `12,600`.
fn thousands(n: u128) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::super::scene::Shape;
    use super::*;

    fn cells(scene: &Scene) -> Vec<[u8; 3]> {
        let square = |shape: &Shape| match shape {
            Shape::Rect { size: [width, height], fill, .. } if width == height => Some(*fill),
            _ => None,
        };
        scene.shapes.iter().filter_map(square).collect()
    }

    fn says(scene: &Scene, wanted: &str) -> bool {
        scene.shapes.iter().any(|shape| matches!(shape, Shape::Text(text) if text.text.contains(wanted)))
    }

    #[test]
    fn rows_are_shares_of_their_trials() {
        // Class 1 has ten times the trials of class 0, class 2 has none.
        let scene = confusion("run", &[3, 1, 0, 10, 30, 0, 0, 0, 0], &[]).unwrap();
        let cells = cells(&scene);
        assert_eq!(cells.len(), 9);
        assert_eq!((cells[0], cells[1]), (cells[4], cells[3]));
        assert_ne!(cells[0], cells[1]);
        assert_eq!(cells[6..], [NOTHING; 3]);
        assert!(says(&scene, "accuracy 75.0 % · chance 33.3 % · majority 90.9 % · 44 trials, 3 classes"));
    }

    #[test]
    fn forty_names_and_four_hundred_classes_fit() {
        let names: Vec<String> = (0..40).map(|i| format!("class number {i}")).collect();
        let counts: Vec<u64> = (0..1600).map(|i| 1 + (i % 41 == 0) as u64 * 9).collect();
        let scene = confusion("", &counts, &names).unwrap();
        assert!(says(&scene, "class number 39"));
        for shape in &scene.shapes {
            if let Shape::Rect { corner, size, .. } = shape {
                assert!(corner[0] + size[0] < scene.width && corner[1] + size[1] < scene.height);
            }
        }
        // Three letters are wider than a cell of forty, and not than one of ten.
        let is_turned = |n: usize| {
            let names: Vec<String> = (0..n).map(|i| format!("C{i:02}")).collect();
            let scene = confusion("", &vec![1; n * n], &names).unwrap();
            let turned = |shape: &&Shape| matches!(shape, Shape::Text(text) if text.turned);
            scene.shapes.iter().filter(turned).count() > 1
        };
        assert!(is_turned(40) && !is_turned(10));
        let many = confusion("", &vec![1; 160_000], &[]).unwrap();
        assert!(many.pixels(1).is_ok());
    }

    #[test]
    fn what_is_no_matrix_is_refused() {
        let refused =
            |counts: &[u64], names: &[String]| confusion("", counts, names).unwrap_err().to_string();
        assert!(refused(&[], &[]).contains("0 counts are no square"));
        assert!(refused(&[1, 2, 3], &[]).contains("3 counts are no square"));
        assert!(refused(&[1; 4], &["a".into()]).contains("1 names for 2 classes"));
        assert!(refused(&[0; 4], &[]).contains("no trial"));
        assert!(confusion("", &[u64::MAX; 4], &[]).is_ok());
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
