// The way back of attention (attention.wgsl). With s = q k^T * scale, p = softmax(s), o = p v, g the gradient of o:
//   dv = p^T g    t = g v^T    e = p (t - sum over keys of p t)    dq = scale e k    dk = scale e^T q
// Scores are found again piece by piece, never stored. Method: Dao 2023 (FlashAttention-2), but dq and dk, dv come from
// two kernels, one over queries and one over keys, so that nothing is added into memory by several at once:
//   backward_queries  rows are queries, tokens are keys: a running softmax, dq, and for each query the logarithm of its
//                     sum and sum p t, which is g o
//   backward_keys     rows are keys, tokens are queries: dk and dv, in slices of the queries
//   backward_held     few keys at many places: all of it by one invocation, with the keys in registers
// The generators (src/ops/attention/backward/) join this with readers, writers and an unrolled product.
//
// A set is what shares its keys: an image of keys with the queries of all images that look at them, or a pixel over the
// frames of its video, whose tokens lie an image apart.
struct Params {
    sets: u32,
    queries: u32,  // of a set
    keys: u32,     // of a set
    heads: u32,
    tiles: u32,    // of the rows of one set and head
    slices: u32,   // of the queries of a set
    slice: u32,    // queries of a slice
    inner: u32,    // sets that lie `step` apart; then come the next q_outer and k_outer
    q_outer: u32,  // strides are in units of a read
    k_outer: u32,
    step: u32,
    q_token: u32,
    k_token: u32,
    dk_slice: u32, // from one slice of dk and dv to the next
    head: u32,     // from one head to the next
    width: u32,    // elements of a head
    causal: u32,   // 1: keys after the query's own place do not count
    scale: f32,    // times log2(e): weights are powers of 2
    slope: f32,    // the scale itself
}
@group(0) @binding(0) var<uniform> params: Params;

const LEAST = -1e30;  // below every score; finite, because shaders need not know infinities

// What a row, or a tile of rows, belongs to. The slice may lie past the end.
struct Place { slice: u32, n: u32, head: u32, row: u32 }
fn place_of(at: u32, rows: u32) -> Place {
    let head = at / rows;
    let n = head / params.heads;
    return Place(n / params.sets, n % params.sets, head % params.heads, at % rows);
}

fn q_base(place: Place) -> u32 {
    let n = place.n;
    return n / params.inner * params.q_outer + n % params.inner * params.step + place.head * params.head;
}
fn k_base(place: Place) -> u32 {
    let n = place.n;
    return n / params.inner * params.k_outer + n % params.inner * params.step + place.head * params.head;
}

// The last key that a query sees.
fn last_key(query: u32) -> u32 {
    return select(params.keys - 1u, min(query, params.keys - 1u), params.causal == 1u);
}

// Where what is known of the queries of a set and head begins.
fn found_base(place: Place) -> u32 {
    return (place.n * params.heads + place.head) * params.queries;
}

// What of four elements of a head lies within its width, 0 beyond.
fn kept(at: u32, v: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), v, vec4<u32>(0u, 1u, 2u, 3u) + 4u * at < vec4<u32>(params.width));
}
