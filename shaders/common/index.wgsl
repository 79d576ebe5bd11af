// Workgroups are launched in a folded grid (an axis holds 65,535 at most): place in the unfolded row.
fn group_index(group: vec3u, groups: vec3u) -> u32 {
    return group.x + group.y * groups.x;
}

// floor(n / d) for n and d below 2^31, d above 0. A software adapter divides integers lane by lane, which costs as
// much as moving eight of them: this is a product with the reciprocal in f32 and two corrections. The first guess is
// off by 1 + n / d / 2^21 at most, the second by 1.
fn quotient(n: u32, d: u32) -> u32 {
    let inverse = 1.0 / f32(i32(d));
    var q = i32(f32(i32(n)) * inverse);
    q += i32(floor(f32(i32(n) - q * i32(d)) * inverse));
    let rest = i32(n) - q * i32(d);
    return u32(q + select(0, 1, rest >= i32(d)) - select(0, 1, rest < 0));
}
