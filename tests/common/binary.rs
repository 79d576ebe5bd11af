//! The binary as its users meet it: exit codes, one line on stderr, results on stdout.

#![allow(dead_code)] // each test takes a part of it

use assert_cmd::Command;
use serde_json::Value;
use std::path::{Path, PathBuf};

pub fn mindreel() -> Command {
    Command::cargo_bin("mindreel").expect("the binary is built for this test")
}

/// Code, stdout, stderr without the driver's own lines.
pub fn outcome(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let stderr = text(output.stderr);
    let ours: Vec<&str> = stderr.lines().filter(|line| !line.contains("XDG_RUNTIME_DIR")).collect();
    (output.status.code().expect("no signal"), text(output.stdout), ours.join("\n"))
}

/// What a command with `--json` says.
#[track_caller]
pub fn json(command: &mut Command) -> Value {
    let (code, stdout, stderr) = outcome(command.args(["--json", "--quiet"]));
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// The line of a refusal with this code.
#[track_caller]
pub fn refusal(command: &mut Command, code: i32) -> String {
    let (got, stdout, stderr) = outcome(command.arg("--quiet"));
    assert_eq!(got, code, "{stdout}{stderr}");
    assert!(stderr.starts_with("mindreel: ") && stderr.lines().count() == 1, "not one line: {stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("internal error"), "{stderr}");
    stderr
}

/// A checkpoint of random weights as `folder/name`.
pub fn init(folder: &Path, name: &str) -> PathBuf {
    let output = folder.join(name);
    mindreel().args(["init", name, "--quiet", "--seed", "3", "--output"]).arg(&output).assert().success();
    output
}
