//! Which tile runs a product, and into how many slices its sums are cut: a pure function of the adapter, the shape and
//! a table of measured choices.

use super::tile::{Load, MATRIX, Matrix, TILED, Tile, Tiled};
use crate::gpu::{Facts, Family, Trial};
use std::fmt;

/// What a choice is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub m: usize,
    pub n: usize,
    /// All taps.
    pub k: usize,
    pub batch: usize,
    pub panel: u32,
    /// Both operands are f16.
    pub half: bool,
    /// A is read 4 at once.
    pub wide: bool,
    /// Fragments can be read straight from the panels: channels are multiples of 16.
    pub sixteens: bool,
    /// A is a matrix and C of this launch not cut: whole tiles of it can be read without staging.
    pub plain: bool,
    /// Values and their gates: both have to meet in one invocation.
    pub gated: bool,
}

/// What runs a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Choice {
    pub tile: Tile,
    /// Slices of k, each summed by workgroups of its own; above 1 a second kernel adds them.
    pub slices: u32,
}

impl Choice {
    /// Whether results leave as parts, for a second kernel to finish.
    pub(super) fn splits(self) -> bool {
        self.slices > 1 || self.is_direct()
    }

    /// Fragments go straight to a buffer.
    pub(super) fn is_direct(self) -> bool {
        matches!(self.tile, Tile::Matrix(Matrix { load: Load::Direct, .. }))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, slices {}", self.tile, self.slices)
    }
}

/// Fewest k worth a slice, and the fewest that are cut at all.
const SLICE_K: usize = 512;
const SPLIT_K: usize = 2048;
const MAX_SLICES: u32 = 8;

impl Shape {
    /// Its row in a table: sizes rounded up to powers of two, and what else decides.
    pub(super) fn bucket(&self) -> String {
        let size = |v: usize| v.max(1).next_power_of_two();
        let kind = match (self.half, self.half && self.wide) {
            (false, _) => "f32",
            (true, false) => "f16 odd",
            (true, true) => "f16",
        };
        let batch = if self.batch > 1 { " batch" } else { "" };
        let gated = if self.gated { " gated" } else { "" };
        format!("gemm m{} n{} k{} {kind}{batch}{gated}", size(self.m), size(self.n), size(self.k))
    }

    fn tiles(&self, tile: Tile) -> usize {
        let columns = (tile.panels(self.panel) * self.panel) as usize;
        self.m.div_ceil(tile.rows() as usize) * self.n.div_ceil(columns) * self.batch
    }

    /// Slices that keep `cores` busy, where tiles alone fill less than half of them.
    fn slices(&self, tile: Tile, cores: usize, least_k: usize) -> u32 {
        let tiles = self.tiles(tile).max(1);
        if self.batch > 1 || 2 * tiles > cores || self.k < least_k {
            return 1;
        }
        ((cores / tiles).min(self.k / (least_k / 4)) as u32).clamp(1, MAX_SLICES)
    }

    /// Whether a tile can run this shape on this adapter.
    pub(super) fn fits(&self, facts: &Facts, choice: Choice) -> bool {
        let limits = facts.limits;
        let tile = choice.tile;
        let memory = tile.workgroup_bytes() <= limits.workgroup_bytes
            && tile.workgroup() <= limits.workgroup_invocations;
        let shape = match tile {
            Tile::Subgroup { .. } => facts.family == Family::Subgroup,
            Tile::Few { rows } => self.m <= rows as usize,
            Tile::Tiled(tile) => {
                (tile.columns == 32) == (self.panel == 32)
                    && (self.half || !tile.half)
                    && (!self.gated || tile.each[1] == 8)
            }
            Tile::Matrix(tile) => {
                facts.features.matrix_edge == Some(tile.edge)
                    && self.half
                    && self.wide
                    && self.panel == 64
                    && match tile.load {
                        Load::Staged => true,
                        Load::PanelsDirect => self.sixteens,
                        Load::Direct => {
                            self.sixteens && self.plain && self.m.is_multiple_of(tile.rows as usize)
                        }
                    }
            }
        };
        let parts = choice.slices as usize * self.m * self.n.next_multiple_of(64) * 4;
        let split = !choice.splits() || (self.batch == 1 && parts as u64 <= limits.binding_bytes);
        memory && shape && split
    }
}

/// What runs a product of this shape: a table's word where it has one that fits, else the rule.
pub(super) fn choose(facts: &Facts, trial: Option<&Trial>, measured: Option<&str>, shape: &Shape) -> Choice {
    let found = measured.and_then(|name| {
        candidates(facts, trial, shape).into_iter().find(|choice| choice.to_string() == name)
    });
    found.unwrap_or_else(|| by_rule(facts, trial, shape))
}

