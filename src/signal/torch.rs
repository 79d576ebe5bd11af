//! Single tensors as PyTorch saves them: `torch.save(tensor, "x.pt")`.
//!
//! ```text
//! zip, nothing compressed: <name>/data.pkl   a pickle that rebuilds the tensor from storage, offset, shape, strides
//!                          <name>/data/0     its numbers, little-endian
//! ```
//!
//! A pickle is a program. This reader knows the few steps that rebuilding one tensor takes and refuses every other, runs
//! nothing, and checks each length against the file.

use super::npy::Array;
use crate::error::{Error, Result};
use crate::files;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;

/// Most bytes of a pickle that rebuilds one tensor (they have some 160).
const MAX_PICKLE_BYTES: u64 = 64 << 10;
/// Most numbers of a tensor.
const MAX_VALUES: usize = 1 << 28;
/// Most steps of a pickle, with the items it copies. One tensor takes about 40.
const MAX_SPENT: usize = 4096;

/// A value on the pickle's stack.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    Mark,
    Integer(i64),
    Bool,
    Text(String),
    Global(String),
    Tuple(Vec<Item>),
    /// What a call of `OrderedDict()` gives: the tensor's hooks, always empty.
    Nothing,
    Storage {
        key: String,
        kind: Kind,
        n: usize,
    },
    Tensor {
        key: String,
        kind: Kind,
        n: usize,
        start: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    },
}

impl Item {
    /// What a copy holds, in items.
    fn size(&self) -> usize {
        1 + match self {
            Item::Text(text) | Item::Global(text) => text.len() / 16,
            Item::Tuple(items) => items.iter().map(Item::size).sum(),
            _ => 0,
        }
    }
}

/// Number types of storages.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    F16,
    F32,
    F64,
}

impl Kind {
    fn named(global: &str) -> Option<Kind> {
        match global {
            "torch.HalfStorage" => Some(Kind::F16),
            "torch.FloatStorage" => Some(Kind::F32),
            "torch.DoubleStorage" => Some(Kind::F64),
            _ => None,
        }
    }

    fn size(self) -> usize {
        match self {
            Kind::F16 => 2,
            Kind::F32 => 4,
            Kind::F64 => 8,
        }
    }

    fn value(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Kind::F16, &[a, b]) => half::f16::from_le_bytes([a, b]).to_f32(),
            (Kind::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Kind::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
            _ => f32::NAN, // chunks have the type's size
        }
    }
}

/// Reads the one tensor of a file: floats of 2, 4 or 8 bytes, in any strides.
///
/// Errors: [`Error::Read`]; [`Error::Format`] for what is no such file, is cut short, or holds anything but a tensor.
pub fn read(path: impl AsRef<Path>) -> Result<Array<f32>> {
    let path = path.as_ref();
    let wrong = |detail: String| Error::format(path, detail);
    let file = File::open(path).map_err(Error::read(path))?;
    if !file.metadata().map_err(Error::read(path))?.is_file() {
        return Err(wrong("is not a plain file".into()));
    }
    let damaged = |what: &dyn std::fmt::Display| {
        wrong(format!(
            "is no file of torch.save: {what}; the copy may be cut short, compare its size with the source"
        ))
    };
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(&e))?;
    let pickle_name = archive.file_names().find(|name| name.ends_with("/data.pkl")).map(str::to_string);
    let pickle_name = pickle_name.ok_or_else(|| damaged(&"it holds no data.pkl"))?;
    let root = pickle_name.trim_end_matches("data.pkl").to_string();
    let mut part = |name: &str, limit: u64| -> Result<Vec<u8>> {
        let entry = archive.by_name(name).map_err(|e| damaged(&format!("{name}: {e}")))?;
        if entry.size() > limit {
            return Err(wrong(format!("{name} has {} bytes, at most {limit} are read", entry.size())));
        }
        let mut bytes = Vec::new();
        entry.take(limit).read_to_end(&mut bytes).map_err(|e| damaged(&e))?;
        Ok(bytes)
    };
    if part(&format!("{root}byteorder"), 64).is_ok_and(|order| order != b"little") {
        return Err(wrong("its numbers are big-endian; save it again on another machine".into()));
    }
    let tensor = unpickle(&part(&pickle_name, MAX_PICKLE_BYTES)?);
    let Item::Tensor { key, kind, n, start, shape, strides } = tensor
        .map_err(|what| wrong(format!("{what}; only single tensors are read, weights as safetensors")))?
    else {
        return Err(wrong("holds no tensor; only single tensors are read, weights as safetensors".into()));
    };
    let n_values = shape.iter().try_fold(1usize, |product, &axis| product.checked_mul(axis));
    let n_values = n_values
        .filter(|&n| n <= MAX_VALUES)
        .ok_or_else(|| wrong(format!("shape {shape:?} is too large")))?;
    // The last number's place, which must lie in the storage.
    let last = shape
        .iter()
        .zip(&strides)
        .try_fold(start, |at, (&axis, &stride)| at.checked_add(axis.saturating_sub(1).checked_mul(stride)?));
    let storage_bytes = n.saturating_mul(kind.size());
    if n_values > 0 && last.is_none_or(|last| last >= n) {
        return Err(wrong(format!("shape {shape:?} with strides {strides:?} goes beyond its {n} numbers")));
    }
    if n > MAX_VALUES {
        return Err(wrong(format!("{n} numbers, at most {MAX_VALUES} are read")));
    }
    let bytes = part(&format!("{root}data/{key}"), storage_bytes as u64)?;
    if bytes.len() != storage_bytes {
        return Err(damaged(&format!("it says {storage_bytes} bytes of numbers and holds {}", bytes.len())));
    }
    let mut data = Vec::with_capacity(n_values);
    let mut index = vec![0; shape.len()];
    for _ in 0..n_values {
        let at: usize = start + index.iter().zip(&strides).map(|(i, stride)| i * stride).sum::<usize>();
        data.push(kind.value(&bytes[at * kind.size()..][..kind.size()]));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Ok(Array { shape, data })
}

