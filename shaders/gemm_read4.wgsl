// Reads 4 channels at once, where the channels of a tap are a multiple of 4.
@group(0) @binding(2) var<storage, read> a: array<stored>;
struct Place { base: u32, inside: bool }

fn read_a(place: Place, unit: u32) -> vec4<f32> {
    return select(vec4<f32>(), vec4<f32>(a[place.base + unit]), place.inside);
}
