//! Statistics of channels in files: ours, and the original's.
//!
//! ```text
//! stats.safetensors     mean, std [channels], float64
//! spec_mean.pt, spec_std.pt     [channels], float32: NeuroVision's
//! ```

use crate::error::{Error, Result};
use crate::signal::channel_stats::ChannelStats;
use crate::signal::{npy, torch};
use crate::weights::{self, Checkpoint, Dtype, NewTensor, View};
use std::collections::BTreeMap;
use std::path::Path;

/// The file of a folder.
pub const STATS: &str = "stats.safetensors";
const ORIGINALS: [&str; 2] = ["spec_mean.pt", "spec_std.pt"];

/// Reads statistics: a safetensors file, or a folder that holds `stats.safetensors`, or the original's two files.
///
/// Errors: [`Error::Read`]; [`Error::Format`] for a folder without, missing tensors, other shapes, numbers that are none.
pub fn open(path: impl AsRef<Path>) -> Result<ChannelStats> {
    let path = path.as_ref();
    let (file, mean, std) = if !path.is_dir() {
        stored(path)?
    } else if path.join(STATS).is_file() {
        stored(&path.join(STATS))?
    } else if ORIGINALS.iter().all(|name| path.join(name).is_file()) {
        let vector = |name: &str| -> Result<Vec<f64>> {
            let npy::Array { shape, data } = torch::read(path.join(name))?;
            match shape.len() {
                1 => Ok(data.into_iter().map(f64::from).collect()),
                _ => Err(Error::format(path.join(name), format!("shape {shape:?}, wanted [channels]"))),
            }
        };
        (path.to_path_buf(), vector(ORIGINALS[0])?, vector(ORIGINALS[1])?)
    } else {
        let detail = format!(
            "holds no {STATS}, nor {} and {}; make it with `mindreel prepare stats`",
            ORIGINALS[0], ORIGINALS[1]
        );
        return Err(Error::format(path, detail));
    };
    ChannelStats::new(mean, std).map_err(|detail| Error::format(file, detail))
}

/// `mean` and `std` of a safetensors file.
fn stored(path: &Path) -> Result<(std::path::PathBuf, Vec<f64>, Vec<f64>)> {
    let file = Checkpoint::open(path)?;
    let vector = |name: &str| {
        let Some(view) = file.get(name) else {
            let names: Vec<&str> = file.names().take(8).collect();
            let detail = format!(
                "has no tensor \"{name}\", it holds {}; is it a file of statistics?",
                names.join(", ")
            );
            return Err(Error::format(path, detail));
        };
        match view.shape {
            [_] => doubles(&view),
            shape => Err(Error::format(path, format!("\"{name}\" has shape {shape:?}, wanted [channels]"))),
        }
    };
    Ok((path.to_path_buf(), vector("mean")?, vector("std")?))
}

fn doubles(view: &View) -> Result<Vec<f64>> {
    match view.dtype {
        Dtype::F64 => {
            let chunks = view.bytes.as_chunks::<8>().0;
            Ok(chunks.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
        }
        _ => Ok(weights::to_f32(view)?.into_iter().map(f64::from).collect()),
    }
}

/// Writes `stats.safetensors`, `mean.npy` and `std.npy` into a folder; with `original` the original's two files, too.
///
/// Errors: [`Error::Write`].
pub fn write(folder: &Path, stats: &ChannelStats, original: bool) -> Result<()> {
    let shape = [stats.n_channels()];
    let vectors = [("mean", &stats.mean), ("std", &stats.std)];
    for (name, values) in vectors {
        npy::write(folder.join(format!("{name}.npy")), &shape, values)?;
        if original {
            let singles: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            torch::write(folder.join(format!("spec_{name}.pt")), &shape, &singles)?;
        }
    }
    let tensors = vectors.map(|(name, values)| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        NewTensor::streamed(name, Dtype::F64, shape, move |sink| sink.put(&bytes))
    });
    weights::write(folder.join(STATS), tensors.into(), &BTreeMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_come_back_from_either_form() {
        let folder = tempfile::tempdir().unwrap();
        let stats = ChannelStats::new(vec![0.1, -2.0], vec![1.0 / 3.0, 0.0]).unwrap();
        write(folder.path(), &stats, true).unwrap();
        assert_eq!(open(folder.path()).unwrap(), stats);
        assert_eq!(open(folder.path().join(STATS)).unwrap(), stats);
        assert_eq!(npy::read::<f64>(folder.path().join("std.npy"), None).unwrap().data, stats.std);
        std::fs::remove_file(folder.path().join(STATS)).unwrap();
        let singles = open(folder.path()).unwrap();
        assert_eq!(singles.std[0], f64::from(1.0f32 / 3.0));
        std::fs::remove_file(folder.path().join("spec_std.pt")).unwrap();
        assert!(open(folder.path()).unwrap_err().to_string().contains("mindreel prepare stats"));
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let refused = |tensors: Vec<NewTensor>| {
            weights::write(&path, tensors, &BTreeMap::new()).unwrap();
            let error = open(&path).unwrap_err();
            assert_eq!(error.exit_code(), 3);
            error.to_string()
        };
        assert!(
            refused(vec![NewTensor::from_f32("mean", [2], &[0.0, 1.0])])
                .contains("no tensor \"std\", it holds mean")
        );
        let mean = || NewTensor::from_f32("mean", [2], &[0.0, 1.0]);
        assert!(refused(vec![mean(), NewTensor::from_f32("std", [1], &[1.0])]).contains("2 means and 1"));
        assert!(
            refused(vec![mean(), NewTensor::from_f32("std", [1, 2], &[1.0; 2])])
                .contains("wanted [channels]")
        );
        assert!(
            refused(vec![mean(), NewTensor::from_f32("std", [2], &[1.0, f32::NAN])]).contains("channel 1")
        );
    }
}
