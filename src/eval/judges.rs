//! Judges: models that look at clips, opened once.
//!
//! ```text
//! ViTForImageClassification       each frame -> logits          n-way by frames
//! VideoMAEForVideoClassification  a clip     -> logits          n-way by clips
//! CLIPVisionModelWithProjection   each frame -> unit embedding  cosines
//! ClipClassifier                  a clip     -> logits          which of the known concepts it shows
//! ```

use crate::error::{Error, Result, nearest};
use crate::gpu::Gpu;
use crate::media::Frames;
use crate::models::{
    ClipClassifier, ClipClassifierConfig, ClipVision, ClipVisionConfig, Config, Preprocess, VideoMae,
    VideoMaeConfig, Vit, VitConfig, architecture,
};
use crate::nn::{self, Precision, Weights};
use crate::tensor::{DType, Tensor};
use std::path::{Path, PathBuf};

/// What a judge looks at, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Class scores of each frame.
    Image,
    /// Class scores of a clip.
    Video,
    /// A unit vector for each frame.
    Clip,
    /// Scores of the classes one decodes.
    Concept,
}

impl Kind {
    /// All, with the architecture that is each.
    pub const ALL: [(Kind, &'static str); 4] = [
        (Kind::Image, "ViTForImageClassification"),
        (Kind::Video, "VideoMAEForVideoClassification"),
        (Kind::Clip, "CLIPVisionModelWithProjection"),
        (Kind::Concept, "ClipClassifier"),
    ];

    /// The architecture.
    pub fn architecture(self) -> &'static str {
        Kind::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// What a folder's `config.json` says it is.
    ///
    /// Errors: those of [`Config::open`]; [`Error::Format`] for an architecture that judges nothing.
    pub fn of(folder: &Path) -> Result<Kind> {
        let config = Config::open(folder.join("config.json"))?;
        let name = match config.architecture()? {
            "CLIPModel" | "CLIPVisionModel" => Kind::Clip.architecture(),
            name => name,
        };
        let names = Kind::ALL.map(|(_, name)| name);
        let found = Kind::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(kind, _)| *kind).ok_or_else(|| {
            let near =
                nearest(name, names).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
            let detail = format!(
                "is a '{}', which judges no clips; wanted {}{near}",
                name.escape_debug(),
                names.join(", ")
            );
            Error::format(config.path(), detail)
        })
    }
}

enum Model {
    Image(Vit),
    Video(VideoMae),
    Clip(ClipVision),
    Concept(ClipClassifier),
}

/// A model that looks at clips.
pub struct Judge {
    gpu: Gpu,
    dtype: DType,
    folder: PathBuf,
    model: Model,
    preprocess: Preprocess,
    n_classes: usize,
}

impl Judge {
    /// Opens a folder for clips of this many frames: a VideoMAE takes them all, its fixed positions computed anew.
    /// Frames are made by the folder's `preprocessor_config.json`, or as is usual. Returns warnings beside it.
    ///
    /// Errors: as [`Kind::of`]; those of [`nn::open`] and [`Preprocess::open`]; [`Error::Format`] for a
    /// [`ClipClassifier`] of another number of frames.
    pub fn open(
        gpu: &Gpu,
        folder: &Path,
        n_frames: usize,
        precision: Precision,
    ) -> Result<(Judge, Vec<String>)> {
        let kind = Kind::of(folder)?;
        let config = Config::open(folder.join("config.json"))?;
        let checkpoint = architecture(kind.architecture())?.checkpoint(folder)?;
        let dtype = std::cell::Cell::new(DType::F32);
        let opened = nn::open(gpu, checkpoint, precision, |weights: &Weights| {
            dtype.set(weights.dtype());
            Ok(match kind {
                Kind::Image => Model::Image(Vit::load(weights, &VitConfig::new(&config)?)?),
                Kind::Video => {
                    let sizes = VideoMaeConfig { num_frames: n_frames, ..VideoMaeConfig::new(&config)? };
                    if n_frames < sizes.tubelet_size {
                        let wanted = sizes.tubelet_size;
                        let detail = format!("looks at {wanted} frames at once, the clips have {n_frames}");
                        return Err(Error::format(config.path(), detail));
                    }
                    Model::Video(VideoMae::load(weights, &sizes)?)
                }
                Kind::Clip => Model::Clip(ClipVision::load(weights, &ClipVisionConfig::new(&config)?)?),
                Kind::Concept => {
                    let sizes = ClipClassifierConfig::new(&config)?;
                    if sizes.num_frames != n_frames {
                        let detail =
                            format!("is for clips of {} frames, these have {n_frames}", sizes.num_frames);
                        return Err(Error::format(config.path(), detail));
                    }
                    // Small: f32 costs nothing.
                    dtype.set(DType::F32);
                    Model::Concept(ClipClassifier::load(&weights.with_full_activations(), &sizes)?)
                }
            })
        })?;
        let (usual, n_classes) = match &opened.model {
            Model::Image(model) => (Preprocess::vit(model.config().image_size), model.config().num_labels),
            Model::Video(model) => {
                (Preprocess::videomae(model.config().image_size), model.config().num_labels)
            }
            Model::Clip(model) => {
                (Preprocess::clip(model.config().image_size), model.config().projection_dim)
            }
            Model::Concept(model) => {
                (Preprocess::symmetric(model.config().image_size), model.config().num_labels)
            }
        };
        // Of a whole CLIP the other half is not asked for.
        let warnings = if config.has("vision_config") { vec![] } else { opened.warnings };
        let judge = Judge {
            gpu: gpu.clone(),
            dtype: dtype.get(),
            folder: folder.into(),
            model: opened.model,
            preprocess: Preprocess::open(folder, usual)?,
            n_classes,
        };
        Ok((judge, warnings))
    }

