// y[i] = table[ids[i]], by windows of the table: a launch writes the rows it has; the first one also writes zeros
// for ids that are in no window. Cells of 16 to 2 bytes are moved as bits; `cell` is written before this text.
// An invocation moves 4 cells, a workgroup's width apart.
struct Params {
    n: u32,          // cells of y
    cols: u32,       // cells of a row
    first_row: u32,  // of this window
    rows: u32,       // of this window
    all_rows: u32,   // of the table
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<cell>;    // [rows, cols]
@group(0) @binding(2) var<storage, read> ids: array<u32>;       // [n / cols]
@group(0) @binding(3) var<storage, read_write> y: array<cell>;  // [n / cols, cols]

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
            let token = at / params.cols;
            let id = ids[token];  // a negative id is a very large one
            if (id >= params.first_row && id - params.first_row < params.rows) {
                y[at] = table[(id - params.first_row) * params.cols + at - token * params.cols];
            } else if (params.first_row == 0u && id >= params.all_rows) {
                y[at] = cell();
            }
        }
    }
}
