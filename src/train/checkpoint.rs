//! Checkpoints of a run: one safetensors file with everything that is needed to go on bit for bit.
//!
//! ```text
//! model.<name>          parameters that learn, and statistics, f32; what is frozen stays where it came from
//! optimizer.<name>      what the optimizer keeps, f32
//! best.<name>           parameters of the best epoch so far
//! average.<name>        moving average of the parameters
//! __metadata__          "mindreel": steps, loss scale, and the task's own state as JSON
//! ```
//!
//! One file, because a rename replaces one file at a time: whatever happens, either the old checkpoint is there or the
//! new one, whole.

use super::Trainer;
use crate::error::{Error, Result};
use crate::nn;
use crate::tensor::Tensor;
use crate::weights::{self, Checkpoint, NewTensor};
use std::collections::BTreeMap;
use std::path::Path;

/// Values by name: shape and row-major values.
pub type Values = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Everything a run needs to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Parameters that learn, and statistics.
    pub model: Values,
    /// What the optimizer keeps.
    pub optimizer: Values,
    /// Parameters of the best epoch so far; empty before the first.
    pub best: Values,
    /// Moving average of the parameters; empty where none is kept.
    pub average: Values,
    /// Steps so far.
    pub steps: u64,
    /// Steps the optimizer has taken.
    pub optimizer_steps: u64,
    /// Loss scale.
    pub scale: f64,
    /// Steps since it last changed.
    pub steps_at_scale: u64,
    /// The task's own state.
    pub state: serde_json::Value,
}

const PARTS: [&str; 4] = ["model", "optimizer", "best", "average"];

impl Snapshot {
    /// A trainer as it stands, read back from the device.
    ///
    /// Errors: [`Error::Device`].
    pub fn of(trainer: &Trainer, best: Values, state: serde_json::Value) -> Result<Snapshot> {
        let changing = trainer.parameters().iter().filter(|(name, tensor)| changes(name, tensor));
        let (scale, steps_at_scale) = trainer.scale();
        Ok(Snapshot {
            model: read_back(changing)?,
            optimizer: read_back(trainer.optimizer().state())?,
            best,
            average: Values::new(),
            steps: trainer.steps(),
            optimizer_steps: trainer.optimizer().steps(),
            scale,
            steps_at_scale,
            state,
        })
    }

    /// Writes it; the old file stays until the new one is whole.
    ///
    /// Errors: [`Error::Write`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let parts = PARTS.into_iter().zip([&self.model, &self.optimizer, &self.best, &self.average]);
        let tensors = parts
            .flat_map(|(part, values)| {
                values.iter().map(move |(name, (shape, values))| {
                    NewTensor::from_f32(format!("{part}.{name}"), shape.clone(), values)
                })
            })
            .collect();
        let state = serde_json::json!({
            "steps": self.steps,
            "optimizer_steps": self.optimizer_steps,
            "scale": self.scale,
            "steps_at_scale": self.steps_at_scale,
            "state": self.state,
        });
        let metadata = BTreeMap::from([("mindreel".to_string(), state.to_string())]);
        weights::write(path, tensors, &metadata)
    }

    /// Reads it back, bit for bit.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for a file that is none of ours, or no whole one.
    pub fn read(path: &Path) -> Result<Snapshot> {
        let wrong = || {
            let detail = "is no whole checkpoint of a training run; --force in place of --resume starts anew";
            Error::format(path, detail)
        };
        let file = Checkpoint::open(path).map_err(|error| match error {
            Error::Format { .. } => wrong(),
            other => other,
        })?;
        let text = file.metadata().get("mindreel").ok_or_else(wrong)?;
        let state: serde_json::Value = serde_json::from_str(text).map_err(|_| wrong())?;
        let count = |key: &str| state.get(key).and_then(serde_json::Value::as_u64).ok_or_else(wrong);
        let mut parts: [Values; 4] = Default::default();
        for view in file.views() {
            let (part, name) = view.name.split_once('.').ok_or_else(wrong)?;
            let at = PARTS.iter().position(|&known| known == part).ok_or_else(wrong)?;
            parts[at].insert(name.to_string(), (view.shape.to_vec(), weights::to_f32(&view)?));
        }
        let [model, optimizer, best, average] = parts;
        Ok(Snapshot {
            model,
            optimizer,
            best,
            average,
            steps: count("steps")?,
            optimizer_steps: count("optimizer_steps")?,
            scale: state.get("scale").and_then(serde_json::Value::as_f64).ok_or_else(wrong)?,
            steps_at_scale: count("steps_at_scale")?,
            state: state.get("state").cloned().unwrap_or_default(),
        })
    }
}

/// Whether a step may change the tensor of this name.
pub(super) fn changes(name: &str, tensor: &Tensor) -> bool {
    tensor.is_parameter() || nn::is_statistic(name)
}

/// Tensors by name, read back from the device.
///
/// Errors: [`Error::Device`].
pub fn read_back<'a, N: Into<String>>(tensors: impl Iterator<Item = (N, &'a Tensor)>) -> Result<Values> {
    tensors.map(|(name, tensor)| Ok((name.into(), (tensor.shape().to_vec(), tensor.to_vec()?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let values = |seed: f32| {
            BTreeMap::from([("net.0.weight".to_string(), (vec![2, 1], vec![seed, f32::MIN_POSITIVE / 8.0]))])
        };
        Snapshot {
            model: values(0.1),
            optimizer: BTreeMap::from([("net.0.weight.exp_avg".into(), (vec![1], vec![-0.0]))]),
            best: values(3.5e-39),
            average: values(-7.0),
            steps: 1 << 40,
            optimizer_steps: 7,
            scale: 65_536.0,
            steps_at_scale: 3,
            state: serde_json::json!({"epoch": 4, "order": [1, 2], "best": 0.1}),
        }
    }

    #[test]
    fn what_is_written_is_read_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        snapshot().write(&path).unwrap();
        let read = Snapshot::read(&path).unwrap();
        assert_eq!(read, snapshot());
        assert!(read.optimizer["net.0.weight.exp_avg"].1[0].is_sign_negative());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        weights::write(&path, vec![NewTensor::from_f32("a", [1], &[1.0])], &BTreeMap::new()).unwrap();
        let error = Snapshot::read(&path).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        assert!(Snapshot::read(&folder.path().join("none.safetensors")).is_err());
        snapshot().write(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 7, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let text = Snapshot::read(&path).unwrap_err().to_string();
            assert!(text.contains("--force in place of --resume"), "{text}");
        }
    }
}
