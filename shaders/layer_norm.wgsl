// y = (x - mean) / sqrt(var + eps) * weight + bias along the last axis.
// One workgroup per row; lanes stride over the columns. Each lane sums deviations around its own first value
// (never E[x^2] - E[x]^2), and the lanes are joined by the formula of Chan, Golub, LeVeque (1979).
struct Params {
    rows: u32,
    cols: u32,        // in units of WIDTH
    has_weight: u32,  // else 1
    has_bias: u32,    // else 0
    eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;        // [rows, cols]
@group(0) @binding(2) var<storage, read> weight: array<packed>;   // [cols], or anything
@group(0) @binding(3) var<storage, read> bias: array<packed>;     // [cols], or anything
@group(0) @binding(4) var<storage, read_write> y: array<stored>;  // [rows, cols]

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    let start = min(row, params.rows - 1u) * params.cols;
    let shift = packed(x[start + min(lane, params.cols - 1u)]);
    var sum = packed(0.0);
    var squares = packed(0.0);
    var count = 0.0;
    for (var col = lane; col < params.cols; col += WG) {
        let deviation = packed(x[start + col]) - shift;
        sum += deviation;
        squares += deviation * deviation;
        count += 1.0;
    }
    // Means of this lane, as offsets from one value of the row: large means would round.
    let origin = max_across(packed(x[start]));
    let own = (shift - origin) + sum / max(count, 1.0);
    let total = f32(params.cols) * f32(WIDTH);
    let offset = reduce_sum(lane, count * sum_across(own)) / total;
    let apart = own - offset;
    let spread = squares - sum * sum / max(count, 1.0) + count * apart * apart;
    let scale = 1.0 / sqrt(reduce_sum(lane, sum_across(spread)) / total + params.eps);
    if (row < params.rows) {
        for (var col = lane; col < params.cols; col += WG) {
            var v = ((packed(x[start + col]) - origin) - offset) * scale;
            if (params.has_weight != 0u) {
                v *= weight[col];
            }
            if (params.has_bias != 0u) {
                v += bias[col];
            }
            y[start + col] = stored(v);
        }
    }
}
