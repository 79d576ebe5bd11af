//! Weights by name, from a checkpoint to the device tensor by tensor.
//!
//! A model's `load` is run twice: first on a plan, which only writes down what it asks for, so that everything
//! missing or misshapen is told at once and the memory is known; then on the device. Run on nothing but a plan,
//! the same `load` lists the tensors of an architecture ([`wanted`]).
//!
//! While a model is trained, `load` is run once more for every step, on [`Parameters`] instead of a file: tensors never
//! change, a step makes new ones, and the model is built of those.

use super::parameters::{Parameters, Training};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::ops::{ConvWeight, Packed, SourceType};
use crate::tensor::{DType, Tensor, n_elements};
use crate::weights::{self, Checkpoint, Dtype, View, Wanted};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Number type of activations, and of weights where the file has more precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Activations in f32. Weights that a file holds in f16 stay in f16: nothing is lost.
    #[default]
    F32,
    /// Activations and weights in f16, sums and statistics in f32. Activations stay in f32 without f16 in the
    /// adapter's shaders, and in the small models: text encoder and EEG.
    F16,
    /// As F16, with most matrices of the largest models' layers in signed bytes, a factor for each output channel.
    Int8,
}

/// Weights under a prefix. Cheap to clone.
#[derive(Clone)]
pub struct Weights {
    shared: Arc<Shared>,
    prefix: String,
    /// Activations in f32 whatever the precision.
    full: bool,
    /// Matrices in bytes where the precision is [`Precision::Int8`].
    eight: bool,
    /// There while the layers below this prefix are trained.
    training: Option<Arc<Training>>,
}

struct Shared {
    gpu: Gpu,
    precision: Precision,
    checkpoint: Option<Arc<Checkpoint>>,
    /// What was asked for, while only a list is wanted.
    asked: Option<Mutex<Vec<Wanted>>>,
    /// Tensors on the device, in the place of a file.
    parameters: Option<Arc<Parameters>>,
}

/// A model with what there was to say about its file.
pub struct Loaded<T> {
    /// The model.
    pub model: T,
    /// Tensors in the file that the model does not use, and the like.
    pub warnings: Vec<String>,
}

/// Loads a model from a checkpoint.
///
/// Errors: [`Error::Weights`] naming every missing or misshapen tensor before anything is allocated; NaN or
/// infinite weights; whatever `load` returns.
pub fn open<T>(
    gpu: &Gpu,
    checkpoint: Checkpoint,
    precision: Precision,
    load: impl Fn(&Weights) -> Result<T>,
) -> Result<Loaded<T>> {
    let checkpoint = Arc::new(checkpoint);
    let asked = ask(&gpu.planner(), Some(checkpoint.clone()), precision, &load)?;
    let warnings = weights::check(&checkpoint, &asked, false)?;
    weights::refuse_nonfinite(&checkpoint)?;
    let model = load(&Weights::new(gpu, Some(checkpoint), precision, None))?;
    gpu.submit()?;
    Ok(Loaded { model, warnings })
}

/// Holds a checkpoint against what `load` asks for, without a device; values are not looked at. Returns warnings.
///
/// Errors: [`Error::Weights`] naming every missing or misshapen tensor; whatever `load` returns.
pub fn check<T>(checkpoint: Checkpoint, load: impl Fn(&Weights) -> Result<T>) -> Result<Vec<String>> {
    let checkpoint = Arc::new(checkpoint);
    let asked = ask(&Gpu::plan(), Some(checkpoint.clone()), Precision::F32, &load)?;
    weights::check(&checkpoint, &asked, false)
}

/// The tensors an architecture asks for, with no file at hand.
pub fn wanted<T>(load: impl Fn(&Weights) -> Result<T>) -> Result<Vec<Wanted>> {
    ask(&Gpu::plan(), None, Precision::F32, &load)
}

fn ask<T>(
    plan: &Gpu,
    checkpoint: Option<Arc<Checkpoint>>,
    precision: Precision,
    load: &impl Fn(&Weights) -> Result<T>,
) -> Result<Vec<Wanted>> {
    let weights = Weights::planned(plan, checkpoint, precision);
    load(&weights)?;
    let asked = weights.shared.asked.as_ref().expect("made just above");
    Ok(std::mem::take(&mut *asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner())))
}

