//! First values of a model that is trained from nothing: PyTorch's defaults, by each tensor's name and shape.
//!
//! ```text
//! weight of a linear layer or convolution    U(-1, 1) / sqrt(fan_in), fan_in = product(shape[1..])
//! its bias                                   the same, by the fan_in of its weight
//! weight of a norm 1, its bias 0             running_mean 0, running_var 1, num_batches_tracked 0
//! table of embeddings                        N(0, 1): a matrix "…embedding.weight" or "…embeddings.weight"
//!                                            without a bias beside it
//! in_proj_weight                             Xavier: U(-1, 1) sqrt(6 / (fan_in + fan_out))
//! in_proj_bias, bias of the out_proj beside  0
//! anything else                              N(0, 1): learned positions and the like
//! ```
//!
//! Each tensor has a stream of its own, by its name: values depend on the seed, the name and the place alone, and are
//! the same on every machine.
//!
//! Source: `reset_parameters` of PyTorch's modules.

use crate::ops::random_words;
use crate::tensor::Tensor;
use crate::weights::{Wanted, random};
use std::collections::{BTreeMap, HashMap};

/// Values by name, with their shapes.
pub type Initial = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// PyTorch's first values for the tensors of a model. What a model can do without is left out.
pub fn initial(wanted: &[Wanted], seed: u64) -> Initial {
    initial_by(wanted, seed, |shape| (1.0 / fan_in(shape)).sqrt())
}

/// The same of one tensor of a model: a bias needs to know the weight beside it.
pub fn initial_of(tensor: &Wanted, model: &[Wanted], seed: u64) -> Vec<f32> {
    let shapes = model.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
    values(tensor, &shapes, seed, |shape| (1.0 / fan_in(shape)).sqrt())
}

/// The same, but weights of linear layers and convolutions by `xavier_uniform_`, as EEG2Video's classifiers are
/// trained.
pub fn initial_xavier(wanted: &[Wanted], seed: u64) -> Initial {
    initial_by(wanted, seed, xavier)
}

/// `bound` is that of weights of linear layers and convolutions, by their shape.
fn initial_by(wanted: &[Wanted], seed: u64, bound: impl Fn(&[usize]) -> f64) -> Initial {
    let shapes: HashMap<&str, &[usize]> =
        wanted.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
    let make = |tensor: &Wanted| {
        (tensor.name.clone(), (tensor.shape.clone(), values(tensor, &shapes, seed, &bound)))
    };
    wanted.iter().filter(|tensor| !tensor.optional).map(make).collect()
}

fn values(
    tensor: &Wanted,
    shapes: &HashMap<&str, &[usize]>,
    seed: u64,
    bound: impl Fn(&[usize]) -> f64,
) -> Vec<f32> {
    let (shape, count) = (&tensor.shape, tensor.shape.iter().product());
    let stream = random::hash(&tensor.name);
    let uniform = |bound: f64| {
        let unit = |word: u32| (f64::from(word) + 0.5) / f64::from(1_u32 << 31) - 1.0;
        random_words(seed, stream).take(count).map(|word| (bound * unit(word)) as f32).collect()
    };
    match rule(&tensor.name, shape, shapes) {
        Rule::Constant(value) => vec![value; count],
        Rule::Weight => uniform(bound(shape)),
        Rule::Bias(weight) => uniform((1.0 / fan_in(weight)).sqrt()),
        Rule::Xavier => uniform(xavier(shape)),
        Rule::Normal => Tensor::normal_host(seed, stream, 0, count),
    }
}

enum Rule<'a> {
    Constant(f32),
    Weight,
    /// With the shape of the weight beside it.
    Bias(&'a [usize]),
    Xavier,
    Normal,
}

/// What a tensor begins with.
fn rule<'a>(name: &str, shape: &[usize], shapes: &HashMap<&str, &'a [usize]>) -> Rule<'a> {
    let (layer, kind) = name.rsplit_once('.').unwrap_or(("", name));
    let beside = |layer: &str, name: &str| {
        let path = if layer.is_empty() { name.to_string() } else { format!("{layer}.{name}") };
        shapes.get(path.as_str()).copied()
    };
    let is_attention = |layer: &str| match layer.rsplit_once('.') {
        Some((outer, "out_proj")) => beside(outer, "in_proj_weight").is_some(),
        None if layer == "out_proj" => beside("", "in_proj_weight").is_some(),
        _ => false,
    };
    let is_table = || layer.ends_with("embedding") || layer.ends_with("embeddings");
    match (kind, shape.len()) {
        ("in_proj_weight", _) => Rule::Xavier,
        ("in_proj_bias" | "running_mean" | "num_batches_tracked", _) => Rule::Constant(0.0),
        ("running_var", _) => Rule::Constant(1.0),
        ("weight", 0 | 1) => Rule::Constant(1.0),
        ("weight", 2) if is_table() && beside(layer, "bias").is_none() => Rule::Normal,
        ("weight", _) => Rule::Weight,
        ("bias", _) => match beside(layer, "weight") {
            Some(weight) if weight.len() >= 2 && !is_attention(layer) => Rule::Bias(weight),
            _ => Rule::Constant(0.0),
        },
        _ => Rule::Normal,
    }
}

/// Inputs of one output.
fn fan_in(shape: &[usize]) -> f64 {
    shape[1..].iter().map(|&axis| axis as f64).product()
}

