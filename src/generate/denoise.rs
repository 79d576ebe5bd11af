//! The walk from noise to latents.

use crate::diffusion::{Operand, Plan, Step, Terms};
use crate::error::Result;
use crate::gpu::Capture;
use crate::models::{TextContext, UNet};
use crate::tensor::Tensor;
use std::collections::VecDeque;

/// Conditioning of a batch: with a scale above 1, `text` holds the unconditional embeddings first, then the
/// conditional ones, `[2 * batch, tokens, width]`; else `[batch, tokens, width]`.
pub struct Guidance<'a> {
    /// How far to push from unconditional to conditional.
    pub scale: f64,
    /// Text embeddings in the UNet's number type.
    pub text: &'a Tensor,
}

/// Fresh noise for a step, of the sample's shape.
pub type Noise<'a> = &'a mut dyn FnMut(usize) -> Result<Tensor>;

/// Walks `x` `[batch * frames, h, w, c]` (f32) down the plan. `watch` is told the calls done after each; an error
/// from it ends the walk.
///
/// Errors: when shapes do not go together, when the plan wants noise and none is given, GPU trouble.
pub fn denoise(
    unet: &UNet,
    plan: &Plan,
    x: Tensor,
    guidance: &Guidance,
    frames: usize,
    mut noise: Option<Noise>,
    watch: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Tensor> {
    let mut x = x;
    let guided = guidance.scale > 1.0;
    let batch = x.shape()[0] / frames.max(1);
    let mut kept: VecDeque<Tensor> = VecDeque::new();
    let mut remembered: Option<Tensor> = None;
    let mut model = Repeated { unet, text: unet.read(guidance.text)?, frames, captured: None };
    for (at, step) in plan.steps().iter().enumerate() {
        let input = x.cast(unet.dtype())?;
        let input = if guided { Tensor::concat(&[&input, &input], 0)? } else { input };
        let times = vec![step.timestep as f64; if guided { 2 * batch } else { batch }];
        let output = model.forward(&input, &times)?.cast(x.dtype())?;
        drop(input);
        let fresh = match (&mut noise, uses(step, Operand::Noise)) {
            (Some(noise), true) => Some(noise(at)?),
            _ => None,
        };
        let before = x.clone();
        let tensors = |operand: Operand| match operand {
            Operand::Sample => Some(&before),
            Operand::Earlier(k) => kept.get(k - 1),
            Operand::Remembered => remembered.as_ref(),
            Operand::Noise => fresh.as_ref(),
            Operand::Output => None,
        };
        let (next, prediction) = if guided {
            let (others, coefficient) = split(&step.next, tensors)?;
            output.guided_step(guidance.scale, coefficient, &others, !step.keep.is_empty())?
        } else {
            let next = combine(&step.next, &output, tensors)?;
            (next, Some(output.clone()))
        };
        x = next;
        if !step.keep.is_empty() {
            let prediction = prediction.expect("asked for just above");
            let keep = match step.keep.as_slice() {
                [(Operand::Output, c)] if *c == 1.0 => prediction,
                terms => combine(terms, &prediction, tensors)?,
            };
            kept.push_front(keep);
            kept.truncate(plan.history());
        }
        if step.remember_sample {
            remembered = Some(before);
        }
        x.gpu().wait()?;
        watch(at + 1)?;
    }
    Ok(x)
}

/// A UNet at the same shapes over and over: recorded once, then repeated.
struct Repeated<'a> {
    unet: &'a UNet,
    text: TextContext,
    frames: usize,
    captured: Option<Captured>,
}

struct Captured {
    capture: Capture,
    sample: Tensor,
    time: Tensor,
    output: Tensor,
}

impl Repeated<'_> {
    fn forward(&mut self, sample: &Tensor, times: &[f64]) -> Result<Tensor> {
        let gpu = sample.gpu();
        let like = |x: &Tensor| Tensor::empty(gpu, x.shape(), x.dtype());
        let time = self.unet.embed_times(gpu, times)?;
        if gpu.is_heard() {
            return self.unet.forward_at(sample, &time, &self.text, self.frames);
        }
        if self.captured.is_none() {
            let (sample, time) = (like(sample)?, like(&time)?);
            let (capture, output) =
                gpu.capture(|| self.unet.forward_at(&sample, &time, &self.text, self.frames))?;
            self.captured = Some(Captured { capture, sample, time, output });
        }
        let captured = self.captured.as_ref().expect("made above");
        let copy = |from: &Tensor, to: &Tensor| {
            let bytes = from.bytes().next_multiple_of(4);
            gpu.copy(from.buffer(), from.first_byte(), to.buffer(), to.first_byte(), bytes)
        };
        copy(sample, &captured.sample)?;
        copy(&time, &captured.time)?;
        captured.capture.replay()?;
        // The next replay writes over it, and samplers keep what they are given.
        let output = like(&captured.output)?;
        copy(&captured.output, &output)?;
        Ok(output)
    }
}

fn uses(step: &Step, operand: Operand) -> bool {
    step.next.iter().chain(&step.keep).any(|(used, _)| *used == operand)
}

type Others<'a> = Vec<(&'a Tensor, f64)>;

/// The terms beside the model's output, and the output's coefficient.
fn split<'a>(terms: &Terms, tensors: impl Fn(Operand) -> Option<&'a Tensor>) -> Result<(Others<'a>, f64)> {
    let mut others = Vec::new();
    let mut coefficient = 0.0;
    for &(operand, c) in terms {
        match (operand, tensors(operand)) {
            (Operand::Output, _) => coefficient = c,
            (_, Some(tensor)) => others.push((tensor, c)),
            (missing, None) => return Err(absent(missing)),
        }
    }
    Ok((others, coefficient))
}

fn combine<'a>(
    terms: &[(Operand, f64)],
    output: &'a Tensor,
    tensors: impl Fn(Operand) -> Option<&'a Tensor>,
) -> Result<Tensor> {
    let tensor = |&(operand, c): &(Operand, f64)| match operand {
        Operand::Output => Ok((output, c)),
        other => tensors(other).map(|tensor| (tensor, c)).ok_or_else(|| absent(other)),
    };
    Tensor::combine(&terms.iter().map(tensor).collect::<Result<Vec<_>>>()?)
}

fn absent(operand: Operand) -> crate::error::Error {
    crate::error::Error::setting("denoise", format!("the walk wants {operand:?}, which was not given"))
}
