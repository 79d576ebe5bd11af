// B in f32: 16 bytes hold 4 columns; panels as in pack.wgsl.
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
fn read_b(at: u32, offset: u32) -> vec4<f32> { return b[at + offset]; }
