//! Captures: what was recorded once, recorded again without asking the ops.
//!
//! ```text
//! let (capture, y) = gpu.capture(|| model.forward(&x))?;   // records, runs nothing
//! capture.replay()?;                                        // y now holds the model of what x holds
//! ```
//!
//! Every buffer that a captured launch binds belongs to the capture until it goes: tensors may be dropped, no other
//! tensor gets their memory. What the ops took from the host (constants) is captured, too; what changes from one
//! replay to the next comes in by [`Gpu::copy`] into a tensor that the capture reads.

use super::pool::{Class, Held};
use super::recorder::Command;
use super::{Binding, Buffer, Counts, Gpu, Launch, State};
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};

/// Launches and copies that can be recorded again.
pub struct Capture {
    gpu: Gpu,
    number: u64,
    commands: Vec<(Command, u64)>,
    counts: Counts,
}

/// What the device knows of captures.
#[derive(Default)]
pub(super) struct Captures {
    taking: Option<Taking>,
    /// Captures that own a buffer or texture.
    owners: HashMap<u64, Vec<u64>>,
    /// What tensors gave back and a capture keeps, by the capture's number.
    kept: HashMap<u64, Vec<(Class, Held)>>,
    next: u64,
}

/// A capture under way.
struct Taking {
    number: u64,
    commands: Vec<(Command, u64)>,
    before: Counts,
    /// Allocated since it began, and so free to be used again within it.
    fresh: HashSet<u64>,
    /// Given back within it and not used again yet.
    free: Vec<(Class, Held)>,
}

impl Gpu {
    /// Records what `record` asks for into a capture instead of the queue. Tensors it returns have their values after
    /// the first [`Capture::replay`]. Nothing else may record meanwhile. On a plan it counts once, as always.
    ///
    /// Errors: those of `record`; [`Error::Device`] within another capture, while a trace or the watch for NaN
    /// listens (they follow ops, and a replay has none), or when `record` reads a tensor.
    pub fn capture<T>(&self, record: impl FnOnce() -> Result<T>) -> Result<(Capture, T)> {
        if self.is_heard() {
            return Err(Error::Device("nothing can be captured while ops are traced or watched".into()));
        }
        let number = {
            let state = &mut *self.state();
            if state.captures.taking.is_some() {
                return Err(Error::Device("a capture is under way: it cannot hold another".into()));
            }
            state.captures.next += 1;
            let number = state.captures.next;
            let (commands, before) = (Vec::new(), state.counts);
            let (fresh, free) = (HashSet::new(), Vec::new());
            state.captures.taking = Some(Taking { number, commands, before, fresh, free });
            state.captures.kept.insert(number, Vec::new());
            number
        };
        let mut capture =
            Capture { gpu: self.clone(), number, commands: Vec::new(), counts: Counts::default() };
        let recorded = record();
        let mut guard = self.state();
        let state = &mut *guard;
        let taking = state.captures.taking.take().expect("set above, and only taken here");
        state.captures.kept.entry(number).or_default().extend(taking.free);
        capture.commands = taking.commands;
        let (now, before) = (state.counts, taking.before);
        capture.counts.dispatches = now.dispatches - before.dispatches;
        capture.counts.work.flops = now.work.flops - before.work.flops;
        capture.counts.work.bytes = now.work.bytes - before.work.bytes;
        drop(guard); // a capture that failed goes here, and lets go of what it kept
        recorded.map(|made| (capture, made))
    }
}

impl Capture {
    /// Records everything again, in the same order.
    ///
    /// Errors: [`Error::Device`] when the driver is in trouble.
    pub fn replay(&self) -> Result<()> {
        let state = &mut *self.gpu.state();
        state.counts.dispatches += self.counts.dispatches;
        state.counts.work.flops += self.counts.work.flops;
        state.counts.work.bytes += self.counts.work.bytes;
        for (command, flops) in &self.commands {
            state.recorder.push(command.clone());
            state.recorder.flops += flops;
            self.gpu.flush_when_enough(state)?;
        }
        Ok(())
    }

    /// Launches and work of one replay.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let state = &mut *self.gpu.state();
        for (class, held) in state.captures.end(self.number) {
            state.pool.put(class, held);
        }
    }
}

impl State {
    /// Puts a command behind what waits, or into the capture under way; says where it waits.
    pub(super) fn push(&mut self, command: Command, flops: u64) -> Option<usize> {
        match &mut self.captures.taking {
            Some(taking) => {
                taking.commands.push((command, flops));
                None
            }
            None => {
                self.recorder.flops += flops;
                Some(self.recorder.push(command))
            }
        }
    }
}

impl Captures {
    pub(super) fn is_taking(&self) -> bool {
        self.taking.is_some()
    }

    /// What a launch binds belongs to the capture under way.
    pub(super) fn launched(&mut self, launch: &Launch) {
        for binding in launch.inputs.iter().chain(launch.outputs) {
            match binding {
                Binding::Buffer { buffer, .. } => self.own(buffer.id),
                Binding::Texture(texture) => self.own(texture.id),
            }
        }
    }

    /// A buffer or texture belongs to the capture under way.
    pub(super) fn own(&mut self, id: u64) {
        if let Some(taking) = &self.taking {
            let owners = self.owners.entry(id).or_default();
            if owners.last() != Some(&taking.number) {
                owners.push(taking.number);
            }
        }
    }

    /// What came from the host is kept as it is: the buffer is not used again within the capture.
    pub(super) fn pin(&mut self, buffer: &Buffer) {
        self.own(buffer.id);
        if let Some(taking) = &mut self.taking {
            taking.fresh.remove(&buffer.id);
        }
    }

    /// Something of this class that the capture under way has done with.
    pub(super) fn take(&mut self, class: Class) -> Option<Held> {
        let taking = self.taking.as_mut()?;
        let at = taking.free.iter().position(|(free, _)| *free == class)?;
        Some(taking.free.swap_remove(at).1)
    }

    /// Something was allocated while a capture is under way.
    pub(super) fn allocated(&mut self, id: u64) {
        if let Some(taking) = &mut self.taking {
            taking.fresh.insert(id);
        }
    }

    /// Keeps what a tensor gives back where a capture owns it; else hands it on.
    pub(super) fn keep(&mut self, class: Class, held: Held) -> Option<(Class, Held)> {
        let Some(owner) = self.owners.get(&held.id).and_then(|owners| owners.first()) else {
            return Some((class, held));
        };
        match &mut self.taking {
            Some(taking) if taking.number == *owner && taking.fresh.contains(&held.id) => {
                taking.free.push((class, held));
            }
            _ => self.kept.entry(*owner).or_default().push((class, held)),
        }
        None
    }

    /// Forgets a capture; what no other one owns is free.
    fn end(&mut self, number: u64) -> Vec<(Class, Held)> {
        self.owners.retain(|_, owners| {
            owners.retain(|&owner| owner != number);
            !owners.is_empty()
        });
        let kept = self.kept.remove(&number).unwrap_or_default();
        kept.into_iter().filter_map(|(class, held)| self.keep(class, held)).collect()
    }
}
