//! The two passes of attention's way back: a row, of queries or of keys, walks over the tokens of the other side.
//!
//! Rows stay in registers with what is summed up for them. Tokens come in one of two ways, see [`Stream`].

use super::super::lanes::{self, Meeting};
use super::super::line;
use std::fmt::Write;

/// How the tokens of a step come to the rows that look at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stream {
    /// One subgroup of 8: lanes are tokens when loading, `split` of them to one, and what they load is spread by
    /// shuffles to the `rows` of every lane. For software adapters.
    Spread { rows: u32, split: u32 },
    /// Every lane reads what its row needs, which its neighbours read at the same time; `split` lanes share a row.
    Direct { split: u32, meeting: Meeting },
}

/// Lanes of the two forms.
const SUBGROUP: u32 = 8;
const WORKGROUP: u32 = 64;
/// Tokens of a step where every lane reads.
const STEP: u32 = 4;

impl Stream {
    /// Invocations of a workgroup.
    pub(super) fn lanes(self) -> u32 {
        if matches!(self, Stream::Spread { .. }) { SUBGROUP } else { WORKGROUP }
    }

    /// Tiles of `rows` rows that [`Stream::groups`] counts: rows themselves where lanes own them one by one.
    pub(super) fn tiles(self, rows: usize) -> usize {
        match self {
            Stream::Spread { rows: own, .. } => rows.div_ceil((SUBGROUP * own) as usize),
            Stream::Direct { .. } => rows,
        }
    }

    /// Workgroups for this many tiles.
    pub(super) fn groups(self, tiles: u64) -> u64 {
        match self {
            Stream::Spread { .. } => tiles,
            Stream::Direct { split, .. } => (tiles * u64::from(split)).div_ceil(WORKGROUP.into()),
        }
    }

    /// Tokens of a step.
    pub(super) fn tokens(self) -> u32 {
        match self {
            Stream::Spread { split, .. } => SUBGROUP / split,
            Stream::Direct { .. } => STEP,
        }
    }

    /// Its part of a kernel's name in the pipeline cache, 20 bits.
    pub(super) fn key(self) -> u64 {
        let (kind, a, b) = match self {
            Stream::Spread { rows, split } => (0, rows, split),
            Stream::Direct { split, meeting } => (1 + meeting as u64, 0, split),
        };
        kind | u64::from(a) << 4 | u64::from(b) << 12
    }
}

/// A pass being written.
struct Pass {
    stream: Stream,
    vectors: u32,
    text: String,
}

impl Pass {
    /// Rows of a lane.
    fn rows(&self) -> std::ops::Range<u32> {
        match self.stream {
            Stream::Spread { rows, .. } => 0..rows,
            Stream::Direct { .. } => 0..1,
        }
    }

    fn tokens(&self) -> std::ops::Range<u32> {
        0..self.stream.tokens()
    }

    /// Vectors of a row that a lane keeps.
    fn own(&self) -> std::ops::Range<u32> {
        match self.stream {
            Stream::Spread { .. } => 0..self.vectors,
            Stream::Direct { split, .. } => 0..self.vectors.div_ceil(split),
        }
    }

    /// Vectors of a token that a lane loads.
    fn loaded(&self) -> u32 {
        let (Stream::Spread { split, .. } | Stream::Direct { split, .. }) = self.stream;
        self.vectors.div_ceil(split)
    }

    /// The place of vector d of a lane's part in its head.
    fn at(&self, d: u32) -> String {
        match self.stream {
            Stream::Spread { .. } => format!("{d}u"),
            Stream::Direct { .. } if self.is_even() => format!("part + {d}u"),
            Stream::Direct { .. } => format!("min(part + {d}u, {}u)", self.vectors - 1),
        }
    }

    /// True where no lane's part reaches past the head.
    fn is_even(&self) -> bool {
        match self.stream {
            Stream::Spread { .. } => true,
            Stream::Direct { split, .. } => self.vectors.is_multiple_of(split),
        }
    }

    /// Writes from here on go to vectors that there are.
    fn guarded(&self, d: u32, write: String) -> String {
        if self.is_even() { write } else { format!("if (part + {d}u < {}u) {{ {write} }}", self.vectors) }
    }

