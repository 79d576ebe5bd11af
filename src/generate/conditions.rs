//! What steers the denoiser, from EEG or from prompts: text embeddings, start latents, motion. Each model is loaded,
//! run over all clips, and let go before the denoiser comes.

use super::text::encode_texts;
use super::{Folder, Part, Settings, Sizes};
use crate::data::{EegInput, Inputs, TextTable};
use crate::diffusion::dana::Motion;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{
    ClipText, ClipTextConfig, EegConfig, Frames, SemanticInput, SemanticModel, SemanticModelConfig, Seq2Seq,
    Seq2SeqConfig, eeg_model, takes_features,
};
use crate::nn::{self, Precision, Weights};
use crate::signal::{Segments, StandardScaler, features, windows};
use crate::tensor::Tensor;
use crate::weights::{self, Checkpoint, View};
use std::sync::Arc;

/// Texts that a checkpoint was trained with, as [`TextTable`] reads them.
pub const TEXTS: &str = "texts.safetensors";
/// Clips that go through an EEG model at once.
const BATCH: usize = 16;

/// Conditioning of all clips, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    n_clips: usize,
    tokens: usize,
    width: usize,
    /// [tokens, width]
    unconditional: Vec<f32>,
    /// [n_clips, tokens, width]
    text: Option<Vec<f32>>,
    /// [n_clips, frames, h, w, c] with the shape of one clip.
    latents: Option<([usize; 4], Vec<f32>)>,
    motion: Option<Vec<Motion>>,
}

impl Conditions {
    /// From EEG segments, with whatever parts the checkpoint has and the settings leave on.
    ///
    /// Errors: features, channels or samples that a part does not take, by name; as [`nn::open`].
    pub fn from_eeg(gpu: &Gpu, folder: &Folder, settings: &Settings, eeg: &Segments) -> Result<Conditions> {
        let text = match folder.has(Part::Semantic) && !settings.without_semantic {
            true => Some(alone(gpu, || embeddings(gpu, folder, settings, eeg))?),
            false => None,
        };
        let (mut latents, mut motion) = (None, None);
        if folder.has(Part::Seq2seq) && !settings.without_seq2seq {
            latents = Some(alone(gpu, || predicted_latents(gpu, folder, settings, eeg))?);
            if folder.has(Part::Dynamics) && !settings.without_dana {
                motion = Some(alone(gpu, || predicted_motion(gpu, folder, settings, eeg))?);
            }
        }
        let (tokens, width, unconditional) = alone(gpu, || unconditional(gpu, folder, settings))?;
        if let Some(([t, w], _)) = &text
            && [*t, *w] != [tokens, width]
        {
            let detail =
                format!("semantic gives [{t}, {w}], the unconditional embedding is [{tokens}, {width}]");
            return Err(Error::format(folder.path(), detail));
        }
        let is_raw = settings.texts_as_predicted || settings.reproduce_original;
        let text = match text {
            Some((_, text)) if is_raw => Some(text),
            Some((shape, text)) => Some(nearest_texts(folder, shape, text)?),
            None => None,
        };
        Ok(Conditions { n_clips: eeg.n, tokens, width, unconditional, text, latents, motion })
    }

    /// From prompts, one clip each.
    ///
    /// Errors: a checkpoint without tokenizer and text encoder.
    pub fn from_prompts(
        gpu: &Gpu,
        folder: &Folder,
        settings: &Settings,
        prompts: &[String],
    ) -> Result<Conditions> {
        let (tokens, width, unconditional) = alone(gpu, || unconditional(gpu, folder, settings))?;
        let (_, text) = alone(gpu, || encode(gpu, folder, settings.precision(), prompts))?;
        Ok(Conditions {
            n_clips: prompts.len(),
            tokens,
            width,
            unconditional,
            text: Some(text),
            latents: None,
            motion: None,
        })
    }

    /// Of so many clips, all zeros, with what the folder and the settings will give: for a plan.
    pub(super) fn planned(
        folder: &Folder,
        settings: &Settings,
        sizes: &Sizes,
        n_clips: usize,
    ) -> Result<Conditions> {
        let (tokens, width) = embedding_shape(folder)?;
        let shape = [sizes.num_frames, sizes.latent_height, sizes.latent_width, sizes.latent_channels];
        let zeros = || vec![0.0; n_clips * shape.iter().product::<usize>()];
        let has_latents = folder.has(Part::Seq2seq) && !settings.without_seq2seq;
        Ok(Conditions {
            n_clips,
            tokens,
            width,
            unconditional: vec![0.0; tokens * width],
            text: Some(vec![0.0; n_clips * tokens * width]),
            latents: has_latents.then(|| (shape, zeros())),
            motion: (has_latents && !settings.without_dana).then(|| vec![Motion::Fast; n_clips]),
        })
    }

