// y[row, column] = x[floor(row * in_height / out_height), floor(column * in_width / out_width)], in integers.
// One invocation per output pixel and up to 4 units of its channels: the divisions are shared.
struct Params {
    units: u32,       // channels in units of WIDTH
    slices: u32,      // invocations that share a pixel
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
    let pixel = index / params.slices;
    let row = pixel / params.out_width;
    if (row >= params.rows) {
        return;
    }
    let column = pixel - row * params.out_width;
    let image = (params.first_row + row) / params.out_height;
    let image_row = params.first_row + row - image * params.out_height;
    let x_row = image * params.in_height + image_row * params.in_height / params.out_height - params.first_x_row;
    let x_column = column * params.in_width / params.out_width;
    let source = (x_row * params.in_width + x_column) * params.units;
    let to = ((params.skip + row) * params.out_width + column) * params.units;
    for (var unit = index - pixel * params.slices; unit < params.units; unit += params.slices) {
        y[to + unit] = x[source + unit];
    }
}
