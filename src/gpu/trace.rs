//! Traces: what a device was asked for, op by op, and how long each op took there.
//!
//! ```text
//! gpu.listen() -> Listener … ops … -> finish() -> Trace { ops: [label, steps, spans], programs: [text] }
//! ```
//!
//! On a plan a trace holds what would run. On a device with timestamps every launch runs in a pass of its own, whose
//! beginning and end the device notes; without them an op is waited for and timed from outside.

use super::kernel::PipelineKey;
use super::{
    Binding, Buffer, Content, Gpu, Launch, MAX_WAITING, State, TEXEL_BYTES, Texel, Texture, Variant, Work,
};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::time::Instant;

/// What a device was asked for while a [`Listener`] was there.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Ops in the order they were recorded.
    pub ops: Vec<Op>,
    /// Programs they launched, each once.
    pub programs: Vec<ProgramText>,
}

/// One op: its launches and copies.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// Name, shapes, number type.
    pub label: String,
    /// What it asked for, in order.
    pub steps: Vec<Step>,
    /// Buffers and textures it touches; steps name them by their place here.
    pub resources: Vec<Resource>,
    /// When the device was at it: one span per step by its own clock, else one for the op; none in a plan.
    pub spans: Vec<Span>,
}

/// A part of an op.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A kernel.
    Launch(Launched),
    /// Bytes from one buffer into another.
    Copy {
        /// Where they come from.
        from: Bound,
        /// Where they go.
        to: Bound,
    },
    /// Texels from a buffer into a texture.
    CopyToTexture {
        /// Where they come from.
        from: Bound,
        /// The texture's place in [`Op::resources`].
        to: usize,
        /// First texel there.
        first: u64,
        /// How many.
        texels: u64,
    },
}

/// A launch as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Launched {
    /// Place in [`Trace::programs`].
    pub program: usize,
    /// Bytes of the shader's `Params`.
    pub params: Vec<u8>,
    /// Bindings that are read.
    pub inputs: Vec<Bound>,
    /// Bindings that are written.
    pub outputs: Vec<Bound>,
    /// Workgroups.
    pub groups: [u32; 3],
    /// What it costs.
    pub work: Work,
}

/// A range of one of an op's buffers, or one of its textures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Place in [`Op::resources`].
    pub resource: usize,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A buffer or texture of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Bytes.
    pub bytes: u64,
    /// Which of the two, and what it holds.
    pub kind: Kind,
    /// Whether the op reads it before writing it: an input.
    pub is_input: bool,
}

/// What a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A buffer that holds this.
    Buffer(Content),
    /// A texture of such texels.
    Texture(Texel),
}

/// A program and its whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramText {
    pub(super) key: PipelineKey,
    pub(super) text: String,
}

/// A stretch of time on the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Seconds since the first span of the trace began.
    pub start_s: f64,
    /// Seconds it took.
    pub seconds: f64,
}

/// Takes a trace until it is finished or dropped.
pub struct Listener {
    gpu: Gpu,
}

impl Trace {
    /// Distinct ops, in the order they first came, by their place in `ops`, and how often each came.
    pub fn distinct(&self) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        let mut by_label: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, op) in self.ops.iter().enumerate() {
            let known = by_label.entry(&op.label).or_default();
            match known.iter().find(|&&place| op.is_like(&self.ops[found[place].0])) {
                Some(&place) => found[place].1 += 1,
                None => {
                    known.push(found.len());
                    found.push((at, 1));
                }
            }
        }
        found
    }

    /// Launches of all ops.
    pub fn n_launches(&self) -> usize {
        self.ops.iter().map(Op::n_launches).sum()
    }

    /// Work of all ops.
    pub fn work(&self) -> Work {
        self.ops.iter().map(Op::work).fold(Work::default(), add)
    }
}

impl Op {
    /// Whether the other asks for the same, whenever it ran.
    pub fn is_like(&self, other: &Op) -> bool {
        (&self.label, &self.steps, &self.resources) == (&other.label, &other.steps, &other.resources)
    }

    /// Kernels it launches.
    pub fn n_launches(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Launch(_))).count()
    }

    /// What it costs in all.
    pub fn work(&self) -> Work {
        self.steps.iter().map(Step::work).fold(Work::default(), add)
    }

    /// Seconds the device was at it; 0 in a plan.
    pub fn seconds(&self) -> f64 {
        self.spans.iter().map(|span| span.seconds).sum()
    }
}

impl Step {
    fn work(&self) -> Work {
        match self {
            Step::Launch(launch) => launch.work,
            Step::Copy { to, .. } => Work { flops: 0, bytes: 2 * to.bytes },
            Step::CopyToTexture { texels, .. } => Work { flops: 0, bytes: 2 * texels * TEXEL_BYTES },
        }
    }
}

