// y = x moved: each cell of a walk goes from its place in x to its place in y. AXES and `cell` (16 to 2 bytes,
// the widest that stays whole) are written before this text; bits are moved, no number is looked at.
// An invocation moves 4 cells, a workgroup's width apart, or where SPREAD is true a quarter of the innermost axis.
@group(0) @binding(0) var<uniform> params: Params;              // common/walk.wgsl: x and y are its arrays a and b
@group(0) @binding(1) var<storage, read> x: array<cell>;        // [..]
@group(0) @binding(2) var<storage, read_write> y: array<cell>;  // [..]

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
            y[at.y] = x[at.x];
            y[at.y + step.y] = x[at.x + step.x];
            y[at.y + 2u * step.y] = x[at.x + 2u * step.x];
            y[at.y + 3u * step.y] = x[at.x + 3u * step.x];
        }
        return;
    }
    let start = group_index(group, groups) * 4u * WG + lane;
    for (var turn = 0u; turn < 4u; turn++) {
        let unit = start + turn * WG;
        if (unit < params.n) {
            let at = place(unit);
            y[at.y] = x[at.x];
        }
    }
}

// Tiles of four cells of four elements, turned: in x their rows lie `a_tile` apart, in y `b_tile`.
@group(0) @binding(1) var<storage, read> x_cells: array<vec4u>;        // [..]
@group(0) @binding(2) var<storage, read_write> y_cells: array<vec4u>;  // [..]

@compute @workgroup_size(WG)
fn tiles(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = group_index(group, groups) * WG + lane;
    if (unit < params.n) {
        let at = place(unit);
        let a = x_cells[at.x];
        let b = x_cells[at.x + params.a_tile];
        let c = x_cells[at.x + 2u * params.a_tile];
        let d = x_cells[at.x + 3u * params.a_tile];
        y_cells[at.y] = vec4u(a.x, b.x, c.x, d.x);
        y_cells[at.y + params.b_tile] = vec4u(a.y, b.y, c.y, d.y);
        y_cells[at.y + 2u * params.b_tile] = vec4u(a.z, b.z, c.z, d.z);
        y_cells[at.y + 3u * params.b_tile] = vec4u(a.w, b.w, c.w, d.w);
    }
}
