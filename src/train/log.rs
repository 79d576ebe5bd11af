//! What a run says of its steps: `log.jsonl`, a line for each as it goes; `log.csv` and `loss.png` of all of them.
//!
//! ```text
//! {"step":100,"loss":0.41,"rate":0.001,"gradient_norm":1.7,"validation_loss":0.44}
//! ```

use crate::error::{Error, Result};
use crate::files;
use std::io::Write;
use std::path::Path;

/// Names of the files.
const LINES: &str = "log.jsonl";
const TABLE: &str = "log.csv";
#[cfg(feature = "plot")]
const PICTURE: &str = "loss.png";

/// Largest log that is read back.
const LIMIT_BYTES: u64 = 1 << 30;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Steps done with this one.
    pub step: u64,
    /// Mean over its micro-batches.
    pub loss: f64,
    /// Learning rate.
    pub rate: f64,
    /// Norm of the gradients before they were clipped; no number where f16 overflowed and the step was skipped.
    pub gradient_norm: f64,
    /// Whatever else was measured after it, by name.
    pub more: Vec<(String, f64)>,
}

/// All steps so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    rows: Vec<Row>,
    /// How many of them are in the file.
    n_written: usize,
}

impl Row {
    fn columns(&self) -> impl Iterator<Item = (&str, f64)> {
        let first = [("loss", self.loss), ("rate", self.rate), ("gradient_norm", self.gradient_norm)];
        first.into_iter().chain(self.more.iter().map(|(name, value)| (name.as_str(), *value)))
    }

    fn line(&self) -> String {
        let mut line = serde_json::Map::from_iter([("step".to_string(), self.step.into())]);
        line.extend(self.columns().map(|(name, value)| (name.to_string(), value.into()))); // null for NaN
        serde_json::Value::Object(line).to_string()
    }

    fn parse(line: &str) -> Option<Row> {
        let line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
        let number = |value: &serde_json::Value| match value.is_null() {
            true => Some(f64::NAN),
            false => value.as_f64(),
        };
        let get = |name: &str| line.get(name).and_then(number);
        let known = ["step", "loss", "rate", "gradient_norm"];
        let more = line.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        Some(Row {
            step: line.get("step")?.as_u64()?,
            loss: get("loss")?,
            rate: get("rate")?,
            gradient_norm: get("gradient_norm")?,
            more: more.map(|(name, value)| Some((name.clone(), number(value)?))).collect::<Option<_>>()?,
        })
    }
}

impl Log {
    /// The steps.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Every value of a name, with the step it was measured after.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (u64, f64)> + 'a {
        self.rows.iter().flat_map(move |row| {
            row.columns().filter(move |(known, _)| *known == name).map(|(_, value)| (row.step, value))
        })
    }

    /// The value of a name that was measured last.
    pub fn last(&self, name: &str) -> Option<f64> {
        self.values(name).last().map(|(_, value)| value)
    }

    /// The next step.
    pub(super) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds to what was said of the last step; before it is written.
    pub(super) fn add(&mut self, more: Vec<(String, f64)>) {
        if let Some(row) = self.rows.last_mut() {
            row.more.extend(more);
        }
    }

    /// Begins the file in a folder anew with the steps up to `steps` that it holds; what came later belongs to a run
    /// that was cut off. A last line that is not whole goes, too.
    ///
    /// Errors: [`Error::Read`], [`Error::Write`]; [`Error::Format`] when steps are missing.
    pub(super) fn begin(folder: &Path, steps: u64) -> Result<Log> {
        let path = folder.join(LINES);
        let mut rows = Vec::new();
        if steps > 0 {
            let bytes = files::read_small(&path, LIMIT_BYTES)?;
            let text = String::from_utf8_lossy(&bytes);
            rows = text.lines().map_while(Row::parse).take_while(|row| row.step <= steps).collect();
            if rows.last().is_none_or(|row: &Row| row.step != steps) {
                let detail = format!(
                    "does not reach step {steps}, where the snapshot is; --force in place of --resume starts anew"
                );
                return Err(Error::format(&path, detail));
            }
        }
        let log = Log { n_written: rows.len(), rows };
        files::write_atomically(&path, |w| {
            let mut put = |row: &Row| writeln!(w, "{}", row.line()).map_err(Error::write(&path));
            log.rows.iter().try_for_each(&mut put)
        })?;
        Ok(log)
    }

    /// Adds the steps that are not in the file yet.
    ///
    /// Errors: [`Error::Write`].
    pub(super) fn append(&mut self, folder: &Path) -> Result<()> {
        let path = folder.join(LINES);
        let lines: String = self.rows[self.n_written..].iter().map(|row| row.line() + "\n").collect();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).map_err(Error::write(&path))?;
        file.write_all(lines.as_bytes()).map_err(Error::write(&path))?;
        self.n_written = self.rows.len();
        Ok(())
    }

    /// The table, and the curves where there is something to draw.
    ///
    /// Errors: [`Error::Write`].
    pub(super) fn finish(&self, folder: &Path) -> Result<()> {
        let names = self.names();
        let mut text = format!("step,{}\n", names.join(","));
        for row in &self.rows {
            let value = |name: &&str| match row.columns().find(|(known, _)| known == name) {
                Some((_, value)) if value.is_finite() => value.to_string(),
                _ => String::new(),
            };
            let values: Vec<String> = names.iter().map(value).collect();
            text += &format!("{},{}\n", row.step, values.join(","));
        }
        files::write_text(folder.join(TABLE), &text)?;
        #[cfg(feature = "plot")]
        self.draw(&folder.join(PICTURE))?;
        Ok(())
    }

    /// Every column, in the order of its first row.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = vec!["loss", "rate", "gradient_norm"];
        for (name, _) in self.rows.iter().flat_map(|row| &row.more) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// Losses in one panel, every other measure in one of its own.
    #[cfg(feature = "plot")]
    fn draw(&self, path: &Path) -> Result<()> {
        use crate::plot::{self, Panel, Series};
        if !self.rows.iter().any(|row| row.loss.is_finite()) {
            return Ok(());
        }
        let series = |name: &str, shown: &str| Series {
            name: shown.into(),
            points: smooth(self.values(name).map(|(step, value)| (step as f64, value)).collect()),
        };
        let (losses, others): (Vec<&str>, Vec<&str>) =
            self.names().into_iter().filter(|name| *name != "rate").partition(|name| name.contains("loss"));
        let has_value = |name: &&&str| self.values(name).any(|(_, value)| value.is_finite());
        let shown =
            |name: &str| if name == "loss" { "training loss".to_string() } else { name.replace('_', " ") };
        let lines: Vec<Series> =
            losses.iter().filter(has_value).map(|name| series(name, &shown(name))).collect();
        let is_log = lines.iter().flat_map(|line| &line.points).all(|point| point.1 > 0.0);
        let mut panels = vec![Panel { y_label: "loss".into(), series: lines, is_log, level: None }];
        for name in others.iter().filter(has_value) {
            let lines = vec![series(name, &shown(name))];
            panels.push(Panel { y_label: shown(name), series: lines, ..Panel::default() });
        }
        plot::curves("training", "step", &panels)?.save(path)
    }
}

