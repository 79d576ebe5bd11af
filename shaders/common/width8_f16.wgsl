// As they lie in memory: f16, four to a word.
alias stored = vec2<u64>;

fn opened(v: stored) -> Eight {
    let low = vec2u(v);
    let high = vec2u(v >> vec2u(32u));
    let a = unpack2x16float(low.x);
    let b = unpack2x16float(high.x);
    let c = unpack2x16float(low.y);
    let d = unpack2x16float(high.y);
    return Eight(packed(a.x, b.x, c.x, d.x), packed(a.y, b.y, c.y, d.y));
}

fn closed(v: Eight) -> stored {
    let a = pack2x16float(vec2f(v.even.x, v.odd.x));
    let b = pack2x16float(vec2f(v.even.y, v.odd.y));
    let c = pack2x16float(vec2f(v.even.z, v.odd.z));
    let d = pack2x16float(vec2f(v.even.w, v.odd.w));
    return stored(vec2u(a, c)) | (stored(vec2u(b, d)) << vec2u(32u));
}
