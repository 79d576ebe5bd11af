//! `mindreel train video`: the diffusion fine-tune.

use super::fit::{Common, FitArgs, Usual};
use super::vae::{blocks, pictures};
use crate::cli::Shell;
use crate::cli::journey::refuse_what_cannot_fit;
use crate::cli::progress::Progress;
use crate::cli::settings::SettingsFile;
use crate::data::{Clips, SeedDv, Task, TextTable};
use crate::diffusion::{self, SchedulerConfig};
use crate::error::{Error, Result, bytes};
use crate::generate::{Guidance, denoise, encode_texts};
use crate::gpu::Gpu;
use crate::media::{Frames, gif, png};
use crate::models::{self, Config, Halves, UNet, UNetConfig, Vae, VaeConfig, preset};
use crate::nn::{self, Precision, Weights};
use crate::signal::Units;
use crate::signal::seed_dv::BLOCK_CLIPS;
use crate::tensor::Tensor;
use crate::train::fit::{Batches, stream};
use crate::train::vae::{self as pixels, spread};
use crate::train::video::{self, Learning, Lora, Objective, Step, Videos};
use crate::train::{Fit, Values};
use crate::weights::{self, Checkpoint, NewTensor, random};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXAMPLES: &str = "\
The data: clips as `mindreel prepare simulate` and `prepare clips` make them. Those of --train-blocks are learnt from, as
latents of the autoencoder; --validation-block is measured, and shown: validation/step-…/ holds clips made from its texts.
A text is a row of --text (`prepare text-embeddings`), or a caption through --text-encoder.

What is trained: the UNet of --model or --unet, of which by default the query projections and the temporal attention learn
(a 2-D one gets temporal layers that begin as nothing); with --lora-rank adapters instead; with --init a new one, whole.
What is frozen stays in the number type of its file.

Written to --output: model/ (a unet folder as diffusers has them), with adapters lora/ too, validation/, log.jsonl, log.csv,
loss.png, train.json, latents.safetensors.

Examples:
  mindreel train video --data sim --vae runs/vae/model --init unet.json --text texts.safetensors --output runs/video
  mindreel train video --data SEED-DV --model stable-diffusion-v1-4 --text-encoder stable-diffusion-v1-4 \\
    --output runs/video --dtype f16 --gradient-checkpointing
  mindreel train video --data SEED-DV --model sd --text t.safetensors --output runs/lora --lora-rank 8 --learning-rate 1e-4";

/// Teach a video UNet the clips
#[derive(clap::Args, Clone)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The data set
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// A folder with unet/, vae/ and scheduler/
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// The UNet's folder, in the place of --model's
    #[arg(long, value_name = "DIR")]
    unet: Option<PathBuf>,

    /// The autoencoder's folder, in the place of --model's
    #[arg(long, value_name = "DIR")]
    vae: Option<PathBuf>,

    /// Begin from first weights: the config.json of a UNet, or a name that `mindreel init` knows
    #[arg(long, value_name = "FILE|NAME", conflicts_with = "unet")]
    init: Option<String>,

    /// Embeddings by class or clip, as `prepare text-embeddings` writes them
    #[arg(long, value_name = "FILE", conflicts_with = "text_encoder")]
    text: Option<PathBuf>,

    /// Captions through the text encoder of this folder instead
    #[arg(long, value_name = "DIR")]
    text_encoder: Option<PathBuf>,

    /// Blocks to learn from, from 0 [default: 0,1,2,3,4]
    #[arg(long, value_delimiter = ',', value_name = "K,…")]
    train_blocks: Vec<usize>,

    /// Block to measure by [default: 5]
    #[arg(long, value_name = "K")]
    validation_block: Option<usize>,

    /// Parts of names of what learns; * is all [default: attn1.to_q,attn2.to_q,attn_temp; * with --init]
    #[arg(long, value_delimiter = ',', value_name = "PART,…")]
    trainable: Vec<String>,

    /// Train adapters of this rank on the attentions' projections
    #[arg(long, value_name = "N")]
    lora_rank: Option<usize>,

    /// What adapters count, times their rank [default: the rank]
    #[arg(long, value_name = "X")]
    lora_alpha: Option<f64>,

    /// Share of texts dropped for the unconditional one, so that guidance works [default: 0.1]
    #[arg(long, value_name = "P")]
    condition_dropout: Option<f64>,

    /// Deviation of noise put on texts, so that predicted ones look familiar [default: 0]
    #[arg(long, value_name = "X")]
    condition_noise: Option<f64>,

    /// Frames of a clip that a step sees, from a place drawn anew: 1 learns from stills, which is quick and what a UNet
    /// begins with; the clip's, as it moves [default: the clip's]
    #[arg(long, value_name = "N")]
    frames: Option<usize>,

    /// Ratio of signal to noise above which a time counts less (min-SNR weights; 5 is usual); 0: all count alike [default: 0]
    #[arg(long, value_name = "GAMMA")]
    snr_gamma: Option<f64>,

    /// mean or sample of the autoencoder's posterior [default: mean]
    #[arg(long)]
    latents: Option<String>,

    /// Keep of each layer only what goes in, and compute it again on the way back: less memory, a third more time
    #[arg(long)]
    gradient_checkpointing: bool,

    /// Clips of the validation block that are made at each validation [default: 2]
    #[arg(long, value_name = "N")]
    validation_clips: Option<usize>,

    /// Denoising steps of those, by DDIM [default: 20]
    #[arg(long, value_name = "N")]
    num_inference_steps: Option<usize>,

    /// Their guidance [default: 7.5]
    #[arg(long, value_name = "X")]
    guidance_scale: Option<f64>,

    /// Refuse to start when more memory than this would be needed [default: what is free, on a software adapter]
    #[arg(long, value_name = "GIB")]
    max_memory: Option<f64>,

    #[command(flatten)]
    pub(super) fit: FitArgs,
}

