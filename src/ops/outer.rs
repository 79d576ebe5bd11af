//! Sums of outer products over pixels, which the gradient of a weight is:
//!
//! ```text
//! dw[tap, i, j] = sum over p of  a[the pixel that p sees through the tap, i] * b[p, j]
//! ```
//!
//! For adapters whose subgroups are 8 wide. A subgroup owns up to 32 rows i by 64 columns j of one tap, over a slice of
//! the pixels: its lanes load a as 8 pixels side by side, spread it by shuffles, and lie across the columns of b. Neither
//! side is turned, padded or packed before, and windows with steps cost no more than others.

use super::{common, params, shaders};
use crate::error::Result;
use crate::gpu::{Family, Launch, Program, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor};
use std::fmt::Write;

/// Invocations of a workgroup: one subgroup.
const LANES: u32 = 8;
/// Columns that the lanes of a subgroup cover with a vector of 4 each.
const ACROSS: usize = 32;
/// Pixels of a turn.
const STEP: usize = 8;
/// Subgroups that keep an adapter's cores busy.
const ENOUGH: usize = 48;
/// Fewest pixels of a slice: each costs a part to be added.
const LEAST_CHUNK: usize = 128;
/// Most turns of an invocation.
const MOST_TURNS: usize = super::MAX_TURNS;

params! {
    struct Params {
        pixels: u32,
        rows: u32,
        columns: u32,
        tiles_a: u32,
        tiles_b: u32,
        taps: u32,
        chunk: u32,
        count: u32,
        height: u32,
        width: u32,
        out_height: u32,
        out_width: u32,
        kernel_width: u32,
        stride: u32,
        pad: u32,
        dilation: u32,
    }
}

/// One form of the kernel.
#[derive(Clone, Copy, Debug)]
struct Form {
    /// Rows of a tile: 8, 16 or 32.
    rows: usize,
    /// Vectors of columns per lane: 1, or 2, so that a value of a that was spread serves twice.
    vectors: usize,
    /// a and b are read 4 channels at once.
    wide: [bool; 2],
    /// Pixels see others through taps; else each sees itself.
    image: bool,
}

/// How b's pixels see a's.
pub(super) struct Taps {
    /// Height and width of a.
    pub size: [usize; 2],
    /// Height and width of b.
    pub out: [usize; 2],
    /// Rows and columns of taps.
    pub kernel: [usize; 2],
    /// As in [`super::Window`].
    pub stride: [usize; 2],
    /// Zeros above and left.
    pub pad: [usize; 2],
    /// As in [`super::Window`].
    pub dilation: [usize; 2],
}

/// Most channels of the narrower side: with more, what it costs to turn and pack for a matrix product is soon earned.
const NARROW: usize = 128;

/// Whether an adapter is served by this kernel, and these fit it: a `[.., rows]` and b `[.., columns]` of one type.
pub(super) fn serves(a: &Tensor, b: &Tensor, n_taps: usize) -> bool {
    let facts = a.gpu().facts();
    if a.is_empty() || b.is_empty() || a.dtype() != b.dtype() || facts.family != Family::Subgroup {
        return false;
    }
    if a.dim(0).min(b.dim(0)) > NARROW {
        return false;
    }
    let sum = (4 * n_taps * a.dim(0) * b.dim(0)) as u64;
    [a.bytes(), b.bytes(), sum].into_iter().all(|bytes| bytes <= facts.limits.binding_bytes)
}

