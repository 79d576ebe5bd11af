// As pack.wgsl, for f32 matrices whose values lie four by four: what is packed for one product has to be quick.
// `rows` reads [k, n] (columns beside each other), `columns` reads [n, k] (k beside each other) and turns blocks of
// 4 x 4. One invocation writes 4 columns of 16 or of 4 k.
struct Params {
    count: u32,       // invocations
    n: u32,           // columns in all
    column0: u32,     // first column of the first panel here
    taps: u32,        // 1
    channels: u32,
    channels4: u32,   // channels / 4, rounded up
    panel4: u32,      // columns of a panel / 4
    panels: u32,      // panels of one matrix here
    stride_n: u32,    // source elements from one column to the next
    stride_tap: u32,
    stride_c: u32,
    stride_batch: u32,
    source0: u32,     // source element of the first column's first k
    kind: u32,        // 0: f32
    stored: u32,        // 0: written as f32
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> panels: array<vec4<f32>>;  // [batch, panels, channels4 * 4, PANEL / 4]

@compute @workgroup_size(WG)
fn rows(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    if (at >= params.count) {
        return;
    }
    let k_all = params.channels4 * 4u;
    let blocks = (k_all + 15u) / 16u;
    let column4 = at % params.panel4;
    let rest = at / params.panel4;
    let block = rest % blocks;
    let panel = rest / blocks;  // of all matrices
    let local4 = panel % params.panels * params.panel4 + column4;
    let inside = params.column0 / 4u + local4 < params.n / 4u;
    let begin = (params.source0 + panel / params.panels * params.stride_batch) / 4u + local4;
    let to = panel * k_all * params.panel4 + column4;
    let end = min(block * 16u + 16u, k_all);
    for (var c = block * 16u; c < end; c++) {
        let there = inside && c < params.channels;
        let v = source[select(0u, begin + c * (params.stride_c / 4u), there)];
        panels[to + c * params.panel4] = select(vec4<f32>(), v, there);
    }
}

@compute @workgroup_size(WG)
fn columns(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    if (at >= params.count) {
        return;
    }
    let column4 = at % params.panel4;
    let rest = at / params.panel4;
    let unit = rest % params.channels4;
    let panel = rest / params.channels4;  // of all matrices
    let local = (panel % params.panels * params.panel4 + column4) * 4u;
    let begin = params.source0 + panel / params.panels * params.stride_batch + local * params.stride_n;
    let last = params.n - 1u - min(params.n - 1u, params.column0 + local);  // columns here after the first
    let there = vec4<bool>(params.n > params.column0 + local, last >= 1u, last >= 2u, last >= 3u);
    let a = fours(begin, unit, there.x);
    let b = fours(begin + params.stride_n, unit, there.y);
    let c = fours(begin + 2u * params.stride_n, unit, there.z);
    let d = fours(begin + 3u * params.stride_n, unit, there.w);
    let to = (panel * params.channels4 + unit) * 4u * params.panel4 + column4;
    panels[to] = vec4<f32>(a.x, b.x, c.x, d.x);
    panels[to + params.panel4] = vec4<f32>(a.y, b.y, c.y, d.y);
    panels[to + 2u * params.panel4] = vec4<f32>(a.z, b.z, c.z, d.z);
    panels[to + 3u * params.panel4] = vec4<f32>(a.w, b.w, c.w, d.w);
}

fn fours(begin: u32, unit: u32, there: bool) -> vec4<f32> {
    return select(vec4<f32>(), source[select(0u, begin / 4u + unit, there)], there);
}
