//! How many workgroups an adapter runs side by side: wgpu does not tell, names do.

use super::adapter::Class;

/// Multiprocessors (compute units, cores) by a part of the adapter's name; the first that fits counts.
const KNOWN: &[(&str, u32)] = &[
    ("H200", 132),
    ("H100 PCIe", 114),
    ("H100", 132),
    ("GH200", 132),
    ("B200", 148),
    ("A100", 108),
    ("L40", 142),
    ("RTX A6000", 84),
    ("RTX 5090", 170),
    ("RTX 5080", 84),
    ("RTX 4090", 128),
    ("RTX 4080", 76),
    ("RTX 4070", 46),
    ("RTX 3090", 82),
    ("RTX 3080", 68),
    ("RTX 3060", 28),
    ("Tesla T4", 40),
    ("Tesla V100", 80),
    ("MI300X", 304),
    ("7900 XTX", 96),
    ("Arc A770", 32),
];

/// Workgroups that run side by side, one to a core; a guess where the name is not known.
pub(super) fn of(name: &str, class: Class) -> u32 {
    let known = KNOWN.iter().find(|(part, _)| name.contains(part));
    match (known, class) {
        (Some(&(_, cores)), _) => cores,
        (None, Class::Discrete) => 48,
        (None, Class::Integrated) => 12,
        (None, Class::Software) => std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_name_stands_first() {
        assert_eq!(of("NVIDIA H100 PCIe", Class::Discrete), 114);
        assert_eq!(of("NVIDIA H200", Class::Discrete), 132);
        assert!(of("a card of tomorrow", Class::Discrete) > 0 && of("llvmpipe", Class::Software) > 0);
    }
}
