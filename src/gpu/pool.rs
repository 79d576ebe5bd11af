//! Buffers and textures from a pool: what a dropped tensor held is handed to the next one of its size class.
//!
//! The queue runs in order, so a buffer may be handed on while commands that read it still wait.

use super::texture::Texel;
use super::{Gpu, Scalar};
use std::collections::BTreeMap;

/// Bytes on the device, given back to the pool when dropped. In a plan there are no bytes, only the count.
pub struct Buffer {
    pub(super) gpu: Gpu,
    pub(super) raw: Option<wgpu::Buffer>,
    pub(super) id: u64,
    pub(super) bytes: u64,
    /// Where its own bytes begin: behind the guard words, where there are any.
    pub(super) base: u64,
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
        let raw = self.raw.take().map(Raw::Buffer);
        self.gpu.give_back((self.bytes, Kind::Buffer), Held { id: self.id, raw });
    }
}

/// What a size class holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Buffer,
    Texture(Texel),
}

/// Bytes and kind: what is interchangeable.
pub(super) type Class = (u64, Kind);

/// A thing of the driver.
#[derive(Clone)]
pub(super) enum Raw {
    Buffer(wgpu::Buffer),
    Texture(wgpu::Texture, wgpu::TextureView),
}

/// A pooled thing with its name; without content in a plan.
pub(super) struct Held {
    pub(super) id: u64,
    pub(super) raw: Option<Raw>,
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

/// What is free, by class, and the count of all.
#[derive(Default)]
pub(super) struct Pool {
    free: BTreeMap<Class, Vec<Held>>,
    free_bytes: u64,
    next_id: u64,
    pub(super) memory: Memory,
    pub(super) n_live: usize,
}

/// Free bytes the pool keeps whatever the tensors hold.
const KEPT_FREE_BYTES: u64 = 256 << 20;

impl Pool {
    /// Size classes: powers of two and three steps between, so that at most a fifth is wasted.
    pub(super) fn size_class(bytes: u64) -> u64 {
        let bytes = bytes.max(256);
        let step = (bytes.next_power_of_two() / 8).max(256);
        bytes.next_multiple_of(step)
    }

    /// Something free of this class, if there is any.
    pub(super) fn take(&mut self, class: Class) -> Option<Held> {
        let found = self.free.get_mut(&class)?.pop();
        if found.is_some() {
            self.free_bytes -= class.0;
            self.count_live(class.0);
        }
        found
    }

    /// Counts a new buffer or texture and names it.
    pub(super) fn made(&mut self, bytes: u64) -> u64 {
        self.next_id += 1;
        self.count_live(bytes);
        self.memory.reserved += bytes;
        self.memory.peak_reserved = self.memory.peak_reserved.max(self.memory.reserved);
        self.next_id
    }

    /// Takes something back.
    pub(super) fn put(&mut self, class: Class, held: Held) {
        self.memory.live -= class.0;
        self.n_live -= 1;
        self.free_bytes += class.0;
        self.free.entry(class).or_default().push(held);
    }

    /// Lets what is free go, largest first, until at most `keep` bytes wait; names those that went.
    pub(super) fn trim(&mut self, keep: u64) -> Vec<u64> {
        let mut gone = Vec::new();
        while self.free_bytes > keep {
            let Some(mut class) = self.free.last_entry() else { break };
            let bytes = class.key().0;
            if let Some(held) = class.get_mut().pop() {
                gone.push(held.id);
                self.free_bytes -= bytes;
                self.memory.reserved -= bytes;
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
            let class = Pool::size_class(bytes);
            assert!(class >= bytes && class.is_multiple_of(256), "{bytes} -> {class}");
            assert!(bytes < 4096 || class as f64 <= bytes as f64 * 1.25, "{bytes} -> {class}");
        }
    }

    #[test]
    fn trimming_lets_the_largest_go_first() {
        let mut pool = Pool::default();
        for class in [256, 1024, 4096] {
            let id = pool.made(class);
            pool.put((class, Kind::Buffer), Held { id, raw: None });
        }
        assert_eq!(pool.trim(1280), vec![3]);
        assert_eq!(pool.memory.reserved, 1280);
        let mut take = |bytes| pool.take((bytes, Kind::Buffer));
        assert!(take(4096).is_none() && take(256).is_some());
        assert!(pool.take((1024, Kind::Texture(Texel::Floats))).is_none(), "a buffer is no texture");
    }
}
