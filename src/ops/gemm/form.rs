//! One form of the product's kernel: which pieces of `shaders/gemm*.wgsl` are joined with which generated product.

use super::super::unary::Activation;
use super::super::{common, shaders};
use super::tile::{Load, Tile};
use super::{few, matrix, subgroup, tiled};

/// How A's rows are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reader {
    Rows,
    Image,
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
    /// Signed bytes in a buffer, factors of the columns behind them.
    Buffer8,
}

impl ReadB {
    /// The shader's piece that declares and reads B.
    pub(in crate::ops) fn text(self) -> &'static str {
        match self {
            ReadB::Buffer32 => shaders!("gemm_read_b32"),
            ReadB::Buffer16 => shaders!("gemm_read_b16"),
            ReadB::Texel32 => shaders!("gemm_read_b32_texel"),
            ReadB::Texel16 => shaders!("gemm_read_b16_texel"),
            ReadB::Buffer8 => shaders!("gemm_read_b8"),
        }
    }
}

/// One form of the kernel; every combination is validated by a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub tile: Tile,
    /// Results leave as they are, for `gemm_sum.wgsl` to finish: parts of sums that were cut along k.
    pub split: bool,
    pub reader: Reader,
    /// Columns of a panel: 32 or 64.
    pub panel: u32,
    pub read_a: ReadA,
    pub read_b: ReadB,
    /// C is written 4 columns at once.
    pub wide_c: bool,
    /// Compiled in, because every row of a tile has its own copy of the epilogue.
    pub activation: Activation,
    /// Compiled in, too: a software adapter pays for what is not taken.
    pub bias: Bias,
    pub residual: bool,
    /// C is several matrices, each of as many columns as its rows have.
    pub stacked: bool,
}

/// Rows of a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bias {
    None,
    /// One for all rows of C.
    One,
    /// One for each of several groups of rows.
    Grouped,
}

impl Form {
    /// Its name in the pipeline cache.
    pub(super) fn key(self) -> u64 {
        let choices = self.tile.key()
            | u64::from(self.split) << 28
            | u64::from(self.panel / 32) << 29
            | u64::from(self.reader == Reader::Image) << 31
            | (self.read_a as u64) << 32
            | (self.read_b as u64) << 48;
        choices | self.finish_key()
    }

    /// The part of it that says how results are finished; the whole name of the kernel that adds parts of sums.
    pub(super) fn finish_key(self) -> u64 {
        u64::from(self.wide_c) << 36
            | u64::from(self.activation.code()) << 37
            | (self.bias as u64) << 45
            | u64::from(self.residual) << 47
            | u64::from(self.stacked) << 52
    }

    /// The whole text after the prelude.
    pub(super) fn text(self) -> String {
        let read_a = match self.read_a {
            ReadA::One => shaders!("gemm_read1"),
            ReadA::Four => shaders!("gemm_read4"),
            ReadA::Texel => shaders!("gemm_read_texel"),
        };
        let reader = match self.reader {
            Reader::Rows => shaders!("gemm_rows"),
            Reader::Image => shaders!("gemm_image"),
        };
        let (reads, product) = match self.tile {
            Tile::Subgroup { rows } => {
                (read_a.to_string() + self.read_b.text(), subgroup::product(self, rows))
            }
            Tile::Few { rows } => (read_a.to_string() + self.read_b.text(), few::product(self, rows)),
            Tile::Tiled(tile) => (read_a.to_string() + self.read_b.text(), tiled::product(self, tile)),
            Tile::Matrix(tile) => (matrix::readers(tile), matrix::product(self, tile)),
        };
        let finish = match self.tile {
            Tile::Matrix(tile) if tile.load == Load::Direct => matrix::direct_writer().to_string(),
            _ if self.split => shaders!("gemm_part").to_string(),
            _ => self.write().to_string(),
        };
        let epilogue = match self.split {
            true => epilogue(Activation::None, Bias::None, false, false),
            false => self.epilogue(),
        };
        let enable =
            if matches!(self.tile, Tile::Matrix(_)) { "enable wgpu_cooperative_matrix;" } else { "" };
        let scaled = if self.read_b == ReadB::Buffer8 { shaders!("gemm_scaled") } else { UNSCALED };
        [enable, shaders!("gemm"), &epilogue, &reads, scaled, &finish, reader, common::INDEX, &product]
            .join("\n")
    }

    /// The kernel that adds the parts of sums and finishes results as an uncut one would.
    pub(super) fn sum_text(self) -> String {
        [shaders!("gemm"), &self.epilogue(), UNSCALED, self.write(), common::INDEX, shaders!("gemm_sum")]
            .join("\n")
    }

    fn epilogue(self) -> String {
        epilogue(self.activation, self.bias, self.residual, self.stacked)
    }

    fn write(self) -> &'static str {
        if self.wide_c { shaders!("gemm_write4") } else { shaders!("gemm_write1") }
    }
}

/// Sums of columns that have no factors of their own.
const UNSCALED: &str = "fn scaled(column4: u32, v: vec4<f32>) -> vec4<f32> { return v; }";

/// `BIAS`, `RESIDUAL`, `STACKED` and `activation`, with the formulas it needs.
fn epilogue(activation: Activation, bias: Bias, residual: bool, stacked: bool) -> String {
    let (formulas, call) = match activation {
        Activation::None => ("", "v".to_string()),
        other => (common::ACTIVATION, format!("activate({}u, v)", other.code())),
    };
    let constants =
        format!("const BIAS = {}u;\nconst RESIDUAL = {residual};\nconst STACKED = {stacked};", bias as u32);
    format!("{constants}\n{formulas}\nfn activation(v: vec4<f32>) -> vec4<f32> {{ return {call}; }}")
}

