// Activations by number, the codes of `Activation` in src/ops/unary.rs. With a constant `kind` the driver keeps
// one branch. NaN stays NaN: choices, for `max` and `min` may take the number beside it.
fn activate(kind: u32, v: packed) -> packed {
    switch (kind) {
        case 1u: { return silu(v); }
        case 2u: { return gelu(v); }
        case 3u: { return gelu_tanh(v); }
        case 4u: { return v * sigmoid(1.702 * v); }  // quick gelu, as in OpenAI's CLIP
        case 5u: { return select(v, packed(0.0), v < packed(0.0)); }
        case 6u: { return select(exp_of(v) - 1.0, v, v > packed(0.0)); }
        case 7u: { return tanh_of(v); }
        case 8u: { return sigmoid(v); }
        default: { return v; }
    }
}

// exp(v), but for v past 88, where it would leave f32: WGSL leaves that undefined. A choice, not `min`: on software
// adapters that minds NaN and costs twice as much. (exp of our own, by any polynomial, costs more there, too: only
// the driver has fused multiply-adds.)
fn exp_of(v: packed) -> packed {
    return exp(select(v, packed(88.0), v > packed(88.0)));
}

fn sigmoid(v: packed) -> packed {
    return 1.0 / (1.0 + exp_of(-v));
}

fn silu(v: packed) -> packed {
    return v * sigmoid(v);
}

// 0.5 v (1 + erf(v / sqrt 2)) is max(v, 0) - 0.5 |v| erfc(|v| / sqrt 2), where nothing cancels. The polynomial is our
// own minimax fit of -log2 erfc(a / sqrt 2) on [0, 5.6], where it leaves gelu an error of 1e-8; it only grows beyond,
// where erfc is 0 beside v.
fn gelu(v: packed) -> packed {
    let a = select(packed(16.0), abs(v), abs(v) < packed(16.0));
    var p = a * 1.9667698e-6 - 2.8921937e-5;
    p = p * a + 1.3612381e-4;
    p = p * a + 2.5913893e-4;
    p = p * a - 7.2255027e-3;
    p = p * a + 5.2610844e-2;
    p = p * a + 0.45916918;
    p = p * a + 1.1511099;
    return select(v, packed(0.0), v < packed(0.0)) - 0.5 * a * exp2(-a * p);
}

// 0.5 v (1 + tanh u) with u = sqrt(2 / pi) (v + 0.044715 v^3) is v sigmoid(2 u).
fn gelu_tanh(v: packed) -> packed {
    return v * sigmoid(1.5957691 * (v + 0.044715 * v * v * v));  // 2 sqrt(2 / pi)
}

// (1 - t) / (1 + t) with t = exp(-2 |v|); near 0, where that cancels, the series to v^7.
fn tanh_of(v: packed) -> packed {
    let t = exp_of(-2.0 * abs(v));
    let s = v * v;
    let near = v + v * s * ((s * -0.053968254 + 0.13333333) * s - 0.33333333);  // 17 / 315, 2 / 15, 1 / 3
    return select(sign(v) * (1.0 - t) / (1.0 + t), near, abs(v) < packed(0.2));
}
