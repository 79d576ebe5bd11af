//! `mindreel train seq2seq`: EEG windows to the latents a clip is denoised from.

use super::fit::{FitArgs, Usual};
use super::heads::{self, EegArgs};
use crate::cli::Shell;
use crate::data::{Clips, EegInput};
use crate::error::{Error, Result};
use crate::models::{Config, Seq2SeqConfig};
use crate::signal::seed_dv::BLOCK_CLIPS;
use crate::signal::windows::{self, SEQ2SEQ_STEP, SEQ2SEQ_WINDOW};
use crate::train::Fit;
use crate::train::heads::{Sets, first_parameters, weights_of};
use crate::train::seq2seq::{Encoded, Recipe, Sequence};
use serde_json::json;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Targets are the latents of the clips' frames: the mean of the VAE's posterior times its scaling factor. Each step of the
decoder sees the clip's latents before it; validation, and `mindreel video`, let it see those it has made. Beside the
error on the validation block stand that of the mean latent of the training clips and that of the same predictions
beside other clips. The part is written as --output/seq2seq, with scaler.safetensors beside it; --into puts them into a
checkpoint.

Examples:
  mindreel train seq2seq --data sim --vae runs/vae/model --output runs/seq2seq
  mindreel train seq2seq --data sim --vae demo/vae --output runs/seq2seq --d-model 64 --free-share 0.5 --into demo
  mindreel train seq2seq --data SEED-DV --vae stable-diffusion-v1-4/vae --output runs/own --reproduce-original";

/// EEG windows to latents of frames
#[derive(clap::Args, Clone)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) eeg: EegArgs,

    /// Folder of an AutoencoderKL, or one that holds it as vae/ or model/
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    vae: PathBuf,

    /// Width of the transformer [default: 128; 512 with --reproduce-original]
    #[arg(long, value_name = "N", help_heading = "Model")]
    d_model: Option<usize>,

    /// Attention heads [default: 4]
    #[arg(long, value_name = "N", help_heading = "Model")]
    n_heads: Option<usize>,

    /// Width inside the feed-forward [default: 256; 2048 with --reproduce-original]
    #[arg(long, value_name = "N", help_heading = "Model")]
    dim_feedforward: Option<usize>,

    /// Encoder layers [default: 1; 2 with --reproduce-original]
    #[arg(long, value_name = "N", help_heading = "Model")]
    n_encoder_layers: Option<usize>,

    /// Decoder layers [default: 2; 4 with --reproduce-original]
    #[arg(long, value_name = "N", help_heading = "Model")]
    n_decoder_layers: Option<usize>,

    /// Share of the transformer's values dropped in training [default: 0.1]
    #[arg(long, value_name = "P", help_heading = "Model")]
    drop_prob: Option<f64>,

    /// Share of steps in which the decoder sees the latents it has made, as when it is used [default: 0]
    #[arg(long, value_name = "P", help_heading = "Model")]
    free_share: Option<f64>,

    /// The original's form: a decoder that never sees latents and whose first frame is a constant, unscaled latents, no
    /// choice by validation; run it with `mindreel video --reproduce-original`
    #[arg(long, help_heading = "Model")]
    reproduce_original: bool,

    #[command(flatten)]
    pub(super) fit: FitArgs,
}

/// Names of its own in a settings file.
const OWN: [&str; 8] = [
    "d-model",
    "n-heads",
    "dim-feedforward",
    "n-encoder-layers",
    "n-decoder-layers",
    "drop-prob",
    "free-share",
    "reproduce-original",
];

const USUAL: Usual = Usual {
    steps: 2000,
    batch_size: 32,
    learning_rate: 5e-4,
    weight_decay: 0.01,
    schedule: "cosine",
    clip_norm: 1.0,
    ema: 0.0,
    validation_steps: 100,
    snapshot_steps: 500,
};

