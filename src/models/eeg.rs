//! What the EEG networks share: sizes in braindecode's words, and what is left of a window on its way.
//!
//! ```text
//! config.json -> EegConfig -> left(stages): samples after convolutions and poolings, for the layer behind them
//! ```
//!
//! The originals fit 200 samples only; here every size follows from `n_chans` and `n_times` by formula, and is the
//! original's at 200.

use super::config::Config;
use crate::error::{Error, Result};
use crate::nn::Weights;
use crate::tensor::Tensor;

/// Channels over visual cortex in SEED-DV's order: PO7 .. CB2.
const OCCIPITAL: std::ops::Range<usize> = 50..62;
/// Bands of the features: delta, theta, alpha, beta, gamma.
const BANDS: usize = 5;

/// Kernel and step, along the samples, of a convolution or a pooling without padding.
pub(super) type Stage = [usize; 2];

/// Sizes, in braindecode's words. A network reads those it knows.
#[derive(Clone, Debug, PartialEq)]
pub struct EegConfig {
    /// Classes; where it is left out, the file's last layer tells.
    pub n_outputs: Option<usize>,
    /// EEG channels.
    pub n_chans: usize,
    /// Samples of a window.
    pub n_times: usize,
    /// Features of a window, those of all channels together.
    pub n_features: usize,
    /// Width of an embedding; each network has its usual one.
    pub emb_dim: Option<usize>,
    /// Channels of a local branch.
    pub local_chans: Vec<usize>,
    /// Share of values that dropout drops in training; each network has its usual one.
    pub drop_prob: Option<f64>,
}

impl EegConfig {
    /// Reads the config of an EEG network: `n_chans` 62, `n_times` 200, `n_features` five for each channel,
    /// `local_chans` the occipital ones of SEED-DV, unless given. `d_model` is another word for `emb_dim`. A number of
    /// features below that of the channels is that of each channel.
    ///
    /// Errors: [`Error::Format`] with the key.
    pub fn new(config: &Config) -> Result<EegConfig> {
        let given = |key: &str| config.get(key).map(|_| config.size(key)).transpose();
        let n_chans = config.size_or("n_chans", 62)?;
        let emb_dim = match (given("emb_dim")?, given("d_model")?) {
            (Some(a), Some(b)) if a != b => return Err(config.wrong("d_model", &format!("\"emb_dim\", {a}"))),
            (a, b) => a.or(b),
        };
        let n_features = match given("n_features")? {
            Some(each) if each < n_chans && config.get("n_chans").is_some() => each * n_chans,
            Some(all) => all,
            None => BANDS * n_chans,
        };
        let drop_prob = config.get("drop_prob").map(|_| config.number_or("drop_prob", 0.0)).transpose()?;
        if drop_prob.is_some_and(|p| !(0.0..1.0).contains(&p)) {
            return Err(config.wrong("drop_prob", "0 or more and below 1"));
        }
        let sizes = EegConfig {
            n_outputs: given("n_outputs")?,
            n_chans,
            n_times: config.size_or("n_times", 200)?,
            n_features,
            emb_dim,
            local_chans: match config.get("local_chans") {
                None => OCCIPITAL.collect(),
                Some(_) => config.sizes("local_chans")?,
            },
            drop_prob,
        };
        for key in ["n_outputs", "n_chans", "n_times", "n_features", "emb_dim", "d_model"] {
            if given(key)? == Some(0) {
                return Err(config.wrong(key, "1 or more"));
            }
        }
        Ok(sizes)
    }

    /// Classes: the config's, or the rows of the last layer's matrix in the file.
    pub(super) fn outputs(&self, weights: &Weights, last: &str) -> Result<usize> {
        let in_file = || {
            let view = weights.checkpoint()?.get(&weights.path(&format!("{last}.weight")))?;
            view.shape.first().copied()
        };
        self.n_outputs
            .or_else(in_file)
            .ok_or_else(|| Error::setting("n_outputs", "wanted the number of classes, it is not given"))
    }

    /// Share of values dropped in training.
    pub(super) fn dropped(&self, usual: f64) -> f64 {
        self.drop_prob.unwrap_or(usual)
    }

