// B in f32: 16 bytes hold 4 columns.
alias b_stored = vec4<f32>;
fn read_b(at: u32) -> vec4<f32> { return b[at]; }
