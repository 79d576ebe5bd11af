//! Attention with keys that are hidden from every query: the padding of a batch of texts.

use super::{MAX_WIDTH, Sight};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};
use std::ops::Range;

impl Tensor {
    /// As [`Tensor::attention`], with `mask [b_keys, n]` in f32: 1 for a key that may be seen, 0 for one that is
    /// hidden, as transformers' `attention_mask` has it. A query that sees no key at all gets zeros, as from PyTorch.
    /// Gradients flow to q, k and v.
    ///
    /// Errors: as [`Tensor::attention`]; a mask of another shape, with frames, or with heads wider than 192.
    #[allow(clippy::too_many_arguments)] // what attention is of
    pub fn masked_attention(
        &self,
        k: &Tensor,
        v: &Tensor,
        heads: usize,
        scale: Option<f32>,
        sight: Sight,
        mask: &Tensor,
    ) -> Result<Tensor> {
        self.attention_with(k, v, heads, scale, sight, Some(mask))
    }
}

/// Refuses a mask that does not go with these queries and keys.
pub(super) fn check(mask: Option<&Tensor>, q: &Tensor, k: &Tensor, width: usize, sight: Sight) -> Result<()> {
    let Some(mask) = mask else { return Ok(()) };
    let wrong = |detail: String| Err(Error::shape("attention", detail));
    if mask.shape() != &k.shape()[..2] || mask.dtype() != DType::F32 {
        return wrong(format!("wanted a mask {:?} f32, got {mask}", &k.shape()[..2]));
    }
    if !matches!(sight, Sight::All | Sight::Causal) {
        return wrong(format!("a mask does not go with {sight:?}"));
    }
    if width > MAX_WIDTH {
        return wrong(format!("a mask wants heads of at most {MAX_WIDTH}, got {width}"));
    }
    super::super::check_device("attention", "mask", mask, q)
}

/// The part of the mask that goes with some sets of keys.
pub(super) fn of_sets(mask: Option<&Tensor>, sets: &Range<usize>) -> Result<Option<Tensor>> {
    match mask {
        Some(mask) if mask.shape()[0] != sets.len() => Ok(Some(mask.narrow(0, sets.start, sets.len())?)),
        mask => Ok(mask.cloned()),
    }
}

