//! Recordings: what is in the file, and how `video` would read it.

use super::{Told, shown};
use crate::cli::progress::duration;
use crate::error::Result;
use crate::signal::{Cut, Layout, Options, Recordings, Units, checks, npy};
use serde_json::{Value, json};
use std::path::Path;

pub(super) fn file(path: &Path, rate_hz: f64, units: Units, array: Option<&str>) -> Result<Told> {
    let entries = npy::list(path)?;
    let mut text = format!("{}\n", path.display());
    let mut arrays = Vec::new();
    for entry in &entries {
        let name = if entry.name.is_empty() { String::new() } else { format!(" '{}'", shown(&entry.name)) };
        text += &format!("  array{name} {:?} of {}\n", entry.shape, shown(&entry.dtype));
        arrays.push(json!({ "name": entry.name, "shape": entry.shape, "dtype": entry.dtype }));
    }
    let mut json = json!({ "arrays": arrays });

    let values = npy::read::<f32>(path, array)?;
    let n_samples = values.shape.last().copied().unwrap_or(1);
    let scale = if units == Units::Microvolts { 1e-6 } else { 1.0 };
    let finite = || values.data.iter().copied().filter(|v| v.is_finite()).map(|v| f64::from(v) * scale);
    let (lowest, highest) =
        (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let n_bad = values.data.len() - finite().count();
    if let Some(median) = checks::median_amplitude(&values.data, n_samples).map(|median| median * scale) {
        text += &format!(
            "  amplitude   median {}, from {} to {}\n",
            volts(median),
            volts(lowest),
            volts(highest)
        );
        json["amplitude_v"] = json!({ "median": median, "lowest": lowest, "highest": highest });
    }
    if n_bad > 0 {
        text += &format!("  bad         {n_bad} of {} values are NaN or infinite\n", values.data.len());
    }
    json["nonfinite"] = json!(n_bad);
    drop(values);

    let options =
        Options { sample_rate_hz: rate_hz, units, array: array.map(str::to_string), ..Options::seed_dv() };
    let any = Options { wanted: None, ..options.clone() };
    if let Ok(recordings) = Recordings::load(path, &any) {
        let what = match recordings.layout {
            Layout::Continuous => "continuous",
            Layout::Blocks => "blocks of SEED-DV",
            Layout::Clips { .. } => "clips cut already",
        };
        let (n, channels, seconds) = (recordings.n, recordings.n_channels, recordings.duration_s());
        text += &format!(
            "  read as     {n} x {channels} channels x {} samples, {what}\n  \
               duration    {} each at {rate_hz} Hz\n",
            recordings.n_samples,
            if seconds < 60.0 { format!("{seconds:.2} s") } else { duration(seconds) }
        );
        let found: Vec<String> = recordings
            .findings
            .iter()
            .enumerate()
            .filter(|(_, findings)| !findings.is_clean())
            .map(|(idx, findings)| {
                format!("recording {idx}: {}", findings.describe(&recordings.channel_names))
            })
            .collect();
        for finding in found.iter().take(10) {
            text += &format!("  found       {finding}\n");
        }
        json["n"] = json!(n);
        json["channels"] = json!(channels);
        json["samples"] = json!(recordings.n_samples);
        json["layout"] = json!(what);
        json["sample_rate_hz"] = json!(rate_hz);
        json["duration_s"] = json!(seconds);
        json["findings"] = json!(found);
    }
    // What the main job says to it, in its own words.
    let clips = Recordings::load(path, &options).and_then(|recordings| recordings.segments(Cut::CLIPS));
    let (verdict, n_clips) = match &clips {
        Ok(clips) => (format!("{} clips of 2 s", clips.n), Some(clips.n)),
        Err(error) => (format!("refused: {error}"), None),
    };
    text += &format!("  for video   {verdict}\n");
    json["clips"] = json!(n_clips);
    json["refused"] = clips.err().map_or(Value::Null, |error| json!(error.to_string()));
    Ok((text, json))
}

/// `12.3 µV`, `1.20 V`.
fn volts(v: f64) -> String {
    match v.abs() {
        size if size >= 1.0 => format!("{v:.2} V"),
        size if size >= 1e-3 => format!("{:.2} mV", v * 1e3),
        _ => format!("{:.2} µV", v * 1e6),
    }
}
