//! Clips on disk: what was shown, in the order of presentation.
//!
//! ```text
//! DIR/Video/clips.npy        [blocks, clips, frames, height, width, 3] u8: `prepare simulate`
//! DIR/Video/Block0.npy ..    [clips, frames, height, width, 3] u8:         `prepare clips --format npy`
//! DIR/Video/Block0/1.gif ..  a GIF each:                                   both
//! ```
//!
//! `Video` may be called `Video_Gif`, or be left out.

use crate::error::{Error, Result};
use crate::signal::npy::Bytes;
use std::path::{Path, PathBuf};

const PLACES: [&str; 3] = ["Video", "Video_Gif", "."];

/// Clips of one size, by block and number, both from 0. Read when asked for.
#[derive(Clone, Debug)]
pub struct Clips {
    folder: PathBuf,
    source: Source,
    blocks: usize,
    per_block: usize,
    shape: [usize; 3],
}

#[derive(Clone, Debug)]
enum Source {
    Array(Bytes),
    Arrays(Vec<Bytes>),
    #[cfg(feature = "media")]
    Gifs,
}

impl Clips {
    /// Looks for clips in a data set's folder; reads no picture but, of GIFs, the first clip.
    ///
    /// Errors: [`Error::Format`] when there are none, or arrays of another shape; those of the files' readers.
    pub fn open(folder: impl AsRef<Path>) -> Result<Clips> {
        let folder = folder.as_ref();
        std::fs::read_dir(folder).map_err(Error::read(folder))?;
        for place in PLACES {
            let place = if place == "." { folder.to_path_buf() } else { folder.join(place) };
            if place.join("clips.npy").is_file() {
                return of_array(&place);
            }
            if place.join("Block0.npy").is_file() {
                return of_arrays(&place);
            }
            #[cfg(feature = "media")]
            if gif(&place, 0, 0).is_file() {
                return of_gifs(&place);
            }
        }
        let detail = "holds no clips: wanted Video/clips.npy, Video/Block0.npy or Video/Block0/1.gif; \
                      `mindreel prepare simulate` and `prepare clips` make them";
        Err(Error::format(folder, detail))
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Blocks.
    pub fn n_blocks(&self) -> usize {
        self.blocks
    }

    /// Clips of a block.
    pub fn per_block(&self) -> usize {
        self.per_block
    }

    /// Frames, height, width of each.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Bytes `[frames, height, width, 3]` of a clip.
    ///
    /// Errors: [`Error::Shape`] for a block or number there is not; [`Error::Read`]; [`Error::Format`] for a GIF of
    /// another size.
    pub fn clip(&self, block: usize, number: usize) -> Result<Vec<u8>> {
        if block >= self.blocks || number >= self.per_block {
            let [blocks, clips] = [self.blocks, self.per_block];
            let detail = format!("no clip {number} of block {block}: there are {clips} in {blocks} blocks");
            return Err(Error::shape("clips", detail));
        }
        let size: usize = self.shape.iter().product::<usize>() * 3;
        match &self.source {
            Source::Array(array) => array.read((block * self.per_block + number) * size, size),
            Source::Arrays(arrays) => arrays[block].read(number * size, size),
            #[cfg(feature = "media")]
            Source::Gifs => {
                let path = gif(&self.folder, block, number);
                let frames = crate::media::gif::read(&path)?;
                let got = [frames.count, frames.height, frames.width];
                if got != self.shape {
                    let detail = format!(
                        "is {got:?} (frames, height, width), the first clip is {:?}; make them again at one size",
                        self.shape
                    );
                    return Err(Error::format(path, detail));
                }
                Ok(frames.rgb)
            }
        }
    }

    /// The clips of some blocks, block by block.
    ///
    /// Errors: [`Error::Setting`] naming `setting` for a block there is not.
    pub fn of_blocks(&self, setting: &str, blocks: &[usize]) -> Result<Vec<(usize, usize)>> {
        if let Some(block) = blocks.iter().find(|&&block| block >= self.blocks) {
            let detail =
                format!("no block {block}: there are 0 to {} in {}", self.blocks - 1, self.folder.display());
            return Err(Error::setting(setting, detail));
        }
        Ok(blocks.iter().flat_map(|&block| (0..self.per_block).map(move |number| (block, number))).collect())
    }
}

fn of_array(folder: &Path) -> Result<Clips> {
    let path = folder.join("clips.npy");
    let array = Bytes::open(&path)?;
    let &[blocks, per_block, frames, height, width, 3] = array.shape() else {
        let detail = format!("is {:?}, wanted [blocks, clips, frames, height, width, 3]", array.shape());
        return Err(Error::format(path, detail));
    };
    checked(&path, folder, Source::Array(array), blocks, per_block, [frames, height, width])
}

fn of_arrays(folder: &Path) -> Result<Clips> {
    let path = |block: usize| folder.join(format!("Block{block}.npy"));
    let arrays =
        (0..).map(path).take_while(|path| path.is_file()).map(Bytes::open).collect::<Result<Vec<_>>>()?;
    let first = arrays[0].shape().to_vec();
    let &[per_block, frames, height, width, 3] = first.as_slice() else {
        return Err(Error::format(
            path(0),
            format!("is {first:?}, wanted [clips, frames, height, width, 3]"),
        ));
    };
    if let Some(block) = arrays.iter().position(|array| array.shape() != first) {
        let detail = format!("is {:?}, Block0.npy is {first:?}", arrays[block].shape());
        return Err(Error::format(path(block), detail));
    }
    let blocks = arrays.len();
    checked(&path(0), folder, Source::Arrays(arrays), blocks, per_block, [frames, height, width])
}

#[cfg(feature = "media")]
fn of_gifs(folder: &Path) -> Result<Clips> {
    let first = crate::media::gif::read(gif(folder, 0, 0))?;
    let blocks = (0..).take_while(|&block| gif(folder, block, 0).is_file()).count();
    let per_block = (0..).take_while(|&number| gif(folder, 0, number).is_file()).count();
    for block in 1..blocks {
        for (number, wanted) in [(per_block - 1, true), (per_block, false)] {
            let path = gif(folder, block, number);
            if path.is_file() != wanted {
                let detail = format!("Block{block} has not {per_block} clips, as Block0 has");
                return Err(Error::format(folder, detail));
            }
        }
    }
    let shape = [first.count, first.height, first.width];
    checked(&gif(folder, 0, 0), folder, Source::Gifs, blocks, per_block, shape)
}

#[cfg(feature = "media")]
fn gif(folder: &Path, block: usize, number: usize) -> PathBuf {
    folder.join(format!("Block{block}/{}.gif", number + 1))
}

fn checked(
    path: &Path,
    folder: &Path,
    source: Source,
    blocks: usize,
    per_block: usize,
    shape: [usize; 3],
) -> Result<Clips> {
    if blocks == 0 || per_block == 0 || shape.contains(&0) {
        return Err(Error::format(path, "holds no clip"));
    }
    Ok(Clips { folder: folder.to_path_buf(), source, blocks, per_block, shape })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::npy;

    fn bytes(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i * 7 % 251) as u8).collect()
    }

    #[test]
    fn arrays_are_read_clip_by_clip() {
        let folder = tempfile::tempdir().unwrap();
        let video = folder.path().join("Video");
        let all = bytes(2 * 3 * 2 * 4 * 5 * 3);
        npy::write(video.join("clips.npy"), &[2, 3, 2, 4, 5, 3], &all).unwrap();
        let clips = Clips::open(folder.path()).unwrap();
        assert_eq!((clips.n_blocks(), clips.per_block(), clips.shape()), (2, 3, [2, 4, 5]));
        assert_eq!(clips.clip(1, 2).unwrap(), all[5 * 120..]);
        assert!(clips.clip(2, 0).is_err() && clips.clip(0, 3).is_err());
        assert_eq!(clips.of_blocks("train-blocks", &[1]).unwrap(), [(1, 0), (1, 1), (1, 2)]);
        assert_eq!(clips.of_blocks("train-blocks", &[2]).unwrap_err().exit_code(), 2);
        // A block each.
        std::fs::remove_file(video.join("clips.npy")).unwrap();
        for block in 0..2 {
            let part = &all[block * 360..(block + 1) * 360];
            npy::write(video.join(format!("Block{block}.npy")), &[3, 2, 4, 5, 3], part).unwrap();
        }
        assert_eq!(Clips::open(&video).unwrap().clip(1, 2).unwrap(), all[5 * 120..]);
    }

    #[cfg(feature = "media")]
    #[test]
    fn gifs_are_read() {
        use crate::media::{Frames, gif};
        let folder = tempfile::tempdir().unwrap();
        for (block, number) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            let rgb = vec![(40 * block + number) as u8; 2 * 4 * 5 * 3];
            let path = folder.path().join(format!("Video/Block{block}/{number}.gif"));
            gif::write(path, &Frames::new(2, 4, 5, rgb, 3.0).unwrap(), "").unwrap();
        }
        let clips = Clips::open(folder.path()).unwrap();
        assert_eq!((clips.n_blocks(), clips.per_block(), clips.shape()), (2, 2, [2, 4, 5]));
        assert_eq!(clips.clip(1, 1).unwrap(), vec![42; 120]);
        let path = folder.path().join("Video/Block1/2.gif");
        gif::write(&path, &Frames::new(2, 4, 4, vec![0; 96], 3.0).unwrap(), "").unwrap();
        assert!(clips.clip(1, 1).unwrap_err().to_string().contains("[2, 4, 4]"));
        std::fs::remove_file(path).unwrap();
        assert!(Clips::open(folder.path()).unwrap_err().to_string().contains("Block1"));
    }

    #[test]
    fn mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = Clips::open(folder.path()).unwrap_err().to_string();
        assert!(text.contains("holds no clips") && text.contains("prepare clips"), "{text}");
        let path = folder.path().join("Video/clips.npy");
        npy::write(&path, &[2, 3, 4, 5, 3], &bytes(360)).unwrap();
        assert!(Clips::open(folder.path()).unwrap_err().to_string().contains("wanted [blocks"));
        npy::write(&path, &[1, 1, 1, 1, 1, 3], &[1.0_f32, 2.0, 3.0]).unwrap();
        assert!(Clips::open(folder.path()).unwrap_err().to_string().contains("|u1"));
        npy::write(&path, &[1, 1, 1, 4, 5, 3], &bytes(60)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(Clips::open(folder.path()).unwrap_err().exit_code(), 3);
    }
}
