//! Two results against each other: which ops became slower by more than the noise of both.
//!
//! Clocks and neighbours differ between two runs, so what is compared is not the time but what the device could have
//! done meanwhile: median seconds times the rate of the probe that bounds the op, taken beside it in each run.

use super::report::{Row, digits, percent, seconds, table};
use super::roofline::Bound;
use crate::error::{Error, Result};
use crate::files;
use serde_json::{Value, json};
use std::path::Path;

/// No result is longer than this.
const LIMIT_BYTES: u64 = 64 << 20;
/// Less than this is not told as a change, however quiet both runs were.
const LEAST: f64 = 0.02;

/// An op in both results.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    model: String,
    op: String,
    before_s: f64,
    after_s: f64,
    /// Cost now over cost before: above 1 is slower.
    ratio: f64,
    noise: f64,
}

impl Change {
    fn is_slower(&self) -> bool {
        self.ratio - 1.0 > self.noise.max(LEAST)
    }

    fn is_faster(&self) -> bool {
        1.0 / self.ratio - 1.0 > self.noise.max(LEAST)
    }

    fn verdict(&self) -> &'static str {
        match () {
            () if self.is_slower() => "SLOWER",
            () if self.is_faster() => "faster",
            () => "same",
        }
    }

    fn json(&self) -> Value {
        json!({
            "model": self.model,
            "op": self.op,
            "before_s": self.before_s,
            "after_s": self.after_s,
            "ratio": self.ratio,
            "noise": self.noise,
            "verdict": self.verdict(),
        })
    }
}

/// The rows of a result file.
///
/// Errors: [`Error::Read`], [`Error::Format`] when it is none.
pub(super) fn open(path: &Path) -> Result<Vec<Value>> {
    let value = files::read_json(path, LIMIT_BYTES)?;
    match &value["ops"] {
        Value::Array(rows) => Ok(rows.clone()),
        _ => Err(Error::format(path, "has no list 'ops'; is it a file of `bench kernels --output`?")),
    }
}

/// Ops that both results have.
pub(super) fn changes(before: &[Value], rows: &[Row]) -> Vec<Change> {
    rows.iter()
        .filter_map(|row| {
            let old = before.iter().find(|old| old["op"] == *row.name && old["model"] == *row.model)?;
            let (_, bound) = row.roof.least(row.work);
            let (key, probe) = match bound {
                Bound::Compute => ("probe_gflop_per_s", row.roof.flops * 1e-9),
                Bound::Memory => ("probe_gb_per_s", row.roof.bytes * 1e-9),
            };
            let number = |key: &str| old[key].as_f64().filter(|v| v.is_finite() && *v > 0.0);
            let before_s = number("median_s")?;
            let after_s = row.sample.median_s;
            Some(Change {
                model: row.model.clone(),
                op: row.name.clone(),
                before_s,
                after_s,
                ratio: after_s * probe / (before_s * number(key)?),
                noise: row.sample.noise() + old["noise"].as_f64().unwrap_or(0.0),
            })
        })
        .collect()
}

/// The comparison for people and programs.
pub(super) fn tell(changes: &[Change], file: &Path) -> (String, Value) {
    let told: Vec<&Change> = changes.iter().filter(|change| change.verdict() != "same").collect();
    let cells = |change: &&Change| {
        let cost = format!("{}x", digits(change.ratio));
        let noise = format!("±{}", percent(change.noise));
        let times = [change.before_s, change.after_s].map(seconds);
        let op = format!("{} {}", change.model, change.op);
        [op.trim().to_string(), times[0].clone(), times[1].clone(), cost, noise, change.verdict().into()]
            .to_vec()
    };
    let mut text = format!("\nagainst {}: {} ops in both, ", file.display(), changes.len());
    text += &match told.len() {
        0 => "none changed beyond the noise\n".to_string(),
        n => format!("{n} changed beyond the noise (cost is time at one speed of the device)\n\n"),
    };
    if !told.is_empty() {
        let head = ["op", "before", "now", "cost", "noise", "verdict"];
        text += &table(&head, &told.iter().map(cells).collect::<Vec<_>>());
    }
    (text, changes.iter().map(Change::json).collect())
}

/// [`Error::Slower`] when an op is.
pub(super) fn refuse_slower(changes: &[Change], file: &Path) -> Result<()> {
    let slower: Vec<&Change> = changes.iter().filter(|change| change.is_slower()).collect();
    let Some(worst) = slower.iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio)) else { return Ok(()) };
    Err(Error::Slower(format!(
        "{} of {} ops are slower than in {}, {} the most: {}x",
        slower.len(),
        changes.len(),
        file.display(),
        worst.op,
        digits(worst.ratio)
    )))
}

#[cfg(test)]
mod tests {
    use super::super::roofline::Roof;
    use super::super::sample::Sample;
    use super::*;
    use crate::gpu::Work;

    fn row(name: &str, median_s: f64, spread: f64, flops: f64) -> Row {
        Row {
            model: "unet".into(),
            name: name.into(),
            calls: 1,
            launches: 1,
            sample: Sample { median_s, spread, n: 25 },
            work: Work { flops: 1 << 30, bytes: 1 << 10 },
            roof: Roof { flops, bytes: 1e10 },
        }
    }

    #[test]
    fn a_regression_stands_out_of_the_noise_and_a_slow_clock_is_none() {
        let before: Vec<Value> =
            [row("a", 1.0, 0.01, 1e11), row("b", 1.0, 0.2, 1e11), row("c", 1.0, 0.01, 1e11)]
                .iter()
                .map(Row::json)
                .collect();
        let verdicts = |rows: &[Row]| changes(&before, rows).iter().map(Change::verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(&[row("a", 1.1, 0.01, 1e11)]), ["SLOWER"]);
        assert_eq!(verdicts(&[row("a", 1.015, 0.0, 1e11)]), ["same"]);
        assert_eq!(verdicts(&[row("a", 0.8, 0.01, 1e11)]), ["faster"]);
        assert_eq!(verdicts(&[row("b", 1.1, 0.2, 1e11)]), ["same"]);
        // Twice the time at half the clock.
        assert_eq!(verdicts(&[row("c", 2.0, 0.01, 0.5e11)]), ["same"]);
        assert_eq!(verdicts(&[row("new", 2.0, 0.01, 1e11)]), [""; 0]);
        let slower = changes(&before, &[row("a", 1.5, 0.01, 1e11), row("c", 1.0, 0.01, 1e11)]);
        let error = refuse_slower(&slower, Path::new("before.json")).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("1 of 2 ops") && error.to_string().contains("1.50x"), "{error}");
        assert!(refuse_slower(&changes(&before, &[row("a", 1.0, 0.01, 1e11)]), Path::new("x")).is_ok());
        let (text, _) = tell(&slower, Path::new("before.json"));
        assert!(text.contains("SLOWER") && !text.contains("| same"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_result_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}").unwrap();
        assert!(open(file.path()).unwrap_err().to_string().contains("'ops'"));
        std::fs::write(file.path(), "not json").unwrap();
        assert_eq!(open(file.path()).unwrap_err().exit_code(), 3);
    }
}
