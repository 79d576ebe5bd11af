//! Matrix products: `linear` with packed weights, `matmul` of two tensors.
//! Same as PyTorch `F.linear` and `torch.matmul`, forward and backward.

use super::gemm::{self, Epilogue, Product};
use super::outer;
use super::pack::Packed;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::ops::Range;

/// Longest sum of one launch; longer ones go on from where the last one stopped.
pub(super) const MAX_K: usize = 1 << 15;

/// Rows that read the right side before a texture of it pays.
pub(super) const ROWS_PER_TEXTURE: usize = 256;

impl Tensor {
    /// [.., k] -> [.., n]: `activation(x * weight^T + bias) + residual`.
    ///
    /// Gradients flow to x, to the bias and to a weight made from a parameter.
    ///
    /// Errors: when the last axis is not the weight's `k`, when bias or residual do not fit.
    pub fn linear(&self, weight: &Packed, epilogue: Epilogue) -> Result<Tensor> {
        if let Some(y) = epilogue.apart(self, weight, |bias| self.linear(weight, bias)) {
            return y;
        }
        let _op = self.gpu().op(|| format!("linear {self} {weight}{}", super::with(&epilogue)));
        let (rows, k, shape) = self.rows_for(weight)?;
        if weight.gated {
            return Err(Error::shape("linear", "columns of this weight are paired, for linear_geglu alone"));
        }
        gemm::check_epilogue("linear", &epilogue, &shape, self.dtype())?;
        let y = Tensor::empty(self.gpu(), &shape, self.dtype())?;
        self.linear_into(weight, epilogue, &y).run()?;
        if !epilogue.learns(self, weight) {
            return Ok(y);
        }
        let (x, w) = (self.detach(), weight.clone());
        let inputs = [self, weight.parameter.as_ref().unwrap_or(self), epilogue.bias.unwrap_or(self)];
        let wants = [
            self.wants_gradient(),
            weight.parameter.is_some(),
            epilogue.bias.is_some_and(Tensor::wants_gradient),
        ];
        let [w_shape, bias_shape] = [inputs[1], inputs[2]].map(|input| input.shape().to_vec());
        let w_dtype = inputs[1].dtype();
        Ok(y.made_by(inputs, move |_, dy| {
            let (dy, rows_of_x) = (dy.reshape(&[rows, w.n])?, x.reshape(&[rows, k])?);
            let dx = || dy.matmul(&w.source()?.cast(dy.dtype())?, false)?.reshape(x.shape());
            let dw = || {
                let dw = match outer::serves(&dy, &rows_of_x, 1) {
                    true => outer::product("linear", &dy, &rows_of_x, None)?,
                    false => dy.permute(&[1, 0])?.matmul(&rows_of_x, false)?,
                };
                dw.cast(w_dtype)?.reshape(&w_shape)
            };
            let db = || gemm::bias_gradient(&dy, &bias_shape);
            Ok([
                wants[0].then(dx).transpose()?,
                wants[1].then(dw).transpose()?,
                wants[2].then(db).transpose()?,
            ])
        }))
    }

