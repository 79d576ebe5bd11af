//! `mindreel bench`: what a device can do, what every op reaches of it, and where a model's time goes.
//!
//! ```text
//! peaks     probes of multiply-adds, copies, launches
//! kernels   models on a plan -> distinct ops -> each run again beside the probes -> share of the roofline
//! model     one run on the device with timestamps -> time by op
//! tune      candidates per product -> a table of what runs it best here
//! ```

mod chrome;
mod clock;
mod compare;
mod kernels;
mod launch;
mod model;
mod peaks;
mod plot;
mod probe;
mod report;
mod roofline;
mod sample;
mod speed;
mod subject;
mod tune;

use super::Shell;
use crate::error::{Error, Result};
use crate::files;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  mindreel bench peaks                             multiply-adds, copies, launches: what this device can do
  mindreel bench kernels --filter conv2d           every convolution of the models, against those peaks
  mindreel bench kernels --output before.json      all ops at full size; a few minutes
  mindreel bench kernels --compare before.json     the same again; ends with 1 where an op became slower
  mindreel bench model unet --size small --trace unet.json    a profile for Perfetto (ui.perfetto.dev)
  mindreel bench tune                              once per GPU: finds the kernels that suit it, for every command

Shares are of the nearer roof: multiply-adds of the f32 probe, or bytes of the copy probe, both run beside the op.
Ends with 1 when --compare finds an op slower than FILE beyond the noise of both; else as every command.";

/// What the device can do, what every op reaches of it, where a model's time goes
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Peaks(peaks::Args),
    Kernels(kernels::Args),
    Model(model::Args),
    Tune(tune::Args),
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    match &args.what {
        What::Peaks(args) => peaks::run(args, shell),
        What::Kernels(args) => kernels::run(args, shell),
        What::Model(args) => model::run(args, shell),
        What::Tune(args) => tune::run(args, shell),
    }
}

/// Where results go beside stdout.
#[derive(clap::Args)]
struct Output {
    /// File for the result as JSON
    #[arg(long, value_name = "FILE.json")]
    output: Option<PathBuf>,

    /// File that grows by a line of JSON with every measurement
    #[arg(long, value_name = "FILE.jsonl")]
    log: Option<PathBuf>,

    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

impl Output {
    /// Refuses files that are there, these and the others, before anything is measured.
    fn check(&self, others: &[Option<&Path>]) -> Result<()> {
        let own = [self.output.as_deref(), self.log.as_deref()];
        own.iter().chain(others).flatten().try_for_each(|path| files::refuse_existing(path, self.force))
    }

    fn log(&self) -> Result<Log> {
        let create = |path: &PathBuf| match std::fs::File::create(path) {
            Ok(file) => Ok((path.clone(), file)),
            Err(source) => Err(Error::write(path)(source)),
        };
        Ok(Log(self.log.as_ref().map(create).transpose()?))
    }

    fn write(&self, result: &Value) -> Result<()> {
        self.output.as_deref().map_or(Ok(()), |path| files::write_json(path, result))
    }
}

/// Lines of JSON, on disk as soon as they are known.
struct Log(Option<(PathBuf, std::fs::File)>);

impl Log {
    fn line(&mut self, value: &Value) -> Result<()> {
        let Some((path, file)) = &mut self.0 else { return Ok(()) };
        writeln!(file, "{value}").and_then(|()| file.flush()).map_err(Error::write(&*path))
    }
}
