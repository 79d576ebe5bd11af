//! Simulated EEG, for a first try without a data set. Nobody's brain: no meaning can be decoded from it.
//!
//! ```text
//! v = 11 µV · background + 7 µV · alpha + 1 µV · noise of the electrode
//! background   21 sources on the scalp, each the sum of four Ornstein–Uhlenbeck processes with corners at
//!              0.25, 1, 4 and 16 Hz, which add up to nearly 1/f
//! alpha        3 sources under O1, O2 and POZ: noise through a 10 Hz resonator 1 Hz wide
//! mixing       weight 1 / (1 + d²/s²)² of source and electrode at distance d on the unit sphere
//! ```
//!
//! Bit-equal on every machine (`signal::portable`). A longer recording starts with the shorter one.

use super::portable::{self, Stream, sin_cos_turns};
use super::{Recording, montage};
use crate::error::{Error, Result};

/// Longest simulated recording, in seconds.
pub const MAX_SECONDS: f64 = 7200.0;

pub(super) const BACKGROUND_V: f64 = 11e-6;
pub(super) const ALPHA_V: f64 = 7e-6;
pub(super) const NOISE_V: f64 = 1e-6;
/// exp(−2π f / 200) for f = 0.25, 1, 4, 16 Hz.
pub(super) const CORNERS: [f64; 4] = [0.992_176_780_3, 0.969_072_426_3, 0.881_911_378_3, 0.604_922_562_8];
/// exp(−π · 1 Hz / 200 Hz): what the resonator keeps from sample to sample.
pub(super) const ALPHA_KEPT: f64 = 0.984_414_763_4;
/// Cosine and sine of 2π · 10 Hz / 200 Hz.
pub(super) const ALPHA_TURN: (f64, f64) = (0.951_056_516_295_153_5, 0.309_016_994_374_947_45);
/// How far a source reaches, in radii of the head.
pub(super) const BACKGROUND_REACH: f64 = 0.5;
pub(super) const ALPHA_REACH: f64 = 0.8;

/// `seconds` of simulated EEG: 62 channels of SEED-DV's montage at 200 Hz, in volts, 11 to 15 µV rms, with an
/// alpha rhythm strongest over the occipital channels.
///
/// Errors: [`Error::Setting`] when `seconds` is not between one sample (0.005) and two hours.
pub fn sample_recording(seed: u64, seconds: f64) -> Result<Recording> {
    let n_samples = (seconds * montage::SAMPLE_RATE_HZ).round();
    if !(n_samples >= 1.0 && seconds <= MAX_SECONDS) {
        let detail = format!("{seconds} s, a simulated recording lasts 0.005 to {MAX_SECONDS} s");
        return Err(Error::setting("seconds", detail));
    }
    let n_samples = n_samples as usize;
    let electrodes: Vec<[f64; 3]> = montage::ELECTRODES.iter().map(on_the_sphere).collect();
    let background_at: Vec<[f64; 3]> = electrodes.iter().copied().step_by(3).collect();
    let alpha_at = [electrodes[58], electrodes[60], electrodes[53]]; // O1, O2, POZ
    // Background has the same power everywhere, alpha falls off.
    let background: Vec<Vec<f64>> =
        electrodes.iter().map(|&e| normalised(weights(e, &background_at, BACKGROUND_REACH))).collect();
    let alpha: Vec<Vec<f64>> = electrodes.iter().map(|&e| weights(e, &alpha_at, ALPHA_REACH)).collect();

    let mut normals = Stream::new(seed);
    // All processes start in their steady state, so there is nothing to warm up.
    let mut slow: Vec<[f64; 4]> = background_at.iter().map(|_| [(); 4].map(|()| normals.normal())).collect();
    let mut rhythm: Vec<[f64; 2]> = alpha_at.iter().map(|_| [(); 2].map(|()| normals.normal())).collect();
    let mut data = vec![0.0f32; electrodes.len() * n_samples];
    for t in 0..n_samples {
        let sources: Vec<f64> = slow.iter().map(|state| 0.5 * state.iter().sum::<f64>()).collect();
        for (channel, (background, alpha)) in background.iter().zip(&alpha).enumerate() {
            let background: f64 = background.iter().zip(&sources).map(|(w, s)| w * s).sum();
            let alpha: f64 = alpha.iter().zip(&rhythm).map(|(w, [real, _])| w * real).sum();
            let v = BACKGROUND_V * background + ALPHA_V * alpha + NOISE_V * normals.normal();
            data[channel * n_samples + t] = v as f32;
        }
        for state in &mut slow {
            for (x, kept) in state.iter_mut().zip(CORNERS) {
                *x = kept * *x + (1.0 - kept * kept).sqrt() * normals.normal();
            }
        }
        for [real, imaginary] in &mut rhythm {
            let ((cos, sin), fresh) = (ALPHA_TURN, (1.0 - ALPHA_KEPT * ALPHA_KEPT).sqrt());
            let turned = (cos * *real - sin * *imaginary, sin * *real + cos * *imaginary);
            *real = ALPHA_KEPT * turned.0 + fresh * normals.normal();
            *imaginary = ALPHA_KEPT * turned.1 + fresh * normals.normal();
        }
    }
    Recording::new(data, montage::SAMPLE_RATE_HZ, montage::names())
}

