// y = (x - mean) / sqrt(var + eps) * weight + bias with given mean and var, one of each per channel.
// One invocation per block of rows and WIDTH channels: what belongs to a channel is reckoned once per block.
struct Params {
    units: u32,  // channels in units of WIDTH
    rows: u32,
    block: u32,  // rows an invocation walks
    eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;        // [rows, channels]
@group(0) @binding(2) var<storage, read> mean: array<packed>;     // [channels]
@group(0) @binding(3) var<storage, read> variance: array<packed>; // [channels]
@group(0) @binding(4) var<storage, read> weight: array<packed>;   // [channels]
@group(0) @binding(5) var<storage, read> bias: array<packed>;     // [channels]
@group(0) @binding(6) var<storage, read_write> y: array<stored>;  // [rows, channels]

@compute @workgroup_size(WG)
fn forward(
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
    let scale = weight[unit] / sqrt(variance[unit] + params.eps);
    let middle = mean[unit];
    let shift = bias[unit];
    var at = first * params.units + unit;
    for (var left = min(params.block, params.rows - first); left > 0u; left--) {
        y[at] = stored((packed(x[at]) - middle) * scale + shift);
        at += params.units;
    }
}
