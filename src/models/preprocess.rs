//! Pictures as models want them: Pillow's resize, a crop, a scale; as transformers' image processors do.
//!
//! ```text
//! u8 [height, width, 3] ─resize─> u8 ─centre crop─> u8 [size, size, 3] ─(x · scale - mean) / std─> f32
//! ```
//!
//! Processors followed: huggingface/transformers 5 `ViTImageProcessor` (resize to the square, no crop, 0.5 and 0.5),
//! `VideoMAEImageProcessor` and `CLIPImageProcessor` (shortest side, centre crop, their means and deviations),
//! `BlipImageProcessor` (CLIP's without a crop). What a folder's `preprocessor_config.json` says goes first.

use super::config::Config;
use crate::error::{Error, Result};
use crate::media::resize::{Filter, pillow};
use serde_json::{Value, json};
use std::path::Path;

/// The file of a folder that says how its pictures are made.
const FILE: &str = "preprocessor_config.json";
/// Longest side a file may ask for, in pixels.
const MOST_SIDE: usize = 8192;

/// What comes before the crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The picture is pressed into this height and width.
    Pressed([usize; 2]),
    /// The shortest side is brought to this, the other in proportion, rounded down.
    Shortest(usize),
    /// As small as covers the crop, in proportion, rounded down.
    Covering,
}

/// How a picture becomes values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocess {
    /// Height and width of what the model takes, cut out of the middle.
    pub size: [usize; 2],
    /// What is cut.
    pub resize: Resize,
    /// Of the resize.
    pub filter: Filter,
    /// Of bytes.
    pub scale: f64,
    /// Of each colour.
    pub mean: [f64; 3],
    /// Of each colour.
    pub std: [f64; 3],
}

impl Preprocess {
    /// `ViTImageProcessor`.
    pub fn vit(size: [usize; 2]) -> Preprocess {
        let resize = Resize::Pressed(size);
        let filter = Filter::Bilinear;
        Preprocess { size, resize, filter, scale: 1.0 / 255.0, mean: [0.5; 3], std: [0.5; 3] }
    }

    /// `VideoMAEImageProcessor` with ImageNet's mean and deviation, as the published checkpoints set it.
    pub fn videomae(size: [usize; 2]) -> Preprocess {
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        Preprocess { resize: Resize::Covering, mean, std, ..Preprocess::vit(size) }
    }

    /// `CLIPImageProcessor`.
    pub fn clip(size: usize) -> Preprocess {
        Preprocess { resize: Resize::Covering, ..Preprocess::blip2(size) }
    }

    /// `BlipImageProcessor`.
    pub fn blip2(size: usize) -> Preprocess {
        let mean = [0.481_454_66, 0.457_827_5, 0.408_210_73];
        let std = [0.268_629_54, 0.261_302_58, 0.275_777_11];
        Preprocess { filter: Filter::Bicubic, mean, std, ..Preprocess::vit([size; 2]) }
    }

    /// A picture of the size a [`crate::models::ClipClassifier`] takes, values in [-1, 1].
    pub fn symmetric(size: [usize; 2]) -> Preprocess {
        Preprocess::vit(size)
    }

