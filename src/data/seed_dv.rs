//! SEED-DV as a folder: recordings per subject, labels per clip.
//!
//! ```text
//! DIR/EEG/sub1.npy [7, 62, 104000]      or DIR/Segmented_Rawf_200Hz_2s/sub1.npy [7, 40, 5, 62, 400], or in DIR itself
//! DIR/meta_info/All_video_label.npy [7, 40] and its neighbours [7, 200]
//! ```
//!
//! Clips are counted in the order of presentation: block, slot, clip of the slot. Names and codes of the arrays are the
//! data set's own, "apperance" included.

use crate::error::{Error, Result};
use crate::files;
use crate::signal::recording::BLOCK_SAMPLES;
pub use crate::signal::seed_dv::Task;
use crate::signal::seed_dv::{self, BLOCK_CLIPS};
use crate::signal::segments::{CLIPS, SLOTS};
use crate::signal::{Cut, Options, Recordings, Segments, Units, npy};
use std::path::{Path, PathBuf};

/// Folders that recordings are looked for in, best first; `.` is the folder itself.
const EEG_FOLDERS: [&str; 4] = ["Segmented_Rawf_200Hz_2s", "EEG", "Rawf_200Hz", "."];

/// Most bytes of a file of captions.
const MAX_CAPTIONS_BYTES: u64 = 4 << 20;

/// A folder in SEED-DV's layout.
pub struct SeedDv {
    folder: PathBuf,
    /// Name and file, in the order of their numbers.
    subjects: Vec<(String, PathBuf)>,
    units: Units,
}

