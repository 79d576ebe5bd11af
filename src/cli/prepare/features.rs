//! `mindreel prepare features`: DE and PSD over sliding windows.

use super::super::Shell;
use super::batch::{Batch, Eeg, Job};
use super::span::Span;
use super::windows::window_and_step;
use crate::error::Result;
use crate::signal::features::BANDS;
use crate::signal::stack::{self, Stack};
use crate::signal::{Form, Units, montage, npy};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
Windows (--per names the usual ones; --size and --overlap any other):
  1s       two windows of 1 s to a clip      [7, 40, 5, 62, 400] -> [7, 40, 5, 2, 62, 5]   DE_1per1s
  2s       the clip as one window                                -> [7, 40, 5, 62, 5]      DE_1per2s
  500ms    0.5 s, overlapping by 0.25 s                          -> [7, 40, 5, 7, 62, 5]   DE_500ms_sw

--mean takes the average over the windows: [..., channels, 5]. What is computed in each window is what
`mindreel prepare de-psd` computes, --reproduce-original included.

Examples:
  mindreel prepare features --eeg Segmented --output-de DE_1per1s --output-psd PSD_1per1s
  mindreel prepare features --eeg Segmented --output-de DE_1per2s --output-psd PSD_1per2s --per 2s
  mindreel prepare features --eeg eeg.npy --output-de de.npy --output-psd psd.npy --size 1s --overlap 500ms --mean";

/// DE and PSD over sliding windows
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    eeg: Eeg,

    /// Where the differential entropies go: a file, or a folder where --eeg is one
    #[arg(long, value_name = "FILE.npy|DIR")]
    output_de: PathBuf,

    /// Where the power spectral densities go
    #[arg(long, value_name = "FILE.npy|DIR")]
    output_psd: PathBuf,

    /// The usual windows
    #[arg(long, default_value = "1s", conflicts_with_all = ["size", "overlap"])]
    per: Per,

    /// Length of a window
    #[arg(long, value_name = "TIME|SAMPLES")]
    size: Option<Span>,

    /// What a window shares with the next one [default: 0]
    #[arg(long, value_name = "TIME|SAMPLES", requires = "size")]
    overlap: Option<Span>,

    /// Average over the windows
    #[arg(long)]
    mean: bool,

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

/// `--per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Per {
    /// Windows of 1 s end to end
    #[value(name = "1s")]
    Second,
    /// One window of 2 s, and no axis for it
    #[value(name = "2s")]
    Clip,
    /// Windows of 0.5 s every 0.25 s
    #[value(name = "500ms")]
    Half,
}

/// What is computed.
struct Plan {
    window: usize,
    step: usize,
    /// One value for all windows of a stretch.
    is_mean: bool,
    rate: f64,
    units: Units,
    form: Form,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
    let plan = plan(args)?;
    let outputs = [("--output-de", args.output_de.as_path()), ("--output-psd", args.output_psd.as_path())];
    let settings = json!({
        "window": plan.window, "step": plan.step, "mean": plan.is_mean, "sample_rate": plan.rate,
        "units": format!("{:?}", plan.units), "form": format!("{:?}", plan.form),
    });
    let batch = Batch { shell, stopped, label: "features", eeg: &args.eeg, outputs: &outputs, settings };
    batch.run(|shape| plan.shape(shape), |job| features(job, &plan))
}

fn plan(args: &Args) -> Result<Plan> {
    let (size, overlap) = match (args.size, args.per) {
        (Some(size), _) => (size, args.overlap.unwrap_or(Span::Samples(0))),
        (None, Per::Second) => (Span::Seconds(1.0), Span::Samples(0)),
        (None, Per::Clip) => (Span::Seconds(2.0), Span::Samples(0)),
        (None, Per::Half) => (Span::Seconds(0.5), Span::Seconds(0.25)),
    };
    let (window, step) = window_and_step(size, overlap, args.sample_rate)?;
    Ok(Plan {
        window,
        step,
        is_mean: args.mean || (args.size.is_none() && args.per == Per::Clip),
        rate: args.sample_rate,
        units: args.units.as_deref().map_or(Ok(Units::Volts), str::parse)?,
        form: if args.reproduce_original { Form::Original } else { Form::Corrected },
    })
}

