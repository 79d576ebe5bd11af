// Standard normal values from a counter: Philox4x32-10 (common/philox.wgsl), then Box-Muller (1958).
// One invocation per block of 4 values. Integers throughout, so that every adapter, and the twin on the host in
// normal.rs, gives the same bits: compilers may fuse and reorder floats, and no two drivers share one logarithm.
// A fixed-point number with b bits behind the point is noted as .b
struct Params {
    blocks: u32,       // of 4 values, in this launch
    first_block: u32,
    seed_low: u32,
    seed_high: u32,
    stream_low: u32,
    stream_high: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4u>;  // [blocks], bits of f32

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group_index(group, groups) * WG + lane;
    if (block >= params.blocks) {
        return;
    }
    // The second word would count blocks past 2^32; a tensor holds fewer than 2^30.
    let counter = vec4u(params.first_block + block, 0u, params.stream_low, params.stream_high);
    let random = philox(counter, vec2u(params.seed_low, params.seed_high));
    y[block] = vec4u(normal_pair(random.x, random.y), normal_pair(random.z, random.w));
}

// Two values, as bits of f32: radius * (cos, sin) of an angle.
fn normal_pair(a: u32, b: u32) -> vec2u {
    let r = radius(a);
    // Angle (b + 1/2) / 2^32 turns, as quarters and a rest of at most an eighth either way.
    let quarter = ((b + 0x20000000u) >> 30u) & 3u;
    let rest = b - (quarter << 30u);
    let is_negative = rest >= 0x80000000u;
    let t = (2u * select(rest, ~rest, is_negative) + 1u) << 2u;  // .32 of pi / 4
    let s = high(t, t);
    // Taylor to t^9 and t^10 of t pi / 4
    let sine = high(t, 0xc90fdaa2u - high(s, 0x14abbce6u - high(s, 0xa335e3u - high(s, 0x265a6u - high(s, 0x542u)))));
    let cosine = ~high(s, 0x4ef4f327u - high(s, 0x40f07c2u - high(s, 0x155d3cu - high(s, 0x3c3fu - high(s, 0x6au)))));
    let is_odd = (quarter & 1u) == 1u;
    let x = float_bits(high(r, select(cosine, sine, is_odd)));
    let y = float_bits(high(r, select(sine, cosine, is_odd)));
    let x_is_negative = select(quarter == 2u, is_negative != (quarter == 1u), is_odd);
    let y_is_negative = select(is_negative != (quarter == 2u), quarter == 3u, is_odd);
    return vec2u(x | select(0u, 0x80000000u, x_is_negative), y | select(0u, 0x80000000u, y_is_negative));
}

// sqrt(-2 ln u), .29, for u = (a + 1/2) / 2^32 below a half, a / 2^32 above; at most 6.8.
fn radius(a: u32) -> u32 {
    // u = x / 2^32 * 2^(-halves / 2) with x / 2^32 from sqrt(1/2) to 1
    let zeros = countLeadingZeros(a);
    var x = select((2u * a + 1u) << ((zeros - 1u) & 31u), a, zeros == 0u);
    var halves = 2u * zeros;
    if (x < 0xb504f334u) {                 // sqrt(1/2)
        x = high(x, 0xb504f334u) << 1u;
        halves += 1u;
    }
    // -ln(1 - g) = g + g^2 p(2 g); p: Chebyshev fit of degree 6, off by 1e-8
    let g = 0u - x;
    let g2 = g << 1u;
    var p = 0x164ba96u;
    p = 0x47397au + high(g2, p);
    p = 0x30b2421u + high(g2, p);
    p = 0x651a1f9u + high(g2, p);
    p = 0x100215bbu + high(g2, p);
    p = 0x2aaa96dau + high(g2, p);
    p = 0x8000001eu + high(g2, p);
    let near = g + high(high(g, g), p);
    // -ln u = halves * ln 2 / 2 + near, as two words, .32
    let far = wide_product(halves, 0x58b90bfcu);
    let low = far.y + near;
    let top = far.x + select(0u, 1u, low < near);
    // As v * 2^(30 - shift), v from 1 to 4, .30, and an odd shift: the root of 2^(31 - shift) is a power of two.
    let n = select(32u + countLeadingZeros(low), countLeadingZeros(top), top > 0u);
    let shift = (n - 1u) | 1u;
    let v = select(low << (shift & 31u), (top << (shift & 31u)) | (low >> ((32u - shift) & 31u)), shift < 32u);
    // 1 / sqrt(v), .31, by Newton from a parabola off by 0.02
    var y = 2822490381u - (high(v, 1682537772u - (high(v, 204438319u) << 2u)) << 1u);
    for (var turn = 0u; turn < 3u; turn++) {
        y = high(y, (0x30000000u - high(v, high(y, y))) << 2u) << 1u;
    }
    return (high(v, y) << 2u) >> ((shift - 27u) / 2u);
}

// The f32 nearest to a .29, by its bits.
fn float_bits(a: u32) -> u32 {
    let zeros = countLeadingZeros(a);
    let ones = a << (zeros & 31u);
    let bits = ((129u - zeros) << 23u) + ((ones >> 8u) & 0x7fffffu) + ((ones >> 7u) & 1u);
    return select(bits, 0u, a == 0u);
}

fn high(a: u32, b: u32) -> u32 {
    return wide_product(a, b).x;
}
