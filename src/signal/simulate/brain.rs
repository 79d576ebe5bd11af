//! The brain: what stands behind the electrodes, and how it answers to a clip.
//!
//! ```text
//! v = background + alpha + noise of the sensors     as in `sample`, each subject and block a little louder or softer
//!   + drift                                         15 µV, slower than 0.01 Hz, each channel by itself
//!   + onset                                         the same evoked wave at the start of every clip and every cue
//!   + response                                      to shape, colour, speed, number and concept; silent in the cue
//! ```
//!
//! Alpha falls while a clip is shown, and more for a fast one. The response is a sum over *units*, one for each shape,
//! colour, speed and number and one for each concept. A unit has a place under an electrode (a dipole: near by positive,
//! at a second place negative), a rhythm whose power rises in the clip with any phase, and an evoked wave locked to its
//! start. Attention differs from clip to clip and sometimes is elsewhere; latencies jitter by 15 ms. Between subjects
//! places, strengths, rhythms and latencies differ, between blocks places (the cap has moved) and strengths do.
//!
//! The signal-to-noise ratio scales the response of the nominal brain, before these differences, against background,
//! alpha and sensors: powers averaged over channels, clips and the 40 concepts.

use super::super::montage::{ELECTRODES, index_of};
use super::super::portable::{Stream, exp, ln, sin_cos_turns};
use super::super::recording::BLOCK_SAMPLES;
use super::super::sample::{
    ALPHA_KEPT, ALPHA_REACH, ALPHA_TURN, ALPHA_V, BACKGROUND_REACH, BACKGROUND_V, CORNERS, NOISE_V,
    normalised, on_the_sphere, weights,
};
use super::super::seed_dv::CLASSES;
use super::super::segments::{CLIP_SAMPLES, CLIPS, CUE_SAMPLES, SLOT_SAMPLES};
use super::clips::{Clip, Colour, Shape};

/// Samples a second.
const RATE: f64 = 200.0;
const DRIFT_V: f64 = 15e-6;
/// Drift takes a step every so many samples, a straight line between them.
const DRIFT_STEP: usize = 20;
/// exp(−2π · 0.01 Hz · 20 / 200 Hz)
const DRIFT_KEPT: f64 = 0.993_736_471_9;
/// Peak of the evoked wave that follows every onset, where it is strongest.
const ONSET_V: f64 = 4e-6;
/// How far a unit reaches, in radii of the head.
const UNIT_REACH: f64 = 0.45;
/// What the onset of a cue or a clip does to alpha: it falls to this share.
const ALPHA_SLOW: f64 = 0.8;
const ALPHA_FAST: f64 = 0.55;
/// What alpha keeps of its level from sample to sample: it follows in 0.1 s.
const ALPHA_FOLLOWS: f64 = 0.95;

/// One answer to one thing a clip shows.
#[derive(Clone)]
struct Unit {
    /// Both poles, on the unit sphere.
    places: [[f64; 3]; 2],
    rhythm_hz: f64,
    /// Strength of the rhythm and of the evoked wave.
    induced: f64,
    evoked: f64,
    /// Each Gabor wave of the evoked answer: time of its middle in s, width in s, frequency in Hz, phase in turns.
    waves: Vec<[f64; 4]>,
}

/// Electrode of the positive pole, of the negative pole, rhythm in Hz.
type Place = (&'static str, &'static str, f64);

#[rustfmt::skip]
const SHAPES: [Place; 5] =
    [("PO7", "P3", 18.0), ("PO8", "P4", 24.0), ("CB1", "PZ", 40.0), ("P8", "TP7", 11.0), ("P7", "CB2", 32.0)];
const COLOURS: [Place; 4] =
    [("O1", "PO3", 6.0), ("O2", "PO4", 46.0), ("POZ", "FZ", 20.0), ("OZ", "CPZ", 60.0)];
const SPEEDS: [Place; 2] = [("TP8", "C5", 5.0), ("T7", "C6", 70.0)];
const NUMBERS: [Place; 3] = [("P1", "F1", 16.0), ("P2", "F2", 28.0), ("CP1", "F5", 36.0)];

