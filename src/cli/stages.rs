//! Commands made of commands: every stage is this program once more, on a line that anybody could type.

use super::{Kernels, Shell, stop};
use crate::error::{Error, Result};
use clap::ValueEnum;
use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Runs stages one after another.
pub(super) struct Stages<'a> {
    shell: &'a Shell,
    /// What the same command does after a stop.
    again: &'static str,
    stopped: Arc<AtomicBool>,
    program: std::path::PathBuf,
    /// Global flags that every stage is given.
    globals: Vec<OsString>,
}

impl<'a> Stages<'a> {
    /// From here on Ctrl-C ends the stage under way, and then this; `again` says what the same command does then.
    ///
    /// Errors: [`Error::Read`] when the system does not tell where the program lies.
    pub(super) fn new(shell: &'a Shell, again: &'static str) -> Result<Stages<'a>> {
        let program = std::env::current_exe().map_err(Error::read("this program"))?;
        let mut globals: Vec<OsString> = Vec::new();
        if let Some(adapter) = &shell.adapter {
            globals.extend(["--adapter".into(), adapter.into()]);
        }
        if shell.kernels != Kernels::Auto
            && let Some(name) = shell.kernels.to_possible_value()
        {
            globals.extend(["--kernels".into(), name.get_name().into()]);
        }
        for (is_on, flag) in
            [(shell.checked, "--checked"), (shell.quiet, "--quiet"), (shell.check_finite, "--check-finite")]
        {
            if is_on {
                globals.push(flag.into());
            }
        }
        Ok(Stages { shell, again, stopped: stop::watch(true)?, program, globals })
    }

    /// Runs `mindreel WORDS` and returns what it prints; progress and its own error line go to stderr as ever.
    ///
    /// Errors: [`Error::Interrupted`] when there was a stop before it; [`Error::Told`] when it failed or was stopped.
    pub(super) fn run(&self, words: Vec<OsString>) -> Result<String> {
        self.check()?;
        self.shell.note(&format!("$ {}", line(&words)));
        let mut command = Command::new(&self.program);
        command.args(&self.globals).args(&words).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().map_err(Error::read(&self.program))?;
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Some(code) => {
                if code == 130 {
                    self.shell.note(self.again);
                }
                Err(Error::Told(u8::try_from(code).unwrap_or(1)))
            }
            None => Err(Error::setting(words[0].to_string_lossy(), "was ended by a signal")),
        }
    }

    /// [`Error::Interrupted`] after Ctrl-C.
    pub(super) fn check(&self) -> Result<()> {
        stop::check(&self.stopped, self.again)
    }
}

/// A command line as one would type it.
pub(super) fn line(words: &[OsString]) -> String {
    let quoted = |word: &OsString| {
        let text = word.to_string_lossy().into_owned();
        match !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./,+=:".contains(c)) {
            true => text,
            false => format!("'{}'", text.replace('\'', r"'\''")),
        }
    };
    let words: Vec<String> = words.iter().map(quoted).collect();
    format!("mindreel {}", words.join(" "))
}

/// Words of a command line, from whatever can stand in one.
macro_rules! words {
    ($($word:expr),* $(,)?) => { vec![$(std::ffi::OsString::from($word)),*] };
}
pub(super) use words;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_typed_again() {
        let words = words!["video", "--eeg", "a b.npy", "--clips", "0,1", ""];
        assert_eq!(line(&words), "mindreel video --eeg 'a b.npy' --clips 0,1 ''");
    }
}
