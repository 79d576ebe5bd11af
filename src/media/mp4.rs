//! MP4: H.264 in 4:2:0, through an installed ffmpeg, or with the feature `h264` through OpenH264.
//!
//! 4:2:0 needs even sides: an odd last row or column is written twice. With ffmpeg the settings stand in the
//! container's comment; the `mp4` crate cannot write one, so there they are only in `run.json`.

use super::frames::Frames;
use crate::error::{Error, Result};
use std::path::Path;

/// Writes a clip, whole or not at all.
///
/// Errors: as [`Frames::check`]; [`Error::Setting`] when ffmpeg is needed and not found; [`Error::Write`] with
/// the encoder's own words when it fails.
pub fn write(path: impl AsRef<Path>, frames: &Frames, comment: &str) -> Result<()> {
    let path = path.as_ref();
    frames.check()?;
    #[cfg(feature = "h264")]
    {
        let _ = comment;
        open_h264::write(path, &even(frames))
    }
    #[cfg(not(feature = "h264"))]
    ffmpeg::write(path, &even(frames), comment, "ffmpeg")
}

/// The same clip with even sides.
fn even(frames: &Frames) -> std::borrow::Cow<'_, Frames> {
    let (height, width) = (frames.height.next_multiple_of(2), frames.width.next_multiple_of(2));
    if (height, width) == (frames.height, frames.width) {
        return std::borrow::Cow::Borrowed(frames);
    }
    let mut rgb = Vec::with_capacity(frames.count * height * width * 3);
    for frame in frames.rgb.chunks_exact(frames.height * frames.width * 3) {
        for y in 0..height {
            let line = &frame[y.min(frames.height - 1) * frames.width * 3..][..frames.width * 3];
            rgb.extend_from_slice(line);
            if width > frames.width {
                rgb.extend_from_slice(&line[line.len() - 3..]);
            }
        }
    }
    std::borrow::Cow::Owned(Frames { height, width, rgb, ..*frames })
}

#[cfg(any(test, not(feature = "h264")))]
mod ffmpeg {
    use super::*;
    use crate::files;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    /// Pipes raw frames into `program`, which writes beside the target; the finished file is then moved in.
    pub(super) fn write(path: &Path, frames: &Frames, comment: &str, program: &str) -> Result<()> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        files::make_folder(folder)?;
        let scratch =
            tempfile::Builder::new().prefix(".tmp-").tempdir_in(folder).map_err(Error::write(path))?;
        let unfinished = scratch.path().join("clip.mp4");
        let comment: String = comment.chars().filter(|&c| c != '\0').collect(); // no argument can hold it
        let spawned = Command::new(program)
            .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-f", "rawvideo"])
            .args(["-pixel_format", "rgb24", "-video_size", &format!("{}x{}", frames.width, frames.height)])
            .args(["-framerate", &frames.frame_rate_fps.to_string(), "-i", "pipe:0"])
            .args(["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"])
            .args(["-metadata", &format!("comment={comment}"), "-f", "mp4", "-y"])
            .arg(&unfinished)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                let detail = "mp4 needs ffmpeg, and none is on the path; install it (apt, brew or winget install \
                              ffmpeg), build with --features h264, or take gif or png";
                Error::setting("--format", detail)
            }
            _ => Error::write(path)(source),
        })?;
        // Its complaints are drained aside, so that neither side waits for the other.
        let stderr = child.stderr.take();
        let complaints = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(stderr) = stderr {
                let _ = stderr.take(1 << 16).read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).trim().replace('\n', ", ")
        });
        // A broken pipe means that it gave up; what it said is the better message.
        let piped = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(&frames.rgb));
        let status = child.wait().map_err(Error::write(path))?;
        let complaints = complaints.join().unwrap_or_default();
        if !status.success() || piped.is_err() {
            let detail = format!("{program} failed ({status}): {complaints}; take gif or png instead");
            return Err(Error::write(path)(std::io::Error::other(detail)));
        }
        let mut finished = File::open(&unfinished).map_err(Error::write(path))?;
        files::write_atomically(path, |file| {
            std::io::copy(&mut finished, file).map_err(Error::write(path))?;
            Ok(())
        })
    }
}

