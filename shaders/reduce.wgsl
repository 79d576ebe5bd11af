// Sums or maxima over the middle of [n, cols, inner], KIND chosen by a constant written before this text. The
// middle is cut into chunks, each reduced to one value in f32; the host repeats until one chunk is left.
// `rows` (inner is 1): a workgroup per row and chunk, lanes stride over it in units of WIDTH.
// `columns`: an invocation per row, chunk and unit of WIDTH inner elements.
struct Params {
    n: u32,
    cols: u32,      // of this launch; in units of WIDTH in `rows`
    inner: u32,     // in units of WIDTH; unused in `rows`
    chunk: u32,     // cols of one chunk, but for the last
    chunks: u32,    // of this launch
    row_step: u32,  // units of x from row to row
    x_start: u32,   // in units of WIDTH
    y_step: u32,    // units of y from row to row
    y_start: u32,   // in units of WIDTH; in `rows` of 1
    scale: f32,     // of the result: 1 / count makes a mean of the last sum
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<stored>;             // [n, cols, inner]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;          // [n, chunks], rows
@group(0) @binding(2) var<storage, read_write> y_units: array<packed>; // [n, chunks, inner], columns

@compute @workgroup_size(WG)
fn rows(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups);
    let row = index / params.chunks;
    let chunk = index % params.chunks;
    let start = params.x_start + min(row, params.n - 1u) * params.row_step;
    let first = chunk * params.chunk;
    let end = min(first + params.chunk, params.cols);
    var result = neutral(packed(x[start + first]));
    for (var col = first + lane; col < end; col += WG) {
        result = both(result, packed(x[start + col]));
    }
    var whole: f32;
    if (KIND == 0u) {
        whole = reduce_sum(lane, sum_across(result));
    } else {
        whole = reduce_max(lane, max_across(result));
    }
    if (row < params.n && lane == 0u) {
        y[params.y_start + row * params.y_step + chunk] = whole * params.scale;
    }
}

@compute @workgroup_size(WG)
fn columns(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups) * WG + lane;
    let unit = index % params.inner;
    let chunk = index / params.inner % params.chunks;
    let row = index / params.inner / params.chunks;
    if (row < params.n) {
        let start = params.x_start + row * params.row_step + unit;
        let first = chunk * params.chunk;
        let end = min(first + params.chunk, params.cols);
        var result = neutral(packed(x[start + first * params.inner]));
        for (var col = first; col < end; col++) {
            result = both(result, packed(x[start + col * params.inner]));
        }
        y_units[params.y_start + row * params.y_step + chunk * params.inner + unit] = result * params.scale;
    }
}

// What changes nothing: 0 in a sum, any of the values in a maximum.
fn neutral(some: packed) -> packed {
    if (KIND == 0u) {
        return packed(0.0);
    }
    return some;
}

fn both(a: packed, b: packed) -> packed {
    if (KIND == 0u) {
        return a + b;
    }
    return larger(a, b);
}
