//! `mindreel train clip-classifier`: a judge of decoded clips, trained on true ones.

use super::fit::{FitArgs, Usual};
use crate::cli::Shell;
use crate::error::{Error, Result};
use crate::eval::{Resamples, Shown};
use crate::signal::seed_dv::CLASSES;
use crate::train::{Batches, Fit, clip_classifier};
use serde_json::json;
use std::path::PathBuf;

const EXAMPLES: &str = "\
A small network that tells which of the 40 concepts a clip shows. It sees true clips alone, of all blocks but the one it
is tested on, so that `mindreel eval video --classifier RUN/model` can say whether decoded clips of that block are
recognised. The data: a folder with Video/ and meta_info/, as `mindreel prepare simulate` makes it.

Examples:
  mindreel prepare simulate --output sim --height 40 --width 64
  mindreel train clip-classifier --data sim --output runs/judge
  mindreel eval video --pred decoded --truth shown --classifier runs/judge/model --labels labels.json";

/// A judge of decoded clips, trained on true ones
#[derive(clap::Args, Clone)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The data set: true clips and their classes
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Block that is not learnt from but tested on, from 0 [default: the last]
    #[arg(long, value_name = "K")]
    test_block: Option<usize>,

    /// Channels of the convolutions, each of which halves the picture [default: 16,32,64]
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    channels: Vec<usize>,

    #[command(flatten)]
    pub(super) fit: FitArgs,
}

const OWN: [&str; 2] = ["test-block", "channels"];

const USUAL: Usual = Usual {
    steps: 1200,
    batch_size: 40,
    learning_rate: 3e-3,
    weight_decay: 0.01,
    schedule: "cosine",
    clip_norm: 1.0,
    ema: 0.0,
    validation_steps: 300,
    snapshot_steps: 300,
};

/// Clips looked at together when nothing is learnt.
const LOOK: usize = 50;
/// Behind the interval of the final score.
const RESAMPLES: usize = 2000;

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let file = args.fit.file(&OWN)?;
    let mut common = args.fit.merge(&file, &USUAL)?;
    let n_blocks = Shown::n_blocks(&args.data)?;
    let test = args.test_block.or(file.size("test-block")?).unwrap_or(n_blocks - 1);
    if test >= n_blocks || n_blocks < 2 {
        let detail = format!("{} has blocks 0 to {}, got {test}", args.data.display(), n_blocks - 1);
        return Err(Error::setting("test-block", format!("{detail}; at least one more is learnt from")));
    }
    let channels = match (args.channels.as_slice(), file.counts("channels")?) {
        ([], None) => vec![16, 32, 64],
        ([], Some(counts)) => counts.into_iter().map(|n| n as usize).collect(),
        (given, _) => given.to_vec(),
    };
    common.put("data", args.data.display().to_string());
    common.put("test-block", test);
    common.put("channels", channels.clone());
    let mut learnt = Shown::open(&args.data, |_| true)?;
    let tested = learnt.split_off(|block| block == test);
    let config = clip_classifier::config(&learnt.clips[0], &channels, CLASSES)?;
    args.fit.claim("clip-classifier", &common)?;
    let gpu = shell.open_gpu()?;
    shell.note(&format!(
        "on '{}': {} clips learnt from, {} tested on",
        gpu.facts().name,
        learnt.len(),
        tested.len()
    ));
    let seed = common.settings.seed;
    let trainer = common.trainer(&gpu, clip_classifier::parameters(&gpu, &config, seed)?)?;
    let batches = Batches { n: learnt.len(), size: common.batch_size, seed };
    let accumulate = common.settings.accumulate as u64;
    let mut fit = Fit::new(trainer, common.plan.clone())?;
    args.fit.run(
        shell,
        &mut fit,
        common.plan.steps,
        &mut |weights, step, micro| {
            let number = step * accumulate + micro as u64;
            clip_classifier::loss(weights, &config, &learnt, &batches.at(number), seed, number)
        },
        &mut |weights, _| {
            let ranks = clip_classifier::ranks(weights, &config, &tested, LOOK)?;
            Ok(vec![("test_top1".into(), share(&ranks, 1)), ("test_top5".into(), share(&ranks, 5))])
        },
    )?;
    common.keep(&args.fit.model(), &config, None, &fit.result()?)?;
    let ranks = clip_classifier::ranks(&fit.weights(), &config, &tested, LOOK)?;
    let right: Vec<f64> = ranks.iter().map(|&rank| f64::from(u8::from(rank == 0))).collect();
    let interval = Resamples::new(right.len(), RESAMPLES, seed).share(&right);
    let model = args.fit.model();
    let chance = 1.0 / CLASSES as f64;
    let text = format!(
        "{}: {:.1} % of {} unseen clips (95 % interval {:.1} to {:.1}, chance {:.1} %), top-5 {:.1} %",
        model.display(),
        100.0 * interval.mean,
        right.len(),
        100.0 * interval.low,
        100.0 * interval.high,
        100.0 * chance,
        100.0 * share(&ranks, 5)
    );
    let told = json!({
        "model": model.display().to_string(),
        "steps": fit.trainer().steps(),
        "test_block": test,
        "n_clips": right.len(),
        "top1": interval,
        "top5": share(&ranks, 5),
        "chance": chance,
    });
    shell.print(&text, &told)
}

/// Share of ranks below `k`.
fn share(ranks: &[usize], k: usize) -> f64 {
    ranks.iter().filter(|&&rank| rank < k).count() as f64 / ranks.len().max(1) as f64
}
