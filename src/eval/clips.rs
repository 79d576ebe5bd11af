//! Folders of clips: GIF, films, folders of PNG frames, in the natural order of their names.
//!
//! ```text
//! DIR/1.gif DIR/2.gif .. DIR/10.gif    or DIR/clip-0000/000.png ..    or DIR/0.mp4 ..    or clips.npy [n, frames, h, w, 3]
//! ```
//!
//! Where a folder holds neither, each of its own PNG is a clip of one frame. Other files (`run.json`, sheets beside
//! clips) are passed over.

use crate::error::{Error, Result};
use crate::files;
use crate::media::{Frames, resize, video};
use crate::signal::npy;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Rate of what does not say it: frames of SEED-DV's clips.
const SEQUENCE_FPS: f64 = 3.0;

/// A clip with the name it is told by.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Name of the file or folder, without an ending.
    pub name: String,
    /// Where it was read.
    pub path: PathBuf,
    /// Its frames.
    pub frames: Frames,
}

/// Every clip of a folder, or of an array `[n, frames, height, width, 3]` of bytes, in natural order of their names.
///
/// Errors: [`Error::Read`]; [`Error::Format`] for a folder without clips and whatever cannot be decoded;
/// [`Error::Setting`] for films without an ffmpeg.
pub fn read(place: &Path) -> Result<Vec<Clip>> {
    if place.extension().is_some_and(|ending| ending == "npy") {
        return read_array(place);
    }
    let clip = |path: PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Clip { name, frames: video::read(&path, SEQUENCE_FPS)?, path })
    };
    list(place)?.into_iter().map(clip).collect()
}

/// Files and folders that are clips.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut clips, mut pictures) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let path = entry.map_err(Error::read(folder))?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if is_hidden {
            continue;
        } else if path.is_dir() {
            if holds_pictures(&path)? {
                clips.push(path);
            }
        } else if ending == "gif" || video::ENDINGS.contains(&ending.as_str()) {
            clips.push(path);
        } else if ending == "png" {
            pictures.push(path);
        }
    }
    let mut found = if clips.is_empty() { pictures } else { clips };
    if found.is_empty() {
        let detail = "holds no clips: wanted .gif, .mp4, folders of .png, or .png";
        return Err(Error::format(folder, detail));
    }
    files::sort_naturally(&mut found);
    Ok(found)
}

fn holds_pictures(folder: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(folder).map_err(Error::read(folder))?;
    Ok(entries.any(|entry| entry.is_ok_and(|entry| video::is_picture(&entry.path()))))
}

fn read_array(path: &Path) -> Result<Vec<Clip>> {
    let array = npy::read::<f32>(path, None)?;
    let &[n, count, height, width, 3] = array.shape.as_slice() else {
        let detail = format!("is {:?}, wanted clips [n, frames, height, width, 3]", array.shape);
        return Err(Error::format(path, detail));
    };
    if array.data.is_empty() {
        return Err(Error::format(path, format!("is {:?}: holds no clip", array.shape)));
    }
    if let Some(value) = array.data.iter().find(|&&v| !(0.0..=255.0).contains(&v) || v.fract() != 0.0) {
        return Err(Error::format(path, format!("holds {value}, wanted bytes of 0 to 255")));
    }
    let size = count * height * width * 3;
    let clip = |at: usize| {
        let rgb = array.data[at * size..(at + 1) * size].iter().map(|&v| v as u8).collect();
        let frames = Frames::new(count, height, width, rgb, SEQUENCE_FPS)?;
        Ok(Clip { name: format!("{at:04}"), path: path.to_path_buf(), frames })
    };
    (0..n).map(clip).collect()
}

/// Holds predictions against the truth, pair by pair in their order. With `resize`, predictions of another size are
/// brought to the truth's.
///
/// Errors: [`Error::Format`] for another number of clips or frames, and, without `resize`, for frames of another size.
pub fn pair(predicted: &mut [Clip], truth: &[Clip], places: [&Path; 2], resize: bool) -> Result<()> {
    if predicted.len() != truth.len() {
        let [ours, theirs] = places.map(|place| place.display());
        let (n, wanted) = (predicted.len(), truth.len());
        let detail =
            format!("holds {n} clips, {theirs} holds {wanted}; each decoded clip wants the one shown");
        return Err(Error::format(ours.to_string(), detail));
    }
    for (clip, truth) in predicted.iter_mut().zip(truth) {
        let (a, b) = (&clip.frames, &truth.frames);
        if a.count != b.count {
            let detail = format!("has {} frames, {} has {}", a.count, truth.path.display(), b.count);
            return Err(Error::format(&clip.path, detail));
        }
        if (a.height, a.width) == (b.height, b.width) {
            continue;
        }
        if !resize {
            let detail = format!(
                "frames are {} x {}, those of {} {} x {}; --resize brings them to the truth's size",
                a.width,
                a.height,
                truth.path.display(),
                b.width,
                b.height
            );
            return Err(Error::format(&clip.path, detail));
        }
        clip.frames = resized(a, b.height, b.width)?;
    }
    Ok(())
}

