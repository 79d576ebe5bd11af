//! How far a command is: a bar with rate and time left on a terminal, a plain line every few seconds where
//! stderr is a file or a pipe, nothing with `--quiet`.

use crate::error;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between plain lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// Tells how far something is.
pub(super) struct Progress {
    label: String,
    total: u64,
    unit: Unit,
    face: Face,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Steps,
    Bytes,
}

enum Face {
    Silent,
    Bar(ProgressBar),
    Lines { done: u64, told: u64, start: Instant, last: Instant },
}

impl Progress {
    /// Counts steps (or clips, or frames) up to `total`.
    pub(super) fn new(quiet: bool, label: impl Into<String>, total: u64) -> Progress {
        Progress::with(quiet, label.into(), total, Unit::Steps)
    }

    /// Counts bytes up to `total`.
    pub(super) fn bytes(quiet: bool, label: impl Into<String>, total: u64) -> Progress {
        Progress::with(quiet, label.into(), total, Unit::Bytes)
    }

    fn with(quiet: bool, label: String, total: u64, unit: Unit) -> Progress {
        let face = if quiet {
            Face::Silent
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let counts = match unit {
                Unit::Steps => "{pos}/{len}, {per_sec}, {eta} left",
                Unit::Bytes => "{binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
            };
            // A template of ours that is wrong leaves the plain style.
            if let Ok(style) = ProgressStyle::with_template(&format!("{{msg}} [{{bar:24}}] {counts}")) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(label.clone());
            Face::Bar(bar)
        } else {
            Face::Lines { done: 0, told: 0, start: Instant::now(), last: Instant::now() }
        };
        Progress { label, total, unit, face }
    }

    /// `count` of the total are done.
    pub(super) fn set(&mut self, count: u64) {
        match &mut self.face {
            Face::Silent => {}
            Face::Bar(bar) => bar.set_position(count),
            Face::Lines { done, told, start, last } => {
                *done = count;
                if last.elapsed() >= INTERVAL {
                    (*last, *told) = (Instant::now(), count);
                    let line = line(&self.label, count, self.total, self.unit, start.elapsed());
                    super::complain(&line);
                }
            }
        }
    }

    /// Takes the bar away; what came out is the command's to tell.
    pub(super) fn finish(self) {}
}

impl Drop for Progress {
    /// An error leaves no bar behind either.
    fn drop(&mut self) {
        match &self.face {
            Face::Bar(bar) => bar.finish_and_clear(),
            Face::Lines { done, told, start, .. } if done != told && start.elapsed() >= INTERVAL => {
                super::complain(&line(&self.label, *done, self.total, self.unit, start.elapsed()));
            }
            Face::Lines { .. } | Face::Silent => {}
        }
    }
}

/// `unet: 12 of 50, 0.8/s, 48 s left`
fn line(label: &str, done: u64, total: u64, unit: Unit, elapsed: Duration) -> String {
    let count = |n: u64| if unit == Unit::Bytes { error::bytes(n) } else { n.to_string() };
    let rate = done as f64 / elapsed.as_secs_f64().max(1e-9);
    let speed = match unit {
        Unit::Bytes => format!("{}/s", error::bytes(rate as u64)),
        Unit::Steps if rate >= 0.1 => format!("{rate:.1}/s"),
        Unit::Steps if rate > 0.0 => format!("{:.0} s each", 1.0 / rate),
        Unit::Steps => "0/s".to_string(),
    };
    let left = total.saturating_sub(done) as f64 / rate;
    let left = match left {
        left if done == 0 || !left.is_finite() => String::new(),
        _ if done >= total => format!(", {}", duration(elapsed.as_secs_f64())),
        left => format!(", {} left", duration(left)),
    };
    format!("{label}: {} of {}, {speed}{left}", count(done), count(total))
}

/// `48 s`, `3 min 20 s`, `2 h 5 min`.
pub(super) fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_rate_and_time_left() {
        let after = Duration::from_secs(15);
        assert_eq!(line("unet", 12, 50, Unit::Steps, after), "unet: 12 of 50, 0.8/s, 48 s left");
        assert_eq!(line("unet", 1, 50, Unit::Steps, after), "unet: 1 of 50, 15 s each, 12 min 15 s left");
        assert_eq!(line("unet", 0, 50, Unit::Steps, after), "unet: 0 of 50, 0/s");
        assert_eq!(line("unet", 50, 50, Unit::Steps, after), "unet: 50 of 50, 3.3/s, 15 s");
        let mib = 1 << 20;
        let text = line("model", 30 * mib, 60 * mib, Unit::Bytes, after);
        assert_eq!(text, "model: 30.0 MiB of 60.0 MiB, 2.0 MiB/s, 15 s left");
        assert_eq!(duration(7500.0), "2 h 5 min");
    }

    #[test]
    fn quiet_says_nothing_and_zero_divides_nothing() {
        let mut progress = Progress::new(true, "x", 0);
        progress.set(3);
        progress.finish();
        assert_eq!(line("x", 0, 0, Unit::Steps, Duration::ZERO), "x: 0 of 0, 0/s");
    }
}
