//! `mindreel video`: EEG in, clips out.

use super::journey::{make_output, quoted, refuse_what_cannot_fit};
use super::progress::{Progress, duration};
use super::settings::SettingsFile;
use super::{Float, Shell, manifest, stop, wrong_call};
use crate::error::{Error, Result, bytes};
use crate::files;
use crate::generate::{Clip, Conditions, Folder, Run, Settings, Sizes, Stage};
use crate::gpu::Gpu;
use crate::media::{self, Format, Frames};
use crate::signal::segments::REPAIR;
use crate::signal::{Cut, Options, Recordings, Segments, Units};
use clap::{Args as _, FromArgMatches};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

const EXAMPLES: &str = "\
The recording: .npy or .npz, [62, samples] at 200 Hz in volts (cut into 2-s clips), [n, 62, samples], or SEED-DV's
[7, 62, 104000] and [7, 40, 5, 62, 400]. The checkpoint: a folder with unet/ and vae/, and semantic/, seq2seq/,
dynamics/ where there are any (`mindreel info DIR` tells); what is absent is left out of the chain. A published Stable
Diffusion v1-4 folder works with --prompt.

Examples:
  mindreel video --eeg eeg.npy --model model --output clips
  mindreel video --eeg eeg.npy --units uV --clips 0,3 --model model --output clips --num-inference-steps 50
  mindreel video --eeg eeg.npy --model model --output clips --without-dana --scheduler ddim --eta 1 --seed 7
  mindreel video --prompt 'a red car on a road' --model stable-diffusion-v1-4 --output clips --format png

Each clip is written as soon as it is whole; Ctrl-C keeps those. run.json beside them repeats the run.";

/// Decode EEG into video clips
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The recording
    #[arg(long, value_name = "FILE", required_unless_present = "prompt", conflicts_with = "prompt")]
    eeg: Option<PathBuf>,

    /// A text in place of EEG; may be given several times
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,

    /// The checkpoint folder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// Where the clips go
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// Settings by the names of these flags; flags win
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,

    /// Samples per second of the recording [default: 200]
    #[arg(long, value_name = "HZ")]
    rate: Option<f64>,

    /// What the recording's numbers are: V or uV [default: V]
    #[arg(long)]
    units: Option<String>,

    /// Seconds from one clip to the next in a continuous recording [default: 2]
    #[arg(long, value_name = "S")]
    stride: Option<f64>,

    /// Only these clips, counted from 0: 0,3,7
    #[arg(long, value_delimiter = ',', value_name = "I,J,…")]
    clips: Vec<usize>,

    /// Take clips with bad samples too (gaps are bridged); above 5 % a recording is refused all the same
    #[arg(long)]
    allow_bad: bool,

    /// Denoising steps [default: 100]
    #[arg(long, value_name = "N")]
    num_inference_steps: Option<usize>,

    /// Push away from the unconditional prediction; 1 turns it off [default: 12.5]
    #[arg(long, value_name = "X")]
    guidance_scale: Option<f64>,

    /// ddim, pndm or dpmsolver++ [default: what the checkpoint says, else ddim]
    #[arg(long)]
    scheduler: Option<String>,

    /// Fresh noise per step of ddim, 0 to 1 [default: 0]
    #[arg(long, value_name = "X")]
    eta: Option<f64>,

    /// Frames of a clip [default: what the checkpoint says, else 6]
    #[arg(long, value_name = "N")]
    num_frames: Option<usize>,

    /// Pixels, a multiple of 8 [default: what the checkpoint says, else 288]
    #[arg(long, value_name = "PX")]
    height: Option<usize>,

    /// Pixels, a multiple of 8 [default: what the checkpoint says, else 512]
    #[arg(long, value_name = "PX")]
    width: Option<usize>,

    /// Seed of all noise [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Clips denoised together [default: 1]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,

    /// Frames per second of the clips [default: 3]
    #[arg(long, value_name = "X")]
    fps: Option<f64>,

    /// gif, mp4 or png [default: gif]
    #[arg(long)]
    format: Option<String>,

    /// Number type of activations [default: f32]
    #[arg(long)]
    dtype: Option<Float>,

    /// Leave out what the semantic predictor says of the clip
    #[arg(long)]
    without_semantic: bool,

    /// Steer by the semantic predictor's embeddings as they are, not by the nearest text of texts.safetensors, where the
    /// checkpoint has that
    #[arg(long)]
    texts_as_predicted: bool,

    /// Start from noise alone, not from predicted latents
    #[arg(long)]
    without_seq2seq: bool,

    /// Noise every frame by itself, not by predicted motion
    #[arg(long)]
    without_dana: bool,

    /// The original script's arithmetic: features, start latents, truncation of pixels
    #[arg(long)]
    reproduce_original: bool,

    /// Decode in tiles of this many latents a side: less memory, slightly other pixels
    #[arg(long, value_name = "N")]
    vae_tile: Option<usize>,

    /// Refuse to start when more memory than this would be needed [default: what is free, on a software adapter]
    #[arg(long, value_name = "GIB")]
    max_memory: Option<f64>,

    /// Replace clips that are there
    #[arg(long)]
    force: bool,
}

