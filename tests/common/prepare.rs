//! `mindreel prepare` in a folder of its own.

use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder to work in.
pub struct World {
    folder: tempfile::TempDir,
}

impl World {
    pub fn new() -> World {
        World { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `prepare` in this folder, so that names are relative to it.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mindreel"));
        command.args(["--quiet", "prepare"]).args(args).current_dir(self.folder.path()).output().unwrap()
    }

    #[track_caller]
    pub fn done(&self, args: &[&str]) -> String {
        let run = self.run(args);
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && stderr.is_empty(), "{args:?}: {stderr}");
        String::from_utf8(run.stdout).unwrap()
    }

    /// The mistake is refused with this code, in one line that says this.
    #[track_caller]
    pub fn refused(&self, args: &[&str], code: i32, said: &str) {
        let run = self.run(args);
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(
            stderr.starts_with("mindreel: ") && stderr.trim_end().lines().count() == 1,
            "{args:?}: {stderr}"
        );
        assert!(stderr.contains(said), "'{said}' is not said: {args:?}: {stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("internal error"), "{stderr}");
    }
}
