// o = softmax(q k^T * scale) v per head, with a running maximum and sum (online softmax): scores are never stored.
// Method: Milakov and Gimelshein 2018; Dao et al. 2022. The generators (src/ops/attention/) join this with a way of
// reading and with an unrolled product.
//
// Attention n of this launch looks from tokens at q_base(n) + token * q_token to keys at key_at(keys_of(n), key). Both
// are linear in n, so that frames, pixels and shared contexts need no copy:
//   whole:         n is an image, its keys are those of image n / share
//   over frames:   n is (video, pixel), tokens are frames, one image apart
//   sparse causal: n is (video, frame), keys are those of the video's first frame, then of the frame before
struct Params {
    attentions: u32,
    queries: u32,
    keys: u32,
    heads: u32,
    tiles: u32,        // query tiles of one attention and head
    heads_first: u32,  // 1: neighbouring workgroups take the heads of one tile; 0: the tiles of one head
    q_inner: u32,      // attentions that lie q_step apart; then comes the next q_outer
    q_outer: u32,      // strides are in units of a read
    q_step: u32,
    q_token: u32,
    share: u32,        // attentions that share a k_outer
    k_outer: u32,
    k_step: u32,
    k_token: u32,
    split: u32,        // keys before it are the first frame's; equal to keys where there is one piece
    head: u32,         // from one head to the next
    width: u32,        // elements of a head
    causal: u32,       // 1: keys after the query's own place do not count
    scale: f32,        // times log2(e): weights are powers of 2
}
@group(0) @binding(0) var<uniform> params: Params;
// Bindings 1, 2 and 3 are q, k and v; then comes the mask, where there is one, and o.

const LEAST = -1e30;  // below every score; finite, because shaders need not know infinities

// What a workgroup owns: attention n, head, tile of queries. n may lie past the end.
struct Place { n: u32, head: u32, tile: u32 }
fn place_of(at: u32) -> Place {
    let both = params.tiles * params.heads;
    let rest = at % both;
    if (params.heads_first == 1u) { return Place(at / both, rest % params.heads, rest / params.heads); }
    return Place(at / both, rest / params.tiles, rest % params.tiles);
}

fn q_base(n: u32, head: u32) -> u32 {
    return n / params.q_inner * params.q_outer + n % params.q_inner * params.q_step + head * params.head;
}

// Where the keys of attention n would begin if all lay in the first piece, and if all lay in the second.
fn keys_of(n: u32, head: u32) -> vec2<u32> {
    let first = n / params.share * params.k_outer + n % params.q_inner * params.k_step;
    let before = (n - min(n % params.share, 1u)) * params.q_outer - params.split * params.k_token;
    return vec2<u32>(first, before) + head * params.head;
}
fn key_at(keys: vec2<u32>, key: u32) -> u32 {
    return select(keys.x, keys.y, key >= params.split) + key * params.k_token;
}

// The last key that a query sees.
fn last_key(query: u32) -> u32 {
    return select(params.keys - 1u, min(query, params.keys - 1u), params.causal == 1u);
}