/// Runs the pickle of one tensor. Errors: what it does that no tensor needs.
fn unpickle(pickle: &[u8]) -> Result<Item, String> {
    let mut reader = Cursor::new(pickle);
    let (mut stack, mut memo): (Vec<Item>, HashMap<u32, Item>) = (Vec::new(), HashMap::new());
    let ended = || "its pickle ends too early".to_string();
    // Steps, and what copies hold: a few bytes of pickle can double a tuple again and again.
    let mut spent = 0;
    loop {
        let [op] = take::<1>(&mut reader)?;
        spent += 1;
        match op {
            0x80 => match take::<1>(&mut reader)? {
                [2..=5] => {}
                [version] => return Err(format!("its pickle is of version {version}")),
            },
            b'(' => stack.push(Item::Mark),
            b'.' => return stack.pop().ok_or_else(ended),
            b'c' => {
                let (module, name) = (line(&mut reader)?, line(&mut reader)?);
                stack.push(Item::Global(format!("{module}.{name}")));
            }
            b'X' => {
                let n = u32::from_le_bytes(take::<4>(&mut reader)?) as usize;
                let at = reader.position() as usize;
                let text = pickle.get(at..at.saturating_add(n)).ok_or_else(ended)?;
                reader.set_position((at + n) as u64);
                let text = std::str::from_utf8(text).map_err(|_| "its pickle holds text that is no UTF-8")?;
                stack.push(Item::Text(text.to_string()));
            }
            b'K' => stack.push(Item::Integer(take::<1>(&mut reader)?[0].into())),
            b'M' => stack.push(Item::Integer(u16::from_le_bytes(take(&mut reader)?).into())),
            b'J' => stack.push(Item::Integer(i32::from_le_bytes(take(&mut reader)?).into())),
            0x8a => {
                let n = usize::from(take::<1>(&mut reader)?[0]);
                let mut bytes = [0u8; 8];
                for slot in bytes.get_mut(..n).ok_or("its pickle holds an integer of more than 8 bytes")? {
                    *slot = take::<1>(&mut reader)?[0];
                }
                stack.push(Item::Integer(i64::from_le_bytes(bytes)));
            }
            0x88 | 0x89 => stack.push(Item::Bool),
            b')' => stack.push(Item::Tuple(vec![])),
            b't' => {
                let mark = stack.iter().rposition(|item| *item == Item::Mark).ok_or_else(ended)?;
                let items = stack.split_off(mark + 1);
                stack.pop();
                stack.push(Item::Tuple(items));
            }
            0x85..=0x87 => {
                let n = usize::from(op - 0x84);
                let at = stack.len().checked_sub(n).ok_or_else(ended)?;
                let items = stack.split_off(at);
                stack.push(Item::Tuple(items));
            }
            b'q' | b'r' => {
                let idx = match op {
                    b'q' => take::<1>(&mut reader)?[0].into(),
                    _ => u32::from_le_bytes(take(&mut reader)?),
                };
                let item = stack.last().ok_or_else(ended)?;
                spent += item.size();
                memo.insert(idx, item.clone());
            }
            b'h' | b'j' => {
                let idx = match op {
                    b'h' => take::<1>(&mut reader)?[0].into(),
                    _ => u32::from_le_bytes(take(&mut reader)?),
                };
                let item = memo.get(&idx).ok_or_else(ended)?;
                spent += item.size();
                stack.push(item.clone());
            }
            b'Q' => {
                let what = stack.pop().ok_or_else(ended)?;
                stack.push(storage(&what)?);
            }
            b'R' => {
                let (arguments, function) = (stack.pop(), stack.pop());
                let (Some(Item::Tuple(arguments)), Some(Item::Global(name))) = (arguments, function) else {
                    return Err("its pickle calls what is no function".into());
                };
                stack.push(call(&name, &arguments)?);
            }
            other => return Err(format!("its pickle does something no tensor needs (opcode 0x{other:02x})")),
        }
        if spent > MAX_SPENT {
            return Err("its pickle is too deep for one tensor".into());
        }
    }
}

