//! `mindreel eval classify`: predicted classes against true ones.

use super::report;
use crate::cli::Shell;
use crate::cli::train::note_missing;
use crate::error::{Error, Result};
use crate::eval::{Confusion, Interval, Resamples, check_permutations, check_resamples, labels, nway};
use crate::files;
use crate::signal::npy;
use crate::train::classify::UnitResult;
use crate::train::report as train_report;
use crate::weights::random::splitmix64;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Predictions: .npy of classes [n] or of scores [n, classes]; classes also as .json or lines of text. Or a folder of `mindreel
train classify`: its clips, of every model, task and protocol of their own.

Chance stands beside every accuracy: one class as likely as another, always the commonest one, and p, the share of
permutations of the labels that score as well; of runs five clips of a slot at a time, as in `mindreel train report`.

Examples:
  mindreel eval classify --predictions logits.npy --labels labels.npy
  mindreel eval classify --runs runs/shallow --output scores";

/// Predicted classes against true ones
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Classes [n] or scores [n, classes]
    #[arg(long, value_name = "FILE", requires = "labels")]
    predictions: Option<PathBuf>,

    /// True classes, from 0
    #[arg(long, value_name = "FILE", requires = "predictions")]
    labels: Option<PathBuf>,

    /// Folder of `mindreel train classify`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["predictions", "classes"])]
    runs: Option<PathBuf>,

    /// Classes [default: what the scores hold, or one more than the largest]
    #[arg(long, value_name = "N")]
    classes: Option<usize>,

    /// Resamples behind an interval
    #[arg(long, value_name = "N", default_value_t = 2000)]
    resamples: usize,

    /// Permutations behind a p-value
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    permutations: usize,

    /// Of both
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Folder for JSON, CSV, Markdown and confusion matrices
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Replace scores that are there
    #[arg(long)]
    force: bool,
}

/// Marks a folder of ours.
const MARK: &str = "eval.json";

/// Predictions of one origin.
struct Answers {
    name: String,
    n_classes: usize,
    truth: Vec<usize>,
    predicted: Vec<usize>,
    /// Place of the truth among the classes, where scores tell.
    ranks: Option<Vec<usize>>,
    /// What they were read from, of runs.
    units: Vec<UnitResult>,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    check_resamples(args.resamples)?;
    check_permutations(args.permutations)?;
    if let Some(output) = &args.output {
        files::refuse_foreign_folder(output, MARK, "folder of scores", args.force)?;
    }
    let all = match (&args.predictions, &args.labels, &args.runs) {
        (Some(predictions), Some(labels), _) => vec![answers(predictions, labels, args.classes)?],
        (_, _, Some(runs)) => of_runs(runs, shell)?,
        _ => return Err(Error::setting("--predictions", "is missing; give it and --labels, or --runs")),
    };
    let scored: Vec<Score> = all.iter().map(|answers| score(answers, args)).collect::<Result<_>>()?;
    let cells = cells(&all, &scored);
    let mut told = json!({
        "mindreel": env!("CARGO_PKG_VERSION"),
        "resamples": args.resamples,
        "permutations": args.permutations,
        "seed": args.seed,
        "results": all.iter().zip(&scored).map(|(answers, score)| score.json(answers)).collect::<Vec<_>>(),
    });
    if let Some(output) = &args.output {
        files::make_folder_atomically(output, |folder| {
            files::write_json(folder.join(MARK), &told)?;
            files::write_text(folder.join("table.md"), &report::markdown(&cells))?;
            let mut body = String::new();
            for (answers, score) in all.iter().zip(&scored) {
                let name = &answers.name;
                files::write_text(folder.join(format!("classes-{name}.csv")), &score.classes_csv())?;
                files::write_text(folder.join(format!("predictions-{name}.csv")), &predictions_csv(answers))?;
                let title = format!(
                    "{name}: {:.1} % (chance {:.1} %)",
                    100.0 * score.top1.mean,
                    100.0 * score.uniform.max(score.confusion.majority())
                );
                files::write_text(folder.join(format!("confusion-{name}.csv")), &score.confusion_csv())?;
                let picture = match report::plot_of(&score.confusion, &title)? {
                    None => String::new(),
                    Some(scene) => {
                        let path = folder.join(format!("confusion-{name}.png"));
                        scene.save(&path)?;
                        report::image_of(&path, "who is taken for whom")?
                    }
                };
                body += &format!("<h2>{}</h2>\n{picture}\n", report::escaped(name));
            }
            let intro = "Every accuracy: mean [95 % bootstrap interval]. Chance: one class as likely as another. \
                         Commonest: always the commonest class. p: share of permutations of the labels that score as \
                         well.";
            files::write_text(
                folder.join("report.html"),
                &report::page("Predicted classes", intro, &cells, &body),
            )
        })?;
        told["output"] = json!(output.display().to_string());
    }
    shell.print(&report::aligned(&cells), &told)
}

