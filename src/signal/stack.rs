//! `[…, channels, samples]`: stretches of EEG under any leading axes, on their way from one file to another.
//!
//! What is done to a stack here does not ask for units: numbers stay as they stand, and the output has the unit of
//! the input. Only features are calibrated, and there the caller says what the numbers are.

use super::features::{self, BANDS, Form};
use super::recording::{self, BLOCK_SAMPLES, Units};
use super::segments::{CLIP_SAMPLES, CLIPS, SLOTS, clip_start};
use super::{Real, montage, npy, windows};
use crate::error::{Error, Result};
use std::path::Path;

/// Blocks of a SEED-DV recording.
pub const BLOCKS: usize = 7;
/// Most stretches a thread transforms at once: their copy in f64 stays small.
const MAX_SHARE: usize = 256;

/// `[…, channels, samples]` in row-major order; nothing of it is empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack<T> {
    /// The axes before the last two; empty for a single stretch.
    pub leading: Vec<usize>,
    /// Channels.
    pub n_channels: usize,
    /// Samples per channel.
    pub n_samples: usize,
    /// The numbers, samples fastest.
    pub data: Vec<T>,
}

/// The axes of an array that is a stack: leading, channels, samples. Errors: what is wrong with the shape.
pub fn axes(shape: &[usize]) -> Result<(&[usize], usize, usize), String> {
    match shape {
        [leading @ .., channels, samples] if !shape.contains(&0) => Ok((leading, *channels, *samples)),
        [_, .., _] => Err(format!("shape {shape:?} holds no samples")),
        _ => Err(format!("shape {shape:?}, wanted [..., channels, samples]")),
    }
}

/// The shape of a segmented recording. Errors: why a file of this shape is no recording of SEED-DV.
pub fn segmented_shape(shape: &[usize]) -> Result<Vec<usize>, String> {
    let n_channels = montage::ELECTRODES.len();
    match *shape {
        [BLOCKS, channels, BLOCK_SAMPLES] if channels == n_channels => {
            Ok(vec![BLOCKS, SLOTS, CLIPS, channels, CLIP_SAMPLES])
        }
        _ => {
            let hint = match *shape {
                [_, _, samples] if samples == 5 * BLOCK_SAMPLES => "; resample it from 1000 to 200 Hz first",
                [_, BLOCK_SAMPLES, channels] if channels == n_channels => "; swap its last two axes",
                [_, SLOTS, CLIPS, _, _] => "; it is segmented already",
                _ => "",
            };
            Err(format!(
                "shape {shape:?}, a recording of SEED-DV at 200 Hz is [{BLOCKS}, {n_channels}, {BLOCK_SAMPLES}]{hint}"
            ))
        }
    }
}

/// The shape of sliding windows: `[…, windows, channels, window]`. Errors: why there are none.
pub fn windowed_shape(shape: &[usize], window: usize, step: usize) -> Result<Vec<usize>, String> {
    let (leading, n_channels, n_samples) = axes(shape)?;
    match windows::starts(n_samples, window, step).len() {
        0 => Err(format!("{n_samples} samples, wanted at least one window of {window}")),
        n => Ok([leading, &[n, n_channels, window]].concat()),
    }
}

impl<T: Real> Stack<T> {
    /// Reads an `.npy`, or the array `name` of an `.npz`.
    ///
    /// Errors: those of [`npy::read`]; [`Error::Format`] for fewer than two axes, an empty one, and, unless
    /// `allows_bad`, for NaN or infinity, with the place of the first.
    pub fn read(path: impl AsRef<Path>, name: Option<&str>, allows_bad: bool) -> Result<Stack<T>> {
        let path = path.as_ref();
        let npy::Array { shape, data } = npy::read::<T>(path, name)?;
        let wrong = |detail: String| Error::format(path, detail);
        let (leading, n_channels, n_samples) = axes(&shape).map_err(wrong)?;
        let is_bad = |v: &T| !(*v).into().is_finite();
        if let Some(first) = (!allows_bad).then(|| data.iter().position(is_bad)).flatten() {
            let n = data.iter().filter(|v| is_bad(v)).count();
            return Err(wrong(format!(
                "{n} of {} samples {} NaN or infinite, the first at {:?} of {shape:?}; repair or leave out what holds them",
                data.len(),
                if n == 1 { "is" } else { "are" },
                place(first, &shape),
            )));
        }
        Ok(Stack { leading: leading.to_vec(), n_channels, n_samples, data })
    }