#[cfg(feature = "h264")]
mod open_h264 {
    use super::*;
    use crate::files;
    use mp4::{AvcConfig, MediaConfig, Mp4Config, Mp4Sample, Mp4Writer, TrackConfig, TrackType};
    use openh264::OpenH264API;
    use openh264::encoder::{Encoder, EncoderConfig, FrameType, QpRange, RateControlMode};
    use openh264::formats::{RgbSliceU8, YUVBuffer};
    use std::io::{Cursor, Write};

    /// Ticks per second; divisible by every usual rate.
    const TIMESCALE: u32 = 90_000;
    /// Kinds of unit in the stream (ITU-T H.264, table 7-1).
    const SEQUENCE_PARAMETERS: u8 = 7;
    const PICTURE_PARAMETERS: u8 = 8;

    pub(super) fn write(path: &Path, frames: &Frames) -> Result<()> {
        let failed = |error: String| Error::write(path)(std::io::Error::other(error));
        let config = EncoderConfig::new()
            .rate_control_mode(RateControlMode::Off)
            .qp(QpRange::new(18, 24))
            .skip_frames(false);
        let mut encoder = Encoder::with_api_config(OpenH264API::from_source(), config)
            .map_err(|e| failed(e.to_string()))?;
        let start = |idx: usize| (f64::from(TIMESCALE) * idx as f64 / frames.frame_rate_fps).round() as u64;
        let (mut parameters, mut samples) = ([Vec::new(), Vec::new()], Vec::new());
        for (idx, rgb) in frames.rgb.chunks_exact(frames.height * frames.width * 3).enumerate() {
            let picture = YUVBuffer::from_rgb8_source(RgbSliceU8::new(rgb, (frames.width, frames.height)));
            let stream = encoder.encode(&picture).map_err(|e| failed(e.to_string()))?;
            let is_sync = matches!(stream.frame_type(), FrameType::IDR | FrameType::I);
            let mut bytes = Vec::new();
            for layer in (0..stream.num_layers()).filter_map(|i| stream.layer(i)) {
                for unit in (0..layer.nal_count()).filter_map(|i| layer.nal_unit(i)) {
                    let unit = without_start_code(unit);
                    match unit.first().map(|first| first & 31) {
                        Some(SEQUENCE_PARAMETERS) => parameters[0] = unit.to_vec(),
                        Some(PICTURE_PARAMETERS) => parameters[1] = unit.to_vec(),
                        _ => {
                            bytes.extend((unit.len() as u32).to_be_bytes());
                            bytes.extend(unit);
                        }
                    }
                }
            }
            let duration = u32::try_from(start(idx + 1) - start(idx))
                .map_err(|_| failed("a frame lasts more than 13 hours".into()))?;
            let (start_time, bytes) = (start(idx), bytes.into());
            samples.push(Mp4Sample { start_time, duration, rendering_offset: 0, is_sync, bytes });
        }
        let [seq_param_set, pic_param_set] = parameters;
        let brand = |text: &[u8; 4]| mp4::FourCC { value: *text };
        let container = Mp4Config {
            major_brand: brand(b"isom"),
            minor_version: 512,
            compatible_brands: vec![brand(b"isom"), brand(b"iso2"), brand(b"avc1"), brand(b"mp41")],
            timescale: TIMESCALE,
        };
        let (width, height) = (frames.width as u16, frames.height as u16);
        let track = TrackConfig {
            track_type: TrackType::Video,
            timescale: TIMESCALE,
            language: "und".into(),
            media_conf: MediaConfig::AvcConfig(AvcConfig { width, height, seq_param_set, pic_param_set }),
        };
        let assemble = || -> mp4::Result<Vec<u8>> {
            let mut writer = Mp4Writer::write_start(Cursor::new(Vec::new()), &container)?;
            writer.add_track(&track)?;
            for sample in &samples {
                writer.write_sample(1, sample)?;
            }
            writer.write_end()?;
            Ok(writer.into_writer().into_inner())
        };
        let bytes = assemble().map_err(|e| failed(e.to_string()))?;
        files::write_atomically(path, |file| file.write_all(&bytes).map_err(Error::write(path)))
    }

