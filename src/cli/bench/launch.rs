//! What a launch costs beside its work: on the CPU to record, on the device to start, and a submission of its own.

use super::sample::Sample;
use crate::error::Result;
use crate::gpu::{Binding, Buffer, Gpu, Launch, Program, Scalar, Variant, Work};
use std::time::Instant;

/// Launches recorded at once; fewer than would be submitted by themselves.
const LAUNCHES: usize = 2000;
const ROUNDS: usize = 7;
const SUBMISSIONS: usize = 30;

/// Costs of launches, each the middle of several rounds, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LaunchCost {
    /// CPU time to record one dispatch.
    pub(super) record_s: f64,
    /// CPU time to encode it when what waits is submitted.
    pub(super) encode_s: f64,
    /// Of a dispatch of one workgroup that does nearly nothing, in a row of many, from end to end.
    pub(super) dispatch_s: f64,
    /// Of a submission with one dispatch, waited for.
    pub(super) submission_s: f64,
}

impl LaunchCost {
    /// Measures this device.
    ///
    /// Errors: GPU trouble.
    pub(super) fn measure(gpu: &Gpu) -> Result<LaunchCost> {
        let buffers = [gpu.alloc("probe", 256)?, gpu.alloc("probe", 256)?];
        let many = |n: usize| (0..n).try_for_each(|_| launch(gpu, &buffers));
        many(1)?;
        gpu.wait()?;
        let (mut record, mut encode, mut dispatch, mut submission) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            many(LAUNCHES)?;
            record.push(start.elapsed().as_secs_f64() / LAUNCHES as f64);
            let middle = Instant::now();
            gpu.submit()?;
            encode.push(middle.elapsed().as_secs_f64() / LAUNCHES as f64);
            gpu.wait()?;
            dispatch.push(middle.elapsed().as_secs_f64() / LAUNCHES as f64);
        }
        for _ in 0..SUBMISSIONS {
            let start = Instant::now();
            many(1)?;
            gpu.wait()?;
            submission.push(start.elapsed().as_secs_f64());
        }
        let middle = |seconds: &[f64]| Sample::of(seconds).map_or(f64::NAN, |sample| sample.median_s);
        Ok(LaunchCost {
            record_s: middle(&record),
            encode_s: middle(&encode),
            dispatch_s: middle(&dispatch),
            submission_s: middle(&submission),
        })
    }
}

/// One invocation that copies one number.
fn launch(gpu: &Gpu, [from, to]: &[Buffer; 2]) -> Result<()> {
    gpu.run(&Launch {
        program: Program::generated(
            "launch_probe",
            "forward",
            Variant { scalar: Scalar::F32, width: 1, workgroup: 1 },
            0,
            &|| TEXT.to_string(),
        ),
        params: &1_u32.to_le_bytes(),
        inputs: &[Binding::new(from, 0, 256)],
        outputs: &[Binding::new(to, 0, 256)],
        groups: [1, 1, 1],
        work: Work::default(),
    })
}

const TEXT: &str = "struct Params { n: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(WG)
fn forward() { y[params.n] = x[params.n]; }
";

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_validates() {
        let text = format!("const WG = 1u;\n{}", super::TEXT);
        crate::testing::validate("launch", &text, &[("n", 0)]);
    }

    /// Tells the CPU's share of a dispatch: `cargo test --release --features noop recording -- --nocapture`.
    #[cfg(feature = "noop")]
    #[test]
    fn recording_on_an_adapter_that_does_nothing() {
        let options = crate::gpu::Options { adapter: Some("noop".into()), ..Default::default() };
        let cost = super::LaunchCost::measure(&crate::gpu::Gpu::open(&options).unwrap()).unwrap();
        println!("record {:.0} ns, encode and submit {:.0} ns", cost.record_s * 1e9, cost.encode_s * 1e9);
        assert!(cost.record_s > 0.0 && cost.encode_s > 0.0);
    }
}
