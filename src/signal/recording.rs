//! A recording: channels × samples, in volts, with its rate and names; and how files become recordings.
//!
//! ```text
//! [channels, samples]            one continuous recording
//! [n, channels, samples]         n recordings; SEED-DV's [7, 62, 104000] are its seven blocks
//! [blocks, slots, clips, channels, samples]   SEED-DV segmented, [7, 40, 5, 62, 400]
//! ```
//!
//! A file is judged as it is read: shape, channel count, rate, units, then the samples themselves. What is
//! wrong is refused in one line; what can be lived with is decided when clips are cut ([`super::segments`]).

use super::checks::{self, Findings};
use super::{montage, npy};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Samples in one SEED-DV block: 40 slots of 13 s at 200 Hz.
pub const BLOCK_SAMPLES: usize = 104_000;
/// No EEG has a median amplitude above this in volts, and none is below it in microvolts.
pub(super) const MOST_VOLTS: f64 = 1e-2;

/// Channels × samples, in volts.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// `[channels, samples]`, volts, samples fastest.
    pub data: Vec<f32>,
    /// Channels.
    pub n_channels: usize,
    /// Samples per channel.
    pub n_samples: usize,
    /// Samples per second.
    pub sample_rate_hz: f64,
    /// One name per channel.
    pub channel_names: Vec<String>,
}

impl Recording {
    /// Wraps `data` `[channels, samples]` in volts; the length of `channel_names` is the number of channels.
    ///
    /// Errors: [`Error::Shape`] when the channels do not divide the data or nothing is there;
    /// [`Error::Setting`] when the rate is not a positive number.
    pub fn new(data: Vec<f32>, sample_rate_hz: f64, channel_names: Vec<String>) -> Result<Recording> {
        let n_channels = channel_names.len();
        if n_channels == 0 || data.is_empty() || !data.len().is_multiple_of(n_channels) {
            let detail = format!("{} values are not [{n_channels} channels, samples]", data.len());
            return Err(Error::shape("Recording::new", detail));
        }
        check_rate(sample_rate_hz)?;
        let n_samples = data.len() / n_channels;
        Ok(Recording { data, n_channels, n_samples, sample_rate_hz, channel_names })
    }

    /// The samples of one channel, in volts; `None` when there is no such channel.
    pub fn channel(&self, channel_idx: usize) -> Option<&[f32]> {
        if channel_idx >= self.n_channels {
            return None;
        }
        self.data.get(channel_idx * self.n_samples..(channel_idx + 1) * self.n_samples)
    }

    /// Length in seconds.
    pub fn duration_s(&self) -> f64 {
        self.n_samples as f64 / self.sample_rate_hz
    }

    /// The named channels, in that order; names are compared without case.
    ///
    /// Errors: [`Error::Setting`] naming the first channel that is missing, with the nearest that is there.
    pub fn select(&self, names: &[&str]) -> Result<Recording> {
        let mut data = Vec::with_capacity(names.len() * self.n_samples);
        for name in names {
            let idx = self.channel_names.iter().position(|own| own.eq_ignore_ascii_case(name));
            let channel = idx.and_then(|idx| self.channel(idx)).ok_or_else(|| {
                let hint = match crate::error::nearest(name, self.channel_names.iter().map(String::as_str)) {
                    Some(near) => format!("; did you mean \"{near}\"?"),
                    None => String::new(),
                };
                Error::setting("channel", format!("\"{name}\" is not in the recording{hint}"))
            })?;
            data.extend_from_slice(channel);
        }
        let names = names.iter().map(ToString::to_string).collect();
        Recording::new(data, self.sample_rate_hz, names)
    }
}

/// What the numbers of a file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Units {
    /// Volts, as MNE writes.
    #[default]
    Volts,
    /// Microvolts, as EEGLAB writes.
    Microvolts,
}

impl std::str::FromStr for Units {
    type Err = Error;

    /// `V` or `uV` (also `µV`).
    fn from_str(text: &str) -> Result<Units> {
        match text {
            "V" | "v" => Ok(Units::Volts),
            "uV" | "uv" | "µV" | "μV" => Ok(Units::Microvolts),
            _ => Err(Error::setting(
                "--units",
                format!("\"{}\" is not known; give V or uV", text.escape_debug()),
            )),
        }
    }
}

/// What the models behind a command take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// Channels.
    pub n_channels: usize,
    /// Samples per second.
    pub sample_rate_hz: f64,
}

