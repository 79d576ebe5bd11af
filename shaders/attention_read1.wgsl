// Four elements of a head one by one, 0 beyond its width.
alias element = scalar;
@group(0) @binding(1) var<storage, read> q: array<element>;  // [.., tokens, heads * width]
@group(0) @binding(2) var<storage, read> k: array<element>;  // [.., keys, heads * width]
@group(0) @binding(3) var<storage, read> v: array<element>;  // as k
fn kept(at: u32, v: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), v, vec4<u32>(0u, 1u, 2u, 3u) + 4u * at < vec4<u32>(params.width));
}
fn read_q(base: u32, at: u32) -> vec4<f32> {
    let i = base + 4u * at;
    let last = base + params.width - 1u;
    return kept(at, vec4<f32>(f32(q[i]), f32(q[min(i + 1u, last)]), f32(q[min(i + 2u, last)]), f32(q[min(i + 3u, last)])));
}
fn read_k(base: u32, at: u32) -> vec4<f32> {
    let i = base + 4u * at;
    let last = base + params.width - 1u;
    return kept(at, vec4<f32>(f32(k[i]), f32(k[min(i + 1u, last)]), f32(k[min(i + 2u, last)]), f32(k[min(i + 3u, last)])));
}
fn read_v(base: u32, at: u32) -> vec4<f32> {
    let i = base + 4u * at;
    let last = base + params.width - 1u;
    return kept(at, vec4<f32>(f32(v[i]), f32(v[min(i + 1u, last)]), f32(v[min(i + 2u, last)]), f32(v[min(i + 3u, last)])));
}
fn write_o(base: u32, at: u32, value: vec4<f32>) {
    for (var i = 0u; i < 4u && 4u * at + i < params.width; i++) {
        o[base + 4u * at + i] = scalar(value[i]);
    }
}
