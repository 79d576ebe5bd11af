//! Dropout: no weights, and nothing at all outside of training.

use super::{Training, Weights};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::sync::Arc;

/// Elements become 0 with a probability while the model is trained, as PyTorch's `Dropout`.
pub struct Dropout {
    p: f64,
    training: Option<Arc<Training>>,
}

impl Dropout {
    /// With probability `p`, where `weights` are loaded for training; else it passes everything on.
    pub fn new(p: f64, weights: &Weights) -> Dropout {
        Dropout { p, training: weights.training().cloned() }
    }

    /// [..] -> [..]; each call draws anew.
    ///
    /// Errors: a probability outside of 0 to 1.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Some(training) = &self.training else { return Ok(x.clone()) };
        let (seed, stream) = training.draw();
        x.dropout(self.p, seed, stream)
    }

    /// [batch, .., channels] -> the same; whole channels of an item are dropped, as by PyTorch's `Dropout2d`.
    ///
    /// Errors: as `forward`; on fewer than two axes.
    pub fn forward_channels(&self, x: &Tensor) -> Result<Tensor> {
        if !self.is_on() {
            return Ok(x.clone());
        }
        if x.rank() < 2 {
            let detail = format!("wanted [batch, .., channels], got {:?}", x.shape());
            return Err(Error::shape("dropout", detail));
        }
        let mut shape = vec![1; x.rank()];
        (shape[0], shape[x.rank() - 1]) = (x.shape()[0], x.dim(0));
        x.mul(&self.forward(&Tensor::full(x.gpu(), &shape, x.dtype(), 1.0)?)?)
    }

    /// Whether anything is dropped.
    pub fn is_on(&self) -> bool {
        self.training.is_some() && self.p > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Parameters, Precision};
    use crate::testing::gpu;

    #[test]
    fn it_drops_in_training_alone_and_anew_each_time() {
        let Some(gpu) = gpu() else { return };
        let parameters = Arc::new(Parameters::new(Default::default()));
        let x = Tensor::new(&gpu, &[64], &[1_f32; 64]).unwrap();
        let at_step = |step| {
            let training = Arc::new(Training::new(7, step));
            let weights = Weights::from_parameters(&gpu, &parameters, Precision::F32, Some(&training));
            let dropout = Dropout::new(0.5, &weights);
            let frozen = Dropout::new(0.5, &weights.eval());
            assert_eq!(frozen.forward(&x).unwrap().node(), x.node());
            [0, 1].map(|_| dropout.forward(&x).unwrap().to_vec().unwrap())
        };
        let [first, second] = at_step(3);
        assert_ne!(first, second);
        assert_eq!(at_step(3), [first.clone(), second], "the same step draws the same");
        assert_ne!(at_step(4)[0], first);
        assert_eq!(first, Tensor::dropout_host(0.5, 7, 3 << 20, 0, 64).unwrap());
    }

    #[test]
    fn channels_go_as_a_whole() {
        let Some(gpu) = gpu() else { return };
        let parameters = Arc::new(Parameters::new(Default::default()));
        let training = Arc::new(Training::new(7, 0));
        let weights = Weights::from_parameters(&gpu, &parameters, Precision::F32, Some(&training));
        let (batch, samples, channels) = (5, 3, 16);
        let x = Tensor::new(&gpu, &[batch, 1, samples, channels], &[1_f32; 5 * 3 * 16]).unwrap();
        let y = Dropout::new(0.5, &weights).forward_channels(&x).unwrap().to_vec().unwrap();
        let factors = Tensor::dropout_host(0.5, 7, 0, 0, batch * channels).unwrap();
        for (at, &value) in y.iter().enumerate() {
            assert_eq!(value, factors[at / (samples * channels) * channels + at % channels], "{at}");
        }
        assert!(factors.contains(&0.0) && factors.contains(&2.0));
        let still = Dropout::new(0.5, &weights.eval());
        assert!(!still.is_on() && still.forward_channels(&x).unwrap().node() == x.node());
        assert!(Dropout::new(0.5, &weights).forward_channels(&x.reshape(&[240]).unwrap()).is_err());
    }
}
