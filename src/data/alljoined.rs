//! Alljoined1 (`Alljoined/05_125`): epochs of 64 channels under pictures of COCO, in parquet files.
//!
//! ```text
//! train-*.parquet, test-*.parquet ─Alljoined─> Trial: subject, session, block, trial, picture     of every row
//!                                 ─each──────> Epoch [64 channels, 334 samples], volts            one after another
//! ```
//!
//! Rows are numbered through all files, those of training first, as the data set's builder joins them. EEG is a list of
//! lists of floats in every row; a few rows are in memory at a time.

use crate::error::{Error, Result};
use crate::signal::Stack;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

/// The column of epochs.
const EEG: &str = "EEG";
/// Rows in memory at a time.
const ROWS_AT_ONCE: usize = 16;
/// Most rows of all files.
const MAX_ROWS: usize = 10_000_000;

/// What is known of one row beside its EEG. What a file does not tell is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// 1 to 8.
    pub subject_id: i64,
    /// Session of the subject.
    pub session: i64,
    /// Block of the session.
    pub block: i64,
    /// Trial of the block, from 1, counted after rejection.
    pub trial: i64,
    /// Picture of the Natural Scenes Dataset, from 0.
    pub nsd_id: i64,
    /// Picture of MS-COCO.
    pub coco_id: i64,
}

/// Columns by which a [`Trial`] is told.
type Field = fn(&mut Trial) -> &mut i64;
const COLUMNS: [(&str, Field); 6] = [
    ("subject_id", |trial| &mut trial.subject_id),
    ("session", |trial| &mut trial.session),
    ("block", |trial| &mut trial.block),
    ("trial", |trial| &mut trial.trial),
    ("73k_id", |trial| &mut trial.nsd_id),
    ("coco_id", |trial| &mut trial.coco_id),
];

/// EEG of one row, `[channels, samples]`, in volts as published.
pub type Epoch = Stack<f64>;

/// The rows of some parquet files.
#[derive(Debug)]
pub struct Alljoined {
    files: Vec<(PathBuf, usize)>,
    /// Of every row.
    pub trials: Vec<Trial>,
}

impl Alljoined {
    /// Opens one parquet file, or every one of a folder or of its `data` folder: `train-*` first, then `test-*`, then
    /// others, each by name. Reads the columns of ids.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for a folder without parquet files, a file that is cut short or none, one
    /// without `EEG` as a list of lists of floats, and ids that are no integers.
    pub fn open(path: impl AsRef<Path>) -> Result<Alljoined> {
        let path = path.as_ref();
        let mut all = Alljoined { files: vec![], trials: vec![] };
        for file in files_of(path)? {
            let trials = guarded(&file, || trials(&file))?;
            all.files.push((file, trials.len()));
            all.trials.extend(trials);
            if all.trials.len() > MAX_ROWS {
                return Err(Error::format(
                    path,
                    format!("holds more than {MAX_ROWS} rows; give fewer files"),
                ));
            }
        }
        if all.trials.is_empty() {
            return Err(Error::format(path, "holds no rows"));
        }
        Ok(all)
    }

    /// Rows in all.
    pub fn len(&self) -> usize {
        self.trials.len()
    }

    /// Never: an empty set is refused when it is opened.
    pub fn is_empty(&self) -> bool {
        self.trials.is_empty()
    }

    /// EEG of the first row. Errors as [`Alljoined::each`].
    pub fn first(&self) -> Result<Epoch> {
        let missing = || Error::format(&self.files[0].0, "holds no rows");
        let (path, _) = self.files.iter().find(|(_, n)| *n > 0).ok_or_else(missing)?;
        let rows = Epochs::open(path)?.next(path, 0, 1, &|_| true)?;
        rows.into_iter().flatten().next().ok_or_else(missing)
    }

    /// Hands every row's number and EEG to `take`, in order; those that `wanted` does not want are read and passed over.
    ///
    /// Errors: [`Error::Format`] for a damaged file, and rows whose channels are empty, of different lengths or not
    /// finite; whatever `take` returns.
    pub fn each(
        &self,
        wanted: impl Fn(usize) -> bool,
        mut take: impl FnMut(&Path, usize, Epoch) -> Result<()>,
    ) -> Result<()> {
        let mut first = 0;
        for (path, n) in &self.files {
            if (first..first + n).any(&wanted) {
                let own = |row: usize| wanted(first + row);
                let mut epochs = Epochs::open(path)?;
                for start in (0..*n).step_by(ROWS_AT_ONCE) {
                    let n_rows = ROWS_AT_ONCE.min(n - start);
                    for (i, epoch) in epochs.next(path, start, n_rows, &own)?.into_iter().enumerate() {
                        if let Some(epoch) = epoch {
                            take(path, first + start + i, epoch)?;
                        }
                    }
                }
            }
            first += n;
        }
        Ok(())
    }
}

