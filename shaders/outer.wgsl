// parts[slice, tap, i, j] = sum over a slice of b's pixels p of a[the pixel that p sees through the tap, i] * b[p, j]:
// the gradient of a weight, in parts that are added afterwards in their order. The generator (src/ops/outer.rs) adds
// the ways of reading and the unrolled sum.
struct Params {
    pixels: u32,        // of b
    rows: u32,          // channels of a
    columns: u32,       // channels of b
    tiles_a: u32,
    tiles_b: u32,
    taps: u32,
    chunk: u32,         // pixels of a slice, a multiple of 8
    count: u32,         // subgroups that have work
    // images only
    height: u32,        // of a
    width: u32,
    out_height: u32,    // of b
    out_width: u32,
    kernel_width: u32,
    stride: u32,        // y | x << 16
    pad: u32,           // top | left << 16
    dilation: u32,      // y | x << 16
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read_write> parts: array<f32>;  // [slices, taps, rows, columns]

// Where a pixel lies that p sees through a tap, and whether it is one of the image.
struct Seen {
    pixel: u32,
    inside: bool,
}

fn seen(p: u32, tap: u32) -> Seen {
    let oy_all = p / params.out_width;
    let ox = p - oy_all * params.out_width;
    let image = oy_all / params.out_height;
    let oy = oy_all - image * params.out_height;
    let ky = tap / params.kernel_width;
    let kx = tap - ky * params.kernel_width;
    // Above and left of the image these wrap to large numbers.
    let y = oy * (params.stride & 0xffffu) + ky * (params.dilation & 0xffffu) - (params.pad & 0xffffu);
    let x = ox * (params.stride >> 16u) + kx * (params.dilation >> 16u) - (params.pad >> 16u);
    let inside = y < params.height && x < params.width;
    return Seen(select(0u, (image * params.height + y) * params.width + x, inside), inside);
}
