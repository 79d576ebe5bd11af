//! Flags and effects of every command that makes pictures of words.

use super::Shell;
use super::journey::{quoted, refuse_what_cannot_fit};
use crate::error::{Result, bytes};
use crate::generate::{Folder, ImageRun, ImageSettings, Order, too_long};
use crate::gpu::Gpu;
use serde_json::{Value, json};
use std::path::Path;

/// How pictures are made, by diffusers' names.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct ImageFlags {
    /// What pictures shall not show
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) negative_prompt: String,

    /// Denoising steps [default: 50; 20 for `reconstruct`, as NeuroVision]
    #[arg(long, value_name = "N")]
    num_inference_steps: Option<usize>,

    /// Push from the negative prompt to the prompt; 1 turns it off [default: 7.5]
    #[arg(long, value_name = "X")]
    guidance_scale: Option<f64>,

    /// ddim, pndm or dpmsolver++ [default: what the checkpoint says, else pndm]
    #[arg(long)]
    scheduler: Option<String>,

    /// Fresh noise per step of ddim, 0 to 1 [default: 0]
    #[arg(long, value_name = "X")]
    eta: Option<f64>,

    /// Steps of dpmsolver++ as Karras et al. lay them
    #[arg(long)]
    use_karras_sigmas: bool,

    /// Pixels, a multiple of 8 [default: what the checkpoint was trained at]
    #[arg(long, value_name = "PX")]
    height: Option<usize>,

    /// Pixels, a multiple of 8 [default: what the checkpoint was trained at]
    #[arg(long, value_name = "PX")]
    width: Option<usize>,

    /// Pictures denoised together
    #[arg(long, value_name = "N", default_value_t = 1)]
    image_batch_size: usize,

    /// Decode in tiles of this many latents a side: less memory, slightly other pixels
    #[arg(long, value_name = "N")]
    vae_tile: Option<usize>,
}

impl ImageFlags {
    /// What the flags ask for; `steps` where they do not say.
    pub(super) fn settings(&self, steps: usize, half: bool) -> Result<ImageSettings> {
        let usual = ImageSettings::default();
        let settings = ImageSettings {
            num_inference_steps: self.num_inference_steps.unwrap_or(steps),
            guidance_scale: self.guidance_scale.unwrap_or(usual.guidance_scale),
            scheduler: self.scheduler.clone(),
            eta: self.eta.unwrap_or(usual.eta),
            use_karras_sigmas: self.use_karras_sigmas,
            height: self.height,
            width: self.width,
            batch_size: self.image_batch_size,
            vae_tile: self.vae_tile,
            half,
        };
        settings.check()?;
        Ok(settings)
    }
}

/// Says what will be needed, and refuses what cannot fit.
pub(super) fn settle(
    run: &ImageRun,
    n: usize,
    gpu: &Gpu,
    shell: &Shell,
    max_memory: Option<f64>,
) -> Result<()> {
    let ([height, width], need) = (run.size(), run.need());
    shell.note(&format!(
        "{n} picture{} of {width} x {height} pixels; {} calls of the model each ({}); on '{}'",
        if n == 1 { "" } else { "s" },
        run.n_calls(),
        run.scheduler(),
        gpu.facts().name,
    ));
    shell.note(&format!("memory: {} of weights, {} at most", bytes(need.weights), bytes(need.peak)));
    if let Some(warning) = run.warning() {
        shell.note(&format!("warning: {warning}"));
    }
    let less = "try --dtype f16, a smaller --image-batch-size or size, --vae-tile 32";
    refuse_what_cannot_fit(gpu, need.peak, max_memory, less)
}

/// Says which prompts are longer than the text encoder hears.
pub(super) fn warn_of_length(folder: &Folder, orders: &[Order], shell: &Shell) -> Result<()> {
    for order in orders {
        if let Some([tokens, heard]) = too_long(folder, &order.prompt)? {
            let begin: String = order.prompt.chars().take(40).collect();
            shell.note(&format!(
                "warning: the prompt '{begin}…' has {tokens} tokens, the text encoder hears the first {heard}"
            ));
        }
    }
    Ok(())
}

/// Settings as run.json has them.
pub(super) fn told(run: &ImageRun) -> Value {
    let mut value = serde_json::to_value(run.settings()).unwrap_or_default();
    let [height, width] = run.size();
    value["scheduler"] = json!(run.scheduler());
    (value["height"], value["width"]) = (json!(height), json!(width));
    value
}

/// One line for the inside of a picture: the command that makes it again, every setting said aloud.
pub(super) fn comment(order: &Order, run: &ImageRun, model: &Path) -> String {
    let (settings, [height, width]) = (run.settings(), run.size());
    let mut flags = vec![
        ("prompt", order.prompt.clone()),
        ("model", model.display().to_string()),
        ("seed", order.seed.to_string()),
        ("num-inference-steps", settings.num_inference_steps.to_string()),
        ("guidance-scale", settings.guidance_scale.to_string()),
        ("scheduler", run.scheduler().to_string()),
        ("eta", settings.eta.to_string()),
        ("height", height.to_string()),
        ("width", width.to_string()),
        ("dtype", if settings.half { "f16".into() } else { "f32".into() }),
        ("output", "again".into()),
    ];
    if !order.negative_prompt.is_empty() {
        flags.push(("negative-prompt", order.negative_prompt.clone()));
    }
    if let Some(tile) = settings.vae_tile {
        flags.push(("vae-tile", tile.to_string()));
    }
    // `=`: words may begin like a flag.
    let words = flags.iter().map(|(name, value)| format!("--{name}={}", quoted(value)));
    let karras = settings.use_karras_sigmas.then(|| "--use-karras-sigmas".to_string());
    let command =
        words.chain(karras).fold("mindreel image".to_string(), |command, word| command + " " + &word);
    format!("mindreel {}: {command}", env!("CARGO_PKG_VERSION"))
}
