// B in signed bytes: a word holds 4 columns, 127 is 1; factors of the columns stand behind the panels. Panels as in
// pack.wgsl.
@group(0) @binding(1) var<storage, read> b: array<u32>;
fn read_b(at: u32, offset: u32) -> vec4<f32> { return unpack4x8snorm(b[at + offset]); }

// Factors of four columns, which stand from `at` on.
fn factors(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(b[at], b[at + 1u], b[at + 2u], b[at + 3u]));
}
