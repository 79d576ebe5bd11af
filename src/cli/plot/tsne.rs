//! Embeddings as points of a plane.

use super::super::Shell;
use super::super::progress::Progress;
use super::Output;
use crate::error::{Error, Result};
use crate::plot::{self, tsne};
use crate::signal::npy;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Vectors as points, neighbours near each other
#[derive(clap::Args)]
pub(super) struct Args {
    /// Vectors [n, ...], 4 to 4096 of them; several files, such as EEG's embeddings and their targets, share one plane
    #[arg(value_name = "FILE.npy", required = true)]
    files: Vec<PathBuf>,

    /// Class of every vector [n], whole numbers from 0, at most 40 different ones [default: a class for each file]
    #[arg(long, value_name = "FILE.npy")]
    labels: Option<PathBuf>,

    /// Names of the classes, apart by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "labels")]
    names: Vec<String>,

    /// How many neighbours count
    #[arg(long, default_value_t = 30.0)]
    perplexity: f64,

    /// Steps of the descent
    #[arg(long, default_value_t = 1000)]
    steps: usize,

    /// Seed of the places points start at
    #[arg(long, default_value_t = 0)]
    seed: u64,

    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    args.output.check()?;
    let (mut vectors, mut width, mut files) = (Vec::new(), None, Vec::new());
    for (nth, path) in args.files.iter().enumerate() {
        let array = npy::read::<f32>(path, None)?;
        let [n, ref rest @ ..] = array.shape[..] else {
            return Err(Error::format(path, "is a single number, wanted [n, ...]"));
        };
        if rest.is_empty() {
            return Err(Error::format(path, format!("shape [{n}], wanted vectors, [n, ...]")));
        }
        let d: usize = rest.iter().product();
        let wanted = *width.get_or_insert(d);
        if d != wanted {
            let detail = format!("vectors of {d}, those of {} are of {wanted}", args.files[0].display());
            return Err(Error::format(path, detail));
        }
        vectors.extend(array.data);
        files.extend(std::iter::repeat_n(nth, n));
    }
    let (n, d) = (files.len(), width.unwrap_or(0));
    let (classes, names) = match &args.labels {
        Some(path) => (labels(path, n)?, args.names.clone()),
        None if args.files.len() == 1 => (Vec::new(), Vec::new()),
        None => {
            let stem = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (files, args.files.iter().map(stem).collect())
        }
    };
    let options = tsne::Options { perplexity: args.perplexity, steps: args.steps, seed: args.seed };
    let mut progress = Progress::new(shell.quiet, "t-SNE", args.steps as u64);
    let (points, divergence) = plot::tsne(&vectors, d, options, |step| progress.set(step as u64))?;
    progress.finish();
    let counted = options.perplexity_of(n);
    if counted < args.perplexity {
        shell.note(&format!(
            "warning: --perplexity {} was taken as {counted:.1}, a third of {n} points",
            args.perplexity
        ));
    }
    let scene = plot::scatter(&args.output.title(&args.files[0]), &points, &classes, &names)?;
    args.output.write(
        &scene,
        shell,
        &format!("{n} vectors of {d}, divergence {divergence:.3}, seed {}", args.seed),
        &json!({ "n": n, "d": d, "divergence": divergence, "perplexity": counted, "seed": args.seed, "points": points }),
    )
}

fn labels(path: &Path, n: usize) -> Result<Vec<usize>> {
    let labels = npy::read::<f64>(path, None)?;
    if labels.data.len() != n {
        return Err(Error::format(path, format!("{} labels for {n} vectors", labels.data.len())));
    }
    let class = |(idx, &value): (usize, &f64)| match value {
        v if v >= 0.0 && v.fract() == 0.0 && v < 1e9 => Ok(v as usize),
        v => Err(Error::format(path, format!("label {idx} is {v}, wanted whole numbers from 0"))),
    };
    labels.data.iter().enumerate().map(class).collect()
}
