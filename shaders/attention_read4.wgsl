// Four elements of a head at once, where its width is a multiple of 4.
alias element = stored;
@group(0) @binding(1) var<storage, read> q: array<element>;  // [.., tokens, heads * width]
@group(0) @binding(2) var<storage, read> k: array<element>;  // [.., keys, heads * width]
@group(0) @binding(3) var<storage, read> v: array<element>;  // as k
fn read_q(base: u32, at: u32) -> vec4<f32> { return vec4<f32>(q[base + at]); }
fn read_k(base: u32, at: u32) -> vec4<f32> { return vec4<f32>(k[base + at]); }
fn read_v(base: u32, at: u32) -> vec4<f32> { return vec4<f32>(v[base + at]); }
fn write_o(base: u32, at: u32, value: vec4<f32>) { o[base + at] = stored(value); }
