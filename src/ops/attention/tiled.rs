//! Flash attention of a workgroup, for cards: tiles of keys and values lie in workgroup memory, read by all at once.
//! A lane owns a few queries' parts: `split` lanes share a row by width, their vectors interleaved, so that about
//! forty values each of q and o stay in registers. Eight keys per step: their scores, one maximum, one rescaling.

use super::lanes::{self, Meeting};
use super::line;
use std::fmt::Write;

/// Bytes of workgroup memory; every device has 16 KiB.
const BYTES: usize = 16 << 10;
/// Keys of a step.
const STEP: u32 = 8;

/// How the work of a tile is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    /// Queries of a lane.
    pub queries: u32,
    /// Lanes of a row.
    pub split: u32,
    /// Invocations of a workgroup.
    pub lanes: u32,
    pub meeting: Meeting,
}

impl Tile {
    /// The tile for this many queries of this many vectors.
    pub(super) fn new(queries: usize, vectors: u32, meeting: Meeting) -> Tile {
        let split = match vectors {
            0..4 => 1,
            4..=12 => 2,
            _ => 4,
        };
        let few = queries <= 64 / split as usize;
        Tile {
            queries: if vectors > 24 || few { 1 } else { 2 },
            split,
            lanes: if few || meeting == Meeting::Workgroup { 64 } else { 128 },
            meeting,
        }
    }

    /// Queries of a workgroup.
    pub(super) fn rows(self) -> u32 {
        self.lanes / self.split * self.queries
    }

    /// Vectors of a row in workgroup memory, and of a lane.
    fn pitch(self, vectors: u32) -> (u32, u32) {
        let own = vectors.div_ceil(self.split);
        (own * self.split, own)
    }

    /// Keys that lie in workgroup memory at once.
    fn keys(self, vectors: u32) -> u32 {
        let free = BYTES - lanes::bytes(self.meeting, self.split, self.lanes);
        let most = free as u32 / (32 * self.pitch(vectors).0) / STEP * STEP;
        most.clamp(STEP, 64)
    }

    /// Loop turns of one invocation.
    pub(super) fn turns(self, keys: usize, vectors: u32) -> usize {
        let tile = self.keys(vectors);
        let staging = (tile * self.pitch(vectors).0).div_ceil(self.lanes);
        keys.div_ceil(tile as usize) * (1 + tile / STEP + staging) as usize
    }

