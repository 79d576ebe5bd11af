//! Guard words, for tests: with [`super::Options::guards`] every buffer lies between words that nothing may write and
//! that poison what reads them, since they are NaN in f32 and f16. A binding that ends with its buffer reaches over the
//! guard behind it, so that a kernel which runs over the end meets the guard and not the driver's own checks.

use super::{Device, Gpu};
use crate::error::Result;
use std::collections::BTreeMap;

/// Bytes before and after a buffer, a multiple of every alignment of bindings.
pub(super) const GUARD_BYTES: u64 = 256;
/// A NaN, whole and in each half.
const WORD: u32 = 0x7fc1_7fc1;

/// A buffer under guard.
struct Guarded {
    what: String,
    raw: wgpu::Buffer,
    bytes: u64,
    /// The pool let it go: looked at once more, then forgotten.
    gone: bool,
}

/// Every buffer under guard, by its name in the pool.
#[derive(Default)]
pub(super) struct Guards(BTreeMap<u64, Guarded>);

/// Bytes a guarded buffer holds for so many asked for: all but what moving four elements at once may touch.
pub(super) fn class(bytes: u64) -> u64 {
    bytes.max(16).next_multiple_of(16)
}

impl Guards {
    /// Sets the guards of a buffer, once.
    pub(super) fn watch(&mut self, device: &Device, id: u64, what: &str, raw: &wgpu::Buffer, bytes: u64) {
        self.0.entry(id).or_insert_with(|| {
            let words = [WORD; GUARD_BYTES as usize / 4];
            for offset in [0, GUARD_BYTES + bytes] {
                device.queue.write_buffer(raw, offset, bytemuck::bytes_of(&words));
            }
            Guarded { what: what.to_string(), raw: raw.clone(), bytes, gone: false }
        });
    }

    pub(super) fn let_go(&mut self, ids: &[u64]) {
        for id in ids {
            if let Some(guarded) = self.0.get_mut(id) {
                guarded.gone = true;
            }
        }
    }
}

impl Gpu {
    /// Names the buffers whose guards were written since they were made; none where the device was opened without.
    ///
    /// Errors: [`crate::error::Error::Device`] for a lost device.
    pub fn broken_guards(&self) -> Result<Vec<String>> {
        self.wait()?;
        let Some(device) = &self.0.device else { return Ok(Vec::new()) };
        let mut state = self.state();
        let guards = &mut state.guards.0;
        let staging = device.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("guards"),
            size: (2 * GUARD_BYTES * guards.len() as u64).max(4),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder =
            device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        for (at, guarded) in guards.values().enumerate() {
            for (side, offset) in [(0, 0), (1, GUARD_BYTES + guarded.bytes)] {
                let to = (2 * at as u64 + side) * GUARD_BYTES;
                encoder.copy_buffer_to_buffer(&guarded.raw, offset, &staging, to, Some(GUARD_BYTES));
            }
        }
        device.queue.submit([encoder.finish()]);
        let mut words = Vec::new();
        device.read_mapped(&staging, &mut words)?;
        let is_whole = |side: &[u8]| side.chunks_exact(4).all(|word| word == WORD.to_ne_bytes());
        let mut broken = Vec::new();
        for (guarded, found) in guards.values().zip(words.chunks_exact(2 * GUARD_BYTES as usize)) {
            for (side, found) in ["before", "after"].iter().zip(found.chunks_exact(GUARD_BYTES as usize)) {
                if !is_whole(found) {
                    broken.push(format!("{} ({} bytes): {side} it", guarded.what, guarded.bytes));
                }
            }
        }
        guards.retain(|_, guarded| !guarded.gone);
        Ok(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Binding, Gpu, Launch, Options, Program, Scalar, Variant, Work};

    fn guarded() -> Option<Gpu> {
        let options = Options::from_env().unwrap();
        match Gpu::open(&Options { guards: true, ..options }) {
            Ok(gpu) => Some(gpu),
            Err(error) => {
                assert!(std::env::var_os("MINDREEL_REQUIRE_GPU").is_none(), "a GPU is required: {error}");
                eprintln!("skipped: {error}");
                None
            }
        }
    }

    /// Writes one word at `params.n` of its output.
    const TEXT: &str = "struct Params { n: u32 }\n\
        @group(0) @binding(0) var<uniform> params: Params;\n\
        @group(0) @binding(1) var<storage, read_write> y: array<u32>;\n\
        @compute @workgroup_size(1)\n\
        fn forward() { y[params.n] = 7u; }\n";

    #[test]
    fn a_write_past_the_end_is_found_and_named() {
        let Some(gpu) = guarded() else { return };
        let buffer = gpu.alloc("planted", 40).unwrap();
        gpu.write(&buffer, 0, &[3; 40]).unwrap();
        let generate = || TEXT.to_string();
        let variant = Variant { scalar: Scalar::F32, width: 1, workgroup: 1 };
        let write = |n: u32| {
            gpu.run(&Launch {
                program: Program::generated("planted", "forward", variant, 0, &generate),
                params: &n.to_le_bytes(),
                inputs: &[],
                outputs: &[Binding::new(&buffer, 0, 40)],
                groups: [1, 1, 1],
                work: Work::default(),
            })
            .unwrap();
        };
        write(9);
        assert_eq!(gpu.broken_guards().unwrap(), Vec::<String>::new());
        assert_eq!(gpu.read(&buffer, 36, 4).unwrap(), [7, 0, 0, 0]);
        assert_eq!(gpu.read(&buffer, 0, 4).unwrap(), [3; 4]);
        write(12); // 40 bytes are 48 to those who move four words at once
        assert_eq!(gpu.broken_guards().unwrap(), ["planted (48 bytes): after it"]);
    }

    #[test]
    fn copies_and_windows_know_where_a_guarded_buffer_begins() {
        let Some(gpu) = guarded() else { return };
        let from = gpu.alloc("from", 1024).unwrap();
        let to = gpu.alloc("to", 1024).unwrap();
        gpu.write(&from, 512, &[5; 512]).unwrap();
        gpu.copy(&from, 512, &to, 256, 256).unwrap();
        assert_eq!(gpu.read(&to, 256, 256).unwrap(), [5; 256]);
        assert_eq!(gpu.broken_guards().unwrap(), Vec::<String>::new());
    }
}
