//! Text embeddings by row: what EEG is to be turned into.
//!
//! ```text
//! text_embeddings.safetensors
//!   embeddings  [40, tokens, width]    of class 1 to 40, or
//!               [1400, tokens, width]  of each clip in the order of presentation: 200 · block + clip
//!   negative    [tokens, width]        of the empty text: what guidance leads away from
//! ```

use crate::error::{Error, Result};
use crate::signal::seed_dv::{BLOCK_CLIPS, CLASSES};
use crate::weights::{self, Checkpoint, NewTensor, random};
use std::collections::BTreeMap;
use std::path::Path;

/// The embeddings of classes or clips, and that of no text.
#[derive(Clone, Debug, PartialEq)]
pub struct TextTable {
    /// Tokens of a text.
    pub tokens: usize,
    /// Width of a token.
    pub width: usize,
    /// `[rows, tokens, width]`.
    values: Vec<f32>,
    /// `[tokens, width]`.
    negative: Vec<f32>,
}

impl TextTable {
    /// From values, `[rows, tokens, width]` and `[tokens, width]`.
    ///
    /// Errors: [`Error::Shape`] when the values are no rows of that size.
    pub fn new([tokens, width]: [usize; 2], values: Vec<f32>, negative: Vec<f32>) -> Result<TextTable> {
        let size = tokens * width;
        if size == 0 || values.is_empty() || !values.len().is_multiple_of(size) || negative.len() != size {
            let detail = format!(
                "{} and {} values are not [rows, {tokens}, {width}] and [{tokens}, {width}]",
                values.len(),
                negative.len()
            );
            return Err(Error::shape("text embeddings", detail));
        }
        Ok(TextTable { tokens, width, values, negative })
    }

    /// A vector for each word, the same wherever it stands: uniform, of mean 0 and variance 1, by
    /// [`random::fill`] from word and seed. A text is its words in order, lower-cased, then one token that ends it and
    /// is repeated up to the length of the longest. No text has a vector of its own in every place.
    ///
    /// Errors: [`Error::Shape`] without texts, for one without words, or for a width of 0.
    pub fn of_words(texts: &[String], width: usize, seed: u64) -> Result<TextTable> {
        let words = |text: &str| -> Vec<String> {
            text.split(|c: char| !c.is_alphanumeric())
                .filter(|word| !word.is_empty())
                .map(str::to_lowercase)
                .collect()
        };
        let texts: Vec<Vec<String>> = texts.iter().map(|text| words(text)).collect();
        if let Some(at) = texts.iter().position(Vec::is_empty) {
            return Err(Error::shape("text embeddings", format!("text {at} holds no word")));
        }
        let tokens = texts.iter().map(Vec::len).max().unwrap_or(0) + 1;
        let vector = |name: &str, out: &mut Vec<f32>| {
            let start = out.len();
            out.resize(start + width, 0.0);
            random::fill(name, &[width, 1], seed, &mut out[start..]);
        };
        let (mut values, mut negative) = (Vec::new(), Vec::new());
        for text in &texts {
            text.iter().for_each(|word| vector(&format!("word {word}"), &mut values));
            (text.len()..tokens).for_each(|_| vector("end", &mut values));
        }
        (0..tokens).for_each(|place| vector(&format!("nothing {place}"), &mut negative));
        TextTable::new([tokens, width], values, negative)
    }

    /// Reads a table.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for a file without these tensors, of other shapes, or with values
    /// that are no numbers.
    pub fn open(path: impl AsRef<Path>) -> Result<TextTable> {
        let path = path.as_ref();
        let file = Checkpoint::open(path)?;
        let tensor = |name: &str| {
            file.get(name).ok_or_else(|| {
                let detail = format!("has no '{name}'; `mindreel prepare text-embeddings` makes such tables");
                Error::format(path, detail)
            })
        };
        let (embeddings, negative) = (tensor("embeddings")?, tensor("negative")?);
        let &[rows, tokens, width] = embeddings.shape else {
            let detail = format!("'embeddings' is {:?}, wanted [rows, tokens, width]", embeddings.shape);
            return Err(Error::format(path, detail));
        };
        if rows == 0 || tokens * width == 0 || !(rows == CLASSES || rows.is_multiple_of(BLOCK_CLIPS)) {
            let detail = format!(
                "'embeddings' has {rows} rows of [{tokens}, {width}], wanted {CLASSES} classes or {BLOCK_CLIPS} clips a block"
            );
            return Err(Error::format(path, detail));
        }
        if !matches!(*negative.shape, [t, w] | [1, t, w] if [t, w] == [tokens, width]) {
            let detail = format!("'negative' is {:?}, wanted [{tokens}, {width}]", negative.shape);
            return Err(Error::format(path, detail));
        }
        let (values, negative) = (weights::to_f32(&embeddings)?, weights::to_f32(&negative)?);
        if let Some(at) = values.iter().chain(&negative).position(|v| !v.is_finite()) {
            let detail = format!("row {} holds a value that is no number", at / (tokens * width));
            return Err(Error::format(path, detail));
        }
        TextTable::new([tokens, width], values, negative)
    }

    /// Writes it, `metadata` beside it.
    ///
    /// Errors: [`Error::Write`].
    pub fn write(&self, path: impl AsRef<Path>, metadata: &BTreeMap<String, String>) -> Result<()> {
        let [tokens, width] = [self.tokens, self.width];
        let tensors = vec![
            NewTensor::from_f32("embeddings", [self.n_rows(), tokens, width], &self.values),
            NewTensor::from_f32("negative", [tokens, width], &self.negative),
        ];
        weights::write(path, tensors, metadata)
    }