    /// `[…, channels, samples]`.
    pub fn shape(&self) -> Vec<usize> {
        [self.leading.as_slice(), &[self.n_channels, self.n_samples]].concat()
    }

    /// Writes the stack as `.npy`. Errors as [`npy::write`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        npy::write(path, &self.shape(), &self.data)
    }

    /// SEED-DV `[7, 62, 104000]` -> `[7, 40, 5, 62, 400]`, the clips of every slot, numbers as they stand: the same
    /// as EEG2Video's `segment_raw_signals_200Hz`.
    ///
    /// Errors: [`Error::Shape`] when the stack is no such recording.
    pub fn segmented(&self) -> Result<Stack<T>> {
        let shape = segmented_shape(&self.shape()).map_err(|detail| Error::shape("segment", detail))?;
        let mut data = Vec::with_capacity(shape.iter().product());
        for block in self.data.chunks_exact(self.n_channels * self.n_samples) {
            for clip in 0..SLOTS * CLIPS {
                let start = clip_start(clip / CLIPS, clip % CLIPS);
                for channel in block.chunks_exact(self.n_samples) {
                    data.extend_from_slice(&channel[start..start + CLIP_SAMPLES]);
                }
            }
        }
        let leading = shape[..3].to_vec();
        Ok(Stack { leading, n_channels: self.n_channels, n_samples: CLIP_SAMPLES, data })
    }

    /// `[…, channels, samples]` -> `[…, windows, channels, window]`, each stretch by itself: windows never cross
    /// from one into the next. As [`windows::sliding`] on every stretch.
    ///
    /// Errors: [`Error::Setting`] when window or step is 0; [`Error::Shape`] when a stretch holds no window.
    pub fn windows(&self, window: usize, step: usize) -> Result<Stack<T>> {
        if window == 0 || step == 0 {
            let detail = format!("{window} samples every {step}, both must be at least 1");
            return Err(Error::setting("window", detail));
        }
        let mut leading =
            windowed_shape(&self.shape(), window, step).map_err(|detail| Error::shape("windows", detail))?;
        let n_values = leading.iter().fold(1, |product: u64, &n| product.saturating_mul(n as u64));
        windows::within_memory(n_values, size_of::<T>())?;
        let mut data = Vec::with_capacity(n_values as usize);
        for stretch in self.data.chunks_exact(self.n_channels * self.n_samples) {
            for start in windows::starts(self.n_samples, window, step) {
                for channel in stretch.chunks_exact(self.n_samples) {
                    data.extend_from_slice(&channel[start..start + window]);
                }
            }
        }
        leading.truncate(leading.len() - 2);
        Ok(Stack { leading, n_channels: self.n_channels, n_samples: window, data })
    }

    /// `[…, channels, samples]` -> (DE, PSD), each `[…, channels, 5]`, one value per band over the whole of each
    /// stretch. The corrected form takes `units` into account, the original takes numbers as they stand.
    ///
    /// Errors: as [`features::de_psd`], with the place of the stretch; [`Error::Format`] naming `path` when the
    /// corrected form is asked of numbers that look like the other unit.
    pub fn de_psd(&self, path: &Path, rate: f64, units: Units, form: Form) -> Result<(Vec<f64>, Vec<f64>)> {
        let scale = match (form, units) {
            (Form::Original, _) | (_, Units::Volts) => 1.0,
            (Form::Corrected, Units::Microvolts) => 1e-6,
        };
        if form == Form::Corrected {
            let volts: Vec<f32> = self.data.iter().map(|&v| (v.into() * scale) as f32).collect();
            recording::check_units(path, &volts, self.n_samples, units)?;
        }
        let (n_channels, n_samples) = (self.n_channels, self.n_samples);
        let of = |stretches: &[T]| {
            let volts: Vec<f64> = stretches.iter().map(|&v| v.into() * scale).collect();
            features::de_psd(&volts, volts.len() / n_samples, n_samples, rate, form)
        };
        // A share of stretches to a thread, with one plan of the transform each.
        let size = n_channels * n_samples;
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = (self.data.len() / size).div_ceil(n_threads).clamp(1, MAX_SHARE) * size;
        let mut parts: Vec<_> = self.data.chunks(share).map(|part| (part, Ok(Default::default()))).collect();
        each_row(&mut parts, 1, |one| {
            one.iter_mut().for_each(|(part, out)| *out = of(part));
            Ok(())
        })?;
        let n_values = self.data.len() / n_samples * BANDS.len();
        let (mut de, mut psd) = (Vec::with_capacity(n_values), Vec::with_capacity(n_values));
        for (idx, (part, out)) in parts.into_iter().enumerate() {
            let (part_de, part_psd) = out.map_err(|error| {
                // Which stretch of the share it was, and its own words.
                let alone =
                    part.chunks_exact(size).enumerate().find_map(|(i, one)| Some((i, of(one).err()?)));
                let (within, error) = alone.unwrap_or((0, error));
                match error {
                    Error::Shape { detail, .. } if self.leading.is_empty() => Error::format(path, detail),
                    Error::Shape { detail, .. } => {
                        let stretch = place(idx * (share / size) + within, &self.leading);
                        Error::format(path, format!("stretch {stretch:?}: {detail}"))
                    }
                    other => other,
                }
            })?;
            de.extend(part_de);
            psd.extend(part_psd);
        }
        Ok((de, psd))
    }
}

