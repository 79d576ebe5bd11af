//! EEG, or a picture, to text: NeuroVision's chain, and BLIP-2's.
//!
//! ```text
//! spectrogram ─resize, statistics─> EEGTransformerEncoder ─┐
//! picture ─Pillow's bicubic, CLIP's mean─> ViT-g ──────────┴─> Q-Former ─> [queries, BOS, prompt] ─> OPT ─> captions
//! ```
//!
//! A NeuroVision checkpoint is a folder: `eeg_encoder/` and `blip2/`, each `config.json` and weights (`blip2/` as published,
//! its image encoder may be absent), `tokenizer/`, `stats.safetensors` (`mean` and `std` of every channel), and
//! `model_index.json`. A BLIP-2 folder as published opens by itself, for pictures.

use super::vocabulary;
use crate::data::channel_stats;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::media::picture;
use crate::models::{
    self, Blip2Config, Blip2Language, Blip2Vision, Config, Decoding, EegEncoder, EegEncoderConfig, Ending,
    OptPast, Padding, Preprocess, Prompts,
};
use crate::nn::{self, Precision, Weights};
use crate::signal::channel_stats::{ChannelStats, Divisor};
use crate::signal::spectrogram::Spectrograms;
use crate::tensor::{DType, Tensor};
use crate::tokenizers::OptTokenizer;
use crate::weights::Checkpoint;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Need;

const EEG_ENCODER: &str = "EEGTransformerEncoder";
const BLIP2: &str = "Blip2ForConditionalGeneration";

/// A NeuroVision checkpoint, or a BLIP-2 folder.
#[derive(Clone, Debug)]
pub struct CaptionFolder {
    path: PathBuf,
    eeg_encoder: Option<PathBuf>,
    blip2: PathBuf,
    tokenizer: PathBuf,
}

