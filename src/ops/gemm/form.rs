//! One form of the product's kernel: which pieces of `shaders/gemm*.wgsl` are joined with which generated product.

use super::super::unary::Activation;
use super::super::{common, shaders};
use super::{subgroup, tiled};

/// How A's rows are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reader {
    Rows,
    Image,
}

/// Which family runs, with its tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    /// Rows of a tile, a multiple of 8.
    Subgroup {
        rows: u32,
    },
    Tiled,
}

/// How A's elements are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReadA {
    /// From a buffer, one by one.
    One,
    /// From a buffer, 4 channels at once.
    Four,
    /// From a texture, 4 channels a texel.
    Texel,
}

/// Where B lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::ops) enum ReadB {
    /// f32 in a buffer.
    Buffer32,
    /// f16 in a buffer.
    Buffer16,
    /// f32 in a texture, 4 columns a texel.
    Texel32,
    /// f16 in a texture, 8 columns a texel.
    Texel16,
}

impl ReadB {
    /// The shader's piece that declares and reads B.
    pub(in crate::ops) fn text(self) -> &'static str {
        match self {
            ReadB::Buffer32 => shaders!("gemm_read_b32"),
            ReadB::Buffer16 => shaders!("gemm_read_b16"),
            ReadB::Texel32 => shaders!("gemm_read_b32_texel"),
            ReadB::Texel16 => shaders!("gemm_read_b16_texel"),
        }
    }
}

/// One form of the kernel; every combination is validated by a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub family: Family,
    pub reader: Reader,
    /// Columns of a panel: 32 or 64.
    pub panel: u32,
    pub read_a: ReadA,
    pub read_b: ReadB,
    /// C is written 4 columns at once.
    pub wide_c: bool,
    /// Compiled in, because every row of a tile has its own copy of the epilogue.
    pub activation: Activation,
}

/// Head of every product: which tile this workgroup owns.
pub(super) const PLACE: &str = "\
    let tile = group_index(group, groups);
    let tile_m = tile % params.tiles_m;
    let tile_n = tile / params.tiles_m % params.tiles_n;
    let batch = tile / (params.tiles_m * params.tiles_n);
";

impl Form {
    /// Its name in the pipeline cache.
    pub(super) fn key(self) -> u64 {
        let family = match self.family {
            Family::Tiled => 0,
            Family::Subgroup { rows } => u64::from(rows),
        };
        family
            | u64::from(self.panel) << 8
            | u64::from(self.reader == Reader::Image) << 16
            | (self.read_a as u64) << 17
            | (self.read_b as u64) << 19
            | u64::from(self.wide_c) << 21
            | u64::from(self.activation.code()) << 22
    }

    /// Invocations of a workgroup.
    pub(super) fn workgroup(self) -> u32 {
        match self.family {
            Family::Subgroup { .. } => subgroup::LANES,
            Family::Tiled => tiled::workgroup(self.panel),
        }
    }

    /// Rows of C that a workgroup owns.
    pub(super) fn tile_rows(self) -> u32 {
        match self.family {
            Family::Subgroup { rows } => rows,
            Family::Tiled => tiled::ROWS,
        }
    }

    /// The whole text after the prelude.
    pub(super) fn text(self) -> String {
        let read_a = match self.read_a {
            ReadA::One => shaders!("gemm_read1"),
            ReadA::Four => shaders!("gemm_read4"),
            ReadA::Texel => shaders!("gemm_read_texel"),
        };
        let write = if self.wide_c { shaders!("gemm_write4") } else { shaders!("gemm_write1") };
        let reader = match self.reader {
            Reader::Rows => shaders!("gemm_rows"),
            Reader::Image => shaders!("gemm_image"),
        };
        let product = match self.family {
            Family::Subgroup { rows } => subgroup::product(rows, self.panel, self.read_b),
            Family::Tiled => tiled::product(self.panel),
        };
        let (formulas, call) = match self.activation {
            Activation::None => ("", "v".to_string()),
            other => (common::ACTIVATION, format!("activate({}u, v)", other.code())),
        };
        let activation = format!("{formulas}\nfn activation(v: vec4<f32>) -> vec4<f32> {{ return {call}; }}");
        let parts = [
            shaders!("gemm"),
            &activation,
            read_a,
            self.read_b.text(),
            write,
            reader,
            common::INDEX,
            &product,
        ];
        parts.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Params;
    use super::*;
    use crate::gpu::{Program, Scalar, Variant};

    #[test]
    fn every_form_validates_without_a_gpu() {
        use {ReadA::*, ReadB::*};
        let mut keys = std::collections::HashSet::new();
        let mut check = |form: Form| {
            assert!(keys.insert(form.key()), "{form:?} shares its key");
            for scalar in [Scalar::F32, Scalar::F16] {
                let variant = Variant { scalar, width: 4, workgroup: form.workgroup() };
                let generate = || form.text();
                let program = Program::generated("gemm", "forward", variant, form.key(), &generate);
                crate::testing::validate(
                    &format!("{form:?} {scalar:?}"),
                    &program.text(true),
                    Params::FIELDS,
                );
            }
        };
        let subgroups = [8, 16, 32].map(|rows| Family::Subgroup { rows });
        for family in subgroups.into_iter().chain([Family::Tiled]) {
            let texels: &[_] = if family == Family::Tiled { &[] } else { &[Texel32, Texel16] };
            for panel in [32, 64] {
                for &read_b in [Buffer32, Buffer16].iter().chain(texels) {
                    if read_b == Texel16 && panel == 32 {
                        continue;
                    }
                    for reader in [Reader::Rows, Reader::Image] {
                        for read_a in [One, Four, Texel] {
                            if read_a == Texel && family == Family::Tiled {
                                continue;
                            }
                            for wide_c in [false, true] {
                                let activation = if wide_c && read_a == Four {
                                    Activation::Gelu
                                } else {
                                    Activation::None
                                };
                                check(Form { family, reader, panel, read_a, read_b, wide_c, activation });
                            }
                        }
                    }
                }
            }
        }
    }
}
