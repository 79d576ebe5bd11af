// Reductions over the WG invocations of a workgroup; every invocation gets the result.
// Call in uniform flow: idle lanes carry the neutral value.
var<workgroup> lanes: array<f32, WG>;

fn reduce_sum(lane: u32, value: f32) -> f32 {
    lanes[lane] = value;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step >>= 1u) {
        if (lane < step) {
            lanes[lane] += lanes[lane + step];
        }
        workgroupBarrier();
    }
    let sum = lanes[0];
    workgroupBarrier();
    return sum;
}

fn reduce_max(lane: u32, value: f32) -> f32 {
    lanes[lane] = value;
    workgroupBarrier();
    for (var step = WG / 2u; step > 0u; step >>= 1u) {
        if (lane < step) {
            let a = lanes[lane];
            let b = lanes[lane + step];
            lanes[lane] = select(b, a, a > b || !(a == a));  // NaN where either is
        }
        workgroupBarrier();
    }
    let largest = lanes[0];
    workgroupBarrier();
    return largest;
}
