//! The way back of LayerNorm: dx row by row, the gradients of weight and bias summed over rows in chunks.

use super::LANES;
use crate::error::Result;
use crate::gpu::{Binding, Gpu, Kernel, Launch, Program, Scalar, Variant, Work};
use crate::ops::{common, params, row_workgroup, shaders, width_of};
use crate::tensor::{DType, Tensor};

const SOURCES: &[&str] = &[shaders!("layer_norm_backward"), common::INDEX, common::REDUCE];
const INPUT: Kernel = Kernel::new("layer_norm", "backward", SOURCES);
const VECTORS: Kernel = Kernel::new("layer_norm", "backward_vectors", SOURCES);

params! {
    struct Params {
        rows: u32,
        cols: u32,
        has_weight: u32,
        chunk: u32,
        eps: f32,
    }
}

/// Rows one invocation sums up.
const ROWS: usize = 64;

/// The shader's text where a lane keeps `units` of 8 columns of x and of dy, unrolled.
fn words_text(units: usize) -> String {
    let each = |line: &dyn Fn(usize) -> String| (0..units).map(line).collect::<String>();
    let sum = |term: &dyn Fn(usize) -> String| (0..units).map(term).collect::<Vec<_>>().join(" + ");
    let backward = format!(
        "@compute @workgroup_size(WG)
fn backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {{
    let chunk = group_index(group, groups);
    let first = chunk * params.chunk;
    if (first >= params.rows) {{
        return;
    }}
{vectors}    var at = first * params.cols + lane;
    for (var left = min(params.chunk, params.rows - first); left > 0u; left--) {{
{loads}        let shift = subgroupShuffle(x0.even.x, 0u);
{deviations}        let mean = mean_across({deviation_sum});
{centred}        let scale = 1.0 / sqrt(mean_across({square_sum}) + params.eps);
{normal}        let slope = mean_across({slope_sum});
        let joint = mean_across({joint_sum});
{stores}        at += params.cols;
    }}
    let to = chunk * 2u * params.cols + lane;
{parts}}}
",
        vectors = each(&|u| format!(
            "    let weight{u} = weight_at(lane + {}u);\n    var dweight{u} = Eight();\n    var dbias{u} = Eight();\n",
            u * LANES
        )),
        loads = each(&|u| format!(
            "        let x{u} = opened(x[at + {0}u]);\n        let y{u} = opened(dy[at + {0}u]);\n",
            u * LANES
        )),
        deviations = each(&|u| format!("        let d{u} = minus(x{u}, shift);\n")),
        deviation_sum = sum(&|u| format!("sum_of(d{u})")),
        centred = each(&|u| format!("        let c{u} = minus(d{u}, mean);\n")),
        square_sum = sum(&|u| format!("dot_of(c{u}, c{u})")),
        normal = each(&|u| format!(
            "        let n{u} = scaled(c{u}, scale);\n        let g{u} = product(y{u}, weight{u});\n"
        )),
        slope_sum = sum(&|u| format!("sum_of(g{u})")),
        joint_sum = sum(&|u| format!("dot_of(g{u}, n{u})")),
        stores = each(&|u| format!(
            "        dx[at + {0}u] = closed(scaled(plus(minus(g{u}, slope), scaled(n{u}, -joint)), scale));\n        \
             dweight{u} = plus(dweight{u}, product(y{u}, n{u}));\n        dbias{u} = plus(dbias{u}, y{u});\n",
            u * LANES
        )),
        parts = each(&|u| format!(
            "    parts[to + {0}u] = words_of(dweight{u});\n    parts[to + params.cols + {0}u] = words_of(dbias{u});\n",
            u * LANES
        )),
    );
    [shaders!("layer_norm_backward_words"), common::INDEX, &backward].join("\n")
}

