//! NumPy's `.npy` and `.npz`, read as if a stranger had written them.
//!
//! ```text
//! magic | version | header length | {'descr': '<f4', 'fortran_order': False, 'shape': (62, 400), } | numbers
//! ```
//!
//! No length from a file reaches the allocator unchecked: the header is at most 64 KiB, the product of the
//! shape is taken in u128 and must equal what the file holds, and the bytes of an `.npz` are counted as they
//! inflate. Pickles are refused unread. Format: NumPy's NEP 1 and `numpy.lib.format`.

mod header;

use super::{Real, Stored};
use crate::error::{Error, Result, bytes as readable};
use crate::files;
pub use header::MAX_HEADER_BYTES;
use header::{Header, read_header};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Largest file read, in bytes.
pub const MAX_FILE_BYTES: u64 = 8 << 30;
/// Most bytes inflated from one `.npz`.
pub const MAX_INFLATED_BYTES: u64 = 2 << 30;
/// What to do where one array of several is wanted; ends the error that tells of them.
pub const NAME_ONE: &str = "name one";
/// Names under which one array of several is taken unasked.
const USUAL_NAMES: [&str; 4] = ["eeg", "data", "X", "arr_0"];

/// An array in row-major (C) order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    /// Length of each axis; empty for a single number.
    pub shape: Vec<usize>,
    /// The numbers, last axis fastest.
    pub data: Vec<T>,
}

/// What a file says of one array, its numbers unread.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name in an `.npz`; empty for an `.npy`.
    pub name: String,
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// NumPy's type string, such as `<f4`.
    pub dtype: String,
}

/// Reads an `.npy`, or the array `name` of an `.npz`; without a name the only one, or the one called `eeg`,
/// `data`, `X` or `arr_0`. Floats of 2, 4 and 8 bytes, integers and booleans become `T`; C and Fortran order.
///
/// Errors: [`Error::Read`] when the file cannot be opened; [`Error::Format`] when it is damaged, cut short,
/// too large, a pickle, or holds another type.
pub fn read<T: Real>(path: impl AsRef<Path>, name: Option<&str>) -> Result<Array<T>> {
    let path = path.as_ref();
    match open(path)? {
        Source::Npy { mut reader, size } => {
            if let Some(name) = name {
                return Err(single(path, name));
            }
            read_npy(path, &mut reader, size)
        }
        Source::Npz(mut archive) => {
            let idx = choose(path, &archive, name)?;
            let mut entry = archive.by_index(idx).map_err(|e| damaged(path, &e))?;
            read_array(path, &mut entry, MAX_INFLATED_BYTES, None)
        }
    }
}

/// Name, shape and type of every array, without reading the numbers. Errors as [`read`].
pub fn list(path: impl AsRef<Path>) -> Result<Vec<Entry>> {
    let path = path.as_ref();
    let entry = |name: &str, header: Header| Entry {
        name: name.to_string(),
        shape: header.shape,
        dtype: header.number.descr,
    };
    match open(path)? {
        Source::Npy { mut reader, size } => Ok(vec![entry("", read_header(path, &mut reader, size)?)]),
        Source::Npz(mut archive) => (0..archive.len())
            .map(|idx| {
                let mut file = archive.by_index(idx).map_err(|e| damaged(path, &e))?;
                let header = read_header(path, &mut file, MAX_INFLATED_BYTES)?;
                Ok(entry(array_name(file.name()), header))
            })
            .collect(),
    }
}

/// What [`read`] would read: name, shape and type of the array, its numbers unread. Errors as [`read`].
pub fn describe(path: impl AsRef<Path>, name: Option<&str>) -> Result<Entry> {
    let path = path.as_ref();
    let mut entries = list(path)?;
    let idx = match open(path)? {
        Source::Npy { .. } if name.is_some() => return Err(single(path, name.unwrap_or_default())),
        Source::Npy { .. } => 0,
        Source::Npz(archive) => choose(path, &archive, name)?,
    };
    Ok(entries.swap_remove(idx))
}

