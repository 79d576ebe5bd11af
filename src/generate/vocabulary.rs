//! Whether a tokenizer and a model's table of embeddings belong together.

use crate::error::{Error, Result};
use std::path::Path;

/// Rows of a table that may stand for nothing: published tables are filled up to round numbers.
const SPARE: usize = 1024;

/// Refuses a tokenizer of more tokens than the table has rows, or of far fewer.
///
/// Errors: [`Error::Format`] naming the tokenizer's folder.
pub(super) fn check(tokenizer: &Path, tokens: usize, model: &str, rows: usize) -> Result<()> {
    if tokens <= rows && rows < tokens + SPARE {
        return Ok(());
    }
    let detail =
        format!("a tokenizer of {tokens} tokens, {model} has embeddings for {rows}; is it another model's?");
    Err(Error::format(tokenizer, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_tables_have_spare_rows_and_no_more() {
        let check = |tokens, rows| check(Path::new("tokenizer"), tokens, "the language model", rows);
        for (tokens, rows) in [(50_265, 50_272), (50_266, 50_304), (49_408, 49_408)] {
            assert!(check(tokens, rows).is_ok());
        }
        for (tokens, rows) in [(50_266, 50_265), (512, 50_304)] {
            let text = check(tokens, rows).unwrap_err().to_string();
            assert!(text.contains(&tokens.to_string()) && text.contains(&rows.to_string()), "{text}");
        }
    }
}
