// Four elements at once: where the innermost axis is a multiple of 4, or an op does not care about axes.
alias packed = vec4<f32>;     // as they are reckoned with
alias stored = vec4<scalar>;  // as they lie in memory
const WIDTH = 4u;
fn sum_across(v: packed) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn max_across(v: packed) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn moved(v: stored, nothing: u32) -> stored { return v; }
