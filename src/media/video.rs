//! Video in: chosen frames of a film, a GIF or a folder of PNG, scaled.
//!
//! Films go through an installed ffmpeg, which decodes, counts and picks; GIF and PNG need nothing. Frames are counted
//! at a rate of the caller's, whatever the file's own: a film of another rate is brought to it by ffmpeg's `fps`, of a
//! GIF or a sequence the frame shown at that time is taken.

use super::frames::{Frames, within_limits};
use super::{gif, png, resize};
use crate::error::{Error, Result};
use crate::files;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Longest side of a film, in pixels.
const MAX_SIDE: usize = 8192;
/// Endings of films.
pub const ENDINGS: [&str; 6] = ["mp4", "mov", "avi", "mkv", "webm", "m4v"];

/// Which frames: of every `period`, from `first` on, every `step`-th.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Frames until it begins anew.
    pub period: u64,
    /// First one taken, counted from 0.
    pub first: u64,
    /// From one taken to the next.
    pub step: u64,
}

impl Choice {
    /// Whether frame `n` is taken.
    pub fn takes(self, n: u64) -> bool {
        let within = n % self.period;
        within >= self.first && (within - self.first).is_multiple_of(self.step)
    }

    /// The same in ffmpeg's words.
    fn expression(self) -> String {
        let Choice { period, first, step } = self;
        format!(r"gte(mod(n\,{period})\,{first})*not(mod(mod(n\,{period})-{first}\,{step}))")
    }
}

/// How to read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Which frames.
    pub choice: Choice,
    /// Frames per second at which they are counted.
    pub rate_fps: f64,
    /// Rate of a folder of PNG, which does not say it.
    pub sequence_fps: f64,
    /// Rows to make.
    pub height: usize,
    /// Pixels of a row to make.
    pub width: usize,
}

/// Hands each chosen frame, `[height, width, 3]`, to `sink`, in order.
///
/// Errors: [`Error::Setting`] when ffmpeg is needed and not found; [`Error::Read`]; [`Error::Format`] for a file that
/// cannot be decoded whole, with the decoder's own words, or holds no picture; whatever `sink` returns, at once.
pub fn each_frame(path: &Path, request: &Request, sink: &mut dyn FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("").to_ascii_lowercase();
    if path.is_dir() {
        let pictures = pictures_in(path)?;
        return each_timed(pictures.len(), request.sequence_fps, request, sink, &mut |idx| {
            let (frames, _) = png::read(&pictures[idx])?;
            Ok((frames.rgb, frames.height, frames.width))
        });
    }
    if ending == "gif" {
        let frames = gif::read(path)?;
        return each_timed(frames.count, frames.frame_rate_fps, request, sink, &mut |idx| {
            Ok((frames.frame(idx).unwrap_or_default().to_vec(), frames.height, frames.width))
        });
    }
    std::fs::File::open(path).map_err(Error::read(path))?;
    film(path, request, sink, "ffmpeg", "ffprobe")
}

/// A whole clip as it is: every frame at its own size and rate; `sequence_fps` is that of a folder of PNG, or of a single
/// one.
///
/// Errors: as [`each_frame`]; [`Error::Format`] for pictures of different sizes, or more than a clip may hold.
pub fn read(path: &Path, sequence_fps: f64) -> Result<Frames> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("").to_ascii_lowercase();
    if ending == "gif" && !path.is_dir() {
        return gif::read(path);
    }
    let (mut count, mut size, mut rgb) = (0, (0, 0), Vec::new());
    let mut take = |frame: &[u8], height: usize, width: usize| {
        if count > 0 && size != (height, width) {
            let detail = format!("frame {count} is {width} x {height}, the first {} x {}", size.1, size.0);
            return Err(Error::format(path, detail));
        }
        (count, size) = (count + 1, (height, width));
        within_limits(count, height, width).map_err(|detail| Error::format(path, detail))?;
        rgb.extend_from_slice(frame);
        Ok(())
    };
    let rate = if path.is_dir() || ending == "png" {
        let pictures = if path.is_dir() { pictures_in(path)? } else { vec![path.to_path_buf()] };
        for picture in &pictures {
            let (frames, _) = png::read(picture)?;
            take(&frames.rgb, frames.height, frames.width)?;
        }
        sequence_fps
    } else {
        std::fs::File::open(path).map_err(Error::read(path))?;
        let (height, width, own_fps) = probe(path, "ffprobe")?;
        let choice = Choice { period: 1, first: 0, step: 1 };
        let request = Request { choice, rate_fps: own_fps, sequence_fps, height, width };
        film(path, &request, &mut |frame| take(&frame, height, width), "ffmpeg", "ffprobe")?;
        own_fps
    };
    if count == 0 {
        return Err(Error::format(path, "holds no frame"));
    }
    Frames::new(count, size.0, size.1, rgb, rate)
}

