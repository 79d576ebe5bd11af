//! A model's tensors by name while it is trained, and what its layers need to know meanwhile.

use super::Weights;
use crate::error::{Error, Result};
use crate::ops::{ConvWeight, Packed};
use crate::tensor::{DType, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Tensors by the names of PyTorch's state dict: parameters, frozen weights, statistics. What is frozen is brought into
/// its kernels' form once.
pub struct Parameters {
    tensors: BTreeMap<String, Tensor>,
    matrices: Mutex<HashMap<Matrix, Packed>>,
    convolutions: Mutex<HashMap<(String, DType), ConvWeight>>,
    /// Where the other tensors of the model lie.
    base: Option<Arc<Base>>,
    /// What the product of a matrix's adapters is multiplied with before it is added.
    adapter_scale: f64,
}

/// A file beneath the parameters: weights that stay as they are, each brought to the device once, in its kernels' form.
pub(super) struct Base {
    weights: Weights,
    tensors: Mutex<HashMap<String, Tensor>>,
    tables: Mutex<HashMap<String, Tensor>>,
    matrices: Mutex<HashMap<(String, Range<usize>), Packed>>,
    convolutions: Mutex<HashMap<String, ConvWeight>>,
}

/// A matrix in panels: its name, rows and number type.
type Matrix = (String, Range<usize>, DType);

impl Parameters {
    /// From tensors by name; those that are [`Tensor::is_parameter`] learn, the others are frozen.
    pub fn new(tensors: BTreeMap<String, Tensor>) -> Parameters {
        Parameters {
            tensors,
            matrices: Mutex::default(),
            convolutions: Mutex::default(),
            base: None,
            adapter_scale: 1.0,
        }
    }

    /// The same over a file (or a plan of one): what is not among these tensors is taken from there, frozen, and in the
    /// number type a model has that does not learn.
    pub fn over(self, base: Weights) -> Parameters {
        let base = Base {
            weights: base,
            tensors: Mutex::default(),
            tables: Mutex::default(),
            matrices: Mutex::default(),
            convolutions: Mutex::default(),
        };
        Parameters { base: Some(Arc::new(base)), ..self }
    }

    /// The same with adapters: a matrix `NAME.weight` beside which `NAME.lora_A.weight [rank, inputs]` and
    /// `NAME.lora_B.weight [outputs, rank]` stand is used as `weight + scale B A`. Hu et al. 2021, with PEFT's names.
    pub fn with_adapters(self, scale: f64) -> Parameters {
        Parameters { adapter_scale: scale, ..self }
    }

    /// The same without gradients, with other tensors in the place of some.
    pub fn detached(&self, others: &BTreeMap<String, Tensor>) -> Parameters {
        let still = self.tensors.iter().map(|(name, tensor)| {
            let tensor = others.get(name).unwrap_or(tensor);
            (name.clone(), tensor.detach())
        });
        let base = self.base.clone();
        Parameters { base, adapter_scale: self.adapter_scale, ..Parameters::new(still.collect()) }
    }

    /// The file beneath, for a tensor that is not here.
    pub(super) fn base_of(&self, name: &str) -> Option<&Base> {
        self.base.as_deref().filter(|_| !self.tensors.contains_key(name))
    }

    /// A matrix with its adapters, where it has any.
    fn adapted(&self, name: &str, weight: Tensor) -> Result<Tensor> {
        let Some(module) = name.strip_suffix(".weight") else { return Ok(weight) };
        let adapter = |part: &str| self.get(&format!("{module}.{part}.weight"));
        let (Some(a), Some(b)) = (adapter("lora_A"), adapter("lora_B")) else { return Ok(weight) };
        let change = b.matmul(a, false)?.scale(self.adapter_scale as f32, 0.0)?;
        weight.cast(DType::F32)?.add(&change.reshape(weight.shape())?)
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Puts other tensors under some of the names: what a step has made. What stays frozen keeps its form.
    ///
    /// Panics on a name that is not there: a step changes what there is.
    pub fn update(&mut self, changed: impl IntoIterator<Item = (String, Tensor)>) {
        for (name, tensor) in changed {
            self.matrices.get_mut().unwrap_or_else(|p| p.into_inner()).retain(|key, _| key.0 != name);
            self.convolutions.get_mut().unwrap_or_else(|p| p.into_inner()).retain(|key, _| key.0 != name);
            *self.tensors.get_mut(&name).expect("a step changes what there is") = tensor;
        }
    }

    /// The tensor of this name and shape.
    pub(super) fn of_shape(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        match self.get(name) {
            Some(tensor) if tensor.shape() == shape => Ok(tensor.clone()),
            Some(tensor) => {
                let detail = format!("'{name}' is {:?}, the model wants {shape:?}", tensor.shape());
                Err(Error::shape("parameters", detail))
            }
            None => Err(Error::shape("parameters", format!("no '{name}' of shape {shape:?}"))),
        }
    }

    /// Some rows of a matrix, in panels.
    pub(super) fn matrix(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        rows: Range<usize>,
        dtype: DType,
    ) -> Result<Packed> {
        let pointwise = [outputs, inputs, 1, 1];
        let is_pointwise = self.get(name).is_some_and(|tensor| tensor.shape() == pointwise);
        let weight = self.of_shape(name, if is_pointwise { &pointwise } else { &pointwise[..2] })?;
        let weight = self.adapted(name, weight)?;
        let make = || {
            let weight = weight.reshape(&[outputs, inputs])?;
            let weight =
                if rows == (0..outputs) { weight } else { weight.narrow(0, rows.start, rows.len())? };
            Packed::from_tensor(&weight.cast(dtype)?, [rows.len(), inputs, 1])
        };
        let key = (name.to_string(), rows.clone(), dtype);
        kept(&self.matrices, key, weight.wants_gradient(), make)
    }

    /// Weights of a convolution.
    pub(super) fn convolution(
        &self,
        name: &str,
        shape: [usize; 4],
        groups: usize,
        dtype: DType,
    ) -> Result<ConvWeight> {
        let weight = self.of_shape(name, &shape)?;
        let make = || ConvWeight::from_tensor(&weight.cast(dtype)?, groups);
        kept(&self.convolutions, (name.to_string(), dtype), weight.wants_gradient(), make)
    }
}

impl Base {
    pub(super) fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }

    pub(super) fn weights(&self) -> &Weights {
        &self.weights
    }

    pub(super) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        kept(&self.tensors, name.to_string(), false, || self.weights.tensor(name, shape))
    }

    pub(super) fn table(&self, name: &str, shape: [usize; 2]) -> Result<Tensor> {
        kept(&self.tables, name.to_string(), false, || self.weights.table(name, shape))
    }

    pub(super) fn matrix(&self, name: &str, sizes: [usize; 2], rows: Range<usize>) -> Result<Packed> {
        let key = (name.to_string(), rows.clone());
        kept(&self.matrices, key, false, || self.weights.matrix_rows(name, sizes, rows))
    }

    pub(super) fn convolution(&self, name: &str, shape: [usize; 4], groups: usize) -> Result<ConvWeight> {
        let make = || self.weights.convolution(name, shape, groups);
        kept(&self.convolutions, name.to_string(), false, make)
    }
}

