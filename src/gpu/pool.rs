//! Buffers from a pool: a dropped tensor's buffer is handed to the next one of its size class.
//!
//! The queue runs in order, so a buffer may be handed on while commands that read it still wait.

use super::{Gpu, Scalar};
use std::collections::BTreeMap;

/// Bytes on the device, given back to the pool when dropped. In a plan there are no bytes, only the count.
pub struct Buffer {
    pub(super) gpu: Gpu,
    pub(super) raw: Option<wgpu::Buffer>,
    pub(super) id: u64,
    pub(super) bytes: u64,
    pub(super) content: Content,
}

/// What a buffer is meant to hold, for those who look into it: the watch for NaN, the replay of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Content {
    /// Anything: packed weights, raw bytes.
    #[default]
    Raw,
    /// So many floats from its beginning on.
    Floats(Scalar, u64),
    /// Places in another buffer.
    Ids,
}

impl Buffer {
    /// The same buffer, known to hold this.
    pub fn holding(mut self, content: Content) -> Buffer {
        self.content = content;
        self
    }

    /// Bytes of the buffer, at least what was asked for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.gpu.give_back(self.id, self.bytes, self.raw.take());
    }
}

/// Memory as the pool counts it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Held by tensors now.
    pub live: u64,
    /// Most ever held by tensors at once.
    pub peak: u64,
    /// Held by tensors and waiting in the pool.
    pub reserved: u64,
    /// Most ever reserved.
    pub peak_reserved: u64,
}

/// Free buffers by size class, and the count of all.
#[derive(Default)]
pub(super) struct Pool {
    free: BTreeMap<u64, Vec<(u64, Option<wgpu::Buffer>)>>,
    free_bytes: u64,
    next_id: u64,
    pub(super) memory: Memory,
    pub(super) n_live: usize,
}

/// Free bytes the pool keeps whatever the tensors hold.
const KEPT_FREE_BYTES: u64 = 256 << 20;

impl Pool {
    /// Size classes: powers of two and three steps between, so that at most a fifth is wasted.
    pub(super) fn class(bytes: u64) -> u64 {
        let bytes = bytes.max(256);
        let step = (bytes.next_power_of_two() / 8).max(256);
        bytes.next_multiple_of(step)
    }

    /// A free buffer of this class, if there is one.
    pub(super) fn take(&mut self, class: u64) -> Option<(u64, Option<wgpu::Buffer>)> {
        let found = self.free.get_mut(&class)?.pop();
        if found.is_some() {
            self.free_bytes -= class;
            self.count_live(class);
        }
        found
    }

    /// Counts a new buffer and names it.
    pub(super) fn made(&mut self, class: u64) -> u64 {
        self.next_id += 1;
        self.count_live(class);
        self.memory.reserved += class;
        self.memory.peak_reserved = self.memory.peak_reserved.max(self.memory.reserved);
        self.next_id
    }

    /// Takes a buffer back.
    pub(super) fn put(&mut self, id: u64, class: u64, raw: Option<wgpu::Buffer>) {
        self.memory.live -= class;
        self.n_live -= 1;
        self.free_bytes += class;
        self.free.entry(class).or_default().push((id, raw));
    }

    /// Lets free buffers go, largest first, until at most `keep` bytes wait; names those that went.
    pub(super) fn trim(&mut self, keep: u64) -> Vec<u64> {
        let mut gone = Vec::new();
        while self.free_bytes > keep {
            let Some(mut class) = self.free.last_entry() else { break };
            if let Some((id, _raw)) = class.get_mut().pop() {
                gone.push(id);
                self.free_bytes -= class.key();
                self.memory.reserved -= class.key();
            }
            if class.get().is_empty() {
                class.remove();
            }
        }
        gone
    }

    /// Free bytes worth keeping beside what tensors hold.
    pub(super) fn allowance(&self) -> u64 {
        KEPT_FREE_BYTES.max(self.memory.live / 4)
    }

    pub(super) fn holds_too_much(&self) -> bool {
        self.free_bytes > self.allowance()
    }

    fn count_live(&mut self, class: u64) {
        self.n_live += 1;
        self.memory.live += class;
        self.memory.peak = self.memory.peak.max(self.memory.live);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_little_and_stay_aligned() {
        for bytes in [1, 255, 256, 257, 1000, 4097, 100_000, 134_217_728, 134_217_729] {
            let class = Pool::class(bytes);
            assert!(class >= bytes && class.is_multiple_of(256), "{bytes} -> {class}");
            assert!(bytes < 4096 || class as f64 <= bytes as f64 * 1.25, "{bytes} -> {class}");
        }
    }

    #[test]
    fn trimming_lets_the_largest_go_first() {
        let mut pool = Pool::default();
        for class in [256, 1024, 4096] {
            let id = pool.made(class);
            pool.put(id, class, None);
        }
        assert_eq!(pool.trim(1280), vec![3]);
        assert_eq!(pool.memory.reserved, 1280);
        assert!(pool.take(4096).is_none() && pool.take(256).is_some());
    }
}