impl CaptionFolder {
    /// Opens a folder.
    ///
    /// Errors: [`Error::Read`], [`Error::Format`] saying what is missing.
    pub fn open(path: impl AsRef<Path>) -> Result<CaptionFolder> {
        let path = path.as_ref();
        if !std::fs::metadata(path).map_err(Error::read(path))?.is_dir() {
            return Err(Error::format(path, "wanted a checkpoint folder, got a file"));
        }
        let (eeg, whole) = (path.join("eeg_encoder"), path.join("config.json"));
        let (eeg_encoder, blip2) = match (eeg.is_dir(), path.join("blip2").is_dir(), whole.is_file()) {
            (true, true, _) => (Some(eeg), path.join("blip2")),
            (true, false, _) => {
                let detail = "has eeg_encoder, but no blip2 folder with Q-Former and language model";
                return Err(Error::format(path, detail));
            }
            (false, true, _) => (None, path.join("blip2")),
            (false, false, true) => (None, path.to_path_buf()),
            (false, false, false) => {
                let detail = "is neither a NeuroVision checkpoint (eeg_encoder and blip2) nor a BLIP-2 folder \
                              (config.json)";
                return Err(Error::format(path, detail));
            }
        };
        let is_tokenizer =
            |folder: &Path| ["tokenizer.json", "vocab.json"].iter().any(|name| folder.join(name).is_file());
        let places = [path.join("tokenizer"), blip2.join("tokenizer"), blip2.clone()];
        let Some(tokenizer) = places.iter().find(|folder| is_tokenizer(folder)).cloned() else {
            let detail = format!(
                "has no tokenizer; wanted tokenizer.json, or vocab.json and merges.txt, in {} or {}",
                places[0].display(),
                places[2].display()
            );
            return Err(Error::format(path, detail));
        };
        let folder = CaptionFolder { path: path.to_path_buf(), eeg_encoder, blip2, tokenizer };
        config_of(&folder.blip2, BLIP2)?;
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Channels of the EEG it takes, where it takes EEG.
    ///
    /// Errors: a config that cannot be read.
    pub fn n_chans(&self) -> Result<Option<usize>> {
        let Some(eeg) = &self.eeg_encoder else { return Ok(None) };
        let config = config_of(eeg, EEG_ENCODER)?;
        let sizes = EegEncoderConfig::new(&config, Some(&checkpoint_of(eeg, EEG_ENCODER)?))?;
        Ok(Some(sizes.n_chans))
    }

    /// Statistics of the channels.
    ///
    /// Errors: as [`channel_stats::open`].
    pub fn stats(&self) -> Result<ChannelStats> {
        channel_stats::open(&self.path)
    }
}

/// A part's config, its architecture checked.
fn config_of(folder: &Path, wanted: &str) -> Result<Config> {
    let config = Config::open(folder.join("config.json"))?;
    let name = config.architecture()?;
    if name != wanted {
        return Err(Error::format(config.path(), format!("wanted {wanted}, got '{name}'")));
    }
    Ok(config)
}

fn checkpoint_of(folder: &Path, architecture: &str) -> Result<Checkpoint> {
    models::architecture(architecture)?.checkpoint(folder)
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Caption {
    /// Without special tokens and the white space around it.
    pub text: String,
    /// As [`models::Text::score`].
    pub score: f64,
    /// The new ids.
    pub ids: Vec<i64>,
}

/// What a user may choose.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionSettings {
    /// How texts are chosen.
    pub decoding: Decoding,
    /// What every caption goes on from; it is not part of it.
    pub prompt: String,
    /// Captions written together.
    pub batch_size: usize,
    /// Number types.
    pub precision: Precision,
    /// NeuroVision's: the queries alone go before a caption, and 1e-6 is added to every deviation.
    pub reproduce_original: bool,
}

impl CaptionSettings {
    /// Errors: [`Error::Setting`] naming the flag.
    pub fn check(&self) -> Result<()> {
        self.decoding.check()?;
        if self.batch_size == 0 || self.batch_size > 256 {
            let detail = format!("wanted 1 to 256, got {}", self.batch_size);
            return Err(Error::setting("--batch-size", detail));
        }
        if self.reproduce_original && !self.prompt.is_empty() {
            let detail =
                "goes not with --reproduce-original, where nothing but the queries stands before a caption";
            return Err(Error::setting("--prompt", detail));
        }
        Ok(())
    }
}

/// What captions are of.
pub enum Source {
    /// Spectrograms, one caption each.
    Eeg(Spectrograms),
    /// Files of pictures.
    Pictures(Vec<PathBuf>),
}

impl Source {
    /// Captions.
    pub fn n(&self) -> usize {
        match self {
            Source::Eeg(spectrograms) => spectrograms.n(),
            Source::Pictures(paths) => paths.len(),
        }
    }
}

/// What looks, in the place of BLIP-2's image encoder or as it.
enum Looks {
    Eeg { config: EegEncoderConfig, folder: PathBuf, stats: ChannelStats },
    Pictures(Preprocess),
}

enum Encoder {
    Eeg(Box<EegEncoder>),
    Pictures(Box<Blip2Vision>),
}

/// Captions about to be written: everything is known, nothing is loaded.
pub struct CaptionRun {
    gpu: Gpu,
    folder: CaptionFolder,
    settings: CaptionSettings,
    config: Blip2Config,
    ending: Ending,
    tokenizer: OptTokenizer,
    looks: Looks,
    /// Sides of what the encoder takes.
    size: [usize; 2],
    /// What stands behind an image's places, or before a caption without them; empty in the original.
    text: Vec<i64>,
    need: Need,
}

impl CaptionRun {
    /// Of EEG: everything is settled that can be without computing.
    ///
    /// Errors: [`Error::Setting`] for a flag out of range and a prompt too long; [`Error::Format`] and [`Error::Weights`]
    /// for a checkpoint that does not fit together.
    pub fn of_eeg(gpu: &Gpu, folder: CaptionFolder, settings: CaptionSettings) -> Result<CaptionRun> {
        let Some(eeg) = folder.eeg_encoder.clone() else {
            let detail = "has no eeg_encoder folder; wanted a NeuroVision checkpoint (`mindreel caption-images` takes pictures)";
            return Err(Error::format(&folder.path, detail));
        };
        let config = config_of(&eeg, EEG_ENCODER)?;
        let size = config.pair_or("image_size", 224)?;
        let sizes = EegEncoderConfig::new(&config, Some(&checkpoint_of(&eeg, EEG_ENCODER)?))?;
        let stats = folder.stats()?;
        if stats.n_channels() != sizes.n_chans {
            let detail = format!(
                "has statistics of {} channels, the encoder takes {}; make them again with `mindreel prepare stats`",
                stats.n_channels(),
                sizes.n_chans
            );
            return Err(Error::format(&folder.path, detail));
        }
        CaptionRun::new(gpu, folder, settings, Looks::Eeg { config: sizes, folder: eeg, stats }, size)
    }