/// The parquet files that `path` stands for.
fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let in_folder = |folder: &Path| -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
            let file = entry.map_err(Error::read(folder))?.path();
            if file.extension().is_some_and(|ending| ending == "parquet") {
                found.push(file);
            }
        }
        Ok(found)
    };
    let mut found = in_folder(path)?;
    if found.is_empty() && path.join("data").is_dir() {
        found = in_folder(&path.join("data"))?;
    }
    if found.is_empty() {
        return Err(Error::format(
            path,
            "holds no .parquet; give the folder with train-*.parquet, or a file",
        ));
    }
    let part = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let idx = ["train", "test"].iter().position(|part| name.starts_with(part)).unwrap_or(2);
        (idx, name)
    };
    found.sort_by_key(part);
    Ok(found)
}

/// What goes wrong inside the reader of the format is the file's fault, a panic over nonsense included.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(damaged(path, &"its pages contradict themselves")))
}

fn damaged(path: &Path, what: &dyn std::fmt::Display) -> Error {
    let hint = "the copy may be cut short, compare its size with the source";
    Error::format(path, format!("is no whole parquet file: {what}; {hint}"))
}

fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(Error::read(path))?;
    if !file.metadata().map_err(Error::read(path))?.is_file() {
        return Err(Error::format(path, "is not a plain file"));
    }
    SerializedFileReader::new(file).map_err(|e| damaged(path, &e))
}

/// The first leaf column under a name, with its place.
fn column<'a>(reader: &'a SerializedFileReader<File>, name: &str) -> Option<(usize, &'a ColumnDescriptor)> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let is_it = |idx: &usize| schema.column(*idx).path().parts().first().is_some_and(|part| part == name);
    let idx = (0..schema.num_columns()).find(is_it)?;
    Some((idx, schema.columns()[idx].as_ref()))
}

/// Ids of every row, after a look at the column of EEG.
fn trials(path: &Path) -> Result<Vec<Trial>> {
    let reader = open(path)?;
    let wrong = |detail: String| Error::format(path, detail);
    match column(&reader, EEG) {
        None => {
            let schema = reader.metadata().file_metadata().schema_descr();
            let names: Vec<&str> =
                schema.root_schema().get_fields().iter().take(12).map(|field| field.name()).collect();
            return Err(wrong(format!("has no column \"{EEG}\", it has {}", names.join(", "))));
        }
        Some((_, eeg)) if eeg.max_rep_level() != 2 => {
            let detail = format!("\"{EEG}\" is no list of lists of numbers, channels of samples");
            return Err(wrong(detail));
        }
        Some(_) => {}
    }
    let n_rows = usize::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
    if n_rows > MAX_ROWS {
        return Err(wrong(format!("says it holds {n_rows} rows, at most {MAX_ROWS} are read")));
    }
    let mut trials = vec![Trial::default(); n_rows];
    for (name, field) in COLUMNS {
        let Some((idx, of)) = column(&reader, name) else { continue };
        if of.max_rep_level() != 0 {
            return Err(wrong(format!("\"{name}\" is a list, wanted an integer")));
        }
        let mut row = 0;
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group).map_err(|e| damaged(path, &e))?;
            let values = match group.get_column_reader(idx).map_err(|e| damaged(path, &e))? {
                ColumnReader::Int32ColumnReader(column) => integers(path, column, n_rows - row)?,
                ColumnReader::Int64ColumnReader(column) => integers(path, column, n_rows - row)?,
                _ => return Err(wrong(format!("\"{name}\" holds no integers"))),
            };
            for value in values {
                *field(&mut trials[row]) = value;
                row += 1;
            }
        }
        if row != n_rows {
            return Err(damaged(path, &format!("\"{name}\" has {row} of {n_rows} values")));
        }
    }
    Ok(trials)
}

/// All values of a column chunk, at most so many; what is not there is 0.
fn integers<T: DataType>(path: &Path, mut column: ColumnReaderImpl<T>, at_most: usize) -> Result<Vec<i64>>
where
    T::T: Into<i64> + Copy,
{
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    while levels.len().max(values.len()) < at_most {
        let n = (at_most - levels.len().max(values.len())).min(1 << 16);
        let (n_records, ..) =
            column.read_records(n, Some(&mut levels), None, &mut values).map_err(|e| damaged(path, &e))?;
        if n_records == 0 {
            break;
        }
    }
    if levels.is_empty() {
        return Ok(values.into_iter().map(Into::into).collect());
    }
    let mut values = values.into_iter();
    Ok(levels
        .into_iter()
        .map(|level| if level > 0 { values.next().map_or(0, Into::into) } else { 0 })
        .collect())
}

