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
    /// Columns of B are values and gates by turns, four of each; C has half as many.
    pub gated: bool,
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
            | u64::from(self.gated) << 53
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
        // Parts of sums leave in the order of B's columns, as they are.
        let form = match self.split {
            true => Form {
                activation: Activation::None,
                bias: Bias::None,
                residual: false,
                stacked: false,
                gated: false,
                ..self
            },
            false => self,
        };
        let (reads, product) = match self.tile {
            Tile::Subgroup { rows } => {
                (read_a.to_string() + self.read_b.text(), subgroup::product(form, rows))
            }
            Tile::Few { rows } => (read_a.to_string() + self.read_b.text(), few::product(form, rows)),
            Tile::Tiled(tile) => (read_a.to_string() + self.read_b.text(), tiled::product(form, tile)),
            Tile::Matrix(tile) => (matrix::readers(tile), matrix::product(form, tile)),
        };
        let finish = match self.tile {
            Tile::Matrix(tile) if tile.load == Load::Direct => matrix::direct_writer().to_string(),
            _ if self.split => shaders!("gemm_part").to_string(),
            _ => self.write().to_string(),
        };
        let epilogue = form.epilogue();
        let enable =
            if matches!(self.tile, Tile::Matrix(_)) { "enable wgpu_cooperative_matrix;" } else { "" };
        let scaled = if self.read_b == ReadB::Buffer8 { shaders!("gemm_scaled") } else { UNSCALED };
        [enable, shaders!("gemm"), &epilogue, &reads, scaled, &finish, reader, common::INDEX, &product]
            .join("\n")
    }

    /// The kernel that adds the parts of sums and finishes results as an uncut one would.
    pub(super) fn sum_text(self) -> String {
        let results = if self.gated { SUM_PAIR } else { SUM_ONE };
        let sum = [results, shaders!("gemm_sum")].concat();
        [shaders!("gemm"), &self.epilogue(), UNSCALED, self.write(), common::INDEX, &sum].join("\n")
    }

    /// What takes the results of a row: sums, or values and their gates.
    pub(super) fn store(self) -> &'static str {
        if self.gated { "store_gated" } else { "store" }
    }

    /// Columns of B that make one of C.
    pub(super) fn fold(self) -> u32 {
        if self.gated { 2 } else { 1 }
    }

    /// `BIAS`, `RESIDUAL`, `STACKED` and `activation`, and what becomes of gates, with the formulas they need.
    fn epilogue(self) -> String {
        let call = match self.activation {
            Activation::None => "v".to_string(),
            other => format!("activate({}u, v)", other.code()),
        };
        let plain = self.activation == Activation::None && !self.gated;
        let formulas = if plain { "" } else { common::ACTIVATION };
        let gates = if self.gated { shaders!("gemm_gated") } else { "" };
        let constants = format!(
            "const BIAS = {}u;\nconst RESIDUAL = {};\nconst STACKED = {};",
            self.bias as u32, self.residual, self.stacked
        );
        let activation = format!("fn activation(v: vec4<f32>) -> vec4<f32> {{ return {call}; }}");
        [&constants, formulas, gates, &activation].join("\n")
    }

    fn write(self) -> &'static str {
        if self.wide_c { shaders!("gemm_write4") } else { shaders!("gemm_write1") }
    }
}

/// Sums of columns that have no factors of their own.
const UNSCALED: &str = "fn scaled(column4: u32, v: vec4<f32>) -> vec4<f32> { return v; }";

/// What one invocation of the sum makes.
const SUM_ONE: &str = "fn finish_sum(row: u32, column4: u32, first: u32) {
    store(0u, row, params.panel_first + column4, sum_of(first + column4));
}";
const SUM_PAIR: &str = "fn finish_sum(row: u32, column4: u32, first: u32) {
    let value = sum_of(first + 2u * column4);
    store_gated(0u, row, params.panel_first + column4, value, sum_of(first + 2u * column4 + 1u));
}";

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

    /// The forms of a tile that finish values with their gates.
    fn check_gated(keys: &mut std::collections::HashSet<u64>, tile: Tile, reads: &[(ReadA, ReadB)]) {
        for &(read_a, read_b) in reads {
            for bias in [Bias::None, Bias::One] {
                let form = Form {
                    tile,
                    split: false,
                    reader: Reader::Rows,
                    panel: 64,
                    read_a,
                    read_b,
                    wide_c: true,
                    activation: Activation::None,
                    bias,
                    residual: false,
                    stacked: false,
                    gated: true,
                };
                check(keys, form);
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
                        gated: false,
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
                        gated: false,
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
        let gated_buffers = pairs(&[One, Four], &[Buffer32, Buffer16]);
        for rows in [8, 16, 32] {
            let reads = pairs(&[One, Four, Texel], &[Buffer32, Buffer16, Texel32, Texel16]);
            check_gated(&mut keys, Tile::Subgroup { rows }, &reads);
        }
        for rows in [1, 2, 4, 8] {
            check_gated(&mut keys, Tile::Few { rows }, &gated_buffers);
        }
        for &tile in TILED.iter().filter(|tile| tile.each[1] == 8) {
            check_gated(&mut keys, Tile::Tiled(tile), &gated_buffers);
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
                    gated: false,
                };
                check(&mut keys, form);
            } else {
                check_tile(&mut keys, Tile::Matrix(tile), 64, &reads);
                check_gated(&mut keys, Tile::Matrix(tile), &reads);
            }
        }
    }

    #[test]
    fn the_sum_of_parts_validates() {
        let none = Activation::None;
        for (wide_c, activation, gated) in
            [(false, none, false), (true, Activation::Gelu, false), (true, none, true)]
        {
            let form = Form {
                tile: Tile::Few { rows: 8 },
                split: true,
                reader: Reader::Rows,
                panel: 64,
                read_a: ReadA::Four,
                read_b: ReadB::Buffer32,
                wide_c,
                activation,
                bias: if gated { Bias::One } else { Bias::Grouped },
                residual: wide_c && !gated,
                stacked: wide_c && !gated,
                gated,
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