const OWN: [&str; 20] = [
    "model",
    "unet",
    "vae",
    "init",
    "text",
    "text-encoder",
    "train-blocks",
    "validation-block",
    "trainable",
    "lora-rank",
    "lora-alpha",
    "condition-dropout",
    "condition-noise",
    "frames",
    "snr-gamma",
    "latents",
    "gradient-checkpointing",
    "validation-clips",
    "num-inference-steps",
    "guidance-scale",
];

/// Rate, decay and clipping are the originals'.
const USUAL: Usual = Usual {
    steps: 4000,
    batch_size: 1,
    learning_rate: 3e-5,
    weight_decay: 0.01,
    schedule: "constant",
    clip_norm: 1.0,
    ema: 0.0,
    validation_steps: 500,
    snapshot_steps: 500,
};

/// Clips of the validation block whose loss is measured.
const MEASURED: usize = 32;
/// Largest file of latents that is kept for --resume.
const KEPT_BYTES: usize = 1 << 30;

/// Flags and file, merged, and everything of the models that can be known before the device.
struct Plan {
    unet: Config,
    sizes: UNetConfig,
    /// Nothing: first weights.
    file: Option<Arc<Checkpoint>>,
    vae_folder: PathBuf,
    vae: VaeConfig,
    scheduler: SchedulerConfig,
    learning: Learning,
    text: Text,
    samples: bool,
    recomputes: bool,
    dropout: f64,
    condition_noise: f64,
    snr_gamma: Option<f64>,
    shown: usize,
    inference_steps: usize,
    guidance: f64,
}

enum Text {
    Table(PathBuf),
    Encoder(PathBuf),
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let file = args.fit.file(&OWN)?;
    let mut common = args.fit.merge(&file, &USUAL)?;
    let plan = plan(args, &file, &mut common)?;
    let blocks = blocks(&args.train_blocks, args.validation_block, &file)?;
    common.put("train-blocks", blocks.train.clone());
    common.put("validation-block", blocks.validation);
    let clips = Clips::open(&args.data)?;
    let latents = plan.latents_of(&clips)?;
    let frames = args.frames.or(file.size("frames")?).unwrap_or(latents[0]);
    if !(1..=latents[0]).contains(&frames) {
        let detail = format!("wanted 1 to the clips' {}, got {frames}", latents[0]);
        return Err(Error::setting("frames", detail));
    }
    common.put("frames", frames);
    let learnt = clips.of_blocks("train-blocks", &blocks.train)?;
    let validation = clips.of_blocks("validation-block", &[blocks.validation])?;
    let measured = spread(&validation, MEASURED);
    let table = match &plan.text {
        Text::Table(path) => Some(TextTable::open(path)?),
        Text::Encoder(_) => None,
    };
    let width = plan.sizes.cross_attention_dim;
    let fits = |table: &TextTable| match table.width == width {
        true => Ok(()),
        false => {
            let detail = format!("embeddings are {} wide, the UNet takes {width}", table.width);
            Err(Error::setting("text", detail))
        }
    };
    table.as_ref().map(fits).transpose()?;

