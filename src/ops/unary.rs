//! Elementwise functions of one tensor.    y = f(x)
//! Same as PyTorch's functions of these names; `gelu` is the exact one (erf), `gelu_tanh` its approximation.
//! Backward: dx = dy f'(x).

use super::{common, flat_groups, flat_windows, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Program, Variant, Work};
use crate::tensor::Tensor;

/// A function applied to each element, alone or at the end of a fused kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x
    #[default]
    None,
    /// x sigmoid(x), also called swish.
    Silu,
    /// x (1 + erf(x / sqrt 2)) / 2
    Gelu,
    /// gelu with tanh in place of erf.
    GeluTanh,
    /// x sigmoid(1.702 x), as in OpenAI's CLIP.
    QuickGelu,
    /// max(x, 0)
    Relu,
    /// x above 0, exp(x) - 1 below (alpha is 1).
    Elu,
    /// tanh(x)
    Tanh,
    /// 1 / (1 + exp(-x))
    Sigmoid,
}

impl Activation {
    /// The number shaders know it by: the `kind` of `activate` in common/activation.wgsl.
    pub fn code(self) -> u32 {
        self as u32
    }
}

// Functions beside the activations, as in unary.wgsl.
const EXP: u32 = 16;
const AFFINE: u32 = 17;
const CLAMP: u32 = 18;
const LOG: u32 = 19;
const SQRT: u32 = 20;
const SQUARE: u32 = 21;

params! {
    struct Params {
        n: u32,
        a: f32,
        b: f32,
    }
}

/// The shader's text with its function chosen.
fn text(entry: &str, kind: u32) -> String {
    let head = format!("const KIND = {kind}u;");
    if entry == "forward" {
        return [&head, shaders!("unary"), common::INDEX, common::ACTIVATION].join("\n");
    }
    [&head, shaders!("unary_backward"), common::INDEX, common::ACTIVATION, common::SLOPE].join("\n")
}

impl Tensor {
    /// [..] -> [..]; the activation of each element. Fails on ids, as all of these do.
    pub fn activate(&self, activation: Activation) -> Result<Tensor> {
        match activation {
            Activation::None => Ok(self.clone()),
            Activation::Silu => self.silu(),
            Activation::Gelu => self.gelu(),
            Activation::GeluTanh => self.gelu_tanh(),
            Activation::QuickGelu => self.quick_gelu(),
            Activation::Relu => self.relu(),
            Activation::Elu => self.elu(),
            Activation::Tanh => self.tanh(),
            Activation::Sigmoid => self.sigmoid(),
        }
    }

    /// [..] -> [..]; x sigmoid(x).
    pub fn silu(&self) -> Result<Tensor> {
        self.unary("silu", Activation::Silu.code(), 0.0, 0.0)
    }

    /// [..] -> [..]; x (1 + erf(x / sqrt 2)) / 2, PyTorch's default `gelu`.
    pub fn gelu(&self) -> Result<Tensor> {
        self.unary("gelu", Activation::Gelu.code(), 0.0, 0.0)
    }

    /// [..] -> [..]; PyTorch's `gelu(approximate="tanh")`.
    pub fn gelu_tanh(&self) -> Result<Tensor> {
        self.unary("gelu_tanh", Activation::GeluTanh.code(), 0.0, 0.0)
    }

    /// [..] -> [..]; x sigmoid(1.702 x).
    pub fn quick_gelu(&self) -> Result<Tensor> {
        self.unary("quick_gelu", Activation::QuickGelu.code(), 0.0, 0.0)
    }

    /// [..] -> [..]; max(x, 0).
    pub fn relu(&self) -> Result<Tensor> {
        self.unary("relu", Activation::Relu.code(), 0.0, 0.0)
    }

    /// [..] -> [..]; x above 0, exp(x) - 1 below.
    pub fn elu(&self) -> Result<Tensor> {
        self.unary("elu", Activation::Elu.code(), 0.0, 0.0)
    }