impl Weights {
    /// Weights on a plan, sized as `checkpoint` holds them: to reckon memory.
    pub fn planned(plan: &Gpu, checkpoint: Option<Arc<Checkpoint>>, precision: Precision) -> Weights {
        Weights::new(plan, checkpoint, precision, Some(Mutex::default()))
    }

    /// Weights of a file as they stand on the device: what [`Parameters`] that learn may stand over. Nothing is held
    /// against a model here; see [`crate::weights::check`].
    pub fn of_file(gpu: &Gpu, checkpoint: Arc<Checkpoint>, precision: Precision) -> Weights {
        Weights::new(gpu, Some(checkpoint), precision, None)
    }

    fn new(
        gpu: &Gpu,
        checkpoint: Option<Arc<Checkpoint>>,
        precision: Precision,
        asked: Option<Mutex<Vec<Wanted>>>,
    ) -> Weights {
        let shared = Shared { gpu: gpu.clone(), precision, checkpoint, asked, parameters: None };
        Weights { shared: Arc::new(shared), prefix: String::new(), full: false, eight: false, training: None }
    }

    /// Weights that are tensors on the device. Gradients flow back to those that are parameters. With `training`,
    /// layers behave as in PyTorch's train mode: dropout drops, batch norms use the statistics of the batch.
    pub fn from_parameters(
        gpu: &Gpu,
        parameters: &Arc<Parameters>,
        precision: Precision,
        training: Option<&Arc<Training>>,
    ) -> Weights {
        let parameters = Some(parameters.clone());
        let shared = Shared { gpu: gpu.clone(), precision, checkpoint: None, asked: None, parameters };
        Weights {
            shared: Arc::new(shared),
            prefix: String::new(),
            full: false,
            eight: false,
            training: training.cloned(),
        }
    }

    /// The weights of a part: `weights.at("conv_in")`, `weights.at(&format!("down_blocks.{i}"))`.
    pub fn at(&self, part: impl AsRef<str>) -> Weights {
        Weights { prefix: self.path(part.as_ref()), ..self.clone() }
    }

    /// The same for a part that is not trained along: PyTorch's `part.eval()`.
    pub fn eval(&self) -> Weights {
        Weights { training: None, ..self.clone() }
    }

    /// There while the layers that load here are trained.
    pub fn training(&self) -> Option<&Arc<Training>> {
        self.training.as_ref()
    }

    /// Whether the file has this tensor; yes where there is no file.
    pub fn has(&self, name: &str) -> bool {
        match &self.shared.parameters {
            Some(parameters) => {
                let path = self.path(name);
                let is_below = || parameters.base_of(&path).is_some_and(|base| base.has(&path));
                parameters.get(&path).is_some() || is_below()
            }
            None => self.checkpoint().is_none() || self.in_file(name).is_some(),
        }
    }