/// Bound of `xavier_uniform_`.
fn xavier(shape: &[usize]) -> f64 {
    let fan_out = fan_in(shape) * shape[0] as f64 / shape[1] as f64;
    (6.0 / (fan_in(shape) + fan_out)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(names: &[(&str, &[usize])], seed: u64) -> Initial {
        let wanted: Vec<Wanted> = names.iter().map(|(name, shape)| Wanted::new(*name, *shape)).collect();
        initial(&wanted, seed)
    }

    /// Largest size and mean square of a tensor's values.
    fn spread(values: &Initial, name: &str) -> (f64, f64) {
        let values = &values[name].1;
        let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64;
        (values.iter().fold(0.0, |most: f64, v| most.max(f64::from(v.abs()))), square)
    }

    /// Uniform below this bound: nothing above, something near, and a third of its square on average.
    #[track_caller]
    fn is_uniform(values: &Initial, name: &str, bound: f64) {
        let (most, square) = spread(values, name);
        let n = values[name].1.len() as f64;
        assert!(most <= bound && most > bound * (1.0 - 10.0 / n), "{name}: {most} of {bound}");
        // The variance of u^2 is 4/45: four standard errors.
        let error = 4.0 * (4.0 / 45.0 / n).sqrt();
        assert!((square / bound.powi(2) - 1.0 / 3.0).abs() < error, "{name}: {square}");
    }

    #[test]
    fn layers_begin_as_in_pytorch() {
        let values = one(
            &[
                ("net.0.weight", &[40, 1, 1, 25]),
                ("net.0.bias", &[400]),
                ("net.1.weight", &[40, 40, 62, 1]),
                ("net.2.weight", &[7]),
                ("net.2.bias", &[7]),
                ("net.2.running_mean", &[7]),
                ("net.2.running_var", &[7]),
                ("out.weight", &[40, 1040]),
                ("out.bias", &[400]),
                ("scale", &[]),
            ],
            0,
        );
        is_uniform(&values, "net.0.weight", 1.0 / 5.0);
        is_uniform(&values, "net.0.bias", 1.0 / 5.0);
        is_uniform(&values, "net.1.weight", 1.0 / 2480_f64.sqrt());
        is_uniform(&values, "out.weight", 1.0 / 1040_f64.sqrt());
        is_uniform(&values, "out.bias", 1.0 / 1040_f64.sqrt());
        for (name, value) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
            assert_eq!(values[&format!("net.2.{name}")], (vec![7], vec![value; 7]));
        }
        assert_eq!(values["scale"].1.len(), 1);
        assert_eq!(values["net.1.weight"].0, [40, 40, 62, 1]);
    }

    #[test]
    fn tables_attention_and_linear_layers_that_are_called_embedding() {
        let values = one(
            &[
                ("token_embedding.weight", &[100, 32]),
                ("embeddings.word_embeddings.weight", &[100, 32]),
                ("eeg_embedding.embedding.weight", &[100, 32]),
                ("eeg_embedding.embedding.bias", &[100]),
                ("patch_embedding.weight", &[64, 3, 4, 4]),
                ("layer.self_attn.in_proj_weight", &[96, 32]),
                ("layer.self_attn.in_proj_bias", &[96]),
                ("layer.self_attn.out_proj.weight", &[32, 32]),
                ("layer.self_attn.out_proj.bias", &[32]),
                ("clip.out_proj.weight", &[32, 32]),
                ("clip.out_proj.bias", &[320]),
                ("positions", &[1, 77, 64]),
            ],
            3,
        );
        for name in ["token_embedding.weight", "embeddings.word_embeddings.weight", "positions"] {
            let (most, square) = spread(&values, name);
            assert!(most > 2.5 && (square - 1.0).abs() < 0.1, "{name}: {most} {square}");
        }
        is_uniform(&values, "eeg_embedding.embedding.weight", 1.0 / 32_f64.sqrt());
        is_uniform(&values, "patch_embedding.weight", 1.0 / 48_f64.sqrt());
        is_uniform(&values, "layer.self_attn.in_proj_weight", (6.0 / 128_f64).sqrt());
        is_uniform(&values, "layer.self_attn.out_proj.weight", 1.0 / 32_f64.sqrt());
        is_uniform(&values, "clip.out_proj.bias", 1.0 / 32_f64.sqrt());
        for name in ["in_proj_bias", "out_proj.bias"] {
            assert!(values[&format!("layer.self_attn.{name}")].1.iter().all(|&v| v == 0.0), "{name}");
        }
    }

    #[test]
    fn xavier_takes_both_sides() {
        let wanted = [Wanted::new("net.1.weight", [40, 30, 62, 1]), Wanted::new("out.weight", [40, 1040])];
        let values = initial_xavier(&wanted, 1);
        is_uniform(&values, "net.1.weight", (6.0 / (62.0 * 70.0_f64)).sqrt());
        is_uniform(&values, "out.weight", (6.0 / 1080.0_f64).sqrt());
    }

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let layers: [(&str, &[usize]); 2] = [("a.weight", &[3, 5]), ("b.weight", &[3, 5])];
        let first = one(&layers, 7);
        assert_eq!(first, one(&layers, 7));
        assert_eq!(first["b.weight"], one(&layers[1..], 7)["b.weight"], "whatever stands beside it");
        assert_ne!(first["a.weight"], first["b.weight"]);
        assert_ne!(first["a.weight"], one(&layers, 8)["a.weight"]);
        let optional = [Wanted::optional("a.weight", [3, 5])];
        assert!(initial(&optional, 7).is_empty());
    }
}