    /// What the folder's `preprocessor_config.json` says, and `usual` where it says nothing or is not there.
    ///
    /// Errors: those of [`Config::open`]; [`Error::Format`] for what cannot be done, and pictures of another size than the
    /// model takes.
    pub fn open(folder: &Path, usual: Preprocess) -> Result<Preprocess> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(usual);
        }
        let config = Config::open(path)?;
        let off = json!(false);
        let unknown = ["do_pad", "do_flip_channel_order", "do_grayscale", "offset", "rescale_offset"];
        config.only(&unknown.map(|key| (key, off.clone())))?;
        config.only(&[("do_resize", json!(true)), ("crop_pct", json!(null))])?;
        let resize = resize_of(&config, usual.resize)?;
        let crops = config.switch_or("do_center_crop", !matches!(usual.resize, Resize::Pressed(_)))?;
        let size = match (crops, resize) {
            (true, _) if config.get("crop_size").is_some() => sides(&config, "crop_size")?,
            (true, _) => usual.size,
            (false, Resize::Pressed(size)) => size,
            (false, _) => return Err(config.wrong("do_center_crop", "true where one side alone is set")),
        };
        if size != usual.size {
            let ([h, w], [height, width]) = (size, usual.size);
            let detail = format!("makes pictures of {w} x {h}, the model takes {width} x {height}");
            return Err(Error::format(config.path(), detail));
        }
        let fits = match resize {
            Resize::Pressed([height, width]) => height >= size[0] && width >= size[1],
            Resize::Shortest(side) => side >= size[0].max(size[1]),
            Resize::Covering => true,
        };
        if !fits {
            return Err(config.wrong("size", &format!("no less than the crop of {} x {}", size[1], size[0])));
        }
        let filter = match config.get("resample").map(Value::as_u64) {
            None => usual.filter,
            Some(Some(2)) => Filter::Bilinear,
            Some(Some(3)) => Filter::Bicubic,
            Some(_) => return Err(config.wrong("resample", "2 (bilinear) or 3 (bicubic)")),
        };
        let scale = match config.switch_or("do_rescale", true)? {
            true => config.number_or("rescale_factor", usual.scale)?,
            false => 1.0,
        };
        let (mean, std) = match config.switch_or("do_normalize", true)? {
            true => (colours(&config, "image_mean", usual.mean)?, colours(&config, "image_std", usual.std)?),
            false => ([0.0; 3], [1.0; 3]),
        };
        if std.contains(&0.0) {
            return Err(config.wrong("image_std", "no zero"));
        }
        Ok(Preprocess { size, resize, filter, scale, mean, std })
    }

    /// u8 [height, width, 3] -> f32 [size, size, 3].
    ///
    /// Errors: [`Error::Shape`] when the picture is not of that size.
    pub fn apply(&self, rgb: &[u8], height: usize, width: usize) -> Result<Vec<f32>> {
        if rgb.len() != height * width * 3 || rgb.is_empty() {
            let detail = format!("{} bytes are not [{height}, {width}, 3]", rgb.len());
            return Err(Error::shape("preprocess", detail));
        }
        let [to_height, to_width] = self.size;
        let [tall, wide] = match self.resize {
            Resize::Pressed(size) => size,
            Resize::Shortest(side) if height <= width => [side, side * width / height],
            Resize::Shortest(side) => [side * height / width, side],
            Resize::Covering if to_height * width / height >= to_width => {
                [to_height, to_height * width / height]
            }
            Resize::Covering => [to_width * height / width, to_width],
        };
        let picture = pillow(rgb, [height, width], [tall, wide], self.filter);
        let [top, left] = [(tall - to_height) / 2, (wide - to_width) / 2];
        let mut values = Vec::with_capacity(to_height * to_width * 3);
        for row in 0..to_height {
            let line = &picture[((top + row) * wide + left) * 3..][..to_width * 3];
            let value = |(at, &v): (usize, &u8)| {
                ((f64::from(v) * self.scale - self.mean[at % 3]) / self.std[at % 3]) as f32
            };
            values.extend(line.iter().enumerate().map(value));
        }
        Ok(values)
    }
}

/// `size`: both sides, or the shortest one; a lone number is what the architecture takes it for.
fn resize_of(config: &Config, usual: Resize) -> Result<Resize> {
    let Some(Value::Object(size)) = config.get("size") else {
        return Ok(match (config.get("size"), usual) {
            (None, _) => usual,
            (Some(Value::Number(_)), Resize::Shortest(_) | Resize::Covering) => {
                Resize::Shortest(sides(config, "size")?[0])
            }
            _ => Resize::Pressed(sides(config, "size")?),
        });
    };
    if !size.contains_key("shortest_edge") {
        return Ok(Resize::Pressed(sides(config, "size")?));
    }
    let part = config.part("size")?;
    part.only(&[("longest_edge", json!(null))])?;
    Ok(Resize::Shortest(side(&part, "shortest_edge")?))
}

/// Height and width: a number for both, two, or an object that names them.
fn sides(config: &Config, key: &str) -> Result<[usize; 2]> {
    if config.get(key).is_some_and(Value::is_object) {
        let part = config.part(key)?;
        return Ok([side(&part, "height")?, side(&part, "width")?]);
    }
    let sides = config.pair_or(key, 0)?;
    if sides.iter().any(|&side| side > MOST_SIDE) {
        return Err(config.wrong(key, &format!("sides up to {MOST_SIDE}")));
    }
    Ok(sides)
}

fn side(config: &Config, key: &str) -> Result<usize> {
    match config.size(key)? {
        side if (1..=MOST_SIDE).contains(&side) => Ok(side),
        _ => Err(config.wrong(key, &format!("1 to {MOST_SIDE}"))),
    }
}