/// How to read a file that does not describe itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Rate of the file, in hertz.
    pub sample_rate_hz: f64,
    /// What its numbers are; microvolts are multiplied by 1e-6.
    pub units: Units,
    /// Which array of an `.npz`; `None` takes the only or the usual one.
    pub array: Option<String>,
    /// What is wanted; `None` takes any rate and any number of channels.
    pub wanted: Option<Wanted>,
}

impl Options {
    /// SEED-DV as EEG2Video takes it: 62 channels at 200 Hz, in volts.
    pub fn seed_dv() -> Options {
        let rate = montage::SAMPLE_RATE_HZ;
        let wanted = Some(Wanted { n_channels: montage::ELECTRODES.len(), sample_rate_hz: rate });
        Options { sample_rate_hz: rate, units: Units::Volts, array: None, wanted }
    }
}

/// How the leading axes of a file are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Recordings, each cut in windows.
    Continuous,
    /// SEED-DV blocks, cut by the protocol.
    Blocks,
    /// Clips cut already, `[blocks, slots, clips]` of them.
    Clips {
        /// Slots (concepts) per block.
        slots: usize,
        /// Clips per slot.
        clips: usize,
    },
}

/// Every recording of a file; all of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Recordings {
    /// The file, or what else to call it in a message.
    pub source: PathBuf,
    /// `[n, channels, samples]`, volts.
    pub data: Vec<f32>,
    /// Recordings.
    pub n: usize,
    /// Channels of each.
    pub n_channels: usize,
    /// Samples per channel of each.
    pub n_samples: usize,
    /// Samples per second.
    pub sample_rate_hz: f64,
    /// One name per channel.
    pub channel_names: Vec<String>,
    /// What the recordings are.
    pub layout: Layout,
    /// Bad samples found in each recording.
    pub findings: Vec<Findings>,
}

impl Recordings {
    /// Reads and judges an `.npy` or `.npz` of a shape listed at the head of this module.
    ///
    /// Errors: those of [`npy::read`]; [`Error::Setting`] when the given rate is not a positive number;
    /// [`Error::Format`] for another shape, channel count or rate than wanted, for microvolts taken for volts
    /// (or the reverse), and when more than 5 % of a recording's samples are bad.
    pub fn load(path: impl AsRef<Path>, options: &Options) -> Result<Recordings> {
        let path = path.as_ref();
        check_rate(options.sample_rate_hz)?;
        let array = npy::read::<f32>(path, options.array.as_deref())?;
        if array.data.is_empty() {
            return Err(Error::format(path, format!("shape {:?} holds no samples", array.shape)));
        }
        let (layout, n, n_channels, n_samples) = match array.shape[..] {
            [channels, samples] => (Layout::Continuous, 1, channels, samples),
            [n, channels, BLOCK_SAMPLES] => (Layout::Blocks, n, channels, BLOCK_SAMPLES),
            [n, channels, samples] => (Layout::Continuous, n, channels, samples),
            [blocks, slots, clips, channels, samples] => {
                (Layout::Clips { slots, clips }, blocks * slots * clips, channels, samples)
            }
            _ => {
                let detail = format!(
                    "shape {:?}, wanted [channels, samples], [n, channels, samples] or \
                     [blocks, slots, clips, channels, samples]; reshape it",
                    array.shape
                );
                return Err(Error::format(path, detail));
            }
        };
        check_wanted(path, n_channels, n_samples, options)?;
        let mut data = array.data;
        if options.units == Units::Microvolts {
            data.iter_mut().for_each(|v| *v = (f64::from(*v) * 1e-6) as f32);
        }
        check_units(path, &data, n_samples, options.units)?;
        let is_seed_dv = n_channels == montage::ELECTRODES.len();
        let channel_names =
            if is_seed_dv { montage::names() } else { (0..n_channels).map(|i| format!("ch{i}")).collect() };
        let findings = data.chunks_exact(n_channels * n_samples).map(|one| checks::inspect(one, n_samples));
        let recordings = Recordings {
            source: path.to_path_buf(),
            findings: findings.collect(),
            data,
            n,
            n_channels,
            n_samples,
            sample_rate_hz: options.sample_rate_hz,
            channel_names,
            layout,
        };
        recordings.refuse_ruined()?;
        Ok(recordings)
    }

    /// One recording of its own; `None` beyond the last.
    pub fn recording(&self, idx: usize) -> Option<Recording> {
        let size = self.n_channels * self.n_samples;
        let data = self.data.chunks_exact(size).nth(idx)?.to_vec();
        let (sample_rate_hz, channel_names) = (self.sample_rate_hz, self.channel_names.clone());
        Some(Recording {
            data,
            n_channels: self.n_channels,
            n_samples: self.n_samples,
            sample_rate_hz,
            channel_names,
        })
    }

