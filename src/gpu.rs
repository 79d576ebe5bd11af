//! The device: adapters, buffers, pipelines, one recorder. The only room that names wgpu.
//!
//! `run` records; nothing reaches the queue before enough work waits, a tensor is read, or [`Gpu::submit`]
//! is called. A [`Gpu::planner`] records nothing at all: the same model code runs on it and leaves behind what
//! it would cost, so that peak memory is known before anything is allocated.

mod adapter;
mod capture;
mod cores;
mod family;
mod guards;
mod kernel;
mod pipelines;
mod pool;
mod recent;
mod recorder;
mod replay;
mod scope;
mod texture;
mod trace;
mod tuning;
mod watch;

pub use adapter::{Class, Facts, Features, Limits, Options, list};
pub use capture::Capture;
pub use family::{Checks, Family};
pub use kernel::{Binding, Kernel, Launch, Program, Scalar, Variant, Work};
pub use pool::{Buffer, Content, Memory};
pub use replay::Replay;
pub use scope::Scope;
pub use texture::{TEXEL_BYTES, TEXTURE_WIDTH, Texel, Texture};
pub use trace::{
    Bound, Kind as ResourceKind, Launched, Listener, Op, ProgramText, Resource, Span, Step, Trace,
};
pub use tuning::{Trial, Tuning};

use crate::error::{Error, Result};
use capture::Captures;
use guards::{GUARD_BYTES, Guards};
use pipelines::{PARAMS_BYTES, Pipelines};
use pool::{Held, Kind, Pool, Raw};
use recorder::{Command, Recorder};
use scope::Ears;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tuning::Known;

/// A device, or a plan of one. Cloning shares it.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    facts: Facts,
    device: Option<Device>,
    /// Whether ops are to be named: someone takes a trace or watches for NaN.
    heard: AtomicBool,
    known: Arc<Known>,
    state: Mutex<State>,
}

struct Device {
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// First trouble the driver reported outside a scope: an uncaptured error or a lost device.
    trouble: Arc<Mutex<Option<String>>>,
}

struct State {
    pool: Pool,
    recorder: Recorder,
    pipelines: Option<Pipelines>,
    counts: Counts,
    ears: Ears,
    captures: Captures,
    guards: Guards,
}

/// What has been asked of a device since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Kernel launches.
    pub dispatches: u64,
    /// Submissions to the queue.
    pub submissions: u64,
    /// Work of all launches.
    pub work: Work,
}

/// A submission that takes longer than this is treated as a hung driver.
const DEADLINE: Duration = Duration::from_secs(300);
/// Launches that may wait before they are submitted.
const MAX_WAITING: usize = 2048;
/// Upload and read-back go in pieces of this size, so that staging memory stays small.
const PIECE_BYTES: u64 = 64 << 20;

impl Gpu {
    /// Opens the adapter `options` names, or the best one.
    ///
    /// Errors: [`Error::Device`] when there is none, none of that name, or it gives no device.
    pub fn open(options: &Options) -> Result<Gpu> {
        let (mut facts, adapter) = adapter::choose(options.adapter.as_deref())?;
        facts.features.f16 &= !options.without_f16;
        facts.features.int64 &= !options.without_int64;
        facts.features.immediates &= !options.without_immediates;
        facts.features.cheap_texels &= !options.without_textures;
        if options.without_subgroups {
            facts.features.subgroup_size = None;
        }
        if let Some(bytes) = options.binding_bytes {
            facts.limits.binding_bytes = facts.limits.binding_bytes.min(bytes & !255);
        }
        if !facts.features.f16 || facts.features.subgroup_size.is_none() {
            facts.features.matrix_edge = None;
        }
        facts.choose_family(options.family)?;
        facts.checks = options.checks;
        facts.guards = options.guards;
        if options.guards && options.check_finite {
            let detail = "guard words are not finite: look for one or the other";
            return Err(Error::setting("guards", detail));
        }
        let (device, queue) = match adapter::open(&facts, &adapter) {
            // Matrix units that were not asked for are done without.
            Err(_) if facts.family == Family::Matrix && options.family.is_none() => {
                facts.features.matrix_edge = None;
                facts.choose_family(None)?;
                adapter::open(&facts, &adapter)?
            }
            opened => opened?,
        };
        let trouble = Arc::new(Mutex::new(None));
        let note = |trouble: &Arc<Mutex<Option<String>>>| {
            let trouble = trouble.clone();
            move |text: String| {
                if let Ok(mut first) = trouble.lock() {
                    first.get_or_insert(text);
                }
            }
        };
        let (on_error, on_lost) = (note(&trouble), note(&trouble));
        device.on_uncaptured_error(Arc::new(move |error| on_error(error.to_string())));
        device.set_device_lost_callback(move |reason, text| {
            on_lost(format!("the device was lost ({reason:?}): {text}; start again"))
        });
        let pipelines = Some(Pipelines::new(&device, &facts));
        let gpu = Gpu::with(facts, Some(Device { device, queue, trouble }), pipelines, Arc::default());
        gpu.load_tuning(options.tuning.as_deref())?;
        if options.check_finite {
            gpu.watch()?;
        }
        Ok(gpu)
    }