    let gpu = shell.open_gpu()?;
    let step = Step {
        batch: common.batch_size,
        latents: [frames, latents[1], latents[2], latents[3]],
        tokens: table.as_ref().map_or(77, |table| table.tokens),
        recomputes: plan.recomputes,
        ema: common.plan.ema.is_some(),
    };
    let (settings, learning) = (&common.settings, &plan.learning);
    let [live, peak] =
        video::need(&gpu, &plan.sizes, plan.file.as_ref(), learning, settings, common.rule(), &step)?;
    shell.note(&format!("memory: {} between steps, {} at most", bytes(live), bytes(peak)));
    let less = "try --gradient-checkpointing, --dtype f16, a smaller --batch-size with --accumulate";
    refuse_what_cannot_fit(&gpu, peak, args.max_memory, less)?;
    args.fit.claim("video", &common)?;

    let table = match (table, &plan.text) {
        (Some(table), _) => table,
        (None, Text::Table(path) | Text::Encoder(path)) => captions(&gpu, args, &clips, path)?,
    };
    fits(&table)?;
    let rows = rows(args, &clips, &table)?;
    let chosen = [&learnt[..], &measured].concat();
    let mut videos = encoded(&gpu, args, shell, &common, &plan, &clips, &chosen)?;
    videos.texts = chosen.iter().map(|&(block, number)| rows[block * clips.per_block() + number]).collect();
    let held = videos.split_off(learnt.len());
    gpu.trim()?;
    gpu.reset_peak();

    let seed = common.settings.seed;
    let parameters = video::parameters(&gpu, &plan.sizes, plan.file.as_ref(), settings.precision, learning)?;
    let learning_values: usize =
        parameters.iter().filter(|(_, tensor)| tensor.is_parameter()).map(|(_, tensor)| tensor.len()).sum();
    shell.note(&format!(
        "{learning_values} parameters learn, {} clips of {} frames in blocks {:?}, {frames} at once; on '{}'",
        learnt.len(),
        latents[0],
        blocks.train,
        gpu.facts().name
    ));
    let objective = Objective {
        schedule: plan.scheduler.schedule()?,
        prediction: plan.scheduler.prediction_type,
        dropout: plan.dropout,
        condition_noise: plan.condition_noise,
        frames,
        snr_gamma: plan.snr_gamma,
        seed,
    };
    let mut fit = Fit::new(common.trainer(&gpu, parameters)?, common.plan.clone())?;
    let batches = Batches { n: learnt.len(), size: common.batch_size, seed };
    let accumulate = common.settings.accumulate as u64;
    let shown: Vec<usize> = spread(&(0..measured.len()).collect::<Vec<_>>(), plan.shown);
    let truths: Vec<Vec<u8>> =
        shown.iter().map(|&at| clips.clip(measured[at].0, measured[at].1)).collect::<Result<_>>()?;
    args.fit.run(
        shell,
        &mut fit,
        common.plan.steps,
        &mut |weights, step, micro| {
            let number = step * accumulate + micro as u64;
            let batch = objective.batch(&gpu, &videos, &table, &batches.at(number), number)?;
            let unet = video::model(weights, &plan.sizes, plan.recomputes)?;
            video::noise_loss(&unet, &objective.schedule, objective.prediction, &batch)
        },
        &mut |weights, step| {
            let unet = video::model(weights, &plan.sizes, false)?;
            let mut sum = 0.0;
            for clip in 0..measured.len() {
                let batch = objective.fixed(&gpu, &held, &table, clip)?;
                let loss = video::noise_loss(&unet, &objective.schedule, objective.prediction, &batch)?;
                sum += f64::from(loss.to_vec()?[0]);
            }
            let made = make(&gpu, &unet, &plan, &common, &table, &held, &shown)?;
            show(&args.fit.output, step, &truths, &made)?;
            Ok(vec![("validation_loss".into(), sum / measured.len() as f64)])
        },
    )?;
    keep(args, &common, &plan, &fit)?;
    shell.note(&format!("memory: {} were held at most", bytes(gpu.memory().peak_reserved)));
    args.fit.tell(shell, &fit)
}

