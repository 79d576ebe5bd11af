// d value = dy gelu(gate), d gate = dy value gelu'(gate); rows of x and dx hold values, then gates.
// An invocation makes 4 units of WIDTH elements of each half, a workgroup's width apart.
struct Params {
    n: u32,     // of dy, in units of WIDTH
    cols: u32,  // of dy, in units of WIDTH
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;         // [rows, 2 cols]
@group(0) @binding(2) var<storage, read> dy: array<stored>;        // [rows, cols]
@group(0) @binding(3) var<storage, read_write> dx: array<stored>;  // [rows, 2 cols]

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
            let value = at + at / params.cols * params.cols;
            let slope = packed(dy[at]);
            let gate = packed(x[value + params.cols]);
            dx[value] = stored(slope * gelu(gate));
            dx[value + params.cols] = stored(slope * packed(x[value]) * slope_of_gelu(gate));
        }
    }
}
