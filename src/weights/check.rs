//! What a model wants against what a file holds: everything that is wrong, in one message.

use super::{Checkpoint, Dtype, View, shown};
use crate::error::{Error, Result, nearest};

/// How many names a message lists before it only counts.
const LISTED: usize = 10;
/// Looking for near names compares every pair of letters; a hostile file must not make that slow.
const MOST_CANDIDATES: usize = 5_000;
const LONGEST_CANDIDATE: usize = 200;

/// A tensor a model wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The model's name for it.
    pub name: String,
    /// Its only allowed shape.
    pub shape: Vec<usize>,
    /// May be absent (a tied head, a new temporal layer).
    pub optional: bool,
}

impl Wanted {
    /// A tensor that must be there.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Wanted {
        Wanted { name: name.into(), shape: shape.into(), optional: false }
    }

    /// A tensor that may be absent; when there, its shape must fit.
    pub fn optional(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Wanted {
        Wanted { optional: true, ..Wanted::new(name, shape) }
    }
}

/// Holds `checkpoint` against `wanted`; returns warnings (tensors the model does not use).
///
/// Errors: [`Error::Weights`] for missing tensors (with the nearest unused name), other shapes, integers where
/// floats are wanted, and, with `strict`, unused tensors. Integer buffers (`position_ids`,
/// `num_batches_tracked`, …) never count as unused.
pub fn check(checkpoint: &Checkpoint, wanted: &[Wanted], strict: bool) -> Result<Vec<String>> {
    let names: std::collections::HashSet<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
    let unused: Vec<View> = checkpoint.views().filter(|v| !names.contains(v.name) && !is_buffer(v)).collect();

    let (mut missing, mut misshapen, mut mistyped) = (Vec::new(), Vec::new(), Vec::new());
    for want in wanted {
        match checkpoint.get(&want.name) {
            None if want.optional => {}
            None => missing.push(want),
            Some(view) if view.shape != want.shape => misshapen.push((view, want)),
            Some(view) if !is_float(view.dtype) => mistyped.push(view),
            Some(_) => {}
        }
    }

    let mut wrong = Vec::new();
    if !missing.is_empty() {
        wrong.push(format!("{} missing: {}", tensors(missing.len()), list(&missing, |w| near(w, &unused))));
    }
    if !misshapen.is_empty() {
        let shapes = list(&misshapen, |(view, want)| {
            let hint = if is_transpose(view.shape, &want.shape) { " (transposed)" } else { "" };
            format!("{} is {:?}, wanted {:?}{hint}", shown(view.file_name), view.shape, want.shape)
        });
        wrong.push(format!("{} of another shape: {shapes}", tensors(misshapen.len())));
    }
    if !mistyped.is_empty() {
        let types = list(&mistyped, |view| format!("{} is {}", shown(view.file_name), view.dtype));
        wrong.push(format!("{} without floats: {types}", tensors(mistyped.len())));
    }
    let mut warnings = Vec::new();
    if !unused.is_empty() {
        let unused_names = list(&unused, |view| shown(view.file_name));
        let line = format!("{} the model does not use: {unused_names}", tensors(unused.len()));
        if strict { wrong.push(line) } else { warnings.push(line) }
    }
    if wrong.is_empty() { Ok(warnings) } else { Err(Error::weights(checkpoint.path(), wrong.join("; "))) }
}

/// A missing name, with the unused tensor it was probably meant by.
fn near(want: &Wanted, unused: &[View]) -> String {
    let candidates = unused.iter().filter(|v| v.name.len() <= LONGEST_CANDIDATE).take(MOST_CANDIDATES);
    match nearest(&want.name, candidates.clone().map(|v| v.name)) {
        None => shown(&want.name),
        Some(name) => {
            let file_name = candidates.clone().find(|v| v.name == name).map_or(name, |v| v.file_name);
            format!("{} (the file has {})", shown(&want.name), shown(file_name))
        }
    }
}

/// Whether [`super::to_f32`] reads it.
pub fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Counters and index tables that a torch module keeps among its weights. Some conversions store them as floats.
fn is_buffer(view: &View) -> bool {
    let last = view.name.rsplit('.').next().unwrap_or(view.name);
    let is_integer = matches!(
        view.dtype,
        Dtype::BOOL
            | Dtype::U8
            | Dtype::I8
            | Dtype::I16
            | Dtype::U16
            | Dtype::I32
            | Dtype::U32
            | Dtype::I64
            | Dtype::U64
    );
    is_integer || ["position_ids", "num_batches_tracked"].contains(&last)
}

/// The same axes from last to first, as a matrix from a framework that stores weights the other way round.
fn is_transpose(got: &[usize], wanted: &[usize]) -> bool {
    got.len() >= 2 && got.iter().eq(wanted.iter().rev())
}

fn tensors(count: usize) -> String {
    format!("{count} tensor{}", if count == 1 { "" } else { "s" })
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let mut text = items.iter().take(LISTED).map(show).collect::<Vec<_>>().join(", ");
    if items.len() > LISTED {
        text += &format!(" and {} more", items.len() - LISTED);
    }
    text
}
