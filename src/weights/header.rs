//! The header of one safetensors file, guarded: length before allocation, then JSON, then offsets.
//!
//! ```text
//! u64 LE length | {"name": {"dtype", "shape", "data_offsets"}, …, "__metadata__": {…}} | values
//! ```
//!
//! The crate `safetensors` decides what is valid; what stands here are limits it does not have (names twice,
//! counts, ranks) and messages that name the tensor. Format: huggingface/safetensors README, "Format".

use super::{Dtype, REFUSE_PICKLE, shown};
use crate::error::{Error, Result};
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::path::Path;

const LENGTH_BYTES: usize = 8;
/// The format's own limit.
const LONGEST_HEADER: u64 = 100_000_000;
// Far above any published checkpoint, far below what would hurt: a header of 100 MB could otherwise ask for
// several times its size in lists of zeros.
const MOST_TENSORS: usize = 250_000;
const MOST_METADATA: usize = 10_000;
const MOST_AXES: usize = 16;

/// What a file holds.
#[derive(Debug)]
pub(super) struct Header {
    pub tensors: Vec<Tensor>,
    pub metadata: BTreeMap<String, String>,
}

/// One tensor, by the name in the file.
#[derive(Debug)]
pub(super) struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Bytes counted from the start of the file; inside it.
    pub range: Range<usize>,
}

/// Reads the header of `file`, all bytes of the file at `path`.
pub(super) fn parse(path: &Path, file: &[u8]) -> Result<Header> {
    let refuse = |detail: String| Error::format(path, detail);
    let json = header_bytes(file).map_err(refuse)?;
    let data_start = LENGTH_BYTES + json.len();
    let mut content: Content = serde_json::from_slice(json)
        .map_err(|e| Error::format(path, format!("its header is not what safetensors writes: {e}")))?;
    content.tensors.sort_by_key(|(_, info)| info.data_offsets);

    let checked = Metadata::new(None, content.tensors.clone())
        .map_err(|e| refuse(explain(&content.tensors).unwrap_or_else(|| e.to_string())))?;
    let (claimed, held) = (checked.data_len(), file.len() - data_start);
    if claimed != held {
        let advice = if claimed > held {
            "the copy may be cut short, download it again"
        } else {
            "something was put behind the tensors"
        };
        return Err(refuse(format!("tensors take {claimed} bytes, the file has {held} for them; {advice}")));
    }
    let tensors = content.tensors.into_iter().map(|(name, info)| {
        let (begin, end) = info.data_offsets;
        Tensor { name, dtype: info.dtype, shape: info.shape, range: data_start + begin..data_start + end }
    });
    Ok(Header { tensors: tensors.collect(), metadata: content.metadata })
}

/// The JSON part, its claimed length held against the file's before anything is made of it.
fn header_bytes(file: &[u8]) -> Result<&[u8], String> {
    let (length, rest) = file.split_first_chunk::<LENGTH_BYTES>().ok_or("has no header")?;
    let (claimed, held) = (u64::from_le_bytes(*length), rest.len() as u64);
    if claimed > LONGEST_HEADER || claimed > held {
        if looks_like_pickle(file) {
            return Err(format!("is not safetensors but pickle or zip; {REFUSE_PICKLE}"));
        }
        return Err(format!(
            "header says {claimed} bytes, the file has {held} after the length{}; \
             the copy may be cut short, download it again",
            if claimed > LONGEST_HEADER {
                format!(" and {LONGEST_HEADER} are allowed")
            } else {
                String::new()
            },
        ));
    }
    let json = &rest[..claimed as usize];
    // The format wants it, so that a file is not two formats at once.
    if json.first() != Some(&b'{') {
        return Err("its header does not begin with '{'; is it a safetensors file?".into());
    }
    Ok(json)
}

/// torch.save writes a zip, older ones a bare pickle (protocol 2 to 5).
fn looks_like_pickle(file: &[u8]) -> bool {
    file.starts_with(b"PK\x03\x04") || matches!(file, [0x80, 2..=5, ..])
}

/// Which tensor is wrong, and how; `tensors` sorted by offset.
fn explain(tensors: &[(String, TensorInfo)]) -> Option<String> {
    let mut expected = 0;
    for (name, TensorInfo { dtype, shape, data_offsets: (begin, end) }) in tensors {
        let name = shown(name);
        if *begin != expected || end < begin {
            return Some(format!(
                "tensor {name} takes bytes {begin} to {end} of the data, wanted a start at {expected}: \
                 tensors overlap or leave a hole"
            ));
        }
        let n_bits = shape.iter().try_fold(dtype.bitsize(), |product, &axis| product.checked_mul(axis));
        match n_bits {
            None => return Some(format!("tensor {name}: shape {shape:?} is larger than any memory")),
            Some(n_bits) if n_bits % 8 != 0 || n_bits / 8 != end - begin => {
                return Some(format!(
                    "tensor {name}: {dtype} {shape:?} needs {} bytes, it has {}",
                    n_bits.div_ceil(8),
                    end - begin
                ));
            }
            Some(_) => expected = *end,
        }
    }
    None
}

/// The header's JSON: every name once, counts limited while reading.
struct Content {
    tensors: Vec<(String, TensorInfo)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut content = Content { tensors: Vec::new(), metadata: BTreeMap::new() };
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("{} is named twice", shown(&name))));
            }
            if name == "__metadata__" {
                content.metadata = map.next_value::<Texts>()?.0;
                continue;
            }
            if content.tensors.len() == MOST_TENSORS {
                return Err(A::Error::custom(format!("more than {MOST_TENSORS} tensors")));
            }
            let Info { dtype, shape, data_offsets } = map.next_value()?;
            content.tensors.push((name, TensorInfo { dtype, shape: shape.0, data_offsets }));
        }
        Ok(content)
    }
}

/// `safetensors::tensor::TensorInfo` with a limited rank.
#[derive(Deserialize)]
struct Info {
    dtype: Dtype,
    shape: Axes,
    data_offsets: (usize, usize),
}

struct Axes(Vec<usize>);

impl<'de> Deserialize<'de> for Axes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(AxesVisitor)
    }
}

struct AxesVisitor;

impl<'de> Visitor<'de> for AxesVisitor {
    type Value = Axes;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a shape of at most {MOST_AXES} axes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Axes, A::Error> {
        let mut axes = Vec::new();
        while let Some(axis) = seq.next_element()? {
            if axes.len() == MOST_AXES {
                return Err(A::Error::invalid_length(MOST_AXES + 1, &self));
            }
            axes.push(axis);
        }
        Ok(Axes(axes))
    }
}

struct Texts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "at most {MOST_METADATA} texts by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some((name, text)) = map.next_entry()? {
            if texts.len() == MOST_METADATA {
                return Err(A::Error::invalid_length(MOST_METADATA + 1, &self));
            }
            texts.insert(name, text);
        }
        Ok(Texts(texts))
    }
}