fn plan(args: &Args, file: &SettingsFile, common: &mut Common) -> Result<Plan> {
    let path = |given: &Option<PathBuf>, name: &str| -> Result<Option<PathBuf>> {
        Ok(given.clone().or(file.word(name)?.map(PathBuf::from)))
    };
    let (model, unet, vae) =
        (path(&args.model, "model")?, path(&args.unet, "unet")?, path(&args.vae, "vae")?);
    let init = args.init.clone().or(file.word("init")?);
    let part = |given: Option<PathBuf>, name: &str| {
        given.or(model.as_ref().map(|model| model.join(name))).ok_or_else(|| {
            let other = if name == "unet" { ", or --init" } else { "" };
            Error::setting(
                name,
                format!("no {name} was given; give --{name} DIR, or --model DIR with {name}/ in it{other}"),
            )
        })
    };
    let (unet_config, checkpoint) = match &init {
        Some(name) => (first_config(name)?, None),
        None => {
            let folder = part(unet.clone(), "unet")?;
            let config = Config::open(folder.join("config.json"))?;
            let class = config.architecture()?;
            if !["UNet3DConditionModel", "UNet2DConditionModel"].contains(&class) {
                let detail = format!("wanted UNet3DConditionModel or UNet2DConditionModel, got '{class}'");
                return Err(Error::format(config.path(), detail));
            }
            let checkpoint = models::architecture(class)?.checkpoint(&folder)?;
            (config, Some(Arc::new(checkpoint)))
        }
    };
    let sizes = UNetConfig::new(&unet_config)?;
    let vae_folder = part(vae.clone(), "vae")?;
    let vae_config = Config::open(vae_folder.join("config.json"))?;
    if vae_config.architecture()? != "AutoencoderKL" {
        let detail = format!("wanted AutoencoderKL, got '{}'", vae_config.architecture()?);
        return Err(Error::format(vae_config.path(), detail));
    }
    let vae_sizes = VaeConfig::new(&vae_config)?;
    if vae_sizes.latent_channels != sizes.in_channels || sizes.in_channels != sizes.out_channels {
        let detail = format!(
            "has {} latent channels, the UNet takes {} and gives {}",
            vae_sizes.latent_channels, sizes.in_channels, sizes.out_channels
        );
        return Err(Error::format(vae_config.path(), detail));
    }
    let scheduler = match model.as_ref().map(|model| model.join("scheduler")).filter(|path| path.is_dir()) {
        Some(folder) => SchedulerConfig::open(folder)?,
        None => SchedulerConfig::stable_diffusion(),
    };
    let text = match (path(&args.text, "text")?, path(&args.text_encoder, "text-encoder")?) {
        (_, Some(folder)) if args.text.is_none() => Text::Encoder(folder),
        (Some(table), _) => Text::Table(table),
        _ => {
            let detail = "no texts were given; give --text FILE or --text-encoder DIR";
            return Err(Error::setting("text", detail));
        }
    };

    let number = |given: Option<f64>, name: &str, usual: f64, most: f64| -> Result<f64> {
        let value = given.or(file.number(name)?).unwrap_or(usual);
        match (0.0..=most).contains(&value) {
            true => Ok(value),
            false => Err(Error::setting(name, format!("wanted 0 to {most}, got {value}"))),
        }
    };
    let size = |given: Option<usize>, name: &str, usual: usize| -> Result<usize> {
        Ok(given.or(file.size(name)?).unwrap_or(usual))
    };
    let rank = size(args.lora_rank, "lora-rank", 0)?;
    let alpha = number(args.lora_alpha, "lora-alpha", rank as f64, 1e6)?;
    let lora = (rank > 0).then_some(Lora { rank, alpha });
    let given = match &args.trainable[..] {
        [] => file.words("trainable")?,
        given => Some(given.to_vec()),
    };
    let usual = || match (lora.is_some(), checkpoint.is_some()) {
        (true, _) => Vec::new(),
        (false, true) => video::TRAINABLE.map(String::from).to_vec(),
        (false, false) => vec!["*".to_string()],
    };
    let learning = Learning { trainable: given.unwrap_or_else(usual), lora, seed: common.settings.seed };
    if learning.trainable.is_empty() && lora.is_none() {
        return Err(Error::setting("trainable", "nothing would learn; give parts of names, or *"));
    }
    let latents = args.latents.clone().or(file.word("latents")?).unwrap_or("mean".into());
    if !["mean", "sample"].contains(&latents.as_str()) {
        let detail = format!("'{}' is none of mean, sample", latents.escape_debug());
        return Err(Error::setting("latents", detail));
    }
    let plan = Plan {
        sizes,
        file: checkpoint,
        vae: vae_sizes,
        scheduler,
        learning,
        samples: latents == "sample",
        recomputes: args.gradient_checkpointing || file.switch("gradient-checkpointing")?,
        dropout: number(args.condition_dropout, "condition-dropout", 0.1, 1.0)?,
        condition_noise: number(args.condition_noise, "condition-noise", 0.0, 100.0)?,
        snr_gamma: Some(number(args.snr_gamma, "snr-gamma", 0.0, 1e6)?).filter(|&gamma| gamma > 0.0),
        shown: size(args.validation_clips, "validation-clips", 2)?,
        inference_steps: size(args.num_inference_steps, "num-inference-steps", 20)?,
        guidance: number(args.guidance_scale, "guidance-scale", 7.5, 1000.0)?,
        unet: unet_config,
        vae_folder,
        text,
    };
    // Refused now, not at the first validation.
    diffusion::plan("ddim", &plan.scheduler, plan.inference_steps, 0.0)?;

    let shown = |path: &Path| path.display().to_string();
    common.put("data", shown(&args.data));
    for (name, value) in [("model", &model), ("unet", &unet), ("vae", &vae)] {
        if let Some(path) = value {
            common.put(name, shown(path));
        }
    }
    if let Some(init) = init {
        common.put("init", init);
    }
    match &plan.text {
        Text::Table(path) => common.put("text", shown(path)),
        Text::Encoder(path) => common.put("text-encoder", shown(path)),
    }
    common.put("trainable", plan.learning.trainable.clone());
    common.put("lora-rank", rank);
    common.put("lora-alpha", alpha);
    common.put("condition-dropout", plan.dropout);
    common.put("condition-noise", plan.condition_noise);
    common.put("snr-gamma", plan.snr_gamma);
    common.put("latents", latents);
    common.put("gradient-checkpointing", plan.recomputes);
    common.put("validation-clips", plan.shown);
    common.put("num-inference-steps", plan.inference_steps);
    common.put("guidance-scale", plan.guidance);
    Ok(plan)
}

