// Four elements of a head at once, in f32 from textures: texel t lies at (t % 4096, t / 4096).
alias element = stored;
@group(0) @binding(1) var q: texture_storage_2d<rgba32float, read>;  // [.., tokens, heads * width]
@group(0) @binding(2) var k: texture_storage_2d<rgba32float, read>;  // [.., keys, heads * width]
@group(0) @binding(3) var v: texture_storage_2d<rgba32float, read>;  // as k
fn read_q(base: u32, at: u32) -> vec4<f32> {
    let i = base + at;
    return textureLoad(q, vec2u(i & 4095u, i >> 12u));
}
fn read_k(base: u32, at: u32) -> vec4<f32> {
    let i = base + at;
    return textureLoad(k, vec2u(i & 4095u, i >> 12u));
}
fn read_v(base: u32, at: u32) -> vec4<f32> {
    let i = base + at;
    return textureLoad(v, vec2u(i & 4095u, i >> 12u));
}
fn write_o(base: u32, at: u32, value: vec4<f32>) { o[base + at] = stored(value); }
