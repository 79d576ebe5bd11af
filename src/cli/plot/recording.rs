//! Recordings as traces, spectra and scalp maps.

use super::super::Shell;
use super::Output;
use crate::error::{Error, Result, nearest};
use crate::plot::{self, Map, Spectrum, psd::Form};
use crate::signal::features::BANDS;
use crate::signal::montage::{self, ELECTRODES, Electrode};
use crate::signal::{Options, Recording, Recordings, npy};
use serde_json::json;
use std::path::PathBuf;

/// Seconds of traces that can be read in one picture.
const TRACE_S: f64 = 10.0;

/// The part of a file that is drawn.
#[derive(clap::Args)]
struct Part {
    /// Recording, .npy or .npz: [channels, samples] or several of them
    #[arg(value_name = "FILE.npy")]
    file: PathBuf,

    /// Channels by name, apart by commas; all where none are named
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    channels: Vec<String>,

    /// Where to begin
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    start_s: f64,

    /// How much is taken; up to the end where nothing is said (of traces, at most 10)
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,

    /// Which recording of a file with several, from 0
    #[arg(long, default_value_t = 0, value_name = "N")]
    recording: usize,

    /// What the numbers are: V or uV
    #[arg(long, default_value = "V")]
    units: String,

    /// Samples per second of the file
    #[arg(long, alias = "rate", default_value_t = montage::SAMPLE_RATE_HZ, value_name = "HZ")]
    sample_rate: f64,

    /// Array of an .npz
    #[arg(long, value_name = "NAME")]
    array: Option<String>,
}

impl Part {
    /// The channels and samples asked for; of all of them at most `most_s` seconds unless they are asked for.
    fn load(&self, most_s: f64) -> Result<Recording> {
        let options = Options {
            sample_rate_hz: self.sample_rate,
            units: self.units.parse()?,
            array: self.array.clone(),
            wanted: None,
        };
        let all = Recordings::load(&self.file, &options)?;
        let whole = all.recording(self.recording).ok_or_else(|| {
            let detail =
                format!("{} is not there, the file has {} recordings, from 0", self.recording, all.n);
            Error::setting("--recording", detail)
        })?;
        let duration = whole.duration_s();
        if !(0.0..duration).contains(&self.start_s) {
            let detail = format!("{} s is outside, the recording has {duration} s", self.start_s);
            return Err(Error::setting("--start-s", detail));
        }
        let left = duration - self.start_s;
        let seconds = self.seconds.unwrap_or(left.min(most_s));
        if !(seconds > 0.0 && seconds <= left * (1.0 + 1e-9)) {
            let detail = format!(
                "{seconds} s from {} s is not to be had, the recording has {duration} s",
                self.start_s
            );
            return Err(Error::setting("--seconds", detail));
        }
        let sample = |s: f64| (s * whole.sample_rate_hz).round() as usize;
        let first = sample(self.start_s).min(whole.n_samples - 1);
        let end = (first + sample(seconds).max(1)).min(whole.n_samples);
        let cut = whole.data.chunks_exact(whole.n_samples).flat_map(|channel| &channel[first..end]);
        let cut = Recording::new(cut.copied().collect(), whole.sample_rate_hz, whole.channel_names)?;
        if self.channels.is_empty() {
            return Ok(cut);
        }
        cut.select(&self.channels.iter().map(|name| name.trim()).collect::<Vec<_>>())
    }
}

/// Channels below each other over seconds
#[derive(clap::Args)]
pub(super) struct Traces {
    #[command(flatten)]
    part: Part,

    #[command(flatten)]
    output: Output,
}

pub(super) fn traces(args: &Traces, shell: &Shell) -> Result<()> {
    args.output.check()?;
    let recording = args.part.load(TRACE_S)?;
    let scene = plot::traces(&args.output.title(&args.part.file), &recording, args.part.start_s)?;
    let (n, seconds) = (recording.n_channels, recording.duration_s());
    args.output.write(
        &scene,
        shell,
        &format!("{n} channels, {seconds} s from {} s", args.part.start_s),
        &json!({ "channels": n, "start_s": args.part.start_s, "seconds": seconds }),
    )
}

/// Power spectral density by Welch's method
#[derive(clap::Args)]
pub(super) struct Psd {
    #[command(flatten)]
    part: Part,

    /// Frequencies shown, LOW-HIGH in hertz or a band's name; up to 100 Hz where nothing is said
    #[arg(long, value_name = "LOW-HIGH|NAME")]
    band: Option<String>,

    /// Both axes in powers of ten, instead of decibels over hertz
    #[arg(long)]
    log_log: bool,

    /// Length of a window; frequencies lie 1 / SECONDS apart
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    window_s: f64,

    #[command(flatten)]
    output: Output,
}

pub(super) fn psd(args: &Psd, shell: &Shell) -> Result<()> {
    args.output.check()?;
    let recording = args.part.load(f64::INFINITY)?;
    let spectrum = Spectrum::welch(&recording, args.window_s)?;
    let (_, low, high) = args.band.as_deref().map_or(Ok((String::new(), 0.0, 100.0)), band)?;
    let form = if args.log_log { Form::LogLog } else { Form::Decibel };
    let scene = plot::psd(&args.output.title(&args.part.file), &spectrum, [low, high], form)?;
    let empty = spectrum.empty_channels();
    if !empty.is_empty() {
        let names = empty.join(", ");
        shell.note(&format!("warning: not drawn, for want of a window of finite samples: {names}"));
    }
    let n = recording.n_channels - empty.len();
    args.output.write(
        &scene,
        shell,
        &format!("{n} channels, {} frequencies", spectrum.frequencies_hz.len()),
        &json!({ "channels": n, "frequencies": spectrum.frequencies_hz.len() }),
    )
}

