// Parts of sums that were cut along k leave as they are, to be added by gemm_sum.wgsl.
alias c_stored = vec4<f32>;  // [slices, m, n / 4]
alias bias_stored = f32;

fn read_bias(row: u32, column: u32) -> vec4<f32> {
    return vec4<f32>();
}

fn write(row: u32, column: u32, v: vec4<f32>) {
    c[row + column / 4u] = v;
}
