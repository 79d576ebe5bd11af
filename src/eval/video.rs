//! Scores of decoded clips, and of what they must be better than.
//!
//! ```text
//! truth ─see─┬─> Scorer ─score(predictions)─> values [column][clip] ─┐
//! judges ────┘            ─score(controls, baselines)────────────────┴─> Table -> summaries
//! ```
//!
//! Judges look at every clip once, whatever it is compared with.

use super::interval::{Interval, Resamples, paired_p};
use super::judges::{Judge, Kind, clip_cosine, clip_pcc};
use super::nway::{NWay, Positives, rank};
use super::pictures::{hue, mse, over_frames, psnr, ssim};
use crate::error::{Error, Result, none_of};
use crate::media::Frames;
use serde_json::{Value, json};

/// What may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Structural similarity.
    Ssim,
    /// Peak signal-to-noise ratio.
    Psnr,
    /// Mean squared error.
    Mse,
    /// Difference of hue.
    Hue,
    /// Cosine of CLIP's embeddings, and n-way identification by them.
    Clip,
    /// Cosine of neighbouring frames' embeddings.
    ClipPcc,
    /// n-way top-k by an image classifier.
    TopkImage,
    /// n-way top-k by a video classifier.
    TopkVideo,
    /// Which of the known concepts is shown.
    Class,
}

impl Metric {
    /// All, by the names a user types.
    pub const ALL: [(&'static str, Metric); 9] = [
        ("ssim", Metric::Ssim),
        ("psnr", Metric::Psnr),
        ("mse", Metric::Mse),
        ("hue", Metric::Hue),
        ("clip", Metric::Clip),
        ("clip-pcc", Metric::ClipPcc),
        ("topk-image", Metric::TopkImage),
        ("topk-video", Metric::TopkVideo),
        ("class", Metric::Class),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Metric::ALL.iter().find(|(_, metric)| *metric == self).map_or("", |(name, _)| name)
    }

    /// The judge it needs.
    pub fn judge(self) -> Option<Kind> {
        match self {
            Metric::Ssim | Metric::Psnr | Metric::Mse | Metric::Hue => None,
            Metric::Clip | Metric::ClipPcc => Some(Kind::Clip),
            Metric::TopkImage => Some(Kind::Image),
            Metric::TopkVideo => Some(Kind::Video),
            Metric::Class => Some(Kind::Concept),
        }
    }
}

impl std::str::FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Metric> {
        let names = Metric::ALL.map(|(name, _)| name);
        let found = Metric::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, metric)| *metric).ok_or_else(|| Error::setting("--metrics", none_of(text, names)))
    }
}

/// One column of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The name in files: `image-40way-top1`.
    pub key: String,
    /// Whether more is better; nothing where neither is.
    pub higher_is_better: Option<bool>,
    /// A share, told in percent.
    pub is_share: bool,
    /// What answers at random reach.
    pub chance: Option<f64>,
}

impl Column {
    fn plain(key: &str, higher_is_better: bool) -> Column {
        Column { key: key.into(), higher_is_better: Some(higher_is_better), is_share: false, chance: None }
    }

    fn share(key: String, chance: f64) -> Column {
        Column { key, higher_is_better: Some(true), is_share: true, chance: Some(chance) }
    }

    /// A value as people read it.
    pub fn show(&self, value: f64) -> String {
        match self.is_share {
            _ if value == f64::INFINITY => "inf".into(),
            _ if !value.is_finite() => "-".into(),
            true => format!("{:.1} %", 100.0 * value),
            false if value.abs() >= 10.0 => format!("{value:.2}"),
            false if value != 0.0 && value.abs() < 1e-3 => format!("{value:.1e}"),
            false => format!("{value:.4}"),
        }
    }
}

/// How questions are asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Questions {
    /// Numbers of classes to choose from.
    pub ways: Vec<usize>,
    /// Places that count as right.
    pub top_k: usize,
    /// Draws for each picture.
    pub trials: usize,
    /// The original's form beside ours.
    pub reproduce_original: bool,
    /// Of the draws.
    pub seed: u64,
}

/// What the judges see in a clip: a row for each frame or one, judge by judge.
pub type Seen = Vec<Vec<Vec<f32>>>;

/// Holds clips against the truth.
pub struct Scorer<'a> {
    metrics: Vec<Metric>,
    judges: &'a [Judge],
    questions: Questions,
    truth: Vec<&'a Frames>,
    seen: Vec<Seen>,
    labels: Option<Vec<usize>>,
    columns: Vec<Column>,
}

