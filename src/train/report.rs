//! From the results of units to a table one can believe: each accuracy beside its chance, a p-value and the control.
//!
//! ```text
//! UnitResult .. -> Summary per model, task and protocol: mean ± std over subjects, chance, p, shuffled labels
//! ```

use super::Unit;
use super::classify::{RESULT, UnitResult, shuffled};
use crate::error::{Error, Result};
use crate::eval::labels::MOST_CLASSES;
use crate::files;
use crate::signal::segments::CLIPS;
use crate::weights::random::splitmix64;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// No result is longer than this.
const LIMIT_BYTES: u64 = 64 << 20;

/// What the units of one model, task and protocol say together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Architecture.
    pub model: String,
    /// What is told apart.
    pub task: String,
    /// `clean` or `original`.
    pub protocol: String,
    /// Classes.
    pub n_classes: usize,
    /// Subjects, and units of all of them.
    pub n_subjects: usize,
    /// Units without the controls.
    pub n_units: usize,
    /// Clips tested, over all units.
    pub n_clips: usize,
    /// Share of clips told right, mean over subjects.
    pub top1: f64,
    /// Standard deviation over subjects (of a sample; 0 for one).
    pub top1_std: f64,
    /// Share of clips with the truth among the five likeliest, mean over subjects.
    pub top5: f64,
    /// Share of windows told right, mean over subjects.
    pub window_top1: f64,
    /// One class as likely as another.
    pub uniform_chance: f64,
    /// Always the commonest class of the clips tested.
    pub majority_chance: f64,
    /// Share of permutations of the truth that score as well.
    pub p_value: f64,
    /// Permutations drawn.
    pub n_permutations: usize,
    /// The same training on shuffled labels, mean over subjects; nothing where it was not run.
    pub shuffled_labels_top1: Option<f64>,
}

/// Every finished unit in these folders and those below them, by name; the same unit twice counts once.
///
/// Errors: [`Error::Read`]; [`Error::Format`] for a result that is none of ours, when two results of one unit differ,
/// and when there is none.
pub fn read_results(folders: &[PathBuf]) -> Result<Vec<UnitResult>> {
    let mut found: BTreeMap<String, (UnitResult, PathBuf)> = BTreeMap::new();
    for folder in folders {
        let mut waiting = vec![folder.clone()];
        while let Some(folder) = waiting.pop() {
            for entry in std::fs::read_dir(&folder).map_err(Error::read(&folder))? {
                let path = entry.map_err(Error::read(&folder))?.path();
                if path.is_dir() {
                    waiting.push(path);
                } else if path.file_name().is_some_and(|name| name == RESULT) {
                    let bytes = files::read_small(&path, LIMIT_BYTES)?;
                    let result: UnitResult = serde_json::from_slice(&bytes)
                        .map_err(|error| Error::format(&path, format!("is no result of a unit: {error}")))?;
                    check(&result, &path)?;
                    match found.get(&result.unit.name()) {
                        Some((known, other)) if *known != result => {
                            let detail = format!("differs from {}, of the same unit", other.display());
                            return Err(Error::format(&path, detail));
                        }
                        _ => _ = found.insert(result.unit.name(), (result, path)),
                    }
                }
            }
        }
    }
    if found.is_empty() {
        let place = folders.first().cloned().unwrap_or_default();
        return Err(Error::format(place, format!("holds no finished unit ({RESULT})")));
    }
    let mut classes: BTreeMap<[String; 3], usize> = BTreeMap::new();
    for (result, path) in found.values() {
        let Unit { model, task, protocol, .. } = &result.unit;
        let key = [model, task, protocol].map(String::clone);
        let known = *classes.entry(key).or_insert(result.n_classes);
        if known != result.n_classes {
            let detail =
                format!("tells {} classes apart, another unit of its kind {known}", result.n_classes);
            return Err(Error::format(path, detail));
        }
    }
    Ok(found.into_values().map(|(result, _)| result).collect())
}

