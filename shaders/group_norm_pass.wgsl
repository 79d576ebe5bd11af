// The passes of GroupNorm over x, WIDTH channels to an invocation.
@group(0) @binding(1) var<storage, read> x: array<stored>;             // [images, positions, channels]
@group(0) @binding(2) var<storage, read_write> parts: array<packed>;   // [images, slots, (mean, M2), channels]

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
    let shift = packed(x[place.start]);
    var sum = packed(0.0);
    var squares = packed(0.0);
    var at = place.start;
    // Four positions a turn: turns are dear on software adapters.
    for (var left = place.count >> 2u; left > 0u; left--) {
        let a = packed(x[at]) - shift;
        let b = packed(x[at + step]) - shift;
        let c = packed(x[at + 2u * step]) - shift;
        let d = packed(x[at + 3u * step]) - shift;
        sum += (a + b) + (c + d);
        squares += (a * a + b * b) + (c * c + d * d);
        at += 4u * step;
    }
    for (var left = place.count & 3u; left > 0u; left--) {
        let a = packed(x[at]) - shift;
        sum += a;
        squares += a * a;
        at += step;
    }
    let mean = sum / f32(place.count);
    let slot = place.image * params.slots + params.first_slot + place.chunk;
    let out = slot * 2u * params.units + place.unit;
    parts[out] = shift + mean;
    parts[out + params.units] = max(squares - sum * mean, packed(0.0));
}

@group(0) @binding(2) var<storage, read> folded: array<packed>;        // [images, (mean, scale), channels]
@group(0) @binding(3) var<storage, read> bias: array<packed>;          // [channels]
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
    let mean = folded[row];
    let scale = folded[row + params.units];
    let shift = bias[place.unit];
    var at = place.start;
    for (var left = place.count; left > 0u; left--) {
        var v = (packed(x[at]) - mean) * scale + shift;
        if (is_silu) {
            v = silu(v);
        }
        y[at] = stored(v);
        at += place.step;
    }
}
