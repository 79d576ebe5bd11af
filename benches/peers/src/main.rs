//! The same shapes through mindreel and its peers, in turns. `README.md` says what is measured and how.

mod burn;
mod candle;
mod cases;
mod contestant;
mod mindreel;
mod report;
mod torch;

use cases::{CASES, Op, make_inputs};
use contestant::{Contestant, Remote, Result, serve};
use report::{Outcome, Report, Row};
use std::process::{Command, ExitCode};
use std::time::Duration;

const HELP: &str = "\
usage: run [--with-torch] [options]

  --quick         3 rounds in place of 9
  --only TEXT     matmul, conv, attention, norm, or a part of an op and its shape as the report writes them
  --without NAME  leaves burn, candle or torch out
  --json FILE     writes every round's times and the rest of the report
  --adapter NAME  the adapter, by index or a part of its name
  --python FILE   a Python that has torch
";

/// Most a result may differ from mindreel's, against the root mean square of all of mindreel's.
const TOLERANCE: f64 = 1e-3;
/// A turn calls as often as fills this.
const TURN_SECONDS: f64 = 0.3;
/// Between turns: the threads of the one before have to come to rest.
const REST: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Args {
    quick: bool,
    only: Option<String>,
    without: Vec<String>,
    json: Option<String>,
    adapter: Option<String>,
    python: Option<String>,
    /// Be this contestant, for a parent that asks on stdin.
    serve: Option<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::from(2)
        }
    }
}

/// True when mindreel computed everything.
fn run() -> Result<bool> {
    let Some(args) = parse(std::env::args().skip(1))? else {
        print!("{HELP}");
        return Ok(true);
    };
    match args.serve.as_deref() {
        Some("burn") => return serve(burn::Burn::open()).map(|()| true),
        Some("candle") => return serve(candle::Candle::default()).map(|()| true),
        Some(name) => return Err(format!("no contestant \"{name}\"").into()),
        None => {}
    }

    let chosen = |op: &Op, text: &str| {
        let (name, shape) = op.label();
        op.class().starts_with(text) || format!("{name} {shape}").contains(text)
    };
    let only = args.only.as_deref().unwrap_or_default();
    let cases: Vec<_> = CASES.iter().filter(|case| chosen(&case.op, only)).collect();
    if cases.is_empty() {
        return Err(format!("--only: no op or shape with \"{only}\"").into());
    }
    let ours = mindreel::Mindreel::open(args.adapter.clone(), commit())?;
    let mut report = Report::new(&ours, if args.quick { 3 } else { 9 });
    let mut contestants = peers(&args, ours.device_kind());
    contestants.insert(0, Box::new(ours));
    report.contestants = contestants.iter().map(|c| (c.name(), c.about())).collect();

    println!("{}", report.head());
    for case in cases {
        let outcomes = compare(&case.op, &mut contestants, report.rounds);
        report.rows.push(Row { case, outcomes });
        println!("{}", report.last_line());
    }
    drop(contestants);
    println!("{}", report.tail());
    if let Some(path) = args.json {
        std::fs::write(&path, format!("{:#}\n", report.json()))
            .map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(report.rows.iter().all(|row| matches!(row.outcomes[0], Outcome::Timed { .. })))
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Args>> {
    let mut args = Args::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word}: a value is missing"));
        match word.as_str() {
            "--quick" => args.quick = true,
            "--only" => args.only = Some(value()?),
            "--without" => args.without.push(value()?),
            "--json" => args.json = Some(value()?),
            "--adapter" => args.adapter = Some(value()?),
            "--python" => args.python = Some(value()?),
            "--serve" => args.serve = Some(value()?),
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("{word}: unknown; --help lists the options").into()),
        }
    }
    Ok(Some(args))
}

/// All that can be started; the others are named on stderr. burn gets a device of mindreel's kind.
fn peers(args: &Args, device_kind: &str) -> Vec<Box<dyn Contestant>> {
    let myself = |name: &'static str| -> Result<Remote> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--serve", name]);
        if std::env::var_os("CUBECL_WGPU_DEFAULT_DEVICE").is_none() {
            command.env("CUBECL_WGPU_DEFAULT_DEVICE", device_kind);
        }
        Remote::start(name, command)
    };
    let mut peers: Vec<Box<dyn Contestant>> = Vec::new();
    for name in ["burn", "candle", "torch"] {
        if args.without.iter().any(|without| without == name) {
            continue;
        }
        match if name == "torch" { torch::start(args.python.clone()) } else { myself(name) } {
            Ok(peer) => peers.push(Box::new(peer)),
            Err(error) => eprintln!("{name} is left out: {error}"),
        }
    }
    peers
}