fn check(result: &UnitResult, path: &Path) -> Result<()> {
    let n = result.clips.len();
    let lengths = [result.truth.len(), result.predicted.len(), result.rank.len()];
    let classes = result.truth.iter().chain(&result.predicted).chain(&result.rank);
    if n == 0 || lengths != [n; 3] || classes.into_iter().any(|&class| class >= result.n_classes) {
        return Err(Error::format(path, "clips, truth, predictions and ranks do not fit each other"));
    }
    if result.n_classes > MOST_CLASSES {
        let detail = format!("{} classes, at most {MOST_CLASSES} are told apart", result.n_classes);
        return Err(Error::format(path, detail));
    }
    // They become names of files.
    let Unit { model, task, subject, protocol, .. } = &result.unit;
    let is_odd = |text: &str| text.is_empty() || text.contains(|c: char| c.is_control() || "/\\".contains(c));
    if let Some(odd) = [model, task, subject, protocol].into_iter().find(|text| is_odd(text)) {
        let detail = format!("'{}' is no name of a model, task, subject or protocol", odd.escape_debug());
        return Err(Error::format(path, detail));
    }
    Ok(())
}

/// Units by model, task and protocol, in the order of their names.
pub fn groups(results: &[UnitResult]) -> Vec<Vec<&UnitResult>> {
    let mut groups: BTreeMap<(&str, &str, &str), Vec<&UnitResult>> = BTreeMap::new();
    for result in results {
        let unit = &result.unit;
        groups.entry((&unit.task, &unit.model, &unit.protocol)).or_default().push(result);
    }
    groups.into_values().collect()
}

