//! Pictures out: frames as GIF, MP4 or PNG, each with the settings that made it; and in, where clips are cut from films.
//!
//! ```text
//! .mp4 .gif, folder of .png ─video─> chosen frames ─resize─> u8 [height, width, RGB]
//! .jpg .png ─picture────────────────────────────────resize─┘
//! f32 in [0, 1] ──> Frames [count, height, width, RGB] ──> clip.gif | clip.mp4 | clip/000.png …
//!                                                     └──> sheet: rows of frames in one picture
//! u8 [count, height, width, RGB] ─flow─> how fast a clip is
//! ```

pub mod frames;

pub mod flow;
pub mod gif;
pub mod mp4;
pub mod picture;
pub mod png;
pub mod resize;
pub mod video;

pub use frames::{Frames, Rounding};

use crate::error::{Error, Result, nearest};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How a clip is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One file, 256 colours a frame, opens everywhere: what EEG2Video writes and its metrics read.
    #[default]
    Gif,
    /// One H.264 file.
    Mp4,
    /// A folder of lossless frames.
    Png,
}

impl Format {
    /// What the user types, which is the file's extension too.
    pub fn name(self) -> &'static str {
        match self {
            Format::Gif => "gif",
            Format::Mp4 => "mp4",
            Format::Png => "png",
        }
    }

    /// Every format.
    pub const ALL: [Format; 3] = [Format::Gif, Format::Mp4, Format::Png];
}

impl std::str::FromStr for Format {
    type Err = Error;

    /// `gif`, `mp4` or `png`, in any case.
    fn from_str(text: &str) -> Result<Format> {
        let lower = text.to_ascii_lowercase();
        Format::ALL.into_iter().find(|format| format.name() == lower).ok_or_else(|| {
            let hint = match nearest(&lower, Format::ALL.map(Format::name)) {
                Some(near) => format!("did you mean {near}?"),
                None => "give gif, mp4 or png".to_string(),
            };
            Error::setting("--format", format!("\"{}\" is not known; {hint}", text.escape_debug()))
        })
    }
}

/// Writes a clip of one small frame aside, so that what [`save`] would refuse of any clip is known before one is made.
///
/// Errors: those of [`save`].
pub fn rehearse(format: Format, frame_rate_fps: f64) -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::write(std::env::temp_dir()))?;
    let frames = Frames::new(1, 16, 16, vec![0; 16 * 16 * 3], frame_rate_fps)?;
    save(&frames, folder.path().join("clip"), format, "").map(drop)
}

/// Writes `frames` as `STEM.gif`, `STEM.mp4`, or `STEM/000.png`, `STEM/001.png` and so on, `comment` inside
/// each; returns what was written, in order. A file appears only when it is whole; one that is there is
/// replaced (see [`crate::files::refuse_existing`]).
///
/// Errors: [`Error::Shape`] when the frames contradict themselves; [`Error::Setting`] for a rate the format
/// cannot say or a missing ffmpeg; [`Error::Write`].
pub fn save(frames: &Frames, stem: impl AsRef<Path>, format: Format, comment: &str) -> Result<Vec<PathBuf>> {
    let stem = stem.as_ref();
    let mut path = OsString::from(stem);
    path.push("."); // not `with_extension`, which would eat the end of "clip.v2"
    path.push(format.name());
    let path = PathBuf::from(path);
    match format {
        Format::Gif => gif::write(&path, frames, comment)?,
        Format::Mp4 => mp4::write(&path, frames, comment)?,
        Format::Png => return png::write_frames(stem, frames, comment),
    }
    Ok(vec![path])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_from_flags() {
        assert_eq!("GIF".parse::<Format>().unwrap(), Format::Gif);
        assert!("avi".parse::<Format>().unwrap_err().to_string().contains("give gif, mp4 or png"));
        assert!("gfi".parse::<Format>().unwrap_err().to_string().contains("did you mean gif"));
        assert!("mp44".parse::<Format>().unwrap_err().to_string().contains("did you mean mp4"));
    }

    #[test]
    fn files_are_named_after_the_stem() {
        let folder = tempfile::tempdir().unwrap();
        let frames = Frames::new(2, 2, 4, vec![7; 48], 3.0).unwrap();
        let stem = folder.path().join("clip.v2");
        let gif = save(&frames, &stem, Format::Gif, "").unwrap();
        assert_eq!(gif, [folder.path().join("clip.v2.gif")]);
        let png = save(&frames, &stem, Format::Png, "").unwrap();
        assert_eq!(png, [stem.join("000.png"), stem.join("001.png")]);
        assert!(gif.iter().chain(&png).all(|path| path.is_file()));
    }
}