/// The rule.
fn by_rule(facts: &Facts, trial: Option<&Trial>, shape: &Shape) -> Choice {
    if facts.family == Family::Subgroup {
        let rows = match shape.m {
            0..=8 => 8,
            9..=256 => 16,
            _ => 32,
        };
        return Choice { tile: Tile::Subgroup { rows }, slices: 1 };
    }
    let cores = facts.cores as usize;
    if shape.m <= 8 {
        let tile = Tile::Few { rows: (shape.m as u32).next_power_of_two() };
        // A core holds several of these workgroups, and the weights' stream wants them all.
        return checked(facts, shape, Choice { tile, slices: shape.slices(tile, 4 * cores, SLICE_K) });
    }
    let ladder = matrix_ladder(facts, trial, shape).unwrap_or_else(|| tiled_ladder(facts, shape));
    // Small tiles for small sides, and where large ones would leave cores idle.
    let start = match shape.m.min(shape.n) {
        0..=32 => 2,
        33..=64 => 1,
        _ => 0,
    };
    let start = start.min(ladder.len() - 1);
    let tile = ladder[start..].iter().copied().find(|&tile| shape.tiles(tile) >= cores);
    let tile = tile.unwrap_or(ladder[ladder.len() - 1]);
    checked(facts, shape, Choice { tile, slices: shape.slices(tile, cores, SPLIT_K) })
}

/// The choice, uncut where its parts would not fit.
fn checked(facts: &Facts, shape: &Shape, choice: Choice) -> Choice {
    if shape.fits(facts, choice) { choice } else { Choice { slices: 1, ..choice } }
}

/// Tiles from the largest to the smallest.
fn tiled_ladder(facts: &Facts, shape: &Shape) -> Vec<Tile> {
    let sizes: &[u32] = if shape.panel == 32 { &[128, 32] } else { &[128, 64, 32] };
    let tile = |&rows: &u32| {
        let columns = if shape.panel == 32 { 32 } else { rows.max(64) };
        TILED.iter().copied().map(Tile::Tiled).find(|&tile| {
            matches!(tile, Tile::Tiled(Tiled { half: false, columns: c, .. }) if c == columns)
                && tile.rows() == rows
                && shape.fits(facts, Choice { tile, slices: 1 })
        })
    };
    sizes.iter().filter_map(tile).collect()
}

/// The same on matrix units, where they can run this shape and were found right.
fn matrix_ladder(facts: &Facts, trial: Option<&Trial>, shape: &Shape) -> Option<Vec<Tile>> {
    let trial = trial?;
    let fits = |wanted: Load| {
        let of = move |tile: &&Matrix| tile.load == wanted;
        let tiles = MATRIX.iter().filter(of).map(|&tile| Tile::Matrix(tile));
        let mut ladder: Vec<Tile> =
            tiles.filter(|&tile| shape.fits(facts, Choice { tile, slices: 1 })).collect();
        ladder.dedup_by_key(|tile| tile.rows());
        (!ladder.is_empty()).then_some(ladder)
    };
    let staged = if trial.staged { fits(Load::Staged) } else { None };
    staged.or_else(|| if trial.direct { fits(Load::Direct) } else { None })
}