/// The first pair of different names, where other names are on both sides: a clip may be missing on one of them. Of
/// names that differ throughout, the last number counts, where it tells all clips of a side apart: `clip-3` is `0003`.
pub fn at_odds<'a>(predicted: &'a [Clip], truth: &'a [Clip]) -> Option<[&'a str; 2]> {
    let names = |clips: &'a [Clip]| clips.iter().map(|clip| clip.name.as_str()).collect::<Vec<_>>();
    let (ours, theirs) = (names(predicted), names(truth));
    let [mut a, mut b] = [&ours, &theirs].map(|names| names.clone());
    let is_shared = |a: &[&str], b: &[&str]| {
        let known: BTreeSet<&str> = b.iter().copied().collect();
        a.iter().any(|name| known.contains(name))
    };
    if !is_shared(&a, &b) {
        let [x, y] =
            [&a, &b].map(|names| names.iter().map(|name| last_number(name)).collect::<Option<Vec<_>>>());
        (a, b) = (x?, y?);
        let apart = |numbers: &[&str]| numbers.iter().collect::<BTreeSet<_>>().len() == numbers.len();
        if !apart(&a) || !apart(&b) || !is_shared(&a, &b) {
            return None;
        }
    }
    let at = a.iter().zip(&b).position(|(a, b)| a != b)?;
    Some([ours[at], theirs[at]])
}

/// The last digits of a name, zeros before them left out.
fn last_number(name: &str) -> Option<&str> {
    let end = name.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = name[..end].trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let digits = &name[start..end];
    Some(&digits[digits.len() - digits.trim_start_matches('0').len().max(1)..])
}

/// A clip of another size.
///
/// Errors: as [`Frames::new`].
pub fn resized(frames: &Frames, height: usize, width: usize) -> Result<Frames> {
    let each = frames.rgb.chunks_exact(frames.height * frames.width * 3);
    let rgb = each.flat_map(|rgb| resize::bilinear(rgb, frames.height, frames.width, height, width));
    Frames::new(frames.count, height, width, rgb.collect(), frames.frame_rate_fps)
}

