//! A linear layer whose outputs are values and as many gates, and what gates make of the values, in one product:
//! y = value gelu(gate), [value, gate] = x weight^T + bias. Same as diffusers' `GEGLU`.
//!
//! Its panels hold four values, then their four gates, so that both meet in one invocation and the wide row of them is
//! never written. Weights that learn, or that a gradient goes through, stay as they are: there the layer is `linear`,
//! then `geglu`.

use super::gemm::{self, Epilogue};
use super::pack::{Packed, SourceType};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::tensor::Tensor;
use std::ops::Range;

impl Packed {
    /// A weight `[n, k]` row-major, values and then their gates, from the bytes of a file, for [`Tensor::linear_geglu`];
    /// otherwise as [`Packed::from_bytes`]. Panels are plain where values do not come in fours.
    ///
    /// Errors: [`crate::error::Error::Shape`] when the bytes do not fit the sizes, [`crate::error::Error::Limit`] when
    /// memory is out.
    pub fn gated(
        gpu: &Gpu,
        [n, k]: [usize; 2],
        kind: SourceType,
        bytes: &[u8],
        half: bool,
    ) -> Result<Packed> {
        Packed::from_source(gpu, [n, k, 1], kind, Some(bytes), half, pairs(n))
    }

    /// The same of bytes that are not there, for a plan.
    pub fn planned_gated(gpu: &Gpu, [n, k]: [usize; 2], kind: SourceType, half: bool) -> Result<Packed> {
        Packed::from_source(gpu, [n, k, 1], kind, None, half, pairs(n))
    }
}

/// Whether columns come in fours of values and gates, in panels of 64.
fn pairs(n: usize) -> bool {
    n > 32 && n.is_multiple_of(8)
}

/// The rows that become these columns of the panels: four values, then their four gates.
pub(super) fn paired(bytes: &[u8], columns: Range<usize>, row_bytes: usize) -> Vec<u8> {
    let (values, gates) = bytes.split_at(bytes.len() / 2);
    let rows = columns.start / 2 * row_bytes..columns.end / 2 * row_bytes;
    let four = (4 * row_bytes).max(1);
    let pairs = values[rows.clone()].chunks(four).zip(gates[rows].chunks(four));
    pairs.flat_map(|(values, gates)| [values, gates]).collect::<Vec<_>>().concat()
}

impl Tensor {
    /// [.., k] -> [.., n / 2]: values times the gelu of their gates, of a weight `[n, k]` and a bias `[n]` that hold the
    /// values first. Plain panels do, too.
    ///
    /// Gradients flow as through [`Tensor::linear`] and [`Tensor::geglu`].
    ///
    /// Errors: when the last axis is not the weight's `k`, when the bias does not fit, when `n` is odd.
    pub fn linear_geglu(&self, weight: &Packed, bias: Option<&Tensor>) -> Result<Tensor> {
        let epilogue = Epilogue { bias, ..Epilogue::default() };
        if !weight.gated {
            return self.linear(weight, epilogue)?.geglu();
        }
        let (rows, _, mut shape) = self.rows_for(weight)?;
        let n = weight.n;
        if epilogue.learns(self, weight) {
            // Columns as the panels have them, put in the order of the weight.
            let y = self.linear(&weight.ungated(), Epilogue::default())?;
            let y = y.reshape(&[rows, n / 8, 2, 4])?.permute(&[0, 2, 1, 3])?.reshape(&shape)?;
            return bias.map_or(Ok(y.clone()), |bias| y.add(&bias.cast(y.dtype())?))?.geglu();
        }
        let _op = self.gpu().op(|| format!("linear {self} {weight} geglu"));
        gemm::check_epilogue("linear", &epilogue, &[1, n], self.dtype())?;
        *shape.last_mut().expect("rows_for refuses scalars") = n / 2;
        let y = Tensor::empty(self.gpu(), &shape, self.dtype())?;
        self.linear_into(weight, epilogue, &y).run()?;
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Family, Options};
    use crate::tensor::DType;
    use crate::testing::{assert_close, gelu, gpu, gpu_with, random_from};

