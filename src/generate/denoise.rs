//! The walk from noise to latents.

use crate::diffusion::{Operand, Plan, Step, Terms};
use crate::error::Result;
use crate::models::UNet;
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
    for (at, step) in plan.steps().iter().enumerate() {
        let input = x.cast(unet.dtype())?;
        let input = if guided { Tensor::concat(&[&input, &input], 0)? } else { input };
        let times = vec![step.timestep as f64; if guided { 2 * batch } else { batch }];
        let output = unet.forward(&input, &times, guidance.text, frames)?.cast(x.dtype())?;
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
