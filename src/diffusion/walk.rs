//! A plan run on plain vectors: the slow twin of the walk on the GPU.

use super::{Operand, Step, Terms};
use crate::error::{Error, Result};
use std::collections::VecDeque;

/// x and what the steps keep.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The current sample.
    pub x: Vec<f64>,
    history: VecDeque<Vec<f64>>,
    remembered: Option<Vec<f64>>,
}

impl Walk {
    /// Starts at `x`.
    pub fn new(x: Vec<f64>) -> Walk {
        Walk { x, history: VecDeque::new(), remembered: None }
    }

    /// One step; `output` is what the model returned for `self.x`, `noise` is read only where the step uses it.
    ///
    /// Errors: [`Error::Shape`] when a tensor the step uses is not there or has another length.
    pub fn apply(&mut self, step: &Step, output: &[f64], noise: &[f64]) -> Result<()> {
        let next = self.combine(&step.next, output, noise)?;
        if !step.keep.is_empty() {
            let kept = self.combine(&step.keep, output, noise)?;
            self.history.push_front(kept);
        }
        let x = std::mem::replace(&mut self.x, next);
        if step.remember_sample {
            self.remembered = Some(x);
        }
        Ok(())
    }

    fn combine(&self, terms: &Terms, output: &[f64], noise: &[f64]) -> Result<Vec<f64>> {
        let mut sum = vec![0.0; self.x.len()];
        for &(operand, coefficient) in terms {
            let tensor = match operand {
                Operand::Sample => Some(&self.x[..]),
                Operand::Output => Some(output),
                Operand::Noise => Some(noise),
                Operand::Remembered => self.remembered.as_deref(),
                Operand::Earlier(k) => k.checked_sub(1).and_then(|i| self.history.get(i)).map(Vec::as_slice),
            };
            let tensor = tensor.filter(|tensor| tensor.len() == sum.len()).ok_or_else(|| {
                Error::shape("walk", format!("{operand:?} is absent or not {} values long", sum.len()))
            })?;
            sum.iter_mut().zip(tensor).for_each(|(sum, value)| *sum += coefficient * value);
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_those_before_the_step() {
        let step = |next: &[(Operand, f64)], keep: &[(Operand, f64)], remember_sample| Step {
            timestep: 0,
            next: next.to_vec(),
            keep: keep.to_vec(),
            remember_sample,
        };
        let mut walk = Walk::new(vec![1.0]);
        let all = [(Operand::Sample, 2.0), (Operand::Output, 1.0), (Operand::Noise, 0.5)];
        walk.apply(&step(&all, &[(Operand::Sample, 10.0)], true), &[3.0], &[4.0]).unwrap();
        assert_eq!(walk.x, [7.0]);
        let old = [(Operand::Remembered, 1.0), (Operand::Earlier(1), 1.0)];
        walk.apply(&step(&old, &[(Operand::Earlier(1), 2.0)], false), &[0.0], &[]).unwrap();
        assert_eq!(walk.x, [11.0]);
        walk.apply(&step(&[(Operand::Earlier(1), 1.0), (Operand::Earlier(2), 1.0)], &[], false), &[0.0], &[])
            .unwrap();
        assert_eq!(walk.x, [30.0]);
        for absent in [Operand::Earlier(3), Operand::Earlier(0), Operand::Noise] {
            assert!(walk.apply(&step(&[(absent, 1.0)], &[], false), &[0.0], &[]).is_err());
        }
    }
}
