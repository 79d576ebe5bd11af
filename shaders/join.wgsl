// y = a and b by turns: a block of one, then a block of the other. Cells of 16 bytes; no number is looked at.
// An invocation moves 4 cells, a workgroup's width apart.
struct Params {
    n: u32,        // cells of y
    a_block: u32,  // cells of a block
    b_block: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<u32>>;        // [blocks, a_block]
@group(0) @binding(2) var<storage, read> b: array<vec4<u32>>;        // [blocks, b_block]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<u32>>;  // [blocks, a_block + b_block]

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
            let block = at / (params.a_block + params.b_block);
            let within = at - block * (params.a_block + params.b_block);
            if (within < params.a_block) {
                y[at] = a[block * params.a_block + within];
            } else {
                y[at] = b[block * params.b_block + within - params.a_block];
            }
        }
    }
}
