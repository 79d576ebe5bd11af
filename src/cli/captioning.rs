//! Flags and effects of every command that writes captions.

use super::journey::{RunFile, refuse_what_cannot_fit};
use super::progress::Progress;
use super::recipe::RecipeFlags;
use super::{Number, Shell};
use crate::error::{Error, Result, bytes};
use crate::files;
use crate::generate::{Caption, CaptionFolder, CaptionRun, CaptionSettings, Source};
use crate::gpu::Gpu;
use crate::models::{Decoding, EarlyStopping};
use crate::signal::spectrogram::Spectrograms;
use crate::signal::{Stack, npy, torch};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// How texts are chosen, by transformers' names.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct DecodingFlags {
    /// What captions go on from: 'a photo of'
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prompt: String,

    /// Texts followed beside each other; 1 takes the likeliest token each time [default: 1]
    #[arg(long, value_name = "N")]
    num_beams: Option<usize>,

    /// Draw tokens at random; so do --temperature, --top-k and --top-p
    #[arg(long)]
    do_sample: bool,

    /// Divides scores before a draw [default: 1]
    #[arg(long, value_name = "X")]
    temperature: Option<f64>,

    /// Draw among this many of the likeliest, 0 for all [default: 50]
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,

    /// Draw among the likeliest that together have this probability [default: 1]
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,

    /// Makes what was said already less likely [default: 1]
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f64>,

    /// Scores are divided by the length to this power [default: 1]
    #[arg(long, value_name = "X")]
    length_penalty: Option<f64>,

    /// When beams end: false, true or never [default: false]
    #[arg(long, value_name = "WHEN")]
    early_stopping: Option<Stopping>,

    /// Most tokens of a caption [default: 30]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,

    /// No caption ends before [default: 0]
    #[arg(long, value_name = "N")]
    min_new_tokens: Option<usize>,

    /// Captions of each item, the best first; as many beams, or draws [default: 1]
    #[arg(long, value_name = "N")]
    num_return_sequences: Option<usize>,
}

/// `--early-stopping`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Stopping {
    /// When none can become better, by its length so far
    False,
    /// When as many as beams have ended
    True,
    /// When none can become better at any length
    Never,
}

impl DecodingFlags {
    /// What the flags ask for; with `original` what they leave open is NeuroVision's evaluation: 4 beams, 5 to 15
    /// tokens, a repetition penalty of 1.4.
    pub(super) fn decoding(&self, seed: u64, original: bool) -> Decoding {
        let samples =
            self.do_sample || self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some();
        let usual = Decoding::greedy(if original { 15 } else { 30 });
        let (beams, penalty, least) = if original { (4, 1.4, 5) } else { (1, 1.0, 0) };
        let max_new_tokens = self.max_new_tokens.unwrap_or(usual.max_new_tokens);
        Decoding {
            do_sample: samples,
            temperature: self.temperature.unwrap_or(usual.temperature),
            top_k: self.top_k.unwrap_or(usual.top_k),
            top_p: self.top_p.unwrap_or(usual.top_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(penalty),
            num_beams: self.num_beams.unwrap_or(if samples { 1 } else { beams }),
            length_penalty: self.length_penalty.unwrap_or(usual.length_penalty),
            early_stopping: match self.early_stopping {
                None | Some(Stopping::False) => EarlyStopping::False,
                Some(Stopping::True) => EarlyStopping::True,
                Some(Stopping::Never) => EarlyStopping::Never,
            },
            num_return_sequences: self.num_return_sequences.unwrap_or(usual.num_return_sequences),
            max_new_tokens,
            min_new_tokens: self.min_new_tokens.unwrap_or(least.min(max_new_tokens)),
            seed,
        }
    }

    /// All that a run of captions is given.
    pub(super) fn settings(
        &self,
        seed: u64,
        batch_size: usize,
        dtype: Number,
        original: bool,
    ) -> Result<CaptionSettings> {
        let settings = CaptionSettings {
            decoding: self.decoding(seed, original),
            prompt: self.prompt.clone(),
            batch_size,
            precision: dtype.precision(),
            reproduce_original: original,
        };
        settings.check()?;
        Ok(settings)
    }
}

/// EEG, or spectrograms of it.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct EegFlags {
    /// Recordings [..., channels, samples] or spectrograms [..., channels, bins, frames] (.npy, .npz, NeuroVision's .pt)
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    eeg: Vec<PathBuf>,

