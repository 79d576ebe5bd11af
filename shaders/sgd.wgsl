// One step of SGD with momentum, one invocation per WIDTH elements.
// g += decay p,  b = momentum b + g,  p -= lr b   (nesterov: p -= lr (g + momentum b))
// with g scaled by a factor from the device (clipping, loss scale).
struct Params {
    units: u32,     // elements in units of WIDTH
    rate: f32,      // lr
    momentum: f32,
    decay: f32,
    nesterov: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> p: array<packed>;            // [units]
@group(0) @binding(2) var<storage, read> g: array<packed>;            // [units]
@group(0) @binding(3) var<storage, read> b: array<packed>;            // [units]
@group(0) @binding(4) var<storage, read> clip: array<f32>;            // [norm, factor]
@group(0) @binding(5) var<storage, read_write> new_p: array<packed>;  // [units]
@group(0) @binding(6) var<storage, read_write> new_b: array<packed>;  // [units]

@compute @workgroup_size(WG)
fn step(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * WG + lane;
    if (at >= params.units) {
        return;
    }
    let value = p[at];
    let gradient = g[at] * clip[1] + params.decay * value;
    let buffer = params.momentum * b[at] + gradient;
    new_b[at] = buffer;
    new_p[at] = value - params.rate * select(buffer, gradient + params.momentum * buffer, params.nesterov == 1u);
}
