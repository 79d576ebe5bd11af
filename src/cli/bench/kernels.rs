//! `mindreel bench kernels`: every op of the models at the shapes they run it at, each against the roofline.
//!
//! The ops come from the models themselves, run on a plan. Each distinct one runs again on buffers of its own until
//! the noise of its median is low or its time is up, between two probes of what the device can do at that moment.

use super::clock::Clock;
use super::probe::Probes;
use super::report::{Row, digits, header, header_text, percent, rate, seconds, table};
use super::roofline::Roof;
use super::sample::Budget;
use super::subject::{self, Case, Size};
use super::{Output, compare, plot};
use crate::cli::progress::Progress;
use crate::cli::{Float, Shell, stop};
use crate::error::{Error, Result};
use crate::gpu::{Class, Gpu, Trace};
use crate::ops::{Epilogue, Packed, SourceType};
use crate::plot::scene::FileKind;
use crate::tensor::{DType, Tensor};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  mindreel bench kernels --model unet --filter attention
  mindreel bench kernels --model vae --dtype f16 --plot roofline.png
  mindreel bench kernels --filter matmul --time 5 --noise 0.5
  mindreel bench kernels --compare before.json

Models: unet, vae, text, semantic, seq2seq, dynamics, image (Stable Diffusion's UNet on one image), or a folder; of
one that is not named here, those of a clip, and products of 1024 cubed (on cards also 4096) for reference.";

/// Every op of the models, at their shapes, against what the device can do
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Model or folder with one; all of a clip where none is named
    #[arg(long, value_name = "NAME|DIR")]
    model: Option<String>,

    /// Sizes of named models
    #[arg(long, default_value = "full")]
    size: Size,

    /// Only ops whose label holds this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Number type of activations and weights
    #[arg(long, default_value = "f32")]
    dtype: Float,

    /// Seconds for each op at most
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    time: f64,

    /// Percent the median may be off before an op's time is up
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT")]
    noise: f64,

    /// Which time is told
    #[arg(long, default_value = "device")]
    clock: Clock,

    /// Result of an earlier run to hold this one against
    #[arg(long, value_name = "FILE.json")]
    compare: Option<PathBuf>,

    /// Picture of the roofline with a dot for every op
    #[arg(long, value_name = "FILE.png|.svg")]
    plot: Option<PathBuf>,

    #[command(flatten)]
    output: Output,
}

/// An op to measure: its trace, its place there, how often the model runs it.
struct Item<'a> {
    model: &'a str,
    name: String,
    trace: &'a Trace,
    op: usize,
    calls: usize,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    for (name, value) in [("--time", args.time), ("--noise", args.noise)] {
        if !(0.0..=86_400.0).contains(&value) {
            return Err(Error::setting(name, format!("wants 0 to 86400, got {value}")));
        }
    }
    args.output.check(&[args.plot.as_deref()])?;
    args.plot.as_deref().map(|path| FileKind::of(path, "--plot")).transpose()?;
    let before = args.compare.as_deref().map(compare::open).transpose()?;
    let cases = subject::cases(args.model.as_deref(), args.size)?;
    let gpu = shell.open_gpu()?;
    args.clock.check(&gpu)?;
    let traces = traces(&gpu, &cases, args)?;
    let items = items(&traces, args.filter.as_deref())?;

    let stopped = stop::watch(shell.quiet)?;
    let stop_here = || stop::check(&stopped, "what was measured is in the log, where one was asked for");
    let mut log = args.output.log()?;
    let mut result = header(&gpu);
    log.line(&result)?;
    let mut progress = Progress::new(shell.quiet, "bench kernels", items.len() as u64);
    let budget = Budget { seconds: args.time, noise: args.noise * 0.01 };
    let probes = Probes::new(&gpu, args.clock, false)?;
    let (mut rows, mut roof_before) = (Vec::new(), probes.roof()?);
    let mut highest = roof_before;
    for (at, item) in items.iter().enumerate() {
        stop_here()?;
        let sample = match item.trace.replay(&gpu, item.op) {
            Ok(replay) => budget.measure(|runs| args.clock.time(&gpu, runs, &|| replay.run()), stop_here)?,
            Err(error @ Error::Limit { .. }) => {
                shell.note(&format!("left out: {}: {error}", item.name));
                continue;
            }
            Err(error) => return Err(error),
        };
        let roof_after = probes.roof()?;
        let row = Row {
            model: item.model.to_string(),
            name: item.name.clone(),
            calls: item.calls,
            launches: item.trace.ops[item.op].n_launches(),
            sample,
            work: item.trace.ops[item.op].work(),
            roof: middle(roof_before, roof_after),
        };
        log.line(&row.json())?;
        highest =
            Roof { flops: highest.flops.max(roof_after.flops), bytes: highest.bytes.max(roof_after.bytes) };
        rows.push(row);
        roof_before = roof_after;
        progress.set(at as u64 + 1);
    }
    progress.finish();
    rows.sort_by(|a, b| (a.calls == 0).cmp(&(b.calls == 0)).reverse().then(b.all_s().total_cmp(&a.all_s())));

    let mut text = header_text(&result) + &tell(&rows, highest);
    result["clock"] = json!(format!("{:?}", args.clock).to_lowercase());
    result["dtype"] = json!(format!("{:?}", args.dtype).to_lowercase());
    result["roof"] = json!({ "flop_per_s": highest.flops, "bytes_per_s": highest.bytes });
    result["ops"] = rows.iter().map(Row::json).collect();
    if let Some(path) = &args.plot {
        plot::draw(&rows, highest).save(path)?;
    }
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

