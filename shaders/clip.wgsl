// The norm of many tensors as if they were one, and what gradients are scaled by so that it stays below a bound.
// `squares`: a workgroup takes a chunk of one tensor, lanes stride over it, and writes the sum of its squares.
// `factor`: one workgroup adds all of those up and writes (norm, factor). Sums in f32, in a fixed order.
struct Params {
    units: u32,    // `squares`: of x, in units of 4; `factor`: sums to add
    chunk: u32,    // units of a workgroup
    first: u32,    // place of the first sum
    n: u32,        // elements of x: the last unit may reach into the padding
    scale: f32,    // of the gradients: 1 / loss scale
    largest: f32,  // norm
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;           // [units]
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;     // [chunks]
@group(0) @binding(1) var<storage, read> squares_of: array<f32>;     // [chunks], factor
@group(0) @binding(2) var<storage, read_write> result: array<f32>;   // [2], factor

@compute @workgroup_size(WG)
fn squares(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups);
    let first = index * params.chunk;
    let end = min(first + params.chunk, params.units);
    var sum = 0.0;
    for (var at = first + lane; at < end; at += WG) {
        let value = packed(x[at]);
        let left = vec4u(params.n - at * 4u);
        let there = select(packed(0.0), value, vec4u(0u, 1u, 2u, 3u) < left);
        sum += sum_across(there * there);
    }
    sum = reduce_sum(lane, sum);
    if (first < params.units && lane == 0u) {
        sums[params.first + index] = sum;
    }
}

@compute @workgroup_size(WG)
fn factor(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var at = lane; at < params.units; at += WG) {
        sum += squares_of[at];
    }
    sum = reduce_sum(lane, sum);
    if (lane == 0u) {
        let norm = sqrt(sum) * params.scale;
        result[0] = norm;
        result[1] = params.scale * min(1.0, params.largest / (norm + 1e-6));
    }
}