    fn without_start_code(unit: &[u8]) -> &[u8] {
        unit.strip_prefix(&[0, 0, 0, 1]).or_else(|| unit.strip_prefix(&[0, 0, 1])).unwrap_or(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn clip(count: usize, height: usize, width: usize, rate: f64) -> Frames {
        let rgb =
            (0..count * height * width).flat_map(|i| [(i % width * 3) as u8, 90, (i / 50) as u8]).collect();
        Frames::new(count, height, width, rgb, rate).unwrap()
    }

    #[test]
    fn odd_sides_are_made_even() {
        let frames = Frames::new(2, 1, 3, (0..18).collect(), 3.0).unwrap();
        let grown = even(&frames);
        assert_eq!((grown.count, grown.height, grown.width), (2, 2, 4));
        assert_eq!(grown.frame(1).unwrap()[..12], [9, 10, 11, 12, 13, 14, 15, 16, 17, 15, 16, 17]);
        assert_eq!(grown.frame(1).unwrap()[12..], grown.frame(1).unwrap()[..12]);
        grown.check().unwrap();
        assert!(matches!(even(&grown), std::borrow::Cow::Borrowed(_)));
    }

    #[test]
    fn a_missing_ffmpeg_is_named_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let error = ffmpeg::write(&path, &clip(1, 2, 2, 3.0), "", "no-such-ffmpeg").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--features h264"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_failing_ffmpeg_is_quoted() {
        // `false` takes the place of an encoder that gives up at once.
        if Command::new("false").status().is_err() {
            return println!("skipped: no program `false`");
        }
        let folder = tempfile::tempdir().unwrap();
        let big = clip(8, 288, 512, 3.0); // more than a pipe holds
        let error = ffmpeg::write(&folder.path().join("a.mp4"), &big, "", "false").unwrap_err();
        assert!(error.to_string().contains("false failed"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn another_reader_counts_the_frames() {
        let probe = |path: &Path| {
            Command::new("ffprobe")
                .args(["-v", "error", "-count_frames", "-select_streams", "v:0", "-of", "csv=p=0"])
                .args([
                    "-show_entries",
                    "stream=codec_name,width,height,pix_fmt,avg_frame_rate,nb_read_frames",
                ])
                .arg(path)
                .output()
        };
        let folder = tempfile::tempdir().unwrap();
        if probe(folder.path()).is_err() {
            return println!("skipped: no ffprobe");
        }
        for (count, height, width, rate, wanted) in
            [(6, 36, 64, 3.0, "h264,64,36,yuv420p,3/1,6"), (5, 35, 63, 24.0, "h264,64,36,yuv420p,24/1,5")]
        {
            let path = folder.path().join("a.mp4");
            write(&path, &clip(count, height, width, rate), "seed 42").unwrap();
            let said = probe(&path).unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), wanted);
            let decoded = Command::new("ffmpeg")
                .args(["-v", "error", "-i"])
                .arg(&path)
                .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"])
                .output()
                .unwrap();
            let frames = clip(count, height, width, rate);
            let sent = &even(&frames).rgb;
            assert_eq!(decoded.stdout.len(), sent.len());
            let error: u64 = decoded.stdout.iter().zip(sent).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            // Swapped colours would differ by 60 and more; 4:2:0 and the quantiser take a few.
            assert!(error < 8 * sent.len() as u64, "{}", error as f64 / sent.len() as f64);
        }
    }
}
