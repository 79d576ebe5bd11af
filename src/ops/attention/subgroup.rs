//! Flash attention of one subgroup of 8, for software adapters: a lane owns a few queries, with their outputs, in
//! registers. When loading, lanes are keys, `split` lanes sharing one; what they load is spread by shuffles with
//! constant lanes, so that every loaded value serves all queries of the tile.
//!
//! An iteration costs something for every key it loads and something for every query it carries, and all of it must
//! fit the instruction cache: `split` trades keys for queries. Measured on lavapipe 22, at width 40 and 768 tokens, in
//! GFLOP/s of one core whose peak is 56: 2 queries by 8 keys 18, 4 by 8 20, 2 by 4 23, 3 by 4 27, 4 by 4 27,
//! 5 by 4 20 (too large); keys from buffers in place of texels 22.

use super::line;
use std::fmt::Write;

/// Invocations of a workgroup: one subgroup.
pub(super) const LANES: u32 = 8;

/// Queries of a lane and lanes of a key that run best where there are many queries.
pub(super) fn tile(vectors: u32) -> (u32, u32) {
    match vectors {
        0..=1 => (3, 1),
        2..=12 => (3, 2),
        13..=20 => (3, 4),
        21..=24 => (2, 4),
        _ => (2, 8),
    }
}

/// Lanes of a key where few queries want a small kernel.
pub(super) fn small_split(vectors: u32) -> u32 {
    if vectors < 2 { 1 } else { 2 }
}

/// Heads of `vectors` x 4 elements; `queries` of each lane; `split` lanes load a key; `masked` hides some.
pub(super) fn product(vectors: u32, queries: u32, split: u32, masked: bool) -> String {
    let (keys, own, tile) = (LANES / split, vectors.div_ceil(split), LANES * queries);
    let mut w = String::new();
    line!(
        w,
        "@compute @workgroup_size({LANES})\n\
         fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
         \x20   @builtin(subgroup_invocation_id) lane: u32) {{\n\
         \x20   let place = place_of(group_index(group, groups));\n\
         \x20   if (place.n >= params.attentions) {{ return; }}\n\
         \x20   let keys = keys_of(place.n, place.head);\n\
         \x20   let q_first = q_base(place.n, place.head);\n\
         \x20   let part = lane % {split}u * {own}u;"
    );
    for i in 0..queries {
        line!(w, "    let query{i} = place.tile * {tile}u + lane + {}u;", LANES * i);
        line!(w, "    let q_at{i} = q_first + min(query{i}, params.queries - 1u) * params.q_token;");
        line!(w, "    let last{i} = last_key(query{i}); var m{i} = LEAST; var l{i} = 0.0;");
        for d in 0..vectors {
            line!(w, "    let q{i}_{d} = read_q(q_at{i}, {d}u) * params.scale; var o{i}_{d} = vec4<f32>();");
        }
    }
    // Keys past the last query of this tile count for none of its queries.
    line!(
        w,
        "    let end = last_key(place.tile * {tile}u + {}u) + 1u;\n\
         \x20   for (var start = 0u; start < end; start += {keys}u) {{\n\
         \x20       let base = key_at(keys, min(start + lane / {split}u, params.keys - 1u));",
        tile - 1
    );
    for (i, j) in pairs(queries, keys) {
        line!(w, "        var s{i}_{j} = 0.0;");
    }
    // Vector d of key j lies with lane j * split + d / own.
    let spread = |w: &mut String, name: &str, slot: u32| {
        line!(w, "        let {name}{slot} = read_{name}(base, part + {slot}u);");
        let held: Vec<u32> = (slot..vectors).step_by(own as usize).collect();
        for (&d, j) in held.iter().flat_map(|d| (0..keys).map(move |j| (d, j))) {
            let lane = j * split + d / own;
            line!(w, "        let {name}{d}_{j} = subgroupShuffle({name}{slot}, {lane}u);");
        }
        held
    };
    for slot in 0..own {
        for d in spread(&mut w, "k", slot) {
            for (i, j) in pairs(queries, keys) {
                line!(w, "        s{i}_{j} += dot(q{i}_{d}, k{d}_{j});");
            }
        }
    }
    if masked {
        (0..keys).for_each(|j| line!(w, "        let seen{j} = is_seen(place.n, start + {j}u);"));
    }
    for i in 0..queries {
        for j in 0..keys {
            let seen = if masked { format!(" && seen{j}") } else { String::new() };
            line!(w, "        s{i}_{j} = select(LEAST, s{i}_{j}, start + {j}u <= last{i}{seen});");
        }
        let top = (0..keys).fold(format!("m{i}"), |top, j| format!("max({top}, s{i}_{j})"));
        line!(w, "        let top{i} = {top};\n        let shrink{i} = exp2(m{i} - top{i}); m{i} = top{i};");
        for j in 0..keys {
            line!(w, "        let p{i}_{j} = exp2(s{i}_{j} - top{i});");
        }
        let sum: Vec<_> = (0..keys).map(|j| format!("p{i}_{j}")).collect();
        line!(w, "        l{i} = l{i} * shrink{i} + ({});", sum.join(" + "));
    }
    for slot in 0..own {
        for d in spread(&mut w, "v", slot) {
            for i in 0..queries {
                let terms: Vec<_> = (0..keys).map(|j| format!("p{i}_{j} * v{d}_{j}")).collect();
                line!(w, "        o{i}_{d} = o{i}_{d} * shrink{i} + {};", terms.join(" + "));
            }
        }
    }
    line!(w, "    }}");
    for i in 0..queries {
        let part = super::masked::share(&format!("l{i}"), &format!("m{i}"), masked);
        line!(w, "    if (query{i} < params.queries) {{ let part = {part};");
        for d in 0..vectors {
            line!(w, "        write_o(q_at{i}, {d}u, o{i}_{d} * part);");
        }
        line!(w, "    }}");
    }
    line!(w, "}}");
    w
}

fn pairs(queries: u32, keys: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..queries).flat_map(move |i| (0..keys).map(move |j| (i, j)))
}
