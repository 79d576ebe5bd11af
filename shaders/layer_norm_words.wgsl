// y = (x - mean) / sqrt(var + eps) * weight + bias along the last axis, a row by the 8 lanes of a subgroup, which keep
// it in registers: one pass. An invocation takes BLOCK rows, so that weight and bias are read once for all of them.
// `forward`, a loop over the rows with a line for each UNITS of eight columns that a lane keeps, is written behind
// this text. Statistics are those of deviations from a value of the row itself.
struct Params {
    rows: u32,
    cols: u32,        // in units of WIDTH
    has_weight: u32,  // else 1
    has_bias: u32,    // else 0
    eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;        // [rows, cols]
@group(0) @binding(2) var<storage, read> weight: array<words>;    // [cols], or anything
@group(0) @binding(3) var<storage, read> bias: array<words>;      // [cols], or anything
@group(0) @binding(4) var<storage, read_write> y: array<stored>;  // [rows, cols]

fn weight_at(col: u32) -> Eight {
    if (params.has_weight != 0u) {
        return eight_of(weight[col]);
    }
    return Eight(packed(1.0), packed(1.0));
}

fn bias_at(col: u32) -> Eight {
    if (params.has_bias != 0u) {
        return eight_of(bias[col]);
    }
    return Eight();
}

fn minus(v: Eight, shift: f32) -> Eight {
    return Eight(v.even - shift, v.odd - shift);
}

fn sum_of(v: Eight) -> packed {
    return v.even + v.odd;
}

fn squares_of(v: Eight) -> packed {
    return v.even * v.even + v.odd * v.odd;
}

fn scaled(v: Eight, scale: f32, weight: Eight, bias: Eight) -> Eight {
    return Eight(v.even * scale * weight.even + bias.even, v.odd * scale * weight.odd + bias.odd);
}

// The mean over a row of what its lanes hold.
fn mean_across(v: packed) -> f32 {
    var sum = (v.x + v.y) + (v.z + v.w);
    sum += subgroupShuffleXor(sum, 1u);
    sum += subgroupShuffleXor(sum, 2u);
    sum += subgroupShuffleXor(sum, 4u);
    return sum / (f32(WIDTH) * f32(params.cols));
}
