// Panels back to the weight they were packed from: y[n, c, tap] (see pack.wgsl for where it lies).
// One invocation reads 4 columns of one k; joined with the reader of the panels (gemm_read_b*.wgsl).
struct Params {
    count: u32,       // vectors of 4 to read
    n: u32,           // columns in all
    taps: u32,
    channels: u32,
    channels4: u32,   // channels / 4, rounded up
    panel4: u32,      // columns of a panel / 4
    panel_first: u32, // panel of the whole matrix these begin with
    at_first: u32,    // vector where they begin
    factors: u32,     // of signed bytes: the word where those of the columns begin
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // from the first column here on

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
    let column4 = at % params.panel4;
    var rest = at / params.panel4;
    let c = rest % (params.channels4 * 4u);
    rest /= params.channels4 * 4u;
    let tap = rest % params.taps;
    let panel = rest / params.taps;
    if (c >= params.channels) {
        return;
    }
    let v = read_columns(params.at_first + at);
    let local_column = (panel * params.panel4 + column4) * 4u;
    for (var i = 0u; i < 4u; i++) {
        if (params.panel_first * params.panel4 * 4u + local_column + i < params.n) {
            y[((local_column + i) * params.channels + c) * params.taps + tap] = v[i];
        }
    }
}
