// The way back of GroupNorm, with SiLU where wanted. With n = (x - mean) * scale, z = n * weight + bias and dz = dy, or
// dy silu'(z):
//   dweight = sum of dz n, dbias = sum of dz, over positions and images
//   dx = scale * (dz weight - mean(dz weight) - n mean(dz weight n)), means over a group of an image
// Three stages, as on the way there, whose chunks and places these are (group_norm.wgsl):
//   backward_sums   one invocation per chunk of positions and WIDTH channels: its sums of dz and of dz n
//   backward_share  one workgroup per image and group: the two means, from sums that are whole
//   backward_input  one invocation per block of positions and WIDTH channels: dx
@group(0) @binding(1) var<storage, read> x: array<stored>;             // [images, positions, channels]
@group(0) @binding(2) var<storage, read> dy: array<stored>;            // [images, positions, channels]
@group(0) @binding(3) var<storage, read> statistics: array<packed>;    // [images, (mean, scale), channels]
@group(0) @binding(4) var<storage, read> weights: array<packed>;       // [channels]
@group(0) @binding(5) var<storage, read> bias: array<packed>;          // [channels]
@group(0) @binding(6) var<storage, read_write> parts: array<packed>;   // [images, slots, (dz, dz n), channels]

@compute @workgroup_size(WG)
fn backward_sums(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    sum_place(group_index(group, groups) * WG + lane, false);
}

@compute @workgroup_size(WG)
fn backward_sums_silu(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    sum_place(group_index(group, groups) * WG + lane, true);
}

// dz of a value whose z is at hand; `is_silu` is a constant at all calls.
fn slope(v: packed, z: packed, is_silu: bool) -> packed {
    if (is_silu) {
        let s = sigmoid(z);
        return v * (s + z * s * (1.0 - s));
    }
    return v;
}

fn sum_place(index: u32, is_silu: bool) {
    let place = place_of(index);
    if (place.image >= params.images) {
        return;
    }
    let row = place.image * 2u * params.units + place.unit;
    let mean = statistics[row];
    let scale = statistics[row + params.units];
    let weight_here = weights[place.unit];
    let bias_here = bias[place.unit];
    var slopes = packed(0.0);
    var products = packed(0.0);
    var at = place.start;
    for (var left = place.count; left > 0u; left--) {
        let n = (packed(x[at]) - mean) * scale;
        let dz = slope(packed(dy[at]), n * weight_here + bias_here, is_silu);
        slopes += dz;
        products += dz * n;
        at += place.step;
    }
    let to = (place.image * params.slots + params.first_slot + place.chunk) * 2u * params.units + place.unit;
    parts[to] = slopes;
    parts[to + params.units] = products;
}

@group(0) @binding(1) var<storage, read> sums: array<f32>;             // [images, (dz, dz n), channels]
@group(0) @binding(3) var<storage, read_write> shares: array<f32>;     // [images, (dz weight, dz weight n), channels]: means

@compute @workgroup_size(WG)
fn backward_share(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups);
    let image = min(index / params.groups, params.images - 1u);
    let first = (index % params.groups) * params.group_channels;
    let channels = params.groups * params.group_channels;
    let row = image * 2u * channels + first;
    var slopes = 0.0;
    var products = 0.0;
    for (var channel = lane; channel < params.group_channels; channel += WG) {
        slopes += weight[first + channel] * sums[row + channel];
        products += weight[first + channel] * sums[row + channels + channel];
    }
    let total = f32(params.pitch) * f32(params.group_channels);
    let slope_share = reduce_sum(lane, slopes) / total;
    let product_share = reduce_sum(lane, products) / total;
    if (index < params.images * params.groups) {
        for (var channel = lane; channel < params.group_channels; channel += WG) {
            shares[row + channel] = slope_share;
            shares[row + channels + channel] = product_share;
        }
    }
}

@group(0) @binding(6) var<storage, read> share_here: array<packed>;        // [images, (dz weight, dz weight n), channels]
@group(0) @binding(7) var<storage, read_write> dx: array<stored>;      // [images, positions, channels]

@compute @workgroup_size(WG)
fn backward_input(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    write_place(group_index(group, groups) * WG + lane, false);
}

@compute @workgroup_size(WG)
fn backward_input_silu(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    write_place(group_index(group, groups) * WG + lane, true);
}

fn write_place(index: u32, is_silu: bool) {
    let place = place_of(index);
    if (place.image >= params.images) {
        return;
    }
    let row = place.image * 2u * params.units + place.unit;
    let mean = statistics[row];
    let scale = statistics[row + params.units];
    let slope_share = share_here[row];
    let product_share = share_here[row + params.units];
    let weight_here = weights[place.unit];
    let bias_here = bias[place.unit];
    var at = place.start;
    for (var left = place.count; left > 0u; left--) {
        let n = (packed(x[at]) - mean) * scale;
        let dz = slope(packed(dy[at]), n * weight_here + bias_here, is_silu);
        dx[at] = stored(scale * (dz * weight_here - slope_share - n * product_share));
        at += place.step;
    }
}
