//! Weights in panels, the form the matrix product reads: a panel is 32 or 64 columns of all k, so that the inner
//! loop walks memory in a straight line. Packed once when loaded; kept in a texture where texels are cheaper to read.

use super::gemm::ReadB;
use super::{common, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{
    Binding, Buffer, Family, Gpu, Kernel, Launch, Scalar, TEXEL_BYTES, Texel, Texture, Variant, Work,
};
use crate::tensor::{DType, Tensor, n_elements};

const FORWARD: Kernel = Kernel::new("pack", "forward", &[shaders!("pack"), common::INDEX]);

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
        half: u32,
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

/// A weight matrix `[k, n]` in panels; k = (tap, channel).
pub struct Packed {
    pub(super) segments: Vec<Segment>,
    pub(super) n: usize,
    pub(super) taps: usize,
    pub(super) channels: usize,
    pub(super) panel: usize,
    pub(super) read: ReadB,
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

/// Where element (n, tap, channel) of a source lies.
#[derive(Clone, Copy)]
struct Strides {
    n: usize,
    tap: usize,
    channel: usize,
    batch: usize,
}

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
        [n, channels, taps]: [usize; 3],
        kind: SourceType,
        bytes: &[u8],
        half: bool,
    ) -> Result<Packed> {
        let row = channels * taps;
        if n_elements(&[n, row])? * kind.bytes() != bytes.len() {
            let detail = format!("[{n}, {channels}, {taps}] is not {} bytes of {kind:?}", bytes.len());
            return Err(Error::shape("weights", detail));
        }
        let mut packed = Packed::new(gpu, [n, channels, taps], half, 1, true)?;
        let strides = Strides { n: row, tap: 1, channel: taps, batch: 0 };
        // Pieces end on panels, and on words (an odd panel of f16 rows is still even: panels are even).
        let row_bytes = row * kind.bytes();
        let piece_panels =
            (PIECE_BYTES.min(gpu.facts().limits.binding_bytes as usize) / row_bytes.max(1)) / packed.panel;
        let piece_panels = piece_panels.max(1);
        for segment in &mut packed.segments {
            let last = segment.panel_first + segment.n_panels;
            for first in (segment.panel_first..last).step_by(piece_panels) {
                let panels = piece_panels.min(last - first);
                let columns = first * packed.panel..((first + panels) * packed.panel).min(n);
                let source = &bytes[columns.start * row_bytes..columns.end * row_bytes];
                let staged = stage(gpu, source)?;
                let form = Form { n, taps, channels, panel: packed.panel, half, kind, strides, batch: 1 };
                segment.pack(gpu, &staged.binding(), 0, first, panels, &form)?;
            }
        }
        Ok(packed)
    }

    /// Panels without content, for a plan.
    pub fn planned(gpu: &Gpu, [n, channels, taps]: [usize; 3], half: bool) -> Result<Packed> {
        Packed::new(gpu, [n, channels, taps], half, 1, true)
    }

    /// A matrix already on the device: `[batch, k, n]`, or `[batch, n, k]` with `transposed`. `texels` asks for a
    /// texture where they are cheap: worth a copy when the matrix is read often.
    ///
    /// Errors: [`Error::Limit`] when it is larger than one binding.
    pub(super) fn from_tensor(
        b: &Tensor,
        batch: usize,
        k: usize,
        n: usize,
        transposed: bool,
        texels: bool,
    ) -> Result<Packed> {
        let gpu = b.gpu();
        let half = b.dtype() == DType::F16;
        let mut packed = Packed::new(gpu, [n, k, 1], half, batch, texels)?;
        if packed.segments.len() > 1 && batch > 1 {
            return Err(Error::Limit {
                what: "matmul: the right side".into(),
                needed: b.bytes(),
                available_what: "the largest storage binding of this adapter; multiply matrix by matrix"
                    .into(),
                available: gpu.facts().limits.binding_bytes,
            });
        }
        let (stride_n, stride_k) = if transposed { (k, 1) } else { (1, n) };
        let strides = Strides { n: stride_n, tap: 0, channel: stride_k, batch: k * n };
        let kind = if half { SourceType::F16 } else { SourceType::F32 };
        for segment in &mut packed.segments {
            let form = Form { n, taps: 1, channels: k, panel: packed.panel, half, kind, strides, batch };
            let (first, panels) = (segment.panel_first, segment.n_panels);
            segment.pack(gpu, &b.binding(), first * packed.panel * stride_n, first, panels, &form)?;
        }
        Ok(packed)
    }

    /// Empty panels.
    fn new(
        gpu: &Gpu,
        [n, channels, taps]: [usize; 3],
        half: bool,
        batch: usize,
        texels: bool,
    ) -> Result<Packed> {
        let panel = if n <= 32 { 32 } else { 64 };
        let features = gpu.facts().features;
        let read = match (texels && features.cheap_texels && gpu.facts().family == Family::Subgroup, half) {
            (true, false) => ReadB::Texel32,
            (true, true) if panel == 64 => ReadB::Texel16,
            (_, true) => ReadB::Buffer16,
            (false, false) => ReadB::Buffer32,
        };
        let mut packed = Packed { segments: Vec::new(), n, taps, channels, panel, read };
        let panel_bytes = packed.panel_vectors() * if half { 8 } else { 16 };
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
                ReadB::Buffer32 | ReadB::Buffer16 => Store::Buffer(gpu.alloc(&what, bytes)?),
            };
            packed.segments.push(Segment { store, bytes, panel_first, n_panels });
        }
        Ok(packed)
    }

    /// Channels of a tap in units of 4, rounded up.
    pub(super) fn units(&self) -> usize {
        self.channels.div_ceil(4)
    }

    /// Vectors of 4 columns in one panel.
    pub(super) fn panel_vectors(&self) -> usize {
        self.taps * self.units() * self.panel
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

/// A source's sizes and order.
struct Form {
    n: usize,
    taps: usize,
    channels: usize,
    panel: usize,
    half: bool,
    kind: SourceType,
    strides: Strides,
    batch: usize,
}

impl Segment {
    /// Packs `panels` panels from panel `first` of the whole matrix on.
    fn pack(
        &mut self,
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
        let vector_bytes = if form.half { 8 } else { 16 };
        // Panels are multiples of 32 x 4 x 4 x 2 bytes: any of them may begin a binding.
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
        let params = Params {
            count: count as u32,
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
            kind: form.kind as u32,
            half: u32::from(form.half),
        };
        let variant = Variant { scalar: Scalar::F32, width: 4, workgroup: gpu.flat_workgroup() };
        gpu.run(&Launch {
            program: FORWARD.program(variant),
            params: params.as_bytes(),
            inputs: std::slice::from_ref(source),
            outputs: &[to],
            groups: gpu.grid("pack", (count as u64).div_ceil(u64::from(variant.workgroup)))?,
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
        crate::testing::shader_twin(&FORWARD, Params::FIELDS);
    }

    #[test]
    fn a_matrix_larger_than_a_binding_is_cut_into_segments() {
        let gpu = Gpu::plan();
        let packed = Packed::new(&gpu, [59_136, 10_000, 1], true, 1, true).unwrap();
        assert!(packed.segments.len() > 8);
        assert!(packed.segments.iter().all(|s| s.bytes <= gpu.facts().limits.binding_bytes));
        assert_eq!(packed.segments.iter().map(|s| s.n_panels).sum::<usize>(), 924);
    }
}
