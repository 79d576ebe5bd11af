// B in f16: 8 bytes hold 4 columns; unpacking needs no feature.
alias b_stored = vec2<u32>;
fn read_b(at: u32) -> vec4<f32> {
    let halves = b[at];
    return vec4<f32>(unpack2x16float(halves.x), unpack2x16float(halves.y));
}
