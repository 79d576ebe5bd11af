//! A trace as Chrome and Perfetto read it: one row of ops, under it one of kernels.
//!
//! Format: "Trace Event Format", complete events (`ph` X), times in microseconds.

use crate::gpu::{Op, Span, Step, Trace};
use serde_json::{Value, json};

/// Events of one model, as process `process`.
pub(super) fn events(model: &str, trace: &Trace, process: usize) -> Vec<Value> {
    let name = |what: &str, thread: usize, name: &str| json!({ "ph": "M", "name": what, "pid": process, "tid": thread, "args": { "name": name } });
    let mut events = vec![
        name("process_name", 0, model),
        name("thread_name", 0, "ops"),
        name("thread_name", 1, "kernels"),
    ];
    let event = |name: String, thread: usize, span: Span, args: Value| {
        json!({
            "ph": "X",
            "name": name,
            "pid": process,
            "tid": thread,
            "ts": span.start_s * 1e6,
            "dur": span.seconds * 1e6,
            "args": args,
        })
    };
    for op in &trace.ops {
        let Some(span) = whole(op) else { continue };
        let work = op.work();
        events.push(event(op.label.clone(), 0, span, json!({ "flops": work.flops, "bytes": work.bytes })));
        if op.spans.len() != op.steps.len() {
            continue;
        }
        for (step, &span) in op.steps.iter().zip(&op.spans) {
            let (name, args) = match step {
                Step::Launch(launch) => {
                    let program = &trace.programs[launch.program];
                    let args = json!({
                        "groups": launch.groups,
                        "variant": format!("{:?}", program.variant()),
                        "flops": launch.work.flops,
                        "bytes": launch.work.bytes,
                    });
                    (format!("{}::{}", program.name(), program.entry()), args)
                }
                Step::Copy { to, .. } => ("copy".to_string(), json!({ "bytes": to.bytes })),
                Step::CopyToTexture { texels, .. } => {
                    ("copy to texture".to_string(), json!({ "texels": texels }))
                }
            };
            events.push(event(name, 1, span, args));
        }
    }
    events
}

/// The file of all events.
pub(super) fn file(events: Vec<Value>) -> Value {
    json!({ "traceEvents": events, "displayTimeUnit": "ms" })
}

/// From the beginning of an op's first span to the end of its last.
fn whole(op: &Op) -> Option<Span> {
    let (first, last) = (op.spans.first()?, op.spans.last()?);
    Some(Span { start_s: first.start_s, seconds: last.start_s + last.seconds - first.start_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Gpu;
    use crate::tensor::{DType, Tensor};

    #[test]
    fn ops_lie_over_their_kernels() {
        let plan = Gpu::plan();
        let x = Tensor::empty(&plan, &[8, 4], DType::F32).unwrap();
        let listener = plan.listen().unwrap();
        x.softmax().unwrap();
        let mut trace = listener.finish().unwrap();
        assert_eq!(events("x", &trace, 1).len(), 3, "a plan has no times");
        trace.ops[0].spans = vec![Span { start_s: 1.0, seconds: 0.5 }];
        let events = events("x", &trace, 1);
        assert_eq!(events[3]["name"], "softmax [8, 4] f32");
        assert_eq!((&events[4]["name"], &events[4]["ts"]), (&json!("softmax::forward"), &json!(1e6)));
        assert_eq!(file(events)["traceEvents"].as_array().unwrap().len(), 5);
    }
}