/// The config that `--init` names.
fn first_config(name: &str) -> Result<Config> {
    let path = Path::new(name);
    if path.is_file() || name.ends_with(".json") {
        return Config::open(path);
    }
    let preset = preset(name).map_err(|error| match error {
        Error::Setting { detail, .. } => Error::setting("init", format!("{detail}; or give a config.json")),
        other => other,
    })?;
    let part = preset.parts.iter().find(|part| part.folder == "unet");
    part.ok_or_else(|| Error::setting("init", format!("'{name}' has no UNet")))?.model_config()
}

impl Plan {
    /// Frames, height, width, channels of a clip's latents.
    fn latents_of(&self, clips: &Clips) -> Result<[usize; 4]> {
        let ([frames, height, width], scale) = (clips.shape(), self.vae.downscale());
        if height % scale != 0 || width % scale != 0 {
            let detail = format!("clips are {width} x {height}, the autoencoder wants multiples of {scale}");
            return Err(Error::format(clips.folder(), detail));
        }
        Ok([frames, height / scale, width / scale, self.vae.latent_channels])
    }

    /// The autoencoder, on the device for as long as it is held.
    fn open_vae(&self, gpu: &Gpu, precision: Precision, halves: Halves) -> Result<Vae> {
        let checkpoint = models::architecture("AutoencoderKL")?.checkpoint(&self.vae_folder)?;
        Ok(nn::open(gpu, checkpoint, precision, |weights: &Weights| Vae::load(weights, &self.vae, halves))?
            .model)
    }
}

