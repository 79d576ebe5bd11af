//! `mindreel bench peaks`: multiply-adds, copies and launches of this device.

use super::Output;
use super::clock::Clock;
use super::launch::LaunchCost;
use super::probe::{Probes, Rate};
use super::report::{header, header_text, rate, seconds, table};
use crate::cli::Shell;
use crate::error::Result;
use crate::gpu::Scalar;
use serde_json::{Value, json};

/// Runs of every probe.
const RUNS: usize = 15;

/// Multiply-adds, copies, launches: what this device can do
#[derive(clap::Args)]
pub(super) struct Args {
    /// Which time is told
    #[arg(long, default_value = "device")]
    clock: Clock,

    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    args.output.check(&[])?;
    let gpu = shell.open_gpu()?;
    args.clock.check(&gpu)?;
    let mut log = args.output.log()?;
    let mut result = header(&gpu);
    log.line(&result)?;
    let launch = LaunchCost::measure(&gpu)?;
    let probes = Probes::new(&gpu, args.clock, true)?;
    let f32 = probes.flops(Scalar::F32, RUNS)?;
    let f16 = match gpu.facts().features.f16 {
        true => Some(probes.flops(Scalar::F16, RUNS)?),
        false => None,
    };
    let copy = probes.bytes(RUNS)?;
    let matrix = probes.matrix(RUNS)?;

    let rate_row = |what: &str, found: Option<Rate>, unit: &str, how: String| match found {
        Some(found) => vec![what.to_string(), rate(found.best, unit), rate(found.median, unit), how],
        None => vec![what.to_string(), "none".into(), "none".into(), how],
    };
    let rates = [
        rate_row("multiply-adds, f32", Some(f32), "FLOP", probes.fma_form(Scalar::F32)),
        rate_row("multiply-adds, f16", f16, "FLOP", probes.fma_form(Scalar::F16)),
        rate_row("matrix units", matrix, "FLOP", probes.matrix_form()),
        rate_row("copy, read and written", Some(copy), "B", probes.copy_form()),
    ];
    let cost = |what: &str, s: f64| vec![what.to_string(), seconds(s)];
    let costs = [
        cost("CPU to record a dispatch", launch.record_s),
        cost("CPU to encode and submit it with many", launch.encode_s),
        cost("a dispatch that does nothing, of many", launch.dispatch_s),
        cost("a submission of one, waited for", launch.submission_s),
    ];
    let text = header_text(&result)
        + &table(&["peak", "best", "median", "with"], &rates)
        + "\n"
        + &table(&["launch", "time"], &costs);
    let json_rate = |found: Option<Rate>| match found {
        Some(Rate { best, median }) => json!({ "best": best, "median": median }),
        None => Value::Null,
    };
    result["clock"] = json!(format!("{:?}", args.clock).to_lowercase());
    result["peaks"] = json!({
        "f32_flop_per_s": json_rate(Some(f32)),
        "f16_flop_per_s": json_rate(f16),
        "matrix_flop_per_s": json_rate(matrix),
        "copy_bytes_per_s": json_rate(Some(copy)),
        "record_s": launch.record_s,
        "encode_s": launch.encode_s,
        "dispatch_s": launch.dispatch_s,
        "submission_s": launch.submission_s,
    });
    log.line(&result["peaks"])?;
    args.output.write(&result)?;
    shell.print(&text, &result)
}