/// What a weighted sum is multiplied with, from the sum of its weights and the largest score.
pub(super) fn share(sum: &str, top: &str, masked: bool) -> String {
    if masked { format!("select(1.0 / {sum}, 0.0, {top} == LEAST)") } else { format!("1.0 / {sum}") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::reference;
    use super::super::tiled::Tile;
    use super::super::{Family, Meeting, subgroup};
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, random_from};

    fn check(
        gpu: &Gpu,
        [b, m, heads, width]: [usize; 4],
        [b_keys, n]: [usize; 2],
        sight: Sight,
        family: Option<Family>,
    ) {
        let c = heads * width;
        let (q, k, v) = (
            random_from(1, b * m * c, 2.0),
            random_from(2, b_keys * n * c, 2.0),
            random_from(3, b_keys * n * c, 1.0),
        );
        // The first set has hidden keys in front, as left padding; the others here and there; the last none at all.
        let seen = |set: usize, key: usize| match set {
            0 => key >= n / 3,
            set if set + 1 == b_keys && set > 1 => false,
            set => !(key * 7 + set).is_multiple_of(3),
        };
        let mask: Vec<f32> = (0..b_keys * n).map(|at| f32::from(u8::from(seen(at / n, at % n)))).collect();
        let tensor = |shape: &[usize], values: &[f32]| Tensor::new(gpu, shape, values).unwrap();
        let (q_gpu, k_gpu, v_gpu) =
            (tensor(&[b, m, c], &q), tensor(&[b_keys, n, c], &k), tensor(&[b_keys, n, c], &v));
        let mask = tensor(&[b_keys, n], &mask);
        let o = q_gpu.attention_in(&k_gpu, &v_gpu, heads, None, sight, Some(&mask), family).unwrap();
        let want = reference(&q, &k, &v, [b, m, heads, width], |image, query| {
            let set = image / (b / b_keys);
            let last = if sight == Sight::Causal { query } else { n - 1 };
            (0..=last).filter(|&key| seen(set, key)).map(|key| set * n + key).collect()
        });
        let what = format!("[{b}, {m}, {heads} x {width}] keys [{b_keys}, {n}] {sight:?} {family:?}");
        assert_close(&o.to_vec().unwrap(), &want, 1e-5, &what);
    }

    fn check_all(gpu: &Gpu, family: Option<Family>) {
        check(gpu, [3, 17, 3, 8], [3, 17], Sight::Causal, family);
        check(gpu, [4, 13, 2, 40], [2, 71], Sight::All, family);
        check(gpu, [3, 1, 2, 20], [3, 301], Sight::All, family);
        check(gpu, [3, 5, 2, 5], [3, 5], Sight::Causal, family);
        check(gpu, [3, 1, 1, 4], [3, 1], Sight::All, family);
        check(gpu, [2, 70, 2, 64], [2, 70], Sight::Causal, family);
    }

    #[test]
    fn hidden_keys_count_for_nothing_in_every_family() {
        let Some(gpu) = gpu() else { return };
        check_all(&gpu, None);
        if gpu.facts().features.subgroup_size == Some(subgroup::LANES) {
            check_all(&gpu, Some(Family::Subgroup { queries: 2, split: 2 }));
            // Large enough for textures.
            check(&gpu, [2, 205, 2, 40], [2, 301], Sight::All, None);
        }
        let meeting = Meeting::Workgroup;
        check_all(&gpu, Some(Family::Tiled(Tile { queries: 2, split: 2, lanes: 64, meeting })));
        check_all(&gpu, Some(Family::Decode { lanes: 8 }));
        check_all(&gpu, Some(Family::Decode { lanes: 64 }));
    }

    #[test]
    fn gradients_pass_hidden_keys_by() {
        let Some(gpu) = gpu() else { return };
        let cases = [([4, 5, 2, 8], [2, 7], Sight::All), ([3, 6, 3, 5], [3, 6], Sight::Causal)];
        for ([b, m, heads, width], [b_keys, n], sight) in cases {
            let c = heads * width;
            let values =
                [(1, b * m), (2, b_keys * n), (3, b_keys * n)].map(|(seed, n)| random_from(seed, n * c, 1.5));
            // One set has its first keys hidden, as left padding; the last sees none.
            let seen =
                |set: usize, key: usize| set + 1 < b_keys && key > 2 * set || b_keys == 2 && key % 2 == set;
            let mask: Vec<f32> =
                (0..b_keys * n).map(|at| f32::from(u8::from(seen(at / n, at % n)))).collect();
            let mask = Tensor::new(&gpu, &[b_keys, n], &mask).unwrap();
            assert_gradients(
                &gpu,
                &[(&[b, m, c], &values[0]), (&[b_keys, n, c], &values[1]), (&[b_keys, n, c], &values[2])],
                |x| x[0].masked_attention(&x[1], &x[2], heads, None, sight, &mask),
                |x| {
                    reference(&x[0], &x[1], &x[2], [b, m, heads, width], |image, query| {
                        let set = image / (b / b_keys);
                        let last = if sight == Sight::Causal { query } else { n - 1 };
                        (0..=last).filter(|&key| seen(set, key)).map(|key| set * n + key).collect()
                    })
                },
                1e-4,
                &format!("masked {sight:?}"),
            );
        }
    }

    #[test]
    fn a_batch_larger_than_a_binding_takes_its_masks_along() {
        let options = Options { binding_bytes: Some(20 << 10), ..Default::default() };
        let Some(gpu) = gpu_with(options) else { return };
        check(&gpu, [40, 16, 2, 8], [20, 7], Sight::All, None);
        check(&gpu, [36, 11, 2, 8], [36, 11], Sight::Causal, None);
    }

    #[test]
    fn misfits_are_refused() {
        let gpu = Gpu::plan();
        let tensor = |shape: &[usize]| Tensor::empty(&gpu, shape, DType::F32).unwrap();
        let (q, k) = (tensor(&[4, 3, 8]), tensor(&[4, 3, 8]));
        let masked =
            |heads, sight, mask: &[usize]| q.masked_attention(&k, &k, heads, None, sight, &tensor(mask));
        assert!(masked(2, Sight::All, &[4, 3]).is_ok());
        assert!(masked(2, Sight::All, &[4, 2]).is_err());
        assert!(masked(2, Sight::Temporal { frames: 2 }, &[4, 3]).is_err());
        let wide = tensor(&[4, 3, 200]);
        assert!(wide.masked_attention(&wide, &wide, 1, None, Sight::All, &tensor(&[4, 3])).is_err());
    }
}
