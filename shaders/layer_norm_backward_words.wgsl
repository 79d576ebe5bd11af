// The way back of LayerNorm (layer_norm_backward.wgsl), a row by the 8 lanes of a subgroup, which keep it and its
// gradient in registers: one pass. An invocation takes CHUNK rows and keeps their sums for weight and bias, too.
// `backward`, a loop over the rows with a line for each unit of eight columns that a lane keeps, is written behind this
// text. Statistics are those of deviations from a value of the row itself.
struct Params {
    rows: u32,
    cols: u32,        // in units of WIDTH
    has_weight: u32,  // else 1
    chunk: u32,       // rows of an invocation
    eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;           // [rows, cols]
@group(0) @binding(2) var<storage, read> dy: array<stored>;          // [rows, cols]
@group(0) @binding(3) var<storage, read> weight: array<words>;       // [cols], or anything
@group(0) @binding(4) var<storage, read_write> dx: array<stored>;    // [rows, cols]
@group(0) @binding(5) var<storage, read_write> parts: array<words>;  // [chunks, (dweight, dbias), cols]

fn weight_at(col: u32) -> Eight {
    if (params.has_weight != 0u) {
        return eight_of(weight[col]);
    }
    return Eight(packed(1.0), packed(1.0));
}

fn minus(v: Eight, shift: f32) -> Eight {
    return Eight(v.even - shift, v.odd - shift);
}

fn plus(a: Eight, b: Eight) -> Eight {
    return Eight(a.even + b.even, a.odd + b.odd);
}

fn scaled(v: Eight, scale: f32) -> Eight {
    return Eight(v.even * scale, v.odd * scale);
}

fn product(a: Eight, b: Eight) -> Eight {
    return Eight(a.even * b.even, a.odd * b.odd);
}

fn sum_of(v: Eight) -> packed {
    return v.even + v.odd;
}

fn dot_of(a: Eight, b: Eight) -> packed {
    return a.even * b.even + a.odd * b.odd;
}

// The mean over a row of what its lanes hold.
fn mean_across(v: packed) -> f32 {
    var sum = (v.x + v.y) + (v.z + v.w);
    sum += subgroupShuffleXor(sum, 1u);
    sum += subgroupShuffleXor(sum, 2u);
    sum += subgroupShuffleXor(sum, 4u);
    return sum / (f32(WIDTH) * f32(params.cols));
}
