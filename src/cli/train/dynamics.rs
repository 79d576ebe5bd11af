//! `mindreel train dynamics`: EEG to slow or fast, which steers the noise a clip begins with.

use super::fit::{FitArgs, Usual};
use super::heads::{self, EegArgs};
use crate::cli::Shell;
use crate::data::{EegInput, SeedDv};
use crate::error::Result;
use crate::models::{Config, check_classifier, takes_features};
use crate::signal::Form;
use crate::signal::features::BANDS;
use crate::train::Fit;
use crate::train::dynamics::Dynamics;
use crate::train::heads::{Sets, first_parameters, weights_of};
use serde_json::json;

const EXAMPLES: &str = "\
A clip is fast when its optical flow (meta_info/All_video_optical_flow_score.npy; `mindreel prepare meta --flow-from`
makes one) is at least the median of the training clips. The part is written as --output/dynamics, with
scaler.safetensors beside it; --into puts them into a checkpoint.

Examples:
  mindreel train dynamics --data sim --output runs/dynamics
  mindreel train dynamics --data sim --output runs/dynamics --model ShallowNet --steps 600 --into demo";

/// EEG to slow or fast
#[derive(clap::Args, Clone)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) eeg: EegArgs,

    /// An EEG network [default: GLMNet]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    model: Option<String>,

    /// Share of values dropped in training [default: the network's own]
    #[arg(long, value_name = "P", help_heading = "Model")]
    drop_prob: Option<f64>,

    /// Seconds of a window; a clip's scores are averaged [default: 1]
    #[arg(long, value_name = "S", help_heading = "Model")]
    window_s: Option<f64>,

    /// Seconds from one training window to the next [default: half the window]
    #[arg(long, value_name = "S", help_heading = "Model")]
    step_s: Option<f64>,

    #[command(flatten)]
    pub(super) fit: FitArgs,
}

/// Names of its own in a settings file.
const OWN: [&str; 4] = ["model", "drop-prob", "window-s", "step-s"];

const USUAL: Usual = Usual {
    steps: 600,
    batch_size: 64,
    learning_rate: 1e-3,
    weight_decay: 0.01,
    schedule: "cosine",
    clip_norm: 1.0,
    ema: 0.0,
    validation_steps: 50,
    snapshot_steps: 200,
};

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let file = args.fit.file(&[&OWN[..], &heads::NAMES].concat())?;
    let mut common = args.fit.merge(&file, &USUAL)?;
    if common.plan.evaluate_every > 0 {
        common.plan.best_by = Some("validation_loss");
    }
    args.eeg.refuse_existing("dynamics", &args.fit)?;
    let model = args.model.clone().or(file.word("model")?).unwrap_or("GLMNet".into());
    check_classifier(&model)?;
    let recording = args.eeg.read(&file, &mut common, false)?;
    let flows = recording.data.flows(SeedDv::n_blocks(recording.eeg.n))?;
    let seconds = args.window_s.or(file.number("window-s")?).unwrap_or(1.0);
    let step = args.step_s.or(file.number("step-s")?).unwrap_or(seconds / 2.0);
    let n_times = recording.samples("window-s", seconds)?;
    let step = recording.samples("step-s", step)?;
    let n_chans = recording.eeg.n_channels;
    let mut config = json!({ "_class_name": model, "n_outputs": 2, "n_chans": n_chans });
    let (taught, input, name) = match takes_features(&model) {
        true => {
            config["n_features"] = (n_chans * BANDS.len()).into();
            let input = EegInput::Features { n_windows: 1, form: Form::Corrected };
            (input.clone(), input, "dynamics")
        }
        false => {
            config["n_times"] = n_times.into();
            config["centred"] = true.into();
            let windows = |step| EegInput::Windows { n_times, step, is_centred: true };
            (windows(step), windows(n_times), "dynamics")
        }
    };
    if model == "Conformer" {
        config["attention_scale"] = "head_dim".into();
    }
    if let Some(p) = args.drop_prob.or(file.number("drop-prob")?) {
        config["drop_prob"] = p.into();
    }
    let config = Config::from_json("config.json", config.to_string().as_bytes())?;
    let [train, validation] = recording.split();
    common.put("model", model.clone());
    common.put("drop-prob", args.drop_prob.or(file.number("drop-prob")?));
    common.put("window-s", seconds);
    common.put("step-s", step as f64 / recording.eeg.sample_rate_hz);
    args.fit.claim("dynamics", &common)?;

    let gpu = shell.open_gpu()?;
    let sets = Sets::new(&recording.eeg, [&taught, &input], train, validation)?;
    let seed = common.settings.seed;
    let task = Dynamics::new(&gpu, config.clone(), sets, &flows, [common.batch_size as u64, seed])?;
    let parameters = first_parameters(&gpu, &config, seed)?;
    shell.note(&format!(
        "{model}, {} windows of blocks {:?}, fast from {:.3}; on '{}'",
        task.sets().train.len(),
        recording.train_blocks,
        task.threshold(),
        gpu.facts().name
    ));
    let mut fit = Fit::new(common.trainer(&gpu, parameters)?, common.plan.clone())?;
    fit.wait_for(recording.patience);
    let accumulate = common.settings.accumulate as u64;
    args.fit.run(
        shell,
        &mut fit,
        common.plan.steps,
        &mut |weights, step, micro| task.loss(weights, step * accumulate + micro as u64),
        &mut |weights, _| {
            let [loss, accuracy] = task.scores(weights)?;
            Ok(vec![("validation_loss".into(), loss), ("validation_accuracy".into(), accuracy)])
        },
    )?;

    let report = task.report(&weights_of(&gpu, &fit.result()?, common.settings.precision)?)?;
    let scaler = (name, &task.sets().scaler);
    let into = args.eeg.keep("dynamics", &config, scaler, (&args.fit, &common, &fit))?;
    let said = format!(
        "validation accuracy {:.1} % (chance {:.1} %, shuffled {:.1} %)",
        100.0 * report.accuracy,
        100.0 * report.majority_chance,
        100.0 * report.shuffled_pairs_accuracy
    );
    heads::tell(shell, &fit, &args.fit.output, &into.join("dynamics"), &report, &said)
}