    /// Clips.
    pub fn n_clips(&self) -> usize {
        self.n_clips
    }

    /// Whether there is anything beside the unconditional embedding.
    pub fn has_text(&self) -> bool {
        self.text.is_some()
    }

    /// Text embeddings of some clips; with `guided`, as many unconditional ones before them.
    pub fn text(&self, gpu: &Gpu, clips: &[usize], guided: bool) -> Result<Tensor> {
        let size = self.tokens * self.width;
        let mut values = Vec::new();
        if guided {
            clips.iter().for_each(|_| values.extend_from_slice(&self.unconditional));
        }
        for &clip in clips {
            match &self.text {
                Some(text) => values.extend_from_slice(&text[clip * size..(clip + 1) * size]),
                None => values.extend_from_slice(&self.unconditional),
            }
        }
        Tensor::new(gpu, &[values.len() / size, self.tokens, self.width], &values)
    }

    /// Predicted latents of a clip, unscaled, [frames, h, w, c].
    pub fn latents(&self, gpu: &Gpu, clip: usize) -> Result<Option<Tensor>> {
        let Some((shape, values)) = &self.latents else { return Ok(None) };
        let size: usize = shape.iter().product();
        Tensor::new(gpu, shape, &values[clip * size..(clip + 1) * size]).map(Some)
    }

    /// Predicted motion of a clip.
    pub fn motion(&self, clip: usize) -> Option<Motion> {
        self.motion.as_ref().map(|motion| motion[clip])
    }
}

/// Most memory any of the conditioning parts takes, by running it on a plan.
pub(super) fn need(plan: &Gpu, folder: &Folder, settings: &Settings) -> Result<u64> {
    let mut most = 0;
    let mut part = |part: Part, run: &dyn Fn(&Weights, &Checkpoint) -> Result<()>| -> Result<()> {
        if folder.has(part) {
            let plan = plan.planner();
            let checkpoint = Arc::new(folder.checkpoint(part)?);
            let weights = Weights::planned(&plan, Some(checkpoint.clone()), settings.precision());
            run(&weights.with_full_activations(), &checkpoint)?;
            most = most.max(plan.memory().peak_reserved);
        }
        Ok(())
    };
    part(Part::Semantic, &|weights, file| {
        let config = SemanticModelConfig::new(&folder.config(Part::Semantic)?, Some(file))?;
        let shape = match config.input {
            SemanticInput::Features { n_features, .. } => vec![BATCH, n_features],
            SemanticInput::Windows { n_chans, n_times, .. } => vec![BATCH, n_chans, n_times],
        };
        let x = Tensor::empty(weights.gpu(), &shape, weights.dtype())?;
        SemanticModel::load(weights, &config)?.forward(&x).map(drop)
    })?;
    part(Part::Seq2seq, &|weights, _| {
        let config = Seq2SeqConfig::new(&folder.config(Part::Seq2seq)?)?;
        let shape = [BATCH, config.n_windows, config.n_chans, config.n_times];
        let x = Tensor::empty(weights.gpu(), &shape, weights.dtype())?;
        Seq2Seq::load(weights, &config)?.forward(&x).map(drop)
    })?;
    part(Part::Dynamics, &|weights, _| {
        let file = folder.config(Part::Dynamics)?;
        let config = EegConfig::new(&file)?;
        let shape = match takes_features(file.architecture()?) {
            true => vec![BATCH, config.n_features],
            false => vec![BATCH, config.n_chans, config.n_times],
        };
        let x = Tensor::empty(weights.gpu(), &shape, weights.dtype())?;
        eeg_model(weights, &file)?.forward(&[&x]).map(drop)
    })?;
    part(Part::TextEncoder, &|weights, _| {
        let config = ClipTextConfig::new(&folder.config(Part::TextEncoder)?)?;
        let ids = vec![0; BATCH * config.max_position_embeddings];
        ClipText::load(weights, &config)?.forward(&ids, BATCH).map(drop)
    })?;
    Ok(most)
}

/// Runs one part, then gives back what it held: parts come one after the other, and the most that one takes is what was
/// told.
fn alone<T>(gpu: &Gpu, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let made = run()?;
    gpu.trim()?;
    Ok(made)
}