    /// The unrolled product; `masked` hides some keys.
    pub(super) fn product(self, vectors: u32, masked: bool) -> String {
        let Tile { queries, split, lanes, meeting } = self;
        let ((pitch, own), tile) = (self.pitch(vectors), self.keys(vectors));
        let staged = tile * pitch;
        let mut w = lanes::scratch(meeting, split, lanes);
        line!(
            w,
            "var<workgroup> k_tile: array<vec4<f32>, {staged}>;  // [{tile} keys, {pitch}]\n\
             var<workgroup> v_tile: array<vec4<f32>, {staged}>;\n\
             @compute @workgroup_size({lanes})\n\
             fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
             \x20   @builtin(local_invocation_index) lane: u32) {{\n\
             \x20   let place = place_of(group_index(group, groups));\n\
             \x20   let n = min(place.n, params.attentions - 1u);\n\
             \x20   let keys = keys_of(n, place.head);\n\
             \x20   let q_first = q_base(n, place.head);\n\
             \x20   let part = lane % {split}u;"
        );
        // The last vectors of a part may reach past the head; they count for nothing.
        let at = |d: u32| format!("part + {}u", d * split);
        for i in 0..queries {
            line!(
                w,
                "    let query{i} = place.tile * {}u + lane / {split}u + {}u;",
                self.rows(),
                lanes / split * i
            );
            line!(w, "    let q_at{i} = q_first + min(query{i}, params.queries - 1u) * params.q_token;");
            line!(w, "    let last{i} = last_key(query{i}); var m{i} = LEAST; var l{i} = 0.0;");
            for d in 0..own {
                line!(
                    w,
                    "    let q{i}_{d} = select(0.0, params.scale, {0} < {vectors}u) * read_q(q_at{i}, min({0}, {1}u));\n\
                     \x20   var o{i}_{d} = vec4<f32>();",
                    at(d),
                    vectors - 1
                );
            }
        }
        // Keys past the last query of this tile count for none of its queries.
        line!(
            w,
            "    let end = last_key(place.tile * {}u + {}u) + 1u;\n\
             \x20   for (var start = 0u; start < end; start += {tile}u) {{\n\
             \x20       for (var i = lane; i < {staged}u; i += {lanes}u) {{\n\
             \x20           let base = key_at(keys, min(start + i / {pitch}u, params.keys - 1u));\n\
             \x20           k_tile[i] = read_k(base, min(i % {pitch}u, {2}u));\n\
             \x20           v_tile[i] = read_v(base, min(i % {pitch}u, {2}u));\n\
             \x20       }}\n\
             \x20       workgroupBarrier();\n\
             \x20       let stop = min(end - start, {tile}u);\n\
             \x20       for (var key = 0u; key < stop; key += {STEP}u) {{\n\
             \x20           let row = key * {pitch}u + part;\n\
             \x20           let seen = start + key;",
            self.rows(),
            self.rows() - 1,
            vectors - 1
        );
        let each = || (0..queries).flat_map(|i| (0..STEP).map(move |j| (i, j)));
        for (i, j) in each() {
            line!(w, "        var s{i}_{j} = 0.0;");
        }
        for (d, j) in (0..own).flat_map(|d| (0..STEP).map(move |j| (d, j))) {
            line!(w, "        let k{d}_{j} = k_tile[row + {}u];", j * pitch + d * split);
            for i in 0..queries {
                line!(w, "        s{i}_{j} += dot(q{i}_{d}, k{d}_{j});");
            }
        }
        let names: Vec<_> = each().map(|(i, j)| format!("s{i}_{j}")).collect();
        lanes::meet(&mut w, meeting, split, lanes, &names);
        if masked {
            (0..STEP).for_each(|j| line!(w, "        let seen{j} = is_seen(n, seen + {j}u);"));
        }
        for i in 0..queries {
            for j in 0..STEP {
                let also = if masked { format!(" && seen{j}") } else { String::new() };
                line!(w, "        s{i}_{j} = select(LEAST, s{i}_{j}, seen + {j}u <= last{i}{also});");
            }
            let top = (0..STEP).fold(format!("m{i}"), |top, j| format!("max({top}, s{i}_{j})"));
            line!(
                w,
                "        let top{i} = {top};\n        let shrink{i} = exp2(m{i} - top{i}); m{i} = top{i};"
            );
            for j in 0..STEP {
                line!(w, "        let p{i}_{j} = exp2(s{i}_{j} - top{i});");
            }
            let sum: Vec<_> = (0..STEP).map(|j| format!("p{i}_{j}")).collect();
            line!(w, "        l{i} = l{i} * shrink{i} + ({});", sum.join(" + "));
            for d in 0..own {
                line!(w, "        o{i}_{d} *= shrink{i};");
            }
        }
        for (d, j) in (0..own).flat_map(|d| (0..STEP).map(move |j| (d, j))) {
            line!(w, "        let v{d}_{j} = v_tile[row + {}u];", j * pitch + d * split);
            for i in 0..queries {
                line!(w, "        o{i}_{d} += p{i}_{j} * v{d}_{j};");
            }
        }
        line!(w, "        }}\n        workgroupBarrier();\n    }}");
        for i in 0..queries {
            let share = super::masked::share(&format!("l{i}"), &format!("m{i}"), masked);
            line!(
                w,
                "    if (query{i} < params.queries && place.n < params.attentions) {{ let share = {share};"
            );
            for d in 0..own {
                line!(
                    w,
                    "        if ({0} < {vectors}u) {{ write_o(q_at{i}, {0}, o{i}_{d} * share); }}",
                    at(d)
                );
            }
            line!(w, "    }}");
        }
        line!(w, "}}");
        w
    }
}
