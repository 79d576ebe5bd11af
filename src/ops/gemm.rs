//! The matrix product behind linear layers, convolutions and `matmul`: one description, several ways to run it.
//!
//! ```text
//! C[m, n] = activation(A[m, k] * B[k, n] + bias) + residual
//! ```
//! B lies in panels (see `pack.rs`); A is a matrix or an image's windows, read where it lies. Two families:
//!
//! * `tiled`: 64 rows by one panel per workgroup, both operands staged in workgroup memory, 4 x 4 results per
//!   invocation. Needs no optional feature.
//! * `subgroup`: one subgroup of 8 owns up to 32 rows by one panel in registers; lanes lie across columns, A is
//!   spread by shuffles with constant lanes. No workgroup memory: what a software adapter runs best.
//!
//! The unrolled products are generated in `gemm/`; everything else is in `shaders/gemm*.wgsl`.

mod form;
mod subgroup;
mod tiled;

pub(super) use form::ReadB;

use super::pack::{Packed, Segment};
use super::params;
use super::unary::Activation;
use crate::error::{Error, Result};
use crate::gpu::{self, Binding, Class, Gpu, Launch, Program, Texel, Texture, Variant, Work};
use crate::tensor::{DType, Tensor};
use form::{Family, Form, ReadA, Reader};

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
        flags: u32,
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
        insert: u32,
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
    /// The product done in steps, where gradients are wanted and need the values between them: `product` runs it with
    /// what bias there is, activation and residual follow as ops of their own. `None` where one step will do.
    pub(super) fn apart(
        &self,
        x: &Tensor,
        weight: &Packed,
        product: impl FnOnce(Epilogue) -> Result<Tensor>,
    ) -> Option<Result<Tensor>> {
        let wants = |tensor: Option<&Tensor>| tensor.is_some_and(Tensor::wants_gradient);
        let learns = wants(Some(x)) || weight.parameter.is_some() || wants(self.bias) || wants(self.residual);
        let plain = self.activation == Activation::None && self.residual.is_none();
        if plain || !learns {
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
    /// The image is seen with `insert - 1` zeros between its pixels, as the way back of a stride wants it.
    pub insert: [usize; 2],
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
        let gpu = self.a.gpu();
        if self.m * self.batch == 0 || self.b.n == 0 {
            return Ok(());
        }
        // The tiled family walks a staged step of 16 k once more.
        let turns = match self.family(gpu, self.m) {
            Family::Subgroup { .. } => self.b.taps * (self.b.units() + 1),
            Family::Tiled => self.b.taps * (self.b.units() + 4) / 4 * (tiled::DEPTH as usize + 1),
        };
        if gpu.facts().class == Class::Software && turns > MAX_TURNS {
            return Err(Error::Limit {
                what: format!("{}: the sum of one result, in steps", self.op),
                needed: turns as u64,
                available_what: "the longest loop this adapter counts right".into(),
                available: MAX_TURNS as u64,
            });
        }
        let texels = self.texels(gpu)?;
        for part in self.parts(gpu, texels.is_some())? {
            for segment in self.b.segments.iter() {
                self.launch(gpu, &part, segment, texels.as_ref())?;
            }
        }
        Ok(())
    }

    /// A copied into a texture, where reading it there saves more than the copy costs: each value is read once per
    /// tap and panel.
    fn texels(&self, gpu: &Gpu) -> Result<Option<Texture>> {
        let texels = self.a.len().div_ceil(4) as u64;
        let pays = gpu.facts().features.cheap_texels
            && matches!(self.family(gpu, self.m), Family::Subgroup { .. })
            && self.a.dtype() == DType::F32
            && self.is_wide_a()
            && self.b.taps * self.b.n.div_ceil(self.b.panel) >= TEXEL_READS
            && texels >= TEXEL_COUNT
            && texels <= gpu.texture_texels();
        if !pays {
            return Ok(None);
        }
        let texture = gpu.alloc_texture(self.op, Texel::Floats, texels)?;
        gpu.copy_to_texture(self.a.buffer(), 0, &texture, 0, texels);
        Ok(Some(texture))
    }

    /// Rows and channels of A begin on multiples of 4.
    fn is_wide_a(&self) -> bool {
        [self.b.channels, self.a_stride, self.a_offset].iter().all(|v| v % 4 == 0)
    }

    /// Cuts the rows where A or C is larger than a binding; a texture of A is not bound in ranges.
    fn parts(&self, gpu: &Gpu, texels: bool) -> Result<Vec<Part>> {
        let limit = gpu.facts().limits.binding_bytes - 512; // room for aligning the start
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
            let top = (y * image.stride[0]).saturating_sub(image.pad[0]) / image.insert[0];
            let reach = (y + count - 1) * image.stride[0] + (kernel_height - 1) * image.dilation[0] + 1;
            let end = reach.saturating_sub(image.pad[0]).div_ceil(image.insert[0]);
            top.min(image.height - 1)..end.clamp(1, image.height)
        };
        let band_fits = |count: usize| {
            let reach = (count - 1) * image.stride[0] + (kernel_height - 1) * image.dilation[0] + 1;
            let rows_in = reach.div_ceil(image.insert[0]) + 1;
            let bytes_in = rows_in.min(image.height) * image.width * self.a_stride * a_size;
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

    fn launch(&self, gpu: &Gpu, part: &Part, segment: &Segment, texels: Option<&Texture>) -> Result<()> {
        let (a_size, c_size) = (self.a.dtype().bytes(), self.c.dtype().bytes());
        let alignment = gpu.facts().limits.binding_alignment as usize;
        let wide_a = self.is_wide_a();
        let wide_c = [self.b.n, self.c_stride, self.c_offset].iter().all(|v| v % 4 == 0);
        let (unit_a, unit_c) = (if wide_a { 4 } else { 1 }, if wide_c { 4 } else { 1 });
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
        let form = Form {
            family: self.family(gpu, part.rows),
            reader: if self.image.is_some() { Reader::Image } else { Reader::Rows },
            panel: self.b.panel as u32,
            read_a: match texels {
                Some(_) => ReadA::Texel,
                None if wide_a => ReadA::Four,
                None => ReadA::One,
            },
            read_b: self.b.read,
            wide_c,
            activation: self.epilogue.activation,
        };
        let tiles_m = (part.rows as u32).div_ceil(form.tile_rows());
        let tiles_n = segment.n_panels as u32;
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
            insert: [1, 1],
        });
        let params = Params {
            m: part.rows as u32,
            n: self.b.n as u32,
            taps: self.b.taps as u32,
            units: self.b.units() as u32,
            channels: self.b.channels as u32,
            tiles_m,
            tiles_n,
            panel_first: (segment.panel_first * self.b.panel / 4) as u32,
            a_base: ((a_base + self.a_offset) / unit_a) as u32,
            a_stride: (self.a_stride / unit_a) as u32,
            c_base: ((c_base + self.c_offset) / unit_c) as u32,
            c_stride: (self.c_stride / unit_c) as u32,
            a_batch: (self.m * self.a_stride / unit_a) as u32,
            b_batch: (segment.n_panels * self.b.panel_vectors()) as u32,
            c_batch: (self.m * self.c_stride / unit_c) as u32,
            row_first: part.row_first as u32,
            bias_rows: bias_rows as u32,
            flags: u32::from(self.epilogue.bias.is_some()) | u32::from(self.epilogue.residual.is_some()) << 1,
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
            insert: pair(image.insert),
        };
        let columns = (segment.n_panels * self.b.panel).min(self.b.n) as u64;
        let (m, k) = ((part.rows * self.batch) as u64, (self.b.taps * self.b.channels) as u64);
        let variant = Variant { scalar: self.a.scalar(self.op)?, width: 4, workgroup: form.workgroup() };
        gpu.run(&Launch {
            program: Program::generated("gemm", "forward", variant, form.key(), &|| form.text()),
            params: params.as_bytes(),
            inputs: &[segment.binding(), a, bias, residual],
            outputs: &[c],
            groups: gpu.grid(self.op, u64::from(tiles_m) * u64::from(tiles_n) * self.batch as u64)?,
            work: Work {
                flops: 2 * m * k * columns,
                bytes: (part.a_elements.len() * a_size) as u64
                    + segment.bytes()
                    + m * columns * c_size as u64,
            },
        })
    }

    /// The family and tile for this adapter and this many rows.
    fn family(&self, gpu: &Gpu, rows: usize) -> Family {
        let facts = gpu.facts();
        if facts.family == gpu::Family::Subgroup {
            let rows = match rows {
                0..=8 => 8,
                9..=256 => 16,
                _ => 32,
            };
            Family::Subgroup { rows }
        } else {
            Family::Tiled
        }
    }
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
