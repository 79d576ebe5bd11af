// y = value * gelu(gate), eight elements at once as 64-bit words (common/width8.wgsl).
// An invocation makes 4 units of WIDTH elements, a workgroup's width apart.
struct Params {
    n: u32,     // of y, in units of WIDTH
    cols: u32,  // of y, in units of WIDTH
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;        // [rows, 2 cols]
@group(0) @binding(2) var<storage, read_write> y: array<stored>;  // [rows, cols]

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
            let place = at + at / params.cols * params.cols;
            let value = opened(x[place]);
            let gate = opened(x[place + params.cols]);
            y[at] = closed(Eight(value.even * gelu(gate.even), value.odd * gelu(gate.odd)));
        }
    }
}
