//! Random weights from a formula: the same name, shape and seed give the same bits everywhere.
//!
//! ```text
//! h   = splitmix64(fnv1a64(name) ^ seed)
//! u_i = (splitmix64(h + i·0x9E3779B97F4A7C15) >> 40) / 2^23 - 1        in [-1, 1), i the row-major index
//!
//! two or more axes             u·sqrt(3 / fan_in), fan_in = product(shape[1..]): variance 1 / fan_in
//! 1-D, "…running_var"          1 + 0.5u
//! 1-D, "…running_mean"         0.2u
//! 1-D, "…weight"               1 + 0.2u
//! any other 1-D, and scalars   0.2u
//! ```
//!
//! Computed in f64, rounded once to f32. `tests/golden/weights.py` is its twin: fixtures hold no weights, both
//! sides make them. Every value depends on its index alone, so a tensor can be made in pieces.
//!
//! Sources: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014); FNV-1a by Fowler, Noll
//! and Vo.

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// All values of a tensor; `out` holds as many as its shape.
pub fn fill(name: &str, shape: &[usize], seed: u64, out: &mut [f32]) {
    fill_range(name, shape, seed, 0, out);
}

/// The values from flat index `start` on, as many as `out` holds.
pub fn fill_range(name: &str, shape: &[usize], seed: u64, start: u64, out: &mut [f32]) {
    let (offset, scale) = offset_and_scale(name, shape);
    let h = splitmix64(hash(name) ^ seed);
    let mut state = h.wrapping_add(start.wrapping_mul(GOLDEN_GAMMA));
    for value in out {
        let u = (splitmix64(state) >> 40) as f64 / f64::from(1 << 23) - 1.0;
        *value = (offset + scale * u) as f32;
        state = state.wrapping_add(GOLDEN_GAMMA);
    }
}

/// value = offset + scale·u
fn offset_and_scale(name: &str, shape: &[usize]) -> (f64, f64) {
    match shape {
        [_, rest @ ..] if !rest.is_empty() => {
            let fan_in: f64 = rest.iter().map(|&axis| axis as f64).product();
            (0.0, (3.0 / fan_in).sqrt())
        }
        _ if name.ends_with("running_var") => (1.0, 0.5),
        _ if name.ends_with("running_mean") => (0.0, 0.2),
        _ if name.ends_with("weight") => (1.0, 0.2),
        _ => (0.0, 0.2),
    }
}

/// One output of splitmix64 for the state `x`.
pub fn splitmix64(x: u64) -> u64 {
    let mut z = x.wrapping_add(GOLDEN_GAMMA);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number for a name.
pub fn hash(name: &str) -> u64 {
    fnv1a64(name.as_bytes())
}

/// FNV-1a, 64 bits.
fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First values by an independent computation (Python, integers without limit), as bits of f32.
    #[test]
    fn first_values_are_those_of_an_independent_computation() {
        let cases: [(&str, &[usize], u64, [u32; 4]); 7] = [
            ("conv_in.weight", &[4, 3, 3, 3], 0, [0xbce134c0, 0xbe5c0fab, 0x3ea8ee0b, 0xbe965108]),
            ("conv_in.weight", &[4, 3, 3, 3], 7, [0x3db1ad0b, 0x3ea95414, 0xbe75ce68, 0x3e39abdb]),
            ("norm.weight", &[5], 0, [0x3f9636a2, 0x3f75fb05, 0x3f653a08, 0x3f833467]),
            ("norm.bias", &[5], 0, [0xbc56c01a, 0x3daadfed, 0x3cfa0033, 0xbe05d933]),
            ("bn.running_mean", &[5], 0, [0xbc017acd, 0xbcb7cf8d, 0xbe2a5032, 0x3dcc8603]),
            ("bn.running_var", &[5], 0, [0x3faa6860, 0x3f936120, 0x3f4e543c, 0x3f7f5c54]),
            ("größe.weight", &[2, 3], u64::MAX, [0x3f631450, 0xbdc4b6b0, 0x3f7ae52a, 0xbf7a7cf4]),
        ];
        for (name, shape, seed, wanted) in cases {
            let mut values = vec![0.0; shape.iter().product()];
            fill(name, shape, seed, &mut values);
            let bits: Vec<u32> = values[..4].iter().map(|v| v.to_bits()).collect();
            assert_eq!(bits, wanted, "{name} {shape:?} seed {seed}");
        }
        let mut far = [0.0];
        fill_range("big", &[1 << 20, 1 << 20], 3, (1 << 33) + 5, &mut far);
        assert_eq!(far[0].to_bits(), 0xba17b6d1);
        // Published values of both hashes.
        assert_eq!(splitmix64(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(fnv1a64(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn pieces_are_the_whole() {
        let (name, shape) = ("a.weight", [7, 11]);
        let mut whole = [0.0; 77];
        fill(name, &shape, 1, &mut whole);
        for (i, &wanted) in whole.iter().enumerate() {
            let mut one = [0.0];
            fill_range(name, &shape, 1, i as u64, &mut one);
            assert_eq!(one[0], wanted);
        }
    }

    #[test]
    fn the_spread_is_one_over_fan_in() {
        let mut values = vec![0.0; 100_000];
        fill("w.weight", &[1000, 100], 0, &mut values);
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 1e5;
        assert!((variance * 100.0 - 1.0).abs() < 0.02, "{variance}"); // 5 standard errors of 1e5 draws
    }

    #[test]
    fn an_empty_tensor_and_a_scalar_do_not_fail() {
        fill("w.weight", &[3, 0], 0, &mut []);
        let mut one = [9.0];
        fill("temperature", &[], 0, &mut one);
        assert!(one[0].abs() <= 0.2);
    }
}
