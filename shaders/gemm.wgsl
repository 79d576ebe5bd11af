// C[m, n] = activation(A[m, k] * B[k, n] + bias) + residual, the shared part: what is read, what becomes of a result.
// The generator (src/ops/gemm.rs) joins it with one way of reading A (gemm_rows.wgsl, gemm_image.wgsl) and with the
// unrolled product. k runs over taps outside and channels, in units of 4, inside.
struct Params {
    m: u32,             // rows of this launch
    n: u32,             // columns of C
    taps: u32,
    units: u32,         // channels of one tap / 4, rounded up
    channels: u32,      // channels of one tap
    tiles_m: u32,
    tiles_n: u32,       // panels of this launch
    panel_first: u32,   // column of C where this launch's first panel begins / 4
    a_base: u32,        // first element of A, in units of its reads
    a_stride: u32,      // from one row (pixel) of A to the next, in units of its reads
    c_base: u32,        // first element of C and residual, in units of its writes
    c_stride: u32,      // from one row of C to the next, in units of its writes
    a_batch: u32,       // from one matrix of a batch to the next
    b_batch: u32,
    c_batch: u32,
    row_first: u32,     // row of the whole C where this launch begins, for the bias
    bias_rows: u32,     // rows that share a row of bias
    // images only
    height: u32,
    width: u32,
    out_height: u32,    // rows of output pixels per image in this launch
    out_width: u32,
    kernel_width: u32,
    stride: u32,        // y | x << 16
    pad: u32,           // top | left << 16
    y_first: u32,       // first output row of this launch
    origin: u32,        // first input row of the bound window
    dilation: u32,      // y | x << 16
    count: u32,         // workgroups that have work
    steps: u32,         // of a sum cut along k: turns of the outer loop in one slice
    stack: u32,         // tiles of rows that are taken before the next columns
}
@group(0) @binding(0) var<uniform> params: Params;
// 1 is B and 2 is A, as their readers declare them.
@group(0) @binding(3) var<storage, read> bias: array<bias_stored>;   // [m / bias_rows, n]
@group(0) @binding(4) var<storage, read> residual: array<c_stored>;  // [m, n]
@group(0) @binding(5) var<storage, read_write> c: array<c_stored>;   // [m, n]

// The generator says whether there is a bias (1: one row of it, 2: a row for every bias_rows rows), a RESIDUAL, and
// whether C is several matrices, STACKED, each of c_stride vectors of columns: what a kernel has no use for costs
// nothing.

fn bias_row(row: u32) -> u32 {
    if (BIAS == 1u) {
        return 0u;
    }
    return (params.row_first + row) / params.bias_rows;
}

// Which matrix of C takes a column of B, and as which of its own.
struct Home { matrix: u32, column: u32 }
fn home_of(batch: u32, column: u32) -> Home {
    if (STACKED) {
        let matrix = column / 4u / params.c_stride;
        return Home(matrix, column - matrix * params.c_stride * 4u);
    }
    return Home(batch, column);
}

// Four results of a row, the bias added, from a column within C on.
fn finish(batch: u32, row: u32, column: u32, v: vec4<f32>) {
    write(params.c_base + batch * params.c_batch + row * params.c_stride, column, activation(v));
}

// Four results of a row, from column 4 * column4 of C on; none beyond its last row and column.
fn store(batch: u32, row: u32, column4: u32, sum: vec4<f32>) {
    let column = column4 * 4u;
    if (row >= params.m || column >= params.n) {
        return;
    }
    var v = scaled(column4, sum);
    if (BIAS != 0u) {
        v += read_bias(bias_row(row), column);
    }
    let home = home_of(batch, column);
    finish(home.matrix, row, home.column, v);
}
