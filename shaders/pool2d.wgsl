// Mean or maximum of windows of pixels, none past the edges. Sums in f32, row by row.
//   mean, largest       one invocation per output pixel and WIDTH channels
//   winner              the same: the place in its window of each maximum, the first one's where several are equal
//   mean_backward, largest_backward
//                       one per input pixel and WIDTH channels: a sum over the windows that look at it, or that it won
struct Params {
    units: u32,        // channels in units of WIDTH
    rows: u32,         // rows written in this launch: of y, and on the way back of dx
    first_row: u32,    // rows of all images before them
    first_read: u32,   // rows of all images before the binding that is read
    skip: u32,         // rows in the binding written before the first, there for alignment
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
            best = larger(best, packed(x[place.source + (row * params.in_width + column) * params.units]));
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
    let x_row = image * params.in_height + image_row * params.stride_height - params.first_read;
    let source = (x_row * params.in_width + column * params.stride_width) * params.units + unit;
    return Place(row, source, ((params.skip + row) * params.out_width + column) * params.units + unit);
}

@group(0) @binding(2) var<storage, read_write> winners: array<packed>;  // [batch, out_height, out_width, channels]

@compute @workgroup_size(WG)
fn winner(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(group_index(group, groups) * WG + lane);
    if (place.row >= params.rows) {
        return;
    }
    var best = packed(x[place.source]);
    var at = packed(0.0);
    for (var row = 0u; row < params.kernel_height; row++) {
        for (var column = 0u; column < params.kernel_width; column++) {
            let v = packed(x[place.source + (row * params.in_width + column) * params.units]);
            at = select(at, packed(f32(row * params.kernel_width + column)), v > best);
            best = larger(best, v);
        }
    }
    winners[place.to] = at;
}

@group(0) @binding(1) var<storage, read> dy: array<stored>;        // [batch, out_height, out_width, channels]
@group(0) @binding(2) var<storage, read> won: array<packed>;       // [batch, out_height, out_width, channels]
@group(0) @binding(3) var<storage, read_write> dx: array<stored>;  // [batch, in_height, in_width, channels]

@compute @workgroup_size(WG)
fn mean_backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let seen = seen_of(group_index(group, groups) * WG + lane);
    if (seen.row >= params.rows) {
        return;
    }
    var sum = packed(0.0);
    for (var row = seen.rows.x; row < seen.rows.y; row++) {
        for (var column = seen.columns.x; column < seen.columns.y; column++) {
            sum += packed(dy[(seen.first + row * params.out_width + column) * params.units + seen.unit]);
        }
    }
    dx[seen.to] = stored(sum / f32(params.kernel_height * params.kernel_width));
}

@compute @workgroup_size(WG)
fn largest_backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let seen = seen_of(group_index(group, groups) * WG + lane);
    if (seen.row >= params.rows) {
        return;
    }
    var sum = packed(0.0);
    for (var row = seen.rows.x; row < seen.rows.y; row++) {
        let tap_row = (seen.image_row - row * params.stride_height) * params.kernel_width;
        for (var column = seen.columns.x; column < seen.columns.y; column++) {
            let at = (seen.first + row * params.out_width + column) * params.units + seen.unit;
            let tap = packed(f32(tap_row + seen.column - column * params.stride_width));
            sum += select(packed(0.0), packed(dy[at]), won[at] == tap);
        }
    }
    dx[seen.to] = stored(sum);
}

// An input pixel and the windows that look at it.
struct Seen {
    row: u32,        // of this launch
    image_row: u32,
    column: u32,
    rows: vec2u,     // of windows: the first, and one past the last
    columns: vec2u,
    first: u32,      // pixels in the binding of dy before this image's
    unit: u32,
    to: u32,         // index in dx
}

fn seen_of(index: u32) -> Seen {
    let pixel = index / params.units;
    let unit = index - pixel * params.units;
    let row = pixel / params.in_width;
    let column = pixel - row * params.in_width;
    let image = (params.first_row + row) / params.in_height;
    let image_row = params.first_row + row - image * params.in_height;
    return Seen(
        row,
        image_row,
        column,
        windows(image_row, params.kernel_height, params.stride_height, params.out_height),
        windows(column, params.kernel_width, params.stride_width, params.out_width),
        (image * params.out_height - params.first_read) * params.out_width,
        unit,
        ((params.skip + row) * params.in_width + column) * params.units + unit,
    );
}

// The first window that looks at a place, and the one after the last.
fn windows(place: u32, kernel: u32, stride: u32, count: u32) -> vec2u {
    let first = max(place + 1u, kernel) - kernel;
    return vec2u((first + stride - 1u) / stride, min(place / stride + 1u, count));
}
