//! Spectrograms: what NeuroVision's networks see of the EEG.     […, channels, samples] -> […, channels, bins, frames]
//!
//! ```text
//! notch 50 Hz, notch 60 Hz ─> Butterworth band-pass ─> P[b, k] ─> ln(1 + P)
//!
//! P[b, k] = c |FFT(w · (x − mean x))[b]|² / (fs Σ w²)     of the k-th stretch of N samples; c is 2 but for DC and fs/2
//! w       = periodic Tukey window, a quarter of it tapered
//! ```
//!
//! Filters run forwards and backwards ([`super::filter`]); P is SciPy's `signal.spectrogram(x, fs, nperseg=N,
//! noverlap=…)`, nothing padded: samples behind the last whole frame are not used.
//!
//! Corrected (ours): x in µV, the recording's own rate, frames of 250 ms every 125 ms; bins are 4 Hz apart and every
//! corner is in true hertz. Original, as published and kept for its checkpoints: numbers as stored (volts: P is about
//! 1e-13), each channel cut or padded in front to 334 samples, and 250 Hz said of recordings at 512 Hz, so that all its
//! corners lie at 2.048 times what they are called.
//!
//! Source: Ajinkya-18/NeuroVision, `notebooks/eeg_text_image.ipynb`.

use super::features::Transform;
use super::filter::{Filter, Pass};
use super::recording::{self, Units};
use super::stack::{self, Stack, each_row};
use super::{Real, checks, npy, torch};
use crate::error::{Error, Result};
use std::f64::consts::PI;
use std::path::Path;

/// Samples per second of Alljoined's recordings (BioSemi ActiveTwo).
pub const ALLJOINED_RATE_HZ: f64 = 512.0;
/// Share of the window that is tapered: SciPy's default.
const TAPERED: f64 = 0.25;
/// Most samples that are filtered at once, of all rows: their copy in f64 stays at 32 MiB.
const MAX_PIECE: usize = 4 << 20;

/// The constants of a spectrogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Frequencies that are cut out first, in hertz.
    pub notches_hz: Vec<f64>,
    /// Sharpness of the notches, frequency by width.
    pub notch_q: f64,
    /// Corners of the band-pass in hertz; none leaves it out.
    pub band_hz: Option<[f64; 2]>,
    /// Order of the band-pass at each corner.
    pub order: usize,
    /// Length of a frame in seconds.
    pub window_s: f64,
    /// From one frame to the next, in seconds.
    pub hop_s: f64,
    /// Samples that every channel is cut to (the last ones) or padded to (zeros in front); none leaves it as it is.
    pub n_samples: Option<usize>,
    /// A rate that is taken for the recording's, whatever that is.
    pub rate_hz: Option<f64>,
    /// Whether powers are of microvolts; else of the numbers as they stand.
    pub microvolts: bool,
}

impl Recipe {
    /// Ours: true hertz, microvolts, frames of 250 ms every 125 ms.
    pub fn corrected() -> Recipe {
        Recipe {
            window_s: 0.25,
            hop_s: 0.125,
            n_samples: None,
            rate_hz: None,
            microvolts: true,
            ..Recipe::original()
        }
    }

    /// NeuroVision's, oddities included.
    pub fn original() -> Recipe {
        Recipe {
            notches_hz: vec![50.0, 60.0],
            notch_q: 30.0,
            band_hz: Some([4.0, 100.0]),
            order: 5,
            window_s: 128.0 / 250.0,
            hop_s: 64.0 / 250.0,
            n_samples: Some(334),
            rate_hz: Some(250.0),
            microvolts: false,
        }
    }