#[cfg(test)]
mod tests {
    use super::super::Params;
    use super::super::tile::{MATRIX, TILED};
    use super::*;
    use crate::gpu::{Program, Scalar, Variant};

    fn check(keys: &mut std::collections::HashSet<u64>, form: Form) {
        assert!(keys.insert(form.key()), "{form:?} shares its key");
        let scalars: &[Scalar] = match form.tile {
            Tile::Matrix(_) => &[Scalar::F16],
            Tile::Tiled(tile) if tile.half => &[Scalar::F16],
            _ => &[Scalar::F32, Scalar::F16],
        };
        for &scalar in scalars {
            let variant = Variant { scalar, width: 4, workgroup: form.tile.workgroup() };
            let generate = || form.text();
            let program = Program::generated("gemm", "forward", variant, form.key(), &generate);
            let label = format!("{form:?} {scalar:?}");
            crate::testing::validate(&label, &program.text(true), Params::FIELDS);
            if matches!(form.tile, Tile::Matrix(_)) {
                crate::testing::translate(&label, &program.text(true));
            }
        }
    }

    /// Every reader and writer of the forms of a tile.
    fn check_tile(
        keys: &mut std::collections::HashSet<u64>,
        tile: Tile,
        panel: u32,
        reads: &[(ReadA, ReadB)],
    ) {
        for &(read_a, read_b) in reads {
            for reader in [Reader::Rows, Reader::Image] {
                for wide_c in [false, true] {
                    let bias = if wide_c { Bias::One } else { Bias::Grouped };
                    let gelu = wide_c && read_a == ReadA::Four;
                    let activation = if gelu { Activation::Gelu } else { Activation::None };
                    let form = Form {
                        tile,
                        split: false,
                        reader,
                        panel,
                        read_a,
                        read_b,
                        wide_c,
                        activation,
                        bias,
                        residual: wide_c && read_a != ReadA::Four,
                        stacked: wide_c && read_a == ReadA::Four,
                    };
                    check(keys, form);
                }
                if !matches!(tile, Tile::Subgroup { .. }) {
                    let activation = Activation::None;
                    let form = Form {
                        tile,
                        split: true,
                        reader,
                        panel,
                        read_a,
                        read_b,
                        wide_c: true,
                        activation,
                        bias: Bias::None,
                        residual: false,
                        stacked: false,
                    };
                    check(keys, form);
                }
            }
        }
    }

    #[test]
    fn every_form_validates_without_a_gpu() {
        use {ReadA::*, ReadB::*};
        let mut keys = std::collections::HashSet::new();
        let pairs = |a: &[ReadA], b: &[ReadB]| -> Vec<_> {
            a.iter().flat_map(|&a| b.iter().map(move |&b| (a, b))).collect()
        };
        let buffers = pairs(&[One, Four], &[Buffer32, Buffer16, Buffer8]);
        for panel in [32, 64] {
            let texels: &[ReadB] = if panel == 64 {
                &[Buffer32, Buffer16, Texel32, Texel16, Buffer8]
            } else {
                &[Buffer32, Buffer16, Texel32, Buffer8]
            };
            for rows in [8, 16, 32] {
                check_tile(&mut keys, Tile::Subgroup { rows }, panel, &pairs(&[One, Four, Texel], texels));
            }
            for rows in [1, 2, 4, 8] {
                check_tile(&mut keys, Tile::Few { rows }, panel, &buffers);
            }
            for &tile in TILED.iter().filter(|tile| (tile.columns == 32) == (panel == 32)) {
                check_tile(&mut keys, Tile::Tiled(tile), panel, &buffers);
            }
        }
    }

    /// No adapter of ours runs these: this is all that is known of them.
    #[test]
    fn every_form_for_matrix_units_validates() {
        let mut keys = std::collections::HashSet::new();
        for &tile in MATRIX {
            let reads = [(ReadA::Four, ReadB::Buffer16)];
            if tile.load == Load::Direct {
                let form = Form {
                    tile: Tile::Matrix(tile),
                    split: true,
                    reader: Reader::Rows,
                    panel: 64,
                    read_a: ReadA::Four,
                    read_b: ReadB::Buffer16,
                    wide_c: true,
                    activation: Activation::None,
                    bias: Bias::None,
                    residual: false,
                    stacked: false,
                };
                check(&mut keys, form);
            } else {
                check_tile(&mut keys, Tile::Matrix(tile), 64, &reads);
            }
        }
    }

    #[test]
    fn the_sum_of_parts_validates() {
        for (wide_c, activation) in [(false, Activation::None), (true, Activation::Gelu)] {
            let form = Form {
                tile: Tile::Few { rows: 8 },
                split: true,
                reader: Reader::Rows,
                panel: 64,
                read_a: ReadA::Four,
                read_b: ReadB::Buffer32,
                wide_c,
                activation,
                bias: Bias::Grouped,
                residual: wide_c,
                stacked: wide_c,
            };
            for scalar in [Scalar::F32, Scalar::F16] {
                let variant = Variant { scalar, width: 4, workgroup: 64 };
                let generate = || form.sum_text();
                let program = Program::generated("gemm", "sum", variant, form.finish_key(), &generate);
                crate::testing::validate("sum", &program.text(true), Params::FIELDS);
            }
        }
    }
}
