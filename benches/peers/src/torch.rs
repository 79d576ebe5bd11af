//! PyTorch on the CPU: `torch_peer.py` in a Python of the user's.

use crate::contestant::{Remote, Result};
use std::path::Path;
use std::process::Command;

/// Starts the script in `python`, else in the environment that `run --with-torch` makes, else in `python3`.
pub fn start(python: Option<String>) -> Result<Remote> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = here.join(".venv/bin/python");
    let python = match python {
        Some(python) => python.into(),
        None if own.exists() => own,
        None => "python3".into(),
    };
    let mut command = Command::new(python);
    command.arg(here.join("src/torch_peer.py"));
    Remote::start("torch", command)
}
