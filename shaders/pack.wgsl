// A weight matrix [n, taps, channels] (any strides) to panels: panel p holds columns p*PANEL .. of all k in order
//   packed[((p * taps + tap) * channels4 * 4 + c) * PANEL + column], zero beyond n and beyond channels.
// One invocation writes 4 columns of one channel for up to 16 taps, which lie beside each other in a convolution's weight.
// The source is read as words, so that f32, f16 and bf16 files load alike.
struct Params {
    count: u32,       // invocations
    n: u32,           // columns in all
    column0: u32,     // first column of the first panel here
    taps: u32,
    channels: u32,
    channels4: u32,   // channels / 4, rounded up
    panel4: u32,      // columns of a panel / 4
    panels: u32,      // panels of one matrix here
    stride_n: u32,    // source elements from one column to the next
    stride_tap: u32,
    stride_c: u32,
    stride_batch: u32,
    source0: u32,     // source element of the first column's first k
    kind: u32,        // of the source: 0 f32, 1 f16, 2 bf16, 3 signed bytes, 127 of which are 1
    stored: u32,      // 0: written as f32, 1: as f16, 2: as signed bytes
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> panels: array<u32>;  // [batch, panels, taps, channels4 * 4, PANEL]

const TAPS = 16u;

fn element(at: u32) -> f32 {
    if (params.kind == 0u) {
        return bitcast<f32>(source[at]);
    }
    if (params.kind == 3u) {
        return unpack4x8snorm(source[at >> 2u])[at & 3u];
    }
    let word = source[at >> 1u];
    let odd = (at & 1u) == 1u;
    if (params.kind == 1u) {
        let pair = unpack2x16float(word);
        return select(pair.x, pair.y, odd);
    }
    return bitcast<f32>(select(word << 16u, word & 0xffff0000u, odd));
}

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
    let blocks = (params.taps + TAPS - 1u) / TAPS;
    let first = rest % blocks * TAPS;
    rest /= blocks;  // panel of all matrices
    let column = (rest % params.panels * params.panel4 + column4) * 4u;  // from the first column here
    let begin = params.source0 + rest / params.panels * params.stride_batch + c * params.stride_c;
    let columns = vec4<u32>(column, column + 1u, column + 2u, column + 3u);
    let there = (vec4<u32>(params.n) > params.column0 + columns) & vec4<bool>(c < params.channels);
    var source_at = begin + first * params.stride_tap + columns * params.stride_n;
    var to = ((rest * params.taps + first) * params.channels4 * 4u + c) * params.panel4 + column4;
    let end = min(first + TAPS, params.taps);
    for (var tap = first; tap < end; tap++) {
        let safe = select(vec4<u32>(), source_at, there);
        let v = vec4<f32>(element(safe.x), element(safe.y), element(safe.z), element(safe.w));
        write(to, select(vec4<f32>(), v, there));
        source_at += params.stride_tap;
        to += params.channels4 * 4u * params.panel4;
    }
}

fn write(at: u32, v: vec4<f32>) {
    if (params.stored == 2u) {
        panels[at] = pack4x8snorm(v);
    } else if (params.stored == 1u) {
        panels[2u * at] = pack2x16float(v.xy);
        panels[2u * at + 1u] = pack2x16float(v.zw);
    } else {
        panels[4u * at] = bitcast<u32>(v.x);
        panels[4u * at + 1u] = bitcast<u32>(v.y);
        panels[4u * at + 2u] = bitcast<u32>(v.z);
        panels[4u * at + 3u] = bitcast<u32>(v.w);
    }
}
