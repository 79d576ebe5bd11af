//! Kernels: WGSL text, its variants, and what one launch of it needs.
//!
//! Variation comes in three ways only: a prelude of aliases and constants (number type, vector width,
//! workgroup size), joined files from `shaders/common/`, and, for the few kernels whose inner loops must
//! come out unrolled, text made by a generator beside the op.

use super::pool::Buffer;
use super::texture::Texture;

/// Number type of stored activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// 32-bit floats.
    F32,
    /// 16-bit floats; sums and statistics stay in 32 bits.
    F16,
}

/// One form of a kernel, by what its prelude says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// `scalar`: number type of stored activations.
    pub scalar: Scalar,
    /// `WIDTH`: elements an invocation moves at once, 8, 4 or 1; `packed` and `stored` follow it.
    pub width: u32,
    /// `WG`: invocations per workgroup.
    pub workgroup: u32,
}

/// A kernel by its shader's name and entry point.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Name of the shader file without its ending.
    pub name: &'static str,
    /// Entry point in it.
    pub entry: &'static str,
    sources: &'static [&'static str],
}

/// A kernel in one variant: what a pipeline is made from, and the key it is cached under.
pub struct Program<'a> {
    pub(super) name: &'static str,
    pub(super) entry: &'static str,
    pub(super) variant: Variant,
    pub(super) form: u64,
    source: Source<'a>,
}

/// The choices that made a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PipelineKey {
    pub(super) name: &'static str,
    pub(super) entry: &'static str,
    pub(super) variant: Variant,
    pub(super) form: u64,
}

/// Text at hand, or text to be generated when no pipeline is cached yet.
enum Source<'a> {
    Files(&'static [&'static str]),
    Generated(&'a dyn Fn() -> String),
    /// The whole text, as a trace keeps it: with the parameters in a uniform buffer.
    Kept(&'a str),
}

impl Kernel {
    /// A kernel in `shaders/<name>.wgsl` joined from `sources`.
    pub const fn new(name: &'static str, entry: &'static str, sources: &'static [&'static str]) -> Kernel {
        Kernel { name, entry, sources }
    }

    /// This kernel in one variant.
    pub fn program(&self, variant: Variant) -> Program<'static> {
        Program { name: self.name, entry: self.entry, variant, form: 0, source: Source::Files(self.sources) }
    }
}

impl<'a> Program<'a> {
    /// A kernel whose text `generate` makes; `form` tells its forms apart in the pipeline cache.
    pub fn generated(
        name: &'static str,
        entry: &'static str,
        variant: Variant,
        form: u64,
        generate: &'a dyn Fn() -> String,
    ) -> Program<'a> {
        Program { name, entry, variant, form, source: Source::Generated(generate) }
    }

    /// Whether a generator made the text: of kernels whose both builds, with run-time checks and without, are held
    /// to the same bits by tests.
    pub(super) fn is_generated(&self) -> bool {
        matches!(self.source, Source::Generated(_))
    }

    /// A program whose whole text a trace has kept.
    pub(super) fn kept(key: PipelineKey, text: &'a str) -> Program<'a> {
        let PipelineKey { name, entry, variant, form } = key;
        Program { name, entry, variant, form, source: Source::Kept(text) }
    }

    /// What tells this program from others.
    pub(super) fn key(&self) -> PipelineKey {
        PipelineKey { name: self.name, entry: self.entry, variant: self.variant, form: self.form }
    }

    /// The whole WGSL text; `immediates` says where the parameters ride.
    pub fn text(&self, immediates: bool) -> String {
        const UNIFORM: &str = "@group(1) @binding(0) var<uniform> params";
        let place = if immediates { "var<immediate> params" } else { UNIFORM };
        let body = match &self.source {
            Source::Files(files) => files.join("\n"),
            Source::Generated(generate) => generate(),
            Source::Kept(text) => return text.replace(UNIFORM, place),
        };
        let text = prelude(self.variant) + &body.replace("@group(0) @binding(0) var<uniform> params", place);
        // What a kernel enables of the language stands before everything else.
        let (enabled, rest): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("enable "));
        [enabled, rest].concat().join("\n") + "\n"
    }
}

/// The aliases and constants a shader may use.
fn prelude(variant: Variant) -> String {
    let (enable, scalar) = match variant.scalar {
        Scalar::F32 => ("", "f32"),
        Scalar::F16 => ("enable f16;\n", "f16"),
    };
    let width = match (variant.width, variant.scalar) {
        (8, Scalar::F32) => {
            concat!(
                include_str!("../../shaders/common/width8.wgsl"),
                include_str!("../../shaders/common/width8_f32.wgsl")
            )
        }
        (8, Scalar::F16) => {
            concat!(
                include_str!("../../shaders/common/width8.wgsl"),
                include_str!("../../shaders/common/width8_f16.wgsl")
            )
        }
        (4, _) => include_str!("../../shaders/common/width4.wgsl"),
        _ => include_str!("../../shaders/common/width1.wgsl"),
    };
    format!("{enable}alias scalar = {scalar};\nconst WG = {}u;\n{width}", variant.workgroup)
}

/// What a shader sees at one binding.
#[derive(Clone, Copy)]
pub enum Binding<'a> {
    /// A range of a buffer.
    Buffer {
        /// The buffer.
        buffer: &'a Buffer,
        /// Where the range begins, in bytes.
        offset: u64,
        /// Its length.
        bytes: u64,
    },
    /// A whole texture, read only.
    Texture(&'a Texture),
}

impl<'a> Binding<'a> {
    /// `bytes` from `offset` on; the offset is a multiple of the device's alignment.
    pub fn new(buffer: &'a Buffer, offset: u64, bytes: u64) -> Binding<'a> {
        let bytes = bytes.max(16).next_multiple_of(16).min(buffer.bytes() - offset);
        Binding::Buffer { buffer, offset, bytes }
    }
}

/// What an op costs: floating-point operations and bytes moved at least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// A multiply-add counts two.
    pub flops: u64,
    /// Every input read once, every output written once.
    pub bytes: u64,
}

/// One launch: program, parameters, buffers, grid.
pub struct Launch<'a> {
    /// What runs.
    pub program: Program<'a>,
    /// Twin of the shader's `Params`; at most 128 bytes.
    pub params: &'a [u8],
    /// Bindings 1.., read.
    pub inputs: &'a [Binding<'a>],
    /// Bindings after the inputs, written.
    pub outputs: &'a [Binding<'a>],
    /// Workgroups; [`super::Gpu::grid`] folds a long row of them.
    pub groups: [u32; 3],
    /// What it costs.
    pub work: Work,
}