    /// The head of the kernel, up to the rows of a lane; `count` of them are there in all.
    fn begin(&mut self, entry: &str, count: &str) {
        let (lanes, loaded) = (self.stream.lanes(), self.loaded());
        let lane = match self.stream {
            Stream::Spread { .. } => "subgroup_invocation_id",
            Stream::Direct { .. } => "local_invocation_index",
        };
        if let Stream::Direct { split, meeting } = self.stream {
            self.text += &lanes::scratch(meeting, split, lanes);
        }
        line!(
            self.text,
            "@compute @workgroup_size({lanes})\n\
             fn {entry}(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
             \x20   @builtin({lane}) lane: u32) {{"
        );
        match self.stream {
            Stream::Spread { rows, split } => {
                line!(
                    self.text,
                    "    let place = place_of(group_index(group, groups), params.tiles);\n\
                     \x20   if (place.slice >= params.slices) {{ return; }}\n\
                     \x20   let first_row = place.row * {}u;\n\
                     \x20   let part = lane % {split}u * {loaded}u;",
                    SUBGROUP * rows
                );
                for i in self.rows() {
                    line!(self.text, "    let row{i} = first_row + lane + {}u;", SUBGROUP * i);
                    line!(self.text, "    let is_row{i} = row{i} < {count};");
                }
            }
            Stream::Direct { split, .. } => {
                line!(
                    self.text,
                    "    let at = group_index(group, groups) * {lanes}u + lane;\n\
                     \x20   let place = place_of(at / {split}u, params.tiles);\n\
                     \x20   let part = lane % {split}u * {loaded}u;\n\
                     \x20   let row0 = place.row;\n\
                     \x20   let is_row0 = place.slice < params.slices;"
                );
            }
        }
        line!(self.text, "    let q_first = q_base(place);\n    let k_first = k_base(place);");
    }

    /// What a row keeps of tensor `name`, times `scale`, as `name{i}_{d}`; what lies past the head is 0.
    fn keep(&mut self, name: &str, at: &str, scale: &str) {
        for (i, d) in self.rows().flat_map(|i| self.own().map(move |d| (i, d))).collect::<Vec<_>>() {
            let place = self.at(d);
            let scale = match (scale, self.is_even()) {
                ("1.0", true) => String::new(),
                (scale, true) => format!("{scale} * "),
                (scale, false) => format!("select(0.0, {scale}, part + {d}u < {}u) * ", self.vectors),
            };
            line!(self.text, "    let {name}{i}_{d} = {scale}read_{name}({at}{i}, {place});");
        }
    }

    /// Sums of a row: `name{i}_{d}`.
    fn sums(&mut self, name: &str) {
        for (i, d) in self.rows().flat_map(|i| self.own().map(move |d| (i, d))).collect::<Vec<_>>() {
            line!(self.text, "    var {name}{i}_{d} = vec4<f32>();");
        }
    }

    /// Where the tokens of the step that begins at `start` lie; past the last one it is that one.
    fn bases(&mut self, first: &str, count: &str, token: &str) {
        match self.stream {
            Stream::Spread { split, .. } => line!(
                self.text,
                "        let token = min(start + lane / {split}u, {count} - 1u);\n\
                 \x20       let base = {first} + token * {token};"
            ),
            Stream::Direct { .. } => {
                for j in self.tokens() {
                    line!(
                        self.text,
                        "        let token{j} = min(start + {j}u, {count} - 1u);\n\
                         \x20       let base{j} = {first} + token{j} * {token};"
                    );
                }
            }
        }
    }

    /// Vectors of tensor `name` of the step's tokens as `name{d}_{j}`; `then` writes what is done with each d.
    fn load(&mut self, name: &str, mut then: impl FnMut(&mut String, u32)) {
        let tokens = self.tokens();
        match self.stream {
            Stream::Spread { split, .. } => {
                let loaded = self.loaded();
                for slot in 0..loaded {
                    line!(self.text, "        let {name}{slot} = read_{name}(base, part + {slot}u);");
                    // Vector d of token j lies with lane j * split + d / loaded.
                    for d in (slot..self.vectors).step_by(loaded as usize) {
                        for j in tokens.clone() {
                            let lane = j * split + d / loaded;
                            line!(
                                self.text,
                                "        let {name}{d}_{j} = subgroupShuffle({name}{slot}, {lane}u);"
                            );
                        }
                        then(&mut self.text, d);
                    }
                }
            }
            Stream::Direct { .. } => {
                for d in self.own() {
                    for j in tokens.clone() {
                        let place = self.at(d);
                        line!(self.text, "        let {name}{d}_{j} = read_{name}(base{j}, {place});");
                    }
                    then(&mut self.text, d);
                }
            }
        }
    }

    /// Products of rows and tokens, `out{i}_{j}` = row's `own` by the tokens' `name`.
    fn products(&mut self, out: &str, own: &str, name: &str) {
        let (rows, tokens) = (self.rows(), self.tokens());
        let pairs: Vec<_> = rows.flat_map(|i| tokens.clone().map(move |j| (i, j))).collect();
        for (i, j) in &pairs {
            line!(self.text, "        var {out}{i}_{j} = 0.0;");
        }
        self.load(name, |text, d| {
            for (i, j) in &pairs {
                line!(text, "        {out}{i}_{j} += dot({own}{i}_{d}, {name}{d}_{j});");
            }
        });
    }

    /// The lanes of a row sum what each has.
    fn meet(&mut self, names: &[&str]) {
        if let Stream::Direct { split, meeting } = self.stream {
            let names: Vec<_> =
                names.iter().flat_map(|name| self.tokens().map(move |j| format!("{name}0_{j}"))).collect();
            lanes::meet(&mut self.text, meeting, split, WORKGROUP, &names);
        }
    }

    /// `sum{i}_{d}` times `shrink` and more: each token's `weight` times its `name`.
    fn add(&mut self, sum: &str, shrink: &str, weight: &str, name: &str) {
        for (i, d) in self.rows().flat_map(|i| self.own().map(move |d| (i, d))).collect::<Vec<_>>() {
            let shrunk = if shrink.is_empty() { String::new() } else { format!(" * {shrink}{i}") };
            let terms: Vec<_> = self.tokens().map(|j| format!("{weight}{i}_{j} * {name}{d}_{j}")).collect();
            line!(self.text, "        {sum}{i}_{d} = {sum}{i}_{d}{shrunk} + {};", terms.join(" + "));
        }
    }
}

/// dq, with a running softmax, and what the other pass wants to know of each query.
pub(super) fn queries(vectors: u32, stream: Stream) -> String {
    let mut pass = Pass { stream, vectors, text: String::new() };
    pass.begin("backward_queries", "params.queries");
    for i in pass.rows() {
        line!(pass.text, "    let q_at{i} = q_first + min(row{i}, params.queries - 1u) * params.q_token;");
        line!(pass.text, "    let last{i} = last_key(row{i});");
        line!(pass.text, "    var m{i} = LEAST; var l{i} = 0.0; var r{i}_0 = 0.0;");
    }
    pass.keep("q", "q_at", "params.scale");
    pass.keep("g", "q_at", "1.0");
    pass.sums("a");
    for i in pass.rows() {
        for d in pass.own() {
            line!(pass.text, "    r{i}_0 += dot(g{i}_{d}, read_o(q_at{i}, {}));", pass.at(d));
        }
    }
    if let Stream::Direct { split, meeting } = stream {
        lanes::meet(&mut pass.text, meeting, split, WORKGROUP, &["r0_0".to_string()]);
    }
    // Keys past the last query of this tile count for none of its queries; where lanes meet, all take as many turns.
    let end = match stream {
        Stream::Spread { rows, .. } => format!("last_key(first_row + {}u) + 1u", SUBGROUP * rows - 1),
        Stream::Direct { .. } => "params.keys".to_string(),
    };
    let step = stream.tokens();
    line!(pass.text, "    let end = {end};\n    for (var start = 0u; start < end; start += {step}u) {{");
    pass.bases("k_first", "params.keys", "params.k_token");
    pass.products("s", "q", "k");
    pass.products("t", "g", "v");
    pass.meet(&["s", "t"]);
    for i in pass.rows() {
        for j in pass.tokens() {
            line!(pass.text, "        s{i}_{j} = select(LEAST, s{i}_{j}, start + {j}u <= last{i});");
        }
        let top = pass.tokens().fold(format!("m{i}"), |top, j| format!("max({top}, s{i}_{j})"));
        line!(
            pass.text,
            "        let top{i} = {top};\n        let shrink{i} = exp2(m{i} - top{i}); m{i} = top{i};"
        );
        for j in pass.tokens() {
            line!(pass.text, "        let p{i}_{j} = exp2(s{i}_{j} - top{i});");
            line!(pass.text, "        let e{i}_{j} = p{i}_{j} * (t{i}_{j} - r{i}_0);");
        }
        let sum: Vec<_> = pass.tokens().map(|j| format!("p{i}_{j}")).collect();
        line!(pass.text, "        l{i} = l{i} * shrink{i} + ({});", sum.join(" + "));
    }
    pass.add("a", "shrink", "e", "k");
    line!(pass.text, "    }}");
    for i in pass.rows() {
        line!(pass.text, "    if (is_row{i}) {{\n        let share = params.slope / l{i};");
        for d in pass.own() {
            let write = format!("write_dq(q_at{i}, {}, a{i}_{d} * share);", pass.at(d));
            line!(pass.text, "        {}", pass.guarded(d, write));
        }
        line!(
            pass.text,
            "        found[found_base(place) + row{i}] = vec2f(m{i} + log2(l{i}), r{i}_0);\n    }}"
        );
    }
    line!(pass.text, "}}");
    pass.text
}

/// dk and dv of one slice of the queries.
pub(super) fn keys(vectors: u32, stream: Stream) -> String {
    let mut pass = Pass { stream, vectors, text: String::new() };
    pass.begin("backward_keys", "params.keys");
    for i in pass.rows() {
        line!(pass.text, "    let k_at{i} = k_first + min(row{i}, params.keys - 1u) * params.k_token;");
    }
    pass.keep("k", "k_at", "params.scale");
    pass.keep("v", "k_at", "1.0");
    pass.sums("a");
    pass.sums("b");
    let step = stream.tokens();
    // Where lanes meet, all take as many turns; else queries before the tile's first key see none of it.
    let (first, turns) = match stream {
        Stream::Spread { .. } => (
            format!("select(0u, first_row / {step}u * {step}u, params.causal == 1u)"),
            "end - min(first, end)".to_string(),
        ),
        Stream::Direct { .. } => ("0u".to_string(), "params.slice".to_string()),
    };
    line!(
        pass.text,
        "    let first = max(place.slice * params.slice, {first});\n\
         \x20   let end = min((place.slice + 1u) * params.slice, params.queries);\n\
         \x20   let found_first = found_base(place);\n\
         \x20   let turns = {turns};\n\
         \x20   for (var turn = 0u; turn < turns; turn += {step}u) {{\n\
         \x20       let start = first + turn;"
    );
    pass.bases("q_first", "params.queries", "params.q_token");
    if let Stream::Spread { .. } = stream {
        line!(pass.text, "        let mine = found[found_first + token];");
    }
    for j in pass.tokens() {
        match stream {
            Stream::Spread { split, .. } => line!(
                pass.text,
                "        let top{j} = subgroupShuffle(mine.x, {0}u);\n\
                 \x20       let mean{j} = subgroupShuffle(mine.y, {0}u);",
                j * split
            ),
            Stream::Direct { .. } => line!(
                pass.text,
                "        let found{j} = found[found_first + token{j}];\n\
                 \x20       let top{j} = found{j}.x; let mean{j} = found{j}.y;"
            ),
        }
        line!(pass.text, "        let sees{j} = start + {j}u < end;");
    }
    pass.products("s", "k", "q");
    pass.products("t", "v", "g");
    pass.meet(&["s", "t"]);
    for (i, j) in pass.rows().flat_map(|i| pass.tokens().map(move |j| (i, j))).collect::<Vec<_>>() {
        line!(
            pass.text,
            "        let p{i}_{j} = select(0.0, exp2(s{i}_{j} - top{j}), sees{j} && last_key(start + {j}u) >= row{i});\n\
             \x20       let e{i}_{j} = p{i}_{j} * (t{i}_{j} - mean{j});"
        );
    }
    pass.add("b", "", "p", "g");
    pass.add("a", "", "e", "q");
    line!(pass.text, "    }}");
    for i in pass.rows() {
        line!(pass.text, "    if (is_row{i}) {{\n        let to = k_at{i} + place.slice * params.dk_slice;");
        for d in pass.own() {
            let at = pass.at(d);
            let write = format!("write_dk(to, {at}, a{i}_{d} * params.slope); write_dv(to, {at}, b{i}_{d});");
            line!(pass.text, "        {}", pass.guarded(d, write));
        }
        line!(pass.text, "    }}");
    }
    line!(pass.text, "}}");
    pass.text
}
