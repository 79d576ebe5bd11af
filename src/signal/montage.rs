//! The 62 electrodes of SEED-DV in the order of its files, and where they sit.
//!
//! Names and positions follow the data set's `channel-order.xlsx` and `channel_62_pos.locs` (ESI NeuroScan
//! cap, 10-20 names with the cerebellar CB1 and CB2), in EEGLAB's polar form.

use crate::error::{Error, Result, nearest};
use std::ops::Range;

/// SEED-DV's rate, in hertz; what the EEG2Video models take.
pub const SAMPLE_RATE_HZ: f64 = 200.0;

/// Channels over the occipital cortex, PO7 to CB2: the local set of GLMNet.
pub const OCCIPITAL: Range<usize> = 50..62;

/// One electrode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Electrode {
    /// 10-20 name, upper case.
    pub name: &'static str,
    /// Degrees from the nose, positive towards the right ear.
    pub angle_deg: f64,
    /// Distance from the vertex on the flattened head: 0.5 is the height of the ears.
    pub radius: f64,
}

const fn at(name: &'static str, angle_deg: f64, radius: f64) -> Electrode {
    Electrode { name, angle_deg, radius }
}

/// The electrodes, in channel order.
#[rustfmt::skip]
pub const ELECTRODES: [Electrode; 62] = [
    at("FP1", -18.0, 0.51111),
    at("FPZ", 0.0, 0.51111),
    at("FP2", 18.0, 0.51111),
    at("AF3", -23.0, 0.41111),
    at("AF4", 23.0, 0.41111),
    at("F7", -54.0, 0.51111),
    at("F5", -49.0, 0.41667),
    at("F3", -39.0, 0.33333),
    at("F1", -22.0, 0.27778),
    at("FZ", 0.0, 0.25556),
    at("F2", 22.0, 0.27778),
    at("F4", 39.0, 0.33333),
    at("F6", 49.0, 0.41667),
    at("F8", 54.0, 0.51111),
    at("FT7", -72.0, 0.51111),
    at("FC5", -69.0, 0.39444),
    at("FC3", -62.0, 0.27778),
    at("FC1", -45.0, 0.17778),
    at("FCZ", 0.0, 0.12778),
    at("FC2", 45.0, 0.17778),
    at("FC4", 62.0, 0.27778),
    at("FC6", 69.0, 0.39444),
    at("FT8", 72.0, 0.51111),
    at("T7", -90.0, 0.51111),
    at("C5", -90.0, 0.38333),
    at("C3", -90.0, 0.25556),
    at("C1", -90.0, 0.12778),
    at("CZ", 90.0, 0.0),
    at("C2", 90.0, 0.12778),
    at("C4", 90.0, 0.25556),
    at("C6", 90.0, 0.38333),
    at("T8", 90.0, 0.51111),
    at("TP7", -105.0, 0.51111),
    at("CP5", -111.0, 0.39444),
    at("CP3", -118.0, 0.27778),
    at("CP1", -135.0, 0.17778),
    at("CPZ", 180.0, 0.12778),
    at("CP2", 135.0, 0.17778),
    at("CP4", 118.0, 0.27778),
    at("CP6", 111.0, 0.39444),
    at("TP8", 105.0, 0.51111),
    at("P7", -120.0, 0.51111),
    at("P5", -131.0, 0.41667),
    at("P3", -141.0, 0.33333),
    at("P1", -158.0, 0.27778),
    at("PZ", 180.0, 0.25556),
    at("P2", 158.0, 0.27778),
    at("P4", 141.0, 0.33333),
    at("P6", 131.0, 0.41667),
    at("P8", 120.0, 0.51111),
    at("PO7", -135.0, 0.51111),
    at("PO5", -147.0, 0.46838),
    at("PO3", -157.0, 0.41111),
    at("POZ", 180.0, 0.38333),
    at("PO4", 157.0, 0.41111),
    at("PO6", 147.0, 0.46838),
    at("PO8", 135.0, 0.51111),
    at("CB1", -150.0, 0.51111),
    at("O1", -165.0, 0.51111),
    at("OZ", 180.0, 0.51111),
    at("O2", 165.0, 0.51111),
    at("CB2", 150.0, 0.51111),
];

/// The channel names, in order.
pub fn names() -> Vec<String> {
    ELECTRODES.iter().map(|electrode| electrode.name.to_string()).collect()
}

/// Channel index of a 10-20 name, in any case; also the older T3, T4, T5 and T6.
///
/// Errors: [`Error::Setting`] with the nearest name.
pub fn index_of(name: &str) -> Result<usize> {
    let upper = name.trim().to_ascii_uppercase();
    let upper = match upper.as_str() {
        "T3" => "T7",
        "T4" => "T8",
        "T5" => "P7",
        "T6" => "P8",
        other => other,
    };
    ELECTRODES.iter().position(|electrode| electrode.name == upper).ok_or_else(|| {
        let hint = match nearest(upper, ELECTRODES.iter().map(|electrode| electrode.name)) {
            Some(near) => format!("did you mean {near}?"),
            None => "they are 10-20 names, FP1 to CB2".to_string(),
        };
        Error::setting(
            "channel",
            format!("\"{}\" is not one of the 62 of SEED-DV; {hint}", name.escape_debug()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_montage_is_the_data_sets() {
        assert_eq!(index_of("OZ").unwrap(), 59);
        assert_eq!(index_of("fpz").unwrap(), 1);
        assert_eq!(index_of("T3").unwrap(), 23);
        let local: Vec<_> = OCCIPITAL.map(|idx| ELECTRODES[idx].name).collect();
        let wanted = ["PO7", "PO5", "PO3", "POZ", "PO4", "PO6", "PO8", "CB1", "O1", "OZ", "O2", "CB2"];
        assert_eq!(local, wanted);
        let mut sorted = names();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), 62);
    }

    #[test]
    fn left_and_right_mirror_each_other() {
        for (left, right) in [("FP1", "FP2"), ("FT7", "FT8"), ("C3", "C4"), ("PO5", "PO6"), ("CB1", "CB2")] {
            let (left, right) = (ELECTRODES[index_of(left).unwrap()], ELECTRODES[index_of(right).unwrap()]);
            assert_eq!((left.angle_deg, left.radius), (-right.angle_deg, right.radius));
        }
    }

    #[test]
    fn a_misspelt_name_gets_its_neighbour() {
        assert!(index_of("POOZ").unwrap_err().to_string().contains("did you mean POZ"));
        assert!(index_of("eye tracker").unwrap_err().to_string().contains("FP1 to CB2"));
    }
}
