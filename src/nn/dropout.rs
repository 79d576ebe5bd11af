//! Dropout: no weights, and nothing at all outside of training.

use super::{Training, Weights};
use crate::error::Result;
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
}