/// Features or windows through the semantic predictor, a clip's windows averaged: [clips, tokens, width].
fn embeddings(
    gpu: &Gpu,
    folder: &Folder,
    settings: &Settings,
    eeg: &Segments,
) -> Result<([usize; 2], Vec<f32>)> {
    let checkpoint = folder.checkpoint(Part::Semantic)?;
    let config = SemanticModelConfig::new(&folder.config(Part::Semantic)?, Some(&checkpoint))?;
    let scaler = match config.input {
        SemanticInput::Features { n_features, n_windows, .. } => {
            let given = n_windows * eeg.n_channels * features::BANDS.len();
            if n_features != given {
                let detail = format!(
                    "semantic takes {n_features} features, {} channels in {} bands give {given}",
                    eeg.n_channels,
                    features::BANDS.len()
                );
                return Err(Error::format(folder.path(), detail));
            }
            scaler(folder, &["features"], n_features)?
        }
        SemanticInput::Windows { n_chans, n_times, .. } => {
            if n_chans != eeg.n_channels || n_times > eeg.n_samples {
                let detail = format!(
                    "semantic takes windows of {n_chans} x {n_times}, a clip is {} x {}",
                    eeg.n_channels, eeg.n_samples
                );
                return Err(Error::format(folder.path(), detail));
            }
            scaler(folder, &["semantic", "eeg"], n_chans)?
        }
    };
    let input = semantic_input(&config.input, settings.reproduce_original);
    let inputs = input.cut(eeg, scaler.as_ref())?;
    let model = nn::open(gpu, checkpoint, settings.precision(), |weights| {
        SemanticModel::load(&weights.with_full_activations(), &config)
    })?
    .model;
    let text = by_clip(gpu, &inputs, eeg.n, &|x| model.forward(x))?;
    Ok((config.output_shape, text))
}

/// Predictions [clips, tokens, width] -> the nearest text of the checkpoint's own table for each, where it has one: a
/// prediction lies between the texts that it cannot tell apart, where the denoiser has learnt nothing. What is not
/// finite stays.
fn nearest_texts(folder: &Folder, [tokens, width]: [usize; 2], mut text: Vec<f32>) -> Result<Vec<f32>> {
    let Some(path) = folder.file(TEXTS) else { return Ok(text) };
    let table = TextTable::open(&path)?;
    if [table.tokens, table.width] != [tokens, width] {
        let detail =
            format!("holds texts [{}, {}], semantic gives [{tokens}, {width}]", table.tokens, table.width);
        return Err(Error::format(&path, detail));
    }
    for predicted in text.chunks_exact_mut(tokens * width) {
        if predicted.iter().all(|v| v.is_finite()) {
            predicted.copy_from_slice(table.row(table.nearest(predicted)));
        }
    }
    Ok(text)
}

/// What is cut of a clip for a semantic model; windows follow each other.
pub fn semantic_input(input: &SemanticInput, is_original: bool) -> EegInput {
    match *input {
        SemanticInput::Features { n_windows, is_original: always, .. } => {
            let form =
                if is_original || always { features::Form::Original } else { features::Form::Corrected };
            EegInput::Features { n_windows, form }
        }
        SemanticInput::Windows { n_times, is_centred, .. } => {
            EegInput::Windows { n_times, step: n_times, is_centred }
        }
    }
}

/// EEG windows through the sequence model: [clips, frames, h, w, c], unscaled.
fn predicted_latents(
    gpu: &Gpu,
    folder: &Folder,
    settings: &Settings,
    eeg: &Segments,
) -> Result<([usize; 4], Vec<f32>)> {
    let config = Seq2SeqConfig::new(&folder.config(Part::Seq2seq)?)?;
    let step = config.n_times / 2;
    let n = windows::starts(eeg.n_samples, config.n_times, step).len();
    if n != config.n_windows || eeg.n_channels != config.n_chans {
        let detail = format!(
            "seq2seq takes {} windows of {} x {}, a clip gives {n} of {} x {}",
            config.n_windows, config.n_chans, config.n_times, eeg.n_channels, config.n_times
        );
        return Err(Error::format(folder.path(), detail));
    }
    let scaler = scaler(folder, &["seq2seq", "eeg"], eeg.n_channels)?;
    let input = EegInput::Windows { n_times: config.n_times, step, is_centred: config.is_centred };
    let all = input.cut(eeg, scaler.as_ref())?.values;
    let open = |weights: &Weights| Seq2Seq::load(&weights.with_full_activations(), &config);
    let model = nn::open(gpu, folder.checkpoint(Part::Seq2seq)?, settings.precision(), open)?.model;
    let which = if settings.reproduce_original { Frames::Original } else { Frames::Decoded };
    let size = config.n_windows * config.n_chans * config.n_times;
    let mut latents = in_batches(eeg.n, |clips| {
        let shape = [clips.len(), config.n_windows, config.n_chans, config.n_times];
        let x = Tensor::new(gpu, &shape, &all[clips.start * size..clips.end * size])?;
        let (_, latents) = model.forward(&x)?;
        model.frames(&latents, which)?.to_vec()
    })?;
    if config.latent_scale != 1.0 {
        latents.iter_mut().for_each(|v| *v = (f64::from(*v) / config.latent_scale) as f32);
    }
    let [c, h, w] = config.latent_shape;
    Ok(([config.n_windows - 1, h, w, c], latents))
}