/// Frames that are there by number; `at` gives one with its size.
fn each_timed(
    count: usize,
    own_fps: f64,
    request: &Request,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
    at: &mut dyn FnMut(usize) -> Result<(Vec<u8>, usize, usize)>,
) -> Result<()> {
    for n in 0.. {
        // A hair is added, so that a frame's own first moment belongs to it.
        let idx = (n as f64 / request.rate_fps * own_fps + 1e-6).floor() as usize;
        if idx >= count {
            return Ok(());
        }
        if request.choice.takes(n) {
            let (rgb, height, width) = at(idx)?;
            sink(resize::bilinear(&rgb, height, width, request.height, request.width))?;
        }
    }
    Ok(())
}

/// Whether a file is named as a frame is: `.png`, and not hidden, as what macOS leaves beside each file is.
pub(crate) fn is_picture(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png"))
        && !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// The PNG of a folder, in the natural order of their names.
fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let path = entry.map_err(Error::read(folder))?.path();
        if is_picture(&path) {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Error::format(folder, "holds no .png"));
    }
    files::sort_naturally(&mut found);
    Ok(found)
}

fn film(
    path: &Path,
    request: &Request,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
    ffmpeg: &str,
    ffprobe: &str,
) -> Result<()> {
    let (height, width, own_fps) = probe(path, ffprobe)?;
    let rate = request.rate_fps;
    let mut filters = Vec::new();
    if (own_fps - rate).abs() > 1e-6 * rate {
        filters.push(format!("fps={rate}"));
    }
    filters.push(format!("select='{}'", request.choice.expression()));
    // Picked frames are put end to end, so that none is doubled to fill the gaps.
    filters.push(format!("setpts=N/({rate}*TB)"));
    // With -xerror it ends badly where it would fill in what cannot be decoded.
    let spawned = Command::new(ffmpeg)
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-xerror", "-noautorotate", "-i"])
        .arg(as_file(path))
        .args(["-map", "0:v:0", "-vf", &filters.join(","), "-r", &rate.to_string()])
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|error| cannot_start(path, error))?;
    let stderr = child.stderr.take();
    let complaints = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = (&mut stderr).take(1 << 16).read_to_end(&mut text);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink()); // so that it can go on
        }
        text
    });
    let mut piped = Ok(());
    if let Some(mut stdout) = child.stdout.take() {
        let mut frame = vec![0u8; height * width * 3];
        while piped.is_ok() && is_filled(&mut stdout, &mut frame) {
            piped = sink(resize::bilinear(&frame, height, width, request.height, request.width));
        }
    }
    if piped.is_err() {
        let _ = child.kill(); // its frames are not wanted any more
    }
    let status = child.wait().map_err(Error::read(path))?;
    let complaints = complaints.join().unwrap_or_default();
    piped?;
    if !status.success() {
        // The first complaint tells the place; behind the decoder's name and address.
        let text = String::from_utf8_lossy(&complaints);
        let first = text.lines().next().unwrap_or_default();
        let first = first.split_once("] ").map_or(first, |(_, said)| said).trim_end_matches('.');
        let next = "fetch it again, or write it anew with ffmpeg to take it as it is";
        return Err(Error::format(path, format!("is damaged, or ffmpeg cannot decode it: {first}; {next}")));
    }
    Ok(())
}