    /// A plan of this device: the same limits and features, no memory, no commands.
    pub fn planner(&self) -> Gpu {
        Gpu::with(self.0.facts.clone(), None, None, self.0.known.clone())
    }

    /// A plan where no device is at hand, with the limits of the software adapter.
    pub fn plan() -> Gpu {
        let facts = Facts {
            index: 0,
            name: "plan".into(),
            driver: String::new(),
            backend: String::new(),
            class: Class::Software,
            features: Features {
                f16: true,
                subgroup_size: Some(8),
                int64: true,
                immediates: true,
                cheap_texels: true,
                timestamps: false,
                cooperative_matrix: false,
                matrix_edge: None,
            },
            limits: Limits {
                binding_bytes: 128 << 20,
                buffer_bytes: (2 << 30) - 256,
                binding_alignment: 256,
                workgroup_bytes: 32 << 10,
                workgroup_invocations: 256,
                groups_per_axis: 65_535,
                texture_rows: 16_384,
            },
            cores: 2,
            family: Family::Subgroup,
            checks: Checks::Auto,
            guards: false,
        };
        Gpu::with(facts, None, None, Arc::default())
    }

    /// A plan of a card with `tiled` kernels, for tests of what is chosen there.
    #[cfg(test)]
    pub(crate) fn card_plan() -> Gpu {
        let mut facts = Gpu::plan().facts().clone();
        (facts.class, facts.family, facts.cores) = (Class::Discrete, Family::Tiled, 132);
        facts.features.cheap_texels = false;
        facts.features.subgroup_size = Some(32);
        Gpu::with(facts, None, None, Arc::default())
    }

    fn with(facts: Facts, device: Option<Device>, pipelines: Option<Pipelines>, known: Arc<Known>) -> Gpu {
        let state = State {
            pool: Pool::default(),
            recorder: Recorder::default(),
            pipelines,
            counts: Counts::default(),
            ears: Ears::default(),
            captures: Captures::default(),
            guards: Guards::default(),
        };
        let heard = AtomicBool::new(false);
        Gpu(Arc::new(Inner { facts, device, heard, known, state: Mutex::new(state) }))
    }

    fn known(&self) -> &Known {
        &self.0.known
    }

    /// Name, driver, features and limits.
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// True where nothing is computed, only counted.
    pub fn is_plan(&self) -> bool {
        self.0.device.is_none()
    }

    /// True when both handles are of one device.
    pub fn is_same(&self, other: &Gpu) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Memory now and at its peak.
    pub fn memory(&self) -> Memory {
        self.state().pool.memory
    }

    /// Buffers held by tensors now.
    pub fn live_buffers(&self) -> usize {
        self.state().pool.n_live
    }

    /// Launches, submissions and work so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Invocations per workgroup for kernels that share nothing. Those that move several units each find them a
    /// workgroup's width apart: on a software adapter 4 KiB, a page, where the CPU reads ahead best.
    pub fn flat_workgroup(&self) -> u32 {
        if self.facts().class == Class::Software { 256 } else { 64 }
    }

