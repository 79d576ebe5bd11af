//! One file or a folder of them, and where each result goes.
//!
//! The headers of all files are judged before the first is read, so that a wrong shape is told at once and not in the
//! middle of the night. In a folder, results of the right shape count as finished and are skipped; `prepared.json` beside
//! them says what they were made with, and what another call made is not taken for this one's.

use super::super::progress::Progress;
use super::super::{Shell, stop};
use crate::error::{Error, Result};
use crate::files;
use crate::signal::npy;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Beside the results of a folder: what they were made with.
const SETTINGS: &str = "prepared.json";
/// No such file is longer.
const SETTINGS_BYTES: u64 = 1 << 20;

/// Flags of every command that takes arrays of EEG.
#[derive(clap::Args)]
pub(super) struct Eeg {
    /// Array [..., channels, samples] (.npy or .npz), or a folder: every .npy in it
    #[arg(long, value_name = "FILE|DIR")]
    pub(super) eeg: PathBuf,

    /// Which array of an .npz
    #[arg(long, value_name = "NAME")]
    pub(super) array: Option<String>,

    /// Replace what is there; without it finished files of a folder are skipped
    #[arg(long)]
    pub(super) force: bool,
}

/// What to make of which files.
pub(super) struct Batch<'a> {
    pub(super) shell: &'a Shell,
    /// Raised by Ctrl-C.
    pub(super) stopped: &'a AtomicBool,
    /// Of the progress.
    pub(super) label: &'static str,
    pub(super) eeg: &'a Eeg,
    /// Flag and value; a file where `eeg` is a file, a folder where it is a folder.
    pub(super) outputs: &'a [(&'static str, &'a Path)],
    /// What decides the numbers of a result, beside the recording.
    pub(super) settings: Value,
}

/// One file and its results.
pub(super) struct Job<'a> {
    pub(super) input: PathBuf,
    /// As many as [`Batch::outputs`].
    pub(super) outputs: Vec<PathBuf>,
    /// Which array of an `.npz`.
    pub(super) array: Option<&'a str>,
    shape: Vec<usize>,
    made: Vec<usize>,
    /// Whether the numbers need f64.
    is_double: bool,
    is_finished: bool,
}

impl Job<'_> {
    /// Whether the file holds numbers that f32 cannot.
    pub(super) fn is_double(&self) -> bool {
        self.is_double
    }

    /// The shape of the file's array.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }
}

/// Runs a function generic over the number type of the job's file.
macro_rules! in_own_type {
    ($job:expr, $work:ident ( $($argument:expr),* )) => {
        if $job.is_double() { $work::<f64>($($argument),*) } else { $work::<f32>($($argument),*) }
    };
}
pub(super) use in_own_type;

impl<'a> Batch<'a> {
    /// `shape` tells a result's shape from its file's, or what is wrong with the file; `work` makes the results of one
    /// file. Prints what was made.
    ///
    /// Errors: [`Error::Setting`] for outputs that are no `.npy`, that are what is read, and for a folder with results of
    /// other settings; [`Error::Write`] for one that is there;
    /// [`Error::Format`] for an empty folder or a wrong shape; [`Error::Interrupted`] between two files; whatever
    /// `work` returns.
    pub(super) fn run(
        &self,
        shape: impl Fn(&[usize]) -> Result<Vec<usize>, String>,
        work: impl Fn(&Job) -> Result<()>,
    ) -> Result<()> {
        let jobs = self.jobs(&shape)?;
        let n_open = jobs.iter().filter(|job| !job.is_finished).count();
        if self.eeg.eeg.is_dir() && n_open > 0 {
            self.claim(&jobs)?;
        }
        let mut progress = Progress::new(self.shell.quiet, self.label, n_open as u64);
        let (mut lines, mut told) = (Vec::new(), Vec::new());
        let mut n_done = 0;
        for job in &jobs {
            if !job.is_finished {
                let kept = format!("{n_done} of {n_open} files are finished and kept; the same call goes on");
                stop::check(self.stopped, &kept)?;
                work(job)?;
                n_done += 1;
                progress.set(n_done);
            }
            lines.push(job.line());
            told.push(job.json());
        }
        progress.finish();
        let json = if self.eeg.eeg.is_dir() { Value::Array(told) } else { told.swap_remove(0) };
        self.shell.print(&lines.join("\n"), &json)
    }

