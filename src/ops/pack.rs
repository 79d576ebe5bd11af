//! Weights in panels, the form the matrix product reads: a panel is 32 or 64 columns of all k, so that the inner
//! loop walks memory in a straight line. Packed once when loaded; kept in a texture where texels are cheaper to read.

use super::gemm::{self, ReadB};
use super::linear_geglu::paired;
use super::{common, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{
    Binding, Buffer, Family, Gpu, Kernel, Launch, Scalar, TEXEL_BYTES, Texel, Texture, Variant, Work,
};
use crate::tensor::{DType, Tensor, n_elements};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

const FORWARD: Kernel = Kernel::new("pack", "forward", &[shaders!("pack"), common::INDEX]);
const WORDS: &[&str] = &[shaders!("pack_words"), common::INDEX];
const ROWS: Kernel = Kernel::new("pack_words", "rows", WORDS);
const COLUMNS: Kernel = Kernel::new("pack_words", "columns", WORDS);

params! {
    struct Params {
        count: u32,
        n: u32,
        column0: u32,
        taps: u32,
        channels: u32,
        channels4: u32,
        panel4: u32,
        panels: u32,
        stride_n: u32,
        stride_tap: u32,
        stride_c: u32,
        stride_batch: u32,
        source0: u32,
        kind: u32,
        stored: u32,
    }
}

/// Number type of weights as they lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper half of 32-bit floats.
    BF16,
}

impl SourceType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        if self == SourceType::F32 { 4 } else { 2 }
    }
}

/// A weight matrix `[k, n]` in panels; k = (tap, channel). Cloning shares them.
#[derive(Clone)]
pub struct Packed {
    gpu: Gpu,
    pub(super) segments: Arc<Vec<Segment>>,
    pub(super) n: usize,
    pub(super) taps: usize,
    pub(super) channels: usize,
    pub(super) panel: usize,
    pub(super) read: ReadB,
    /// Columns are values and gates by turns, four of each; see `linear_geglu.rs`.
    pub(super) gated: bool,
    /// The tensor these panels were made from, where its gradient is wanted.
    pub(super) parameter: Option<Tensor>,
}

/// Panels that fit one binding.
pub(super) struct Segment {
    store: Store,
    bytes: u64,
    pub(super) panel_first: usize,
    /// Panels of one matrix of the batch.
    pub(super) n_panels: usize,
}

/// Where panels lie.
enum Store {
    Buffer(Buffer),
    Texture(Texture),
}

impl Segment {
    /// The panels, as a shader sees them.
    pub(super) fn binding(&self) -> Binding<'_> {
        match &self.store {
            Store::Buffer(buffer) => Binding::new(buffer, 0, self.bytes),
            Store::Texture(texture) => Binding::Texture(texture),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// How panels hold their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    F32,
    F16,
    /// A signed byte times a factor of its column; the factors stand behind the panels.
    I8,
}

impl Stored {
    fn halved(half: bool) -> Stored {
        if half { Stored::F16 } else { Stored::F32 }
    }

    /// Bytes of 4 columns of one k.
    fn vector_bytes(self) -> usize {
        match self {
            Stored::F32 => 16,
            Stored::F16 => 8,
            Stored::I8 => 4,
        }
    }

    /// Bytes of the factors of a panel.
    fn factor_bytes(self, panel: usize) -> usize {
        if self == Stored::I8 { 4 * panel } else { 0 }
    }
}

/// The number type of signed bytes as a source, in pack.wgsl.
pub(super) const BYTES: u32 = 3;

/// Where element (n, tap, channel) of a source lies.
#[derive(Clone, Copy)]
struct Strides {
    n: usize,
    tap: usize,
    channel: usize,
    batch: usize,
}

/// Taps one invocation packs; the same in pack.wgsl.
const TAPS: usize = 16;
/// Raw weight bytes are uploaded in pieces of about this size.
const PIECE_BYTES: usize = 64 << 20;

impl Packed {
    /// Weights `[n, channels, taps]` row-major as PyTorch keeps linear (taps 1) and convolution layers
    /// (taps = kernel height x width), from the bytes of a file. `half` keeps them in f16 on the device; without
    /// it they are widened to f32. Uploaded piece by piece.
    ///
    /// Errors: [`Error::Shape`] when the bytes do not fit the sizes, [`Error::Limit`] when memory is out.
    pub fn from_bytes(
        gpu: &Gpu,
        sizes: [usize; 3],
        kind: SourceType,
        bytes: &[u8],
        half: bool,
    ) -> Result<Packed> {
        Packed::from_source(gpu, sizes, kind, Some(bytes), half, false)
    }