    /// Invocations per workgroup for kernels that reduce a row together: one subgroup on a software adapter,
    /// where a workgroup runs on one core.
    pub fn row_workgroup(&self) -> u32 {
        if self.facts().class == Class::Software { 8 } else { 128 }
    }

    /// Folds a row of workgroups into a grid within the device's limit; shaders find their place again through
    /// `group_index` and ignore those past the end. `what` names the op in a refusal.
    pub fn grid(&self, what: &str, groups: u64) -> Result<[u32; 3]> {
        let per_axis = u64::from(self.facts().limits.groups_per_axis);
        let rows = groups.div_ceil(per_axis).max(1);
        if rows > per_axis {
            return Err(Error::Limit {
                what: format!("{what}: a grid of workgroups"),
                needed: groups,
                available_what: "the most this adapter runs at once".into(),
                available: per_axis * per_axis,
            });
        }
        Ok([groups.div_ceil(rows) as u32, rows as u32, 1])
    }

    /// A buffer of at least `bytes`, its content undefined; `what` names it in a refusal.
    ///
    /// Errors: [`Error::Limit`] when larger than the adapter's buffers or when memory is out.
    pub fn alloc(&self, what: &str, bytes: u64) -> Result<Buffer> {
        self.alloc_buffer(what, bytes, false)
    }

    /// `apart`: none that the capture under way has used.
    fn alloc_buffer(&self, what: &str, bytes: u64, apart: bool) -> Result<Buffer> {
        let limit = self.facts().limits.buffer_bytes;
        if bytes > limit {
            return Err(Error::Limit {
                what: what.to_string(),
                needed: bytes,
                available_what: "the largest buffer of this adapter".into(),
                available: limit,
            });
        }
        let (class, base) = match self.facts().guards {
            true => (guards::class(bytes), GUARD_BYTES),
            false => (Pool::size_class(bytes).min(limit), 0),
        };
        let Held { id, raw } =
            self.held(what, (class, Kind::Buffer), apart, |device| device.create_buffer(class + 2 * base))?;
        let raw = match raw {
            Some(Raw::Buffer(raw)) => Some(raw),
            _ => None,
        };
        if let (1.., Some(raw), Some(device)) = (base, &raw, &self.0.device) {
            self.state().guards.watch(device, id, what, raw, class);
        }
        Ok(Buffer { gpu: self.clone(), raw, id, bytes: class, base, content: Content::default() })
    }

    /// A texture of at least `texels`, its content undefined; `what` names it in a refusal. Filled by
    /// [`Gpu::copy_to_texture`].
    ///
    /// Errors: [`Error::Limit`] above [`Gpu::texture_texels`] or when memory is out.
    pub fn alloc_texture(&self, what: &str, texel: Texel, texels: u64) -> Result<Texture> {
        if texels > self.texture_texels() {
            return Err(Error::Limit {
                what: format!("{what}: its texels"),
                needed: texels,
                available_what: "the largest texture of this adapter".into(),
                available: self.texture_texels(),
            });
        }
        let row = TEXTURE_WIDTH * TEXEL_BYTES;
        let most = u64::from(self.facts().limits.texture_rows) * row;
        let bytes = Pool::size_class(texels.max(1) * TEXEL_BYTES).next_multiple_of(row).min(most);
        let class = (bytes, Kind::Texture(texel));
        let Held { id, raw } =
            self.held(what, class, false, |device| device.create_texture(texel, bytes / row))?;
        let raw = match raw {
            Some(Raw::Texture(texture, view)) => Some((texture, view)),
            _ => None,
        };
        Ok(Texture { gpu: self.clone(), raw, id, bytes, texel })
    }

    /// Texels of the largest texture.
    pub fn texture_texels(&self) -> u64 {
        u64::from(self.facts().limits.texture_rows) * TEXTURE_WIDTH
    }