impl<'a> Scorer<'a> {
    /// Looks at the truth. `labels` are its classes, for [`Metric::Class`]; `progress` hears of each clip.
    ///
    /// Errors: [`Error::Setting`] for a metric without its judge or labels, and questions that cannot be asked.
    pub fn new(
        metrics: &[Metric],
        judges: &'a [Judge],
        questions: Questions,
        truth: Vec<&'a Frames>,
        labels: Option<Vec<usize>>,
        progress: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Scorer<'a>> {
        let metrics = metrics.to_vec();
        let columns = columns(&metrics, judges, &questions, &truth, labels.as_deref())?;
        let mut scorer = Scorer { metrics, judges, questions, truth, seen: Vec::new(), labels, columns };
        for at in 0..scorer.truth.len() {
            let seen = scorer.see(scorer.truth[at])?;
            scorer.seen.push(seen);
            progress()?;
        }
        Ok(scorer)
    }

    /// What is told of each clip.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// What the judges saw in the truth.
    pub fn truth_seen(&self) -> &[Seen] {
        &self.seen
    }

    /// What the judges see in a clip.
    ///
    /// Errors: as [`Judge::look`].
    pub fn see(&self, clip: &Frames) -> Result<Seen> {
        self.judges.iter().map(|judge| judge.look(clip)).collect()
    }

    fn judge(&self, kind: Kind) -> usize {
        self.judges
            .iter()
            .position(|judge| judge.kind() == kind)
            .expect("asked for when the columns were made")
    }

    /// The class each clip shows by the judge of concepts, where there is one.
    pub fn classes(&self, seen: &[&Seen]) -> Option<Vec<usize>> {
        let at = self.judges.iter().position(|judge| judge.kind() == Kind::Concept)?;
        let best =
            |seen: &&Seen| (0..seen[at][0].len()).find(|&class| rank(&seen[at][0], class) == 0).unwrap_or(0);
        Some(seen.iter().map(best).collect())
    }

