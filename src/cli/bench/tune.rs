//! `mindreel bench tune`: which kernels run a model's products best here, kept as a table.

use super::report::{header_text, table};
use crate::cli::Shell;
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::{Class, Tuning};
use crate::ops;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Kernels for this adapter, measured: a table that every command reads from then on
///
/// Up to 8 candidates for each shape, until the time is over; the table holds what beats the rule by 3 % or more. One
/// measured with another driver, or with other kernels, is not used. On software adapters nothing is measured: there
/// the rule is what was measured.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Seconds to spend, and what is under way by then
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    time: f64,

    /// File for the table [default: mindreel/tuning in the cache folder, where every command looks]; name another in
    /// MINDREEL_TUNING to use it
    #[arg(long, value_name = "FILE.json")]
    output: Option<PathBuf>,

    /// Replace the file named by --output
    #[arg(long, requires = "output")]
    force: bool,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let seconds = args.time;
    if !(seconds > 0.0 && seconds <= 86_400.0) {
        return Err(Error::setting("--time", format!("{seconds}, wanted more than 0 and at most 86400 s")));
    }
    if let Some(output) = &args.output {
        files::refuse_existing(output, args.force)?;
    }
    let gpu = shell.open_gpu()?;
    let output = args
        .output
        .clone()
        .or_else(|| Tuning::path(gpu.facts()))
        .ok_or_else(|| Error::setting("--output", "the system names no cache folder; name a file"))?;
    if let Some(folder) = output.parent() {
        files::make_folder(folder)?;
    }
    let found = ops::tune(&gpu, Duration::from_secs_f64(seconds))?;
    found.write(&output)?;
    let mut text = header_text(&super::report::header(&gpu));
    match found.choices.is_empty() {
        true if gpu.facts().class == Class::Software => {
            text += "A software adapter: the rule stays, nothing was measured.\n";
        }
        true => text += "Nothing beats the rule.\n",
        false => {
            let rows: Vec<Vec<String>> =
                found.choices.iter().map(|(shape, choice)| vec![shape.clone(), choice.clone()]).collect();
            text += &table(&["product", "best"], &rows);
        }
    }
    text += &output.display().to_string();
    shell.print(&text, &json!({ "file": output.display().to_string(), "tuning": found }))
}