/// a `[.., rows]`, b `[.., columns]` -> `[taps, rows, columns]` in f32, where [`serves`] says so; without `taps` both
/// have the same pixels.
pub(super) fn product(op: &str, a: &Tensor, b: &Tensor, taps: Option<&Taps>) -> Result<Tensor> {
    let gpu = a.gpu();
    let (rows, columns) = (a.dim(0), b.dim(0));
    let pixels = b.len() / columns;
    let n_taps = taps.map_or(1, |taps| taps.kernel[0] * taps.kernel[1]);
    let form = Form {
        rows: [8, 16].into_iter().find(|&tile| rows <= tile).unwrap_or(32),
        vectors: if columns > ACROSS { 2 } else { 1 },
        wide: [rows, columns].map(|channels| channels.is_multiple_of(4)),
        image: taps.is_some(),
    };
    let (tiles_a, tiles_b) = (rows.div_ceil(form.rows), columns.div_ceil(form.vectors * ACROSS));
    let tiles = n_taps * tiles_a * tiles_b;
    let part = n_taps * rows * columns;
    // As many slices as busy the cores; more only where an invocation would turn too often.
    let least = pixels.div_ceil(STEP * MOST_TURNS);
    let wanted = ENOUGH.div_ceil(tiles).min(pixels.div_ceil(LEAST_CHUNK)).max(least);
    let chunk = pixels.div_ceil(wanted).next_multiple_of(STEP);
    let slices = pixels.div_ceil(chunk);
    let parts = Tensor::empty(gpu, &[slices, part], DType::F32)?;
    let pair = |[y, x]: [usize; 2]| y as u32 | (x as u32) << 16;
    let of = |get: fn(&Taps) -> [usize; 2]| taps.map_or([1, 1], get);
    let params = Params {
        pixels: pixels as u32,
        rows: rows as u32,
        columns: columns as u32,
        tiles_a: tiles_a as u32,
        tiles_b: tiles_b as u32,
        taps: n_taps as u32,
        chunk: chunk as u32,
        count: (tiles * slices) as u32,
        height: of(|taps| taps.size)[0] as u32,
        width: of(|taps| taps.size)[1] as u32,
        out_height: of(|taps| taps.out)[0] as u32,
        out_width: of(|taps| taps.out)[1] as u32,
        kernel_width: of(|taps| taps.kernel)[1] as u32,
        stride: pair(of(|taps| taps.stride)),
        pad: pair(of(|taps| taps.pad)),
        dilation: pair(of(|taps| taps.dilation)),
    };
    let scalar = a.scalar(op)?;
    let generate = || form.text();
    gpu.run(&Launch {
        program: form.program(scalar, &generate),
        params: params.as_bytes(),
        inputs: &[a.binding(), b.binding()],
        outputs: &[parts.binding()],
        groups: gpu.grid(op, (tiles * slices) as u64)?,
        work: Work { flops: 2 * (part * pixels) as u64, bytes: a.bytes() + b.bytes() + (4 * part) as u64 },
    })?;
    let sum = if slices == 1 { parts } else { parts.sum(&[0])? };
    sum.reshape(&[n_taps, rows, columns])
}

