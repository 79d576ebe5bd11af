//! `mindreel train vae`: a small autoencoder of the clips' frames.

use super::fit::{FitArgs, Usual};
use crate::cli::Shell;
use crate::cli::settings::SettingsFile;
use crate::data::Clips;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::media::{Frames, frames::Rounding, png};
use crate::models::Vae;
use crate::tensor::{DType, Tensor};
use crate::train::Fit;
use crate::train::fit::Batches;
use crate::train::vae::{self, Objective, Sizes};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
The data: a folder with Video/clips.npy or Video/Block0/1.gif .., as `mindreel prepare simulate` and `prepare clips` make
them. Frames of --train-blocks are learnt from, those of --validation-block measured; other blocks are not looked at.

Written to --output: model/ (as diffusers writes AutoencoderKL; over training frames its latents are uncorrelated, of mean
0 and variance 1, which quant_conv and post_quant_conv see to), reconstructions.png (true frames above what comes back),
log.jsonl, log.csv, loss.png, train.json.

Examples:
  mindreel train vae --data sim --output runs/vae
  mindreel train vae --data sim --output runs/vae --block-out-channels 32,64,64,64 --latent-channels 8 --steps 4000
  mindreel train vae --data sim --output runs/vae --config vae.toml --resume";

/// Train an autoencoder of frames
#[derive(clap::Args, Clone)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The data set
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Blocks to learn from, from 0 [default: 0,1,2,3,4]
    #[arg(long, value_delimiter = ',', value_name = "K,…")]
    train_blocks: Vec<usize>,

    /// Block to measure by [default: 5]
    #[arg(long, value_name = "K")]
    validation_block: Option<usize>,

    /// Channels of each level; each but the last halves height and width [default: 16,32,64,64]
    #[arg(long, value_delimiter = ',', value_name = "C,…")]
    block_out_channels: Vec<usize>,

    /// Resnets of a level [default: 1]
    #[arg(long, value_name = "N")]
    layers_per_block: Option<usize>,

    /// Channels of the latents [default: 4]
    #[arg(long, value_name = "C")]
    latent_channels: Option<usize>,

    /// Groups of every norm [default: 8]
    #[arg(long, value_name = "N")]
    norm_num_groups: Option<usize>,

    /// No attention in the middle
    #[arg(long)]
    no_mid_attention: bool,

    /// mse or l1 [default: mse]
    #[arg(long)]
    reconstruction: Option<String>,

    /// Weight of the divergence of latents from N(0, 1) [default: 0.0001]
    #[arg(long, value_name = "X")]
    kl_weight: Option<f64>,

    /// Frames of the validation block that are measured [default: 64]
    #[arg(long, value_name = "N")]
    validation_frames: Option<usize>,

    #[command(flatten)]
    pub(super) fit: FitArgs,
}

const OWN: [&str; 10] = [
    "train-blocks",
    "validation-block",
    "block-out-channels",
    "layers-per-block",
    "latent-channels",
    "norm-num-groups",
    "no-mid-attention",
    "reconstruction",
    "kl-weight",
    "validation-frames",
];

const USUAL: Usual = Usual {
    steps: 2000,
    batch_size: 8,
    learning_rate: 1e-3,
    weight_decay: 0.0,
    schedule: "cosine",
    clip_norm: 1.0,
    ema: 0.0,
    validation_steps: 200,
    snapshot_steps: 200,
};

/// Frames whose latents are whitened.
const WHITENED_BY: usize = 1024;
/// Clips on the picture of reconstructions.
const SHOWN: usize = 4;

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let file = args.fit.file(&OWN)?;
    let mut common = args.fit.merge(&file, &USUAL)?;
    let sizes = sizes(args, &file)?;
    let objective = objective(args, &file)?;
    let blocks = blocks(&args.train_blocks, args.validation_block, &file)?;
    let n_measured = args.validation_frames.or(file.size("validation-frames")?).unwrap_or(64);
    let clips = Clips::open(&args.data)?;
    let [_, height, width] = clips.shape();
    let config = sizes.config([height, width], 1.0)?;
    let learnt = vae::frames(&clips, &clips.of_blocks("train-blocks", &blocks.train)?);
    let validation = clips.of_blocks("validation-block", &[blocks.validation])?;
    let measured = vae::spread(&vae::frames(&clips, &validation), n_measured.max(1));

    common.put("data", args.data.display().to_string());
    common.put("train-blocks", blocks.train.clone());
    common.put("validation-block", blocks.validation);
    common.put("block-out-channels", sizes.block_out_channels.clone());
    common.put("layers-per-block", sizes.layers_per_block);
    common.put("latent-channels", sizes.latent_channels);
    common.put("norm-num-groups", sizes.norm_num_groups);
    common.put("no-mid-attention", !sizes.mid_block_add_attention);
    common.put("reconstruction", if objective.l1 { "l1" } else { "mse" });
    common.put("kl-weight", objective.kl_weight);
    common.put("validation-frames", n_measured);
    args.fit.claim("vae", &common)?;

    let gpu = shell.open_gpu()?;
    let seed = common.settings.seed;
    let parameters = vae::first_parameters(&gpu, &config, seed)?;
    let n_values: usize = parameters.iter().map(|(_, tensor)| tensor.len()).sum();
    shell.note(&format!(
        "{n_values} parameters, {} frames of {width} x {height} in blocks {:?}; on '{}'",
        learnt.len(),
        blocks.train,
        gpu.facts().name
    ));
    let mut fit = Fit::new(common.trainer(&gpu, parameters)?, common.plan.clone())?;
    let batches = Batches { n: learnt.len(), size: common.batch_size, seed };
    let accumulate = common.settings.accumulate as u64;
    args.fit.run(
        shell,
        &mut fit,
        common.plan.steps,
        &mut |weights, step, micro| {
            let number = step * accumulate + micro as u64;
            let chosen: Vec<_> = batches.at(number).into_iter().map(|at| learnt[at]).collect();
            let pixels = vae::pixels(&gpu, &clips, &chosen)?;
            objective.loss(&vae::model(weights, &config)?, &pixels, seed, number)
        },
        &mut |weights, _| {
            let model = vae::model(weights, &config)?;
            let [mse, psnr] = vae::reconstruction(&model, &gpu, &clips, &measured)?;
            draw(&model, &gpu, &clips, &validation, &args.fit.output)?;
            Ok(vec![("validation_mse_loss".into(), mse), ("validation_psnr_db".into(), psnr)])
        },
    )?;

    let model = vae::model(&fit.weights(), &config)?;
    let moments = vae::moments(&model, &gpu, &clips, &vae::spread(&learnt, WHITENED_BY))?;
    let mut values = fit.result()?;
    moments.whiten(&mut values)?;
    common.keep(&args.fit.model(), &config, None, &values)?;
    draw(&model, &gpu, &clips, &validation, &args.fit.output)?;
    args.fit.tell(shell, &fit)
}

