// Writes four results one by one, the last columns of an odd C left out.
alias c_stored = scalar;
alias bias_stored = f32;

fn read_bias(row: u32, column: u32) -> vec4<f32> {
    let begin = row * params.n + column;
    let last = (row + 1u) * params.n - 1u;
    return vec4<f32>(
        bias[begin],
        bias[min(begin + 1u, last)],
        bias[min(begin + 2u, last)],
        bias[min(begin + 3u, last)],
    );
}

fn write(row: u32, column: u32, v: vec4<f32>) {
    for (var i = 0u; i < 4u && column + i < params.n; i++) {
        let at = row + column + i;
        if (RESIDUAL) {
            c[at] = c_stored(v[i] + f32(residual[at]));
        } else {
            c[at] = c_stored(v[i]);
        }
    }
}