    /// Of pictures, by BLIP-2 alone. Errors: as [`CaptionRun::of_eeg`].
    pub fn of_pictures(gpu: &Gpu, folder: CaptionFolder, settings: CaptionSettings) -> Result<CaptionRun> {
        let config = Blip2Config::new(&config_of(&folder.blip2, BLIP2)?)?;
        let file = checkpoint_of(&folder.blip2, BLIP2)?;
        if !file.names().any(|name| name.starts_with("vision_model.")) {
            let detail = "holds no image encoder (vision_model.*); pictures want a whole BLIP-2";
            return Err(Error::format(&folder.blip2, detail));
        }
        let side = config.vision.image_size;
        let preprocess = Preprocess::open(&folder.blip2, Preprocess::blip2(side))?;
        CaptionRun::new(gpu, folder, settings, Looks::Pictures(preprocess), [side; 2])
    }

    fn new(
        gpu: &Gpu,
        folder: CaptionFolder,
        settings: CaptionSettings,
        looks: Looks,
        size: [usize; 2],
    ) -> Result<CaptionRun> {
        settings.check()?;
        let file = config_of(&folder.blip2, BLIP2)?;
        let mut config = Blip2Config::new(&file)?;
        if let Looks::Eeg { config: eeg, .. } = &looks {
            // The Q-Former of NeuroVision looks at EEG, as wide as the image encoder's tokens were.
            if eeg.projection_dim != config.qformer.encoder_hidden_size {
                let detail = format!(
                    "its encoder gives tokens of {}, the Q-Former takes {}",
                    eeg.projection_dim, config.qformer.encoder_hidden_size
                );
                return Err(Error::format(&folder.path, detail));
            }
        }
        let tokenizer = OptTokenizer::open(&folder.tokenizer)?;
        vocabulary::check(
            &folder.tokenizer,
            tokenizer.vocabulary_size(),
            "the language model",
            config.text.vocab_size,
        )?;
        let text = match settings.reproduce_original {
            true => Vec::new(),
            false => tokenizer.encode(&settings.prompt)?,
        };
        let (longest, places) = (config.num_query_tokens + text.len(), config.text.max_position_embeddings);
        // The last token is written, not read.
        if longest.saturating_add(settings.decoding.max_new_tokens) > places + 1 {
            let detail = format!(
                "{} queries, {} tokens of the prompt and up to {} new ones do not fit the {places} positions of the \
                 language model; shorten the prompt or ask for fewer tokens",
                config.num_query_tokens,
                text.len(),
                settings.decoding.max_new_tokens
            );
            return Err(Error::setting("--prompt, --max-new-tokens", detail));
        }
        // A published tokenizer of before there were places for images: answers stand before the text.
        config.image_token_id = config.image_token_id.filter(|&id| id < config.text.vocab_size as i64);
        let ending = Ending::new(&file.part("text_config")?)?;
        let need = Need { weights: 0, peak: 0 };
        let gpu = gpu.clone();
        let mut run =
            CaptionRun { gpu, folder, settings, config, ending, tokenizer, looks, size, text, need };
        run.need = run.reckon()?;
        Ok(run)
    }

    /// Memory it will take.
    pub fn need(&self) -> Need {
        self.need
    }

    /// Settings as given.
    pub fn settings(&self) -> &CaptionSettings {
        &self.settings
    }

    /// Channels of the EEG it takes, where it takes EEG.
    pub fn n_chans(&self) -> Option<usize> {
        match &self.looks {
            Looks::Eeg { config, .. } => Some(config.n_chans),
            Looks::Pictures(_) => None,
        }
    }

