// d table[row] = sum of dy[i] over the places i whose id is that row, in their order. The host has sorted the places by
// row: those of a row are places[starts[row]] to before places[starts[row + 1]], and at most as many as a loop may turn.
// One invocation per row and WIDTH columns. Sums in f32.
struct Params {
    units: u32,  // columns in units of WIDTH
    rows: u32,   // of this launch
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<stored>;            // [n, cols]
@group(0) @binding(2) var<storage, read> places: array<u32>;           // [n]
@group(0) @binding(3) var<storage, read> starts: array<u32>;           // [rows + 1]
@group(0) @binding(4) var<storage, read_write> dtable: array<stored>;  // [rows, cols]

@compute @workgroup_size(WG)
fn backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups) * WG + lane;
    let row = index / params.units;
    if (row >= params.rows) {
        return;
    }
    let unit = index - row * params.units;
    var sum = packed(0.0);
    for (var at = starts[row]; at < starts[row + 1u]; at++) {
        sum += packed(dy[places[at] * params.units + unit]);
    }
    dtable[index] = stored(sum);
}
