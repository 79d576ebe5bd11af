//! Commands wait in a plain list; one submission carries many of them.

use super::pipelines::{PARAMS_BYTES, Pipeline};
use super::texture::{self, TEXEL_BYTES, TEXTURE_WIDTH};
use super::trace::Ticks;
use std::sync::Arc;

/// Parameters of one launch, padded to the size every pipeline layout declares.
pub(super) type Params = [u8; PARAMS_BYTES];

#[derive(Clone)]
pub(super) enum Command {
    Dispatch { pipeline: Arc<Pipeline>, group: Arc<wgpu::BindGroup>, params: Params, groups: [u32; 3] },
    Copy { from: wgpu::Buffer, from_offset: u64, to: wgpu::Buffer, to_offset: u64, bytes: u64 },
    CopyToTexture { from: wgpu::Buffer, from_offset: u64, to: wgpu::Texture, first: u64, texels: u64 },
}

/// Uniform slots lie this far apart, the largest offset alignment WebGPU allows.
const SLOT_BYTES: usize = 256;

#[derive(Default)]
pub(super) struct Recorder {
    commands: Vec<Command>,
    pub(super) flops: u64,
}

impl Recorder {
    /// Says at which place the command waits.
    pub(super) fn push(&mut self, command: Command) -> usize {
        self.commands.push(command);
        self.commands.len() - 1
    }

    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Encodes what waits, dispatches in as few passes as the copies between them allow. Commands that `ticks`
    /// wants timed stand in a pass of their own.
    pub(super) fn encode(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        params_layout: &wgpu::BindGroupLayout,
        immediates: bool,
        mut ticks: Option<&mut Ticks>,
    ) -> wgpu::CommandBuffer {
        self.flops = 0;
        let commands = std::mem::take(&mut self.commands);
        let uniforms = (!immediates).then(|| uniforms(device, queue, params_layout, &commands));
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        let mut pass: Option<wgpu::ComputePass<'static>> = None;
        for (at, command) in commands.iter().enumerate() {
            let timed = ticks.as_mut().and_then(|ticks| ticks.slot(at));
            if timed.is_some() {
                pass = None;
            }
            match command {
                Command::Dispatch { pipeline, group, params, groups } => {
                    let pass = pass.get_or_insert_with(|| {
                        let timestamp_writes = ticks.as_ref().zip(timed).map(|(ticks, at)| ticks.both(at));
                        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                        encoder.begin_compute_pass(&descriptor).forget_lifetime()
                    });
                    pass.set_pipeline(&pipeline.raw);
                    pass.set_bind_group(0, Some(&**group), &[]);
                    match &uniforms {
                        Some(group) => pass.set_bind_group(1, Some(group), &[(at * SLOT_BYTES) as u32]),
                        None => pass.set_immediates(0, params),
                    }
                    pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
                }
                copy => {
                    pass = None; // a copy stands between passes
                    // Only passes know the time: empty ones stand around a copy.
                    let mark = |encoder: &mut wgpu::CommandEncoder, end| {
                        if let Some((ticks, at)) = ticks.as_ref().zip(timed) {
                            let timestamp_writes = Some(ticks.one(at, end));
                            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                            encoder.begin_compute_pass(&descriptor);
                        }
                    };
                    mark(&mut encoder, false);
                    encode_copy(&mut encoder, copy);
                    mark(&mut encoder, true);
                }
            }
            if timed.is_some() {
                pass = None;
            }
        }
        drop(pass);
        if let Some(ticks) = &mut ticks {
            ticks.resolve(device, &mut encoder);
        }
        encoder.finish()
    }
}

fn encode_copy(encoder: &mut wgpu::CommandEncoder, command: &Command) {
    match command {
        Command::Dispatch { .. } => {}
        Command::Copy { from, from_offset, to, to_offset, bytes } => {
            encoder.copy_buffer_to_buffer(from, *from_offset, to, *to_offset, Some(*bytes));
        }
        Command::CopyToTexture { from, from_offset, to, first, texels } => {
            for rectangle in texture::rectangles(*first, *texels) {
                copy_rectangle(encoder, from, *from_offset, to, rectangle);
            }
        }
    }
}

fn copy_rectangle(
    encoder: &mut wgpu::CommandEncoder,
    from: &wgpu::Buffer,
    from_offset: u64,
    to: &wgpu::Texture,
    [x, y, width, height, before]: [u64; 5],
) {
    let source = wgpu::TexelCopyBufferInfo {
        buffer: from,
        layout: wgpu::TexelCopyBufferLayout {
            offset: from_offset + before * TEXEL_BYTES,
            bytes_per_row: (height > 1).then_some((TEXTURE_WIDTH * TEXEL_BYTES) as u32),
            rows_per_image: None,
        },
    };
    let target = wgpu::TexelCopyTextureInfo {
        texture: to,
        mip_level: 0,
        origin: wgpu::Origin3d { x: x as u32, y: y as u32, z: 0 },
        aspect: wgpu::TextureAspect::All,
    };
    let size = wgpu::Extent3d { width: width as u32, height: height as u32, depth_or_array_layers: 1 };
    encoder.copy_buffer_to_texture(source, target, size);
}

/// One uniform buffer with every command's parameters, and its bind group.
fn uniforms(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    layout: &wgpu::BindGroupLayout,
    commands: &[Command],
) -> wgpu::BindGroup {
    let mut bytes = vec![0; commands.len().max(1) * SLOT_BYTES];
    for (slot, command) in bytes.chunks_exact_mut(SLOT_BYTES).zip(commands) {
        if let Command::Dispatch { params, .. } = command {
            slot[..PARAMS_BYTES].copy_from_slice(params);
        }
    }
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("params"),
        size: bytes.len() as u64,
        usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    queue.write_buffer(&buffer, 0, &bytes);
    device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("params"),
        layout,
        entries: &[wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &buffer,
                offset: 0,
                size: std::num::NonZeroU64::new(PARAMS_BYTES as u64),
            }),
        }],
    })
}