    /// Samples left of a window after convolutions and poolings.
    ///
    /// Errors: [`Error::Setting`] for a window too short, with the shortest.
    pub(super) fn left(&self, model: &str, stages: &[Stage]) -> Result<usize> {
        let mut left = Some(self.n_times);
        for &[kernel, step] in stages {
            left = left.and_then(|n| n.checked_sub(kernel)).map(|room| room / step + 1);
        }
        left.filter(|&left| left > 0).ok_or_else(|| {
            let shortest = stages.iter().rev().fold(1, |n, [kernel, step]| (n - 1) * step + kernel);
            let detail = format!("{model} wants at least {shortest} samples, got {}", self.n_times);
            Error::setting("n_times", detail)
        })
    }

    /// Features of one channel.
    ///
    /// Errors: [`Error::Setting`] where channels do not divide them.
    pub(super) fn bands(&self) -> Result<usize> {
        let EegConfig { n_chans, n_features, .. } = *self;
        if n_features.is_multiple_of(n_chans) {
            return Ok(n_features / n_chans);
        }
        let detail = format!("wanted a multiple of the {n_chans} channels, got {n_features}");
        Err(Error::setting("n_features", detail))
    }

    /// The local branch's channels as runs of neighbours: first and count.
    ///
    /// Errors: [`Error::Setting`] for channels that are not there, or none.
    pub(super) fn local_runs(&self, model: &str) -> Result<Vec<[usize; 2]>> {
        if let Some(outside) = self.local_chans.iter().find(|&&channel| channel >= self.n_chans) {
            let detail = format!(
                "{model} takes channel {outside} (SEED-DV's 50..61 unless \"local_chans\" names others), n_chans is {}",
                self.n_chans
            );
            return Err(Error::setting("n_chans", detail));
        }
        let mut runs: Vec<[usize; 2]> = Vec::new();
        for &channel in &self.local_chans {
            match runs.last_mut() {
                Some([first, count]) if channel == *first + *count => *count += 1,
                _ => runs.push([channel, 1]),
            }
        }
        match runs.is_empty() {
            true => Err(Error::setting("local_chans", format!("{model} wants a local channel or more"))),
            false => Ok(runs),
        }
    }

    /// A window as an image: [batch, n_chans, n_times] -> [batch, n_chans, n_times, 1].
    pub(super) fn image(&self, model: &str, eeg: &Tensor) -> Result<Tensor> {
        self.window(model, eeg)?.reshape(&[eeg.shape()[0], self.n_chans, self.n_times, 1])
    }

    /// A window, if it is one of these sizes: [batch, n_chans, n_times].
    pub(super) fn window<'a>(&self, model: &str, eeg: &'a Tensor) -> Result<&'a Tensor> {
        let EegConfig { n_chans, n_times, .. } = *self;
        match *eeg.shape() {
            [_, c, t] if [c, t] == [n_chans, n_times] => Ok(eeg),
            _ => {
                let detail = format!("wanted [batch, {n_chans}, {n_times}], got {:?}", eeg.shape());
                Err(Error::shape(model, detail))
            }
        }
    }

    /// Features in one row: [batch, n_chans, bands] or [batch, n_features] -> [batch, n_features].
    pub(super) fn row(&self, model: &str, features: &Tensor) -> Result<Tensor> {
        let (n, n_chans) = (self.n_features, self.n_chans);
        match features.shape() {
            &[_, bands, last] if last == n_chans && bands != n_chans && bands * n_chans == n => {
                let detail = format!("wanted [batch, {n_chans}, {bands}], got the last two axes exchanged");
                Err(Error::shape(model, detail))
            }
            &[batch, ref rest @ ..] if rest.len() <= 2 && rest.iter().product::<usize>() == n => {
                features.reshape(&[batch, n])
            }
            shape => {
                let detail =
                    format!("wanted {n} features of each item, all channels together, got {shape:?}");
                Err(Error::shape(model, detail))
            }
        }
    }
}

