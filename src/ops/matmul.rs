//! Matrix products: `linear` with packed weights, `matmul` of two tensors.
//! Same as PyTorch `F.linear` and `torch.matmul`.

use super::gemm::{self, Epilogue, Product};
use super::pack::Packed;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Rows that read the right side before a texture of it pays.
const ROWS_PER_TEXTURE: usize = 256;

impl Tensor {
    /// [.., k] -> [.., n]: `activation(x * weight^T + bias) + residual`.
    ///
    /// Errors: when the last axis is not the weight's `k`, when bias or residual do not fit.
    pub fn linear(&self, weight: &Packed, epilogue: Epilogue) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("linear {self} {weight}{}", super::with(&epilogue)));
        let (rows, k) = super::rows_of(self, "linear")?;
        if k != weight.k() {
            let detail = format!(
                "weight [{}, {}] needs {} inputs, x is {:?}",
                weight.n,
                weight.k(),
                weight.k(),
                self.shape()
            );
            return Err(Error::shape("linear", detail));
        }
        let mut shape = self.shape().to_vec();
        *shape.last_mut().expect("rows_of refuses scalars") = weight.n;
        gemm::check_epilogue("linear", &epilogue, &shape, self.dtype())?;
        let y = Tensor::empty(self.gpu(), &shape, self.dtype())?;
        let product = Product {
            op: "linear",
            a: self,
            a_stride: k,
            a_offset: 0,
            b: weight,
            c: &y,
            c_stride: weight.n,
            c_offset: 0,
            m: rows,
            batch: 1,
            image: None,
            epilogue,
        };
        product.run()?;
        Ok(y)
    }

    /// [.., m, k] x [.., k, n] -> [.., m, n]; `transposed` takes the other side as [.., n, k]. Leading axes are
    /// equal, or absent on the right, which then serves every matrix on the left.
    ///
    /// Errors: when the shapes do not meet, or the right side is larger than a binding in a batch.
    pub fn matmul(&self, other: &Tensor, transposed: bool) -> Result<Tensor> {
        let _op = self.gpu().op(|| {
            format!("matmul {self} {:?}{}", other.shape(), if transposed { " transposed" } else { "" })
        });
        let wrong = || {
            let right = if transposed { "[.., n, k]" } else { "[.., k, n]" };
            let (a, b) = (self.shape(), other.shape());
            Error::shape(
                "matmul",
                format!(
                    "wanted [.., m, k] and {right} with the same k and leading axes, got {a:?} and {b:?}"
                ),
            )
        };
        if self.rank() < 2 || other.rank() < 2 || self.dtype() != other.dtype() {
            return Err(wrong());
        }
        let (m, k) = (self.dim(1), self.dim(0));
        let (n, k_other) =
            if transposed { (other.dim(1), other.dim(0)) } else { (other.dim(0), other.dim(1)) };
        let (outer, outer_other) = (&self.shape()[..self.rank() - 2], &other.shape()[..other.rank() - 2]);
        if k != k_other || (outer != outer_other && !outer_other.is_empty()) {
            return Err(wrong());
        }
        self.scalar("matmul")?;
        let count: usize = outer.iter().product();
        let (batch, m) = if outer_other.is_empty() { (1, count * m) } else { (count, m) };
        let shape = [outer, &[self.dim(1), n]].concat();
        let y = Tensor::empty(self.gpu(), &shape, self.dtype())?;
        if y.is_empty() {
            return Ok(y);
        }
        if k == 0 {
            return Err(Error::shape("matmul", "wanted k above 0: a product of nothing is not written"));
        }
        let product = Product {
            op: "matmul",
            a: self,
            a_stride: k,
            a_offset: 0,
            b: &Packed::from_tensor(other, batch, k, n, transposed, m >= ROWS_PER_TEXTURE)?,
            c: &y,
            c_stride: n,
            c_offset: 0,
            m,
            batch,
            image: None,
            epilogue: Epilogue::default(),
        };
        product.run()?;
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::ops::pack::SourceType;
    use crate::ops::unary::Activation;
    use crate::tensor::DType;
    use crate::testing::{assert_close, gpu, gpu_with, random_from};

    /// `x [rows, k] * w[n, k]^T` in f64.
    fn reference(x: &[f32], w: &[f32], k: usize) -> Vec<f64> {
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        x.chunks(k).flat_map(|row| w.chunks(k).map(move |column| dot(row, column))).collect()
    }

    fn check_linear(gpu: &Gpu, rows: usize, k: usize, n: usize, half: bool) {
        let what = format!("[{rows}, {k}] x [{n}, {k}] half {half}");
        let x = random_from(1, rows * k, 1.0);
        let mut w = random_from(2, n * k, 1.0);
        if half {
            w.iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32());
        }
        let (bias, residual) = (random_from(3, n, 1.0), random_from(4, rows * n, 1.0));
        let packed =
            Packed::from_bytes(gpu, [n, k, 1], SourceType::F32, bytemuck::cast_slice(&w), half).unwrap();
        let (x_gpu, bias_gpu) = (Tensor::new(gpu, &[rows, k], &x), Tensor::new(gpu, &[n], &bias));
        let residual_gpu = Tensor::new(gpu, &[rows, n], &residual).unwrap();
        let epilogue = Epilogue {
            bias: Some(&bias_gpu.unwrap()),
            activation: Activation::Relu,
            residual: Some(&residual_gpu),
        };
        let y = x_gpu.unwrap().linear(&packed, epilogue).unwrap();
        let want: Vec<f64> = reference(&x, &w, k)
            .iter()
            .enumerate()
            .map(|(at, v)| (v + f64::from(bias[at % n])).max(0.0) + f64::from(residual[at]))
            .collect();
        // k products of values below 1 in f32, summed in another order
        assert_close(&y.to_vec().unwrap(), &want, 1e-6 * (k as f64).sqrt() + 2e-6, &what);
    }

    #[test]
    fn linear_matches_on_awkward_sizes() {
        let Some(gpu) = gpu() else { return };
        for (rows, k, n) in [
            (1, 1, 1),
            (3, 7, 5),
            (8, 64, 32),
            (9, 65, 33),
            (17, 20, 64),
            (33, 36, 65),
            (2, 310, 129),
            (1030, 12, 70),
            (65, 3, 128),
        ] {
            check_linear(&gpu, rows, k, n, false);
            check_linear(&gpu, rows, k, n, true);
        }
    }

    #[test]
    fn the_tiled_family_matches_too() {
        let Some(gpu) = gpu_with(Options { without_subgroups: true, ..Default::default() }) else { return };
        for (rows, k, n) in [(1, 1, 1), (3, 7, 5), (65, 65, 33), (130, 68, 65), (64, 16, 64)] {
            check_linear(&gpu, rows, k, n, false);
            check_linear(&gpu, rows, k, n, true);
        }
    }

    #[test]
    fn long_sums_are_whole_or_refused() {
        let Some(gpu) = gpu() else { return };
        check_linear(&gpu, 3, 200_003, 5, false);
        let plain =
            gpu_with(Options { without_subgroups: true, ..Default::default() }).expect("opened above");
        check_linear(&plain, 3, 50_003, 5, false);
        if plain.facts().class == crate::gpu::Class::Software {
            let x = Tensor::zeros(&plain, &[3, 300_000], DType::F32).unwrap();
            let packed = Packed::planned(&plain, [5, 300_000, 1], false).unwrap();
            assert!(x.linear(&packed, Epilogue::default()).is_err());
        }
    }

    #[test]
    fn operands_larger_than_a_binding_are_cut() {
        let options = Options { binding_bytes: Some(16 << 10), ..Default::default() };
        let Some(gpu) = gpu_with(options) else { return };
        for (rows, k, n) in [(301, 36, 20), (77, 33, 301), (1000, 5, 7), (100, 31, 130)] {
            check_linear(&gpu, rows, k, n, false);
        }
    }

    #[test]
    fn without_immediates_the_parameters_ride_in_a_uniform_buffer() {
        let Some(gpu) = gpu_with(Options { without_immediates: true, ..Default::default() }) else { return };
        check_linear(&gpu, 9, 65, 33, false);
        check_linear(&gpu, 17, 20, 64, false);
    }

    #[test]
    fn a_bias_per_group_of_rows() {
        let Some(gpu) = gpu() else { return };
        let (groups, per, k, n) = (3, 5, 4, 6);
        let (x, w, bias) = (
            random_from(1, groups * per * k, 1.0),
            random_from(2, n * k, 1.0),
            random_from(3, groups * n, 1.0),
        );
        let packed =
            Packed::from_bytes(&gpu, [n, k, 1], SourceType::F32, bytemuck::cast_slice(&w), false).unwrap();
        let bias_gpu = Tensor::new(&gpu, &[groups, n], &bias).unwrap();
        let epilogue = Epilogue { bias: Some(&bias_gpu), ..Default::default() };
        let y = Tensor::new(&gpu, &[groups, per, k], &x).unwrap().linear(&packed, epilogue).unwrap();
        let want: Vec<f64> = reference(&x, &w, k)
            .iter()
            .enumerate()
            .map(|(at, v)| v + f64::from(bias[at / n / per * n + at % n]))
            .collect();
        assert_close(&y.to_vec().unwrap(), &want, 2e-6, "bias per group");
    }

    #[test]
    fn matmul_takes_batches_and_either_side() {
        let Some(gpu) = gpu() else { return };
        for (batch, m, k, n) in [(1, 3, 5, 7), (3, 9, 4, 33), (2, 17, 13, 66), (5, 1, 8, 1)] {
            let (x, w) = (random_from(1, batch * m * k, 1.0), random_from(2, batch * n * k, 1.0));
            let want: Vec<f64> = (0..batch)
                .flat_map(|b| reference(&x[b * m * k..(b + 1) * m * k], &w[b * n * k..(b + 1) * n * k], k))
                .collect();
            let left = Tensor::new(&gpu, &[batch, m, k], &x).unwrap();
            let right = Tensor::new(&gpu, &[batch, n, k], &w).unwrap();
            let y = left.matmul(&right, true).unwrap();
            assert_eq!(y.shape(), [batch, m, n]);
            assert_close(&y.to_vec().unwrap(), &want, 5e-6, "transposed");
            let mut untransposed = vec![0.0; w.len()];
            for (at, &value) in w.iter().enumerate() {
                let (b, row, column) = (at / (n * k), at / k % n, at % k);
                untransposed[(b * k + column) * n + row] = value;
            }
            let right = Tensor::new(&gpu, &[batch, k, n], &untransposed).unwrap();
            assert_close(&left.matmul(&right, false).unwrap().to_vec().unwrap(), &want, 5e-6, "plain");
        }
    }

    #[test]
    fn shapes_that_do_not_meet_are_refused() {
        let gpu = Gpu::plan();
        let tensor = |shape: &[usize]| Tensor::empty(&gpu, shape, DType::F32).unwrap();
        assert!(tensor(&[2, 3]).matmul(&tensor(&[4, 3]), false).is_err());
        assert!(tensor(&[2, 2, 3]).matmul(&tensor(&[3, 3, 4]), false).is_err());
        assert!(tensor(&[3]).matmul(&tensor(&[3]), false).is_err());
        let packed = Packed::from_bytes(&gpu, [2, 3, 1], SourceType::F32, &[0; 24], false).unwrap();
        let error = tensor(&[5, 4]).linear(&packed, Epilogue::default()).expect_err("refused");
        assert!(error.to_string().contains("needs 3 inputs"), "{error}");
    }
}
