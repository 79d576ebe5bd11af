//! Which pairs are for learning, and which for the report.
//!
//! Ours go by picture: a picture's every row, of every subject, has the same use, and which one follows from the seed and
//! the picture alone. NeuroVision drew rows, so that nearly every picture of its test set was learnt from; its draws are
//! made again here as pandas' `sample` and scikit-learn's `train_test_split` make them, with NumPy's old generator.

use super::pairs::Use;
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// Rows, each with its use, in the order train, val, test; by row within.
pub type Draw = Vec<(usize, Use)>;

/// Rows by picture: `test` and `val` are shares of the pictures; what is left is for training. `keys` names the picture of
/// every row.
///
/// Errors: [`Error::Setting`] for shares that are none, or that leave a use without a picture.
pub fn by_picture(keys: &[i64], val: f64, test: f64, seed: u64) -> Result<Draw> {
    let is_share = |share: f64| (0.0..1.0).contains(&share);
    if !is_share(val) || !is_share(test) || val + test >= 1.0 {
        let detail = format!("{val} and {test}, wanted shares of the pictures, less than 1 together");
        return Err(Error::setting("--val, --test", detail));
    }
    let pictures: BTreeSet<i64> = keys.iter().copied().collect();
    let mut order: Vec<(u64, i64)> = pictures.iter().map(|&key| (mix(seed, key as u64), key)).collect();
    order.sort_unstable();
    let count = |share: f64| (share * order.len() as f64).round() as usize;
    let (n_test, n_val) = (count(test), count(val));
    if (test > 0.0 && n_test == 0) || (val > 0.0 && n_val == 0) || n_test + n_val >= order.len() {
        let detail = format!("{} pictures are too few for shares of {val} and {test}", order.len());
        return Err(Error::setting("--val, --test", detail));
    }
    let key = |&(_, key): &(u64, i64)| key;
    let tests: BTreeSet<i64> = order[..n_test].iter().map(key).collect();
    let vals: BTreeSet<i64> = order[n_test..n_test + n_val].iter().map(key).collect();
    let of = |picture: &i64| match picture {
        picture if tests.contains(picture) => Use::Test,
        picture if vals.contains(picture) => Use::Val,
        _ => Use::Train,
    };
    let mut draw: Draw = keys.iter().enumerate().map(|(row, picture)| (row, of(picture))).collect();
    draw.sort_by_key(|&(row, split)| (split, row));
    Ok(draw)
}

/// NeuroVision's: `n` of `n_rows` rows, of these `test`, of what is left `val`, each drawn with this seed (42 as published).
///
/// Errors: [`Error::Setting`] for more rows than there are, or none left to learn from.
pub fn by_row(n_rows: usize, n: usize, val: usize, test: usize, seed: u32) -> Result<Draw> {
    if n > n_rows || val.saturating_add(test) >= n {
        let detail = format!("{n} rows, {val} to validate and {test} to test, of {n_rows} that there are");
        return Err(Error::setting("--rows, --val, --test", detail));
    }
    let mut sample = permutation(n_rows, seed);
    sample.truncate(n);
    let cut = |rows: Vec<usize>, n_held: usize| {
        let order = permutation(rows.len(), seed);
        let held: Vec<usize> = order[..n_held].iter().map(|&at| rows[at]).collect();
        let left: Vec<usize> = order[n_held..].iter().map(|&at| rows[at]).collect();
        (held, left)
    };
    let (tests, rest) = cut(sample, test);
    let (vals, trains) = cut(rest, val);
    let used = |rows: Vec<usize>, split| rows.into_iter().map(move |row| (row, split));
    Ok(used(trains, Use::Train).chain(used(vals, Use::Val)).chain(used(tests, Use::Test)).collect())
}

/// SplitMix64's finish over both numbers.
fn mix(seed: u64, key: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ key.wrapping_mul(0xD1B5_4A32_D192_ED03);
    for _ in 0..2 {
        z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
    }
    z
}

