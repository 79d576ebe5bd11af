//! Optimisers: rules by name, and the state each keeps for every parameter.

use crate::error::{Error, Result};
use crate::nn::Parameters;
use crate::ops::{Adam, Sgd};
use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;

/// How gradients become steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Adam or AdamW.
    Adam(Adam),
}

impl Rule {
    /// AdamW with PyTorch's settings.
    pub const ADAMW: Rule = Rule::Adam(Adam { betas: [0.9, 0.999], eps: 1e-8, decoupled: true });
    /// Adam with PyTorch's settings.
    pub const ADAM: Rule = Rule::Adam(Adam { betas: [0.9, 0.999], eps: 1e-8, decoupled: false });
    /// SGD without momentum.
    pub const SGD: Rule = Rule::Sgd(Sgd { momentum: 0.0, nesterov: false });

    /// Names of what is kept for a parameter, as PyTorch has them.
    fn state_names(&self) -> &'static [&'static str] {
        match self {
            Rule::Sgd(_) => &["momentum_buffer"],
            Rule::Adam(_) => &["exp_avg", "exp_avg_sq"],
        }
    }
}

/// Parameters whose names hold a pattern, with a rate and a decay of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// A part of the name; `*` stands for any characters; empty: every name.
    pub pattern: String,
    /// Times the learning rate.
    pub rate: f64,
    /// Weight decay.
    pub decay: f64,
}

/// A rule with its groups and what it keeps.
pub struct Optimizer {
    rule: Rule,
    /// The first that matches counts.
    groups: Vec<Group>,
    /// Steps taken.
    steps: u64,
    state: BTreeMap<String, Vec<Tensor>>,
}

impl Optimizer {
    /// Before the first step. A parameter belongs to the first group that matches it, and to none with rate 1 and no
    /// decay.
    pub fn new(rule: Rule, groups: Vec<Group>) -> Optimizer {
        Optimizer { rule, groups, steps: 0, state: BTreeMap::new() }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// New values of the parameters that have a gradient. `clip` as [`Tensor::clip`] makes it.
    ///
    /// Errors: [`Error::Shape`] when a gradient is not of its parameter's shape.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &BTreeMap<String, Tensor>,
        clip: &Tensor,
        rate: f64,
    ) -> Result<Vec<(String, Tensor)>> {
        self.steps += 1;
        let mut changed = Vec::new();
        for (name, gradient) in gradients {
            let parameter = parameters.get(name).ok_or_else(|| {
                Error::shape("optimizer", format!("a gradient of '{name}', which is no parameter"))
            })?;
            let group = self.groups.iter().find(|group| matches(&group.pattern, name));
            let (share, decay) = group.map_or((1.0, 0.0), |group| (group.rate, group.decay));
            if !self.state.contains_key(name) {
                let zeros = || Tensor::zeros(parameter.gpu(), parameter.shape(), DType::F32);
                let zeros = self.rule.state_names().iter().map(|_| zeros()).collect::<Result<_>>()?;
                self.state.insert(name.clone(), zeros);
            }
            let gradient = gradient.cast(DType::F32)?;
            let state = self.state.get_mut(name).expect("made just above");
            let (rates, value) = ([rate * share, decay], parameter.detach());
            let new = match (&self.rule, &state[..]) {
                (Rule::Sgd(settings), [momentum]) => {
                    let [new, momentum] = value.sgd(&gradient, momentum, clip, rates, settings)?;
                    *state = vec![momentum];
                    new
                }
                (Rule::Adam(settings), [mean, square]) => {
                    let both = [mean, square];
                    let [new, mean, square] =
                        value.adam(&gradient, both, clip, rates, settings, self.steps)?;
                    *state = vec![mean, square];
                    new
                }
                _ => unreachable!("as many tensors as the rule has names"),
            };
            changed.push((name.clone(), new.parameter()));
        }
        Ok(changed)
    }

    /// What is kept, by `<parameter>.<PyTorch's name>`.
    pub fn state(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let names = self.rule.state_names();
        self.state.iter().flat_map(move |(parameter, tensors)| {
            names.iter().zip(tensors).map(move |(name, tensor)| (format!("{parameter}.{name}"), tensor))
        })
    }

    /// Goes on from what [`Optimizer::state`] gave.
    ///
    /// Errors: [`Error::Shape`] for a name or shape that fits no parameter.
    pub fn restore(
        &mut self,
        steps: u64,
        parameters: &Parameters,
        mut state: BTreeMap<String, Tensor>,
    ) -> Result<()> {
        self.state.clear();
        for (name, parameter) in parameters.iter() {
            let kept: Vec<Tensor> = self
                .rule
                .state_names()
                .iter()
                .filter_map(|kind| state.remove(&format!("{name}.{kind}")))
                .collect();
            let fits = kept.iter().all(|tensor| tensor.shape() == parameter.shape());
            if kept.is_empty() {
                continue;
            }
            if !fits || kept.len() != self.rule.state_names().len() {
                let detail = format!("what was kept for '{name}' is not of its shape or not whole");
                return Err(Error::shape("optimizer", detail));
            }
            self.state.insert(name.to_string(), kept);
        }
        if let Some(name) = state.keys().next() {
            let detail = format!("'{name}' belongs to no parameter, or to another optimizer");
            return Err(Error::shape("optimizer", detail));
        }
        self.steps = steps;
        Ok(())
    }
}

/// Whether a name holds a pattern, in which `*` stands for any characters.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = name;
    pattern.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("", "a.b", true),
            ("attn1.to_q", "down.0.attn1.to_q.weight", true),
            ("attn*.to_q", "down.0.attn2.to_q.weight", true),
            ("attn*.to_k", "down.0.attn2.to_q.weight", false),
            ("b*a", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
