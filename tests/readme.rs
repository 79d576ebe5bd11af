//! What README.md says is so.

#![cfg(feature = "cli")]

use assert_cmd::Command;
use std::collections::BTreeSet;
use std::path::Path;

const README: &str = include_str!("../README.md");

#[test]
fn the_example_is_the_one_that_compiles() {
    let example = include_str!("../examples/unet_step.rs");
    let body = &example[example.find("use mindreel").expect("it uses the crate")..];
    assert!(README.contains(&format!("```rust\n{body}```")), "README.md and examples/unet_step.rs differ");
}

#[test]
fn the_example_runs_a_step() {
    if mindreel::gpu::list().is_empty() {
        assert!(std::env::var_os("MINDREEL_REQUIRE_GPU").is_none(), "a GPU is required");
        eprintln!("skipped: no adapter found");
        return;
    }
    // Beside target/…/deps/readme-…; `cargo test` builds examples first, `cargo test --test readme` does not.
    let test = std::env::current_exe().unwrap();
    let example = test.ancestors().nth(2).unwrap().join("examples/unet_step");
    if !example.with_extension(std::env::consts::EXE_EXTENSION).exists() {
        eprintln!("skipped: examples are not built");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    Command::cargo_bin("mindreel").unwrap().args(["init", "tiny", "--output"]).arg(&model).assert().success();
    let output = Command::new(example).arg(model.join("unet")).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.starts_with("after time 981: [") && !stdout.contains("NaN"), "{stdout}");
}

#[test]
fn the_table_lists_the_commands_there_are() {
    let listed: BTreeSet<&str> =
        README.lines().filter_map(|line| line.strip_prefix("| `mindreel ")?.split('`').next()).collect();
    let help = Command::cargo_bin("mindreel").unwrap().arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let there: BTreeSet<&str> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn the_channels_are_in_the_order_they_are_read() {
    let names = mindreel::signal::montage::names();
    let block = README.split("```text\n").find(|block| block.starts_with("FP1")).unwrap();
    let listed: Vec<&str> = block.split("```").next().unwrap().split_whitespace().collect();
    assert_eq!(listed, names);
}

#[test]
fn the_files_it_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut n = 0;
    for name in README.split('`').filter(|name| {
        let known = [".md", ".rs"].iter().any(|ending| name.ends_with(ending)) || name.starts_with("LICENSE");
        known && !name.contains(char::is_whitespace)
    }) {
        assert!(root.join(name).exists(), "README.md names {name}");
        n += 1;
    }
    assert!(n >= 6, "{n} files named");
}