fn add(a: Work, b: Work) -> Work {
    Work { flops: a.flops + b.flops, bytes: a.bytes + b.bytes }
}

impl ProgramText {
    /// Name of the kernel: its shader.
    pub fn name(&self) -> &'static str {
        self.key.name
    }

    /// Entry point.
    pub fn entry(&self) -> &'static str {
        self.key.entry
    }

    /// Number type, width, workgroup.
    pub fn variant(&self) -> Variant {
        self.key.variant
    }

    /// The whole WGSL, its parameters in a uniform buffer.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Gpu {
    /// Takes a trace of everything from here on. What waits is sent off first.
    ///
    /// Errors: [`Error::Device`] when a trace is being taken already, or GPU trouble.
    pub fn listen(&self) -> Result<Listener> {
        self.wait()?;
        let clock = match &self.0.device {
            None => Clock::None,
            Some(device) if self.facts().features.timestamps => Clock::Device(Ticks {
                set: device.device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("timestamps"),
                    ty: wgpu::QueryType::Timestamp,
                    count: 2 * MAX_WAITING as u32,
                }),
                waiting: Vec::new(),
                next: 0,
                sent: Vec::new(),
            }),
            Some(_) => Clock::Wall(Instant::now()),
        };
        let mut state = self.state();
        if state.ears.take.is_some() {
            return Err(Error::Device("a trace is being taken already".into()));
        }
        state.ears.take = Some(Take::new(clock));
        self.prick_ears(&state.ears);
        Ok(Listener { gpu: self.clone() })
    }

    /// The op under way is over: without a clock on the device it is waited for.
    pub(super) fn end_of_op(&self, state: &mut State) -> Result<()> {
        let Some(take) = &mut state.ears.take else { return Ok(()) };
        let Some(op) = take.end() else { return Ok(()) };
        if let (Clock::Wall(start), Some(device)) = (&take.clock, &self.0.device) {
            let (start, began) = (*start, Instant::now());
            self.flush(state)?;
            device.wait()?;
            let span = Span {
                start_s: began.duration_since(start).as_secs_f64(),
                seconds: began.elapsed().as_secs_f64(),
            };
            if let Some(take) = &mut state.ears.take {
                take.trace.ops[op].spans.push(span);
            }
        }
        Ok(())
    }
}

impl Listener {
    /// Waits for what was recorded and hands out the trace.
    ///
    /// Errors: [`Error::Device`] for GPU trouble.
    pub fn finish(self) -> Result<Trace> {
        self.gpu.wait()?;
        let take = self.gpu.state().ears.take.take();
        let Some(Take { mut trace, clock, .. }) = take else { return Ok(Trace::default()) };
        if let (Clock::Device(ticks), Some(device)) = (clock, &self.gpu.0.device) {
            let period_ns = f64::from(device.queue.get_timestamp_period());
            let mut first = None;
            for sent in ticks.sent {
                let mut bytes = Vec::new();
                device.read_mapped(&sent.buffer, &mut bytes)?;
                let times: Vec<u64> = bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect();
                for (op, pair) in sent.ops.into_iter().zip(times.chunks_exact(2)) {
                    let first = *first.get_or_insert(pair[0]);
                    let seconds = |ticks: u64| ticks as f64 * period_ns * 1e-9;
                    trace.ops[op].spans.push(Span {
                        start_s: seconds(pair[0].saturating_sub(first)),
                        seconds: seconds(pair[1].saturating_sub(pair[0])),
                    });
                }
            }
        }
        Ok(trace)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.gpu.state();
        state.ears.take = None;
        self.gpu.prick_ears(&state.ears);
    }
}

/// A trace being taken.
pub(super) struct Take {
    trace: Trace,
    programs: HashMap<PipelineKey, usize>,
    /// Buffers and textures of the op under way, by their ids.
    resources: HashMap<u64, usize>,
    is_within: bool,
    clock: Clock,
}

enum Clock {
    None,
    Wall(Instant),
    Device(Ticks),
}

impl Take {
    fn new(clock: Clock) -> Take {
        Take {
            trace: Trace::default(),
            programs: HashMap::new(),
            resources: HashMap::new(),
            is_within: false,
            clock,
        }
    }

    pub(super) fn launched(&mut self, label: &str, launch: &Launch, command: Option<usize>) {
        self.begin(label);
        let key = launch.program.key();
        let program = *self.programs.entry(key).or_insert_with(|| {
            self.trace.programs.push(ProgramText { key, text: launch.program.text(false) });
            self.trace.programs.len() - 1
        });
        let mut bound = |bindings: &[Binding], is_read| {
            bindings.iter().map(|binding| self.bound(binding, is_read)).collect()
        };
        let launched = Launched {
            program,
            params: launch.params.to_vec(),
            inputs: bound(launch.inputs, true),
            outputs: bound(launch.outputs, false),
            groups: launch.groups,
            work: launch.work,
        };
        self.push(Step::Launch(launched), command);
    }

