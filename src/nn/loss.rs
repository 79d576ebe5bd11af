//! Losses: chains of ops, whose gradients come of themselves. Classes have theirs in [`Tensor::cross_entropy`].
//!
//! Each gives one f32 of shape [], the mean over the batch, whatever the number type of what it compares.

use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Mean of (x - y)² over all elements, two tensors of one shape. Same as PyTorch `F.mse_loss`.
///
/// Errors: [`Error::Shape`] when the shapes differ or hold nothing, [`Error::DType`] for ids.
pub fn mse(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if x.shape() != y.shape() || x.is_empty() {
        let detail = format!("wanted two of one shape, not empty, got {:?} and {:?}", x.shape(), y.shape());
        return Err(Error::shape("mse", detail));
    }
    let axes: Vec<usize> = (0..x.rank()).collect();
    x.cast(DType::F32)?.sub(&y.cast(DType::F32)?)?.square()?.mean(&axes)
}

/// Mean of 1 - cos of the angle between rows: two [batch, width]. Same as PyTorch `F.cosine_embedding_loss` with
/// targets of 1.
///
/// Errors: as [`mse`], and for other ranks.
pub fn cosine(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    // PyTorch's, beside the squares of the lengths.
    const EPS: f32 = 1e-12;
    let [x, y] = rows("cosine", x, y)?;
    let length = |x: &Tensor| x.square()?.sum(&[1])?.scale(1.0, EPS)?.sqrt();
    let cosines = x.mul(&y)?.sum(&[1])?.div(&length(&x)?.mul(&length(&y)?)?)?;
    cosines.mean(&[0])?.scale(-1.0, 1.0)
}

/// How sharply [`info_nce`] tells rows apart: what cosines are divided by.
#[derive(Clone, Copy, Debug)]
pub enum Temperature<'a> {
    /// This number, above 0; often 0.07.
    Fixed(f64),
    /// CLIP's `logit_scale`, one number that may learn: the logarithm of 1 / temperature.
    LogitScale(&'a Tensor),
}

/// Symmetric InfoNCE: row i of x belongs to row i of y and to no other. Two [batch, width], of any lengths; the mean of
/// the cross-entropies of their cosines over the temperature, along rows and along columns. Same as CLIP's loss.
///
/// Errors: as [`cosine`]; [`Error::Setting`] for a temperature that is not above 0, [`Error::Shape`] for a logit scale
/// that is not one number.
pub fn info_nce(x: &Tensor, y: &Tensor, temperature: Temperature) -> Result<Tensor> {
    let [x, y] = rows("info_nce", x, y)?;
    let cosines = normalize(&x)?.matmul(&normalize(&y)?, true)?;
    let logits = match temperature {
        Temperature::Fixed(t) if t > 0.0 && t.is_finite() => cosines.scale((1.0 / t) as f32, 0.0)?,
        Temperature::Fixed(t) => {
            return Err(Error::setting("info_nce temperature", format!("wanted a number above 0, got {t}")));
        }
        Temperature::LogitScale(scale) if scale.len() == 1 => {
            cosines.mul(&scale.cast(DType::F32)?.reshape(&[])?.exp()?)?
        }
        Temperature::LogitScale(scale) => {
            let detail = format!("wanted one number as logit scale, got {:?}", scale.shape());
            return Err(Error::shape("info_nce", detail));
        }
    };
    let own: Vec<i64> = (0..x.shape()[0] as i64).collect();
    let along_rows = logits.cross_entropy(&own, 0.0)?;
    let along_columns = logits.permute(&[1, 0])?.cross_entropy(&own, 0.0)?;
    along_rows.add(&along_columns)?.scale(0.5, 0.0)
}

