//! Attention of single queries, as in decoding text: lanes are keys. Each has its own running softmax over every
//! `lanes`-th key; at the end they are merged in workgroup memory.

use super::line;
use std::fmt::Write;

/// Vectors that are merged at once.
const AT_ONCE: u32 = 4;

/// Heads of `vectors` x 4 elements, `lanes` invocations, a power of two of at least 8, to a query; `masked` hides some
/// keys.
pub(super) fn product(vectors: u32, lanes: u32, masked: bool) -> String {
    let mut w = format!(
        "var<workgroup> tops: array<f32, {lanes}>;\n\
         var<workgroup> sums: array<f32, {lanes}>;\n\
         var<workgroup> parts: array<vec4<f32>, {}>;  // [{lanes} lanes, {AT_ONCE}]\n\
         @compute @workgroup_size({lanes})\n\
         fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
         \x20   @builtin(local_invocation_index) lane: u32) {{\n\
         \x20   let place = place_of(group_index(group, groups));\n\
         \x20   let n = min(place.n, params.attentions - 1u);\n\
         \x20   let keys = keys_of(n, place.head);\n\
         \x20   let q_at = q_base(n, place.head) + place.tile * params.q_token;\n\
         \x20   let last = last_key(place.tile);\n\
         \x20   var m = LEAST; var l = 0.0;\n",
        AT_ONCE * lanes
    );
    for d in 0..vectors {
        line!(w, "    let q{d} = read_q(q_at, {d}u) * params.scale; var o{d} = vec4<f32>();");
    }
    // Two keys per turn, so that what a turn carries on costs half; the second may be no key at all.
    line!(w, "    for (var key = lane; key <= last; key += {}u) {{", 2 * lanes);
    line!(w, "        let base0 = key_at(keys, key); let base1 = key_at(keys, min(key + {lanes}u, last));");
    for j in 0..2 {
        let terms: Vec<_> = (0..vectors).map(|d| format!("dot(q{d}, read_k(base{j}, {d}u))")).collect();
        let score = terms.join(" + ");
        match masked {
            // A key past the last one is read as the last, and is no key either.
            true => line!(
                w,
                "        let s{j} = select(LEAST, {score}, key + {0}u <= last && is_seen(n, key + {0}u));",
                j * lanes
            ),
            false => line!(w, "        let s{j} = {score};"),
        }
    }
    line!(
        w,
        "        let top = max(m, max(s0, s1));\n\
         \x20       let shrink = exp2(m - top); m = top;\n\
         \x20       let p0 = exp2(s0 - top);\n\
         \x20       let p1 = select(0.0, exp2(s1 - top), key + {lanes}u <= last);\n\
         \x20       l = l * shrink + (p0 + p1);"
    );
    for d in 0..vectors {
        line!(w, "        o{d} = o{d} * shrink + p0 * read_v(base0, {d}u) + p1 * read_v(base1, {d}u);");
    }
    line!(
        w,
        "    }}\n\
         \x20   tops[lane] = m;\n\
         \x20   workgroupBarrier();\n\
         \x20   var top = tops[0];\n\
         \x20   for (var i = 1u; i < {lanes}u; i++) {{ top = max(top, tops[i]); }}\n\
         \x20   let shrink = exp2(m - top);\n\
         \x20   sums[lane] = l * shrink;"
    );
    for first in (0..vectors).step_by(AT_ONCE as usize) {
        let count = AT_ONCE.min(vectors - first);
        for i in 0..count {
            line!(w, "    parts[lane * {AT_ONCE}u + {i}u] = o{} * shrink;", first + i);
        }
        line!(
            w,
            "    workgroupBarrier();\n\
             \x20   for (var step = {}u; step > 0u; step >>= 1u) {{\n\
             \x20       if (lane < step) {{",
            lanes / 2
        );
        for i in 0..count {
            line!(
                w,
                "            parts[lane * {AT_ONCE}u + {i}u] += parts[(lane + step) * {AT_ONCE}u + {i}u];"
            );
        }
        if first == 0 {
            line!(w, "            sums[lane] += sums[lane + step];");
        }
        line!(
            w,
            "        }}\n        workgroupBarrier();\n    }}\n\
             \x20   if (lane < {count}u && place.n < params.attentions) {{\n\
             \x20       write_o(q_at, {first}u + lane, parts[lane] * ({}));\n    }}\n\
             \x20   workgroupBarrier();",
            super::masked::share("sums[0]", "top", masked)
        );
    }
    line!(w, "}}");
    w
}
