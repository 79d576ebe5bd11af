//! Matrix units are tried before they are trusted: small integers, whose products are exact, must come out right by
//! direct loads, through workgroup memory, and with a bias; then they have to be faster than the tiles without them.

use super::choice::Choice;
use super::tile::{Load, MATRIX, Matrix, Tile};
use super::{Epilogue, Product, choice};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Trial};
use crate::ops::pack::{Packed, SourceType};
use crate::tensor::{DType, Tensor};
use std::time::{Duration, Instant};

/// Rows, columns and depth of the products that must be right, a whole one of the largest tiles, and of those that are
/// timed.
const EXACT: usize = 128;
const TIMED: usize = 1024;
/// Products timed together, about a millisecond of a card's work; the better of two tries counts.
const TURNS: usize = 8;

/// What a plan counts on where its device has not tried yet.
static ASSUMED: Trial = Trial { staged: true, direct: true, note: String::new() };

/// What became of the matrix units, tried when first asked for. `None` where the adapter has none we can use.
pub(super) fn of(gpu: &Gpu) -> Option<&Trial> {
    let edge = gpu.facts().features.matrix_edge?;
    if gpu.facts().family != crate::gpu::Family::Matrix {
        return None;
    }
    if gpu.is_plan() {
        return Some(gpu.matrix_tried().unwrap_or(&ASSUMED));
    }
    gpu.matrix_trial(|| tried(gpu, edge))
}

fn tried(gpu: &Gpu, edge: u32) -> Trial {
    let mut notes = Vec::new();
    let mut verdict = |load: Load, name: &str| {
        // Fragments read from panels need what direct loads need.
        let of = |tile: &&Matrix| match load {
            Load::Staged => tile.load == Load::Staged,
            _ => tile.load != Load::Staged,
        };
        let mut tiles = MATRIX.iter().filter(of).filter(|tile| tile.edge == edge);
        let found =
            tiles.try_for_each(|&tile| exact(gpu, Tile::Matrix(tile))).and_then(|()| faster(gpu, edge, load));
        let is_good = found.is_ok();
        notes.push(match found {
            Ok(times) => format!("{name} {times:.1} times as fast as without"),
            Err(error) => format!("{name} not used: {error}"),
        });
        is_good
    };
    let direct = verdict(Load::Direct, "direct loads");
    let staged = verdict(Load::Staged, "workgroup memory");
    Trial { staged, direct, note: notes.join("; ") }
}

/// The tile of a trial.
fn tile(edge: u32, load: Load) -> Result<Tile> {
    let found =
        MATRIX.iter().find(|&&Matrix { rows, edge: e, load: l, .. }| (rows, e, l) == (64, edge, load));
    found.map(|&tile| Tile::Matrix(tile)).ok_or_else(|| Error::Device("there is no such kernel".into()))
}

/// Operands of a square product: whole numbers in -2..=2, so that every sum is exact in f16.
struct Operands {
    size: usize,
    a: Tensor,
    b: Packed,
    c: Tensor,
}

impl Operands {
    fn new(gpu: &Gpu, size: usize) -> Result<Operands> {
        let b: Vec<f32> = (0..size * size).map(|at| number(at, 3)).collect();
        let b = Packed::from_bytes(gpu, [size, size, 1], SourceType::F32, bytemuck::cast_slice(&b), true)?;
        let a: Vec<f32> = (0..size * size).map(|at| number(at, 7)).collect();
        let a = Tensor::new(gpu, &[size, size], &a)?.cast(DType::F16)?;
        Ok(Operands { size, a, b, c: Tensor::empty(gpu, &[size, size], DType::F16)? })
    }

    fn product<'a>(&'a self, bias: Option<&'a Tensor>) -> Product<'a> {
        Product {
            op: "matrix units",
            a: &self.a,
            a_stride: self.size,
            a_offset: 0,
            b: &self.b,
            c: &self.c,
            c_stride: self.size,
            c_offset: 0,
            m: self.size,
            batch: 1,
            image: None,
            epilogue: Epilogue { bias, ..Epilogue::default() },
        }
    }
}

fn number(at: usize, step: usize) -> f32 {
    (at * step % 11 * (at / 64 % 3 + 1) % 5) as f32 - 2.0
}

/// Errors: [`Error::Device`] with the first value that is wrong. A tile too large for the adapter is never chosen.
fn exact(gpu: &Gpu, tile: Tile) -> Result<()> {
    if tile.workgroup_bytes() > gpu.facts().limits.workgroup_bytes {
        return Ok(());
    }
    let operands = Operands::new(gpu, EXACT)?;
    let biases: Vec<f32> = (0..EXACT).map(|at| at as f32 - 31.0).collect();
    let bias = Tensor::new(gpu, &[EXACT], &biases)?;
    for bias in [None, Some(&bias)] {
        operands.product(bias).run_as(Choice { tile, slices: 1 })?;
        let got = operands.c.cast(DType::F32)?.to_vec()?;
        for (at, &got) in got.iter().enumerate() {
            let (row, column) = (at / EXACT, at % EXACT);
            let terms = (0..EXACT).map(|k| number(row * EXACT + k, 7) * number(column * EXACT + k, 3));
            let want = terms.sum::<f32>() + bias.map_or(0.0, |_| biases[column]);
            if got != want {
                let detail = format!("{tile} is wrong at [{row}, {column}]: wanted {want}, got {got}");
                return Err(Error::Device(detail));
            }
        }
    }
    Ok(())
}

/// How many times as fast as tiles in workgroup memory. Errors: [`Error::Device`] where it is not.
fn faster(gpu: &Gpu, edge: u32, load: Load) -> Result<f64> {
    let operands = Operands::new(gpu, TIMED)?;
    let product = operands.product(None);
    let plain = choice::choose(gpu.facts(), None, None, &product.shape());
    let units = time(gpu, &product, Choice { tile: tile(edge, load)?, slices: 1 })?;
    let times = time(gpu, &product, plain)?.as_secs_f64() / units.as_secs_f64().max(1e-9);
    if times > 1.0 {
        return Ok(times);
    }
    Err(Error::Device(format!("{times:.2} times as fast as without")))
}

/// Time of some turns of a product, the best of two after a warm-up.
fn time(gpu: &Gpu, product: &Product, choice: Choice) -> Result<Duration> {
    let mut best = Duration::MAX;
    for round in 0..3 {
        let start = Instant::now();
        for _ in 0..TURNS {
            product.run_as(choice)?;
        }
        gpu.wait()?;
        if round > 0 {
            best = best.min(start.elapsed());
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::super::tile::TILED;
    use super::*;
    use crate::gpu::{Family, Options};

    /// The tiles that need nothing pass the trial: what it wants is right.
    #[test]
    fn the_trial_asks_for_what_is_right() {
        let options = Options { family: Some(Family::Tiled), ..Options::default() };
        let Some(gpu) = crate::testing::gpu_with(options) else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        let half = TILED.iter().find(|tile| tile.half && tile.rows == 64).expect("there is one");
        exact(&gpu, Tile::Tiled(*half)).unwrap();
        assert!(of(&gpu).is_none(), "no units are tried where none are asked for");
    }
}