/// What `make` makes, or made before unless it learns.
fn kept<K: std::hash::Hash + Eq, V: Clone>(
    shelf: &Mutex<HashMap<K, V>>,
    key: K,
    learns: bool,
    make: impl FnOnce() -> Result<V>,
) -> Result<V> {
    if learns {
        return make();
    }
    let mut shelf = shelf.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(value) = shelf.get(&key) {
        return Ok(value.clone());
    }
    let value = make()?;
    shelf.insert(key, value.clone());
    Ok(value)
}

/// What layers share during one step of training: where their randomness comes from, and where the statistics of the
/// batch go.
pub struct Training {
    seed: u64,
    streams: AtomicU64,
    statistics: Mutex<Vec<(String, Tensor)>>,
}

impl Training {
    /// For one step. The same seed and step draw the same numbers.
    pub fn new(seed: u64, step: u64) -> Training {
        Training { seed, streams: AtomicU64::new(step << 20), statistics: Mutex::default() }
    }

    /// Seed and stream of the next draw of this step, a stream for each.
    pub fn draw(&self) -> (u64, u64) {
        (self.seed, self.streams.fetch_add(1, Ordering::Relaxed))
    }

    /// Where the streams stand, and back there: what is computed twice draws the same.
    pub fn position(&self) -> u64 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Goes back to, or on to, a position.
    pub fn set_position(&self, position: u64) {
        self.streams.store(position, Ordering::Relaxed);
    }

    /// A new value of a running statistic, by its whole name.
    pub fn put(&self, name: String, value: Tensor) {
        self.statistics.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((name, value));
    }

    /// The running statistics after this step.
    pub fn take_statistics(&self) -> Vec<(String, Tensor)> {
        std::mem::take(&mut *self.statistics.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

/// Whether a tensor of this name is a statistic: it changes in training, but has no gradient.
pub fn is_statistic(name: &str) -> bool {
    ["running_mean", "running_var", "num_batches_tracked"].iter().any(|statistic| name.ends_with(statistic))
}