    /// The same of bytes that are not there, for a plan: what packing holds for a while is counted, too.
    pub fn planned(gpu: &Gpu, sizes: [usize; 3], kind: SourceType, half: bool) -> Result<Packed> {
        Packed::from_source(gpu, sizes, kind, None, half, false)
    }

    pub(super) fn from_source(
        gpu: &Gpu,
        [n, channels, taps]: [usize; 3],
        kind: SourceType,
        bytes: Option<&[u8]>,
        half: bool,
        gated: bool,
    ) -> Result<Packed> {
        let row = channels * taps;
        if let Some(bytes) = bytes
            && n_elements(&[n, row])? * kind.bytes() != bytes.len()
        {
            let detail = format!("[{n}, {channels}, {taps}] is not {} bytes of {kind:?}", bytes.len());
            return Err(Error::shape("weights", detail));
        }
        let _op = gpu.op(|| format!("pack [{n}, {channels}, {taps}] {kind:?}"));
        let stored = Stored::halved(half);
        let packed = Packed { gated, ..Packed::new(gpu, [n, channels, taps], stored, 1, true)? };
        let strides = Strides { n: row, tap: 1, channel: taps, batch: 0 };
        // Pieces end on panels, and on words (an odd panel of f16 rows is still even: panels are even).
        let row_bytes = row * kind.bytes();
        let piece_panels =
            (PIECE_BYTES.min(gpu.facts().limits.binding_bytes as usize) / row_bytes.max(1)) / packed.panel;
        let piece_panels = piece_panels.max(1);
        for segment in packed.segments.iter() {
            let last = segment.panel_first + segment.n_panels;
            for first in (segment.panel_first..last).step_by(piece_panels) {
                let panels = piece_panels.min(last - first);
                let columns = first * packed.panel..((first + panels) * packed.panel).min(n);
                let source = columns.start * row_bytes..columns.end * row_bytes;
                let staged = match bytes {
                    Some(bytes) if gated => stage(gpu, &paired(bytes, columns, row_bytes))?,
                    Some(bytes) => stage(gpu, &bytes[source])?,
                    None => Tensor::empty(gpu, &[source.len().div_ceil(4)], DType::U32)?,
                };
                let (panel, kind) = (packed.panel, kind as u32);
                let form = Form { n, taps, channels, panel, stored, kind, strides, batch: 1 };
                segment.pack(gpu, &staged.binding(), 0, first, panels, &form)?;
            }
        }
        Ok(packed)
    }

    /// Columns, k and their panels of signed bytes, packed; see `quantize.rs`.
    pub(super) fn from_quantized(
        gpu: &Gpu,
        n: usize,
        k: usize,
        bytes: &[u8],
        factors: &[f32],
    ) -> Result<Packed> {
        let packed = Packed::planned_quantized(gpu, n, k)?;
        let strides = Strides { n: k, tap: 1, channel: 1, batch: 0 };
        let (panel, stored) = (packed.panel, Stored::I8);
        let form = Form { n, taps: 1, channels: k, panel, stored, kind: BYTES, strides, batch: 1 };
        for segment in packed.segments.iter() {
            let (first, panels) = (segment.panel_first, segment.n_panels);
            let columns = first * panel..((first + panels) * panel).min(n);
            let staged = stage(gpu, &bytes[columns.start * k..columns.end * k])?;
            segment.pack(gpu, &staged.binding(), 0, first, panels, &form)?;
            if let Store::Buffer(buffer) = &segment.store {
                let mut own = factors[columns].to_vec();
                own.resize(panels * panel, 0.0);
                gpu.write(buffer, (panels * packed.panel_vectors() * 4) as u64, bytemuck::cast_slice(&own))?;
            }
        }
        Ok(packed)
    }

