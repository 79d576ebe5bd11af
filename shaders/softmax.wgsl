// y = exp(x - max x) / sum exp(x - max x) along the last axis; `log_forward`: its logarithm,
// x - max x - log sum exp(x - max x). `backward`: dx = y (dy - sum y dy); `log_backward`: dx = dy - exp(y) sum dy.
// One workgroup per row; lanes stride over the columns. Sums in f32.
struct Params {
    rows: u32,
    cols: u32,  // in units of WIDTH
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;         // [rows, cols]
@group(0) @binding(2) var<storage, read_write> y: array<stored>;   // [rows, cols]

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    let start = min(row, params.rows - 1u) * params.cols;
    let largest = largest_of(lane, start);
    let sum = sum_of(lane, start, largest);
    if (row < params.rows) {
        for (var col = lane; col < params.cols; col += WG) {
            y[start + col] = stored(exp(packed(x[start + col]) - largest) / sum);
        }
    }
}

@compute @workgroup_size(WG)
fn log_forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    let start = min(row, params.rows - 1u) * params.cols;
    let largest = largest_of(lane, start);
    let log_sum = log(sum_of(lane, start, largest));
    if (row < params.rows) {
        for (var col = lane; col < params.cols; col += WG) {
            y[start + col] = stored(packed(x[start + col]) - largest - log_sum);
        }
    }
}

fn largest_of(lane: u32, start: u32) -> f32 {
    var largest = f32(max_across(packed(x[start])));
    for (var col = lane; col < params.cols; col += WG) {
        largest = max(largest, max_across(packed(x[start + col])));
    }
    return reduce_max(lane, largest);
}

fn sum_of(lane: u32, start: u32, largest: f32) -> f32 {
    var sum = 0.0;
    for (var col = lane; col < params.cols; col += WG) {
        sum += sum_across(exp(packed(x[start + col]) - largest));
    }
    return reduce_sum(lane, sum);
}

@group(0) @binding(1) var<storage, read> result: array<stored>;    // [rows, cols], y
@group(0) @binding(2) var<storage, read> dy: array<stored>;        // [rows, cols]
@group(0) @binding(3) var<storage, read_write> dx: array<stored>;  // [rows, cols]

@compute @workgroup_size(WG)
fn backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    let start = min(row, params.rows - 1u) * params.cols;
    var sum = 0.0;
    for (var col = lane; col < params.cols; col += WG) {
        sum += sum_across(packed(result[start + col]) * packed(dy[start + col]));
    }
    sum = reduce_sum(lane, sum);
    if (row < params.rows) {
        for (var col = lane; col < params.cols; col += WG) {
            dx[start + col] = stored(packed(result[start + col]) * (packed(dy[start + col]) - sum));
        }
    }
}

@compute @workgroup_size(WG)
fn log_backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    let start = min(row, params.rows - 1u) * params.cols;
    var sum = 0.0;
    for (var col = lane; col < params.cols; col += WG) {
        sum += sum_across(packed(dy[start + col]));
    }
    sum = reduce_sum(lane, sum);
    if (row < params.rows) {
        for (var col = lane; col < params.cols; col += WG) {
            dx[start + col] = stored(packed(dy[start + col]) - exp(packed(result[start + col])) * sum);
        }
    }
}
