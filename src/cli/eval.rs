//! `mindreel eval`: what was decoded against what was shown, each score beside its chance.

mod classify;
mod report;
mod video;

use super::Shell;
use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  mindreel eval video --pred decoded --truth shown
  mindreel eval video --pred decoded --truth sim --train sim --classifier runs/judge/model --output scores
  mindreel eval classify --predictions predicted.npy --labels labels.npy --output scores";

/// Scores of what was decoded, beside chance and controls
#[derive(clap::Args)]
#[command(arg_required_else_help = true, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Video(Box<video::Args>),
    Classify(classify::Args),
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    match &args.what {
        What::Video(args) => video::run(args, shell),
        What::Classify(args) => classify::run(args, shell),
    }
}
