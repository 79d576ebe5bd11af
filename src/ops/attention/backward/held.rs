//! Attention's way back over few keys at very many places, as `temporal::held` on the way there: a lane owns a head's part
//! at one place, with all its keys, values and their gradients in registers, and walks over the queries.

use super::super::{lanes, line};
use std::fmt::Write;

/// Invocations of a workgroup.
pub(super) const LANES: u32 = 64;

/// `keys` keys in registers, `split` lanes (up to 8 of a subgroup) to a head of `vectors`, a multiple of `split`.
pub(super) fn held(vectors: u32, keys: u32, split: u32) -> String {
    let own = vectors / split;
    // Past the end a lane does the last one's work, which then is written twice alike.
    let mut w = format!(
        "@compute @workgroup_size({LANES})\n\
         fn backward_held(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
         \x20   @builtin(local_invocation_index) lane: u32) {{\n\
         \x20   let at = min((group_index(group, groups) * {LANES}u + lane) / {split}u, params.sets * params.heads - 1u);\n\
         \x20   let part = lane % {split}u * {own}u;\n\
         \x20   let place = place_of(at, 1u);\n\
         \x20   let q_first = q_base(place);\n\
         \x20   let k_first = k_base(place);\n"
    );
    for j in 0..keys {
        line!(w, "    let base{j} = k_first + {j}u * params.k_token;");
        for d in 0..own {
            line!(
                w,
                "    let k{j}_{d} = read_k(base{j}, part + {d}u);\n\
                 \x20   let v{j}_{d} = read_v(base{j}, part + {d}u);\n\
                 \x20   var a{j}_{d} = vec4<f32>();\n\
                 \x20   var b{j}_{d} = vec4<f32>();"
            );
        }
    }
    line!(
        w,
        "    for (var query = 0u; query < params.queries; query++) {{\n\
         \x20       let q_at = q_first + query * params.q_token;\n\
         \x20       let last = last_key(query);"
    );
    for d in 0..own {
        line!(
            w,
            "        let q{d} = read_q(q_at, part + {d}u);\n        let g{d} = read_g(q_at, part + {d}u);"
        );
    }
    for j in 0..keys {
        for (name, own_side, other) in [("s", "q", "k"), ("t", "g", "v")] {
            let terms: Vec<_> = (0..own).map(|d| format!("dot({own_side}{d}, {other}{j}_{d})")).collect();
            line!(w, "        var {name}{j} = {};", terms.join(" + "));
        }
        lanes::meet_by_shuffles(&mut w, split, &[format!("s{j}"), format!("t{j}")]);
        line!(w, "        s{j} = select(LEAST, s{j} * params.scale, {j}u <= last);");
    }
    let top = (1..keys).fold("s0".to_string(), |top, j| format!("max({top}, s{j})"));
    line!(w, "        let top = {top};");
    for j in 0..keys {
        line!(w, "        var p{j} = exp2(s{j} - top);");
    }
    let all = |term: &dyn Fn(u32) -> String| (0..keys).map(term).collect::<Vec<_>>().join(" + ");
    line!(w, "        let share = 1.0 / ({});", all(&|j| format!("p{j}")));
    for j in 0..keys {
        line!(w, "        p{j} *= share;");
    }
    line!(w, "        let mean = {};", all(&|j| format!("p{j} * t{j}")));
    for j in 0..keys {
        line!(w, "        let e{j} = p{j} * (t{j} - mean) * params.slope;");
    }
    for d in 0..own {
        line!(w, "        write_dq(q_at, part + {d}u, {});", all(&|j| format!("e{j} * k{j}_{d}")));
        for j in 0..keys {
            line!(w, "        a{j}_{d} += e{j} * q{d};\n        b{j}_{d} += p{j} * g{d};");
        }
    }
    line!(w, "    }}");
    for (j, d) in (0..keys).flat_map(|j| (0..own).map(move |d| (j, d))) {
        line!(
            w,
            "    write_dk(base{j}, part + {d}u, a{j}_{d});\n    write_dv(base{j}, part + {d}u, b{j}_{d});"
        );
    }
    line!(w, "}}");
    w
}
