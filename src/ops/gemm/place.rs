//! What the generated products share: which tile a workgroup owns, and how it walks k.

use super::form::Form;

impl Form {
    /// Head of a product: the tile of this workgroup, and the batch it reads (`batch`) and writes (`to`).
    /// A grid may hold a few workgroups more than there are tiles: they do the last one again.
    pub(super) fn place(self) -> String {
        let panels = self.tile.panels(self.panel);
        let strips = if panels == 1 {
            "    let strips = params.tiles_n;\n".to_string()
        } else {
            format!("    let strips = (params.tiles_n + {}u) / {panels}u;\n", panels - 1)
        };
        // A sum cut along k has one matrix, and writes as many as there are slices.
        let batch = if self.split { "0u" } else { "to" };
        format!(
            "    let tile = min(group_index(group, groups), params.count - 1u);\n\
             {strips}\
             \x20   let to = tile / (params.tiles_m * strips);\n\
             \x20   let batch = {batch};\n\
             \x20   let within = tile - to * params.tiles_m * strips;\n"
        )
    }

    /// Rows first, a stack of tiles of them, then columns: what a cache holds is used again.
    pub(super) fn tile_order(self) -> &'static str {
        "    let stack_first = within / (params.stack * strips) * params.stack;\n\
         \x20   let stack_rows = min(params.tiles_m - stack_first, params.stack);\n\
         \x20   let in_stack = within - stack_first * strips;\n\
         \x20   let tile_m = stack_first + in_stack % stack_rows;\n\
         \x20   let tile_n = in_stack / stack_rows;\n"
    }

    /// The outer loop's range over (tap, block of k), cut into slices where the sum is: `step` to `last`, the tap and
    /// the block where it begins.
    pub(super) fn steps(self) -> String {
        let units = self.tile.units(self.panel);
        let range = if self.split {
            "    let step_first = to * params.steps;\n\
             \x20   let step_last = min(step_first + params.steps, params.taps * blocks);\n"
        } else {
            "    let step_first = 0u;\n    let step_last = params.taps * blocks;\n"
        };
        format!(
            "    let blocks = (params.units + {}u) / {units}u;\n{range}\
             \x20   var tap = step_first / blocks;\n\
             \x20   var block = step_first - tap * blocks;\n",
            units - 1
        )
    }

    /// The next block of k; after the last one the walk stays within the operands. `taps` finds A's places anew.
    pub(super) fn next_step(self, taps: &str) -> String {
        format!(
            "        block += 1u;\n\
             \x20       if (block == blocks) {{\n\
             \x20           block = 0u;\n\
             \x20           tap = min(tap + 1u, params.taps - 1u);\n{taps}\
             \x20       }}\n"
        )
    }
}