/// `numpy.random.RandomState(seed).permutation(n)`: Fisher and Yates from the end, places by the Mersenne Twister
/// (Matsumoto and Nishimura, 1998), masked until they fit.
fn permutation(n: usize, seed: u32) -> Vec<usize> {
    let mut twister = Twister::new(seed);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        let mask = u64::MAX >> (last as u64).leading_zeros();
        let place = loop {
            let draw = u64::from(twister.next()) & mask;
            if draw <= last as u64 {
                break draw as usize;
            }
        };
        order.swap(last, place);
    }
    order
}

/// MT19937.
struct Twister {
    state: [u32; 624],
    at: usize,
}

impl Twister {
    fn new(seed: u32) -> Twister {
        let mut state = [seed; 624];
        for i in 1..624 {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Twister { state, at: 624 }
    }

    fn next(&mut self) -> u32 {
        if self.at == 624 {
            for i in 0..624 {
                let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7FFF_FFFF);
                let twist = if joined & 1 == 1 { 0x9908_B0DF } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ (joined >> 1) ^ twist;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9D2C_5680;
        y ^= (y << 15) & 0xEFC6_0000;
        y ^ (y >> 18)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_are_numpys() {
        // numpy 2.4.6: RandomState(42).permutation(10), and places of the one of 43070.
        assert_eq!(permutation(10, 42), [8, 1, 5, 0, 7, 2, 9, 4, 3, 6]);
        let long = permutation(43_070, 42);
        assert_eq!([0, 1, 2, 16_999, 43_069].map(|at| long[at]), [465, 34482, 10111, 4206, 15795]);
        assert_eq!((permutation(0, 1), permutation(1, 1)), (vec![], vec![0]));
    }

    #[test]
    fn the_originals_rows_are_scikit_learns() {
        // train_test_split(df.sample(12, random_state=42), test_size=2, random_state=42), then test_size=3 of the rest.
        let draw = by_row(20, 12, 3, 2, 42).unwrap();
        let rows =
            |split| draw.iter().filter(|(_, of)| *of == split).map(|(row, _)| *row).collect::<Vec<_>>();
        assert_eq!(
            (rows(Use::Train), rows(Use::Val), rows(Use::Test)),
            (vec![0, 3, 5, 11, 17, 15, 8], vec![1, 18, 2], vec![13, 16])
        );
        assert!(by_row(20, 21, 1, 1, 42).is_err() && by_row(20, 12, 6, 6, 42).is_err());
    }

    #[test]
    fn a_picture_has_one_use_whoever_saw_it() {
        let keys: Vec<i64> = (0..4000).map(|row| (row * 7 % 100) + 139).collect();
        let draw = by_picture(&keys, 0.1, 0.2, 42).unwrap();
        let pictures = |split| -> BTreeSet<i64> {
            draw.iter().filter(|(_, of)| *of == split).map(|(row, _)| keys[*row]).collect()
        };
        let sets = Use::ALL.map(pictures);
        assert_eq!(sets.each_ref().map(BTreeSet::len), [70, 10, 20]);
        assert!(
            sets[0].is_disjoint(&sets[1]) && sets[0].is_disjoint(&sets[2]) && sets[1].is_disjoint(&sets[2])
        );
        assert_eq!(draw.len(), 4000);
        // Half of the rows gives the same uses.
        let half = by_picture(&keys[..2000], 0.1, 0.2, 42).unwrap();
        assert!(half.iter().all(|one| draw.contains(one)));
        assert_ne!(by_picture(&keys, 0.1, 0.2, 43).unwrap(), draw);
        assert!(by_picture(&keys, 0.5, 0.5, 42).is_err() && by_picture(&keys[..1], 0.1, 0.1, 42).is_err());
        assert!(by_picture(&keys, -0.1, 0.5, 42).is_err() && by_picture(&keys, f64::NAN, 0.5, 42).is_err());
    }
}
