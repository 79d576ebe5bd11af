//! `mindreel bench model`: one call of a model on the device, its time by op.

use super::clock::Clock;
use super::launch::LaunchCost;
use super::probe::Probes;
use super::report::{Row, digits, header, header_text, percent, rate, seconds, table};
use super::roofline::Roof;
use super::sample::Sample;
use super::speed::Speed;
use super::subject::{self, Case, Size};
use super::{Output, chrome, compare};
use crate::cli::progress::Progress;
use crate::cli::{Number, Shell, stop};
use crate::error::Result;
use crate::files;
use crate::gpu::{Gpu, Op, Trace};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  mindreel bench model unet                        a guided step of a full-size clip, by op
  mindreel bench model vae --dtype f16
  mindreel bench model unet --size small --trace unet.json    for ui.perfetto.dev or chrome://tracing
  mindreel bench model full/unet                   a checkpoint's own weights
  mindreel bench model opt-2.7b-4-layers --dtype int8   tokens per second, of a text that grows too

Models: unet, vae, text, semantic, seq2seq, dynamics, image (Stable Diffusion's UNet on one image), a single model of
`mindreel init` (blip2-qformer, neurovision-eeg, …; opt-2.7b-4-layers has four of its layers), or a folder.
Weights that no folder gives are random, by the formula of `mindreel init`. A call to warm up comes first; then one
with a timestamp before and after every launch, and, unless a call takes minutes, one without.";

/// One call of a model, its time by op
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Model or folder with one
    #[arg(value_name = "NAME|DIR")]
    name: String,

    /// Sizes of named models
    #[arg(long, default_value = "full")]
    size: Size,

    /// Number type of activations and random weights
    #[arg(long, default_value = "f32")]
    dtype: Number,

    /// Spare the call that warms up; kernels are then compiled within the times
    #[arg(long)]
    cold: bool,

    /// Timeline for Perfetto or Chrome
    #[arg(long, value_name = "FILE.json")]
    trace: Option<PathBuf>,

    /// Result of an earlier run to hold this one against
    #[arg(long, value_name = "FILE.json")]
    compare: Option<PathBuf>,

    #[command(flatten)]
    output: Output,
}

/// A call longer than this is not repeated without timestamps.
const LONG_S: f64 = 30.0;

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    args.output.check(&[args.trace.as_deref()])?;
    let before = args.compare.as_deref().map(compare::open).transpose()?;
    let cases = subject::cases(Some(&args.name), args.size)?;
    let gpu = shell.open_gpu()?;
    let stopped = stop::watch(shell.quiet)?;
    let stop_here = || stop::check(&stopped, "nothing was written");
    let mut log = args.output.log()?;
    let mut result = header(&gpu);
    log.line(&result)?;
    let launch = LaunchCost::measure(&gpu)?;
    let probes = Probes::new(&gpu, Clock::Device, false)?;

    let (mut text, mut rows, mut models, mut events) =
        (header_text(&result), Vec::new(), Vec::new(), Vec::new());
    for case in &cases {
        let profile = profile(case, &gpu, args, shell, &probes, &stop_here)?;
        let own = rows_of(case, &profile);
        let (told, summary) = tell(case, &profile, &own, &launch);
        text += &told;
        log.line(&summary)?;
        models.push(summary);
        events.extend(chrome::events(&case.name, &profile.trace, models.len()));
        rows.extend(own);
    }
    if let Some(path) = &args.trace {
        files::write_json(path, &chrome::file(events))?;
    }
    result["dtype"] = json!(format!("{:?}", args.dtype).to_lowercase());
    result["models"] = json!(models);
    result["ops"] = rows.iter().map(Row::json).collect();
    let changes = before.as_deref().map(|before| compare::changes(before, &rows));
    if let (Some(changes), Some(file)) = (&changes, &args.compare) {
        let (told, json) = compare::tell(changes, file);
        text += &told;
        result["compared"] = json;
    }
    args.output.write(&result)?;
    shell.print(&text, &result)?;
    match (&changes, &args.compare) {
        (Some(changes), Some(file)) => compare::refuse_slower(changes, file),
        _ => Ok(()),
    }
}