    /// Loads one model or both on a plan and runs a batch as if all of its tokens came at once.
    fn reckon(&self) -> Result<Need> {
        let plan = self.gpu.planner();
        let planned = |folder: &Path, architecture: &str| -> Result<Weights> {
            let file = Arc::new(checkpoint_of(folder, architecture)?);
            Ok(Weights::planned(&plan, Some(file), self.settings.precision))
        };
        let encoder = match &self.looks {
            Looks::Eeg { config, folder, .. } => {
                Encoder::Eeg(Box::new(EegEncoder::load(&planned(folder, EEG_ENCODER)?, config)?))
            }
            Looks::Pictures(_) => {
                let weights = planned(&self.folder.blip2, BLIP2)?.at("vision_model");
                Encoder::Pictures(Box::new(Blip2Vision::load(&weights, &self.config.vision)?))
            }
        };
        let language = Blip2Language::load_alone(&planned(&self.folder.blip2, BLIP2)?, &self.config)?;
        let weights = plan.memory().live;
        let channels = self.n_chans().unwrap_or(3);
        let seen = self.look(&encoder, &vec![0.0; self.size[0] * self.size[1] * channels], &plan)?;
        drop(language.ask(&seen)?);
        let Decoding { num_beams, num_return_sequences, max_new_tokens, .. } = self.settings.decoding;
        let rows = self.settings.batch_size * num_beams.max(num_return_sequences);
        let model = language.language_model();
        let places = (self.config.num_query_tokens + self.text.len() + max_new_tokens)
            .min(self.config.text.max_position_embeddings);
        let dtype = model.embed(&[0], &[1])?.dtype();
        let x = Tensor::empty(&plan, &[rows, places, self.config.text.word_embed_proj_dim], dtype)?;
        let mut past = OptPast::default();
        let hidden = model.forward(&x, &Padding::none([rows, places]), Some(&mut past))?;
        model.logits(&hidden.narrow(1, places - 1, 1)?)?;
        Ok(Need { weights, peak: plan.memory().peak_reserved })
    }

    /// Values `[height, width, channels]` -> the encoder's tokens [1, tokens, width].
    fn look(&self, encoder: &Encoder, values: &[f32], gpu: &Gpu) -> Result<Tensor> {
        let [height, width] = self.size;
        let channels = values.len() / (height * width).max(1);
        let x = Tensor::new(gpu, &[1, height, width, channels], values)?;
        let half = self.settings.precision != Precision::F32 && gpu.facts().features.f16;
        let x = x.cast(if half { DType::F16 } else { DType::F32 })?;
        match encoder {
            Encoder::Eeg(encoder) => encoder.forward(&x),
            Encoder::Pictures(encoder) => encoder.forward(&x),
        }
    }

    /// What the encoder takes of item `index`, `[height, width, channels]`.
    fn input(&self, source: &Source, index: usize) -> Result<Vec<f32>> {
        let [height, width] = self.size;
        match (source, &self.looks) {
            (Source::Eeg(all), Looks::Eeg { stats, .. }) => {
                let one = all.each().nth(index).unwrap_or_default().to_vec();
                let shape = [all.n_channels, all.n_bins, all.n_frames];
                let one = Spectrograms::new(&shape, one).map_err(|e| Error::shape("spectrogram", e))?;
                let divisor =
                    if self.settings.reproduce_original { Divisor::Original } else { Divisor::Relative };
                let mut planes = Vec::new();
                stats.inputs(&one, self.size, divisor, |input| {
                    planes = input;
                    Ok(())
                })?;
                let (area, n) = (height * width, all.n_channels);
                Ok((0..area)
                    .flat_map(|at| (0..n).map(move |channel| (channel, at)))
                    .map(|(c, at)| planes[c * area + at])
                    .collect())
            }
            (Source::Pictures(paths), Looks::Pictures(preprocess)) => {
                let picture = picture::read(&paths[index])?;
                preprocess.apply(&picture.rgb, picture.height, picture.width)
            }
            _ => Err(Error::shape("captions", "EEG for a model of pictures, or the other way round")),
        }
    }

    /// Refuses what the encoder does not take, before anything is loaded.
    ///
    /// Errors: [`Error::Shape`] for spectrograms of another number of channels.
    pub fn check(&self, source: &Source) -> Result<()> {
        match (source, self.n_chans()) {
            (Source::Eeg(all), Some(n)) if all.n_channels != n => {
                let detail = format!("the encoder takes [..., {n}, bins, frames], got {:?}", all.shape());
                Err(Error::shape("spectrogram", detail))
            }
            _ => Ok(()),
        }
    }

