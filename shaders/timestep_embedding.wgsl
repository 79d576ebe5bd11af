// sin and cos of t * ratio^k, k = 0.. dim / 2: one invocation per value.
// Angles are reckoned in turns and fixed point, so that whole turns fall away exactly: f32 has 24 bits, an angle
// of 1000 would leave 14 behind the point. sin and cos are polynomials: Vulkan lets those of a driver be off by
// 2^-11. Arithmetic of integers throughout, then f32 on an eighth of a turn.
struct Params {
    turns: array<vec4u, 6>,  // t / 2 pi of up to 12 timesteps, pairs (whole, fraction of 2^32)
    ratio_high: u32,         // ratio of neighbouring frequencies, as a fraction of 2^64
    ratio_low: u32,
    count: u32,              // timesteps in use
    first_row: u32,          // rows of y before them
    dim: u32,
    cos_first: u32,          // cos before sin, else sin before cos
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // [timesteps, dim]

@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups) * WG + lane;
    let row = index / params.dim;
    let column = index - row * params.dim;
    if (row >= params.count) {
        return;
    }
    let half = params.dim / 2u;
    let is_second = column >= half;
    let frequency = select(column, column - half, is_second);
    let pairs = params.turns[row / 2u];
    let turns = times_power(select(pairs.xy, pairs.zw, row % 2u == 1u), frequency);
    // cos is sin a quarter of a turn later.
    let is_cos = is_second != (params.cos_first != 0u);
    let value = sin_of_turns(turns.y + select(0u, 0x40000000u, is_cos));
    y[(params.first_row + row) * params.dim + column] = select(value, 0.0, column >= 2u * half);
}

// turns * ratio^exponent by squaring; whatever is below 2^-32 of a turn falls away.
fn times_power(turns: vec2u, exponent: u32) -> vec2u {
    var product = turns;
    var power = vec2u(params.ratio_high, params.ratio_low);
    for (var left = exponent; left > 0u; left >>= 1u) {
        if ((left & 1u) == 1u) {
            product = high_product(product, power);
        }
        power = high_product(power, power);
    }
    return product;
}

// High 64 of the 128 bits of a * b, less than 3 below.
fn high_product(a: vec2u, b: vec2u) -> vec2u {
    let high = wide_product(a.x, b.x);
    let cross = wide_product(a.x, b.y);
    let other = wide_product(a.y, b.x);
    let low = cross.x + other.x;
    let carry = select(0u, 1u, low < cross.x);
    let sum = high.y + low;
    return vec2u(high.x + carry + select(0u, 1u, sum < low), sum);
}

// sin(2 pi * turns / 2^32)
fn sin_of_turns(turns: u32) -> f32 {
    let quarter = (turns + 0x20000000u) >> 30u;
    let rest = bitcast<i32>(turns - (quarter << 30u));
    let a = f32(rest) * 1.4629180792671596e-9;  // 2 pi / 2^32
    let s = a * a;
    // Taylor to a^9 and a^8; |a| <= pi / 4 leaves 2e-9 and 3e-8.
    let sine = a * (1.0 + s * (-1.0 / 6.0 + s * (1.0 / 120.0 + s * (-1.0 / 5040.0 + s / 362880.0))));
    let cosine = 1.0 + s * (-0.5 + s * (1.0 / 24.0 + s * (-1.0 / 720.0 + s / 40320.0)));
    let value = select(sine, cosine, (quarter & 1u) == 1u);
    return select(value, -value, (quarter & 2u) == 2u);
}
