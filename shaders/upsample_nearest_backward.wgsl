// dx[row, column] = sum of dy over the pixels that were taken from there: those output rows with
// floor(row * in_height / out_height) equal to it, and columns alike.
// One invocation per input pixel and WIDTH channels. Sums in f32.
struct Params {
    units: u32,        // channels in units of WIDTH
    rows: u32,         // input rows in this launch
    first_row: u32,    // input rows of all images before this launch
    first_y_row: u32,  // output rows of all images before the binding of dy
    skip: u32,         // input rows in the binding of dx before the first, there for alignment
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<stored>;        // [batch, out_height, out_width, channels]
@group(0) @binding(2) var<storage, read_write> dx: array<stored>;  // [batch, in_height, in_width, channels]

@compute @workgroup_size(WG)
fn backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups) * WG + lane;
    let pixel = index / params.units;
    let unit = index - pixel * params.units;
    let row = pixel / params.in_width;
    if (row >= params.rows) {
        return;
    }
    let column = pixel - row * params.in_width;
    let image = (params.first_row + row) / params.in_height;
    let image_row = params.first_row + row - image * params.in_height;
    let top = image * params.out_height - params.first_y_row;
    let left = first_of(column, params.in_width, params.out_width);
    let right = first_of(column + 1u, params.in_width, params.out_width);
    var sum = packed(0.0);
    for (
        var y = first_of(image_row, params.in_height, params.out_height);
        y < first_of(image_row + 1u, params.in_height, params.out_height);
        y++
    ) {
        let start = (top + y) * params.out_width;
        for (var x = left; x < right; x++) {
            sum += packed(dy[(start + x) * params.units + unit]);
        }
    }
    dx[((params.skip + row) * params.in_width + column) * params.units + unit] = stored(sum);
}

// Of the output places that take this input place or a later one.
fn first_of(place: u32, in_size: u32, out_size: u32) -> u32 {
    return (place * out_size + in_size - 1u) / in_size;
}
