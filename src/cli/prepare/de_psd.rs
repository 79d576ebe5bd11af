//! `mindreel prepare de-psd`: differential entropy and power spectral density of whole stretches.

use super::super::Shell;
use super::batch::{Batch, Eeg, Job};
use crate::error::{Error, Result};
use crate::signal::features::BANDS;
use crate::signal::stack::{self, Stack};
use crate::signal::{Form, Units, montage, npy};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
[..., channels, samples] becomes [..., channels, 5], twice, in float64: delta 1-4, theta 4-8, alpha 8-14, beta
14-31, gamma 31-99 Hz. Over the whole window, its mean taken off: Hann, the bins that lie in the band, PSD in
uV^2/Hz, DE = ln(2 pi e power) / 2 with the power in uV^2.

--reproduce-original computes what EEG2Video's script does, on the numbers as they stand: an FFT of 200 points
whatever the length (longer windows lose all but their first 200 samples, shorter ones are padded), bins one too
low, no normalisation, DE = log2(100 PSD).

Examples:
  mindreel prepare de-psd --eeg clips.npy --output-de de.npy --output-psd psd.npy
  mindreel prepare de-psd --eeg clips.npy --output-de de.npy --output-psd psd.npy --reproduce-original

Recordings longer than a window are cut first: `mindreel prepare windows`, or `features`, which does both.";

/// DE and PSD in five bands
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    eeg: Eeg,

    /// Where the differential entropies go
    #[arg(long, value_name = "FILE.npy")]
    output_de: PathBuf,

    /// Where the power spectral densities go
    #[arg(long, value_name = "FILE.npy")]
    output_psd: PathBuf,

    /// Length of a window in seconds; the file is refused when it is another one [default: as long as the file's]
    #[arg(long, value_name = "S")]
    window_s: Option<f64>,

    /// What the file's numbers are: V or uV [default: V]
    #[arg(long)]
    units: Option<String>,

    /// Samples per second of the recording
    #[arg(long, visible_alias = "rate", value_name = "HZ", default_value_t = montage::SAMPLE_RATE_HZ)]
    sample_rate: f64,

    /// The original script's arithmetic
    #[arg(long)]
    reproduce_original: bool,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    let units = args.units.as_deref().map_or(Ok(Units::Volts), str::parse)?;
    let form = if args.reproduce_original { Form::Original } else { Form::Corrected };
    let window = args.window_s.map(|seconds| window_samples(seconds, args.sample_rate)).transpose()?;
    let outputs = [("--output-de", args.output_de.as_path()), ("--output-psd", args.output_psd.as_path())];
    let settings = json!({
        "sample_rate": args.sample_rate, "units": format!("{units:?}"), "form": format!("{form:?}"),
    });
    let batch = Batch { shell, stopped, label: "DE and PSD", eeg: &args.eeg, outputs: &outputs, settings };
    let shape = |shape: &[usize]| {
        let (leading, n_channels, n_samples) = stack::axes(shape)?;
        match window {
            Some(window) if window != n_samples => Err(format!(
                "{n_samples} samples, --window-s {} at {} Hz is {window}; cut it with `mindreel prepare windows`, \
                 or leave --window-s out",
                args.window_s.unwrap_or_default(),
                args.sample_rate
            )),
            _ => Ok([leading, &[n_channels, BANDS.len()]].concat()),
        }
    };
    batch.run(shape, |job| de_psd(job, args.sample_rate, units, form))
}

fn window_samples(seconds: f64, rate: f64) -> Result<usize> {
    let n = (seconds * rate).round();
    if n.is_finite() && n >= 1.0 && (seconds * rate - n).abs() < 1e-6 * n {
        return Ok(n as usize);
    }
    let detail =
        format!("{seconds} s at {rate} Hz is {} samples, wanted a whole number above 0", seconds * rate);
    Err(Error::setting("--window-s", detail))
}

fn de_psd(job: &Job, rate: f64, units: Units, form: Form) -> Result<()> {
    let eeg = Stack::<f64>::read(&job.input, job.array, false)?;
    let (de, psd) = eeg.de_psd(&job.input, rate, units, form)?;
    let shape = [eeg.leading.as_slice(), &[eeg.n_channels, BANDS.len()]].concat();
    npy::write(&job.outputs[0], &shape, &de)?;
    npy::write(&job.outputs[1], &shape, &psd)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{going, shape, shell, two_files};
    use super::*;
    use crate::signal::features;

    fn args(eeg: PathBuf, into: &std::path::Path) -> Args {
        Args {
            eeg: Eeg { eeg, array: None, force: false },
            output_de: into.join("de.npy"),
            output_psd: into.join("psd.npy"),
            window_s: None,
            units: None,
            sample_rate: 200.0,
            reproduce_original: false,
        }
    }

    #[test]
    fn features_of_a_file() {
        let (folder, eeg) = two_files();
        let file = eeg.join("a2.npy");
        for (name, reproduce_original) in [("new", false), ("old", true)] {
            let into = folder.path().join(name);
            run(
                &Args { reproduce_original, window_s: Some(4.0), ..args(file.clone(), &into) },
                &shell(),
                &going(),
            )
            .unwrap();
            assert_eq!(shape(&into.join("psd.npy")), [2, 3, 5]);
            let form = if reproduce_original { Form::Original } else { Form::Corrected };
            let data = npy::read::<f64>(&file, None).unwrap().data;
            let (de, psd) = features::de_psd(&data, 6, 800, 200.0, form).unwrap();
            assert_eq!(npy::read::<f64>(into.join("de.npy"), None).unwrap().data, de);
            assert_eq!(npy::read::<f64>(into.join("psd.npy"), None).unwrap().data, psd);
        }
    }

    #[test]
    fn mistakes_are_refused() {
        let (folder, eeg) = two_files();
        let file = eeg.join("a2.npy");
        let into = folder.path().join("out");
        let code = |args: Args| run(&args, &shell(), &going()).unwrap_err().exit_code();
        assert_eq!(code(Args { window_s: Some(2.0), ..args(file.clone(), &into) }), 3);
        assert_eq!(code(Args { window_s: Some(-2.0), ..args(file.clone(), &into) }), 2);
        assert_eq!(code(Args { units: Some("mV".into()), ..args(file.clone(), &into) }), 2);
        assert_eq!(code(Args { units: Some("uV".into()), ..args(file.clone(), &into) }), 3);
        assert_eq!(code(Args { sample_rate: 128.0, ..args(file.clone(), &into) }), 2);
        assert_eq!(
            code(Args { sample_rate: 250.0, reproduce_original: true, ..args(file.clone(), &into) }),
            2
        );
        assert_eq!(code(Args { output_psd: into.join("./de.npy"), ..args(file.clone(), &into) }), 2);
        let mut own = args(file.clone(), &into);
        (own.eeg.force, own.output_psd) = (true, file);
        assert_eq!(code(own), 2);
        assert!(!into.exists());
    }
}