impl SeedDv {
    /// Looks for recordings; reads none yet.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] when no `sub*.npy` is there.
    pub fn open(folder: impl AsRef<Path>, units: Units) -> Result<SeedDv> {
        let folder = folder.as_ref().to_path_buf();
        std::fs::read_dir(&folder).map_err(Error::read(&folder))?;
        for place in EEG_FOLDERS {
            let place = if place == "." { folder.clone() } else { folder.join(place) };
            let subjects = recordings_in(&place)?;
            if !subjects.is_empty() {
                return Ok(SeedDv { folder, subjects, units });
            }
        }
        let places = EEG_FOLDERS.join(", ");
        let detail = format!(
            "holds no sub1.npy .. in {places}; `mindreel prepare simulate` makes a data set to try with"
        );
        Err(Error::format(&folder, detail))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of the subjects: `sub1`, `sub2`, …
    pub fn subjects(&self) -> impl Iterator<Item = &str> {
        self.subjects.iter().map(|(name, _)| name.as_str())
    }

    /// Clips of a subject in the order of presentation, volts.
    ///
    /// Errors: [`Error::Setting`] for an unknown subject; those of [`Recordings::load`] and
    /// [`Recordings::segments`]; [`Error::Format`] for a file that is neither blocks nor clips.
    pub fn clips(&self, subject: &str) -> Result<Segments> {
        self.n_clips(subject)?;
        let options = Options { units: self.units, wanted: None, ..Options::seed_dv() };
        Recordings::load(self.path(subject)?, &options)?.segments(Cut::CLIPS)
    }

    /// Clips of a subject by the shape of its file, without reading the samples.
    ///
    /// Errors: as [`SeedDv::clips`].
    pub fn n_clips(&self, subject: &str) -> Result<usize> {
        let path = self.path(subject)?;
        let shape = npy::describe(path, None)?.shape;
        match shape[..] {
            [blocks, _, BLOCK_SAMPLES] | [blocks, SLOTS, CLIPS, _, _] => Ok(blocks * BLOCK_CLIPS),
            _ => {
                let detail = format!(
                    "is {shape:?}, wanted blocks [n, channels, {BLOCK_SAMPLES}] or clips [n, {SLOTS}, {CLIPS}, channels, samples]"
                );
                Err(Error::format(path, detail))
            }
        }
    }

    fn path(&self, subject: &str) -> Result<&Path> {
        let found = self.subjects.iter().find(|(name, _)| name == subject);
        found.map(|(_, path)| path.as_path()).ok_or_else(|| {
            let names = self.subjects().collect::<Vec<_>>().join(", ");
            Error::setting("subjects", format!("'{}' is none of {names}", subject.escape_debug()))
        })
    }

    /// Optical flow of each clip of `n_blocks` blocks, in the order of presentation.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for another shape, or values that are no flow.
    pub fn flows(&self, n_blocks: usize) -> Result<Vec<f64>> {
        let path = self.folder.join("meta_info").join(Task::FastSlow.file());
        if !path.exists() {
            let detail = "is not there; `mindreel prepare meta --flow-from` makes it from the clips";
            return Err(Error::format(&path, detail));
        }
        let array = npy::read::<f64>(&path, None)?;
        if array.shape != [n_blocks, BLOCK_CLIPS] {
            let detail = format!("is {:?}, wanted [{n_blocks}, {BLOCK_CLIPS}]", array.shape);
            return Err(Error::format(&path, detail));
        }
        if let Some(at) = array.data.iter().position(|v| !(v.is_finite() && *v >= 0.0)) {
            let (block, clip) = (at / BLOCK_CLIPS, at % BLOCK_CLIPS);
            return Err(Error::format(
                &path,
                format!("holds {} at [{block}, {clip}], wanted 0 or more", array.data[at]),
            ));
        }
        Ok(array.data)
    }

    /// Names of the 40 classes: `class_names.txt`, or SEED-DV's own.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for other than 40 names.
    pub fn class_names(&self) -> Result<Vec<String>> {
        seed_dv::class_names_of(&self.folder.join("meta_info"))
    }

    /// The caption of each clip of `n_blocks` blocks, in the order of presentation: `BLIP-caption/1st_10min.txt`, ….
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for a file of other than 200 lines, or an empty one among them.
    pub fn captions(&self, n_blocks: usize) -> Result<Vec<String>> {
        let mut captions = Vec::with_capacity(n_blocks * BLOCK_CLIPS);
        for block in 0..n_blocks {
            let path = self.folder.join(format!("BLIP-caption/{}.txt", seed_dv::block_stem(block)));
            let text = String::from_utf8(files::read_small(&path, MAX_CAPTIONS_BYTES)?)
                .map_err(|_| Error::format(&path, "is not UTF-8 text"))?;
            let lines: Vec<&str> = text.trim_end().lines().map(str::trim).collect();
            if lines.len() != BLOCK_CLIPS {
                let detail =
                    format!("holds {} captions, wanted {BLOCK_CLIPS}, one for each clip", lines.len());
                return Err(Error::format(&path, detail));
            }
            if let Some(at) = lines.iter().position(|line| line.is_empty()) {
                return Err(Error::format(&path, format!("line {} is empty", at + 1)));
            }
            captions.extend(lines.into_iter().map(str::to_string));
        }
        Ok(captions)
    }

    /// Blocks of a recording of this many clips.
    pub fn n_blocks(n_clips: usize) -> usize {
        n_clips / BLOCK_CLIPS
    }

    /// The class of each clip of `n_blocks` blocks, in the order of presentation; `None` where the task leaves a clip
    /// out.
    ///
    /// Errors: [`Error::Read`] for a missing array; [`Error::Format`] for another shape or a label out of range.
    pub fn labels(&self, task: Task, n_blocks: usize) -> Result<Vec<Option<usize>>> {
        let path = self.folder.join("meta_info").join(task.file());
        let array = npy::read::<f64>(&path, None)?;
        let per_slot = array.shape == [n_blocks, SLOTS];
        if !per_slot && array.shape != [n_blocks, BLOCK_CLIPS] {
            let detail = format!(
                "is {:?}, the recording has {n_blocks} blocks; wanted [{n_blocks}, {SLOTS}] or \
                 [{n_blocks}, {BLOCK_CLIPS}], a label for each slot or clip",
                array.shape
            );
            return Err(Error::format(&path, detail));
        }
        let repeat = if per_slot { CLIPS } else { 1 };
        let fast_from = seed_dv::fast_from_of(&self.folder.join("meta_info"))?;
        let mut labels = Vec::with_capacity(n_blocks * BLOCK_CLIPS);
        for (at, &value) in array.data.iter().enumerate() {
            let class = task.class_from(value, fast_from).ok_or_else(|| {
                let (block, place) = (at / array.shape[1], at % array.shape[1]);
                let detail = format!("holds {value} at [{block}, {place}], wanted {}", task.wanted());
                Error::format(&path, detail)
            })?;
            labels.extend(std::iter::repeat_n(class, repeat));
        }
        Ok(labels)
    }
}

/// `sub*.npy` of a folder, by number, then name; none where there is no such folder.
fn recordings_in(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let path = entry.map_err(Error::read(folder))?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_string();
        if name.starts_with("sub") && path.extension().is_some_and(|ending| ending == "npy") {
            found.push((name, path));
        }
    }
    let number = |name: &str| {
        name.trim_start_matches("sub")
            .chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse::<u64>()
    };
    found.sort_by_key(|(name, _)| (number(name).unwrap_or(u64::MAX), name.clone()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(shape: &[usize], labels: &[f64]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let meta = folder.path().join("meta_info");
        std::fs::create_dir(&meta).unwrap();
        npy::write(meta.join("All_video_label.npy"), shape, labels).unwrap();
        let clips: Vec<f32> = (0..200 * 2 * 400).map(|i| ((i * 37 % 101) as f32 - 50.0) * 1e-6).collect();
        npy::write(folder.path().join("sub10.npy"), &[1, 40, 5, 2, 400], &clips).unwrap();
        npy::write(folder.path().join("sub2.npy"), &[1, 40, 5, 2, 400], &clips).unwrap();
        folder
    }

    #[test]
    fn a_folder_is_read() {
        let labels: Vec<f64> = (1..=40).map(f64::from).collect();
        let folder = folder(&[1, 40], &labels);
        let data = SeedDv::open(folder.path(), Units::Volts).unwrap();
        assert_eq!(data.subjects().collect::<Vec<_>>(), ["sub2", "sub10"]);
        let clips = data.clips("sub10").unwrap();
        assert_eq!((clips.n, clips.n_channels, clips.n_samples), (200, 2, 400));
        let labels = data.labels(Task::Concept, 1).unwrap();
        assert_eq!((labels.len(), labels[4], labels[5]), (200, Some(0), Some(1)));
        assert_eq!(data.clips("sub3").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn mistakes_are_named() {
        let mut labels: Vec<f64> = (1..=40).map(f64::from).collect();
        labels[7] = 41.0;
        let wrong = folder(&[1, 40], &labels);
        let data = SeedDv::open(wrong.path(), Units::Volts).unwrap();
        let error = data.labels(Task::Concept, 1).unwrap_err().to_string();
        assert!(error.contains("41 at [0, 7]") && error.contains("classes 1 to 40"), "{error}");
        assert!(data.labels(Task::Concept, 2).is_err(), "another number of blocks");
        assert!(data.labels(Task::Face, 1).is_err(), "no such array");
        let empty = tempfile::tempdir().unwrap();
        let Err(error) = SeedDv::open(empty.path(), Units::Volts) else { panic!("nothing there") };
        assert!(error.to_string().contains("prepare simulate"), "{error}");
    }
}