    /// The file, where there is one: for sizes that a config leaves out.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.shared.checkpoint.as_deref()
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.shared.gpu
    }

    /// The same weights for a model whose activations stay in f32 under [`Precision::F16`], too: small models, where
    /// half the memory is little and what rounding costs is not.
    pub fn with_full_activations(&self) -> Weights {
        Weights { full: true, ..self.clone() }
    }

    /// The same weights for layers whose matrices are kept in bytes under [`Precision::Int8`]: where most of a large
    /// model's memory is, and rounding does little.
    pub fn in_bytes(&self) -> Weights {
        Weights { eight: true, ..self.clone() }
    }

    /// Number type of activations.
    pub fn dtype(&self) -> DType {
        match self.shared.precision {
            Precision::F16 | Precision::Int8 if !self.full && self.gpu().facts().features.f16 => DType::F16,
            _ => DType::F32,
        }
    }

    /// A tensor in f32: norms, biases, statistics.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        if let Some(parameters) = &self.shared.parameters {
            let path = self.path(name);
            return match parameters.base_of(&path) {
                Some(base) => base.tensor(&path, shape),
                None => parameters.of_shape(&path, shape)?.cast(DType::F32),
            };
        }
        let Some(view) = self.view(name, shape)? else { return Tensor::empty(self.gpu(), shape, DType::F32) };
        Tensor::new(self.gpu(), shape, &weights::to_f32(&view)?)
    }

    /// Shape and values of a tensor that a model can do without, if a file is at hand and holds it.
    pub fn stored(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
        if let Some(parameters) = &self.shared.parameters {
            let path = self.path(name);
            if let Some(base) = parameters.base_of(&path) {
                return base.weights().stored(&path);
            }
            let Some(tensor) = parameters.get(&path) else { return Ok(None) };
            return Ok(Some((tensor.shape().to_vec(), tensor.to_vec()?)));
        }
        let Some(view) = self.in_file(name) else { return Ok(None) };
        self.ask(|| Wanted::optional(self.path(name), view.shape));
        Ok(Some((view.shape.to_vec(), weights::to_f32(&view)?)))
    }

    /// Says of a tensor that the model does not read it, but a file may well hold it: no warning then.
    pub fn pass_over(&self, name: &str) {
        if let Some(view) = self.in_file(name) {
            self.ask(|| Wanted::optional(self.path(name), view.shape));
        }
    }

    /// A table of embeddings `[n, width]`: f16 where the file or the precision says so, else f32.
    pub fn table(&self, name: &str, shape: [usize; 2]) -> Result<Tensor> {
        let half = self.half(name);
        let dtype = if half { DType::F16 } else { DType::F32 };
        if let Some(parameters) = &self.shared.parameters {
            let path = self.path(name);
            return match parameters.base_of(&path) {
                Some(base) => base.table(&path, shape),
                None => parameters.of_shape(&path, &shape)?.cast(dtype),
            };
        }
        let Some(view) = self.view(name, &shape)? else { return Tensor::empty(self.gpu(), &shape, dtype) };
        match (view.dtype, half) {
            (Dtype::F32, false) => Tensor::from_bytes(self.gpu(), &shape, DType::F32, view.bytes),
            (Dtype::F16, true) => Tensor::from_bytes(self.gpu(), &shape, DType::F16, view.bytes),
            (_, false) => Tensor::new(self.gpu(), &shape, &weights::to_f32(&view)?),
            (_, true) => {
                let halves: Vec<_> = weights::to_f32(&view)?.into_iter().map(half::f16::from_f32).collect();
                Tensor::new(self.gpu(), &shape, &halves)
            }
        }
    }

    /// A matrix `[outputs, inputs]` (or `[outputs, inputs, 1, 1]`, a pointwise convolution) in panels.
    pub fn matrix(&self, name: &str, [outputs, inputs]: [usize; 2]) -> Result<Packed> {
        self.matrix_rows(name, [outputs, inputs], 0..outputs)
    }

    /// Some rows of a matrix `[outputs, inputs]`, for weights that stand stacked in one tensor.
    pub fn matrix_rows(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        rows: Range<usize>,
    ) -> Result<Packed> {
        if let Some(parameters) = &self.shared.parameters {
            let path = self.path(name);
            return match parameters.base_of(&path) {
                Some(base) => base.matrix(&path, [outputs, inputs], rows),
                None => parameters.matrix(&path, [outputs, inputs], rows, self.dtype()),
            };
        }
        self.panels(name, [outputs, inputs], rows, false)
    }

    /// A matrix `[outputs, inputs]` of values and as many gates, for [`Tensor::linear_geglu`]. Where the model learns, or
    /// keeps it in bytes, its panels are plain.
    pub fn gated_matrix(&self, name: &str, [outputs, inputs]: [usize; 2]) -> Result<Packed> {
        if self.shared.parameters.is_some() {
            return self.matrix(name, [outputs, inputs]);
        }
        self.panels(name, [outputs, inputs], 0..outputs, true)
    }

    /// Some rows of a matrix in the file.
    fn panels(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        rows: Range<usize>,
        gated: bool,
    ) -> Result<Packed> {
        let sizes = [rows.len(), inputs, 1];
        let view = self.matrix_view(name, [outputs, inputs])?;
        let eight = self.eight && self.shared.precision == Precision::Int8;
        let (both, gpu, half) = ([rows.len(), inputs], self.gpu(), self.half(name));
        self.source(name, view, rows.start * inputs..rows.end * inputs, |kind, bytes| match bytes {
            Some(bytes) if eight => Packed::quantized(gpu, both, kind, bytes),
            None if eight => Packed::planned_int8(gpu, both),
            Some(bytes) if gated => Packed::gated(gpu, both, kind, bytes, half),
            None if gated => Packed::planned_gated(gpu, both, kind, half),
            Some(bytes) => Packed::from_bytes(gpu, sizes, kind, bytes, half),
            None => Packed::planned(gpu, sizes, kind, half),
        })
    }

    /// Matrices `[outputs, inputs]` of one name under several prefixes, side by side, the first one's outputs first;
    /// `None` where they are better apart: they learn, or are to be kept in bytes.
    pub fn stacked(
        sources: &[&Weights],
        name: &str,
        [outputs, inputs]: [usize; 2],
    ) -> Result<Option<Packed>> {
        let in_bytes = |weights: &Weights| weights.eight && weights.shared.precision == Precision::Int8;
        let apart = |weights: &&Weights| weights.shared.parameters.is_some() || in_bytes(weights);
        let Some(first) = sources.first().filter(|_| !sources.iter().any(apart)) else { return Ok(None) };
        let views = sources.iter().map(|weights| weights.matrix_view(name, [outputs, inputs]));
        // Every one is asked for before any is found to be there.
        let views: Vec<Option<View>> = views.collect::<Result<_>>()?;
        let views: Option<Vec<View>> = views.into_iter().collect();
        let kind_of = |weights: &Weights| weights.in_file(name).map(|view| view.dtype);
        let of_one_kind = sources.iter().all(|weights| kind_of(weights) == kind_of(first));
        let half = sources.iter().all(|weights| weights.half(name));
        let sizes = [sources.len() * outputs, inputs, 1];
        // Files of one number type are read as they are, others in f32.
        let kind = kind_of(first).and_then(source_type).filter(|_| of_one_kind);
        let packed = match (views, kind) {
            (None, kind) => Packed::planned(first.gpu(), sizes, kind.unwrap_or(SourceType::F32), half),
            (Some(views), Some(kind)) => {
                let bytes = views.iter().map(|view| view.bytes).collect::<Vec<_>>().concat();
                Packed::from_bytes(first.gpu(), sizes, kind, &bytes, half)
            }
            (Some(views), None) => {
                let widened = views.iter().map(weights::to_f32).collect::<Result<Vec<_>>>()?.concat();
                let bytes = bytemuck::cast_slice(&widened);
                Packed::from_bytes(first.gpu(), sizes, SourceType::F32, bytes, half)
            }
        };
        packed.map(Some)
    }

    /// Weights of a convolution, `[outputs, channels / groups, kernel y, kernel x]`.
    pub fn convolution(&self, name: &str, shape: [usize; 4], groups: usize) -> Result<ConvWeight> {
        if let Some(parameters) = &self.shared.parameters {
            let path = self.path(name);
            return match parameters.base_of(&path) {
                Some(base) => base.convolution(&path, shape, groups),
                None => parameters.convolution(&path, shape, groups, self.dtype()),
            };
        }
        let view = self.view(name, &shape)?;
        let count = n_elements(&shape)?;
        self.source(name, view, 0..count, |kind, bytes| match bytes {
            Some(bytes) => ConvWeight::from_bytes(self.gpu(), shape, groups, kind, bytes, self.half(name)),
            None => ConvWeight::planned(self.gpu(), shape, groups, kind, self.half(name)),
        })
    }

    /// Weights `[outputs, channels, kernel t, kernel y, kernel x]` as those of a 2-D convolution over channels times
    /// kernel t, which they are where steps in time are as long as the kernel.
    pub fn convolution_3d(&self, name: &str, shape: [usize; 5]) -> Result<ConvWeight> {
        let [outputs, channels, frames, ky, kx] = shape;
        let flat = [outputs, channels * frames, ky, kx];
        if let Some(parameters) = &self.shared.parameters {
            let path = self.path(name);
            if let Some(base) = parameters.base_of(&path) {
                return base.weights().convolution_3d(&path, shape);
            }
            let weight = parameters.of_shape(&path, &shape)?.reshape(&flat)?;
            return ConvWeight::from_tensor(&weight.cast(self.dtype())?, 1);
        }
        let view = self.view(name, &shape)?;
        let count = n_elements(&shape)?;
        self.source(name, view, 0..count, |kind, bytes| match bytes {
            Some(bytes) => ConvWeight::from_bytes(self.gpu(), flat, 1, kind, bytes, self.half(name)),
            None => ConvWeight::planned(self.gpu(), flat, 1, kind, self.half(name)),
        })
    }

    /// The whole name of a tensor or part.
    pub fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// The tensor as the file holds it, whatever its shape.
    fn in_file(&self, name: &str) -> Option<View<'_>> {
        self.checkpoint()?.get(&self.path(name))
    }

    /// Writes a tensor down, once, while only a list is wanted; says whether that is so.
    fn ask(&self, wanted: impl FnOnce() -> Wanted) -> bool {
        let Some(asked) = &self.shared.asked else { return false };
        let mut asked = asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let wanted = wanted();
        if !asked.iter().any(|known| known.name == wanted.name) {
            asked.push(wanted);
        }
        true
    }

    /// The tensor in the file, or nothing while only a list is wanted.
    fn view(&self, name: &str, shape: &[usize]) -> Result<Option<View<'_>>> {
        let path = self.path(name);
        if self.ask(|| Wanted::new(&path, shape)) {
            return Ok(None);
        }
        let checkpoint = self.checkpoint().expect("without a file only a list is made");
        match checkpoint.get(&path) {
            Some(view) if view.shape == shape => Ok(Some(view)),
            _ => Err(Error::weights(checkpoint.path(), format!("no tensor '{path}' of shape {shape:?}"))),
        }
    }

    /// The same of a matrix, which may stand as a pointwise convolution.
    fn matrix_view(&self, name: &str, [outputs, inputs]: [usize; 2]) -> Result<Option<View<'_>>> {
        let pointwise = [outputs, inputs, 1, 1];
        let is_pointwise = self.in_file(name).is_some_and(|view| view.shape == pointwise);
        self.view(name, if is_pointwise { &pointwise } else { &pointwise[..2] })
    }

    /// Whether a matrix is kept in f16 on the device.
    fn half(&self, name: &str) -> bool {
        self.shared.precision != Precision::F32
            || self.in_file(name).is_some_and(|view| view.dtype == Dtype::F16)
    }

    /// Hands a range of a tensor's values to `make` as they lie in the file; f64 is rounded first.
    fn source<T>(
        &self,
        name: &str,
        view: Option<View>,
        values: Range<usize>,
        make: impl FnOnce(SourceType, Option<&[u8]>) -> Result<T>,
    ) -> Result<T> {
        let Some(view) = view else {
            let kind = self.in_file(name).and_then(|view| source_type(view.dtype)).unwrap_or(SourceType::F32);
            return make(kind, None);
        };
        let Some(kind) = source_type(view.dtype) else {
            let widened = weights::to_f32(&view)?;
            return make(SourceType::F32, Some(bytemuck::cast_slice(&widened[values])));
        };
        let size = kind.bytes();
        make(kind, Some(&view.bytes[values.start * size..values.end * size]))
    }
}

/// How values of a file are read as they lie there; others are widened first.
fn source_type(dtype: Dtype) -> Option<SourceType> {
    match dtype {
        Dtype::F32 => Some(SourceType::F32),
        Dtype::F16 => Some(SourceType::F16),
        Dtype::BF16 => Some(SourceType::BF16),
        _ => None,
    }
}
