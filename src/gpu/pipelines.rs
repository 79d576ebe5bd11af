//! Pipelines and bind groups, each made once and kept under the choices that made it.

use super::adapter::{Class, Facts};
use super::family::Checks;
use super::kernel::{Binding, Launch, PipelineKey, Program};
use super::recent::Recent;
use super::texture::Texel;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// Immediate bytes, or bytes of one uniform slot.
pub(super) const PARAMS_BYTES: usize = 128;

/// Bind groups that are kept at least, at about a kilobyte each: those of some steps of a model. Where tensors move from
/// buffer to buffer, as parameters do while they learn, new ones come at every step.
const GROUPS: usize = 8192;

#[derive(PartialEq, Eq, Hash)]
struct GroupKey {
    n_inputs: usize,
    ranges: Vec<(u64, u64, u64)>,
}

/// A buffer, the first byte of a range, its bytes.
pub(super) type Range<'a> = (&'a wgpu::Buffer, u64, u64);

/// What a layout declares at one binding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    Read,
    Write,
    Texture(Texel),
}

/// The slots of a launch, in the order of the bindings.
fn slots(launch: &Launch) -> Vec<Slot> {
    let slot = |binding: &Binding, buffer| match binding {
        Binding::Buffer { .. } => buffer,
        Binding::Texture(texture) => Slot::Texture(texture.texel),
    };
    let inputs = launch.inputs.iter().map(|b| slot(b, Slot::Read));
    inputs.chain(launch.outputs.iter().map(|b| slot(b, Slot::Write))).collect()
}

impl Slot {
    fn binding_type(self) -> wgpu::BindingType {
        match self {
            Slot::Read | Slot::Write => wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: self == Slot::Read },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            Slot::Texture(texel) => wgpu::BindingType::StorageTexture {
                access: wgpu::StorageTextureAccess::ReadOnly,
                format: texel.format(),
                view_dimension: wgpu::TextureViewDimension::D2,
            },
        }
    }
}

/// A compiled kernel and the shape of its bindings.
pub(super) struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
}

/// What wgpu binds.
fn resource<'a>(binding: &Binding<'a>) -> wgpu::BindingResource<'a> {
    const REAL: &str = "what a device holds is real; plans never bind";
    match *binding {
        Binding::Buffer { buffer, offset, bytes } => wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: buffer.raw.as_ref().expect(REAL),
            offset: buffer.base + offset,
            // With guards a binding reaches over those behind its buffer.
            size: std::num::NonZeroU64::new(bytes + buffer.base),
        }),
        Binding::Texture(texture) => wgpu::BindingResource::TextureView(&texture.raw.as_ref().expect(REAL).1),
    }
}

/// Everything that is made once per device.
pub(super) struct Pipelines {
    immediates: bool,
    class: Class,
    checks: Checks,
    pipelines: HashMap<PipelineKey, Arc<Pipeline>>,
    layouts: HashMap<Vec<Slot>, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
    groups: Recent<GroupKey, Arc<wgpu::BindGroup>>,
    pub(super) params_layout: wgpu::BindGroupLayout,
}

