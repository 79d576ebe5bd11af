//! `mindreel info`: what a recording, a checkpoint or a result holds, without loading a model.

mod architectures;
mod checkpoint;
mod recording;
mod result;

use super::Shell;
use crate::error::{Error, Result};
use crate::signal::Units;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  mindreel info eeg.npy                    shape, how it is read, duration, channels, amplitude, clips
  mindreel info eeg.npy --rate 250 --units uV
  mindreel info model/                     every part of a pipeline: architecture, parameters, bytes, what is missing
  mindreel info unet/ --tensors            names, number types and shapes too
  mindreel info clips/                     a run.json: settings, and the command that makes it again
  mindreel info clips/clip-0000.gif        the same from inside a clip
  mindreel info --models                   every architecture with its inputs and outputs, and the configurations";

/// What a recording, a checkpoint or a result holds
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Recording (.npy, .npz), checkpoint (file or folder), result folder, run.json or clip
    #[arg(required_unless_present = "models", conflicts_with = "models")]
    path: Option<PathBuf>,

    /// List every architecture and every configuration of `init`
    #[arg(long)]
    models: bool,

    /// List every tensor of a checkpoint
    #[arg(long)]
    tensors: bool,

    /// Sample rate of a recording, in hertz
    #[arg(long, default_value_t = 200.0, value_name = "HZ")]
    rate: f64,

    /// What the numbers of a recording are: V or uV
    #[arg(long, default_value = "V")]
    units: String,

    /// Array of an .npz
    #[arg(long, value_name = "NAME")]
    array: Option<String>,
}

/// The same for people and for programs.
type Told = (String, Value);

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let (text, json) = match &args.path {
        Some(path) => look(path, args)?,
        None => architectures::list()?,
    };
    shell.print(&text, &json)
}

fn look(path: &Path, args: &Args) -> Result<Told> {
    let metadata = std::fs::metadata(path).map_err(Error::read(path))?;
    if metadata.is_dir() {
        return look_into(path, args);
    }
    if !metadata.is_file() {
        return Err(Error::format(path, "is not a plain file"));
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    match (extension.as_str(), &magic(path)?[..]) {
        ("safetensors" | "pt" | "pth" | "ckpt" | "bin" | "pkl", _) => checkpoint::file(path, args.tensors),
        ("json", _) if path.to_string_lossy().ends_with(".safetensors.index.json") => {
            checkpoint::file(path, args.tensors)
        }
        ("json", _) => result::json_file(path),
        (_, [b'G', b'I', b'F', b'8', ..]) => result::gif(path),
        (_, [0x89, b'P', b'N', b'G', ..]) => result::png(path),
        (_, [b'P', b'K', ..] | [0x93, b'N', b'U', b'M', ..]) | ("npy" | "npz", _) => {
            let units: Units = args.units.parse()?;
            recording::file(path, args.rate, units, args.array.as_deref())
        }
        _ => Err(Error::format(
            path,
            "is nothing known; .npy, .npz, .safetensors, .json, .gif and .png are looked into",
        )),
    }
}

fn look_into(folder: &Path, args: &Args) -> Result<Told> {
    let has = |name: &str| folder.join(name).is_file();
    let has_weights = || -> Result<bool> {
        for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
            let name = entry.map_err(Error::read(folder))?.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if has("model_index.json") {
        checkpoint::pipeline(folder, args.tensors)
    } else if has("config.json") || has("scheduler_config.json") {
        checkpoint::part(folder, args.tensors)
    } else if has("run.json") {
        result::json_file(&folder.join("run.json"))
    } else if has("000.png") {
        result::png(&folder.join("000.png"))
    } else if has_weights()? {
        checkpoint::file(folder, args.tensors)
    } else {
        Err(Error::format(folder, "holds no model_index.json, config.json, weights, run.json or frames"))
    }
}

/// The first bytes of a file, fewer where it is shorter.
fn magic(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::read(path))?;
    file.take(8).read_to_end(&mut bytes).map_err(Error::read(path))?;
    Ok(bytes)
}

/// `909,120,004`
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Text from a file, fit for a terminal: control characters escaped.
fn shown(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_texts_harmless() {
        assert_eq!([0, 999, 1000, 909_120_004].map(grouped), ["0", "999", "1,000", "909,120,004"]);
        assert_eq!(shown("a\x1b[2Jb\n\"µ\""), "a\\u{1b}[2Jb\\n\"µ\"");
    }
}
