// y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var over all positions of an image and the channels
// of a group; then, in `normalise_silu`, y sigmoid(y). Three stages:
//   statistics  one invocation per chunk of positions and WIDTH channels: their means and squared deviations
//   merge       one workgroup per image and group: Chan, Golub, LeVeque (1979), formula 2.1 generalised
//   normalise   one invocation per block of positions and WIDTH channels
// Deviations are summed around a value of the chunk itself, never E[x^2] - E[x]^2: a mean that is large beside
// the deviation costs nothing. This file holds what the stages share and the merge; the passes over x are in
// group_norm_pass.wgsl and group_norm_pass8.wgsl.
struct Params {
    units: u32,           // channels in units of WIDTH
    images: u32,
    positions: u32,       // of an image in this launch
    pitch: u32,           // positions from one image to the next
    skip: u32,            // positions before the first, there for alignment
    chunk: u32,           // positions an invocation walks
    stride: u32,          // positions from one of them to the next
    chunks: u32,          // of an image in this launch
    first_slot: u32,      // chunks of the image before this launch
    slots: u32,           // chunks of an image in all
    groups: u32,
    group_channels: u32,
    eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;

struct Place {
    image: u32,
    chunk: u32,
    unit: u32,
    start: u32,  // index of the first position's unit
    step: u32,   // from one position's unit to the next
    count: u32,  // positions
}

// Chunks interlace: `stride` neighbours walk a block of stride * chunk positions side by side.
fn place_of(index: u32) -> Place {
    let row = index / params.units;
    let image = row / params.chunks;
    let chunk = row - image * params.chunks;
    let unit = index - row * params.units;
    let first = first_of(chunk);
    let start = (params.skip + image * params.pitch + first) * params.units + unit;
    return Place(image, chunk, unit, start, params.stride * params.units, count_from(first, params.positions));
}

fn first_of(chunk: u32) -> u32 {
    let block = chunk / params.stride;
    return block * params.stride * (params.chunk - 1u) + chunk;
}

fn count_from(first: u32, end: u32) -> u32 {
    return min(params.chunk, (end - first + params.stride - 1u) / params.stride);
}

@group(0) @binding(1) var<storage, read> means: array<f32>;            // [images, slots, (mean, M2), channels]
@group(0) @binding(2) var<storage, read> weight: array<f32>;           // [channels]
@group(0) @binding(3) var<storage, read_write> fold: array<f32>;       // [images, (mean, scale), channels]

@compute @workgroup_size(WG)
fn merge(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups);
    let image = min(index / params.groups, params.images - 1u);
    let first = (index % params.groups) * params.group_channels;
    let channels = params.groups * params.group_channels;
    let row = image * params.slots * 2u * channels + first;
    let entries = params.slots * params.group_channels;
    let shift = means[row];
    var sum = 0.0;
    for (var entry = lane; entry < entries; entry += WG) {
        let slot = entry / params.group_channels;
        let at = row + slot * 2u * channels + (entry - slot * params.group_channels);
        sum += count_of(slot) * (means[at] - shift);
    }
    let total = f32(params.pitch) * f32(params.group_channels);
    let mean = shift + reduce_sum(lane, sum) / total;
    var squares = 0.0;
    for (var entry = lane; entry < entries; entry += WG) {
        let slot = entry / params.group_channels;
        let at = row + slot * 2u * channels + (entry - slot * params.group_channels);
        let deviation = means[at] - mean;
        squares += means[at + channels] + count_of(slot) * deviation * deviation;
    }
    let variance = reduce_sum(lane, squares) / total;
    let scale = 1.0 / sqrt(variance + params.eps);
    if (index < params.images * params.groups) {
        for (var channel = lane; channel < params.group_channels; channel += WG) {
            let out = image * 2u * channels + first + channel;
            fold[out] = mean;
            fold[out + channels] = scale * weight[first + channel];
        }
    }
}

// Positions in a slot.
fn count_of(slot: u32) -> f32 {
    return f32(count_from(first_of(slot), params.pitch));
}
