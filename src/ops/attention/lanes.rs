//! How lanes that share a row sum what each of them has: by shuffles where subgroups are there, else through workgroup
//! memory. The lanes of a row are neighbours, and their number is a power of two.

use super::line;
use std::fmt::Write;

/// Where lanes meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Meeting {
    /// In the registers of a subgroup.
    Shuffles,
    /// In `meeting`, a slot per lane and value.
    Workgroup,
}

/// Values that pass through workgroup memory at once.
const AT_ONCE: usize = 8;

/// Bytes of workgroup memory that `meet` needs.
pub(super) fn bytes(meeting: Meeting, split: u32, lanes: u32) -> usize {
    if split > 1 && meeting == Meeting::Workgroup { 4 * AT_ONCE * lanes as usize } else { 0 }
}

/// Their declaration.
pub(super) fn scratch(meeting: Meeting, split: u32, lanes: u32) -> String {
    match bytes(meeting, split, lanes) {
        0 => String::new(),
        bytes => {
            format!("var<workgroup> meeting: array<f32, {}>;  // [{AT_ONCE}, {lanes} lanes]\n", bytes / 4)
        }
    }
}

/// Each of these variables becomes its sum over the row's lanes. In uniform flow.
pub(super) fn meet(w: &mut String, meeting: Meeting, split: u32, lanes: u32, names: &[String]) {
    if split == 1 {
        return;
    }
    if meeting == Meeting::Shuffles {
        return meet_by_shuffles(w, split, names);
    }
    for names in names.chunks(AT_ONCE) {
        for (at, name) in names.iter().enumerate() {
            line!(w, "        meeting[{}u + lane] = {name};", at as u32 * lanes);
        }
        line!(w, "        workgroupBarrier();");
        for (at, name) in names.iter().enumerate() {
            let slot = |i| format!("meeting[{}u + lane / {split}u * {split}u]", at as u32 * lanes + i);
            let terms: Vec<_> = (0..split).map(slot).collect();
            line!(w, "        {name} = {};", terms.join(" + "));
        }
        line!(w, "        workgroupBarrier();");
    }
}

/// The same by shuffles.
pub(super) fn meet_by_shuffles(w: &mut String, split: u32, names: &[String]) {
    for step in (0..split.ilog2()).map(|i| 1 << i) {
        for name in names {
            line!(w, "        {name} += subgroupShuffleXor({name}, {step}u);");
        }
    }
}