/// Predictions and labels from two files.
fn answers(predictions: &Path, labels: &Path, classes: Option<usize>) -> Result<Answers> {
    let truth = labels::read(labels)?;
    let name = predictions.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let is_array = predictions.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy"));
    let array = if is_array { Some(npy::read::<f32>(predictions, None)?) } else { None };
    let (predicted, ranks, found) = match array {
        Some(array) if array.shape.len() == 2 && array.shape[1] > 1 => {
            let width = array.shape[1];
            if array.data.iter().any(|score| score.is_nan()) {
                return Err(Error::format(predictions, "holds NaN among its scores"));
            }
            if let Some(class) = truth.iter().find(|&&class| class >= width) {
                let detail = format!("holds class {class}, the scores are of {width} classes");
                return Err(Error::format(labels, detail));
            }
            let rows: Vec<&[f32]> = array.data.chunks(width).collect();
            let best = |row: &&[f32]| (0..width).find(|&class| nway::rank(row, class) == 0).unwrap_or(0);
            let ranks = rows.iter().zip(&truth).map(|(row, &class)| nway::rank(row, class)).collect();
            (rows.iter().map(best).collect(), Some(ranks), Some(width))
        }
        Some(array) if !matches!(array.shape[..], [_] | [_, 1]) => {
            let detail = format!("is {:?}, wanted classes [n] or scores [n, classes]", array.shape);
            return Err(Error::format(predictions, detail));
        }
        _ => (labels::read(predictions)?, None, None),
    };
    let predicted: Vec<usize> = predicted;
    if predicted.len() != truth.len() {
        let detail =
            format!("holds {} predictions, {} {} labels", predicted.len(), labels.display(), truth.len());
        return Err(Error::format(predictions, detail));
    }
    let largest = truth.iter().chain(&predicted).max().map_or(0, |class| class + 1);
    if let Some(given) = classes.filter(|given| !(largest..=labels::MOST_CLASSES).contains(given)) {
        let (most, labels) = (labels::MOST_CLASSES, labels.display());
        let detail =
            format!("wanted {largest} (by {labels} and {}) to {most}, got {given}", predictions.display());
        return Err(Error::setting("--classes", detail));
    }
    if let (Some(given), Some(width)) = (classes, found)
        && given != width
    {
        let detail = format!("{} holds scores of {width} classes, got {given}", predictions.display());
        return Err(Error::setting("--classes", detail));
    }
    let n_classes = found.or(classes).unwrap_or(largest);
    Ok(Answers { name, n_classes, truth, predicted, ranks, units: Vec::new() })
}

/// The clips of a sweep, its units taken together by model, task and protocol; controls apart.
fn of_runs(folder: &Path, shell: &Shell) -> Result<Vec<Answers>> {
    let folders = [folder.to_path_buf()];
    let results = train_report::read_results(&folders)?;
    note_missing(&folders, &results, shell)?;
    Ok(together(results))
}

fn together(results: Vec<UnitResult>) -> Vec<Answers> {
    let mut found: Vec<Answers> = Vec::new();
    for result in results {
        let UnitResult { unit, n_classes, truth, predicted, rank, .. } = &result;
        let control = if unit.is_control { "-shuffled-labels" } else { "" };
        let name = format!("{}-{}-{}{control}", unit.model, unit.task, unit.protocol);
        let at = found.iter().position(|known| known.name == name).unwrap_or_else(|| {
            let (truth, predicted, ranks, units) = (vec![], vec![], Some(vec![]), vec![]);
            found.push(Answers { name, n_classes: *n_classes, truth, predicted, ranks, units });
            found.len() - 1
        });
        found[at].truth.extend(truth);
        found[at].predicted.extend(predicted);
        found[at].ranks.as_mut().into_iter().for_each(|ranks| ranks.extend(rank));
        found[at].units.push(result);
    }
    found
}

/// What is said of them.
struct Score {
    confusion: Confusion,
    top1: Interval,
    top5: Option<Interval>,
    uniform: f64,
    p_value: f64,
}

fn score(answers: &Answers, args: &Args) -> Result<Score> {
    let Answers { n_classes, truth, predicted, ranks, .. } = answers;
    let confusion = Confusion::new(truth, predicted, *n_classes)?;
    let resamples = Resamples::new(truth.len(), args.resamples, args.seed);
    let share = |right: &dyn Fn(usize) -> bool| {
        let values: Vec<f64> = (0..truth.len()).map(|at| f64::from(u8::from(right(at)))).collect();
        resamples.share(&values)
    };
    let top1 = share(&|at| truth[at] == predicted[at]);
    let top5 = ranks.as_ref().filter(|_| *n_classes > 5).map(|ranks| share(&|at| ranks[at] < 5));
    let p_value = match answers.units.is_empty() {
        true => p_value(truth, predicted, args),
        false => {
            train_report::p_value(&answers.units.iter().collect::<Vec<_>>(), args.permutations, args.seed)
        }
    };
    Ok(Score { confusion, top1, top5, uniform: 1.0 / *n_classes as f64, p_value })
}

