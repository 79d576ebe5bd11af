//! Standard normal values from a counter: Philox4x32-10 (Salmon et al. 2011), then Box-Muller (1958).
//!
//! Value i depends on seed, stream and i alone, and comes out with the same bits on every adapter and on the
//! host: all arithmetic is of integers, in the same order as in the shader. The generator is a statistical one:
//! not for secrets.

use super::{common, params, shaders};
use crate::error::Result;
use crate::gpu::{Gpu, Kernel, Launch, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor};

const FORWARD: Kernel =
    Kernel::new("normal", "forward", &[shaders!("normal"), common::INDEX, common::PHILOX, common::WIDE]);

/// Values of one counter.
const BLOCK: usize = 4;

params! {
    struct Params {
        blocks: u32,
        first_block: u32,
        seed_low: u32,
        seed_high: u32,
        stream_low: u32,
        stream_high: u32,
    }
}

impl Tensor {
    /// Values 0.. of a stream, mean 0 and variance 1, row-major, f32. Streams of one seed are independent: give
    /// each use (latents of clip 3, noise of step 7) its own number.
    ///
    /// Errors: [`crate::error::Error::Limit`] when the device cannot hold them.
    pub fn normal(gpu: &Gpu, shape: &[usize], seed: u64, stream: u64) -> Result<Tensor> {
        let _op = gpu.op(|| format!("normal {shape:?}"));
        let y = Tensor::empty(gpu, shape, DType::F32)?;
        if y.is_empty() {
            return Ok(y);
        }
        let variant = Variant { scalar: Scalar::F32, width: 4, workgroup: gpu.flat_workgroup() };
        // The last block may end past the tensor, where buffers are padded.
        for blocks in gpu.row_windows("normal", y.len().div_ceil(BLOCK), &[BLOCK * y.dtype().bytes()])? {
            let params = Params {
                blocks: blocks.len() as u32,
                first_block: blocks.start as u32,
                seed_low: seed as u32,
                seed_high: (seed >> 32) as u32,
                stream_low: stream as u32,
                stream_high: (stream >> 32) as u32,
            };
            gpu.run(&Launch {
                program: FORWARD.program(variant),
                params: params.as_bytes(),
                inputs: &[],
                outputs: &[y.window(blocks.start * BLOCK..blocks.end * BLOCK)],
                groups: gpu.grid("normal", (blocks.len() as u64).div_ceil(u64::from(variant.workgroup)))?,
                work: Work { flops: 0, bytes: (blocks.len() * BLOCK * y.dtype().bytes()) as u64 },
            })?;
        }
        Ok(y)
    }

    /// Values `start..start + count` of the same stream, on the host, bit for bit those of [`Tensor::normal`].
    ///
    /// ```
    /// let whole = mindreel::tensor::Tensor::normal_host(114_514, 0, 0, 10);
    /// assert_eq!(mindreel::tensor::Tensor::normal_host(114_514, 0, 3, 2), whole[3..5]);
    /// ```
    pub fn normal_host(seed: u64, stream: u64, start: u64, count: usize) -> Vec<f32> {
        let key = [seed as u32, (seed >> 32) as u32];
        let first = start / BLOCK as u64;
        let skip = (start % BLOCK as u64) as usize;
        (first..)
            .flat_map(|block| {
                let counter = [block as u32, (block >> 32) as u32, stream as u32, (stream >> 32) as u32];
                let [a, b, c, d] = philox(counter, key);
                let ([a, b], [c, d]) = (normal_pair(a, b), normal_pair(c, d));
                [a, b, c, d].map(f32::from_bits)
            })
            .skip(skip)
            .take(count)
            .collect()
    }
}

/// The words of a stream, from which the values of [`Tensor::normal`] are made; for other uses of a stream of its own.
pub(crate) fn random_words(seed: u64, stream: u64) -> impl Iterator<Item = u32> {
    let key = [seed as u32, (seed >> 32) as u32];
    (0_u64..).flat_map(move |block| {
        philox([block as u32, (block >> 32) as u32, stream as u32, (stream >> 32) as u32], key)
    })
}

