//! What a workgroup owns of a product, and how: the choice that tells one generated kernel from another.

use super::{few, matrix, subgroup};
use std::fmt;

/// A workgroup's part of C, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tile {
    /// One subgroup of 8: `rows` (8, 16 or 32) by a panel, in registers.
    Subgroup { rows: u32 },
    /// Up to 8 rows by a panel: a workgroup's invocations share k.
    Few { rows: u32 },
    /// Staged in workgroup memory.
    Tiled(Tiled),
    /// On matrix units.
    Matrix(Matrix),
}

/// A tile staged in workgroup memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tiled {
    pub rows: u32,
    pub columns: u32,
    /// k of a staged step.
    pub depth: u32,
    /// Rows and columns of one invocation.
    pub each: [u32; 2],
    /// Staged as f16: half the workgroup memory, exact where both operands are f16.
    pub half: bool,
}

/// A tile on matrix units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Matrix {
    pub rows: u32,
    pub columns: u32,
    /// Rows and columns of one subgroup.
    pub each: [u32; 2],
    /// Rows, columns and depth of one instruction: 16, or 8 on Metal.
    pub edge: u32,
    pub load: Load,
}

/// How matrix units get their operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Load {
    /// Both through workgroup memory.
    Staged,
    /// A through workgroup memory, B from its panels.
    PanelsDirect,
    /// No workgroup memory at all, results through a buffer: whole tiles only.
    Direct,
}

impl Tile {
    /// Rows of C.
    pub(super) fn rows(self) -> u32 {
        match self {
            Tile::Subgroup { rows } | Tile::Few { rows } => rows,
            Tile::Tiled(tile) => tile.rows,
            Tile::Matrix(tile) => tile.rows,
        }
    }

    /// Panels side by side.
    pub(super) fn panels(self, panel: u32) -> u32 {
        match self {
            Tile::Subgroup { .. } | Tile::Few { .. } => 1,
            Tile::Tiled(Tiled { columns, .. }) | Tile::Matrix(Matrix { columns, .. }) => {
                (columns / panel).max(1)
            }
        }
    }

    /// Invocations of a workgroup.
    pub(super) fn workgroup(self) -> u32 {
        match self {
            Tile::Subgroup { .. } => subgroup::LANES,
            Tile::Few { .. } => few::LANES,
            Tile::Tiled(tile) => tile.workgroup(),
            Tile::Matrix(tile) => tile.workgroup(),
        }
    }

    /// Bytes of workgroup memory; `panel` columns of B lie together.
    pub(super) fn workgroup_bytes(self) -> u32 {
        match self {
            Tile::Subgroup { .. } => 0,
            Tile::Few { rows } => few::workgroup_bytes(rows),
            Tile::Tiled(tile) => tile.workgroup_bytes(),
            Tile::Matrix(tile) => tile.workgroup_bytes(),
        }
    }

    /// Units of 4 k that one turn of the outer loop takes.
    pub(super) fn units(self, panel: u32) -> u32 {
        match self {
            Tile::Subgroup { .. } => 1,
            Tile::Few { .. } => few::LANES / (panel / 4),
            Tile::Tiled(tile) => tile.depth / 4,
            Tile::Matrix(_) => matrix::DEPTH / 4,
        }
    }

    /// Turns of all loops for one turn of the outer loop.
    pub(super) fn turns(self) -> u32 {
        match self {
            Tile::Tiled(tile) => 1 + tile.depth / 4,
            _ => 1,
        }
    }

    /// Its part of a form's name in the pipeline cache, below 2^28.
    pub(super) fn key(self) -> u64 {
        let sizes = |kind: u64, rows: u32, columns: u32, each: [u32; 2], rest: u64| {
            kind | u64::from(rows / 8) << 2
                | u64::from(columns / 32) << 8
                | u64::from(each[0] / 4) << 12
                | u64::from(each[1] / 4) << 17
                | rest << 22
        };
        match self {
            Tile::Subgroup { rows } => sizes(0, rows, 0, [0, 0], 0),
            Tile::Few { rows } => sizes(1, 0, 0, [0, 0], u64::from(rows)),
            Tile::Tiled(Tiled { rows, columns, depth, each, half }) => {
                sizes(2, rows, columns, each, u64::from(depth / 8) | u64::from(half) << 3)
            }
            Tile::Matrix(Matrix { rows, columns, each, edge, load }) => {
                sizes(3, rows, columns, each, u64::from(edge / 8) | (load as u64) << 2)
            }
        }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tile::Subgroup { rows } => write!(f, "subgroup {rows}"),
            Tile::Few { rows } => write!(f, "few {rows}"),
            Tile::Tiled(Tiled { rows, columns, depth, each: [y, x], half }) => {
                write!(f, "tiled {rows}x{columns}x{depth} {y}x{x}{}", if *half { " half" } else { "" })
            }
            Tile::Matrix(Matrix { rows, columns, each: [y, x], edge, load }) => {
                let load = match load {
                    Load::Staged => "staged",
                    Load::PanelsDirect => "panels",
                    Load::Direct => "direct",
                };
                write!(f, "matrix {rows}x{columns} {y}x{x} {edge} {load}")
            }
        }
    }
}

