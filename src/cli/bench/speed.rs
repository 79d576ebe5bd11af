//! Tokens per second, and how near they come to what memory allows: a text that grows token by token reads every weight
//! for each, and nothing but bandwidth bounds it.

use super::report::{digits, percent, seconds};
use super::roofline::Roof;
use super::subject::Case;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::{Named, Output};
use crate::nn::Precision;
use serde_json::{Value, json};
use std::time::Instant;

/// Tokens a text grows by while it is timed.
const GROWS: usize = 8;

/// Tokens, and the time they took.
pub(super) struct Speed {
    /// What was done: `forward`, `decoding`.
    what: &'static str,
    tokens: usize,
    seconds: f64,
    /// What their ops read and wrote, in bytes.
    bytes: u64,
}

impl Speed {
    /// Of one call that gave `outputs`; nothing where it gave no tokens `[batch, tokens, width]`.
    pub(super) fn of_call(outputs: &[Output], seconds: f64, bytes: u64) -> Option<Speed> {
        match outputs.first()?.shape[..] {
            [batch, tokens, _] => Some(Speed { what: "forward", tokens: batch * tokens, seconds, bytes }),
            _ => None,
        }
    }

    /// Of a language model that goes on from its prompt; nothing of other models.
    ///
    /// Errors: as the model's own.
    pub(super) fn of_decoding(
        case: &Case,
        model: &dyn Named,
        gpu: &Gpu,
        precision: Precision,
    ) -> Result<Option<Speed>> {
        let Some(one) = case.one_token(gpu, precision)? else { return Ok(None) };
        let time = |tokens: usize| -> Result<(usize, f64)> {
            let start = Instant::now();
            let texts = model.generate(case.inputs(), tokens)?;
            gpu.wait()?;
            Ok((texts.first().map_or(0, Vec::len), start.elapsed().as_secs_f64()))
        };
        // Kernels of single queries compile at their first use.
        time(2)?;
        let ((few, short), (many, long)) = (time(1)?, time(1 + GROWS)?);
        let tokens = many.saturating_sub(few);
        if tokens == 0 || long <= short {
            return Ok(None);
        }
        let bytes = one.work().bytes * tokens as u64;
        Ok(Some(Speed { what: "decoding", tokens, seconds: long - short, bytes }))
    }

    fn per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }

    /// Of what the copy probe's bandwidth would allow.
    fn share(&self, roof: Roof) -> f64 {
        self.bytes as f64 / roof.bytes / self.seconds
    }

    pub(super) fn told(&self, roof: Roof) -> String {
        format!(
            "{}: {} tokens in {}, {} tokens/s; {} of what memory alone would allow ({} MB a token at {} GB/s)\n",
            self.what,
            self.tokens,
            seconds(self.seconds),
            digits(self.per_second()),
            percent(self.share(roof)),
            digits(self.bytes as f64 / self.tokens as f64 * 1e-6),
            digits(roof.bytes * 1e-9),
        )
    }

    pub(super) fn json(&self, roof: Roof) -> Value {
        json!({
            "what": self.what,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "tokens_per_s": self.per_second(),
            "bytes": self.bytes,
            "share_of_memory_bound": self.share(roof),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_bandwidth() {
        let roof = Roof { flops: 1e12, bytes: 10e9 };
        let output = |shape: &[usize]| Output { name: "x", shape: shape.to_vec(), values: Vec::new() };
        let speed = Speed::of_call(&[output(&[2, 16, 8])], 0.5, 1_000_000_000).unwrap();
        assert_eq!((speed.tokens, speed.per_second()), (32, 64.0));
        assert!((speed.share(roof) - 0.2).abs() < 1e-12);
        assert!(
            speed.told(roof).contains("64.0 tokens/s; 20.0 % of what memory alone"),
            "{}",
            speed.told(roof)
        );
        assert!(Speed::of_call(&[output(&[2, 16])], 0.5, 1).is_none());
    }
}