/// 200 passes over 1200 clips, 38 batches each.
const ORIGINAL: Usual = Usual {
    steps: 7600,
    weight_decay: 0.0,
    clip_norm: 0.0,
    validation_steps: 380,
    snapshot_steps: 380,
    ..USUAL
};

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let file = args.fit.file(&[&OWN[..], &heads::NAMES].concat())?;
    let original = args.reproduce_original || file.switch("reproduce-original")?;
    let mut common = args.fit.merge(&file, if original { &ORIGINAL } else { &USUAL })?;
    if !original && common.plan.evaluate_every > 0 {
        common.plan.best_by = Some("validation_loss");
    }
    args.eeg.refuse_existing("seq2seq", &args.fit)?;
    let size = |given: Option<usize>, name: &str, [ours, theirs]: [usize; 2]| -> Result<usize> {
        Ok(given.or(file.size(name)?).unwrap_or(if original { theirs } else { ours }))
    };
    let share = |given: Option<f64>, name: &str, usual: f64| -> Result<f64> {
        let share = given.or(file.number(name)?).unwrap_or(usual);
        match (0.0..=1.0).contains(&share) {
            true => Ok(share),
            false => Err(Error::setting(name, format!("wanted 0 to 1, got {share}"))),
        }
    };
    let free_share = share(args.free_share, "free-share", 0.0)?;
    if original && free_share > 0.0 {
        return Err(Error::setting("free-share", "the original's form is free in every step; leave it out"));
    }
    let clips = Clips::open(&args.eeg.data)?;
    let recording = args.eeg.read(&file, &mut common, original)?;
    let eeg = &recording.eeg;
    let n_windows = windows::starts(eeg.n_samples, SEQ2SEQ_WINDOW, SEQ2SEQ_STEP).len();
    if clips.per_block() != BLOCK_CLIPS || clips.shape()[0] + 1 != n_windows {
        let detail = format!(
            "{} clips a block of {} frames, wanted {BLOCK_CLIPS} of {}, one less than the windows of a clip",
            clips.per_block(),
            clips.shape()[0],
            n_windows.saturating_sub(1)
        );
        return Err(Error::format(clips.folder(), detail));
    }
    let [train, validation] = recording.split();
    clips.of_blocks("train-blocks", &recording.train_blocks)?;
    clips.of_blocks("validation-block", &[recording.validation_block])?;
    let autoencoder = Encoded::find(&args.vae)?;
    let latent_shape = autoencoder.latent_shape(&clips)?;
    let scale = if original { 1.0 } else { autoencoder.scaling_factor() };
    let config = json!({
        "_class_name": "EEG2VideoTransformer",
        "n_windows": n_windows,
        "n_chans": eeg.n_channels,
        "n_times": SEQ2SEQ_WINDOW,
        "d_model": size(args.d_model, "d-model", [128, 512])?,
        "n_heads": size(args.n_heads, "n-heads", [4, 4])?,
        "dim_feedforward": size(args.dim_feedforward, "dim-feedforward", [256, 2048])?,
        "n_encoder_layers": size(args.n_encoder_layers, "n-encoder-layers", [1, 2])?,
        "n_decoder_layers": size(args.n_decoder_layers, "n-decoder-layers", [2, 4])?,
        "n_classes": 13,
        "latent_shape": latent_shape,
        "latent_scale": scale,
        "target_embedding": !original,
        "drop_prob": share(args.drop_prob, "drop-prob", 0.1)?,
        "centred": !original,
    });
    common.put("vae", args.vae.display().to_string());
    common.put("config", config.clone());
    common.put("free-share", free_share);
    common.put("reproduce-original", original);
    let config = Config::from_json("config.json", config.to_string().as_bytes())?;
    let sizes = Seq2SeqConfig::new(&config)?;
    args.fit.claim("seq2seq", &common)?;

    let gpu = shell.open_gpu()?;
    let precision = common.settings.precision;
    shell.note(&format!(
        "latents {latent_shape:?} of {} clips; on '{}'",
        train.len() + validation.len(),
        gpu.facts().name
    ));
    let latents = [&train, &validation].map(|some| autoencoder.latents(&gpu, precision, &clips, some, scale));
    let [taught, held] = latents;
    let input =
        EegInput::Windows { n_times: SEQ2SEQ_WINDOW, step: SEQ2SEQ_STEP, is_centred: sizes.is_centred };
    let sets = Sets::new(eeg, [&input, &input], train, validation)?;
    let seed = common.settings.seed;
    let recipe = Recipe { batch_size: common.batch_size, seed, free_share };
    let task = Sequence::new(&gpu, sizes, sets, [taught?, held?], recipe)?;
    let mut fit =
        Fit::new(common.trainer(&gpu, first_parameters(&gpu, &config, seed)?)?, common.plan.clone())?;
    fit.wait_for(recording.patience);
    let accumulate = common.settings.accumulate as u64;
    args.fit.run(
        shell,
        &mut fit,
        common.plan.steps,
        &mut |weights, step, micro| task.loss(weights, step * accumulate + micro as u64),
        &mut |weights, _| Ok(vec![("validation_loss".into(), task.mse(weights)?)]),
    )?;

    let report = task.report(&weights_of(&gpu, &fit.result()?, precision)?)?;
    let scaler = ("seq2seq", &task.sets().scaler);
    let into = args.eeg.keep("seq2seq", &config, scaler, (&args.fit, &common, &fit))?;
    let said = format!(
        "validation mse {:.4} (mean latent {:.4}, shuffled {:.4})",
        report.mse, report.mean_latent_mse, report.shuffled_pairs_mse
    );
    heads::tell(shell, &fit, &args.fit.output, &into.join("seq2seq"), &report, &said)
}