    /// [..] -> [..]; tanh(x).
    pub fn tanh(&self) -> Result<Tensor> {
        self.unary("tanh", Activation::Tanh.code(), 0.0, 0.0)
    }

    /// [..] -> [..]; 1 / (1 + exp(-x)).
    pub fn sigmoid(&self) -> Result<Tensor> {
        self.unary("sigmoid", Activation::Sigmoid.code(), 0.0, 0.0)
    }

    /// [..] -> [..]; exp(x). Above 88 (f16: above 11) the result leaves the number type and is undefined.
    pub fn exp(&self) -> Result<Tensor> {
        self.unary("exp", EXP, 0.0, 0.0)
    }

    /// [..] -> [..]; the natural logarithm. Of 0 it is -inf, below there is none: keep away with [`Tensor::clamp`].
    pub fn log(&self) -> Result<Tensor> {
        self.unary("log", LOG, 0.0, 0.0)
    }

    /// [..] -> [..]; the square root, whose gradient is infinite at 0.
    pub fn sqrt(&self) -> Result<Tensor> {
        self.unary("sqrt", SQRT, 0.0, 0.0)
    }

    /// [..] -> [..]; x x.
    pub fn square(&self) -> Result<Tensor> {
        self.unary("square", SQUARE, 0.0, 0.0)
    }

    /// [..] -> [..]; a x + b.
    pub fn scale(&self, a: f32, b: f32) -> Result<Tensor> {
        self.unary("scale", AFFINE, a, b)
    }

    /// [..] -> [..]; x no smaller than `lo` and no larger than `hi`.
    ///
    /// Errors: [`Error::Setting`] when `lo` lies above `hi` or one is no number.
    pub fn clamp(&self, lo: f32, hi: f32) -> Result<Tensor> {
        if lo > hi || lo.is_nan() || hi.is_nan() {
            return Err(Error::setting("clamp", format!("wanted lo <= hi, got {lo} and {hi}")));
        }
        self.unary("clamp", CLAMP, lo, hi)
    }

    fn unary(&self, op: &'static str, kind: u32, a: f32, b: f32) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("{op} {self}"));
        self.scalar(op)?;
        let y = Tensor::empty(self.gpu(), self.shape(), self.dtype())?;
        run(op, "forward", kind, [a, b], &[self], &y)?;
        if !self.wants_gradient() {
            return Ok(y);
        }
        if kind == AFFINE {
            return Ok(y.made_by([self], move |_, dy| Ok([Some(dy.scale(a, 0.0)?)])));
        }
        let x = self.detach();
        Ok(y.made_by([self], move |_, dy| {
            let _op = x.gpu().op(|| format!("{op} backward {x}"));
            let dx = Tensor::empty(x.gpu(), x.shape(), x.dtype())?;
            run(op, "backward", kind, [a, b], &[&x, dy], &dx)?;
            Ok([Some(dx)])
        }))
    }
}