fn take<const N: usize>(reader: &mut Cursor<&[u8]>) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(|_| "its pickle ends too early".to_string())?;
    Ok(bytes)
}

/// Up to the next line end, at most 100 bytes.
fn line(reader: &mut Cursor<&[u8]>) -> Result<String, String> {
    let mut text = String::new();
    loop {
        match take::<1>(reader)? {
            [b'\n'] => return Ok(text),
            [byte] if byte.is_ascii_graphic() && text.len() < 100 => text.push(byte.into()),
            _ => return Err("its pickle names something unreadable".into()),
        }
    }
}

/// `("storage", torch.FloatStorage, "0", "cpu", 24)`
fn storage(what: &Item) -> Result<Item, String> {
    if let Item::Tuple(items) = what
        && let [Item::Text(tag), Item::Global(global), Item::Text(key), Item::Text(_), Item::Integer(n)] =
            &items[..]
        && tag == "storage"
    {
        let kind = Kind::named(global).ok_or_else(|| format!("it holds {global}, wanted floats"))?;
        let n = usize::try_from(*n).map_err(|_| "its storage has a negative length")?;
        let is_plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        return if is_plain {
            Ok(Item::Storage { key: key.clone(), kind, n })
        } else {
            Err("its storage has an odd name".into())
        };
    }
    Err("its pickle points to something that is no storage".into())
}

/// The calls that rebuild a tensor; nothing else is called.
fn call(name: &str, arguments: &[Item]) -> Result<Item, String> {
    match (name, arguments) {
        ("collections.OrderedDict", []) => Ok(Item::Nothing),
        (
            "torch._utils._rebuild_tensor_v2",
            [
                Item::Storage { key, kind, n },
                Item::Integer(start),
                Item::Tuple(shape),
                Item::Tuple(strides),
                Item::Bool,
                ..,
            ],
        ) if shape.len() == strides.len() && shape.len() <= 16 => {
            let sizes = |items: &[Item]| -> Option<Vec<usize>> {
                let size = |item: &Item| match item {
                    Item::Integer(n) => usize::try_from(*n).ok(),
                    _ => None,
                };
                items.iter().map(size).collect()
            };
            match (usize::try_from(*start), sizes(shape), sizes(strides)) {
                (Ok(start), Some(shape), Some(strides)) => {
                    Ok(Item::Tensor { key: key.clone(), kind: *kind, n: *n, start, shape, strides })
                }
                _ => Err("its tensor has a shape that is none".into()),
            }
        }
        // nn.Parameter(tensor)
        ("torch._utils._rebuild_parameter", [tensor @ Item::Tensor { .. }, ..]) => Ok(tensor.clone()),
        _ => Err(format!("its pickle calls {name}")),
    }
}