/// The indices of element `at` of an array of `shape`.
fn place(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut indices = vec![0; shape.len()];
    for (index, &n) in indices.iter_mut().zip(shape).rev() {
        (*index, at) = (at % n, at / n);
    }
    indices
}

/// Calls `work` on every row of `n` values, rows spread over the processor's cores; the first error wins.
pub(super) fn each_row<T: Send>(
    data: &mut [T],
    n: usize,
    work: impl Fn(&mut [T]) -> Result<()> + Sync,
) -> Result<()> {
    let n_rows = data.len() / n.max(1);
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(n_rows).max(1);
    let share = n_rows.div_ceil(n_threads).max(1) * n.max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let parts: Vec<_> = data
            .chunks_mut(share)
            .map(|part| scope.spawn(move || part.chunks_exact_mut(n.max(1)).try_for_each(work)))
            .collect();
        parts.into_iter().try_for_each(|part| match part.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(leading: &[usize], n_channels: usize, n_samples: usize) -> Stack<f64> {
        let n = leading.iter().product::<usize>() * n_channels * n_samples;
        Stack { leading: leading.to_vec(), n_channels, n_samples, data: (0..n).map(|v| v as f64).collect() }
    }

    #[test]
    fn recordings_of_seed_dv_are_segmented_by_the_protocol() {
        let mut stack = ramp(&[7], 62, 1);
        stack.n_samples = BLOCK_SAMPLES;
        // One byte a sample would do: the value tells block, channel and sample.
        let data = (0..7 * 62 * BLOCK_SAMPLES).map(|at| at as f32).collect();
        let stack = Stack { leading: stack.leading, n_channels: 62, n_samples: BLOCK_SAMPLES, data };
        let clips = stack.segmented().unwrap();
        assert_eq!(clips.shape(), [7, 40, 5, 62, 400]);
        for (block, slot, clip, channel, sample) in [(0, 0, 0, 0, 0), (6, 39, 4, 61, 399), (3, 12, 2, 59, 7)]
        {
            let at = (((block * 40 + slot) * 5 + clip) * 62 + channel) * 400 + sample;
            let source = (block * 62 + channel) * BLOCK_SAMPLES + 2600 * slot + 600 + 400 * clip + sample;
            assert_eq!(clips.data[at], source as f32);
        }
    }

    #[test]
    fn other_shapes_are_refused_with_a_hint() {
        for (shape, wanted) in [
            (&[7, 62, 520_000][..], "resample it from 1000"),
            (&[7, 104_000, 62], "swap its last two axes"),
            (&[7, 40, 5, 62, 400], "segmented already"),
            (&[6, 62, 104_000], "[7, 62, 104000]"),
            (&[7, 61, 104_000], "[7, 62, 104000]"),
            (&[62, 104_000], "[7, 62, 104000]"),
        ] {
            assert!(segmented_shape(shape).unwrap_err().contains(wanted));
        }
        assert!(axes(&[3]).unwrap_err().contains("wanted [..., channels, samples]"));
        assert!(axes(&[3, 0, 4]).unwrap_err().contains("no samples"));
    }

    #[test]
    fn windows_stay_inside_their_stretch() {
        let stack = ramp(&[2, 3], 2, 10);
        let windows = stack.windows(4, 3).unwrap();
        assert_eq!(windows.shape(), [2, 3, 3, 2, 4]);
        // Stretch (1, 2), window 1, channel 1, sample 2.
        let at = (((5 * 3) + 1) * 2 + 1) * 4 + 2;
        assert_eq!(windows.data[at], ((5 * 2 + 1) * 10 + 3 + 2) as f64);
        assert_eq!(ramp(&[], 2, 10).windows(10, 1).unwrap().shape(), [1, 2, 10]);
        assert!(stack.windows(11, 1).unwrap_err().to_string().contains("10 samples"));
        assert!(stack.windows(0, 1).is_err() && stack.windows(1, 0).is_err());
    }

    #[test]
    fn a_bad_sample_is_named_by_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let mut data = vec![1.0f32; 2 * 3 * 4];
        data[17] = f32::NAN;
        npy::write(&path, &[2, 3, 4], &data).unwrap();
        let error = Stack::<f32>::read(&path, None, false).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(
            error.to_string().contains("1 of 24 samples is NaN or infinite, the first at [1, 1, 1]"),
            "{error}"
        );
        assert_eq!(Stack::<f32>::read(&path, None, true).unwrap().shape(), [2, 3, 4]);
        npy::write(&path, &[24], &data).unwrap();
        assert!(Stack::<f32>::read(&path, None, true).is_err());
    }

    #[test]
    fn features_of_a_stack_are_those_of_its_stretches() {
        let mut stack = ramp(&[2], 3, 200);
        stack.data.iter_mut().enumerate().for_each(|(i, v)| *v = ((i * i) % 97) as f64 * 1e-7);
        let path = Path::new("x.npy");
        let (de, psd) = stack.de_psd(path, 200.0, Units::Volts, Form::Corrected).unwrap();
        assert_eq!((de.len(), psd.len()), (2 * 3 * 5, 2 * 3 * 5));
        let second = features::de_psd(&stack.data[600..], 3, 200, 200.0, Form::Corrected).unwrap();
        assert_eq!((&de[15..], &psd[15..]), (&second.0[..], &second.1[..]));
        let mut micro = stack.clone();
        micro.data.iter_mut().for_each(|v| *v *= 1e6);
        let same = micro.de_psd(path, 200.0, Units::Microvolts, Form::Corrected).unwrap();
        assert!(same.0.iter().zip(&de).all(|(a, b)| (a - b).abs() < 1e-9));
        let error = micro.de_psd(path, 200.0, Units::Volts, Form::Corrected).unwrap_err().to_string();
        assert!(error.contains("--units uV"), "{error}");
        stack.data[600..800].fill(0.0);
        let error = stack.de_psd(path, 200.0, Units::Volts, Form::Original).unwrap_err();
        assert!(error.to_string().contains("stretch [1]: channel 0 has no power"), "{error}");
        assert_eq!(error.exit_code(), 3);
    }

    #[test]
    fn every_row_is_seen_once_and_an_error_comes_through() {
        let mut data = vec![0u32; 7 * 3];
        each_row(&mut data, 3, |row| {
            row.iter_mut().for_each(|v| *v += 1);
            Ok(())
        })
        .unwrap();
        assert_eq!(data, [1; 21]);
        assert!(each_row(&mut data, 3, |_| Err(Error::setting("x", "planted"))).is_err());
    }
}