/// Blocks by their use.
pub(super) struct Blocks {
    pub train: Vec<usize>,
    pub validation: usize,
}

/// `--train-blocks` and `--validation-block`.
///
/// Errors: [`Error::Setting`] when one is in both.
pub(super) fn blocks(train: &[usize], validation: Option<usize>, file: &SettingsFile) -> Result<Blocks> {
    let train = match (train, file.counts("train-blocks")?) {
        ([], None) => (0..5).collect(),
        ([], Some(blocks)) => blocks.into_iter().map(|block| block as usize).collect(),
        (given, _) => given.to_vec(),
    };
    let validation = validation.or(file.size("validation-block")?).unwrap_or(5);
    if train.contains(&validation) {
        let detail = format!("block {validation} is learnt from; give one that is not in --train-blocks");
        return Err(Error::setting("validation-block", detail));
    }
    if train.is_empty() {
        return Err(Error::setting("train-blocks", "wanted at least one"));
    }
    Ok(Blocks { train, validation })
}

fn sizes(args: &Args, file: &SettingsFile) -> Result<Sizes> {
    let size = |given: Option<usize>, name: &str, usual: usize| -> Result<usize> {
        Ok(given.or(file.size(name)?).unwrap_or(usual))
    };
    let block_out_channels = match (&args.block_out_channels[..], file.counts("block-out-channels")?) {
        ([], None) => vec![16, 32, 64, 64],
        ([], Some(channels)) => channels.into_iter().map(|n| n as usize).collect(),
        (given, _) => given.to_vec(),
    };
    Ok(Sizes {
        block_out_channels,
        layers_per_block: size(args.layers_per_block, "layers-per-block", 1)?,
        latent_channels: size(args.latent_channels, "latent-channels", 4)?,
        norm_num_groups: size(args.norm_num_groups, "norm-num-groups", 8)?,
        mid_block_add_attention: !(args.no_mid_attention || file.switch("no-mid-attention")?),
    })
}

fn objective(args: &Args, file: &SettingsFile) -> Result<Objective> {
    let l1 = match args.reconstruction.clone().or(file.word("reconstruction")?).as_deref() {
        None | Some("mse") => false,
        Some("l1") => true,
        Some(other) => {
            let detail = format!("'{}' is none of mse, l1", other.escape_debug());
            return Err(Error::setting("reconstruction", detail));
        }
    };
    let kl_weight = args.kl_weight.or(file.number("kl-weight")?).unwrap_or(1e-4);
    if !(kl_weight.is_finite() && kl_weight >= 0.0) {
        return Err(Error::setting("kl-weight", format!("wanted 0 or more, got {kl_weight}")));
    }
    Ok(Objective { l1, kl_weight })
}

/// reconstructions.png: clips, and below each what comes back of it.
fn draw(model: &Vae, gpu: &Gpu, clips: &Clips, places: &[(usize, usize)], folder: &Path) -> Result<()> {
    let [count, height, width] = clips.shape();
    let mut rows = Vec::new();
    for (block, number) in vae::spread(places, SHOWN) {
        rows.push(Frames::new(count, height, width, clips.clip(block, number)?, 3.0)?);
        let pixels = vae::pixels(gpu, clips, &vae::frames(clips, &[(block, number)]))?;
        let back = model.decode(&model.encode(&pixels.cast(model.dtype())?)?.0)?;
        rows.push(pictures(&back)?);
    }
    let sheet = png::overview(&rows, 2)?;
    png::write(folder.join("reconstructions.png"), &sheet.rgb, sheet.height, sheet.width, "")
}

/// Pixels `[frames, height, width, 3]` in [-1, 1] as pictures, at 3 a second.
pub(super) fn pictures(pixels: &Tensor) -> Result<Frames> {
    let &[count, height, width, _] = pixels.shape() else {
        return Err(Error::shape("frames", format!("wanted pictures, got {:?}", pixels.shape())));
    };
    let unit = pixels.cast(DType::F32)?.scale(0.5, 0.5)?.to_vec()?;
    Frames::from_unit(&unit, count, height, width, 3.0, Rounding::Nearest)
}
