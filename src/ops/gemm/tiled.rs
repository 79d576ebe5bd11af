//! The product of a workgroup: 64 rows by one panel, 4 x 4 results per invocation, both operands staged in workgroup
//! memory 16 k at a time. Needs no optional feature.

use super::form::PLACE;
use std::fmt::Write;

/// Rows of a tile.
pub(super) const ROWS: u32 = 64;
/// k per staged step.
pub(super) const DEPTH: u32 = 16;

/// Invocations of a workgroup.
pub(super) fn workgroup(panel: u32) -> u32 {
    16 * panel / 4
}

/// The generated product.
pub(super) fn product(panel: u32) -> String {
    let panel4 = panel / 4;
    let threads = workgroup(panel);
    let reads = ROWS * DEPTH / 4 / threads;
    let pitch = ROWS + 4; // spreads the banks of workgroup memory
    let mut w = String::new();
    write!(
        w,
        "var<workgroup> a_tile: array<f32, {}>;        // [16 k, {pitch} rows]\n\
         var<workgroup> b_tile: array<vec4<f32>, {}>;  // [16 k, {panel4}]\n\
         @compute @workgroup_size({threads})\n\
         fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
         \x20   @builtin(local_invocation_index) lane: u32) {{\n{PLACE}\
         \x20   let first = tile_m * {ROWS}u;\n\
         \x20   let b_row = lane / {panel4}u;\n\
         \x20   let b_column = lane % {panel4}u;\n\
         \x20   let panel = batch * params.b_batch + tile_n * params.taps * params.units * {}u + b_column;\n",
        DEPTH * pitch,
        DEPTH * panel4,
        4 * panel4
    )
    .expect("writing to a String does not fail");
    let mut line = |text: String| {
        w.push_str(&text);
        w.push('\n');
    };
    for i in 0..reads {
        line(format!("    let a_row{i} = (lane + {}u) / 4u;", i * threads));
        line(format!("    let row{i} = row_of(batch, first + a_row{i});"));
    }
    line("    let a_unit = lane % 4u;".into());
    for r in 0..4 {
        line(format!("    var c{r} = vec4<f32>();"));
    }
    line("    for (var tap = 0u; tap < params.taps; tap++) {".into());
    for i in 0..reads {
        line(format!("        let place{i} = tap_of(row{i}, tap);"));
    }
    line(format!("        let tap_at = panel + tap * params.units * {}u;", 4 * panel4));
    line("        for (var unit = 0u; unit < params.units; unit += 4u) {".into());
    line("            let there = unit + a_unit < params.units;".into());
    line("            let a_from = min(unit + a_unit, params.units - 1u);".into());
    for i in 0..reads {
        line(format!(
            "            let a{i} = select(vec4<f32>(), read_a(place{i}, a_from), there);\n\
             \x20           let to{i} = a_unit * {}u + a_row{i};",
            4 * pitch
        ));
        for (k, axis) in ["x", "y", "z", "w"].into_iter().enumerate() {
            line(format!("            a_tile[to{i} + {}u] = a{i}.{axis};", k as u32 * pitch));
        }
    }
    line(format!(
        "            let k = unit * 4u + b_row;\n\
         \x20           let k_last = params.units * 4u - 1u;\n\
         \x20           b_tile[lane] = select(vec4<f32>(), read_b(tap_at + min(k, k_last) * {panel4}u, 0u), k <= k_last);\n\
         \x20           workgroupBarrier();\n\
         \x20           for (var k = 0u; k < {DEPTH}u; k++) {{\n\
         \x20               let at = k * {pitch}u + b_row * 4u;\n\
         \x20               let v = b_tile[k * {panel4}u + b_column];\n\
         \x20               c0 += a_tile[at] * v;\n\
         \x20               c1 += a_tile[at + 1u] * v;\n\
         \x20               c2 += a_tile[at + 2u] * v;\n\
         \x20               c3 += a_tile[at + 3u] * v;\n\
         \x20           }}\n\
         \x20           workgroupBarrier();\n\
         \x20       }}\n\
         \x20   }}\n\
         \x20   let column4 = params.panel_first + tile_n * {panel4}u + b_column;"
    ));
    for r in 0..4 {
        line(format!("    store(batch, first + b_row * 4u + {r}u, column4, c{r});"));
    }
    line("}".into());
    w
}
