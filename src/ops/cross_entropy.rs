//! Cross-entropy of logits and class ids, the mean over the batch.
//! loss = mean(log sum exp(x) - (1 - s) x[id] - s mean x), stable, in one pass, s the label smoothing
//! Same as PyTorch `F.cross_entropy(x, ids, label_smoothing=s)`.
//! Backward: dx = (softmax x - (1 - s) [col = id] - s / classes) dy / batch.

use super::{common, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::tensor::{DType, Tensor};

const SOURCES: &[&str] = &[shaders!("cross_entropy"), common::INDEX, common::REDUCE];
const FORWARD: Kernel = Kernel::new("cross_entropy", "forward", SOURCES);
const BACKWARD: Kernel = Kernel::new("cross_entropy", "backward", SOURCES);

params! {
    struct Params {
        rows: u32,
        cols: u32,
        smoothing: f32,
        scale: f32,
    }
}

const OP: &str = "cross_entropy";

impl Tensor {
    /// Logits [batch, classes] and one class id for each row -> the mean loss, one f32 of shape [].
    ///
    /// Errors: [`Error::Shape`] when this is no [batch, classes] with a row at least, `ids` are not one for each row
    /// or an id is not below `classes`; [`Error::Setting`] for a smoothing outside of 0 to 1.
    pub fn cross_entropy(&self, ids: &[i64], label_smoothing: f64) -> Result<Tensor> {
        let _op = self.gpu().op(|| format!("{OP} {self}"));
        let (rows, cols) = match *self.shape() {
            [rows, cols] if rows > 0 && cols > 0 => (rows, cols),
            _ => {
                let detail =
                    format!("wanted logits [batch, classes], none of them 0, got {:?}", self.shape());
                return Err(Error::shape(OP, detail));
            }
        };
        self.scalar(OP)?;
        if ids.len() != rows {
            return Err(Error::shape(OP, format!("wanted {rows} ids, one for each row, got {}", ids.len())));
        }
        if let Some((at, id)) = ids.iter().enumerate().find(|&(_, &id)| id < 0 || id as u64 >= cols as u64) {
            return Err(Error::shape(OP, format!("wanted ids below {cols}, got {id} at place {at}")));
        }
        if !(0.0..=1.0).contains(&label_smoothing) {
            let detail = format!("wanted 0 to 1, got {label_smoothing}");
            return Err(Error::setting("cross_entropy label_smoothing", detail));
        }
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        let ids = Tensor::new(self.gpu(), &[rows], &ids)?;
        let smoothing = label_smoothing as f32;
        let losses = Tensor::empty(self.gpu(), &[rows], DType::F32)?;
        run(self, &ids, smoothing, None, &losses)?;
        let loss = losses.mean(&[0])?;
        if !self.wants_gradient() {
            return Ok(loss);
        }
        let x = self.detach();
        Ok(loss.made_by([self], move |_, dy| {
            let _op = x.gpu().op(|| format!("{OP} backward {x}"));
            let dx = Tensor::empty(x.gpu(), x.shape(), x.dtype())?;
            run(&x, &ids, smoothing, Some(dy), &dx)?;
            Ok([Some(dx)])
        }))
    }
}

/// The losses of rows, or with a dy their gradient.
fn run(x: &Tensor, ids: &Tensor, smoothing: f32, dy: Option<&Tensor>, y: &Tensor) -> Result<()> {
    let (gpu, rows, cols) = (x.gpu(), x.dim(1), x.dim(0));
    // One column at a time: the row's own one is looked up.
    let variant =
        Variant { scalar: x.scalar(OP)?, width: 1, workgroup: super::row_workgroup_of(gpu, cols, OP)? };
    let row_bytes = cols * x.dtype().bytes();
    for window in gpu.row_windows(OP, rows, &[row_bytes, 4])? {
        let scale = 1.0 / rows as f32;
        let params = Params { rows: window.len() as u32, cols: cols as u32, smoothing, scale };
        let elements = window.start * cols..window.end * cols;
        let (x, ids) = (x.window(elements.clone()), ids.window(window.clone()));
        let (kernel, inputs, output) = match dy {
            None => (&FORWARD, vec![x, ids], y.window(window.clone())),
            Some(dy) => (&BACKWARD, vec![x, ids, dy.binding()], y.window(elements)),
        };
        gpu.run(&Launch {
            program: kernel.program(variant),
            params: params.as_bytes(),
            inputs: &inputs,
            outputs: &[output],
            groups: gpu.grid(OP, window.len() as u64)?,
            work: Work {
                flops: 6 * (window.len() * cols) as u64,
                bytes: (inputs.len() - 1) as u64 * (window.len() * row_bytes) as u64,
            },
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options, Scalar};
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, random, random_from, validate};

    /// The same in f64 and plain loops.
    fn reference(x: &[f64], ids: &[i64], smoothing: f64) -> f64 {
        let cols = x.len() / ids.len();
        let row = |(x, &id): (&[f64], &i64)| {
            let largest = x.iter().cloned().fold(f64::MIN, f64::max);
            let log_sum = largest + x.iter().map(|v| (v - largest).exp()).sum::<f64>().ln();
            let of = |at: usize| {
                let share = smoothing / cols as f64;
                share + if at as i64 == id { 1.0 - smoothing } else { 0.0 }
            };
            (0..cols).map(|at| of(at) * (log_sum - x[at])).sum::<f64>()
        };
        x.chunks(cols).zip(ids).map(row).sum::<f64>() / ids.len() as f64
    }

    fn ids_below(cols: usize, rows: usize) -> Vec<i64> {
        let unit = random_from(3, rows, 0.5);
        unit.iter().map(|v| (((v + 0.5) * cols as f32) as i64).min(cols as i64 - 1)).collect()
    }

    fn check(gpu: &Gpu, rows: usize, cols: usize, smoothing: f64) {
        let (x, ids) = (random(&[rows, cols], 4.0), ids_below(cols, rows));
        let what = format!("[{rows}, {cols}] smoothing {smoothing}");
        let wide: Vec<f64> = x.iter().map(|&v| v.into()).collect();
        let y = Tensor::new(gpu, &[rows, cols], &x).unwrap().cross_entropy(&ids, smoothing).unwrap();
        assert_eq!((y.shape(), y.dtype()), (&[][..], DType::F32));
        assert_close(&y.to_vec().unwrap(), &[reference(&wide, &ids, smoothing)], 2e-6, &what);
        assert_gradients(
            gpu,
            &[(&[rows, cols], &x)],
            |x| x[0].cross_entropy(&ids, smoothing),
            |x| vec![reference(&x[0], &ids, smoothing)],
            1e-6,
            &what,
        );
    }

    #[test]
    fn losses_and_gradients_match_the_reference() {
        let Some(gpu) = gpu() else { return };
        for (rows, cols) in [(1, 1), (1, 2), (3, 7), (17, 40), (5, 257), (2, 1031), (130, 9)] {
            for smoothing in [0.0, 0.1, 1.0] {
                check(&gpu, rows, cols, smoothing);
            }
        }
    }

    const TORCH: [(f64, f64, [f64; 12]); 2] = [
        (
            0.0,
            0.587882197105,
            [
                0.019129904,
                0.069386211,
                -0.196035539,
                0.107519424,
                -0.097758329,
                0.059768968,
                0.021092162,
                0.016897198,
                0.007696233,
                0.028131561,
                0.101214043,
                -0.137041837,
            ],
        ),
        (
            0.1,
            0.714226681097,
            [
                0.010796571,
                0.061052878,
                -0.171035539,
                0.099186091,
                -0.072758329,
                0.051435635,
                0.012758829,
                0.008563865,
                -0.000637100,
                0.019798228,
                0.092880709,
                -0.112041837,
            ],
        ),
    ];

    #[test]
    fn pytorch_gives_the_same() {
        let Some(gpu) = gpu() else { return };
        // PyTorch 2: x = (torch.arange(12, dtype=torch.float64).reshape(3, 4) * 0.7).sin() * 2;
        // F.cross_entropy(x, torch.tensor([2, 0, 3]), label_smoothing=s), in f64, and its gradient.
        let x: Vec<f32> = (0..12).map(|at| ((at as f64 * 0.7).sin() * 2.0) as f32).collect();
        for (smoothing, loss, gradient) in TORCH {
            let p = Tensor::new(&gpu, &[3, 4], &x).unwrap().parameter();
            let y = p.cross_entropy(&[2, 0, 3], smoothing).unwrap();
            assert_close(&y.to_vec().unwrap(), &[loss], 1e-6, "loss");
            let dx = y.backward().unwrap().take(&p).unwrap();
            assert_close(&dx.to_vec().unwrap(), &gradient, 1e-6, "gradient");
        }
    }

    #[test]
    fn large_and_shut_out_logits_stay_numbers() {
        let Some(gpu) = gpu() else { return };
        let low = f32::NEG_INFINITY;
        let p = Tensor::new(&gpu, &[2, 3], &[1e4_f32, 1e4, -1e4, 0.0, low, 0.0]).unwrap().parameter();
        let y = p.cross_entropy(&[0, 2], 0.0).unwrap();
        assert_close(&y.to_vec().unwrap(), &[2_f64.ln()], 1e-6, "ln 2");
        let dx = y.backward().unwrap().take(&p).unwrap();
        assert_close(&dx.to_vec().unwrap(), &[-0.25, 0.25, 0.0, 0.25, 0.0, -0.25], 1e-6, "gradient");
    }

    #[test]
    fn many_classes_are_all_counted_or_refused() {
        let Some(gpu) = gpu() else { return };
        // More than one subgroup's loops may turn.
        check(&gpu, 1, 530_001, 0.1);
        let plan = gpu.planner();
        let x = Tensor::empty(&plan, &[1, 5_000_000], DType::F32).unwrap();
        assert!(matches!(x.cross_entropy(&[0], 0.0), Err(Error::Limit { .. })));
    }

    #[test]
    fn f16_logits_have_an_f32_loss() {
        let Some(gpu) = gpu().filter(|gpu| gpu.facts().features.f16) else { return };
        let ids = ids_below(40, 9);
        let x: Vec<f32> =
            random(&[9, 40], 4.0).into_iter().map(|v| half::f16::from_f32(v).to_f32()).collect();
        assert_gradients(
            &gpu,
            &[(&[9, 40], &x)],
            |x| x[0].cast(DType::F16)?.cross_entropy(&ids, 0.1),
            |x| vec![reference(&x[0], &ids, 0.1)],
            1e-4, // of gradients up to 1 / 9, rounded to f16
            "f16",
        );
    }

    #[test]
    fn logits_larger_than_a_binding_go_in_windows() {
        let options = Options { binding_bytes: Some(4096), ..Options::default() };
        let Some(gpu) = gpu_with(options) else { return };
        check(&gpu, 701, 7, 0.1);
        check(&gpu, 1000, 9, 0.0);
    }

    #[test]
    fn wrong_ids_and_settings_are_refused_by_name() {
        let plan = Gpu::plan();
        let x = Tensor::empty(&plan, &[2, 5], DType::F32).unwrap();
        for id in [-1, 5, i64::MIN, 1 << 40] {
            let error = x.cross_entropy(&[4, id], 0.0).unwrap_err().to_string();
            assert!(
                error.contains("cross_entropy") && error.contains(&format!("got {id} at place 1")),
                "{error}"
            );
        }
        assert!(matches!(x.cross_entropy(&[1], 0.0), Err(Error::Shape { .. })));
        for smoothing in [-0.1, 1.5, f64::NAN] {
            assert!(matches!(x.cross_entropy(&[1, 1], smoothing), Err(Error::Setting { .. })));
        }
        assert!(x.reshape(&[10]).unwrap().cross_entropy(&[1], 0.0).is_err());
        assert!(Tensor::empty(&plan, &[0, 5], DType::F32).unwrap().cross_entropy(&[], 0.0).is_err());
        assert!(Tensor::empty(&plan, &[1, 5], DType::I32).unwrap().cross_entropy(&[1], 0.0).is_err());
        assert_eq!(plan.counts().dispatches, 0);
        assert!(x.cross_entropy(&[1, 1], 0.0).unwrap().made().is_none());
    }

    #[test]
    fn shader_twins() {
        // Alone in width 1, as it is run.
        for kernel in [FORWARD, BACKWARD] {
            for scalar in [Scalar::F32, Scalar::F16] {
                let text = kernel.program(Variant { scalar, width: 1, workgroup: 64 }).text(true);
                validate(&format!("{OP} {scalar:?}"), &text, Params::FIELDS);
            }
        }
    }
}