/// EEG through the dynamics classifier: class 1 is fast. A window shorter than the clip is moved along it and the
/// scores are averaged.
fn predicted_motion(gpu: &Gpu, folder: &Folder, settings: &Settings, eeg: &Segments) -> Result<Vec<Motion>> {
    let file = folder.config(Part::Dynamics)?;
    let (config, n_outputs) = (EegConfig::new(&file)?, file.size("n_outputs")?);
    let reads_features = takes_features(file.architecture()?);
    let fits = match reads_features {
        true => config.n_features == eeg.n_channels * features::BANDS.len(),
        false => config.n_times <= eeg.n_samples,
    };
    if n_outputs != 2 || config.n_chans != eeg.n_channels || !fits {
        let detail = format!(
            "dynamics gives {n_outputs} classes from {} x {}, wanted 2 (slow, fast) from a clip of {} x {}",
            config.n_chans, config.n_times, eeg.n_channels, eeg.n_samples
        );
        return Err(Error::format(folder.path(), detail));
    }
    let (input, scaler) = match reads_features {
        true => {
            let form = match file.word_or("feature_form", "corrected")? {
                "original" => features::Form::Original,
                _ => features::Form::Corrected,
            };
            let input = EegInput::Features { n_windows: 1, form };
            (input, scaler(folder, &["dynamics", "features"], config.n_features)?)
        }
        false => {
            let is_centred = file.switch_or("centred", false)?;
            let input = EegInput::Windows { n_times: config.n_times, step: config.n_times, is_centred };
            (input, scaler(folder, &["dynamics", "eeg"], eeg.n_channels)?)
        }
    };
    let inputs = input.cut(eeg, scaler.as_ref())?;
    let open = |weights: &Weights| eeg_model(&weights.with_full_activations(), &file);
    let model = nn::open(gpu, folder.checkpoint(Part::Dynamics)?, settings.precision(), open)?.model;
    let scores = by_clip(gpu, &inputs, eeg.n, &|x| model.scores(&[x], 2))?;
    Ok(scores.chunks(2).map(|s| if s[1] > s[0] { Motion::Fast } else { Motion::Slow }).collect())
}

/// Runs a network over examples and averages what it gives over those of a clip: [clips, ..].
///
/// Errors: whatever `run` returns; [`Error::Shape`] for a clip without an example.
pub fn by_clip(
    gpu: &Gpu,
    inputs: &Inputs,
    n_clips: usize,
    run: &dyn Fn(&Tensor) -> Result<Tensor>,
) -> Result<Vec<f32>> {
    let size: usize = inputs.shape.iter().product();
    let all = in_batches(inputs.len(), |some| {
        let shape = [&[some.len()], &inputs.shape[..]].concat();
        run(&Tensor::new(gpu, &shape, &inputs.values[some.start * size..some.end * size])?)?.to_vec()
    })?;
    let width = all.len() / inputs.len().max(1);
    let mut counts = vec![0_usize; n_clips];
    inputs.clips.iter().for_each(|&clip| counts[clip] += 1);
    if let Some(clip) = counts.iter().position(|&n| n == 0) {
        return Err(Error::shape("eeg", format!("clip {clip} gives no window")));
    }
    let mut sums = vec![0.0_f64; n_clips * width];
    for (&clip, row) in inputs.clips.iter().zip(all.chunks_exact(width.max(1))) {
        sums[clip * width..][..width].iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
    }
    Ok(sums.iter().enumerate().map(|(at, sum)| (sum / counts[at / width] as f64) as f32).collect())
}

