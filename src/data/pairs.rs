//! NeuroVision's pairs of spectrogram and picture, and the captions that go with them.
//!
//! ```text
//! metadata.csv               image_path,spectrogram_path,split      paths relative to its folder; train, val or test
//! train_gt_captions.json     {"0": "a cat on a chair", …}           key: row of that split, or the picture's name
//! ```
//!
//! Both as NeuroVision writes and reads them; more columns are put up with. A key that counts rows breaks when rows are
//! left out, so that ours are the pictures' names (`000000000139`), and either is found.

use crate::error::{Error, Result};
use crate::files;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Largest table and captions read.
const MAX_BYTES: u64 = 256 << 20;
/// The file of a data set.
pub const METADATA: &str = "metadata.csv";
/// What the original says where a caption is missing.
pub const FALLBACK: &str = "an image";
const COLUMNS: [&str; 3] = ["image_path", "spectrogram_path", "split"];

/// Use of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Use {
    /// Learnt from.
    Train,
    /// Chosen by.
    Val,
    /// Reported.
    Test,
}

impl Use {
    /// In the order of the original's table.
    pub const ALL: [Use; 3] = [Use::Train, Use::Val, Use::Test];

    /// As the table says it.
    pub fn name(self) -> &'static str {
        match self {
            Use::Train => "train",
            Use::Val => "val",
            Use::Test => "test",
        }
    }
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Picture, relative to the data set.
    pub image: String,
    /// Spectrogram, relative to the data set.
    pub spectrogram: String,
    /// What it is for.
    pub split: Use,
}

impl Pair {
    /// The picture's name without folder and ending: the key of its caption.
    pub fn image_name(&self) -> &str {
        let name = self.image.rsplit(['/', '\\']).next().unwrap_or_default();
        name.rsplit_once('.').map_or(name, |(stem, _)| stem)
    }
}

/// A data set's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// The folder that paths are relative to.
    pub root: PathBuf,
    /// In the table's order.
    pub pairs: Vec<Pair>,
}

impl Pairs {
    /// Reads `metadata.csv`, or that of a folder.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] with the line for a missing column, too few fields, an unknown split; an
    /// empty table.
    pub fn open(path: impl AsRef<Path>) -> Result<Pairs> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join(METADATA) } else { path.to_path_buf() };
        let root = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let text = String::from_utf8(files::read_small(&path, MAX_BYTES)?)
            .map_err(|_| Error::format(&path, "is not UTF-8"))?;
        let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        let head = lines.next().map(|(_, head)| fields(head)).unwrap_or_default();
        let place = |name: &str| {
            head.iter().position(|column| column.trim() == name).ok_or_else(|| {
                let detail = format!("has no column \"{name}\", wanted {}", COLUMNS.join(","));
                Error::format(&path, detail)
            })
        };
        let places = [place(COLUMNS[0])?, place(COLUMNS[1])?, place(COLUMNS[2])?];
        let mut pairs = Vec::new();
        for (idx, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |detail: String| Error::format(&path, format!("line {}: {detail}", idx + 1));
            let row = fields(line);
            let field = |which: usize| {
                let field =
                    row.get(places[which]).map(|field| field.trim()).filter(|field| !field.is_empty());
                field.ok_or_else(|| wrong(format!("has no {}; the copy may be cut short", COLUMNS[which])))
            };
            let split = field(2)?;
            let split = Use::ALL.into_iter().find(|known| known.name() == split).ok_or_else(|| {
                wrong(format!("split \"{}\" is none of train, val, test", split.escape_debug()))
            })?;
            pairs.push(Pair { image: field(0)?.into(), spectrogram: field(1)?.into(), split });
        }
        if pairs.is_empty() {
            return Err(Error::format(&path, "has no rows"));
        }
        Ok(Pairs { root, pairs })
    }

    /// Pairs of one use, in the table's order; a pair's place here is its row in the captions.
    pub fn of(&self, split: Use) -> Vec<&Pair> {
        self.pairs.iter().filter(|pair| pair.split == split).collect()
    }

    /// Errors: [`Error::Format`] naming the first spectrogram, or with `images` the first picture, that is not there, and
    /// how many are not.
    pub fn check_files(&self, images: bool) -> Result<()> {
        let paths = |pair: &'_ Pair| {
            let image = images.then(|| pair.image.clone());
            [Some(pair.spectrogram.clone()), image].into_iter().flatten().collect::<Vec<_>>()
        };
        let mut missing = Vec::new();
        for (row, pair) in self.pairs.iter().enumerate() {
            missing.extend(
                paths(pair)
                    .into_iter()
                    .filter(|path| !self.root.join(path).is_file())
                    .map(|path| (row, path)),
            );
        }
        let Some((row, path)) = missing.first() else { return Ok(()) };
        let others = match missing.len() - 1 {
            0 => String::new(),
            n => format!(", nor are {n} others"),
        };
        let detail =
            format!("row {row}: \"{}\" is not there{others}; unpack the data set whole", path.escape_debug());
        Err(Error::format(self.root.join(METADATA), detail))
    }

    /// Writes `metadata.csv` into a folder, with columns of more about each pair behind the original's three.
    ///
    /// Errors: [`Error::Write`].
    pub fn write(folder: &Path, pairs: &[Pair], more: &[(&str, Vec<String>)]) -> Result<()> {
        let path = folder.join(METADATA);
        files::write_atomically(&path, |file| {
            let heads = COLUMNS.into_iter().chain(more.iter().map(|(head, _)| *head)).collect::<Vec<_>>();
            let mut text = heads.join(",") + "\n";
            for (row, pair) in pairs.iter().enumerate() {
                let own = [quoted(&pair.image), quoted(&pair.spectrogram), pair.split.name().to_string()];
                let more =
                    more.iter().map(|(_, values)| values.get(row).map_or(String::new(), |v| quoted(v)));
                text += &own.into_iter().chain(more).collect::<Vec<_>>().join(",");
                text.push('\n');
            }
            file.write_all(text.as_bytes()).map_err(Error::write(&path))
        })
    }
}

