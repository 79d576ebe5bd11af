// dx = dy f'(x), element by element, for the functions of unary.wgsl; KIND is written before this text.
// An invocation makes 4 units of WIDTH elements, a workgroup's width apart.
struct Params {
    n: u32,  // in units of WIDTH
    a: f32,
    b: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;         // [n]
@group(0) @binding(2) var<storage, read> dy: array<stored>;        // [n]
@group(0) @binding(3) var<storage, read_write> dx: array<stored>;  // [n]

@compute @workgroup_size(WG)
fn backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let start = group_index(group, groups) * 4u * WG + lane;
    for (var turn = 0u; turn < 4u; turn++) {
        let at = start + turn * WG;
        if (at < params.n) {
            dx[at] = stored(packed(dy[at]) * slope(packed(x[at])));
        }
    }
}

fn slope(v: packed) -> packed {
    switch (KIND) {
        case 16u: { return exp(v); }
        case 18u: {
            // 1 from a to b, both included, as in PyTorch.
            let above = select(packed(0.0), packed(1.0), v >= packed(params.a));
            return select(packed(0.0), above, v <= packed(params.b));
        }
        case 19u: { return 1.0 / v; }
        case 20u: { return 0.5 / sqrt(v); }
        case 21u: { return 2.0 * v; }
        default: { return slope_of(KIND, v); }
    }
}