    /// Something of this class from the pool, or made by `make`, which gives `None` when memory is out.
    fn held(
        &self,
        what: &str,
        class: pool::Class,
        apart: bool,
        make: impl Fn(&Device) -> Result<Option<Raw>>,
    ) -> Result<Held> {
        let mut state = self.state();
        if !apart && let Some(held) = state.captures.take(class) {
            return Ok(held);
        }
        if let Some(held) = state.pool.take(class) {
            state.captures.allocated(held.id);
            return Ok(held);
        }
        let raw = match &self.0.device {
            None => None,
            Some(device) => Some(match make(device)? {
                Some(raw) => raw,
                None => {
                    // Out of memory: let go of what waits, try once more.
                    self.flush(&mut state)?;
                    state.trim(0);
                    drop(state);
                    self.wait()?;
                    state = self.state();
                    make(device)?.ok_or_else(|| Error::Limit {
                        what: what.to_string(),
                        needed: state.pool.memory.reserved + class.0,
                        available_what: "held when the device ran out of memory".into(),
                        available: state.pool.memory.reserved,
                    })?
                }
            }),
        };
        let id = state.pool.made(class.0);
        state.captures.allocated(id);
        Ok(Held { id, raw })
    }

    /// Records a launch.
    ///
    /// Errors: [`Error::Device`] when the driver refuses the kernel, [`Error::Limit`] when a binding is too
    /// large: ops bind windows instead.
    pub fn run(&self, launch: &Launch) -> Result<()> {
        let limit = self.facts().limits.binding_bytes;
        for binding in launch.inputs.iter().chain(launch.outputs) {
            if let &Binding::Buffer { bytes, .. } = binding
                && bytes > limit
            {
                return Err(Error::Limit {
                    what: format!("{}: a tensor", launch.program.name),
                    needed: bytes,
                    available_what: "the largest storage binding of this adapter".into(),
                    available: limit,
                });
            }
        }
        let _op = self.op(|| launch.program.name.to_string());
        let mut guard = self.state();
        let state = &mut *guard;
        state.counts.dispatches += 1;
        state.counts.work.flops += launch.work.flops;
        state.counts.work.bytes += launch.work.bytes;
        let command = self.record(state, launch)?;
        state.ears.launched(launch, command);
        self.flush_when_enough(state)
    }

    fn flush_when_enough(&self, state: &mut State) -> Result<()> {
        // On a CPU a submission of this size takes a few hundred milliseconds; a card does far more in that time.
        let enough = if self.facts().class == Class::Software { 10_000_000_000 } else { 2_000_000_000_000 };
        if state.recorder.flops >= enough || state.recorder.len() >= MAX_WAITING {
            self.flush(state)?;
        }
        Ok(())
    }

    /// Puts a launch behind what waits, and says where it stands there; in a plan nowhere.
    fn record(&self, state: &mut State, launch: &Launch) -> Result<Option<usize>> {
        state.captures.launched(launch);
        let Some(device) = &self.0.device else { return Ok(None) };
        let pipelines = state.pipelines.as_mut().expect("a device has its pipelines");
        let pipeline = pipelines.pipeline(&device.device, launch)?;
        let group = pipelines.group(&device.device, launch);
        let mut params = [0; PARAMS_BYTES];
        params[..launch.params.len()].copy_from_slice(launch.params);
        let command = Command::Dispatch { pipeline, group, params, groups: launch.groups };
        Ok(state.push(command, launch.work.flops))
    }

