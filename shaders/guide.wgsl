// Classifier-free guidance (Ho, Salimans 2022): g = u + scale (c - u), where x holds u, then c.
// In `step` the sampler's update in the same pass: y = cg g + c1 x1 + .. + c4 x4. `step_and_keep` writes g too.
// One invocation per WIDTH elements. Sums in f32, first to last.
struct Params {
    units: u32,   // elements of a half in units of WIDTH
    count: u32,   // tensors beside x; the other bindings are not read
    skip: u32,    // units before the first, there for alignment
    skip_c: u32,  // the same, in the half under the condition
    scale: f32,
    cg: f32,
    c1: f32,
    c2: f32,
    c3: f32,
    c4: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> u: array<stored>;             // [units], without the condition
@group(0) @binding(2) var<storage, read> c: array<stored>;             // [units], under the condition

@group(0) @binding(3) var<storage, read_write> guided: array<stored>;  // [units]

@compute @workgroup_size(WG)
fn guide(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    if (at < params.units) {
        guided[params.skip + at] = stored(guided_at(at));
    }
}

@group(0) @binding(3) var<storage, read> x1: array<stored>;            // [units]
@group(0) @binding(4) var<storage, read> x2: array<stored>;            // [units]
@group(0) @binding(5) var<storage, read> x3: array<stored>;            // [units]
@group(0) @binding(6) var<storage, read> x4: array<stored>;            // [units]
@group(0) @binding(7) var<storage, read_write> y: array<stored>;       // [units]

@compute @workgroup_size(WG)
fn step(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    if (at < params.units) {
        y[params.skip + at] = stored(params.cg * guided_at(at) + others_at(at));
    }
}

@group(0) @binding(8) var<storage, read_write> kept: array<stored>;    // [units]

@compute @workgroup_size(WG)
fn step_and_keep(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    if (at < params.units) {
        let g = guided_at(at);
        kept[params.skip + at] = stored(g);
        y[params.skip + at] = stored(params.cg * g + others_at(at));
    }
}

fn guided_at(at: u32) -> packed {
    let without = packed(u[params.skip + at]);
    return without + params.scale * (packed(c[params.skip_c + at]) - without);
}

fn others_at(at: u32) -> packed {
    let place = params.skip + at;
    var sum = packed(0.0);
    if (params.count > 0u) {
        sum += params.c1 * packed(x1[place]);
    }
    if (params.count > 1u) {
        sum += params.c2 * packed(x2[place]);
    }
    if (params.count > 2u) {
        sum += params.c3 * packed(x3[place]);
    }
    if (params.count > 3u) {
        sum += params.c4 * packed(x4[place]);
    }
    return sum;
}