/// Channels, samples and rate of an epoch of Alljoined.
pub const EPOCH: ([usize; 2], f64) = ([64, 334], 512.0);
/// Most simulated epochs.
pub const MAX_EPOCHS: usize = 10_000;

/// `n` simulated epochs `[n, 64, 334]` at 512 Hz, in volts, as Alljoined has them: in each channel as much background of
/// its own as all channels share, and the electrode's noise.
///
/// Errors: [`Error::Setting`] when there are none or too many.
pub fn sample_epochs(seed: u64, n: usize) -> Result<Vec<f32>> {
    if !(1..=MAX_EPOCHS).contains(&n) {
        return Err(Error::setting("epochs", format!("{n}, wanted 1 to {MAX_EPOCHS}")));
    }
    let ([n_channels, n_samples], rate) = EPOCH;
    let kept = [0.25, 1.0, 4.0, 16.0].map(|hz| portable::exp(-std::f64::consts::TAU * hz / rate));
    let background = |stream: &mut Stream| -> Vec<f64> {
        let mut state = [(); 4].map(|()| stream.normal());
        let mut next = || {
            let value = 0.5 * state.iter().sum::<f64>();
            for (x, kept) in state.iter_mut().zip(kept) {
                *x = kept * *x + (1.0 - kept * kept).sqrt() * stream.normal();
            }
            value
        };
        (0..n_samples).map(|_| next()).collect()
    };
    let mut data = Vec::with_capacity(n * n_channels * n_samples);
    for epoch in 0..n as u64 {
        let shared = background(&mut Stream::under(seed, &[64, epoch]));
        for channel in 0..n_channels as u64 {
            let mut stream = Stream::under(seed, &[64, epoch, 1 + channel]);
            let own = background(&mut stream);
            let volts = own.iter().zip(&shared).map(|(own, shared)| {
                let background = std::f64::consts::FRAC_1_SQRT_2 * (own + shared);
                (BACKGROUND_V * background + NOISE_V * stream.normal()) as f32
            });
            data.extend(volts);
        }
    }
    Ok(data)
}

/// EEGLAB's polar position on the unit sphere: right, front, up.
pub(super) fn on_the_sphere(electrode: &montage::Electrode) -> [f64; 3] {
    let (sin_angle, cos_angle) = sin_cos_turns(electrode.angle_deg / 360.0);
    let (sin_tilt, cos_tilt) = sin_cos_turns(electrode.radius / 2.0); // radius 0.5 is a tilt of 90°
    [sin_tilt * sin_angle, sin_tilt * cos_angle, cos_tilt]
}

/// What each source weighs at `electrode`.
pub(super) fn weights(electrode: [f64; 3], sources: &[[f64; 3]], reach: f64) -> Vec<f64> {
    let weight = |source: &[f64; 3]| {
        let squared: f64 = electrode.iter().zip(source).map(|(a, b)| (a - b) * (a - b)).sum();
        let fall = 1.0 + squared / (reach * reach);
        1.0 / (fall * fall)
    };
    sources.iter().map(weight).collect()
}

