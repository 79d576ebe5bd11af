//! The header of an `.npy`: `{'descr': '<f4', 'fortran_order': False, 'shape': (62, 400), }` and its length.
//!
//! It is scanned by hand, one byte after the other. General readers of Python literals backtrack: a hundred
//! nested brackets, in a file of 120 bytes, kept the one in `ndarray-npy` 0.10 busy without end.

use super::trouble;
use crate::error::{Error, Result};
use std::io::Read;
use std::path::Path;

/// Most values that axes other than empty ones may say.
const MOST_VALUES: u128 = 1 << 40;
/// Longest header read, in bytes.
pub const MAX_HEADER_BYTES: u64 = 64 * 1024;
/// NumPy's own limit on axes was 32 until 2.0, and 64 since.
const MAX_AXES: usize = 64;

/// What stands before the numbers.
pub(super) struct Header {
    pub(super) number: Number,
    /// First axis fastest.
    pub(super) is_fortran: bool,
    pub(super) shape: Vec<usize>,
    /// Bytes before the numbers.
    pub(super) header_bytes: u64,
    /// Product of the shape times the item's size.
    pub(super) data_bytes: u128,
}

/// How one number is stored.
pub(super) struct Number {
    /// NumPy's type string, such as `<f4`.
    pub(super) descr: String,
    kind: u8,
    /// Bytes of an item.
    pub(super) size: usize,
    is_big_endian: bool,
}

impl Number {
    fn parse(descr: &str) -> Option<Number> {
        let (order, rest) = match descr.as_bytes() {
            [order @ (b'<' | b'>' | b'|'), rest @ ..] => (*order, rest),
            _ => return None,
        };
        let (kind, size) = match rest {
            [kind @ b'f', size @ (b'2' | b'4' | b'8')] => (*kind, size),
            [kind @ (b'i' | b'u'), size @ (b'1' | b'2' | b'4' | b'8')] => (*kind, size),
            [kind @ b'b', size @ b'1'] => (*kind, size),
            _ => return None,
        };
        let size = usize::from(size - b'0');
        Some(Number { descr: descr.to_string(), kind, size, is_big_endian: order == b'>' })
    }

    /// One item; its bytes are turned around in place when they are big-endian.
    pub(super) fn decode(&self, bytes: &mut [u8]) -> f64 {
        if self.is_big_endian {
            bytes.reverse();
        }
        match (self.kind, &*bytes) {
            (b'f', &[a, b]) => half::f16::from_le_bytes([a, b]).to_f64(),
            (b'f', &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]).into(),
            (b'f', &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
            (b'i', bytes) => {
                // The sign is in the last byte; shifting it up and down again spreads it.
                let mut wide = [0u8; 8];
                wide[8 - bytes.len()..].copy_from_slice(bytes);
                (i64::from_le_bytes(wide) >> (64 - 8 * bytes.len())) as f64
            }
            (_, bytes) => {
                let mut wide = [0u8; 8];
                wide[..bytes.len()].copy_from_slice(bytes);
                u64::from_le_bytes(wide) as f64
            }
        }
    }
}

/// Reads and judges everything before the numbers; at most `available` bytes are there.
pub(super) fn read_header(path: &Path, reader: &mut impl Read, available: u64) -> Result<Header> {
    let mut start = [0u8; 8];
    reader.read_exact(&mut start).map_err(|e| trouble(path, e))?;
    if &start[..6] != b"\x93NUMPY" {
        return Err(Error::format(path, "an array does not start as .npy; write it again with numpy.savez"));
    }
    let length_bytes = match (start[6], start[7]) {
        (1, 0) => 2,
        (2 | 3, 0) => 4,
        (major, minor) => {
            let detail = format!("is .npy version {major}.{minor}, versions 1 to 3 are read; write it again");
            return Err(Error::format(path, detail));
        }
    };
    let mut length = [0u8; 4];
    reader.read_exact(&mut length[..length_bytes]).map_err(|e| trouble(path, e))?;
    let length = u64::from(u32::from_le_bytes(length));
    let header_bytes = 8 + length_bytes as u64 + length;
    if length > MAX_HEADER_BYTES || header_bytes > available {
        let most = MAX_HEADER_BYTES.min(available.saturating_sub(8 + length_bytes as u64));
        let detail =
            format!("header says it is {length} bytes long, at most {most} can be; the file is damaged");
        return Err(Error::format(path, detail));
    }
    let mut text = vec![0u8; length as usize];
    reader.read_exact(&mut text).map_err(|e| trouble(path, e))?;
    let (descr, is_fortran, axes) =
        parse_header(&text).map_err(|what| Error::format(path, format!("header: {what}; write it again")))?;
    if descr.contains('O') {
        return Err(Error::format(
            path,
            "holds Python objects, which only a pickle can read, and a pickle can run code; \
             convert it with numpy.save(\"eeg.npy\", numpy.stack(array).astype(\"float32\"))",
        ));
    }
    let number = Number::parse(&descr).ok_or_else(|| {
        let detail = format!("holds \"{descr}\", wanted floats of 2, 4 or 8 bytes, integers or booleans; ");
        Error::format(path, detail + "convert it with array.astype(\"float32\")")
    })?;
    let too_large = || Error::format(path, format!("header: shape {axes:?} is too large to be true"));
    let values = axes.iter().try_fold(1u128, |product, &n| product.checked_mul(u128::from(n)));
    // Axes beside an empty one claim room that nothing backs.
    let mut others = axes.iter().filter(|&&n| n > 0);
    let others = others.try_fold(1u128, |product, &n| product.checked_mul(u128::from(n)));
    if others.is_none_or(|product| product > MOST_VALUES) {
        return Err(too_large());
    }
    let data_bytes = values.and_then(|n| n.checked_mul(number.size as u128)).ok_or_else(too_large)?;
    let shape =
        axes.iter().map(|&n| usize::try_from(n)).collect::<Result<_, _>>().map_err(|_| too_large())?;
    Ok(Header { number, is_fortran, shape, header_bytes, data_bytes })
}

