//! What is known of a device beyond its facts: a table of measured choices, and what became of its matrix units.
//!
//! A table is JSON: the adapter, a mark of the kernels it was measured with, and a choice per shape, in words only the
//! kernels' own room reads. It comes from the file that [`super::Options::tuning`] names, else from the user's cache,
//! where `mindreel bench tune` puts it, else from those that are part of the program.

use super::Gpu;
use super::adapter::Facts;
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

/// Tables that are part of the program.
const SHIPPED: &[&str] = &[include_str!("../../tuning/llvmpipe.json")];
/// Bytes of the largest table that is read.
const MAX_BYTES: u64 = 4 << 20;

/// Measured choices of one adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// Backend and name of the adapter, see [`Tuning::adapter_of`].
    pub adapter: String,
    /// Driver it was measured with, for readers.
    #[serde(default)]
    pub driver: String,
    /// Mark of the kernels it was measured with: a table of others is not used.
    #[serde(default)]
    pub kernels: String,
    /// Shape and types of a product, and what runs it best.
    pub choices: BTreeMap<String, String>,
}

impl Tuning {
    /// What a table calls an adapter.
    pub fn adapter_of(facts: &Facts) -> String {
        format!("{} {}", facts.backend, facts.name)
    }

    /// Where a table of this adapter is kept for the user: `mindreel/tuning` in the cache folder. `None` where the
    /// system names no such folder.
    pub fn path(facts: &Facts) -> Option<PathBuf> {
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = folder("XDG_CACHE_HOME")
            .or_else(|| folder("LOCALAPPDATA"))
            .or_else(|| folder("HOME").map(|home| home.join(".cache")))?;
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = Tuning::adapter_of(facts).chars().map(plain).collect();
        Some(cache.join("mindreel/tuning").join(format!("{name}.json")))
    }

    /// Reads a table.
    ///
    /// Errors: [`Error::Read`], [`Error::Format`].
    pub fn read(path: impl AsRef<Path>) -> Result<Tuning> {
        let path = path.as_ref();
        let bytes = files::read_small(path, MAX_BYTES)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::format(path, format!("not a table of measured choices: {error}")))
    }

    /// Writes it.
    ///
    /// Errors: [`Error::Write`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        files::write_json(path, self)
    }

    /// The user's own table, unless it is of another adapter or driver, or broken: then it is as if there were none.
    fn kept(facts: &Facts) -> Option<Tuning> {
        let table = Tuning::read(Tuning::path(facts)?).ok()?;
        (table.adapter == Tuning::adapter_of(facts) && table.driver == facts.driver).then_some(table)
    }

    fn shipped(facts: &Facts) -> Option<Tuning> {
        let tables = SHIPPED.iter().filter_map(|text| serde_json::from_str::<Tuning>(text).ok());
        tables.into_iter().find(|table| Tuning::adapter_of(facts).contains(&table.adapter))
    }
}

/// What became of an adapter's matrix units when they were tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Right, and faster than without, through workgroup memory.
    pub staged: bool,
    /// The same by loads from buffers alone.
    pub direct: bool,
    /// What was found, in a line.
    pub note: String,
}

/// Shared by a device and its planners.
#[derive(Default)]
pub(super) struct Known {
    tuning: RwLock<Option<Arc<Tuning>>>,
    trial: OnceLock<Trial>,
    /// A trial has begun.
    is_tried: AtomicBool,
}

impl Gpu {
    /// Takes these choices from here on.
    ///
    /// Errors: [`Error::Setting`] when they were measured on another adapter.
    pub fn set_tuning(&self, tuning: Tuning) -> Result<()> {
        let own = Tuning::adapter_of(self.facts());
        if tuning.adapter != own {
            let detail = format!("measured on '{}', this is '{own}'", tuning.adapter);
            return Err(Error::setting("tuning", detail));
        }
        *self.known().tuning.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(tuning.into());
        Ok(())
    }

    /// The table in use, where there is one.
    pub fn tuning(&self) -> Option<Arc<Tuning>> {
        self.known().tuning.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Loads the table that the options name, or one this user measured with this driver, or one that is part of the
    /// program.
    pub(super) fn load_tuning(&self, path: Option<&Path>) -> Result<()> {
        match path {
            Some(path) => self.set_tuning(Tuning::read(path)?),
            None => {
                let known = Tuning::kept(self.facts()).or_else(|| Tuning::shipped(self.facts()));
                let known = known.filter(|table| !table.choices.is_empty());
                *self.known().tuning.write().unwrap_or_else(|poisoned| poisoned.into_inner()) =
                    known.map(Arc::new);
                Ok(())
            }
        }
    }

    /// What the trial of the matrix units found. `run` is called once per device, when it is first asked; `None` from
    /// within it, and while a capture is under way that would have to wait for values.
    pub fn matrix_trial(&self, run: impl FnOnce() -> Trial) -> Option<&Trial> {
        let known = self.known();
        if known.trial.get().is_none() {
            if self.state().captures.is_taking() || known.is_tried.swap(true, Ordering::AcqRel) {
                return None;
            }
            let found = run();
            return Some(known.trial.get_or_init(|| found));
        }
        known.trial.get()
    }

    /// What the trial found, where there was one.
    pub fn matrix_tried(&self) -> Option<&Trial> {
        self.known().trial.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_come_back_and_strangers_are_refused() {
        let gpu = Gpu::plan();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/table.json");
        let adapter = Tuning::adapter_of(gpu.facts());
        let choices = BTreeMap::from([("gemm m64".to_string(), "tiled".to_string())]);
        let table = Tuning { adapter, driver: "x".into(), kernels: "1".into(), choices };
        table.write(&path).unwrap();
        assert_eq!(Tuning::read(&path).unwrap(), table);
        gpu.load_tuning(Some(&path)).unwrap();
        assert_eq!(gpu.planner().tuning().as_deref(), Some(&table), "a planner knows what its device knows");
        let other = Tuning { adapter: "vulkan other".into(), ..table };
        assert_eq!(gpu.set_tuning(other).expect_err("refused").exit_code(), 2);
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(Tuning::read(&path).expect_err("refused").exit_code(), 3);
    }

    #[test]
    fn shipped_tables_are_whole() {
        for text in SHIPPED {
            let table: Tuning = serde_json::from_str(text).unwrap();
            assert!(!table.adapter.is_empty());
        }
    }

    #[test]
    fn the_cache_has_a_file_per_adapter() {
        if let Some(path) = Tuning::path(Gpu::plan().facts()) {
            assert!(path.ends_with("mindreel/tuning/-plan.json"), "{}", path.display());
        }
    }
}
