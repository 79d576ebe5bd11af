//! The product on matrix units: f16 operands, sums in f32 fragments that a subgroup of 32 holds together.
//!
//! A workgroup's tile is cut among its subgroups. Operands lie in workgroup memory as f16 (8 halves more per row
//! spread the banks), or B is read from its panels; results leave through workgroup memory, two fragments at a time,
//! where ordinary code adds bias, activation and residual. Fragments are named variables, never arrays, and no
//! matrix operation stands under a condition on an invocation.
//!
//! No adapter here has matrix units: the text is validated in every variant and has not yet run. What an adapter makes
//! of it is tried before it is trusted (`trial.rs`).

use super::form::Form;
use super::tile::{Load, Matrix};
use std::fmt::Write;

/// k of a step.
pub(super) const DEPTH: u32 = 32;
/// Halves added to each staged row, and floats to each row of results on their way.
const PAD: u32 = 8;
const PAD_OUT: u32 = 4;

impl Matrix {
    fn subgroups(self) -> [u32; 2] {
        [self.rows / self.each[0], self.columns / self.each[1]]
    }

    /// Invocations of a workgroup.
    pub(super) fn workgroup(self) -> u32 {
        32 * self.subgroups()[0] * self.subgroups()[1]
    }

    /// Floats of one subgroup's results on their way.
    fn out_floats(self) -> u32 {
        self.edge * (2 * self.edge + PAD_OUT)
    }

    /// Bytes of workgroup memory.
    pub(super) fn workgroup_bytes(self) -> u32 {
        let a = self.rows * (DEPTH + PAD) * 2;
        let b = DEPTH * (self.columns + PAD) * 2;
        let out = self.workgroup() / 32 * self.out_floats() * 4;
        match self.load {
            Load::Staged => a + b + out,
            Load::PanelsDirect => a + out,
            Load::Direct => 0,
        }
    }

    /// Whether fragments are reached through vectors of 4, which only Vulkan takes; Metal's are of 8.
    fn vectors(self) -> bool {
        self.edge == 16
    }
}

/// Declarations of what is read, the places of A among them. Halves are read 4 at once: naga 30 has no way from 4 words
/// to 8 halves but through f32.
pub(super) fn readers(tile: Matrix) -> String {
    let array = |is_direct: bool| if is_direct { "array<f16>" } else { "array<vec4<f16>>" };
    format!(
        "@group(0) @binding(1) var<storage, read> b: {};\n\
         @group(0) @binding(2) var<storage, read> a: {};\n\
         struct Place {{ base: u32, inside: bool }}\n",
        array(tile.load != Load::Staged),
        array(tile.load == Load::Direct),
    )
}

/// Where a part of a sum, or whole tiles of fragments, are written as they are.
pub(super) fn direct_writer() -> &'static str {
    "alias c_stored = f32;\nalias bias_stored = f32;\n\
     fn read_bias(row: u32, column: u32) -> vec4<f32> { return vec4<f32>(); }\n\
     fn write(row: u32, column: u32, v: vec4<f32>) {}\n"
}

/// 4 halves into a row of workgroup memory.
fn stage(tile: Matrix, to: &str, at: &str, halves: &str) -> String {
    if tile.vectors() {
        return format!("        {to}[{at}] = {halves};");
    }
    let part = |(i, axis)| format!("{to}[at + {i}u] = {halves}.{axis};");
    let parts: Vec<_> = ["x", "y", "z", "w"].into_iter().enumerate().map(part).collect();
    format!("        {{ let at = {at}; {} }}", parts.join(" "))
}