    /// Writes the captions of `source`, batch after batch, and hands those of each item to `sink`, the best first.
    /// `watch` is told the tokens done of all. Returns warnings about the checkpoint.
    ///
    /// Errors: [`Error::Interrupted`] when `stop` is set, between tokens; what `sink` returns; as [`CaptionRun::check`].
    pub fn make(
        &self,
        source: &Source,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(u64, u64),
        sink: &mut dyn FnMut(usize, Vec<Caption>) -> Result<()>,
    ) -> Result<Vec<String>> {
        self.check(source)?;
        let precision = self.settings.precision;
        let blip2 = || checkpoint_of(&self.folder.blip2, BLIP2);
        let mut warnings = Vec::new();
        let (encoder, language) = match &self.looks {
            Looks::Eeg { config, folder, .. } => {
                let file = checkpoint_of(folder, EEG_ENCODER)?;
                let encoder =
                    nn::open(&self.gpu, file, precision, |weights| EegEncoder::load(weights, config))?;
                let language = nn::open(&self.gpu, blip2()?, precision, |weights| {
                    Blip2Language::load_alone(weights, &self.config)
                })?;
                warnings.extend(encoder.warnings.into_iter().chain(language.warnings));
                (Encoder::Eeg(Box::new(encoder.model)), language.model)
            }
            Looks::Pictures(_) => {
                let both = nn::open(&self.gpu, blip2()?, precision, |weights| {
                    let encoder = Blip2Vision::load(&weights.at("vision_model"), &self.config.vision)?;
                    Ok((Encoder::Pictures(Box::new(encoder)), Blip2Language::load(weights, &self.config)?))
                })?;
                warnings.extend(both.warnings);
                both.model
            }
        };
        let (n, most) = (source.n(), self.settings.decoding.max_new_tokens as u64);
        let stopped = || match stop.load(Ordering::Relaxed) {
            true => Err(Error::Interrupted("captions that were finished are whole".into())),
            false => Ok(()),
        };
        for start in (0..n).step_by(self.settings.batch_size) {
            let items = start..n.min(start + self.settings.batch_size);
            let mut answers = Vec::new();
            for index in items.clone() {
                stopped()?;
                let seen = self.look(&encoder, &self.input(source, index)?, &self.gpu)?;
                answers.push(language.ask(&seen)?);
                self.gpu.wait()?;
            }
            let answers = Tensor::concat(&answers.iter().collect::<Vec<_>>(), 0)?;
            let (before, of_batch) = (start as u64 * most, items.len() as u64);
            let texts = self.write(&language, &answers, start, &mut |tokens| {
                watch(before + tokens as u64 * of_batch, n as u64 * most);
                stopped()
            })?;
            watch(items.end as u64 * most, n as u64 * most);
            for (index, captions) in items.zip(texts) {
                sink(index, captions)?;
            }
        }
        Ok(warnings)
    }

    /// The captions of a batch's answers.
    fn write(
        &self,
        language: &Blip2Language,
        answers: &Tensor,
        first: usize,
        watch: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Vec<Caption>>> {
        let batch = answers.shape()[0];
        let places =
            self.config.image_token_id.map_or(Vec::new(), |id| vec![id; self.config.num_query_tokens]);
        let (embeddings, padding, ids) = if self.settings.reproduce_original {
            let (embeddings, padding) = language.bare(answers)?;
            (embeddings, padding, Vec::new())
        } else {
            let row = [places, self.text.clone()].concat();
            let padding = Padding::none([batch, row.len()]);
            let (embeddings, padding) = language.prompt(answers, &row.repeat(batch), &padding)?;
            (embeddings, padding, row)
        };
        let ids = vec![ids; batch];
        let prompts = Prompts { embeddings: &embeddings, padding: &padding, ids: &ids, first: first as u64 };
        let texts = models::generate(
            language.language_model(),
            &prompts,
            &self.ending,
            &self.settings.decoding,
            watch,
        )?;
        let caption = |text: models::Text| {
            let words = self.tokenizer.decode(&text.ids)?;
            Ok(Caption { text: words.trim().to_string(), score: text.score, ids: text.ids })
        };
        texts.into_iter().map(|texts| texts.into_iter().map(caption).collect()).collect()
    }
}