/// What one call was seen to do.
struct Profile {
    trace: Trace,
    roof: Roof,
    dispatches: u64,
    submissions: u64,
    /// Wall time of a call without timestamps, where one was made.
    wall_s: Option<f64>,
    /// Wall time of the call with them.
    traced_s: f64,
    /// Of models of tokens.
    speeds: Vec<Speed>,
}

fn profile(
    case: &Case,
    gpu: &Gpu,
    args: &Args,
    shell: &Shell,
    probes: &Probes,
    stop_here: &dyn Fn() -> Result<()>,
) -> Result<Profile> {
    let mut progress = Progress::new(shell.quiet, format!("{}: weights", case.name), case.n_values()?);
    let mut done = 0;
    let loaded = case.open(gpu, args.dtype.precision(), &mut |values| {
        done += values as u64;
        progress.set(done);
        stop_here()
    })?;
    progress.finish();
    for warning in &loaded.warnings {
        shell.note(&format!("warning: {}: {warning}", case.name));
    }
    gpu.wait()?;
    let mut outputs = Vec::new();
    let mut call = || -> Result<f64> {
        stop_here()?;
        let start = Instant::now();
        outputs = loaded.model.forward(case.inputs())?;
        gpu.wait()?;
        Ok(start.elapsed().as_secs_f64())
    };
    if !args.cold {
        shell.note(&format!("{}: warming up", case.name));
        call()?;
    }
    let before = probes.roof()?;
    let listener = gpu.listen()?;
    let mut from = gpu.counts();
    let traced_s = call()?;
    let mut to = gpu.counts();
    let trace = listener.finish()?;
    let after = probes.roof()?;
    let mut wall_s = None;
    if traced_s < LONG_S {
        // Where a device has no clock, listening adds submissions: this call counts.
        from = gpu.counts();
        wall_s = Some(call()?);
        to = gpu.counts();
    }
    let took = wall_s.unwrap_or(traced_s);
    let mut speeds: Vec<Speed> = Speed::of_call(&outputs, took, trace.work().bytes).into_iter().collect();
    if !args.cold {
        stop_here()?;
        speeds.extend(Speed::of_decoding(case, loaded.model.as_ref(), gpu, args.dtype.precision())?);
    }
    Ok(Profile {
        speeds,
        trace,
        roof: Roof { flops: 0.5 * (before.flops + after.flops), bytes: 0.5 * (before.bytes + after.bytes) },
        dispatches: to.dispatches - from.dispatches,
        submissions: to.submissions - from.submissions,
        wall_s,
        traced_s,
    })
}

/// One row per label: the mean of its calls.
fn rows_of(case: &Case, profile: &Profile) -> Vec<Row> {
    let mut found: Vec<(&str, Vec<&Op>)> = Vec::new();
    for op in &profile.trace.ops {
        match found.iter_mut().find(|(label, _)| *label == op.label) {
            Some((_, ops)) => ops.push(op),
            None => found.push((&op.label, vec![op])),
        }
    }
    let row = |(label, ops): (&str, Vec<&Op>)| {
        let times: Vec<f64> = ops.iter().map(|op| op.seconds()).collect();
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        let spread = Sample::of(&times).map_or(0.0, |sample| sample.spread);
        Row {
            model: case.name.clone(),
            name: label.to_string(),
            calls: ops.len(),
            launches: ops[0].n_launches(),
            sample: Sample { median_s: mean, spread, n: ops.len() },
            work: ops[0].work(),
            roof: profile.roof,
        }
    };
    let mut rows: Vec<Row> = found.into_iter().map(row).collect();
    rows.sort_by(|a, b| b.all_s().total_cmp(&a.all_s()));
    rows
}

