// Keys whose place in the mask is 0 are hidden from every query.
@group(0) @binding(4) var<storage, read> mask: array<f32>;         // [sets of keys, keys]
@group(0) @binding(5) var<storage, read_write> o: array<element>;  // [.., tokens, heads * width]
fn is_seen(n: u32, key: u32) -> bool {
    return mask[n / params.share * params.keys + min(key, params.keys - 1u)] > 0.5;
}
