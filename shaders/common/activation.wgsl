// Activations by number, the codes of `Activation` in src/ops/unary.rs. With a constant `kind` the driver keeps
// one branch. Exponents are clamped: past +-88 exp leaves f32, which WGSL leaves undefined.
fn activate(kind: u32, v: packed) -> packed {
    switch (kind) {
        case 1u: { return silu(v); }
        case 2u: { return gelu(v); }
        case 3u: { return gelu_tanh(v); }
        case 4u: { return v * sigmoid(1.702 * v); }  // quick gelu, as in OpenAI's CLIP
        case 5u: { return max(v, packed(0.0)); }
        case 6u: { return select(exp(max(min(v, packed(0.0)), packed(-88.0))) - 1.0, v, v > packed(0.0)); }
        case 7u: { return tanh_clamped(v); }
        case 8u: { return sigmoid(v); }
        default: { return v; }
    }
}

fn sigmoid(v: packed) -> packed {
    return 1.0 / (1.0 + exp(-clamp(v, packed(-88.0), packed(88.0))));
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

// Metal's fast tanh gives NaN for large arguments; beyond +-10 it is +-1 in f32 anyhow.
fn tanh_clamped(v: packed) -> packed {
    return tanh(clamp(v, packed(-10.0), packed(10.0)));
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
    far = 1.0 - exp(-(far * t + 3.5366259e-4));
    return sign(v) * select(far, near, t < packed(1.0));
}