    /// The same without content, for a plan.
    pub(super) fn planned_quantized(gpu: &Gpu, n: usize, k: usize) -> Result<Packed> {
        Packed::new(gpu, [n, k, 1], Stored::I8, 1, false)
    }

    /// A weight `[n, channels, taps]` (as [`Packed::from_bytes`], trailing axes of any number) that is a tensor: what a
    /// parameter becomes before it is multiplied with. Gradients flow back to it.
    ///
    /// Errors: [`Error::Shape`] when the sizes are not the tensor's, [`Error::DType`] for ids.
    pub fn from_tensor(weight: &Tensor, [n, channels, taps]: [usize; 3]) -> Result<Packed> {
        if weight.len() != n * channels * taps {
            let detail = format!("{:?} is not [{n}, {channels}, {taps}]", weight.shape());
            return Err(Error::shape("weights", detail));
        }
        let (gpu, kind, row) = (weight.gpu(), source_type(weight)?, channels * taps);
        let _op = gpu.op(|| format!("pack {weight}"));
        let stored = Stored::halved(kind == SourceType::F16);
        let mut packed = Packed::new(gpu, [n, channels, taps], stored, 1, true)?;
        let strides = Strides { n: row, tap: 1, channel: taps, batch: 0 };
        let (panel, kind, bytes) = (packed.panel, kind as u32, kind.bytes());
        let form = Form { n, taps, channels, panel, stored, kind, strides, batch: 1 };
        let panel_bytes = (row * packed.panel * bytes).max(1);
        let most = (gpu.facts().limits.binding_bytes as usize / panel_bytes).max(1);
        for segment in packed.segments.iter() {
            let last = segment.panel_first + segment.n_panels;
            for first in (segment.panel_first..last).step_by(most) {
                let panels = most.min(last - first);
                let columns = first * packed.panel..((first + panels) * packed.panel).min(n);
                let source = weight.window(columns.start * row..columns.end * row);
                segment.pack(gpu, &source, 0, first, panels, &form)?;
            }
        }
        packed.parameter = weight.wants_gradient().then(|| weight.clone());
        Ok(packed)
    }

    /// The weight of the way back through a convolution: `[channels, n, taps]` with the taps in reverse, from one
    /// that lies as `[n, channels, taps]`.
    ///
    /// Errors: [`Error::Limit`] when it is larger than a binding.
    pub(super) fn reversed(weight: &Tensor, [n, channels, taps]: [usize; 3]) -> Result<Packed> {
        let (gpu, kind) = (weight.gpu(), source_type(weight)?);
        let _op = gpu.op(|| format!("pack {weight} reversed"));
        let stored = Stored::halved(kind == SourceType::F16);
        let packed = Packed::new(gpu, [channels, n, taps], stored, 1, true)?;
        // Walking the taps backwards is a step of -1, which u32 arithmetic in the shader wraps to.
        let strides = Strides { n: taps, tap: u32::MAX as usize, channel: channels * taps, batch: 0 };
        let (panel, kind) = (packed.panel, kind as u32);
        let form = Form { n: channels, taps, channels: n, panel, stored, kind, strides, batch: 1 };
        for segment in packed.segments.iter() {
            let (first, panels) = (segment.panel_first, segment.n_panels);
            let source0 = first * packed.panel * taps + taps - 1;
            segment.pack(gpu, &weight.binding(), source0, first, panels, &form)?;
        }
        Ok(packed)
    }

