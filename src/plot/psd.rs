//! Power spectral density: a line a channel, or many pale ones with their mean, over the bands of EEG.

use super::axes::{AXIS_ROOM, Axes, LABEL, MARGIN, Scale, heading, legend, pale, pen};
use super::colour::{KINDS, MUTED};
use super::scene::{Pen, Point, Scene, Text};
use super::spectrum::Spectrum;
use crate::error::{Error, Result};
use crate::signal::features::BANDS;

/// Channels that have a colour and a name; more are pale, with their mean.
const NAMED: usize = 8;
/// Width and height of the frame.
const FRAME: [f64; 2] = [720.0, 360.0];
/// The bands' letters.
const LETTERS: [&str; 5] = ["δ", "θ", "α", "β", "γ"];

/// How densities are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Decibels over hertz.
    #[default]
    Decibel,
    /// Both in powers of ten, where 1/f noise is a straight line.
    LogLog,
}

/// The spectrum from `low` to `high` hertz; what lies more than 80 dB below its highest place, as filters leave it, is
/// not drawn.
///
/// Errors: [`Error::Setting`] when fewer than two frequencies lie there; [`Error::Shape`] when no density there is
/// above zero.
pub fn psd(title: &str, spectrum: &Spectrum, [low, high]: [f64; 2], form: Form) -> Result<Scene> {
    let frequencies = &spectrum.frequencies_hz;
    let shown: Vec<usize> = (0..frequencies.len())
        .filter(|&k| frequencies[k] > 0.0 && (low..=high).contains(&frequencies[k]))
        .collect();
    let (Some(&first), Some(&last)) = (shown.first(), shown.last().filter(|_| shown.len() > 1)) else {
        let nyquist = frequencies.last().copied().unwrap_or(0.0);
        let detail = format!("{low} to {high} Hz hold no two frequencies of a spectrum up to {nyquist} Hz");
        return Err(Error::setting("band", detail));
    };
    let is_log = form == Form::LogLog;
    let value = |density: f64| match is_log {
        _ if density <= 0.0 => f64::NAN,
        true => density,
        false => 10.0 * density.log10(),
    };
    let rows: Vec<&[f64]> = spectrum.rows().collect();
    let n = rows.len();
    // Powers are averaged, not decibels.
    let mean = |k: usize| {
        let finite = || rows.iter().map(|row| row[k]).filter(|v| v.is_finite());
        finite().sum::<f64>() / finite().count() as f64
    };
    let mean: Vec<f64> = (0..frequencies.len()).map(mean).collect();
    let values = rows.iter().flat_map(|row| shown.iter().map(|&k| value(row[k])));
    let Some(mut y) = Scale::over(values, is_log) else {
        return Err(Error::shape("psd", "no density is above zero"));
    };
    y.low = y.low.max(if is_log { 1e-8 * y.high } else { y.high - 80.0 });

    let left = MARGIN + 40.0;
    let mut scene = Scene::new(left + FRAME[0] + MARGIN, 0.0, title);
    let resolution = frequencies[1] - frequencies[0];
    let n_drawn = n - spectrum.empty_channels().len();
    let drawn = if n_drawn == n { n.to_string() } else { format!("{n_drawn} of {n}") };
    let told =
        format!("{drawn} {}, Welch, {resolution:.2} Hz apart", if n == 1 { "channel" } else { "channels" });
    let mut top = heading(&mut scene, title, &told);
    let entries: Vec<(&str, Pen)> = match n {
        1 => Vec::new(),
        n if n <= NAMED => {
            spectrum.channel_names.iter().enumerate().map(|(idx, name)| (name.as_str(), pen(idx))).collect()
        }
        _ => vec![("mean power", Pen::new(KINDS[1], 2.4)), ("single channels", single(n))],
    };
    top = legend(&mut scene, top + 8.0, &entries) + 46.0;
    let frame = [left, top, left + FRAME[0], top + FRAME[1]];
    scene.height = (frame[3] + AXIS_ROOM).ceil();
    let x = Scale { low: frequencies[first], high: frequencies[last], is_log };
    let axes = Axes { frame, x, y: y.rounded(6) };

    for (idx, ((_, low, high), letter)) in BANDS.into_iter().zip(LETTERS).enumerate() {
        let (start, end) = (axes.at(low, y.high)[0], axes.at(high, y.high)[0]);
        if end - start < 1.0 {
            continue; // not in the picture
        }
        let shade = if idx % 2 == 0 { [243, 245, 249] } else { [250, 251, 253] };
        scene.rect([start, top], [end - start, FRAME[1]], shade);
        scene.text(Text::new([0.5 * (start + end), top - 6.0], letter).size(LABEL).colour(MUTED).middle());
    }
    axes.draw(&mut scene, "Hz", "");
    let label = if is_log { "µV²/Hz" } else { "dB re 1 µV²/Hz" };
    scene.text(Text::new([left, top - 24.0], label).bold());
    let places = |row: &[f64]| -> Vec<Point> {
        let above = |density: f64| Some(value(density)).filter(|v| *v >= axes.y.low).unwrap_or(f64::NAN);
        shown.iter().map(|&k| axes.at(frequencies[k], above(row[k]))).collect()
    };
    for (idx, row) in rows.iter().enumerate().rev() {
        scene.line(&places(row), if n <= NAMED { pen(idx) } else { single(n) });
    }
    if n > NAMED {
        scene.line(&places(&mean), Pen::new(KINDS[1], 2.4));
    }
    Ok(scene)
}

