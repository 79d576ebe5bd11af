//! Raw traces: channels one below the other over seconds, with a bar that says how much a height is.

use super::axes::{AXIS_ROOM, LABEL, MARGIN, Scale, crisp, heading, plain};
use super::colour::{AXIS, GRID, INK, KINDS, MUTED};
use super::scene::{Pen, Point, Scene, Text, fitted};
use crate::error::{Error, Result};
use crate::signal::Recording;

/// Channels at most.
pub const MAX_CHANNELS: usize = 256;
/// Width of the frame.
const WIDTH: f64 = 860.0;
/// Room for names.
const NAMES: f64 = 62.0;
/// Pieces of a trace that can be told apart, each drawn from its least to its largest sample.
const PIECES: usize = 2 * WIDTH as usize;

/// The channels of a recording, each around its mean, whose first sample is `start_s` seconds into it. Samples that
/// are not finite leave gaps; what is higher than the frame is cut at its edge.
///
/// Errors: [`Error::Shape`] when no sample is finite or there are more than [`MAX_CHANNELS`].
pub fn traces(title: &str, recording: &Recording, start_s: f64) -> Result<Scene> {
    let n = recording.n_channels;
    if n > MAX_CHANNELS {
        let detail = format!("{n} channels, at most {MAX_CHANNELS} are drawn; choose some");
        return Err(Error::shape("traces", detail));
    }
    let channels: Vec<Vec<f64>> = recording.data.chunks_exact(recording.n_samples).map(centred).collect();
    let mut sizes: Vec<f64> = channels.iter().filter_map(|channel| size(channel)).collect();
    if sizes.is_empty() {
        return Err(Error::shape("traces", "no sample is a finite number"));
    }
    sizes.sort_by(f64::total_cmp);
    // Flat channels say nothing about the others' height.
    let moving: Vec<f64> = sizes.iter().copied().filter(|size| *size > 0.0).collect();
    let typical = moving.get(moving.len() / 2).copied().unwrap_or(1e-6);

    let row = (720.0 / n as f64).clamp(11.0, 70.0);
    let height = row * (n as f64 + 0.6);
    let left = MARGIN + NAMES;
    let mut scene = Scene::new(left + WIDTH + 74.0, 0.0, title);
    let seconds = recording.duration_s();
    let told = format!(
        "{n} {} · {} s at {} Hz, from {} s",
        if n == 1 { "channel" } else { "channels" },
        plain((1e3 * seconds).round() / 1e3),
        plain(recording.sample_rate_hz),
        plain((1e3 * start_s).round() / 1e3)
    );
    let top = heading(&mut scene, title, &told) + 18.0;
    let (right, bottom) = (left + WIDTH, top + height);
    scene.height = (bottom + AXIS_ROOM).ceil();

    let time = Scale { low: start_s, high: start_s + seconds, is_log: false };
    for (value, label) in time.ticks(10) {
        let x = crisp(left + time.place(value) * WIDTH);
        scene.line(&[[x, top], [x, bottom]], Pen::new(GRID, 1.0));
        scene.line(&[[x, bottom], [x, bottom + 4.0]], Pen::new(AXIS, 1.0));
        scene.text(Text::new([x, bottom + 18.0], label).size(LABEL).colour(MUTED).middle());
    }
    scene.line(&[[left, crisp(bottom)], [right, crisp(bottom)]], Pen::new(AXIS, 1.0));
    let middle = 0.5 * (left + right);
    scene.text(Text::new([middle, bottom + 36.0], "seconds").size(LABEL).colour(MUTED).middle());

    // A typical swing, from trough to peak, fills two rows of many and one of few.
    let swing = if n > 8 { 1.6 } else { 0.9 };
    let per_volt = swing * row / (2.0 * typical);
    let font = (0.8 * row).clamp(8.0, LABEL);
    for (idx, (channel, name)) in channels.iter().zip(&recording.channel_names).enumerate() {
        let base = top + row * (idx as f64 + 0.8);
        let name = fitted(name, font, NAMES - 10.0);
        scene.text(Text::new([left - 10.0, base + 0.36 * font], name).size(font).end());
        let points = thinned(channel);
        let places: Vec<Point> = points
            .iter()
            .map(|&(at, value)| {
                let y = base - value * per_volt;
                let y = if y.is_nan() { y } else { y.clamp(top - 4.0, bottom) };
                [left + (at + 0.5) / channel.len() as f64 * WIDTH, y]
            })
            .collect();
        scene.line(&places, Pen::new(KINDS[0], if n > 24 { 0.7 } else { 0.9 }));
    }

    // A round number of microvolts, between one and two and a half rows of many, most of a row of few.
    let goal = 1e6 * row.max(16.0) / per_volt;
    let decade = 10f64.powf(goal.log10().floor());
    let microvolts = [5.0, 2.0, 1.0].into_iter().map(|times| times * decade).find(|v| *v <= goal);
    let microvolts = microvolts.unwrap_or(decade);
    let (x, long) = (right + 14.0, 1e-6 * microvolts * per_volt);
    let start = bottom - 0.8 * row;
    scene.line(&[[x, start], [x, start - long]], Pen::new(INK, 1.6));
    let text = Text::new([x + 7.0, start - 0.5 * long + 4.0], format!("{} µV", plain(microvolts)));
    scene.text(text.size(LABEL));
    Ok(scene)
}

