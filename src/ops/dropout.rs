//! Dropout: elements become 0 with probability p, the others grow by 1 / (1 - p).
//! Same as PyTorch `F.dropout(x, p)`, with random numbers from a seed and a counter (Philox, as in normal.rs): which
//! element goes depends on seed, stream and its place alone, and the host has a twin with the same bits.
//! Backward: the same of dy, with the words drawn again; no mask is kept.

use super::normal::philox;
use super::{common, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::tensor::Tensor;

const FORWARD: Kernel =
    Kernel::new("dropout", "forward", &[shaders!("dropout"), common::INDEX, common::PHILOX, common::WIDE]);

/// Elements of one counter.
const BLOCK: usize = 4;

params! {
    struct Params {
        blocks: u32,
        first_block: u32,
        seed_low: u32,
        seed_high: u32,
        stream_low: u32,
        stream_high: u32,
        threshold: u32,
        scale: f32,
    }
}

impl Tensor {
    /// [..] -> [..]; each element 0 with probability `p`, else times 1 / (1 - p). Each use wants a stream of its own:
    /// no other dropout, and no [`Tensor::normal`], may have the same seed and stream.
    ///
    /// Errors: [`Error::Setting`] when `p` is outside of 0 to 1, [`Error::DType`] on ids.
    pub fn dropout(&self, p: f64, seed: u64, stream: u64) -> Result<Tensor> {
        let (threshold, scale) = odds(p)?;
        let scalar = self.scalar("dropout")?;
        if p == 0.0 {
            return Ok(self.clone());
        }
        let _op = self.gpu().op(|| format!("dropout {self}"));
        let (gpu, block_bytes) = (self.gpu(), BLOCK * self.dtype().bytes());
        let y = Tensor::empty(gpu, self.shape(), self.dtype())?;
        let variant = Variant { scalar, width: 4, workgroup: gpu.flat_workgroup() };
        // The last block may end past the tensor, where buffers are padded.
        let n_blocks = if self.is_empty() { 0 } else { self.len().div_ceil(BLOCK) };
        for blocks in
            gpu.row_windows("dropout", n_blocks, &[block_bytes])?.into_iter().filter(|b| !b.is_empty())
        {
            let params = Params {
                blocks: blocks.len() as u32,
                first_block: blocks.start as u32,
                seed_low: seed as u32,
                seed_high: (seed >> 32) as u32,
                stream_low: stream as u32,
                stream_high: (stream >> 32) as u32,
                threshold,
                scale,
            };
            let elements = blocks.start * BLOCK..blocks.end * BLOCK;
            gpu.run(&Launch {
                program: FORWARD.program(variant),
                params: params.as_bytes(),
                inputs: &[self.window(elements.clone())],
                outputs: &[y.window(elements)],
                groups: gpu.grid("dropout", (blocks.len() as u64).div_ceil(u64::from(variant.workgroup)))?,
                work: Work { flops: 0, bytes: (2 * blocks.len() * block_bytes) as u64 },
            })?;
        }
        Ok(y.made_by([self], move |_, dy| Ok([Some(dy.dropout(p, seed, stream)?)])))
    }

    /// What elements `start..start + count` are multiplied with by [`Tensor::dropout`], on the host, bit for bit.
    ///
    /// ```
    /// let factors = mindreel::tensor::Tensor::dropout_host(0.5, 7, 0, 0, 8)?;
    /// assert!(factors.iter().all(|&factor| factor == 0.0 || factor == 2.0));
    /// # Ok::<(), mindreel::error::Error>(())
    /// ```
    ///
    /// Errors: as `dropout`.
    pub fn dropout_host(p: f64, seed: u64, stream: u64, start: u64, count: usize) -> Result<Vec<f32>> {
        let (threshold, scale) = odds(p)?;
        let key = [seed as u32, (seed >> 32) as u32];
        let words = (start / BLOCK as u64..).flat_map(|block| {
            philox([block as u32, (block >> 32) as u32, stream as u32, (stream >> 32) as u32], key)
        });
        let factors = words.map(|word| if word >= threshold { scale } else { 0.0 });
        Ok(factors.skip((start % BLOCK as u64) as usize).take(count).collect())
    }
}

/// The word from which on an element stays, and the factor it then gets.
fn odds(p: f64) -> Result<(u32, f32)> {
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::setting("dropout", format!("wanted a probability from 0 to 1, got {p}")));
    }
    // `as` stays within u32; where everything goes the factor is 0.
    let scale = if p == 1.0 { 0.0 } else { (1.0 / (1.0 - p)) as f32 };
    Ok(((p * 2_f64.powi(32)).round() as u32, scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::tensor::DType;
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, random, shader_twin};

    fn check(gpu: &Gpu, shape: &[usize], p: f64, seed: u64, stream: u64) {
        let x: Vec<f32> = random(shape, 2.0);
        let factors = Tensor::dropout_host(p, seed, stream, 0, x.len()).unwrap();
        let want: Vec<f32> = x.iter().zip(&factors).map(|(x, factor)| x * factor).collect();
        let y = Tensor::new(gpu, shape, &x).unwrap().dropout(p, seed, stream).unwrap();
        assert_eq!(y.to_vec().unwrap(), want, "{shape:?} {p} {seed} {stream}");
    }

    #[test]
    fn device_and_host_drop_the_same() {
        let Some(gpu) = gpu() else { return };
        for (shape, p, seed, stream) in [
            (vec![], 0.5, 0, 0),
            (vec![3], 0.25, u64::MAX, u64::MAX),
            (vec![7, 37], 0.5, 114_514, 5),
            (vec![257], 0.9, 1 << 40, 1 << 50),
            (vec![5], 0.0, 1, 1),
            (vec![9], 1.0, 1, 1),
            (vec![300_001], 0.1, 3, 9),
        ] {
            check(&gpu, &shape, p, seed, stream);
        }
    }

    #[test]
    fn as_many_go_as_should_and_streams_differ() {
        let n = 1_000_000;
        for p in [0.1, 0.5, 0.999] {
            let factors = Tensor::dropout_host(p, 7, 1, 0, n).unwrap();
            let dropped = factors.iter().filter(|&&factor| factor == 0.0).count() as f64 / n as f64;
            let error = (p * (1.0 - p) / n as f64).sqrt();
            assert!((dropped - p).abs() < 4.0 * error, "{p}: {dropped}");
            let mean = factors.iter().map(|&factor| f64::from(factor)).sum::<f64>() / n as f64;
            assert!((mean - 1.0).abs() < 4.0 * error / (1.0 - p), "{p}: mean {mean}");
        }
        let base = Tensor::dropout_host(0.5, 1, 2, 0, 64).unwrap();
        for (seed, stream) in [(2, 2), (1, 3), (1 | 1 << 32, 2), (1, 2 | 1 << 32)] {
            assert_ne!(Tensor::dropout_host(0.5, seed, stream, 0, 64).unwrap(), base);
        }
        assert_eq!(Tensor::dropout_host(0.5, 1, 2, 5, 20).unwrap(), base[5..25]);
    }

    #[test]
    fn the_gradient_goes_where_the_value_went() {
        let Some(gpu) = gpu() else { return };
        let x = random(&[7, 37], 2.0);
        for half in [false, gpu.facts().features.f16] {
            let dtype = if half { DType::F16 } else { DType::F32 };
            let factors = Tensor::dropout_host(0.25, 3, 4, 0, x.len()).unwrap();
            assert_gradients(
                &gpu,
                &[(&[7, 37], &x)],
                |x| x[0].cast(dtype)?.dropout(0.25, 3, 4)?.cast(DType::F32),
                |x| x[0].iter().zip(&factors).map(|(x, &factor)| x * f64::from(factor)).collect(),
                if half { 2e-3 } else { 1e-6 },
                &format!("{dtype}"),
            );
        }
        let p = Tensor::new(&gpu, &[2], &[1_f32, 2.0]).unwrap().parameter();
        assert_eq!(p.dropout(0.0, 1, 1).unwrap().node(), p.node(), "nothing to do");
        let back = p.dropout(1.0, 1, 1).unwrap().sum(&[0]).unwrap().backward().unwrap();
        assert_eq!(back.get(&p).unwrap().to_vec().unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn f16_drops_the_same_places() {
        let Some(gpu) = gpu().filter(|gpu| gpu.facts().features.f16) else { return };
        let x = Tensor::full(&gpu, &[1031], DType::F16, 1.0).unwrap();
        let factors = Tensor::dropout_host(0.5, 3, 4, 0, 1031).unwrap();
        let want: Vec<f64> = factors.into_iter().map(f64::from).collect();
        assert_close(&x.dropout(0.5, 3, 4).unwrap().to_vec().unwrap(), &want, 0.0, "f16");
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        check(&gpu, &[5003], 0.5, 11, 12);
    }

    #[test]
    fn wrong_odds_and_ids_are_refused_and_nothing_gives_nothing() {
        let plan = Gpu::plan();
        let x = Tensor::empty(&plan, &[2, 3], DType::F32).unwrap();
        for p in [-0.1, 1.1, f64::NAN] {
            assert!(matches!(x.dropout(p, 0, 0), Err(Error::Setting { .. })));
            assert!(Tensor::dropout_host(p, 0, 0, 0, 1).is_err());
        }
        let ids = Tensor::empty(&plan, &[2], DType::I32).unwrap();
        assert!(matches!(ids.dropout(0.5, 0, 0), Err(Error::DType { .. })));
        assert!(Tensor::empty(&plan, &[0, 3], DType::F32).unwrap().dropout(0.5, 0, 0).unwrap().is_empty());
        assert!(x.dropout(0.5, 0, 0).unwrap().made().is_none());
    }

    #[test]
    fn shader_twin_of_dropout() {
        shader_twin(&FORWARD, Params::FIELDS);
    }
}
