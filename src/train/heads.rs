//! What the parts that read EEG have in common while they learn: examples of training and validation clips, first
//! weights, and the scaler that goes with the part.
//!
//! ```text
//! Segments [clips, channels, samples] ─EegInput─> training examples (steps may overlap), validation examples
//!                                   └─ mean and scale of the training clips alone ─> scaler.safetensors
//! ```

use super::checkpoint::Values;
use super::trainer;
use crate::data::{EegInput, Inputs};
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::Gpu;
use crate::models::{self, Config};
use crate::nn::{self, Parameters, Precision, Weights};
use crate::signal::{Segments, StandardScaler};
use crate::tensor::Tensor;
use crate::weights::{self, Checkpoint, NewTensor, random};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Examples to learn from and to validate by, scaled by the training clips.
#[derive(Clone, Debug)]
pub struct Sets {
    /// To learn from; their `clips` count [`Sets::train_clips`].
    pub train: Inputs,
    /// Training clips, counted over the recording.
    pub train_clips: Vec<usize>,
    /// To validate by; their `clips` count [`Sets::validation_clips`].
    pub validation: Inputs,
    /// Validation clips, counted over the recording.
    pub validation_clips: Vec<usize>,
    /// Of the training clips.
    pub scaler: StandardScaler,
}

impl Sets {
    /// Cuts clips: `input` as the part will be shown them, `taught` as it learns from them.
    ///
    /// Errors: [`Error::Setting`] when a set is empty; those of [`EegInput`].
    pub fn new(
        eeg: &Segments,
        [taught, input]: [&EegInput; 2],
        train_clips: Vec<usize>,
        validation_clips: Vec<usize>,
    ) -> Result<Sets> {
        for (name, clips) in [("train-blocks", &train_clips), ("validation-block", &validation_clips)] {
            if clips.is_empty() {
                return Err(Error::setting(name, "no clip is left to it"));
            }
        }
        let scaler = input.fit(eeg, &train_clips)?;
        let train = taught.cut(&eeg.pick(&train_clips)?, Some(&scaler))?;
        let validation = input.cut(&eeg.pick(&validation_clips)?, Some(&scaler))?;
        Ok(Sets { train, train_clips, validation, validation_clips, scaler })
    }

    /// Training examples, [n, ..] on the device.
    pub fn batch(&self, gpu: &Gpu, indices: &[usize]) -> Result<Tensor> {
        let values: Vec<f32> = indices.iter().flat_map(|&at| self.train.example(at)).copied().collect();
        Tensor::new(gpu, &[&[indices.len()], &self.train.shape[..]].concat(), &values)
    }
}

/// A number of [0, 1) for a draw of a run: the same for the same seed and place.
pub(super) fn draw(seed: u64, what: &str, place: u64) -> f64 {
    let bits = random::splitmix64(random::splitmix64(seed ^ random::hash(what)) ^ place);
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// PyTorch's first values for the model of a config, on the device.
///
/// Errors: [`Error::Format`] for sizes it cannot have.
pub fn first_parameters(gpu: &Gpu, config: &Config, seed: u64) -> Result<Parameters> {
    let wanted = models::architecture(config.architecture()?)?.wanted(config)?;
    trainer::place(gpu, &nn::initial(&wanted, seed), &[])
}

/// What a run kept, to run the model with.
///
/// Errors: [`Error::Device`].
pub fn weights_of(gpu: &Gpu, values: &Values, precision: Precision) -> Result<Weights> {
    let tensors =
        values.iter().map(|(name, (shape, values))| Ok((name.clone(), Tensor::new(gpu, shape, values)?)));
    let parameters = Arc::new(Parameters::new(tensors.collect::<Result<_>>()?));
    Ok(Weights::from_parameters(gpu, &parameters, precision, None))
}

/// Puts `<name>.mean` and `<name>.scale` into the scaler.safetensors of a checkpoint folder; those of other parts stay.
///
/// Errors: [`Error::Read`] and [`Error::Format`] for a file that cannot be read; [`Error::Write`].
pub fn write_scaler(folder: &Path, name: &str, scaler: &StandardScaler) -> Result<()> {
    let path = folder.join("scaler.safetensors");
    let mut values: Values = BTreeMap::new();
    if path.is_file() {
        for view in Checkpoint::open(&path)?.views() {
            values.insert(view.name.to_string(), (view.shape.to_vec(), weights::to_f32(&view)?));
        }
    }
    for (part, numbers) in [("mean", &scaler.mean), ("scale", &scaler.scale)] {
        let numbers = numbers.iter().map(|&v| v as f32).collect();
        values.insert(format!("{name}.{part}"), (vec![scaler.mean.len()], numbers));
    }
    let tensors = values.iter().map(|(name, (shape, v))| NewTensor::from_f32(name.clone(), shape.clone(), v));
    files::make_folder(folder)?;
    weights::write(&path, tensors.collect(), &BTreeMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalers_of_several_parts_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let scaler = |v: f64| StandardScaler { mean: vec![v; 2], scale: vec![v + 1.0; 2] };
        write_scaler(folder.path(), "dynamics", &scaler(1.0)).unwrap();
        write_scaler(folder.path(), "features", &scaler(2.0)).unwrap();
        write_scaler(folder.path(), "dynamics", &scaler(3.0)).unwrap();
        let file = Checkpoint::open(folder.path().join("scaler.safetensors")).unwrap();
        let value = |name: &str| weights::to_f32(&file.get(name).unwrap()).unwrap()[0];
        let found = ["dynamics.mean", "dynamics.scale", "features.mean"].map(value);
        assert_eq!((found, file.names().count()), ([3.0, 4.0, 2.0], 4));
    }

    #[test]
    fn draws_are_even_and_repeat() {
        let mean = (0..10_000).map(|place| draw(3, "mixup", place)).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        assert_eq!(draw(3, "mixup", 7), draw(3, "mixup", 7));
        assert_ne!(draw(3, "mixup", 7), draw(3, "share", 7));
        assert_ne!(draw(3, "mixup", 7), draw(4, "mixup", 7));
    }
}
