// Four elements at once: where the innermost axis is a multiple of 4, or an op does not care about axes.
alias packed = vec4<f32>;     // as they are reckoned with
alias stored = vec4<scalar>;  // as they lie in memory
const WIDTH = 4u;
fn sum_across(v: packed) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn max_across(v: packed) -> f32 {
    let pairs = larger(v, v.zwxy);
    return larger(pairs, pairs.yxwz).x;
}
// NaN where either is: `max` may take the other.
fn larger(a: packed, b: packed) -> packed { return select(b, a, (a > b) | !(a == a)); }
fn moved(v: stored, nothing: u32) -> stored { return v; }
