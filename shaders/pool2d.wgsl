// Mean or maximum of windows of pixels, none past the edges.
// One invocation per output pixel and WIDTH channels. Sums in f32, row by row.
struct Params {
    units: u32,        // channels in units of WIDTH
    rows: u32,         // output rows in this launch
    first_row: u32,    // output rows of all images before this launch
    first_x_row: u32,  // input rows of all images before the binding of x
    skip: u32,         // output rows in the binding of y before the first, there for alignment
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_height: u32,
    stride_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;        // [batch, in_height, in_width, channels]
@group(0) @binding(2) var<storage, read_write> y: array<stored>;  // [batch, out_height, out_width, channels]

@compute @workgroup_size(WG)
fn mean(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(group_index(group, groups) * WG + lane);
    if (place.row >= params.rows) {
        return;
    }
    var sum = packed(0.0);
    for (var row = 0u; row < params.kernel_height; row++) {
        for (var column = 0u; column < params.kernel_width; column++) {
            sum += packed(x[place.source + (row * params.in_width + column) * params.units]);
        }
    }
    y[place.to] = stored(sum / f32(params.kernel_height * params.kernel_width));
}

@compute @workgroup_size(WG)
fn largest(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(group_index(group, groups) * WG + lane);
    if (place.row >= params.rows) {
        return;
    }
    var best = packed(x[place.source]);
    for (var row = 0u; row < params.kernel_height; row++) {
        for (var column = 0u; column < params.kernel_width; column++) {
            best = max(best, packed(x[place.source + (row * params.in_width + column) * params.units]));
        }
    }
    y[place.to] = stored(best);
}

struct Place {
    row: u32,     // of this launch
    source: u32,  // index in x of the window's first pixel
    to: u32,      // index in y
}

fn place_of(index: u32) -> Place {
    let pixel = index / params.units;
    let unit = index - pixel * params.units;
    let row = pixel / params.out_width;
    let column = pixel - row * params.out_width;
    let image = (params.first_row + row) / params.out_height;
    let image_row = params.first_row + row - image * params.out_height;
    let x_row = image * params.in_height + image_row * params.stride_height - params.first_x_row;
    let source = (x_row * params.in_width + column * params.stride_width) * params.units + unit;
    return Place(row, source, ((params.skip + row) * params.out_width + column) * params.units + unit);
}