/// Every tile that there is a kernel for, but those whose rows alone differ.
pub(super) const TILED: &[Tiled] = &[
    Tiled { rows: 128, columns: 128, depth: 16, each: [8, 8], half: false },
    Tiled { rows: 128, columns: 128, depth: 8, each: [8, 8], half: false },
    Tiled { rows: 128, columns: 64, depth: 16, each: [8, 8], half: false },
    Tiled { rows: 64, columns: 64, depth: 16, each: [8, 4], half: false },
    Tiled { rows: 64, columns: 64, depth: 16, each: [8, 8], half: false },
    Tiled { rows: 32, columns: 64, depth: 16, each: [4, 4], half: false },
    Tiled { rows: 128, columns: 32, depth: 16, each: [8, 4], half: false },
    Tiled { rows: 32, columns: 32, depth: 16, each: [4, 4], half: false },
    Tiled { rows: 128, columns: 128, depth: 16, each: [8, 8], half: true },
    Tiled { rows: 64, columns: 64, depth: 16, each: [8, 4], half: true },
];

/// As [`TILED`], for both sizes of instruction.
pub(super) const MATRIX: &[Matrix] = &[
    Matrix { rows: 128, columns: 128, each: [64, 64], edge: 16, load: Load::Staged },
    Matrix { rows: 128, columns: 128, each: [32, 64], edge: 16, load: Load::Staged },
    Matrix { rows: 128, columns: 128, each: [64, 64], edge: 16, load: Load::PanelsDirect },
    Matrix { rows: 64, columns: 64, each: [32, 32], edge: 16, load: Load::Staged },
    Matrix { rows: 64, columns: 64, each: [32, 32], edge: 16, load: Load::PanelsDirect },
    Matrix { rows: 32, columns: 64, each: [16, 32], edge: 16, load: Load::Staged },
    Matrix { rows: 64, columns: 64, each: [32, 32], edge: 16, load: Load::Direct },
    Matrix { rows: 64, columns: 64, each: [32, 32], edge: 8, load: Load::Staged },
    Matrix { rows: 32, columns: 64, each: [16, 32], edge: 8, load: Load::Staged },
    Matrix { rows: 64, columns: 64, each: [32, 32], edge: 8, load: Load::Direct },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Tile> {
        let subgroups = [8, 16, 32].map(|rows| Tile::Subgroup { rows });
        let few = [1, 2, 4, 8].map(|rows| Tile::Few { rows });
        let tiled = TILED.iter().map(|&tile| Tile::Tiled(tile));
        let matrix = MATRIX.iter().map(|&tile| Tile::Matrix(tile));
        subgroups.into_iter().chain(few).chain(tiled).chain(matrix).collect()
    }

    #[test]
    fn names_and_keys_differ() {
        let keys: std::collections::HashSet<_> = all().into_iter().map(Tile::key).collect();
        let names: std::collections::HashSet<_> = all().iter().map(Tile::to_string).collect();
        assert_eq!((keys.len(), names.len()), (all().len(), all().len()));
        assert!(all().into_iter().all(|tile| tile.key() < 1 << 28));
    }

    #[test]
    fn every_adapter_holds_the_small_ones() {
        for tile in all() {
            let (most, invocations) = (tile.workgroup_bytes(), tile.workgroup());
            // Cards with matrix units have 48 KiB, most of them.
            let bytes = if matches!(tile, Tile::Matrix(_)) { 48 << 10 } else { 32 << 10 };
            assert!(most <= bytes && invocations <= 256, "{tile}: {most} B, {invocations} invocations");
        }
        // WebGPU promises 16 KiB.
        let small = |rows: u32, columns: u32| {
            TILED.iter().any(|tile| {
                (tile.rows, tile.columns, tile.half) == (rows, columns, false)
                    && tile.workgroup_bytes() <= 16 << 10
            })
        };
        for (rows, columns) in [(128, 128), (64, 64), (32, 64), (128, 32), (32, 32)] {
            assert!(small(rows, columns), "{rows}x{columns}");
        }
    }
}
