//! Tensors -> a safetensors file, one tensor at a time: the host never holds more than one piece of it.
//!
//! Tensors stand in the order of the reference writer (number type from wide to narrow, then name), the header
//! is padded to 8 bytes, so every tensor is aligned to its number type.

use super::{Dtype, shown};
use crate::error::{Error, Result};
use crate::files;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::tensor::TensorInfo;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

#[cfg(target_endian = "big")]
compile_error!("values are written as they lie in memory, the format is little-endian");

/// A tensor to be written; its values are made when their turn comes.
pub struct NewTensor<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    fill: Fill<'a>,
}

type Fill<'a> = Box<dyn FnOnce(&mut Sink) -> Result<()> + 'a>;

impl<'a> NewTensor<'a> {
    /// Values put into a [`Sink`] by `fill`, all of them, in row-major order, in pieces of any size.
    pub fn streamed(
        name: impl Into<String>,
        dtype: Dtype,
        shape: impl Into<Vec<usize>>,
        fill: impl FnOnce(&mut Sink) -> Result<()> + 'a,
    ) -> NewTensor<'a> {
        NewTensor { name: name.into(), dtype, shape: shape.into(), fill: Box::new(fill) }
    }

    /// f32 values kept in memory until written.
    pub fn from_f32(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        values: &'a [f32],
    ) -> NewTensor<'a> {
        NewTensor::streamed(name, Dtype::F32, shape, move |sink| sink.put_f32(values))
    }

    /// i64 values kept in memory until written.
    pub fn from_i64(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        values: &'a [i64],
    ) -> NewTensor<'a> {
        NewTensor::streamed(name, Dtype::I64, shape, move |sink| sink.put(bytemuck::cast_slice(values)))
    }
}

/// Takes the values of one tensor.
pub struct Sink<'a> {
    path: &'a Path,
    writer: &'a mut dyn Write,
    dtype: Dtype,
    n_left: u64,
}

impl Sink<'_> {
    /// Little-endian values of the tensor's own number type.
    ///
    /// Errors: [`Error::Write`]; [`Error::Shape`] when there are more than the shape holds.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let left = self.n_left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            Error::shape("write", format!("{} bytes were given, {} are left", bytes.len(), self.n_left))
        })?;
        self.writer.write_all(bytes).map_err(Error::write(self.path))?;
        self.n_left = left;
        Ok(())
    }

    /// f32 values, rounded to the tensor's own float type.
    ///
    /// Errors: as [`Sink::put`]; [`Error::DType`] when the tensor does not hold floats.
    pub fn put_f32(&mut self, values: &[f32]) -> Result<()> {
        match self.dtype {
            Dtype::F32 => self.put(bytemuck::cast_slice(values)),
            Dtype::F64 => self.put_blocks(values, |block, out| {
                out.iter_mut().zip(block).for_each(|(out, &value): (&mut f64, _)| *out = value.into());
            }),
            Dtype::F16 => self.put_blocks(values, |block, out: &mut [f16]| out.convert_from_f32_slice(block)),
            Dtype::BF16 => {
                self.put_blocks(values, |block, out: &mut [bf16]| out.convert_from_f32_slice(block))
            }
            other => Err(Error::dtype("write", format!("f32 values were given for a tensor of {other}"))),
        }
    }

    fn put_blocks<T: bytemuck::Pod>(
        &mut self,
        values: &[f32],
        round: impl Fn(&[f32], &mut [T]),
    ) -> Result<()> {
        let mut rounded = [T::zeroed(); 1024];
        for block in values.chunks(rounded.len()) {
            let rounded = &mut rounded[..block.len()];
            round(block, rounded);
            self.put(bytemuck::cast_slice(rounded))?;
        }
        Ok(())
    }
}

/// Writes a safetensors file, whole or not at all. `metadata` are texts by name; `format: pt` is added, without
/// which transformers refuses a file.
///
/// Errors: [`Error::Write`]; [`Error::Shape`] when a tensor's values do not fill its shape, two tensors share a
/// name, or a shape is larger than any memory; whatever a tensor's `fill` returns.
pub fn write(
    path: impl AsRef<Path>,
    mut tensors: Vec<NewTensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path.as_ref();
    tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let header = header(&tensors, metadata)?;
    files::write_atomically(path, |writer| {
        let length = (header.len() as u64).to_le_bytes();
        writer.write_all(&length).and_then(|()| writer.write_all(&header)).map_err(Error::write(path))?;
        for NewTensor { name, dtype, shape, fill } in tensors {
            let mut sink = Sink { path, writer, dtype, n_left: n_bytes(&name, dtype, &shape)? as u64 };
            fill(&mut sink)?;
            if sink.n_left > 0 {
                let detail = format!("{} {shape:?} lacks its last {} bytes", shown(&name), sink.n_left);
                return Err(Error::shape("write", detail));
            }
        }
        Ok(())
    })
}

fn header(tensors: &[NewTensor], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut texts = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    texts.extend(metadata.clone());
    // serde_json's map keeps this order, so the same tensors give the same bytes.
    let mut entries = serde_json::Map::new();
    let mut put = |name: &str, value: serde_json::Result<serde_json::Value>| {
        let value = value.map_err(|e| Error::shape("write", e.to_string()))?;
        match entries.insert(name.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(Error::shape("write", format!("two tensors are named {}", shown(name)))),
        }
    };
    put("__metadata__", serde_json::to_value(texts))?;
    let mut end = 0usize;
    for NewTensor { name, dtype, shape, .. } in tensors {
        let begin = end;
        end = begin.checked_add(n_bytes(name, *dtype, shape)?).ok_or_else(|| too_large(name, shape))?;
        let info = TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets: (begin, end) };
        put(name, serde_json::to_value(info))?;
    }
    let mut header = serde_json::Value::Object(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

fn n_bytes(name: &str, dtype: Dtype, shape: &[usize]) -> Result<usize> {
    let n_bits = shape.iter().try_fold(dtype.bitsize(), |product, &axis| product.checked_mul(axis));
    n_bits.map(|n_bits| n_bits.div_ceil(8)).ok_or_else(|| too_large(name, shape))
}

fn too_large(name: &str, shape: &[usize]) -> Error {
    Error::shape("write", format!("{} {shape:?} is larger than any memory", shown(name)))
}
