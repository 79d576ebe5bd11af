//! Checkpoint file -> named views. Nothing is copied: files are mapped into memory, a [`View`] borrows.
//!
//! ```text
//! folder or file -> Checkpoint::open -> renamed (spelling variants) -> check (wanted names and shapes) -> View
//! ```
//!
//! The format is safetensors as Hugging Face lays it out: one file, or shards with `*.safetensors.index.json`.
//! Pickle (`.bin`, `.pt`, `.ckpt`) is refused: it can run code.

mod check;
mod header;
mod names;
pub mod random;
mod values;
mod write;

pub use check::{Wanted, check, is_float};
pub use names::{
    bert_names, blip2_names, clip_text_names, clip_vision_names, eeg_encoder_names, opt_names, plain,
    qformer_names, vae_names, videomae_names, vit_names,
};
pub use safetensors::Dtype;
pub use values::{fill_f32, refuse_nonfinite, scan_finite, to_f32, to_i64};
pub use write::{NewTensor, Sink, write};

use crate::error::{Error, Result, bytes as readable};
use crate::files;
use header::Tensor;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Component, Path, PathBuf};

/// The names looked for in a folder, best first; each also with `.index.json` behind it.
const USUAL_NAMES: [&str; 2] = ["diffusion_pytorch_model.safetensors", "model.safetensors"];
const PICKLES: [&str; 6] = ["bin", "pt", "pth", "ckpt", "pickle", "pkl"];
const REFUSE_PICKLE: &str = "pickle can run code; convert with safetensors.torch.save_file";
const INDEX_LIMIT_BYTES: u64 = 64 << 20;

/// An open checkpoint: the names, number types and shapes of its tensors, their bytes mapped.
///
/// The files must not be cut short while this lives: the system ends a process that touches a page whose file
/// is gone. Our own writer replaces files by renaming, which is safe.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    maps: Vec<memmap2::Mmap>,
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Entry {
    tensor: Tensor,
    map_idx: usize,
}

/// One tensor of a [`Checkpoint`].
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The name after [`Checkpoint::renamed`].
    pub name: &'a str,
    /// The name in the file; what messages show.
    pub file_name: &'a str,
    /// Number type in the file.
    pub dtype: Dtype,
    /// Row-major shape.
    pub shape: &'a [usize],
    /// Little-endian values; not aligned to anything.
    pub bytes: &'a [u8],
}

impl Checkpoint {
    /// Opens a `.safetensors` file, a `*.safetensors.index.json`, or a folder with either.
    ///
    /// In a folder: `diffusion_pytorch_model.safetensors`, `model.safetensors`, their shards by index, any single
    /// index, any single `*.safetensors`, in this order.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for pickle, a header that is too large, malformed, overlapping
    /// or shorter or longer than the file, and an index that does not fit its shards.
    pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(Error::read(path))?;
        let file = if metadata.is_dir() { find_in_folder(path)? } else { path.to_path_buf() };
        if PICKLES.iter().any(|ending| has_extension(&file, ending)) {
            return Err(Error::format(&file, REFUSE_PICKLE));
        }
        let shards = if has_extension(&file, "json") { read_index(&file)? } else { Shards::one(&file) };
        Checkpoint::open_shards(path, &file, shards)
    }

    fn open_shards(path: &Path, index: &Path, shards: Shards) -> Result<Checkpoint> {
        let (mut maps, mut tensors, mut metadata) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for (shard, promised) in shards.0 {
            let map = map_file(&shard)?;
            let header = header::parse(&shard, &map)?;
            let names: BTreeSet<&str> = header.tensors.iter().map(|t| t.name.as_str()).collect();
            if let Some(name) = promised.iter().find(|name| !names.contains(name.as_str())) {
                let detail = format!("says {} is in {}, it is not there", shown(name), shard.display());
                return Err(Error::format(index, detail));
            }
            for tensor in header.tensors {
                let name = tensor.name.clone();
                if tensors.insert(name.clone(), Entry { tensor, map_idx: maps.len() }).is_some() {
                    return Err(Error::format(
                        &shard,
                        format!("{} is in an earlier shard too", shown(&name)),
                    ));
                }
            }
            metadata.extend(header.metadata);
            maps.push(map);
        }
        Ok(Checkpoint { path: path.to_path_buf(), maps, tensors, metadata })
    }

    /// Gives tensors other names: `rename` returns the new name, or `None` to keep it.
    ///
    /// Errors: [`Error::Weights`] when two tensors would share a name, with both names in the file.
    pub fn renamed(self, rename: impl Fn(&str) -> Option<String>) -> Result<Checkpoint> {
        let mut tensors: BTreeMap<String, Entry> = BTreeMap::new();
        for (name, entry) in self.tensors {
            let name = rename(&name).unwrap_or(name);
            if let Some(other) = tensors.get(&name) {
                let (one, two) = (shown(&other.tensor.name), shown(&entry.tensor.name));
                let detail = format!("{one} and {two} both mean {}; remove one of them", shown(&name));
                return Err(Error::weights(&self.path, detail));
            }
            tensors.insert(name, entry);
        }
        Ok(Checkpoint { tensors, ..self })
    }

    /// The file or folder given to [`Checkpoint::open`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<View<'_>> {
        self.tensors.get_key_value(name).map(|(name, entry)| self.view(name, entry))
    }

    /// All tensors, in alphabetical order of their names.
    pub fn views(&self) -> impl Iterator<Item = View<'_>> {
        self.tensors.iter().map(|(name, entry)| self.view(name, entry))
    }

    /// The text entries of the header (`__metadata__`), those of all shards together.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Bytes of all tensors together, without headers.
    pub fn size_bytes(&self) -> u64 {
        self.tensors.values().map(|entry| entry.tensor.range.len() as u64).sum()
    }

    fn view<'a>(&'a self, name: &'a str, entry: &'a Entry) -> View<'a> {
        let Tensor { name: file_name, dtype, shape, range } = &entry.tensor;
        // The header was checked against the file's length, so the range is inside the map.
        let bytes = &self.maps[entry.map_idx][range.clone()];
        View { name, file_name, dtype: *dtype, shape, bytes }
    }
}