/// Names a settings file may hold.
const KNOWN: [&str; 24] = [
    "rate",
    "units",
    "stride",
    "allow-bad",
    "num-inference-steps",
    "guidance-scale",
    "scheduler",
    "eta",
    "num-frames",
    "height",
    "width",
    "seed",
    "batch-size",
    "fps",
    "format",
    "dtype",
    "without-semantic",
    "texts-as-predicted",
    "without-seq2seq",
    "without-dana",
    "reproduce-original",
    "vae-tile",
    "max-memory",
    "force",
];

/// Everything after flags, file and defaults are merged.
struct Merged {
    settings: Settings,
    options: Options,
    cut: Cut,
    format: Format,
    max_memory_gib: Option<f64>,
    force: bool,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let merged = merge(args)?;
    merged.settings.check()?;
    media::rehearse(merged.format, merged.settings.frame_rate_fps)?;
    let started = Instant::now();
    let eeg = args.eeg.as_deref().map(|path| read(path, args, &merged)).transpose()?;
    let n_clips = eeg.as_ref().map_or(args.prompt.len(), |eeg| eeg.n);
    refuse_clips_there(&args.output, n_clips, &merged)?;
    let folder = Folder::open(&args.model)?;
    for path in manifest::differing(&args.model)? {
        shell.note(&format!("warning: {} is not what {} lists", path.display(), manifest::NAME));
    }
    let gpu = shell.open_gpu()?;
    let run = Run::new(&gpu, folder, merged.settings.clone())?;
    let need = run.need();
    let sizes = run.sizes();
    shell.note(&format!(
        "{n_clips} clip{} of {} frames, {} x {} pixels; {} calls of the model each ({}); on '{}'",
        if n_clips == 1 { "" } else { "s" },
        sizes.num_frames,
        sizes.width,
        sizes.height,
        run.n_calls(),
        run.scheduler(),
        gpu.facts().name,
    ));
    shell.note(&format!("memory: {} of weights, {} at most", bytes(need.weights), bytes(need.peak)));
    if let Some(warning) = run.warning() {
        shell.note(&format!("warning: {warning}"));
    }
    let less = "try --dtype f16, a smaller --batch-size or size, --vae-tile 32";
    refuse_what_cannot_fit(&gpu, need.peak, merged.max_memory_gib, less)?;
    make_output(&args.output)?;

    let stopped = stop::watch(shell.quiet)?;
    let conditions = match &eeg {
        Some(eeg) => Conditions::from_eeg(&gpu, run.folder(), run.settings(), eeg)?,
        None => Conditions::from_prompts(&gpu, run.folder(), run.settings(), &args.prompt)?,
    };

