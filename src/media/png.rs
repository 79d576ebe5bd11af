//! PNG: lossless frames with their settings in a text chunk, sheets of several clips, and a reader.
//!
//! Settings stand under the keyword `Comment`, as tEXt when they fit Latin-1 and as iTXt otherwise, where
//! `identify -verbose` and `exiftool` show them. Format: W3C, "Portable Network Graphics", third edition.

use super::frames::{self, Frames};
use crate::error::{Error, Result};
use crate::files;
use png::{BitDepth, ColorType, Decoder, DecodingError, Encoder, EncodingError, Limits, Transformations};
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

/// The keyword settings stand under.
const KEYWORD: &str = "Comment";
/// Largest text chunks read, beyond what the pixels take, in bytes.
const MAX_EXTRA_BYTES: usize = 16 << 20;

/// Writes one picture `[height, width, 3]`, whole or not at all. An empty comment is left out.
///
/// Errors: as [`Frames::new`] for one frame; [`Error::Write`].
pub fn write(path: impl AsRef<Path>, rgb: &[u8], height: usize, width: usize, comment: &str) -> Result<()> {
    let path = path.as_ref();
    check(rgb, height, width)?;
    files::write_atomically(path, |file| {
        encode_into(file, rgb, height, width, comment).map_err(|error| match error {
            EncodingError::IoError(source) => Error::write(path)(source),
            other => Error::write(path)(std::io::Error::other(other)),
        })
    })
}

/// The bytes of a picture `[height, width, 3]`.
///
/// Errors: as [`Frames::new`] for one frame.
pub fn encode(rgb: &[u8], height: usize, width: usize) -> Result<Vec<u8>> {
    check(rgb, height, width)?;
    let mut bytes = Vec::new();
    encode_into(&mut bytes, rgb, height, width, "")
        .map_err(|error| Error::shape("png::encode", error.to_string()))?;
    Ok(bytes)
}

fn check(rgb: &[u8], height: usize, width: usize) -> Result<()> {
    let fits = frames::within_limits(1, height, width);
    fits.map_err(|detail| Error::shape("png::write", detail))?;
    if rgb.len() != height * width * 3 {
        return Err(Error::shape(
            "png::write",
            format!("{} bytes are not [{height}, {width}, 3]", rgb.len()),
        ));
    }
    Ok(())
}

