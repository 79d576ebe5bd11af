// y = f(x), element by element; f is chosen by the constant KIND, written before this text: the codes of
// `Activation`, then exp, a x + b, clamp, log, sqrt and square.
// An invocation moves 4 units of WIDTH elements, a workgroup's width apart.
struct Params {
    n: u32,  // in units of WIDTH
    a: f32,
    b: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;        // [n]
@group(0) @binding(2) var<storage, read_write> y: array<stored>;  // [n]

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let start = group_index(group, groups) * 4u * WG + lane;
    for (var turn = 0u; turn < 4u; turn++) {
        let at = start + turn * WG;
        if (at < params.n) {
            y[at] = stored(apply(packed(x[at])));
        }
    }
}

fn apply(v: packed) -> packed {
    switch (KIND) {
        case 16u: { return exp(v); }
        case 17u: { return params.a * v + params.b; }
        case 18u: {
            // No `max`, no `min`: NaN stays.
            let above = select(v, packed(params.a), v < packed(params.a));
            return select(above, packed(params.b), above > packed(params.b));
        }
        case 19u: { return log(v); }
        case 20u: { return sqrt(v); }
        case 21u: { return v * v; }
        default: { return activate(KIND, v); }
    }
}
