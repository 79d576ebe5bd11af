//! The one `Error` and the one `Result`, grouped by what the reader can do about it.
//!
//! A message reads *place: what happened, wanted and got; next step*: lower case, no full stop,
//! names from outside in quotes.

use std::path::{Path, PathBuf};

/// What every fallible function of the crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, by what can be done about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// What was opened.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file was read and its content is wrong.
    #[error("{}: {detail}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where in it, wanted, got, next step.
        detail: String,
    },
    /// A checkpoint does not fit the model.
    #[error("{}: {detail}", path.display())]
    Weights {
        /// The checkpoint file or folder.
        path: PathBuf,
        /// Tensor names, both shapes, the nearest name.
        detail: String,
    },
    /// A tensor has the wrong shape for an op or model.
    #[error("{op}: {detail}")]
    Shape {
        /// The op or model, by the name its user typed.
        op: String,
        /// Wanted and got.
        detail: String,
    },
    /// A tensor has the wrong number type.
    #[error("{op}: {detail}")]
    DType {
        /// The op or model.
        op: String,
        /// Wanted and got.
        detail: String,
    },
    /// An option is out of range.
    #[error("{name}: {detail}")]
    Setting {
        /// The option as the user types it.
        name: String,
        /// What is allowed, what was given.
        detail: String,
    },
    /// Too large for this device; said before anything is allocated.
    #[error("{what}: needs {}, {available_what} is {}", bytes(*needed), bytes(*available))]
    Limit {
        /// What was to be made.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Name of the limit, with the next step where there is one.
        available_what: String,
        /// Bytes available.
        available: u64,
    },
    /// No adapter, a lost device, a refused shader.
    #[error("gpu: {0}")]
    Device(String),
    /// A benchmark came out slower than the one it was held against.
    #[error("{0}")]
    Slower(String),
    /// A command that this one ran has said what is wrong, and ended with this code.
    #[error("a stage ended with {0}")]
    Told(u8),
    /// Stopped by the user; what was finished is on disk.
    #[error("stopped: {0}")]
    Interrupted(String),
}

impl Error {
    /// Exit code of the command line: 1 slower than before (`bench --compare` alone), 2 wrong call or setting, 3 bad input, 4 GPU, 5 disk, 130 stopped.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Slower(_) => 1,
            Error::Setting { .. } => 2,
            Error::Read { .. }
            | Error::Format { .. }
            | Error::Weights { .. }
            | Error::Shape { .. }
            | Error::DType { .. } => 3,
            Error::Limit { .. } | Error::Device(_) => 4,
            Error::Write { .. } => 5,
            Error::Told(code) => *code,
            Error::Interrupted(_) => 130,
        }
    }

    /// For `map_err` on reads: `fs::read(p).map_err(Error::read(p))`.
    pub fn read(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Read { path, source }
    }

    /// For `map_err` on writes.
    pub fn write(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Write { path, source }
    }

    /// A file whose content is wrong.
    pub fn format(path: impl AsRef<Path>, detail: impl Into<String>) -> Error {
        Error::Format { path: path.as_ref().to_path_buf(), detail: detail.into() }
    }

    /// A checkpoint that does not fit its model.
    pub fn weights(path: impl AsRef<Path>, detail: impl Into<String>) -> Error {
        Error::Weights { path: path.as_ref().to_path_buf(), detail: detail.into() }
    }

    /// A tensor of the wrong shape.
    pub fn shape(op: impl Into<String>, detail: impl Into<String>) -> Error {
        Error::Shape { op: op.into(), detail: detail.into() }
    }

    /// A tensor of the wrong number type.
    pub fn dtype(op: impl Into<String>, detail: impl Into<String>) -> Error {
        Error::DType { op: op.into(), detail: detail.into() }
    }

    /// An option out of range.
    pub fn setting(name: impl Into<String>, detail: impl Into<String>) -> Error {
        Error::Setting { name: name.into(), detail: detail.into() }
    }
}

/// Bytes as people read them: `812 B`, `3.4 MiB`, `1.8 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// The candidate nearest to `name` by edit distance, when it is near enough to be a slip of the pen.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (edit_distance(name, c), c))
        .min()
        .filter(|(d, c)| *d <= name.len().max(c.len()) / 3)
        .map(|(_, c)| c)
}

/// `'unte' is none of vae, unet; did you mean 'unet'?`: of a name that is not among the known ones.
pub fn none_of<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = nearest(name, known.iter().copied()).map(|near| format!("; did you mean '{near}'?"));
    format!("'{}' is none of {}{}", name.escape_debug(), known.join(", "), near.unwrap_or_default())
}

/// Edits from one name to the other, in bytes: one put in, left out or changed, or two neighbours swapped.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names_a_slip_and_not_a_stranger() {
        let names = ["conv_in.weight", "conv_out.weight"];
        assert_eq!(nearest("conv_ni.weight", names), Some("conv_in.weight"));
        assert_eq!(nearest("tokenizer", names), None);
        assert_eq!(nearest("unte", ["vae", "unet"]), Some("unet"));
        assert_eq!(none_of("unte", ["vae", "unet"]), "'unte' is none of vae, unet; did you mean 'unet'?");
        assert_eq!(none_of("a\nb", ["vae", "unet"]), "'a\\nb' is none of vae, unet");
        let distances = ["", "unet", "net", "nuet", "units", "tenu"].map(|name| edit_distance("unet", name));
        assert_eq!(distances, [4, 0, 1, 1, 2, 3]);
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(bytes(812), "812 B");
        assert_eq!(bytes(134_217_728), "128.0 MiB");
    }
}
