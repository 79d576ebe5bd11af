// y = x scale where the random word of an element's place is at or above `threshold`, else 0: the same words forward and
// backward, so that nothing is stored. One invocation per block of 4 elements, which share a counter.
struct Params {
    blocks: u32,       // of 4 elements, in this launch
    first_block: u32,
    seed_low: u32,
    seed_high: u32,
    stream_low: u32,
    stream_high: u32,
    threshold: u32,    // p 2^32
    scale: f32,        // 1 / (1 - p)
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<scalar>>;        // [blocks]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<scalar>>;  // [blocks]

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
    let counter = vec4u(params.first_block + block, 0u, params.stream_low, params.stream_high);
    let random = philox(counter, vec2u(params.seed_low, params.seed_high));
    let kept = random >= vec4u(params.threshold);
    y[block] = vec4<scalar>(select(vec4f(0.0), vec4f(x[block]) * params.scale, kept));
}