    /// [.., k] -> `parts` times [.., n / parts]: layers that read the same x, their weights `[n, k]` and biases `[n]`
    /// stacked. One product writes them all; where gradients are wanted, or a part could not begin where bindings may,
    /// they are cut from a whole.
    ///
    /// Errors: as [`Tensor::linear`]; when the parts are not equal.
    pub fn linear_stacked(
        &self,
        weight: &Packed,
        bias: Option<&Tensor>,
        parts: usize,
    ) -> Result<Vec<Tensor>> {
        if parts == 0 || !weight.n.is_multiple_of(parts) {
            let detail = format!("{} outputs do not divide into {parts} parts", weight.n);
            return Err(Error::shape("linear", detail));
        }
        let epilogue = Epilogue { bias, ..Epilogue::default() };
        let (rows, _, mut shape) = self.rows_for(weight)?;
        let n = weight.n / parts;
        let bytes = (rows * n * self.dtype().bytes()) as u64;
        let aligned = n.is_multiple_of(4) && bytes.is_multiple_of(Tensor::ALIGNMENT);
        // What is larger than a binding is cut into rows, which lie apart here.
        let fits = self.bytes().max(bytes * parts as u64) <= gemm::whole_bytes(self.gpu());
        if !aligned || !fits || epilogue.learns(self, weight) {
            let y = self.linear(weight, epilogue)?;
            return (0..parts).map(|part| y.narrow(y.rank() - 1, part * n, n)).collect();
        }
        let _op = self.gpu().op(|| format!("linear {self} {weight} in {parts}{}", super::with(&epilogue)));
        gemm::check_epilogue("linear", &epilogue, &shape, self.dtype())?;
        *shape.last_mut().expect("rows_for refuses scalars") = n;
        shape.insert(0, parts);
        let y = Tensor::empty(self.gpu(), &shape, self.dtype())?;
        self.linear_into(weight, epilogue, &y).run()?;
        Ok(y.unstacked())
    }

    /// Rows, k, and the shape of the output of a linear layer.
    pub(super) fn rows_for(&self, weight: &Packed) -> Result<(usize, usize, Vec<usize>)> {
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
        Ok((rows, k, shape))
    }

