//! Two tensors behind each other along an axis, in one launch.    y = [a, b]
//! What `concat` does on cards where blocks are whole cells: a launch less than moving one after the other.

use super::{common, flat_groups, params, shaders};
use crate::error::Result;
use crate::gpu::{Class, Kernel, Launch, Scalar, Variant, Work};
use crate::tensor::Tensor;

const FORWARD: Kernel = Kernel::new("join", "forward", &[shaders!("join"), common::INDEX]);

/// Bytes of a cell.
const CELL: usize = 16;

params! {
    struct Params {
        n: u32,
        a_block: u32,
        b_block: u32,
    }
}

impl Tensor {
    /// Whether a launch for both pays: software adapters move each in wider words.
    pub(super) fn join_pays(&self) -> bool {
        self.gpu().facts().class != Class::Software
    }

    /// This and another [outer.., n, inner..] along an axis into y; says whether that was done, which takes whole cells
    /// and tensors of one binding.
    pub(super) fn join_into(&self, other: &Tensor, axis: usize, y: &Tensor) -> Result<bool> {
        let gpu = self.gpu();
        let block = |x: &Tensor| x.shape()[axis..].iter().product::<usize>() * x.dtype().bytes();
        let [a, b] = [block(self), block(other)];
        let fits = y.bytes() <= gpu.facts().limits.binding_bytes;
        if !fits || self.is_empty() || other.is_empty() || !a.is_multiple_of(CELL) || !b.is_multiple_of(CELL)
        {
            return Ok(false);
        }
        let n = y.bytes() as usize / CELL;
        let variant = Variant { scalar: Scalar::F32, width: 4, workgroup: gpu.flat_workgroup() };
        let params = Params { n: n as u32, a_block: (a / CELL) as u32, b_block: (b / CELL) as u32 };
        gpu.run(&Launch {
            program: FORWARD.program(variant),
            params: params.as_bytes(),
            inputs: &[self.binding(), other.binding()],
            outputs: &[y.binding()],
            groups: flat_groups(gpu, "concat", n)?,
            work: Work { flops: 0, bytes: 2 * y.bytes() },
        })?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use crate::testing::{gpu, random_from};

    #[test]
    fn both_lie_where_concat_puts_them() {
        let Some(gpu) = gpu() else { return };
        let sizes: [(&[usize], &[usize], usize); 5] = [
            (&[3, 5, 8], &[3, 5, 24], 2),
            (&[2, 40], &[2, 1000], 1),
            (&[7, 16], &[1, 16], 0),
            (&[2, 3, 8], &[2, 300, 8], 1),
            (&[1025, 8], &[1025, 16], 1),
        ];
        for (a_shape, b_shape, axis) in sizes {
            for dtype in [DType::F32, DType::F16] {
                let make = |seed, shape: &[usize]| {
                    let values = random_from(seed, shape.iter().product(), 2.0);
                    Tensor::new(&gpu, shape, &values).unwrap().cast(dtype).unwrap()
                };
                let (a, b) = (make(1, a_shape), make(2, b_shape));
                let want = Tensor::concat(&[&a, &b], axis).unwrap();
                let y = Tensor::empty(&gpu, want.shape(), dtype).unwrap();
                assert!(a.join_into(&b, axis, &y).unwrap(), "{a_shape:?} {b_shape:?}");
                assert_eq!(y.to_vec().unwrap(), want.to_vec().unwrap(), "{a_shape:?} {b_shape:?} {dtype}");
            }
        }
        let odd = |n| Tensor::zeros(&gpu, &[2, n], DType::F32).unwrap();
        assert!(!odd(3).join_into(&odd(4), 1, &odd(7)).unwrap(), "3 values are no whole cells");
        assert!(!odd(0).join_into(&odd(4), 1, &odd(4)).unwrap(), "nothing to join");
    }

    #[test]
    fn shader_twin() {
        crate::testing::shader_twin(&FORWARD, Params::FIELDS);
    }
}
