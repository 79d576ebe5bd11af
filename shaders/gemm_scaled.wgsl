// Sums of four columns times their factors; column4 counts from C's first column, in fours.
fn scaled(column4: u32, v: vec4<f32>) -> vec4<f32> {
    return v * factors(params.b_batch + 4u * (column4 - params.panel_first));
}
