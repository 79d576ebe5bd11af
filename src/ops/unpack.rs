//! Panels back to the weight they were packed from, for gradients through layers whose weights are not trained.

use super::gemm::ReadB;
use super::pack::Packed;
use super::{common, params, shaders};
use crate::error::Result;
use crate::gpu::{Launch, Program, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor};

params! {
    struct Params {
        count: u32,
        n: u32,
        taps: u32,
        channels: u32,
        channels4: u32,
        panel4: u32,
        panel_first: u32,
        at_first: u32,
        factors: u32,
    }
}

impl Packed {
    /// The weight `[n, channels * taps]` as it was before it was packed: the parameter itself where there is one,
    /// else read back from the panels, in f32.
    pub(super) fn source(&self) -> Result<Tensor> {
        let row = self.k();
        if let Some(parameter) = &self.parameter {
            return parameter.detach().reshape(&[self.n, row]);
        }
        let gpu = self.gpu();
        let _op = gpu.op(|| format!("unpack [{}, {row}]", self.n));
        let y = Tensor::empty(gpu, &[self.n, row], DType::F32)?;
        let most = (gpu.facts().limits.binding_bytes as usize / (row * self.panel * 4).max(1)).max(1);
        let variant = Variant { scalar: Scalar::F32, width: 4, workgroup: gpu.flat_workgroup() };
        for segment in self.segments.iter() {
            for first in (0..segment.n_panels).step_by(most) {
                let panels = most.min(segment.n_panels - first);
                let panel_first = segment.panel_first + first;
                let columns = panel_first * self.panel..((panel_first + panels) * self.panel).min(self.n);
                let count = panels * self.panel_vectors();
                let params = Params {
                    count: count as u32,
                    n: self.n as u32,
                    taps: self.taps as u32,
                    channels: self.channels as u32,
                    channels4: self.units() as u32,
                    panel4: (self.panel / 4) as u32,
                    panel_first: panel_first as u32,
                    at_first: (first * self.panel_vectors()) as u32,
                    factors: (segment.n_panels * self.panel_vectors()) as u32,
                };
                let read = self.read;
                gpu.run(&Launch {
                    program: Program::generated("unpack", "forward", variant, read as u64, &|| text(read)),
                    params: params.as_bytes(),
                    inputs: &[segment.binding()],
                    outputs: &[y.window(columns.start * row..columns.end * row)],
                    groups: gpu.grid("unpack", (count as u64).div_ceil(u64::from(variant.workgroup)))?,
                    work: Work { flops: 0, bytes: (count * 32) as u64 },
                })?;
            }
        }
        Ok(y)
    }
}

/// The shader with the reader of these panels.
fn text(read: ReadB) -> String {
    let columns = match read {
        // A texel holds 8 columns.
        ReadB::Texel16 => "let t = read_b2(at / 2u, 0u); return select(lower(t), upper(t), (at & 1u) == 1u);",
        ReadB::Buffer8 => {
            "let column4 = at / (params.taps * params.channels4 * 4u * params.panel4) * params.panel4 \
             + at % params.panel4; return read_b(at, 0u) * factors(params.factors + 4u * column4);"
        }
        _ => "return read_b(at, 0u);",
    };
    let columns = format!("fn read_columns(at: u32) -> vec4<f32> {{ {columns} }}");
    [shaders!("unpack"), &columns, read.text(), common::INDEX].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Options;
    use crate::ops::pack::SourceType;
    use crate::testing::{gpu, gpu_with, random_from};

    #[test]
    fn every_form_validates_without_a_gpu() {
        for read in [ReadB::Buffer32, ReadB::Buffer16, ReadB::Texel32, ReadB::Texel16, ReadB::Buffer8] {
            let variant = Variant { scalar: Scalar::F32, width: 4, workgroup: 64 };
            let generate = || text(read);
            let program = Program::generated("unpack", "forward", variant, read as u64, &generate);
            crate::testing::validate(&format!("unpack {read:?}"), &program.text(true), Params::FIELDS);
        }
    }

    #[test]
    fn what_was_packed_comes_back() {
        let plain = gpu_with(Options { without_textures: true, ..Default::default() });
        let small = gpu_with(Options { binding_bytes: Some(64 << 10), ..Default::default() });
        for gpu in [gpu(), plain, small].into_iter().flatten() {
            for [n, channels, taps] in [[1, 1, 1], [65, 7, 1], [70, 12, 9], [33, 5, 3], [200, 16, 1]] {
                let w = random_from(3, n * channels * taps, 1.0);
                let halves: Vec<_> = w.iter().map(|&v| half::f16::from_f32(v)).collect();
                let narrow: Vec<f32> = halves.iter().map(|v| v.to_f32()).collect();
                for (half, want) in [(false, &w), (true, &narrow)] {
                    let bytes = bytemuck::cast_slice(&w);
                    let sizes = [n, channels, taps];
                    let packed = Packed::from_bytes(&gpu, sizes, SourceType::F32, bytes, half).unwrap();
                    assert_eq!(&packed.source().unwrap().to_vec().unwrap(), want, "{sizes:?} half {half}");
                }
            }
        }
    }
}
