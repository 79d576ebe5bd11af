//! The roofline: what a device can do at most, and which share of it an op reached.
//!
//! ```text
//! attainable FLOP/s = min(peak, bandwidth * flops / bytes)        Williams, Waterman, Patterson (2009)
//! ```

use crate::gpu::Work;

/// What a device can do at most, as probes measured it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Roof {
    /// Floating-point operations per second; a multiply-add counts two.
    pub(super) flops: f64,
    /// Bytes read and written per second.
    pub(super) bytes: f64,
}

/// What keeps an op from being faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Compute,
    Memory,
}

impl Bound {
    pub(super) fn name(self) -> &'static str {
        match self {
            Bound::Compute => "compute",
            Bound::Memory => "memory",
        }
    }
}

impl Roof {
    /// Seconds the work takes at least, and why.
    pub(super) fn least(&self, work: Work) -> (f64, Bound) {
        let (compute, memory) = (work.flops as f64 / self.flops, work.bytes as f64 / self.bytes);
        if compute >= memory { (compute, Bound::Compute) } else { (memory, Bound::Memory) }
    }

    /// Share of what is attainable that an op of this work and time reached, and what bounds it.
    pub(super) fn share(&self, work: Work, seconds: f64) -> (f64, Bound) {
        let (least, bound) = self.least(work);
        (least / seconds, bound)
    }
}

/// FLOPs per byte.
pub(super) fn intensity(work: Work) -> f64 {
    work.flops as f64 / work.bytes.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_roof_bounds() {
        let roof = Roof { flops: 100e9, bytes: 10e9 };
        let (share, bound) = roof.share(Work { flops: 1_000_000_000, bytes: 1_000_000 }, 0.02);
        assert!((share - 0.5).abs() < 1e-12 && bound == Bound::Compute);
        let (share, bound) = roof.share(Work { flops: 1_000_000, bytes: 100_000_000 }, 0.04);
        assert!((share - 0.25).abs() < 1e-12 && bound == Bound::Memory);
        // At the ridge both say the same.
        let ridge = Work { flops: 10_000, bytes: 1000 };
        assert_eq!(roof.least(ridge), (1e-7, Bound::Compute));
        assert_eq!(intensity(ridge), 10.0);
        assert_eq!(intensity(Work { flops: 5, bytes: 0 }), 5.0);
    }
}