    fn jobs(&self, shape: &impl Fn(&[usize]) -> Result<Vec<usize>, String>) -> Result<Vec<Job<'a>>> {
        let eeg = &self.eeg.eeg;
        let is_folder = eeg.is_dir();
        let inputs = if is_folder { arrays_in(eeg)? } else { vec![eeg.clone()] };
        for (flag, output) in self.outputs {
            if same_place(output, eeg) {
                let what = if is_folder { "folder" } else { "file" };
                return Err(Error::setting(*flag, format!("is the {what} that is read; give another one")));
            }
            match is_folder {
                true if output.is_file() => {
                    let detail =
                        format!("'{}' is a file; for a folder of recordings give a folder", output.display());
                    return Err(Error::setting(*flag, detail));
                }
                true if !self.eeg.force && self.is_of_others(output)? => {
                    let detail = format!(
                        "'{}' holds results of other settings ({SETTINGS} tells them); give another folder, or --force to \
                         make them anew",
                        output.display()
                    );
                    return Err(Error::setting(*flag, detail));
                }
                true => {}
                false => {
                    refuse_other_than_npy(flag, output)?;
                    files::refuse_existing(output, self.eeg.force)?;
                }
            }
        }
        if let [(flag, one), (_, other)] = self.outputs
            && same_place(one, other)
        {
            return Err(Error::setting(*flag, "both results would go to the same place; give two names"));
        }
        inputs.into_iter().map(|input| self.job(input, is_folder, shape)).collect()
    }

    /// What lies beside the results of this call in a folder.
    fn settings(&self) -> String {
        format!("{:#}\n", json!({ "made": self.label, "settings": self.settings }))
    }

    /// Whether a folder says that its results are of other settings than this call's.
    fn is_of_others(&self, folder: &Path) -> Result<bool> {
        let path = folder.join(SETTINGS);
        Ok(path.exists() && files::read_small(&path, SETTINGS_BYTES)? != self.settings().as_bytes())
    }

    /// Says in the folders what is made in them. What other settings left goes first: a call that is stopped would leave
    /// it among its own.
    fn claim(&self, jobs: &[Job]) -> Result<()> {
        for (at, (_, folder)) in self.outputs.iter().enumerate() {
            if self.is_of_others(folder)? {
                for old in jobs.iter().map(|job| &job.outputs[at]).filter(|path| path.exists()) {
                    std::fs::remove_file(old).map_err(Error::write(old))?;
                }
            }
            files::write_text(folder.join(SETTINGS), &self.settings())?;
        }
        Ok(())
    }

    fn job(
        &self,
        input: PathBuf,
        is_folder: bool,
        shape: &impl Fn(&[usize]) -> Result<Vec<usize>, String>,
    ) -> Result<Job<'a>> {
        let entry = npy::describe(&input, self.eeg.array.as_deref()).map_err(|error| match error {
            Error::Format { path, detail } if detail.ends_with(npy::NAME_ONE) => {
                Error::format(path, detail + " with --array")
            }
            other => other,
        })?;
        let made = shape(&entry.shape).map_err(|detail| Error::format(&input, detail))?;
        let name = input.file_name().unwrap_or_default();
        let output = |folder: &Path| if is_folder { folder.join(name) } else { folder.to_path_buf() };
        let outputs: Vec<PathBuf> = self.outputs.iter().map(|(_, path)| output(path)).collect();
        let mut n_finished = 0;
        if is_folder && !self.eeg.force {
            for output in outputs.iter().filter(|output| output.exists()) {
                let there = npy::describe(output, None)?;
                if there.shape != made {
                    let detail = format!(
                        "has shape {:?}, this call makes {made:?}; remove it, or give --force to replace it",
                        there.shape
                    );
                    return Err(Error::format(output, detail));
                }
                n_finished += 1;
            }
        }
        let is_double =
            !["f4", "f2", "i1", "u1", "i2", "u2", "b1"].iter().any(|kind| entry.dtype.ends_with(kind));
        let is_finished = n_finished == outputs.len();
        let array = self.eeg.array.as_deref();
        Ok(Job { input, outputs, array, shape: entry.shape, made, is_double, is_finished })
    }
}

