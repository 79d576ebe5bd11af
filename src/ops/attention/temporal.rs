//! Attention over few keys at very many places: the frames of every pixel. Every value is read once and used little,
//! so that reading is all; neighbouring lanes read neighbouring memory.
//!
//! `held`: a lane owns a head's part at one place, with all its keys and values in registers, and walks over the
//! queries; parts are summed by shuffles. `walked`: a lane owns a query's part and walks over the keys, which the lanes
//! beside it read at the same time.

use super::lanes::{self, Meeting};
use super::line;
use std::fmt::Write;

/// Most keys that are held in registers.
pub(super) const MOST_HELD: usize = 8;
/// Most keys and queries that are walked this way.
pub(super) const MOST_WALKED: usize = 32;
/// Invocations of a workgroup.
pub(super) const LANES: u32 = 64;

/// Lanes that share a head where keys are held: at least four vectors each.
pub(super) fn held_split(vectors: u32) -> u32 {
    [8, 4, 2].into_iter().find(|split| vectors.is_multiple_of(*split) && vectors / split >= 4).unwrap_or(1)
}

/// Which attention, head and part a lane owns; past the end the last one's, which then is written twice alike.
fn place(split: u32, own: u32, rows: &str) -> String {
    format!(
        "@compute @workgroup_size({LANES})\n\
         fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
         \x20   @builtin(local_invocation_index) lane: u32) {{\n\
         \x20   let at = group_index(group, groups) * {LANES}u + lane;\n\
         \x20   let part = at % {split}u * {own}u;\n{rows}\
         \x20   let keys = keys_of(n, head);\n\
         \x20   let q_first = q_base(n, head);\n"
    )
}

/// `keys` keys in registers, `split` lanes (up to 8 of a subgroup) to a head of `vectors`, a multiple of `split`.
pub(super) fn held(vectors: u32, keys: u32, split: u32) -> String {
    let own = vectors / split;
    let rows = format!(
        "    let head = at / {split}u % params.heads;\n\
         \x20   let n = min(at / ({split}u * params.heads), params.attentions - 1u);\n"
    );
    let mut w = place(split, own, &rows);
    for j in 0..keys {
        line!(w, "    let base{j} = key_at(keys, {j}u);");
        for d in 0..own {
            line!(w, "    let k{j}_{d} = read_k(base{j}, part + {d}u);");
        }
        for d in 0..own {
            line!(w, "    let v{j}_{d} = read_v(base{j}, part + {d}u);");
        }
    }
    line!(
        w,
        "    for (var query = 0u; query < params.queries; query++) {{\n\
         \x20       let q_at = q_first + query * params.q_token;\n\
         \x20       let last = last_key(query);"
    );
    for d in 0..own {
        line!(w, "        let q{d} = read_q(q_at, part + {d}u) * params.scale;");
    }
    for j in 0..keys {
        let terms: Vec<_> = (0..own).map(|d| format!("dot(q{d}, k{j}_{d})")).collect();
        line!(w, "        var s{j} = {};", terms.join(" + "));
        lanes::meet_by_shuffles(&mut w, split, &[format!("s{j}")]);
        line!(w, "        s{j} = select(LEAST, s{j}, {j}u <= last);");
    }
    let top = (1..keys).fold("s0".to_string(), |top, j| format!("max({top}, s{j})"));
    line!(w, "        let top = {top};");
    for j in 0..keys {
        line!(w, "        let p{j} = exp2(s{j} - top);");
    }
    let sum: Vec<_> = (0..keys).map(|j| format!("p{j}")).collect();
    line!(w, "        let share = 1.0 / ({});", sum.join(" + "));
    for d in 0..own {
        let terms: Vec<_> = (0..keys).map(|j| format!("p{j} * v{j}_{d}")).collect();
        line!(w, "        write_o(q_at, part + {d}u, ({}) * share);", terms.join(" + "));
    }
    line!(w, "    }}\n}}");
    w
}

/// A running softmax over the keys, `split` lanes to a query.
pub(super) fn walked(vectors: u32, split: u32, meeting: Meeting) -> String {
    let own = vectors.div_ceil(split);
    let rows = format!(
        "    let row = at / {split}u;\n\
         \x20   let query = row % params.queries;\n\
         \x20   let head = row / params.queries % params.heads;\n\
         \x20   let n = min(row / (params.queries * params.heads), params.attentions - 1u);\n"
    );
    let mut w = lanes::scratch(meeting, split, LANES);
    w += &place(split, own, &rows);
    line!(w, "    let q_at = q_first + query * params.q_token;\n    let last = last_key(query);");
    line!(w, "    var m = LEAST; var l = 0.0;");
    // The last part may reach past the head; what lies there counts for nothing.
    let inside = |d: u32| format!("part + {d}u < {vectors}u");
    let within = |d: u32| format!("min(part + {d}u, {}u)", vectors - 1);
    for d in 0..own {
        line!(w, "    let q{d} = select(0.0, params.scale, {}) * read_q(q_at, {});", inside(d), within(d));
        line!(w, "    var o{d} = vec4<f32>();");
    }
    line!(w, "    for (var key = 0u; key < params.keys; key++) {{\n        let base = key_at(keys, key);");
    let terms: Vec<_> = (0..own).map(|d| format!("dot(q{d}, read_k(base, {}))", within(d))).collect();
    line!(w, "        var s = {};", terms.join(" + "));
    lanes::meet(&mut w, meeting, split, LANES, &["s".to_string()]);
    line!(
        w,
        "        s = select(LEAST, s, key <= last);\n\
         \x20       let top = max(m, s);\n\
         \x20       let shrink = exp2(m - top); m = top;\n\
         \x20       let p = exp2(s - top); l = l * shrink + p;"
    );
    for d in 0..own {
        line!(w, "        o{d} = o{d} * shrink + p * read_v(base, {});", within(d));
    }
    line!(w, "    }}\n    let share = 1.0 / l;");
    for d in 0..own {
        line!(w, "    if ({}) {{ write_o(q_at, part + {d}u, o{d} * share); }}", inside(d));
    }
    line!(w, "}}");
    w
}
