//! Layer normalisation over the last axis.      y = (x - mean) / sqrt(var + eps) * weight + bias
//! Same as PyTorch `layer_norm(x, x.shape[-1:], weight, bias, eps)`. Statistics in f32, without cancellation.

mod backward;

use super::{check_vector, common, params, rows_of, shaders};
use crate::error::Result;
use crate::gpu::{Kernel, Launch, Program, Variant, Work};
use crate::tensor::Tensor;

const FORWARD: Kernel =
    Kernel::new("layer_norm", "forward", &[shaders!("layer_norm"), common::INDEX, common::REDUCE]);

params! {
    struct Params {
        rows: u32,
        cols: u32,
        has_weight: u32,
        has_bias: u32,
        eps: f32,
    }
}

/// Lanes of a subgroup that share a row in registers, and the most units of 8 columns that each keeps.
const LANES: usize = 8;
const MOST_UNITS: usize = 20;

/// Rows one invocation takes: more share the reading of weight and bias, fewer leave work for all cores.
fn block_of(rows: usize) -> usize {
    match rows {
        0..1024 => 4,
        1024..8192 => 16,
        _ => 64,
    }
}

/// The shader's text where a lane keeps `units` of 8 columns, unrolled.
fn words_text(units: usize, block: usize) -> String {
    let each = |line: &dyn Fn(usize) -> String| (0..units).map(line).collect::<String>();
    let sum = |of: &str| (0..units).map(|u| format!("{of}{u})")).collect::<Vec<_>>().join(" + ");
    let forward = format!(
        "@compute @workgroup_size(WG)
fn forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {{
    let first = group_index(group, groups) * {block}u;
    if (first >= params.rows) {{
        return;
    }}
{vectors}    var at = first * params.cols + lane;
    for (var left = min({block}u, params.rows - first); left > 0u; left--) {{
{loads}        let shift = subgroupShuffle(x0.even.x, 0u);
{deviations}        let mean = mean_across({sums});
{centred}        let scale = 1.0 / sqrt(mean_across({squares}) + params.eps);
{stores}        at += params.cols;
    }}
}}
",
        vectors = each(&|u| format!(
            "    let weight{u} = weight_at(lane + {at}u);\n    let bias{u} = bias_at(lane + {at}u);\n",
            at = u * LANES
        )),
        loads = each(&|u| format!("        let x{u} = opened(x[at + {}u]);\n", u * LANES)),
        deviations = each(&|u| format!("        let d{u} = minus(x{u}, shift);\n")),
        sums = sum("sum_of(d"),
        centred = each(&|u| format!("        let c{u} = minus(d{u}, mean);\n")),
        squares = sum("squares_of(c"),
        stores = each(&|u| format!(
            "        y[at + {}u] = closed(scaled(c{u}, scale, weight{u}, bias{u}));\n",
            u * LANES
        )),
    );
    [shaders!("layer_norm_words"), common::INDEX, &forward].join("\n")
}

