// One element at a time: where the innermost axis is not a multiple of 4.
alias packed = f32;     // as they are reckoned with
alias stored = scalar;  // as they lie in memory
const WIDTH = 1u;
fn sum_across(v: packed) -> f32 { return v; }
fn max_across(v: packed) -> f32 { return v; }
// NaN where either is: `max` may take the other.
fn larger(a: packed, b: packed) -> packed { return select(b, a, a > b || !(a == a)); }
fn moved(v: stored, nothing: u32) -> stored { return v; }