impl Pipelines {
    pub(super) fn new(device: &wgpu::Device, facts: &Facts) -> Pipelines {
        let params_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("params"),
            entries: &[wgpu::BindGroupLayoutEntry {
                binding: 0,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Uniform,
                    has_dynamic_offset: true,
                    min_binding_size: None,
                },
                count: None,
            }],
        });
        Pipelines {
            immediates: facts.features.immediates,
            class: facts.class,
            checks: facts.checks,
            pipelines: HashMap::new(),
            layouts: HashMap::new(),
            groups: Recent::new(GROUPS),
            params_layout,
        }
    }

    /// The pipeline of a launch, compiled at its first use. `GPU` error with kernel and variant when refused.
    pub(super) fn pipeline(&mut self, device: &wgpu::Device, launch: &Launch) -> Result<Arc<Pipeline>> {
        self.compiled(device, &launch.program, || slots(launch))
    }

    /// The pipeline of a program with these slots.
    pub(super) fn compiled(
        &mut self,
        device: &wgpu::Device,
        program: &Program,
        slots: impl FnOnce() -> Vec<Slot>,
    ) -> Result<Arc<Pipeline>> {
        let key = program.key();
        if let Some(pipeline) = self.pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let label = format!("{}::{} {:?}", program.name, program.entry, program.variant);
        let text = program.text(self.immediates);
        let (_, layout) = self.layouts(device, slots());
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let source = wgpu::ShaderSource::Wgsl(text.into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(&label), source };
        let module = if self.checks.cover(self.class, program.is_generated()) {
            device.create_shader_module(descriptor)
        } else {
            // SAFETY: the text is our own, and stays within its bindings, ends its loops and divides by no zero: tests
            // run it in both builds and compare every bit; `--checked` goes back.
            unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&layout),
            module: &module,
            entry_point: Some(program.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(Error::Device(format!("kernel {label} was refused: {error}")));
        }
        let pipeline = Arc::new(Pipeline { raw });
        self.pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// The bind group of a launch.
    pub(super) fn group(&mut self, device: &wgpu::Device, launch: &Launch) -> Arc<wgpu::BindGroup> {
        let bindings = || launch.inputs.iter().chain(launch.outputs);
        let range = |binding: &Binding| match binding {
            Binding::Buffer { buffer, offset, bytes } => (buffer.id, *offset, *bytes),
            Binding::Texture(texture) => (texture.id, 0, texture.bytes),
        };
        let key = GroupKey { n_inputs: launch.inputs.len(), ranges: bindings().map(range).collect() };
        if let Some(group) = self.groups.get(&key) {
            return group;
        }
        let (layout, _) = self.layouts(device, slots(launch));
        let entries: Vec<_> = bindings()
            .enumerate()
            .map(|(at, b)| wgpu::BindGroupEntry { binding: at as u32 + 1, resource: resource(b) })
            .collect();
        let group = Arc::new(device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &entries,
        }));
        self.groups.insert(key, group.clone());
        group
    }

    /// A bind group of one use, of buffers that stand outside the pool: inputs, then outputs.
    pub(super) fn loose_group(
        &mut self,
        device: &wgpu::Device,
        inputs: &[Range],
        outputs: &[Range],
    ) -> wgpu::BindGroup {
        let slots = [vec![Slot::Read; inputs.len()], vec![Slot::Write; outputs.len()]].concat();
        let (layout, _) = self.layouts(device, slots);
        let entries: Vec<_> = inputs
            .iter()
            .chain(outputs)
            .enumerate()
            .map(|(at, &(buffer, offset, bytes))| wgpu::BindGroupEntry {
                binding: at as u32 + 1,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset,
                    size: std::num::NonZeroU64::new(bytes),
                }),
            })
            .collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries };
        device.create_bind_group(&descriptor)
    }

    /// Forgets the bind groups that hold these buffers, so that their memory can go.
    pub(super) fn forget(&mut self, gone: &[u64]) {
        if !gone.is_empty() {
            self.groups.retain(|key| !key.ranges.iter().any(|(id, ..)| gone.contains(id)));
        }
    }

    fn layouts(
        &mut self,
        device: &wgpu::Device,
        slots: Vec<Slot>,
    ) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
        let (immediates, params_layout) = (self.immediates, &self.params_layout);
        self.layouts
            .entry(slots)
            .or_insert_with_key(|slots| {
                let entries: Vec<_> = slots
                    .iter()
                    .enumerate()
                    .map(|(at, slot)| wgpu::BindGroupLayoutEntry {
                        binding: at as u32 + 1,
                        visibility: wgpu::ShaderStages::COMPUTE,
                        ty: slot.binding_type(),
                        count: None,
                    })
                    .collect();
                let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                    label: None,
                    entries: &entries,
                });
                let groups: &[_] =
                    if immediates { &[Some(&group)] } else { &[Some(&group), Some(params_layout)] };
                let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label: None,
                    bind_group_layouts: groups,
                    immediate_size: if immediates { PARAMS_BYTES as u32 } else { 0 },
                });
                (group, pipeline)
            })
            .clone()
    }
}
