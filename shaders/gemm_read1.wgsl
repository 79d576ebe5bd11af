// Reads 4 channels one by one, 0 beyond the last.
@group(0) @binding(2) var<storage, read> a: array<scalar>;
struct Place { base: u32, inside: bool }

fn read_a(place: Place, unit: u32) -> vec4<f32> {
    let first = unit * 4u;
    let last = params.channels - 1u;
    let v = vec4<f32>(
        f32(a[place.base + first]),
        f32(a[place.base + min(first + 1u, last)]),
        f32(a[place.base + min(first + 2u, last)]),
        f32(a[place.base + min(first + 3u, last)]),
    );
    let there = vec4<bool>(true, first + 1u <= last, first + 2u <= last, first + 3u <= last);
    return select(vec4<f32>(), v, there & vec4<bool>(place.inside));
}
