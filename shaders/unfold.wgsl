// The windows of a convolution as rows of a matrix: y[pixel, tap, c] = x[image, y, x, c], 0 outside the image.
// One invocation per WIDTH channels of one tap of one output pixel.
struct Params {
    count: u32,        // units of WIDTH channels to write
    units: u32,        // channels / WIDTH
    taps: u32,
    kernel_width: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    stride: u32,       // y | x << 16
    pad: u32,          // top | left << 16
    dilation: u32,     // y | x << 16
    first_pixel: u32,  // output pixel of all images where this launch begins
    origin: u32,       // first image of the bound window of x
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;        // [images, height, width, channels]
@group(0) @binding(2) var<storage, read_write> y: array<stored>;  // [pixels, taps, channels]

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    if (at >= params.count) {
        return;
    }
    let unit = at % params.units;
    var rest = at / params.units;
    let tap = rest % params.taps;
    let pixel = rest / params.taps + params.first_pixel;
    let ox = pixel % params.out_width;
    rest = pixel / params.out_width;
    let oy = rest % params.out_height;
    let image = rest / params.out_height - params.origin;
    let ky = tap / params.kernel_width;
    let kx = tap - ky * params.kernel_width;
    let row = i32(oy * (params.stride & 0xffffu) + ky * (params.dilation & 0xffffu)) - i32(params.pad & 0xffffu);
    let column = i32(ox * (params.stride >> 16u) + kx * (params.dilation >> 16u)) - i32(params.pad >> 16u);
    if (row < 0 || column < 0 || row >= i32(params.height) || column >= i32(params.width)) {
        y[at] = stored();
        return;
    }
    y[at] = x[((image * params.height + u32(row)) * params.width + u32(column)) * params.units + unit];
}