    /// What the files hold, where their shapes leave it open
    #[arg(long, value_name = "KIND")]
    input: Option<Kind>,

    #[command(flatten)]
    pub(super) recipe: RecipeFlags,
}

/// `--input`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Recordings
    Eeg,
    /// Spectrograms
    Spectrogram,
}

impl EegFlags {
    /// Every file's items as spectrograms, and what each is called: its file, and its number there.
    ///
    /// Errors: [`Error::Format`] for a shape that is neither, or both; those of reading.
    pub(super) fn read(&self, n_chans: usize) -> Result<(Spectrograms, Vec<String>)> {
        let (mut all, mut names): (Option<Spectrograms>, Vec<String>) = (None, Vec::new());
        for path in &self.eeg {
            let one = self.read_one(path, n_chans)?;
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            names.extend((0..one.n()).map(|i| format!("{name}:{i}")));
            all = Some(match all {
                None => one,
                Some(mut all) => {
                    let shape = |s: &Spectrograms| [s.n_channels, s.n_bins, s.n_frames];
                    if shape(&all) != shape(&one) {
                        let (wanted, got) = (shape(&all), shape(&one));
                        let detail =
                            format!("spectrograms of {got:?}, those of the files before are {wanted:?}");
                        return Err(Error::format(path, detail));
                    }
                    all.leading = vec![all.n() + one.n()];
                    all.data.extend(one.data);
                    all
                }
            });
        }
        let all = all.ok_or_else(|| Error::setting("--eeg", "no file was given"))?;
        Ok((all, names))
    }

    fn read_one(&self, path: &Path, n: usize) -> Result<Spectrograms> {
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("pt")) {
            // NeuroVision's form of a single spectrogram.
            let npy::Array { shape, data } = torch::read(path)?;
            if data.iter().any(|v| !v.is_finite()) {
                return Err(Error::format(path, "holds NaN or infinity; make the spectrogram again"));
            }
            return Spectrograms::new(&shape, data).map_err(|detail| Error::format(path, detail));
        }
        let entry = npy::list(path)?.into_iter().next();
        let shape = entry.map(|entry| entry.shape).unwrap_or_default();
        let axis = |from_last: usize| shape.len().checked_sub(from_last).map(|at| shape[at]);
        let kind = match (self.input, axis(2) == Some(n), axis(3) == Some(n)) {
            (Some(Kind::Eeg), true, _) | (None, true, false) => Kind::Eeg,
            (Some(Kind::Spectrogram), _, true) | (None, false, true) => Kind::Spectrogram,
            (None, true, true) => {
                let detail = format!(
                    "shape {shape:?} may be EEG and may be spectrograms; say which: --input eeg or spectrogram"
                );
                return Err(Error::format(path, detail));
            }
            _ => {
                let detail = format!(
                    "shape {shape:?}, wanted EEG [..., {n}, samples] or spectrograms [..., {n}, bins, frames]"
                );
                return Err(Error::format(path, detail));
            }
        };
        match kind {
            Kind::Spectrogram => Spectrograms::read(path, None),
            Kind::Eeg => {
                let eeg = Stack::<f32>::read(path, None, false)?;
                Ok(self.recipe.spectrograms(path, &eeg)?.0)
            }
        }
    }

    /// The files.
    pub(super) fn paths(&self) -> Vec<String> {
        self.eeg.iter().map(|path| path.display().to_string()).collect()
    }
}

/// The folder, and that it takes EEG: its channels.
pub(super) fn open_for_eeg(path: &Path) -> Result<(CaptionFolder, usize)> {
    let folder = CaptionFolder::open(path)?;
    let n = folder.n_chans()?.ok_or_else(|| {
        let detail =
            "has no eeg_encoder folder; wanted a NeuroVision checkpoint (`mindreel caption-images` takes pictures)";
        Error::format(path, detail)
    })?;
    Ok((folder, n))
}

/// Items with their captions, as far as they are written.
pub(super) struct Captions {
    names: Vec<String>,
    pub(super) all: Vec<Vec<Caption>>,
    /// Keys of captions.json: item numbers, or names.
    by_name: bool,
    path: Option<PathBuf>,
}

impl Captions {
    pub(super) fn new(names: Vec<String>, by_name: bool, output: Option<&Path>) -> Captions {
        let path = output.map(|folder| folder.join("captions.json"));
        Captions { names, all: Vec::new(), by_name, path }
    }