fn encode_into(
    file: impl Write,
    rgb: &[u8],
    height: usize,
    width: usize,
    comment: &str,
) -> std::result::Result<(), EncodingError> {
    let mut encoder = Encoder::new(file, width as u32, height as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    if !comment.is_empty() {
        let (keyword, text) = (KEYWORD.to_string(), comment.to_string());
        if comment.chars().all(|c| u32::from(c) < 256 && c != '\0') {
            encoder.add_text_chunk(keyword, text)?;
        } else {
            encoder.add_itxt_chunk(keyword, text.replace('\0', " "))?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()
}

/// Writes every frame of a clip as `FOLDER/000.png`, `FOLDER/001.png` and so on; returns the paths.
///
/// Errors: as [`Frames::check`]; [`Error::Write`]; frames before the failing one stay.
pub fn write_frames(folder: impl AsRef<Path>, frames: &Frames, comment: &str) -> Result<Vec<PathBuf>> {
    frames.check()?;
    let size = frames.height * frames.width * 3;
    let paths = frames.rgb.chunks_exact(size).enumerate().map(|(idx, rgb)| {
        let path = folder.as_ref().join(format!("{idx:03}.png"));
        write(&path, rgb, frames.height, frames.width, comment)?;
        Ok(path)
    });
    paths.collect()
}

/// Lays clips out in one picture: a row per clip, its frames from left to right, `margin` white pixels
/// between and around them; rows of shorter clips end in white. Returns a single frame.
///
/// Errors: [`Error::Shape`] when there is no clip, frames differ in size, or the sheet would exceed the
/// limits of a picture.
pub fn sheet(clips: &[Frames], margin: usize) -> Result<Frames> {
    let Some(first) = clips.first() else { return Err(Error::shape("sheet", "no clip")) };
    let (height, width) = (first.height, first.width);
    for (idx, clip) in clips.iter().enumerate() {
        clip.check()?;
        if (clip.height, clip.width) != (height, width) {
            let detail =
                format!("clip {idx} is {} × {}, clip 0 is {width} × {height}", clip.width, clip.height);
            return Err(Error::shape("sheet", detail));
        }
    }
    let columns = clips.iter().map(|clip| clip.count).max().unwrap_or(0);
    let side = |n: usize, length: usize| {
        length
            .checked_add(margin)
            .and_then(|step| step.checked_mul(n)?.checked_add(margin))
            .unwrap_or(usize::MAX)
    };
    let (sheet_height, sheet_width) = (side(clips.len(), height), side(columns, width));
    frames::within_limits(1, sheet_height, sheet_width)
        .map_err(|detail| Error::shape("sheet", detail + "; show fewer clips or frames"))?;
    let mut rgb = vec![255u8; sheet_height * sheet_width * 3];
    for (row, clip) in clips.iter().enumerate() {
        for (column, frame) in clip.rgb.chunks_exact(height * width * 3).enumerate() {
            let corner =
                (margin + row * (height + margin)) * sheet_width + margin + column * (width + margin);
            for (line, pixels) in frame.chunks_exact(width * 3).enumerate() {
                rgb[(corner + line * sheet_width) * 3..][..width * 3].copy_from_slice(pixels);
            }
        }
    }
    Frames::new(1, sheet_height, sheet_width, rgb, first.frame_rate_fps)
}

/// As [`sheet`], of so many clips, and of so many of their first frames, as one picture holds: what shows a run on its
/// way ends none.
///
/// Errors: those of [`sheet`] but for its size.
pub fn overview(clips: &[Frames], margin: usize) -> Result<Frames> {
    let Some(first) = clips.first() else { return sheet(clips, margin) };
    let (height, width) = (first.height.max(1), first.width.max(1));
    let margin = margin.min(frames::MAX_SIDE.saturating_sub(height.max(width)) / 2);
    let most = |length: usize| ((frames::MAX_SIDE - margin) / (length + margin)).max(1);
    let (mut rows, mut columns) = (clips.len().min(most(height)), most(width));
    columns = columns.min(clips[..rows].iter().map(|clip| clip.count).max().unwrap_or(1));
    let pixels = |rows: usize, columns: usize| {
        ((rows * (height + margin) + margin) * (columns * (width + margin) + margin)) as u64
    };
    while pixels(rows, columns) > frames::MAX_PIXELS && rows * columns > 1 {
        if rows > columns { rows -= 1 } else { columns -= 1 }
    }
    let cut = |clip: &Frames| {
        let count = clip.count.min(columns);
        let rgb = clip.rgb[..clip.rgb.len() / clip.count.max(1) * count].to_vec();
        Frames::new(count, clip.height, clip.width, rgb, clip.frame_rate_fps)
    };
    sheet(&clips[..rows].iter().map(cut).collect::<Result<Vec<_>>>()?, margin)
}

/// Reads a picture of any colour type as one frame (at 1 frame per second), with its comment. Transparency
/// is dropped; of an animated file the first picture is read.
///
/// Errors: [`Error::Read`]; [`Error::Format`] when the file is damaged or beyond the limits, which is said
/// before anything is allocated.
pub fn read(path: impl AsRef<Path>) -> Result<(Frames, Option<String>)> {
    let path = path.as_ref();
    let wrong = |error: DecodingError| match error {
        DecodingError::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Error::read(path)(e),
        other => Error::format(path, format!("is no whole png: {other}; compare its size with the source")),
    };
    if !std::fs::metadata(path).map_err(Error::read(path))?.is_file() {
        return Err(Error::format(path, "is not a file"));
    }
    let reader = BufReader::new(File::open(path).map_err(Error::read(path))?);
    let mut decoder = Decoder::new(reader);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let header = decoder.read_header_info().map_err(wrong)?;
    let (width, height) = (header.width as usize, header.height as usize);
    frames::within_limits(1, height, width).map_err(|detail| Error::format(path, detail))?;
    decoder.set_limits(Limits { bytes: height * width * 8 + MAX_EXTRA_BYTES });
    let mut reader = decoder.read_info().map_err(wrong)?;
    let size = reader.output_buffer_size().ok_or_else(|| wrong(DecodingError::LimitsExceeded))?;
    let mut pixels = vec![0u8; size];
    let info = reader.next_frame(&mut pixels).map_err(wrong)?;
    reader.finish().map_err(wrong)?;
    if (info.width as usize, info.height as usize) != (width, height) {
        return Err(Error::format(path, "its first picture does not fill it"));
    }
    pixels.truncate(info.buffer_size());
    let rgb: Vec<u8> = match info.color_type {
        ColorType::Rgb => pixels,
        ColorType::Rgba => pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        ColorType::Grayscale => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::GrayscaleAlpha => pixels.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        ColorType::Indexed => return Err(Error::format(path, "its palette was not expanded")),
    };
    let texts = reader.info();
    let latin = texts.uncompressed_latin1_text.iter().find(|chunk| chunk.keyword == KEYWORD);
    let wide = texts.utf8_text.iter().find(|chunk| chunk.keyword == KEYWORD);
    let comment = latin.map(|c| c.text.clone()).or_else(|| wide.and_then(|c| c.get_text().ok()));
    Ok((Frames::new(1, height, width, rgb, 1.0)?, comment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(count: usize, height: usize, width: usize, seed: usize) -> Frames {
        let rgb = (0..count * height * width * 3).map(|i| (i * 31 + seed * 7) as u8).collect();
        Frames::new(count, height, width, rgb, 3.0).unwrap()
    }

    #[test]
    fn a_picture_survives_the_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let frames = clip(3, 7, 5, 1);
        for comment in ["", "seed 42; 62 × 200 Hz", "µV → 種"] {
            let paths = write_frames(folder.path(), &frames, comment).unwrap();
            assert_eq!(paths.len(), 3);
            for (idx, path) in paths.iter().enumerate() {
                let (back, text) = read(path).unwrap();
                assert_eq!(
                    (back.height, back.width, back.rgb.as_slice()),
                    (7, 5, frames.frame(idx).unwrap())
                );
                assert_eq!(text.unwrap_or_default(), comment);
            }
        }
        assert_eq!(encode(&frames.rgb[..105], 7, 5).unwrap(), {
            write(folder.path().join("b.png"), &frames.rgb[..105], 7, 5, "").unwrap();
            std::fs::read(folder.path().join("b.png")).unwrap()
        });
        assert!(write(folder.path().join("a.png"), &[0; 5], 1, 2, "").is_err());
        assert!(write(folder.path().join("a.png"), &[], 0, 2, "").is_err());
    }

    #[test]
    fn grey_and_transparent_pictures_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        for (colour, pixels, wanted) in [
            (ColorType::Grayscale, vec![9, 200], [9, 9, 9, 200, 200, 200]),
            (ColorType::GrayscaleAlpha, vec![9, 0, 200, 255], [9, 9, 9, 200, 200, 200]),
            (ColorType::Rgba, vec![1, 2, 3, 0, 4, 5, 6, 255], [1, 2, 3, 4, 5, 6]),
        ] {
            let mut encoder = Encoder::new(File::create(&path).unwrap(), 2, 1);
            encoder.set_color(colour);
            encoder.set_depth(BitDepth::Eight);
            encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
            assert_eq!(read(&path).unwrap().0.rgb, wanted, "{colour:?}");
        }
    }

    #[test]
    fn a_sheet_lays_frames_out() {
        let clips = [clip(3, 4, 5, 1), clip(2, 4, 5, 2)];
        let sheet = sheet(&clips, 2).unwrap();
        assert_eq!((sheet.count, sheet.height, sheet.width), (1, 2 + 2 * (4 + 2), 2 + 3 * (5 + 2)));
        let pixel = |y: usize, x: usize| &sheet.rgb[(y * sheet.width + x) * 3..][..3];
        assert_eq!(pixel(0, 0), [255; 3]);
        assert_eq!(pixel(2, 2), &clips[0].rgb[..3]);
        // Clip 1, frame 1, line 3, pixel 4.
        assert_eq!(pixel(2 + 6 + 3, 2 + 7 + 4), &clips[1].frame(1).unwrap()[(3 * 5 + 4) * 3..][..3]);
        assert_eq!(pixel(2 + 6, 2 + 14), [255; 3]); // clip 1 has no third frame
        assert!(super::sheet(&[], 2).is_err());
        assert!(super::sheet(&[clip(1, 4, 5, 1), clip(1, 5, 4, 1)], 2).is_err());
        assert!(super::sheet(&clips, usize::MAX).unwrap_err().to_string().contains("fewer"));
        assert!(super::sheet(&[clip(1, 1, 1, 0)], 5000).unwrap_err().to_string().contains("8192"));
    }

    #[test]
    fn an_overview_shows_what_fits() {
        let size = |clips: &[Frames], margin| {
            let sheet = overview(clips, margin).unwrap();
            (sheet.height, sheet.width)
        };
        assert_eq!(size(&[clip(3, 4, 5, 1), clip(2, 4, 5, 2)], 2), (2 + 2 * (4 + 2), 2 + 3 * (5 + 2)));
        assert_eq!(size(&[clip(9, 2, 1000, 1)], 2), (6, 2 + 8 * 1002));
        assert_eq!(size(&vec![clip(1, 3000, 2, 1); 5], 4), (4 + 2 * 3004, 10));
        assert_eq!(size(&[clip(1, 8192, 3, 1)], 4), (8192, 3));
        assert_eq!(size(&vec![clip(2, 4090, 4090, 1); 2], 0), (8180, 4090), "64 million pixels at most");
        assert!(overview(&[], 2).is_err());
        assert!(overview(&[clip(1, 4, 5, 1), clip(1, 5, 4, 1)], 2).is_err());
    }

    #[test]
    fn damaged_and_hostile_pictures_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write(&path, &clip(1, 6, 6, 3).rgb, 6, 6, "settings").unwrap();
        let whole = std::fs::read(&path).unwrap();
        for n in 0..whole.len() {
            std::fs::write(&path, &whole[..n]).unwrap();
            // All pixels are there when only the closing chunk is cut.
            assert!(n >= whole.len() - 12 || read(&path).is_err(), "cut at {n}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            std::fs::write(&path, &flipped).unwrap();
            let _ = read(&path);
        }
        // 60,000 × 60,000 in a header with a right checksum.
        let file = File::create(&path).unwrap();
        drop(Encoder::new(file, 60_000, 60_000).write_header().unwrap());
        assert!(read(&path).unwrap_err().to_string().contains("8192"));
    }
}
