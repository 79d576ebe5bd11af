// Activations by number, the codes of `Activation` in src/ops/unary.rs. With a constant `kind` the driver keeps
// one branch.
fn activate(kind: u32, v: packed) -> packed {
    switch (kind) {
        case 1u: { return silu(v); }
        case 2u: { return gelu(v); }
        case 3u: { return gelu_tanh(v); }
        case 4u: { return v * sigmoid(1.702 * v); }  // quick gelu, as in OpenAI's CLIP
        case 5u: { return max(v, packed(0.0)); }
        case 6u: { return select(exp_of(min(v, packed(0.0))) - 1.0, v, v > packed(0.0)); }
        case 7u: { return tanh_of(v); }
        case 8u: { return sigmoid(v); }
        default: { return v; }
    }
}

// exp(v), but for v past 88, where it would leave f32: WGSL leaves that undefined. A choice, not `min`: on software
// adapters that minds NaN and costs twice as much. (exp of our own, by any polynomial, costs more there, too: only
// the driver has fused multiply-adds.)
fn exp_of(v: packed) -> packed {
    return exp(select(packed(88.0), v, v < packed(88.0)));
}

fn sigmoid(v: packed) -> packed {
    return 1.0 / (1.0 + exp_of(-v));
}

fn silu(v: packed) -> packed {
    return v * sigmoid(v);
}

fn gelu(v: packed) -> packed {
    return 0.5 * v * (1.0 + erf(v * 0.70710678));  // sqrt(1 / 2)
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

// Within 1.3e-7 of erf, rounding included. Both polynomials are our own weighted minimax fits:
// erf(t) / t in t^2 on [0, 1], and -ln(1 - erf(t)) in t on [1, 4]; beyond 4 erf is 1 in f32.
fn erf(v: packed) -> packed {
    let t = min(abs(v), packed(4.0));
    let s = t * t;
    var near = s * 7.8891026e-5 - 8.0208364e-4;
    near = near * s + 5.1895347e-3;
    near = near * s - 2.6854444e-2;
    near = near * s + 0.112836;
    near = near * s - 0.37612626;
    near = (near * s + 1.1283791) * t;
    var far = t * -1.8557870e-4 + 2.9396522e-3;
    far = far * t - 2.1805493e-2;
    far = far * t + 0.10303772;
    far = far * t + 0.63822526;
    far = far * t + 1.1270403;
    far = 1.0 - exp_of(-(far * t + 3.5366259e-4));
    return sign(v) * select(far, near, t < packed(1.0));
}
