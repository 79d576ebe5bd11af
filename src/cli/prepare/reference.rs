//! `mindreel prepare reference`: another reference.

use super::super::Shell;
use super::batch::{Batch, Eeg, Job, in_own_type};
use crate::error::{Error, Result};
use crate::signal::Real;
use crate::signal::montage;
use crate::signal::reference::rereference;
use crate::signal::stack::{self, Stack};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
From every channel the mean of the reference is taken off, sample by sample, as MNE's set_eeg_reference does. The
reference is `average` (all channels, but those of --exclude), or channels: 10-20 names where there are the 62 of
SEED-DV, or indices from 0. (Channels that MNE knows as bad it leaves as they are; those of --exclude are only left out
of the average.)

Examples:
  mindreel prepare reference --eeg EEG --output Average --to average
  mindreel prepare reference --eeg eeg.npy --output average.npy --to average --exclude FP1,FPZ,FP2
  mindreel prepare reference --eeg eeg.npy --output temporal.npy --to T7,T8";

/// Another reference: the average, or channels
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    eeg: Eeg,

    /// File to write, or folder where --eeg is one
    #[arg(long, short, value_name = "FILE.npy|DIR")]
    output: PathBuf,

    /// average, or channels by name or index
    #[arg(long, value_name = "average|CH,...", value_delimiter = ',', default_value = "average")]
    to: Vec<String>,

    /// Channels left out of the average, bad ones for example; they are referenced all the same
    #[arg(long, value_name = "CH,...", value_delimiter = ',')]
    exclude: Vec<String>,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    let is_average = args.to.len() == 1 && args.to[0].eq_ignore_ascii_case("average");
    if !is_average && !args.exclude.is_empty() {
        return Err(Error::setting(
            "--exclude",
            "belongs to --to average; leave the channels out of --to instead",
        ));
    }
    // Names are judged before any file is.
    let to = if is_average { vec![] } else { channels("--to", &args.to)? };
    let exclude = channels("--exclude", &args.exclude)?;
    let outputs = [("--output", args.output.as_path())];
    let settings = json!({ "to": args.to, "exclude": args.exclude });
    let batch = Batch { shell, stopped, label: "reference", eeg: &args.eeg, outputs: &outputs, settings };
    let reference = |n_channels: usize| -> Result<Vec<usize>, String> {
        let named = to.iter().chain(&exclude);
        if n_channels != montage::ELECTRODES.len()
            && let Some(Channel { text, .. }) = named.clone().find(|c| c.is_name)
        {
            return Err(format!(
                "{n_channels} channels, not the 62 of SEED-DV; give an index in place of \"{text}\""
            ));
        }
        if let Some(Channel { text, .. }) = named.clone().find(|c| c.idx >= n_channels) {
            return Err(format!("{n_channels} channels, there is no channel \"{text}\""));
        }
        match is_average {
            true => Ok((0..n_channels).filter(|idx| exclude.iter().all(|c| c.idx != *idx)).collect()),
            false => Ok(to.iter().map(|c| c.idx).collect()),
        }
    };
    let shape = |shape: &[usize]| {
        let (_, n_channels, _) = stack::axes(shape)?;
        match reference(n_channels)?.is_empty() {
            true => Err("every channel is excluded from the average".to_string()),
            false => Ok(shape.to_vec()),
        }
    };
    batch.run(shape, |job| {
        let n_channels = |shape: &[usize]| stack::axes(shape).map(|(_, n_channels, _)| n_channels);
        let reference = n_channels(job.shape()).and_then(reference);
        let reference = reference.map_err(|detail| Error::format(&job.input, detail))?;
        in_own_type!(job, rereferenced(job, &reference))
    })
}

struct Channel<'a> {
    text: &'a str,
    idx: usize,
    is_name: bool,
}

/// Errors: [`Error::Setting`] naming `flag` for an unknown channel, or one that stands there twice.
fn channels<'a>(flag: &str, texts: &'a [String]) -> Result<Vec<Channel<'a>>> {
    let mut found: Vec<Channel> = Vec::new();
    for text in texts {
        let channel = match text.trim().parse() {
            Ok(idx) => Channel { text, idx, is_name: false },
            Err(_) => match montage::index_of(text) {
                Ok(idx) => Channel { text, idx, is_name: true },
                Err(Error::Setting { detail, .. }) => return Err(Error::setting(flag, detail)),
                Err(other) => return Err(other),
            },
        };
        if found.iter().any(|c| c.idx == channel.idx) {
            return Err(Error::setting(flag, format!("channel \"{text}\" stands there twice")));
        }
        found.push(channel);
    }
    Ok(found)
}

fn rereferenced<T: Real>(job: &Job, reference: &[usize]) -> Result<()> {
    let mut eeg = Stack::<T>::read(&job.input, job.array, false)?;
    rereference(&mut eeg.data, eeg.n_channels, eeg.n_samples, reference)?;
    eeg.write(&job.outputs[0])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{going, shell, two_files};
    use super::*;
    use crate::signal::npy;

    fn args(eeg: PathBuf, output: PathBuf, to: &[&str], exclude: &[&str]) -> Args {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Args { eeg: Eeg { eeg, array: None, force: true }, output, to: words(to), exclude: words(exclude) }
    }

    #[test]
    fn the_average_is_gone_and_a_channel_becomes_zero() {
        let (folder, eeg) = two_files();
        let (file, output) = (eeg.join("a2.npy"), folder.path().join("out.npy"));
        let read = || npy::read::<f64>(&output, None).unwrap().data;
        run(&args(file.clone(), output.clone(), &["average"], &[]), &shell(), &going()).unwrap();
        let data = read();
        assert!((0..800).all(|t| (data[t] + data[800 + t] + data[1600 + t]).abs() < 1e-11));
        run(&args(file.clone(), output.clone(), &["1"], &[]), &shell(), &going()).unwrap();
        assert!(read()[800..1600].iter().all(|&v| v == 0.0));
        run(&args(file, output.clone(), &["average"], &["0", "2"]), &shell(), &going()).unwrap();
        assert!(read()[800..1600].iter().all(|&v| v == 0.0));
    }

    #[test]
    fn mistakes_are_refused() {
        let (folder, eeg) = two_files();
        let out = folder.path().join("out");
        let refused = |to: &[&str], exclude: &[&str]| {
            let error = run(&args(eeg.clone(), out.clone(), to, exclude), &shell(), &going()).unwrap_err();
            (error.exit_code(), error.to_string())
        };
        assert!(refused(&["OOZ"], &[]).1.contains("did you mean OZ?"));
        assert_eq!(refused(&["OZ", "oz"], &[]).0, 2);
        assert_eq!(refused(&["1"], &["2"]).0, 2);
        assert!(refused(&["3"], &[]).1.contains("no channel \"3\""));
        assert!(refused(&["FP1"], &[]).1.contains("give an index"));
        assert!(refused(&["average"], &["0", "1", "2"]).1.contains("every channel"));
        assert!(!out.exists());
    }
}
