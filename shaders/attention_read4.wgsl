// Four elements of a head at once, where its width is a multiple of 4.
alias element = stored;
fn read_q(base: u32, at: u32) -> vec4<f32> { return vec4<f32>(q[base + at]); }
fn read_k(base: u32, at: u32) -> vec4<f32> { return vec4<f32>(k[base + at]); }
fn read_v(base: u32, at: u32) -> vec4<f32> { return vec4<f32>(v[base + at]); }
fn write_o(base: u32, at: u32, value: vec4<f32>) { o[base + at] = stored(value); }