/// Units in this order: shapes, colours, speeds, numbers, concepts.
const FIRST_COLOUR: usize = SHAPES.len();
const FIRST_SPEED: usize = FIRST_COLOUR + COLOURS.len();
const FIRST_NUMBER: usize = FIRST_SPEED + SPEEDS.len();
const FIRST_CLASS: usize = FIRST_NUMBER + NUMBERS.len();

/// The units that answer to a clip.
fn answering(clip: &Clip) -> [usize; 5] {
    let shape = Shape::ALL.iter().position(|&shape| shape == clip.shape).unwrap_or(0);
    let colour = Colour::ALL.iter().position(|&colour| colour == clip.colour).unwrap_or(0);
    [
        shape,
        FIRST_COLOUR + colour,
        FIRST_SPEED + usize::from(clip.is_fast),
        FIRST_NUMBER + usize::from(clip.number()) - 1,
        FIRST_CLASS + usize::from(clip.class) - 1,
    ]
}

/// The brain of a seed, before anybody has it.
fn nominal(seed: u64) -> Vec<Unit> {
    let mut stream = Stream::under(seed, &[2]);
    let electrode = |name: &str| on_the_sphere(&ELECTRODES[index_of(name).unwrap_or(0)]);
    let named = |places: &[Place], induced: f64, evoked: f64| {
        let unit = move |&(plus, minus, rhythm_hz): &Place| {
            (electrode(plus), electrode(minus), rhythm_hz, induced, evoked)
        };
        places.iter().map(unit).collect::<Vec<_>>()
    };
    let mut all = named(&SHAPES, 0.5, 1.8);
    all.extend(named(&COLOURS, 0.5, 1.8));
    all.extend(named(&SPEEDS, 0.45, 1.4));
    all.extend(named(&NUMBERS, 0.2, 0.5));
    // Concepts: at the back of the head, from P7 on.
    let back: Vec<[f64; 3]> = ELECTRODES[41..].iter().map(on_the_sphere).collect();
    for _ in 0..CLASSES {
        let [plus, minus] = [(); 2].map(|()| back[(stream.uniform() * back.len() as f64) as usize]);
        let rhythm = stream.within(5.0, 60.0);
        all.push((plus, minus, rhythm, 0.15, 1.2));
    }
    let unit = |(plus, minus, rhythm_hz, induced, evoked)| {
        // Two early waves, and one that lasts into the second half of the clip.
        let early = [(); 2].map(|()| {
            [stream.within(0.15, 0.5), stream.within(0.08, 0.16), stream.within(2.0, 6.0), stream.uniform()]
        });
        let late =
            [stream.within(0.9, 1.5), stream.within(0.3, 0.5), stream.within(0.5, 2.0), stream.uniform()];
        Unit { places: [plus, minus], rhythm_hz, induced, evoked, waves: vec![early[0], early[1], late] }
    };
    all.into_iter().map(unit).collect()
}

/// What an answer weighs at each electrode, the head of the cap moved by `shift`.
fn topography(unit: &Unit, shift: [f64; 3]) -> Vec<f64> {
    let weight = |electrode| {
        let w = weights(nudged(on_the_sphere(electrode), shift), &unit.places, UNIT_REACH);
        w[0] - w[1]
    };
    ELECTRODES.iter().map(weight).collect()
}

/// A point of the sphere, moved and back on the sphere.
fn nudged(point: [f64; 3], by: [f64; 3]) -> [f64; 3] {
    let moved = [point[0] + by[0], point[1] + by[1], point[2] + by[2]];
    let length = moved.iter().map(|v| v * v).sum::<f64>().sqrt();
    moved.map(|v| v / length)
}

/// The evoked wave over a clip, begun `late` seconds late.
fn evoked(waves: &[[f64; 4]], late: f64) -> Vec<f64> {
    let value = |t: usize| {
        let time = t as f64 / RATE - late;
        let wave = |&[middle, width, hz, phase]: &[f64; 4]| {
            let off = (time - middle) / width;
            exp(-0.5 * (off * off).min(80.0)) * sin_cos_turns(hz * (time - middle) + phase).1
        };
        waves.iter().map(wave).sum::<f64>() * envelope(t)
    };
    (0..CLIP_SAMPLES).map(value).collect()
}

/// From 0 to 1 in 0.15 s, at 0.1 s back to 0 before the end.
fn envelope(t: usize) -> f64 {
    let rise = (t as f64 / 30.0).min(1.0);
    let fall = ((CLIP_SAMPLES - 1 - t) as f64 / 20.0).min(1.0);
    rise * fall
}

