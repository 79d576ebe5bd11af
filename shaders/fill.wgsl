// y = one value everywhere, 16 bytes at a time, whatever the number type.
// An invocation writes 4 units, a workgroup's width apart.
struct Params {
    n: u32,     // in units of 16 bytes
    bits: u32,  // one f32 or id, or an f16 twice
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;  // [n]

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
            y[at] = vec4u(params.bits);
        }
    }
}