impl Tensor {
    /// [.., features] -> [.., features], each row with mean 0 and variance 1, then times `weight` and plus
    /// `bias`, both `[features]`, f32, where given. Gradients flow to all three.
    ///
    /// Errors: on a scalar, on ids, on other shapes or types of the vectors.
    pub fn layer_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
        let op = "layer_norm";
        let _op = self.gpu().op(|| format!("{op} {self}"));
        let (rows, cols) = rows_of(self, op)?;
        for (name, vector) in [("weight", weight), ("bias", bias)] {
            if let Some(vector) = vector {
                check_vector(op, name, vector, self, cols)?;
            }
        }
        let scalar = self.scalar(op)?;
        let y = Tensor::empty(self.gpu(), self.shape(), self.dtype())?;
        if self.is_empty() {
            return Ok(y);
        }
        let (words, block) = (self.keeps_rows_in_registers(cols), block_of(rows));
        let (width, workgroup) = match words {
            true => (8, LANES as u32),
            false => (super::width_of(cols), super::row_workgroup(self.gpu(), cols, op)?),
        };
        let variant = Variant { scalar, width, workgroup };
        let units = cols / (8 * LANES);
        let text = || words_text(units, block);
        let program = || match words {
            true => Program::generated("layer_norm", "forward", variant, (units << 8 | block) as u64, &text),
            false => FORWARD.program(variant),
        };
        let rows_per_group = if words { block } else { 1 };
        let row_bytes = cols * self.dtype().bytes();
        for window in self.gpu().row_windows(op, rows, &[row_bytes])? {
            let params = Params {
                rows: window.len() as u32,
                cols: (cols / width as usize) as u32,
                has_weight: weight.is_some().into(),
                has_bias: bias.is_some().into(),
                eps: eps as f32,
            };
            let elements = window.start * cols..window.end * cols;
            let x = self.window(elements.clone());
            self.gpu().run(&Launch {
                program: program(),
                params: params.as_bytes(),
                // What is not given is not read; its place is held by x.
                inputs: &[x, weight.map_or(x, Tensor::binding), bias.map_or(x, Tensor::binding)],
                outputs: &[y.window(elements)],
                groups: self.gpu().grid(op, window.len().div_ceil(rows_per_group) as u64)?,
                work: Work {
                    flops: 8 * (window.len() * cols) as u64,
                    bytes: 2 * (window.len() * row_bytes) as u64,
                },
            })?;
        }
        let inputs = [Some(self), weight, bias].map(|input| input.unwrap_or(self));
        let wants = [Some(self), weight, bias].map(|input| input.is_some_and(Tensor::wants_gradient));
        if !wants.contains(&true) {
            return Ok(y);
        }
        let (x, weight) = (self.detach(), weight.map(Tensor::detach));
        Ok(y.made_by(inputs, move |_, dy| x.layer_norm_backward(dy, weight.as_ref(), eps, wants)))
    }

    /// True where the 8 lanes of a software adapter's subgroup can hold a row, in whole units each.
    fn keeps_rows_in_registers(&self, cols: usize) -> bool {
        super::words_pay(self.gpu())
            && self.gpu().facts().features.subgroup_size == Some(LANES as u32)
            && cols.is_multiple_of(8 * LANES)
            && cols <= 8 * LANES * MOST_UNITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::gpu::{Gpu, Options, Scalar};
    use crate::tensor::DType;
    use crate::testing::{assert_close, gpu, gpu_with, random, random_from, shader_twin, validate};

    /// The same in f64 and plain loops.
    pub(super) fn reference<T: Copy + Into<f64>>(x: &[T], weight: &[T], bias: &[T], eps: f64) -> Vec<f64> {
        x.chunks(weight.len())
            .flat_map(|row| {
                let count = row.len() as f64;
                let mean = row.iter().map(|&v| v.into()).sum::<f64>() / count;
                let var = row.iter().map(|&v| (v.into() - mean).powi(2)).sum::<f64>() / count;
                row.iter()
                    .zip(weight)
                    .zip(bias)
                    .map(move |((&v, &w), &b)| (v.into() - mean) / (var + eps).sqrt() * w.into() + b.into())
            })
            .collect()
    }

    fn case(gpu: &Gpu, shape: &[usize], shift: f32, tolerance: f64) {
        let cols = *shape.last().unwrap();
        let x: Vec<f32> = random(shape, 1.7).iter().map(|v| v + shift).collect();
        let (weight, bias) = (random_from(1, cols, 2.0), random_from(2, cols, 1.0));
        let x_there = Tensor::new(gpu, shape, &x).unwrap();
        let weight_there = Tensor::new(gpu, &[cols], &weight).unwrap();
        let bias_there = Tensor::new(gpu, &[cols], &bias).unwrap();
        for (with_weight, with_bias) in [(true, true), (false, true), (true, false), (false, false)] {
            let weight = if with_weight { weight.clone() } else { vec![1.0; cols] };
            let bias = if with_bias { bias.clone() } else { vec![0.0; cols] };
            let y = x_there
                .layer_norm(with_weight.then_some(&weight_there), with_bias.then_some(&bias_there), 1e-5)
                .unwrap();
            assert_eq!(y.shape(), shape);
            let want = reference(&x, &weight, &bias, 1e-5);
            assert_close(&y.to_vec().unwrap(), &want, tolerance, &format!("{shape:?} + {shift}"));
        }
    }

    #[test]
    fn rows_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for shape in [
            vec![1, 1],
            vec![3, 7],
            vec![5, 64],
            vec![2, 3, 77],
            vec![7, 257],
            vec![40_000, 4],
            vec![2, 1280],
            vec![67, 320],
            vec![1029, 128],
            vec![8200, 64],
        ] {
            case(&gpu, &shape, 0.4, 1e-5);
        }
    }

    #[test]
    fn without_64_bit_words_too() {
        let Some(gpu) = gpu_with(Options { without_int64: true, ..Default::default() }) else { return };
        case(&gpu, &[67, 320], 0.4, 1e-5);
        case(&gpu, &[3, 1280], 0.4, 1e-5);
    }

    #[test]
    fn a_mean_far_above_the_deviation_costs_nothing() {
        let Some(gpu) = gpu() else { return };
        for shape in [[3, 320], [2, 1021], [5, 13]] {
            // f32 rounds 1000 to 3e-5, but differences between the values are exact.
            case(&gpu, &shape, 1000.0, 1e-5);
        }
    }

    #[test]
    fn one_far_value_does_not_spoil_its_row() {
        let Some(gpu) = gpu() else { return };
        for far in [0, 1, 517] {
            let mut x = random(&[1, 768], 1.0);
            x[far] = 3e3;
            let y = Tensor::new(&gpu, &[1, 768], &x).unwrap().layer_norm(None, None, 1e-5).unwrap();
            let want = reference(&x, &[1.0; 768], &[0.0; 768], 1e-5);
            assert_close(&y.to_vec().unwrap(), &want, 1e-5, &format!("far value at {far}"));
        }
    }

    #[test]
    fn half_precision_storage() {
        let Some(gpu) = gpu() else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        for shape in [[5, 320], [3, 77]] {
            let x: Vec<half::f16> =
                random(&shape, 2.0).iter().map(|&v| half::f16::from_f32(v + 5.0)).collect();
            let wide: Vec<f32> = x.iter().map(|v| v.to_f32()).collect();
            let (weight, bias) = (random_from(1, shape[1], 1.0), random_from(2, shape[1], 1.0));
            let y = Tensor::new(&gpu, &shape, &x)
                .unwrap()
                .layer_norm(
                    Some(&Tensor::new(&gpu, &[shape[1]], &weight).unwrap()),
                    Some(&Tensor::new(&gpu, &[shape[1]], &bias).unwrap()),
                    1e-5,
                )
                .unwrap();
            assert_eq!(y.dtype(), DType::F16);
            // one rounding to f16
            assert_close(&y.to_vec().unwrap(), &reference(&wide, &weight, &bias, 1e-5), 1e-3, "f16");
        }
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        for shape in [[300, 12], [700, 7], [65, 20]] {
            case(&gpu, &shape, 1.0, 1e-5);
        }
    }

    #[test]
    fn wrong_calls_are_refused_and_nothing_gives_nothing() {
        let gpu = Gpu::plan();
        let make = |shape: &[usize], dtype| Tensor::empty(&gpu, shape, dtype).unwrap();
        let x = make(&[2, 3, 8], DType::F16);
        let (good, short, half) = (make(&[8], DType::F32), make(&[7], DType::F32), make(&[8], DType::F16));
        assert!(x.layer_norm(Some(&good), None, 1e-5).is_ok());
        assert!(matches!(x.layer_norm(Some(&short), None, 1e-5), Err(Error::Shape { .. })));
        assert!(matches!(x.layer_norm(None, Some(&half), 1e-5), Err(Error::DType { .. })));
        assert!(make(&[], DType::F32).layer_norm(None, None, 1e-5).is_err());
        assert!(make(&[4], DType::U32).layer_norm(None, None, 1e-5).is_err());
        assert!(make(&[4, 0], DType::F32).layer_norm(None, None, 1e-5).unwrap().is_empty());
        let endless = make(&[1, 1 << 25], DType::F32);
        assert!(matches!(endless.layer_norm(None, None, 1e-5), Err(Error::Limit { .. })));
    }

    #[test]
    fn shader_twin_of_layer_norm() {
        shader_twin(&FORWARD, Params::FIELDS);
        for (scalar, units) in [(Scalar::F32, 1), (Scalar::F16, 2), (Scalar::F32, MOST_UNITS)] {
            let variant = Variant { scalar, width: 8, workgroup: LANES as u32 };
            let text = || words_text(units, 4);
            let program = Program::generated("layer_norm", "forward", variant, 0, &text);
            validate(&format!("layer_norm {variant:?} {units}"), &program.text(true), Params::FIELDS);
        }
    }
}