    /// The product of a linear layer, its sizes checked before.
    pub(super) fn linear_into<'a>(
        &'a self,
        weight: &'a Packed,
        epilogue: Epilogue<'a>,
        y: &'a Tensor,
    ) -> Product<'a> {
        let k = self.dim(0);
        Product {
            op: "linear",
            a: self,
            a_stride: k,
            a_offset: 0,
            b: weight,
            c: y,
            c_stride: y.dim(0),
            c_offset: 0,
            m: self.len() / k.max(1),
            batch: 1,
            image: None,
            epilogue,
        }
    }

    /// [.., m, k] x [.., k, n] -> [.., m, n]; `transposed` takes the other side as [.., n, k]. Leading axes are
    /// equal, or absent on the right, which then serves every matrix on the left. Gradients flow to both.
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
        if shape.contains(&0) {
            return Tensor::empty(self.gpu(), &shape, self.dtype());
        }
        // A sum too long for one launch, or of rows too large for a binding, goes on from the last one's result.
        let row_bytes = n.next_multiple_of(64) * other.dtype().bytes(); // of panels, too
        let rows = (self.gpu().facts().limits.binding_bytes as usize / row_bytes).saturating_sub(256) / 4 * 4;
        let most = if batch == 1 && !transposed { MAX_K.min(rows.max(4)) } else { MAX_K };
        let mut y: Option<Tensor> = None;
        for start in (0..k).step_by(most) {
            let next = Tensor::empty(self.gpu(), &shape, self.dtype())?;
            self.add_product(other, [batch, m], start..k.min(start + most), transposed, y.as_ref(), &next)?;
            y = Some(next);
        }
        let y =
            y.ok_or_else(|| Error::shape("matmul", "wanted k above 0: a product of nothing is not written"))?;
        if !self.wants_gradient() && !other.wants_gradient() {
            return Ok(y);
        }
        let (a, b) = (self.detach(), other.detach());
        let wants = [self.wants_gradient(), other.wants_gradient()];
        Ok(y.made_by([self, other], move |_, dy| {
            let da = || dy.matmul(&b, !transposed);
            let db = || {
                let (a, dy) = (a.reshape(&[batch, m, k])?, dy.reshape(&[batch, m, n])?);
                let db = if transposed {
                    dy.permute(&[0, 2, 1])?.matmul(&a, false)?
                } else {
                    a.permute(&[0, 2, 1])?.matmul(&dy, false)?
                };
                db.reshape(b.shape())
            };
            Ok([wants[0].then(da).transpose()?, wants[1].then(db).transpose()?])
        }))
    }

    /// c = the product over these k, plus `before`.
    fn add_product(
        &self,
        other: &Tensor,
        [batch, m]: [usize; 2],
        k: Range<usize>,
        transposed: bool,
        before: Option<&Tensor>,
        c: &Tensor,
    ) -> Result<()> {
        let n = c.dim(0);
        let product = Product {
            op: "matmul",
            a: self,
            a_stride: self.dim(0),
            a_offset: k.start,
            b: &Packed::from_matrices(other, batch, k, transposed, m >= ROWS_PER_TEXTURE)?,
            c,
            c_stride: n,
            c_offset: 0,
            m,
            batch,
            image: None,
            epilogue: Epilogue { residual: before, ..Epilogue::default() },
        };
        product.run()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::ops::Sight;
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
        let family = Some(crate::gpu::Family::Tiled);
        let Some(gpu) = gpu_with(Options { family, ..Default::default() }) else { return };
        for (rows, k, n) in
            [(1, 1, 1), (3, 7, 5), (65, 65, 33), (130, 68, 65), (64, 16, 64), (7, 2050, 70), (20, 2050, 33)]
        {
            check_linear(&gpu, rows, k, n, false);
            check_linear(&gpu, rows, k, n, true);
        }
    }

    /// Parts that lie one behind the other in a buffer, against f64; then other ops have to take them for tensors.
    #[test]
    fn stacked_layers_match_and_serve_as_tensors() {
        let tiled = Options { family: Some(crate::gpu::Family::Tiled), ..Default::default() };
        // [rows, k, n of each, parts]; the last ones begin where no binding may, or have parts that are no vectors.
        let sizes = [
            [64, 20, 64, 3],
            [34, 320, 64, 2],
            [4, 2600, 96, 3],
            [70, 8, 320, 5],
            [3, 12, 20, 3],
            [2, 5, 7, 2],
        ];
        for gpu in [gpu(), gpu_with(tiled)].into_iter().flatten() {
            for sizes in sizes {
                check_stacked(&gpu, sizes, DType::F32);
                check_stacked(&gpu, sizes, DType::F16);
            }
            let packed = Packed::from_bytes(&gpu, [8, 4, 1], SourceType::F32, &[0; 128], false).unwrap();
            let x = Tensor::new(&gpu, &[1, 4], &[0.0f32; 4]).unwrap();
            assert!(x.linear_stacked(&packed, None, 3).is_err(), "8 outputs are not 3 parts");
        }
    }

    fn check_stacked(gpu: &Gpu, [rows, k, n, parts]: [usize; 4], dtype: DType) {
        let half = dtype == DType::F16;
        let rounded = |values: Vec<f32>| -> Vec<f32> {
            let round = |v: f32| if half { half::f16::from_f32(v).to_f32() } else { v };
            values.into_iter().map(round).collect()
        };
        let (x, w) = (rounded(random_from(1, rows * k, 1.0)), rounded(random_from(2, parts * n * k, 1.0)));
        let bias = random_from(3, parts * n, 1.0);
        let bytes = bytemuck::cast_slice(&w);
        let packed = Packed::from_bytes(gpu, [parts * n, k, 1], SourceType::F32, bytes, half).unwrap();
        let x_gpu = Tensor::new(gpu, &[rows, k], &x).unwrap().cast(dtype).unwrap();
        let bias_gpu = Tensor::new(gpu, &[parts * n], &bias).unwrap();
        let got = x_gpu.linear_stacked(&packed, Some(&bias_gpu), parts).unwrap();
        assert_eq!(got.len(), parts);
        for (part, got) in got.iter().enumerate() {
            let what = format!("{rows} x {k} -> {n}, part {part} of {parts}, {dtype}");
            assert_eq!(got.shape(), [rows, n], "{what}");
            let want: Vec<f64> = reference(&x, &w[part * n * k..(part + 1) * n * k], k)
                .iter()
                .enumerate()
                .map(|(at, v)| v + f64::from(bias[part * n + at % n]))
                .collect();
            let values = got.to_vec().unwrap();
            let rounding = if half { 1e-3 * (k as f64).sqrt() } else { 0.0 };
            assert_close(&values, &want, 1e-6 * (k as f64).sqrt() + 2e-6 + rounding, &what);
            // Elementwise, moved, cut, and as both sides of a product.
            let own = Tensor::new(gpu, &[rows, n], &values).unwrap().cast(dtype).unwrap();
            let same = |f: &dyn Fn(&Tensor) -> Result<Tensor>| {
                assert_eq!(f(got).unwrap().to_vec().unwrap(), f(&own).unwrap().to_vec().unwrap(), "{what}");
            };
            same(&|x| x.add(x));
            same(&|x| x.permute(&[1, 0]));
            same(&|x| x.narrow(0, 1, rows - 1));
            same(&|x| Tensor::concat(&[x, x], 0));
            same(&|x| x.softmax());
            same(&|x| x.matmul(x, true));
            same(&|x| {
                x.reshape(&[1, rows, n])?.attention(
                    &own.reshape(&[1, rows, n])?,
                    &x.reshape(&[1, rows, n])?,
                    1,
                    None,
                    Sight::All,
                )
            });
        }
    }

    #[test]
    fn long_sums_are_whole_or_refused() {
        let Some(gpu) = gpu() else { return };
        check_linear(&gpu, 3, 200_003, 5, false);
        let plain =
            gpu_with(Options { without_subgroups: true, ..Default::default() }).expect("opened above");
        check_linear(&plain, 3, 200_003, 5, false);
        check_linear(&plain, 12, 50_003, 5, false);
        if plain.facts().class == crate::gpu::Class::Software {
            let plan = plain.planner();
            let x = Tensor::empty(&plan, &[12, 1_000_000], DType::F32).unwrap();
            let packed = Packed::planned(&plan, [5, 1_000_000, 1], SourceType::F32, false).unwrap();
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

    /// Row-major [rows, cols] -> [cols, rows].
    fn turned(x: &[f32], cols: usize) -> Vec<f32> {
        (0..cols).flat_map(|c| x.iter().skip(c).step_by(cols).copied()).collect()
    }

    #[test]
    fn gradients_of_linear_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for (rows, k, n) in [(1, 1, 1), (7, 33, 65), (20, 12, 64), (300, 70, 5)] {
            for trained in [true, false] {
                let what = format!("[{rows}, {k}] x [{n}, {k}] trained {trained}");
                let (x, w, dy) = (
                    random_from(1, rows * k, 1.0),
                    random_from(2, n * k, 1.0),
                    random_from(3, rows * n, 1.0),
                );
                let x_gpu = Tensor::new(&gpu, &[rows, k], &x).unwrap().parameter();
                let w_gpu = Tensor::new(&gpu, &[n, k], &w).unwrap();
                let w_gpu = if trained { w_gpu.parameter() } else { w_gpu };
                let bias = Tensor::new(&gpu, &[n], &vec![0.25; n]).unwrap().parameter();
                let packed = Packed::from_tensor(&w_gpu, [n, k, 1]).unwrap();
                let y = x_gpu.linear(&packed, Epilogue { bias: Some(&bias), ..Default::default() }).unwrap();
                let forward: Vec<_> = reference(&x, &w, k).iter().map(|v| v + 0.25).collect();
                assert_close(&y.to_vec().unwrap(), &forward, 1e-5, &what);
                let made = y.made().expect("made from parameters");
                let dy_gpu = Tensor::new(&gpu, &[rows, n], &dy).unwrap();
                let [dx, dw, db] = &(made.backward)(&y, &dy_gpu).unwrap()[..] else { panic!("three") };
                let values = |t: &Option<Tensor>| t.as_ref().unwrap().to_vec().unwrap();
                assert_close(&values(dx), &reference(&dy, &turned(&w, k), n), 1e-5, &what);
                assert_close(&values(db), &reference(&turned(&dy, n), &vec![1.0; rows], rows), 1e-5, &what);
                if trained {
                    let want = reference(&turned(&dy, n), &turned(&x, k), rows);
                    assert_close(&values(dw), &want, 1e-5, &what);
                } else {
                    assert!(dw.is_none());
                }
            }
        }
    }

    #[test]
    fn gradients_of_matmul_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        let (m, k, n) = (5, 9, 34);
        for (batch, transposed, shared) in
            [(1, false, false), (3, false, false), (3, true, false), (3, false, true), (2, true, true)]
        {
            let what = format!("batch {batch} transposed {transposed} shared {shared}");
            let a = random_from(1, batch * m * k, 1.0);
            let b = random_from(2, if shared { 1 } else { batch } * k * n, 1.0);
            let dy = random_from(3, batch * m * n, 1.0);
            let outer = if shared { vec![] } else { vec![batch] };
            let sides = if transposed { [n, k] } else { [k, n] };
            let a_gpu = Tensor::new(&gpu, &[batch, m, k], &a).unwrap().parameter();
            let b_gpu = Tensor::new(&gpu, &[&outer[..], &sides].concat(), &b).unwrap().parameter();
            let y = a_gpu.matmul(&b_gpu, transposed).unwrap();
            let dy_gpu = Tensor::new(&gpu, y.shape(), &dy).unwrap();
            let gradients = (y.made().expect("made").backward)(&y, &dy_gpu).unwrap();
            let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; b.len()]);
            for (at, &g) in dy.iter().enumerate() {
                let (matrix, row, column) = (at / (m * n), at / n % m, at % n);
                for i in 0..k {
                    let at_a = (matrix * m + row) * k + i;
                    let in_b = if transposed { column * k + i } else { i * n + column };
                    let at_b = if shared { 0 } else { matrix * k * n } + in_b;
                    da[at_a] += f64::from(g) * f64::from(b[at_b]);
                    db[at_b] += f64::from(g) * f64::from(a[at_a]);
                }
            }
            for (got, want, like) in [(&gradients[0], da, &a_gpu), (&gradients[1], db, &b_gpu)] {
                let got = got.as_ref().expect("wanted");
                assert_eq!(got.shape(), like.shape());
                assert_close(&got.to_vec().unwrap(), &want, 1e-5, &what);
            }
        }
    }

    #[test]
    fn a_sum_longer_than_a_launch_goes_on() {
        let Some(gpu) = gpu() else { return };
        let (m, k, n) = (3, 2 * MAX_K + 5, 5);
        let (a, b) = (random_from(1, m * k, 0.1), random_from(2, n * k, 0.1));
        let want = reference(&a, &b, k);
        let a = Tensor::new(&gpu, &[m, k], &a).unwrap();
        let rows = Tensor::new(&gpu, &[n, k], &b).unwrap();
        let columns = Tensor::new(&gpu, &[k, n], &turned(&b, k)).unwrap();
        assert_close(&a.matmul(&rows, true).unwrap().to_vec().unwrap(), &want, 1e-4, "transposed");
        assert_close(&a.matmul(&columns, false).unwrap().to_vec().unwrap(), &want, 1e-4, "as it lies");
        // A right side larger than a binding is taken some rows at a time.
        let Some(small) = gpu_with(Options { binding_bytes: Some(64 << 10), ..Default::default() }) else {
            return;
        };
        let (a, b) = (random_from(1, 3 * 2000, 1.0), random_from(2, 2000 * 20, 1.0));
        let want = reference(&a, &turned(&b, 20), 2000);
        let a = Tensor::new(&small, &[3, 2000], &a).unwrap();
        let b = Tensor::new(&small, &[2000, 20], &b).unwrap();
        assert_close(&a.matmul(&b, false).unwrap().to_vec().unwrap(), &want, 1e-4, "in windows");
    }
}
