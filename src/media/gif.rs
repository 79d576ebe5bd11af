//! GIF: written with a palette per frame, looping for ever, the settings in a comment; and read back.
//!
//! Delays are in hundredths of a second, so at 3 frames per second they go 33, 34, 33: each frame starts at
//! its time rounded, and the clip's length stays right. Format: CompuServe, "GIF89a", 1990.

use super::frames::{self, Frames};
use crate::error::{Error, Result};
use crate::files;
use gif::{AnyExtension, ColorOutput, DecodeOptions, DisposalMethod, Encoder, EncodingError, Repeat};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// NeuQuant looks at every tenth pixel: a tenth of the time, hardly a visible difference.
const QUANTISER_SPEED: i32 = 10;
/// Browsers show delays below 2 hundredths as 10.
const MAX_RATE_FPS: f64 = 50.0;
/// Slowest rate a 16-bit delay can say.
const MIN_RATE_FPS: f64 = 0.002;
/// Largest file read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Writes a clip, whole or not at all. An empty comment is left out.
///
/// Errors: as [`Frames::check`]; [`Error::Setting`] for a rate outside 0.002 to 50; [`Error::Write`].
pub fn write(path: impl AsRef<Path>, frames: &Frames, comment: &str) -> Result<()> {
    let path = path.as_ref();
    frames.check()?;
    let rate = frames.frame_rate_fps;
    if !(MIN_RATE_FPS..=MAX_RATE_FPS).contains(&rate) {
        let detail = format!("{rate}, a gif can say {MIN_RATE_FPS} to {MAX_RATE_FPS}; take fewer, or mp4");
        return Err(Error::setting("--fps", detail));
    }
    let failed = |error: EncodingError| match error {
        EncodingError::Io(source) => Error::write(path)(source),
        other => Error::write(path)(std::io::Error::other(other)),
    };
    let encoded = encode(frames);
    // The limits keep sides below 2^16.
    let (width, height) = (frames.width as u16, frames.height as u16);
    files::write_atomically(path, |file| {
        let mut encoder = Encoder::new(file, width, height, &[]).map_err(failed)?;
        encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
        if !comment.is_empty() {
            let kind = AnyExtension(gif::Extension::Comment as u8);
            encoder.write_raw_extension(kind, &[comment.as_bytes()]).map_err(failed)?;
        }
        for (mut frame, delay) in encoded.into_iter().zip(delays(frames.count, rate)) {
            frame.delay = delay;
            encoder.write_lzw_pre_encoded_frame(&frame).map_err(failed)?;
        }
        encoder.into_inner().map_err(failed)?;
        Ok(())
    })
}

/// Hundredths of a second for each frame.
fn delays(count: usize, rate: f64) -> impl Iterator<Item = u16> {
    let start = move |idx: usize| (100.0 * idx as f64 / rate).round();
    (0..count).map(move |idx| (start(idx + 1) - start(idx)) as u16)
}

/// Palettes and compression, frames spread over the processor's cores.
fn encode(frames: &Frames) -> Vec<gif::Frame<'static>> {
    let (width, height) = (frames.width as u16, frames.height as u16);
    let encode = |rgb: &[u8]| {
        let mut frame = gif::Frame::from_rgb_speed(width, height, rgb, QUANTISER_SPEED);
        frame.make_lzw_pre_encoded();
        frame
    };
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(frames.count);
    let share = frames.count.div_ceil(n_threads) * frames.width * frames.height * 3;
    std::thread::scope(|scope| {
        let parts: Vec<_> = frames
            .rgb
            .chunks(share)
            .map(|part| {
                let frame_bytes = frames.width * frames.height * 3;
                scope.spawn(move || part.chunks_exact(frame_bytes).map(encode).collect::<Vec<_>>())
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().expect("a checked frame encodes")).collect()
    })
}