/// One shape through everyone: compute and compare, warm up, then in turns, round by round. The first contestant is
/// mindreel.
fn compare(op: &Op, contestants: &mut [Box<dyn Contestant>], rounds: usize) -> Vec<Outcome> {
    let mut outcomes = checked(op, contestants);
    let mut times = vec![0; contestants.len()];
    for (at, contestant) in contestants.iter_mut().enumerate() {
        if outcomes[at].is_timed() {
            match warm_up(contestant.as_mut()) {
                Ok(n) => times[at] = n,
                Err(error) => outcomes[at] = Outcome::failed(contestant.name(), error),
            }
        }
    }
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let at = (round + turn) % contestants.len();
            let Outcome::Timed { seconds, .. } = &mut outcomes[at] else { continue };
            std::thread::sleep(REST);
            match contestants[at].run(times[at]) {
                Ok(all) => seconds.push(all / times[at] as f64),
                Err(error) => outcomes[at] = Outcome::failed(contestants[at].name(), error),
            }
        }
    }
    contestants.iter_mut().for_each(|contestant| contestant.release());
    outcomes
}

/// Everyone's result against mindreel's. Where all of several peers differ, it is mindreel that is wrong.
fn checked(op: &Op, contestants: &mut [Box<dyn Contestant>]) -> Vec<Outcome> {
    let inputs = make_inputs(op);
    let mut want = Vec::new();
    let mut outcomes = Vec::new();
    for contestant in contestants.iter_mut() {
        let outcome = match contestant.prepare(op, &inputs) {
            Ok(got) if outcomes.is_empty() => {
                want = got;
                Outcome::Timed { seconds: Vec::new(), difference: 0.0 }
            }
            Ok(_) if want.is_empty() => Outcome::Failed("nothing of mindreel's to compare with".into()),
            Ok(got) => match difference(&got, &want) {
                difference if difference <= TOLERANCE => Outcome::Timed { seconds: Vec::new(), difference },
                difference => Outcome::wrong(contestant.name(), difference),
            },
            Err(error) => Outcome::failed(contestant.name(), error),
        };
        outcomes.push(outcome);
    }
    let wrong = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Wrong(_))).count();
    if wrong > 1 && !outcomes[1..].iter().any(Outcome::is_timed) {
        outcomes[0] = Outcome::failed("mindreel", "no peer has the same result".into());
    }
    outcomes
}

/// Calls that fill a turn, known after a turn of them.
fn warm_up(contestant: &mut dyn Contestant) -> Result<usize> {
    let fill = |seconds: f64| (TURN_SECONDS / seconds).ceil().clamp(1.0, 10_000.0) as usize;
    let times = fill(contestant.run(1)?);
    Ok(fill(contestant.run(times)? / times as f64))
}

/// Largest difference of an element, against the root mean square of `want`; infinite for NaN or another size.
fn difference(got: &[f32], want: &[f32]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let square = want.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / want.len() as f64;
    let largest = got.iter().zip(want).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    // the first NaN stays
    let largest = largest.fold(0.0, |most: f64, d| if most.is_nan() || d <= most { most } else { d });
    let relative = largest / square.sqrt();
    if relative.is_nan() { f64::INFINITY } else { relative }
}

/// mindreel's commit, and whether what lies there is still that.
fn commit() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    match ask("git", &["-C", root, "rev-parse", "--short", "HEAD"]) {
        None => "unknown commit".into(),
        Some(commit) => {
            let changed =
                ask("git", &["-C", root, "status", "--porcelain", "--", "src", "shaders", "Cargo.toml"]);
            if changed.is_some() { format!("{commit} with changes") } else { commit }
        }
    }
}

/// What a program prints, when it prints anything.
fn ask(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    (!text.is_empty()).then_some(text)
}

/// The version of a package this program is built with.
fn locked_version(package: &str) -> &'static str {
    let (_, rest) = include_str!("../Cargo.lock")
        .split_once(&format!("name = \"{package}\"\nversion = \""))
        .unwrap_or_default();
    rest.split('"').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_relative_and_nan_is_one() {
        assert_eq!(difference(&[2.0, 2.0], &[2.0, 2.0]), 0.0);
        assert_eq!(difference(&[2.0, 3.0], &[2.0, 2.0]), 0.5);
        assert_eq!(difference(&[f32::NAN, 2.0], &[2.0, 2.0]), f64::INFINITY);
        assert_eq!(difference(&[2.0], &[2.0, 2.0]), f64::INFINITY);
    }

    #[test]
    fn versions_are_found() {
        assert!(locked_version("burn").starts_with("0."));
        assert!(locked_version("candle-core").starts_with("0."));
    }
}
