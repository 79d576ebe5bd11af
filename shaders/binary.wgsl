// y = a op b (sum, difference, product, quotient, 1 where equal) over a walk with a place in each: axes of size 1
// have step 0. KIND, AXES, the cells of a and b and how they are loaded (whole units, or one element for all of a unit)
// are written before this text.
// An invocation makes 4 units of WIDTH elements, a workgroup's width apart, or where SPREAD is true a quarter of the
// innermost axis.
@group(0) @binding(0) var<uniform> params: Params;                // common/walk.wgsl: a, b and y are its arrays
@group(0) @binding(1) var<storage, read> a: array<a_cell>;        // broadcast to y's shape
@group(0) @binding(2) var<storage, read> b: array<b_cell>;        // broadcast to y's shape
@group(0) @binding(3) var<storage, read_write> y: array<stored>;  // [..]

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    if (SPREAD) {
        let unit = group_index(group, groups) * WG + lane;
        if (unit < params.n) {
            let at = place(unit);
            let step = spread();
            make(at);
            make(at + step);
            make(at + 2u * step);
            make(at + 3u * step);
        }
        return;
    }
    let start = group_index(group, groups) * 4u * WG + lane;
    for (var turn = 0u; turn < 4u; turn++) {
        let unit = start + turn * WG;
        if (unit < params.n) {
            make(place(unit));
        }
    }
}

fn make(at: vec3u) {
    y[at.z] = stored(apply(load_a(at.x), load_b(at.y)));
}

fn apply(a: packed, b: packed) -> packed {
    switch (KIND) {
        case 0u: { return a + b; }
        case 1u: { return a - b; }
        case 2u: { return a * b; }
        case 4u: { return select(packed(0.0), packed(1.0), a == b); }
        default: { return a / b; }
    }
}