    /// Scores of clips, the one at each place against the truth there; `progress` hears of each.
    ///
    /// Errors: [`Error::Shape`] for clips of another size than the truth's; those of the questions and of `progress`.
    pub fn score(
        &self,
        name: &str,
        clips: &[&Frames],
        seen: &[&Seen],
        progress: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Scored> {
        let mut values: Vec<Vec<f64>> = vec![Vec::with_capacity(clips.len()); self.columns.len()];
        for (at, (clip, seen)) in clips.iter().zip(seen).enumerate() {
            let of_clip = self.score_one(at, clip, seen)?;
            values.iter_mut().zip(of_clip).for_each(|(row, value)| row.push(value));
            progress()?;
        }
        Ok(Scored { name: name.to_string(), values })
    }

    fn score_one(&self, at: usize, clip: &Frames, seen: &Seen) -> Result<Vec<f64>> {
        let truth = self.truth[at];
        let plain =
            |score: fn(&[u8], &[u8]) -> Result<f64>| over_frames(clip, truth, |a, b, _, _| score(a, b));
        let mut values = Vec::with_capacity(self.columns.len());
        for metric in &self.metrics {
            match metric {
                Metric::Ssim => values.push(over_frames(clip, truth, ssim)?),
                Metric::Psnr => values.push(plain(psnr)?),
                Metric::Mse => values.push(plain(mse)?),
                Metric::Hue => values.push(plain(hue)?),
                Metric::ClipPcc => values.push(clip_pcc(&seen[self.judge(Kind::Clip)])),
                Metric::Clip => {
                    let judge = self.judge(Kind::Clip);
                    let near = |other: &Seen| clip_cosine(&seen[judge], &other[judge]);
                    values.push(near(&self.seen[at]));
                    let near: Vec<f32> = self.seen.iter().map(|other| near(other) as f32).collect();
                    for asked in identifications(&self.questions, self.truth.len()) {
                        values.push(asked.answer(&near, &[at], self.questions.seed, at as u64)?);
                    }
                }
                Metric::TopkImage | Metric::TopkVideo => {
                    let judge = self.judge(metric.judge().expect("it has one"));
                    let (ours, theirs) = (&seen[judge], &self.seen[at][judge]);
                    for asked in asked(&self.questions) {
                        let mut sum = 0.0;
                        for (frame, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                            let question = (at as u64) << 16 | frame as u64;
                            sum += asked.ask(ours, theirs, self.questions.seed, question)?;
                        }
                        values.push(sum / ours.len() as f64);
                    }
                }
                Metric::Class => {
                    let label = self.labels.as_ref().expect("asked for when the columns were made")[at];
                    let rank = rank(&seen[self.judge(Kind::Concept)][0], label);
                    values.extend([1, 5].map(|k| f64::from(u8::from(rank < k))));
                }
            }
        }
        Ok(values)
    }
}

/// n-way questions, ours and where wanted the original's.
fn asked(questions: &Questions) -> Vec<NWay> {
    let forms = [Positives::One, Positives::Three];
    let forms = &forms[..if questions.reproduce_original { 2 } else { 1 }];
    let each = |&positives: &Positives| {
        let Questions { top_k: k, trials, .. } = *questions;
        questions.ways.iter().map(move |&n| NWay { n, k, trials, positives })
    };
    forms.iter().flat_map(each).collect()
}

/// The same by similarity to the clips that were shown, of which there may be fewer than ways.
fn identifications(questions: &Questions, n_clips: usize) -> Vec<NWay> {
    let ways = once(questions.ways.iter().map(|&n| n.min(n_clips)));
    let ask = |n| NWay { n, k: 1, trials: questions.trials, positives: Positives::One };
    ways.into_iter().filter(|&n| n > 1).map(ask).collect()
}

/// Each of them once, where it was first named.
pub fn once<T: PartialEq>(named: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut kept = Vec::new();
    for one in named {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}

/// What is told of each clip, in the order of the metrics.
///
/// Errors: those of [`Scorer::new`].
pub fn columns(
    metrics: &[Metric],
    judges: &[Judge],
    questions: &Questions,
    truth: &[&Frames],
    labels: Option<&[usize]>,
) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    for metric in metrics {
        let judge = match metric.judge() {
            None => None,
            Some(kind) => Some(judges.iter().find(|judge| judge.kind() == kind).ok_or_else(|| {
                let detail = format!(
                    "'{}' wants a {}; give its folder with --classifier",
                    metric.name(),
                    kind.architecture()
                );
                Error::setting("--metrics", detail)
            })?),
        };
        let n_classes = judge.map_or(0, Judge::n_classes);
        match metric {
            Metric::Ssim | Metric::Psnr => columns.push(Column::plain(metric.name(), true)),
            Metric::Mse => columns.push(Column::plain("mse", false)),
            Metric::Hue => columns.push(Column { chance: Some(90.0), ..Column::plain("hue", false) }),
            Metric::Clip => {
                columns.push(Column::plain("clip-cosine", true));
                for asked in identifications(questions, truth.len()) {
                    columns.push(Column::share(format!("clip-{}way", asked.n), asked.chance()));
                }
            }
            Metric::ClipPcc => {
                columns.push(Column { higher_is_better: None, ..Column::plain("clip-pcc", true) });
            }
            Metric::TopkImage | Metric::TopkVideo => {
                let what = if *metric == Metric::TopkImage { "image" } else { "video" };
                for asked in asked(questions) {
                    asked.check(n_classes)?;
                    let form = if asked.positives == Positives::Three { "-original" } else { "" };
                    let key = format!("{what}-{}way-top{}{form}", asked.n, asked.k);
                    columns.push(Column::share(key, asked.chance()));
                }
            }
            Metric::Class => {
                let labels = labels.ok_or_else(|| {
                    let detail =
                        "is missing: 'class' wants the class of each clip (or labels.json beside the truth)";
                    Error::setting("--labels", detail)
                })?;
                if labels.len() != truth.len() {
                    let detail = format!("{} classes for {} clips", labels.len(), truth.len());
                    return Err(Error::setting("--labels", detail));
                }
                if let Some(class) = labels.iter().find(|&&class| class >= n_classes) {
                    let detail = format!("class {class}, the classifier knows 0 to {}", n_classes - 1);
                    return Err(Error::setting("--labels", detail));
                }
                for k in [1, 5] {
                    let chance = (k as f64 / n_classes as f64).min(1.0);
                    columns.push(Column::share(format!("class-top{k}"), chance));
                }
            }
        }
    }
    Ok(columns)
}

/// Clips of one origin with their scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// `prediction`, the name of a control, or of a baseline.
    pub name: String,
    /// `[column][clip]`.
    pub values: Vec<Vec<f64>>,
}

impl Scored {
    /// The mean of several scores of the same clips, clip by clip; nothing of none.
    pub fn mean(of: Vec<Scored>) -> Option<Scored> {
        let n = of.len() as f64;
        let mut of = of.into_iter();
        let mut sum = of.next()?;
        for other in of {
            let pairs = sum.values.iter_mut().flatten().zip(other.values.iter().flatten());
            pairs.for_each(|(sum, value)| *sum += value);
        }
        sum.values.iter_mut().flatten().for_each(|value| *value /= n);
        Some(sum)
    }
}