    /// Length of each recording in seconds.
    pub fn duration_s(&self) -> f64 {
        self.n_samples as f64 / self.sample_rate_hz
    }

    /// Errors: [`Error::Format`] when more than 5 % of a recording's samples are bad.
    pub(super) fn refuse_ruined(&self) -> Result<()> {
        let total = self.n_channels * self.n_samples;
        for (idx, findings) in self.findings.iter().enumerate() {
            if findings.n_bad() * 20 > total {
                let detail = format!(
                    "recording {idx}: {:.1} % of the samples are bad, at most 5 % are put up with: {}; \
                     repair or leave out these channels",
                    100.0 * findings.n_bad() as f64 / total as f64,
                    findings.describe(&self.channel_names)
                );
                return Err(Error::format(&self.source, detail));
            }
        }
        Ok(())
    }
}

impl From<Recording> for Recordings {
    /// One continuous recording, its samples inspected; what is bad is refused when clips are cut.
    fn from(recording: Recording) -> Recordings {
        Recordings {
            source: PathBuf::from("recording"),
            findings: vec![checks::inspect(&recording.data, recording.n_samples)],
            data: recording.data,
            n: 1,
            n_channels: recording.n_channels,
            n_samples: recording.n_samples,
            sample_rate_hz: recording.sample_rate_hz,
            channel_names: recording.channel_names,
            layout: Layout::Continuous,
        }
    }
}

pub(super) fn check_rate(sample_rate_hz: f64) -> Result<()> {
    if sample_rate_hz.is_finite() && sample_rate_hz > 0.0 {
        return Ok(());
    }
    Err(Error::setting("--rate", format!("{sample_rate_hz} Hz is no sample rate; give the recording's own")))
}

fn check_wanted(path: &Path, n_channels: usize, n_samples: usize, options: &Options) -> Result<()> {
    let Some(wanted) = options.wanted else { return Ok(()) };
    if n_channels != wanted.n_channels {
        let advice = if n_samples == wanted.n_channels {
            "; it looks transposed, swap the last two axes"
        } else if wanted.n_channels == montage::ELECTRODES.len() {
            "; SEED-DV's montage is FP1 to CB2, interpolate missing channels and leave out others"
        } else {
            ""
        };
        let detail = format!("{n_channels} channels, wanted {}{advice}", wanted.n_channels);
        return Err(Error::format(path, detail));
    }
    if (options.sample_rate_hz - wanted.sample_rate_hz).abs() > 1e-6 * wanted.sample_rate_hz {
        let detail = format!(
            "sampled at {} Hz, wanted {} Hz; resample it first, with `mindreel prepare resample` or in MNE with raw.resample({1})",
            options.sample_rate_hz, wanted.sample_rate_hz
        );
        return Err(Error::format(path, detail));
    }
    Ok(())
}