impl Tensor {
    /// Gradients of x, of the weight and of the bias, from x and dy as [rows, cols].
    pub(super) fn layer_norm_backward(
        &self,
        dy: &Tensor,
        weight: Option<&Tensor>,
        eps: f64,
        wants: [bool; 3],
    ) -> Result<[Option<Tensor>; 3]> {
        let op = "layer_norm";
        let gpu = self.gpu();
        let _op = gpu.op(|| format!("{op} gradient {self}"));
        let (rows, cols) = super::rows_of(self, op)?;
        let dx = Tensor::empty(gpu, self.shape(), self.dtype())?;
        let scalar = self.scalar(op)?;
        let in_registers = self.keeps_rows_in_registers(cols);
        let mut vectors: Option<Tensor> = None;
        let row_bytes = cols * self.dtype().bytes();
        for window in gpu.row_windows(op, rows, &[row_bytes])? {
            let elements = window.start * cols..window.end * cols;
            let rows = Rows {
                x: self.window(elements.clone()),
                dy: dy.window(elements.clone()),
                weight,
                dx: dx.window(elements),
                gpu,
                scalar,
                count: window.len(),
                cols,
                bytes: window.len() * row_bytes,
                eps,
            };
            let sums_wanted = wants[1] || wants[2];
            let parts = if in_registers { Some(rows.in_registers()?) } else { rows.in_turns(sums_wanted)? };
            let Some(parts) = parts.filter(|_| sums_wanted) else { continue };
            let sum = parts.sum(&[0])?;
            vectors = Some(match vectors {
                Some(before) => before.add(&sum)?,
                None => sum,
            });
        }
        let vector = |at: usize| match &vectors {
            Some(both) => both.narrow(0, at, 1)?.reshape(&[cols]),
            None => Tensor::zeros(gpu, &[cols], DType::F32),
        };
        Ok([
            wants[0].then_some(dx),
            wants[1].then(|| vector(0)).transpose()?,
            wants[2].then(|| vector(1)).transpose()?,
        ])
    }
}

/// Rows that fit a binding.
struct Rows<'a> {
    x: Binding<'a>,
    dy: Binding<'a>,
    weight: Option<&'a Tensor>,
    dx: Binding<'a>,
    gpu: &'a Gpu,
    scalar: Scalar,
    count: usize,
    cols: usize,
    bytes: usize,
    eps: f64,
}