/// A rhythm of unit power about `hz`, 3 Hz wide, over a clip.
fn rhythm(hz: f64, stream: &mut Stream) -> Vec<f64> {
    let kept = exp(-std::f64::consts::PI * 3.0 / RATE);
    let (sin, cos) = sin_cos_turns(hz / RATE);
    let fresh = (1.0 - kept * kept).sqrt();
    let (mut re, mut im) = (stream.noise(), stream.noise());
    let value = |t: usize| {
        let turned = (cos * re - sin * im, sin * re + cos * im);
        re = kept * turned.0 + fresh * stream.noise();
        im = kept * turned.1 + fresh * stream.noise();
        re * envelope(t)
    };
    (0..CLIP_SAMPLES).map(value).collect()
}

fn mean_square(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64
}

/// Volts of a response of strength 1, so that the nominal brain has the wanted ratio.
fn volts(units: &[Unit], snr_db: f64) -> f64 {
    let shape = mean_square(&(0..CLIP_SAMPLES).map(envelope).collect::<Vec<_>>());
    let power = |unit: &Unit| {
        let time = unit.induced * unit.induced * shape
            + unit.evoked * unit.evoked * mean_square(&evoked(&unit.waves, 0.0));
        time * mean_square(&topography(unit, [0.0; 3]))
    };
    let mean = |units: &[Unit]| units.iter().map(power).sum::<f64>() / units.len() as f64;
    let groups = [0, FIRST_COLOUR, FIRST_SPEED, FIRST_NUMBER, FIRST_CLASS, units.len()];
    let signal: f64 = groups.windows(2).map(|ends| mean(&units[ends[0]..ends[1]])).sum();
    let alpha: Vec<f64> = alpha_weights([0.0; 3]).concat();
    let alpha = alpha.iter().map(|w| w * w).sum::<f64>() / ELECTRODES.len() as f64;
    let noise = BACKGROUND_V * BACKGROUND_V + ALPHA_V * ALPHA_V * alpha + NOISE_V * NOISE_V;
    let ratio = exp(snr_db / 10.0 * ln(10.0));
    (ratio * noise / signal).sqrt()
}

/// Of each electrode, the three sources of alpha.
fn alpha_weights(shift: [f64; 3]) -> Vec<Vec<f64>> {
    let at = ["O1", "O2", "POZ"].map(|name| on_the_sphere(&ELECTRODES[index_of(name).unwrap_or(0)]));
    ELECTRODES.iter().map(|e| weights(nudged(on_the_sphere(e), shift), &at, ALPHA_REACH)).collect()
}

/// The units as a subject has them.
fn of_subject(seed: u64, subject: usize) -> Vec<Unit> {
    let mut stream = Stream::under(seed, &[3, subject as u64]);
    let mut units = nominal(seed);
    for unit in &mut units {
        for place in &mut unit.places {
            *place = nudged(*place, [(); 3].map(|()| 0.1 * stream.normal()));
        }
        unit.rhythm_hz *= 1.0 + 0.04 * stream.normal().clamp(-2.0, 2.0);
        unit.induced *= 1.0 + 0.2 * stream.normal().clamp(-2.0, 2.0);
        unit.evoked *= 1.0 + 0.2 * stream.normal().clamp(-2.0, 2.0);
        let late = 0.01 * stream.normal();
        unit.waves.iter_mut().for_each(|wave| wave[0] += late);
    }
    units
}

