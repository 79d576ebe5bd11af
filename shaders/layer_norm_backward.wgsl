// The way back of y = (x - mean) * scale * weight + bias with scale = 1 / sqrt(var + eps), along the last axis:
//   dx = scale * (g - mean(g) - n mean(g n))  with n = (x - mean) * scale and g = dy * weight
//   dweight = sum over rows of dy n, dbias = sum over rows of dy
// `backward`: one workgroup per row, lanes stride over the columns; statistics are found again as on the way there.
// `backward_vectors`: one invocation per chunk of rows and WIDTH columns, the chunks are added afterwards in their order.
struct Params {
    rows: u32,
    cols: u32,        // in units of WIDTH
    has_weight: u32,  // else 1
    chunk: u32,       // rows an invocation of `backward_vectors` walks
    eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;           // [rows, cols]
@group(0) @binding(2) var<storage, read> dy: array<stored>;          // [rows, cols]
@group(0) @binding(3) var<storage, read> weight: array<packed>;      // [cols], or anything
@group(0) @binding(4) var<storage, read_write> dx: array<stored>;    // [rows, cols]
@group(0) @binding(5) var<storage, read_write> found: array<vec2f>;  // [rows, (mean, scale)]

@compute @workgroup_size(WG)
fn backward(
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
    let origin = max_across(packed(x[start]));
    let own = (shift - origin) + sum / max(count, 1.0);
    let total = f32(params.cols) * f32(WIDTH);
    let offset = reduce_sum(lane, count * sum_across(own)) / total;
    let apart = own - offset;
    let spread = squares - sum * sum / max(count, 1.0) + count * apart * apart;
    let scale = 1.0 / sqrt(reduce_sum(lane, sum_across(spread)) / total + params.eps);
    var slopes = packed(0.0);
    var products = packed(0.0);
    for (var col = lane; col < params.cols; col += WG) {
        let n = ((packed(x[start + col]) - origin) - offset) * scale;
        let g = packed(dy[start + col]) * weight_at(col);
        slopes += g;
        products += g * n;
    }
    let slope = reduce_sum(lane, sum_across(slopes)) / total;
    let product = reduce_sum(lane, sum_across(products)) / total;
    if (row < params.rows) {
        for (var col = lane; col < params.cols; col += WG) {
            let n = ((packed(x[start + col]) - origin) - offset) * scale;
            let g = packed(dy[start + col]) * weight_at(col);
            dx[start + col] = stored(scale * (g - slope - n * product));
        }
        if (lane == 0u) {
            found[row] = vec2f(origin + offset, scale);
        }
    }
}

fn weight_at(col: u32) -> packed {
    if (params.has_weight != 0u) {
        return weight[col];
    }
    return packed(1.0);
}

@group(0) @binding(3) var<storage, read> statistics: array<vec2f>;    // [rows, (mean, scale)]
@group(0) @binding(4) var<storage, read_write> parts: array<packed>;  // [chunks, (dweight, dbias), cols]

@compute @workgroup_size(WG)
fn backward_vectors(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups) * WG + lane;
    let chunk = index / params.cols;
    let col = index - chunk * params.cols;
    let first = chunk * params.chunk;
    if (first >= params.rows) {
        return;
    }
    var dweight = packed(0.0);
    var dbias = packed(0.0);
    var at = first * params.cols + col;
    for (var row = first; row < min(first + params.chunk, params.rows); row++) {
        let row_found = statistics[row];
        let g = packed(dy[at]);
        dweight += g * ((packed(x[at]) - row_found.x) * row_found.y);
        dbias += g;
        at += params.cols;
    }
    let to = chunk * 2u * params.cols + col;
    parts[to] = dweight;
    parts[to + params.cols] = dbias;
}
