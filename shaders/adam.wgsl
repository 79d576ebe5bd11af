// One step of Adam or AdamW, one invocation per WIDTH elements.
// m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g g,  p -= lr / c1 * m / (sqrt(v) / c2 + eps)
// with g scaled by a factor from the device (clipping, loss scale). Decay: p is shrunk (AdamW), or g takes it in (Adam).
struct Params {
    units: u32,      // elements in units of WIDTH
    rate: f32,       // lr
    beta1: f32,
    beta2: f32,
    eps: f32,
    decay: f32,
    decoupled: u32,  // 1: AdamW
    c1: f32,         // 1 - beta1^t
    c2: f32,         // sqrt(1 - beta2^t)
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> p: array<packed>;             // [units]
@group(0) @binding(2) var<storage, read> g: array<packed>;             // [units]
@group(0) @binding(3) var<storage, read> m: array<packed>;             // [units]
@group(0) @binding(4) var<storage, read> v: array<packed>;             // [units]
@group(0) @binding(5) var<storage, read> clip: array<f32>;             // [norm, factor]
@group(0) @binding(6) var<storage, read_write> new_p: array<packed>;   // [units]
@group(0) @binding(7) var<storage, read_write> new_m: array<packed>;   // [units]
@group(0) @binding(8) var<storage, read_write> new_v: array<packed>;   // [units]

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
    var value = p[at];
    var gradient = g[at] * clip[1];
    if (params.decoupled == 1u) {
        value -= params.rate * params.decay * value;
    } else {
        gradient += params.decay * value;
    }
    let first = params.beta1 * m[at] + (1.0 - params.beta1) * gradient;
    let second = params.beta2 * v[at] + (1.0 - params.beta2) * gradient * gradient;
    new_m[at] = first;
    new_v[at] = second;
    new_p[at] = value - params.rate / params.c1 * first / (sqrt(second) / params.c2 + params.eps);
}
