// Reads 4 channels at once from a texture of A, texel t at (t % 4096, t / 4096).
@group(0) @binding(2) var a: texture_storage_2d<rgba32float, read>;
struct Place { base: u32, inside: bool }

fn read_a(place: Place, unit: u32) -> vec4<f32> {
    let at = place.base + unit;
    return select(vec4<f32>(), textureLoad(a, vec2u(at & 4095u, at >> 12u)), place.inside);
}
