//! Elementwise arithmetic of two tensors.    y = a + b, a - b, a b, a / b
//! Same as PyTorch's operators: shapes broadcast as in NumPy. Of two number types the first one's is kept.
//! Backward: da = dy, dy, dy b, dy / b; db = dy, -dy, dy a, -dy y / b; summed over what was repeated.

use super::walk::{Axis, Walk, steps_in, steps_of};
use super::{common, flat_groups, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Program, Variant, Work};
use crate::tensor::Tensor;

/// What is done, by the shader's KIND.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Add,
    Sub,
    Mul,
    Div,
    Equal,
}

/// One form of the shader.
#[derive(Clone, Copy)]
struct Form {
    kind: Kind,
    axes: usize,
    /// Four places to a turn, as [`Walk::spread`] has it.
    spread: bool,
    /// One element of a, or of b, serves a whole unit.
    splat: [bool; 2],
}

impl Form {
    fn key(self) -> u64 {
        let splat = u64::from(self.splat[0]) | u64::from(self.splat[1]) << 1;
        self.kind as u64 | splat << 4 | u64::from(self.spread) << 6 | (self.axes as u64) << 8
    }

    fn text(self) -> String {
        let (kind, axes, spread) = (self.kind as u32, self.axes, self.spread);
        let mut text = format!("const KIND = {kind}u;\nconst AXES = {axes}u;\nconst SPREAD = {spread};\n");
        for (name, splat) in [("a", self.splat[0]), ("b", self.splat[1])] {
            let (cell, value) = if splat {
                ("scalar", format!("f32({name}[at])"))
            } else {
                ("stored", format!("{name}[at]"))
            };
            text += &format!("alias {name}_cell = {cell};\n");
            text += &format!("fn load_{name}(at: u32) -> packed {{ return packed({value}); }}\n");
        }
        [&text, shaders!("binary"), common::INDEX, common::WALK].join("\n")
    }
}

impl Tensor {
    /// a + b. Fails on ids and on shapes that do not broadcast, as all of these do.
    pub fn add(&self, other: &Tensor) -> Result<Tensor> {
        self.binary(other, "add", Kind::Add)
    }

    /// a - b.
    pub fn sub(&self, other: &Tensor) -> Result<Tensor> {
        self.binary(other, "sub", Kind::Sub)
    }

    /// a b, element by element.
    pub fn mul(&self, other: &Tensor) -> Result<Tensor> {
        self.binary(other, "mul", Kind::Mul)
    }

    /// a / b, element by element.
    pub fn div(&self, other: &Tensor) -> Result<Tensor> {
        self.binary(other, "div", Kind::Div)
    }

    /// 1 where a is b, else 0: a mask, without a way back.
    pub(super) fn equal(&self, other: &Tensor) -> Result<Tensor> {
        self.detach().binary(&other.detach(), "equal", Kind::Equal)
    }

    fn binary(&self, given: &Tensor, op: &'static str, kind: Kind) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("{op} {self} {:?}", given.shape()));
        let (scalar, _) = (self.scalar(op)?, given.scalar(op)?);
        let shape = broadcast(op, self.shape(), given.shape())?;
        let y = Tensor::empty(self.gpu(), &shape, self.dtype())?;
        if y.is_empty() {
            return Ok(y);
        }
        let other = given.cast(self.dtype())?;
        let steps = [steps_in(self.shape(), &shape), steps_in(other.shape(), &shape), steps_of(&shape)];
        let axes: Vec<Axis> = (0..shape.len())
            .map(|at| Axis { size: shape[at], steps: [steps[0][at], steps[1][at], steps[2][at]] })
            .collect();
        let walk = Walk::new(op, &axes, [0; 3])?;
        // A lone axis may end in the padding; of several, the innermost must come out even.
        let width = if walk.axes.len() == 1 { 4 } else { super::width_of(walk.inner().size) };
        let splat = [0, 1].map(|t| width > 1 && walk.inner().steps[t] == 0);
        let size = self.dtype().bytes();
        let cell_bytes = [0, 1, 2].map(|t| if t < 2 && splat[t] { size } else { size * width as usize });
        let walk = walk.in_cells(width as usize, [!splat[0], !splat[1], true]);
        let variant = Variant { scalar, width, workgroup: self.gpu().flat_workgroup() };
        let axes = walk.axes.len();
        for piece in walk.pieces(self.gpu(), op, cell_bytes)? {
            let spread = piece.spread();
            let form = Form { kind, axes, spread: spread.is_some(), splat };
            let elements = (piece.n() * width as usize) as u64;
            self.gpu().run(&Launch {
                program: Program::generated("binary", "forward", variant, form.key(), &|| form.text()),
                params: &spread.as_ref().unwrap_or(&piece).params(cell_bytes),
                inputs: &[piece.binding(self, 0, cell_bytes[0]), piece.binding(&other, 1, cell_bytes[1])],
                outputs: &[piece.binding(&y, 2, cell_bytes[2])],
                groups: flat_groups(self.gpu(), op, piece.n())?,
                work: Work { flops: elements, bytes: 3 * elements * size as u64 },
            })?;
        }
        let wants = [self.wants_gradient(), given.wants_gradient()];
        if wants == [false; 2] {
            return Ok(y);
        }
        let (a, b) = (self.detach(), given.detach());
        Ok(y.made_by([self, given], move |y, dy| {
            let da = || {
                let each = match kind {
                    Kind::Mul => dy.mul(&b)?,
                    Kind::Div => dy.div(&b)?,
                    _ => dy.clone(),
                };
                each.sum_to(a.shape())
            };
            let db = || {
                // In the type of b: what is f32 beside halves sums in f32 and stays there.
                let dy = dy.cast(b.dtype())?;
                match kind {
                    Kind::Sub => dy.sum_to(b.shape())?.scale(-1.0, 0.0),
                    Kind::Mul => dy.mul(&a)?.sum_to(b.shape()),
                    Kind::Div => dy.mul(&y.detach())?.sum_to(b.shape())?.div(&b)?.scale(-1.0, 0.0),
                    _ => dy.sum_to(b.shape()),
                }
            };
            Ok([wants[0].then(da).transpose()?, wants[1].then(db).transpose()?])
        }))
    }
}