/// Sums up one group. The permutations are the same for the same seed.
pub fn summarise(group: &[&UnitResult], n_permutations: usize, seed: u64) -> Option<Summary> {
    let (controls, units): (Vec<&UnitResult>, Vec<&UnitResult>) =
        group.iter().copied().partition(|result| result.unit.is_control);
    let first = units.first()?;
    let by_subject = |units: &[&UnitResult], score: &dyn Fn(&UnitResult) -> f64| {
        let mut subjects: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for result in units {
            subjects.entry(&result.unit.subject).or_default().push(score(result));
        }
        subjects.into_values().map(|scores| mean(&scores)).collect::<Vec<f64>>()
    };
    let top1 = by_subject(&units, &|result| result.top(1));
    let mut counts = vec![0_usize; first.n_classes];
    units.iter().flat_map(|result| &result.truth).for_each(|&class| counts[class] += 1);
    let n_clips: usize = counts.iter().sum();
    let unit = &first.unit;
    Some(Summary {
        model: unit.model.clone(),
        task: unit.task.clone(),
        protocol: unit.protocol.clone(),
        n_classes: first.n_classes,
        n_subjects: top1.len(),
        n_units: units.len(),
        n_clips,
        top1: mean(&top1),
        top1_std: deviation(&top1),
        top5: mean(&by_subject(&units, &|result| result.top(5))),
        window_top1: mean(&by_subject(&units, &|result| result.window_top1)),
        uniform_chance: 1.0 / first.n_classes as f64,
        majority_chance: counts.iter().max().map_or(0.0, |&most| most as f64 / n_clips as f64),
        p_value: p_value(&units, n_permutations, seed),
        n_permutations,
        shuffled_labels_top1: (!controls.is_empty())
            .then(|| mean(&by_subject(&controls, &|result| result.top(1)))),
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    if values.len() < 2 { 0.0 } else { (squares / (values.len() - 1) as f64).sqrt() }
}

/// (1 + permutations that score as well) / (1 + permutations), the same for the same seed. Within a unit the truth is exchanged between slots, five
/// clips of a concept at a time, as they were shown: clips of a slot are alike in more than their class. Where slots
/// have lost clips (no label), single clips are exchanged.
pub fn p_value(units: &[&UnitResult], n_permutations: usize, seed: u64) -> f64 {
    // right[i][j]: predictions of slot i told right by the truth of slot j
    let tables: Vec<Vec<Vec<u32>>> = units.iter().map(|unit| table(unit)).collect();
    let observed: u32 = tables.iter().map(|right| (0..right.len()).map(|i| right[i][i]).sum::<u32>()).sum();
    let mut as_good = 0;
    for permutation in 0..n_permutations {
        let mut sum = 0;
        for (nth, right) in tables.iter().enumerate() {
            let stream = splitmix64(permutation as u64) ^ nth as u64;
            let order = shuffled(right.len(), seed, stream);
            sum += order.iter().enumerate().map(|(i, &j)| right[i][j]).sum::<u32>();
        }
        as_good += usize::from(sum >= observed);
    }
    (1 + as_good) as f64 / (1 + n_permutations) as f64
}

fn table(unit: &UnitResult) -> Vec<Vec<u32>> {
    let n = unit.clips.len();
    let slots: Vec<Vec<usize>> = (0..n).fold(Vec::new(), |mut slots: Vec<Vec<usize>>, at| {
        match slots.last_mut() {
            Some(slot) if unit.clips[slot[0]] / CLIPS == unit.clips[at] / CLIPS => slot.push(at),
            _ => slots.push(vec![at]),
        }
        slots
    });
    let whole = slots.iter().all(|slot| slot.len() == CLIPS);
    let slots = if whole { slots } else { (0..n).map(|at| vec![at]).collect() };
    let right = |i: &[usize], j: &[usize]| {
        i.iter().zip(j).filter(|&(&i, &j)| unit.predicted[i] == unit.truth[j]).count() as u32
    };
    slots.iter().map(|i| slots.iter().map(|j| right(i, j)).collect()).collect()
}

/// Rows are the truth, columns what was said: counts over all units of a group without its controls.
pub fn confusion(group: &[&UnitResult]) -> Vec<Vec<u64>> {
    let n = group.first().map_or(0, |result| result.n_classes);
    let mut counts = vec![vec![0; n]; n];
    for result in group.iter().filter(|result| !result.unit.is_control) {
        for (&truth, &predicted) in result.truth.iter().zip(&result.predicted) {
            counts[truth][predicted] += 1;
        }
    }
    counts
}

/// Mean over units of each epoch's figures, as far as the longest unit went; units that stopped early keep their last.
pub fn mean_curve(group: &[&UnitResult]) -> Vec<[f64; 3]> {
    let units: Vec<_> = group.iter().filter(|result| !result.unit.is_control).collect();
    let longest = units.iter().map(|result| result.epochs.len()).max().unwrap_or(0);
    let figures = |result: &UnitResult, at: usize| {
        let epoch = result.epochs.get(at).or(result.epochs.last());
        epoch.map_or([0.0; 3], |e| [e.train_loss, e.validation_loss, e.validation_accuracy])
    };
    let mean_of = |at: usize, which: usize| {
        units.iter().map(|result| figures(result, at)[which]).sum::<f64>() / units.len().max(1) as f64
    };
    (0..longest).map(|at| [0, 1, 2].map(|which| mean_of(at, which))).collect()
}

/// One line per unit, for spreadsheets.
pub fn csv(results: &[UnitResult]) -> String {
    let mut text = String::from(
        "model,task,subject,fold,seed,protocol,labels,n_classes,n_clips,top1,top5,window_top1,window_top5,\
         uniform_chance,majority_chance,best_epoch,n_epochs,n_parameters\n",
    );
    for result in results {
        let unit = &result.unit;
        let most = (0..result.n_classes).map(|c| result.truth.iter().filter(|&&t| t == c).count()).max();
        let majority = most.unwrap_or(0) as f64 / result.truth.len() as f64;
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
            unit.model,
            unit.task,
            unit.subject,
            unit.fold,
            unit.seed,
            unit.protocol,
            if unit.is_control { "shuffled" } else { "true" },
            result.n_classes,
            result.clips.len(),
            result.top(1),
            result.top(5),
            result.window_top1,
            result.window_top5,
            1.0 / result.n_classes as f64,
            majority,
            result.best_epoch,
            result.epochs.len(),
            result.n_parameters,
        );
    }
    text
}

/// The table people read, in Markdown, with what the original's habits add where both were run.
pub fn markdown(summaries: &[Summary]) -> String {
    let mut text = String::from(
        "| task | model | protocol | top-1 | top-5 | uniform chance | majority chance | p | shuffled labels | subjects | clips |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    for s in summaries {
        let spread = if s.n_subjects > 1 { format!(" ± {:.1}", 100.0 * s.top1_std) } else { String::new() };
        let least = 1.0 / (1 + s.n_permutations) as f64;
        let p =
            if s.p_value <= least { format!("< {:.1e}", 1.5 * least) } else { format!("{:.3}", s.p_value) };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.1}{spread} % | {} | {} | {} | {p} | {} | {} | {} |",
            s.task,
            s.model,
            s.protocol,
            100.0 * s.top1,
            if s.n_classes > 5 { percent(s.top5) } else { "–".into() },
            percent(s.uniform_chance),
            percent(s.majority_chance),
            s.shuffled_labels_top1.map_or("not run".into(), percent),
            s.n_subjects,
            s.n_clips,
        );
    }
    for original in summaries.iter().filter(|s| s.protocol == "original") {
        let clean = summaries
            .iter()
            .find(|s| s.protocol == "clean" && (&s.model, &s.task) == (&original.model, &original.task));
        if let Some(clean) = clean {
            let points = 100.0 * (original.top1 - clean.top1);
            let _ = writeln!(
                text,
                "\n{} on {}: the original's split and scaling make {points:+.1} points of its {:.1} %.",
                original.model,
                original.task,
                100.0 * original.top1
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::unit::Unit;

    fn result(fold: usize, is_control: bool, predict: impl Fn(usize, usize) -> usize) -> UnitResult {
        let order = shuffled(40, 9, fold as u64);
        let truth: Vec<usize> = (0..200).map(|at| order[at / 5]).collect();
        let predicted: Vec<usize> = truth.iter().enumerate().map(|(at, &class)| predict(at, class)).collect();
        let rank = truth.iter().zip(&predicted).map(|(t, p)| if t == p { 0 } else { 7 }).collect();
        UnitResult {
            unit: Unit {
                model: "MLP".into(),
                task: "40c".into(),
                subject: format!("sub{}", fold % 2),
                fold,
                seed: 0,
                protocol: "clean".into(),
                is_control,
            },
            n_classes: 40,
            n_windows: [10, 10, 200],
            n_parameters: 5,
            best_epoch: 0,
            epochs: Vec::new(),
            window_top1: 0.5,
            window_top5: 0.5,
            clips: (200 * fold..200 * (fold + 1)).collect(),
            truth,
            predicted,
            rank,
        }
    }

    #[test]
    fn a_real_link_is_seen_and_none_is_not() {
        let good: Vec<UnitResult> = (0..3)
            .map(|fold| result(fold, false, |at, class| if at % 3 == 0 { class } else { at % 40 }))
            .collect();
        let summary = summarise(&good.iter().collect::<Vec<_>>(), 999, 1).unwrap();
        assert!(summary.top1 > 0.3 && summary.p_value <= 0.001, "{summary:?}");
        assert_eq!((summary.n_subjects, summary.n_units, summary.n_clips), (2, 3, 600));
        assert!((summary.majority_chance - 1.0 / 40.0).abs() < 1e-12);
        // Predictions that know nothing: p is spread over 0 to 1, whatever the run of equal predictions.
        let small = (0..40)
            .filter(|&seed| {
                let blind = result(0, false, |at, _| shuffled(40, 77 + seed, 0)[at / 5]);
                summarise(&[&blind], 199, seed).unwrap().p_value <= 0.1
            })
            .count();
        assert!((0..=10).contains(&small), "{small} of 40 below 0.1");
    }

    #[test]
    fn always_the_same_answer_is_never_significant() {
        let constant = result(0, false, |_, _| 3);
        assert_eq!(summarise(&[&constant], 99, 0).unwrap().p_value, 1.0);
        let control = result(1, true, |_, class| class);
        let both = summarise(&[&constant, &control], 9, 0).unwrap();
        assert_eq!((both.shuffled_labels_top1, both.n_units), (Some(1.0), 1));
        assert!(summarise(&[&control], 9, 0).is_none(), "a control alone is no result");
    }

    #[test]
    fn results_come_back_from_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let results: Vec<UnitResult> = (0..2).map(|fold| result(fold, false, |_, class| class)).collect();
        for (at, result) in results.iter().enumerate() {
            let place = folder.path().join(format!("shard{at}")).join(result.unit.name());
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join(RESULT), serde_json::to_string(result).unwrap()).unwrap();
        }
        assert_eq!(read_results(&[folder.path().to_path_buf()]).unwrap(), results);
        let same = folder.path().join("again");
        std::fs::create_dir(&same).unwrap();
        let other = UnitResult { n_parameters: 6, ..results[0].clone() };
        std::fs::write(same.join(RESULT), serde_json::to_string(&other).unwrap()).unwrap();
        let error = read_results(&[folder.path().to_path_buf()]).unwrap_err();
        assert!(error.to_string().contains("of the same unit"), "{error}");
        for (model, n_classes, says) in
            [("a/../b", 40, "no name of a model"), ("", 40, "no name"), ("MLP", 1 << 40, "told apart")]
        {
            let unit = Unit { model: model.into(), ..results[0].unit.clone() };
            let other = UnitResult { unit, n_classes, ..results[0].clone() };
            std::fs::write(same.join(RESULT), serde_json::to_string(&other).unwrap()).unwrap();
            let error = read_results(&[folder.path().to_path_buf()]).unwrap_err();
            assert!(error.exit_code() == 3 && error.to_string().contains(says), "{error}");
        }
        let unit = Unit { seed: 7, ..results[0].unit.clone() };
        let other = UnitResult { unit, n_classes: 41, ..results[0].clone() };
        std::fs::write(same.join(RESULT), serde_json::to_string(&other).unwrap()).unwrap();
        let error = read_results(&[folder.path().to_path_buf()]).unwrap_err();
        assert!(
            error.to_string().contains("41 classes apart") || error.to_string().contains("kind 41"),
            "{error}"
        );
        std::fs::write(same.join(RESULT), "{}").unwrap();
        assert_eq!(read_results(&[folder.path().to_path_buf()]).unwrap_err().exit_code(), 3);
        assert!(read_results(&[tempfile::tempdir().unwrap().path().to_path_buf()]).is_err());
    }

    #[test]
    fn tables_hold_every_figure() {
        let results = [result(0, false, |_, class| class), result(0, true, |_, _| 0)];
        let group: Vec<&UnitResult> = results.iter().collect();
        let summary = summarise(&group, 99, 0).unwrap();
        let original = Summary { protocol: "original".into(), top1: 0.9, ..summary.clone() };
        let text = markdown(&[summary, original]);
        assert!(text.contains("| 100.0 % |") && text.contains("| 2.5 % | 2.5 % |"), "{text}");
        assert!(text.contains("make -10.0 points of its 90.0 %"), "{text}");
        let lines = csv(&results);
        assert_eq!(lines.lines().count(), 3);
        assert!(lines.lines().all(|line| line.split(',').count() == 18), "{lines}");
        assert_eq!(confusion(&group)[3][3], 5);
    }
}