/// Everything that was scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What is told.
    pub columns: Vec<Column>,
    /// Names of the clips.
    pub clips: Vec<String>,
    /// The predictions first.
    pub rows: Vec<Scored>,
}

/// The baseline a p-value is told against.
pub const SHUFFLED: &str = "shuffled pairs";

impl Table {
    /// Mean and interval of each row and column: `[row][column]`.
    pub fn intervals(&self, n_resamples: usize, seed: u64) -> Vec<Vec<Interval>> {
        let resamples = Resamples::new(self.clips.len(), n_resamples, seed);
        let of_column = |(column, values): (&Column, &Vec<f64>)| match column.is_share {
            true => resamples.share(values),
            false => resamples.interval(values),
        };
        let of_row = |row: &Scored| self.columns.iter().zip(&row.values).map(of_column).collect();
        self.rows.iter().map(of_row).collect()
    }

    /// p of each column that the predictions are better than when pairs are shuffled.
    pub fn p_values(&self, seed: u64) -> Vec<Option<f64>> {
        let Some(other) = self.rows.iter().find(|row| row.name == SHUFFLED) else {
            return vec![None; self.columns.len()];
        };
        let p = |(at, column): (usize, &Column)| {
            let (ours, theirs) = (&self.rows[0].values[at], &other.values[at]);
            match column.higher_is_better? {
                true => paired_p(ours, theirs, seed),
                false => paired_p(theirs, ours, seed),
            }
        };
        self.columns.iter().enumerate().map(p).collect()
    }

    /// Clips from the best to the worst by a column of the predictions; equal ones in their order.
    pub fn ranked(&self, column: usize) -> Vec<usize> {
        let values = &self.rows[0].values[column];
        let higher = self.columns[column].higher_is_better.unwrap_or(true);
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| {
            let by_value = values[b].total_cmp(&values[a]);
            if higher { by_value } else { by_value.reverse() }.then(a.cmp(&b))
        });
        order
    }

    /// As JSON: every row with mean and interval of each column, its chance and p.
    pub fn summary(&self, intervals: &[Vec<Interval>], p_values: &[Option<f64>]) -> Value {
        let row = |(row, intervals): (&Scored, &Vec<Interval>)| {
            let cell = |(column, interval): (&Column, &Interval)| {
                let [mean, low, high] = [interval.mean, interval.low, interval.high].map(number);
                (column.key.clone(), json!({ "mean": mean, "low": low, "high": high }))
            };
            let scores: serde_json::Map<_, _> = self.columns.iter().zip(intervals).map(cell).collect();
            json!({ "name": row.name, "scores": scores })
        };
        let metric = |(column, p): (&Column, &Option<f64>)| {
            let value = json!({
                "chance": column.chance,
                "higher_is_better": column.higher_is_better,
                "p_against_shuffled": p,
            });
            (column.key.clone(), value)
        };
        json!({
            "n_clips": self.clips.len(),
            "metrics": self.columns.iter().zip(p_values).map(metric).collect::<serde_json::Map<_, _>>(),
            "rows": self.rows.iter().zip(intervals).map(row).collect::<Vec<_>>(),
        })
    }

    /// A row for each clip of each origin.
    pub fn csv(&self) -> String {
        let keys: Vec<&str> = self.columns.iter().map(|column| column.key.as_str()).collect();
        let mut text = format!("row,clip,{}\n", keys.join(","));
        for row in &self.rows {
            for (at, clip) in self.clips.iter().enumerate() {
                let values: Vec<String> = row.values.iter().map(|values| plain(values[at])).collect();
                text += &format!("{},{},{}\n", quoted(&row.name), quoted(clip), values.join(","));
            }
        }
        text
    }

    /// A line for each metric, a column for each origin; the cells are mean and interval.
    pub fn cells(&self, intervals: &[Vec<Interval>], p_values: &[Option<f64>]) -> Vec<Vec<String>> {
        let mut head = vec!["metric".to_string(), "chance".into()];
        head.extend(self.rows.iter().map(|row| row.name.clone()));
        head.push("p".into());
        let line = |(at, column): (usize, &Column)| {
            let arrow = match column.higher_is_better {
                Some(true) => " ↑",
                Some(false) => " ↓",
                None => "",
            };
            let mut line = vec![format!("{}{arrow}", column.key)];
            line.push(column.chance.map_or("-".into(), |chance| column.show(chance)));
            line.extend(intervals.iter().map(|row| {
                let Interval { mean, low, high } = row[at];
                format!("{} [{}, {}]", column.show(mean), column.show(low), column.show(high))
            }));
            line.push(p_values[at].map_or("-".into(), |p| format!("{p:.4}")));
            line
        };
        std::iter::once(head).chain(self.columns.iter().enumerate().map(line)).collect()
    }
}