/// The embedding of nothing: from the checkpoint, or of the empty prompt.
fn unconditional(gpu: &Gpu, folder: &Folder, settings: &Settings) -> Result<(usize, usize, Vec<f32>)> {
    let Some(path) = folder.file("negative.safetensors") else {
        let ([tokens, width], text) = encode(gpu, folder, settings.precision(), &[String::new()])?;
        return Ok((tokens, width, text));
    };
    let file = Checkpoint::open(&path)?;
    let (view, [tokens, width]) = embedding(&file)?;
    Ok((tokens, width, weights::to_f32(&view)?))
}

/// The tensor of a file of one embedding; tokens and width.
fn embedding(file: &Checkpoint) -> Result<(View<'_>, [usize; 2])> {
    let view = file.views().next().ok_or_else(|| Error::format(file.path(), "holds no tensor"))?;
    match view.shape {
        &[tokens, width] | &[1, tokens, width] if tokens * width > 0 => Ok((view, [tokens, width])),
        other => Err(Error::format(file.path(), format!("wanted [tokens, width], got {other:?}"))),
    }
}

/// What a checkpoint without any embedding lacks.
const NO_TEXT: &str =
    "has neither negative.safetensors nor text_encoder and tokenizer; one of them is needed";

/// Tokens and width of the embedding that steers the denoiser.
fn embedding_shape(folder: &Folder) -> Result<(usize, usize)> {
    let Some(path) = folder.file("negative.safetensors") else {
        return match folder.has(Part::TextEncoder) {
            true => encoding(folder),
            false => Err(Error::format(folder.path(), NO_TEXT)),
        };
    };
    Ok(embedding(&Checkpoint::open(&path)?)?.1.into())
}

/// Tokens and width of a prompt's embedding.
///
/// Errors: a checkpoint without text encoder.
pub(super) fn encoding(folder: &Folder) -> Result<(usize, usize)> {
    if !folder.has(Part::TextEncoder) {
        return Err(Error::format(folder.path(), "has no text_encoder; prompts want one, and a tokenizer"));
    }
    let config = ClipTextConfig::new(&folder.config(Part::TextEncoder)?)?;
    Ok((config.max_position_embeddings, config.hidden_size))
}

/// Prompts through tokenizer and text encoder: ([tokens, width], [prompts, tokens, width]).
pub(super) fn encode(
    gpu: &Gpu,
    folder: &Folder,
    precision: Precision,
    prompts: &[String],
) -> Result<([usize; 2], Vec<f32>)> {
    if !folder.has(Part::TextEncoder) {
        return Err(Error::format(folder.path(), NO_TEXT));
    }
    encode_texts(gpu, folder.path(), precision, prompts)
}

/// `<name>.mean` and `<name>.scale` of scaler.safetensors, of the first name that is there: a part's own, or those that
/// parts share.
fn scaler(folder: &Folder, names: &[&str], n: usize) -> Result<Option<StandardScaler>> {
    let Some(path) = folder.file("scaler.safetensors") else { return Ok(None) };
    let file = Checkpoint::open(&path)?;
    let is_there =
        |name: &&&str| ["mean", "scale"].iter().any(|part| file.get(&format!("{name}.{part}")).is_some());
    let Some(name) = names.iter().find(is_there) else { return Ok(None) };
    let vector = |part: &str| -> Result<Option<Vec<f64>>> {
        let Some(view) = file.get(&format!("{name}.{part}")) else { return Ok(None) };
        if view.n_values() != n {
            let detail = format!("'{name}.{part}' holds {} values, wanted {n}", view.n_values());
            return Err(Error::format(&path, detail));
        }
        let values: Vec<f64> = weights::to_f32(&view)?.into_iter().map(f64::from).collect();
        if values.iter().any(|v| !v.is_finite() || (part == "scale" && *v <= 0.0)) {
            return Err(Error::format(&path, format!("'{name}.{part}' holds values no scaler can have")));
        }
        Ok(Some(values))
    };
    match (vector("mean")?, vector("scale")?) {
        (Some(mean), Some(scale)) => Ok(Some(StandardScaler { mean, scale })),
        (None, None) => Ok(None),
        _ => Err(Error::format(&path, format!("wanted both '{name}.mean' and '{name}.scale', got one"))),
    }
}

/// Runs `run` over `n` clips, some at a time, and joins what it gives.
pub(super) fn in_batches(
    n: usize,
    mut run: impl FnMut(std::ops::Range<usize>) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for start in (0..n).step_by(BATCH) {
        all.extend(run(start..n.min(start + BATCH))?);
    }
    Ok(all)
}
