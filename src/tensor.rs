//! A tensor: shape, number type, buffer, and the link to the op that made it. It knows no op by name: each op
//! adds its method in its own file.
//!
//! Tensors are contiguous, row-major, and never change once made. Images are channels-last.

use crate::error::{Error, Result};
use crate::gpu::{Binding, Buffer, Content, Gpu, Scalar};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Number type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats: storage only, arithmetic is in 32 bits.
    F16,
    /// Signed ids.
    I32,
    /// Unsigned ids.
    U32,
}

impl DType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        if self == DType::F16 { 2 } else { 4 }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::I32 => "i32",
            DType::U32 => "u32",
        })
    }
}

/// A tensor on a device. Cloning shares the buffer.
#[derive(Clone)]
pub struct Tensor(Arc<Inner>);

struct Inner {
    shape: Vec<usize>,
    dtype: DType,
    buffer: Arc<Buffer>,
    /// Where its elements begin in the buffer: a multiple of [`Tensor::ALIGNMENT`].
    first_byte: u64,
    gpu: Gpu,
    origin: Origin,
}

/// Where a tensor came from, for the walk back.
enum Origin {
    /// Data: no gradient is wanted.
    Constant,
    /// A parameter: its gradient is wanted.
    Leaf,
    /// An op's output whose inputs want gradients.
    Made(Made),
}

impl Origin {
    /// What an op was made from, for whoever lets it go.
    fn take_inputs(&mut self) -> Vec<Tensor> {
        match std::mem::replace(self, Origin::Constant) {
            Origin::Made(made) => made.inputs,
            Origin::Constant | Origin::Leaf => Vec::new(),
        }
    }
}

impl Drop for Inner {
    /// A long history goes link by link: recursion would want a stack as deep as it is long.
    fn drop(&mut self) {
        let mut going = self.origin.take_inputs();
        while let Some(tensor) = going.pop() {
            if let Some(mut inner) = Arc::into_inner(tensor.0) {
                going.append(&mut inner.origin.take_inputs());
            }
        }
    }
}

/// An op's inputs and its way back: `(y, dy) -> [dx]`.
pub struct Made {
    /// The inputs, in the op's order.
    pub inputs: Vec<Tensor>,
    /// Gradients of the inputs from the output and its gradient.
    pub backward: Backward,
}