impl Job<'_> {
    /// `eeg/sub1.npy [7, 62, 104000] -> clips/sub1.npy [7, 40, 5, 62, 400]`
    fn line(&self) -> String {
        let outputs: Vec<String> = self.outputs.iter().map(|path| path.display().to_string()).collect();
        let skipped = if self.is_finished { ", finished before" } else { "" };
        let (shape, made) = (&self.shape, &self.made);
        format!("{} {shape:?} -> {} {made:?}{skipped}", self.input.display(), outputs.join(", "))
    }

    fn json(&self) -> Value {
        let outputs: Vec<String> = self.outputs.iter().map(|path| path.display().to_string()).collect();
        json!({
            "input": self.input.display().to_string(),
            "input_shape": self.shape,
            "outputs": outputs,
            "shape": self.made,
            "skipped": self.is_finished,
        })
    }
}

/// Errors: [`Error::Setting`] when the file would not be called `.npy`.
pub(super) fn refuse_other_than_npy(flag: &str, path: &Path) -> Result<()> {
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy")) && !path.is_dir() {
        return Ok(());
    }
    let detail = format!("'{}' does not end in .npy, the format written", path.display());
    Err(Error::setting(flag, detail))
}

/// The `.npy` files of a folder, `sub2` before `sub10`.
///
/// Errors: [`Error::Read`]; [`Error::Format`] when there is none.
pub(super) fn arrays_in(folder: &Path) -> Result<Vec<PathBuf>> {
    files_in(folder, &["npy"])
}

/// The files of a folder with one of these endings, hidden ones left out, `sub2` before `sub10`. Errors as above.
pub(super) fn files_in(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let path = entry.map_err(Error::read(folder))?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("").to_ascii_lowercase();
        if endings.contains(&ending.as_str()) && !is_hidden && path.is_file() {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Error::format(folder, format!("holds no .{}", endings.join(", no ."))));
    }
    files::sort_naturally(&mut found);
    Ok(found)
}