impl Plan {
    /// `[…, windows, channels, 5]`, or without the windows.
    fn shape(&self, shape: &[usize]) -> Result<Vec<usize>, String> {
        let mut shape = stack::windowed_shape(shape, self.window, self.step)?;
        if let Some(samples) = shape.last_mut() {
            *samples = BANDS.len();
        }
        if self.is_mean {
            shape.remove(shape.len() - 3);
        }
        Ok(shape)
    }
}

fn features(job: &Job, plan: &Plan) -> Result<()> {
    let eeg = Stack::<f64>::read(&job.input, job.array, false)?;
    let shape = plan.shape(&eeg.shape()).map_err(|detail| crate::error::Error::format(&job.input, detail))?;
    let windows = eeg.windows(plan.window, plan.step)?;
    drop(eeg);
    let (de, psd) = windows.de_psd(&job.input, plan.rate, plan.units, plan.form)?;
    let n_windows = windows.leading.last().copied().unwrap_or(1);
    for (path, values) in job.outputs.iter().zip([de, psd]) {
        let size = windows.n_channels * BANDS.len();
        let values = if plan.is_mean { mean(&values, n_windows, size) } else { values };
        npy::write(path, &shape, &values)?;
    }
    Ok(())
}

/// `[…, n, size]` -> `[…, size]`
fn mean(values: &[f64], n: usize, size: usize) -> Vec<f64> {
    let stretch = |stretch: &[f64]| {
        let sum = |at: usize| stretch.iter().skip(at).step_by(size).sum::<f64>();
        (0..size).map(|at| sum(at) / n as f64).collect::<Vec<_>>()
    };
    values.chunks_exact(n * size).flat_map(stretch).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{going, shape, shell, two_files};
    use super::*;
    use crate::signal::features::de_psd;

    fn args(eeg: PathBuf, into: &std::path::Path, per: Per) -> Args {
        Args {
            eeg: Eeg { eeg, array: None, force: true },
            output_de: into.join("de"),
            output_psd: into.join("psd"),
            per,
            size: None,
            overlap: None,
            mean: false,
            units: None,
            sample_rate: 200.0,
            reproduce_original: false,
        }
    }

    #[test]
    fn the_usual_windows_have_the_usual_shapes() {
        let (folder, eeg) = two_files();
        let into = folder.path().join("out");
        let one = into.join("de/a10.npy");
        for (per, wanted) in
            [(Per::Second, &[2, 4, 3, 5][..]), (Per::Clip, &[2, 3, 5]), (Per::Half, &[2, 15, 3, 5])]
        {
            run(&args(eeg.clone(), &into, per), &shell(), &going()).unwrap();
            assert_eq!(shape(&one), wanted);
        }
        // Window 3 of stretch 1 begins at sample 150.
        let (got, data) =
            (npy::read::<f64>(&one, None).unwrap(), npy::read::<f64>(eeg.join("a10.npy"), None).unwrap());
        let window: Vec<f64> =
            (0..3).flat_map(|channel| data.data[(3 + channel) * 800 + 150..][..100].to_vec()).collect();
        assert_eq!(
            got.data[(15 + 3) * 15..][..15],
            de_psd(&window, 3, 100, 200.0, Form::Corrected).unwrap().0
        );
    }

    #[test]
    fn the_mean_is_over_windows() {
        assert_eq!(mean(&[1.0, 2.0, 3.0, 6.0, 0.0, 0.0, 4.0, 2.0], 2, 2), [2.0, 4.0, 2.0, 1.0]);
        let (folder, eeg) = two_files();
        let into = folder.path().join("out");
        let size = Some("1s".parse().unwrap());
        run(
            &Args { size, mean: true, reproduce_original: true, ..args(eeg.clone(), &into, Per::Second) },
            &shell(),
            &going(),
        )
        .unwrap();
        assert_eq!(shape(&into.join("psd/a2.npy")), [2, 3, 5]);
        let size = Some("5s".parse().unwrap());
        let error = run(&Args { size, ..args(eeg, &into, Per::Second) }, &shell(), &going()).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
    }
}