/// EEG is 1e-6 to 1e-4 V. Taken for volts, microvolts are a million times too large, and the reverse.
pub(super) fn check_units(path: &Path, data: &[f32], n_samples: usize, units: Units) -> Result<()> {
    let Some(median) = checks::median_amplitude(data, n_samples) else { return Ok(()) };
    match units {
        Units::Volts if median > MOST_VOLTS => {
            let detail = format!(
                "median amplitude {median:.3} V, EEG has about 1e-5 V; these look like \
                                  microvolts, give --units uV"
            );
            Err(Error::format(path, detail))
        }
        Units::Microvolts if median > 0.0 && median < 1e-9 => {
            let detail = format!(
                "median amplitude {:.1e} µV, EEG has about 10 µV; these look like volts, \
                                  leave --units uV out",
                median * 1e6
            );
            Err(Error::format(path, detail))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample_recording;
    use super::*;

    fn saved(shape: &[usize], data: &[f32]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eeg.npy");
        npy::write(&path, shape, data).unwrap();
        (folder, path)
    }

    fn refusal(shape: &[usize], data: &[f32], options: &Options) -> String {
        let (_folder, path) = saved(shape, data);
        Recordings::load(&path, options).unwrap_err().to_string()
    }

    #[test]
    fn the_shapes_of_the_field_are_understood() {
        let eeg = sample_recording(1, 4.0).unwrap().data;
        let options = Options::seed_dv();
        let (_folder, path) = saved(&[62, 800], &eeg);
        let one = Recordings::load(&path, &options).unwrap();
        assert_eq!((one.n, one.n_samples, one.layout), (1, 800, Layout::Continuous));
        assert_eq!((one.duration_s(), one.channel_names[59].as_str()), (4.0, "OZ"));
        assert_eq!(one.recording(0).unwrap().data, eeg);
        assert!(one.recording(1).is_none());

        let (_folder, path) = saved(&[2, 62, 400], &eeg);
        let two = Recordings::load(&path, &options).unwrap();
        assert_eq!((two.n, two.n_samples, two.layout), (2, 400, Layout::Continuous));
        assert_eq!(two.recording(1).unwrap().channel(0).unwrap(), &eeg[62 * 400..][..400]);

        let (_folder, path) = saved(&[1, 1, 2, 62, 400], &eeg);
        let clips = Recordings::load(&path, &options).unwrap();
        assert_eq!((clips.n, clips.layout), (2, Layout::Clips { slots: 1, clips: 2 }));

        let free = Options { wanted: None, sample_rate_hz: 1000.0, ..options };
        let (_folder, path) = saved(&[31, 1600], &eeg);
        assert_eq!(Recordings::load(&path, &free).unwrap().channel_names[30], "ch30");
    }

    #[test]
    fn each_mistake_has_its_line() {
        let eeg = sample_recording(2, 2.0).unwrap().data;
        let options = Options::seed_dv();
        let fewer = refusal(&[61, 400], &eeg[..61 * 400], &options);
        assert!(fewer.contains("61 channels, wanted 62; SEED-DV's montage"), "{fewer}");
        assert!(refusal(&[400, 62], &eeg, &options).contains("transposed"));
        assert!(refusal(&[24_800], &eeg, &options).contains("wanted [channels, samples]"));
        assert!(refusal(&[62, 0], &[], &options).contains("no samples"));
        let other = Options { sample_rate_hz: 250.0, ..options.clone() };
        assert!(refusal(&[62, 400], &eeg, &other).contains("250 Hz, wanted 200 Hz; resample"));
        for rate in [0.0, -200.0, f64::NAN, f64::INFINITY] {
            let wrong = Options { sample_rate_hz: rate, ..options.clone() };
            assert!(refusal(&[62, 400], &eeg, &wrong).contains("no sample rate"));
        }
    }

    #[test]
    fn units_are_never_guessed_in_silence() {
        let volts = sample_recording(3, 2.0).unwrap().data;
        let microvolts: Vec<f32> = volts.iter().map(|v| v * 1e6).collect();
        let options = Options::seed_dv();
        assert!(refusal(&[62, 400], &microvolts, &options).contains("--units uV"));
        let told = Options { units: "uV".parse().unwrap(), ..options };
        assert!(refusal(&[62, 400], &volts, &told).contains("look like volts"));
        let (_folder, path) = saved(&[62, 400], &microvolts);
        let read = Recordings::load(&path, &told).unwrap();
        assert!(read.data.iter().zip(&volts).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs()));
        // A direct-current offset of 50 mV is not a sign of microvolts.
        let offset: Vec<f32> = volts.iter().map(|v| v + 0.05).collect();
        let (_folder, path) = saved(&[62, 400], &offset);
        assert!(Recordings::load(&path, &Options::seed_dv()).is_ok());
        assert!("mV".parse::<Units>().is_err());
    }

    #[test]
    fn a_ruined_recording_is_refused_with_its_channels() {
        let mut eeg = sample_recording(4, 2.0).unwrap().data;
        for channel in [3, 4, 5, 59] {
            eeg[channel * 400..(channel + 1) * 400].fill(f32::NAN);
        }
        let refused = refusal(&[62, 400], &eeg, &Options::seed_dv());
        assert!(
            refused.contains("6.5 %") && refused.contains("1600 samples are NaN or infinite"),
            "{refused}"
        );
        assert!(refused.contains("first in AF3 at sample 0"), "{refused}");
    }

    #[test]
    fn channels_are_picked_by_name() {
        let recording = sample_recording(5, 1.0).unwrap();
        let two = recording.select(&["oz", "FP1"]).unwrap();
        assert_eq!(two.channel(0), recording.channel(59));
        assert_eq!(two.channel(1), recording.channel(0));
        assert!(recording.select(&["OZZ"]).unwrap_err().to_string().contains("did you mean \"OZ\""));
        assert!(Recording::new(vec![0.0; 7], 200.0, vec!["a".into(), "b".into()]).is_err());
        assert!(Recording::new(vec![], 200.0, vec![]).is_err());
    }
}
