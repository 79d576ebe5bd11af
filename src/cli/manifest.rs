//! `manifest.json` of a checkpoint: how it was made, how it decodes, and the SHA-256 of every weight file.

use crate::error::{Error, Result};
use crate::files;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Its name.
pub(super) const NAME: &str = "manifest.json";
/// What it holds at most.
const LIMIT_BYTES: u64 = 4 << 20;

/// The manifest of a checkpoint.
///
/// Errors: [`Error::Read`]; [`Error::Format`] for what is no JSON.
pub(super) fn read(model: &Path) -> Result<Value> {
    files::read_json(&model.join(NAME), LIMIT_BYTES)
}

/// Weight files that are not what the manifest lists: gone, or of other bytes. None where nothing is listed.
///
/// Errors: those of [`read`]; [`Error::Read`].
pub(super) fn differing(model: &Path) -> Result<Vec<PathBuf>> {
    if !model.join(NAME).is_file() {
        return Ok(Vec::new());
    }
    let manifest = read(model)?;
    let mut differing = Vec::new();
    for (name, listed) in manifest["sha256"].as_object().into_iter().flatten() {
        let path = model.join(name);
        if !path.is_file() || *listed != hash(&path)? {
            differing.push(path);
        }
    }
    Ok(differing)
}

/// SHA-256 of every weight file, by its place in the checkpoint.
///
/// Errors: [`Error::Read`].
pub(super) fn hashes(model: &Path) -> Result<Map<String, Value>> {
    let mut found = Map::new();
    let mut waiting = vec![model.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Error::read(&folder))? {
            let path = entry.map_err(Error::read(&folder))?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| ending == "safetensors") {
                let name = path.strip_prefix(model).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                found.insert(name, hash(&path)?.into());
            }
        }
    }
    found.sort_keys();
    Ok(found)
}

fn hash(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).map_err(Error::read(path))?;
    let (mut hash, mut bytes) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut bytes).map_err(Error::read(path))? {
            0 => break,
            n => hash.update(&bytes[..n]),
        }
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_bit_is_found_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path();
        assert!(differing(model).unwrap().is_empty(), "nothing is listed");
        for part in ["unet", "vae"] {
            std::fs::create_dir(model.join(part)).unwrap();
            std::fs::write(model.join(part).join("model.safetensors"), part.repeat(50_000)).unwrap();
        }
        files::write_json(model.join(NAME), &json!({ "sha256": hashes(model).unwrap() })).unwrap();
        assert!(differing(model).unwrap().is_empty());
        let unet = model.join("unet/model.safetensors");
        let mut bytes = std::fs::read(&unet).unwrap();
        for bit in [0, 65_536 * 8 + 3, bytes.len() * 8 - 1] {
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&unet, &bytes).unwrap();
            assert_eq!(differing(model).unwrap(), std::slice::from_ref(&unet));
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        std::fs::remove_file(&unet).unwrap();
        assert_eq!(differing(model).unwrap(), [unet]);
    }

    #[test]
    fn the_sum_is_that_of_sha256sum() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap(); // FIPS 180-2, B.1
        let wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(file.path()).unwrap(), wanted);
    }
}
