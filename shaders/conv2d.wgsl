// Grouped convolution, channels-last: y[b, oy, ox, o] = bias[o] + sum x[b, iy, ix, group(o) * per_group + c] * w[ky, kx, c, o]
// with iy = oy * stride_y + ky - pad_top, ix alike. The dense convolution is a matrix product: see gemm_image.wgsl.
//   grouped         one invocation per result; neighbours share their window and read neighbouring weights
//   grouped_input   one per element of dx: a sum over the windows that look at it
//   grouped_weight  one per weight and slice of the output pixels, whose parts are added afterwards in their order
struct Params {
    count: u32,      // results
    channels: u32,
    per_group: u32,  // input channels of a group
    outputs: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_y: u32,
    stride_x: u32,
    pad_top: u32,
    pad_left: u32,
    has_bias: u32,
    span: u32,       // output pixels of a segment, a piece of a row
    spans: u32,      // segments of a row
    segments: u32,   // of all rows
    chunk: u32,      // segments of a slice
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<scalar>;        // [batch, height, width, channels]
@group(0) @binding(2) var<storage, read> w: array<f32>;           // [kernel_height, kernel_width, per_group, outputs]
@group(0) @binding(3) var<storage, read> bias: array<f32>;        // [outputs]
@group(0) @binding(4) var<storage, read_write> y: array<scalar>;  // [batch, out_height, out_width, outputs]

@compute @workgroup_size(WG)
fn grouped(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    if (at >= params.count) {
        return;
    }
    let o = at % params.outputs;
    var rest = at / params.outputs;
    let ox = rest % params.out_width;
    rest /= params.out_width;
    let oy = rest % params.out_height;
    let image = rest / params.out_height;
    let first = first_channel(o);
    var sum = 0.0;
    if (params.has_bias == 1u) {
        sum = bias[o];
    }
    var weight = o;
    for (var ky = 0u; ky < params.kernel_height; ky++) {
        let iy = i32(oy * params.stride_y + ky) - i32(params.pad_top);
        for (var kx = 0u; kx < params.kernel_width; kx++) {
            let ix = i32(ox * params.stride_x + kx) - i32(params.pad_left);
            let inside = iy >= 0 && iy < i32(params.height) && ix >= 0 && ix < i32(params.width);
            let pixel = (image * params.height + u32(max(iy, 0))) * params.width + u32(max(ix, 0));
            for (var c = 0u; c < params.per_group; c++) {
                if (inside) {
                    sum += f32(x[pixel * params.channels + first + c]) * w[weight];
                }
                weight += params.outputs;
            }
        }
    }
    y[at] = scalar(sum);
}

// The first channel that an output sees.
fn first_channel(o: u32) -> u32 {
    let groups = params.channels / params.per_group;
    return o / (params.outputs / groups) * params.per_group;
}

@group(0) @binding(1) var<storage, read> dy_in: array<scalar>;     // [batch, out_height, out_width, outputs]
@group(0) @binding(3) var<storage, read_write> dx: array<scalar>;  // [batch, height, width, channels]

@compute @workgroup_size(WG)
fn grouped_input(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    if (at >= params.count) {
        return;
    }
    let channel = at % params.channels;
    var rest = at / params.channels;
    let ix = rest % params.width;
    rest /= params.width;
    let iy = rest % params.height;
    let image = rest / params.height;
    let group_at = channel / params.per_group;
    let c = channel - group_at * params.per_group;
    let per_group = params.outputs / (params.channels / params.per_group);
    // In the padded image; the windows that look there begin at most a kernel before.
    let row = iy + params.pad_top;
    let column = ix + params.pad_left;
    let rows = windows(row, params.kernel_height, params.stride_y, params.out_height);
    let columns = windows(column, params.kernel_width, params.stride_x, params.out_width);
    var sum = 0.0;
    for (var oy = rows.x; oy < rows.y; oy++) {
        let ky = row - oy * params.stride_y;
        for (var ox = columns.x; ox < columns.y; ox++) {
            let kx = column - ox * params.stride_x;
            let tap = (ky * params.kernel_width + kx) * params.per_group + c;
            let weight = tap * params.outputs + group_at * per_group;
            let pixel = (image * params.out_height + oy) * params.out_width + ox;
            let result = pixel * params.outputs + group_at * per_group;
            for (var o = 0u; o < per_group; o++) {
                sum += f32(dy_in[result + o]) * w[weight + o];
            }
        }
    }
    dx[at] = scalar(sum);
}

// The first window that looks at a place of the padded image, and the one after the last.
fn windows(place: u32, kernel: u32, stride: u32, count: u32) -> vec2u {
    let first = max(place + 1u, kernel) - kernel;
    return vec2u((first + stride - 1u) / stride, min(place / stride + 1u, count));
}

@group(0) @binding(2) var<storage, read> dy: array<scalar>;          // [batch, out_height, out_width, outputs]
@group(0) @binding(3) var<storage, read_write> parts: array<f32>;    // [slices, kernel_height, kernel_width, per_group, outputs]

@compute @workgroup_size(WG)
fn grouped_weight(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    if (at >= params.count) {
        return;
    }
    let o = at % params.outputs;
    var rest = at / params.outputs;
    let channel = first_channel(o) + rest % params.per_group;
    rest /= params.per_group;
    let kx = rest % params.kernel_width;
    rest /= params.kernel_width;
    let ky = rest % params.kernel_height;
    let first = rest / params.kernel_height * params.chunk;
    // Output columns for which this tap lies in the image.
    let lowest = (max(params.pad_left, kx) - kx + params.stride_x - 1u) / params.stride_x;
    let end = (max(params.width + params.pad_left, kx) - kx + params.stride_x - 1u) / params.stride_x;
    let step = params.stride_x * params.channels;
    var sum = 0.0;
    for (var segment = first; segment < min(first + params.chunk, params.segments); segment++) {
        let row = segment / params.spans;
        let start = (segment - row * params.spans) * params.span;
        let image = row / params.out_height;
        // Below the image this wraps to a large number.
        let iy = (row - image * params.out_height) * params.stride_y + ky - params.pad_top;
        if (iy < params.height) {
            let leftmost = max(start, lowest);
            let stop = min(min(start + params.span, params.out_width), end);
            var x_at = (image * params.height + iy) * params.width + leftmost * params.stride_x + kx - params.pad_left;
            x_at = x_at * params.channels + channel;
            var y_at = (row * params.out_width + leftmost) * params.outputs + o;
            for (var ox = leftmost; ox < stop; ox++) {
                sum += f32(x[x_at]) * f32(dy[y_at]);
                x_at += step;
                y_at += params.outputs;
            }
        }
    }
    parts[at] = sum;
}