/// What a tuner tries for a shape, 8 at most, the rule's choice first.
pub(super) fn candidates(facts: &Facts, trial: Option<&Trial>, shape: &Shape) -> Vec<Choice> {
    let rule = by_rule(facts, trial, shape);
    let mut found = vec![rule];
    let mut add = |choice: Choice| {
        if found.len() < 8 && !found.contains(&choice) && shape.fits(facts, choice) {
            found.push(choice);
        }
    };
    if facts.family == Family::Subgroup {
        return found;
    }
    if let Tile::Few { .. } = rule.tile {
        for slices in [1, 2, 4, 8] {
            add(Choice { slices, ..rule });
        }
    }
    let matrix = MATRIX.iter().map(|&tile| Tile::Matrix(tile)).filter(|tile| {
        let Tile::Matrix(tile) = tile else { return false };
        trial.is_some_and(|trial| match tile.load {
            Load::Staged => trial.staged,
            Load::PanelsDirect => trial.staged && trial.direct,
            Load::Direct => trial.direct,
        })
    });
    let tiled = TILED.iter().map(|&tile| Tile::Tiled(tile));
    let tiles: Vec<_> = if shape.half && trial.is_some_and(|trial| trial.staged || trial.direct) {
        matrix.collect()
    } else {
        tiled.collect()
    };
    for &tile in &tiles {
        add(Choice { tile, slices: 1 });
    }
    for slices in [2, 4, 8] {
        if shape.k >= SLICE_K * slices as usize {
            add(Choice { slices, ..rule });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Class, Gpu};

    fn card(matrix: bool) -> Facts {
        let mut facts = Gpu::plan().facts().clone();
        (facts.class, facts.cores) = (Class::Discrete, 132);
        facts.features.subgroup_size = Some(32);
        facts.features.matrix_edge = matrix.then_some(16);
        facts.family = if matrix { Family::Matrix } else { Family::Tiled };
        facts.limits.workgroup_bytes = 48 << 10;
        facts.limits.binding_bytes = 2 << 30;
        facts
    }

    fn shape(m: usize, n: usize, k: usize, half: bool) -> Shape {
        let panel = if n <= 32 { 32 } else { 64 };
        Shape { m, n, k, batch: 1, panel, half, wide: true, sixteens: true, plain: true, gated: false }
    }

    fn trial(staged: bool, direct: bool) -> Trial {
        Trial { staged, direct, note: String::new() }
    }

    #[test]
    fn the_rule_in_words() {
        let name = |facts: &Facts, trial: Option<&Trial>, m, n, k, half| {
            choose(facts, trial, None, &shape(m, n, k, half)).to_string()
        };
        let plain = card(false);
        assert_eq!(name(&plain, None, 4096, 4096, 4096, false), "tiled 128x128x16 8x8, slices 1");
        assert_eq!(name(&plain, None, 1024, 640, 640, false), "tiled 64x64x16 8x4, slices 1");
        assert_eq!(name(&plain, None, 3, 1280, 320, false), "few 4, slices 1");
        assert_eq!(name(&plain, None, 1, 1280, 1280, false), "few 1, slices 8");
        assert_eq!(name(&plain, None, 20, 1280, 5120, false), "tiled 32x64x16 4x4, slices 6");
        assert_eq!(name(&plain, None, 9216, 4, 2880, false), "tiled 32x32x16 4x4, slices 1");
        let (units, both) = (card(true), trial(true, true));
        assert_eq!(
            name(&units, Some(&both), 4096, 4096, 4096, true),
            "matrix 128x128 64x64 16 staged, slices 1"
        );
        assert_eq!(name(&units, Some(&both), 4096, 4096, 4096, false), "tiled 128x128x16 8x8, slices 1");
        assert_eq!(name(&units, Some(&both), 1024, 640, 640, true), "matrix 64x64 32x32 16 staged, slices 1");
        let (direct, none) = (trial(false, true), trial(false, false));
        assert_eq!(
            name(&units, Some(&direct), 4096, 4096, 4096, true),
            "matrix 64x64 32x32 16 direct, slices 1"
        );
        assert_eq!(name(&units, Some(&direct), 4097, 4096, 4096, true), "tiled 128x128x16 8x8, slices 1");
        assert_eq!(name(&units, Some(&none), 4096, 4096, 4096, true), "tiled 128x128x16 8x8, slices 1");
        let software = Gpu::plan().facts().clone();
        assert_eq!(name(&software, None, 100, 640, 640, false), "subgroup 16, slices 1");
    }

    #[test]
    fn whatever_is_chosen_fits_the_least_of_adapters() {
        let mut least = card(false);
        (least.limits.workgroup_bytes, least.limits.workgroup_invocations) = (16 << 10, 256);
        for m in [1, 8, 9, 33, 65, 5000] {
            for n in [1, 33, 320, 5000] {
                for k in [1, 77, 4096] {
                    for half in [false, true] {
                        let plain = shape(m, n, k, half);
                        for shape in [plain, Shape { panel: 64, gated: true, ..plain }] {
                            let choice = choose(&least, None, None, &shape);
                            assert!(shape.fits(&least, choice), "{shape:?}: {choice}");
                            let tried = candidates(&least, None, &shape);
                            assert!(tried.len() <= 8 && tried[0] == choice);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_table_is_heard_where_its_word_fits() {
        let facts = card(false);
        let shape = shape(1024, 640, 640, false);
        let word = "tiled 128x128x16 8x8, slices 1";
        assert_eq!(choose(&facts, None, Some(word), &shape).to_string(), word);
        let rule = choose(&facts, None, None, &shape);
        assert_eq!(choose(&facts, None, Some("matrix 128x128 64x64 16 staged, slices 1"), &shape), rule);
        assert_eq!(shape.bucket(), "gemm m1024 n1024 k1024 f32");
        let gated = Shape { gated: true, ..shape };
        assert_eq!(gated.bucket(), "gemm m1024 n1024 k1024 f32 gated");
    }
}