/// A path as ffmpeg takes it: `a:b` is no protocol, `-a` no flag.
fn as_file(path: &Path) -> OsString {
    let mut name = OsString::from("file:");
    name.push(path);
    name
}

/// Height, width and rate of the first video stream.
fn probe(path: &Path, ffprobe: &str) -> Result<(usize, usize, f64)> {
    let output = Command::new(ffprobe)
        .args(["-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height,r_frame_rate"])
        .args(["-of", "default=noprint_wrappers=1"])
        .arg(as_file(path))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot_start(path, error))?;
    if !output.status.success() {
        return Err(Error::format(
            path,
            format!("is no video that ffmpeg can open: {}", one_line(&output.stderr)),
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let size = |key: &str| value(key)?.trim().parse::<usize>().ok().filter(|n| (1..=MAX_SIDE).contains(n));
    let rate = value("r_frame_rate").and_then(|rate| {
        let (n, d) = rate.trim().split_once('/')?;
        Some(n.parse::<f64>().ok()? / d.parse::<f64>().ok()?).filter(|rate| rate.is_finite() && *rate > 0.0)
    });
    match (size("height"), size("width"), rate) {
        (Some(height), Some(width), Some(rate)) => Ok((height, width, rate)),
        _ => Err(Error::format(
            path,
            format!("has no video of sides up to {MAX_SIDE} pixels and a known rate"),
        )),
    }
}

fn cannot_start(path: &Path, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        let detail = "videos need ffmpeg and ffprobe, and they are not on the path; install ffmpeg (apt, brew or winget \
                      install ffmpeg), or give a .gif or a folder of .png";
        return Error::setting(path.display().to_string(), detail);
    }
    Error::read(path)(error)
}

/// Reads a whole frame; half of one, or nothing, is the end.
fn is_filled(stdout: &mut impl Read, frame: &mut [u8]) -> bool {
    stdout.read_exact(frame).is_ok()
}

fn one_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim().replace('\n', ", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots of 12 frames: three are left out, then every fourth.
    const CHOICE: Choice = Choice { period: 12, first: 4, step: 4 };

    fn request(rate_fps: f64) -> Request {
        Request { choice: CHOICE, rate_fps, sequence_fps: 24.0, height: 2, width: 2 }
    }

    fn greys(path: &Path, request: &Request) -> Result<Vec<u8>> {
        let mut seen = Vec::new();
        each_frame(path, request, &mut |frame| {
            assert_eq!(frame.len(), 12);
            seen.push(frame[0]);
            Ok(())
        })?;
        Ok(seen)
    }

    /// 30 frames, each of one grey: 8 times its number.
    fn film() -> Frames {
        let rgb = (0..30u8).flat_map(|i| vec![8 * i; 16 * 16 * 3]).collect();
        Frames::new(30, 16, 16, rgb, 24.0).unwrap()
    }

    #[test]
    fn the_choice_is_periodic() {
        let taken: Vec<u64> = (0..30).filter(|&n| CHOICE.takes(n)).collect();
        assert_eq!(taken, [4, 8, 16, 20, 28]);
    }

    #[test]
    fn gif_and_png_give_the_chosen_frames() {
        let folder = tempfile::tempdir().unwrap();
        let wanted: Vec<u8> = [4u8, 8, 16, 20, 28].map(|n| 8 * n).to_vec();
        let path = folder.path().join("a.gif");
        gif::write(&path, &film(), "").unwrap();
        let near = |got: Vec<u8>| {
            assert!(
                got.len() == wanted.len() && got.iter().zip(&wanted).all(|(a, b)| a.abs_diff(*b) < 3),
                "{got:?}"
            );
        };
        near(greys(&path, &request(24.0)).unwrap());
        let pictures = folder.path().join("frames");
        png::write_frames(&pictures, &film(), "").unwrap();
        near(greys(&pictures, &request(24.0)).unwrap());
        // Counted at 12 frames a second, every second frame is seen.
        assert_eq!(greys(&pictures, &request(12.0)).unwrap(), [8 * 8, 8 * 16]);
        assert_eq!(greys(folder.path(), &request(24.0)).unwrap_err().exit_code(), 3);
        let whole = read(&path, 24.0).unwrap();
        assert_eq!((whole.count, whole.height, whole.width), (30, 16, 16));
        assert_eq!(read(&pictures, 24.0).unwrap(), film());
        assert_eq!(read(&pictures.join("003.png"), 24.0).unwrap().count, 1);
        png::write(pictures.join("003.png"), &[0; 3], 1, 1, "").unwrap();
        assert!(read(&pictures, 24.0).unwrap_err().to_string().contains("frame 3 is 1 x 1"));
    }

    #[test]
    fn frames_are_counted_as_people_count() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..12 {
            png::write(folder.path().join(format!("{n}.png")), &[n; 3], 1, 1, "").unwrap();
        }
        let rgb = read(folder.path(), 3.0).unwrap().rgb;
        assert!(rgb.iter().step_by(3).copied().eq(0..12), "{rgb:?}");
    }

    #[test]
    fn a_film_goes_through_ffmpeg() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        std::fs::write(&path, "not a film").unwrap();
        let mut sink = |_| Ok(());
        let missing =
            super::film(&path, &request(24.0), &mut sink, "no-such-ffmpeg", "no-such-ffprobe").unwrap_err();
        assert!(missing.to_string().contains("install ffmpeg") && missing.exit_code() == 2, "{missing}");
        if Command::new("ffmpeg").arg("-version").output().is_err() || cfg!(feature = "h264") {
            eprintln!("skipped: no ffmpeg");
            return;
        }
        let error = greys(&path, &request(24.0)).unwrap_err();
        assert!(
            error.to_string().contains("no video that ffmpeg can open") && error.exit_code() == 3,
            "{error}"
        );
        crate::media::mp4::write(&path, &film(), "").unwrap();
        let got = greys(&path, &request(24.0)).unwrap();
        let wanted = [4u8, 8, 16, 20, 28].map(|n| 8 * n);
        assert!(got.len() == 5 && got.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 6), "{got:?}");
        assert_eq!(greys(&path, &request(12.0)).unwrap().len(), 2);
        let whole = read(&path, 3.0).unwrap();
        assert_eq!((whole.count, whole.height, whole.frame_rate_fps), (30, 16, 24.0));
        assert_eq!(as_file(Path::new("-a:b.mp4")), "file:-a:b.mp4");
        // A film with a hole, which ffmpeg would fill with what was there before.
        let noise = (0..30 * 64 * 64 * 3_u64)
            .map(|at| (at.wrapping_mul(at).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
            .collect();
        crate::media::mp4::write(&path, &Frames::new(30, 64, 64, noise, 24.0).unwrap(), "").unwrap();
        assert_eq!(read(&path, 3.0).unwrap().count, 30);
        let mut bytes = std::fs::read(&path).unwrap();
        let quarter = bytes.len() / 4;
        bytes[2 * quarter..3 * quarter].fill(0xFF);
        let holed = folder.path().join("holed.mp4");
        std::fs::write(&holed, bytes).unwrap();
        let error = read(&holed, 3.0).map(|film| film.count).unwrap_err();
        assert!(
            error.to_string().contains("holed.mp4: is damaged, or ") && error.exit_code() == 3,
            "{error}"
        );
        assert!(!error.to_string().contains('\n') && !error.to_string().contains("0x"), "{error}");
        let stopped = each_frame(&path, &request(24.0), &mut |_| Err(Error::Interrupted("now".into())));
        assert_eq!(stopped.unwrap_err().exit_code(), 130);
    }
}