/// One of the two entries over tensors of the same shape and type.
fn run(
    op: &str,
    entry: &'static str,
    kind: u32,
    [a, b]: [f32; 2],
    inputs: &[&Tensor],
    y: &Tensor,
) -> Result<()> {
    let (gpu, dtype) = (y.gpu(), y.dtype());
    let variant = Variant { scalar: y.scalar(op)?, width: 4, workgroup: gpu.flat_workgroup() };
    for window in flat_windows(gpu, op, y.len(), &[dtype])? {
        let units = window.len().div_ceil(4);
        let inputs: Vec<_> = inputs.iter().map(|input| input.window(window.clone())).collect();
        gpu.run(&Launch {
            program: Program::generated("unary", entry, variant, kind.into(), &|| text(entry, kind)),
            params: Params { n: units as u32, a, b }.as_bytes(),
            inputs: &inputs,
            outputs: &[y.window(window.clone())],
            groups: flat_groups(gpu, op, units)?,
            work: Work {
                flops: 8 * window.len() as u64,
                bytes: ((inputs.len() + 1) * window.len() * dtype.bytes()) as u64,
            },
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options, Scalar};
    use crate::tensor::DType;
    use crate::testing::{assert_close, assert_gradients, gelu, gpu, gpu_with, gradients, random, validate};
    use half::f16;

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// The same in f64.
    fn reference(activation: Activation, x: f64) -> f64 {
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        match activation {
            Activation::None => x,
            Activation::Silu => x * sigmoid(x),
            Activation::Gelu => gelu(x),
            Activation::GeluTanh => 0.5 * x * (1.0 + u.tanh()),
            Activation::QuickGelu => x * sigmoid(1.702 * x),
            Activation::Relu => x.max(0.0),
            Activation::Elu => {
                if x > 0.0 {
                    x
                } else {
                    x.exp_m1()
                }
            }
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => sigmoid(x),
        }
    }

    const ALL: [Activation; 9] = [
        Activation::None,
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Relu,
        Activation::Elu,
        Activation::Tanh,
        Activation::Sigmoid,
    ];

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&v| v.into()).collect()
    }

    #[test]
    fn activations_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for activation in ALL {
            for n in [1, 7, 257, 1031] {
                let x = random(&[n], 12.0);
                let want: Vec<f64> = wide(&x).into_iter().map(|v| reference(activation, v)).collect();
                let y = Tensor::new(&gpu, &[n], &x).unwrap().activate(activation).unwrap();
                // exp and one division in f32
                assert_close(&y.to_vec().unwrap(), &want, 1e-6, &format!("{activation:?} {n}"));
            }
        }
    }

    #[test]
    fn gelu_is_within_3e_7() {
        let Some(gpu) = gpu() else { return };
        // From -2 to 2, where it is all of its formula.
        let x: Vec<f32> = (0..20_001).map(|i| (i as f32 - 10_000.0) * 2e-4).collect();
        let want: Vec<f64> = wide(&x).into_iter().map(|v| reference(Activation::Gelu, v)).collect();
        let y = Tensor::new(&gpu, &[x.len()], &x).unwrap().gelu().unwrap();
        assert_close(&y.to_vec().unwrap(), &want, 3e-7, "gelu");
    }

    #[test]
    fn large_arguments_stay_numbers() {
        let Some(gpu) = gpu() else { return };
        let x = [-3e38_f32, -1e4, -200.0, -89.0, 89.0, 200.0, 1e4, 3e38];
        for activation in ALL {
            let y = Tensor::new(&gpu, &[8], &x).unwrap().activate(activation).unwrap().to_vec().unwrap();
            for (&x, &y) in x.iter().zip(&y) {
                // The true value is 0, x, 1 or -1 within 1e-35 of x.
                let want = reference(activation, x.into());
                assert!(
                    (f64::from(y) - want).abs() <= 1e-6 * want.abs().max(1.0) + 1e-35 * f64::from(x.abs()),
                    "{activation:?} at {x}: wanted {want}, got {y}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let Some(gpu) = gpu() else { return };
        let x = [f32::NAN; 5];
        for activation in [
            Activation::Silu,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::QuickGelu,
            Activation::Relu,
            Activation::Elu,
            Activation::Tanh,
            Activation::Sigmoid,
        ] {
            let y = Tensor::new(&gpu, &[5], &x).unwrap().activate(activation).unwrap().to_vec().unwrap();
            assert!(y.iter().all(|y| y.is_nan()), "{activation:?}: {y:?}");
        }
        for n in [5, 8] {
            let clamped = Tensor::new(&gpu, &[n], &vec![f32::NAN; n]).unwrap().clamp(-1.0, 1.0).unwrap();
            assert!(clamped.to_vec().unwrap().iter().all(|y| y.is_nan()));
        }
    }

    #[test]
    fn exp_scale_and_clamp() {
        let Some(gpu) = gpu() else { return };
        for shape in [vec![3, 43], vec![], vec![70_000, 3]] {
            let x = random(&shape, 3.0);
            let tensor = Tensor::new(&gpu, &shape, &x).unwrap();
            let check = |y: Tensor, f: &dyn Fn(f64) -> f64, what: &str| {
                assert_eq!(y.shape(), shape);
                let want: Vec<f64> = wide(&x).into_iter().map(f).collect();
                assert_close(&y.to_vec().unwrap(), &want, 1e-6, what);
            };
            check(tensor.exp().unwrap(), &f64::exp, "exp");
            check(tensor.scale(-2.5, 0.75).unwrap(), &|v| -2.5 * v + 0.75, "scale");
            check(tensor.clamp(-1.0, 0.5).unwrap(), &|v| v.clamp(-1.0, 0.5), "clamp");
            check(tensor.square().unwrap(), &|v| v * v, "square");
            check(tensor.square().unwrap().sqrt().unwrap(), &f64::abs, "sqrt");
        }
        let x: Vec<f32> = (1..300).map(|v| v as f32 * 0.37).collect();
        let want: Vec<f64> = wide(&x).into_iter().map(f64::ln).collect();
        assert_close(
            &Tensor::new(&gpu, &[299], &x).unwrap().log().unwrap().to_vec().unwrap(),
            &want,
            1e-6,
            "log",
        );
    }

    /// Values away from 0, -1 and 0.5, where slopes jump.
    fn smooth(n: usize, scale: f32) -> Vec<f32> {
        let apart =
            |v: f32| if [0.0, -1.0, 0.5].iter().any(|kink| (v - kink).abs() < 1e-2) { v + 0.03 } else { v };
        random(&[n], scale).into_iter().map(apart).collect()
    }

    #[test]
    fn gradients_of_activations() {
        let Some(gpu) = gpu() else { return };
        for activation in ALL {
            for n in [1, 7, 1031] {
                let x = smooth(n, 6.0);
                assert_gradients(
                    &gpu,
                    &[(&[n], &x)],
                    |x| x[0].activate(activation),
                    |x| x[0].iter().map(|&v| reference(activation, v)).collect(),
                    2e-6,
                    &format!("{activation:?} {n}"),
                );
            }
        }
    }

    #[test]
    fn gradients_of_functions() {
        let Some(gpu) = gpu() else { return };
        type Pair = (&'static str, fn(&Tensor) -> Result<Tensor>, fn(f64) -> f64);
        let functions: [Pair; 6] = [
            ("exp", Tensor::exp, f64::exp),
            ("scale", |x| x.scale(-2.5, 0.75), |v| -2.5 * v + 0.75),
            ("clamp", |x| x.clamp(-1.0, 0.5), |v| v.clamp(-1.0, 0.5)),
            ("square", Tensor::square, |v| v * v),
            ("sqrt", |x| x.scale(1.0, 4.0)?.sqrt(), |v| (v + 4.0).sqrt()),
            ("log", |x| x.scale(1.0, 4.0)?.log(), |v| (v + 4.0).ln()),
        ];
        let x = smooth(259, 3.0);
        let halves: Vec<f32> = x.iter().map(|&v| f16::from_f32(v).to_f32()).collect();
        for (name, forward, reference) in functions {
            let reference = |x: &[Vec<f64>]| x[0].iter().map(|&v| reference(v)).collect();
            assert_gradients(&gpu, &[(&[7, 37], &x)], |x| forward(&x[0]), reference, 2e-6, name);
            if gpu.facts().features.f16 {
                let forward = |x: &[Tensor]| forward(&x[0].cast(DType::F16)?)?.cast(DType::F32);
                // dy and dx rounded to f16
                assert_gradients(
                    &gpu,
                    &[(&[7, 37], &halves)],
                    forward,
                    reference,
                    5e-3,
                    &format!("{name} f16"),
                );
            }
        }
    }

    #[test]
    fn gradients_stay_numbers_far_out() {
        let Some(gpu) = gpu() else { return };
        let x = [-3e38_f32, -1e4, -200.0, -89.0, 89.0, 200.0, 1e4, 3e38];
        for activation in ALL {
            let x = Tensor::new(&gpu, &[8], &x).unwrap().parameter();
            let y = x.activate(activation).unwrap();
            let dx = &gradients(&y, Tensor::full(&gpu, &[8], DType::F32, 1.0).unwrap(), &[x])[0];
            // Ends of the slopes, reached long before: 0 or 1.
            let above = f32::from(!matches!(activation, Activation::Tanh | Activation::Sigmoid));
            let below = f32::from(activation == Activation::None);
            for (at, &slope) in dx.iter().enumerate() {
                let want = if at < 4 { below } else { above };
                assert!((slope - want).abs() < 1e-30, "{activation:?} at {at}: wanted {want}, got {slope}");
            }
        }
    }

    #[test]
    fn gradients_of_a_tensor_larger_than_a_binding() {
        let options = Options { binding_bytes: Some(4096), ..Options::default() };
        let Some(gpu) = gpu_with(options) else { return };
        let x = smooth(3333, 4.0);
        let relu = |x: &[Vec<f64>]| x[0].iter().map(|v| v.max(0.0)).collect();
        assert_gradients(&gpu, &[(&[3, 1111], &x)], |x| x[0].relu(), relu, 1e-6, "relu");
    }

    #[test]
    fn f16_is_reckoned_in_f32() {
        let Some(gpu) = gpu().filter(|gpu| gpu.facts().features.f16) else { return };
        for n in [1, 5, 1030] {
            let x: Vec<f16> = random(&[n], 8.0).into_iter().map(f16::from_f32).collect();
            let tensor = Tensor::new(&gpu, &[n], &x).unwrap();
            for activation in ALL {
                let want: Vec<f64> = x.iter().map(|&v| reference(activation, v.into())).collect();
                let y = tensor.activate(activation).unwrap();
                assert_eq!(y.dtype(), DType::F16);
                assert_close(&y.to_vec().unwrap(), &want, 1e-3, &format!("{activation:?} {n}"));
            }
        }
    }

    #[test]
    fn a_tensor_larger_than_a_binding_goes_in_windows() {
        let options = Options { binding_bytes: Some(4096), ..Options::default() };
        let Some(gpu) = gpu_with(options) else { return };
        let x = random(&[3, 1111], 4.0);
        let y = Tensor::new(&gpu, &[3, 1111], &x).unwrap().relu().unwrap();
        let want: Vec<f64> = x.iter().map(|&v| v.max(0.0).into()).collect();
        assert_close(&y.to_vec().unwrap(), &want, 0.0, "relu");
        assert_eq!(gpu.counts().dispatches, 4);
    }

    #[test]
    fn nothing_gives_nothing_and_ids_are_refused() {
        let Some(gpu) = gpu() else { return };
        assert!(Tensor::new::<f32>(&gpu, &[0, 3], &[]).unwrap().silu().unwrap().is_empty());
        let error = Tensor::new(&gpu, &[1], &[1_i32]).unwrap().gelu().unwrap_err();
        assert!(matches!(&error, Error::DType { op, .. } if op == "gelu"), "{error}");
        assert!(Tensor::new(&gpu, &[1], &[1_f32]).unwrap().clamp(1.0, 0.0).is_err());
        assert!(Tensor::new(&gpu, &[1], &[1_f32]).unwrap().clamp(f32::NAN, 0.0).is_err());
    }

    #[test]
    fn a_plan_runs_them() {
        let plan = Gpu::plan();
        let x = Tensor::empty(&plan, &[100], DType::F32).unwrap();
        assert_eq!(x.silu().unwrap().shape(), [100]);
        assert_eq!(plan.counts().dispatches, 1);
    }

    #[test]
    fn shader_twin() {
        for scalar in [Scalar::F32, Scalar::F16] {
            for width in [1, 4] {
                let variant = Variant { scalar, width, workgroup: 64 };
                for entry in ["forward", "backward"] {
                    let generate = || text(entry, EXP);
                    let program = Program::generated("unary", entry, variant, 0, &generate);
                    validate(&format!("unary {entry} {variant:?}"), &program.text(true), Params::FIELDS);
                }
            }
        }
    }
}