impl View<'_> {
    /// Product of the shape; 1 for a scalar.
    pub fn n_values(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Files to read, each with the names an index promises in it.
struct Shards(BTreeMap<PathBuf, Vec<String>>);

impl Shards {
    fn one(file: &Path) -> Shards {
        Shards(BTreeMap::from([(file.to_path_buf(), Vec::new())]))
    }
}

fn find_in_folder(folder: &Path) -> Result<PathBuf> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let name = entry.map_err(Error::read(folder))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    let usual = USUAL_NAMES.map(String::from).into_iter();
    for candidate in usual.chain(USUAL_NAMES.map(|name| format!("{name}.index.json"))) {
        if names.contains(&candidate) {
            return Ok(folder.join(candidate));
        }
    }
    for ending in [".safetensors.index.json", ".safetensors"] {
        match names.iter().filter(|name| name.ends_with(ending)).collect::<Vec<_>>()[..] {
            [] => {}
            [only] => return Ok(folder.join(only)),
            [first, second, ..] => {
                let detail =
                    format!("holds several checkpoints ({}, {}, …); name one", shown(first), shown(second));
                return Err(Error::format(folder, detail));
            }
        }
    }
    let is_pickle = |name: &&String| PICKLES.iter().any(|ending| has_extension(Path::new(name), ending));
    if let Some(pickle) = names.iter().find(is_pickle) {
        return Err(Error::format(folder.join(pickle), REFUSE_PICKLE));
    }
    Err(Error::format(folder, "holds no weights; looked for model.safetensors and other *.safetensors"))
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

fn read_index(path: &Path) -> Result<Shards> {
    let content = files::read_small(path, INDEX_LIMIT_BYTES)?;
    let index: Index = serde_json::from_slice(&content)
        .map_err(|e| Error::format(path, format!("is no index of shards: {e}")))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut shards: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        if !is_plain_name(&file) || !file.ends_with(".safetensors") {
            let detail = format!(
                "puts {} in {}, wanted a .safetensors file of its folder",
                shown(&tensor),
                shown(&file)
            );
            return Err(Error::format(path, detail));
        }
        shards.entry(folder.join(file)).or_default().push(tensor);
    }
    if shards.is_empty() {
        return Err(Error::format(path, "names no shards"));
    }
    for promised in shards.values_mut() {
        promised.sort(); // the map has no order; a message should have one
    }
    Ok(Shards(shards))
}

/// One name, nothing that leads out of the folder on any system.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    !name.contains(['/', '\\', ':', '\0'])
        && matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|got| got.eq_ignore_ascii_case(wanted))
}

/// Maps a plain file. The only `unsafe` of this room.
fn map_file(path: &Path) -> Result<memmap2::Mmap> {
    // Looked at before opening: opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(Error::read(path))?.is_file() {
        return Err(Error::format(path, "is not a plain file"));
    }
    let file = File::open(path).map_err(Error::read(path))?;
    let size_bytes = file.metadata().map_err(Error::read(path))?.len();
    if size_bytes < 8 {
        let size = readable(size_bytes);
        return Err(Error::format(path, format!("has {size}, a header alone is longer; download it again")));
    }
    // SAFETY: the map is read-only and private to the Checkpoint. Bytes that another process changes meanwhile
    // can change values, never bounds: lengths were taken once and every view is checked against them. A file
    // cut short meanwhile ends the process by a signal, as documented on `Checkpoint`.
    unsafe { memmap2::Mmap::map(&file) }.map_err(Error::read(path))
}

/// A name from outside, in quotes, control characters escaped, not longer than a line.
fn shown(name: &str) -> String {
    const LONGEST: usize = 160;
    match name.char_indices().nth(LONGEST) {
        None => format!("{name:?}"),
        Some((cut, _)) => format!("{:?}…", &name[..cut]),
    }
}

#[cfg(test)]
mod tests;
