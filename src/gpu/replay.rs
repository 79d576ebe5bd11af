//! A traced op, run again on buffers of its own.
//!
//! Inputs hold made-up values: finite, none of them zero, the same every time; ids are zero, so that they name rows
//! that are there. Results are as wrong as the inputs; the work is the op's.

use super::trace::{Bound, Step};
use super::{Binding, Buffer, Content, Gpu, Launch, Op, Program, Scalar, Trace};
use crate::error::{Error, Result};

/// Made-up values are uploaded in pieces of this size.
const PIECE_BYTES: u64 = 4 << 20;

/// An op of a trace, ready to run on a device.
pub struct Replay<'a> {
    gpu: Gpu,
    trace: &'a Trace,
    op: &'a Op,
    buffers: Vec<Buffer>,
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
        let mut buffers = Vec::with_capacity(op.buffers.len());
        for held in &op.buffers {
            let buffer = gpu.alloc(&op.label, held.bytes)?.holding(held.content);
            if held.is_input && !gpu.is_plan() {
                let piece = made_up(held.content, held.bytes.min(PIECE_BYTES));
                for start in (0..held.bytes).step_by(piece.len().max(1)) {
                    let bytes = (held.bytes - start).min(piece.len() as u64) as usize;
                    gpu.write(&buffer, start, &piece[..bytes & !3])?;
                }
            }
            buffers.push(buffer);
        }
        Ok(Replay { gpu: gpu.clone(), trace: self, op, buffers })
    }
}

impl Replay<'_> {
    /// Records the op once.
    ///
    /// Errors: as [`Gpu::run`].
    pub fn run(&self) -> Result<()> {
        let _op = self.gpu.op(|| self.op.label.clone());
        let binding = |bound: &Bound| Binding {
            buffer: &self.buffers[bound.buffer],
            offset: bound.offset,
            bytes: bound.bytes,
        };
        for step in &self.op.steps {
            match step {
                Step::Launch(launch) => {
                    let program = &self.trace.programs[launch.program];
                    self.gpu.run(&Launch {
                        program: Program::kept(program.key, &program.text),
                        params: &launch.params,
                        inputs: &launch.inputs.iter().map(binding).collect::<Vec<_>>(),
                        outputs: &launch.outputs.iter().map(binding).collect::<Vec<_>>(),
                        groups: launch.groups,
                        work: launch.work,
                    })?;
                }
                Step::Copy { from, to } => {
                    let buffer = |bound: &Bound| &self.buffers[bound.buffer];
                    self.gpu.copy(buffer(from), from.offset, buffer(to), to.offset, to.bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Runs the op `runs` times in a row; seconds of each, on the device's clock where it has one.
    ///
    /// Errors: [`Error::Device`] when a trace is being taken already, or GPU trouble.
    pub fn time(&self, runs: usize) -> Result<Vec<f64>> {
        let listener = self.gpu.listen()?;
        for _ in 0..runs {
            self.run()?;
        }
        Ok(listener.finish()?.ops.iter().map(Op::seconds).collect())
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
