//! What was measured, as Markdown and as JSON.

use crate::ask;
use crate::cases::Case;
use crate::mindreel::Mindreel;
use serde_json::{Value, json};
use std::error::Error;

/// What came of one contestant at one shape.
pub enum Outcome {
    /// Seconds of a call, one number per round, and how far the result was from mindreel's.
    Timed { seconds: Vec<f64>, difference: f64 },
    /// How far the result was from mindreel's.
    Wrong(f64),
    /// Why there is no result.
    Failed(String),
}

impl Outcome {
    /// A failure, told on stderr.
    pub fn failed(name: &str, error: Box<dyn Error>) -> Outcome {
        eprintln!("  {name} failed: {error}");
        Outcome::Failed(error.to_string())
    }

    /// A wrong result, told on stderr.
    pub fn wrong(name: &str, difference: f64) -> Outcome {
        eprintln!("  {name} differs from mindreel by {difference:.1e}");
        Outcome::Wrong(difference)
    }

    /// True unless wrong or failed.
    pub fn is_timed(&self) -> bool {
        matches!(self, Outcome::Timed { .. })
    }

    /// Median, least and most seconds.
    fn spread(&self) -> Option<[f64; 3]> {
        let Outcome::Timed { seconds, .. } = self else { return None };
        let mut sorted = seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 0 { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] };
        Some([median, sorted[0], sorted[sorted.len() - 1]])
    }
}

/// One shape; outcomes in the order of the contestants, mindreel first.
pub struct Row {
    pub case: &'static Case,
    pub outcomes: Vec<Outcome>,
}

impl Row {
    /// How many times as fast as this contestant mindreel is.
    fn ratio(&self, contestant: usize) -> Option<f64> {
        Some(self.outcomes[contestant].spread()?[0] / self.outcomes[0].spread()?[0])
    }
}