/// `[62, 104000]` in volts.
pub(super) fn block(seed: u64, snr_db: f64, subject: usize, block: usize, clips: &[Clip]) -> Vec<f32> {
    let n_channels = ELECTRODES.len();
    let path = |purpose: u64| Stream::under(seed, &[4, subject as u64, block as u64, purpose]);
    let (mut mood, mut noise, mut answers) = (path(0), path(1), path(2));

    let scale = volts(&nominal(seed), snr_db);
    let loudness = 1.0 + 0.1 * mood.normal().clamp(-2.0, 2.0);
    let shift = [(); 3].map(|()| 0.03 * mood.normal());
    let mut units = of_subject(seed, subject);
    for unit in &mut units {
        let strength = scale * (1.0 + 0.1 * mood.normal().clamp(-2.0, 2.0));
        unit.induced *= strength;
        unit.evoked *= strength;
    }
    let topographies: Vec<Vec<f64>> = units.iter().map(|unit| topography(unit, shift)).collect();
    let onset = Unit {
        places: [on_the_sphere(&ELECTRODES[59]), on_the_sphere(&ELECTRODES[9])],
        rhythm_hz: 10.0,
        induced: 0.0,
        evoked: ONSET_V,
        waves: vec![[0.11, 0.025, 8.0, 0.0], [0.18, 0.035, 7.0, 0.5], [0.32, 0.08, 3.0, 0.0]],
    };
    let (onset_at, onset_wave) = (topography(&onset, shift), evoked(&onset.waves, 0.0));

    let mut ground = Ground::new(loudness, shift, &mut noise);
    let mut data = vec![0.0f32; n_channels * BLOCK_SAMPLES];
    let mut slot_data = vec![0.0; n_channels * SLOT_SAMPLES];
    for (slot, shown) in clips.chunks_exact(CLIPS).enumerate() {
        ground.slot(&mut slot_data, shown[0].is_fast, &mut noise);
        let mut add = |topography: &[f64], start: usize, wave: &[f64], strength: f64| {
            for (channel, weight) in slot_data.chunks_exact_mut(SLOT_SAMPLES).zip(topography) {
                add_scaled(&mut channel[start..][..wave.len()], weight * strength, wave);
            }
        };
        add(&onset_at, 0, &onset_wave, ONSET_V);
        for (i, clip) in shown.iter().enumerate() {
            let start = CUE_SAMPLES + i * CLIP_SAMPLES;
            add(&onset_at, start, &onset_wave, ONSET_V);
            let is_elsewhere = answers.uniform() < 0.1;
            let attention = if is_elsewhere { 0.3 } else { 1.0 + 0.2 * answers.normal().clamp(-3.0, 3.0) };
            let late = 0.015 * answers.normal().clamp(-3.0, 3.0);
            for idx in answering(clip) {
                let unit = &units[idx];
                let rhythm = rhythm(unit.rhythm_hz, &mut answers);
                let evoked = evoked(&unit.waves, late);
                let wave: Vec<f64> =
                    rhythm.iter().zip(&evoked).map(|(r, e)| unit.induced * r + unit.evoked * e).collect();
                add(&topographies[idx], start, &wave, attention);
            }
        }
        for (channel, values) in slot_data.chunks_exact(SLOT_SAMPLES).enumerate() {
            let out = &mut data[channel * BLOCK_SAMPLES + slot * SLOT_SAMPLES..][..SLOT_SAMPLES];
            out.iter_mut().zip(values).for_each(|(out, &v)| *out = v as f32);
        }
    }
    data
}

/// `out += weight * values`, the inner loop of the mixing. By index: the builds that tests run do not inline iterators,
/// and take ten times as long with them.
fn add_scaled(out: &mut [f64], weight: f64, values: &[f64]) {
    let n = out.len().min(values.len());
    let (out, values) = (&mut out[..n], &values[..n]);
    let mut t = 0;
    while t < n {
        out[t] += weight * values[t];
        t += 1;
    }
}

/// Everything that knows nothing of clips, but for alpha's level.
struct Ground {
    /// `[62][21]` and `[62][3]`, in volts.
    background: Vec<Vec<f64>>,
    alpha: Vec<Vec<f64>>,
    sensor_v: f64,
    /// State of the sources, which runs on from slot to slot.
    slow: Vec<[f64; 4]>,
    rhythm: [[f64; 2]; 3],
    level: f64,
    drift: Vec<f64>,
}

impl Ground {
    /// In the steady state, so that there is nothing to warm up.
    fn new(loudness: f64, shift: [f64; 3], noise: &mut Stream) -> Ground {
        let electrodes: Vec<[f64; 3]> = ELECTRODES.iter().map(on_the_sphere).collect();
        let background_at: Vec<[f64; 3]> = electrodes.iter().copied().step_by(3).collect();
        let in_volts =
            |weights: Vec<f64>, volts: f64| weights.into_iter().map(|w| w * volts * loudness).collect();
        let background = |&e: &[f64; 3]| {
            in_volts(normalised(weights(nudged(e, shift), &background_at, BACKGROUND_REACH)), BACKGROUND_V)
        };
        Ground {
            background: electrodes.iter().map(background).collect(),
            alpha: alpha_weights(shift).into_iter().map(|weights| in_volts(weights, ALPHA_V)).collect(),
            sensor_v: NOISE_V * loudness,
            slow: background_at.iter().map(|_| [(); 4].map(|()| noise.normal())).collect(),
            rhythm: [(); 3].map(|()| [(); 2].map(|()| noise.normal())),
            level: 1.0,
            drift: electrodes.iter().map(|_| noise.normal()).collect(),
        }
    }

