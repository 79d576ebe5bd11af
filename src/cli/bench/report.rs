//! What is told: the header, a row per op, tables.

use super::roofline::{Roof, intensity};
use super::sample::Sample;
use crate::cli::doctor;
use crate::gpu::{Class, Gpu, Work};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use sysinfo::{CpuRefreshKind, RefreshKind, System};

/// An op with its measurements.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The model it is of; empty for reference shapes.
    pub(super) model: String,
    /// Its label.
    pub(super) name: String,
    /// How often the model runs it.
    pub(super) calls: usize,
    /// Launches of one run.
    pub(super) launches: usize,
    /// Seconds of one run.
    pub(super) sample: Sample,
    /// Work of one run.
    pub(super) work: Work,
    /// What the device could do in the same moments.
    pub(super) roof: Roof,
}

impl Row {
    /// First word of its label.
    pub(super) fn kind(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }

    /// Seconds of all runs in the model.
    pub(super) fn all_s(&self) -> f64 {
        self.calls as f64 * self.sample.median_s
    }

    pub(super) fn json(&self) -> Value {
        let (share, bound) = self.roof.share(self.work, self.sample.median_s);
        json!({
            "model": self.model,
            "op": self.name,
            "calls": self.calls,
            "launches": self.launches,
            "median_s": self.sample.median_s,
            "spread": self.sample.spread,
            "noise": self.sample.noise(),
            "runs": self.sample.n,
            "flops": self.work.flops,
            "bytes": self.work.bytes,
            "intensity": intensity(self.work),
            "gflop_per_s": self.work.flops as f64 / self.sample.median_s * 1e-9,
            "gb_per_s": self.work.bytes as f64 / self.sample.median_s * 1e-9,
            "bound": bound.name(),
            "share": share,
            "probe_gflop_per_s": self.roof.flops * 1e-9,
            "probe_gb_per_s": self.roof.bytes * 1e-9,
            "all_s": self.all_s(),
        })
    }
}

/// Machine, adapter, driver, clocks as far as they can be known, version, date.
pub(super) fn header(gpu: &Gpu) -> Value {
    let cpu = CpuRefreshKind::nothing().with_frequency();
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(cpu)).ok();
    let cpus = system.as_ref().map_or(&[][..], |system| system.cpus());
    let threads = std::env::var("LP_NUM_THREADS").ok();
    json!({
        "mindreel": env!("CARGO_PKG_VERSION"),
        "command": std::env::args_os().map(|arg| arg.display().to_string()).collect::<Vec<_>>().join(" "),
        "date": date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())),
        "system": System::long_os_version().ok(),
        "cpu": cpus.first().map(|cpu| cpu.brand().trim()),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "cpu_mhz": cpus.iter().map(|cpu| cpu.frequency()).max(),
        "adapter_threads": threads,
        "adapter_clocks": adapter_clocks(gpu),
        "adapter": doctor::facts_json(gpu.facts()),
    })
}

/// The header for people.
pub(super) fn header_text(header: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("unknown").to_string();
    let adapter = &header["adapter"];
    let mut text = format!(
        "mindreel {}, {}\n{} ({}, {}), {}\n{}, {} cores",
        word(&header["mindreel"]),
        word(&header["date"]),
        word(&adapter["name"]),
        word(&adapter["backend"]),
        word(&adapter["class"]),
        word(&adapter["driver"]),
        word(&header["cpu"]),
        header["cores"],
    );
    if let Some(mhz) = header["cpu_mhz"].as_u64().filter(|&mhz| mhz > 0) {
        text += &format!(" at {mhz} MHz");
    }
    if let Some(threads) = header["adapter_threads"].as_str() {
        text += &format!(", LP_NUM_THREADS={threads}");
    }
    if let Some(clocks) = header["adapter_clocks"].as_str() {
        text += &format!(", adapter clocks {clocks}");
    }
    text + "\n\n"
}

/// What the vendor's tool says of the card's clocks, now and at most; most drivers tell nobody.
fn adapter_clocks(gpu: &Gpu) -> Option<String> {
    let facts = gpu.facts();
    if facts.class != Class::Discrete || !facts.name.to_lowercase().contains("nvidia") {
        return None;
    }
    let query = "--query-gpu=clocks.sm,clocks.max.sm,clocks.mem";
    let output =
        std::process::Command::new("nvidia-smi").args([query, "--format=csv,noheader"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next()?.trim().to_string()).filter(|line| !line.is_empty())
}

/// Seconds since 1970 as `2026-11-21T12:00:00Z`.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March end with the leap day; 400 of them are 146,097 days (H. Hinnant).
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + 400 * era + u64::from(month < 3);
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// A Markdown table; columns after the first are set to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain([head[at].chars().count(), 3]).max().unwrap_or(3)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let padded = cells.zip(&widths).enumerate().map(|(at, (cell, &width))| match at {
            0 => format!(" {cell:<width$} |"),
            _ => format!(" {cell:>width$} |"),
        });
        format!("|{}\n", padded.collect::<String>())
    };
    let mut text = line(&mut head.iter().map(ToString::to_string));
    text += &line(&mut widths.iter().enumerate().map(|(at, &width)| match at {
        0 => "-".repeat(width),
        _ => "-".repeat(width - 1) + ":",
    }));
    for row in rows {
        text += &line(&mut row.iter().cloned());
    }
    text
}

/// `12.3 ms`: three digits and a unit.
pub(super) fn seconds(s: f64) -> String {
    match s {
        s if !s.is_finite() => "-".into(),
        s if s >= 1.0 => format!("{} s", digits(s)),
        s if s >= 1e-3 => format!("{} ms", digits(s * 1e3)),
        s => format!("{} us", digits(s * 1e6)),
    }
}

/// `52.3 GFLOP/s`, `4.81 GB/s`, `61.2 TFLOP/s`.
pub(super) fn rate(per_second: f64, unit: &str) -> String {
    match per_second {
        r if r >= 1e12 => format!("{} T{unit}/s", digits(r * 1e-12)),
        r => format!("{} G{unit}/s", digits(r * 1e-9)),
    }
}

/// Three digits that count.
pub(super) fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `48.3 %`.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", 100.0 * share) } else { "-".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(date(1_704_067_199), "2023-12-31T23:59:59Z");
    }

    #[test]
    fn tables_are_markdown() {
        let text =
            table(&["op", "ms"], &[vec!["softmax".into(), "1.5".into()], vec!["x".into(), "12".into()]]);
        assert_eq!(text, "| op      |  ms |\n| ------- | --: |\n| softmax | 1.5 |\n| x       |  12 |\n");
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([1.234, 12.34, 123.4].map(digits), ["1.23", "12.3", "123"]);
        assert_eq!([2.0, 0.0123, 4.5e-6].map(seconds), ["2.00 s", "12.3 ms", "4.50 us"]);
        assert_eq!(rate(52.3e9, "FLOP"), "52.3 GFLOP/s");
        assert_eq!(rate(61.2e12, "FLOP"), "61.2 TFLOP/s");
        assert_eq!(percent(f64::NAN), "-");
    }
}
