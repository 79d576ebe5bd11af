// y = x in another number type, eight elements at once as 64-bit words (common/width8.wgsl).
// An invocation moves 4 units of WIDTH elements, a workgroup's width apart.
struct Params {
    n: u32,  // in units of WIDTH
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<words>;             // [n], narrow
@group(0) @binding(2) var<storage, read_write> y: array<stored>;      // [n], narrow
@group(0) @binding(1) var<storage, read> x_narrow: array<stored>;     // [n], widen
@group(0) @binding(2) var<storage, read_write> y_wide: array<words>;  // [n], widen

@compute @workgroup_size(WG)
fn narrow(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let start = group_index(group, groups) * 4u * WG + lane;
    for (var turn = 0u; turn < 4u; turn++) {
        let at = start + turn * WG;
        if (at < params.n) {
            y[at] = closed(eight_of(x[at]));
        }
    }
}

@compute @workgroup_size(WG)
fn widen(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let start = group_index(group, groups) * 4u * WG + lane;
    for (var turn = 0u; turn < 4u; turn++) {
        let at = start + turn * WG;
        if (at < params.n) {
            y_wide[at] = words_of(opened(x_narrow[at]));
        }
    }
}
