//! Blocks that keep nothing for the way back but what went in.

use super::Training;
use crate::autograd::recomputed;
use crate::error::Result;
use crate::tensor::Tensor;
use std::sync::Arc;

/// A block run so that the walk back runs it once more ([`recomputed`]), drawing what it drew the first time.
pub fn checkpoint(
    training: Option<&Arc<Training>>,
    inputs: &[&Tensor],
    block: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let Some(training) = training.cloned() else { return recomputed(inputs, block) };
    let start = training.position();
    let first = std::sync::atomic::AtomicBool::new(true);
    recomputed(inputs, move |inputs| {
        if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            return block(inputs);
        }
        let now = training.position();
        training.set_position(start);
        let y = block(inputs);
        training.set_position(now);
        y
    })
}
