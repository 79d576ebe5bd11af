// y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var over all positions of an image and the channels
// of a group; then, in `normalise_silu`, y / (1 + exp(-y)). Three stages:
//   statistics  one invocation per chunk of positions and WIDTH channels: their means and squared deviations
//   merge       one workgroup per image and group: Chan, Golub, LeVeque (1979), formula 2.1 generalised
//   normalise   one invocation per block of positions and WIDTH channels
// Deviations are summed around a value of the chunk itself, never E[x^2] - E[x]^2: a mean that is large beside
// the deviation costs nothing.
struct Params {
    units: u32,           // channels in units of WIDTH
    images: u32,
    positions: u32,       // of an image in this launch
    stride: u32,          // positions from one image to the next
    skip: u32,            // positions before the first, there for alignment
    chunk: u32,           // positions an invocation walks
    chunks: u32,          // of an image in this launch
    first_slot: u32,      // chunks of the image before this launch
    slots: u32,           // chunks of an image in all
    groups: u32,
    group_channels: u32,
    eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> x: array<stored>;             // [images, positions, channels]
@group(0) @binding(2) var<storage, read_write> parts: array<packed>;   // [images, slots, (mean, M2), channels]

@compute @workgroup_size(WG)
fn statistics(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(group_index(group, groups) * WG + lane);
    if (place.image >= params.images) {
        return;
    }
    let shift = packed(x[place.start]);
    var sum = packed(0.0);
    var squares = packed(0.0);
    var at = place.start;
    // Four positions a turn: turns are dear on software adapters.
    for (var left = place.count >> 2u; left > 0u; left--) {
        let a = packed(x[at]) - shift;
        let b = packed(x[at + params.units]) - shift;
        let c = packed(x[at + 2u * params.units]) - shift;
        let d = packed(x[at + 3u * params.units]) - shift;
        sum += (a + b) + (c + d);
        squares += (a * a + b * b) + (c * c + d * d);
        at += 4u * params.units;
    }
    for (var left = place.count & 3u; left > 0u; left--) {
        let a = packed(x[at]) - shift;
        sum += a;
        squares += a * a;
        at += params.units;
    }
    let mean = sum / f32(place.count);
    let slot = place.image * params.slots + params.first_slot + place.chunk;
    let out = slot * 2u * params.units + place.unit;
    parts[out] = shift + mean;
    parts[out + params.units] = max(squares - sum * mean, packed(0.0));
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
    let total = f32(params.stride) * f32(params.group_channels);
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

// Positions in a slot; the last of an image is shorter.
fn count_of(slot: u32) -> f32 {
    return f32(min(params.chunk, params.stride - slot * params.chunk));
}

@group(0) @binding(2) var<storage, read> folded: array<packed>;        // [images, (mean, scale), channels]
@group(0) @binding(3) var<storage, read> bias: array<packed>;          // [channels]
@group(0) @binding(4) var<storage, read_write> y: array<stored>;       // [images, positions, channels]

@compute @workgroup_size(WG)
fn normalise(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    normalise_place(group_index(group, groups) * WG + lane, false);
}

@compute @workgroup_size(WG)
fn normalise_silu(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    normalise_place(group_index(group, groups) * WG + lane, true);
}

// Writes the positions of one invocation; `silu` is a constant at both calls.
fn normalise_place(index: u32, silu: bool) {
    let place = place_of(index);
    if (place.image >= params.images) {
        return;
    }
    let row = place.image * 2u * params.units + place.unit;
    let mean = folded[row];
    let scale = folded[row + params.units];
    let shift = bias[place.unit];
    var at = place.start;
    for (var left = place.count; left > 0u; left--) {
        var v = (packed(x[at]) - mean) * scale + shift;
        if (silu) {
            // exp past 88 is infinite, and on some drivers worse
            v = v / (1.0 + exp(min(-v, packed(80.0))));
        }
        y[at] = stored(v);
        at += params.units;
    }
}

struct Place {
    image: u32,
    chunk: u32,
    unit: u32,
    start: u32,  // index of the first position's unit
    count: u32,  // positions
}

fn place_of(index: u32) -> Place {
    let row = index / params.units;
    let image = row / params.chunks;
    let unit = index - row * params.units;
    let chunk = row - image * params.chunks;
    let first = chunk * params.chunk;
    let start = (params.skip + image * params.stride + first) * params.units + unit;
    return Place(image, chunk, unit, start, min(params.chunk, params.positions - first));
}
