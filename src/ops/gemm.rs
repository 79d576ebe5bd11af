//! The matrix product behind linear layers, convolutions and `matmul`: one description, several ways to run it.
//!
//! ```text
//! C[m, n] = activation(A[m, k] * B[k, n] + bias) + residual
//! ```
//! or, where B is gated, values times the gelu of their gates in C[m, n / 2] (see `linear_geglu.rs`).
//! B lies in panels (see `pack.rs`); A is a matrix or an image's windows, read where it lies. Three families:
//!
//! * `tiled`: up to 128 rows by two panels per workgroup, both operands staged in workgroup memory, up to 8 x 8 results
//!   per invocation; up to 8 rows share k among their invocations (`few`). Needs no optional feature.
//! * `matrix`: the same on matrix units, f16 to f32.
//! * `subgroup`: one subgroup of 8 owns up to 32 rows by one panel in registers; lanes lie across columns, A is
//!   spread by shuffles with constant lanes. No workgroup memory: what a software adapter runs best.
//!
//! `choice` says which of them runs a shape. Where tiles are fewer than cores and sums long, k is cut into slices, whose
//! parts a second kernel adds in a fixed order. The unrolled products are generated in `gemm/`; everything else is in
//! `shaders/gemm*.wgsl`.

mod choice;
mod few;
mod form;
mod matrix;
mod place;
mod subgroup;
mod tile;
mod tiled;
mod trial;
mod tune;

pub(super) use form::ReadB;
pub use tune::tune;

use super::pack::{Packed, Segment};
use super::params;
use super::unary::Activation;
use crate::error::{Error, Result};
use crate::gpu::{Binding, Class, Gpu, Launch, Program, Texel, Texture, Variant, Work};
use crate::tensor::{DType, Tensor};
use choice::{Choice, Shape};
use form::{Bias, Form, ReadA, Reader};
use tile::Tile;

params! {
    struct Params {
        m: u32,
        n: u32,
        taps: u32,
        units: u32,
        channels: u32,
        tiles_m: u32,
        tiles_n: u32,
        panel_first: u32,
        a_base: u32,
        a_stride: u32,
        c_base: u32,
        c_stride: u32,
        a_batch: u32,
        b_batch: u32,
        c_batch: u32,
        row_first: u32,
        bias_rows: u32,
        height: u32,
        width: u32,
        out_height: u32,
        out_width: u32,
        kernel_width: u32,
        stride: u32,
        pad: u32,
        y_first: u32,
        origin: u32,
        dilation: u32,
        count: u32,
        steps: u32,
        stack: u32,
    }
}

/// What becomes of a product before it is written. `Epilogue::default()` writes it as it is.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `[n]`, or `[groups, n]` where consecutive rows share one of `groups` biases; f32.
    pub bias: Option<&'a Tensor>,
    /// Applied after the bias.
    pub activation: Activation,
    /// Added last; the shape of the output.
    pub residual: Option<&'a Tensor>,
}

impl Epilogue<'_> {
    /// Whether a gradient is wanted of anything that goes into the product.
    pub(super) fn learns(&self, x: &Tensor, weight: &Packed) -> bool {
        let wants = |tensor: Option<&Tensor>| tensor.is_some_and(Tensor::wants_gradient);
        wants(Some(x)) || weight.parameter.is_some() || wants(self.bias) || wants(self.residual)
    }

    /// The product done in steps, where gradients are wanted and need the values between them: `product` runs it with
    /// what bias there is, activation and residual follow as ops of their own. `None` where one step will do.
    pub(super) fn apart(
        &self,
        x: &Tensor,
        weight: &Packed,
        product: impl FnOnce(Epilogue) -> Result<Tensor>,
    ) -> Option<Result<Tensor>> {
        let plain = self.activation == Activation::None && self.residual.is_none();
        if plain || !self.learns(x, weight) {
            return None;
        }
        let finish = || {
            let y = product(Epilogue { bias: self.bias, ..Epilogue::default() })?;
            let y = if self.activation == Activation::None { y } else { y.activate(self.activation)? };
            self.residual.map_or(Ok(y.clone()), |residual| y.add(residual))
        };
        Some(finish())
    }
}