impl Form {
    fn program(self, scalar: Scalar, generate: &dyn Fn() -> String) -> Program<'_> {
        let variant = Variant { scalar, width: 1, workgroup: LANES };
        let wide = self.wide.map(u64::from);
        let form = self.rows as u64
            | (self.vectors as u64) << 12
            | wide[0] << 8
            | wide[1] << 9
            | u64::from(self.image) << 10;
        Program::generated("outer", "product", variant, form, generate)
    }

    fn text(self) -> String {
        let mut w = [common::INDEX, shaders!("outer")].join("\n");
        for (name, channels, binding, wide) in
            [("a", "rows", 1, self.wide[0]), ("b", "columns", 2, self.wide[1])]
        {
            // Past the last channel the last is read again; what comes of it is not written.
            let read = match wide {
                true => format!(
                    "@group(0) @binding({binding}) var<storage, read> {name}: array<vec4<scalar>>;\n\
                     fn read_{name}(pixel: u32, first: u32) -> vec4<f32> {{\n\
                     \x20   return vec4<f32>({name}[(pixel * params.{channels} + min(first, params.{channels} - 4u)) / 4u]);\n\
                     }}"
                ),
                false => {
                    let one =
                        |k: u32| format!("f32({name}[base + min(first + {k}u, params.{channels} - 1u)])");
                    format!(
                        "@group(0) @binding({binding}) var<storage, read> {name}: array<scalar>;\n\
                         fn read_{name}(pixel: u32, first: u32) -> vec4<f32> {{\n\
                         \x20   let base = pixel * params.{channels};\n\
                         \x20   return vec4<f32>({}, {}, {}, {});\n\
                         }}",
                        one(0),
                        one(1),
                        one(2),
                        one(3)
                    )
                }
            };
            let _ = writeln!(w, "{read}");
        }
        let mut line = |text: String| {
            let _ = writeln!(w, "{text}");
        };
        line(format!(
            "@compute @workgroup_size(WG)\n\
             fn product(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
             \x20   @builtin(subgroup_invocation_id) lane: u32) {{\n\
             \x20   let index = group_index(group, groups);\n\
             \x20   if (index >= params.count) {{ return; }}\n\
             \x20   let tap = index % params.taps;\n\
             \x20   var rest = index / params.taps;\n\
             \x20   let first_a = rest % params.tiles_a * {}u;\n\
             \x20   rest /= params.tiles_a;\n\
             \x20   let column = rest % params.tiles_b * {}u + 4u * lane;\n\
             \x20   let slice = rest / params.tiles_b;\n\
             \x20   let end = min((slice + 1u) * params.chunk, params.pixels);",
            self.rows,
            self.vectors * ACROSS
        ));
        for (row, v) in self.sums() {
            line(format!("    var c{row}_{v} = vec4<f32>();"));
        }
        line(format!("    for (var p = slice * params.chunk; p < end; p += {STEP}u) {{"));
        line(match self.image {
            true => "        let own = seen(min(p + lane, end - 1u), tap);\n\
                     \x20       let counts = own.inside && p + lane < end;\n\
                     \x20       let pixel = own.pixel;"
                .to_string(),
            false => "        let counts = p + lane < end;\n        let pixel = min(p + lane, end - 1u);"
                .to_string(),
        });
        for v in 0..self.rows / 4 {
            line(format!(
                "        let a{v} = select(vec4<f32>(), read_a(pixel, first_a + {}u), counts);",
                4 * v
            ));
        }
        for k in 0..STEP {
            for v in 0..self.vectors {
                let from = v * ACROSS;
                line(format!("        let b{k}_{v} = read_b(min(p + {k}u, end - 1u), column + {from}u);"));
            }
        }
        for row in 0..self.rows {
            let axis = ["x", "y", "z", "w"][row % 4];
            for k in 0..STEP {
                line(format!("        let s{row}_{k} = subgroupShuffle(a{}.{axis}, {k}u);", row / 4));
            }
            for v in 0..self.vectors {
                let terms: Vec<_> = (0..STEP).map(|k| format!("s{row}_{k} * b{k}_{v}")).collect();
                line(format!("        c{row}_{v} = c{row}_{v} + {};", terms.join(" + ")));
            }
        }
        line(
            "    }\n\
             \x20   let part = (slice * params.taps + tap) * params.rows;"
                .to_string(),
        );
        for (row, v) in self.sums() {
            line(format!(
                "    if (first_a + {row}u < params.rows) {{\n\
                 \x20       let first = column + {}u;\n\
                 \x20       let at = (part + first_a + {row}u) * params.columns + first;",
                v * ACROSS
            ));
            for (k, axis) in ["x", "y", "z", "w"].into_iter().enumerate() {
                line(format!(
                    "        if (first + {k}u < params.columns) {{ parts[at + {k}u] = c{row}_{v}.{axis}; }}"
                ));
            }
            line("    }".to_string());
        }
        line("}".to_string());
        w
    }

    /// Row and vector of each sum.
    fn sums(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.rows).flat_map(move |row| (0..self.vectors).map(move |v| (row, v)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gpu, random_from, validate};

    #[test]
    fn sums_of_outer_products_match() {
        let Some(gpu) = gpu() else { return };
        for (pixels, rows, columns) in
            [(1, 1, 1), (7, 3, 5), (130, 9, 33), (1001, 64, 36), (9000, 16, 4), (300, 34, 70)]
        {
            // Values that halves hold exactly.
            let values = |seed, n| -> Vec<f32> {
                random_from(seed, n, 1.0).into_iter().map(|v| half::f16::from_f32(v).to_f32()).collect()
            };
            let (a, b) = (values(1, pixels * rows), values(2, pixels * columns));
            let mut want = vec![0.0; rows * columns];
            for p in 0..pixels {
                for (at, want) in want.iter_mut().enumerate() {
                    *want += f64::from(a[p * rows + at / columns]) * f64::from(b[p * columns + at % columns]);
                }
            }
            let a = Tensor::new(&gpu, &[pixels, rows], &a).unwrap();
            let b = Tensor::new(&gpu, &[pixels, columns], &b).unwrap();
            if !serves(&a, &b, 1) {
                return;
            }
            for dtype in [DType::F32, DType::F16] {
                if dtype == DType::F16 && !gpu.facts().features.f16 {
                    continue;
                }
                let [a, b] = [&a, &b].map(|tensor| tensor.cast(dtype).unwrap());
                let c = product("outer", &a, &b, None).unwrap();
                assert_eq!(c.shape(), [1, rows, columns]);
                let what = format!("{pixels} {rows} {columns} {dtype:?}");
                assert_close(&c.to_vec().unwrap(), &want, 1e-4, &what);
            }
        }
    }

    #[test]
    fn shader_twin() {
        for (rows, vectors, image) in [(8, 1, false), (16, 1, true), (32, 2, true)] {
            for wide in [[true, true], [false, true], [true, false], [false, false]] {
                let form = Form { rows, vectors, wide, image };
                let generate = || form.text();
                for scalar in [Scalar::F32, Scalar::F16] {
                    let text = form.program(scalar, &generate).text(true);
                    validate(&format!("{form:?} {scalar:?}"), &text, Params::FIELDS);
                }
            }
        }
    }
}
