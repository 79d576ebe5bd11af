// GroupNorm in one launch, for groups that are small: a workgroup finds mean and variance of an image's group, then
// normalises it (in `whole_silu` y sigmoid(y) follows). A lane keeps its WIDTH channels and walks every `abreast`th
// position; it sums deviations around its own first value (never E[x^2] - E[x]^2), and the lanes are joined by the
// formula of Chan, Golub, LeVeque (1979).
struct Params {
    images: u32,
    positions: u32,
    groups: u32,
    group_units: u32,  // channels of a group in units of WIDTH, at most WG
    eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;             // [images, positions, channels]
@group(0) @binding(2) var<storage, read> weight: array<packed>;        // [channels]
@group(0) @binding(3) var<storage, read> bias: array<packed>;          // [channels]
@group(0) @binding(4) var<storage, read_write> y: array<stored>;       // [images, positions, channels]
@group(0) @binding(5) var<storage, read_write> found: array<packed>;   // [images, (mean, scale), channels]

@compute @workgroup_size(WG)
fn whole(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    norm_group(group_index(group, groups), lane, false);
}

@compute @workgroup_size(WG)
fn whole_silu(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    norm_group(group_index(group, groups), lane, true);
}

// `is_silu` is a constant at both calls.
fn norm_group(index: u32, lane: u32, is_silu: bool) {
    let units = params.groups * params.group_units;
    let image = min(index / params.groups, params.images - 1u);
    let corner = image * params.positions * units + index % params.groups * params.group_units;
    let abreast = WG / params.group_units;
    let row = lane / params.group_units;
    let column = lane - row * params.group_units;
    // Lanes that are left over read one value and count none.
    let is_busy = row < min(abreast, params.positions);
    let count = select(0u, (params.positions - 1u - row) / abreast + 1u, is_busy);
    let start = corner + select(0u, row, is_busy) * units + column;
    let step = abreast * units;

    let shift = packed(x[start]);
    var sum = packed(0.0);
    var squares = packed(0.0);
    var at = start;
    // Four positions a turn: their loads wait together.
    for (var left = count >> 2u; left > 0u; left--) {
        let a = packed(x[at]) - shift;
        let b = packed(x[at + step]) - shift;
        let c = packed(x[at + 2u * step]) - shift;
        let d = packed(x[at + 3u * step]) - shift;
        sum += (a + b) + (c + d);
        squares += (a * a + b * b) + (c * c + d * d);
        at += 4u * step;
    }
    for (var left = count & 3u; left > 0u; left--) {
        let a = packed(x[at]) - shift;
        sum += a;
        squares += a * a;
        at += step;
    }
    let n = f32(count);
    let share = 1.0 / max(n, 1.0);
    // Means as offsets from one value of the group: large ones would round.
    let origin = max_across(packed(x[corner]));
    let own = (shift - origin) + sum * share;
    let total = f32(params.positions) * f32(params.group_units * WIDTH);
    let offset = reduce_sum(lane, n * sum_across(own)) / total;
    let apart = own - offset;
    let spread = max(squares - sum * sum * share, packed(0.0)) + n * apart * apart;
    let scale = 1.0 / sqrt(reduce_sum(lane, sum_across(spread)) / total + params.eps);
    if (index >= params.images * params.groups) {
        return;
    }

    let channel = index % params.groups * params.group_units + column;
    let slope = scale * weight[channel];
    let level = bias[channel];
    at = start;
    for (var left = count; left > 0u; left--) {
        var v = ((packed(x[at]) - origin) - offset) * slope + level;
        if (is_silu) {
            v = silu(v);
        }
        y[at] = stored(v);
        at += step;
    }
    if (row == 0u) {
        let out = image * 2u * units + channel;
        found[out] = packed(origin + offset);
        found[out + units] = packed(scale);
    }
}
