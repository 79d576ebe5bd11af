// y = c1 x1 + c2 x2 + .. + c6 x6, one invocation per WIDTH elements. Sums in f32, first to last.
struct Params {
    units: u32,  // elements in units of WIDTH
    count: u32,  // tensors in use; the other bindings are not read
    c1: f32,
    c2: f32,
    c3: f32,
    c4: f32,
    c5: f32,
    c6: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x1: array<stored>;       // [units]
@group(0) @binding(2) var<storage, read> x2: array<stored>;       // [units]
@group(0) @binding(3) var<storage, read> x3: array<stored>;       // [units]
@group(0) @binding(4) var<storage, read> x4: array<stored>;       // [units]
@group(0) @binding(5) var<storage, read> x5: array<stored>;       // [units]
@group(0) @binding(6) var<storage, read> x6: array<stored>;       // [units]
@group(0) @binding(7) var<storage, read_write> y: array<stored>;  // [units]

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    if (at >= params.units) {
        return;
    }
    var sum = params.c1 * packed(x1[at]);
    if (params.count > 1u) {
        sum += params.c2 * packed(x2[at]);
    }
    if (params.count > 2u) {
        sum += params.c3 * packed(x3[at]);
    }
    if (params.count > 3u) {
        sum += params.c4 * packed(x4[at]);
    }
    if (params.count > 4u) {
        sum += params.c5 * packed(x5[at]);
    }
    if (params.count > 5u) {
        sum += params.c6 * packed(x6[at]);
    }
    y[at] = stored(sum);
}
