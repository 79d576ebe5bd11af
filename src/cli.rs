//! The command line: one file per command with its flags, its help, its effect and its tests.
//!
//! A command parses, calls the library and hands back text. Results go to stdout, progress and warnings to
//! stderr, an error is one line `mindreel: …` and the code of [`Error::exit_code`].

mod bench;
mod caption;
mod caption_images;
mod captioning;
mod demo;
mod doctor;
mod embed;
mod eval;
mod forward;
mod image;
mod info;
mod init;
mod journey;
mod manifest;
mod painting;
mod plot;
mod prepare;
mod progress;
mod recipe;
mod reconstruct;
mod settings;
mod stages;
mod stop;
mod train;
mod video;

use crate::error::{Error, Result};
use crate::gpu::{Checks, Family, Gpu, Options};
use crate::nn::Precision;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde_json::Value;
use std::ffi::OsString;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

/// Exit code of a mistake of ours (sysexits' EX_SOFTWARE).
const INTERNAL: u8 = 70;
/// Stands for stdout in an [`Error::Write`].
const STDOUT: &str = "stdout";

const EXAMPLES: &str = "\
Examples:
  mindreel doctor                                  is there a GPU, and does it compute right?
  mindreel init tiny --output model --seed 0       a checkpoint of a few MB with random weights
  mindreel info model                              what a checkpoint, a recording or a clip holds
  mindreel forward --model model --component unet --input in.safetensors --output out.safetensors

Exit codes: 0 done, 2 wrong call or setting, 3 bad input file, 4 GPU trouble, 5 disk trouble,
            130 stopped with what was finished kept; 1 from `bench --compare` alone: slower than before.
Nothing is downloaded, and nothing overwritten without --force.";

#[derive(Parser)]
#[command(name = "mindreel", version, about = "EEG to video, text and images on any GPU", after_help = EXAMPLES)]
#[command(arg_required_else_help = true, max_term_width = 110, disable_help_subcommand = true)]
struct Cli {
    /// GPU to use: an index of `mindreel doctor`, or a part of the name
    #[arg(long, global = true, env = "MINDREEL_ADAPTER", value_name = "INDEX|NAME", hide_env_values = true)]
    adapter: Option<String>,

    /// Kernels to use, where `auto` is not right for this GPU
    #[arg(long, global = true, env = "MINDREEL_KERNELS", value_name = "FAMILY", hide_env_values = true)]
    #[arg(default_value = "auto", hide_default_value = true)]
    kernels: Kernels,

    /// Run-time checks in every kernel: slower on cards, and the first thing to try when results look wrong
    #[arg(long, global = true, env = "MINDREEL_CHECKED", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    checked: bool,

    /// Nothing on stderr but errors
    #[arg(long, short, global = true)]
    quiet: bool,

    /// Results as JSON
    #[arg(long, global = true)]
    json: bool,

    /// Name the first op whose result holds a NaN or an infinity, and end there with 4 (slower)
    #[arg(long, global = true)]
    check_finite: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Doctor(doctor::Args),
    Eval(eval::Args),
    Info(info::Args),
    Init(init::Args),
    Prepare(prepare::Args),
    Forward(forward::Args),
    Embed(embed::Args),
    Plot(plot::Args),
    Bench(bench::Args),
    Train(train::Args),
    Video(Box<video::Args>),
    Caption(Box<caption::Args>),
    CaptionImages(Box<caption_images::Args>),
    Image(Box<image::Args>),
    Reconstruct(Box<reconstruct::Args>),
}

/// What every command is given: the global flags, and the two streams.
struct Shell {
    adapter: Option<String>,
    kernels: Kernels,
    checked: bool,
    quiet: bool,
    json: bool,
    check_finite: bool,
}

impl Shell {
    /// What the global flags ask of a device.
    fn options(&self) -> Options {
        Options {
            adapter: self.adapter.clone(),
            family: self.kernels.family(),
            checks: if self.checked { Checks::All } else { Checks::Auto },
            check_finite: self.check_finite,
            tuning: std::env::var_os("MINDREEL_TUNING").filter(|path| !path.is_empty()).map(Into::into),
            ..Default::default()
        }
    }

    /// Opens the adapter that `--adapter` names, or the best one.
    fn open_gpu(&self) -> Result<Gpu> {
        Gpu::open(&self.options())
    }

    /// A line on stderr, silent with `--quiet`.
    fn note(&self, text: &str) {
        if !self.quiet {
            complain(text);
        }
    }

    /// A result on stdout: the text, or with `--json` the value.
    ///
    /// Errors: [`Error::Write`]. A closed pipe is one too; [`run`] ends quietly on it.
    fn print(&self, text: &str, json: &Value) -> Result<()> {
        let text = if self.json { format!("{json:#}") } else { text.trim_end().to_string() };
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Error::write(STDOUT))
    }
}

/// `--kernels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kernels {
    /// What suits the adapter best
    Auto,
    /// Subgroups of 8: software adapters
    Subgroup,
    /// Tiles in workgroup memory: everywhere
    Tiled,
    /// Matrix units for f16, tiles for the rest
    Matrix,
}

impl Kernels {
    fn family(self) -> Option<Family> {
        match self {
            Kernels::Auto => None,
            Kernels::Subgroup => Some(Family::Subgroup),
            Kernels::Tiled => Some(Family::Tiled),
            Kernels::Matrix => Some(Family::Matrix),
        }
    }
}

/// `--dtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Float {
    /// 32 bits
    F32,
    /// 16 bits
    F16,
}

