//! What a data set has shown: true clips with their classes, block by block.
//!
//! ```text
//! DIR/Video/clips.npy or what else [`Clips`] reads
//! DIR/meta_info/All_video_label.npy [blocks, 40] (a class of 1 to 40 for each slot of 5 clips) or [blocks, clips]
//! ```

use crate::data::Clips;
use crate::error::{Error, Result};
use crate::media::Frames;
use crate::signal::npy;
use crate::signal::seed_dv::CLASSES;
use std::path::Path;

/// Rate of SEED-DV's clips.
const RATE_FPS: f64 = 3.0;

/// True clips of one size with their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// In the order of presentation.
    pub clips: Vec<Frames>,
    /// Class of each, from 0.
    pub labels: Vec<usize>,
    /// Clips of a block.
    pub per_block: usize,
}

impl Shown {
    /// Reads the blocks that `wants` asks for.
    ///
    /// Errors: [`Error::Read`]; [`Error::Format`] for a missing part, clips of different sizes, or labels that do not
    /// go with them.
    pub fn open(folder: &Path, wants: impl Fn(usize) -> bool) -> Result<Shown> {
        let (labels, n_blocks) = labels(folder)?;
        let clips = Clips::open(folder)?;
        let ([count, height, width], per_block) = (clips.shape(), clips.per_block());
        let of_block = labels.len() / n_blocks;
        if clips.n_blocks() != n_blocks || !per_block.is_multiple_of(of_block) {
            let detail = format!(
                "holds {} blocks of {per_block} clips, the labels are {n_blocks} blocks of {of_block}",
                clips.n_blocks()
            );
            return Err(Error::format(clips.folder(), detail));
        }
        let mut shown = Shown { clips: Vec::new(), labels: Vec::new(), per_block };
        for block in (0..n_blocks).filter(|&block| wants(block)) {
            for number in 0..per_block {
                let rgb = clips.clip(block, number)?;
                shown.clips.push(Frames::new(count, height, width, rgb, RATE_FPS)?);
                shown.labels.push(labels[block * of_block + number * of_block / per_block]);
            }
        }
        if shown.is_empty() {
            let detail = match n_blocks {
                1 => "has one block, the one that is tested; none is left to learn from".to_string(),
                n => format!("has blocks 0 to {}, none of which is asked for", n - 1),
            };
            return Err(Error::format(folder, detail));
        }
        Ok(shown)
    }

    /// Takes the clips of some blocks out; blocks are counted among those that were read.
    pub fn split_off(&mut self, wants: impl Fn(usize) -> bool) -> Shown {
        let mut parts =
            [(); 2].map(|()| Shown { clips: Vec::new(), labels: Vec::new(), per_block: self.per_block });
        let (clips, labels) = (std::mem::take(&mut self.clips), std::mem::take(&mut self.labels));
        for (at, (clip, label)) in clips.into_iter().zip(labels).enumerate() {
            let part = &mut parts[usize::from(wants(at / self.per_block.max(1)))];
            part.clips.push(clip);
            part.labels.push(label);
        }
        let [kept, taken] = parts;
        *self = kept;
        taken
    }

    /// Blocks of a data set, by its labels.
    ///
    /// Errors: as [`Shown::open`].
    pub fn n_blocks(folder: &Path) -> Result<usize> {
        Ok(labels(folder)?.1)
    }

    /// How many clips.
    pub fn len(&self) -> usize {
        self.clips.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.clips.is_empty()
    }
}

/// Classes from 0, and how many blocks they are of.
fn labels(folder: &Path) -> Result<(Vec<usize>, usize)> {
    let path = folder.join("meta_info").join("All_video_label.npy");
    let array = npy::read::<f64>(&path, None)?;
    let &[n_blocks, of_block] = array.shape.as_slice() else {
        return Err(Error::format(&path, format!("is {:?}, wanted [blocks, slots]", array.shape)));
    };
    if n_blocks == 0 || of_block == 0 {
        return Err(Error::format(&path, "holds no label"));
    }
    let class = |(at, &value): (usize, &f64)| {
        if value.fract() == 0.0 && (1.0..=CLASSES as f64).contains(&value) {
            return Ok(value as usize - 1);
        }
        let detail =
            format!("holds {value} at [{}, {}], wanted classes 1 to {CLASSES}", at / of_block, at % of_block);
        Err(Error::format(&path, detail))
    };
    Ok((array.data.iter().enumerate().map(class).collect::<Result<_>>()?, n_blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_with_their_labels() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        std::fs::create_dir(place.join("meta_info")).unwrap();
        std::fs::create_dir(place.join("Video")).unwrap();
        npy::write(place.join("meta_info/All_video_label.npy"), &[2, 2], &[3.0_f64, 1.0, 40.0, 2.0]).unwrap();
        let missing = Shown::open(place, |_| true).unwrap_err().to_string();
        assert!(missing.contains("holds no clips"), "{missing}");
        let bytes: Vec<u8> = (0..2 * 4 * 3).collect();
        npy::write(place.join("Video/clips.npy"), &[2, 4, 1, 1, 1, 3], &bytes).unwrap();
        let all = Shown::open(place, |_| true).unwrap();
        assert_eq!((all.labels.as_slice(), all.per_block), (&[2, 2, 0, 0, 39, 39, 1, 1][..], 4));
        let last = Shown::open(place, |block| block == 1).unwrap();
        assert_eq!(
            (last.labels.as_slice(), last.clips[3].rgb.as_slice()),
            (&[39, 39, 1, 1][..], &[21, 22, 23][..])
        );
        let mut rest = all;
        assert_eq!(rest.split_off(|block| block == 1), last);
        assert_eq!((rest.len(), rest.labels[0]), (4, 2));
        assert!(Shown::open(place, |block| block == 2).unwrap_err().to_string().contains("blocks 0 to 1"));
        npy::write(place.join("meta_info/All_video_label.npy"), &[2, 2], &[3.0_f64, 0.0, 40.0, 2.0]).unwrap();
        assert!(Shown::open(place, |_| true).unwrap_err().to_string().contains("holds 0 at [0, 1]"));
    }
}
