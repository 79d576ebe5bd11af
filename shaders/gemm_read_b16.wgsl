// B in f16: 8 bytes hold 4 columns; unpacking needs no feature. Panels as in pack.wgsl.
@group(0) @binding(1) var<storage, read> b: array<vec2<u32>>;
fn read_b(at: u32, offset: u32) -> vec4<f32> {
    let halves = b[at + offset];
    return vec4<f32>(unpack2x16float(halves.x), unpack2x16float(halves.y));
}
