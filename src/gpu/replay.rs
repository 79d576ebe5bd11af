//! A traced op, run again on buffers of its own.
//!
//! Inputs hold made-up values: finite, none of them zero, the same every time; ids are zero, so that they name rows
//! that are there. Results are as wrong as the inputs; the work is the op's.

use super::trace::{Bound, Kind, Resource, Step};
use super::{Binding, Buffer, Content, Gpu, Launch, Op, Program, Scalar, TEXEL_BYTES, Texture, Trace};
use crate::error::{Error, Result};

/// Made-up values are uploaded in pieces of this size.
const PIECE_BYTES: u64 = 4 << 20;

/// An op of a trace, ready to run on a device.
pub struct Replay<'a> {
    gpu: Gpu,
    trace: &'a Trace,
    op: &'a Op,
    held: Vec<Held>,
}

enum Held {
    Buffer(Buffer),
    Texture(Texture),
}

impl Trace {
    /// Makes ready the op at this place of [`Trace::ops`].
    ///
    /// Errors: [`Error::Limit`] when the device cannot hold its buffers, [`Error::Setting`] when there is no such op.
    pub fn replay(&self, gpu: &Gpu, op: usize) -> Result<Replay<'_>> {
        let op = self
            .ops
            .get(op)
            .ok_or_else(|| Error::setting("op", format!("the trace has {} ops, not {op}", self.ops.len())))?;
        let held =
            op.resources.iter().map(|resource| hold(gpu, &op.label, resource)).collect::<Result<_>>()?;
        Ok(Replay { gpu: gpu.clone(), trace: self, op, held })
    }
}

/// A buffer or texture like this one, with made-up values where an op reads it.
fn hold(gpu: &Gpu, label: &str, resource: &Resource) -> Result<Held> {
    let fills = resource.is_input && !gpu.is_plan();
    let bytes = resource.bytes;
    match resource.kind {
        Kind::Buffer(content) => {
            let buffer = gpu.alloc(label, bytes)?.holding(content);
            if fills {
                let piece = made_up(content, bytes.min(PIECE_BYTES));
                for start in (0..bytes).step_by(piece.len().max(1)) {
                    let some = (bytes - start).min(piece.len() as u64) as usize;
                    gpu.write(&buffer, start, &piece[..some])?;
                }
            }
            Ok(Held::Buffer(buffer))
        }
        Kind::Texture(texel) => {
            let texture = gpu.alloc_texture(label, texel, bytes / TEXEL_BYTES)?;
            if fills {
                let piece = bytes.min(PIECE_BYTES);
                let buffer = gpu.alloc(label, piece)?;
                gpu.write(&buffer, 0, &made_up(Content::Raw, piece))?;
                for start in (0..bytes).step_by(piece.max(1) as usize) {
                    let texels = (bytes - start).min(piece) / TEXEL_BYTES;
                    gpu.copy_to_texture(&buffer, 0, &texture, start / TEXEL_BYTES, texels);
                }
            }
            Ok(Held::Texture(texture))
        }
    }
}

impl Replay<'_> {
    /// Records the op once.
    ///
    /// Errors: as [`Gpu::run`].
    pub fn run(&self) -> Result<()> {
        let _op = self.gpu.op(|| self.op.label.clone());
        let bindings = |bounds: &[Bound]| bounds.iter().map(|bound| self.binding(bound)).collect::<Vec<_>>();
        for step in &self.op.steps {
            match step {
                Step::Launch(launch) => {
                    let program = &self.trace.programs[launch.program];
                    self.gpu.run(&Launch {
                        program: Program::kept(program.key, &program.text),
                        params: &launch.params,
                        inputs: &bindings(&launch.inputs),
                        outputs: &bindings(&launch.outputs),
                        groups: launch.groups,
                        work: launch.work,
                    })?;
                }
                Step::Copy { from, to } => {
                    if let (Held::Buffer(a), Held::Buffer(b)) =
                        (&self.held[from.resource], &self.held[to.resource])
                    {
                        self.gpu.copy(a, from.offset, b, to.offset, to.bytes)?;
                    }
                }
                &Step::CopyToTexture { from, to, first, texels } => {
                    if let (Held::Buffer(from_buffer), Held::Texture(texture)) =
                        (&self.held[from.resource], &self.held[to])
                    {
                        self.gpu.copy_to_texture(from_buffer, from.offset, texture, first, texels);
                    }
                }
            }
        }
        Ok(())
    }

    fn binding(&self, bound: &Bound) -> Binding<'_> {
        match &self.held[bound.resource] {
            Held::Buffer(buffer) => Binding::Buffer { buffer, offset: bound.offset, bytes: bound.bytes },
            Held::Texture(texture) => Binding::Texture(texture),
        }
    }
}

/// Values for `bytes` of a buffer.
fn made_up(content: Content, bytes: u64) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let word = |random: u32| match content {
        Content::Ids => 0,
        // Sign, an exponent of 1/4 or 1/2, any mantissa.
        Content::Floats(Scalar::F32, _) => random & 0x80ff_ffff | 0x3e80_0000,
        // As a pair of f16 between 1/2 and 1; as one f32 small, and still far from underflow.
        Content::Floats(Scalar::F16, _) | Content::Raw => random & 0x83ff_83ff | 0x3800_3800,
    };
    (0..bytes / 4).flat_map(|_| word(next()).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn made_up_values_are_safe_however_they_are_read() {
        for content in [Content::Raw, Content::Floats(Scalar::F16, 0), Content::Floats(Scalar::F32, 0)] {
            let bytes = made_up(content, 1 << 16);
            let floats: Vec<f32> = bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
            assert!(floats.iter().all(|v| v.is_normal() && v.abs() < 2.0), "{content:?}");
            if content != Content::Floats(Scalar::F32, 0) {
                let halves: Vec<f16> = bytes.chunks_exact(2).map(bytemuck::pod_read_unaligned).collect();
                assert!(halves.iter().all(|v| (0.5..1.0).contains(&v.to_f32().abs())), "{content:?}");
            }
        }
        assert!(made_up(Content::Ids, 64).iter().all(|&byte| byte == 0));
    }
}