/// Band power over the head, or one value an electrode
#[derive(clap::Args)]
pub(super) struct Topomap {
    #[command(flatten)]
    part: Part,

    /// Bands, LOW-HIGH in hertz or names, apart by commas; delta, theta, alpha, beta and gamma where none are named
    #[arg(long, value_name = "LOW-HIGH|NAME", value_delimiter = ',')]
    band: Vec<String>,

    /// Length of a window; frequencies lie 1 / SECONDS apart
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    window_s: f64,

    #[command(flatten)]
    output: Output,
}

pub(super) fn topomap(args: &Topomap, shell: &Shell) -> Result<()> {
    args.output.check()?;
    let title = args.output.title(&args.part.file);
    let (maps, electrodes, unit) = match features(args)? {
        Some(maps) => (maps, ELECTRODES.to_vec(), ""),
        None => power(args)?,
    };
    let scene = plot::topomap(&title, unit, &electrodes, &maps)?;
    let labels: Vec<&str> = maps.iter().map(|map| map.label.as_str()).collect();
    let shown = match &labels[..] {
        [""] => "one value an electrode".to_string(),
        _ => labels.join(", "),
    };
    let json = json!({ "maps": labels, "electrodes": electrodes.len() });
    args.output.write(&scene, shell, &shown, &json)
}

/// Mean density in each band, in decibels.
fn power(args: &Topomap) -> Result<(Vec<Map>, Vec<Electrode>, &'static str)> {
    let recording = args.part.load(f64::INFINITY)?;
    let place = |name: &String| montage::index_of(name).map(|idx| ELECTRODES[idx]);
    let electrodes = recording.channel_names.iter().map(place).collect::<Result<Vec<_>>>()?;
    let spectrum = Spectrum::welch(&recording, args.window_s)?;
    let nyquist = 0.5 * recording.sample_rate_hz;
    let bands: Vec<(String, f64, f64)> = match &args.band[..] {
        [] => {
            BANDS.iter().filter(|band| band.1 < nyquist).map(|band| (band.0.into(), band.1, band.2)).collect()
        }
        named => named.iter().map(|name| band(name)).collect::<Result<_>>()?,
    };
    let map = |(name, low, high): (String, f64, f64)| {
        let density = spectrum.band(low, high)?;
        let values = density.into_iter().map(|v| if v > 0.0 { 10.0 * v.log10() } else { f64::NAN });
        let label = format!("{name} {low}–{} Hz", high.min(nyquist)).trim().to_string();
        Ok(Map { label, values: values.collect() })
    };
    Ok((bands.into_iter().map(map).collect::<Result<_>>()?, electrodes, "dB re 1 µV²/Hz"))
}

/// `[62]` values, or `[62, 5]` features as `prepare de-psd` writes them; `None` for another shape.
fn features(args: &Topomap) -> Result<Option<Vec<Map>>> {
    let entries = npy::list(&args.part.file)?;
    let wanted = |entry: &&npy::Entry| args.part.array.as_deref().is_none_or(|name| entry.name == name);
    let n = ELECTRODES.len();
    let columns = match entries.iter().find(wanted).map(|entry| &entry.shape[..]) {
        Some(&[channels]) if channels == n => 1,
        Some(&[channels, 5]) if channels == n => 5,
        _ => return Ok(None),
    };
    let values = npy::read::<f64>(&args.part.file, args.part.array.as_deref())?;
    if values.data.len() != n * columns {
        return Ok(None); // another array of an .npz
    }
    let column = |idx: usize| values.data.iter().skip(idx).step_by(columns).copied().collect();
    if columns == 1 {
        return Ok(Some(vec![Map { label: String::new(), values: column(0) }]));
    }
    let is_wanted = |name: &str| args.band.is_empty() || args.band.iter().any(|wanted| wanted == name);
    for wanted in &args.band {
        if !BANDS.iter().any(|band| band.0 == wanted) {
            return Err(unknown(wanted, "the file has"));
        }
    }
    let maps = BANDS.iter().enumerate().filter(|(_, band)| is_wanted(band.0));
    Ok(Some(maps.map(|(idx, band)| Map { label: band.0.into(), values: column(idx) }).collect()))
}

/// A band by name, or `LOW-HIGH`.
fn band(text: &str) -> Result<(String, f64, f64)> {
    let text = text.trim();
    if let Some(known) = BANDS.iter().find(|band| band.0.eq_ignore_ascii_case(text)) {
        return Ok((known.0.into(), known.1, known.2));
    }
    let ends = text.split_once('-').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    match ends {
        Some((low, high)) if 0.0 <= low && low < high && f64::is_finite(high) => {
            Ok((String::new(), low, high))
        }
        Some(_) => Err(Error::setting(
            "--band",
            format!("\"{text}\" is no band, its first end is not below its second"),
        )),
        None => Err(unknown(text, "give LOW-HIGH in hertz, or")),
    }
}

fn unknown(name: &str, next: &str) -> Error {
    let names = || BANDS.iter().map(|band| band.0);
    let hint = match nearest(name, names()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("{next} {}", names().collect::<Vec<_>>().join(", ")),
    };
    Error::setting("--band", format!("\"{}\" is not known; {hint}", name.escape_debug()))
}