/// Reads a clip: frames laid over each other as a browser does, transparent pixels black until covered. The
/// rate is the mean of the delays, 10 when there are none.
///
/// Errors: [`Error::Read`]; [`Error::Format`] when the file is damaged, holds no frame, a frame leaves its
/// screen, or sides, pixels or frames are beyond the limits, which is said before anything is allocated.
pub fn read(path: impl AsRef<Path>) -> Result<Frames> {
    let path = path.as_ref();
    let wrong = |error: gif::DecodingError| match error {
        gif::DecodingError::Io(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Error::read(path)(e),
        other => Error::format(path, format!("is no whole gif: {other}; compare its size with the source")),
    };
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    options.check_frame_consistency(true);
    let mut decoder = options.read_info(BufReader::new(open(path)?)).map_err(wrong)?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    let too_large = |detail: String| Error::format(path, detail);
    frames::within_limits(1, height, width).map_err(too_large)?;

    let mut canvas = vec![0u8; height * width * 3];
    let (mut rgb, mut count, mut hundredths) = (Vec::new(), 0, 0u64);
    let mut patch = Vec::new();
    while let Some(frame) = decoder.next_frame_info().map_err(wrong)? {
        frames::within_limits(count + 1, height, width).map_err(too_large)?;
        let (left, top) = (usize::from(frame.left), usize::from(frame.top));
        let (columns, rows) = (usize::from(frame.width), usize::from(frame.height));
        let dispose = frame.dispose;
        hundredths += u64::from(frame.delay);
        patch.clear();
        patch.resize(columns * rows * 4, 0);
        decoder.read_into_buffer(&mut patch).map_err(wrong)?;
        let before = (dispose == DisposalMethod::Previous).then(|| canvas.clone());
        let pixel_at = |i: usize| ((top + i / columns) * width + left + i % columns) * 3;
        for (i, pixel) in patch.chunks_exact(4).enumerate() {
            if pixel[3] != 0 {
                canvas[pixel_at(i)..][..3].copy_from_slice(&pixel[..3]);
            }
        }
        rgb.extend_from_slice(&canvas);
        count += 1;
        match (dispose, before) {
            (_, Some(before)) => canvas = before,
            (DisposalMethod::Background, _) => {
                (0..columns * rows).for_each(|i| canvas[pixel_at(i)..][..3].fill(0));
            }
            _ => {}
        }
    }
    if count == 0 {
        return Err(Error::format(path, "holds no frame"));
    }
    let rate = if hundredths == 0 { 10.0 } else { 100.0 * count as f64 / hundredths as f64 };
    Frames::new(count, height, width, rgb, rate)
}

/// The first comment of a file; `None` when it has none. Errors: [`Error::Read`]; [`Error::Format`] when the
/// file is no gif or ends early.
pub fn read_comment(path: impl AsRef<Path>) -> Result<Option<String>> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(Error::read(path))?;
    find_comment(&bytes)
        .ok_or_else(|| Error::format(path, "is no whole gif; compare its size with the source"))
}