/// Gradient of a bias `[n]` or `[groups, n]` from that of the rows `[rows, n]` it was added to.
pub(super) fn bias_gradient(dy: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let (rows, n) = (dy.dim(1), dy.dim(0));
    let groups = shape.iter().product::<usize>() / n.max(1);
    let db = dy.reshape(&[groups, rows / groups.max(1), n])?.sum(&[1])?;
    db.cast(DType::F32)?.reshape(shape)
}

/// Times each value of A is read before a texture of it pays, and the fewest texels worth a copy.
const TEXEL_READS: usize = 4;
const TEXEL_COUNT: u64 = 1 << 14;
/// Loop turns of one invocation that a software adapter counts right; see ARCHITECTURE.md.
const MAX_TURNS: usize = 60_000;

/// Bytes of B that a software adapter's last cache, and the one of a core, hold beside everything else.
const SHARED_CACHE: u64 = 8 << 20;
const OWN_CACHE: u64 = 512 << 10;

/// Mark of the kernels: measured choices of others are not used. Raised when a tile, a generated text or a rule changes.
const KERNELS: &str = "1";

/// The images a convolution reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    pub height: usize,
    pub width: usize,
    pub out_height: usize,
    pub out_width: usize,
    pub kernel_width: usize,
    pub stride: [usize; 2],
    pub pad: [usize; 2],
    pub dilation: [usize; 2],
}

/// A product to run: A where it lies, B in panels, C to be written.
pub(super) struct Product<'a> {
    /// Names the op in errors.
    pub op: &'static str,
    pub a: &'a Tensor,
    /// Elements from one row (or pixel) of A to the next, and where the first channel lies in it.
    pub a_stride: usize,
    pub a_offset: usize,
    pub b: &'a Packed,
    /// [.., m, c_stride]. Columns of B beyond a row of C go on in the next matrix of it: where B is several weights
    /// side by side, each has a C of its own.
    pub c: &'a Tensor,
    pub c_stride: usize,
    pub c_offset: usize,
    /// Rows of C per matrix.
    pub m: usize,
    /// Matrices; elements from one to the next are `m * stride`.
    pub batch: usize,
    pub image: Option<Image>,
    pub epilogue: Epilogue<'a>,
}

/// A part of a product whose operands fit a binding each.
struct Part {
    rows: usize,
    row_first: usize,
    a_elements: std::ops::Range<usize>,
    /// Place of the first row (or input pixel row `origin`) in the bound range comes from these.
    origin: usize,
    y_first: usize,
    out_height: usize,
}