/// `(descr, fortran_order, shape)` from `{'descr': '<f4', 'fortran_order': False, 'shape': (62, 400), }`.
fn parse_header(text: &[u8]) -> Result<(String, bool, Vec<u64>), String> {
    let mut scan = Scan { text, at: 0 };
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    scan.expect(b'{')?;
    while !scan.take(b'}') {
        let key = scan.string()?;
        scan.expect(b':')?;
        let is_new = match key.as_str() {
            "descr" => descr
                .replace(scan.string().map_err(|_| "records are not read, wanted plain numbers")?)
                .is_none(),
            "fortran_order" => fortran.replace(scan.boolean()?).is_none(),
            "shape" => shape.replace(scan.tuple()?).is_none(),
            _ => return Err(format!("unknown key \"{}\"", key.escape_default())),
        };
        if !is_new {
            return Err(format!("key \"{key}\" stands there twice"));
        }
        if !scan.take(b',') {
            scan.expect(b'}')?;
            break;
        }
    }
    scan.skip_spaces();
    match (descr, fortran, shape) {
        _ if scan.at != text.len() => Err("something follows the closing brace".into()),
        (Some(descr), Some(fortran), Some(shape)) => Ok((descr, fortran, shape)),
        _ => Err("wanted descr, fortran_order and shape".into()),
    }
}

/// A cursor over the header's text; every step looks at one byte and none recurses.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn skip_spaces(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: u8) -> bool {
        self.skip_spaces();
        let found = self.text.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: u8) -> Result<(), String> {
        if self.take(wanted) {
            Ok(())
        } else {
            Err(format!("wanted '{}' at byte {}", wanted as char, self.at))
        }
    }

    /// The bytes up to the first that `inside` does not like.
    fn run(&mut self, inside: impl Fn(u8) -> bool) -> &str {
        let start = self.at;
        while self.text.get(self.at).is_some_and(|&byte| inside(byte)) {
            self.at += 1;
        }
        std::str::from_utf8(&self.text[start..self.at]).unwrap_or("")
    }

    fn string(&mut self) -> Result<String, String> {
        let quote = if self.take(b'\'') { b'\'' } else { b'"' };
        if quote == b'"' {
            self.expect(b'"')?;
        }
        let inside = self.run(|byte| byte != quote && byte != b'\\').to_string();
        self.expect(quote)?;
        Ok(inside)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.skip_spaces();
        match self.run(|byte| byte.is_ascii_alphabetic()) {
            "True" => Ok(true),
            "False" => Ok(false),
            _ => Err("fortran_order is neither True nor False".into()),
        }
    }

    fn tuple(&mut self) -> Result<Vec<u64>, String> {
        self.expect(b'(')?;
        let mut axes = Vec::new();
        while !self.take(b')') {
            self.skip_spaces();
            let digits = self.run(|byte| byte.is_ascii_digit());
            let axis =
                digits.parse().map_err(|_| format!("shape has \"{digits}\" where a length belongs"))?;
            axes.push(axis);
            if axes.len() > MAX_AXES {
                return Err(format!("shape has more than {MAX_AXES} axes"));
            }
            self.take(b'L'); // Python 2 wrote lengths as 62L
            if !self.take(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(axes)
    }
}