/// Share of permutations of the labels that score as well.
fn p_value(truth: &[usize], predicted: &[usize], args: &Args) -> f64 {
    let hits = truth.iter().zip(predicted).filter(|(t, p)| t == p).count();
    let start = splitmix64(args.seed ^ splitmix64(0x0070_6572));
    let mut shuffled = truth.to_vec();
    let as_good = (0..args.permutations as u64).filter(|&nth| {
        // One order after another, each from where the last one ended.
        let mut state = splitmix64(start.wrapping_add(nth));
        for last in (1..shuffled.len()).rev() {
            state = splitmix64(state);
            shuffled.swap(last, ((u128::from(state) * (last as u128 + 1)) >> 64) as usize);
        }
        shuffled.iter().zip(predicted).filter(|(t, p)| t == p).count() >= hits
    });
    (1 + as_good.count()) as f64 / (1 + args.permutations) as f64
}

impl Score {
    fn json(&self, answers: &Answers) -> Value {
        json!({
            "name": answers.name,
            "n": answers.truth.len(),
            "n_classes": answers.n_classes,
            "top1": self.top1,
            "top5": self.top5,
            "uniform_chance": self.uniform,
            "top5_chance": self.top5.as_ref().map(|_| 5.0 * self.uniform),
            "majority_chance": self.confusion.majority(),
            "p_value": self.p_value,
            "classes": self.confusion.classes(),
            "confusion": self.confusion.counts.chunks(answers.n_classes).collect::<Vec<_>>(),
        })
    }

    /// As `mindreel plot confusion` takes it.
    fn confusion_csv(&self) -> String {
        let line = |cells: Vec<String>| cells.join(",") + "\n";
        let mut text = line((0..self.confusion.n_classes).map(|class| class.to_string()).collect());
        for row in self.confusion.counts.chunks(self.confusion.n_classes) {
            text += &line(row.iter().map(u64::to_string).collect());
        }
        text
    }

    fn classes_csv(&self) -> String {
        let mut text = String::from("class,support,precision,recall,f1\n");
        for class in self.confusion.classes() {
            text += &format!(
                "{},{},{},{},{}\n",
                class.class, class.support, class.precision, class.recall, class.f1
            );
        }
        text
    }
}

fn predictions_csv(answers: &Answers) -> String {
    let mut text = String::from("example,truth,predicted,rank\n");
    for (at, (truth, predicted)) in answers.truth.iter().zip(&answers.predicted).enumerate() {
        let rank = answers.ranks.as_ref().map_or(String::new(), |ranks| ranks[at].to_string());
        text += &format!("{at},{truth},{predicted},{rank}\n");
    }
    text
}

fn cells(all: &[Answers], scored: &[Score]) -> Vec<Vec<String>> {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let cell = |interval: &Interval| {
        format!("{} [{}, {}]", percent(interval.mean), percent(interval.low), percent(interval.high))
    };
    let head = ["", "n", "classes", "top-1", "chance", "commonest", "top-5", "chance of it", "p"]
        .map(String::from)
        .to_vec();
    let line = |(answers, score): (&Answers, &Score)| {
        vec![
            answers.name.clone(),
            answers.truth.len().to_string(),
            answers.n_classes.to_string(),
            cell(&score.top1),
            percent(score.uniform),
            percent(score.confusion.majority()),
            score.top5.as_ref().map_or("-".into(), cell),
            score.top5.as_ref().map_or("-".into(), |_| percent(5.0 * score.uniform)),
            format!("{:.4}", score.p_value),
        ]
    };
    std::iter::once(head).chain(all.iter().zip(scored).map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn runs_are_tested_slot_by_slot() {
        let line = |words: &str| Line::try_parse_from(words.split_whitespace()).unwrap().args;
        // 3 of 40 slots are told right, all five clips of each.
        let truth: Vec<usize> = (0..200).map(|at| at / 5).collect();
        let predicted: Vec<usize> =
            truth.iter().map(|&class| if class < 3 { class } else { 3 + (class + 1) % 37 }).collect();
        let unit = json!({ "model": "MLP", "task": "40c", "subject": "sub1", "fold": 0, "seed": 0,
            "protocol": "clean", "is_control": false });
        let result: UnitResult = serde_json::from_value(json!({
            "unit": unit, "n_classes": 40, "n_windows": [1, 1, 1], "n_parameters": 1, "best_epoch": 0, "epochs": [],
            "window_top1": 0.1, "window_top5": 0.1, "clips": (0..200).collect::<Vec<_>>(),
            "truth": truth, "predicted": predicted, "rank": vec![0; 200],
        }))
        .unwrap();
        let args = line("classify --runs x --permutations 999");
        let of_runs = together(vec![result.clone()]);
        let wanted = train_report::summarise(&[&result], 999, 0).unwrap().p_value;
        let got = score(&of_runs[0], &args).unwrap().p_value;
        assert!(got == wanted && got > 0.01, "{got} {wanted}");
        assert!(p_value(&truth, &predicted, &args) < 0.01, "single clips are not so alike");
        for odd in ["classify --runs x --classes 4", "classify --runs x --predictions y --labels z"] {
            assert!(Line::try_parse_from(odd.split_whitespace()).is_err(), "{odd}");
        }
    }
}