    let mut report = Report::new(args, &merged, &run, &gpu, eeg.as_ref());
    let mut firsts: Vec<Frames> = Vec::new();
    let mut progress = Progress::new(shell.quiet, "denoising", (n_clips * run.n_calls()) as u64);
    let comment = report.comment();
    let mut watch = |stage: Stage| {
        if let Stage::Denoising(done, _) = stage {
            progress.set(done as u64);
        }
    };
    let mut sink = |clip: Clip| {
        let stem = args.output.join(clip_name(clip.index));
        let paths = media::save(&clip.frames, &stem, merged.format, &comment)?;
        report.add(clip.index, &paths, &conditions, eeg.as_ref());
        report.write(started.elapsed().as_secs_f64(), gpu.memory().peak_reserved)?;
        if firsts.len() < MOST_IN_SHEET {
            firsts.push(clip.frames);
        }
        Ok(())
    };
    let made = run.make(&conditions, &stopped, &mut watch, &mut sink);
    progress.finish();
    if firsts.is_empty() {
        // Nothing was made: nothing is left behind but what was there before.
        let _ = std::fs::remove_dir(&args.output);
    } else {
        let sheet = media::png::overview(&firsts, 4)?;
        let path = args.output.join("sheet.png");
        media::png::write(&path, &sheet.rgb, sheet.height, sheet.width, &comment)?;
        report.value["sheet"] = json!(path.display().to_string());
        report.write(started.elapsed().as_secs_f64(), gpu.memory().peak_reserved)?;
    }
    made?;
    shell.note(&format!("done in {}", duration(started.elapsed().as_secs_f64())));
    let files: Vec<String> = report.files();
    shell.print(&files.join("\n"), &report.value)
}

/// Settles what a call of these words settles before it reads a recording: settings, and whether the checkpoint's parts
/// fit. Returns the sizes of its clips.
///
/// Errors: those of the call.
pub(super) fn rehearse(words: &[OsString], gpu: &Gpu) -> Result<Sizes> {
    let found = Args::augment_args(clap::Command::new("video")).try_get_matches_from(words);
    let args = found
        .and_then(|found| Args::from_arg_matches(&found))
        .map_err(|error| Error::setting("video", wrong_call(&error.render().to_string())))?;
    let merged = merge(&args)?;
    Ok(Run::new(gpu, Folder::open(&args.model)?, merged.settings)?.sizes())
}

/// Clips shown on the overview picture.
const MOST_IN_SHEET: usize = 12;

fn clip_name(index: usize) -> String {
    format!("clip-{index:04}")
}

fn merge(args: &Args) -> Result<Merged> {
    let file = SettingsFile::open(args.config.as_deref(), &KNOWN)?;
    let usual = Settings::default();
    let half = match (args.dtype, file.word("dtype")?.as_deref()) {
        (Some(dtype), _) => dtype == Float::F16,
        (None, None | Some("f32")) => false,
        (None, Some("f16")) => true,
        (None, Some(other)) => {
            return Err(Error::setting("dtype", format!("wanted f32 or f16, got '{other}'")));
        }
    };
    let settings = Settings {
        num_inference_steps: args
            .num_inference_steps
            .or(file.size("num-inference-steps")?)
            .unwrap_or(usual.num_inference_steps),
        guidance_scale: args
            .guidance_scale
            .or(file.number("guidance-scale")?)
            .unwrap_or(usual.guidance_scale),
        scheduler: args.scheduler.clone().or(file.word("scheduler")?),
        eta: args.eta.or(file.number("eta")?).unwrap_or(usual.eta),
        num_frames: args.num_frames.or(file.size("num-frames")?),
        height: args.height.or(file.size("height")?),
        width: args.width.or(file.size("width")?),
        seed: args.seed.or(file.count("seed")?).unwrap_or(usual.seed),
        batch_size: args.batch_size.or(file.size("batch-size")?).unwrap_or(usual.batch_size),
        frame_rate_fps: args.fps.or(file.number("fps")?).unwrap_or(usual.frame_rate_fps),
        without_semantic: args.without_semantic || file.switch("without-semantic")?,
        texts_as_predicted: args.texts_as_predicted || file.switch("texts-as-predicted")?,
        without_seq2seq: args.without_seq2seq || file.switch("without-seq2seq")?,
        without_dana: args.without_dana || file.switch("without-dana")?,
        reproduce_original: args.reproduce_original || file.switch("reproduce-original")?,
        vae_tile: args.vae_tile.or(file.size("vae-tile")?),
        half,
    };
    let mut options = Options::seed_dv();
    if let Some(rate) = args.rate.or(file.number("rate")?) {
        options.sample_rate_hz = rate;
    }
    if let Some(units) = args.units.clone().or(file.word("units")?) {
        options.units = units.parse::<Units>()?;
    }
    let mut cut = Cut::CLIPS;
    if let Some(stride) = args.stride.or(file.number("stride")?) {
        cut.stride_s = stride;
    }
    cut.allows_bad = args.allow_bad || file.switch("allow-bad")?;
    let format = match args.format.clone().or(file.word("format")?) {
        Some(name) => name.parse()?,
        None => Format::Gif,
    };
    let max_memory_gib = args.max_memory.or(file.number("max-memory")?);
    if max_memory_gib.is_some_and(|gib| !(gib.is_finite() && gib > 0.0)) {
        return Err(Error::setting("--max-memory", "wanted GiB above 0"));
    }
    let force = args.force || file.switch("force")?;
    Ok(Merged { settings, options, cut, format, max_memory_gib, force })
}