impl Product<'_> {
    /// Records the launches.
    ///
    /// Errors: [`Error::Limit`] where even one row of output pixels is too large.
    pub(super) fn run(&self) -> Result<()> {
        self.run_as(self.choose())
    }

    /// Records the launches of this choice.
    fn run_as(&self, choice: Choice) -> Result<()> {
        let gpu = self.a.gpu();
        if self.m * self.batch == 0 || self.b.n == 0 {
            return Ok(());
        }
        let blocks = self.b.units().div_ceil(choice.tile.units(self.b.panel as u32) as usize);
        let turns = self.b.taps * (blocks * choice.tile.turns() as usize + 1) / choice.slices as usize;
        if gpu.facts().class == Class::Software && turns > MAX_TURNS {
            return Err(Error::Limit {
                what: format!("{}: the sum of one result, in steps", self.op),
                needed: turns as u64,
                available_what: "the longest loop this adapter counts right".into(),
                available: MAX_TURNS as u64,
            });
        }
        let texels = self.texels(gpu, choice)?;
        for part in self.parts(gpu, texels.is_some())? {
            for segment in self.b.segments.iter() {
                self.launch(gpu, choice, &part, segment, texels.as_ref())?;
            }
        }
        Ok(())
    }

    /// A copied into a texture, where reading it there saves more than the copy costs: each value is read once per
    /// tap and panel.
    fn texels(&self, gpu: &Gpu, choice: Choice) -> Result<Option<Texture>> {
        let texels = self.a.len().div_ceil(4) as u64;
        let pays = gpu.facts().features.cheap_texels
            && matches!(choice.tile, Tile::Subgroup { .. })
            && self.a.dtype() == DType::F32
            && self.is_wide_a()
            && self.b.taps * self.b.n.div_ceil(self.b.panel) >= TEXEL_READS
            && texels >= TEXEL_COUNT
            && texels <= gpu.texture_texels();
        if !pays {
            return Ok(None);
        }
        let texture = gpu.alloc_texture(self.op, Texel::Floats, texels)?;
        gpu.copy_to_texture(self.a.buffer(), self.a.first_byte(), &texture, 0, texels);
        Ok(Some(texture))
    }

    /// Whether C is several matrices, each of some columns of B.
    fn is_stacked(&self) -> bool {
        !self.b.gated && self.c_stride < self.b.n
    }

    /// Rows and channels of A begin on multiples of 4.
    fn is_wide_a(&self) -> bool {
        [self.b.channels, self.a_stride, self.a_offset].iter().all(|v| v % 4 == 0)
    }

    /// Cuts the rows where A or C is larger than a binding; a texture of A is not bound in ranges.
    fn parts(&self, gpu: &Gpu, texels: bool) -> Result<Vec<Part>> {
        let limit = whole_bytes(gpu);
        let a_size = if texels { 0 } else { self.a.dtype().bytes() };
        let c_size = self.c.dtype().bytes();
        let whole = Part {
            rows: self.m,
            row_first: 0,
            a_elements: 0..self.a.len(),
            origin: 0,
            y_first: 0,
            out_height: self.image.map_or(0, |image| image.out_height),
        };
        if (self.a.len() * a_size).max(self.c.len() * c_size) as u64 <= limit {
            return Ok(vec![whole]);
        }
        let too_large = |needed: usize| Error::Limit {
            what: format!("{}: one row", self.op),
            needed: needed as u64,
            available_what: "the largest storage binding of this adapter".into(),
            available: limit,
        };
        let Some(image) = self.image else {
            let row = (self.a_stride * a_size).max(self.c_stride * c_size);
            let most = limit as usize / row;
            if most == 0 || self.batch > 1 {
                return Err(too_large(row * self.m * self.batch));
            }
            let most = if most >= 64 { most / 64 * 64 } else { most };
            return Ok((0..self.m)
                .step_by(most)
                .map(|start| {
                    let end = self.m.min(start + most);
                    let a_elements = start * self.a_stride..end * self.a_stride;
                    Part { rows: end - start, row_first: start, a_elements, ..whole }
                })
                .collect());
        };
        let image_in = image.height * image.width * self.a_stride;
        let pixels = image.out_height * image.out_width;
        let images = self.m / pixels;
        let fits = |count: usize| {
            (count * image_in * a_size).max(count * pixels * self.c_stride * c_size) as u64 <= limit
        };
        if fits(1) {
            let most = (1..=images).take_while(|&count| fits(count)).last().unwrap_or(1);
            return Ok((0..images)
                .step_by(most)
                .map(|start| {
                    let end = images.min(start + most);
                    Part {
                        rows: (end - start) * pixels,
                        row_first: start * pixels,
                        a_elements: start * image_in..end * image_in,
                        ..whole
                    }
                })
                .collect());
        }
        // One image is too large: bands of output rows, each with the input rows its windows touch.
        let kernel_height = self.b.taps / image.kernel_width;
        let band = |y: usize, count: usize| {
            let top = (y * image.stride[0]).saturating_sub(image.pad[0]);
            let reach = (y + count - 1) * image.stride[0] + (kernel_height - 1) * image.dilation[0] + 1;
            let end = reach.saturating_sub(image.pad[0]);
            top.min(image.height - 1)..end.clamp(1, image.height)
        };
        let band_fits = |count: usize| {
            let reach = (count - 1) * image.stride[0] + (kernel_height - 1) * image.dilation[0] + 1;
            let bytes_in = reach.min(image.height) * image.width * self.a_stride * a_size;
            bytes_in.max(count * image.out_width * self.c_stride * c_size) as u64 <= limit
        };
        let most = (1..=image.out_height)
            .take_while(|&count| band_fits(count))
            .last()
            .ok_or_else(|| too_large(image.width * self.a_stride * a_size * kernel_height))?;
        let mut parts = Vec::new();
        for index in 0..images {
            for y in (0..image.out_height).step_by(most) {
                let count = most.min(image.out_height - y);
                let rows_in = band(y, count);
                let at = |row: usize| index * image_in + row * image.width * self.a_stride;
                parts.push(Part {
                    rows: count * image.out_width,
                    row_first: index * pixels + y * image.out_width,
                    a_elements: at(rows_in.start)..at(rows_in.end.max(rows_in.start + 1)),
                    origin: rows_in.start,
                    y_first: y,
                    out_height: count,
                });
            }
        }
        Ok(parts)
    }

    fn launch(
        &self,
        gpu: &Gpu,
        choice: Choice,
        part: &Part,
        segment: &Segment,
        texels: Option<&Texture>,
    ) -> Result<()> {
        let (a_size, c_size) = (self.a.dtype().bytes(), self.c.dtype().bytes());
        let alignment = gpu.facts().limits.binding_alignment as usize;
        let wide_a = self.is_wide_a();
        let wide_c = [self.b.n, self.c_stride, self.c_offset].iter().all(|v| v % 4 == 0);
        let unit_a = match choice.tile {
            Tile::Matrix(_) if choice.is_direct() => 1,
            _ if wide_a => 4,
            _ => 1,
        };
        let unit_c = if wide_c { 4 } else { 1 };
        // A binding starts on an aligned byte; what is left over is counted by the kernel.
        let bind = |tensor, elements: &std::ops::Range<usize>, size: usize| {
            let start = elements.start * size / alignment * alignment;
            let binding = Tensor::range(tensor, start, elements.end * size - start);
            (binding, elements.start - start / size)
        };
        let (a, a_base) = match texels {
            Some(texture) => (Binding::Texture(texture), part.a_elements.start),
            None => bind(self.a, &part.a_elements, a_size),
        };
        let c_elements = if part.rows == self.m {
            0..self.c.len()
        } else {
            part.row_first * self.c_stride..(part.row_first + part.rows) * self.c_stride
        };
        let (c, c_base) = bind(self.c, &c_elements, c_size);
        let dummy = self.a.range(0, 16);
        let bias = self.epilogue.bias.map_or(dummy, Tensor::binding);
        let residual = self.epilogue.residual.map_or(dummy, |r| bind(r, &c_elements, c_size).0);
        let bias_rows = match self.epilogue.bias {
            Some(bias) => self.m / (bias.len() / self.b.n).max(1),
            None => self.m,
        };
        let panel = self.b.panel as u32;
        let form = Form {
            tile: choice.tile,
            split: choice.splits(),
            reader: if self.image.is_some() { Reader::Image } else { Reader::Rows },
            panel,
            read_a: match texels {
                Some(_) => ReadA::Texel,
                None if wide_a => ReadA::Four,
                None => ReadA::One,
            },
            read_b: self.b.read,
            wide_c,
            activation: self.epilogue.activation,
            bias: match self.epilogue.bias {
                None => Bias::None,
                Some(bias) if bias.len() == self.b.n => Bias::One,
                Some(_) => Bias::Grouped,
            },
            residual: self.epilogue.residual.is_some(),
            stacked: self.is_stacked(),
            gated: self.b.gated,
        };
        let fold = form.fold() as usize;
        let tile = choice.tile;
        let tiles_m = (part.rows as u32).div_ceil(tile.rows());
        let strips = (segment.n_panels as u32).div_ceil(tile.panels(panel));
        let tiles = u64::from(tiles_m) * u64::from(strips) * self.batch as u64;
        let pair = |[y, x]: [usize; 2]| y as u32 | (x as u32) << 16;
        let image = self.image.unwrap_or(Image {
            height: 1,
            width: 1,
            out_height: 1,
            out_width: 1,
            kernel_width: 1,
            stride: [1, 1],
            pad: [0, 0],
            dilation: [1, 1],
        });
        let params = Params {
            m: part.rows as u32,
            n: (self.b.n / fold) as u32,
            taps: self.b.taps as u32,
            units: self.b.units() as u32,
            channels: self.b.channels as u32,
            tiles_m,
            tiles_n: segment.n_panels as u32,
            panel_first: (segment.panel_first * self.b.panel / 4 / fold) as u32,
            a_base: ((a_base + self.a_offset) / unit_a) as u32,
            a_stride: (self.a_stride / unit_a) as u32,
            c_base: ((c_base + self.c_offset) / unit_c) as u32,
            c_stride: (self.c_stride / unit_c) as u32,
            a_batch: (self.m * self.a_stride / unit_a) as u32,
            b_batch: (segment.n_panels * self.b.panel_vectors()) as u32,
            c_batch: (self.m * self.c_stride / unit_c) as u32,
            row_first: part.row_first as u32,
            bias_rows: bias_rows as u32,
            height: image.height as u32,
            width: image.width as u32,
            out_height: part.out_height.max(1) as u32,
            out_width: image.out_width as u32,
            kernel_width: image.kernel_width as u32,
            stride: pair(image.stride),
            pad: pair(image.pad),
            y_first: part.y_first as u32,
            origin: part.origin as u32,
            dilation: pair(image.dilation),
            count: tiles as u32,
            steps: 0,
            stack: self.stack(tile, segment).min(tiles_m),
        };
        let columns = (segment.n_panels * self.b.panel).min(self.b.n) as u64;
        let (m, k) = ((part.rows * self.batch) as u64, (self.b.taps * self.b.channels) as u64);
        let written = m * columns / fold as u64 * c_size as u64;
        let work = Work {
            flops: 2 * m * k * columns,
            bytes: (part.a_elements.len() * a_size) as u64 + segment.bytes() + written,
        };
        let variant = Variant { scalar: self.a.scalar(self.op)?, width: 4, workgroup: tile.workgroup() };
        let text = || form.text();
        let program = Program::generated("gemm", "forward", variant, form.key(), &text);
        if !choice.splits() {
            return gpu.run(&Launch {
                program,
                params: params.as_bytes(),
                inputs: &[segment.binding(), a, bias, residual],
                outputs: &[c],
                groups: gpu.grid(self.op, tiles)?,
                work,
            });
        }
        // Parts of the sums, in whole tiles where fragments go there as they are.
        let blocks = self.b.units().div_ceil(tile.units(panel) as usize);
        let steps = (self.b.taps * blocks).div_ceil(choice.slices as usize);
        let slices = (self.b.taps * blocks).div_ceil(steps);
        let vectors = (columns as usize).min(self.b.n - segment.panel_first * self.b.panel).div_ceil(4);
        let (rows, width) = if choice.is_direct() {
            ((tiles_m * tile.rows()) as usize, (strips * tile.panels(panel) * panel) as usize)
        } else {
            (part.rows, 4 * vectors)
        };
        let parts = Tensor::empty(gpu, &[slices, rows, width], DType::F32)?;
        let unit = if choice.is_direct() { 1 } else { 4 };
        let groups = tiles * slices as u64;
        let split = Params {
            n: width as u32,
            panel_first: 0,
            c_base: 0,
            c_stride: (width / unit) as u32,
            c_batch: (rows * width / unit) as u32,
            count: groups as u32,
            steps: steps as u32,
            ..params
        };
        gpu.run(&Launch {
            program,
            params: split.as_bytes(),
            inputs: &[segment.binding(), a, dummy, dummy],
            outputs: &[parts.binding()],
            groups: gpu.grid(self.op, groups)?,
            work: Work { bytes: work.bytes + parts.bytes(), ..work },
        })?;
        let vectors = vectors / fold;
        let count = part.rows * vectors;
        let sum = Params {
            a_stride: (width / 4) as u32,
            a_batch: (rows * width / 4) as u32,
            tiles_n: vectors as u32,
            count: count as u32,
            steps: slices as u32,
            ..params
        };
        let variant = Variant { workgroup: gpu.flat_workgroup(), ..variant };
        gpu.run(&Launch {
            program: Program::generated("gemm", "sum", variant, form.finish_key(), &|| form.sum_text()),
            params: sum.as_bytes(),
            inputs: &[parts.binding(), parts.binding(), bias, residual],
            outputs: &[c],
            groups: gpu.grid(self.op, (count as u64).div_ceil(u64::from(variant.workgroup)))?,
            work: Work { flops: 0, bytes: parts.bytes() + written },
        })
    }

    /// Tiles of rows that are taken before the next columns. A card takes a handful. A software adapter's core has all
    /// of B in the cache its neighbours share, and keeps its rows; or holds one panel and goes down the rows; between
    /// these it takes a handful, too.
    fn stack(&self, tile: Tile, segment: &Segment) -> u32 {
        let matrix = segment.bytes() / self.batch as u64;
        match tile {
            Tile::Subgroup { .. } if matrix <= SHARED_CACHE => 1,
            Tile::Subgroup { .. } if matrix / segment.n_panels as u64 > OWN_CACHE => u32::MAX,
            _ => 8,
        }
    }

    /// What runs this product on its adapter.
    fn choose(&self) -> Choice {
        let gpu = self.a.gpu();
        let shape = self.shape();
        let table = gpu.tuning().filter(|table| table.kernels == KERNELS);
        let measured = table.as_ref().and_then(|table| table.choices.get(&shape.bucket()));
        let trial = if shape.half && shape.wide { trial::of(gpu) } else { None };
        choice::choose(gpu.facts(), trial, measured.map(String::as_str), &shape)
    }

    /// What a choice is made from.
    fn shape(&self) -> Shape {
        let half = self.a.dtype() == DType::F16 && self.b.read == ReadB::Buffer16;
        let every = |of: usize| [self.b.channels, self.a_stride, self.a_offset].iter().all(|v| v % of == 0);
        Shape {
            m: self.m,
            n: self.b.n,
            k: self.b.k(),
            batch: self.batch,
            panel: self.b.panel as u32,
            half,
            wide: self.is_wide_a(),
            sixteens: every(16),
            plain: self.image.is_none() && self.batch == 1,
            gated: self.b.gated,
        }
    }
}

