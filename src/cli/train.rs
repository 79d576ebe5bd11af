//! `mindreel train`: models learn; what they reach stands beside chance and controls.

mod chain;
mod classify;
mod clip_classifier;
mod dynamics;
mod fit;
mod heads;
mod pictures;
mod report;
mod semantic;
mod seq2seq;
mod sweep;
mod vae;
mod video;

pub(super) use classify::note_missing;

use super::Shell;
use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  mindreel prepare simulate --output sim --seed 0            a data set to try with
  mindreel train classify --data sim --output runs/shallow --model ShallowNet
  mindreel train classify --data SEED-DV --output runs/all --config sweep.toml --shard 0/8
  mindreel train vae --data sim --output runs/vae --steps 2000
  mindreel train video --data sim --vae runs/vae/model --init unet.json --text texts.safetensors --output runs/video
  mindreel train semantic --data sim --text texts.safetensors --output runs/semantic
  mindreel train seq2seq --data sim --vae runs/vae/model --output runs/seq2seq
  mindreel train dynamics --data sim --output runs/dynamics
  mindreel train semantic --data SEED-DV --text t.safetensors --output runs/everybody --subjects all --shard 0/4
  mindreel train clip-classifier --data sim --output runs/judge
  mindreel train report runs/all                             tables and pictures of what is finished";

/// Train models, and report what they reach
#[derive(clap::Args)]
#[command(arg_required_else_help = true, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Classify(Box<classify::Args>),
    /// As `classify`, for several models side by side: --model takes them all
    Compare(Box<classify::Args>),
    Vae(Box<vae::Args>),
    Video(Box<video::Args>),
    Semantic(Box<semantic::Args>),
    Seq2seq(Box<seq2seq::Args>),
    Dynamics(Box<dynamics::Args>),
    ClipClassifier(Box<clip_classifier::Args>),
    Report(report::Args),
    Chain(chain::Args),
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    match &args.what {
        What::Classify(args) => classify::run(args, shell),
        What::Compare(args) => classify::compare(args, shell),
        What::Vae(args) => sweep::run(&**args, vae::run, |args| (&mut args.fit, None), shell),
        What::Video(args) => sweep::run(&**args, video::run, |args| (&mut args.fit, None), shell),
        What::Semantic(args) => {
            sweep::run(&**args, semantic::run, |args| (&mut args.fit, Some(&mut args.eeg)), shell)
        }
        What::Seq2seq(args) => {
            sweep::run(&**args, seq2seq::run, |args| (&mut args.fit, Some(&mut args.eeg)), shell)
        }
        What::Dynamics(args) => {
            sweep::run(&**args, dynamics::run, |args| (&mut args.fit, Some(&mut args.eeg)), shell)
        }
        What::ClipClassifier(args) => {
            sweep::run(&**args, clip_classifier::run, |args| (&mut args.fit, None), shell)
        }
        What::Report(args) => report::run(args, shell),
        What::Chain(args) => chain::run(args, shell),
    }
}
