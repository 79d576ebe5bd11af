// Adds the parts of sums that were cut along k, always in the same order, and finishes the results. One invocation
// makes 4 columns of a row. Here A's strides are those of the parts, tiles_n counts vectors of C's columns, steps slices.
@group(0) @binding(1) var<storage, read> parts: array<vec4<f32>>;  // [slices, m, n / 4]

fn sum_of(first: u32) -> vec4<f32> {
    var v = parts[first];
    for (var slice = 1u; slice < params.steps; slice++) {
        v += parts[first + slice * params.a_batch];
    }
    return v;
}

@compute @workgroup_size(WG)
fn sum(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    if (at >= params.count) {
        return;
    }
    let row = at / params.tiles_n;
    finish_sum(row, at - row * params.tiles_n, row * params.a_stride);
}