/// JSON knows no infinity.
pub fn number(value: f64) -> Value {
    if value == f64::INFINITY { json!("inf") } else { json!(value) }
}

fn plain(value: f64) -> String {
    if value == f64::INFINITY { "inf".into() } else { value.to_string() }
}

/// A text as CSV has it.
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions() -> Questions {
        Questions { ways: vec![2, 40], top_k: 1, trials: 50, reproduce_original: false, seed: 0 }
    }

    fn clip(seed: u64) -> Frames {
        let byte = |i: u64| (crate::weights::random::splitmix64(seed << 32 | i) >> 56) as u8;
        Frames::new(2, 8, 9, (0..2 * 8 * 9 * 3).map(byte).collect(), 3.0).unwrap()
    }

    #[test]
    fn the_truth_is_best_and_the_table_says_so() {
        let truth: Vec<Frames> = (0..6).map(clip).collect();
        let noise: Vec<Frames> = (6..12).map(clip).collect();
        let metrics = [Metric::Ssim, Metric::Mse, Metric::Hue, Metric::Psnr];
        let scorer =
            Scorer::new(&metrics, &[], questions(), truth.iter().collect(), None, &mut || Ok(())).unwrap();
        let nothing = Seen::new();
        let seen = vec![&nothing; 6];
        let rows = [("prediction", &truth), (SHUFFLED, &noise)];
        let rows = rows.map(|(name, clips)| {
            scorer.score(name, &clips.iter().collect::<Vec<_>>(), &seen, &mut || Ok(())).unwrap()
        });
        let rows = rows.to_vec();
        let clips = (0..6).map(|at| format!("clip, {at}")).collect();
        let table = Table { columns: scorer.columns().to_vec(), clips, rows };
        let intervals = table.intervals(200, 0);
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} {want}");
        near(intervals[0][0].mean, 1.0);
        near(intervals[0][1].mean, 0.0);
        near(intervals[0][2].mean, 0.0);
        assert_eq!(intervals[0][3].mean, f64::INFINITY);
        assert!(intervals[1][0].mean < 0.2 && (60.0..120.0).contains(&intervals[1][2].mean));
        let p = table.p_values(0);
        // Six pairs, all better: 1 of 64 sign patterns.
        assert!((p[0].unwrap() - 1.0 / 64.0).abs() < 0.01 && p[1].unwrap() < 0.03 && p[3].is_none(), "{p:?}");
        let csv = table.csv();
        assert!(csv.starts_with("row,clip,ssim,mse,hue,psnr\nprediction,\"clip, 0\","), "{csv}");
        assert_eq!((csv.lines().count(), csv.matches(",inf").count()), (13, 6));
        let cells = table.cells(&intervals, &p);
        assert_eq!((cells.len(), cells[0].len(), cells[3][1].as_str()), (5, 5, "90.00"));
        assert_eq!(table.summary(&intervals, &p)["rows"][0]["scores"]["psnr"]["mean"], "inf");
    }

    #[test]
    fn ranks_go_from_the_best() {
        let column = |higher| Column { higher_is_better: Some(higher), ..Column::plain("x", true) };
        let table = |higher| Table {
            columns: vec![column(higher)],
            clips: vec![String::new(); 4],
            rows: vec![Scored { name: "prediction".into(), values: vec![vec![2.0, 5.0, 1.0, 5.0]] }],
        };
        assert_eq!(table(true).ranked(0), [1, 3, 0, 2]);
        assert_eq!(table(false).ranked(0), [2, 0, 1, 3]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = "sim".parse::<Metric>().unwrap_err().to_string();
        assert!(text.contains("'sim' is none of ssim") && text.contains("did you mean 'ssim'?"), "{text}");
        let truth = [clip(0)];
        let refused = |metric| {
            let truth = truth.iter().collect();
            let made = Scorer::new(&[metric], &[], questions(), truth, None, &mut || Ok(()));
            made.err().expect("refused").to_string()
        };
        assert!(refused(Metric::TopkImage).contains("ViTForImageClassification"));
        assert!(refused(Metric::Class).contains("ClipClassifier"));
        assert_eq!(identifications(&questions(), 6).iter().map(|asked| asked.n).collect::<Vec<_>>(), [2, 6]);
        assert_eq!(identifications(&questions(), 1), []);
        let both = Questions { reproduce_original: true, ..questions() };
        assert_eq!(asked(&both).len(), 4);
    }
}
