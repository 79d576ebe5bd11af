//! Bytes of a view -> numbers on the host, and the search for values that are none.

use super::{Checkpoint, Dtype, View, shown};
use crate::error::{Error, Result};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// All values as f32, row-major. f16 and bf16 are widened exactly, f64 is rounded.
///
/// Errors: [`Error::DType`] for anything that is not a float.
pub fn to_f32(view: &View) -> Result<Vec<f32>> {
    let mut values = vec![0.0; view.n_values()];
    fill_f32(view, 0, &mut values)?;
    Ok(values)
}

/// The values from flat index `start` on, as many as `out` holds: [`to_f32`] in pieces, for large tensors.
///
/// Errors: [`Error::DType`] for anything that is not a float; [`Error::Shape`] past the end.
pub fn fill_f32(view: &View, start: usize, out: &mut [f32]) -> Result<()> {
    if start.checked_add(out.len()).is_none_or(|end| end > view.n_values()) {
        let detail = format!("values {start} and {} more of {:?} were asked for", out.len(), view.shape);
        return Err(Error::shape(shown(view.file_name), detail));
    }
    let bytes = &view.bytes[start * (view.dtype.bitsize() / 8)..];
    match view.dtype {
        Dtype::F32 => each(bytes, out, f32::from_le_bytes),
        Dtype::F64 => each(bytes, out, |b| f64::from_le_bytes(b) as f32),
        Dtype::BF16 => each(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F16 => {
            // By blocks: the conversion of a slice uses the processor's instruction, that of one value rarely.
            let mut block = [f16::ZERO; 256];
            for (bytes, out) in bytes.chunks(2 * block.len()).zip(out.chunks_mut(block.len())) {
                let block = &mut block[..out.len()];
                each(bytes, block, f16::from_le_bytes);
                block.convert_to_f32_slice(out);
            }
        }
        other => return Err(not(view, "floats", other)),
    }
    Ok(())
}

/// All values as i64, row-major: token ids, time steps, masks.
///
/// Errors: [`Error::DType`] for floats and for u64, whose values might not fit.
pub fn to_i64(view: &View) -> Result<Vec<i64>> {
    let mut values = vec![0; view.n_values()];
    match view.dtype {
        Dtype::I64 => each(view.bytes, &mut values, i64::from_le_bytes),
        Dtype::I32 => each(view.bytes, &mut values, |b| i32::from_le_bytes(b).into()),
        Dtype::U32 => each(view.bytes, &mut values, |b| u32::from_le_bytes(b).into()),
        Dtype::I16 => each(view.bytes, &mut values, |b| i16::from_le_bytes(b).into()),
        Dtype::U16 => each(view.bytes, &mut values, |b| u16::from_le_bytes(b).into()),
        Dtype::I8 => each(view.bytes, &mut values, |b| i8::from_le_bytes(b).into()),
        Dtype::U8 | Dtype::BOOL => each(view.bytes, &mut values, |[b]| b.into()),
        other => return Err(not(view, "integers", other)),
    }
    Ok(values)
}

/// How many values are NaN or infinite; 0 for integers. By bits, so that no compiler may assume them away.
pub fn scan_finite(view: &View) -> usize {
    match view.dtype {
        Dtype::F32 => count(view.bytes, |b| !u32::from_le_bytes(b) & 0x7f80_0000 == 0),
        Dtype::F64 => count(view.bytes, |b| !u64::from_le_bytes(b) & 0x7ff0_0000_0000_0000 == 0),
        Dtype::F16 => count(view.bytes, |b| !u16::from_le_bytes(b) & 0x7c00 == 0),
        Dtype::BF16 => count(view.bytes, |b| !u16::from_le_bytes(b) & 0x7f80 == 0),
        _ => 0,
    }
}

/// Refuses a checkpoint with NaN or infinite weights. Reads every byte once.
///
/// Errors: [`Error::Weights`] naming the first such tensor and its count.
pub fn refuse_nonfinite(checkpoint: &Checkpoint) -> Result<()> {
    for view in checkpoint.views() {
        let bad = scan_finite(&view);
        if bad > 0 {
            let (name, all) = (shown(view.file_name), view.n_values());
            let detail =
                format!("{name}: {bad} of {all} values are NaN or infinite; take another checkpoint");
            return Err(Error::weights(checkpoint.path(), detail));
        }
    }
    Ok(())
}

/// `out[i] = read(i-th N bytes)`. Views are not aligned, so values are put together from their bytes.
fn each<const N: usize, T>(bytes: &[u8], out: &mut [T], read: impl Fn([u8; N]) -> T) {
    let (values, _) = bytes.as_chunks::<N>();
    for (out, value) in out.iter_mut().zip(values) {
        *out = read(*value);
    }
}

fn count<const N: usize>(bytes: &[u8], is_bad: impl Fn([u8; N]) -> bool) -> usize {
    // Blocks with a small counter, which the compiler turns into vector instructions.
    let (values, _) = bytes.as_chunks::<N>();
    values.chunks(4096).map(|block| block.iter().map(|v| u32::from(is_bad(*v))).sum::<u32>() as usize).sum()
}

fn not(view: &View, wanted: &str, got: Dtype) -> Error {
    Error::dtype(shown(view.file_name), format!("wanted {wanted}, the file has {got}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(dtype: Dtype, shape: &'a [usize], bytes: &'a [u8]) -> View<'a> {
        View { name: "x", file_name: "x", dtype, shape, bytes }
    }

    #[test]
    fn every_f16_widens_as_the_definition_says() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let values = to_f32(&view(Dtype::F16, &[1 << 16], &bytes)).unwrap();
        for (bits, value) in values.iter().enumerate() {
            let (exponent, fraction) = ((bits >> 10) & 31, (bits & 1023) as f64);
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-24), // subnormal
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1024.0 + fraction) * 2f64.powi(exponent as i32 - 25),
            };
            let wanted = if bits >> 15 == 1 { -magnitude } else { magnitude };
            assert!(f64::from(*value) == wanted || (value.is_nan() && wanted.is_nan()), "{bits:#06x}");
            assert_eq!(value.is_sign_negative(), bits >> 15 == 1, "{bits:#06x}");
        }
        assert_eq!(scan_finite(&view(Dtype::F16, &[1 << 16], &bytes)), 2 * 1024);
    }

    #[test]
    fn every_bf16_is_the_upper_half_of_an_f32() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let values = to_f32(&view(Dtype::BF16, &[1 << 16], &bytes)).unwrap();
        for (bits, value) in values.iter().enumerate() {
            let wanted = f32::from_bits((bits as u32) << 16);
            assert!(
                value.to_bits() == wanted.to_bits() || (value.is_nan() && wanted.is_nan()),
                "{bits:#06x}"
            );
        }
        assert_eq!(scan_finite(&view(Dtype::BF16, &[1 << 16], &bytes)), 2 * 128);
    }

    #[test]
    fn nan_and_infinity_are_counted_in_wide_floats() {
        let wide = [1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 5e-324, -0.0];
        let bytes: Vec<u8> = wide.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(scan_finite(&view(Dtype::F64, &[7], &bytes)), 3);
        let narrow: Vec<u8> = wide.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect();
        assert_eq!(scan_finite(&view(Dtype::F32, &[7], &narrow)), 4); // f64::MAX is infinite as f32
        assert_eq!(to_f32(&view(Dtype::F64, &[7], &bytes)).unwrap()[4], f32::INFINITY);
    }

    #[test]
    fn pieces_are_the_whole_and_the_end_is_held() {
        let bytes: Vec<u8> = (0..600u16).flat_map(|i| f16::from_f32(f32::from(i)).to_le_bytes()).collect();
        let view = view(Dtype::F16, &[2, 300], &bytes);
        let mut piece = [0.0; 299];
        fill_f32(&view, 301, &mut piece).unwrap();
        assert_eq!(piece[..], to_f32(&view).unwrap()[301..]);
        assert!(fill_f32(&view, 302, &mut piece).is_err());
        assert!(fill_f32(&view, usize::MAX, &mut piece).is_err());
    }

    #[test]
    fn integers_are_not_floats_and_the_other_way_round() {
        let ids: Vec<u8> = [-1i64, 49407].iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = view(Dtype::I64, &[2], &ids);
        assert_eq!(to_i64(&view).unwrap(), [-1, 49407]);
        assert_eq!(to_f32(&view).unwrap_err().to_string(), "\"x\": wanted floats, the file has I64");
        assert!(to_i64(&View { dtype: Dtype::F64, ..view }).is_err());
    }
}