impl Float {
    fn precision(self) -> Precision {
        match self {
            Float::F32 => Precision::F32,
            Float::F16 => Precision::F16,
        }
    }
}

/// `--dtype` of what runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Number {
    /// 32 bits
    F32,
    /// 16 bits
    F16,
    /// 16 bits, and most matrices of OPT and BLIP-2 in 8
    Int8,
}

impl Number {
    fn precision(self) -> Precision {
        match self {
            Number::F32 => Precision::F32,
            Number::F16 => Precision::F16,
            Number::Int8 => Precision::Int8,
        }
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    // The default hook would print several lines, and twice for a panic in a thread that is joined.
    let first = Arc::new(Mutex::new(None));
    let hook = first.clone();
    std::panic::set_hook(Box::new(move |info| {
        if let Ok(mut first) = hook.lock() {
            first.get_or_insert(info.to_string());
        }
    }));
    let caught = std::panic::catch_unwind(AssertUnwindSafe(|| run_from(std::env::args_os())));
    let code = caught.unwrap_or_else(|_| {
        let what = first.lock().ok().and_then(|mut first| first.take()).unwrap_or_default();
        complain(&format!(
            "internal error: {}; please report it with the output of `mindreel doctor`",
            one_line(&what)
        ));
        INTERNAL
    });
    ExitCode::from(code)
}

/// Runs one command line; returns its exit code.
fn run_from(args: impl IntoIterator<Item = OsString>) -> u8 {
    let parsed = with_negative_numbers(Cli::command()).try_get_matches_from(args);
    let cli = match parsed.and_then(|found| Cli::from_arg_matches(&found)) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let shell = Shell {
        adapter: cli.adapter.filter(|name| !name.trim().is_empty()),
        kernels: cli.kernels,
        checked: cli.checked,
        quiet: cli.quiet,
        json: cli.json,
        check_finite: cli.check_finite,
    };
    let result = match &cli.command {
        Command::Demo(args) => demo::run(args, &shell),
        Command::Doctor(args) => doctor::run(args, &shell),
        Command::Eval(args) => eval::run(args, &shell),
        Command::Info(args) => info::run(args, &shell),
        Command::Init(args) => init::run(args, &shell),
        Command::Prepare(args) => prepare::run(args, &shell),
        Command::Forward(args) => forward::run(args, &shell),
        Command::Embed(args) => embed::run(args, &shell),
        Command::Plot(args) => plot::run(args, &shell),
        Command::Bench(args) => bench::run(args, &shell),
        Command::Train(args) => train::run(args, &shell),
        Command::Video(args) => video::run(args, &shell),
        Command::Caption(args) => caption::run(args, &shell),
        Command::CaptionImages(args) => caption_images::run(args, &shell),
        Command::Image(args) => image::run(args, &shell),
        Command::Reconstruct(args) => reconstruct::run(args, &shell),
    };
    match result {
        Ok(()) => 0,
        // Whoever reads our stdout has read enough; what a command does besides is done by then.
        Err(Error::Write { path, source })
            if path == Path::new(STDOUT) && source.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            0
        }
        // The stage has said it.
        Err(Error::Told(code)) => code,
        Err(error) => {
            complain(&one_line(&error.to_string()));
            error.exit_code()
        }
    }
}

/// `-1` is a number everywhere, so that what refuses it names the flag it was given to.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_action().takes_values() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    });
    command.mut_subcommands(with_negative_numbers)
}

/// Help and version as clap prints them, a wrong call in one line.
fn refuse(error: &clap::Error) -> u8 {
    use clap::error::ErrorKind::*;
    if matches!(error.kind(), DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand) {
        let _ = error.print(); // nobody may be listening
    } else {
        complain(&wrong_call(&error.render().to_string()));
    }
    u8::try_from(error.exit_code()).unwrap_or(2)
}

/// clap's message without its second half, the usage.
fn wrong_call(text: &str) -> String {
    let text = text.split("\nUsage:").next().unwrap_or(text);
    let text = text.split("\nFor more information").next().unwrap_or(text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut message = String::new();
    for line in lines {
        let glue = match message.chars().last() {
            None => "",
            Some(':') => " ",
            // Names that are missing stand one to a line.
            _ if line.starts_with(['-', '<']) => " ",
            Some(_) => "; ",
        };
        message += &format!("{glue}{line}");
    }
    format!("{}; --help tells more", message.trim_start_matches("error: "))
}

/// A line on stderr, whatever becomes of it.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "mindreel: {text}");
}

/// Drivers and libraries break their messages; ours is one line.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_contradict_nothing() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_call_is_one_line() {
        let line = |args: &[&str]| match Cli::try_parse_from(args) {
            Ok(_) => panic!("{args:?} was taken"),
            Err(error) => wrong_call(&error.render().to_string()),
        };
        let unknown = line(&["mindreel", "forward", "--modle", "x"]);
        assert!(unknown.contains("'--modle'") && unknown.contains("'--model'"), "{unknown}");
        let missing = line(&["mindreel", "init", "tiny"]);
        assert!(missing.contains("--output"), "{missing}");
        let command = line(&["mindreel", "forwrad"]);
        assert!(command.contains("forward"), "{command}");
        for text in [unknown, missing, command] {
            assert!(!text.contains('\n') && !text.contains("error:") && !text.contains("Usage"), "{text}");
        }
    }

    #[test]
    fn a_long_message_becomes_one_line() {
        assert_eq!(one_line("shader refused\n\n   at line 3\n"), "shader refused | at line 3");
    }
}
