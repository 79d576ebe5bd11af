//! A simulated SEED-DV: clips drawn by rule, and the EEG of brains that answer to them. Nobody's brain, but one from
//! which can be decoded what the clips show: what tests, examples and first trials train on.
//!
//! ```text
//! clips    40 concepts = 5 shapes × 4 colours × 2 speeds, 7 blocks × 40 slots × 5, all different     simulate/clips.rs
//! brain    v = background + alpha + noise of the sensors + drift + response to the clip            simulate/brain.rs
//! layout   SEED-DV's: [7, 62, 104000] a subject, the same arrays of labels, captions in the same files
//! ```
//!
//! Everything follows from the seed, bit for bit on every machine (`signal::portable`): clips and their order from the
//! seed alone, subjects from the seed and their number, so that more subjects leave the first ones as they were.

mod brain;
mod clips;

pub use clips::{Clip, Colour, Shape, class_names};

use super::seed_dv::{self, BLOCK_CLIPS, Meta};
use super::segments::CLIPS;
use super::stack::BLOCKS;
use crate::error::{Error, Result};

/// Ratio at which the README's table was made: the power of the response by that of everything else, in dB, over all
/// channels and the seconds of the clips.
pub const DEFAULT_SNR_DB: f64 = -14.0;

/// The clips and the people.
#[derive(Clone, Debug)]
pub struct Simulation {
    seed: u64,
    snr_db: f64,
    /// `[7 · 200]`, presentation order.
    clips: Vec<Clip>,
}

impl Simulation {
    /// The world of a seed, at a signal-to-noise ratio in dB.
    ///
    /// Errors: [`Error::Setting`] when the ratio does not lie between -100 and 60 dB.
    pub fn new(seed: u64, snr_db: f64) -> Result<Simulation> {
        if !(-100.0..=60.0).contains(&snr_db) {
            return Err(Error::setting("snr", format!("{snr_db} dB, wanted -100 to 60")));
        }
        let clip = |i: usize| {
            let (block, idx) = (i / BLOCK_CLIPS, i % BLOCK_CLIPS);
            Clip::draw(seed, block, idx, seed_dv::ORDER[block][idx / CLIPS])
        };
        Ok(Simulation { seed, snr_db, clips: (0..BLOCKS * BLOCK_CLIPS).map(clip).collect() })
    }

    /// The clips of a block, in order of presentation; none beyond block 6.
    pub fn clips(&self, block: usize) -> &[Clip] {
        self.clips.chunks_exact(BLOCK_CLIPS).nth(block).unwrap_or_default()
    }

    /// What is known of the clips. The flow is the mean way of the objects from frame to frame, in pixels of a picture
    /// 36 high.
    pub fn meta(&self) -> Meta {
        let column = |of: &dyn Fn(&Clip) -> u8| Some(self.clips.iter().map(of).collect());
        Meta {
            class_names: class_names(),
            colour: column(&|clip| clip.colour.code()),
            face: column(&|clip| u8::from(clip.shape == Shape::Face)),
            human: column(&|clip| u8::from(matches!(clip.shape, Shape::Face | Shape::Person))),
            number: column(&|clip| clip.number()),
            flow: Some(self.clips.iter().map(|clip| clip.flow).collect()),
            ..Meta::protocol()
        }
    }

    /// One block of a subject (both from 0): `[62, 104000]` in volts.
    pub fn block(&self, subject: usize, block: usize) -> Vec<f32> {
        brain::block(self.seed, self.snr_db, subject, block, self.clips(block))
    }
}

#[cfg(test)]
mod tests {
    use super::super::segments::{SLOT_SAMPLES, clip_start};
    use super::super::{Form, de_psd, montage};
    use super::*;

    /// The first two slots of a block; the rest is zero.
    fn two_slots(snr_db: f64, subject: usize, block: usize) -> Vec<f32> {
        let world = Simulation::new(7, snr_db).unwrap();
        brain::block(7, snr_db, subject, block, &world.clips(block)[..2 * CLIPS])
    }

    #[test]
    fn the_clips_are_balanced_and_all_different() {
        let world = Simulation::new(1, 0.0).unwrap();
        let meta = world.meta();
        for (_, task) in seed_dv::Task::ALL {
            let counts = seed_dv::counts(&meta.labels(task).unwrap(), task.n_classes());
            assert!(counts.counts.iter().take(4).all(|&n| n > 0), "{task:?}: {counts:?}");
        }
        let speed = meta.labels(seed_dv::Task::FastSlow).unwrap();
        assert_eq!(seed_dv::counts(&speed, 2).counts, [700, 700]);
        let mut flows = meta.flow.clone().unwrap();
        flows.sort_by(f64::total_cmp);
        assert!(flows.windows(2).all(|pair| pair[0] < pair[1]));
        let other = Simulation::new(2, 0.0).unwrap().meta();
        assert!(other.order == meta.order && other.flow != meta.flow);
        assert!(Simulation::new(1, f64::NAN).is_err() && world.clips(7).is_empty());
    }

    #[test]
    fn a_block_has_the_same_bits_everywhere_and_looks_like_eeg() {
        // The first two slots: what comes later changes nothing before it.
        let eeg = two_slots(-6.0, 0, 3);
        assert_eq!(eeg.len(), 62 * 104_000);
        let bytes = eeg.iter().step_by(101).flat_map(|v| v.to_bits().to_le_bytes());
        let hash = bytes.fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        });
        assert_eq!(hash, HASH, "{hash:#X}");
        let channel = |name: &str| &eeg[montage::index_of(name).unwrap() * 104_000..][..2 * SLOT_SAMPLES];
        let rms = |x: &[f32]| (x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / x.len() as f64).sqrt();
        assert!(montage::names().iter().all(|name| (5e-6..5e-5).contains(&rms(channel(name)))));
        let (_, psd) = de_psd(channel("OZ"), 1, 2 * SLOT_SAMPLES, 200.0, Form::Corrected).unwrap();
        assert!(psd[2] > psd[3] && psd[3] > psd[4], "{psd:?}");
    }

    #[test]
    fn the_response_grows_with_the_ratio_and_knows_its_class() {
        let at = |snr| {
            let (with, without) = (two_slots(snr, 1, 0), two_slots(-100.0, 1, 0));
            with.iter().zip(without).map(|(a, b)| f64::from(a - b)).collect::<Vec<f64>>()
        };
        let response = at(0.0);
        let power = |response: &[f64], start: usize| {
            let channel =
                |c: usize| response[c * 104_000 + start..][..400].iter().map(|v| v * v).sum::<f64>();
            (0..62).map(channel).collect::<Vec<f64>>()
        };
        let total = |response: &[f64], start| power(response, start).iter().sum::<f64>();
        assert!(total(&response, 0) < 1e-3 * total(&response, clip_start(0, 0)), "cues say nothing");
        let all = |response: &[f64]| (0..10).map(|i| total(response, clip_start(i / 5, i % 5))).sum::<f64>();
        let ratio = all(&at(6.0)) / all(&response);
        assert!((ratio / 3.981 - 1.0).abs() < 0.01, "{ratio}");
    }

    /// Of the block above; a change of it is a change of what every seed gives.
    const HASH: u64 = 0xDD7D_2874_4AD7_23E0;
}