/// The generated product.
pub(super) fn product(form: Form, tile: Matrix) -> String {
    let Matrix { rows, columns, each: [each_rows, each_columns], edge, load } = tile;
    let [subgroups_m, subgroups_n] = tile.subgroups();
    let threads = tile.workgroup();
    let (panel4, columns4, units) = (form.panel / 4, columns / 4, DEPTH / 4);
    let panels = form.tile.panels(form.panel);
    // Steps of workgroup memory: vectors of 4 halves, or halves.
    let step = if tile.vectors() { 4 } else { 1 };
    let element = if tile.vectors() { "vec4<f16>" } else { "f16" };
    let (a_pitch, b_pitch) = ((DEPTH + PAD) / step, (columns + PAD) / step);
    let (a_staged, b_staged) = (load != Load::Direct, load == Load::Staged);
    let (a_reads, b_reads) = (rows * units / threads, DEPTH * columns4 / threads);
    let (fragments_m, fragments_n) = (each_rows / edge, each_columns / edge);
    let kind = |scalar: &str, role: &str| format!("coop_mat{edge}x{edge}<{scalar}, {role}>");
    let out_pitch = 2 * edge + PAD_OUT;
    let mut w = String::new();
    if a_staged {
        write!(
            w,
            "var<workgroup> a_tile: array<{element}, {}>;  // [{rows} rows, {DEPTH} + {PAD} k]\n\
             var<workgroup> out: array<f32, {}>;\n",
            rows * a_pitch,
            threads / 32 * tile.out_floats()
        )
        .expect("writing to a String does not fail");
    }
    if b_staged {
        writeln!(
            w,
            "var<workgroup> b_tile: array<{element}, {}>;  // [{DEPTH} k, {columns} + {PAD}]",
            DEPTH * b_pitch
        )
        .expect("writing to a String does not fail");
    }
    let mut line = |text: String| {
        w.push_str(&text);
        w.push('\n');
    };
    line(format!(
        "@compute @workgroup_size({threads})\n\
         fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
         \x20   @builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32,\n\
         \x20   @builtin(subgroup_invocation_id) sub_lane: u32) {{\n{}{}{}\
         \x20   let first = tile_m * {rows}u;\n\
         \x20   let sub_row = subgroup / {subgroups_n}u % {subgroups_m}u * {each_rows}u;\n\
         \x20   let sub_column = subgroup % {subgroups_n}u * {each_columns}u;\n\
         \x20   let k_end = params.units * 4u;",
        form.place(),
        form.tile_order(),
        form.steps(),
    ));
    let mut places = String::new();
    if a_staged {
        line(format!("    let a_unit = lane % {units}u;\n    let a_row = lane / {units}u;"));
        for i in 0..a_reads {
            line(format!(
                "    let row{i} = row_of(batch, first + a_row + {}u);\n\
                 \x20   var place{i} = tap_of(row{i}, tap);\n\
                 \x20   var a{i} = vec4<f16>();",
                i * threads / units
            ));
            places += &format!("            place{i} = tap_of(row{i}, tap);\n");
        }
    }
    // Vectors of a panel's row for staging; halves of this subgroup's columns, which lie in one panel, for direct
    // loads.
    if b_staged {
        line(format!(
            "    let b_column = lane % {columns4}u;\n\
             \x20   let b_k = lane / {columns4}u;\n\
             \x20   let b_panel = min(tile_n * {panels}u + b_column / {panel4}u, params.tiles_n - 1u);\n\
             \x20   let panel = batch * params.b_batch + b_panel * params.taps * k_end * {panel4}u\n\
             \x20       + b_column % {panel4}u;"
        ));
        for j in 0..b_reads {
            line(format!("    var b{j} = vec4<f16>();"));
        }
    } else {
        line(format!(
            "    let b_panel = min(tile_n * {panels}u + sub_column / {0}u, params.tiles_n - 1u);\n\
             \x20   let panel = batch * params.b_batch * 4u + b_panel * params.taps * k_end * {0}u\n\
             \x20       + sub_column % {0}u;",
            form.panel
        ));
    }
    for i in 0..fragments_m {
        for j in 0..fragments_n {
            line(format!("    var c{i}_{j} = {}();", kind("f32", "C")));
        }
    }
    let mut read = String::new();
    if a_staged {
        read += &format!(
            "        {{\n\
             \x20           let unit = block * {units}u + a_unit;\n\
             \x20           let unit_at = min(unit, params.units - 1u);\n"
        );
        for i in 0..a_reads {
            read += &format!(
                "            a{i} = select(vec4<f16>(), a[place{i}.base + unit_at], \
                 place{i}.inside && unit < params.units);\n"
            );
        }
        read += "        }\n";
    }
    if b_staged {
        read += &format!("        {{\n            let tap_at = panel + tap * k_end * {panel4}u;\n");
        for j in 0..b_reads {
            read += &format!(
                "            let k{j} = block * {DEPTH}u + b_k + {}u;\n\
                 \x20           b{j} = select(vec4<f16>(), b[tap_at + min(k{j}, k_end - 1u) * {panel4}u], \
                 k{j} < k_end);\n",
                j * threads / columns4
            );
        }
        read += "        }\n";
    }
    line(read.clone());
    line("    for (var step = step_first; step < step_last; step++) {".into());
    if a_staged {
        for i in 0..a_reads {
            let at = format!("(a_row + {}u) * {a_pitch}u + a_unit * {}u", i * threads / units, 4 / step);
            line(stage(tile, "a_tile", &at, &format!("a{i}")));
        }
    }
    if b_staged {
        for j in 0..b_reads {
            let at = format!("(b_k + {}u) * {b_pitch}u + b_column * {}u", j * threads / columns4, 4 / step);
            line(stage(tile, "b_tile", &at, &format!("b{j}")));
        }
    }
    if a_staged {
        line("        workgroupBarrier();".into());
    }
    // Direct loads are of this step, staged ones were: the walk goes on where it belongs.
    if !b_staged {
        line(format!(
            "        let b_block = block * {DEPTH}u;\n        let b_tap = panel + tap * k_end * {}u;",
            form.panel
        ));
    }
    if !a_staged {
        line(format!("        let a_block = block * {DEPTH}u;"));
    }
    line(form.next_step(&places));
    line(read);
    for ke in 0..DEPTH / edge {
        let k = ke * edge;
        line("        {".into());
        for i in 0..fragments_m {
            let load = if a_staged {
                let at = format!("(sub_row + {}u) * {a_pitch}u + {}u", i * edge, k / step);
                format!("coopLoadT<{}>(&a_tile[{at}], {a_pitch}u)", kind("f16", "A"))
            } else {
                let at = format!(
                    "params.a_base + batch * params.a_batch + (first + sub_row + {}u) * params.a_stride \
                     + min(a_block + {k}u, k_end - {edge}u)",
                    i * edge
                );
                format!("coopLoadT<{}>(&a[{at}], params.a_stride)", kind("f16", "A"))
            };
            line(format!("            let a_part{i} = {load};"));
        }
        for j in 0..fragments_n {
            let load = if b_staged {
                let at = format!("{}u + (sub_column + {}u) / {step}u", k * b_pitch, j * edge);
                format!("coopLoadT<{}>(&b_tile[{at}], {b_pitch}u)", kind("f16", "B"))
            } else {
                // Past the last k A holds zeros: any rows of B will do.
                let at =
                    format!("b_tap + min(b_block + {k}u, k_end - {edge}u) * {}u + {}u", form.panel, j * edge);
                format!("coopLoadT<{}>(&b[{at}], {}u)", kind("f16", "B"), form.panel)
            };
            line(format!("            let b_part{j} = {load};"));
            for i in 0..fragments_m {
                line(format!("            c{i}_{j} = coopMultiplyAdd(a_part{i}, b_part{j}, c{i}_{j});"));
            }
        }
        line("        }".into());
    }
    if a_staged {
        line("        workgroupBarrier();".into());
    }
    line("    }".into());
    if load == Load::Direct {
        // naga's SPIR-V writer wants index and stride of a store named.
        line("    let out_stride = params.c_stride;".into());
        for i in 0..fragments_m {
            for j in 0..fragments_n {
                line(format!(
                    "    let out{i}_{j} = to * params.c_batch + (first + sub_row + {}u) * out_stride \
                     + tile_n * {columns}u + sub_column + {}u;\n\
                     \x20   coopStoreT(c{i}_{j}, &c[out{i}_{j}], out_stride);",
                    i * edge,
                    j * edge
                ));
            }
        }
        line("}".into());
        return w;
    }
    line(format!("    let out_at = subgroup * {}u;", tile.out_floats()));
    // Columns of B that one move takes: four, or four values and their gates.
    let wide = 4 * form.fold();
    let vectors_wide = 2 * edge / wide;
    let moves = (edge * vectors_wide).div_ceil(32);
    let inside = if edge * vectors_wide < 32 { format!(" && row < {edge}u") } else { String::new() };
    let four = |from: u32| {
        let each = [0, 1, 2, 3].map(|i| format!("out[out_from + {}u]", from + i));
        format!("vec4<f32>({})", each.join(", "))
    };
    let sums = if form.gated { [four(0), four(4)].join(", ") } else { four(0) };
    let store = form.store();
    for i in 0..fragments_m {
        for j in (0..fragments_n).step_by(2) {
            for half in 0..2 {
                line(format!(
                    "    let out{i}_{0} = out_at + {1}u;\n\
                     \x20   coopStoreT(c{i}_{0}, &out[out{i}_{0}], {out_pitch}u);",
                    j + half,
                    half * edge
                ));
            }
            line(format!(
                "    workgroupBarrier();\n\
                 \x20   for (var i = 0u; i < {moves}u; i++) {{\n\
                 \x20       let at = sub_lane + i * 32u;\n\
                 \x20       let row = at / {vectors_wide}u;\n\
                 \x20       let column = sub_column + {}u + at % {vectors_wide}u * {wide}u;\n\
                 \x20       let out_from = out_at + row * {out_pitch}u + at % {vectors_wide}u * {wide}u;\n\
                 \x20       if (tile_n * {panels}u + column / {}u < params.tiles_n{inside}) {{\n\
                 \x20           {store}(to, first + sub_row + {}u + row,\n\
                 \x20               params.panel_first + (tile_n * {columns}u + column) / {wide}u,\n\
                 \x20               {sums});\n\
                 \x20       }}\n\
                 \x20   }}\n\
                 \x20   workgroupBarrier();",
                j * edge,
                form.panel,
                i * edge
            ));
        }
    }
    line("}".into());
    w
}
