//! A checkpoint folder of several parts, as diffusers lays pipelines out.

use crate::error::{Error, Result};
use crate::models::{self, Config};
use crate::weights::Checkpoint;
use std::path::{Path, PathBuf};

/// Parts of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The denoiser.
    Unet,
    /// Latents to pixels.
    Vae,
    /// EEG features to text embeddings.
    Semantic,
    /// EEG windows to latents.
    Seq2seq,
    /// EEG to slow or fast.
    Dynamics,
    /// Prompts to text embeddings.
    TextEncoder,
}

/// The predictor of EEG2Video, and every EEG network.
const SEMANTIC: [&str; 1 + models::EEG_MODELS.len()] = {
    let mut names = ["SemanticPredictor"; 1 + models::EEG_MODELS.len()];
    let mut at = 0;
    while at < models::EEG_MODELS.len() {
        names[at + 1] = models::EEG_MODELS[at];
        at += 1;
    }
    names
};

impl Part {
    /// Its folder.
    pub fn name(self) -> &'static str {
        match self {
            Part::Unet => "unet",
            Part::Vae => "vae",
            Part::Semantic => "semantic",
            Part::Seq2seq => "seq2seq",
            Part::Dynamics => "dynamics",
            Part::TextEncoder => "text_encoder",
        }
    }

    /// Architectures that can stand here.
    fn architectures(self) -> &'static [&'static str] {
        match self {
            Part::Unet => &["UNet3DConditionModel", "UNet2DConditionModel"],
            Part::Vae => &["AutoencoderKL"],
            Part::Semantic => &SEMANTIC,
            Part::Seq2seq => &["EEG2VideoTransformer"],
            Part::Dynamics => &models::EEG_MODELS,
            Part::TextEncoder => &["CLIPTextModel"],
        }
    }
}

/// An EEG-to-video checkpoint, or a Stable Diffusion folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    index: Option<Config>,
}

impl Folder {
    /// Opens a folder that holds at least `unet` and `vae`.
    ///
    /// Errors: [`Error::Read`], [`Error::Format`] saying what is missing.
    pub fn open(path: impl AsRef<Path>) -> Result<Folder> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(Error::read(path))?;
        if !metadata.is_dir() {
            return Err(Error::format(path, "wanted a checkpoint folder with model_index.json, got a file"));
        }
        let index = path.join("model_index.json");
        let index = index.is_file().then(|| Config::open(&index)).transpose()?;
        let folder = Folder { path: path.to_path_buf(), index };
        for part in [Part::Unet, Part::Vae] {
            if !folder.has(part) {
                let detail =
                    format!("has no '{}' folder; a checkpoint holds at least unet and vae", part.name());
                return Err(Error::format(path, detail));
            }
        }
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `model_index.json`, where there is one.
    pub fn index(&self) -> Option<&Config> {
        self.index.as_ref()
    }

    /// Whether a part is there.
    pub fn has(&self, part: Part) -> bool {
        self.path.join(part.name()).is_dir()
    }

    /// A file of the folder, where there is one.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        let path = self.path.join(name);
        path.is_file().then_some(path)
    }

    /// The scheduler's settings, where there are any.
    pub fn scheduler_config(&self) -> Option<PathBuf> {
        self.file("scheduler/scheduler_config.json")
    }

    /// A part's config, its architecture checked.
    pub fn config(&self, part: Part) -> Result<Config> {
        let config = Config::open(self.path.join(part.name()).join("config.json"))?;
        let name = config.architecture()?;
        if !part.architectures().contains(&name) {
            let wanted = part.architectures().join(" or ");
            return Err(Error::format(config.path(), format!("wanted {wanted}, got '{name}'")));
        }
        Ok(config)
    }

    /// A part's weights, under the names its model asks for.
    pub fn checkpoint(&self, part: Part) -> Result<Checkpoint> {
        let config = self.config(part)?;
        models::architecture(config.architecture()?)?.checkpoint(&self.path.join(part.name()))
    }
}