/// Captions of all clips through a text encoder.
fn captions(gpu: &Gpu, args: &Args, clips: &Clips, encoder: &Path) -> Result<TextTable> {
    let texts = SeedDv::open(&args.data, Units::Volts)?.captions(clips.n_blocks())?;
    let mut known: Vec<String> = texts.clone();
    known.sort_unstable();
    known.dedup();
    known.push(String::new());
    let (shape, values) = encode_texts(gpu, encoder, Precision::F32, &known)?;
    let size = shape[0] * shape[1];
    let row = |text: &String| known[..known.len() - 1].binary_search(text).unwrap_or(known.len() - 1);
    let all =
        texts.iter().flat_map(|text| &values[row(text) * size..(row(text) + 1) * size]).copied().collect();
    TextTable::new(shape, all, values[(known.len() - 1) * size..].to_vec())
}

/// The row of each clip's text, block after block.
fn rows(args: &Args, clips: &Clips, table: &TextTable) -> Result<Vec<usize>> {
    let n = clips.n_blocks() * clips.per_block();
    if !table.is_by_class() {
        return (0..n).map(|clip| table.row_of(clip, 0)).collect();
    }
    if clips.per_block() != BLOCK_CLIPS {
        let detail = format!(
            "has {} clips a block, classes are known of {BLOCK_CLIPS}; give texts by clip",
            clips.per_block()
        );
        return Err(Error::format(clips.folder(), detail));
    }
    let labels = SeedDv::open(&args.data, Units::Volts)?.labels(Task::Concept, clips.n_blocks())?;
    let row = |(clip, label): (usize, &Option<usize>)| table.row_of(clip, label.unwrap_or(usize::MAX));
    labels.iter().enumerate().map(row).collect()
}

/// Latents of clips, from the autoencoder or from what an earlier call kept of them.
fn encoded(
    gpu: &Gpu,
    args: &Args,
    shell: &Shell,
    common: &Common,
    plan: &Plan,
    clips: &Clips,
    chosen: &[(usize, usize)],
) -> Result<Videos> {
    let shape = plan.latents_of(clips)?;
    let size: usize = shape.iter().product();
    let path = args.fit.output.join("latents.safetensors");
    let vae_file = models::architecture("AutoencoderKL")?.checkpoint(&plan.vae_folder)?;
    // What they were made of.
    let weights = vae_file.views().fold(Sha256::new(), |hash, view| hash.chain_update(view.bytes)).finalize();
    let made_of = format!(
        "{}, {:?}, {chosen:?}, {:?}, {weights:x?}, {:?}, samples: {}",
        args.data.display(),
        clips.shape(),
        plan.vae,
        common.settings.precision,
        plan.samples
    );
    let key = format!("{:016x}", random::hash(&made_of));
    // A new run may be of new clips in the same place.
    if args.fit.resumes()
        && let Ok(file) = Checkpoint::open(&path)
        && file.metadata().get("made_of") == Some(&key)
        && let (Some(means), deviations) = (file.get("means"), file.get("deviations"))
        && means.n_values() == chosen.len() * size
    {
        let deviations = deviations.as_ref().map(weights::to_f32).transpose()?.unwrap_or_default();
        return Ok(Videos { shape, means: weights::to_f32(&means)?, deviations, texts: Vec::new() });
    }
    let vae = plan.open_vae(gpu, common.settings.precision, Halves::Both)?;
    let factor = plan.vae.scaling_factor as f32;
    let (mut means, mut deviations) = (Vec::new(), Vec::new());
    let mut progress = Progress::new(shell.quiet, "latents", chosen.len() as u64);
    for (done, &place) in chosen.iter().enumerate() {
        let frames = pixels::pixels(gpu, clips, &pixels::frames(clips, &[place]))?;
        let (mean, logvar) = vae.encode(&frames.cast(vae.dtype())?)?;
        means.extend(mean.to_vec()?.into_iter().map(|v| v * factor));
        if plan.samples {
            deviations.extend(logvar.to_vec()?.into_iter().map(|v| (0.5 * v).exp() * factor));
        }
        progress.set(done as u64 + 1);
    }
    progress.finish();
    if 4 * (means.len() + deviations.len()) <= KEPT_BYTES {
        let all = [vec![chosen.len()], shape.to_vec()].concat();
        let mut tensors = vec![NewTensor::from_f32("means", all.clone(), &means)];
        if plan.samples {
            tensors.push(NewTensor::from_f32("deviations", all, &deviations));
        }
        weights::write(&path, tensors, &BTreeMap::from([("made_of".to_string(), key)]))?;
    }
    Ok(Videos { shape, means, deviations, texts: Vec::new() })
}

