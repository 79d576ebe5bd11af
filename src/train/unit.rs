//! What a sweep is made of: one model, trained once, on one fold of one subject.

use crate::data::{Protocol, Task};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// One training. Its name is that of its folder; the same unit gives the same bytes wherever and whenever it runs on
/// the same adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Architecture.
    pub model: String,
    /// What is told apart.
    pub task: String,
    /// Subject; across subjects, the one that is tested.
    pub subject: String,
    /// Fold, from 0; across subjects always 0.
    pub fold: usize,
    /// Of weights, order, dropout.
    pub seed: u64,
    /// `clean` or `original`.
    pub protocol: String,
    /// Labels of the training data shuffled: what accuracy comes to when there is nothing to learn.
    pub is_control: bool,
}

impl Unit {
    /// `ShallowNet-40c-sub1-fold0-seed0`, with `-original` and `-shuffled` behind it where it is so.
    pub fn name(&self) -> String {
        let Unit { model, task, subject, fold, seed, .. } = self;
        let protocol = if self.protocol == Protocol::Original.name() { "-original" } else { "" };
        let control = if self.is_control { "-shuffled" } else { "" };
        format!("{model}-{task}-{subject}-fold{fold}-seed{seed}{protocol}{control}")
    }

    /// Whose habits it follows.
    pub fn protocol(&self) -> Protocol {
        if self.protocol == Protocol::Original.name() { Protocol::Original } else { Protocol::Clean }
    }
}

/// The axes of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// Architectures.
    pub models: Vec<String>,
    /// Tasks.
    pub tasks: Vec<Task>,
    /// Subjects.
    pub subjects: Vec<String>,
    /// Folds of each subject.
    pub folds: Vec<usize>,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Whose habits.
    pub protocols: Vec<Protocol>,
    /// Shuffled labels beside the true ones.
    pub controls: bool,
}

impl Sweep {
    /// Every unit, subjects outermost: each recording is read once.
    pub fn units(&self) -> Vec<Unit> {
        let mut units = Vec::new();
        for subject in &self.subjects {
            for task in &self.tasks {
                for model in &self.models {
                    for &protocol in &self.protocols {
                        for &fold in &self.folds {
                            for &seed in &self.seeds {
                                for is_control in [false, true] {
                                    if is_control && !self.controls {
                                        continue;
                                    }
                                    units.push(Unit {
                                        model: model.clone(),
                                        task: task.name().to_string(),
                                        subject: subject.clone(),
                                        fold,
                                        seed,
                                        protocol: protocol.name().to_string(),
                                        is_control,
                                    });
                                }
                            }
                        }
                    }
                }
            }
        }
        units
    }
}

/// A part of a sweep: every `of`th unit, beginning with number `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 0.
    pub at: usize,
    /// Of how many.
    pub of: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Shard = Shard { at: 0, of: 1 };

    /// What Slurm's job array says (`SLURM_ARRAY_TASK_ID` from `SLURM_ARRAY_TASK_MIN` on, of
    /// `SLURM_ARRAY_TASK_COUNT`), or all of it.
    ///
    /// Errors: [`Error::Setting`] when the variables make no sense.
    pub fn from_slurm(variable: impl Fn(&str) -> Option<String>) -> Result<Shard> {
        let number = |name: &str| match variable(name) {
            None => Ok(None),
            Some(text) => text.trim().parse::<usize>().map(Some).map_err(|_| {
                Error::setting(name, format!("'{}' is not a whole number", text.escape_debug()))
            }),
        };
        let (Some(id), Some(count)) = (number("SLURM_ARRAY_TASK_ID")?, number("SLURM_ARRAY_TASK_COUNT")?)
        else {
            return Ok(Shard::WHOLE);
        };
        let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
        let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
        let at = id.checked_sub(first).map(|after| after / step);
        match at {
            Some(at) if at < count => Ok(Shard { at, of: count }),
            _ => Err(Error::setting(
                "SLURM_ARRAY_TASK_ID",
                format!("{id} is not among {count} tasks from {first} on; give --shard I/N"),
            )),
        }
    }

    /// The units of this shard.
    pub fn pick<T>(self, units: Vec<T>) -> Vec<T> {
        units
            .into_iter()
            .enumerate()
            .filter(|(nth, _)| nth % self.of == self.at)
            .map(|(_, unit)| unit)
            .collect()
    }
}

impl std::str::FromStr for Shard {
    type Err = Error;

    /// `I/N`, I from 0 to N - 1.
    fn from_str(text: &str) -> Result<Shard> {
        let parts = text.split_once('/').and_then(|(at, of)| Some((at.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((at, of)) if at < of => Ok(Shard { at, of }),
            _ => Err(Error::setting(
                "--shard",
                format!("'{}', wanted I/N with I from 0 to N - 1, such as 0/4", text.escape_debug()),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep() -> Sweep {
        Sweep {
            models: vec!["ShallowNet".into(), "MLP".into()],
            tasks: vec![Task::Concept],
            subjects: vec!["sub1".into(), "sub2".into()],
            folds: (0..7).collect(),
            seeds: vec![0, 1],
            protocols: vec![Protocol::Clean, Protocol::Original],
            controls: true,
        }
    }

    #[test]
    fn names_are_unique_and_shards_cover() {
        let units = sweep().units();
        assert_eq!(units.len(), 2 * 2 * 7 * 2 * 2 * 2);
        let names: std::collections::BTreeSet<String> = units.iter().map(Unit::name).collect();
        assert_eq!(names.len(), units.len());
        assert!(names.contains("MLP-40c-sub2-fold6-seed1-original-shuffled"));
        let parts: usize = (0..3).map(|at| Shard { at, of: 3 }.pick(units.clone()).len()).sum();
        assert_eq!(parts, units.len());
    }

    #[test]
    fn shards_from_text_and_from_slurm() {
        assert_eq!("1/4".parse::<Shard>().unwrap(), Shard { at: 1, of: 4 });
        for wrong in ["4/4", "x", "1", "-1/2", "0/0"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
        let slurm = |values: &'static [(&str, &str)]| {
            Shard::from_slurm(move |name| {
                values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
            })
        };
        assert_eq!(slurm(&[]).unwrap(), Shard::WHOLE);
        let array =
            &[("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_COUNT", "4")];
        assert_eq!(slurm(array).unwrap(), Shard { at: 2, of: 4 });
        assert!(slurm(&[("SLURM_ARRAY_TASK_ID", "9"), ("SLURM_ARRAY_TASK_COUNT", "4")]).is_err());
    }
}
