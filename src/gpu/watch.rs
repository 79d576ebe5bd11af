//! The watch for NaN and infinity: after every op what it wrote is looked through on the device; the first op whose
//! result is not finite is named when values are read or waited for.
//!
//! Only results are looked at, f32 and f16: what an op wrote and still holds when it ends.

use super::pipelines::{PARAMS_BYTES, Slot};
use super::pool::Raw;
use super::recorder::Command;
use super::{Buffer, Content, Gpu, Program, Scalar, State, Variant};
use crate::error::{Error, Result};
use std::sync::Arc;

/// Ops that may end before their flags are read.
const MAX_OPS: usize = 4096;
/// Vectors of 4 words one invocation looks at.
const VECTORS: u64 = 8;
const WORKGROUP: u32 = 64;

/// Which ops wait for a look at their flags.
pub(super) struct Watch {
    /// One u32 per op; 1 where something was not finite.
    flags: wgpu::Buffer,
    /// Ops that have a flag.
    labels: Vec<String>,
    /// What the op under way wrote.
    written: Vec<(u64, wgpu::Buffer, Content)>,
}

impl Watch {
    pub(super) fn written(&mut self, buffer: &Buffer) {
        if let (Some(raw), Content::Floats(..)) = (&buffer.raw, buffer.content) {
            self.gone(buffer.id);
            self.written.push((buffer.id, raw.clone(), buffer.content));
        }
    }

    pub(super) fn gone(&mut self, id: u64) {
        self.written.retain(|written| written.0 != id);
    }
}

impl Gpu {
    /// Watches from here on.
    pub(super) fn watch(&self) -> Result<()> {
        let Some(device) = &self.0.device else { return Ok(()) };
        let Some(Raw::Buffer(flags)) = device.create_buffer(4 * MAX_OPS as u64)? else {
            return Err(Error::Device("no memory is left for the watch for NaN".into()));
        };
        let mut state = self.state();
        state.ears.watch = Some(Watch { flags, labels: Vec::new(), written: Vec::new() });
        self.prick_ears(&state.ears);
        Ok(())
    }

    /// Records a look through what the op that ends has written.
    pub(super) fn look_through(&self, state: &mut State) -> Result<()> {
        let (Some(device), Some(watch)) = (&self.0.device, &mut state.ears.watch) else { return Ok(()) };
        let written = std::mem::take(&mut watch.written);
        if written.is_empty() {
            return Ok(());
        }
        if watch.labels.len() == MAX_OPS {
            self.flush(state)?;
            self.look_at_flags(state)?;
        }
        let label = state.ears.label().to_string();
        let Some(watch) = &mut state.ears.watch else { return Ok(()) };
        let flag = watch.labels.len() as u32;
        watch.labels.push(label);
        let flags = watch.flags.clone();
        let pipelines = state.pipelines.as_mut().expect("a device has its pipelines");
        let variant = Variant { scalar: Scalar::F32, width: 1, workgroup: WORKGROUP };
        let program = Program::generated("watch", "forward", variant, 0, &text);
        let pipeline = pipelines.compiled(&device.device, &program, || vec![Slot::Read, Slot::Write])?;
        let piece_bytes = self.facts().limits.binding_bytes & !255;
        for (_, raw, content) in written {
            let Content::Floats(scalar, count) = content else { continue };
            let bytes = count * if scalar == Scalar::F16 { 2 } else { 4 };
            for start in (0..bytes).step_by(piece_bytes as usize) {
                let piece = piece_bytes.min(bytes - start);
                let words = piece.div_ceil(4);
                let last = if piece.is_multiple_of(4) { u32::MAX } else { 0xffff };
                let [low, high] = match scalar {
                    Scalar::F32 => [0x7f80_0000; 2],
                    Scalar::F16 => [0x7c00, 0x7c00_0000],
                };
                let mut params = [0; PARAMS_BYTES];
                params[..20].copy_from_slice(bytemuck::bytes_of(&[words as u32, last, low, high, flag]));
                let range = piece.next_multiple_of(16);
                let group = pipelines.loose_group(
                    &device.device,
                    &[(&raw, start, range)],
                    &[(&flags, 0, 4 * MAX_OPS as u64)],
                );
                let groups = self.grid("watch", words.div_ceil(4 * VECTORS * u64::from(WORKGROUP)))?;
                let group = Arc::new(group);
                state.recorder.push(Command::Dispatch { pipeline: pipeline.clone(), group, params, groups });
            }
        }
        Ok(())
    }

    /// Names the first op whose result was not finite, once everything recorded has been sent off.
    pub(super) fn refuse_nonfinite(&self) -> Result<()> {
        self.look_at_flags(&mut self.state())
    }

    fn look_at_flags(&self, state: &mut State) -> Result<()> {
        let (Some(device), Some(watch)) = (&self.0.device, &mut state.ears.watch) else { return Ok(()) };
        if watch.labels.is_empty() {
            return Ok(());
        }
        let mut flags = Vec::new();
        device.read_piece(&watch.flags, 0, 4 * watch.labels.len() as u64, &mut flags)?;
        match flags.chunks_exact(4).position(|flag| flag != [0; 4]) {
            // The flag stays up: every later read is refused, too.
            Some(op) => {
                let label = &watch.labels[op];
                Err(Error::Device(format!("{label}: the first op whose result holds a NaN or an infinity")))
            }
            None => {
                watch.labels.clear();
                Ok(())
            }
        }
    }
}

/// A word is a float, or two halves; one is not finite where all bits of its exponent are set.
fn text() -> String {
    let body = "struct Params { words: u32, last: u32, low: u32, high: u32, flag: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> flags: array<atomic<u32>>;

fn is_wild(word: vec4<u32>) -> bool {
    return any((word & vec4<u32>(params.low)) == vec4<u32>(params.low))
        || any((word & vec4<u32>(params.high)) == vec4<u32>(params.high));
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) local: u32) {
    let first = group_index(group, groups) * (WG * VECTORS) + local;
    var found = false;
    for (var i = 0u; i < VECTORS; i++) {
        let at = first + i * WG;
        if (4u * at + 4u < params.words) {
            found = found || is_wild(x[at]);
        } else if (4u * at < params.words) {
            // Past the last word lies padding, and may lie half of the last one.
            let word = vec4<u32>(4u * at) + vec4<u32>(0u, 1u, 2u, 3u);
            var kept = select(vec4<u32>(), vec4<u32>(0xffffffffu), word < vec4<u32>(params.words));
            kept = select(kept, vec4<u32>(params.last), word + 1u == vec4<u32>(params.words));
            found = found || is_wild(x[at] & kept);
        }
    }
    if (found) { atomicStore(&flags[params.flag], 1u); }
}
";
    let index = include_str!("../../shaders/common/index.wgsl");
    format!("const VECTORS = {VECTORS}u;\n{body}{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_validates() {
        let variant = Variant { scalar: Scalar::F32, width: 1, workgroup: WORKGROUP };
        let text = Program::generated("watch", "forward", variant, 0, &text).text(true);
        let module =
            naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all())
            .validate(&module)
            .unwrap();
    }
}