/// One of `n` channels.
fn single(n: usize) -> Pen {
    Pen::new(pale(KINDS[0], if n > 24 { 0.45 } else { 0.6 }), 0.8)
}

#[cfg(test)]
mod tests {
    use super::super::scene::Shape;
    use super::*;
    use crate::signal::sample_recording;

    fn count(scene: &Scene, is_wanted: impl Fn(&Pen) -> bool) -> usize {
        let is_line = |shape: &&Shape| matches!(shape, Shape::Line { pen, .. } if is_wanted(pen));
        scene.shapes.iter().filter(is_line).count()
    }

    fn says(scene: &Scene, wanted: &str) -> bool {
        scene.shapes.iter().any(|shape| matches!(shape, Shape::Text(text) if text.text == wanted))
    }

    #[test]
    fn few_channels_have_names_and_many_a_mean() {
        let recording = sample_recording(1, 4.0).unwrap();
        let all = Spectrum::welch(&recording, 2.0).unwrap();
        for form in [Form::Decibel, Form::LogLog] {
            let scene = psd("sample", &all, [0.0, 100.0], form).unwrap();
            assert_eq!(count(&scene, |pen| *pen == single(62)), 63, "and the key");
            assert_eq!(count(&scene, |pen| pen.width == 2.4), 2);
            assert!(LETTERS.iter().all(|letter| says(&scene, letter)));
        }
        let mut gap = recording.clone();
        gap.data[..gap.n_samples].fill(f32::NAN);
        let spectrum = Spectrum::welch(&gap, 2.0).unwrap();
        assert_eq!(spectrum.empty_channels(), [gap.channel_names[0].as_str()]);
        let scene = psd("sample", &spectrum, [0.0, 100.0], Form::Decibel).unwrap();
        assert!(says(&scene, "61 of 62 channels, Welch, 0.50 Hz apart"));
        let two = Spectrum::welch(&recording.select(&["OZ", "FZ"]).unwrap(), 2.0).unwrap();
        let scene = psd("sample", &two, [8.0, 13.5], Form::Decibel).unwrap();
        assert!(says(&scene, "OZ") && says(&scene, "FZ") && says(&scene, "α") && !says(&scene, "β"));
    }

    #[test]
    fn spectra_that_show_nothing_are_refused() {
        let of = |density: Vec<f64>| Spectrum {
            frequencies_hz: vec![0.0, 1.0, 2.0, 3.0],
            density,
            channel_names: vec!["a".into()],
        };
        let good = of(vec![1.0; 4]);
        assert!(psd("", &good, [50.0, 60.0], Form::Decibel).unwrap_err().to_string().contains("up to 3 Hz"));
        assert!(psd("", &good, [2.5, 9.0], Form::Decibel).is_err(), "one frequency is no line");
        assert!(psd("", &of(vec![0.0; 4]), [0.0, 9.0], Form::LogLog).is_err());
        assert!(psd("", &of(vec![f64::NAN; 4]), [0.0, 9.0], Form::Decibel).is_err());
        assert!(psd("", &of(vec![0.0, 1.0, 0.0, 2.0]), [0.0, 9.0], Form::LogLog).is_ok());
    }
}