    /// Writes captions of `source`, one item after the other, into captions.json and run.json.
    pub(super) fn make(
        &mut self,
        run: &CaptionRun,
        source: &Source,
        stop: &AtomicBool,
        shell: &Shell,
        file: &mut RunFile,
        written: &mut dyn FnMut(&mut RunFile) -> Result<()>,
    ) -> Result<()> {
        let most = source.n().saturating_mul(run.settings().decoding.max_new_tokens);
        let mut progress = Progress::new(shell.quiet, "captions", most as u64);
        let made = run.make(source, stop, &mut |done, _| progress.set(done), &mut |index, captions| {
            let best: Vec<Value> =
                captions.iter().map(|c| json!({ "text": c.text, "score": c.score, "ids": c.ids })).collect();
            file.push("items", json!({ "index": index, "name": self.names[index], "captions": best }));
            self.all.push(captions);
            self.write()?;
            written(file)
        });
        progress.finish();
        for warning in made? {
            shell.note(&format!("warning: {warning}"));
        }
        Ok(())
    }

    /// captions.json: the best caption of every item, as NeuroVision's readers take them.
    fn write(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let entry = |(index, captions): (usize, &Vec<Caption>)| {
            let key = if self.by_name { self.names[index].clone() } else { index.to_string() };
            (key, json!(captions.first().map_or("", |caption| &caption.text)))
        };
        let map: Map<String, Value> = self.all.iter().enumerate().map(entry).collect();
        files::write_json(path, &map)
    }

    /// A line for every caption.
    pub(super) fn table(&self) -> String {
        let width = self.names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(4);
        let mut text = format!("{:<width$}  {:>8}  caption\n", "item", "score");
        for (name, captions) in self.names.iter().zip(&self.all) {
            for (place, caption) in captions.iter().enumerate() {
                let name = if place == 0 { name } else { "" };
                // Of a text made by random weights anything may come.
                let line: String =
                    caption.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                text += &format!("{name:<width$}  {:>8.3}  {line}\n", caption.score);
            }
        }
        text
    }
}

/// Says what will be needed, and refuses what cannot fit.
pub(super) fn settle(
    run: &CaptionRun,
    n: usize,
    gpu: &Gpu,
    shell: &Shell,
    max_memory: Option<f64>,
) -> Result<()> {
    let (need, decoding) = (run.need(), &run.settings().decoding);
    let way = match (decoding.do_sample, decoding.num_beams) {
        (true, _) => format!("drawn with seed {}", decoding.seed),
        (false, 1) => "the likeliest tokens".into(),
        (false, beams) => format!("{beams} beams"),
    };
    let s = if n == 1 { "" } else { "s" };
    shell.note(&format!(
        "{n} item{s}, up to {} tokens each, {way}; on '{}'",
        decoding.max_new_tokens,
        gpu.facts().name
    ));
    shell.note(&format!("memory: {} of weights, {} at most", bytes(need.weights), bytes(need.peak)));
    let less = "try --dtype int8 or f16, a smaller --batch-size, fewer beams";
    refuse_what_cannot_fit(gpu, need.peak, max_memory, less)
}

/// Settings as run.json has them.
pub(super) fn told(settings: &CaptionSettings) -> Value {
    let mut value = serde_json::to_value(&settings.decoding).unwrap_or_default();
    value["prompt"] = json!(settings.prompt);
    value["batch_size"] = json!(settings.batch_size);
    value["dtype"] = json!(format!("{:?}", settings.precision).to_lowercase());
    value["reproduce_original"] = json!(settings.reproduce_original);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_belong_to_drawing_draw() {
        let of = DecodingFlags::default;
        assert_eq!(of().decoding(3, false), Decoding { seed: 3, ..Decoding::greedy(30) });
        for flags in [
            DecodingFlags { temperature: Some(0.7), ..of() },
            DecodingFlags { top_k: Some(5), ..of() },
            DecodingFlags { top_p: Some(0.9), ..of() },
            DecodingFlags { do_sample: true, ..of() },
        ] {
            let decoding = flags.decoding(0, true);
            assert!(decoding.do_sample && decoding.num_beams == 1 && decoding.check().is_ok());
        }
        let original = of().decoding(0, true);
        assert_eq!((original.num_beams, original.min_new_tokens, original.max_new_tokens), (4, 5, 15));
        let short = DecodingFlags { max_new_tokens: Some(3), ..of() }.decoding(0, true);
        assert!(short.check().is_ok());
    }
}
