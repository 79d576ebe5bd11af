//! `mindreel train report`: what finished units say together, and the files that show it.

use crate::cli::Shell;
use crate::error::Result;
use crate::eval::check_permutations;
use crate::files;
use crate::train::classify::UnitResult;
use crate::train::report::{self, Summary};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Join finished units into tables and pictures
#[derive(clap::Args)]
pub(super) struct Args {
    /// Folders of runs; what lies below them is found
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,

    /// Take the units of all folders together (also done without it: the word says what is meant)
    #[arg(long)]
    merge: bool,

    /// Where tables and pictures go [default: the first folder]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Permutations behind a p-value
    #[arg(long, value_name = "N", default_value_t = PERMUTATIONS)]
    permutations: usize,
}

/// Permutations behind a p-value, unless told otherwise.
pub(super) const PERMUTATIONS: usize = 10_000;
/// Seed of the permutations: the same results give the same p-values.
const SEED: u64 = 0;

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    check_permutations(args.permutations)?;
    let results = report::read_results(&args.folders)?;
    super::classify::note_missing(&args.folders, &results, shell)?;
    let output = args.output.as_ref().unwrap_or(&args.folders[0]);
    let summaries = write(output, &results, args.permutations)?;
    print(output, &summaries, shell)
}

/// results.csv, report.md, report.json, and for each group confusion and curves.
pub(super) fn write(output: &Path, results: &[UnitResult], permutations: usize) -> Result<Vec<Summary>> {
    files::make_folder(output)?;
    let mut summaries = Vec::new();
    for group in report::groups(results) {
        let Some(summary) = report::summarise(&group, permutations, SEED) else { continue };
        super::pictures::write(output, &group, &summary)?;
        summaries.push(summary);
    }
    files::write_text(output.join("results.csv"), &report::csv(results))?;
    files::write_text(output.join("report.md"), &report::markdown(&summaries))?;
    files::write_json(output.join("report.json"), &summaries)?;
    Ok(summaries)
}

pub(super) fn print(output: &Path, summaries: &[Summary], shell: &Shell) -> Result<()> {
    let table = report::markdown(summaries);
    shell.print(
        &format!("{table}\nresults.csv, report.md, report.json and pictures: {}", output.display()),
        &json!({ "output": output.display().to_string(), "summaries": summaries }),
    )
}