    /// Records a copy of `bytes` between buffers; offsets and size are multiples of 4.
    pub fn copy(
        &self,
        from: &Buffer,
        from_offset: u64,
        to: &Buffer,
        to_offset: u64,
        bytes: u64,
    ) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let _op = self.op(|| "copy".to_string());
        let mut state = self.state();
        state.counts.work.bytes += 2 * bytes;
        state.captures.own(from.id);
        state.captures.own(to.id);
        let command = match (&from.raw, &to.raw) {
            (Some(raw_from), Some(raw_to)) => {
                let (from_offset, to_offset) = (from.base + from_offset, to.base + to_offset);
                let (from, to) = (raw_from.clone(), raw_to.clone());
                state.push(Command::Copy { from, from_offset, to, to_offset, bytes }, 0)
            }
            _ => None,
        };
        state.ears.copied(from, from_offset, to, to_offset, bytes, command);
        Ok(())
    }

    /// Records a copy of `texels` from a buffer into a texture, from its texel `first` on; the offset is a multiple of
    /// [`TEXEL_BYTES`].
    pub fn copy_to_texture(&self, from: &Buffer, from_offset: u64, to: &Texture, first: u64, texels: u64) {
        if texels == 0 {
            return;
        }
        let _op = self.op(|| "copy".to_string());
        let mut state = self.state();
        state.counts.work.bytes += 2 * texels * TEXEL_BYTES;
        state.captures.own(from.id);
        state.captures.own(to.id);
        let command = match (&from.raw, &to.raw) {
            (Some(raw), Some((to, _))) => {
                let from_offset = from.base + from_offset;
                let (from, to) = (raw.clone(), to.clone());
                state.push(Command::CopyToTexture { from, from_offset, to, first, texels }, 0)
            }
            _ => None,
        };
        state.ears.copied_to_texture((from, from_offset), (to, first), texels, command);
    }

    /// Writes host bytes (a multiple of 4) into a buffer, in order with what was recorded before.
    pub fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        if self.state().captures.is_taking() {
            // A replay wants it again, after what was captured before: kept apart, and copied there each time.
            let apart = self.alloc_buffer("values on their way", bytes.len() as u64, true)?;
            self.write_now(&apart, 0, bytes)?;
            self.state().captures.pin(&apart);
            return self.copy(&apart, 0, buffer, offset, bytes.len() as u64);
        }
        self.write_now(buffer, offset, bytes)
    }

    fn write_now(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        self.flush(&mut state)?;
        drop(state);
        let (Some(device), Some(raw)) = (&self.0.device, &buffer.raw) else { return Ok(()) };
        for (at, piece) in bytes.chunks(PIECE_BYTES as usize).enumerate() {
            device.queue.write_buffer(raw, buffer.base + offset + at as u64 * PIECE_BYTES, piece);
            if bytes.len() as u64 > PIECE_BYTES {
                device.queue.submit([]); // lets the staging memory of this piece go
                self.wait()?;
            }
        }
        self.check()
    }

    /// Reads `bytes` (a multiple of 4) of a buffer after everything recorded has run.
    ///
    /// Errors: [`Error::Device`] for a lost device, a failed map, a hung driver, in a plan, and, where
    /// [`Options::check_finite`] was asked for, naming the first op that made a NaN or an infinity.
    pub fn read(&self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let (Some(device), Some(raw)) = (&self.0.device, &buffer.raw) else {
            return Err(Error::Device("a plan holds no values to read".into()));
        };
        if self.state().captures.is_taking() {
            return Err(Error::Device("nothing has a value while a capture is under way".into()));
        }
        self.submit()?;
        self.refuse_nonfinite()?;
        let mut out = Vec::with_capacity(bytes as usize);
        let mut at = 0;
        while at < bytes {
            let piece = PIECE_BYTES.min(bytes - at);
            device.read_piece(raw, buffer.base + offset + at, piece, &mut out)?;
            self.check()?;
            at += piece;
        }
        Ok(out)
    }

    /// Sends what waits to the queue and returns at once.
    pub fn submit(&self) -> Result<()> {
        let mut state = self.state();
        self.flush(&mut state)
    }

    /// Sends what waits and returns when the device has finished it.
    pub fn wait(&self) -> Result<()> {
        self.submit()?;
        let Some(device) = &self.0.device else { return Ok(()) };
        device.wait()?;
        self.check()?;
        self.refuse_nonfinite()
    }

    /// Lets all free buffers go, after what waits has run.
    pub fn trim(&self) -> Result<()> {
        self.wait()?;
        self.state().trim(0);
        if let Some(device) = &self.0.device {
            device.wait()?;
        }
        Ok(())
    }

    /// Takes the memory peak anew from here on.
    pub fn reset_peak(&self) {
        let memory = &mut self.state().pool.memory;
        (memory.peak, memory.peak_reserved) = (memory.live, memory.reserved);
    }

    /// Called by a buffer or texture that goes.
    fn give_back(&self, class: pool::Class, held: Held) {
        let mut state = self.state();
        state.ears.gone(held.id);
        let Some((class, held)) = state.captures.keep(class, held) else { return };
        state.pool.put(class, held);
        if state.pool.holds_too_much() {
            let keep = state.pool.allowance();
            state.trim(keep);
        }
    }

    fn flush(&self, state: &mut State) -> Result<()> {
        let Some(device) = &self.0.device else { return Ok(()) };
        if state.recorder.len() > 0 {
            let pipelines = state.pipelines.as_ref().expect("a device has its pipelines");
            let commands = state.recorder.encode(
                &device.device,
                &device.queue,
                &pipelines.params_layout,
                self.0.facts.features.immediates,
                state.ears.ticks(),
            );
            device.queue.submit([commands]);
            state.counts.submissions += 1;
        }
        self.check()
    }

    /// Keeps trouble that nobody can be told of now.
    fn note_trouble(&self, error: Error) {
        let text = match error {
            Error::Device(text) => text,
            other => other.to_string(),
        };
        if let Some(mut first) = self.0.device.as_ref().and_then(|device| device.trouble.lock().ok()) {
            first.get_or_insert(text);
        }
    }

    /// The first trouble the driver reported, if any.
    fn check(&self) -> Result<()> {
        let Some(device) = &self.0.device else { return Ok(()) };
        match device.trouble.lock().ok().and_then(|trouble| trouble.clone()) {
            Some(text) => Err(Error::Device(text)),
            None => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere while recording leaves the lists whole: nothing in there is half-written.
        self.0.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn trim(&mut self, keep: u64) {
        let gone = self.pool.trim(keep);
        self.guards.let_go(&gone);
        if let Some(pipelines) = &mut self.pipelines {
            pipelines.forget(&gone);
        }
    }
}

impl Device {
    /// `None` when memory is out.
    fn create_buffer(&self, bytes: u64) -> Result<Option<Raw>> {
        self.create(|| {
            Raw::Buffer(self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes,
                usage: wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }))
        })
    }

    /// `None` when memory is out.
    fn create_texture(&self, texel: Texel, rows: u64) -> Result<Option<Raw>> {
        self.create(|| {
            let texture = self.device.create_texture(&wgpu::TextureDescriptor {
                label: None,
                size: wgpu::Extent3d {
                    width: TEXTURE_WIDTH as u32,
                    height: rows as u32,
                    depth_or_array_layers: 1,
                },
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format: texel.format(),
                usage: wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            });
            let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
            Raw::Texture(texture, view)
        })
    }

    fn create(&self, make: impl FnOnce() -> Raw) -> Result<Option<Raw>> {
        let out_of_memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let made = make();
        let internal = pollster::block_on(internal.pop());
        let out_of_memory = pollster::block_on(out_of_memory.pop());
        match (internal, out_of_memory) {
            (Some(error), _) => Err(Error::Device(error.to_string())),
            (_, Some(_)) => Ok(None),
            _ => Ok(Some(made)),
        }
    }

    fn read_piece(&self, from: &wgpu::Buffer, offset: u64, bytes: u64, out: &mut Vec<u8>) -> Result<()> {
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read-back"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        encoder.copy_buffer_to_buffer(from, offset, &staging, 0, Some(bytes));
        self.queue.submit([encoder.finish()]);
        self.read_mapped(&staging, out)
    }

    /// Bytes of a buffer that the host can map, once the queue has written it.
    fn read_mapped(&self, staging: &wgpu::Buffer, out: &mut Vec<u8>) -> Result<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = sender.send(result); // the receiver is gone only when we already gave up
        });
        self.wait()?;
        // Another thread's poll may have taken this callback and not yet called it: wait for it, too.
        match receiver.recv_timeout(DEADLINE) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Error::Device(format!("results could not be read: {error}"))),
            Err(_) => return Err(Error::Device("results could not be read: the device is gone".into())),
        }
        let mapped = staging
            .get_mapped_range(..)
            .map_err(|error| Error::Device(format!("results could not be read: {error}")))?;
        out.extend_from_slice(&mapped);
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        let poll = wgpu::PollType::Wait { submission_index: None, timeout: Some(DEADLINE) };
        match self.device.poll(poll) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::Device(format!(
                "no answer from the driver within {} s: {error}; it may hang, start again",
                DEADLINE.as_secs()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device of its own, to be broken.
    fn own_gpu() -> Option<Gpu> {
        let adapter = std::env::var("MINDREEL_ADAPTER").ok();
        match Gpu::open(&Options { adapter, ..Default::default() }) {
            Ok(gpu) => Some(gpu),
            Err(error) => {
                assert!(std::env::var_os("MINDREEL_REQUIRE_GPU").is_none(), "a GPU is required: {error}");
                eprintln!("skipped: {error}");
                None
            }
        }
    }

    fn launch(gpu: &Gpu, text: &str, buffer: &Buffer) -> Result<()> {
        let generate = || text.to_string();
        let variant = Variant { scalar: Scalar::F32, width: 1, workgroup: 1 };
        gpu.run(&Launch {
            program: Program::generated("planted", "forward", variant, 0, &generate),
            params: &[0; 4],
            inputs: &[],
            outputs: &[Binding::new(buffer, 0, 16)],
            groups: [1, 1, 1],
            work: Work::default(),
        })
    }

    #[test]
    fn a_broken_kernel_is_named_with_its_line() {
        let Some(gpu) = own_gpu() else { return };
        let buffer = gpu.alloc("x", 16).unwrap();
        let text = "struct Params { n: u32 }\nfn forward() { let x = nowhere; }";
        let error = launch(&gpu, text, &buffer).expect_err("refused").to_string();
        assert!(error.contains("planted::forward") && error.contains("nowhere"), "{error}");
        // The device still works.
        gpu.write(&buffer, 0, &[7; 16]).unwrap();
        assert_eq!(gpu.read(&buffer, 0, 16).unwrap(), [7; 16]);
    }

    #[test]
    fn a_lost_device_is_an_error_and_not_silence() {
        let Some(gpu) = own_gpu() else { return };
        let buffer = gpu.alloc("x", 16).unwrap();
        gpu.write(&buffer, 0, &[7; 16]).unwrap();
        gpu.0.device.as_ref().expect("not a plan").device.destroy();
        let error = gpu.read(&buffer, 0, 16).expect_err("nothing can be read").to_string();
        assert!(error.starts_with("gpu: "), "{error}");
        assert!(gpu.wait().is_err() || gpu.read(&buffer, 0, 16).is_err());
    }

    #[test]
    fn a_binding_above_the_limit_is_refused_by_name() {
        let gpu = Gpu::plan();
        let buffer = gpu.alloc("x", 256 << 20).unwrap();
        let variant = Variant { scalar: Scalar::F32, width: 1, workgroup: 1 };
        let launch = Launch {
            program: Program::generated("softmax", "forward", variant, 0, &String::new),
            params: &[],
            inputs: &[Binding::new(&buffer, 0, 256 << 20)],
            outputs: &[],
            groups: [1, 1, 1],
            work: Work::default(),
        };
        let error = gpu.run(&launch).expect_err("refused");
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains("softmax"), "{error}");
    }

    #[test]
    fn a_plan_counts_and_allocates_nothing() {
        let gpu = Gpu::plan();
        let first = gpu.alloc("first", 1 << 20).unwrap();
        let second = gpu.alloc("second", 1 << 20).unwrap();
        drop(first);
        let third = gpu.alloc("third", 1 << 20).unwrap();
        assert_eq!(gpu.memory().peak, 2 << 20);
        assert_eq!(gpu.memory().reserved, 2 << 20, "the third takes the first's place");
        drop((second, third));
        assert_eq!((gpu.memory().live, gpu.live_buffers()), (0, 0));
    }

    #[test]
    fn a_buffer_above_the_limit_is_refused_by_name() {
        let error = Gpu::plan().alloc("scores", 3 << 30).err().expect("refused");
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains("scores"), "{error}");
    }

    #[test]
    fn grids_fold() {
        let gpu = Gpu::plan();
        assert_eq!(gpu.grid("op", 65_535).unwrap(), [65_535, 1, 1]);
        let [x, y, _] = gpu.grid("op", 65_536).unwrap();
        assert!(u64::from(x) * u64::from(y) >= 65_536 && x <= 65_535);
        assert!(gpu.grid("op", u64::MAX).is_err());
    }
}
