// B in f16 in a texture: a texel holds 8 columns, texel t lies at (t % 4096, t / 4096). Panels as in pack.wgsl; one step
// of 4 k lies in one row of texels.
@group(0) @binding(1) var b: texture_storage_2d<rgba32uint, read>;
fn read_b2(at: u32, offset: u32) -> vec4<u32> {
    return textureLoad(b, vec2u((at & 4095u) + offset, at >> 12u));
}
fn lower(halves: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(halves.x), unpack2x16float(halves.y));
}
fn upper(halves: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(halves.z), unpack2x16float(halves.w));
}
