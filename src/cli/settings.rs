//! A settings file: TOML with the names of a command's flags. Flags on the command line win.

use crate::error::{Error, Result, nearest};
use crate::files;
use std::path::{Path, PathBuf};

/// No settings file is longer than this.
const LIMIT_BYTES: u64 = 1 << 20;

/// Settings by name; empty where no file was given.
#[derive(Default)]
pub(super) struct SettingsFile {
    path: PathBuf,
    values: toml::Table,
}

impl SettingsFile {
    /// Reads the file; `known` are the names a command takes.
    ///
    /// Errors: [`Error::Read`], [`Error::Format`] for broken TOML; [`Error::Setting`] for an unknown name, with the
    /// nearest known one.
    pub(super) fn open(path: Option<&Path>, known: &[&str]) -> Result<SettingsFile> {
        let Some(path) = path else { return Ok(SettingsFile::default()) };
        let bytes = files::read_small(path, LIMIT_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::format(path, "is not UTF-8 text"))?;
        let values: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            Error::format(path, format!("is not valid TOML: {}", error.message()))
        })?;
        let mut table = toml::Table::new();
        for (name, value) in values {
            let name = name.replace('_', "-");
            if !known.contains(&name.as_str()) {
                let near = nearest(&name, known.iter().copied());
                let next = near.map_or_else(
                    || format!("known: {}", known.join(", ")),
                    |n| format!("did you mean '{n}'?"),
                );
                let place = path.display().to_string();
                return Err(Error::setting(
                    place,
                    format!("unknown setting '{}'; {next}", name.escape_debug()),
                ));
            }
            table.insert(name, value);
        }
        Ok(SettingsFile { path: path.to_path_buf(), values: table })
    }

    /// A count.
    pub(super) fn count(&self, name: &str) -> Result<Option<u64>> {
        self.read(name, "a whole number", |v| v.as_integer().and_then(|n| u64::try_from(n).ok()))
    }

    /// A size.
    pub(super) fn size(&self, name: &str) -> Result<Option<usize>> {
        Ok(self.count(name)?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>> {
        self.read(name, "a number", |v| v.as_float().or(v.as_integer().map(|n| n as f64)))
    }

    /// A word.
    pub(super) fn word(&self, name: &str) -> Result<Option<String>> {
        self.read(name, "a text", |v| v.as_str().map(str::to_string))
    }

    /// Several words, or one.
    pub(super) fn words(&self, name: &str) -> Result<Option<Vec<String>>> {
        self.read(name, "a text or more", |v| match v {
            toml::Value::Array(list) if list.is_empty() => None,
            toml::Value::Array(list) => list.iter().map(|v| v.as_str().map(str::to_string)).collect(),
            one => one.as_str().map(|word| vec![word.to_string()]),
        })
    }

    /// Several counts, or one.
    pub(super) fn counts(&self, name: &str) -> Result<Option<Vec<u64>>> {
        let count = |v: &toml::Value| v.as_integer().and_then(|n| u64::try_from(n).ok());
        self.read(name, "a whole number or more", |v| match v {
            toml::Value::Array(list) if list.is_empty() => None,
            toml::Value::Array(list) => list.iter().map(count).collect(),
            one => count(one).map(|n| vec![n]),
        })
    }

    /// A switch, off where nothing is said.
    pub(super) fn switch(&self, name: &str) -> Result<bool> {
        Ok(self.read(name, "true or false", toml::Value::as_bool)?.unwrap_or(false))
    }

    fn read<T>(
        &self,
        name: &str,
        wanted: &str,
        get: impl Fn(&toml::Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let wrong = || {
            Error::setting(self.path.display().to_string(), format!("'{name}' wants {wanted}, got {value}"))
        };
        get(value).map(Some).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<SettingsFile> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        SettingsFile::open(Some(file.path()), &["num-inference-steps", "eta", "half"])
    }

    #[test]
    fn names_are_known_and_kinds_are_checked() {
        let settings = open("num_inference_steps = 12\neta = 1\nhalf = true").unwrap();
        assert_eq!(settings.size("num-inference-steps").unwrap(), Some(12));
        assert_eq!(settings.number("eta").unwrap(), Some(1.0));
        assert!(settings.switch("half").unwrap());
        let text = open("num_inference_step = 12").err().expect("refused").to_string();
        assert!(text.contains("did you mean 'num-inference-steps'?"), "{text}");
        assert!(open("eta = \"much\"").unwrap().number("eta").is_err());
        assert!(open("eta = ").is_err());
    }
}