/// The fields of a line; quotes around a field may hold commas, and doubled quotes stand for one.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut is_quoted) = (vec![], String::new(), false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if is_quoted && rest.peek() == Some(&'"') => {
                field.push('"');
                rest.next();
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

/// A field as pandas writes it: in quotes where it must be.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_string()
    }
}

/// Captions of one split.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captions {
    by_key: HashMap<String, String>,
    path: PathBuf,
}

impl Captions {
    /// Reads an object of captions.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for what is no JSON object of texts.
    pub fn open(path: impl AsRef<Path>) -> Result<Captions> {
        let path = path.as_ref();
        let object: Map<String, Value> = serde_json::from_slice(&files::read_small(path, MAX_BYTES)?)
            .map_err(|e| Error::format(path, format!("is no JSON object of captions: {e}")))?;
        let text = |(key, value): (String, Value)| match value {
            Value::String(text) => Ok((key, text)),
            other => {
                let detail = format!("caption \"{}\" is {other}, wanted a text", key.escape_debug());
                Err(Error::format(path, detail))
            }
        };
        let by_key = object.into_iter().map(text).collect::<Result<_>>()?;
        Ok(Captions { by_key, path: path.to_path_buf() })
    }

    /// Captions.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The caption of a picture by its name, or of a row of the split.
    pub fn get(&self, image_name: &str, row: usize) -> Option<&str> {
        self.by_key.get(image_name).or_else(|| self.by_key.get(&row.to_string())).map(String::as_str)
    }

    /// The captions of pairs of one split, in their order; the original's "an image" for missing ones with `fallback`.
    ///
    /// Errors: [`Error::Format`] naming the first pair without a caption, and how many have none.
    pub fn of(&self, pairs: &[&Pair], fallback: bool) -> Result<Vec<String>> {
        let found: Vec<Option<&str>> =
            pairs.iter().enumerate().map(|(row, pair)| self.get(pair.image_name(), row)).collect();
        if let Some(row) = found.iter().position(Option::is_none).filter(|_| !fallback) {
            let n = found.iter().filter(|caption| caption.is_none()).count();
            let detail = format!(
                "{n} of {} captions are missing, the first of row {row} (keys \"{row}\" or \"{}\"); make them again with \
                 `mindreel prepare captions`",
                pairs.len(),
                pairs[row].image_name().escape_debug()
            );
            return Err(Error::format(&self.path, detail));
        }
        Ok(found.into_iter().map(|caption| caption.unwrap_or(FALLBACK).to_string()).collect())
    }

