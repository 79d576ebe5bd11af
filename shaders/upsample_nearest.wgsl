// y[row, column] = x[floor(row * in_height / out_height), floor(column * in_width / out_width)], in integers.
// One invocation per output row, input column and up to 4 units of its channels: what is read once is written to all
// columns it goes to.
struct Params {
    units: u32,       // channels in units of WIDTH
    slices: u32,      // invocations that share a column
    rows: u32,        // output rows in this launch
    first_row: u32,   // output rows of all images before this launch
    first_x_row: u32, // input rows of all images before the binding of x
    skip: u32,        // output rows in the binding of y before the first, there for alignment
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;        // [batch, in_height, in_width, channels]
@group(0) @binding(2) var<storage, read_write> y: array<stored>;  // [batch, out_height, out_width, channels]

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups) * WG + lane;
    let column = index / params.slices;
    let row = column / params.in_width;
    if (row >= params.rows) {
        return;
    }
    let x_column = column - row * params.in_width;
    let image = (params.first_row + row) / params.out_height;
    let image_row = params.first_row + row - image * params.out_height;
    let x_row = image * params.in_height + (image_row * params.in_height) / params.out_height;
    let source = ((x_row - params.first_x_row) * params.in_width + x_column) * params.units;
    let to = (params.skip + row) * params.out_width * params.units;
    let first = first_column(x_column);
    let end = first_column(x_column + 1u);
    for (var unit = index - column * params.slices; unit < params.units; unit += params.slices) {
        let pixel = x[source + unit];
        for (var out = first; out < end; out++) {
            y[to + out * params.units + unit] = pixel;
        }
    }
}

// Of the output columns that take this input column or a later one.
fn first_column(x_column: u32) -> u32 {
    return (x_column * params.out_width + params.in_width - 1u) / params.in_width;
}