    /// The next 13 s, over what was there before.
    fn slot(&mut self, data: &mut [f64], is_fast: bool, noise: &mut Stream) {
        let fresh = CORNERS.map(|kept| (1.0 - kept * kept).sqrt());
        let mut sources = vec![[0.0; SLOT_SAMPLES]; self.slow.len() + self.rhythm.len()];
        for (state, out) in self.slow.iter_mut().zip(&mut sources) {
            for out in out.iter_mut() {
                *out = 0.5 * (state[0] + state[1] + state[2] + state[3]);
                for i in 0..CORNERS.len() {
                    state[i] = CORNERS[i] * state[i] + fresh[i] * noise.noise();
                }
            }
        }
        let ((cos, sin), fresh) = (ALPHA_TURN, (1.0 - ALPHA_KEPT * ALPHA_KEPT).sqrt());
        let mut level = self.level;
        for ([re, im], out) in self.rhythm.iter_mut().zip(&mut sources[self.slow.len()..]) {
            level = self.level;
            for (t, out) in out.iter_mut().enumerate() {
                let wanted = match (t < CUE_SAMPLES, is_fast) {
                    (true, _) => 1.0,
                    (false, false) => ALPHA_SLOW,
                    (false, true) => ALPHA_FAST,
                };
                level = ALPHA_FOLLOWS * level + (1.0 - ALPHA_FOLLOWS) * wanted;
                *out = level * *re;
                let turned = (cos * *re - sin * *im, sin * *re + cos * *im);
                *re = ALPHA_KEPT * turned.0 + fresh * noise.noise();
                *im = ALPHA_KEPT * turned.1 + fresh * noise.noise();
            }
        }
        self.level = level;
        let fresh = (1.0 - DRIFT_KEPT * DRIFT_KEPT).sqrt();
        for (idx, channel) in data.chunks_exact_mut(SLOT_SAMPLES).enumerate() {
            let drift = &mut self.drift[idx];
            for stretch in channel.chunks_exact_mut(DRIFT_STEP) {
                let next = DRIFT_KEPT * *drift + fresh * noise.noise();
                let slope = (next - *drift) / DRIFT_STEP as f64;
                for (t, v) in stretch.iter_mut().enumerate() {
                    *v = DRIFT_V * (*drift + slope * t as f64) + self.sensor_v * noise.noise();
                }
                *drift = next;
            }
            let weights = self.background[idx].iter().chain(&self.alpha[idx]);
            weights.zip(&sources).for_each(|(&weight, source)| add_scaled(channel, weight, source));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_has_the_power_it_is_said_to_have() {
        let units = nominal(3);
        let (one, ten) = (volts(&units, 0.0), volts(&units, 20.0));
        assert!((ten / one - 10.0).abs() < 1e-9);
        // Rhythms have unit power under their envelope.
        let mut stream = Stream::new(1);
        let shape = mean_square(&(0..CLIP_SAMPLES).map(envelope).collect::<Vec<_>>());
        let mean = (0..400).map(|_| mean_square(&rhythm(20.0, &mut stream))).sum::<f64>() / 400.0;
        assert!((mean / shape - 1.0).abs() < 0.1, "{mean} {shape}");
    }

    #[test]
    fn places_are_electrodes() {
        for (plus, minus, _) in SHAPES.iter().chain(&COLOURS).chain(&SPEEDS).chain(&NUMBERS) {
            assert!(index_of(plus).is_ok() && index_of(minus).is_ok(), "{plus} {minus}");
        }
        assert!(index_of("OZ").unwrap() == 59 && index_of("FZ").unwrap() == 9);
        assert_eq!(nominal(1).len(), FIRST_CLASS + CLASSES);
    }
}