/// The way back of one op.
pub type Backward = Box<dyn Fn(&Tensor, &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// Host types a tensor can be made from and read into.
pub trait Element: bytemuck::Pod {
    /// The number type on the device.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
impl Element for half::f16 {
    const DTYPE: DType = DType::F16;
}
impl Element for i32 {
    const DTYPE: DType = DType::I32;
}
impl Element for u32 {
    const DTYPE: DType = DType::U32;
}

/// Elements of a shape.
///
/// Errors: [`Error::Shape`] above 2^32 - 1, where shaders could not count them.
pub fn n_elements(shape: &[usize]) -> Result<usize> {
    let count = shape.iter().try_fold(1_u64, |n, &d| n.checked_mul(d as u64));
    match count {
        Some(n) if n <= u64::from(u32::MAX) => Ok(n as usize),
        _ => Err(Error::shape("tensor", format!("{shape:?} has more than 4294967295 elements"))),
    }
}

impl Tensor {
    /// Bytes on whose multiples a binding may begin on any adapter: WebGPU's largest.
    pub const ALIGNMENT: u64 = 256;

    /// A tensor of undefined content.
    ///
    /// Errors: [`Error::Limit`] when the device cannot hold it.
    pub fn empty(gpu: &Gpu, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let count = n_elements(shape)? as u64;
        let bytes = count * dtype.bytes() as u64;
        let content = match dtype {
            DType::F32 => Content::Floats(Scalar::F32, count),
            DType::F16 => Content::Floats(Scalar::F16, count),
            DType::I32 | DType::U32 => Content::Ids,
        };
        let buffer = gpu.alloc(&format!("tensor {shape:?}"), bytes.next_multiple_of(16).max(16))?;
        Ok(Tensor(Arc::new(Inner {
            shape: shape.to_vec(),
            dtype,
            buffer: Arc::new(buffer.holding(content)),
            first_byte: 0,
            gpu: gpu.clone(),
            origin: Origin::Constant,
        })))
    }

    /// A tensor with the given values, row-major.
    ///
    /// Errors: [`Error::Shape`] when the count differs from the shape's.
    pub fn new<T: Element>(gpu: &Gpu, shape: &[usize], values: &[T]) -> Result<Tensor> {
        if n_elements(shape)? != values.len() {
            return Err(Error::shape("tensor", format!("{shape:?} does not hold {} values", values.len())));
        }
        let tensor = Tensor::empty(gpu, shape, T::DTYPE)?;
        tensor.fill(bytemuck::cast_slice(values))?;
        Ok(tensor)
    }

    /// A tensor from the bytes of its elements, little-endian, row-major.
    pub fn from_bytes(gpu: &Gpu, shape: &[usize], dtype: DType, bytes: &[u8]) -> Result<Tensor> {
        if n_elements(shape)? * dtype.bytes() != bytes.len() {
            return Err(Error::shape(
                "tensor",
                format!("{shape:?} is not {} bytes of {dtype:?}", bytes.len()),
            ));
        }
        let tensor = Tensor::empty(gpu, shape, dtype)?;
        tensor.fill(bytes)?;
        Ok(tensor)
    }

    fn fill(&self, bytes: &[u8]) -> Result<()> {
        let whole = bytes.len() & !3;
        self.gpu().write(&self.0.buffer, self.0.first_byte, &bytes[..whole])?;
        if whole < bytes.len() {
            let mut last = [0; 4];
            last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.gpu().write(&self.0.buffer, self.0.first_byte + whole as u64, &last)?;
        }
        Ok(())
    }

    /// The values, read back as f32 (f16 is widened).
    ///
    /// Errors: [`Error::DType`] for ids, [`Error::Device`] when the device is gone.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        let bytes = self.read_bytes()?;
        match self.dtype() {
            DType::F32 => Ok(values(&bytes)),
            DType::F16 => Ok(values::<half::f16>(&bytes).into_iter().map(f32::from).collect()),
            other => Err(Error::dtype("to_vec", format!("wanted floats, got {other:?}; use to_ids"))),
        }
    }

    /// The values of an id tensor, read back.
    pub fn to_ids(&self) -> Result<Vec<i32>> {
        match self.dtype() {
            DType::I32 | DType::U32 => Ok(values(&self.read_bytes()?)),
            other => Err(Error::dtype("to_ids", format!("wanted ids, got {other:?}"))),
        }
    }

    fn read_bytes(&self) -> Result<Vec<u8>> {
        let bytes = self.len() * self.dtype().bytes();
        let mut read =
            self.gpu().read(&self.0.buffer, self.0.first_byte, bytes.next_multiple_of(4) as u64)?;
        read.truncate(bytes);
        Ok(read)
    }

    /// Sizes of the axes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// Size of an axis counted from the last: `dim(0)` is the innermost.
    ///
    /// Panics when there is no such axis: callers have checked the rank.
    pub fn dim(&self, from_last: usize) -> usize {
        self.0.shape[self.0.shape.len() - 1 - from_last]
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.0.shape.iter().product()
    }

    /// True when an axis is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> u64 {
        (self.len() * self.dtype().bytes()) as u64
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.0.gpu
    }

    /// The buffer, for copies between buffers; its elements begin at [`Tensor::first_byte`].
    pub fn buffer(&self) -> &Buffer {
        &self.0.buffer
    }

    /// Where its elements begin in the buffer.
    pub fn first_byte(&self) -> u64 {
        self.0.first_byte
    }

    /// All of it, as a shader sees it.
    pub fn binding(&self) -> Binding<'_> {
        Binding::new(&self.0.buffer, self.0.first_byte, self.bytes())
    }

    /// A range of elements, as a shader sees it; its start lies on a multiple of 256 bytes
    /// (as [`Gpu::row_windows`] makes them).
    pub fn window(&self, elements: Range<usize>) -> Binding<'_> {
        let size = self.dtype().bytes();
        self.range(elements.start * size, elements.len() * size)
    }

    /// A range of bytes, as a shader sees it; its start is a multiple of the device's binding alignment.
    pub(crate) fn range(&self, start: usize, bytes: usize) -> Binding<'_> {
        Binding::new(&self.0.buffer, self.0.first_byte + start as u64, bytes as u64)
    }

    /// Parts of equal shape that lie one behind the other, none of them copied: `[parts, shape..]` -> `parts` times
    /// `[shape..]`. For a fresh output that no gradient is wanted of.
    ///
    /// Panics when a part does not begin on a multiple of [`Tensor::ALIGNMENT`] bytes: callers have asked before.
    pub(crate) fn unstacked(&self) -> Vec<Tensor> {
        let (parts, shape) = (self.shape()[0], &self.shape()[1..]);
        let bytes = self.bytes() / parts.max(1) as u64;
        assert!(bytes.is_multiple_of(Tensor::ALIGNMENT), "{self} has parts that begin anywhere");
        let part = |index: usize| {
            Tensor(Arc::new(Inner {
                shape: shape.to_vec(),
                dtype: self.dtype(),
                buffer: self.0.buffer.clone(),
                first_byte: self.0.first_byte + index as u64 * bytes,
                gpu: self.0.gpu.clone(),
                origin: Origin::Constant,
            }))
        };
        (0..parts).map(part).collect()
    }

    /// The same elements under another shape.
    ///
    /// Errors: [`Error::Shape`] when the counts differ.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor> {
        if n_elements(shape)? != self.len() {
            return Err(Error::shape("reshape", format!("{:?} does not hold {shape:?}", self.shape())));
        }
        let view = |origin| {
            Tensor(Arc::new(Inner {
                shape: shape.to_vec(),
                dtype: self.dtype(),
                buffer: self.0.buffer.clone(),
                first_byte: self.0.first_byte,
                gpu: self.0.gpu.clone(),
                origin,
            }))
        };
        if !self.wants_gradient() {
            return Ok(view(Origin::Constant));
        }
        let before = self.shape().to_vec();
        let backward: Backward = Box::new(move |_, dy| Ok(vec![Some(dy.reshape(&before)?)]));
        Ok(view(Origin::Made(Made { inputs: vec![self.clone()], backward })))
    }

    /// A parameter: a walk back will give its gradient. Shares the buffer.
    pub fn parameter(&self) -> Tensor {
        self.with_origin(Origin::Leaf)
    }

    /// The same values, forgotten by the walk back. Shares the buffer.
    pub fn detach(&self) -> Tensor {
        self.with_origin(Origin::Constant)
    }

    /// True when a walk back passes here.
    pub fn wants_gradient(&self) -> bool {
        !matches!(self.0.origin, Origin::Constant)
    }

    /// Links an op's fresh output to its inputs. `backward` receives the output and its gradient and returns one
    /// gradient per input; it must not capture the output, which would then own itself. Without an input that
    /// wants a gradient the link is dropped at once.
    pub fn made_by<const N: usize>(
        self,
        inputs: [&Tensor; N],
        backward: impl Fn(&Tensor, &Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static,
    ) -> Tensor {
        self.made_by_all(&inputs, move |y, dy| Ok(backward(y, dy)?.into()))
    }

    /// The same where only the call knows how many inputs there are.
    pub fn made_by_all(
        self,
        inputs: &[&Tensor],
        backward: impl Fn(&Tensor, &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    ) -> Tensor {
        if !inputs.iter().any(|input| input.wants_gradient()) {
            return self;
        }
        let inputs = inputs.iter().map(|&input| input.clone()).collect();
        self.with_origin(Origin::Made(Made { inputs, backward: Box::new(backward) }))
    }

    /// The op that made this tensor, where gradients are wanted.
    pub fn made(&self) -> Option<&Made> {
        match &self.0.origin {
            Origin::Made(made) => Some(made),
            _ => None,
        }
    }

    /// Identity of this node, for the walk back: clones share it, views do not.
    pub fn node(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// True for a parameter itself, not what was made from it.
    pub fn is_parameter(&self) -> bool {
        matches!(self.0.origin, Origin::Leaf)
    }

    fn with_origin(&self, origin: Origin) -> Tensor {
        Tensor(Arc::new(Inner {
            shape: self.0.shape.clone(),
            dtype: self.0.dtype,
            buffer: self.0.buffer.clone(),
            first_byte: self.0.first_byte,
            gpu: self.0.gpu.clone(),
            origin,
        }))
    }

    /// Number type of the arithmetic's storage, for a kernel's variant.
    ///
    /// Errors: [`Error::DType`] for ids; `op` names the caller.
    pub fn scalar(&self, op: &str) -> Result<Scalar> {
        match self.dtype() {
            DType::F32 => Ok(Scalar::F32),
            DType::F16 => Ok(Scalar::F16),
            other => Err(Error::dtype(op, format!("wanted f32 or f16, got {other:?}"))),
        }
    }
}

impl Gpu {
    /// Cuts `rows` into ranges that fit a storage binding each, for tensors that lie row beside row with the
    /// given bytes per row. One range where everything fits, which is nearly always; else every range starts on
    /// a multiple of 256 bytes in each tensor. `op` names the caller in a refusal.
    ///
    /// Errors: [`Error::Limit`] when a few rows alone are too large.
    pub fn row_windows(&self, op: &str, rows: usize, row_bytes: &[usize]) -> Result<Vec<Range<usize>>> {
        let limit = self.facts().limits.binding_bytes;
        let largest = row_bytes.iter().copied().max().unwrap_or(0) as u64;
        if rows as u64 * largest <= limit {
            return Ok(std::iter::once(0..rows).collect());
        }
        // 256 is a power of two: the largest of the steps is a multiple of the others.
        let aligned = |bytes: usize| 256 >> bytes.trailing_zeros().min(8);
        let step = row_bytes.iter().map(|&bytes| aligned(bytes)).max().unwrap_or(1);
        let most = (limit / largest) as usize / step * step;
        if most == 0 {
            return Err(Error::Limit {
                what: format!("{op}: {step} rows"),
                needed: largest * step as u64,
                available_what: "the largest storage binding of this adapter".into(),
                available: limit,
            });
        }
        Ok((0..rows).step_by(most).map(|start| start..rows.min(start + most)).collect())
    }
}

fn values<T: Element>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor {:?} {:?}", self.shape(), self.dtype())
    }
}

/// `[12, 36, 64, 320] f32`
impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.shape(), self.dtype())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_fit_and_are_aligned() {
        let gpu = Gpu::plan();
        assert_eq!(gpu.row_windows("op", 10, &[4, 12]).unwrap(), vec![0..10]);
        let rows = 1_000_003;
        let windows = gpu.row_windows("op", rows, &[1000, 12]).unwrap();
        assert!(windows.len() > 1 && windows.last().unwrap().end == rows);
        for pair in windows.windows(2) {
            assert_eq!(pair[0].end, pair[1].start);
            assert!(pair[1].start * 1000 % 256 == 0 && pair[1].start * 12 % 256 == 0);
            assert!(pair[0].len() * 1000 <= 128 << 20);
        }
        assert!(gpu.row_windows("op", 2, &[200 << 20]).is_err());
    }

    #[test]
    fn shapes_that_shaders_cannot_count_are_refused() {
        assert!(n_elements(&[1 << 31, 2]).is_err());
        assert!(n_elements(&[usize::MAX, usize::MAX]).is_err());
        assert_eq!(n_elements(&[]).unwrap(), 1);
        assert_eq!(n_elements(&[3, 0]).unwrap(), 0);
    }
}
