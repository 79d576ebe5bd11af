// Batch normalisation with the statistics of the batch: what of it is not in batch_norm.wgsl.
// `moments`: sums over rows of x - mean and its square. `sums`: of dy and dy (x - mean). In chunks of rows, which the
// host adds up. One invocation per chunk and WIDTH channels.
// `backward`: dx = (dy - (sum dy + (x - mean) / (var + eps) sum dy (x - mean)) / n) weight / sqrt(var + eps).
// One invocation per block of rows and WIDTH channels: what belongs to a channel is reckoned once per block.
struct Params {
    units: u32,  // channels in units of WIDTH
    rows: u32,
    block: u32,  // rows an invocation walks
    eps: f32,
    n: f32,      // rows of all windows
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;              // [rows, channels]
@group(0) @binding(2) var<storage, read> mean: array<packed>;           // [channels]
@group(0) @binding(3) var<storage, read_write> partial: array<packed>;  // [chunks, 2, channels]

@compute @workgroup_size(WG)
fn moments(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups) * WG + lane;
    let block = index / params.units;
    let first = block * params.block;
    if (first >= params.rows) {
        return;
    }
    let unit = index - block * params.units;
    let middle = mean[unit];
    var sum = packed(0.0);
    var square = packed(0.0);
    var at = first * params.units + unit;
    for (var left = min(params.block, params.rows - first); left > 0u; left--) {
        let apart = packed(x[at]) - middle;
        sum += apart;
        square += apart * apart;
        at += params.units;
    }
    partial[2u * block * params.units + unit] = sum;
    partial[(2u * block + 1u) * params.units + unit] = square;
}

@group(0) @binding(3) var<storage, read> dy: array<stored>;                  // [rows, channels]
@group(0) @binding(4) var<storage, read_write> partial_sums: array<packed>;  // [chunks, 2, channels]

@compute @workgroup_size(WG)
fn sums(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups) * WG + lane;
    let block = index / params.units;
    let first = block * params.block;
    if (first >= params.rows) {
        return;
    }
    let unit = index - block * params.units;
    let middle = mean[unit];
    var sum = packed(0.0);
    var product = packed(0.0);
    var at = first * params.units + unit;
    for (var left = min(params.block, params.rows - first); left > 0u; left--) {
        let slope = packed(dy[at]);
        sum += slope;
        product += slope * (packed(x[at]) - middle);
        at += params.units;
    }
    partial_sums[2u * block * params.units + unit] = sum;
    partial_sums[(2u * block + 1u) * params.units + unit] = product;
}

@group(0) @binding(4) var<storage, read> variance: array<packed>;   // [channels]
@group(0) @binding(5) var<storage, read> weight: array<packed>;     // [channels]
@group(0) @binding(6) var<storage, read> both_sums: array<packed>;  // [2, channels], as `sums` makes them
@group(0) @binding(7) var<storage, read_write> dx: array<stored>;   // [rows, channels]

@compute @workgroup_size(WG)
fn backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups) * WG + lane;
    let block = index / params.units;
    let first = block * params.block;
    if (first >= params.rows) {
        return;
    }
    let unit = index - block * params.units;
    let middle = mean[unit];
    let spread = variance[unit] + params.eps;
    let scale = weight[unit] / sqrt(spread);
    let shift = both_sums[unit] / params.n;
    let tilt = both_sums[params.units + unit] / (spread * params.n);
    var at = first * params.units + unit;
    for (var left = min(params.block, params.rows - first); left > 0u; left--) {
        dx[at] = stored((packed(dy[at]) - shift - (packed(x[at]) - middle) * tilt) * scale);
        at += params.units;
    }
}
