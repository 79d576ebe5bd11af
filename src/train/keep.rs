//! A trained model as a folder like any other: `config.json` and safetensors, as diffusers or transformers write them.

use super::checkpoint::Values;
use crate::error::Result;
use crate::files;
use crate::models::Config;
use crate::weights::{self, Checkpoint, Dtype, NewTensor};
use std::collections::BTreeMap;
use std::path::Path;

/// Classes that diffusers writes, under its file name.
const OF_DIFFUSERS: [&str; 3] = ["UNet3DConditionModel", "UNet2DConditionModel", "AutoencoderKL"];

/// Writes the folder, whole or not at all: `changed`, and of `base` what was not changed. Floats are rounded to
/// `dtype`.
///
/// Errors: [`crate::error::Error::Write`]; [`crate::error::Error::Format`] for a config without a class.
pub fn write_model(
    folder: &Path,
    config: &Config,
    base: Option<&Checkpoint>,
    changed: &Values,
    dtype: Dtype,
) -> Result<()> {
    let file = match OF_DIFFUSERS.contains(&config.architecture()?) {
        true => "diffusion_pytorch_model.safetensors",
        false => "model.safetensors",
    };
    files::make_folder_atomically(folder, |folder| {
        config.write(folder.join("config.json"))?;
        let new = changed.iter().map(|(name, (shape, values))| {
            NewTensor::streamed(name.clone(), dtype, shape.clone(), move |sink| sink.put_f32(values))
        });
        let views = base.into_iter().flat_map(Checkpoint::views);
        let kept = views.filter(|view| !changed.contains_key(view.name)).map(|view| {
            let (name, shape) = (view.name.to_string(), view.shape.to_vec());
            // Counters and tables of ids stay what they are.
            let dtype = if weights::is_float(view.dtype) { dtype } else { view.dtype };
            NewTensor::streamed(name, dtype, shape, move |sink| match view.dtype == dtype {
                true => sink.put(view.bytes),
                false => sink.put_f32(&weights::to_f32(&view)?),
            })
        });
        weights::write(folder.join(file), new.chain(kept).collect(), &BTreeMap::new())
    })
}
