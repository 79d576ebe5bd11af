//! What the commands that run a whole journey share: the memory they may take, the folder they fill, run.json.

use crate::error::{Error, Result};
use crate::files;
use crate::gpu::{Class, Gpu};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Makes the folder and tries to write there now, not after an hour.
pub(super) fn make_output(output: &Path) -> Result<()> {
    files::make_folder(output)?;
    let probe = output.join(".write-test");
    files::write_text(&probe, "")?;
    std::fs::remove_file(&probe).map_err(Error::write(&probe))
}

/// Refuses files of these names in a folder, and a folder that is a file.
pub(super) fn refuse_there(
    output: &Path,
    names: impl IntoIterator<Item = String>,
    force: bool,
) -> Result<()> {
    if output.is_file() {
        return Err(Error::setting("--output", format!("'{}' is a file, wanted a folder", output.display())));
    }
    names.into_iter().try_for_each(|name| files::refuse_existing(&output.join(name), force))
}

/// On a software adapter the device's memory is the host's: more than is free cannot go well. `less` is what makes it less.
pub(super) fn refuse_what_cannot_fit(
    gpu: &Gpu,
    peak: u64,
    max_memory_gib: Option<f64>,
    less: &str,
) -> Result<()> {
    let limit = match max_memory_gib {
        Some(gib) if !(gib.is_finite() && gib > 0.0) => {
            return Err(Error::setting("--max-memory", "wanted GiB above 0"));
        }
        Some(gib) => (gib * (1_u64 << 30) as f64) as u64,
        None if gpu.facts().class == Class::Software => {
            // Where the system does not tell, nothing is refused.
            let Ok(mut system) = sysinfo::System::new() else { return Ok(()) };
            system.refresh_memory();
            match system.available_memory() {
                0 => return Ok(()),
                available => available,
            }
        }
        None => return Ok(()),
    };
    if peak <= limit {
        return Ok(());
    }
    Err(Error::Limit {
        what: "this run".into(),
        needed: peak,
        available_what: format!("memory that may be used ({less})"),
        available: limit,
    })
}

/// A word of a command line, as a shell takes it.
pub(super) fn quoted(text: &str) -> String {
    match text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./,+=:".contains(c)) {
        true if !text.is_empty() => text.to_string(),
        _ => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The command line of this process, as a shell takes it.
pub(super) fn command_line() -> String {
    let words = std::env::args_os().skip(1).map(|word| quoted(&word.to_string_lossy()));
    std::iter::once("mindreel".to_string()).chain(words).collect::<Vec<_>>().join(" ")
}

/// run.json: what was asked, what was made, where and how long it took.
pub(super) struct RunFile {
    path: Option<PathBuf>,
    pub(super) value: Value,
}

impl RunFile {
    /// In a folder, or nowhere. `value` is what the command has to say, beside what all say.
    pub(super) fn new(folder: Option<&Path>, gpu: &Gpu, value: Value) -> RunFile {
        let facts = gpu.facts();
        let mut all = json!({
            "program": "mindreel",
            "version": env!("CARGO_PKG_VERSION"),
            "command": command_line(),
            "adapter": {
                "name": facts.name, "driver": facts.driver, "backend": facts.backend,
                "class": format!("{:?}", facts.class).to_lowercase(),
            },
        });
        for (key, value) in value.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        RunFile { path: folder.map(|folder| folder.join("run.json")), value: all }
    }

    /// Adds to a list.
    pub(super) fn push(&mut self, list: &str, value: Value) {
        if !self.value[list].is_array() {
            self.value[list] = json!([]);
        }
        self.value[list].as_array_mut().into_iter().for_each(|list| list.push(value.clone()));
    }

    /// Writes it as it stands.
    pub(super) fn write(&mut self, seconds: f64, gpu: &Gpu) -> Result<()> {
        self.value["seconds"] = json!(seconds);
        self.value["peak_bytes"] = json!(gpu.memory().peak_reserved);
        let Some(path) = &self.path else { return Ok(()) };
        files::write_json(path, &self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("a/b-c.npy"), "a/b-c.npy");
        assert_eq!(quoted("a red car"), "'a red car'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