/// An `.npy` of bytes in row-major order, read piece by piece: pictures that need not be in memory together.
#[derive(Clone, Debug)]
pub struct Bytes {
    path: PathBuf,
    shape: Vec<usize>,
    first: u64,
}

impl Bytes {
    /// Looks at the header.
    ///
    /// Errors: as [`read`]; [`Error::Format`] for other numbers than u8, and for Fortran order.
    pub fn open(path: impl AsRef<Path>) -> Result<Bytes> {
        let path = path.as_ref();
        let Source::Npy { mut reader, size } = open(path)? else {
            return Err(Error::format(path, "is an .npz, wanted an .npy of u8"));
        };
        let header = read_header(path, &mut reader, size)?;
        if header.number.descr != "|u1" || header.is_fortran {
            let order = if header.is_fortran { " in Fortran order" } else { "" };
            let detail = format!("holds {}{order}, wanted |u1 in C order", header.number.descr);
            return Err(Error::format(path, detail));
        }
        if u128::from(size) < u128::from(header.header_bytes) + header.data_bytes {
            return Err(Error::format(path, "is cut short; compare its size with the source"));
        }
        Ok(Bytes { path: path.to_path_buf(), shape: header.shape, first: header.header_bytes })
    }

    /// Length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// `count` bytes from `start` on.
    ///
    /// Errors: [`Error::Read`]; [`Error::Shape`] past the end.
    pub fn read(&self, start: usize, count: usize) -> Result<Vec<u8>> {
        let total: usize = self.shape.iter().product();
        if start.checked_add(count).is_none_or(|end| end > total) {
            return Err(Error::shape("npy", format!("bytes {start} + {count} are past the end, {total}")));
        }
        let mut file = File::open(&self.path).map_err(Error::read(&self.path))?;
        let mut bytes = vec![0; count];
        file.seek(std::io::SeekFrom::Start(self.first + start as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(Error::read(&self.path))?;
        Ok(bytes)
    }
}

/// Writes `data` of `shape` as a little-endian `.npy` in row-major order, whole or not at all.
///
/// Errors: [`Error::Shape`] when the shape does not hold `data`; [`Error::Write`].
pub fn write<T: Stored>(path: impl AsRef<Path>, shape: &[usize], data: &[T]) -> Result<()> {
    write_parts(path, shape, |put| put(data))
}

/// Writes an `.npy` of `shape` whose numbers come in parts, each handed to the closure's argument; the parts need
/// not be in memory together. Whole or not at all.
///
/// Errors: [`Error::Shape`] when the parts do not fill the shape; [`Error::Write`]; whatever `fill` returns.
pub fn write_parts<T: Stored>(
    path: impl AsRef<Path>,
    shape: &[usize],
    fill: impl FnOnce(&mut dyn FnMut(&[T]) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let axes: String = match shape {
        [n] => format!("{n},"),
        _ => shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut header = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({axes}), }}", T::DESCR);
    // Numbers start at a multiple of 64 bytes, so that the file can be mapped.
    let padding = 64 - (10 + header.len() + 1) % 64;
    header.push_str(&" ".repeat(padding % 64));
    header.push('\n');
    let length = u16::try_from(header.len())
        .map_err(|_| Error::shape("npy::write", format!("{} axes are too many", shape.len())))?;
    let wanted = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    let misfit = |n: usize| Error::shape("npy::write", format!("shape {shape:?} cannot hold {n} numbers"));
    files::write_atomically(path, |file| {
        let mut buffer = b"\x93NUMPY\x01\x00".to_vec();
        buffer.extend_from_slice(&length.to_le_bytes());
        buffer.extend_from_slice(header.as_bytes());
        let mut written = 0usize;
        fill(&mut |data| {
            written += data.len();
            if wanted.is_none_or(|wanted| written > wanted) {
                return Err(misfit(written));
            }
            for chunk in data.chunks(1 << 14) {
                chunk.iter().for_each(|value| value.push_le(&mut buffer));
                file.write_all(&buffer).map_err(Error::write(path))?;
                buffer.clear();
            }
            Ok(())
        })?;
        if wanted != Some(written) {
            return Err(misfit(written));
        }
        file.write_all(&buffer).map_err(Error::write(path)) // an empty array is all header
    })
}

enum Source {
    Npy { reader: BufReader<File>, size: u64 },
    Npz(zip::ZipArchive<BufReader<File>>),
}

/// Opens a regular file and looks at its first bytes; the extension is not trusted, except to refuse.
fn open(path: &Path) -> Result<Source> {
    let metadata = std::fs::metadata(path).map_err(Error::read(path))?;
    if !metadata.is_file() {
        return Err(Error::format(path, "is not a file; give an .npy or .npz file"));
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    if ["pt", "pth", "ckpt", "pkl", "pickle"].contains(&extension.as_str()) {
        return Err(pickle(path));
    }
    let size = metadata.len();
    if size > MAX_FILE_BYTES {
        let detail = format!("holds {}, at most {} are read", readable(size), readable(MAX_FILE_BYTES));
        return Err(Error::format(path, detail + "; split it into several files"));
    }
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(Error::read(path))?);
    let mut magic = Vec::new();
    (&mut reader).take(6).read_to_end(&mut magic).map_err(Error::read(path))?;
    reader.rewind().map_err(Error::read(path))?;
    match magic.as_slice() {
        b"\x93NUMPY" => Ok(Source::Npy { reader, size }),
        [b'P', b'K', ..] => {
            let archive = zip::ZipArchive::new(reader).map_err(|e| damaged(path, &e))?;
            if archive.file_names().any(|name| name.ends_with(".pkl")) {
                return Err(pickle(path)); // what torch.save writes
            }
            Ok(Source::Npz(archive))
        }
        [0x80, 2..=5, ..] => Err(pickle(path)),
        [] => Err(Error::format(path, "is empty; copy it again from its source")),
        _ => Err(Error::format(
            path,
            "is neither .npy nor .npz; convert it with numpy.save(\"eeg.npy\", array)",
        )),
    }
}

fn single(path: &Path, name: &str) -> Error {
    let detail =
        format!("is a single .npy array, array \"{}\" was asked for; give no name", name.escape_debug());
    Error::format(path, detail)
}

fn pickle(path: &Path) -> Error {
    let detail = "is a pickle, and reading a pickle can run code; where it was made, convert it with \
                  numpy.save(\"eeg.npy\", array), weights with safetensors.torch.save_file";
    Error::format(path, detail)
}

fn damaged(path: &Path, what: &dyn std::fmt::Display) -> Error {
    let detail =
        format!("cannot be unpacked: {what}; the copy may be cut short, compare its size with the source");
    Error::format(path, detail)
}

/// An early end or bad data is the file's fault, the rest the system's.
fn trouble(path: &Path, error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other => {
            damaged(path, &error)
        }
        _ => Error::read(path)(error),
    }
}

fn array_name(file_name: &str) -> &str {
    file_name.strip_suffix(".npy").unwrap_or(file_name)
}

/// Index of the wanted array in the archive.
fn choose(path: &Path, archive: &zip::ZipArchive<BufReader<File>>, name: Option<&str>) -> Result<usize> {
    let names: Vec<&str> =
        (0..archive.len()).filter_map(|i| archive.name_for_index(i)).map(array_name).collect();
    let wanted = match (name, names.as_slice()) {
        (_, []) => return Err(Error::format(path, "holds no array")),
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, _) => match USUAL_NAMES.into_iter().find(|usual| names.contains(usual)) {
            Some(usual) => usual,
            None => {
                let shown = names.iter().take(10).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
                return Err(Error::format(
                    path,
                    format!("holds {} arrays, {shown}; {NAME_ONE}", names.len()),
                ));
            }
        },
    };
    names.iter().position(|n| *n == wanted).ok_or_else(|| {
        let hint = match crate::error::nearest(wanted, names.iter().copied()) {
            Some(near) => format!("; did you mean \"{near}\"?"),
            None => format!("; it holds {}", names.iter().take(10).copied().collect::<Vec<_>>().join(", ")),
        };
        Error::format(path, format!("has no array \"{wanted}\"{hint}"))
    })
}

