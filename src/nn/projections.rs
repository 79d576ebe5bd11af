//! Linear layers that read the same x: queries, keys and values of a token, what the time says to every resnet.

use super::{Linear, Weights};
use crate::error::Result;
use crate::ops::Packed;
use crate::tensor::Tensor;

/// Linear layers of one x. Where their weights come from a file, those of one width stand side by side and are one
/// product; where they learn, and may have adapters, each is one of its own.
pub struct Projections {
    groups: Vec<Group>,
    layers: usize,
}

/// Layers of one width, with the place of each among all.
struct Group {
    places: Vec<usize>,
    weights: Stack,
}

enum Stack {
    /// Weights `[layers * outputs, inputs]`, biases `[layers * outputs]`.
    Whole(Packed, Option<Tensor>),
    Apart(Vec<Linear>),
}

/// One of the layers.
pub struct Projection {
    /// Where `weight [outputs, inputs]` stands.
    pub weights: Weights,
    /// Its width.
    pub outputs: usize,
    /// `[outputs]`; all layers have one, or none has.
    pub bias: Option<Tensor>,
}

impl Projections {
    /// Loads the weights of layers that read `inputs` values.
    pub fn load(layers: &[Projection], inputs: usize) -> Result<Projections> {
        let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
        for (place, layer) in layers.iter().enumerate() {
            match groups.iter_mut().find(|(outputs, _)| *outputs == layer.outputs) {
                Some((_, places)) => places.push(place),
                None => groups.push((layer.outputs, vec![place])),
            }
        }
        let group = |(outputs, places): (usize, Vec<usize>)| {
            let own: Vec<&Projection> = places.iter().map(|&place| &layers[place]).collect();
            let sources: Vec<&Weights> = own.iter().map(|layer| &layer.weights).collect();
            let weights = match Weights::stacked(&sources, "weight", [outputs, inputs])? {
                Some(weight) => {
                    let biases: Option<Vec<&Tensor>> = own.iter().map(|layer| layer.bias.as_ref()).collect();
                    Stack::Whole(weight, biases.map(|biases| Tensor::concat(&biases, 0)).transpose()?)
                }
                None => {
                    let layer = |layer: &&Projection| {
                        let weight = layer.weights.matrix("weight", [outputs, inputs])?;
                        Ok(Linear::from_parts(weight, layer.bias.clone()))
                    };
                    Stack::Apart(own.iter().map(layer).collect::<Result<_>>()?)
                }
            };
            Ok(Group { places, weights })
        };
        let groups = groups.into_iter().map(group).collect::<Result<_>>()?;
        Ok(Projections { groups, layers: layers.len() })
    }

    /// [.., inputs] -> [.., outputs] of each layer, in the order they were given.
    pub fn forward(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let mut all: Vec<Option<Tensor>> = vec![None; self.layers];
        for group in &self.groups {
            let outputs = match &group.weights {
                Stack::Whole(weight, bias) => x.linear_stacked(weight, bias.as_ref(), group.places.len())?,
                Stack::Apart(layers) => layers.iter().map(|layer| layer.forward(x)).collect::<Result<_>>()?,
            };
            for (&place, output) in group.places.iter().zip(outputs) {
                all[place] = Some(output);
            }
        }
        Ok(all.into_iter().map(|output| output.expect("every layer is in a group")).collect())
    }
}
