// Writes four results one by one, the last columns of an odd C left out.
alias c_stored = scalar;
fn write(row: u32, column: u32, v: vec4<f32>) {
    for (var i = 0u; i < 4u && column + i < params.n; i++) {
        let at = row + column + i;
        if ((params.flags & 2u) != 0u) {
            c[at] = c_stored(v[i] + f32(residual[at]));
        } else {
            c[at] = c_stored(v[i]);
        }
    }
}