fn read_npy<T: Real>(path: &Path, reader: &mut impl Read, size: u64) -> Result<Array<T>> {
    read_array(path, reader, size, Some(size))
}

/// Header and numbers; `cap` bytes may be read, and the stream holds `exactly` so many where that is known.
fn read_array<T: Real>(
    path: &Path,
    reader: &mut impl Read,
    cap: u64,
    exactly: Option<u64>,
) -> Result<Array<T>> {
    let header = read_header(path, reader, cap)?;
    let wanted = header.data_bytes;
    let says = || format!("header says {:?} of {}, {wanted} bytes", header.shape, header.number.descr);
    match exactly {
        Some(size) if u128::from(size - header.header_bytes) != wanted => {
            let holds = size - header.header_bytes;
            let advice = if u128::from(holds) < wanted {
                "the copy may be cut short, compare its size with the source"
            } else {
                "write it again with numpy.save"
            };
            return Err(Error::format(path, format!("{}, the file holds {holds}; {advice}", says())));
        }
        None if wanted > u128::from(cap - header.header_bytes) => {
            let detail = format!("{}; at most {} are unpacked, save it as .npy", says(), readable(cap));
            return Err(Error::format(path, detail));
        }
        _ => {}
    }
    let item = header.number.size;
    let n_values = usize::try_from(wanted / item as u128)
        .map_err(|_| Error::format(path, format!("{}, too large for this machine", says())))?;
    // A file is known to hold its numbers; an archive only says so, and memory follows what arrives.
    let reserved = if exactly.is_some() { n_values } else { n_values.min(1 << 20) };
    let mut data: Vec<T> = Vec::new();
    data.try_reserve_exact(reserved)
        .map_err(|_| Error::format(path, format!("{}, more than there is memory", says())))?;
    let mut buffer = vec![0u8; item << 14];
    let mut left = n_values;
    while left > 0 {
        let n = left.min(1 << 14);
        let chunk = &mut buffer[..n * item];
        reader.read_exact(chunk).map_err(|e| trouble(path, e))?;
        data.extend(chunk.chunks_exact_mut(item).map(|bytes| T::from_f64(header.number.decode(bytes))));
        left -= n;
    }
    // Reading to the very end also makes an archive compare its checksum.
    let mut beyond = [0u8];
    if reader.read(&mut beyond).map_err(|e| trouble(path, e))? != 0 {
        return Err(Error::format(path, format!("{}, more follow; write it again with numpy.save", says())));
    }
    if header.is_fortran {
        data = row_major(&data, &header.shape);
    }
    Ok(Array { shape: header.shape, data })
}

