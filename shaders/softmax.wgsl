// y = exp(x - max x) / sum exp(x - max x) along the last axis.
// One workgroup per row; lanes stride over the columns. Sums in f32.
struct Params {
    rows: u32,
    cols: u32,  // in units of WIDTH
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;        // [rows, cols]
@group(0) @binding(2) var<storage, read_write> y: array<stored>;  // [rows, cols]

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    let start = min(row, params.rows - 1u) * params.cols;
    var largest = f32(max_across(packed(x[start])));
    for (var col = lane; col < params.cols; col += WG) {
        largest = max(largest, max_across(packed(x[start + col])));
    }
    largest = reduce_max(lane, largest);
    var sum = 0.0;
    for (var col = lane; col < params.cols; col += WG) {
        sum += sum_across(exp(packed(x[start + col]) - largest));
    }
    sum = reduce_sum(lane, sum);
    if (row < params.rows) {
        for (var col = lane; col < params.cols; col += WG) {
            y[start + col] = stored(exp(packed(x[start + col]) - largest) / sum);
        }
    }
}