    pub(super) fn copied(
        &mut self,
        label: &str,
        from: (&Buffer, u64),
        to: (&Buffer, u64),
        bytes: u64,
        command: Option<usize>,
    ) {
        self.begin(label);
        let from = self.bound(&Binding::Buffer { buffer: from.0, offset: from.1, bytes }, true);
        let to = self.bound(&Binding::Buffer { buffer: to.0, offset: to.1, bytes }, false);
        self.push(Step::Copy { from, to }, command);
    }

    pub(super) fn copied_to_texture(
        &mut self,
        label: &str,
        (from, offset): (&Buffer, u64),
        (to, first): (&Texture, u64),
        texels: u64,
        command: Option<usize>,
    ) {
        self.begin(label);
        let bytes = texels * TEXEL_BYTES;
        let from = self.bound(&Binding::Buffer { buffer: from, offset, bytes }, true);
        let to = self.bound(&Binding::Texture(to), false).resource;
        self.push(Step::CopyToTexture { from, to, first, texels }, command);
    }

    pub(super) fn ticks(&mut self) -> Option<&mut Ticks> {
        match &mut self.clock {
            Clock::Device(ticks) => Some(ticks),
            _ => None,
        }
    }

    fn begin(&mut self, label: &str) {
        if !self.is_within {
            self.is_within = true;
            self.resources.clear();
            self.trace.ops.push(Op {
                label: label.to_string(),
                steps: Vec::new(),
                resources: Vec::new(),
                spans: Vec::new(),
            });
        }
    }

    /// The place of the op that ends, if it asked for anything.
    fn end(&mut self) -> Option<usize> {
        std::mem::take(&mut self.is_within).then(|| self.trace.ops.len() - 1)
    }

    fn push(&mut self, step: Step, command: Option<usize>) {
        let at = self.trace.ops.len() - 1;
        self.trace.ops[at].steps.push(step);
        if let (Clock::Device(ticks), Some(command)) = (&mut self.clock, command) {
            ticks.waiting.push((command, at));
        }
    }

    fn bound(&mut self, binding: &Binding, is_read: bool) -> Bound {
        let (id, kind, size, offset, bytes) = match *binding {
            Binding::Buffer { buffer, offset, bytes } => {
                (buffer.id, Kind::Buffer(buffer.content), buffer.bytes, offset, bytes)
            }
            Binding::Texture(texture) => {
                (texture.id, Kind::Texture(texture.texel), texture.bytes, 0, texture.bytes)
            }
        };
        let known = &mut self.trace.ops.last_mut().expect("an op has begun").resources;
        let resource = *self.resources.entry(id).or_insert_with(|| {
            known.push(Resource { bytes: size, kind, is_input: is_read });
            known.len() - 1
        });
        Bound { resource, offset, bytes }
    }
}

/// The device's clock: which waiting commands are timed, and where their times will be read.
pub(super) struct Ticks {
    set: wgpu::QuerySet,
    /// Places in the recorder, with their ops.
    waiting: Vec<(usize, usize)>,
    /// How many of them the encoder has passed.
    next: usize,
    sent: Vec<Sent>,
}

struct Sent {
    buffer: wgpu::Buffer,
    ops: Vec<usize>,
}

impl Ticks {
    /// First of the two queries of the command at this place, if it is timed. Places are asked for in order.
    pub(super) fn slot(&mut self, command: usize) -> Option<u32> {
        let is_next = self.waiting.get(self.next).is_some_and(|&(at, _)| at == command);
        is_next.then(|| {
            self.next += 1;
            2 * (self.next as u32 - 1)
        })
    }

    /// Beginning and end of a pass.
    pub(super) fn both(&self, slot: u32) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(slot),
            end_of_pass_write_index: Some(slot + 1),
        }
    }

    /// The time at an empty pass, as beginning or end.
    pub(super) fn one(&self, slot: u32, end: bool) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(slot + u32::from(end)),
            end_of_pass_write_index: None,
        }
    }

    /// Copies the times of this submission to where the host reads them.
    pub(super) fn resolve(&mut self, device: &wgpu::Device, encoder: &mut wgpu::CommandEncoder) {
        self.next = 0;
        if self.waiting.is_empty() {
            return;
        }
        let ops: Vec<usize> = self.waiting.drain(..).map(|(_, op)| op).collect();
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: 16 * ops.len() as u64,
                usage,
                mapped_at_creation: false,
            })
        };
        let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let mapped = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        encoder.resolve_query_set(&self.set, 0..2 * ops.len() as u32, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &mapped, 0, None);
        self.sent.push(Sent { buffer: mapped, ops });
    }
}