/// Runs of channels, joined: [batch, n_chans, ..] -> [batch, local channels, ..].
pub(super) fn pick(eeg: &Tensor, runs: &[[usize; 2]]) -> Result<Tensor> {
    let parts = runs.iter().map(|&[first, count]| eeg.narrow(1, first, count)).collect::<Result<Vec<_>>>()?;
    match parts.as_slice() {
        [one] => Ok(one.clone()),
        several => Tensor::concat(&several.iter().collect::<Vec<_>>(), 1),
    }
}

/// [batch, 1, samples, filters] -> [batch, filters * samples]: PyTorch flattens filters first.
pub(super) fn flatten(x: &Tensor) -> Result<Tensor> {
    let (samples, filters) = (x.dim(1), x.dim(0));
    let batch = x.len() / (samples * filters).max(1);
    x.reshape(&[batch, samples, filters])?.permute(&[0, 2, 1])?.reshape(&[batch, filters * samples])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn config(value: Value) -> Result<EegConfig> {
        EegConfig::new(&Config::from_json("config.json", value.to_string().as_bytes())?)
    }

    #[test]
    fn features_are_counted_together_or_by_channel() {
        let features = |value| config(value).unwrap().n_features;
        assert_eq!(features(json!({})), 310);
        assert_eq!(features(json!({ "n_features": 310 })), 310);
        assert_eq!(features(json!({ "n_features": 5, "n_chans": 62 })), 310);
        assert_eq!(features(json!({ "n_features": 5, "n_chans": 5 })), 5);
        assert_eq!(features(json!({ "n_features": 48 })), 48);
        assert_eq!(features(json!({ "n_chans": 9 })), 45);
        assert!(config(json!({ "n_features": 311, "n_chans": 62 })).unwrap().bands().is_err());
        assert_eq!(config(json!({ "n_features": 124, "n_chans": 62 })).unwrap().bands().unwrap(), 2);
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        for (value, key) in [
            (json!({ "n_chans": 0 }), "n_chans"),
            (json!({ "n_outputs": 0 }), "n_outputs"),
            (json!({ "emb_dim": 40, "d_model": 41 }), "d_model"),
            (json!({ "drop_prob": 1.0 }), "drop_prob"),
            (json!({ "drop_prob": "half" }), "drop_prob"),
            (json!({ "local_chans": "all" }), "local_chans"),
            (json!({ "n_times": -1 }), "n_times"),
        ] {
            let text = config(value).unwrap_err().to_string();
            assert!(text.starts_with(&format!("config.json: \"{key}\"")), "{text}");
        }
        let few = config(json!({ "n_chans": 32 })).unwrap().local_runs("GLMNet").unwrap_err().to_string();
        assert!(few.starts_with("n_chans: GLMNet takes channel 50 "), "{few}");
        assert!(config(json!({ "local_chans": [] })).unwrap().local_runs("GLMNet").is_err());
    }

    #[test]
    fn local_channels_go_in_runs() {
        let sizes = config(json!({ "n_chans": 9, "local_chans": [3, 4, 5, 8, 1, 2] })).unwrap();
        assert_eq!(sizes.local_runs("GLMNet").unwrap(), [[3, 3], [8, 1], [1, 2]]);
    }

    /// What is left by counting windows, and the shortest window of all lengths.
    #[test]
    fn samples_left_follow_the_formula() {
        let stages: [Stage; 4] = [[10, 1], [2, 2], [7, 3], [2, 2]];
        let count = |n: usize, [kernel, step]: Stage| {
            (0..n).step_by(step).filter(|start| start + kernel <= n).count()
        };
        let mut shortest = None;
        for n_times in 1..200 {
            let left = stages.iter().fold(n_times, |n, &stage| count(n, stage));
            let got = config(json!({ "n_times": n_times })).unwrap().left("Net", &stages);
            match left {
                0 => {
                    let text = got.unwrap_err().to_string();
                    assert!(text.starts_with("n_times: Net wants at least 29 samples, got "), "{text}");
                }
                left => {
                    assert_eq!(got.unwrap(), left, "{n_times}");
                    shortest = shortest.or(Some(n_times));
                }
            }
        }
        assert_eq!(shortest, Some(29));
    }
}
