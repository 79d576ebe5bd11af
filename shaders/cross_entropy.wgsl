// loss = log sum exp(x) - (1 - s) x[id] - s mean x for each row, with s = smoothing and x less its largest value.
// `backward`: dx = (softmax x - (1 - s) [col = id] - s / cols) dy / rows of all.
// One workgroup per row; lanes stride over the columns. Sums in f32.
struct Params {
    rows: u32,
    cols: u32,
    smoothing: f32,
    scale: f32,  // 1 / rows of all windows; `backward` alone
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;         // [rows, cols]
@group(0) @binding(2) var<storage, read> ids: array<u32>;          // [rows], below cols
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;   // [rows]

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups);
    let row = min(index, params.rows - 1u);
    let start = row * params.cols;
    let largest = largest_of(lane, start);
    var sum = 0.0;
    var total = 0.0;
    for (var col = lane; col < params.cols; col += WG) {
        let z = f32(x[start + col]) - largest;
        sum += exp(z);
        total += z;
    }
    sum = reduce_sum(lane, sum);
    total = reduce_sum(lane, total);
    if (index < params.rows && lane == 0u) {
        let own = f32(x[start + ids[row]]) - largest;
        var value = log(sum) - (1.0 - params.smoothing) * own;
        // A class shut out by -inf counts for nothing without smoothing, and 0 times that is no number.
        if (params.smoothing > 0.0) {
            value -= params.smoothing * total / f32(params.cols);
        }
        loss[row] = value;
    }
}

fn largest_of(lane: u32, start: u32) -> f32 {
    var largest = f32(x[start]);
    for (var col = lane; col < params.cols; col += WG) {
        largest = max(largest, f32(x[start + col]));
    }
    return reduce_max(lane, largest);
}

@group(0) @binding(3) var<storage, read> dy: array<f32>;           // [1]
@group(0) @binding(4) var<storage, read_write> dx: array<stored>;  // [rows, cols]

@compute @workgroup_size(WG)
fn backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups);
    let row = min(index, params.rows - 1u);
    let start = row * params.cols;
    let largest = largest_of(lane, start);
    var sum = 0.0;
    for (var col = lane; col < params.cols; col += WG) {
        sum += exp(f32(x[start + col]) - largest);
    }
    sum = reduce_sum(lane, sum);
    let scale = dy[0] * params.scale;
    if (index < params.rows) {
        for (var col = lane; col < params.cols; col += WG) {
            let own = select(0.0, 1.0 - params.smoothing, col == ids[row]);
            let share = exp(f32(x[start + col]) - largest) / sum;
            dx[start + col] = stored((share - own - params.smoothing / f32(params.cols)) * scale);
        }
    }
}