    /// Writes captions under their keys, in this order, as the original does: one object, indented by two.
    ///
    /// Errors: [`Error::Write`].
    pub fn write(path: impl AsRef<Path>, captions: impl IntoIterator<Item = (String, String)>) -> Result<()> {
        let path = path.as_ref();
        let object: Map<String, Value> =
            captions.into_iter().map(|(key, caption)| (key, Value::String(caption))).collect();
        let text = format!("{:#}", Value::Object(object));
        files::write_text(path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(image: &str, spectrogram: &str, split: Use) -> Pair {
        Pair { image: image.into(), spectrogram: spectrogram.into(), split }
    }

    #[test]
    fn tables_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let pairs = vec![
            pair("coco/000000000139.jpg", "spectrograms/train/sample_3.pt", Use::Train),
            pair("a, b/\"c\".x.jpg", "s/1.npy", Use::Test),
        ];
        Pairs::write(folder.path(), &pairs, &[("subject_id", vec!["1".into(), "8".into()])]).unwrap();
        let text = std::fs::read_to_string(folder.path().join(METADATA)).unwrap();
        assert!(
            text.starts_with("image_path,spectrogram_path,split,subject_id\ncoco/000000000139.jpg,"),
            "{text}"
        );
        let read = Pairs::open(folder.path()).unwrap();
        assert_eq!((read.pairs.clone(), &read.root), (pairs, &folder.path().to_path_buf()));
        assert_eq!(read.pairs[0].image_name(), "000000000139");
        assert_eq!(read.pairs[1].image_name(), "\"c\".x");
        assert_eq!(read.of(Use::Test), [&read.pairs[1]]);
        let error = read.check_files(false).unwrap_err().to_string();
        assert!(
            error.contains("row 0: \"spectrograms/train/sample_3.pt\" is not there, nor are 1 others"),
            "{error}"
        );
    }

    #[test]
    fn the_originals_table_is_read_with_its_blanks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(METADATA);
        std::fs::write(
            &path,
            "\u{feff}image_path,spectrogram_path,split\r\na.jpg,a.pt, train \r\n\nb.jpg,b.pt,val\r\n",
        )
        .unwrap();
        let read = Pairs::open(&path).unwrap();
        assert_eq!(read.pairs, [pair("a.jpg", "a.pt", Use::Train), pair("b.jpg", "b.pt", Use::Val)]);
        for (text, wanted) in [
            ("", "no column \"image_path\""),
            ("image_path,split\n", "no column \"spectrogram_path\""),
            ("image_path,spectrogram_path,split\n", "has no rows"),
            ("image_path,spectrogram_path,split\na,b\n", "line 2: has no split"),
            ("image_path,spectrogram_path,split\na,b,dev\n", "line 2: split \"dev\" is none of"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Pairs::open(&path).unwrap_err();
            assert!(error.exit_code() == 3 && error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn captions_are_found_by_row_and_by_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train_gt_captions.json");
        let captions = [("0", "a cat"), ("1", "ein \"Hund\" 🐕"), ("10", "x")];
        Captions::write(&path, captions.map(|(key, caption)| (key.to_string(), caption.to_string())))
            .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\n  \"0\": \"a cat\",\n  \"1\": \"ein \\\"Hund\\\" 🐕\",\n  \"10\": \"x\"\n}");
        let read = Captions::open(&path).unwrap();
        let pairs =
            [pair("7.jpg", "a", Use::Train), pair("8.jpg", "b", Use::Train), pair("9.jpg", "c", Use::Train)];
        let pairs: Vec<&Pair> = pairs.iter().collect();
        assert_eq!(read.of(&pairs[..2], false).unwrap(), ["a cat", "ein \"Hund\" 🐕"]);
        let error = read.of(&pairs, false).unwrap_err().to_string();
        assert!(
            error.contains("1 of 3 captions are missing, the first of row 2 (keys \"2\" or \"9\")"),
            "{error}"
        );
        assert_eq!(read.of(&pairs, true).unwrap()[2], FALLBACK);
        std::fs::write(&path, r#"{"9": "by name", "0": 3}"#).unwrap();
        assert!(Captions::open(&path).unwrap_err().to_string().contains("caption \"0\" is 3, wanted a text"));
        std::fs::write(&path, r#"{"000000000009": "by name", "2": "by row"}"#).unwrap();
        let read = Captions::open(&path).unwrap();
        assert_eq!((read.get("000000000009", 2), read.get("x", 2)), (Some("by name"), Some("by row")));
        std::fs::write(&path, "[1]").unwrap();
        assert!(Captions::open(&path).is_err());
    }
}