/// The mean of clips of one size, value by value.
///
/// Errors: [`Error::Shape`] without clips, or where one has another size.
pub fn mean<'a>(clips: impl IntoIterator<Item = &'a Frames>) -> Result<Frames> {
    let mut clips = clips.into_iter();
    let first = clips.next().ok_or_else(|| Error::shape("mean clip", "of no clips"))?;
    let mut sums: Vec<u32> = first.rgb.iter().map(|&v| u32::from(v)).collect();
    let mut n = 1;
    for clip in clips {
        if [clip.count, clip.height, clip.width] != [first.count, first.height, first.width] {
            return Err(Error::shape("mean clip", "clips differ in size"));
        }
        sums.iter_mut().zip(&clip.rgb).for_each(|(sum, &v)| *sum += u32::from(v));
        n += 1;
    }
    let rgb = sums.into_iter().map(|sum| ((sum + n / 2) / n) as u8).collect();
    Frames::new(first.count, first.height, first.width, rgb, first.frame_rate_fps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{gif, png};

    fn grey(count: usize, height: usize, width: usize, value: u8) -> Frames {
        Frames::new(count, height, width, vec![value; count * height * width * 3], 3.0).unwrap()
    }

    #[test]
    fn folders_of_each_kind_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        for n in [10_u8, 2, 1] {
            gif::write(place.join(format!("{n}.gif")), &grey(2, 8, 9, n), "").unwrap();
        }
        png::write_frames(place.join("3"), &grey(2, 8, 9, 3), "").unwrap();
        png::write(place.join("sheet.png"), &[9; 3], 1, 1, "").unwrap();
        std::fs::write(place.join("run.json"), "{}").unwrap();
        std::fs::create_dir(place.join("empty")).unwrap();
        let clips = read(place).unwrap();
        assert_eq!(clips.iter().map(|clip| clip.name.as_str()).collect::<Vec<_>>(), ["1", "2", "3", "10"]);
        assert_eq!(clips.iter().map(|clip| clip.frames.rgb[0]).collect::<Vec<_>>(), [1, 2, 3, 10]);
        assert_eq!((clips[2].frames.count, clips[2].frames.height, clips[2].frames.width), (2, 8, 9));
        let pictures = read(&place.join("3")).unwrap();
        assert_eq!((pictures.len(), pictures[0].frames.count), (2, 1));
        let array = place.join("clips.npy");
        npy::write(&array, &[2, 1, 1, 2, 3], &(0..12).collect::<Vec<u8>>()).unwrap();
        assert_eq!(read(&array).unwrap()[1].frames.rgb, [6, 7, 8, 9, 10, 11]);
        npy::write(&array, &[1, 1, 1, 1, 3], &[0.5_f32; 3]).unwrap();
        assert!(read(&array).unwrap_err().to_string().contains("holds 0.5"));
        assert!(read(&place.join("empty")).unwrap_err().to_string().contains("holds no clips"));
        assert_eq!(read(&place.join("nowhere")).unwrap_err().exit_code(), 3);
        std::fs::write(place.join("2.gif"), b"GIF89a").unwrap();
        let broken = read(place).unwrap_err().to_string();
        assert!(broken.contains("2.gif") && broken.contains("no whole gif"), "{broken}");
    }

    #[test]
    fn names_that_tell_of_another_order_are_seen() {
        let clips = |names: &[&str]| -> Vec<Clip> {
            let clip =
                |name: &&str| Clip { name: name.to_string(), path: "x".into(), frames: grey(1, 1, 1, 0) };
            names.iter().map(clip).collect()
        };
        let odd = |ours: &[&str], theirs: &[&str]| {
            at_odds(&clips(ours), &clips(theirs)).map(|pair| pair.map(String::from))
        };
        assert_eq!(odd(&["0", "1", "3"], &["0", "1", "2"]).unwrap(), ["3", "2"]);
        assert_eq!(odd(&["0000", "0001", "0003"], &["0", "1", "2"]).unwrap(), ["0003", "2"]);
        assert_eq!(odd(&["clip-1", "clip-2"], &["0000", "0001"]).unwrap(), ["clip-1", "0000"]);
        for (ours, theirs) in [
            (["clip-0", "clip-1"], ["0000", "0001"]),
            (["cat", "dog"], ["0", "1"]),
            (["a-v2", "b-v2"], ["c-v2", "d-v2"]),
            (["clip-5", "clip-6"], ["0", "1"]),
        ] {
            assert_eq!(odd(&ours, &theirs), None, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn pairs_are_held_against_each_other() {
        let clip = |frames: Frames| Clip { name: "x".into(), path: "x.gif".into(), frames };
        let truth = [clip(grey(2, 4, 6, 1))];
        let places = [Path::new("pred"), Path::new("truth")];
        let mut ours = [clip(grey(2, 8, 12, 1))];
        let refused = pair(&mut ours, &truth, places, false).unwrap_err().to_string();
        assert!(refused.contains("12 x 8") && refused.contains("--resize"), "{refused}");
        pair(&mut ours, &truth, places, true).unwrap();
        assert_eq!((ours[0].frames.height, ours[0].frames.width), (4, 6));
        let refused = pair(&mut [], &truth, places, true).unwrap_err().to_string();
        assert!(refused.contains("pred: holds 0 clips, truth holds 1"), "{refused}");
        assert!(pair(&mut [clip(grey(3, 4, 6, 1))], &truth, places, true).is_err());
    }

    #[test]
    fn names_at_odds_are_told() {
        let clips = |names: &[&str]| -> Vec<Clip> {
            let clip =
                |name: &&str| Clip { name: name.to_string(), path: "x".into(), frames: grey(1, 1, 1, 0) };
            names.iter().map(clip).collect()
        };
        let truth = clips(&["0", "1", "2"]);
        assert_eq!(at_odds(&clips(&["0", "1", "2"]), &truth), None);
        assert_eq!(at_odds(&clips(&["a", "b", "c"]), &truth), None, "names of another kind");
        assert_eq!(at_odds(&clips(&["0", "2", "3"]), &truth), Some(["2", "1"]));
    }

    #[test]
    fn means_are_rounded() {
        let clips = [grey(1, 1, 1, 1), grey(1, 1, 1, 2), grey(1, 1, 1, 2)];
        assert_eq!(mean(&clips).unwrap().rgb, [2; 3]);
        assert!(mean([]).is_err() && mean([&grey(1, 1, 1, 0), &grey(1, 1, 2, 0)]).is_err());
    }
}