    /// Filters and frames for recordings at `rate_hz`.
    ///
    /// Errors: [`Error::Setting`] for a rate that is no positive number, a frequency at or above half of it, a band the
    /// wrong way round, and frames of fewer than two samples or further apart than they are long.
    pub fn plan(&self, rate_hz: f64) -> Result<Plan> {
        recording::check_rate(rate_hz)?;
        let rate = self.rate_hz.unwrap_or(rate_hz);
        let notches = self.notches_hz.iter().map(|&hz| Filter::notch(hz, self.notch_q, rate));
        let mut filters = notches.collect::<Result<Vec<_>>>()?;
        if let Some([low, high]) = self.band_hz {
            filters.push(Filter::butterworth(self.order, Pass::Band(low, high), rate)?);
        }
        let samples = |name, seconds: f64, least: f64| {
            let n = (seconds * rate).round();
            if n.is_finite() && n >= least && n <= 1e6 {
                return Ok(n as usize);
            }
            let detail = format!("{seconds} s at {rate} Hz is {n} samples, wanted {least} to a million");
            Err(Error::setting(name, detail))
        };
        let (n_window, hop) = (samples("window", self.window_s, 2.0)?, samples("hop", self.hop_s, 1.0)?);
        if hop > n_window {
            let detail =
                format!("{hop} samples, more than a window of {n_window}: what lies between would be lost");
            return Err(Error::setting("hop", detail));
        }
        let window = tukey(n_window, TAPERED);
        let scale = 1.0 / (rate * window.iter().map(|w| w * w).sum::<f64>());
        Ok(Plan { filters, window, hop, scale, rate, n_samples: self.n_samples })
    }

    /// What numbers in `units` are multiplied with.
    fn factor(&self, units: Units) -> f64 {
        match units {
            Units::Volts if self.microvolts => 1e6,
            _ => 1.0,
        }
    }
}

/// A [`Recipe`] at one rate.
#[derive(Clone, Debug)]
pub struct Plan {
    filters: Vec<Filter>,
    window: Vec<f64>,
    hop: usize,
    scale: f64,
    rate: f64,
    n_samples: Option<usize>,
}

impl Plan {
    /// Bins of a spectrogram, from 0 to half the rate.
    pub fn n_bins(&self) -> usize {
        self.window.len() / 2 + 1
    }

    /// Hertz from one bin to the next.
    pub fn bin_hz(&self) -> f64 {
        self.rate / self.window.len() as f64
    }

    /// Frames of a channel of so many samples. Errors: why there are none.
    pub fn n_frames(&self, n_samples: usize) -> Result<usize, String> {
        let n = self.n_samples.unwrap_or(n_samples);
        let n_padding = self.filters.iter().map(Filter::n_padding).max().unwrap_or(0);
        let least = self.window.len().max(n_padding + 1);
        if n < least {
            return Err(format!("{n} samples, a spectrogram at {} Hz needs at least {least}", self.rate));
        }
        Ok((n - self.window.len()) / self.hop + 1)
    }

    /// The shape of what an array of this shape becomes. Errors: what is wrong with it.
    pub fn shape(&self, shape: &[usize]) -> Result<Vec<usize>, String> {
        let (leading, n_channels, n_samples) = stack::axes(shape)?;
        let frames = self.n_frames(n_samples)?;
        Ok([leading, &[n_channels, self.n_bins(), frames]].concat())
    }

    /// Rows of `n_samples` numbers, multiplied with `factor` -> as many spectrograms `[bins, frames]`, one behind the
    /// other.
    fn rows<T: Real>(&self, rows: &[T], n_samples: usize, factor: f64) -> Result<Vec<f32>> {
        let n_frames = self.n_frames(n_samples).map_err(|detail| Error::shape("spectrogram", detail))?;
        let n = self.n_samples.unwrap_or(n_samples);
        let size = self.n_bins() * n_frames;
        let mut spectrograms = vec![0.0f32; rows.len() / n_samples * size];
        let rows_at_once = (MAX_PIECE / n).max(1);
        let pieces = rows.chunks(rows_at_once * n_samples).zip(spectrograms.chunks_mut(rows_at_once * size));
        for (rows, spectrograms) in pieces {
            let mut filtered = Vec::with_capacity(rows.len() / n_samples * n);
            for row in rows.chunks_exact(n_samples) {
                filtered.extend(std::iter::repeat_n(0.0, n.saturating_sub(n_samples)));
                filtered.extend(row[n_samples.saturating_sub(n)..].iter().map(|&v| v.into() * factor));
            }
            for filter in &self.filters {
                filter.filtfilt(&mut filtered, n)?;
            }
            // A share of rows to a thread, with one plan of the transform each.
            let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
            let share = (filtered.len() / n).div_ceil(n_threads).max(1);
            let mut shares: Vec<_> =
                filtered.chunks(share * n).zip(spectrograms.chunks_mut(share * size)).collect();
            each_row(&mut shares, 1, |one| {
                one.iter_mut().try_for_each(|(rows, out)| {
                    let mut transform = Transform::new(self.window.len());
                    let pairs = rows.chunks_exact(n).zip(out.chunks_exact_mut(size));
                    pairs.into_iter().try_for_each(|(row, out)| self.row(row, &mut transform, n_frames, out))
                })
            })?;
        }
        Ok(spectrograms)
    }

