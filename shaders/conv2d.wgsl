// Grouped convolution, channels-last: y[b, oy, ox, o] = bias[o] + sum x[b, iy, ix, group(o) * per_group + c] * w[ky, kx, c, o].
// One invocation per result; neighbours share their window and read neighbouring weights.
// The dense convolution is a matrix product: see gemm_image.wgsl.
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
    let groups_in_all = params.channels / params.per_group;
    let first = o / (params.outputs / groups_in_all) * params.per_group;
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