/// Writes float32 numbers of a shape as `torch.save` would, whole or not at all; `torch.load` with `weights_only` reads it.
///
/// Errors: [`Error::Shape`] when the shape does not hold `data`; [`Error::Write`].
pub fn write(path: impl AsRef<Path>, shape: &[usize], data: &[f32]) -> Result<()> {
    let path = path.as_ref();
    let fits = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n)) == Some(data.len());
    let count = u32::try_from(data.len()).ok().filter(|&n| fits && n <= i32::MAX as u32 && shape.len() <= 16);
    let Some(count) = count else {
        let detail = format!("shape {shape:?} cannot hold {} numbers", data.len());
        return Err(Error::shape("torch::write", detail));
    };
    let integer = |pickle: &mut Vec<u8>, n: u32| {
        pickle.push(b'J');
        pickle.extend(n.to_le_bytes());
    };
    let text = |pickle: &mut Vec<u8>, text: &str| {
        pickle.push(b'X');
        pickle.extend((text.len() as u32).to_le_bytes());
        pickle.extend(text.as_bytes());
    };
    let mut pickle = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    text(&mut pickle, "storage");
    pickle.extend(b"ctorch\nFloatStorage\n");
    text(&mut pickle, "0");
    text(&mut pickle, "cpu");
    integer(&mut pickle, count);
    pickle.extend(b"tQ");
    integer(&mut pickle, 0);
    let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product::<usize>());
    for sizes in [shape.to_vec(), strides.collect()] {
        pickle.push(b'(');
        sizes.into_iter().for_each(|n| integer(&mut pickle, n as u32)); // at most the count of numbers
        pickle.push(b't');
    }
    pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR.");
    let bytes: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
    let failed = |e: zip::result::ZipError| Error::write(path)(std::io::Error::other(e));
    files::write_atomically(path, |file| {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, content) in [
            ("archive/data.pkl", &pickle[..]),
            ("archive/byteorder", b"little"),
            ("archive/data/0", &bytes),
            ("archive/version", b"3\n"),
        ] {
            archive.start_file(name, stored.with_alignment(64)).map_err(failed)?;
            archive.write_all(content).map_err(Error::write(path))?;
        }
        let whole = archive.finish().map_err(failed)?;
        file.write_all(whole.get_ref()).map_err(Error::write(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch").join(name)
    }

    /// Files by PyTorch 2.15; `tests/golden/torch_files.py` made them.
    #[test]
    fn tensors_of_pytorch_are_read() {
        let ramp: Vec<f32> = (0..24).map(|v| v as f32 / 4.0).collect();
        let plain = read(golden("plain.pt")).unwrap();
        assert_eq!((plain.shape, plain.data), (vec![2, 3, 4], ramp.clone()));
        let turned = read(golden("turned.pt")).unwrap();
        assert_eq!(turned.shape, [4, 2]);
        let wanted: Vec<f32> =
            (0..4).flat_map(|i| (0..2).map(move |j| (4 + i + 12 * j) as f32 / 4.0)).collect();
        assert_eq!(turned.data, wanted);
        assert_eq!(read(golden("half.pt")).unwrap().data, ramp);
        assert_eq!(read(golden("double.pt")).unwrap().data, ramp);
        assert_eq!(read(golden("parameter.pt")).unwrap().shape, [3]);
        assert_eq!(read(golden("scalar.pt")).unwrap().shape, [0usize; 0]);
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pt");
        let data: Vec<f32> = (0..30).map(|v| v as f32 * 0.1).collect();
        write(&path, &[2, 3, 5], &data).unwrap();
        assert_eq!(read(&path).unwrap(), Array { shape: vec![2, 3, 5], data: data.clone() });
        assert!(write(&path, &[2, 3], &data).is_err());
    }

    #[test]
    fn other_pickles_run_nothing_and_are_refused_in_one_line() {
        let refused = |name: &str, wanted: &str| {
            let error = read(golden(name)).unwrap_err();
            let text = error.to_string();
            assert!(error.exit_code() == 3 && text.contains(wanted) && !text.contains('\n'), "{text}");
        };
        refused("dictionary.pt", "opcode 0x7d"); // a state dict begins with a dictionary
        refused("evil.pt", "calls posix.system");
        refused("integers.pt", "torch.LongStorage, wanted floats");
        assert!(read(golden("missing.pt")).is_err());
    }

    #[test]
    fn a_pickle_that_doubles_what_it_holds_is_refused() {
        let doubling: Vec<u8> = [b")".to_vec(), b"q\0h\0\x86".repeat(60), b".".to_vec()].concat();
        let nesting: Vec<u8> = [b")".to_vec(), b"\x85".repeat(60_000), b".".to_vec()].concat();
        for pickle in [doubling, nesting] {
            assert!(unpickle(&pickle).unwrap_err().contains("too deep"));
        }
    }

    #[test]
    fn a_damaged_file_is_refused_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pt");
        let whole = std::fs::read(golden("plain.pt")).unwrap();
        for n in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..n]).unwrap();
            let text = read(&path).unwrap_err().to_string();
            assert!(text.contains("cut short"), "{n}: {text}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x55;
            std::fs::write(&path, &changed).unwrap();
            if let Ok(array) = read(&path) {
                assert!(array.data.len() <= 24, "byte {at}: {:?}", array.shape);
            }
        }
    }
}