fn tell(case: &Case, profile: &Profile, rows: &[Row], launch: &LaunchCost) -> (String, Value) {
    let took: f64 = rows.iter().map(Row::all_s).sum();
    let least: f64 = rows.iter().map(|row| row.calls as f64 * row.roof.least(row.work).0).sum();
    let work = profile.trace.work();
    let roof = profile.roof;
    let head = ["op", "calls", "each", "all", "of time", "GFLOP/s", "GB/s", "bound by", "share"];
    let cells = |row: &Row| {
        let (share, bound) = row.roof.share(row.work, row.sample.median_s);
        let per_second = |amount: u64| digits(amount as f64 / row.sample.median_s * 1e-9);
        vec![
            row.name.clone(),
            row.calls.to_string(),
            seconds(row.sample.median_s),
            seconds(row.all_s()),
            percent(row.all_s() / took),
            per_second(row.work.flops),
            per_second(row.work.bytes),
            bound.name().into(),
            percent(share),
        ]
    };
    let mut text = format!("{}\n\n", case.name) + &table(&head, &rows.iter().map(cells).collect::<Vec<_>>());
    let kinds = kinds(rows);
    let kind_cells = |(kind, calls, s): &(String, usize, f64)| {
        vec![kind.clone(), calls.to_string(), seconds(*s), percent(s / took)]
    };
    text += "\n";
    text += &table(&["kind", "calls", "all", "of time"], &kinds.iter().map(kind_cells).collect::<Vec<_>>());
    let flops = work.flops as f64 / took;
    text += &format!(
        "\n{} in {} ops: {}, {} of the {} that multiply-adds reach here, {} of the roofline\n",
        seconds(took),
        profile.trace.ops.len(),
        rate(flops, "FLOP"),
        percent(flops / roof.flops),
        rate(roof.flops, "FLOP"),
        percent(least / took),
    );
    profile.speeds.iter().for_each(|speed| text += &speed.told(roof));
    let wall = profile.wall_s.map_or(String::new(), |s| format!("{} without timestamps, ", seconds(s)));
    text += &format!(
        "from end to end {wall}{} with; {} dispatches, {} submissions, {} of CPU to record a dispatch\n\n",
        seconds(profile.traced_s),
        profile.dispatches,
        profile.submissions,
        seconds(launch.record_s),
    );
    let summary = json!({
        "model": case.name,
        "ops_s": took,
        "attainable_s": least,
        "flops": work.flops,
        "bytes": work.bytes,
        "flop_per_s": flops,
        "share_of_fma_peak": flops / roof.flops,
        "share_of_roofline": least / took,
        "probe_flop_per_s": roof.flops,
        "probe_bytes_per_s": roof.bytes,
        "wall_s": profile.wall_s,
        "traced_s": profile.traced_s,
        "dispatches": profile.dispatches,
        "submissions": profile.submissions,
        "record_s": launch.record_s,
        "speeds": profile.speeds.iter().map(|speed| speed.json(roof)).collect::<Vec<_>>(),
        "kinds": kinds.iter().map(|(kind, calls, s)| json!({ "kind": kind, "calls": calls, "all_s": s })).collect::<Vec<_>>(),
    });
    (text, summary)
}

/// Ops by the first word of their label: calls and seconds, most first.
fn kinds(rows: &[Row]) -> Vec<(String, usize, f64)> {
    let mut kinds: Vec<(String, usize, f64)> = Vec::new();
    for row in rows {
        match kinds.iter_mut().find(|known| known.0 == row.kind()) {
            Some(known) => {
                known.1 += row.calls;
                known.2 += row.all_s();
            }
            None => kinds.push((row.kind().to_string(), row.calls, row.all_s())),
        }
    }
    kinds.sort_by(|a, b| b.2.total_cmp(&a.2));
    kinds
}
