//! Tables as confusion matrices, curves and bars.

use super::super::Shell;
use super::Output;
use super::table::{self, Table};
use crate::error::{Error, Result};
use crate::plot::{self, Bar, Panel, Series};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const CONFUSION: &str = "\
CSV: a header with the classes' names, a row of counts for each true class; a first column of names is taken as
such. JSON: [[8, 2], [1, 9]], or {\"counts\": [[8, 2], [1, 9]], \"names\": [\"cat\", \"dog\"]}.";

/// Which class was taken for which
#[derive(clap::Args)]
#[command(after_help = CONFUSION)]
pub(super) struct Confusion {
    /// Counts, a row for each true class
    #[arg(value_name = "FILE.csv|.json")]
    file: PathBuf,

    /// Names of the classes, apart by commas, in place of the file's
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    names: Vec<String>,

    #[command(flatten)]
    output: Output,
}

pub(super) fn confusion(args: &Confusion, shell: &Shell) -> Result<()> {
    args.output.check()?;
    let is_json = args.file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let (counts, mut names) = if is_json { counts_of_json(&args.file)? } else { counts_of_csv(&args.file)? };
    if !args.names.is_empty() {
        names = args.names.clone();
    }
    let scene = plot::confusion(&args.output.title(&args.file), &counts, &names)?;
    let n = counts.len().isqrt();
    args.output.write(&scene, shell, &format!("{n} classes"), &json!({ "classes": n, "names": names }))
}

/// Counts and names.
type Counts = (Vec<u64>, Vec<String>);

fn counts_of_csv(path: &Path) -> Result<Counts> {
    let table = Table::open(path)?;
    let n = table.rows.len();
    let skipped = match table.header.len() {
        columns if columns == n => 0,
        columns if columns == n + 1 => {
            let is_number = |cell: &String| cell.trim().parse::<f64>().is_ok();
            let named = table.rows.iter().zip(&table.header[1..]).all(|(row, name)| row[0] == *name);
            if table.header.iter().all(is_number) && !named {
                return Err(table.wrong("has no header, wanted a first line with the names of the classes"));
            }
            1
        }
        columns => {
            let detail = format!(
                "{n} rows of {columns} cells are no confusion matrix, wanted as many rows as classes"
            );
            return Err(table.wrong(detail));
        }
    };
    let columns: Vec<Vec<f64>> = (0..n).map(|at| table.numbers(at + skipped)).collect::<Result<_>>()?;
    let mut counts = Vec::with_capacity(n * n);
    for row in 0..n {
        for column in &columns {
            let count = whole(column[row]).ok_or_else(|| {
                table.wrong(format!("row {}: {} is no count, wanted 0, 1, 2 and so on", row + 1, column[row]))
            })?;
            counts.push(count);
        }
    }
    Ok((counts, table.header[skipped..].to_vec()))
}

fn counts_of_json(path: &Path) -> Result<Counts> {
    let wrong = |detail: &str| Error::format(path, detail);
    let value: Value =
        serde_json::from_str(&table::text(path)?).map_err(|e| wrong(&format!("is not valid JSON: {e}")))?;
    let names = match value.get("names").map(Value::as_array) {
        None => Vec::new(),
        Some(Some(names)) => names
            .iter()
            .map(|name| {
                name.as_str().map(str::to_string).ok_or_else(|| wrong("\"names\" hold what is no text"))
            })
            .collect::<Result<_>>()?,
        Some(None) => return Err(wrong("\"names\" is no list")),
    };
    let rows = value.get("counts").unwrap_or(&value).as_array();
    let rows =
        rows.ok_or_else(|| wrong("has no list \"counts\", wanted [[8, 2], [1, 9]] or {\"counts\": …}"))?;
    let mut counts = Vec::new();
    for (idx, row) in rows.iter().enumerate() {
        let row = row.as_array().filter(|row| row.len() == rows.len());
        let row = row.ok_or_else(|| wrong(&format!("row {idx} is not {} counts", rows.len())))?;
        for value in row {
            let count = value.as_u64().or_else(|| value.as_f64().and_then(whole));
            counts.push(count.ok_or_else(|| wrong(&format!("row {idx}: {value} is no count")))?);
        }
    }
    Ok((counts, names))
}

fn whole(value: f64) -> Option<u64> {
    (value >= 0.0 && value.fract() == 0.0 && value < 9e15).then_some(value as u64)
}

const CURVES: &str = "\
The first column is x; every other one is a line, an empty cell a gap. Columns called PANEL/NAME share a panel, as do
those that end in the same of _loss, _accuracy, _acc, _error and _lr (train_loss, val_loss); the rest share one.";

/// Lines over epochs or steps
#[derive(clap::Args)]
#[command(after_help = CURVES)]
pub(super) struct Curves {
    /// Numbers with a header
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,

    /// Powers of ten on every y axis
    #[arg(long)]
    log_y: bool,

    #[command(flatten)]
    output: Output,
}

pub(super) fn curves(args: &Curves, shell: &Shell) -> Result<()> {
    args.output.check()?;
    let table = Table::open(&args.file)?;
    if table.header.len() < 2 {
        return Err(table.wrong("has one column, wanted x and at least one line"));
    }
    let x = table.numbers(0)?;
    let mut panels: Vec<Panel> = Vec::new();
    for (column, title) in table.header.iter().enumerate().skip(1) {
        let (panel, name) = panel_and_name(title.trim());
        let at = panels.iter().position(|other| other.y_label == panel).unwrap_or_else(|| {
            panels.push(Panel { y_label: panel.into(), is_log: args.log_y, ..Panel::default() });
            panels.len() - 1
        });
        let points = x.iter().copied().zip(table.numbers(column)?).collect();
        panels[at].series.push(Series { name: name.into(), points });
    }
    let scene = plot::curves(&args.output.title(&args.file), &table.header[0], &panels)?;
    let lines = table.header.len() - 1;
    let json = json!({ "lines": lines, "panels": panels.len(), "rows": x.len() });
    args.output.write(&scene, shell, &format!("{lines} lines, panels: {}", panels.len()), &json)
}

fn panel_and_name(title: &str) -> (&str, &str) {
    if let Some(parts) = title.split_once('/') {
        return parts;
    }
    match title.rsplit_once('_') {
        Some((name, panel)) if ["loss", "accuracy", "acc", "error", "lr"].contains(&panel) => (panel, name),
        _ if ["loss", "accuracy", "lr"].contains(&title) => (title, title),
        _ => ("", title),
    }
}

const BARS: &str = "\
Columns: a name, a value, and where they are there `error` (how far whiskers go up and down) and `chance`.";

/// Values side by side, with their spread and chance
#[derive(clap::Args)]
#[command(after_help = BARS)]
pub(super) struct Bars {
    /// A row a bar, with a header
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,

    #[command(flatten)]
    output: Output,
}

pub(super) fn bars(args: &Bars, shell: &Shell) -> Result<()> {
    args.output.check()?;
    let table = Table::open(&args.file)?;
    let known = |title: &String| ["error", "std", "chance"].contains(&title.trim());
    if table.header.len() < 2 || !table.header.iter().skip(2).all(known) {
        return Err(table.wrong("wanted the columns name, value, and at most error and chance"));
    }
    let values = table.numbers(1)?;
    let optional = |wanted: &[&str]| {
        let at = table.header.iter().skip(2).position(|title| wanted.contains(&title.trim()));
        at.map(|at| table.numbers(at + 2)).transpose()
    };
    let (errors, chances) = (optional(&["error", "std"])?, optional(&["chance"])?);
    let cell = |column: &Option<Vec<f64>>, idx: usize| {
        column.as_ref().map(|column| column[idx]).filter(|value| value.is_finite())
    };
    let bar = |(idx, row): (usize, &Vec<String>)| Bar {
        name: row[0].trim().to_string(),
        value: values[idx],
        error: cell(&errors, idx),
        chance: cell(&chances, idx),
        points: Vec::new(),
    };
    let bars: Vec<Bar> = table.rows.iter().enumerate().map(bar).collect();
    let scene = plot::bars(&args.output.title(&args.file), table.header[1].trim(), &bars)?;
    args.output.write(&scene, shell, &format!("{} bars", bars.len()), &json!({ "bars": bars.len() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_find_their_panel() {
        let cases = ["loss/train", "val_loss", "loss", "grad_norm", "train_accuracy", "lr"];
        let wanted = [
            ("loss", "train"),
            ("loss", "val"),
            ("loss", "loss"),
            ("", "grad_norm"),
            ("accuracy", "train"),
            ("lr", "lr"),
        ];
        assert_eq!(cases.map(panel_and_name), wanted);
    }

    #[test]
    fn counts_are_whole_and_square() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            if name.ends_with("json") { counts_of_json(&path) } else { counts_of_csv(&path) }
        };
        let good = (vec![8, 2, 1, 9], vec!["a".to_string(), "b".to_string()]);
        assert_eq!(read("a.csv", "a,b\n8,2\n1,9\n").unwrap(), good);
        assert_eq!(read("a.csv", "true,a,b\na,8,2\nb,1,9\n").unwrap(), good);
        assert_eq!(
            read("a.json", "{\"names\": [\"a\", \"b\"], \"counts\": [[8, 2.0], [1, 9]]}").unwrap(),
            good
        );
        for (name, text, wanted) in [
            ("a.csv", "a,b\n8,2.5\n1,9\n", "2.5 is no count"),
            ("a.csv", "a,b\n8,\n1,9\n", "NaN is no count"),
            ("a.csv", "a,b,c\n8,2,1\n", "1 rows of 3 cells"),
            ("a.csv", "8,1,1\n0,9,1\n2,2,6\n", "has no header"),
            ("a.json", "{\"counts\": [[8], [1, 9]]}", "row 0 is not 2 counts"),
            ("a.json", "[[8, -2], [1, 9]]", "-2 is no count"),
            ("a.json", "{\"names\": 3}", "\"names\" is no list"),
            ("a.json", "{}", "no list \"counts\""),
            ("a.json", "[[", "not valid JSON"),
        ] {
            let error = read(name, text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
