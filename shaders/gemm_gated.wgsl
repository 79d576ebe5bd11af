// Gated results: values times the gelu of their gates. The bias holds those of the n values first, then their gates'.

fn gated(value: vec4<f32>, gate: vec4<f32>) -> vec4<f32> {
    return value * gelu(gate);
}

// As `store`, of four values and their gates.
fn store_gated(batch: u32, row: u32, column4: u32, value: vec4<f32>, gate: vec4<f32>) {
    let column = column4 * 4u;
    if (row >= params.m || column >= params.n) {
        return;
    }
    if (BIAS != 0u) {
        finish(batch, row, column, gated(value + read_bias(0u, column), gate + read_bias(0u, params.n + column)));
    } else {
        finish(batch, row, column, gated(value, gate));
    }
}
