//! Predicted classes against true ones: accuracy, confusion, a table per class.

use crate::error::{Error, Result};
use crate::files;
use crate::signal::npy;
use serde::Serialize;
use std::path::Path;

/// Most classes anyone tells apart: tables of all against all are made of them.
pub(crate) const MOST_CLASSES: usize = 10_000;
/// No list of labels is longer than this.
const LIMIT_BYTES: u64 = 64 << 20;

/// Counts `[truth, predicted]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Confusion {
    /// Classes.
    pub n_classes: usize,
    /// `[n_classes, n_classes]`, a row for each true class.
    pub counts: Vec<u64>,
}

/// One class in a report, as scikit-learn's `classification_report` has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    /// Which.
    pub class: usize,
    /// Examples of it.
    pub support: u64,
    /// Share of what was called so that is; 0 where nothing was.
    pub precision: f64,
    /// Share of its examples that were found; 0 without any.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

impl Confusion {
    /// Counts pairs.
    ///
    /// Errors: [`Error::Shape`] when there are not as many of both, none, or a class is out of range.
    pub fn new(truth: &[usize], predicted: &[usize], n_classes: usize) -> Result<Confusion> {
        if truth.len() != predicted.len() || truth.is_empty() {
            let detail =
                format!("{} labels, {} predictions; wanted as many, and some", truth.len(), predicted.len());
            return Err(Error::shape("labels", detail));
        }
        if let Some(class) = truth.iter().chain(predicted).find(|&&class| class >= n_classes) {
            return Err(Error::shape("labels", format!("class {class}, wanted below {n_classes}")));
        }
        if n_classes > MOST_CLASSES {
            let detail = format!("{n_classes} classes, at most {MOST_CLASSES} are told apart");
            return Err(Error::shape("labels", detail));
        }
        let mut counts = vec![0; n_classes * n_classes];
        truth.iter().zip(predicted).for_each(|(t, p)| counts[t * n_classes + p] += 1);
        Ok(Confusion { n_classes, counts })
    }

    /// Precision, recall and F1 of each class.
    pub fn classes(&self) -> Vec<ClassScore> {
        let n = self.n_classes;
        let score = |class: usize| {
            let hits = self.counts[class * n + class] as f64;
            let support: u64 = self.counts[class * n..(class + 1) * n].iter().sum();
            let called: u64 = (0..n).map(|truth| self.counts[truth * n + class]).sum();
            let share = |of: u64| if of == 0 { 0.0 } else { hits / of as f64 };
            let (precision, recall) = (share(called), share(support));
            let both = precision + recall;
            let f1 = if both == 0.0 { 0.0 } else { 2.0 * precision * recall / both };
            ClassScore { class, support, precision, recall, f1 }
        };
        (0..n).map(score).collect()
    }

    /// Share of the commonest true class: what always guessing it reaches.
    pub fn majority(&self) -> f64 {
        let rows = self.counts.chunks(self.n_classes).map(|row| row.iter().sum::<u64>());
        let total: u64 = self.counts.iter().sum();
        rows.max().unwrap_or(0) as f64 / total.max(1) as f64
    }
}

/// Labels of a file: `.npy` of whole numbers, `.json` (a list, or an object with `labels`, or with `truth`), or text
/// with a number on each line. Counted from 0.
///
/// Errors: [`Error::Read`]; [`Error::Format`] for anything but whole numbers from 0 on.
pub fn read(path: &Path) -> Result<Vec<usize>> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let numbers: Vec<f64> = match ending.as_str() {
        "npy" => npy::read::<f64>(path, None)?.data,
        "json" => {
            let value = files::read_json(path, LIMIT_BYTES)?;
            let list =
                value.as_array().or_else(|| value.get("labels").or_else(|| value.get("truth"))?.as_array());
            let wrong = || Error::format(path, "wanted a list of classes, or one under \"labels\"");
            let list = list.ok_or_else(wrong)?;
            list.iter().map(|v| v.as_f64().ok_or_else(wrong)).collect::<Result<_>>()?
        }
        _ => {
            let bytes = files::read_small(path, LIMIT_BYTES)?;
            let text = String::from_utf8(bytes).map_err(|_| Error::format(path, "is not UTF-8 text"))?;
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let number = |(at, line): (usize, &str)| {
                line.trim().parse::<f64>().map_err(|_| {
                    let detail = format!("line {}: '{}' is no class", at + 1, line.trim().escape_debug());
                    Error::format(path, detail)
                })
            };
            lines.map(number).collect::<Result<_>>()?
        }
    };
    let class = |(at, &value): (usize, &f64)| {
        if value.fract() == 0.0 && (0.0..MOST_CLASSES as f64).contains(&value) {
            return Ok(value as usize);
        }
        let detail = format!("holds {value} at place {at}, wanted whole numbers from 0 on");
        Err(Error::format(path, detail))
    };
    numbers.iter().enumerate().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_those_of_scikit_learn() {
        // classification_report([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 2])
        let confusion = Confusion::new(&[0, 0, 1, 2, 2, 2], &[0, 1, 1, 2, 0, 2], 4).unwrap();
        assert_eq!(confusion.counts[..12], [1, 1, 0, 0, 0, 1, 0, 0, 1, 0, 2, 0]);
        let classes = confusion.classes();
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} {want}");
        near(classes[0].precision, 0.5);
        near(classes[0].recall, 0.5);
        near(classes[1].f1, 2.0 / 3.0);
        near(classes[2].precision, 1.0);
        near(classes[2].recall, 2.0 / 3.0);
        near(classes[2].f1, 0.8);
        assert_eq!((classes[3].support, classes[3].f1), (0, 0.0));
        near(confusion.majority(), 0.5);
        assert!(Confusion::new(&[0], &[4], 4).is_err() && Confusion::new(&[], &[], 4).is_err());
    }

    #[test]
    fn labels_of_each_kind_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        npy::write(at("a.npy"), &[3], &[2.0_f64, 0.0, 39.0]).unwrap();
        std::fs::write(at("a.json"), "[2, 0, 39]").unwrap();
        std::fs::write(at("b.json"), r#"{"labels": [2, 0, 39], "names": []}"#).unwrap();
        std::fs::write(at("a.txt"), "2\n0\n\n39\n").unwrap();
        for name in ["a.npy", "a.json", "b.json", "a.txt"] {
            assert_eq!(read(&at(name)).unwrap(), [2, 0, 39], "{name}");
        }
        std::fs::write(at("a.txt"), "2\ncat\n").unwrap();
        assert!(read(&at("a.txt")).unwrap_err().to_string().contains("line 2: 'cat'"));
        std::fs::write(at("a.json"), "[1, -1]").unwrap();
        assert!(read(&at("a.json")).unwrap_err().to_string().contains("-1 at place 1"));
        std::fs::write(at("a.json"), "{}").unwrap();
        assert!(read(&at("a.json")).is_err());
    }
}