/// Column-major to row-major.
fn row_major<T: Copy>(data: &[T], shape: &[usize]) -> Vec<T> {
    let mut strides = vec![1; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let (mut index, mut at) = (vec![0; shape.len()], 0);
    let mut out = Vec::with_capacity(data.len());
    for _ in 0..data.len() {
        out.push(data[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8], name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        (folder, path)
    }

    fn refusal(content: &[u8], name: &str) -> String {
        let (_folder, path) = file(content, name);
        let error = read::<f32>(&path, None).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        error.to_string()
    }

    fn npy(dict: &str, numbers: &[u8]) -> Vec<u8> {
        let mut content = b"\x93NUMPY\x01\x00".to_vec();
        content.extend_from_slice(&(dict.len() as u16).to_le_bytes());
        content.extend_from_slice(dict.as_bytes());
        content.extend_from_slice(numbers);
        content
    }

    fn plain(descr: &str, shape: &str, numbers: &[u8]) -> Vec<u8> {
        npy(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"), numbers)
    }

    fn npz(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        for (name, content) in entries {
            archive.start_file(*name, options).unwrap();
            archive.write_all(content).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    #[test]
    fn written_arrays_read_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        for shape in [vec![], vec![0], vec![5], vec![2, 3], vec![3, 0, 2], vec![2, 3, 4]] {
            let n = shape.iter().product();
            let data: Vec<f32> = (0..n).map(|i| (i as f32 - 1.5) * 1e-6).collect();
            write(&path, &shape, &data).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len() as usize % 64, 4 * n % 64);
            assert_eq!(read::<f32>(&path, None).unwrap(), Array { shape: shape.clone(), data });
            let wide: Vec<f64> = (0..n).map(|i| 0.1 + i as f64).collect();
            write(&path, &shape, &wide).unwrap();
            assert_eq!(read::<f64>(&path, None).unwrap(), Array { shape, data: wide });
        }
        assert!(write(&path, &[2, 2], &[1.0f32]).is_err());
        assert!(write(&path, &[usize::MAX, 2], &[1.0f32]).is_err());
    }

    #[test]
    fn every_number_type_is_read_in_both_byte_orders() {
        let cases: [(&str, &[u8]); 11] = [
            ("<f2", &[0x00, 0xC0]),
            (">f2", &[0xC0, 0x00]),
            ("<f4", &[0, 0, 0, 0xC0]),
            (">f4", &[0xC0, 0, 0, 0]),
            ("<f8", &[0, 0, 0, 0, 0, 0, 0, 0xC0]),
            ("|i1", &[0xFE]),
            ("<i2", &[0xFE, 0xFF]),
            (">i2", &[0xFF, 0xFE]),
            ("<i4", &[0xFE, 0xFF, 0xFF, 0xFF]),
            ("<i8", &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            (">i4", &[0xFF, 0xFF, 0xFF, 0xFE]),
        ];
        for (descr, bytes) in cases {
            let (_folder, path) = file(&plain(descr, "(1,)", bytes), "a.npy");
            assert_eq!(read::<f32>(&path, None).unwrap().data, [-2.0], "{descr}");
        }
        for (descr, bytes, value) in
            [("|u1", &[200u8][..], 200.0), ("<u2", &[1, 2], 513.0), ("|b1", &[1], 1.0)]
        {
            let (_folder, path) = file(&plain(descr, "(1,)", bytes), "a.npy");
            assert_eq!(read::<f64>(&path, None).unwrap().data, [value], "{descr}");
        }
    }

    #[test]
    fn fortran_order_is_turned_around() {
        // numpy.asfortranarray(numpy.arange(24).reshape(2, 3, 4)) stores element (i, j, k) at i + 2 j + 6 k.
        let mut numbers = vec![0u8; 24];
        for (i, j, k) in (0..24).map(|n| (n / 12, n / 4 % 3, n % 4)) {
            numbers[i + 2 * j + 6 * k] = (12 * i + 4 * j + k) as u8;
        }
        let dict = "{'shape': (2L, 3L, 4L), \"fortran_order\": True, 'descr': '|u1'}\n";
        let (_folder, path) = file(&npy(dict, &numbers), "a.npy");
        let array = read::<f64>(&path, None).unwrap();
        assert_eq!(array.shape, [2, 3, 4]);
        assert_eq!(array.data, (0..24).map(f64::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_cut_at_any_byte_is_refused() {
        let whole = plain("<f4", "(2, 3)", &[7; 24]);
        for n in 0..whole.len() {
            refusal(&whole[..n], "a.npy");
        }
        let archive = npz(&[("eeg.npy", &whole)]);
        for n in 0..archive.len() {
            refusal(&archive[..n], "a.npz");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert!(refusal(&longer, "a.npy").contains("24 bytes, the file holds 25"));
        assert!(refusal(&npz(&[("eeg.npy", &longer)]), "a.npz").contains("more follow"));
    }

    #[test]
    fn a_flipped_byte_never_panics_and_an_archive_notices() {
        let whole = plain("<f4", "(2, 3)", &[7; 24]);
        let archive = npz(&[("eeg.npy", &whole)]);
        for (content, name) in [(&whole, "a.npy"), (&archive, "a.npz")] {
            for at in 0..content.len() {
                for bit in 0..8 {
                    let mut flipped = content.clone();
                    flipped[at] ^= 1 << bit;
                    let (_folder, path) = file(&flipped, name);
                    let _ = read::<f32>(&path, None);
                    let _ = list(&path);
                }
            }
        }
    }

    #[test]
    fn lengths_that_lie_allocate_nothing() {
        let mut long = b"\x93NUMPY\x02\x00".to_vec();
        long.extend_from_slice(&u32::MAX.to_le_bytes());
        long.extend_from_slice(&[b' '; 100]);
        assert!(refusal(&long, "a.npy").contains("4294967295"));
        for shape in [
            "(4294967296, 4294967296)",
            "(9223372036854775807, 4)",
            "(18446744073709551615, 18446744073709551615, 18446744073709551615)",
            "(18446744073709551616,)",
            "(-1,)",
            "(1000000000,)",
        ] {
            refusal(&plain("<f4", shape, &[0; 16]), "a.npy");
            refusal(&npz(&[("eeg.npy", &plain("<f4", shape, &[0; 16]))]), "a.npz");
        }
        // An archive may say anything it likes below the cap: memory follows the bytes that come.
        refusal(&npz(&[("eeg.npy", &plain("<f4", "(500000000,)", &[0; 16]))]), "a.npz");
        for bracket in ["(", "[", "{"] {
            let nested = format!("{{'descr': {}\n", bracket.repeat(60_000));
            assert!(refusal(&npy(&nested, &[]), "a.npy").contains("records"));
        }
    }

    #[test]
    fn pickles_and_strangers_are_refused_by_name() {
        assert!(refusal(&plain("|O", "(1,)", &[0; 8]), "a.npy").contains("Python objects"));
        assert!(refusal(&plain("<f4", "(1,)", &[0; 4]), "weights.pt").contains("can run code"));
        assert!(refusal(&[0x80, 4, b'.', 0, 0, 0], "a.npy").contains("can run code"));
        assert!(refusal(&npz(&[("archive/data.pkl", b"x")]), "a.npz").contains("can run code"));
        assert!(refusal(&plain("<c8", "(1,)", &[0; 8]), "a.npy").contains("\"<c8\""));
        assert!(refusal(&npy("{'descr': [('a', '<f4')], }", &[]), "a.npy").contains("records"));
        assert!(refusal(b"EDF header", "a.edf").contains("neither"));
        assert!(refusal(b"", "a.npy").contains("empty"));
        let folder = tempfile::tempdir().unwrap();
        assert!(read::<f32>(folder.path(), None).unwrap_err().to_string().contains("not a file"));
        assert!(matches!(read::<f32>(folder.path().join("no"), None), Err(Error::Read { .. })));
    }

    #[test]
    fn an_archive_gives_the_named_or_the_usual_array() {
        let (a, b) = (plain("|u1", "(1,)", &[1]), plain("|u1", "(2,)", &[2, 3]));
        let (_folder, path) = file(&npz(&[("labels.npy", &a), ("eeg.npy", &b)]), "a.npz");
        assert_eq!(read::<f32>(&path, None).unwrap().data, [2.0, 3.0]);
        assert_eq!(read::<f32>(&path, Some("labels")).unwrap().data, [1.0]);
        let wrong = read::<f32>(&path, Some("label")).unwrap_err().to_string();
        assert!(wrong.contains("did you mean \"labels\""), "{wrong}");
        let entries = list(&path).unwrap();
        assert_eq!((entries[1].name.as_str(), entries[1].shape.as_slice()), ("eeg", &[2][..]));
        let unnamed = refusal(&npz(&[("a.npy", &a), ("b.npy", &b)]), "a.npz");
        assert!(unnamed.contains("\"a\", \"b\"; name one"), "{unnamed}");
    }
}