    /// One filtered channel -> `[bins, frames]`.
    fn row(&self, row: &[f64], transform: &mut Transform, n_frames: usize, out: &mut [f32]) -> Result<()> {
        let n = self.window.len();
        for (frame, samples) in row.windows(n).step_by(self.hop).enumerate() {
            let mean = samples.iter().sum::<f64>() / n as f64;
            let power = transform.power(samples.iter().zip(&self.window).map(|(x, w)| (x - mean) * w))?;
            for (bin, power) in power.into_iter().enumerate() {
                let sides = if bin == 0 || 2 * bin == n { 1.0 } else { 2.0 };
                out[bin * n_frames + frame] = (sides * self.scale * power).ln_1p() as f32;
            }
        }
        Ok(())
    }
}

/// `[…, channels, bins, frames]` of ln(1 + P), frames fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrograms {
    /// The axes before channels; empty for a single one.
    pub leading: Vec<usize>,
    /// Channels.
    pub n_channels: usize,
    /// Bins of frequency, the lowest first.
    pub n_bins: usize,
    /// Frames of time.
    pub n_frames: usize,
    /// The values.
    pub data: Vec<f32>,
}

impl Spectrograms {
    /// Wraps values of a shape. Errors: what is wrong with the shape.
    pub fn new(shape: &[usize], data: Vec<f32>) -> Result<Spectrograms, String> {
        match *shape {
            [ref leading @ .., n_channels, n_bins, n_frames]
                if !data.is_empty() && shape.iter().product::<usize>() == data.len() =>
            {
                Ok(Spectrograms { leading: leading.to_vec(), n_channels, n_bins, n_frames, data })
            }
            [_, _, _, ..] => Err(format!("shape {shape:?} holds no spectrogram")),
            _ => Err(format!("shape {shape:?}, a spectrogram is [..., channels, bins, frames]")),
        }
    }

    /// Reads spectrograms from an `.npy`, the array `name` of an `.npz`, or the tensor of a `.pt`.
    ///
    /// Errors: those of [`npy::read`] and [`torch::read`]; [`Error::Format`] for fewer than three axes, an empty one, and numbers that are not
    /// finite.
    pub fn read(path: impl AsRef<Path>, name: Option<&str>) -> Result<Spectrograms> {
        let path = path.as_ref();
        let is_torch = path.extension().is_some_and(|ending| ending == "pt");
        let npy::Array { shape, data } =
            if is_torch { torch::read(path)? } else { npy::read::<f32>(path, name)? };
        if data.iter().any(|v| !v.is_finite()) {
            return Err(Error::format(path, "holds NaN or infinity; make the spectrograms again"));
        }
        Spectrograms::new(&shape, data).map_err(|detail| Error::format(path, detail))
    }

    /// How many spectrograms of all channels.
    pub fn n(&self) -> usize {
        self.leading.iter().product()
    }

    /// `[…, channels, bins, frames]`.
    pub fn shape(&self) -> Vec<usize> {
        [self.leading.as_slice(), &[self.n_channels, self.n_bins, self.n_frames]].concat()
    }

    /// Spectrograms `[channels, bins, frames]` one after another.
    pub fn each(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact((self.n_channels * self.n_bins * self.n_frames).max(1))
    }
}

/// Spectrograms of every channel of `eeg`, recorded at `rate_hz`. `units` are those of the numbers; [`units_of`] tells
/// them, and a recipe that takes numbers as they stand does not mind.
///
/// Errors: [`Error::Setting`] as [`Recipe::plan`]; [`Error::Shape`] for channels shorter than a frame or than the filters
/// need.
pub fn spectrograms<T: Real>(
    eeg: &Stack<T>,
    rate_hz: f64,
    units: Units,
    recipe: &Recipe,
) -> Result<Spectrograms> {
    let plan = recipe.plan(rate_hz)?;
    let shape = plan.shape(&eeg.shape()).map_err(|detail| Error::shape("spectrogram", detail))?;
    let data = plan.rows(&eeg.data, eeg.n_samples, recipe.factor(units))?;
    Spectrograms::new(&shape, data).map_err(|detail| Error::shape("spectrogram", detail))
}