/// The recording, checked and cut.
fn read(path: &Path, args: &Args, merged: &Merged) -> Result<Segments> {
    let eeg = Recordings::load(path, &merged.options)?.segments(merged.cut).map_err(|error| match error {
        Error::Format { path, detail } if detail.ends_with(REPAIR) => {
            Error::format(path, detail + ", or give --allow-bad")
        }
        other => other,
    })?;
    match args.clips.as_slice() {
        [] => Ok(eeg),
        clips => match clips.iter().find(|&&clip| clip >= eeg.n) {
            Some(clip) => {
                let detail = format!("the recording has clips 0 to {}, {clip} was asked for", eeg.n - 1);
                Err(Error::setting("--clips", detail))
            }
            None => eeg.pick(clips),
        },
    }
}

/// Refuses a folder that holds clips already.
fn refuse_clips_there(output: &Path, n_clips: usize, merged: &Merged) -> Result<()> {
    if n_clips == 0 {
        return Err(Error::setting("--eeg", "there is no clip to decode"));
    }
    if output.is_file() {
        return Err(Error::setting("--output", format!("'{}' is a file, wanted a folder", output.display())));
    }
    let ending = |name: String| match merged.format {
        Format::Gif => format!("{name}.gif"),
        Format::Mp4 => format!("{name}.mp4"),
        Format::Png => name,
    };
    let names = (0..n_clips).map(|i| ending(clip_name(i))).chain(["run.json".into(), "sheet.png".into()]);
    for name in names {
        files::refuse_existing(&output.join(name), merged.force)?;
    }
    Ok(())
}

/// run.json: what was asked, what was made, where and how long it took.
struct Report {
    path: PathBuf,
    value: Value,
}

impl Report {
    fn new(args: &Args, merged: &Merged, run: &Run, gpu: &Gpu, eeg: Option<&Segments>) -> Report {
        let facts = gpu.facts();
        let mut settings = serde_json::to_value(run.settings()).unwrap_or_default();
        settings["scheduler"] = json!(run.scheduler());
        let value = json!({
            "program": "mindreel",
            "version": env!("CARGO_PKG_VERSION"),
            "command": command(args, merged, run),
            "model": args.model.display().to_string(),
            "eeg": args.eeg.as_ref().map(|path| path.display().to_string()),
            "prompts": args.prompt,
            "clips_asked": args.clips,
            "sample_rate_hz": eeg.map(|eeg| eeg.sample_rate_hz),
            "settings": settings,
            "sizes": run.sizes(),
            "format": merged.format.name(),
            "need_bytes": run.need(),
            "adapter": {
                "name": facts.name, "driver": facts.driver, "backend": facts.backend,
                "class": format!("{:?}", facts.class).to_lowercase(),
            },
            "clips": [],
        });
        Report { path: args.output.join("run.json"), value }
    }