/// The column of EEG in floats of either length.
enum Floats {
    Single(ColumnReaderImpl<parquet::data_type::FloatType>),
    Double(ColumnReaderImpl<parquet::data_type::DoubleType>),
}

impl Floats {
    /// Levels and values of up to `n` whole rows.
    fn records(
        &mut self,
        n: usize,
        def: &mut Vec<i16>,
        rep: &mut Vec<i16>,
        values: &mut Vec<f64>,
    ) -> parquet::errors::Result<usize> {
        match self {
            Floats::Double(column) => Ok(column.read_records(n, Some(def), Some(rep), values)?.0),
            Floats::Single(column) => {
                let mut singles = Vec::new();
                let n = column.read_records(n, Some(def), Some(rep), &mut singles)?.0;
                values.extend(singles.into_iter().map(f64::from));
                Ok(n)
            }
        }
    }
}

/// Goes through the column of EEG, row group by row group.
struct Epochs {
    reader: SerializedFileReader<File>,
    idx: usize,
    /// Level of a value that is there.
    present: i16,
    next_group: usize,
    open: Option<Floats>,
}

impl Epochs {
    fn open(path: &Path) -> Result<Epochs> {
        let reader = guarded(path, || open(path))?;
        let Some((idx, of)) = column(&reader, EEG) else {
            return Err(damaged(path, &"it changed while it was read"));
        };
        let present = of.max_def_level();
        Ok(Epochs { reader, idx, present, next_group: 0, open: None })
    }

    /// The next `n` rows, the first of which is row `start` of the file.
    fn next(
        &mut self,
        path: &Path,
        start: usize,
        n: usize,
        wanted: &impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<Epoch>>> {
        let (mut def, mut rep, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let mut n_read = 0;
        while n_read < n {
            let floats = match &mut self.open {
                Some(floats) => floats,
                None => {
                    let floats = guarded(path, || self.reader_of(path, self.next_group))?;
                    self.next_group += 1;
                    self.open.insert(floats)
                }
            };
            let got = guarded(path, || {
                floats.records(n - n_read, &mut def, &mut rep, &mut values).map_err(|e| damaged(path, &e))
            })?;
            n_read += got;
            if got == 0 {
                self.open = None;
            }
        }
        let mut epochs = Vec::with_capacity(n);
        let mut at = 0;
        let mut levels = rep.iter().zip(&def).peekable();
        for row in start..start + n {
            let wrong = |detail: &str| Error::format(path, format!("row {row}: {detail}"));
            let mut lengths: Vec<usize> = Vec::new();
            let begin = at;
            // A row goes on until the next level 0; a channel begins at level 1.
            while let Some((&level, &def)) = levels.next_if(|(level, _)| **level > 0 || lengths.is_empty()) {
                if def != self.present {
                    return Err(wrong("EEG is missing, or holds an empty list or a null"));
                }
                match lengths.last_mut() {
                    Some(length) if level == 2 => *length += 1,
                    _ => lengths.push(1),
                }
                at += 1;
            }
            let Some(&n_samples) = lengths.first() else { return Err(damaged(path, &"EEG ends too early")) };
            if !wanted(row) {
                epochs.push(None);
                continue;
            }
            if let Some(channel) = lengths.iter().position(|&n| n != n_samples) {
                let detail =
                    format!("channel {channel} has {} samples, channel 0 has {n_samples}", lengths[channel]);
                return Err(wrong(&detail));
            }
            let data = values.get(begin..at).ok_or_else(|| damaged(path, &"EEG ends too early"))?.to_vec();
            if data.iter().any(|v| !v.is_finite()) {
                return Err(wrong("EEG holds NaN or infinity"));
            }
            epochs.push(Some(Stack { leading: vec![], n_channels: lengths.len(), n_samples, data }));
        }
        Ok(epochs)
    }

    fn reader_of(&self, path: &Path, group: usize) -> Result<Floats> {
        if group >= self.reader.num_row_groups() {
            return Err(damaged(path, &"it has fewer rows than it says"));
        }
        let group = self.reader.get_row_group(group).map_err(|e| damaged(path, &e))?;
        match group.get_column_reader(self.idx).map_err(|e| damaged(path, &e))? {
            ColumnReader::DoubleColumnReader(column) => Ok(Floats::Double(column)),
            ColumnReader::FloatColumnReader(column) => Ok(Floats::Single(column)),
            _ => Err(Error::format(path, format!("\"{EEG}\" holds no floats"))),
        }
    }
}