/// Means of neighbours, where there are more points than a picture has columns.
#[cfg(feature = "plot")]
fn smooth(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    const COLUMNS: usize = 200;
    let together = points.len().div_ceil(COLUMNS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let finite: Vec<f64> = points.iter().map(|point| point.1).filter(|value| value.is_finite()).collect();
        let last = points.last().map_or(0.0, |point| point.0);
        (last, finite.iter().sum::<f64>() / finite.len() as f64) // no number: a gap
    };
    points.chunks(together).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64, more: &[(&str, f64)]) -> Row {
        let more = more.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        Row { step, loss: 1.0 / step as f64, rate: 0.1, gradient_norm: 2.0, more }
    }

    #[test]
    fn a_log_is_cut_back_to_a_step_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::begin(folder.path(), 0).unwrap();
        for step in 1..=5 {
            log.push(row(step, &[]));
            if step == 4 {
                log.add(vec![("validation_loss".into(), 0.3)]);
            }
            log.append(folder.path()).unwrap();
        }
        log.finish(folder.path()).unwrap();
        let whole = std::fs::read_to_string(folder.path().join(LINES)).unwrap();
        assert_eq!(whole.lines().count(), 5);
        assert!(whole.contains("\"validation_loss\":0.3"), "{whole}");
        let table = std::fs::read_to_string(folder.path().join(TABLE)).unwrap();
        assert!(table.starts_with("step,loss,rate,gradient_norm,validation_loss\n1,1,0.1,2,\n"), "{table}");
        #[cfg(feature = "plot")]
        assert!(folder.path().join(PICTURE).is_file());
        // Cut off in the middle of a line.
        std::fs::write(folder.path().join(LINES), &whole[..whole.len() - 9]).unwrap();
        let mut again = Log::begin(folder.path(), 4).unwrap();
        assert_eq!(again.rows(), &log.rows()[..4]);
        again.push(row(5, &[]));
        again.append(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join(LINES)).unwrap(), whole);
        assert_eq!(again.last("validation_loss"), Some(0.3));
        assert_eq!(Log::begin(folder.path(), 7).unwrap_err().exit_code(), 3);
    }

    #[test]
    fn what_is_no_number_comes_back_as_none() {
        let skipped = Row { gradient_norm: f64::NAN, ..row(3, &[]) };
        assert!(skipped.line().contains("\"gradient_norm\":null"));
        assert!(Row::parse(&skipped.line()).unwrap().gradient_norm.is_nan());
        assert!(Row::parse("{\"step\":1,\"loss\":0.5").is_none());
    }
}