    /// Classes or clips.
    pub fn n_rows(&self) -> usize {
        self.values.len() / (self.tokens * self.width)
    }

    /// Whether rows are classes.
    pub fn is_by_class(&self) -> bool {
        self.n_rows() == CLASSES
    }

    /// `[tokens, width]` of a row.
    pub fn row(&self, at: usize) -> &[f32] {
        let size = self.tokens * self.width;
        &self.values[at * size..(at + 1) * size]
    }

    /// The row nearest to an embedding `[tokens, width]` by their cosine, for predictions are shorter than what they
    /// predict; of equals the first.
    pub fn nearest(&self, embedding: &[f32]) -> usize {
        let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
        let likeness = |row: &[f32]| dot(embedding, row) / dot(row, row).sqrt().max(f64::MIN_POSITIVE);
        let each: Vec<f64> = self.values.chunks_exact(self.tokens * self.width).map(likeness).collect();
        (0..each.len()).rev().max_by(|&a, &b| each[a].total_cmp(&each[b])).expect("a table has rows")
    }

    /// The row of a clip (200 · block + clip) that shows a class (from 0).
    ///
    /// Errors: [`Error::Shape`] for a clip beyond the table.
    pub fn row_of(&self, clip: usize, class: usize) -> Result<usize> {
        let row = if self.is_by_class() { class } else { clip };
        if row >= self.n_rows() {
            let detail =
                format!("the table has {} rows, clip {clip} of class {class} is not there", self.n_rows());
            return Err(Error::shape("text embeddings", detail));
        }
        Ok(row)
    }

    /// `[tokens, width]` of the empty text.
    pub fn negative(&self) -> &[f32] {
        &self.negative
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<String> {
        (0..40).map(|i| format!("{} {} Ball", ["slow", "fast"][i % 2], ["red", "hot-air"][i / 20])).collect()
    }

    #[test]
    fn words_have_vectors_of_their_own() {
        let table = TextTable::of_words(&texts(), 64, 3).unwrap();
        assert_eq!((table.tokens, table.n_rows(), table.is_by_class()), (5, 40, true));
        let token = |row: usize, at: usize| &table.row(row)[at * 64..][..64];
        assert_eq!(token(0, 0), token(22, 0), "slow");
        assert_eq!(token(0, 2), token(39, 3), "ball, wherever it stands");
        assert_eq!(token(0, 3), token(0, 4), "the end is repeated");
        let seen = [token(0, 0), token(1, 0), token(0, 1), token(0, 2), token(0, 3), &table.negative()[..64]];
        for (i, a) in seen.iter().enumerate() {
            let dot = |b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>() / 64.0;
            assert!((dot(a) - 1.0).abs() < 0.4, "{}", dot(a));
            assert!(seen[..i].iter().all(|b| dot(b).abs() < 0.5), "{i}");
        }
        assert_ne!(table.negative()[..64], table.negative()[64..128]);
        assert_eq!(table, TextTable::of_words(&texts(), 64, 3).unwrap());
        assert_ne!(table, TextTable::of_words(&texts(), 64, 4).unwrap());
        assert!(
            TextTable::of_words(&["...".to_string()], 8, 0).is_err()
                && TextTable::of_words(&[], 8, 0).is_err()
        );
        assert!(TextTable::of_words(&texts(), 0, 0).is_err());
    }

    #[test]
    fn the_nearest_text_is_found_from_a_short_and_noisy_prediction() {
        let table = TextTable::of_words(&texts(), 64, 3).unwrap();
        // Rows 0 and 1 differ in a word, 0 and 2 in none.
        for row in [0, 1, 20, 21] {
            let noisy = |(at, v): (usize, &f32)| 0.2 * (v + ((at * 37 % 11) as f32 - 5.0) * 0.2);
            let predicted: Vec<f32> = table.row(row).iter().enumerate().map(noisy).collect();
            assert_eq!(table.nearest(&predicted), row);
        }
        assert_eq!(table.nearest(table.row(38)), 20, "of equals the first");
        assert_eq!(table.nearest(&vec![0.0; 5 * 64]), 0);
    }

    #[test]
    fn what_is_written_is_read_and_the_rest_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let table = TextTable::of_words(&texts(), 8, 0).unwrap();
        table.write(&path, &BTreeMap::new()).unwrap();
        assert_eq!(TextTable::open(&path).unwrap(), table);
        assert_eq!(table.row_of(1399, 7).unwrap(), 7);
        let refused = |rows: usize, negative: &[usize], says: &str| {
            let values = vec![0.5; rows * 6];
            let empty = vec![0.5; negative.iter().product()];
            let tensors = vec![
                NewTensor::from_f32("embeddings", [rows, 2, 3], &values),
                NewTensor::from_f32("negative", negative, &empty),
            ];
            weights::write(&path, tensors, &BTreeMap::new()).unwrap();
            let error = TextTable::open(&path).unwrap_err();
            assert!(error.exit_code() == 3 && error.to_string().contains(says), "{error}");
        };
        refused(41, &[2, 3], "41 rows");
        refused(40, &[3, 2], "'negative' is [3, 2]");
        let by_clip = TextTable::new([1, 1], vec![0.0; 200], vec![0.0]).unwrap();
        assert_eq!(by_clip.row_of(150, 7).unwrap(), 150);
        assert!(by_clip.row_of(200, 7).is_err());
        weights::write(&path, vec![NewTensor::from_f32("a", [1], &[1.0])], &BTreeMap::new()).unwrap();
        assert!(TextTable::open(&path).unwrap_err().to_string().contains("text-embeddings"));
    }
}
