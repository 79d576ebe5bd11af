//! The walk back: from a result to the gradients of every parameter it was made from.
//!
//! ```text
//! parameters ─ops─> loss ─backward─> Gradients: parameter -> d loss / d parameter
//! ```
//!
//! Reverse mode. The rules lie with the ops; the walk knows one of them, addition, for what was used twice. A gradient
//! goes as soon as the walk has passed it: what is held at a time is the front of the walk and the parameters' own.

use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::collections::HashMap;

/// Gradients of the parameters that a result was made from.
pub struct Gradients {
    /// By [`Tensor::node`]; the parameter is held, so that no other takes its place.
    by_node: HashMap<usize, (Tensor, Tensor)>,
}

impl Gradients {
    /// Gradient of a parameter, in its shape; nothing where the result does not depend on it.
    pub fn get(&self, parameter: &Tensor) -> Option<&Tensor> {
        self.by_node.get(&parameter.node()).map(|(_, gradient)| gradient)
    }

    /// Takes a gradient out.
    pub fn take(&mut self, parameter: &Tensor) -> Option<Tensor> {
        self.by_node.remove(&parameter.node()).map(|(_, gradient)| gradient)
    }

    /// How many parameters have one.
    pub fn len(&self) -> usize {
        self.by_node.len()
    }

    /// True when nothing that wants a gradient was on the way.
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }
}

impl Tensor {
    /// Gradients of this value, one number, with respect to every parameter it was made from. As PyTorch's
    /// `loss.backward()`, but nothing is stored in the parameters.
    ///
    /// Errors: [`Error::Shape`] for more than one number.
    pub fn backward(&self) -> Result<Gradients> {
        if self.len() != 1 {
            let detail = format!("wanted one number, a loss, got {:?}; see backward_from", self.shape());
            return Err(Error::shape("backward", detail));
        }
        self.backward_from(&Tensor::full(self.gpu(), self.shape(), self.dtype(), 1.0)?)
    }

    /// The same from a gradient of this tensor, of its shape and type: a scaled loss, a block within a model.
    ///
    /// Errors: [`Error::Shape`] when the shapes differ, [`Error::DType`] when the types do.
    pub fn backward_from(&self, dy: &Tensor) -> Result<Gradients> {
        if dy.shape() != self.shape() {
            let detail = format!("wanted a gradient of {:?}, got {:?}", self.shape(), dy.shape());
            return Err(Error::shape("backward", detail));
        }
        if dy.dtype() != self.dtype() {
            let detail = format!("wanted a gradient in {}, got {}", self.dtype(), dy.dtype());
            return Err(Error::dtype("backward", detail));
        }
        let mut waiting = HashMap::from([(self.node(), dy.detach())]);
        let mut gradients = Gradients { by_node: HashMap::new() };
        for node in in_order(self).into_iter().rev() {
            let Some(dy) = waiting.remove(&node.node()) else { continue };
            let Some(made) = node.made() else {
                gradients.by_node.insert(node.node(), (node, dy));
                continue;
            };
            for (input, gradient) in made.inputs.iter().zip((made.backward)(&node, &dy)?) {
                let (Some(gradient), true) = (gradient, input.wants_gradient()) else { continue };
                let sum = match waiting.remove(&input.node()) {
                    Some(before) => before.add(&gradient)?,
                    None => gradient,
                };
                waiting.insert(input.node(), sum);
            }
        }
        Ok(gradients)
    }
}