/// Clips from noise and the texts of some validation clips.
fn make(
    gpu: &Gpu,
    unet: &UNet,
    plan: &Plan,
    common: &Common,
    table: &TextTable,
    held: &Videos,
    shown: &[usize],
) -> Result<Vec<Frames>> {
    if shown.is_empty() {
        return Ok(Vec::new());
    }
    let vae = plan.open_vae(gpu, common.settings.precision, Halves::Decoder)?;
    let walk = diffusion::plan("ddim", &plan.scheduler, plan.inference_steps, 0.0)?;
    let mut made = Vec::new();
    for &clip in shown {
        let [frames, height, width, channels] = held.shape;
        let number = (1 << 41) + clip as u64;
        let start =
            Tensor::normal(gpu, &[frames, height, width, channels], common.settings.seed, stream(number, 0))?;
        let guided = plan.guidance > 1.0;
        let own = table.row(held.texts[clip]);
        let text = if guided { [table.negative(), own].concat() } else { own.to_vec() };
        let text = Tensor::new(gpu, &[1 + usize::from(guided), table.tokens, table.width], &text)?;
        let text = text.cast(unet.dtype())?;
        let guidance = Guidance { scale: plan.guidance, text: &text };
        let latents = denoise(unet, &walk, start, &guidance, frames, None, &mut |_| Ok(()))?;
        let latents = latents.scale((1.0 / plan.vae.scaling_factor) as f32, 0.0)?;
        made.push(pictures(&vae.decode_sliced(&latents.cast(vae.dtype())?)?)?);
    }
    Ok(made)
}

/// validation/step-…: each clip, and a sheet of what was shown above what was made.
fn show(output: &Path, step: u64, truths: &[Vec<u8>], made: &[Frames]) -> Result<()> {
    if made.is_empty() {
        return Ok(());
    }
    let folder = output.join(format!("validation/step-{step:06}"));
    let mut rows = Vec::new();
    for (nth, (truth, made)) in truths.iter().zip(made).enumerate() {
        gif::write(folder.join(format!("clip-{nth:04}.gif")), made, "")?;
        rows.push(Frames::new(made.count, made.height, made.width, truth.clone(), made.frame_rate_fps)?);
        rows.push(made.clone());
    }
    let sheet = png::overview(&rows, 2)?;
    png::write(folder.join("sheet.png"), &sheet.rgb, sheet.height, sheet.width, "")
}

/// The UNet, whole; adapters beside it under the names that diffusers loads.
fn keep(args: &Args, common: &Common, plan: &Plan, fit: &Fit) -> Result<()> {
    let (values, adapters) = video::merged(fit, &plan.learning)?;
    let config = video::video_config(&plan.unet)?;
    common.keep(&args.fit.model(), &config, plan.file.as_deref(), &values)?;
    let Some(Lora { rank, alpha }) = plan.learning.lora else { return Ok(()) };
    let named: Values = adapters.into_iter().map(|(name, value)| (format!("unet.{name}"), value)).collect();
    let tensors =
        named.iter().map(|(name, (shape, values))| NewTensor::from_f32(name.clone(), shape.clone(), values));
    let told = serde_json::json!({ "unet.r": rank, "unet.lora_alpha": alpha });
    let metadata = BTreeMap::from([("lora_adapter_metadata".to_string(), told.to_string())]);
    weights::write(
        args.fit.output.join("lora/pytorch_lora_weights.safetensors"),
        tensors.collect(),
        &metadata,
    )
}