/// What the models ask for, and the reference shapes, whose calls count as none.
fn traces(gpu: &Gpu, cases: &[Case], args: &Args) -> Result<Vec<(String, Trace)>> {
    let mut traces = Vec::new();
    if args.model.is_none() {
        traces.push((String::new(), reference(gpu, args.dtype)?));
    }
    for case in cases {
        traces.push((case.name.clone(), case.trace(gpu, args.dtype.precision())?));
    }
    Ok(traces)
}

/// Square products: of two tensors, and with packed weights as a linear layer has them.
fn reference(gpu: &Gpu, dtype: Float) -> Result<Trace> {
    let plan = gpu.planner();
    let half = dtype == Float::F16 && gpu.facts().features.f16;
    let dtype = if half { DType::F16 } else { DType::F32 };
    let sizes: &[usize] = if gpu.facts().class == Class::Discrete { &[1024, 4096] } else { &[1024] };
    let mut inputs = Vec::new();
    for &n in sizes {
        inputs.push((
            n,
            Tensor::empty(&plan, &[n, n], dtype)?,
            Packed::planned(&plan, [n, n, 1], SourceType::F32, half)?,
        ));
    }
    let listener = plan.listen()?;
    for (n, x, weight) in &inputs {
        {
            let _op = plan.op(|| format!("matmul {n}x{n}x{n} {dtype}"));
            x.matmul(x, false)?;
        }
        let _op = plan.op(|| format!("linear {n}x{n}x{n} {dtype}"));
        x.linear(weight, Epilogue::default())?;
    }
    listener.finish()
}

/// Distinct ops whose label holds the filter.
fn items<'a>(traces: &'a [(String, Trace)], filter: Option<&str>) -> Result<Vec<Item<'a>>> {
    let wanted = filter.unwrap_or("").to_lowercase();
    let (mut items, mut named) = (Vec::new(), BTreeMap::<(&str, &str), usize>::new());
    for (model, trace) in traces {
        for (op, calls) in trace.distinct() {
            let label = &trace.ops[op].label;
            // Ops of one label that launch different things.
            let times = named.entry((model, label)).or_default();
            *times += 1;
            let name = if *times == 1 { label.clone() } else { format!("{label} #{times}") };
            if label.to_lowercase().contains(&wanted) {
                let calls = if model.is_empty() { 0 } else { calls };
                items.push(Item { model, name, trace, op, calls });
            }
        }
    }
    if items.is_empty() {
        let mut kinds: Vec<&str> = named.keys().filter_map(|(_, label)| label.split(' ').next()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let detail =
            format!("no op's label holds '{}'; there are: {}", filter.unwrap_or(""), kinds.join(", "));
        return Err(Error::setting("--filter", detail));
    }
    Ok(items)
}

fn middle(a: Roof, b: Roof) -> Roof {
    Roof { flops: 0.5 * (a.flops + b.flops), bytes: 0.5 * (a.bytes + b.bytes) }
}

/// The table, and what all calls of each model take.
fn tell(rows: &[Row], roof: Roof) -> String {
    let head =
        ["op", "model", "calls", "median", "±", "runs", "GFLOP/s", "GB/s", "bound by", "share", "all calls"];
    let cells = |row: &Row| {
        let (share, bound) = row.roof.share(row.work, row.sample.median_s);
        let per_second = |amount: u64| digits(amount as f64 / row.sample.median_s * 1e-9);
        vec![
            row.name.clone(),
            if row.model.is_empty() { "-".into() } else { row.model.clone() },
            if row.calls == 0 { "-".into() } else { row.calls.to_string() },
            seconds(row.sample.median_s),
            percent(row.sample.noise()),
            row.sample.n.to_string(),
            per_second(row.work.flops),
            per_second(row.work.bytes),
            bound.name().into(),
            percent(share),
            if row.calls == 0 { "-".into() } else { seconds(row.all_s()) },
        ]
    };
    let mut text = table(&head, &rows.iter().map(cells).collect::<Vec<_>>());
    let (flops, bytes) = (rate(roof.flops, "FLOP"), rate(roof.bytes, "B"));
    text +=
        &format!("\nprobes beside the ops, at their highest: {flops} f32 multiply-adds, {bytes} copied\n");
    if rows.iter().any(|row| row.roof.share(row.work, row.sample.median_s).0 > 1.0) {
        text += "above 100 %: what an op reads or writes lay in a cache, which the copy probe leaves\n";
    }
    let mut models: Vec<&str> =
        rows.iter().filter(|row| row.calls > 0).map(|row| row.model.as_str()).collect();
    models.sort_unstable();
    models.dedup();
    for model in models {
        let all: Vec<&Row> = rows.iter().filter(|row| row.model == model).collect();
        let took: f64 = all.iter().map(|row| row.all_s()).sum();
        let least: f64 = all.iter().map(|row| row.calls as f64 * row.roof.least(row.work).0).sum();
        let flops: f64 = all.iter().map(|row| (row.calls as u64 * row.work.flops) as f64).sum();
        text += &format!(
            "{model}: {} for one call of these ops, {} attainable ({}), {}\n",
            seconds(took),
            seconds(least),
            percent(least / took),
            rate(flops / took, "FLOP")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_are_found_by_label_and_an_unknown_one_gets_the_list() {
        let plan = Gpu::plan();
        let traces = [(String::new(), reference(&plan, Float::F32).unwrap())];
        let names = |filter| -> Result<Vec<String>> {
            Ok(items(&traces, Some(filter))?.iter().map(|item| item.name.clone()).collect())
        };
        assert_eq!(names("MATMUL").unwrap(), ["matmul 1024x1024x1024 f32"]);
        assert_eq!(names("").unwrap().len(), 2);
        let error = names("convolve").unwrap_err().to_string();
        assert!(error.contains("'convolve'") && error.contains("linear, matmul"), "{error}");
        assert_eq!(traces[0].1.ops[1].work().flops, 2 << 30);
    }
}