/// Whether two paths, of which either may not be there yet, name one place.
fn same_place(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
    match (place(a), place(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{going, shape, shell, two_files};
    use super::*;
    use std::io::Write;

    fn eeg(path: PathBuf, force: bool) -> Eeg {
        Eeg { eeg: path, array: None, force }
    }

    /// Writes a single number per file; says which files were worked on.
    fn run(eeg: &Eeg, output: &Path) -> Result<Vec<String>> {
        run_with(eeg, output, json!({}))
    }

    fn run_with(eeg: &Eeg, output: &Path, settings: Value) -> Result<Vec<String>> {
        let seen = std::cell::RefCell::new(Vec::new());
        let outputs = [("--output", output)];
        let (shell, stopped) = (shell(), going());
        let (shell, stopped, outputs) = (&shell, &stopped, &outputs);
        let batch = Batch { shell, stopped, label: "test", eeg, outputs, settings };
        batch.run(
            |shape| if shape == [2, 3, 800] { Ok(vec![1]) } else { Err(format!("shape {shape:?}")) },
            |job| {
                seen.borrow_mut().push(job.input.file_name().unwrap().to_string_lossy().into_owned());
                npy::write(&job.outputs[0], &[1], &[1.0f32])
            },
        )?;
        Ok(seen.into_inner())
    }

    #[test]
    fn a_folder_is_worked_through_in_order_and_finished_files_are_skipped() {
        let (folder, input) = two_files();
        let output = folder.path().join("out");
        assert_eq!(run(&eeg(input.clone(), false), &output).unwrap(), ["a2.npy", "a10.npy"]);
        assert_eq!(shape(&output.join("a10.npy")), [1]);
        std::fs::remove_file(output.join("a2.npy")).unwrap();
        assert_eq!(run(&eeg(input.clone(), false), &output).unwrap(), ["a2.npy"]);
        assert_eq!(run(&eeg(input.clone(), true), &output).unwrap().len(), 2);
        // What other settings left behind is not taken for finished.
        npy::write(output.join("a2.npy"), &[2], &[1.0f32; 2]).unwrap();
        let error = run(&eeg(input.clone(), false), &output).unwrap_err();
        assert!(error.to_string().contains("this call makes [1]"), "{error}");
        assert_eq!(run(&eeg(input.clone(), false), &input).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn results_of_other_settings_are_not_taken_for_these() {
        let (folder, input) = two_files();
        let output = folder.path().join("out");
        let call = |low: f64, force| run_with(&eeg(input.clone(), force), &output, json!({ "low": low }));
        assert_eq!(call(0.1, false).unwrap().len(), 2);
        assert_eq!(call(0.1, false).unwrap().len(), 0);
        let error = call(5.0, false).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("other settings"), "{error}");
        assert_eq!(call(5.0, true).unwrap().len(), 2);
        assert_eq!(call(5.0, false).unwrap().len(), 0);
    }

    #[test]
    fn an_archive_of_several_arrays_wants_a_name() {
        let (folder, input) = two_files();
        let (archive, output) = (folder.path().join("both.npz"), folder.path().join("out.npy"));
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&archive).unwrap());
        for name in ["a2.npy", "a10.npy"] {
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&std::fs::read(input.join(name)).unwrap()).unwrap();
        }
        zip.finish().unwrap();
        let error = run(&eeg(archive.clone(), false), &output).unwrap_err();
        assert!(error.to_string().ends_with("name one with --array"), "{error}");
        run(&Eeg { array: Some("a10".into()), ..eeg(archive, false) }, &output).unwrap();
    }

    #[test]
    fn a_recording_is_not_replaced_by_its_own_result() {
        let (_folder, input) = two_files();
        let one = input.join("a2.npy");
        for same in [one.clone(), input.join("../eeg/a2.npy")] {
            let error = run(&eeg(one.clone(), true), &same).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("file that is read"), "{error}");
        }
        assert_eq!(shape(&one), [2, 3, 800]);
    }

    #[test]
    fn a_wrong_shape_is_told_before_any_work() {
        let (folder, input) = two_files();
        npy::write(input.join("z.npy"), &[3], &[1.0f32; 3]).unwrap();
        let output = folder.path().join("out");
        let error = run(&eeg(input, false), &output).unwrap_err();
        assert!(error.to_string().contains("z.npy: shape [3]") && error.exit_code() == 3, "{error}");
        assert!(!output.exists());
    }

    #[test]
    fn a_file_is_not_overwritten_and_ends_in_npy() {
        let (folder, input) = two_files();
        let (one, output) = (input.join("a2.npy"), folder.path().join("out.npy"));
        assert_eq!(run(&eeg(one.clone(), false), &output).unwrap(), ["a2.npy"]);
        assert_eq!(run(&eeg(one.clone(), false), &output).unwrap_err().exit_code(), 5);
        assert_eq!(run(&eeg(one.clone(), true), &output).unwrap().len(), 1);
        assert_eq!(run(&eeg(one, false), folder.path()).unwrap_err().exit_code(), 2);
        let nothing = folder.path().join("nothing");
        assert_eq!(
            run(&eeg(nothing.clone(), false), &folder.path().join("x.npy")).unwrap_err().exit_code(),
            3
        );
        std::fs::create_dir(&nothing).unwrap();
        let error = run(&eeg(nothing, false), &folder.path().join("x")).unwrap_err();
        assert!(error.to_string().contains("holds no .npy"), "{error}");
    }
}