/// Around the mean of what is finite.
fn centred(channel: &[f32]) -> Vec<f64> {
    let finite = || channel.iter().map(|&v| f64::from(v)).filter(|v| v.is_finite());
    let mean = finite().sum::<f64>() / finite().count().max(1) as f64;
    channel.iter().map(|&v| if v.is_finite() { f64::from(v) - mean } else { f64::NAN }).collect()
}

/// What 95 % of the samples stay below; `None` without any.
fn size(channel: &[f64]) -> Option<f64> {
    let mut sizes: Vec<f64> = channel.iter().map(|v| v.abs()).filter(|v| v.is_finite()).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len() * 95 / 100).copied()
}

/// Places and values: all samples, or of many only the least and the largest of each piece, in their order.
fn thinned(channel: &[f64]) -> Vec<(f64, f64)> {
    if channel.len() <= 2 * PIECES {
        return channel.iter().enumerate().map(|(at, &v)| (at as f64, v)).collect();
    }
    let piece = channel.len().div_ceil(PIECES);
    let mut points = Vec::with_capacity(2 * PIECES);
    for (nth, samples) in channel.chunks(piece).enumerate() {
        let values = || samples.iter().enumerate().filter(|(_, v)| v.is_finite());
        let least = values().min_by(|a, b| a.1.total_cmp(b.1));
        let most = values().max_by(|a, b| a.1.total_cmp(b.1));
        let (Some(least), Some(most)) = (least, most) else {
            points.push(((nth * piece) as f64, f64::NAN));
            continue;
        };
        let (first, second) = if least.0 <= most.0 { (least, most) } else { (most, least) };
        points.extend([first, second].map(|(at, &v)| ((nth * piece + at) as f64, v)));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::super::scene::Shape;
    use super::*;
    use crate::signal::sample_recording;

    fn lines(scene: &Scene) -> Vec<&Vec<Point>> {
        let of = |shape: &'_ Shape| matches!(shape, Shape::Line { pen, .. } if pen.colour == KINDS[0]);
        let mut found = Vec::new();
        for shape in scene.shapes.iter().filter(|shape| of(shape)) {
            if let Shape::Line { points, .. } = shape {
                found.push(points);
            }
        }
        found
    }

    #[test]
    fn every_channel_has_its_row() {
        let recording = sample_recording(1, 2.0).unwrap();
        let scene = traces("sample", &recording, 30.0).unwrap();
        let lines = lines(&scene);
        assert_eq!((lines.len(), lines[0].len()), (62, 400));
        let mean = |points: &[Point]| points.iter().map(|p| p[1]).sum::<f64>() / points.len() as f64;
        assert!(lines.windows(2).all(|pair| mean(pair[1]) > mean(pair[0])));
        assert!(scene.shapes.iter().any(|s| matches!(s, Shape::Text(t) if t.text.ends_with("µV"))));
        assert!(
            scene.shapes.iter().any(|s| matches!(s, Shape::Text(t) if t.text == "30.5" || t.text == "30.4"))
        );
    }

    #[test]
    fn peaks_survive_thinning_and_gaps_stay() {
        let mut channel = vec![0.0; 100_000];
        channel[54_321] = 9.0;
        channel[54_322] = -9.0;
        channel[60_000..70_000].fill(f64::NAN);
        let points = thinned(&channel);
        assert!(points.len() <= 2 * PIECES);
        assert!(points.contains(&(54_321.0, 9.0)) && points.contains(&(54_322.0, -9.0)));
        assert!(points.iter().any(|p| p.1.is_nan()));
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn odd_recordings_are_drawn_or_refused() {
        let names = |n: usize| (0..n).map(|i| format!("ch{i}")).collect::<Vec<_>>();
        let recording = |data: Vec<f32>, n: usize| Recording::new(data, 200.0, names(n)).unwrap();
        assert!(traces("", &recording(vec![f32::NAN; 8], 2), 0.0).is_err());
        assert!(traces("", &recording(vec![0.0; 514], 257), 0.0).unwrap_err().to_string().contains("256"));
        let mut mixed = vec![0.0; 8];
        mixed[1] = f32::NAN;
        assert_eq!(lines(&traces("", &recording(mixed, 2), 0.0).unwrap()).len(), 2);
        assert!(traces("", &recording(vec![1.0], 1), 0.0).is_ok());
        assert!(traces("", &recording(vec![1e-5; 512], 256), 0.0).unwrap().pixels(2).is_ok());
    }
}