    /// One line for the inside of a file: enough to make it again.
    fn comment(&self) -> String {
        format!(
            "mindreel {}: {}",
            env!("CARGO_PKG_VERSION"),
            self.value["command"].as_str().unwrap_or_default()
        )
    }

    fn add(&mut self, index: usize, paths: &[PathBuf], conditions: &Conditions, eeg: Option<&Segments>) {
        let motion = conditions.motion(index).map(|motion| format!("{motion:?}").to_lowercase());
        let origin = eeg.and_then(|eeg| eeg.origins.get(index)).map(|origin| origin.to_string());
        if let Some(clips) = self.value["clips"].as_array_mut() {
            // As text: a name may be no UTF-8, which JSON cannot hold.
            let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            clips.push(json!({ "index": index, "origin": origin, "motion": motion, "files": paths }));
        }
    }

    fn files(&self) -> Vec<String> {
        let clips = self.value["clips"].as_array().into_iter().flatten();
        let files = clips.flat_map(|clip| clip["files"].as_array().cloned().unwrap_or_default());
        files.filter_map(|file| file.as_str().map(str::to_string)).collect()
    }

    fn write(&mut self, seconds: f64, peak: u64) -> Result<()> {
        self.value["seconds"] = json!(seconds);
        self.value["peak_bytes"] = json!(peak);
        files::write_json(&self.path, &self.value)
    }
}

/// The command line that makes this run again, every setting said aloud.
fn command(args: &Args, merged: &Merged, run: &Run) -> String {
    let (settings, sizes) = (run.settings(), run.sizes());
    let mut words = vec!["mindreel".to_string(), "video".into()];
    let mut flag = |name: &str, value: String| words.extend([format!("--{name}"), quoted(&value)]);
    if let Some(eeg) = &args.eeg {
        flag("eeg", eeg.display().to_string());
        flag("rate", merged.options.sample_rate_hz.to_string());
        flag("units", if merged.options.units == Units::Volts { "V".into() } else { "uV".into() });
        flag("stride", merged.cut.stride_s.to_string());
    }
    if !args.clips.is_empty() {
        flag("clips", args.clips.iter().map(usize::to_string).collect::<Vec<_>>().join(","));
    }
    args.prompt.iter().for_each(|prompt| flag("prompt", prompt.clone()));
    flag("model", args.model.display().to_string());
    flag("output", args.output.display().to_string());
    flag("num-inference-steps", settings.num_inference_steps.to_string());
    flag("guidance-scale", settings.guidance_scale.to_string());
    flag("scheduler", run.scheduler().to_string());
    flag("eta", settings.eta.to_string());
    flag("num-frames", sizes.num_frames.to_string());
    flag("height", sizes.height.to_string());
    flag("width", sizes.width.to_string());
    flag("seed", settings.seed.to_string());
    flag("batch-size", settings.batch_size.to_string());
    flag("fps", settings.frame_rate_fps.to_string());
    flag("format", merged.format.name().to_string());
    flag("dtype", if settings.half { "f16".into() } else { "f32".into() });
    if let Some(tile) = settings.vae_tile {
        flag("vae-tile", tile.to_string());
    }
    for (on, name) in [
        (settings.without_semantic, "without-semantic"),
        (settings.texts_as_predicted, "texts-as-predicted"),
        (settings.without_seq2seq, "without-seq2seq"),
        (settings.without_dana, "without-dana"),
        (settings.reproduce_original, "reproduce-original"),
        (merged.cut.allows_bad, "allow-bad"),
    ] {
        if on {
            words.push(format!("--{name}"));
        }
    }
    words.join(" ")
}
