//! Runs of `mindreel train` and what they leave.

#![allow(dead_code)] // each test takes a part of it

use assert_cmd::Command;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The binary, without progress, outside of any queue.
pub fn mindreel() -> Command {
    let mut command = Command::cargo_bin("mindreel").unwrap();
    command.args(["--quiet"]);
    command.env_remove("SLURM_ARRAY_TASK_ID");
    command
}

/// Every file below a folder with its bytes.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut waiting, mut found) = (vec![folder.to_path_buf()], BTreeMap::new());
    while let Some(place) = waiting.pop() {
        for entry in std::fs::read_dir(&place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_path_buf(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Two folders hold the same files with the same bytes.
#[track_caller]
pub fn same(a: &Path, b: &Path) {
    let (a, b) = (files(a), files(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (path, bytes) in &a {
        assert!(bytes == &b[path], "{} differs", path.display());
    }
}

/// A refusal in one line.
#[track_caller]
pub fn refused(command: &mut Command, code: i32, says: &str) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("mindreel:")).collect();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(lines.len() == 1 && lines[0].contains(says), "wanted '{says}', got {text}");
}