/// What the numbers of EEG are, by their size: volts are a million times smaller than microvolts.
pub fn units_of<T: Real>(eeg: &Stack<T>) -> Units {
    let values: Vec<f32> = eeg.data.iter().map(|&v| v.into() as f32).collect();
    match checks::median_amplitude(&values, eeg.n_samples) {
        Some(median) if median > recording::MOST_VOLTS => Units::Microvolts,
        _ => Units::Volts,
    }
}

/// Errors: [`Error::Format`] naming `path` for numbers that cannot be what `units` says.
pub fn check_units<T: Real>(path: &Path, eeg: &Stack<T>, units: Units) -> Result<()> {
    let scale = if units == Units::Microvolts { 1e-6 } else { 1.0 };
    let volts: Vec<f32> = eeg.data.iter().map(|&v| (v.into() * scale) as f32).collect();
    recording::check_units(path, &volts, eeg.n_samples, units)
}

/// SciPy's `get_window(("tukey", tapered), n)`: a window of n + 1 without its last.
fn tukey(n: usize, tapered: f64) -> Vec<f64> {
    let width = (tapered * n as f64 / 2.0).floor() as usize;
    let place = |i: usize| 2.0 * i as f64 / tapered / n as f64;
    let taper = |x: f64| 0.5 * (1.0 + (PI * x).cos());
    let value = |i: usize| match i {
        i if i <= width => taper(place(i) - 1.0),
        i if i < n - width => 1.0,
        i => taper(place(i) - 2.0 / tapered + 1.0),
    };
    (0..n).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    /// 10 sin at 20 Hz, 5 cos at 45 Hz and a slope, at 512 Hz.
    fn vector(n: usize) -> Stack<f64> {
        let x = |i: usize| {
            let t = i as f64 / 512.0;
            10.0 * (TAU * 20.0 * t).sin() + 5.0 * (TAU * 45.0 * t).cos() + 0.01 * i as f64
        };
        Stack { leading: vec![], n_channels: 1, n_samples: n, data: (0..n).map(x).collect() }
    }

    #[track_caller]
    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-6, "{got} for {want}");
    }

    #[test]
    fn the_vectors_hold_step_by_step() {
        for (rate, notched, passed) in [
            (
                250.0,
                [5.01144631, 6.64508640, -3.34025128, 3.32427073],
                [-1.16761401, 0.81766726, -4.18974356, -1.02100902],
            ),
            (
                512.0,
                [5.16967210, 6.47190580, -3.17305381, 3.91446183],
                [0.75219814, 1.78819239, -3.48808497, 4.16664892],
            ),
        ] {
            let mut x = vector(334).data;
            let plan = Recipe { rate_hz: Some(rate), ..Recipe::original() }.plan(512.0).unwrap();
            for (filter, want) in plan.filters.iter().zip([None, Some(notched), Some(passed)]) {
                filter.filtfilt(&mut x, 334).unwrap();
                for (i, want) in [0, 1, 100, 333].into_iter().zip(want.into_iter().flatten()) {
                    close(x[i], want);
                }
            }
        }
    }

    #[test]
    fn the_vectors_hold_at_the_end() {
        let rows = |recipe: &Recipe| {
            let made = spectrograms(&vector(334), 512.0, Units::Microvolts, recipe).unwrap();
            assert_eq!(made.shape(), [1, 65, 4]);
            made.data.into_iter().map(f64::from).collect::<Vec<_>>()
        };
        for (recipe, five, eleven, sum) in [
            (
                Recipe::original(),
                [3.18559777, 3.21035481, 3.20230266, 3.17218659],
                [1.8388345, 1.86779092, 1.84280613, 1.78268837],
                31.748128655701,
            ),
            (
                Recipe::corrected(),
                [2.53763964, 2.54140926, 2.53656388, 2.52785679],
                [1.22745029, 1.27387488, 1.23975553, 1.17120716],
                22.639582377570,
            ),
        ] {
            let got = rows(&recipe);
            for frame in 0..4 {
                close(got[5 * 4 + frame], five[frame]);
                close(got[11 * 4 + frame], eleven[frame]);
            }
            close(got.iter().sum(), sum);
        }
    }

    #[test]
    fn units_are_told_by_their_size_and_taken_into_account() {
        let micro = vector(400);
        let mut volts = micro.clone();
        volts.data.iter_mut().for_each(|v| *v *= 1e-6);
        assert_eq!((units_of(&micro), units_of(&volts)), (Units::Microvolts, Units::Volts));
        let recipe = Recipe::corrected();
        let one = spectrograms(&micro, 512.0, Units::Microvolts, &recipe).unwrap();
        let other = spectrograms(&volts, 512.0, Units::Volts, &recipe).unwrap();
        assert!(one.data.iter().zip(&other.data).all(|(a, b)| (a - b).abs() < 1e-6));
        // The original's volts: powers of 1e-12 and less, which ln(1 + P) must not lose.
        let tiny = spectrograms(&volts, 512.0, Units::Volts, &Recipe::original()).unwrap();
        let largest = tiny.data.iter().copied().fold(0.0, f32::max);
        assert!((1e-12..1e-10).contains(&largest), "{largest}");
        assert!(check_units(Path::new("x"), &micro, Units::Volts).is_err());
    }

    #[test]
    fn the_original_pads_in_front_and_keeps_the_end() {
        let long = vector(400);
        let mut cut = long.clone();
        (cut.n_samples, cut.data) = (334, long.data[66..].to_vec());
        let original =
            |eeg: &Stack<f64>| spectrograms(eeg, 512.0, Units::Volts, &Recipe::original()).unwrap();
        assert_eq!(original(&long), original(&cut));
        let short = vector(100);
        let mut padded = short.clone();
        (padded.n_samples, padded.data) = (334, [vec![0.0; 234], short.data.clone()].concat());
        assert_eq!(original(&short), original(&padded));
        let error = spectrograms(&short, 512.0, Units::Microvolts, &Recipe::corrected()).unwrap_err();
        assert!(
            error.to_string().contains("100 samples, a spectrogram at 512 Hz needs at least 128"),
            "{error}"
        );
    }

    #[test]
    fn rows_do_not_know_of_each_other() {
        let n = 5;
        let mut many = vector(200);
        (many.leading, many.n_channels) = (vec![n], 3);
        many.data =
            (0..n * 3).flat_map(|row| vector(200).data.into_iter().map(move |v| v * row as f64)).collect();
        let recipe = Recipe { band_hz: None, notches_hz: vec![], ..Recipe::corrected() };
        let all = spectrograms(&many, 512.0, Units::Microvolts, &recipe).unwrap();
        assert_eq!((all.shape(), all.n()), (vec![n, 3, 65, 2], n));
        for (row, got) in all.data.chunks_exact(130).enumerate() {
            let mut alone = vector(200);
            alone.data.iter_mut().for_each(|v| *v *= row as f64);
            assert_eq!(spectrograms(&alone, 512.0, Units::Microvolts, &recipe).unwrap().data, got);
        }
        // Frames and bins keep their meaning at other rates.
        let plan = Recipe::corrected().plan(256.0).unwrap();
        assert_eq!((plan.n_bins(), plan.bin_hz(), plan.n_frames(256).unwrap()), (33, 4.0, 7));
    }

    #[test]
    fn impossible_recipes_and_shapes_are_refused() {
        let refused = |change: &dyn Fn(&mut Recipe), rate: f64| {
            let mut recipe = Recipe::corrected();
            change(&mut recipe);
            recipe.plan(rate).unwrap_err().to_string()
        };
        assert!(refused(&|_| (), 128.0).contains("100 Hz, wanted above 0 and below 64 Hz"));
        assert!(refused(&|_| (), f64::NAN).contains("NaN"));
        assert!(refused(&|r| r.hop_s = 1.0, 512.0).contains("more than a window"));
        assert!(refused(&|r| r.window_s = 0.0, 512.0).contains("0 samples"));
        assert!(refused(&|r| r.window_s = f64::INFINITY, 512.0).starts_with("window"));
        let plan = Recipe::corrected().plan(512.0).unwrap();
        assert_eq!(plan.shape(&[2, 64, 334]).unwrap(), [2, 64, 65, 4]);
        assert!(plan.shape(&[334]).unwrap_err().contains("[..., channels, samples]"));
        assert!(
            Spectrograms::new(&[65, 4], vec![0.0; 260])
                .unwrap_err()
                .contains("[..., channels, bins, frames]")
        );
        assert!(Spectrograms::new(&[0, 65, 4], vec![]).is_err());
    }
}
