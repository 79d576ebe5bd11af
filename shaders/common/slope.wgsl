// Derivatives of the activations in common/activation.wgsl, by the same numbers; with a constant `kind` the driver
// keeps one branch. Far from 0, where each has reached its end, they are taken at 100: nothing overflows on the way.
fn slope_of(kind: u32, v: packed) -> packed {
    switch (kind) {
        case 1u: { return slope_of_silu(v); }
        case 2u: { return slope_of_gelu(v); }
        case 3u: { return slope_of_gelu_tanh(v); }
        case 4u: {
            let b = bounded(v);
            let s = sigmoid(1.702 * b);
            return s + 1.702 * b * s * (1.0 - s);
        }
        case 5u: { return select(packed(0.0), packed(1.0), v > packed(0.0)); }
        case 6u: { return select(exp_of(min(v, packed(0.0))), packed(1.0), v > packed(0.0)); }
        case 7u: {
            let t = tanh_of(v);
            return 1.0 - t * t;
        }
        case 8u: {
            let s = sigmoid(v);
            return s * (1.0 - s);
        }
        default: { return packed(1.0); }
    }
}

fn bounded(v: packed) -> packed {
    return select(v, sign(v) * 100.0, abs(v) > packed(100.0));
}

// s + v s (1 - s) with s = sigmoid(v)
fn slope_of_silu(v: packed) -> packed {
    let b = bounded(v);
    let s = sigmoid(b);
    return s + b * s * (1.0 - s);
}

// Phi(v) + v phi(v) with the normal distribution and its density; Phi from -|v|, where it is half an erfc, and the
// polynomial is that of `gelu`.
fn slope_of_gelu(v: packed) -> packed {
    let a = select(packed(16.0), abs(v), abs(v) < packed(16.0));
    var p = a * 1.9667698e-6 - 2.8921937e-5;
    p = p * a + 1.3612381e-4;
    p = p * a + 2.5913893e-4;
    p = p * a - 7.2255027e-3;
    p = p * a + 5.2610844e-2;
    p = p * a + 0.45916918;
    p = p * a + 1.1511099;
    let tail = 0.5 * exp2(-a * p);
    return select(1.0 - tail, tail, v < packed(0.0)) + v * (0.3989422804 * exp(-0.5 * a * a));  // 1 / sqrt(2 pi)
}

// s + v s (1 - s) 2 u' with s = sigmoid(2 u), u as in `gelu_tanh`
fn slope_of_gelu_tanh(v: packed) -> packed {
    let b = bounded(v);
    let s = sigmoid(1.5957691 * (b + 0.044715 * b * b * b));            // 2 sqrt(2 / pi)
    return s + b * s * (1.0 - s) * 1.5957691 * (1.0 + 0.134145 * b * b);  // 3 * 0.044715
}