    /// `[rows, k]`, a weight `[2 half, k]` whose sums are about 1 and a bias `[2 half]`.
    struct Case {
        sizes: [usize; 3],
        x: Vec<f32>,
        w: Vec<f32>,
        bias: Option<Vec<f32>>,
        /// Weights and activations in f16.
        halves: [bool; 2],
    }

    impl Case {
        fn new([rows, k, half]: [usize; 3], halves: [bool; 2], bias: bool) -> Case {
            let rounded = |values: Vec<f32>, half: bool| -> Vec<f32> {
                let round = |v: f32| if half { half::f16::from_f32(v).to_f32() } else { v };
                values.into_iter().map(round).collect()
            };
            Case {
                sizes: [rows, k, half],
                x: rounded(random_from(1, rows * k, 1.0), halves[1]),
                w: rounded(random_from(2, 2 * half * k, 3.0 / (k as f32).sqrt()), halves[0]),
                bias: bias.then(|| random_from(3, 2 * half, 1.0)),
                halves,
            }
        }

        fn want(&self) -> Vec<f64> {
            let [_, k, half] = self.sizes;
            let sum = |row: &[f32], column: usize| {
                let products =
                    row.iter().zip(&self.w[column * k..]).map(|(&x, &w)| f64::from(x) * f64::from(w));
                products.sum::<f64>() + self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]))
            };
            let result = |row, column| sum(row, column) * gelu(sum(row, half + column));
            self.x.chunks(k).flat_map(|row| (0..half).map(move |column| result(row, column))).collect()
        }

        fn check(&self, gpu: &Gpu) {
            let [rows, k, half] = self.sizes;
            let what = format!("{:?} halves {:?} bias {}", self.sizes, self.halves, self.bias.is_some());
            let dtype = if self.halves[1] { DType::F16 } else { DType::F32 };
            let x = Tensor::new(gpu, &[rows, k], &self.x).unwrap().cast(dtype).unwrap();
            let bytes = bytemuck::cast_slice(&self.w);
            let weight = Packed::gated(gpu, [2 * half, k], SourceType::F32, bytes, self.halves[0]).unwrap();
            assert_eq!(weight.gated, half > 16 && half.is_multiple_of(4), "{what}");
            let bias = self.bias.as_ref().map(|bias| Tensor::new(gpu, &[2 * half], bias).unwrap());
            let y = x.linear_geglu(&weight, bias.as_ref()).unwrap();
            assert_eq!((y.shape(), y.dtype()), (&[rows, half][..], dtype));
            // Plain panels round values and gates to f16 on their way.
            let tolerance = if self.halves[1] { 2e-3 } else { 1e-5 };
            assert_close(&y.cast(DType::F32).unwrap().to_vec().unwrap(), &self.want(), tolerance, &what);
        }
    }

    fn check_all(gpu: &Gpu) {
        for (at, sizes) in [
            [1, 4, 4],
            [3, 20, 12],
            [9, 77, 32],
            [33, 320, 36],
            [300, 20, 640],
            [9, 5000, 64],
            [1, 5000, 100],
            [3, 320, 36],
            [300, 77, 64],
            [33, 4, 18],
        ]
        .into_iter()
        .enumerate()
        {
            for (turn, halves) in [[false, false], [true, false], [true, true]].into_iter().enumerate() {
                if !halves[1] || gpu.facts().features.f16 {
                    Case::new(sizes, halves, (at + turn) % 2 == 0).check(gpu);
                }
            }
        }
    }

    #[test]
    fn matches_on_awkward_sizes() {
        let Some(gpu) = gpu() else { return };
        check_all(&gpu);
    }

    #[test]
    fn the_tiled_family_matches_too() {
        let family = Some(Family::Tiled);
        let Some(gpu) = gpu_with(Options { family, ..Default::default() }) else { return };
        check_all(&gpu);
    }

    #[test]
    fn without_textures_and_in_pieces() {
        let plain = gpu_with(Options { without_textures: true, ..Default::default() });
        let small = gpu_with(Options { binding_bytes: Some(16 << 10), ..Default::default() });
        for gpu in [plain, small].into_iter().flatten() {
            for (sizes, half) in [([301, 36, 20], false), ([77, 33, 152], true), ([5, 60, 100], false)] {
                Case::new(sizes, [half, false], true).check(&gpu);
            }
        }
    }

    #[test]
    fn every_number_type_of_a_file_is_paired() {
        let Some(gpu) = gpu() else { return };
        let case = Case::new([5, 7, 36], [true, false], false);
        let narrow: Vec<half::f16> = case.w.iter().map(|&v| half::f16::from_f32(v)).collect();
        let x = Tensor::new(&gpu, &[5, 7], &case.x).unwrap();
        let bytes = bytemuck::cast_slice(&narrow);
        for half in [false, true] {
            let weight = Packed::gated(&gpu, [72, 7], SourceType::F16, bytes, half).unwrap();
            let got = x.linear_geglu(&weight, None).unwrap().to_vec().unwrap();
            assert_close(&got, &case.want(), 1e-5, "from f16");
        }
    }

    /// Paired panels of what is frozen, under something that learns.
    #[test]
    fn gradients_are_those_of_plain_panels() {
        let Some(gpu) = gpu() else { return };
        let Case { x, w, bias, .. } = Case::new([5, 12, 36], [false, false], true);
        let bytes = bytemuck::cast_slice(&w);
        let gated = Packed::gated(&gpu, [72, 12], SourceType::F32, bytes, false).unwrap();
        let plain = Packed::from_bytes(&gpu, [72, 12, 1], SourceType::F32, bytes, false).unwrap();
        let run = |weight: &Packed| {
            let x = Tensor::new(&gpu, &[5, 12], &x).unwrap().parameter();
            let bias = Tensor::new(&gpu, &[72], bias.as_ref().unwrap()).unwrap().parameter();
            let y = x.linear_geglu(weight, Some(&bias)).unwrap();
            let loss = y.mul(&y).unwrap().sum(&[0, 1]).unwrap();
            let gradients = loss.backward().unwrap();
            let of = |t: &Tensor| gradients.get(t).unwrap().to_vec().unwrap();
            (y.to_vec().unwrap(), of(&x), of(&bias))
        };
        let (got, want) = (run(&gated), run(&plain));
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
        assert_close(&got.0, &wide(want.0), 1e-6, "y");
        assert_close(&got.1, &wide(want.1), 1e-5, "dx");
        assert_close(&got.2, &wide(want.2), 1e-5, "d bias");
    }

    #[test]
    fn a_plan_sees_the_same_and_misfits_are_refused() {
        let plan = Gpu::plan();
        let gated = Packed::planned_gated(&plan, [2560, 320], SourceType::F16, true).unwrap();
        let plain = Packed::planned(&plan, [2560, 320, 1], SourceType::F16, true).unwrap();
        assert_eq!((gated.bytes(), gated.gated, plain.gated), (plain.bytes(), true, false));
        let tensor = |shape: &[usize]| Tensor::empty(&plan, shape, DType::F32).unwrap();
        let x = tensor(&[2, 3, 320]);
        assert_eq!(x.linear_geglu(&gated, Some(&tensor(&[2560]))).unwrap().shape(), [2, 3, 1280]);
        assert!(x.linear(&gated, Epilogue::default()).is_err());
        assert!(x.linear_geglu(&gated, Some(&tensor(&[1280]))).is_err());
        assert!(x.linear_geglu(&gated, Some(&tensor(&[2, 2560]))).is_err());
        assert!(tensor(&[2, 321]).linear_geglu(&gated, None).is_err());
        assert!(tensor(&[]).linear_geglu(&gated, None).is_err());
        assert!(Packed::gated(&plan, [64, 5], SourceType::F32, &[0; 64], false).is_err());
    }
}