impl Rows<'_> {
    fn params(&self, units: usize) -> Params {
        Params {
            rows: self.count as u32,
            cols: units as u32,
            has_weight: self.weight.is_some().into(),
            chunk: ROWS as u32,
            eps: self.eps as f32,
        }
    }

    /// Writes dx; gives the parts of the other gradients, [chunks, (dweight, dbias), cols]. A row by the lanes of a
    /// subgroup.
    fn in_registers(&self) -> Result<Tensor> {
        let (gpu, chunks) = (self.gpu, self.count.div_ceil(ROWS));
        let units = self.cols / (8 * LANES);
        let parts = Tensor::empty(gpu, &[chunks, 2, self.cols], DType::F32)?;
        let variant = Variant { scalar: self.scalar, width: 8, workgroup: LANES as u32 };
        let text = || words_text(units);
        gpu.run(&Launch {
            program: Program::generated("layer_norm", "backward", variant, units as u64, &text),
            params: self.params(self.cols / 8).as_bytes(),
            inputs: &[self.x, self.dy, self.weight.map_or(self.x, Tensor::binding)],
            outputs: &[self.dx, parts.binding()],
            groups: gpu.grid("layer_norm", chunks as u64)?,
            work: Work {
                flops: 20 * (self.count * self.cols) as u64,
                bytes: 3 * self.bytes as u64 + parts.bytes(),
            },
        })?;
        Ok(parts)
    }

    /// The same by a workgroup for each row, and the parts, where they are wanted, by a second kernel.
    fn in_turns(&self, sums_wanted: bool) -> Result<Option<Tensor>> {
        let (op, gpu, cols) = ("layer_norm", self.gpu, self.cols);
        let (scalar, width) = (self.scalar, width_of(cols));
        let workgroup = row_workgroup(gpu, cols, op)?;
        let units = cols / width as usize;
        let params = self.params(units);
        let statistics = Tensor::empty(gpu, &[self.count, 2], DType::F32)?;
        gpu.run(&Launch {
            program: INPUT.program(Variant { scalar, width, workgroup }),
            params: params.as_bytes(),
            inputs: &[self.x, self.dy, self.weight.map_or(self.x, Tensor::binding)],
            outputs: &[self.dx, statistics.binding()],
            groups: gpu.grid(op, self.count as u64)?,
            work: Work { flops: 16 * (self.count * cols) as u64, bytes: 3 * self.bytes as u64 },
        })?;
        if !sums_wanted {
            return Ok(None);
        }
        let chunks = self.count.div_ceil(ROWS);
        let parts = Tensor::empty(gpu, &[chunks, 2, cols], DType::F32)?;
        let variant = Variant { scalar, width, workgroup: gpu.flat_workgroup() };
        gpu.run(&Launch {
            program: VECTORS.program(variant),
            params: params.as_bytes(),
            inputs: &[self.x, self.dy, statistics.binding()],
            outputs: &[parts.binding()],
            groups: gpu.grid(op, (chunks * units).div_ceil(variant.workgroup as usize) as u64)?,
            work: Work {
                flops: 5 * (self.count * cols) as u64,
                bytes: 2 * self.bytes as u64 + parts.bytes(),
            },
        })?;
        Ok(Some(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::super::MOST_UNITS;
    use super::super::tests::reference;
    use super::*;
    use crate::gpu::Options;
    use crate::testing::{assert_gradients, gpu, gpu_with, random_from, shader_twin, validate};

    fn case(gpu: &Gpu, shape: &[usize], shift: f32, [has_weight, has_bias]: [bool; 2]) {
        let cols = *shape.last().unwrap();
        let x: Vec<f32> =
            random_from(1, shape.iter().product(), 1.5).into_iter().map(|v| v + shift).collect();
        let (w, b) = (random_from(2, cols, 2.0), random_from(3, cols, 1.0));
        assert_gradients(
            gpu,
            &[(shape, &x), (&[cols], &w), (&[cols], &b)],
            |inputs| {
                let [x, w, b] = inputs else { panic!("three") };
                x.layer_norm(has_weight.then_some(w), has_bias.then_some(b), 1e-5)
            },
            |values| {
                let w = if has_weight { values[1].clone() } else { vec![1.0; cols] };
                let b = if has_bias { values[2].clone() } else { vec![0.0; cols] };
                reference(&values[0], &w, &b, 1e-5)
            },
            // the differences themselves are good to 1e-6; sums over rows and columns in f32
            if shift == 0.0 { 1e-4 } else { 1e-3 },
            &format!("{shape:?} + {shift}, weight {has_weight}, bias {has_bias}"),
        );
    }

    #[test]
    fn gradients_match_the_differences() {
        let Some(gpu) = gpu() else { return };
        for (shape, given) in [
            (&[1, 2][..], [true, true]),
            (&[3, 7], [true, true]),
            (&[2, 3, 77], [false, true]),
            (&[5, 64], [true, false]),
            (&[131, 12], [true, true]),
            (&[7, 320], [false, false]),
            (&[133, 64], [true, true]),
            (&[67, 320], [true, true]),
        ] {
            case(&gpu, shape, 0.0, given);
        }
        case(&gpu, &[5, 33], 100.0, [true, true]);
        case(&gpu, &[5, 64], 100.0, [true, true]);
    }

    #[test]
    fn without_64_bit_words_too() {
        let Some(gpu) = gpu_with(Options { without_int64: true, ..Default::default() }) else { return };
        case(&gpu, &[67, 320], 0.0, [true, true]);
        case(&gpu, &[5, 64], 100.0, [true, true]);
    }

    #[test]
    fn tensors_above_one_binding_are_split() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(4096), ..Default::default() }) else { return };
        case(&gpu, &[150, 12], 0.0, [true, true]);
    }

    #[test]
    fn half_precision_storage() {
        let Some(gpu) = gpu() else { return };
        if !gpu.facts().features.f16 {
            return;
        }
        let halves = |seed| -> Vec<half::f16> {
            random_from(seed, 9 * 24, 1.0).into_iter().map(half::f16::from_f32).collect()
        };
        let (x, dy) = (halves(1), halves(2));
        let wide = |v: &[half::f16]| v.iter().map(|v| v.to_f32()).collect::<Vec<_>>();
        let weight = Tensor::new(&gpu, &[24], &random_from(3, 24, 2.0)).unwrap();
        let wants = [true; 3];
        let back = |x: Tensor, dy: Tensor| x.layer_norm_backward(&dy, Some(&weight), 1e-5, wants).unwrap();
        let narrow =
            back(Tensor::new(&gpu, &[9, 24], &x).unwrap(), Tensor::new(&gpu, &[9, 24], &dy).unwrap());
        let full = back(
            Tensor::new(&gpu, &[9, 24], &wide(&x)).unwrap(),
            Tensor::new(&gpu, &[9, 24], &wide(&dy)).unwrap(),
        );
        for (got, want) in narrow.into_iter().zip(full) {
            let want: Vec<f64> = want.unwrap().to_vec().unwrap().iter().map(|&v| f64::from(v)).collect();
            // dx is rounded to f16 once, the others are not
            crate::testing::assert_close(&got.unwrap().to_vec().unwrap(), &want, 1e-3, "f16");
        }
    }

    #[test]
    fn shader_twins() {
        shader_twin(&INPUT, Params::FIELDS);
        shader_twin(&VECTORS, Params::FIELDS);
        for (scalar, units) in [(Scalar::F32, 1), (Scalar::F16, 2), (Scalar::F32, MOST_UNITS)] {
            let variant = Variant { scalar, width: 8, workgroup: LANES as u32 };
            let text = || words_text(units);
            let program = Program::generated("layer_norm", "backward", variant, 0, &text);
            validate(
                &format!("layer_norm backward {variant:?} {units}"),
                &program.text(true),
                Params::FIELDS,
            );
        }
    }
}