    /// Matrices already on the device, for one product: `[batch, k, n]`, or `[batch, n, k]` with `transposed`, of
    /// which the rows `k` are taken. `texels` asks for a texture where they are cheap: worth a copy when the
    /// matrix is read often.
    ///
    /// Errors: [`Error::Limit`] when the rows taken are larger than one binding.
    pub(super) fn from_matrices(
        b: &Tensor,
        batch: usize,
        k: Range<usize>,
        transposed: bool,
        texels: bool,
    ) -> Result<Packed> {
        let gpu = b.gpu();
        let stored = Stored::halved(b.dtype() == DType::F16);
        let (n, k_all) = if transposed { (b.dim(1), b.dim(0)) } else { (b.dim(0), b.dim(1)) };
        let packed = Packed::new(gpu, [n, k.len(), 1], stored, batch, texels)?;
        if packed.segments.len() > 1 && batch > 1 {
            return Err(Error::Limit {
                what: "matmul: the right side".into(),
                needed: b.bytes(),
                available_what: "the largest storage binding of this adapter; multiply matrix by matrix"
                    .into(),
                available: gpu.facts().limits.binding_bytes,
            });
        }
        let (stride_n, stride_k) = if transposed { (k_all, 1) } else { (1, n) };
        let strides = Strides { n: stride_n, tap: 0, channel: stride_k, batch: k_all * n };
        let kind = source_type(b)?;
        // Rows that lie together are bound alone; columns of a transposed matrix are found by the kernel.
        let (source, before) = if batch == 1 && !transposed {
            let start = super::aligned_row(k.start, n * kind.bytes());
            (b.window(start * n..k.end * n), (k.start - start) * n)
        } else {
            (b.binding(), k.start * stride_k)
        };
        for segment in packed.segments.iter() {
            let panel = packed.panel;
            let kind = kind as u32;
            let form = Form { n, taps: 1, channels: k.len(), panel, stored, kind, strides, batch };
            let (first, panels) = (segment.panel_first, segment.n_panels);
            segment.pack(gpu, &source, before + first * panel * stride_n, first, panels, &form)?;
        }
        Ok(packed)
    }

    /// The matrix of some columns of one image's rows, `b` being [images, rows, channels]: `[rows, columns]`, or its
    /// transpose.
    ///
    /// Errors: [`Error::Limit`] when the image is larger than one binding.
    pub(super) fn from_columns(
        b: &Tensor,
        image: usize,
        columns: Range<usize>,
        transposed: bool,
        texels: bool,
    ) -> Result<Packed> {
        let (gpu, rows, c) = (b.gpu(), b.dim(1), b.dim(0));
        let (k, n) = if transposed { (columns.len(), rows) } else { (rows, columns.len()) };
        let (stride_k, stride_n) = if transposed { (1, c) } else { (c, 1) };
        let kind = source_type(b)?;
        let stored = Stored::halved(kind == SourceType::F16);
        let packed = Packed::new(gpu, [n, k, 1], stored, 1, texels)?;
        let strides = Strides { n: stride_n, tap: 0, channel: stride_k, batch: 0 };
        let start = super::aligned_row(image * rows, c * kind.bytes());
        let source = b.window(start * c..(image + 1) * rows * c);
        let before = (image * rows - start) * c + columns.start;
        for segment in packed.segments.iter() {
            let panel = packed.panel;
            let kind = kind as u32;
            let form = Form { n, taps: 1, channels: k, panel, stored, kind, strides, batch: 1 };
            let (first, panels) = (segment.panel_first, segment.n_panels);
            segment.pack(gpu, &source, before + first * panel * stride_n, first, panels, &form)?;
        }
        Ok(packed)
    }