/// Rows of length 1: [.., width] -> [.., width]. Same as PyTorch `F.normalize(x, dim=-1)`: rows shorter than 1e-12 are
/// divided by that.
///
/// Errors: on a scalar, on ids.
pub fn normalize(x: &Tensor) -> Result<Tensor> {
    let Some(last) = x.rank().checked_sub(1) else {
        return Err(Error::shape("normalize", "wanted at least one axis, got a scalar"));
    };
    let mut shape = x.shape().to_vec();
    shape[last] = 1;
    // The square of 1e-12 holds in f32 alone.
    let squares = x.cast(DType::F32)?.square()?.sum(&[last])?;
    let lengths = squares.clamp(1e-24, f32::MAX)?.sqrt()?;
    x.div(&lengths.reshape(&shape)?)
}

/// Both in f32, where they are [batch, width] of one shape.
fn rows(op: &str, x: &Tensor, y: &Tensor) -> Result<[Tensor; 2]> {
    if x.shape() != y.shape() || x.rank() != 2 || x.is_empty() {
        let (x, y) = (x.shape(), y.shape());
        return Err(Error::shape(op, format!("wanted two [batch, width], not empty, got {x:?} and {y:?}")));
    }
    Ok([x.cast(DType::F32)?, y.cast(DType::F32)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, random_from};

    fn mse_reference(x: &[f64], y: &[f64]) -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f64>() / x.len() as f64
    }

    fn dot(x: &[f64], y: &[f64]) -> f64 {
        x.iter().zip(y).map(|(x, y)| x * y).sum()
    }

    fn cos(x: &[f64], y: &[f64]) -> f64 {
        dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
    }

    fn cosine_reference(x: &[f64], y: &[f64], width: usize) -> f64 {
        let losses: Vec<f64> = x.chunks(width).zip(y.chunks(width)).map(|(x, y)| 1.0 - cos(x, y)).collect();
        losses.iter().sum::<f64>() / losses.len() as f64
    }

    fn info_nce_reference(x: &[f64], y: &[f64], width: usize, scale: f64) -> f64 {
        let (x, y): (Vec<_>, Vec<_>) = (x.chunks(width).collect(), y.chunks(width).collect());
        let one_way = |x: &[&[f64]], y: &[&[f64]]| {
            let loss = |at: usize| {
                let logits: Vec<f64> = y.iter().map(|y| scale * cos(x[at], y)).collect();
                logits.iter().map(|v| v.exp()).sum::<f64>().ln() - logits[at]
            };
            (0..x.len()).map(loss).sum::<f64>() / x.len() as f64
        };
        (one_way(&x, &y) + one_way(&y, &x)) / 2.0
    }

    /// Value and gradients of a loss of two [batch, width].
    fn check(
        gpu: &Gpu,
        shape: [usize; 2],
        dtype: DType,
        loss: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
        reference: impl Fn(&[f64], &[f64]) -> f64,
        what: &str,
    ) {
        let rounded = |v: f32| if dtype == DType::F16 { half::f16::from_f32(v).to_f32() } else { v };
        let values = |seed| -> Vec<f32> {
            random_from(seed, shape[0] * shape[1], 2.0).into_iter().map(rounded).collect()
        };
        let (x, y) = (values(1), values(2));
        let what = format!("{what} {shape:?} {dtype}");
        let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|&v| v.into()).collect() };
        let there = |v: &[f32]| Tensor::new(gpu, &shape, v).unwrap().cast(dtype).unwrap();
        let value = loss(&there(&x), &there(&y)).unwrap();
        assert_eq!((value.shape(), value.dtype()), (&[][..], DType::F32));
        assert_close(&value.to_vec().unwrap(), &[reference(&wide(&x), &wide(&y))], 3e-6, &what);
        assert_gradients(
            gpu,
            &[(&shape, &x), (&shape, &y)],
            |v| loss(&v[0].cast(dtype)?, &v[1].cast(dtype)?),
            |v| vec![reference(&v[0], &v[1])],
            if dtype == DType::F16 { 1e-3 } else { 1e-5 },
            &what,
        );
    }

    #[test]
    fn losses_and_gradients_match_the_references() {
        let Some(gpu) = gpu() else { return };
        let dtypes = if gpu.facts().features.f16 { &[DType::F32, DType::F16][..] } else { &[DType::F32] };
        for &dtype in dtypes {
            for shape in [[1, 1], [3, 7], [5, 64], [17, 33]] {
                check(&gpu, shape, dtype, mse, mse_reference, "mse");
                check(&gpu, shape, dtype, cosine, |x, y| cosine_reference(x, y, shape[1]), "cosine");
                for temperature in [0.07, 1.0] {
                    check(
                        &gpu,
                        shape,
                        dtype,
                        |x, y| info_nce(x, y, Temperature::Fixed(temperature)),
                        |x, y| info_nce_reference(x, y, shape[1], 1.0 / temperature),
                        &format!("info_nce {temperature}"),
                    );
                }
            }
        }
    }

    #[test]
    fn a_logit_scale_learns() {
        let Some(gpu) = gpu() else { return };
        let (x, y) = (random_from(1, 35, 2.0), random_from(2, 35, 2.0));
        for shape in [&[][..], &[1]] {
            assert_gradients(
                &gpu,
                &[(&[5, 7], &x), (&[5, 7], &y), (shape, &[2.5])],
                |v| info_nce(&v[0], &v[1], Temperature::LogitScale(&v[2])),
                |v| vec![info_nce_reference(&v[0], &v[1], 7, v[2][0].exp())],
                1e-5,
                "logit scale",
            );
        }
    }

    const TORCH: [(f64, [f64; 12]); 3] = [
        (
            2.001029052343,
            [
                -0.166666667,
                0.055516481,
                0.190927308,
                0.184134794,
                0.051269758,
                -0.128717276,
                -0.252658242,
                -0.243343187,
                -0.087523260,
                0.156283324,
                0.383994282,
                0.493969373,
            ],
        ),
        (
            0.617318438464,
            [
                -0.066130941,
                -0.023890973,
                0.005515461,
                0.011533445,
                -0.040653738,
                -0.037965620,
                -0.022242981,
                0.019426510,
                0.078177447,
                0.060809428,
                0.038293331,
                0.023447592,
            ],
        ),
        (
            3.286191378573,
            [
                -0.001393122,
                -0.000503167,
                0.000116274,
                0.000242776,
                -0.493078383,
                -0.283184517,
                -0.088869305,
                0.011824791,
                1.209938783,
                0.950277447,
                0.609259447,
                0.351702082,
            ],
        ),
    ];

    #[test]
    fn pytorch_gives_the_same() {
        let Some(gpu) = gpu() else { return };
        // PyTorch 2, in f64: x = (torch.arange(12).reshape(3, 4) * 0.7).sin() * 2; y = (x's arange * 0.3).cos();
        // F.mse_loss(x, y), F.cosine_embedding_loss(x, y, torch.ones(3)), and CLIP's loss at temperature 0.1:
        // l = F.normalize(x) @ F.normalize(y).T / 0.1; (F.cross_entropy(l, i) + F.cross_entropy(l.T, i)) / 2
        let make = |f: &dyn Fn(f64) -> f64| {
            let values: Vec<f32> = (0..12).map(|at| f(at.into()) as f32).collect();
            Tensor::new(&gpu, &[3, 4], &values).unwrap().parameter()
        };
        let (x, y) = (make(&|at| (at * 0.7).sin() * 2.0), make(&|at| (at * 0.3).cos()));
        let losses =
            [mse(&x, &y), cosine(&x, &y), info_nce(&x, &y, Temperature::Fixed(0.1))].map(Result::unwrap);
        for (loss, (value, gradient)) in losses.iter().zip(TORCH) {
            assert_close(&loss.to_vec().unwrap(), &[value], 1e-6, "loss");
            let dx = loss.backward().unwrap().take(&x).unwrap();
            assert_close(&dx.to_vec().unwrap(), &gradient, 1e-6, "gradient");
        }
    }

    #[test]
    fn steps_leave_nothing_behind() {
        let Some(gpu) = gpu_with(Options::default()) else { return };
        let tensor = |seed, shape: &[usize]| {
            Tensor::new(&gpu, shape, &random_from(seed, shape.iter().product(), 1.0)).unwrap().parameter()
        };
        let (table, gain, shift) = (tensor(1, &[9, 8]), tensor(2, &[8]), tensor(3, &[8]));
        let running = [tensor(4, &[8]).detach(), tensor(5, &[8]).detach()];
        // Every op of the losses and most others, forward and back.
        let step = |at: u64| -> Result<()> {
            let x = table.embedding(&[3, 1, 4, 1, 5, 8], &[6])?;
            let x = x.batch_norm_training(&running[0], &running[1], &gain, &shift, 0.1, 1e-5)?.y;
            let x = x.dropout(0.25, 7, at)?.permute(&[1, 0])?.pad(&[(0, 0), (1, 1)])?.narrow(1, 1, 6)?;
            let x = Tensor::concat(&[&x.permute(&[1, 0])?.gelu()?, &x.permute(&[1, 0])?], 1)?.geglu()?;
            let y = x.amax(&[1])?.reshape(&[6, 1])?.expand(&[6, 8])?;
            let y = Tensor::combine(&[(&y, 0.5), (&x.softmax()?, 2.0), (&x.log_softmax()?.exp()?, 1.0)])?;
            let loss =
                mse(&x, &y)?.add(&cosine(&x, &y)?)?.add(&info_nce(&x, &y, Temperature::Fixed(0.5))?)?;
            let gradients = loss.add(&x.cross_entropy(&[0, 1, 2, 3, 4, 5], 0.1)?)?.backward()?;
            assert!([&table, &gain, &shift].iter().all(|p| gradients.get(p).is_some()));
            Ok(())
        };
        step(0).unwrap();
        let before = gpu.live_buffers();
        (1..40).for_each(|at| step(at).unwrap());
        assert_eq!(gpu.live_buffers(), before);
        drop((table, gain, shift, running));
        assert_eq!(gpu.live_buffers(), 0);
    }

    #[test]
    fn rows_of_zeros_stay_numbers() {
        let Some(gpu) = gpu() else { return };
        let x = Tensor::new(&gpu, &[2, 3], &[0_f32, 0.0, 0.0, 3.0, 0.0, 4.0]).unwrap().parameter();
        let y = Tensor::new(&gpu, &[2, 3], &[1_f32, 2.0, 3.0, 0.0, 0.0, 0.0]).unwrap();
        assert_close(
            &normalize(&x).unwrap().to_vec().unwrap(),
            &[0.0, 0.0, 0.0, 0.6, 0.0, 0.8],
            1e-7,
            "rows",
        );
        for loss in [cosine(&x, &y).unwrap(), info_nce(&x, &y, Temperature::Fixed(0.5)).unwrap()] {
            let dx = loss.backward().unwrap().take(&x).unwrap().to_vec().unwrap();
            assert!(loss.to_vec().unwrap()[0].is_finite() && dx.iter().all(|v| v.is_finite()), "{dx:?}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused_by_name() {
        let plan = Gpu::plan();
        let make = |shape: &[usize]| Tensor::empty(&plan, shape, DType::F32).unwrap();
        let (x, wide, flat, none) = (make(&[2, 3]), make(&[2, 4]), make(&[6]), make(&[0, 3]));
        let said = |result: Result<Tensor>, name: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        };
        said(mse(&x, &wide), "mse");
        said(mse(&none, &none), "mse");
        said(cosine(&x, &wide), "cosine");
        said(cosine(&flat, &flat), "cosine");
        said(info_nce(&x, &wide, Temperature::Fixed(1.0)), "info_nce");
        for t in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            said(info_nce(&x, &x, Temperature::Fixed(t)), "info_nce temperature");
        }
        said(info_nce(&x, &x, Temperature::LogitScale(&flat)), "one number");
        said(normalize(&make(&[])), "normalize");
        assert!(mse(&flat, &flat).is_ok() && mse(&x, &x).unwrap().made().is_none());
    }
}
