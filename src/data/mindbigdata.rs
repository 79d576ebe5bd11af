//! MindBigData "ImageNet": EEG of one person under pictures of ImageNet, a CSV for each picture.
//!
//! ```text
//! MindBigData_Imagenet_Insight_n00007846_6247_1_785.csv          synset, picture, session, session of all
//! AF3,4258.20,4261.02,…                                          a line for each of five channels, no head
//! AF4,4270.76,…
//! ```
//!
//! About 3 s at 128 Hz, in microvolts around an amplifier's offset of some 4200; lengths vary.

use crate::error::{Error, Result};
use crate::files;
use crate::signal::Stack;
use std::path::Path;

/// Samples per second of the headset (Emotiv Insight).
pub const SAMPLE_RATE_HZ: f64 = 128.0;
/// Largest file read; a picture's has some 20 KiB.
const MAX_BYTES: u64 = 16 << 20;

/// What a file's name tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Class of WordNet: `n00007846`.
    pub synset: String,
    /// Picture of the class; it is called `<synset>_<picture>.JPEG`.
    pub picture: u64,
    /// Session.
    pub session: u64,
    /// Session counted through all.
    pub global_session: u64,
}

impl Name {
    /// Of `MindBigData_Imagenet_Insight_<synset>_<picture>_<session>_<session of all>.csv`; nothing for other names.
    pub fn parse(path: &Path) -> Option<Name> {
        let mut parts = path.file_stem()?.to_str()?.rsplit('_');
        let mut number = || parts.next()?.parse().ok();
        let (global_session, session, picture) = (number()?, number()?, number()?);
        let synset = parts.next()?;
        let is_synset = synset.strip_prefix('n').is_some_and(|id| id.bytes().all(|b| b.is_ascii_digit()));
        is_synset.then(|| Name { synset: synset.to_string(), picture, session, global_session })
    }
}

/// The channels of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Signals {
    /// AF3, AF4, T7, T8, Pz as published.
    pub channel_names: Vec<String>,
    /// `[channels, samples]` in microvolts, as long as the shortest channel.
    pub eeg: Stack<f64>,
}

/// Reads a file.
///
/// Errors: [`Error::Read`]; [`Error::Format`] with the line for what is no number, a channel without samples or with less
/// than half of another's, and a file cut short within a line.
pub fn read(path: impl AsRef<Path>) -> Result<Signals> {
    let path = path.as_ref();
    let bytes = files::read_small(path, MAX_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::format(path, "is not UTF-8"))?;
    let (mut channel_names, mut channels): (Vec<String>, Vec<Vec<f64>>) = (vec![], vec![]);
    for (idx, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |detail: String| Error::format(path, format!("line {}: {detail}", idx + 1));
        let mut fields = line.split(',').map(str::trim);
        let name = fields.next().unwrap_or_default();
        if name.is_empty() || name.len() > 32 || name.parse::<f64>().is_ok() {
            return Err(wrong(format!("begins with \"{}\", wanted a channel's name", name.escape_debug())));
        }
        let mut samples = Vec::new();
        // A comma at the end of a line is put up with.
        for field in line.trim_end().trim_end_matches(',').split(',').skip(1) {
            match field.trim().parse::<f64>() {
                Ok(value) if value.is_finite() => samples.push(value),
                _ => {
                    let at = samples.len() + 1;
                    return Err(wrong(format!(
                        "sample {at} is \"{}\", wanted a number",
                        field.trim().escape_debug()
                    )));
                }
            }
        }
        if samples.is_empty() {
            return Err(wrong(format!("channel \"{}\" has no samples", name.escape_debug())));
        }
        channel_names.push(name.to_string());
        channels.push(samples);
    }
    let lengths = || channels.iter().map(Vec::len);
    let (Some(n_samples), Some(longest)) = (lengths().min(), lengths().max()) else {
        return Err(Error::format(path, "is empty; copy it again from its source"));
    };
    if 2 * n_samples < longest {
        let short = &channel_names[lengths().position(|n| n == n_samples).unwrap_or(0)];
        let detail = format!(
            "channel \"{}\" has {n_samples} samples, another {longest}; the copy may be cut short",
            short.escape_debug()
        );
        return Err(Error::format(path, detail));
    }
    let data = channels.iter().flat_map(|samples| samples[..n_samples].iter().copied()).collect();
    let eeg = Stack { leading: vec![], n_channels: channels.len(), n_samples, data };
    Ok(Signals { channel_names, eeg })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Signals> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        std::fs::write(&path, text).unwrap();
        read(path)
    }

    #[test]
    fn names_tell_the_picture() {
        let name = Name::parse(Path::new("a/MindBigData_Imagenet_Insight_n00007846_6247_1_785.csv")).unwrap();
        let wanted = Name { synset: "n00007846".into(), picture: 6247, session: 1, global_session: 785 };
        assert_eq!(name, wanted);
        for other in ["x.csv", "a_1_2_3.csv", "n1_x_2_3.csv", ""] {
            assert_eq!(Name::parse(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn channels_are_read_and_cut_to_the_shortest() {
        let signals = of("AF3,4258.5,4260,4261\r\nAF4,1,2,3,4,\n\nPz, -1e1 ,5, 6\n").unwrap();
        assert_eq!(signals.channel_names, ["AF3", "AF4", "Pz"]);
        assert_eq!(signals.eeg.shape(), [3, 3]);
        assert_eq!(signals.eeg.data, [4258.5, 4260.0, 4261.0, 1.0, 2.0, 3.0, -10.0, 5.0, 6.0]);
    }

    #[test]
    fn mistakes_are_named_by_line() {
        for (text, wanted) in [
            ("", "is empty"),
            ("AF3,1,2\nAF4,1,x\n", "line 2: sample 2 is \"x\""),
            ("1,2,3\n", "line 1: begins with \"1\", wanted a channel's name"),
            ("AF3\n", "has no samples"),
            ("AF3,1,nan\n", "wanted a number"),
            ("AF3,1,2,3\nAF4,1\n", "channel \"AF4\" has 1 samples, another 3"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.exit_code() == 3 && error.to_string().contains(wanted), "{error}");
        }
    }
}
