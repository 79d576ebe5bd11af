//! The product of one subgroup: up to 32 rows by one panel in registers, for adapters whose subgroups are 8 wide.
//! Lanes lie across columns; A is loaded with lanes as rows and spread by shuffles with constant lanes, so that every
//! loaded value serves the whole tile. No workgroup memory.

use super::form::{Bias, Form, ReadB};

/// Invocations of a workgroup: one subgroup.
pub(super) const LANES: u32 = 8;

/// The unrolled product: `rows` x `panel` results.
pub(super) fn product(form: Form, rows: u32) -> String {
    let Form { panel, read_b, .. } = form;
    let (slots, vectors, panel4) = (rows / 8, panel / 32, panel / 4);
    // A lane's columns lie a stride apart; a texel of halves holds two neighbours, and so are values and their gates.
    let (step, start, reads) = match (read_b, form.gated) {
        (ReadB::Texel16, _) => (panel4 / 2, "lane", 1),
        (_, true) => (panel4, "2u * lane", vectors),
        _ => (panel4, "lane", vectors),
    };
    let neighbours = read_b == ReadB::Texel16 || form.gated;
    let apart = if neighbours && !form.gated { "2u * lane" } else { "lane" };
    let column = |v: u32| if neighbours { v } else { 8 * v };
    let mut w = String::new();
    let mut line = |text: String| {
        w.push_str(&text);
        w.push('\n');
    };
    line(format!(
        "@compute @workgroup_size({LANES})\n\
         fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
         \x20   @builtin(subgroup_invocation_id) lane: u32) {{\n{}{}\
         \x20   let first = tile_m * {rows}u;\n\
         \x20   var at = (batch * params.b_batch + tile_n * params.taps * params.units * {}u) / {}u + {start};",
        form.place(),
        form.tile_order(),
        4 * panel4,
        panel4 / step
    ));
    for slot in 0..slots {
        line(format!("    let row{slot} = row_of(batch, first + {}u + lane);", 8 * slot));
    }
    for row in 0..rows {
        for v in 0..vectors {
            line(format!("    var c{row}_{v} = vec4<f32>();"));
        }
    }
    line("    for (var tap = 0u; tap < params.taps; tap++) {".into());
    for slot in 0..slots {
        line(format!("        let place{slot} = tap_of(row{slot}, tap);"));
    }
    line("        for (var unit = 0u; unit < params.units; unit++) {".into());
    for k in 0..4 {
        for v in 0..reads {
            let offset = k * step + column(v);
            if read_b == ReadB::Texel16 {
                line(format!("            let t{k} = read_b2(at, {offset}u);"));
                line(format!("            let b{k}_0 = lower(t{k}); let b{k}_1 = upper(t{k});"));
            } else {
                line(format!("            let b{k}_{v} = read_b(at, {offset}u);"));
            }
        }
    }
    line(format!("            at += {}u;", 4 * step));
    for slot in 0..slots {
        line(format!("            let a{slot} = read_a(place{slot}, unit);"));
    }
    for slot in 0..slots {
        for lane in 0..8 {
            let row = 8 * slot + lane;
            for (k, axis) in ["x", "y", "z", "w"].into_iter().enumerate() {
                line(format!("            let s{row}_{k} = subgroupShuffle(a{slot}.{axis}, {lane}u);"));
            }
            for v in 0..vectors {
                line(format!(
                    "            c{row}_{v} = c{row}_{v} + s{row}_0 * b0_{v} + s{row}_1 * b1_{v} \
                     + s{row}_2 * b2_{v} + s{row}_3 * b3_{v};"
                ));
            }
        }
    }
    line("        }\n    }".into());
    line(format!("    let column4 = params.panel_first + tile_n * {}u + {apart};", panel4 / form.fold()));
    if form.gated {
        finish_gated(form, rows, &mut line);
        return w;
    }
    // Rows beyond the last have been reckoned as the last one: writing it once more asks no question.
    for v in 0..vectors {
        line(format!(
            "    let column_{v} = (column4 + {}u) * 4u;\n\
             \x20   if (column_{v} < params.n) {{\n\
             \x20       let home_{v} = home_of(to, column_{v});",
            column(v)
        ));
        if form.bias == Bias::One {
            line(format!("        let bias_{v} = read_bias(0u, column_{v});"));
        }
        for row in 0..rows {
            let place = format!("min(first + {row}u, params.m - 1u)");
            let bias = match form.bias {
                Bias::None => String::new(),
                Bias::One => format!(" + bias_{v}"),
                Bias::Grouped => format!(" + read_bias(bias_row({place}), column_{v})"),
            };
            let sum = match read_b {
                ReadB::Buffer8 => format!("scaled(column_{v} / 4u, c{row}_{v})"),
                _ => format!("c{row}_{v}"),
            };
            line(format!("        finish(home_{v}.matrix, {place}, home_{v}.column, {sum}{bias});"));
        }
        line("    }".into());
    }
    line("}".into());
    w
}

/// Hands over values, which a lane has in its first vectors, with their gates, in its second ones.
fn finish_gated(form: Form, rows: u32, line: &mut impl FnMut(String)) {
    line("    let column = column4 * 4u;\n    if (column < params.n) {".into());
    let bias = if form.bias == Bias::None {
        ["", ""]
    } else {
        line("        let bias_0 = read_bias(0u, column);\n        let bias_1 = read_bias(0u, params.n + column);".into());
        [" + bias_0", " + bias_1"]
    };
    for row in 0..rows {
        line(format!(
            "        finish(to, min(first + {row}u, params.m - 1u), column, gated(c{row}_0{}, c{row}_1{}));",
            bias[0], bias[1]
        ));
    }
    line("    }\n}".into());
}
