//! Batch normalisation, with statistics from training or with those of the batch.
//! y = (x - mean) / sqrt(var + eps) * weight + bias
//! Same as PyTorch `batch_norm(.., training=False)` and `(.., training=True)`, but channels-last.
//! Backward, with z = (x - mean) / sqrt(var + eps): dweight = sum dy z, dbias = sum dy, and for given statistics
//! dx = dy weight / sqrt(var + eps); for those of the batch dx = (dy - mean dy - z mean(dy z)) weight / sqrt(var + eps).

use super::{check_vector, common, params, rows_of, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::tensor::{DType, Tensor};
use std::ops::Range;

const FORWARD: Kernel = Kernel::new("batch_norm", "forward", &[shaders!("batch_norm"), common::INDEX]);

const TRAINING: &[&str] = &[shaders!("batch_norm_training"), common::INDEX];
const MOMENTS: Kernel = Kernel::new("batch_norm_training", "moments", TRAINING);
const SUMS: Kernel = Kernel::new("batch_norm_training", "sums", TRAINING);
const BACKWARD: Kernel = Kernel::new("batch_norm_training", "backward", TRAINING);

/// Rows one invocation sums: few, so that sums stay accurate and many invocations share the work.
const CHUNK: usize = 128;

params! {
    struct Params {
        units: u32,
        rows: u32,
        block: u32,
        eps: f32,
    }
}

params! {
    struct TrainingParams {
        units: u32,
        rows: u32,
        block: u32,
        eps: f32,
        n: f32,
    }
}

/// What [`Tensor::batch_norm_training`] gives.
pub struct BatchNormed {
    /// The normalised x.
    pub y: Tensor,
    /// The running mean after this batch.
    pub running_mean: Tensor,
    /// The running variance after this batch.
    pub running_var: Tensor,
}

impl Tensor {
    /// [.., channels] -> [.., channels]. The four vectors are `[channels]`, f32. Gradients flow to x, weight and bias.
    ///
    /// Errors: on a scalar, on ids, on other shapes or types of the vectors.
    pub fn batch_norm(
        &self,
        running_mean: &Tensor,
        running_var: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        eps: f64,
    ) -> Result<Tensor> {
        let op = "batch_norm";
        let _op = self.gpu().op(|| format!("{op} {self}"));
        let vectors = [
            ("running_mean", running_mean),
            ("running_var", running_var),
            ("weight", weight),
            ("bias", bias),
        ];
        check(op, self, &vectors)?;
        let y = apply(op, self, vectors.map(|vector| vector.1), eps)?;
        let inputs = [self, weight, bias];
        if !inputs.iter().any(|input| input.wants_gradient()) {
            return Ok(y);
        }
        let wants = inputs.map(Tensor::wants_gradient);
        let [x, mean, var, weight] = [self, running_mean, running_var, weight].map(Tensor::detach);
        Ok(y.made_by(inputs, move |_, dy| {
            let _op = dy.gpu().op(|| format!("{op} backward {dy}"));
            let deviation = var.scale(1.0, eps as f32)?.sqrt()?;
            let dx = || dy.mul(&weight.div(&deviation)?);
            let of_vectors = || vector_gradients(&sums(op, &SUMS, &[&x, dy], &mean)?, &deviation);
            let [dweight, dbias] = if wants[1] || wants[2] { of_vectors()?.map(Some) } else { [None, None] };
            Ok([wants[0].then(dx).transpose()?, dweight, dbias])
        }))
    }

    /// [.., channels] -> [.., channels] with mean and variance of all the rows of this batch, and the running
    /// statistics moved towards them by `momentum`: PyTorch's, 0.1 by default, and the variance without bias.
    /// The four vectors are `[channels]`, f32. Gradients flow to x, weight and bias.
    ///
    /// Errors: as [`Tensor::batch_norm`], and [`Error::Shape`] for fewer than two rows.
    pub fn batch_norm_training(
        &self,
        running_mean: &Tensor,
        running_var: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        momentum: f64,
        eps: f64,
    ) -> Result<BatchNormed> {
        let op = "batch_norm_training";
        let _op = self.gpu().op(|| format!("{op} {self}"));
        let vectors = [
            ("running_mean", running_mean),
            ("running_var", running_var),
            ("weight", weight),
            ("bias", bias),
        ];
        let (rows, channels) = check(op, self, &vectors)?;
        if rows < 2 {
            let detail = format!("wanted two values for each channel at least, got {:?}", self.shape());
            return Err(Error::shape(op, detail));
        }
        if channels == 0 {
            let [running_mean, running_var] = [running_mean, running_var].map(Tensor::detach);
            return Ok(BatchNormed { y: self.clone(), running_mean, running_var });
        }
        let x = self.detach();
        let n = rows as f64;
        // The sum, then what is left of it around its mean: squares of small numbers, whatever the mean.
        let first = x.column_sums([rows, channels])?.scale((1.0 / n) as f32, 0.0)?;
        let moments = sums(op, &MOMENTS, &[&x], &first)?;
        let rest = moments.narrow(0, 0, 1)?.reshape(&[channels])?;
        let squares = moments.narrow(0, 1, 1)?.reshape(&[channels])?;
        let mean = Tensor::combine(&[(&first, 1.0), (&rest, 1.0 / n)])?;
        let excess = rest.square()?;
        let var_of = |count: f64| Tensor::combine(&[(&squares, 1.0 / count), (&excess, -1.0 / (n * count))]);
        let var = var_of(n)?;
        let moved =
            |old: &Tensor, new: &Tensor| Tensor::combine(&[(&old.detach(), 1.0 - momentum), (new, momentum)]);
        let (new_mean, new_var) = (moved(running_mean, &mean)?, moved(running_var, &var_of(n - 1.0)?)?);
        let mut y = apply(op, &x, [&mean, &var, weight, bias], eps)?;
        let inputs = [self, weight, bias];
        if inputs.iter().any(|input| input.wants_gradient()) {
            let (is_moving, weight) = (self.wants_gradient(), weight.detach());
            y = y.made_by(inputs, move |_, dy| {
                let _op = dy.gpu().op(|| format!("{op} backward {dy}"));
                let deviation = var.scale(1.0, eps as f32)?.sqrt()?;
                let sums = sums(op, &SUMS, &[&x, dy], &mean)?;
                let dx = || input_gradient(op, [&x, &mean, dy, &var, &weight, &sums], eps);
                let [dweight, dbias] = vector_gradients(&sums, &deviation)?;
                Ok([is_moving.then(dx).transpose()?, Some(dweight), Some(dbias)])
            });
        }
        Ok(BatchNormed { y, running_mean: new_mean, running_var: new_var })
    }
}

/// Rows and channels, where the vectors fit.
fn check(op: &str, x: &Tensor, vectors: &[(&str, &Tensor); 4]) -> Result<(usize, usize)> {
    let (rows, channels) = rows_of(x, op)?;
    for (name, vector) in vectors {
        check_vector(op, name, vector, x, channels)?;
    }
    x.scalar(op)?;
    Ok((rows, channels))
}

/// x with these statistics and this weight and bias.
fn apply(op: &str, x: &Tensor, vectors: [&Tensor; 4], eps: f64) -> Result<Tensor> {
    let (gpu, size) = (x.gpu(), x.dtype().bytes());
    let (rows, channels) = rows_of(x, op)?;
    let y = Tensor::empty(gpu, x.shape(), x.dtype())?;
    if x.is_empty() {
        return Ok(y);
    }
    for window in gpu.row_windows(op, rows, &[channels * size])? {
        let (units, block, variant) = walk_of(x, op, &window)?;
        let params =
            Params { units: units as u32, rows: window.len() as u32, block: block as u32, eps: eps as f32 };
        let elements = window.start * channels..window.end * channels;
        let [mean, var, weight, bias] = vectors.map(Tensor::binding);
        let invocations = (window.len().div_ceil(block) * units) as u64;
        gpu.run(&Launch {
            program: FORWARD.program(variant),
            params: params.as_bytes(),
            inputs: &[x.window(elements.clone()), mean, var, weight, bias],
            outputs: &[y.window(elements.clone())],
            groups: gpu.grid(op, invocations.div_ceil(u64::from(variant.workgroup)))?,
            work: Work { flops: 3 * elements.len() as u64, bytes: (2 * elements.len() * size) as u64 },
        })?;
    }
    Ok(y)
}

/// Units of a row, rows an invocation walks, and the variant, for kernels over every element.
fn walk_of(x: &Tensor, op: &str, window: &Range<usize>) -> Result<(usize, usize, Variant)> {
    let width = super::width_of(x.dim(0));
    let units = x.dim(0) / width as usize;
    let items = (window.len() * units) as u64;
    let block = super::rows_per_invocation(x.gpu(), items, super::ROWS_AT_ONCE);
    let variant = Variant { scalar: x.scalar(op)?, width, workgroup: x.gpu().flat_workgroup() };
    Ok((units, block, variant))
}

/// `[2, channels]` in f32: what `moments` or `sums` add up over the rows.
fn sums(op: &str, kernel: &Kernel, inputs: &[&Tensor], mean: &Tensor) -> Result<Tensor> {
    let (x, gpu) = (inputs[0], mean.gpu());
    let (rows, channels) = rows_of(x, op)?;
    let mut whole: Option<Tensor> = None;
    let row_bytes = channels * x.dtype().bytes();
    for window in gpu.row_windows(op, rows, &[row_bytes])? {
        let (units, _, variant) = walk_of(x, op, &window)?;
        let chunks = window.len().div_ceil(CHUNK);
        let partial = Tensor::empty(gpu, &[chunks, 2, channels], DType::F32)?;
        let params = TrainingParams {
            units: units as u32,
            rows: window.len() as u32,
            block: CHUNK as u32,
            eps: 0.0,
            n: rows as f32,
        };
        let elements = window.start * channels..window.end * channels;
        let mut bindings: Vec<_> = inputs.iter().map(|input| input.window(elements.clone())).collect();
        bindings.insert(1, mean.binding());
        gpu.run(&Launch {
            program: kernel.program(variant),
            params: params.as_bytes(),
            inputs: &bindings,
            outputs: &[partial.binding()],
            groups: gpu.grid(op, ((chunks * units) as u64).div_ceil(u64::from(variant.workgroup)))?,
            work: Work {
                flops: 4 * elements.len() as u64,
                bytes: (inputs.len() * window.len() * row_bytes) as u64,
            },
        })?;
        let sums = partial.column_sums([chunks, 2 * channels])?;
        whole = Some(match whole {
            Some(before) => before.add(&sums)?,
            None => sums,
        });
    }
    match whole {
        Some(sums) => sums.reshape(&[2, channels]),
        None => Tensor::zeros(gpu, &[2, channels], DType::F32),
    }
}

/// Gradients of weight and bias from the sums of dy (x - mean) and dy.
fn vector_gradients(sums: &Tensor, deviation: &Tensor) -> Result<[Tensor; 2]> {
    let row = |at| sums.narrow(0, at, 1)?.reshape(&[sums.dim(0)]);
    Ok([row(1)?.div(deviation)?, row(0)?])
}

/// Gradient of x where the statistics are its own; `tensors` are x, mean, dy, var, weight and the sums.
fn input_gradient(op: &str, tensors: [&Tensor; 6], eps: f64) -> Result<Tensor> {
    let [x, mean, dy, var, weight, sums] = tensors;
    let (gpu, size) = (x.gpu(), x.dtype().bytes());
    let (rows, channels) = rows_of(x, op)?;
    let dx = Tensor::empty(gpu, x.shape(), x.dtype())?;
    for window in gpu.row_windows(op, rows, &[channels * size])? {
        let (units, block, variant) = walk_of(x, op, &window)?;
        let params = TrainingParams {
            units: units as u32,
            rows: window.len() as u32,
            block: block as u32,
            eps: eps as f32,
            n: rows as f32,
        };
        let elements = window.start * channels..window.end * channels;
        let [x, dy] = [x, dy].map(|each| each.window(elements.clone()));
        let [mean, var, weight, sums] = [mean, var, weight, sums].map(Tensor::binding);
        let invocations = (window.len().div_ceil(block) * units) as u64;
        gpu.run(&Launch {
            program: BACKWARD.program(variant),
            params: params.as_bytes(),
            inputs: &[x, mean, dy, var, weight, sums],
            outputs: &[dx.window(elements.clone())],
            groups: gpu.grid(op, invocations.div_ceil(u64::from(variant.workgroup)))?,
            work: Work { flops: 5 * elements.len() as u64, bytes: (3 * elements.len() * size) as u64 },
        })?;
    }
    Ok(dx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::tensor::Element;
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, random, random_from, shader_twin};

    /// Runs `x` with four random vectors, and the same in f64.
    fn run<T: Element>(gpu: &Gpu, shape: &[usize], x: &[T], wide: &[f32]) -> (Tensor, Vec<f64>) {
        let channels = *shape.last().unwrap();
        let vector = |seed, shift: f32| -> Vec<f32> {
            random_from(seed, channels, 1.0).into_iter().map(|v| v + shift).collect()
        };
        let (mean, var, weight, bias) = (vector(1, 0.5), vector(2, 1.1), vector(3, 0.0), vector(4, 0.0));
        let there = |v: &[f32]| Tensor::new(gpu, &[channels], v).unwrap();
        let y = Tensor::new(gpu, shape, x)
            .unwrap()
            .batch_norm(&there(&mean), &there(&var), &there(&weight), &there(&bias), 1e-3)
            .unwrap();
        assert_eq!(y.shape(), shape);
        let want = wide
            .iter()
            .enumerate()
            .map(|(at, &v)| {
                let c = at % channels;
                let scale = f64::from(weight[c]) / (f64::from(var[c]) + 1e-3).sqrt();
                (f64::from(v) - f64::from(mean[c])) * scale + f64::from(bias[c])
            })
            .collect();
        (y, want)
    }

    fn case(gpu: &Gpu, shape: &[usize]) {
        let x = random(shape, 2.0);
        let (y, want) = run(gpu, shape, &x, &x);
        assert_close(&y.to_vec().unwrap(), &want, 4e-6, &format!("{shape:?}"));
    }

    #[test]
    fn values_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for shape in [
            vec![1],
            vec![3, 7],
            vec![65, 64],
            vec![2, 3, 5, 40],
            vec![1021, 1],
            vec![70_001, 4],
            vec![6, 257],
        ] {
            case(&gpu, &shape);
        }
    }

    /// With given statistics, in f64: x, weight, bias -> y.
    fn given(x: &[Vec<f64>], mean: &[f32], var: &[f32]) -> Vec<f64> {
        let channels = mean.len();
        let value = |(at, v): (usize, &f64)| {
            let c = at % channels;
            (v - f64::from(mean[c])) / (f64::from(var[c]) + 1e-3).sqrt() * x[1][c] + x[2][c]
        };
        x[0].iter().enumerate().map(value).collect()
    }

    /// Mean and variance, with bias, of each channel.
    fn statistics(x: &[f64], channels: usize) -> (Vec<f64>, Vec<f64>) {
        let n = (x.len() / channels) as f64;
        let column = |c: usize| x.iter().skip(c).step_by(channels);
        let mean: Vec<f64> = (0..channels).map(|c| column(c).sum::<f64>() / n).collect();
        let var = |c: usize| column(c).map(|v| (v - mean[c]).powi(2)).sum::<f64>() / n;
        let var = (0..channels).map(var).collect();
        (mean, var)
    }

    /// With the statistics of the batch.
    fn of_batch(x: &[Vec<f64>]) -> Vec<f64> {
        let channels = x[1].len();
        let (mean, var) = statistics(&x[0], channels);
        let value = |(at, v): (usize, &f64)| {
            let c = at % channels;
            (v - mean[c]) / (var[c] + 1e-3).sqrt() * x[1][c] + x[2][c]
        };
        x[0].iter().enumerate().map(value).collect()
    }

    fn check_gradients(gpu: &Gpu, shape: &[usize], dtype: DType, tolerance: f64) {
        let channels = *shape.last().unwrap();
        let rounded = |v: f32| if dtype == DType::F16 { half::f16::from_f32(v).to_f32() } else { v };
        let x: Vec<f32> = random(shape, 2.0).into_iter().map(|v| rounded(v + 0.5)).collect();
        let [weight, bias, mean] = [3, 4, 1].map(|seed| random_from(seed, channels, 1.0));
        let var: Vec<f32> = random_from(2, channels, 1.0).into_iter().map(|v| v + 1.1).collect();
        let vector = [channels];
        let inputs: [(&[usize], &[f32]); 3] = [(shape, &x), (&vector, &weight), (&vector, &bias)];
        let running = [&mean, &var].map(|v| Tensor::new(gpu, &[channels], v).unwrap());
        let [old_mean, old_var] = &running;
        assert_gradients(
            gpu,
            &inputs,
            |x| x[0].cast(dtype)?.batch_norm(old_mean, old_var, &x[1], &x[2], 1e-3)?.cast(DType::F32),
            |x| given(x, &mean, &var),
            tolerance,
            &format!("given {shape:?} {dtype}"),
        );
        assert_gradients(
            gpu,
            &inputs,
            |x| {
                let x0 = x[0].cast(dtype)?;
                x0.batch_norm_training(old_mean, old_var, &x[1], &x[2], 0.1, 1e-3)?.y.cast(DType::F32)
            },
            of_batch,
            tolerance,
            &format!("of the batch {shape:?} {dtype}"),
        );
    }

    fn check_training(gpu: &Gpu, shape: &[usize], shift: f32, tolerance: f64) {
        let channels = *shape.last().unwrap();
        let x: Vec<f32> = random(shape, 2.0).into_iter().map(|v| v + shift).collect();
        let [weight, bias, mean, var] = [3, 4, 1, 2].map(|seed| random_from(seed, channels, 1.0));
        let there = |v: &[f32]| Tensor::new(gpu, &[channels], v).unwrap();
        let [tw, tb, tm, tv] = [&weight, &bias, &mean, &var].map(|v| there(v));
        let made =
            Tensor::new(gpu, shape, &x).unwrap().batch_norm_training(&tm, &tv, &tw, &tb, 0.1, 1e-3).unwrap();
        let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|&v| v.into()).collect() };
        let want = of_batch(&[wide(&x), wide(&weight), wide(&bias)]);
        let what = format!("{shape:?} + {shift}");
        assert_close(&made.y.to_vec().unwrap(), &want, tolerance, &what);
        let n = (x.len() / channels) as f64;
        let (batch_mean, batch_var) = statistics(&wide(&x), channels);
        let moved = |old: &[f32], new: &[f64], factor: f64| -> Vec<f64> {
            old.iter().zip(new).map(|(&old, new)| 0.9 * f64::from(old) + 0.1 * factor * new).collect()
        };
        let want = moved(&mean, &batch_mean, 1.0);
        assert_close(&made.running_mean.to_vec().unwrap(), &want, 1e-6, &format!("{what} mean"));
        let want = moved(&var, &batch_var, n / (n - 1.0));
        assert_close(&made.running_var.to_vec().unwrap(), &want, 2e-6, &format!("{what} var"));
        assert!(made.y.made().is_none(), "inference pays nothing");
    }

    #[test]
    fn statistics_of_the_batch_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for shape in [vec![2, 1], vec![3, 7], vec![65, 64], vec![2, 3, 5, 40], vec![1021, 3], vec![70_001, 4]]
        {
            check_training(&gpu, &shape, 0.0, 4e-6);
        }
        // Far from 0 x itself has only 3e-5 to give.
        check_training(&gpu, &[1021, 4], 300.0, 6e-5);
    }

    #[test]
    fn gradients_match_the_differences() {
        let Some(gpu) = gpu() else { return };
        for shape in [vec![3, 7], vec![5, 64], vec![2, 3, 5, 12], vec![1021, 1], vec![131, 3]] {
            // Sums over up to 1021 rows, rounded to f32.
            check_gradients(&gpu, &shape, DType::F32, 2e-5);
        }
        if gpu.facts().features.f16 {
            check_gradients(&gpu, &[33, 20], DType::F16, 2e-2);
            check_gradients(&gpu, &[17, 7], DType::F16, 2e-2);
        }
    }

    const TORCH_Y: [f64; 12] = [
        0.096557115,
        -0.156650001,
        2.278576451,
        1.503805415,
        0.072739924,
        -1.306009600,
        -1.324330530,
        1.050032199,
        -2.058435975,
        0.123968000,
        -0.166122122,
        2.285869125,
    ];
    const TORCH_MEAN: [f64; 3] = [0.000422375, 0.932686991, 1.849578405];
    const TORCH_VAR: [f64; 3] = [1.100671947, 2.042297877, 2.996444300];
    const TORCH_DX: [f64; 12] = [
        0.716026049,
        -0.310773490,
        1.169734969,
        0.071747663,
        -0.129420052,
        0.547482557,
        0.054800069,
        0.027840339,
        -0.454624900,
        -0.842573781,
        0.412353202,
        -1.262592626,
    ];
    const TORCH_DWEIGHT: [f64; 3] = [1.171118633, 0.907023451, 0.648737633];
    const TORCH_DBIAS: [f64; 3] = [0.490335732, -0.177144358, -0.828800669];

    #[test]
    fn pytorch_gives_the_same() {
        let Some(gpu) = gpu() else { return };
        // PyTorch 2, in f64: x = (torch.arange(12).reshape(4, 3) * 0.7).sin() * 2; weight = [1, -0.5, 2];
        // bias = [0.1, 0.2, 0.3]; running_mean = [0, 1, 2]; running_var = [1, 2, 3];
        // y = F.batch_norm(x, running_mean, running_var, weight, bias, training=True);
        // y.backward((torch.arange(12).reshape(4, 3) * 0.3).cos())
        let x: Vec<f32> = (0..12).map(|at| ((at as f64 * 0.7).sin() * 2.0) as f32).collect();
        let vector = |v: [f32; 3]| Tensor::new(&gpu, &[3], &v).unwrap();
        let x = Tensor::new(&gpu, &[4, 3], &x).unwrap().parameter();
        let (weight, bias) = (vector([1.0, -0.5, 2.0]).parameter(), vector([0.1, 0.2, 0.3]).parameter());
        let made = x
            .batch_norm_training(
                &vector([0.0, 1.0, 2.0]),
                &vector([1.0, 2.0, 3.0]),
                &weight,
                &bias,
                0.1,
                1e-5,
            )
            .unwrap();
        assert_close(&made.y.to_vec().unwrap(), &TORCH_Y, 2e-6, "y");
        assert_close(&made.running_mean.to_vec().unwrap(), &TORCH_MEAN, 1e-6, "running_mean");
        assert_close(&made.running_var.to_vec().unwrap(), &TORCH_VAR, 1e-6, "running_var");
        let dy: Vec<f32> = (0..12).map(|at| (at as f64 * 0.3).cos() as f32).collect();
        let back = made.y.backward_from(&Tensor::new(&gpu, &[4, 3], &dy).unwrap()).unwrap();
        let gradient = |of: &Tensor| back.get(of).unwrap().to_vec().unwrap();
        assert_close(&gradient(&x), &TORCH_DX, 1e-5, "dx");
        assert_close(&gradient(&weight), &TORCH_DWEIGHT, 1e-5, "dweight");
        assert_close(&gradient(&bias), &TORCH_DBIAS, 1e-5, "dbias");
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        case(&gpu, &[300, 12]);
        case(&gpu, &[701, 7]);
        check_training(&gpu, &[701, 7], 0.0, 4e-6);
        check_gradients(&gpu, &[300, 12], DType::F32, 2e-5);
    }

    #[test]
    fn half_precision_storage() {
        let Some(gpu) = gpu() else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        for shape in [[33, 20], [17, 7]] {
            let x: Vec<half::f16> = random(&shape, 2.0).into_iter().map(half::f16::from_f32).collect();
            let wide: Vec<f32> = x.iter().map(|v| v.to_f32()).collect();
            let (y, want) = run(&gpu, &shape, &x, &wide);
            assert_close(&y.to_vec().unwrap(), &want, 1e-3, "f16"); // one rounding to f16
        }
    }

    #[test]
    fn wrong_calls_are_refused_and_nothing_gives_nothing() {
        let gpu = Gpu::plan();
        let make = |shape: &[usize], dtype| Tensor::empty(&gpu, shape, dtype).unwrap();
        let x = make(&[5, 8], DType::F32);
        let (good, short, half) = (make(&[8], DType::F32), make(&[7], DType::F32), make(&[8], DType::F16));
        assert!(x.batch_norm(&good, &good, &good, &good, 1e-5).is_ok());
        for at in 0..4 {
            for wrong in [&short, &half] {
                let mut v = [&good; 4];
                v[at] = wrong;
                assert!(x.batch_norm(v[0], v[1], v[2], v[3], 1e-5).is_err());
                assert!(x.batch_norm_training(v[0], v[1], v[2], v[3], 0.1, 1e-5).is_err());
            }
        }
        assert!(make(&[], DType::F32).batch_norm(&good, &good, &good, &good, 1e-5).is_err());
        assert!(make(&[8], DType::I32).batch_norm(&good, &good, &good, &good, 1e-5).is_err());
        let one = make(&[1, 8], DType::F32);
        let error = one.batch_norm_training(&good, &good, &good, &good, 0.1, 1e-5).err().unwrap().to_string();
        assert!(error.contains("two values for each channel"), "{error}");
        let none = make(&[0], DType::F32);
        let made =
            make(&[3, 0], DType::F32).batch_norm_training(&none, &none, &none, &none, 0.1, 1e-5).unwrap();
        assert!(made.y.is_empty() && made.running_mean.is_empty());
        assert!(make(&[0, 8], DType::F32).batch_norm(&good, &good, &good, &good, 1e-5).unwrap().is_empty());
    }

    #[test]
    fn shader_twin_of_batch_norm() {
        shader_twin(&FORWARD, Params::FIELDS);
        for kernel in [MOMENTS, SUMS, BACKWARD] {
            shader_twin(&kernel, TrainingParams::FIELDS);
        }
    }
}
