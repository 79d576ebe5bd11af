fn activate(kind: u32, v: packed) -> packed {
    if (kind == 5u) { return max(v, packed()); }
    return v;
}
