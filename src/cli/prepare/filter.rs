//! `mindreel prepare filter`: zero-phase band-pass and notch.

use super::super::Shell;
use super::batch::{Batch, Eeg, Job, in_own_type};
use crate::error::{Error, Result};
use crate::signal::filter::{Filter, Pass};
use crate::signal::stack::{self, Stack};
use crate::signal::{Real, montage};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
A Butterworth filter (--low, --high or both: a high-, low- or band-pass), then notches, each forwards and
backwards, so that nothing is delayed: SciPy's butter and sosfiltfilt, iirnotch and filtfilt. At a corner -6 dB
are left. Filter whole recordings, before they are cut: each stretch is filtered by itself.

Examples:
  mindreel prepare filter --eeg EEG --output Filtered --low 0.5 --high 75 --notch 50
  mindreel prepare filter --eeg eeg.npy --output mains.npy --notch 50,100
  mindreel prepare filter --eeg raw.npy --output slow.npy --low 0.1 --order 2 --sample-rate 1000";

/// Zero-phase Butterworth and notch filters
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    eeg: Eeg,

    /// File to write, or folder where --eeg is one
    #[arg(long, short, value_name = "FILE.npy|DIR")]
    output: PathBuf,

    /// Lower corner: what lies below goes
    #[arg(long, value_name = "HZ")]
    low: Option<f64>,

    /// Upper corner: what lies above goes
    #[arg(long, value_name = "HZ")]
    high: Option<f64>,

    /// Order of the Butterworth filter, 1 to 16
    #[arg(long, default_value_t = 4)]
    order: usize,

    /// Frequencies to cut out
    #[arg(long, value_name = "HZ,...", value_delimiter = ',')]
    notch: Vec<f64>,

    /// Sharpness of the notches: frequency by width
    #[arg(long, value_name = "Q", default_value_t = 30.0)]
    notch_q: f64,

    /// Samples per second of the recording
    #[arg(long, visible_alias = "rate", value_name = "HZ", default_value_t = montage::SAMPLE_RATE_HZ)]
    sample_rate: f64,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    let filters = filters(args)?;
    let n_padding = filters.iter().map(Filter::n_padding).max().unwrap_or(0);
    let outputs = [("--output", args.output.as_path())];
    let settings = json!({
        "low": args.low, "high": args.high, "order": args.order, "notch": args.notch, "notch_q": args.notch_q,
        "sample_rate": args.sample_rate,
    });
    let batch = Batch { shell, stopped, label: "filter", eeg: &args.eeg, outputs: &outputs, settings };
    let shape = |shape: &[usize]| match stack::axes(shape)? {
        (_, _, n_samples) if n_samples <= n_padding => Err(format!(
            "{n_samples} samples, the filter needs more than {n_padding}; filter before cutting{}",
            if args.low.or(args.high).is_some() { ", or take a lower --order" } else { "" }
        )),
        _ => Ok(shape.to_vec()),
    };
    batch.run(shape, |job| in_own_type!(job, filter(job, &filters)))
}

fn filters(args: &Args) -> Result<Vec<Filter>> {
    let pass = match (args.low, args.high) {
        (Some(low), Some(high)) => Some(Pass::Band(low, high)),
        (Some(low), None) => Some(Pass::High(low)),
        (None, Some(high)) => Some(Pass::Low(high)),
        (None, None) => None,
    };
    if pass.is_none() && args.notch.is_empty() {
        return Err(Error::setting("--low, --high, --notch", "none is given, wanted one or more"));
    }
    let rate = args.sample_rate;
    let butterworth = pass.map(|pass| Filter::butterworth(args.order, pass, rate));
    let notches = args.notch.iter().map(|&hz| Filter::notch(hz, args.notch_q, rate));
    let named = |error: Error| match error {
        Error::Setting { name, detail } => Error::setting(
            match name.as_str() {
                "order" => "--order",
                "band" => "--low, --high",
                "Q" => "--notch-q",
                "rate" => "--sample-rate",
                _ => "--low, --high, --notch",
            },
            detail,
        ),
        other => other,
    };
    butterworth.into_iter().chain(notches).collect::<Result<_>>().map_err(named)
}

fn filter<T: Real>(job: &Job, filters: &[Filter]) -> Result<()> {
    let mut eeg = Stack::<T>::read(&job.input, job.array, false)?;
    for filter in filters {
        filter.filtfilt(&mut eeg.data, eeg.n_samples)?;
    }
    eeg.write(&job.outputs[0])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{going, shape, shell, two_files};
    use super::*;
    use crate::signal::npy;

    fn args(eeg: PathBuf, output: PathBuf) -> Args {
        Args {
            eeg: Eeg { eeg, array: None, force: false },
            output,
            low: Some(8.0),
            high: Some(12.0),
            order: 4,
            notch: vec![50.0],
            notch_q: 30.0,
            sample_rate: 200.0,
        }
    }

    #[test]
    fn a_folder_is_filtered_and_the_rhythm_stays() {
        let (folder, eeg) = two_files();
        let output = folder.path().join("out");
        run(&args(eeg.clone(), output.clone()), &shell(), &going()).unwrap();
        assert_eq!(shape(&output.join("a10.npy")), [2, 3, 800]);
        let filtered = npy::read::<f64>(output.join("a2.npy"), None).unwrap().data;
        // What is left of the noise is far below the sine of 10 µV it stood beside.
        let sine = |i: usize| 1e-5 * (std::f64::consts::TAU * 10.0 * i as f64 / 200.0).sin();
        let off = |values: &[f64]| values.iter().enumerate().map(|(i, v)| (v - sine(i)).powi(2)).sum::<f64>();
        let raw = npy::read::<f64>(eeg.join("a2.npy"), None).unwrap().data;
        assert!(off(&filtered[..800]) < 0.2 * off(&raw[..800]));
    }

    #[test]
    fn mistakes_are_refused() {
        let (folder, eeg) = two_files();
        let out = folder.path().join("out");
        let refused = |change: &dyn Fn(&mut Args)| {
            let mut args = args(eeg.clone(), out.clone());
            change(&mut args);
            let error = run(&args, &shell(), &going()).unwrap_err();
            (error.exit_code(), error.to_string())
        };
        assert!(refused(&|args| args.high = Some(100.0)).1.contains("below 100 Hz"));
        assert!(refused(&|args| args.low = Some(50.0)).1.starts_with("--low, --high: "));
        let none = refused(&|args| (args.low, args.high, args.notch) = (None, None, vec![]));
        assert!(none.0 == 2 && none.1.starts_with("--low, --high, --notch: none"), "{none:?}");
        assert!(refused(&|args| args.order = 0).1.starts_with("--order: "));
        assert!(refused(&|args| args.notch_q = -1.0).1.starts_with("--notch-q: "));
        npy::write(eeg.join("short.npy"), &[2, 20], &[0.0f32; 40]).unwrap();
        let (code, text) = refused(&|_| ());
        assert!(code == 3 && text.contains("short.npy: 20 samples"), "{text}");
        assert!(!out.exists());
    }
}
