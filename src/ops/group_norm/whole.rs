//! GroupNorm in one launch, a workgroup to an image's group: for groups so small that the launches spared are worth
//! more than the cores left idle.

use super::Norm;
use crate::error::Result;
use crate::gpu::{Class, Kernel, Launch, Scalar, Variant, Work};
use crate::ops::{common, params, shaders, width_of};
use crate::tensor::{DType, Tensor};

const SOURCES: &[&str] = &[shaders!("group_norm_whole"), common::INDEX, common::REDUCE, common::ACTIVATION];
/// Without SiLU and with it.
const WHOLE: [Kernel; 2] =
    [Kernel::new("group_norm", "whole", SOURCES), Kernel::new("group_norm", "whole_silu", SOURCES)];

/// Invocations to a group: as many as every adapter has.
const WORKGROUP: u32 = 256;
/// Most values of a group in an image that one workgroup is given: some hundred turns of its loops.
const MOST_VALUES: usize = 32 << 10;

params! {
    struct Params {
        images: u32,
        positions: u32,
        groups: u32,
        group_units: u32,
        eps: f32,
    }
}

/// The variant for groups of so many channels; nothing where a workgroup has fewer lanes than those take.
pub(super) fn variant_of(scalar: Scalar, group_channels: usize) -> Option<Variant> {
    let width = width_of(group_channels);
    let fits = group_channels <= (width * WORKGROUP) as usize;
    fits.then_some(Variant { scalar, width, workgroup: WORKGROUP })
}

/// Whether one launch is the better choice. Not on a software adapter: launches cost little there, and walking the
/// channels of a group alone took mostly 1.3 to 3 times as long as walking whole rows, never surely less.
pub(super) fn pays(class: Class, positions: usize, group_channels: usize) -> bool {
    class != Class::Software && positions * group_channels <= MOST_VALUES
}

impl Norm<'_> {
    /// Writes y; mean and scale of each image and channel are what it returns.
    pub(super) fn whole(&self, variant: Variant, y: &Tensor) -> Result<Tensor> {
        let (x, gpu) = (self.x, self.x.gpu());
        let found = Tensor::empty(gpu, &[self.images, 2, self.channels], DType::F32)?;
        let params = Params {
            images: self.images as u32,
            positions: self.positions as u32,
            groups: self.groups as u32,
            group_units: (self.channels / self.groups / variant.width as usize) as u32,
            eps: self.eps as f32,
        };
        gpu.run(&Launch {
            program: WHOLE[usize::from(self.silu)].program(variant),
            params: params.as_bytes(),
            inputs: &[x.binding(), self.weight.binding(), self.bias.binding()],
            outputs: &[y.binding(), found.binding()],
            groups: gpu.grid("group_norm", (self.images * self.groups) as u64)?,
            work: Work {
                flops: if self.silu { 11 } else { 7 } * x.len() as u64,
                // Read twice, but the second time from near by.
                bytes: 2 * x.bytes(),
            },
        })?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::validate;

    #[test]
    fn shader_twins() {
        for kernel in WHOLE {
            for (scalar, width) in [Scalar::F32, Scalar::F16].into_iter().flat_map(|s| [(s, 1), (s, 4)]) {
                let variant = Variant { scalar, width, workgroup: WORKGROUP };
                let label = format!("{} {variant:?}", kernel.entry);
                validate(&label, &kernel.program(variant).text(true), Params::FIELDS);
            }
        }
    }
}
