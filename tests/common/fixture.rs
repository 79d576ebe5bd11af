//! Golden fixtures, and checkpoints made by the weight formula (tests/golden/README.md).

#![allow(dead_code)] // each test takes a part of it

use mindreel::models::{Input, Inputs, Output};
use mindreel::weights::{self, Checkpoint, Dtype, NewTensor, random};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A fixture of tests/golden.
pub struct Golden {
    pub file: Checkpoint,
    pub seed: u64,
}

impl Golden {
    pub fn open(name: &str) -> Golden {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.safetensors"));
        let file = Checkpoint::open(&path).expect("the fixture is in the repository");
        let seed = file.metadata()["seed"].parse().expect("seeds are numbers");
        Golden { file, seed }
    }

    /// Values of a tensor as f32.
    pub fn values(&self, name: &str) -> Vec<f32> {
        let view = self.file.get(name).unwrap_or_else(|| panic!("no {name} in the fixture"));
        match view.dtype {
            Dtype::I64 => weights::to_i64(&view).unwrap().into_iter().map(|v| v as f32).collect(),
            _ => weights::to_f32(&view).unwrap(),
        }
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.file.get(name).unwrap_or_else(|| panic!("no {name} in the fixture")).shape.to_vec()
    }

    /// Some of the inputs, by their names in the fixture and the names the model wants.
    pub fn inputs(&self, names: &[(&str, &str)]) -> Inputs {
        let input = |&(ours, theirs): &(&str, &str)| {
            let view = self.file.get(&format!("in.{theirs}")).unwrap_or_else(|| panic!("no in.{theirs}"));
            let shape = view.shape.to_vec();
            let input = match view.dtype {
                Dtype::I64 => Input::Ids(shape, weights::to_i64(&view).unwrap()),
                _ => Input::Floats(shape, weights::to_f32(&view).unwrap()),
            };
            (ours.to_string(), input)
        };
        Inputs(names.iter().map(input).collect())
    }

    /// A checkpoint folder with this fixture's config and formula weights.
    pub fn checkpoint(&self, folder: &Path, dtype: Dtype) -> PathBuf {
        let metadata = self.file.metadata();
        let tensors = serde_json::from_str(&metadata["tensors"]).expect("tensors are listed");
        self.write_checkpoint(folder, &metadata["config"], tensors, dtype)
    }

    /// One of several models in a fixture: `cases` of its metadata by name, each with `config` and `tensors`.
    pub fn cases(&self) -> BTreeMap<String, serde_json::Value> {
        serde_json::from_str(&self.file.metadata()["cases"]).expect("cases are listed")
    }

    /// A checkpoint folder with one case's config and formula weights.
    pub fn case(&self, case: &serde_json::Value, folder: &Path, dtype: Dtype) -> PathBuf {
        let tensors = serde_json::from_value(case["tensors"].clone()).expect("tensors are listed");
        self.write_checkpoint(folder, &case["config"].to_string(), tensors, dtype)
    }

    fn write_checkpoint(
        &self,
        folder: &Path,
        config: &str,
        tensors: BTreeMap<String, Vec<usize>>,
        dtype: Dtype,
    ) -> PathBuf {
        std::fs::write(folder.join("config.json"), config).unwrap();
        let tensors: Vec<_> = tensors
            .into_iter()
            .map(|(name, shape)| {
                let (of, sizes) = (name.clone(), shape.clone());
                NewTensor::streamed(name, dtype, shape, move |sink| {
                    let mut values = vec![0.0; sizes.iter().product()];
                    random::fill(&of, &sizes, self.seed, &mut values);
                    sink.put_f32(&values)
                })
            })
            .collect();
        let path = folder.join("model.safetensors");
        weights::write(&path, tensors, &BTreeMap::new()).unwrap();
        folder.to_path_buf()
    }
}

/// ‖got - want‖ / ‖want‖
pub fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len(), "number of values");
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = square(&mut got.iter().zip(want).map(|(&g, &w)| f64::from(g) - f64::from(w)));
    difference / square(&mut want.iter().map(|&w| f64::from(w)))
}

/// The output of this name.
pub fn output<'a>(outputs: &'a [Output], name: &str) -> &'a Output {
    outputs.iter().find(|o| o.name == name).unwrap_or_else(|| panic!("no output {name}"))
}