/// `f` of these inputs, without keeping what is made on the way: the walk back runs `f` once more. Memory for time, as
/// PyTorch's `torch.utils.checkpoint`. `f` gives the same for the same inputs; parameters it holds get their gradients,
/// everything else that wants one comes in as an input.
///
/// Errors: whatever `f` returns.
pub fn recomputed(
    inputs: &[&Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let fresh = |inputs: &[Tensor], wants: &[bool]| -> Vec<Tensor> {
        inputs.iter().zip(wants).map(|(x, &wants)| if wants { x.parameter() } else { x.clone() }).collect()
    };
    let wants: Vec<bool> = inputs.iter().map(|x| x.wants_gradient()).collect();
    let values: Vec<Tensor> = inputs.iter().map(|x| x.detach()).collect();
    let leaves = fresh(&values, &wants);
    let y = f(&leaves)?;
    let is_input = |node: &Tensor| leaves.iter().any(|leaf| leaf.node() == node.node());
    let held: Vec<Tensor> =
        in_order(&y).into_iter().filter(|node| node.is_parameter() && !is_input(node)).collect();
    let sources: Vec<&Tensor> = inputs.iter().copied().chain(&held).collect();
    let kept = held.clone();
    Ok(y.detach().made_by_all(&sources, move |_, dy| {
        let leaves = fresh(&values, &wants);
        let mut gradients = f(&leaves)?.backward_from(dy)?;
        Ok(leaves.iter().chain(&kept).map(|leaf| gradients.take(leaf)).collect())
    }))
}

/// What wants a gradient on the way to y, inputs before what was made from them. Without recursion: a history may be
/// longer than a stack is deep.
fn in_order(y: &Tensor) -> Vec<Tensor> {
    let mut order = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut walk = vec![(y.clone(), false)];
    while let Some((tensor, are_inputs_done)) = walk.pop() {
        if are_inputs_done {
            order.push(tensor);
        } else if tensor.wants_gradient() && seen.insert(tensor.node()) {
            let inputs = tensor.made().map_or_else(Vec::new, |made| made.inputs.clone());
            walk.push((tensor, true));
            walk.extend(inputs.into_iter().map(|input| (input, false)));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::tensor::DType;
    use crate::testing::{assert_close, gpu, gpu_with, random_from};

    #[test]
    fn what_is_used_twice_gets_the_sum() {
        let Some(gpu) = gpu() else { return };
        let values = |seed| random_from(seed, 12, 1.0);
        let make = |seed| Tensor::new(&gpu, &[3, 4], &values(seed)).unwrap().parameter();
        let (a, b, c) = (make(1), make(2), make(3));
        let one = |x: &Tensor, y: &Tensor| {
            x.reshape(&[1, 12]).unwrap().matmul(&y.reshape(&[1, 12]).unwrap(), true).unwrap()
        };
        let joined = one(&a, &b).backward_from(&Tensor::new(&gpu, &[1, 1], &[2.0_f32]).unwrap()).unwrap();
        let twice: Vec<f64> = values(2).iter().map(|&v| 2.0 * f64::from(v)).collect();
        assert_close(&joined.get(&a).unwrap().to_vec().unwrap(), &twice, 1e-6, "da");
        assert_eq!(joined.get(&a).unwrap().shape(), [3, 4]);
        assert!(joined.get(&c).is_none() && joined.len() == 2);
        // A square: the same tensor on both sides.
        let square = one(&a, &a).backward().unwrap();
        let want: Vec<f64> = values(1).iter().map(|&v| 2.0 * f64::from(v)).collect();
        assert_close(&square.get(&a).unwrap().to_vec().unwrap(), &want, 1e-6, "d a a");
    }

    #[test]
    fn a_long_history_needs_no_deep_stack_and_leaves_nothing() {
        let Some(gpu) = gpu_with(Options::default()) else { return };
        let x = Tensor::new(&gpu, &[1], &[1.0_f32]).unwrap().parameter();
        let mut y = x.clone();
        for _ in 0..200_000 {
            y = y.reshape(&[1]).unwrap();
        }
        assert_eq!(y.backward().unwrap().get(&x).unwrap().to_vec().unwrap(), [1.0]);
        drop((x, y));
        assert_eq!(gpu.live_buffers(), 0);
    }

    #[test]
    fn what_is_recomputed_has_the_same_gradients_and_keeps_less() {
        let Some(gpu) = gpu_with(Options::default()) else { return };
        let make = |seed| Tensor::new(&gpu, &[64, 64], &random_from(seed, 4096, 0.2)).unwrap();
        let (x, w) = (make(1).parameter(), make(2).parameter());
        let block = |w: Tensor| {
            move |inputs: &[Tensor]| {
                let mut y = inputs[0].clone();
                for _ in 0..4 {
                    y = y.matmul(&w, false)?;
                }
                Ok(y)
            }
        };
        let plain = block(w.clone())(std::slice::from_ref(&x)).unwrap();
        let held_plain = gpu.live_buffers();
        let want = plain.backward_from(&make(3)).unwrap();
        let want = [&x, &w].map(|p| want.get(p).unwrap().to_vec().unwrap());
        drop(plain);
        let again = recomputed(&[&x], block(w.clone())).unwrap();
        assert!(gpu.live_buffers() < held_plain, "{} of {held_plain}", gpu.live_buffers());
        let got = again.backward_from(&make(3)).unwrap();
        assert_eq!([&x, &w].map(|p| got.get(p).unwrap().to_vec().unwrap()), want);
        assert_eq!(got.len(), 2);
    }

    #[test]
    fn wrong_calls_are_refused() {
        let gpu = Gpu::plan();
        let x = Tensor::empty(&gpu, &[2], DType::F32).unwrap().parameter();
        assert!(x.backward().is_err());
        let half = Tensor::empty(&gpu, &[2], DType::F16).unwrap();
        assert!(x.backward_from(&half).is_err());
        assert!(x.backward_from(&half.reshape(&[1, 2]).unwrap()).is_err());
        assert!(x.detach().backward_from(&x.detach()).unwrap().is_empty());
    }
}
