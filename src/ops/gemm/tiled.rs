//! The product of a workgroup: both operands staged in workgroup memory, several rows by several columns of results in
//! the registers of each invocation. Needs no optional feature.
//!
//! A lies with its rows apart and 4 k to a vector (one vector more per row spreads the banks), B with its columns
//! together: for 4 k an invocation reads one vector per row of its results and 4 per vector of columns, which is as
//! much as with A turned around, and staging moves whole vectors. The next step is read from memory into registers
//! while this one is multiplied. An invocation's vectors of columns lie a stride apart; where they are values and their
//! gates, columns are staged in that order.

use super::form::Form;
use super::tile::Tiled;
use std::fmt::Write;

impl Tiled {
    /// Invocations of a workgroup.
    pub(super) fn workgroup(self) -> u32 {
        self.rows / self.each[0] * (self.columns / self.each[1])
    }

    /// Vectors of a row of A, one more than there are.
    fn pitch(self) -> u32 {
        self.depth / 4 + 1
    }

    /// Bytes of workgroup memory.
    pub(super) fn workgroup_bytes(self) -> u32 {
        let vectors = self.rows * self.pitch() + self.depth * self.columns / 4;
        vectors * if self.half { 8 } else { 16 }
    }
}

/// The generated product.
pub(super) fn product(form: Form, tile: Tiled) -> String {
    let Tiled { rows, columns, depth, each: [each_rows, each_columns], half } = tile;
    let (panel4, columns4, units, pitch) = (form.panel / 4, columns / 4, depth / 4, tile.pitch());
    let threads = tile.workgroup();
    let (a_reads, b_reads) = (rows * units / threads, depth * columns4 / threads);
    let (vectors, across) = (each_columns / 4, columns / each_columns);
    let down = rows / each_rows;
    let panels = form.tile.panels(form.panel);
    let b_column = match form.gated {
        true => format!("lane % {across}u * 2u + lane % {columns4}u / {across}u"),
        false => format!("lane % {columns4}u"),
    };
    let kind = if half { "vec4<f16>" } else { "vec4<f32>" };
    let mut w = String::new();
    write!(
        w,
        "var<workgroup> a_tile: array<{kind}, {}>;  // [{rows} rows, {pitch} x 4 k]\n\
         var<workgroup> b_tile: array<{kind}, {}>;  // [{depth} k, {columns4}]\n\
         @compute @workgroup_size({threads})\n\
         fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
         \x20   @builtin(local_invocation_index) lane: u32) {{\n{}{}\
         \x20   let first = tile_m * {rows}u;\n\
         \x20   let a_unit = lane % {units}u;\n\
         \x20   let a_row = lane / {units}u;\n\
         \x20   let b_column = {b_column};\n\
         \x20   let b_k = lane / {columns4}u;\n\
         \x20   let b_panel = min(tile_n * {panels}u + b_column / {panel4}u, params.tiles_n - 1u);\n\
         \x20   let panel = batch * params.b_batch + b_panel * params.taps * params.units * {}u\n\
         \x20       + b_column % {panel4}u;\n{}",
        rows * pitch,
        depth * columns4,
        form.place(),
        form.tile_order(),
        4 * panel4,
        form.steps(),
    )
    .expect("writing to a String does not fail");
    let mut line = |text: String| {
        w.push_str(&text);
        w.push('\n');
    };
    let mut places = String::new();
    for i in 0..a_reads {
        line(format!("    let row{i} = row_of(batch, first + a_row + {}u);", i * threads / units));
        line(format!("    var place{i} = tap_of(row{i}, tap);"));
        line(format!("    var a{i} = vec4<f32>();"));
        places += &format!("            place{i} = tap_of(row{i}, tap);\n");
    }
    for j in 0..b_reads {
        line(format!("    var b{j} = vec4<f32>();"));
    }
    for r in 0..each_rows {
        for v in 0..vectors {
            line(format!("    var c{r}_{v} = vec4<f32>();"));
        }
    }
    let mut read = format!(
        "        {{\n\
         \x20           let unit = block * {units}u + a_unit;\n\
         \x20           let unit_at = min(unit, params.units - 1u);\n\
         \x20           let k_end = params.units * 4u;\n\
         \x20           let tap_at = panel + tap * k_end * {panel4}u;\n"
    );
    for i in 0..a_reads {
        read += &format!(
            "            a{i} = select(vec4<f32>(), read_a(place{i}, unit_at), unit < params.units);\n"
        );
    }
    for j in 0..b_reads {
        read += &format!(
            "            let k{j} = block * {depth}u + b_k + {}u;\n\
             \x20           b{j} = select(vec4<f32>(), read_b(tap_at + min(k{j}, k_end - 1u) * {panel4}u, 0u), \
             k{j} < k_end);\n",
            j * threads / columns4
        );
    }
    read += "        }";
    line(read.clone());
    line("    for (var step = step_first; step < step_last; step++) {".into());
    for i in 0..a_reads {
        let at = i * threads / units * pitch;
        line(format!("        a_tile[a_row * {pitch}u + a_unit + {at}u] = {kind}(a{i});"));
    }
    for j in 0..b_reads {
        line(format!("        b_tile[lane + {}u] = {kind}(b{j});", j * threads));
    }
    line("        workgroupBarrier();".into());
    line(form.next_step(&places));
    line(read);
    line(format!(
        "        let y = lane / {across}u;\n\
         \x20       let x = lane % {across}u;\n\
         \x20       for (var unit = 0u; unit < {units}u; unit++) {{\n\
         \x20           let a_at = y * {pitch}u + unit;\n\
         \x20           let b_at = unit * {}u + x;",
        4 * columns4
    ));
    for k in 0..4 {
        for v in 0..vectors {
            line(format!(
                "            let v{k}_{v} = vec4<f32>(b_tile[b_at + {}u]);",
                k * columns4 + v * across
            ));
        }
    }
    for r in 0..each_rows {
        line(format!("            let u{r} = vec4<f32>(a_tile[a_at + {}u]);", r * down * pitch));
        for v in 0..vectors {
            line(format!(
                "            c{r}_{v} = c{r}_{v} + u{r}.x * v0_{v} + u{r}.y * v1_{v} + u{r}.z * v2_{v} \
                 + u{r}.w * v3_{v};"
            ));
        }
    }
    line("        }\n        workgroupBarrier();\n    }".into());
    line(format!("    let y = lane / {across}u;\n    let x = lane % {across}u;"));
    if form.gated {
        line(format!("    if (tile_n * {panels}u + x * 2u / {panel4}u < params.tiles_n) {{"));
        line(format!("        let column4 = params.panel_first + tile_n * {}u + x;", columns4 / 2));
        for r in 0..each_rows {
            line(format!("        store_gated(to, first + y + {}u, column4, c{r}_0, c{r}_1);", r * down));
        }
        line("    }\n}".into());
        return w;
    }
    for v in 0..vectors {
        line(format!("    let x{v} = x + {}u;", v * across));
        line(format!("    if (tile_n * {panels}u + x{v} / {panel4}u < params.tiles_n) {{"));
        line(format!("        let column4 = params.panel_first + tile_n * {columns4}u + x{v};"));
        for r in 0..each_rows {
            line(format!("        store(to, first + y + {}u, column4, c{r}_{v});", r * down));
        }
        line("    }".into());
    }
    line("}".into());
    w
}