/// Scaled so that independent sources of unit power add up to unit power.
pub(super) fn normalised(weights: Vec<f64>) -> Vec<f64> {
    let norm = weights.iter().map(|w| w * w).sum::<f64>().sqrt();
    weights.into_iter().map(|w| w / norm).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Form, de_psd};
    use super::*;

    fn fnv(data: &[f32]) -> u64 {
        let bytes = data.iter().flat_map(|v| v.to_bits().to_le_bytes());
        bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_everywhere() {
        let one = sample_recording(42, 2.0).unwrap();
        // The same number comes from a port to another language, run on another mathematics library.
        assert_eq!(fnv(&one.data), 0x7A5A_4C92_BC65_379B);
        assert_ne!(one.data, sample_recording(43, 2.0).unwrap().data);
        let longer = sample_recording(42, 3.0).unwrap();
        for channel in 0..62 {
            assert_eq!(longer.channel(channel).unwrap()[..400], *one.channel(channel).unwrap());
        }
    }

    #[test]
    fn it_looks_like_eeg() {
        let eeg = sample_recording(7, 120.0).unwrap();
        assert_eq!((eeg.n_channels, eeg.n_samples, eeg.sample_rate_hz), (62, 24_000, 200.0));
        let rms = |idx: usize| {
            let channel = eeg.channel(idx).unwrap();
            (channel.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / channel.len() as f64).sqrt() * 1e6
        };
        assert!(
            (0..62).all(|idx| (9.0..20.0).contains(&rms(idx))),
            "{:?}",
            (0..62).map(rms).collect::<Vec<_>>()
        );
        let (_, psd) = de_psd(&eeg.data, 62, eeg.n_samples, 200.0, Form::Corrected).unwrap();
        let band = |name: &str, band: usize| psd[5 * montage::index_of(name).unwrap() + band];
        assert!(band("OZ", 2) > 3.0 * band("FPZ", 2), "alpha is occipital");
        assert!(band("OZ", 2) > 2.0 * band("OZ", 1), "alpha stands out");
        assert!((0..4).filter(|&b| b != 1).all(|b| band("FPZ", b) > band("FPZ", b + 1)), "1/f");
        // Neighbours agree, strangers do not.
        let correlation = |a: usize, b: usize| {
            let (x, y) = (eeg.channel(a).unwrap(), eeg.channel(b).unwrap());
            let dot = |p: &[f32], q: &[f32]| {
                p.iter().zip(q).map(|(a, b)| f64::from(a * 1e6) * f64::from(b * 1e6)).sum::<f64>()
            };
            dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
        };
        assert!(correlation(59, 58) > 0.5 && correlation(59, 1) < 0.3);
    }

    #[test]
    fn epochs_share_half_of_their_power() {
        let epochs = sample_epochs(3, 40).unwrap();
        assert_eq!(epochs.len(), 40 * 64 * 334);
        assert_eq!(epochs[..64 * 334], sample_epochs(3, 1).unwrap());
        let channel = |epoch: usize, c: usize| &epochs[(epoch * 64 + c) * 334..][..334];
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let of =
            |a: usize, b: usize| (0..40).map(|epoch| dot(channel(epoch, a), channel(epoch, b))).sum::<f64>();
        let rms = (of(5, 5) / (40.0 * 334.0)).sqrt() * 1e6;
        assert!((8.0..15.0).contains(&rms), "{rms}");
        let alike = of(5, 60) / (of(5, 5) * of(60, 60)).sqrt();
        assert!((0.3..0.7).contains(&alike), "{alike}");
        assert!(sample_epochs(0, 0).is_err() && sample_epochs(0, MAX_EPOCHS + 1).is_err());
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 7201.0] {
            assert!(sample_recording(1, seconds).is_err());
        }
        assert_eq!(sample_recording(1, 0.005).unwrap().n_samples, 1);
    }
}
