//! A picture from a file, JPEG or PNG, told by its first bytes.     FILE -> u8 [height, width, RGB]
//!
//! Grey becomes three equal colours, transparency is dropped, pictures are not turned: as Pillow's
//! `Image.open(FILE).convert("RGB")` has it, JPEG to within the rounding of decoders.

use super::frames::{self, Frames, MAX_SIDE};
use super::png;
use crate::error::{Error, Result};
use crate::files;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::{colorspace::ColorSpace, options::DecoderOptions};

/// Largest file read, in bytes.
const LIMIT_BYTES: u64 = 64 << 20;
/// Endings of the files that are taken for pictures.
const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Reads a picture as one frame (at 1 frame per second).
///
/// Errors: [`Error::Read`]; [`Error::Format`] for another kind of file, one that is damaged or cut short, and sizes beyond
/// the limits of a picture.
pub fn read(path: impl AsRef<Path>) -> Result<Frames> {
    let path = path.as_ref();
    let bytes = files::read_small(path, LIMIT_BYTES)?;
    if bytes.starts_with(b"\x89PNG") {
        return Ok(png::read(path)?.0);
    }
    if !bytes.starts_with(&[0xFF, 0xD8]) {
        return Err(Error::format(path, "is neither JPEG nor PNG"));
    }
    jpeg(path, &bytes)
}

/// The pictures of a folder in the natural order of their names; sub-folders are not looked into.
///
/// Errors: [`Error::Read`]; [`Error::Format`] when there is none.
pub fn list(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let path = entry.map_err(Error::read(folder))?.path();
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        if ending.is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) && path.is_file() {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Error::format(folder, "holds no picture (.jpg, .jpeg, .png)"));
    }
    files::sort_naturally(&mut found);
    Ok(found)
}

fn jpeg(path: &Path, bytes: &[u8]) -> Result<Frames> {
    let wrong = |detail: String| Error::format(path, format!("is no whole jpeg: {detail}"));
    if !is_whole(bytes) {
        // The decoder would make up the rest.
        return Err(wrong("it has no end; compare its size with the source".into()));
    }
    let options = DecoderOptions::default()
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| wrong(e.to_string()))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| wrong("it has no size".into()))?;
    frames::within_limits(1, height, width).map_err(|detail| Error::format(path, detail))?;
    let pixels = decoder.decode().map_err(|e| wrong(e.to_string()))?;
    let rgb = match pixels.len().checked_div(height * width) {
        Some(3) => pixels,
        Some(1) => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        _ => return Err(wrong(format!("{} bytes for {width} x {height} pixels", pixels.len()))),
    };
    Frames::new(1, height, width, rgb, 1.0)
}

/// Whether the mark of the end stands behind the beginning of the picture itself: segments before it may hold other
/// pictures, whole ones.
fn is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xFF, kind]) = bytes.get(at..at + 2).and_then(|pair| pair.first_chunk::<2>()) {
        match (kind, bytes.get(at + 2..at + 4)) {
            // Filling before a mark.
            (0xFF, _) => at += 1,
            (0xDA, _) => return bytes[at..].windows(2).any(|pair| pair == [0xFF, 0xD9]),
            (_, Some(&[high, low])) => at += 2 + usize::from(high) * 256 + usize::from(low),
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures")
    }

    #[test]
    fn a_picture_cut_short_is_refused_wherever_it_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.jpg");
        for name in ["colour.jpg", "progressive.jpg", "grey.jpg"] {
            let bytes = std::fs::read(golden().join(name)).unwrap();
            assert!(read(golden().join(name)).is_ok(), "{name}");
            for share in [1, 2, 3, 10, 50, 90, 99] {
                std::fs::write(&path, &bytes[..bytes.len() * share / 100]).unwrap();
                let text = read(&path).unwrap_err().to_string();
                assert!(text.contains("jpeg") || text.contains("JPEG"), "{name} {share}: {text}");
                assert!(!text.contains('\n'), "{text}");
            }
        }
    }

    #[test]
    fn pictures_of_a_folder_come_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let in_folder = |name: &str| folder.path().join(name);
        assert!(list(folder.path()).unwrap_err().to_string().contains("holds no picture"));
        for name in ["b.JPG", "a.png", "notes.txt", "c10.jpeg", "c9.png"] {
            std::fs::write(in_folder(name), "x").unwrap();
        }
        std::fs::create_dir(in_folder("d.png")).unwrap();
        assert_eq!(list(folder.path()).unwrap(), ["a.png", "b.JPG", "c9.png", "c10.jpeg"].map(in_folder));
        assert!(read(in_folder("a.png")).unwrap_err().to_string().contains("neither JPEG nor PNG"));
    }
}