/// Walks the blocks; the outer `None` means that they do not hold together.
fn find_comment(bytes: &[u8]) -> Option<Option<String>> {
    let after_table = |at: usize, packed: u8| match packed & 0x80 {
        0 => at,
        _ => at + 3 * (2 << (packed & 7)),
    };
    if !bytes.starts_with(b"GIF8") {
        return None;
    }
    let mut at = after_table(13, *bytes.get(10)?);
    loop {
        let is_comment = match bytes.get(at)? {
            0x21 => {
                at += 2;
                *bytes.get(at - 1)? == 0xFE
            }
            0x2C => {
                at = after_table(at + 10, *bytes.get(at + 9)?) + 1; // and the code size
                false
            }
            0x3B => return Some(None),
            _ => return None,
        };
        let mut content = Vec::new();
        loop {
            let length = usize::from(*bytes.get(at)?);
            content.extend_from_slice(bytes.get(at + 1..at + 1 + length)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
        if is_comment {
            return Some(Some(String::from_utf8_lossy(&content).into_owned()));
        }
    }
}

/// A regular file of bearable size, never read past it.
fn open(path: &Path) -> Result<std::io::Take<File>> {
    let metadata = std::fs::metadata(path).map_err(Error::read(path))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(Error::format(path, "is not a file of at most 1 GiB"));
    }
    Ok(File::open(path).map_err(Error::read(path))?.take(MAX_FILE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    /// Few colours, so that palettes are exact.
    fn clip(count: usize, height: usize, width: usize, rate: f64) -> Frames {
        let rgb = (0..count * height * width * 3).map(|i| (i / 3 % 5 * 50 + i % 3) as u8).collect();
        Frames::new(count, height, width, rgb, rate).unwrap()
    }

    #[test]
    fn a_clip_survives_the_round_trip() {
        let (_folder, path) = saved(b"");
        let frames = clip(7, 13, 17, 3.0);
        let comment = "seed 42, 200 Hz, µV; ".repeat(40);
        write(&path, &frames, &comment).unwrap();
        let back = read(&path).unwrap();
        assert_eq!((back.count, back.height, back.width), (7, 13, 17));
        assert_eq!(back.rgb, frames.rgb);
        assert!((back.frame_rate_fps - 3.0).abs() < 0.01, "{}", back.frame_rate_fps);
        assert_eq!(read_comment(&path).unwrap().as_deref(), Some(comment.as_str()));
        write(&path, &frames, "").unwrap();
        assert_eq!(read_comment(&path).unwrap(), None);
    }

    #[test]
    fn many_colours_come_back_nearly() {
        let (_folder, path) = saved(b"");
        let rgb: Vec<u8> =
            (0..2 * 64 * 64).flat_map(|i| [(i % 64 * 4) as u8, (i / 64 * 2) as u8, 90]).collect();
        let frames = Frames::new(2, 64, 64, rgb, 10.0).unwrap();
        write(&path, &frames, "").unwrap();
        let back = read(&path).unwrap();
        let squared = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
        let mse = back.rgb.iter().zip(&frames.rgb).map(squared).sum::<f64>() / back.rgb.len() as f64;
        assert!(mse < 150.0, "{mse}"); // 103 here: 256 colours for 4096 that fill a plane, 40 at best
    }

    #[test]
    fn delays_add_up() {
        for (count, rate) in [(6, 3.0), (48, 24.0), (7, 23.976), (50, 50.0), (1, 0.002)] {
            let delays: Vec<u16> = delays(count, rate).collect();
            let total: f64 = delays.iter().map(|&d| f64::from(d)).sum();
            assert!((total - 100.0 * count as f64 / rate).abs() <= 0.5);
            assert!(delays.iter().all(|&d| d >= 2));
        }
        assert_eq!(delays(3, 3.0).collect::<Vec<_>>(), [33, 34, 33]);
        let (_folder, path) = saved(b"");
        for rate in [51.0, 0.001] {
            assert!(write(&path, &clip(1, 1, 1, rate), "").unwrap_err().to_string().contains("0.002 to 50"));
        }
        let torn = Frames { count: 9, ..clip(1, 2, 2, 3.0) };
        assert!(write(&path, &torn, "").is_err());
    }

    #[test]
    fn a_clip_cut_anywhere_is_refused_or_shorter_and_never_panics() {
        let (_folder, path) = saved(b"");
        write(&path, &clip(3, 5, 6, 3.0), "settings").unwrap();
        let whole = std::fs::read(&path).unwrap();
        for n in 0..whole.len() {
            std::fs::write(&path, &whole[..n]).unwrap();
            assert!(n == whole.len() - 1 || read(&path).is_err(), "cut at {n}"); // the last byte only says "end"
            let _ = read_comment(&path);
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0xFF;
            std::fs::write(&path, &flipped).unwrap();
            let _ = read(&path);
            let _ = read_comment(&path);
        }
    }

    #[test]
    fn hostile_sizes_are_refused_before_allocation() {
        let header = |width: u16, height: u16| {
            let mut bytes = b"GIF89a".to_vec();
            bytes.extend(width.to_le_bytes());
            bytes.extend(height.to_le_bytes());
            bytes.extend([0x80, 0, 0, 0, 0, 0, 255, 255, 255]); // a palette of two
            bytes
        };
        let frame = |width: u16, height: u16| {
            let mut bytes = vec![0x2C, 0, 0, 0, 0];
            bytes.extend(width.to_le_bytes());
            bytes.extend(height.to_le_bytes());
            bytes.extend([0, 2, 2, 0x4C, 0x01, 0]); // one pixel
            bytes
        };
        let refusal = |bytes: &[u8]| {
            let (_folder, path) = saved(bytes);
            read(&path).unwrap_err().to_string()
        };
        assert!(refusal(&[header(60_000, 60_000), frame(60_000, 60_000)].concat()).contains("8192"));
        assert!(refusal(&[header(4, 4), frame(5, 4)].concat()).contains("no whole gif"));
        assert!(
            refusal(&[header(1, 1), frame(1, 1).repeat(2001), vec![0x3B]].concat()).contains("2000 frames")
        );
        assert!(refusal(&[header(4, 4), vec![0x3B]].concat()).contains("no whole gif"));
        assert!(refusal(b"PNG").contains("no whole gif"));
        let (_folder, path) = saved(&[header(1, 1), frame(1, 1).repeat(2000), vec![0x3B]].concat());
        assert_eq!(read(&path).unwrap().count, 2000);
    }
}
