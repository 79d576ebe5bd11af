// B in f32 in a texture: a texel holds 4 columns, texel t lies at (t % 4096, t / 4096). Panels as in pack.wgsl; one step
// of 4 k lies in one row of texels.
@group(0) @binding(1) var b: texture_storage_2d<rgba32float, read>;
fn read_b(at: u32, offset: u32) -> vec4<f32> {
    return textureLoad(b, vec2u((at & 4095u) + offset, at >> 12u));
}
