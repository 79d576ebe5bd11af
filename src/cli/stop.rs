//! Ctrl-C (and the system's request to end): the first asks the command to finish what it holds and stop, the
//! second ends the process at once.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Who listens, once somebody does: a process takes one handler.
static LISTENS: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

/// From here on Ctrl-C raises the flag that is returned, the same one each time.
///
/// Errors: [`Error::Setting`] when the system takes no handler.
pub(super) fn watch(quiet: bool) -> Result<Arc<AtomicBool>> {
    let mut listens = LISTENS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(stopped) = &*listens {
        return Ok(stopped.clone());
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let raised = stopped.clone();
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        if !quiet {
            super::complain("stopping after what is under way; Ctrl-C again ends at once");
        }
    })
    .map_err(|error| Error::setting("Ctrl-C", format!("cannot be listened to: {error}")))?;
    *listens = Some(stopped.clone());
    Ok(stopped)
}

/// [`Error::Interrupted`] once the flag is up; `kept` says what is on disk.
pub(super) fn check(stopped: &AtomicBool, kept: &str) -> Result<()> {
    if stopped.load(Ordering::SeqCst) { Err(Error::Interrupted(kept.to_string())) } else { Ok(()) }
}