/// Four random words of a counter: the twin of common/philox.wgsl.
pub(super) fn philox(mut c: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let (a, b) = (0xD251_1F53 * u64::from(c[0]), 0xCD9E_8D57 * u64::from(c[2]));
        c = [(b >> 32) as u32 ^ c[1] ^ key[0], b as u32, (a >> 32) as u32 ^ c[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

/// Two values, as bits of f32. The words on the way are those of the shader, where they are explained.
fn normal_pair(a: u32, b: u32) -> [u32; 2] {
    let r = radius(a);
    let quarter = b.wrapping_add(1 << 29) >> 30;
    let rest = b.wrapping_sub(quarter << 30);
    let is_negative = rest >= 1 << 31;
    let t = (2 * if is_negative { !rest } else { rest } + 1) << 2;
    let s = high(t, t);
    let sine = [0x542, 0x265A6, 0xA3_35E3, 0x14AB_BCE6, 0xC90F_DAA2];
    let sine = high(t, sine.into_iter().reduce(|sum, c| c - high(s, sum)).unwrap_or_default());
    let cosine = [0x6A, 0x3C3F, 0x15_5D3C, 0x40F_07C2, 0x4EF4_F327];
    let cosine = !high(s, cosine.into_iter().reduce(|sum, c| c - high(s, sum)).unwrap_or_default());
    let (x, y) = if quarter % 2 == 1 { (sine, cosine) } else { (cosine, sine) };
    let (x_is_negative, y_is_negative) = match quarter {
        0 => (false, is_negative),
        1 => (!is_negative, false),
        2 => (true, !is_negative),
        _ => (is_negative, true),
    };
    let bits = |v, negative| float_bits(high(r, v)) | u32::from(negative) << 31;
    [bits(x, x_is_negative), bits(y, y_is_negative)]
}

/// sqrt(-2 ln u), with 29 bits behind the point, for u = (a + 1/2) / 2^32 below a half, a / 2^32 above.
fn radius(a: u32) -> u32 {
    const ROOT_HALF: u32 = 0xB504_F334;
    let zeros = a.leading_zeros();
    let mut x = if zeros == 0 { a } else { (2 * a + 1) << (zeros - 1) };
    let mut halves = 2 * zeros;
    if x < ROOT_HALF {
        x = high(x, ROOT_HALF) << 1;
        halves += 1;
    }
    let g = x.wrapping_neg();
    let p = [0x164_BA96, 0x47_397A, 0x30B_2421, 0x651_A1F9, 0x1002_15BB, 0x2AAA_96DA, 0x8000_001E];
    let p = p.into_iter().reduce(|sum, c| c + high(g << 1, sum)).unwrap_or_default();
    let near = g + high(high(g, g), p);
    let log = u64::from(halves) * 0x58B9_0BFC + u64::from(near);
    let shift = (log.leading_zeros() - 1) | 1;
    let v = (log << shift >> 32) as u32;
    let mut y = 2_822_490_381 - (high(v, 1_682_537_772 - (high(v, 204_438_319) << 2)) << 1);
    for _ in 0..3 {
        y = high(y, (0x3000_0000 - high(v, high(y, y))) << 2) << 1;
    }
    (high(v, y) << 2) >> ((shift - 27) / 2)
}

/// The f32 nearest to a number with 29 bits behind the point, by its bits.
fn float_bits(a: u32) -> u32 {
    if a == 0 {
        return 0;
    }
    let ones = a << a.leading_zeros();
    ((129 - a.leading_zeros()) << 23) + ((ones >> 8) & 0x7F_FFFF) + ((ones >> 7) & 1)
}

/// High 32 of the 64 bits of a product.
fn high(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Options;
    use crate::testing::{gpu, gpu_with, shader_twin};

    #[test]
    fn philox_gives_the_known_answers() {
        // Random123 1.14, tests/kat_vectors
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]
        );
        assert_eq!(
            philox([0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344], [0xA409_3822, 0x299F_31D0]),
            [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]
        );
    }

    /// Box-Muller in f64.
    fn reference(a: u32, b: u32) -> [f64; 2] {
        let half = if a < 1 << 31 { 0.5 } else { 0.0 };
        let r = (-2.0 * ((f64::from(a) + half) / 2_f64.powi(32)).ln()).sqrt();
        let angle = std::f64::consts::TAU * (f64::from(b) + 0.5) / 2_f64.powi(32);
        [r * angle.cos(), r * angle.sin()]
    }

    #[test]
    fn fixed_point_follows_the_formula() {
        let mut edges: Vec<u32> = (0..32)
            .flat_map(|bit| [1_u32 << bit, (1 << bit) - 1, !(1 << bit), 3 << bit, (1 << bit) + 1])
            .chain([0, u32::MAX, 0xB504_F333, 0xB504_F334, 0x5A82_799A, 0x5A82_7999, 1 << 29, 7 << 29])
            .collect();
        edges.extend((0..1000).map(|at: u32| at.wrapping_mul(0x9E37_79B9)));
        let mut worst = 0.0_f64;
        for &a in &edges {
            for &b in &edges {
                for (got, want) in normal_pair(a, b).into_iter().zip(reference(a, b)) {
                    worst = worst.max((f64::from(f32::from_bits(got)) - want).abs());
                }
            }
        }
        // Half of the last place of f32 above 4 is 2.4e-7.
        assert!(worst < 3e-7, "{worst}");
    }

    #[test]
    fn values_are_normal() {
        let count = 1_000_000;
        let z: Vec<f64> = Tensor::normal_host(7, 1, 0, count).into_iter().map(f64::from).collect();
        let n = count as f64;
        let moment = |power: i32| z.iter().map(|v| v.powi(power)).sum::<f64>() / n;
        // Four standard errors each: sqrt(1, 2, 15, 96 / n).
        let within = |got: f64, want: f64, variance: f64| (got - want).abs() < 4.0 * (variance / n).sqrt();
        assert!(within(moment(1), 0.0, 1.0), "mean {}", moment(1));
        assert!(within(moment(2), 1.0, 2.0), "variance {}", moment(2));
        assert!(within(moment(3), 0.0, 15.0), "third moment {}", moment(3));
        assert!(within(moment(4), 3.0, 96.0), "fourth moment {}", moment(4));
        for (sigmas, share) in
            [(1.0, 0.317_310_507_9), (2.0, 0.045_500_263_9), (3.0, 0.002_699_796_1), (4.0, 0.000_063_342_5)]
        {
            let above = z.iter().filter(|v| **v > sigmas).count() as f64 / n;
            let below = z.iter().filter(|v| **v < -sigmas).count() as f64 / n;
            assert!(within(above, share / 2.0, share / 2.0), "above {sigmas}: {above}");
            assert!(within(below, share / 2.0, share / 2.0), "below {sigmas}: {below}");
        }
        for lag in 1..9 {
            let product = z.iter().zip(&z[lag..]).map(|(a, b)| a * b).sum::<f64>() / n;
            assert!(within(product, 0.0, 1.0), "lag {lag}: {product}");
        }
    }

    #[test]
    fn streams_and_seeds_differ_and_ranges_join() {
        let base = Tensor::normal_host(1, 2, 0, 64);
        for (seed, stream) in [(2, 2), (1, 3), (1 | 1 << 32, 2), (1, 2 | 1 << 32)] {
            let other = Tensor::normal_host(seed, stream, 0, 64);
            assert!(base.iter().zip(&other).all(|(a, b)| a != b), "{seed} {stream}");
        }
        for start in [0, 1, 3, 4, 17] {
            assert_eq!(Tensor::normal_host(1, 2, start, 20), base[start as usize..start as usize + 20]);
        }
        assert!(Tensor::normal_host(1, 2, 5, 0).is_empty());
        assert_ne!(Tensor::normal_host(1, 2, 1 << 34, 4), base[..4], "blocks past 2^32");
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn device_and_host_give_the_same_bits() {
        let Some(gpu) = gpu() else { return };
        for (shape, seed, stream) in [
            (vec![1], 0, 0),
            (vec![3], u64::MAX, u64::MAX),
            (vec![7, 37], 114_514, 5),
            (vec![257], 1 << 40, 1 << 50),
            (vec![1, 6, 36, 64, 4], 42, 0),
            (vec![1_000_003], 3, 9),
        ] {
            let y = Tensor::normal(&gpu, &shape, seed, stream).unwrap();
            assert_eq!((y.shape(), y.dtype()), (&shape[..], DType::F32));
            let want = Tensor::normal_host(seed, stream, 0, y.len());
            assert!(bits(&y.to_vec().unwrap()) == bits(&want), "{shape:?}");
        }
        assert!(Tensor::normal(&gpu, &[0, 3], 1, 1).unwrap().is_empty());
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        let y = Tensor::normal(&gpu, &[5003], 11, 12).unwrap();
        assert!(bits(&y.to_vec().unwrap()) == bits(&Tensor::normal_host(11, 12, 0, 5003)));
    }

    #[test]
    fn shader_twin_of_normal() {
        shader_twin(&FORWARD, Params::FIELDS);
    }
}