    /// Empty panels.
    fn new(
        gpu: &Gpu,
        [n, channels, taps]: [usize; 3],
        stored: Stored,
        batch: usize,
        texels: bool,
    ) -> Result<Packed> {
        if stored == Stored::F16 {
            gemm::prepare(gpu);
        }
        let panel = if n <= 32 { 32 } else { 64 };
        let features = gpu.facts().features;
        let texels = texels && features.cheap_texels && gpu.facts().family == Family::Subgroup;
        let read = match (texels, stored) {
            (_, Stored::I8) => ReadB::Buffer8,
            (true, Stored::F32) => ReadB::Texel32,
            (true, Stored::F16) if panel == 64 => ReadB::Texel16,
            (_, Stored::F16) => ReadB::Buffer16,
            (false, Stored::F32) => ReadB::Buffer32,
        };
        let mut packed = Packed {
            gpu: gpu.clone(),
            segments: Arc::default(),
            n,
            taps,
            channels,
            panel,
            read,
            gated: false,
            parameter: None,
        };
        let mut segments = Vec::new();
        let panel_bytes = packed.panel_vectors() * stored.vector_bytes() + stored.factor_bytes(panel);
        let panels = n.div_ceil(panel);
        let most = (gpu.facts().limits.binding_bytes as usize / panel_bytes.max(1) / batch.max(1)).max(1);
        for panel_first in (0..panels).step_by(most) {
            let n_panels = most.min(panels - panel_first);
            let bytes = ((n_panels * panel_bytes * batch) as u64).max(16);
            let what = format!("weights [{n}, {channels}, {taps}]");
            let texture =
                |texel| gpu.alloc_texture(&what, texel, bytes.div_ceil(TEXEL_BYTES)).map(Store::Texture);
            let store = match read {
                ReadB::Texel32 => texture(Texel::Floats)?,
                ReadB::Texel16 => texture(Texel::Words)?,
                ReadB::Buffer32 | ReadB::Buffer16 | ReadB::Buffer8 => Store::Buffer(gpu.alloc(&what, bytes)?),
            };
            segments.push(Segment { store, bytes, panel_first, n_panels });
        }
        packed.segments = segments.into();
        Ok(packed)
    }

    /// The same panels as those of a plain weight, whose columns stand in pairs.
    pub(super) fn ungated(&self) -> Packed {
        Packed { gated: false, ..self.clone() }
    }

    /// Channels of a tap in units of 4, rounded up.
    pub(super) fn units(&self) -> usize {
        self.channels.div_ceil(4)
    }

    /// Vectors of 4 columns in one panel.
    pub(super) fn panel_vectors(&self) -> usize {
        self.taps * self.units() * self.panel
    }

    /// The device.
    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Columns: outputs of the layer.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs of one result: taps x channels.
    pub fn k(&self) -> usize {
        self.taps * self.channels
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }
}

/// The kind of a tensor of floats, as a source of weights.
fn source_type(x: &Tensor) -> Result<SourceType> {
    Ok(match x.scalar("weights")? {
        Scalar::F32 => SourceType::F32,
        Scalar::F16 => SourceType::F16,
    })
}

/// `-> 320`
impl fmt::Display for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.read {
            ReadB::Buffer16 | ReadB::Texel16 => ", f16 weights",
            ReadB::Buffer8 => ", int8 weights",
            ReadB::Buffer32 | ReadB::Texel32 => "",
        };
        write!(f, "-> {}{kind}", self.n)
    }
}

/// A source's sizes and order.
struct Form {
    n: usize,
    taps: usize,
    channels: usize,
    panel: usize,
    stored: Stored,
    /// A [`SourceType`], or [`BYTES`].
    kind: u32,
    strides: Strides,
    batch: usize,
}

impl Form {
    /// What packs `count` vectors of 4 columns, and by how many invocations.
    fn kernel(&self, source0: usize, channels4: usize, count: usize) -> (&'static Kernel, usize) {
        let any = (&FORWARD, count / self.taps * self.taps.div_ceil(TAPS));
        let Strides { n, channel, batch, .. } = self.strides;
        let lie_in_fours = |sizes: [usize; 4]| sizes.iter().all(|size| size.is_multiple_of(4));
        if self.taps != 1 || self.stored != Stored::F32 || self.kind != SourceType::F32 as u32 {
            any
        } else if n == 1 && lie_in_fours([channel, self.n, batch, source0]) {
            (&ROWS, count / (4 * channels4) * channels4.div_ceil(4))
        } else if channel == 1 && lie_in_fours([n, self.channels, batch, source0]) {
            (&COLUMNS, count / 4)
        } else {
            any
        }
    }
}

