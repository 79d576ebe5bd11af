//! Training of the small judge of decoded clips: true clips in, classes out.
//!
//! ```text
//! batch of clips ─mirrored, reversed─> [-1, 1] ─softened, noise─> ClipClassifier ─> cross-entropy
//! ```
//!
//! What keeps the class is varied, so that 1200 clips go a long way: left and right, forwards and backwards in time. And
//! clips are softened and made noisy by a share of their own, because decoded ones will be. Everything is drawn from seed
//! and step.

use super::trainer;
use crate::error::Result;
use crate::eval::Shown;
use crate::eval::nway::rank;
use crate::gpu::Gpu;
use crate::media::Frames;
use crate::models::{self, ClipClassifier, ClipClassifierConfig, Config};
use crate::nn::{self, Parameters, Weights};
use crate::tensor::Tensor;
use crate::weights::random::splitmix64;

/// Most a clip's noise deviates, on the scale of [-1, 1].
const NOISE: f64 = 0.15;
/// Share of clips that are softened, each by a share of its own.
const SOFT: f64 = 0.25;
/// Share of the target given to all classes alike.
const SMOOTHING: f64 = 0.05;

/// The config of a classifier for clips like these.
///
/// Errors: [`crate::error::Error::Format`] for sizes it cannot have.
pub fn config(clip: &Frames, channels: &[usize], n_classes: usize) -> Result<Config> {
    let config = serde_json::json!({
        "_class_name": "ClipClassifier",
        "num_frames": clip.count,
        "image_size": [clip.height, clip.width],
        "channels": channels,
        "norm_num_groups": 8,
        "num_labels": n_classes,
    });
    let config = Config::from_json("config.json", config.to_string().as_bytes())?;
    ClipClassifierConfig::new(&config)?;
    Ok(config)
}

/// First values by seed, all of which learn.
///
/// Errors: as [`config`].
pub fn parameters(gpu: &Gpu, config: &Config, seed: u64) -> Result<Parameters> {
    let wanted = models::architecture("ClipClassifier")?.wanted(config)?;
    trainer::place(gpu, &nn::initial(&wanted, seed), &[])
}

fn network(weights: &Weights, config: &Config) -> Result<ClipClassifier> {
    ClipClassifier::load(&weights.with_full_activations(), &ClipClassifierConfig::new(config)?)
}

/// Mean cross-entropy of these clips, varied by seed and step.
///
/// Errors: those of the ops.
pub fn loss(
    weights: &Weights,
    config: &Config,
    shown: &Shown,
    indices: &[usize],
    seed: u64,
    step: u64,
) -> Result<Tensor> {
    let gpu = weights.gpu();
    let first = &shown.clips[0];
    let (n, height, width) = (first.count, first.height, first.width);
    let mut values = Vec::with_capacity(indices.len() * first.rgb.len());
    let (mut soft, mut noise) = (Vec::new(), Vec::new());
    for (place, &at) in indices.iter().enumerate() {
        let draw =
            |nth: u64| splitmix64(splitmix64(seed ^ splitmix64(step)) ^ splitmix64(8 * place as u64 + nth));
        let share = |nth: u64| (draw(nth) >> 11) as f64 / (1_u64 << 53) as f64;
        let (mirrored, reversed) = (draw(0) & 1 == 1, draw(0) & 2 == 2);
        soft.push((1.0 - share(1) / SOFT).max(0.0) as f32); // most clips stay sharp
        noise.push((NOISE * share(2)) as f32);
        vary(&shown.clips[at], mirrored, reversed, &mut values);
    }
    let batch = indices.len();
    let mut x = Tensor::new(gpu, &[batch, n, height, width, 3], &values)?;
    if height.is_multiple_of(2) && width.is_multiple_of(2) {
        let images = x.reshape(&[batch * n, height, width, 3])?;
        let softened = images.avg_pool2d([2, 2], [2, 2])?.upsample_nearest(height, width)?;
        let change = softened.reshape(x.shape())?.sub(&x)?;
        x = x.add(&change.mul(&Tensor::new(gpu, &[batch, 1, 1, 1, 1], &soft)?)?)?;
    }
    let drawn = Tensor::normal(gpu, x.shape(), seed, (1 << 40) + step)?;
    x = x.add(&drawn.mul(&Tensor::new(gpu, &[batch, 1, 1, 1, 1], &noise)?)?)?;
    let ids: Vec<i64> = indices.iter().map(|&at| shown.labels[at] as i64).collect();
    network(weights, config)?.forward(&x)?.cross_entropy(&ids, SMOOTHING)
}

/// Bytes to [-1, 1], with left and right or first and last exchanged.
fn vary(clip: &Frames, mirrored: bool, reversed: bool, values: &mut Vec<f32>) {
    let line = clip.width * 3;
    let frame = clip.height * line;
    let value = |&v: &u8| f32::from(v) / 127.5 - 1.0;
    for at in 0..clip.count {
        let at = if reversed { clip.count - 1 - at } else { at };
        for row in clip.rgb[at * frame..(at + 1) * frame].chunks_exact(line) {
            match mirrored {
                true => values.extend(row.chunks_exact(3).rev().flatten().map(value)),
                false => values.extend(row.iter().map(value)),
            }
        }
    }
}

/// Place of the truth among the classes for each clip, 0 the likeliest; clips as they are.
///
/// Errors: those of the ops.
pub fn ranks(weights: &Weights, config: &Config, shown: &Shown, batch_size: usize) -> Result<Vec<usize>> {
    let model = network(weights, config)?;
    let mut ranks = Vec::with_capacity(shown.len());
    for (clips, labels) in shown.clips.chunks(batch_size.max(1)).zip(shown.labels.chunks(batch_size.max(1))) {
        let mut values = Vec::new();
        clips.iter().for_each(|clip| vary(clip, false, false, &mut values));
        let shape = [clips.len(), clips[0].count, clips[0].height, clips[0].width, 3];
        let logits = model.forward(&Tensor::new(weights.gpu(), &shape, &values)?)?;
        let rows = logits.to_vec()?;
        ranks.extend(rows.chunks(logits.dim(0)).zip(labels).map(|(row, &label)| rank(row, label)));
    }
    Ok(ranks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_are_varied_without_a_change_of_what_they_show() {
        let clip = Frames::new(2, 1, 2, (0..12).map(|v| v * 15).collect(), 3.0).unwrap();
        let of = |mirrored, reversed| {
            let mut values = Vec::new();
            vary(&clip, mirrored, reversed, &mut values);
            values.iter().map(|v| ((v + 1.0) * 8.5).round() as u8).collect::<Vec<_>>()
        };
        assert_eq!(of(false, false), (0..12).collect::<Vec<_>>());
        assert_eq!(of(true, false), [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]);
        assert_eq!(of(false, true), [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]);
    }
}