    /// What it looks at.
    pub fn kind(&self) -> Kind {
        match self.model {
            Model::Image(_) => Kind::Image,
            Model::Video(_) => Kind::Video,
            Model::Clip(_) => Kind::Clip,
            Model::Concept(_) => Kind::Concept,
        }
    }

    /// Classes it tells apart; of CLIP the width of an embedding.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// Where it was opened.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it says of a clip: a row for each frame, or one for the clip.
    ///
    /// Errors: those of the model, for a clip of another number of frames than it was opened for; [`Error::Format`]
    /// where an answer is not finite.
    pub fn look(&self, clip: &Frames) -> Result<Vec<Vec<f32>>> {
        let [height, width] = self.preprocess.size;
        let mut values = Vec::with_capacity(clip.count * height * width * 3);
        for frame in clip.rgb.chunks_exact(clip.height * clip.width * 3) {
            values.extend(self.preprocess.apply(frame, clip.height, clip.width)?);
        }
        let put = |shape: &[usize]| Tensor::new(&self.gpu, shape, &values)?.cast(self.dtype);
        let (images, video) = ([clip.count, height, width, 3], [1, clip.count, height, width, 3]);
        let rows = match &self.model {
            Model::Image(model) => model.forward(&put(&images)?)?,
            Model::Video(model) => model.forward(&put(&video)?)?,
            Model::Clip(model) => model.forward(&put(&images)?)?.1,
            Model::Concept(model) => model.forward(&put(&video)?)?,
        };
        let width = rows.dim(0);
        let values = rows.to_vec()?;
        if values.iter().any(|value| !value.is_finite()) {
            let detail = "answers with NaN or infinity; do its weights fit its config?";
            return Err(Error::format(&self.folder, detail));
        }
        let mut rows: Vec<Vec<f32>> = values.chunks(width).map(<[f32]>::to_vec).collect();
        if self.kind() == Kind::Clip {
            rows.iter_mut().for_each(|row| to_unit(row));
        }
        Ok(rows)
    }
}

/// Scales a vector to length 1; one of zeros stays.
pub fn to_unit(row: &mut [f32]) {
    let length = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
}

/// Cosine of two unit vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Mean cosine of the frames of two clips, one by one.
pub fn clip_cosine(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    a.iter().zip(b).map(|(a, b)| cosine(a, b)).sum::<f64>() / a.len().max(1) as f64
}

/// CLIP-pcc: mean cosine of each frame and the next; 1 for a clip of one frame.
pub fn clip_pcc(frames: &[Vec<f32>]) -> f64 {
    if frames.len() < 2 {
        return 1.0;
    }
    frames.windows(2).map(|pair| cosine(&pair[0], &pair[1])).sum::<f64>() / (frames.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_by_hand() {
        let unit = |values: [f32; 2]| {
            let mut row = values.to_vec();
            to_unit(&mut row);
            row
        };
        let (a, b) = (vec![unit([3.0, 4.0]), unit([1.0, 0.0])], vec![unit([4.0, 3.0]), unit([0.0, 2.0])]);
        assert!((clip_cosine(&a, &b) - 0.48).abs() < 1e-6);
        assert!((clip_pcc(&a) - 0.6).abs() < 1e-6);
        assert_eq!(clip_pcc(&a[..1]), 1.0);
        assert_eq!(unit([0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn other_architectures_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |config: &str| {
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            Kind::of(folder.path()).unwrap_err().to_string()
        };
        let text = refused(r#"{"architectures": ["BertModel"]}"#);
        assert!(text.contains("'BertModel'") && text.contains("ViTForImageClassification"), "{text}");
        assert!(refused(r#"{"_class_name": "ClipClasifier"}"#).contains("did you mean 'ClipClassifier'"));
        assert!(Kind::of(&folder.path().join("nowhere")).unwrap_err().to_string().contains("config.json"));
    }
}