impl Segment {
    /// Packs `panels` panels from panel `first` of the whole matrix on.
    fn pack(
        &self,
        gpu: &Gpu,
        source: &Binding,
        source0: usize,
        first: usize,
        panels: usize,
        form: &Form,
    ) -> Result<()> {
        let channels4 = form.channels.div_ceil(4);
        let panel_vectors = form.taps * channels4 * form.panel;
        let count = panels * panel_vectors * form.batch;
        if count == 0 {
            return Ok(());
        }
        let vector_bytes = form.stored.vector_bytes();
        // Panels are multiples of 256 bytes, where there are several: any of them may begin a binding.
        let offset = ((first - self.panel_first) * panel_vectors * vector_bytes) as u64;
        let bytes = (count * vector_bytes) as u64;
        // Shaders write buffers; a texture gets a copy.
        let staged = match &self.store {
            Store::Buffer(_) => None,
            Store::Texture(_) => Some(gpu.alloc("weights on their way", bytes)?),
        };
        let to = match (&self.store, &staged) {
            (Store::Buffer(buffer), _) => Binding::new(buffer, offset, bytes),
            (Store::Texture(_), staged) => Binding::new(staged.as_ref().expect("made above"), 0, bytes),
        };
        let (kernel, invocations) = form.kernel(source0, channels4, count);
        let params = Params {
            count: invocations as u32,
            n: form.n as u32,
            column0: (first * form.panel) as u32,
            taps: form.taps as u32,
            channels: form.channels as u32,
            channels4: channels4 as u32,
            panel4: (form.panel / 4) as u32,
            panels: panels as u32,
            stride_n: form.strides.n as u32,
            stride_tap: form.strides.tap as u32,
            stride_c: form.strides.channel as u32,
            stride_batch: form.strides.batch as u32,
            source0: source0 as u32,
            kind: form.kind,
            stored: form.stored as u32,
        };
        let variant = Variant { scalar: Scalar::F32, width: 4, workgroup: gpu.flat_workgroup() };
        gpu.run(&Launch {
            program: kernel.program(variant),
            params: params.as_bytes(),
            inputs: std::slice::from_ref(source),
            outputs: &[to],
            groups: gpu.grid("pack", (invocations as u64).div_ceil(u64::from(variant.workgroup)))?,
            work: Work { flops: 0, bytes: (count * (16 + vector_bytes)) as u64 },
        })?;
        if let (Store::Texture(texture), Some(staged)) = (&self.store, &staged) {
            gpu.copy_to_texture(staged, 0, texture, offset / TEXEL_BYTES, bytes / TEXEL_BYTES);
        }
        Ok(())
    }
}

/// Raw bytes on the device, as words.
fn stage(gpu: &Gpu, bytes: &[u8]) -> Result<Tensor> {
    let words = bytes.len().div_ceil(4);
    if bytes.len().is_multiple_of(4) {
        return Tensor::from_bytes(gpu, &[words], DType::U32, bytes);
    }
    let mut padded = bytes.to_vec();
    padded.resize(words * 4, 0);
    Tensor::from_bytes(gpu, &[words], DType::U32, &padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shader_twin() {
        for kernel in [FORWARD, ROWS, COLUMNS] {
            crate::testing::shader_twin(&kernel, Params::FIELDS);
        }
    }

    #[test]
    fn a_matrix_larger_than_a_binding_is_cut_into_segments() {
        let gpu = Gpu::plan();
        let packed = Packed::new(&gpu, [59_136, 10_000, 1], Stored::F16, 1, true).unwrap();
        assert!(packed.segments.len() > 8);
        assert!(packed.segments.iter().all(|s| s.bytes <= gpu.facts().limits.binding_bytes));
        assert_eq!(packed.segments.iter().map(|s| s.n_panels).sum::<usize>(), 924);
    }
}
