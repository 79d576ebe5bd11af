//! Flags of every command that makes spectrograms: the constants, and the original's.

use crate::error::{Error, Result};
use crate::signal::spectrogram::{self, ALLJOINED_RATE_HZ, Recipe, Spectrograms};
use crate::signal::{Real, Stack, Units};
use serde_json::{Value, json};
use std::path::Path;

/// How spectrograms are made. Defaults are Alljoined's rate and NeuroVision's corners, in true hertz.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct RecipeFlags {
    /// Samples per second of the recording [default: 512]
    #[arg(long, visible_alias = "rate", value_name = "HZ", conflicts_with = "reproduce_original")]
    sample_rate: Option<f64>,

    /// What the file's numbers are: V or uV [default: told by their size]
    #[arg(long, conflicts_with = "reproduce_original")]
    units: Option<String>,

    /// Lower corner of the band-pass [default: 4]
    #[arg(long, value_name = "HZ", conflicts_with = "reproduce_original")]
    low: Option<f64>,

    /// Upper corner of the band-pass [default: 100]
    #[arg(long, value_name = "HZ", conflicts_with = "reproduce_original")]
    high: Option<f64>,

    /// Order of the band-pass, 1 to 16 [default: 5]
    #[arg(long, conflicts_with = "reproduce_original")]
    order: Option<usize>,

    /// Frequencies to cut out [default: 50,60]
    #[arg(long, value_name = "HZ,...", value_delimiter = ',', conflicts_with = "reproduce_original")]
    notch: Option<Vec<f64>>,

    /// Sharpness of the notches: frequency by width [default: 30]
    #[arg(long, value_name = "Q", conflicts_with = "reproduce_original")]
    notch_q: Option<f64>,

    /// No notches, no band-pass: the recording is filtered already
    #[arg(long, conflicts_with_all = ["low", "high", "order", "notch", "notch_q", "reproduce_original"])]
    unfiltered: bool,

    /// Length of a frame [default: 0.25]
    #[arg(long, value_name = "S", conflicts_with = "reproduce_original")]
    window_s: Option<f64>,

    /// From one frame to the next [default: 0.125]
    #[arg(long, value_name = "S", conflicts_with = "reproduce_original")]
    hop_s: Option<f64>,

    /// The original's constants: 250 Hz whatever the rate, numbers as stored, 334 samples, frames of 128 every 64
    #[arg(long)]
    pub(super) reproduce_original: bool,
}

impl RecipeFlags {
    /// Samples per second of the recording.
    pub(super) fn rate_hz(&self) -> f64 {
        self.sample_rate.unwrap_or(ALLJOINED_RATE_HZ)
    }

    /// The same with another rate where no flag says one.
    pub(super) fn or_rate(&self, rate_hz: f64) -> RecipeFlags {
        RecipeFlags { sample_rate: self.sample_rate.or(Some(rate_hz)), ..self.clone() }
    }

    /// What the flags ask for. Errors: [`Error::Setting`] naming the flag.
    pub(super) fn recipe(&self) -> Result<Recipe> {
        let mut recipe = if self.reproduce_original { Recipe::original() } else { Recipe::corrected() };
        if let Some([low, high]) = recipe.band_hz {
            recipe.band_hz = Some([self.low.unwrap_or(low), self.high.unwrap_or(high)]);
        }
        recipe.order = self.order.unwrap_or(recipe.order);
        recipe.notches_hz = self.notch.clone().unwrap_or(recipe.notches_hz);
        recipe.notch_q = self.notch_q.unwrap_or(recipe.notch_q);
        recipe.window_s = self.window_s.unwrap_or(recipe.window_s);
        recipe.hop_s = self.hop_s.unwrap_or(recipe.hop_s);
        if self.unfiltered {
            (recipe.band_hz, recipe.notches_hz) = (None, vec![]);
        }
        recipe.plan(self.rate_hz()).map_err(|error| match error {
            Error::Setting { name, detail } => Error::setting(
                match name.as_str() {
                    "order" => "--order",
                    "band" => "--low, --high",
                    "Q" => "--notch-q",
                    "window" => "--window-s",
                    "hop" => "--hop-s",
                    "--rate" => "--sample-rate",
                    _ => "--low, --high, --notch",
                },
                detail,
            ),
            other => other,
        })?;
        self.units()?;
        Ok(recipe)
    }

    /// What decides a spectrogram beside the recording. Errors: as [`RecipeFlags::recipe`].
    pub(super) fn settings(&self) -> Result<Value> {
        let (recipe, units) = (format!("{:?}", self.recipe()?), format!("{:?}", self.units()?));
        Ok(json!({ "recipe": recipe, "sample_rate": self.rate_hz(), "units": units }))
    }

    /// What `--units` says, where it says something.
    fn units(&self) -> Result<Option<Units>> {
        self.units.as_deref().map(str::parse).transpose()
    }

    /// Spectrograms of EEG that came out of `path`, and what its numbers were taken for.
    ///
    /// Errors: [`Error::Format`] naming `path` for numbers that cannot be what `--units` says, and too few samples.
    pub(super) fn spectrograms<T: Real>(&self, path: &Path, eeg: &Stack<T>) -> Result<(Spectrograms, Units)> {
        let units = match self.units()? {
            _ if self.reproduce_original => Units::Volts,
            Some(units) => {
                spectrogram::check_units(path, eeg, units)?;
                units
            }
            None => spectrogram::units_of(eeg),
        };
        let made = spectrogram::spectrograms(eeg, self.rate_hz(), units, &self.recipe()?);
        let made = made.map_err(|error| match error {
            Error::Shape { detail, .. } => Error::format(path, detail),
            other => other,
        });
        Ok((made?, units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_a_recipe() {
        assert_eq!(RecipeFlags::default().recipe().unwrap(), Recipe::corrected());
        let original = RecipeFlags { reproduce_original: true, ..Default::default() };
        assert_eq!(original.recipe().unwrap(), Recipe::original());
        let stft = RecipeFlags { unfiltered: true, sample_rate: Some(128.0), ..Default::default() };
        assert_eq!(stft.recipe().unwrap().band_hz, None);
        let low = RecipeFlags { low: Some(0.5), notch: Some(vec![60.0]), ..Default::default() };
        let recipe = low.recipe().unwrap();
        assert_eq!((recipe.band_hz, recipe.notches_hz), (Some([0.5, 100.0]), vec![60.0]));
    }

    #[test]
    fn mistakes_name_their_flag() {
        let refused = |flags: RecipeFlags| flags.recipe().unwrap_err().to_string();
        let of = RecipeFlags::default;
        assert!(
            refused(RecipeFlags { sample_rate: Some(128.0), ..of() })
                .starts_with("--low, --high, --notch: 100 Hz")
        );
        assert!(refused(RecipeFlags { sample_rate: Some(-1.0), ..of() }).starts_with("--sample-rate: "));
        assert!(refused(RecipeFlags { low: Some(100.0), ..of() }).starts_with("--low, --high: "));
        assert!(refused(RecipeFlags { order: Some(0), ..of() }).starts_with("--order: "));
        assert!(refused(RecipeFlags { notch_q: Some(0.0), ..of() }).starts_with("--notch-q: "));
        assert!(refused(RecipeFlags { window_s: Some(0.0), ..of() }).starts_with("--window-s: "));
        assert!(refused(RecipeFlags { hop_s: Some(3.0), ..of() }).starts_with("--hop-s: "));
        assert!(refused(RecipeFlags { units: Some("mV".into()), ..of() }).starts_with("--units: "));
    }
}
