// The passes of GroupNorm over x, eight channels to an invocation as 64-bit words (common/width8.wgsl).
@group(0) @binding(1) var<storage, read> x: array<stored>;            // [images, positions, channels]
@group(0) @binding(2) var<storage, read_write> parts: array<words>;   // [images, slots, (mean, M2), channels]

@compute @workgroup_size(WG)
fn statistics(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(group_index(group, groups) * WG + lane);
    if (place.image >= params.images) {
        return;
    }
    let step = place.step;
    let shift = opened(x[place.start]);
    var sum = Eight();
    var squares = Eight();
    var at = place.start;
    // Four positions a turn: turns are dear on software adapters.
    for (var left = place.count >> 2u; left > 0u; left--) {
        let a = deviation(shift, at);
        let b = deviation(shift, at + step);
        let c = deviation(shift, at + 2u * step);
        let d = deviation(shift, at + 3u * step);
        sum.even += (a.even + b.even) + (c.even + d.even);
        sum.odd += (a.odd + b.odd) + (c.odd + d.odd);
        squares.even += (a.even * a.even + b.even * b.even) + (c.even * c.even + d.even * d.even);
        squares.odd += (a.odd * a.odd + b.odd * b.odd) + (c.odd * c.odd + d.odd * d.odd);
        at += 4u * step;
    }
    for (var left = place.count & 3u; left > 0u; left--) {
        let a = deviation(shift, at);
        sum.even += a.even;
        sum.odd += a.odd;
        squares.even += a.even * a.even;
        squares.odd += a.odd * a.odd;
        at += step;
    }
    let share = 1.0 / f32(place.count);
    let mean = Eight(sum.even * share, sum.odd * share);
    let m2 = Eight(
        max(squares.even - sum.even * mean.even, packed(0.0)),
        max(squares.odd - sum.odd * mean.odd, packed(0.0)),
    );
    let slot = place.image * params.slots + params.first_slot + place.chunk;
    let out = slot * 2u * params.units + place.unit;
    parts[out] = words_of(Eight(shift.even + mean.even, shift.odd + mean.odd));
    parts[out + params.units] = words_of(m2);
}

// Deviations from `shift`.
fn deviation(shift: Eight, at: u32) -> Eight {
    let v = opened(x[at]);
    return Eight(v.even - shift.even, v.odd - shift.odd);
}

@group(0) @binding(1) var<storage, read> apart: array<words>;          // [images, slots, (mean, M2), channels]
@group(0) @binding(2) var<storage, read_write> joined: array<words>;   // [images, blocks, (mean, M2), channels]

// The chunks of each block as one, so that the merge has less to walk; one invocation per block and WIDTH channels.
@compute @workgroup_size(WG)
fn join(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups) * WG + lane;
    let row = index / params.units;
    let blocks = (params.slots + params.stride - 1u) / params.stride;
    let image = row / blocks;
    if (image >= params.images) {
        return;
    }
    let first = (row - image * blocks) * params.stride;
    let step = 2u * params.units;
    var at = (image * params.slots + first) * step + index - row * params.units;
    let shift = eight_of(apart[at]);
    var total = 0.0;
    var sum = Eight();
    var squares = Eight();
    for (var slot = first; slot < min(first + params.stride, params.slots); slot++) {
        let count = count_of(slot);
        let mean = eight_of(apart[at]);
        let m2 = eight_of(apart[at + params.units]);
        let even = mean.even - shift.even;
        let odd = mean.odd - shift.odd;
        total += count;
        sum.even += count * even;
        sum.odd += count * odd;
        squares.even += m2.even + count * even * even;
        squares.odd += m2.odd + count * odd * odd;
        at += step;
    }
    let mean = Eight(sum.even / total, sum.odd / total);
    let m2 = Eight(
        max(squares.even - sum.even * mean.even, packed(0.0)),
        max(squares.odd - sum.odd * mean.odd, packed(0.0)),
    );
    let out = row * step + index - row * params.units;
    joined[out] = words_of(Eight(shift.even + mean.even, shift.odd + mean.odd));
    joined[out + params.units] = words_of(m2);
}

@group(0) @binding(2) var<storage, read> folded: array<words>;         // [images, (mean, scale), channels]
@group(0) @binding(3) var<storage, read> bias: array<words>;           // [channels]
@group(0) @binding(4) var<storage, read_write> y: array<stored>;       // [images, positions, channels]

@compute @workgroup_size(WG)
fn normalise(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    normalise_place(group_index(group, groups) * WG + lane, false);
}

@compute @workgroup_size(WG)
fn normalise_silu(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    normalise_place(group_index(group, groups) * WG + lane, true);
}

// Writes the positions of one invocation; `is_silu` is a constant at both calls.
fn normalise_place(index: u32, is_silu: bool) {
    let place = place_of(index);
    if (place.image >= params.images) {
        return;
    }
    let row = place.image * 2u * params.units + place.unit;
    let mean = eight_of(folded[row]);
    let scale = eight_of(folded[row + params.units]);
    let shift = eight_of(bias[place.unit]);
    var at = place.start;
    for (var left = place.count; left > 0u; left--) {
        var v = opened(x[at]);
        v.even = (v.even - mean.even) * scale.even + shift.even;
        v.odd = (v.odd - mean.odd) * scale.odd + shift.odd;
        if (is_silu) {
            v.even = silu(v.even);
            v.odd = silu(v.odd);
        }
        y[at] = closed(v);
        at += place.step;
    }
}
