// Four random words of a counter: Philox4x32-10 (Salmon et al. 2011). Needs common/wide.wgsl; the twin on the host is in
// src/ops/normal.rs.
fn philox(counter: vec4u, seed: vec2u) -> vec4u {
    var c = counter;
    var key = seed;
    for (var round = 0u; round < 10u; round++) {
        let a = wide_product(0xd2511f53u, c.x);
        let b = wide_product(0xcd9e8d57u, c.z);
        c = vec4u(b.x ^ c.y ^ key.x, b.y, a.x ^ c.w ^ key.y, a.y);
        key += vec2u(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}