/// Bytes of A or C up to which a product is not cut into rows: a binding, with room for aligning its start.
pub(super) fn whole_bytes(gpu: &Gpu) -> u64 {
    gpu.facts().limits.binding_bytes - 512
}

/// Tries the matrix units where there are any: weights for them are at hand, products of them may soon be captured.
pub(super) fn prepare(gpu: &Gpu) {
    trial::of(gpu);
}

/// What became of the adapter's matrix units, in a line; tried now where they were not yet. `None` where there are
/// none that kernels use.
pub fn matrix_units(gpu: &Gpu) -> Option<String> {
    trial::of(gpu).map(|trial| trial.note.clone())
}

/// Checks an epilogue against the product's output; `op` names the caller.
pub(super) fn check_epilogue(op: &str, epilogue: &Epilogue, c_shape: &[usize], dtype: DType) -> Result<()> {
    let n = c_shape.last().copied().unwrap_or(1);
    let rows = c_shape.iter().product::<usize>() / n.max(1);
    if let Some(bias) = epilogue.bias {
        let groups = bias.len() / n.max(1);
        if bias.dtype() != DType::F32 || bias.len() != groups * n || groups == 0 || rows % groups != 0 {
            let got = format!("{:?} {:?}", bias.shape(), bias.dtype());
            return Err(Error::shape(op, format!("wanted an f32 bias [{n}] or [rows, {n}], got {got}")));
        }
    }
    if let Some(residual) = epilogue.residual
        && (residual.shape() != c_shape || residual.dtype() != dtype)
    {
        let got = format!("{:?} {:?}", residual.shape(), residual.dtype());
        return Err(Error::shape(op, format!("wanted a residual {c_shape:?} {dtype:?}, got {got}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::tile::{Load, MATRIX, TILED};
    use super::*;
    use crate::gpu::{Checks, Family, Options};
    use crate::ops::pack::SourceType;
    use crate::testing::{assert_close, gelu, gpu_with, random_from};

    /// A product with everything that can be in the way: an image or a matrix, a bias, an activation, a residual.
    struct Case {
        images: [usize; 4],
        n: usize,
        taps: [usize; 2],
        half: bool,
    }

    impl Case {
        fn sizes(&self) -> (usize, usize) {
            let [images, height, width, channels] = self.images;
            (images * height * width, channels)
        }

        /// The results of a choice, and the reference.
        fn run(&self, gpu: &Gpu, choice: Choice) -> (Vec<f32>, Vec<f64>) {
            let [images, height, width, channels] = self.images;
            let ([ky, kx], n) = (self.taps, self.n);
            let (taps, m) = (ky * kx, images * height * width);
            let round = |mut values: Vec<f32>| {
                if self.half {
                    values.iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32());
                }
                values
            };
            let x = round(random_from(1, m * channels, 1.0));
            let w = round(random_from(2, n * channels * taps, 0.5));
            let (bias, residual) = (random_from(3, n, 1.0), round(random_from(4, m * n, 1.0)));
            let dtype = if self.half { DType::F16 } else { DType::F32 };
            let tensor = |shape: &[usize], values: &[f32]| {
                Tensor::new(gpu, shape, values).unwrap().cast(dtype).unwrap()
            };
            let bytes = bytemuck::cast_slice(&w);
            let b = Packed::from_bytes(gpu, [n, channels, taps], SourceType::F32, bytes, self.half).unwrap();
            let c = Tensor::empty(gpu, &[m, n], dtype).unwrap();
            let image = Image {
                height,
                width,
                out_height: height,
                out_width: width,
                kernel_width: kx,
                stride: [1, 1],
                pad: [ky / 2, kx / 2],
                dilation: [1, 1],
            };
            let bias_gpu = Tensor::new(gpu, &[n], &bias).unwrap();
            let product = Product {
                op: "test",
                a: &tensor(&[m, channels], &x),
                a_stride: channels,
                a_offset: 0,
                b: &b,
                c: &c,
                c_stride: n,
                c_offset: 0,
                m,
                batch: 1,
                image: (taps > 1).then_some(image),
                epilogue: Epilogue {
                    bias: Some(&bias_gpu),
                    activation: Activation::Relu,
                    residual: Some(&tensor(&[m, n], &residual)),
                },
            };
            product.run_as(choice).unwrap();
            let mut want = Vec::new();
            for (row, column) in (0..m).flat_map(|row| (0..n).map(move |column| (row, column))) {
                let mut sum = f64::from(bias[column]);
                let [x_at, y_at, image] = [row % width, row / width % height, row / width / height];
                for tap in 0..taps {
                    let (y, x_) = (y_at + tap / kx, x_at + tap % kx);
                    if y < ky / 2 || x_ < kx / 2 || y >= height + ky / 2 || x_ >= width + kx / 2 {
                        continue;
                    }
                    let pixel = (image * height + y - ky / 2) * width + x_ - kx / 2;
                    for channel in 0..channels {
                        let weight = w[(column * channels + channel) * taps + tap];
                        sum += f64::from(x[pixel * channels + channel]) * f64::from(weight);
                    }
                }
                want.push(sum.max(0.0) + f64::from(residual[row * n + column]));
            }
            (c.cast(DType::F32).unwrap().to_vec().unwrap(), want)
        }
    }

    fn cases(half: bool) -> [Case; 5] {
        [
            Case { images: [1, 1, 1, 132], n: 70, taps: [1, 1], half },
            Case { images: [1, 1, 67, 37], n: 150, taps: [1, 1], half },
            Case { images: [1, 1, 5, 304], n: 24, taps: [1, 1], half },
            Case { images: [2, 9, 11, 20], n: 70, taps: [3, 3], half },
            Case { images: [2, 5, 9, 6], n: 31, taps: [3, 2], half },
        ]
    }

    /// Without the shuffles and textures of a software adapter; `checks` of the kernels.
    fn plain(checks: Checks) -> Option<Gpu> {
        gpu_with(Options { family: Some(Family::Tiled), checks, ..Options::default() })
    }

    #[test]
    fn every_tile_matches_cut_along_k_or_not_checked_or_not() {
        let (Some(checked), Some(bare)) = (plain(Checks::All), plain(Checks::None)) else { return };
        let few = [1, 2, 4, 8].map(|rows| Tile::Few { rows });
        let tiles: Vec<Tile> = few.into_iter().chain(TILED.iter().map(|&tile| Tile::Tiled(tile))).collect();
        for (at, &tile) in tiles.iter().enumerate() {
            let staged_half = matches!(tile, Tile::Tiled(tile) if tile.half);
            // Kernels take long to compile: each tile once whole and once cut, by turns on images and matrices, in
            // f32 and in f16.
            let half = staged_half || at.is_multiple_of(5);
            if half && !checked.facts().features.f16 {
                continue;
            }
            let (cases, mut n_run) = (cases(half), 0);
            for case in cases.iter().cycle().skip(at).take(cases.len()) {
                let (m, k) = case.sizes();
                let shape = Shape {
                    m,
                    n: case.n,
                    k: k * case.taps[0] * case.taps[1],
                    batch: 1,
                    panel: if case.n <= 32 { 32 } else { 64 },
                    half,
                    wide: false,
                    sixteens: false,
                    plain: false,
                    gated: false,
                };
                let choice = Choice { tile, slices: if n_run == 0 { 1 } else { 3 } };
                if n_run == 2 || !shape.fits(checked.facts(), choice) {
                    continue;
                }
                n_run += 1;
                let what = format!("{choice}, [{m}, {k}] -> {}, taps {:?}, half {half}", case.n, case.taps);
                let (got, want) = case.run(&checked, choice);
                assert_close(&got, &want, if half { 2e-3 } else { 1e-5 }, &what);
                let same = case.run(&bare, choice).0;
                assert!(got == same, "{what}: run-time checks change bits");
            }
            assert!(n_run > 0, "{tile} was not run");
        }
    }

    /// Values and their gates through a choice: the results and the reference.
    fn gated(gpu: &Gpu, [m, k, n]: [usize; 3], half: bool, choice: Choice) -> (Vec<f32>, Vec<f64>) {
        let whole = |seed, count| -> Vec<f32> {
            random_from(seed, count, 1.0).into_iter().map(|v| half::f16::from_f32(v).to_f32()).collect()
        };
        let (x, w, bias) = (whole(1, m * k), whole(2, n * k), random_from(3, n, 1.0));
        let dtype = if half { DType::F16 } else { DType::F32 };
        let b = Packed::gated(gpu, [n, k], SourceType::F32, bytemuck::cast_slice(&w), half).unwrap();
        let c = Tensor::empty(gpu, &[m, n / 2], dtype).unwrap();
        let product = Product {
            op: "test",
            a: &Tensor::new(gpu, &[m, k], &x).unwrap().cast(dtype).unwrap(),
            a_stride: k,
            a_offset: 0,
            b: &b,
            c: &c,
            c_stride: n / 2,
            c_offset: 0,
            m,
            batch: 1,
            image: None,
            epilogue: Epilogue { bias: Some(&Tensor::new(gpu, &[n], &bias).unwrap()), ..Epilogue::default() },
        };
        product.run_as(choice).unwrap();
        let sum = |row: usize, column: usize| {
            let products = (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(w[column * k + i]));
            products.sum::<f64>() + f64::from(bias[column])
        };
        let at = (0..m).flat_map(|row| (0..n / 2).map(move |column| (row, column)));
        let want = at.map(|(row, column)| sum(row, column) * gelu(sum(row, n / 2 + column))).collect();
        (c.cast(DType::F32).unwrap().to_vec().unwrap(), want)
    }

    #[test]
    fn gates_meet_their_values_in_every_tile_cut_or_not() {
        let (Some(checked), Some(bare)) = (plain(Checks::All), plain(Checks::None)) else { return };
        let few = [1, 4, 8].map(|rows| Tile::Few { rows });
        let gated_tiles = TILED.iter().filter(|tile| tile.each[1] == 8);
        for tile in few.into_iter().chain(gated_tiles.map(|&tile| Tile::Tiled(tile))) {
            let half = matches!(tile, Tile::Tiled(tile) if tile.half);
            if half && !checked.facts().features.f16 {
                continue;
            }
            for slices in [1, 3] {
                let m = if let Tile::Few { rows } = tile { rows as usize } else { 67 };
                let (sizes, choice) = ([m, 132, 200], Choice { tile, slices });
                let (got, want) = gated(&checked, sizes, half, choice);
                assert_close(&got, &want, if half { 2e-3 } else { 2e-5 }, &choice.to_string());
                let same = gated(&bare, sizes, half, choice).0;
                assert!(got == same, "{choice}: run-time checks change bits");
            }
        }
    }

    #[test]
    fn matrix_units_are_right_where_there_are_any() {
        let Some(gpu) = gpu_with(Options::default()) else { return };
        let Some(edge) = gpu.facts().features.matrix_edge else { return };
        for &tile in MATRIX.iter().filter(|tile| tile.edge == edge) {
            let fits = tile.load != Load::Direct;
            let cases = [
                Case { images: [1, 1, 64, 64], n: 128, taps: [1, 1], half: true },
                Case { images: [1, 1, 133, 112], n: 200, taps: [1, 1], half: true },
                Case { images: [2, 9, 11, 48], n: 70, taps: [3, 3], half: true },
            ];
            for case in cases.iter().take(if fits { 3 } else { 1 }) {
                for slices in [1, 3] {
                    let choice = Choice { tile: Tile::Matrix(tile), slices };
                    let (got, want) = case.run(&gpu, choice);
                    assert_close(&got, &want, 4e-3, &choice.to_string());
                }
            }
            for slices in [1, 3] {
                let choice = Choice { tile: Tile::Matrix(tile), slices };
                let (got, want) = gated(&gpu, [if fits { 133 } else { 64 }, 112, 200], true, choice);
                assert_close(&got, &want, 4e-3, &format!("{choice}, gated"));
            }
        }
    }
}
