// Writes four results at once, where rows of C are multiples of 4.
alias c_stored = stored;
alias bias_stored = vec4<f32>;

fn read_bias(row: u32, column: u32) -> vec4<f32> {
    return bias[(row * params.n + column) / 4u];
}

fn write(row: u32, column: u32, v: vec4<f32>) {
    let at = row + column / 4u;
    if (RESIDUAL) {
        c[at] = c_stored(v + vec4<f32>(residual[at]));
    } else {
        c[at] = c_stored(v);
    }
}
