//! The product of a few rows: up to 8 by a panel per workgroup. Invocations lie along columns and along k, so that
//! weights stream through once, 4 independent loads at a time; their sums meet in workgroup memory at the end.

use super::form::Form;
use std::fmt::Write;

/// Invocations of a workgroup.
pub(super) const LANES: u32 = 256;
/// Rows whose sums meet at once: 16 KiB.
const ROWS_AT_ONCE: u32 = 4;

pub(super) fn workgroup_bytes(rows: u32) -> u32 {
    rows.min(ROWS_AT_ONCE) * LANES * 16
}

/// The generated product of `rows` x panel results.
pub(super) fn product(form: Form, rows: u32) -> String {
    let panel4 = form.panel / 4;
    let along_k = LANES / panel4;
    let at_once = rows.min(ROWS_AT_ONCE);
    let fold = form.fold();
    let mut w = String::new();
    write!(
        w,
        "var<workgroup> sums: array<vec4<f32>, {}>;  // [{at_once} rows, {along_k} along k, {panel4}]\n\
         @compute @workgroup_size({LANES})\n\
         fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
         \x20   @builtin(local_invocation_index) lane: u32) {{\n{}\
         \x20   let tile_m = within % params.tiles_m;\n\
         \x20   let tile_n = within / params.tiles_m;\n\
         \x20   let first = tile_m * {rows}u;\n\
         \x20   let column = lane % {panel4}u;\n\
         \x20   let k_lane = lane / {panel4}u;\n\
         \x20   let panel = batch * params.b_batch + tile_n * params.taps * params.units * {}u + column;\n{}",
        at_once * LANES,
        form.place(),
        4 * panel4,
        form.steps(),
    )
    .expect("writing to a String does not fail");
    let mut line = |text: String| {
        w.push_str(&text);
        w.push('\n');
    };
    let mut places = String::new();
    for r in 0..rows {
        line(format!("    let row{r} = row_of(batch, first + {r}u);"));
        line(format!("    var place{r} = tap_of(row{r}, tap);"));
        line(format!("    var c{r} = vec4<f32>();"));
        places += &format!("            place{r} = tap_of(row{r}, tap);\n");
    }
    line("    for (var step = step_first; step < step_last; step++) {".into());
    line(format!(
        "        let unit = block * {along_k}u + k_lane;\n\
         \x20       let there = unit < params.units;\n\
         \x20       let unit_at = min(unit, params.units - 1u);\n\
         \x20       let at = panel + (tap * params.units + unit_at) * {}u;",
        4 * panel4
    ));
    for k in 0..4 {
        line(format!("        let b{k} = select(vec4<f32>(), read_b(at, {}u), there);", k * panel4));
    }
    for r in 0..rows {
        line(format!(
            "        let a{r} = select(vec4<f32>(), read_a(place{r}, unit_at), there);\n\
             \x20       c{r} = c{r} + a{r}.x * b0 + a{r}.y * b1 + a{r}.z * b2 + a{r}.w * b3;"
        ));
    }
    line(form.next_step(&places));
    line("    }".into());
    line(format!("    let column4 = params.panel_first + tile_n * {}u + column;", panel4 / fold));
    for round in 0..rows / at_once {
        if round > 0 {
            line("    workgroupBarrier();".into());
        }
        for r in 0..at_once {
            line(format!("    sums[{}u + lane] = c{};", r * LANES, round * at_once + r));
        }
        // One invocation per result walks the sums along k, and then those of its gate.
        let names = if form.gated { vec!["value", "gate"] } else { vec!["sum"] };
        line("    workgroupBarrier();".into());
        line(format!("    if (k_lane < {at_once}u && column < {}u) {{", panel4 / fold));
        for (at, name) in names.iter().enumerate() {
            line(format!(
                "        var {name} = vec4<f32>();\n\
                 \x20       for (var i = 0u; i < {along_k}u; i++) {{\n\
                 \x20           {name} += sums[k_lane * {LANES}u + i * {panel4}u + column * {fold}u + {at}u];\n\
                 \x20       }}"
            ));
        }
        let (store, names) = (form.store(), names.join(", "));
        line(format!("        {store}(to, first + {}u + k_lane, column4, {names});", round * at_once));
        line("    }".into());
    }
    line("}".into());
    w
}