/// A number for each colour, or their usual ones.
fn colours(config: &Config, key: &str, usual: [f64; 3]) -> Result<[f64; 3]> {
    let Some(value) = config.get(key) else { return Ok(usual) };
    let numbers: Option<Vec<f64>> =
        value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
    numbers.and_then(|list| list.try_into().ok()).ok_or_else(|| config.wrong(key, "three numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_take_the_middle() {
        let picture: Vec<u8> = (0..2 * 6).flat_map(|at| [(at % 6 * 40) as u8; 3]).collect();
        let cut = Preprocess { resize: Resize::Covering, ..Preprocess::vit([2, 2]) };
        let got = cut.apply(&picture, 2, 6).unwrap();
        let want = |column: usize| (column as f32 * 40.0 / 255.0 - 0.5) / 0.5;
        assert_eq!(got.len(), 12);
        assert!((got[0] - want(2)).abs() < 1e-6 && (got[5] - want(3)).abs() < 1e-6, "{got:?}");
        assert!(cut.apply(&picture, 3, 6).is_err());
        // Both sides are covered, whatever their proportion.
        for size in [[2, 5], [4, 2], [2, 8], [7, 1]] {
            let cut = Preprocess { resize: Resize::Covering, ..Preprocess::vit(size) };
            let got = cut.apply(&picture, 2, 6).unwrap();
            assert_eq!(got.len(), size[0] * size[1] * 3);
            assert!(
                got.chunks(size[1] * 3).all(|line| line == &got[..size[1] * 3]),
                "rows are alike: {size:?}"
            );
        }
    }

    #[test]
    fn a_folders_own_settings_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let open = |text: &str, usual| {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            Preprocess::open(folder.path(), usual)
        };
        let (clip, vit) = (Preprocess::clip(32), Preprocess::vit([32; 2]));
        assert_eq!(Preprocess::open(folder.path(), clip).unwrap(), clip, "without the file");
        assert_eq!(open("{}", clip).unwrap(), clip);
        let own = r#"{"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "resample": 2,
            "rescale_factor": 0.5, "image_mean": [0, 1, 2], "image_std": [1, 2, 3]}"#;
        let want = Preprocess {
            resize: Resize::Shortest(40),
            filter: Filter::Bilinear,
            scale: 0.5,
            mean: [0.0, 1.0, 2.0],
            std: [1.0, 2.0, 3.0],
            ..clip
        };
        assert_eq!(open(own, clip).unwrap(), want);
        // A number alone: one side for CLIP, both for ViT. As old files have it.
        assert_eq!(open(r#"{"size": 40, "crop_size": 32}"#, clip).unwrap().resize, Resize::Shortest(40));
        assert_eq!(open(r#"{"size": 32}"#, vit).unwrap(), vit);
        let pressed = open(r#"{"size": [40, 36], "do_center_crop": true}"#, vit).unwrap();
        assert_eq!((pressed.resize, pressed.size), (Resize::Pressed([40, 36]), [32; 2]));
        let bare = open(r#"{"do_rescale": false, "do_normalize": false}"#, vit).unwrap();
        assert_eq!(bare.apply(&[7, 8, 9], 1, 1).unwrap()[..3], [7.0, 8.0, 9.0]);
        // 20 x 10 becomes 80 x 40, of which columns 24 to 55 are kept; the first lies at 5.625 of 12 a column.
        let wide: Vec<u8> = (0..10 * 20).flat_map(|at| [(at % 20 * 12) as u8; 3]).collect();
        let half = Preprocess { scale: 1.0, mean: [0.0; 3], std: [1.0; 3], ..want };
        let got = half.apply(&wide, 10, 20).unwrap();
        assert_eq!((got.len(), got[0]), (32 * 32 * 3, 68.0), "{:?}", &got[..9]);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_key() {
        let folder = tempfile::tempdir().unwrap();
        for (text, says) in [
            (r#"{"do_resize": false}"#, "do_resize"),
            (r#"{"resample": 1}"#, "resample"),
            (r#"{"do_pad": true}"#, "do_pad"),
            (r#"{"do_center_crop": false}"#, "do_center_crop"),
            (r#"{"size": {"shortest_edge": 16}}"#, "no less than the crop"),
            (r#"{"size": {"shortest_edge": 40, "longest_edge": 50}}"#, "longest_edge"),
            (r#"{"size": {"shortest_edge": 99999}}"#, "8192"),
            (r#"{"size": {"height": 40}}"#, "width"),
            (r#"{"size": 99999}"#, "8192"),
            (r#"{"crop_size": 48}"#, "makes pictures of 48 x 48, the model takes 32 x 32"),
            (r#"{"image_mean": [0, 1]}"#, "image_mean"),
            (r#"{"image_std": [1, 0, 1]}"#, "image_std"),
            ("[]", "JSON object"),
        ] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let error = Preprocess::open(folder.path(), Preprocess::clip(32)).unwrap_err();
            assert!(error.to_string().contains(says) && error.exit_code() == 3, "{error}");
        }
    }
}
