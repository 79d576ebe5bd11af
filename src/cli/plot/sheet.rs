//! Clips as rows of frames.

use super::super::Shell;
use crate::error::{Error, Result};
use crate::eval::clips;
use crate::files;
use crate::media::png;
use serde_json::json;
use std::path::PathBuf;

/// Clips as rows of frames; of several folders each clip above its counterpart
#[derive(clap::Args)]
pub(super) struct Args {
    /// Folders of .gif, .mp4 or folders of .png, as many clips in each
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,

    /// Most clips shown, from the first on
    #[arg(long, value_name = "N", default_value_t = 20)]
    clips: usize,

    /// Pixels between frames
    #[arg(long, value_name = "PX", default_value_t = 2)]
    margin: usize,

    /// Picture to write
    #[arg(long, short, value_name = "FILE.png")]
    output: PathBuf,

    /// Replace a picture that is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    if args.output.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
        let detail = format!("{}: frames are written as .png", args.output.display());
        return Err(Error::setting("--output", detail));
    }
    if args.clips == 0 {
        return Err(Error::setting("--clips", "wanted 1 or more, got 0"));
    }
    files::refuse_existing(&args.output, args.force)?;
    let first = clips::read(&args.folders[0])?;
    let mut columns = Vec::new();
    for folder in &args.folders[1..] {
        let mut clips = clips::read(folder)?;
        clips::pair(&mut clips, &first, [folder, &args.folders[0]], true)?;
        columns.push(clips);
    }
    let n = first.len().min(args.clips);
    let rows: Vec<_> = (0..n)
        .flat_map(|at| std::iter::once(&first).chain(&columns).map(move |clips| clips[at].frames.clone()))
        .collect();
    let sheet = png::sheet(&rows, args.margin)?;
    png::write(&args.output, &sheet.rgb, sheet.height, sheet.width, "")?;
    let path = args.output.display();
    let told = json!({ "output": path.to_string(), "clips": n, "folders": args.folders.len() });
    shell.print(&format!("{path}: {n} of {} clips", first.len()), &told)
}