/// A run.
pub struct Report {
    date: String,
    cpu: String,
    adapter: String,
    driver: String,
    /// Turns of each contestant at each shape.
    pub rounds: usize,
    /// Names, and what they say about themselves.
    pub contestants: Vec<(&'static str, String)>,
    /// In the order of the table.
    pub rows: Vec<Row>,
}

impl Report {
    /// With the machine's facts and nothing measured.
    pub fn new(ours: &Mindreel, rounds: usize) -> Report {
        let facts = ours.facts();
        Report {
            date: ask("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or("unknown".into()),
            cpu: cpu(),
            adapter: facts.name.clone(),
            driver: format!("{}, {}", facts.driver, facts.backend),
            rounds,
            contestants: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Machine and contestants, and the head of the table.
    pub fn head(&self) -> String {
        let mut lines = vec![
            format!("{}, {} rounds, f32\n", self.date, self.rounds),
            format!("* CPU: {}", self.cpu),
            format!("* adapter: {}, driver {}", self.adapter, self.driver),
        ];
        lines.extend(self.contestants.iter().map(|(name, about)| format!("* {name} {about}")));
        lines.push(
            "\nMedian ms of a call (least to most), rate. A ratio above 1: mindreel is faster.\n".into(),
        );
        let names = self.contestants.iter().map(|(name, _)| name.to_string());
        let head = ["op".into(), "shape".into()].into_iter().chain(names).chain(self.ratio_names()).collect();
        lines.push(table_head(head));
        lines.join("\n")
    }

    /// The table's line of the shape measured last.
    pub fn last_line(&self) -> String {
        let Some(row) = self.rows.last() else { return String::new() };
        let (name, shape) = row.case.op.label();
        let mut cells = vec![name.to_string(), shape];
        cells.extend(row.outcomes.iter().map(|outcome| cell(outcome, row.case)));
        let ratio = |at| row.ratio(at).map_or("".into(), |ratio| format!("{ratio:.2}"));
        cells.extend((1..row.outcomes.len()).map(ratio));
        line(cells)
    }

    /// The table of means.
    pub fn tail(&self) -> String {
        let head = std::iter::once("class".into()).chain(self.ratio_names()).collect();
        let mut lines = vec!["\nGeometric mean of the ratios (shapes in it).\n".into(), table_head(head)];
        for class in self.classes() {
            let cell = |at| self.mean(class, at).map_or("".into(), |(mean, n)| format!("{mean:.2} ({n})"));
            let cells = std::iter::once(class.into()).chain((1..self.contestants.len()).map(cell));
            lines.push(line(cells.collect()));
        }
        lines.join("\n")
    }

    fn ratio_names(&self) -> impl Iterator<Item = String> {
        self.contestants.iter().skip(1).map(|(name, _)| format!("/ {name}"))
    }

    fn classes(&self) -> Vec<&'static str> {
        let mut classes: Vec<_> = self.rows.iter().map(|row| row.case.op.class()).collect();
        classes.dedup();
        classes
    }

    /// The mean of the ratios of a class, with the number of shapes in it.
    fn mean(&self, class: &str, contestant: usize) -> Option<(f64, usize)> {
        let rows = self.rows.iter().filter(|row| row.case.op.class() == class);
        let logs: Vec<f64> = rows.filter_map(|row| row.ratio(contestant)).map(f64::ln).collect();
        let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
        (!logs.is_empty()).then_some((mean, logs.len()))
    }

    /// All of it, every round's times too.
    pub fn json(&self) -> Value {
        let result = |at: usize, row: &Row| {
            let name = self.contestants[at].0;
            match &row.outcomes[at] {
                Outcome::Timed { seconds, difference } => {
                    let spread = row.outcomes[at].spread().unwrap_or_default();
                    let (work, unit) = row.case.op.work();
                    json!({
                        "name": name, "seconds": seconds, "median_s": spread[0], "min_s": spread[1],
                        "max_s": spread[2], "rate": work / spread[0], "rate_unit": format!("{unit}/s"),
                        "difference": difference, "ratio": row.ratio(at),
                    })
                }
                Outcome::Wrong(difference) => json!({ "name": name, "wrong": difference.to_string() }),
                Outcome::Failed(error) => json!({ "name": name, "failed": error }),
            }
        };
        let row = |row: &Row| {
            let (name, shape) = row.case.op.label();
            let results: Vec<_> = (0..row.outcomes.len()).map(|at| result(at, row)).collect();
            json!({
                "op": name, "shape": shape, "class": row.case.op.class(), "from": row.case.from,
                "sizes": row.case.op, "results": results,
            })
        };
        let mean = |class: &str| {
            let mean = |at: usize| {
                let (mean, n) = self.mean(class, at)?;
                Some(json!({ "name": self.contestants[at].0, "ratio": mean, "shapes": n }))
            };
            let means: Vec<_> = (1..self.contestants.len()).filter_map(mean).collect();
            json!({ "class": class, "means": means })
        };
        let contestants: Vec<_> =
            self.contestants.iter().map(|(name, about)| json!({ "name": name, "about": about })).collect();
        json!({
            "date": self.date, "cpu": self.cpu, "adapter": self.adapter, "driver": self.driver,
            "rounds": self.rounds, "contestants": contestants,
            "shapes": self.rows.iter().map(row).collect::<Vec<_>>(),
            "means": self.classes().into_iter().map(mean).collect::<Vec<_>>(),
        })
    }
}

fn table_head(cells: Vec<String>) -> String {
    let rule = "---|".repeat(cells.len());
    format!("{}\n|{rule}", line(cells))
}

fn line(cells: Vec<String>) -> String {
    format!("| {} |", cells.join(" | "))
}

fn cell(outcome: &Outcome, case: &Case) -> String {
    match outcome {
        Outcome::Timed { .. } => {
            let [median, least, most] = outcome.spread().unwrap_or_default();
            let (work, unit) = case.op.work();
            let ms = |seconds: f64| digits(seconds * 1e3);
            format!("{} ({} to {}), {} {unit}/s", ms(median), ms(least), ms(most), digits(work / median))
        }
        Outcome::Wrong(difference) => format!("wrong by {difference:.1e}"),
        Outcome::Failed(error) => {
            let words: Vec<_> = error.split_whitespace().collect();
            let text: String = words.join(" ").replace('|', "/").chars().take(100).collect();
            format!("failed: {text}")
        }
    }
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn cpu() -> String {
    let linux = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_string())
    });
    let name =
        linux.or_else(|| ask("sysctl", &["-n", "machdep.cpu.brand_string"])).unwrap_or("unknown".into());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    format!("{name}, {cores} cores")
}