/// The shape both broadcast to: aligned at the last axis, sizes are equal or one of them is 1.
fn broadcast(op: &str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], at: usize| (at + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    (0..rank)
        .map(|at| match (size(a, at), size(b, at)) {
            (a, b) if a == b || b == 1 => Ok(a),
            (1, b) => Ok(b),
            _ => Err(Error::shape(op, format!("{a:?} and {b:?} do not broadcast: sizes are equal or 1"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options, Scalar};
    use crate::tensor::DType;
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, random_from, validate};
    use half::f16;

    /// The same in f64, index by index.
    fn reference(kind: Kind, a: (&[usize], &[f64]), b: (&[usize], &[f64])) -> Vec<f64> {
        let rank = a.0.len().max(b.0.len());
        let pad = |shape: &[usize]| [vec![1; rank - shape.len()], shape.to_vec()].concat();
        let (sa, sb) = (pad(a.0), pad(b.0));
        let shape: Vec<usize> = sa.iter().zip(&sb).map(|(&a, &b)| if a == 1 { b } else { a }).collect();
        let find = |own: &[usize], values: &[f64], index: &[usize]| {
            let at = own.iter().zip(index).fold(0, |at, (&d, &i)| at * d + if d == 1 { 0 } else { i });
            values[at]
        };
        (0..shape.iter().product())
            .map(|flat| {
                let (mut index, mut rest) = (vec![0; rank], flat);
                for at in (0..rank).rev() {
                    index[at] = rest % shape[at];
                    rest /= shape[at];
                }
                let (a, b) = (find(&sa, a.1, &index), find(&sb, b.1, &index));
                match kind {
                    Kind::Add => a + b,
                    Kind::Sub => a - b,
                    Kind::Mul => a * b,
                    Kind::Div => a / b,
                    Kind::Equal => f64::from(u8::from(a == b)),
                }
            })
            .collect()
    }

    fn run(kind: Kind, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        match kind {
            Kind::Add => a.add(b),
            Kind::Sub => a.sub(b),
            Kind::Mul => a.mul(b),
            Kind::Div => a.div(b),
            Kind::Equal => a.equal(b),
        }
    }

    /// Values away from zero, so that quotients stay tame.
    fn values(shape: &[usize], seed: u64) -> Vec<f32> {
        let values = random_from(seed, shape.iter().product(), 3.0);
        values.into_iter().map(|v| v + 0.5_f32.copysign(v)).collect()
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&v| v.into()).collect()
    }

    fn check(gpu: &Gpu, a: &[usize], b: &[usize]) {
        let (va, vb) = (values(a, 1), values(b, 2));
        let (ta, tb) = (Tensor::new(gpu, a, &va).unwrap(), Tensor::new(gpu, b, &vb).unwrap());
        for kind in [Kind::Add, Kind::Sub, Kind::Mul, Kind::Div] {
            let y = run(kind, &ta, &tb);
            let want = reference(kind, (a, &wide(&va)), (b, &wide(&vb)));
            // WGSL grants division 2.5 ulp.
            assert_close(&y.unwrap().to_vec().unwrap(), &want, 3e-7, &format!("{kind:?} {a:?} {b:?}"));
        }
    }

    #[test]
    fn equal_shapes() {
        let Some(gpu) = gpu() else { return };
        for shape in [vec![], vec![1], vec![7], vec![3, 5, 11], vec![4, 64], vec![257], vec![70_000, 3]] {
            check(&gpu, &shape, &shape);
        }
    }

    #[test]
    fn shapes_broadcast_as_in_numpy() {
        let Some(gpu) = gpu() else { return };
        let pairs: [(&[usize], &[usize]); 18] = [
            (&[5, 8], &[8]),
            (&[5, 7], &[7]),
            (&[8], &[5, 8]),
            (&[5, 8], &[]),
            (&[5, 7], &[1]),
            (&[1], &[3, 5, 7]),
            (&[5, 8], &[5, 1]),
            (&[5, 1], &[5, 8]),
            (&[5, 1], &[1, 8]),
            (&[1, 7], &[5, 1]),
            (&[2, 9, 12], &[2, 1, 12]),
            (&[2, 9, 12], &[2, 9, 1]),
            (&[2, 1, 3, 1, 4], &[5, 1, 6, 1]),
            (&[2, 1, 2, 1, 2, 1], &[1, 3, 1, 3, 1, 3]),
            (&[2, 1, 2, 1, 2, 4], &[1, 3, 1, 3, 1, 4]),
            (&[1, 1, 1], &[1]),
            (&[70_001, 1], &[1, 3]),
            (&[3, 1, 1, 2, 1, 1, 1, 4], &[3, 5, 1, 2, 1, 1, 1, 1]),
        ];
        for (a, b) in pairs {
            check(&gpu, a, b);
        }
    }

    #[test]
    fn f16_keeps_the_first_type() {
        let Some(gpu) = gpu().filter(|gpu| gpu.facts().features.f16) else { return };
        let pairs: [(&[usize], &[usize]); 4] =
            [(&[5, 7], &[7]), (&[5, 8], &[8]), (&[5, 8], &[5, 1]), (&[9], &[9])];
        for (a, b) in pairs {
            let (va, vb) = (values(a, 1), values(b, 2));
            let half: Vec<f16> = va.iter().map(|&v| f16::from_f32(v)).collect();
            let (ta, tb) = (Tensor::new(&gpu, a, &half).unwrap(), Tensor::new(&gpu, b, &vb).unwrap());
            let want = reference(Kind::Mul, (a, &wide(&va)), (b, &wide(&vb)));
            for (y, dtype) in [(ta.mul(&tb), DType::F16), (tb.mul(&ta), DType::F32)] {
                let y = y.unwrap();
                assert_eq!(y.dtype(), dtype);
                // Both factors and the product rounded to f16.
                assert_close(&y.to_vec().unwrap(), &want, 2e-3, &format!("{a:?} {b:?}"));
            }
        }
    }

    #[test]
    fn gradients_sum_over_what_was_repeated() {
        let Some(gpu) = gpu() else { return };
        let pairs: [(&[usize], &[usize]); 8] = [
            (&[7], &[7]),
            (&[5, 7], &[7]),
            (&[8], &[5, 8]),
            (&[5, 7], &[]),
            (&[5, 1], &[1, 8]),
            (&[2, 9, 12], &[2, 1, 12]),
            (&[2, 1, 3, 1, 4], &[5, 1, 6, 1]),
            (&[1031, 1], &[1, 3]),
        ];
        for (a, b) in pairs {
            let (va, vb) = (values(a, 1), values(b, 2));
            for kind in [Kind::Add, Kind::Sub, Kind::Mul, Kind::Div] {
                assert_gradients(
                    &gpu,
                    &[(a, &va), (b, &vb)],
                    |x| run(kind, &x[0], &x[1]),
                    |x| reference(kind, (a, &x[0]), (b, &x[1])),
                    // Up to 1031 products of either sign, each rounded to f32.
                    1e-5,
                    &format!("{kind:?} {a:?} {b:?}"),
                );
            }
        }
    }

    #[test]
    fn gradients_keep_the_types_of_their_inputs() {
        let Some(gpu) = gpu().filter(|gpu| gpu.facts().features.f16) else { return };
        let (a, b): (&[usize], &[usize]) = (&[37, 5], &[5]);
        let half = |v: Vec<f32>| -> Vec<f32> { v.iter().map(|&v| f16::from_f32(v).to_f32()).collect() };
        let (va, vb) = (half(values(a, 1)), half(values(b, 2)));
        for kind in [Kind::Add, Kind::Sub, Kind::Mul, Kind::Div] {
            for first in [DType::F16, DType::F32] {
                let second = if first == DType::F16 { DType::F32 } else { DType::F16 };
                assert_gradients(
                    &gpu,
                    &[(a, &va), (b, &vb)],
                    |x| run(kind, &x[0].cast(first)?, &x[1].cast(second)?)?.cast(DType::F32),
                    |x| reference(kind, (a, &x[0]), (b, &x[1])),
                    // 37 products of numbers rounded to f16, some far above their sum.
                    2e-2,
                    &format!("{kind:?} {first}"),
                );
            }
        }
    }

    #[test]
    fn a_square_and_one_side_alone() {
        let Some(gpu) = gpu() else { return };
        let x = values(&[3, 5], 1);
        let inputs: [(&[usize], &[f32]); 1] = [(&[3, 5], &x)];
        let square = |x: &[Vec<f64>]| x[0].iter().map(|v| v * v).collect();
        assert_gradients(&gpu, &inputs, |x| x[0].mul(&x[0]), square, 1e-5, "square");
        let (own, other) =
            (Tensor::new(&gpu, &[3, 5], &x).unwrap(), Tensor::new(&gpu, &[5], &x[..5]).unwrap());
        let y = own.parameter().div(&other).unwrap();
        let back = (y.made().unwrap().backward)(&y, &own).unwrap();
        assert!(back[0].is_some() && back[1].is_none());
        assert!(own.div(&other).unwrap().made().is_none());
        let equal = Tensor::new(&gpu, &[2, 2], &[1_f32, 2.0, 3.0, 1.0]).unwrap().parameter();
        let mask = equal.equal(&Tensor::new(&gpu, &[2], &[1_f32, 2.0]).unwrap()).unwrap();
        assert_eq!(mask.to_vec().unwrap(), [1.0, 1.0, 0.0, 0.0]);
        assert!(mask.made().is_none());
    }

    #[test]
    fn tensors_larger_than_a_binding_go_in_pieces() {
        let options = Options { binding_bytes: Some(4096), ..Options::default() };
        let Some(gpu) = gpu_with(options) else { return };
        check(&gpu, &[3, 1111], &[3, 1111]);
        check(&gpu, &[50, 44], &[44]);
        check(&gpu, &[3, 1, 2001], &[2, 1]);
        check(&gpu, &[2, 1, 2001], &[2, 3, 1]);
        assert!(gpu.counts().dispatches > 16);
    }

    #[test]
    fn parameters_may_ride_in_a_uniform_buffer() {
        let options = Options { without_immediates: true, ..Options::default() };
        let Some(gpu) = gpu_with(options) else { return };
        check(&gpu, &[2, 1, 2, 1, 2, 4], &[1, 3, 1, 3, 1, 4]);
    }

    #[test]
    fn empty_axes_give_empty_tensors() {
        let Some(gpu) = gpu() else { return };
        let empty = Tensor::new::<f32>(&gpu, &[3, 0], &[]).unwrap();
        let one = Tensor::new(&gpu, &[1], &[1_f32]).unwrap();
        assert_eq!(empty.add(&one).unwrap().shape(), [3, 0]);
    }

    #[test]
    fn what_does_not_broadcast_is_refused() {
        let plan = Gpu::plan();
        let tensor = |shape: &[usize], dtype| Tensor::empty(&plan, shape, dtype).unwrap();
        let error = tensor(&[2, 3], DType::F32).mul(&tensor(&[4], DType::F32)).unwrap_err().to_string();
        assert!(error.contains("mul") && error.contains("[2, 3]") && error.contains("[4]"), "{error}");
        assert!(tensor(&[0], DType::F32).add(&tensor(&[2], DType::F32)).is_err());
        let ids = tensor(&[3], DType::I32);
        assert!(matches!(tensor(&[3], DType::F32).add(&ids), Err(Error::DType { .. })));
        assert!(matches!(ids.add(&tensor(&[3], DType::F32)), Err(Error::DType { .. })));
        let ragged = |at| {
            let shape: Vec<usize> = (0..8).map(|axis| if axis % 2 == at { 2 } else { 1 }).collect();
            tensor(&shape, DType::F32)
        };
        assert!(matches!(ragged(0).add(&ragged(1)), Err(Error::Shape { .. })));
    }

    #[test]
    fn shader_twin() {
        for scalar in [Scalar::F32, Scalar::F16] {
            for (width, splat) in [(1, [false; 2]), (4, [false; 2]), (4, [true, false]), (4, [false, true])] {
                for (axes, spread) in [(1, false), (2, false), (2, true), (5, true), (6, false), (6, true)] {
                    let form = Form { kind: Kind::Add, axes, spread, splat };
                    let variant = Variant { scalar, width, workgroup: 64 };
                    let generate = || form.text();
                    let program = Program::generated("binary", "forward", variant, 0, &generate);
                    let label = format!("binary {variant:?} {splat:?} {axes}");
                    validate(&label, &program.text(true), super::super::walk::FIELDS);
                }
            }
        }
    }
}
