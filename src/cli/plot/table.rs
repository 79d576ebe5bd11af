//! Tables as CSV (RFC 4180): a header, rows of as many cells, quotes where a cell holds a comma.

use crate::error::{Error, Result};
use crate::files;
use std::path::{Path, PathBuf};

/// No table is larger.
const LIMIT_BYTES: u64 = 64 << 20;

/// Cells as text.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// The text of a file.
pub(super) fn text(path: &Path) -> Result<String> {
    let bytes = files::read_small(path, LIMIT_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::format(path, "is not UTF-8 text; give CSV"))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text))
}

impl Table {
    /// Errors: [`Error::Read`]; [`Error::Format`] when it is no table.
    pub(super) fn open(path: &Path) -> Result<Table> {
        let wrong = |detail: String| Err(Error::format(path, detail));
        let text = text(path)?;
        let mut records = match records(&text) {
            Ok(records) => records.into_iter(),
            Err(detail) => return wrong(detail),
        };
        let Some(header) = records.next() else {
            return wrong("is empty, wanted a header and rows".into());
        };
        let rows: Vec<Vec<String>> = records.collect();
        if let Some((idx, row)) = rows.iter().enumerate().find(|(_, row)| row.len() != header.len()) {
            let detail = format!("row {} has {} cells, the header has {}", idx + 1, row.len(), header.len());
            return wrong(detail);
        }
        if rows.is_empty() {
            return wrong("has a header and no rows".into());
        }
        Ok(Table { path: path.to_path_buf(), header, rows })
    }

    /// The numbers of a column; an empty cell is NaN.
    pub(super) fn numbers(&self, column: usize) -> Result<Vec<f64>> {
        let number = |(idx, row): (usize, &Vec<String>)| match row[column].trim() {
            "" => Ok(f64::NAN),
            cell => cell.parse().map_err(|_| {
                let (cell, name) = (cell.escape_debug(), self.header[column].escape_debug());
                self.wrong(format!("row {}, column \"{name}\": \"{cell}\" is no number", idx + 1))
            }),
        };
        self.rows.iter().enumerate().map(number).collect()
    }

    pub(super) fn wrong(&self, detail: impl Into<String>) -> Error {
        Error::format(&self.path, detail)
    }
}

/// Rows of cells; empty lines are left out.
fn records(text: &str) -> std::result::Result<Vec<Vec<String>>, String> {
    let (mut records, mut record, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut letters = text.chars().peekable();
    let (mut is_quoted, mut was_quoted) = (false, false);
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' if is_quoted => is_quoted = false,
            '"' if cell.trim().is_empty() && !was_quoted => {
                cell.clear();
                (is_quoted, was_quoted) = (true, true);
            }
            ',' if !is_quoted => {
                record.push(std::mem::take(&mut cell));
                was_quoted = false;
            }
            '\r' if !is_quoted && letters.peek() == Some(&'\n') => {}
            '\n' if !is_quoted => {
                record.push(std::mem::take(&mut cell));
                was_quoted = false;
                let done = std::mem::take(&mut record);
                records.extend((done != [""]).then_some(done));
            }
            other => cell.push(other),
        }
    }
    if is_quoted {
        return Err("a quote is never closed; the copy may be cut short".into());
    }
    if !record.is_empty() || !cell.is_empty() {
        record.push(cell);
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &[u8]) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        Table::open(&path)
    }

    #[test]
    fn cells_may_be_quoted_and_lines_end_either_way() {
        let table = open(
            "\u{feff}epoch,\"a, b\",\"say \"\"hi\"\"\"\r\n1,2.5,\"two\nlines\"\n\n2, 3e-1 ,\n".as_bytes(),
        )
        .unwrap();
        assert_eq!(table.header, ["epoch", "a, b", "say \"hi\""]);
        assert_eq!(table.rows, [["1", "2.5", "two\nlines"], ["2", " 3e-1 ", ""]]);
        assert_eq!(table.numbers(1).unwrap(), [2.5, 0.3]);
        let error = table.numbers(2).unwrap_err().to_string();
        assert!(error.contains("row 1, column \"say \\\"hi\\\"\": \"two\\nlines\" is no number"), "{error}");
        assert!(open(b"a,b\n1,\n").unwrap().numbers(1).unwrap()[0].is_nan());
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let refused = |text: &[u8]| open(text).unwrap_err().to_string();
        assert!(refused(b"").contains("is empty"));
        assert!(refused(b"a,b\n").contains("no rows"));
        assert!(refused(b"a,b\n1,2\n1,2,3\n").contains("row 2 has 3 cells, the header has 2"));
        assert!(refused(b"a,\"b\n1,2\n").contains("never closed"));
        assert!(refused(b"\xff\xfe\x00").contains("not UTF-8"));
    }
}
