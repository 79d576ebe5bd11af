//! Scopes: which op a launch belongs to, for those who listen.
//!
//! An op's method begins with `let _op = self.gpu().op(|| …)`. While nobody listens that is one look at a flag; the
//! label is made only for a trace or the watch for NaN. Ops made of ops count as one: the outermost label stays.
//! Ops recorded by several threads at once share one scope.

use super::trace::{Take, Ticks};
use super::watch::Watch;
use super::{Binding, Buffer, Gpu, Launch, Texture};
use std::sync::atomic::Ordering;

/// Until it is dropped, launches belong to one op.
#[must_use = "the op ends where its scope is dropped"]
pub struct Scope<'a>(Option<&'a Gpu>);

/// Who listens, and to which op.
#[derive(Default)]
pub(super) struct Ears {
    depth: usize,
    label: String,
    pub(super) take: Option<Take>,
    pub(super) watch: Option<Watch>,
}

impl Gpu {
    /// Names the op that launches from here on belong to, with its shapes and number type; within another op that
    /// one's name stays.
    pub fn op(&self, label: impl FnOnce() -> String) -> Scope<'_> {
        if !self.is_heard() {
            return Scope(None);
        }
        let is_outermost = {
            let ears = &mut self.state().ears;
            ears.depth += 1;
            ears.depth == 1
        };
        if is_outermost {
            let label = label();
            self.state().ears.label = label;
        }
        Scope(Some(self))
    }

    /// True while a trace or the watch for NaN follows ops.
    pub fn is_heard(&self) -> bool {
        self.0.heard.load(Ordering::Relaxed)
    }

    /// Makes ops name themselves while there is someone to hear it.
    pub(super) fn prick_ears(&self, ears: &Ears) {
        self.0.heard.store(ears.take.is_some() || ears.watch.is_some(), Ordering::Relaxed);
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        let Some(gpu) = self.0 else { return };
        let mut state = gpu.state();
        state.ears.depth = state.ears.depth.saturating_sub(1);
        if state.ears.depth > 0 {
            return;
        }
        // A scope has nobody to return an error to; the next check tells it.
        if let Err(error) = gpu.look_through(&mut state).and_then(|()| gpu.end_of_op(&mut state)) {
            gpu.note_trouble(error);
        }
    }
}

impl Ears {
    /// A launch of the op under way, waiting at this place of the recorder.
    pub(super) fn launched(&mut self, launch: &Launch, command: Option<usize>) {
        if let Some(take) = &mut self.take {
            take.launched(&self.label, launch, command);
        }
        if let Some(watch) = &mut self.watch {
            for output in launch.outputs {
                if let Binding::Buffer { buffer, .. } = output {
                    watch.written(buffer);
                }
            }
        }
    }

    /// A copy of the op under way.
    pub(super) fn copied(
        &mut self,
        from: &Buffer,
        from_offset: u64,
        to: &Buffer,
        to_offset: u64,
        bytes: u64,
        command: Option<usize>,
    ) {
        if let Some(take) = &mut self.take {
            take.copied(&self.label, (from, from_offset), (to, to_offset), bytes, command);
        }
        if let Some(watch) = &mut self.watch {
            watch.written(to);
        }
    }

    /// A copy into a texture, which is never an op's result.
    pub(super) fn copied_to_texture(
        &mut self,
        from: (&Buffer, u64),
        to: (&Texture, u64),
        texels: u64,
        command: Option<usize>,
    ) {
        if let Some(take) = &mut self.take {
            take.copied_to_texture(&self.label, from, to, texels, command);
        }
    }

    /// A buffer that went before its op ended is none of its results.
    pub(super) fn gone(&mut self, id: u64) {
        if let Some(watch) = &mut self.watch {
            watch.gone(id);
        }
    }

    /// Label of the op under way.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The device's clock, where a trace reads it.
    pub(super) fn ticks(&mut self) -> Option<&mut Ticks> {
        self.take.as_mut()?.ticks()
    }
}
