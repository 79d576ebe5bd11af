// The windows of a convolution as columns of a matrix: y[tap, c, pixel] = x[image, y, x, c], 0 outside the image and past
// the last pixel.
// One invocation per four output pixels and WIDTH channels, which walks over the taps. What it reads it writes with
// `put`, which stands behind this text: WIDTH rows of four pixels each. Neighbours are BLOCK fours of pixels, then
// channels: rows of y lie pages apart, and are written some hundred bytes at a time.
struct Params {
    units: u32,        // channels / WIDTH
    fours: u32,        // columns of y, in fours
    kernel_height: u32,
    kernel_width: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    stride: u32,       // y | x << 16
    pad: u32,          // top | left << 16
    dilation: u32,     // y | x << 16
    first_pixel: u32,  // output pixel of all images where this launch begins
    end_pixel: u32,    // and the one past its last
    origin: u32,       // first image of the bound window of x
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;              // [images, height, width, channels]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<scalar>>;  // [taps, channels, pixels]

const BLOCK = 16u;

// The upper left corner of a pixel's window, which may lie outside, and the first row of its image.
struct Corner { row: i32, column: i32, first_row: u32, is_there: bool }
fn corner_of(pixel: u32) -> Corner {
    let line = pixel / params.out_width;
    let image = line / params.out_height;
    let row = (line - image * params.out_height) * (params.stride & 0xffffu);
    let column = (pixel - line * params.out_width) * (params.stride >> 16u);
    return Corner(
        i32(row) - i32(params.pad & 0xffffu),
        i32(column) - i32(params.pad >> 16u),
        (image - params.origin) * params.height,
        pixel < params.end_pixel,
    );
}

fn seen(corner: Corner, down: i32, right: i32, unit: u32) -> stored {
    let row = corner.row + down;
    let column = corner.column + right;
    if (!corner.is_there || row < 0 || column < 0 || row >= i32(params.height) || column >= i32(params.width)) {
        return stored();
    }
    return x[((corner.first_row + u32(row)) * params.width + u32(column)) * params.units + unit];
}

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    let block = at / (BLOCK * params.units);
    let unit = at / BLOCK - block * params.units;
    let four = block * BLOCK + at % BLOCK;
    if (four >= params.fours) {
        return;
    }
    let pixel = params.first_pixel + 4u * four;
    let a = corner_of(pixel);
    let b = corner_of(pixel + 1u);
    let c = corner_of(pixel + 2u);
    let d = corner_of(pixel + 3u);
    let tap_step = params.units * WIDTH * params.fours;
    var to = unit * WIDTH * params.fours + four;
    for (var ky = 0u; ky < params.kernel_height; ky++) {
        let down = i32(ky * (params.dilation & 0xffffu));
        for (var kx = 0u; kx < params.kernel_width; kx++) {
            let right = i32(kx * (params.dilation >> 16u));
            put(to, seen(a, down, right, unit), seen(b, down, right, unit), seen(c, down, right, unit), seen(d, down, right, unit));
            to += tap_step;
        }
    }
}
