//! One training command over several subjects and seeds: a run of each, in a folder of its own.
//!
//! ```text
//! OUTPUT/sub1-seed0/   a run as the command makes it alone (and its part in INTO/sub1-seed0/)
//! OUTPUT/runs.csv      the last line of each log, of what is finished so far
//! ```
//!
//! A run that was cut off goes on from its snapshot, one that is through is left as it is: the same command, or the
//! others of its shards, may be given again. The same runs come out however they are shared.

use super::fit::FitArgs;
use super::heads::EegArgs;
use crate::cli::Shell;
use crate::error::{Error, Result};
use crate::files;
use crate::train::Shard;
use std::path::Path;

/// `#[command(flatten)]`, in [`FitArgs`].
#[derive(clap::Args, Clone)]
pub(super) struct SweepArgs {
    /// A run of each of these seeds, in folders of --output
    #[arg(long, value_delimiter = ',', value_name = "N,…", conflicts_with = "seed")]
    seeds: Vec<u64>,

    /// Every Nth of the runs of --subjects and --seeds, from number I on [default: Slurm's array variables, else all]
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
}

/// Runs a command, once or over a sweep. `parts` finds in its arguments those of every run and, where it reads EEG,
/// whose.
///
/// Errors: those of a run; [`Error::Setting`] for a subject or seed twice, or a shard of nothing.
pub(super) fn run<A: Clone>(
    args: &A,
    command: fn(&A, &Shell) -> Result<()>,
    parts: fn(&mut A) -> (&mut FitArgs, Option<&mut EegArgs>),
    shell: &Shell,
) -> Result<()> {
    let mut whole = args.clone();
    let (fit, eeg) = parts(&mut whole);
    let subjects = eeg.map_or(Ok(Vec::new()), |eeg| eeg.swept())?;
    let SweepArgs { seeds, shard: asked } = &fit.sweep;
    if subjects.is_empty() && seeds.is_empty() {
        return match asked {
            None => command(args, shell),
            Some(_) => Err(Error::setting("shard", "wanted --subjects or --seeds: one run has no parts")),
        };
    }
    let all = units(&subjects, seeds)?;
    let mine = shard(asked.as_deref())?.pick(all.clone());
    shell.note(&format!("{} of {} runs in this part", mine.len(), all.len()));
    for unit in &mine {
        shell.note(&format!("{}:", unit.name));
        let mut one = args.clone();
        let (one_fit, eeg) = parts(&mut one);
        one_fit.set_unit(&unit.name, unit.seed);
        if let Some(eeg) = eeg {
            eeg.set_unit(&unit.name, unit.subject.as_deref());
        }
        command(&one, shell)?;
        write_table(&fit.output, &all)?;
    }
    Ok(())
}

/// The part that was asked for, else what Slurm says, else all.
///
/// Errors: [`Error::Setting`] when either makes no sense.
pub(super) fn shard(asked: Option<&str>) -> Result<Shard> {
    match asked {
        Some(text) => text.parse(),
        None => Shard::from_slurm(|name| std::env::var(name).ok()),
    }
}

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq)]
struct Unit {
    /// Its folder.
    name: String,
    subject: Option<String>,
    seed: Option<u64>,
}

/// Subjects outermost.
fn units(subjects: &[String], seeds: &[u64]) -> Result<Vec<Unit>> {
    let subjects: Vec<_> = match subjects {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let seeds: Vec<_> = match seeds {
        [] => vec![None],
        some => some.iter().copied().map(Some).collect(),
    };
    let mut units: Vec<Unit> = Vec::new();
    for subject in &subjects {
        for &seed in &seeds {
            let words = [subject.clone(), seed.map(|seed| format!("seed{seed}"))];
            let name = words.into_iter().flatten().collect::<Vec<_>>().join("-");
            if units.iter().any(|unit| unit.name == name) {
                return Err(Error::setting("subjects and seeds", format!("{name} is named twice")));
            }
            units.push(Unit { name, subject: subject.clone(), seed });
        }
    }
    Ok(units)
}

/// The last line of every log there is.
fn write_table(output: &Path, units: &[Unit]) -> Result<()> {
    let mut table = String::new();
    for unit in units {
        let Ok(log) = std::fs::read_to_string(output.join(&unit.name).join("log.csv")) else { continue };
        let mut lines = log.lines();
        let (Some(head), Some(last)) = (lines.next(), lines.last()) else { continue };
        if table.is_empty() {
            table = format!("run,{head}\n");
        }
        table += &format!("{},{last}\n", unit.name);
    }
    files::write_text(output.join("runs.csv"), &table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_subjects_by_seeds_each_once() {
        let subjects = ["sub1".to_string(), "sub2".to_string()];
        let names = |subjects: &[String], seeds: &[u64]| -> Vec<String> {
            units(subjects, seeds).unwrap().into_iter().map(|unit| unit.name).collect()
        };
        assert_eq!(names(&subjects, &[0, 7]), ["sub1-seed0", "sub1-seed7", "sub2-seed0", "sub2-seed7"]);
        assert_eq!(names(&[], &[3]), ["seed3"]);
        assert_eq!(names(&subjects, &[]), ["sub1", "sub2"]);
        assert!(units(&[], &[3, 3]).is_err());
    }
}
