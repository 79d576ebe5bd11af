//! What is compared: one table of ops and shapes, most of them of Stable Diffusion v1 as a video model.
//!
//! Shapes and values are in PyTorch's layouts (images are channels first, heads lie before tokens); each contestant
//! brings them into its own before it is timed.

use serde::{Deserialize, Serialize};

/// One row of the table.
pub struct Case {
    /// What is computed.
    pub op: Op,
    /// Where the shape comes from.
    pub from: &'static str,
}

/// Two clips of 6 frames with 36 x 64 latents in the UNet; one frame in the VAE's decoder.
pub const CASES: &[Case] = &[
    Case { op: Op::Matmul { m: 1024, k: 1024, n: 1024 }, from: "yardstick" },
    Case { op: linear(27648, 320, 320), from: "UNet level 1: out of attention" },
    Case { op: linear(27648, 320, 2560), from: "UNet level 1: into GEGLU" },
    Case { op: linear(6912, 640, 640), from: "UNet level 2: out of attention" },
    Case { op: linear(1728, 1280, 1280), from: "UNet level 3: out of attention" },
    Case {
        op: Op::Linear { rows: 924, k: 768, n: 320, bias: false },
        from: "UNet level 1: keys of 12 x 77 tokens",
    },
    Case { op: conv(12, [36, 64], 320, 320, 3), from: "UNet level 1" },
    Case { op: conv(12, [18, 32], 640, 640, 3), from: "UNet level 2" },
    Case { op: conv(12, [9, 16], 1280, 1280, 3), from: "UNet level 3" },
    Case { op: conv(1, [144, 256], 256, 256, 3), from: "VAE" },
    Case { op: conv(1, [288, 512], 128, 128, 3), from: "VAE" },
    Case { op: conv(12, [36, 64], 640, 320, 1), from: "UNet level 1: shortcut" },
    Case { op: attention(2, 2304, 2304, 40), from: "UNet level 1: self, one frame per clip" },
    Case { op: attention(12, 576, 576, 80), from: "UNet level 2: self" },
    Case { op: attention(12, 2304, 77, 40), from: "UNet level 1: text" },
    Case {
        op: Op::GroupNormSilu { images: 12, channels: 320, height: 36, width: 64, groups: 32 },
        from: "UNet level 1",
    },
    Case { op: Op::LayerNorm { rows: 27648, features: 320 }, from: "UNet level 1" },
];

const fn linear(rows: usize, k: usize, n: usize) -> Op {
    Op::Linear { rows, k, n, bias: true }
}

const fn conv(
    images: usize,
    [height, width]: [usize; 2],
    channels: usize,
    outputs: usize,
    kernel: usize,
) -> Op {
    Op::Conv { images, height, width, channels, outputs, kernel }
}

const fn attention(batch: usize, queries: usize, keys: usize, width: usize) -> Op {
    Op::Attention { batch, heads: 8, queries, keys, width }
}

/// An op with its sizes. [`Op::inputs`] has the shapes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
#[allow(missing_docs)] // sizes say what they are
pub enum Op {
    /// `a b`; both change with each call, so nothing may be prepared.
    Matmul { m: usize, k: usize, n: usize },
    /// `x weight^T + bias`
    Linear { rows: usize, k: usize, n: usize, bias: bool },
    /// With bias, step 1, padded so that the image keeps its size.
    Conv { images: usize, height: usize, width: usize, channels: usize, outputs: usize, kernel: usize },
    /// `softmax(q k^T / sqrt(width)) v` per head
    Attention { batch: usize, heads: usize, queries: usize, keys: usize, width: usize },
    /// `silu(group_norm(x))`
    GroupNormSilu { images: usize, channels: usize, height: usize, width: usize, groups: usize },
    /// Over the last axis.
    LayerNorm { rows: usize, features: usize },
}

/// Added to the variance by both norms.
pub const EPS: f64 = 1e-5;

impl Op {
    /// Shapes of the inputs: what is computed on, then weight and bias.
    pub fn inputs(&self) -> Vec<Vec<usize>> {
        match *self {
            Op::Matmul { m, k, n } => vec![vec![m, k], vec![k, n]],
            Op::Linear { rows, k, n, bias } => {
                let mut shapes = vec![vec![rows, k], vec![n, k]];
                shapes.extend(bias.then(|| vec![n]));
                shapes
            }
            Op::Conv { images, height, width, channels, outputs, kernel } => vec![
                vec![images, channels, height, width],
                vec![outputs, channels, kernel, kernel],
                vec![outputs],
            ],
            Op::Attention { batch, heads, queries, keys, width } => {
                let key = vec![batch, heads, keys, width];
                vec![vec![batch, heads, queries, width], key.clone(), key]
            }
            Op::GroupNormSilu { images, channels, height, width, .. } => {
                vec![vec![images, channels, height, width], vec![channels], vec![channels]]
            }
            Op::LayerNorm { rows, features } => vec![vec![rows, features], vec![features], vec![features]],
        }
    }

    /// The group of `--only` and of the mean.
    pub fn class(&self) -> &'static str {
        match self {
            Op::Matmul { .. } | Op::Linear { .. } => "matmul",
            Op::Conv { kernel: 1, .. } => "conv 1x1",
            Op::Conv { .. } => "conv 3x3",
            Op::Attention { .. } => "attention",
            Op::GroupNormSilu { .. } | Op::LayerNorm { .. } => "norm",
        }
    }

    /// Name and shape as the report shows them.
    pub fn label(&self) -> (&'static str, String) {
        match *self {
            Op::Matmul { m, k, n } => ("matmul", format!("[{m}, {k}] x [{k}, {n}]")),
            Op::Linear { rows, k, n, .. } => ("linear", format!("[{rows}, {k}] to {n}")),
            Op::Conv { images, height, width, channels, outputs, kernel } => {
                let name = if kernel == 1 { "conv 1x1" } else { "conv 3x3" };
                (name, format!("[{images}, {height}, {width}] {channels} to {outputs}"))
            }
            Op::Attention { batch, heads, queries, keys, width } => {
                ("attention", format!("batch {batch}, {queries} on {keys}, {heads} heads of {width}"))
            }
            Op::GroupNormSilu { images, channels, height, width, groups } => {
                ("group norm + SiLU", format!("[{images}, {height}, {width}, {channels}], {groups} groups"))
            }
            Op::LayerNorm { rows, features } => ("layer norm", format!("[{rows}, {features}]")),
        }
    }

    /// The work of one call, in billions, with its unit. Products count multiplications and additions (an
    /// attention's softmax is left out); norms count bytes, each value read once and written once.
    pub fn work(&self) -> (f64, &'static str) {
        let (amount, unit) = match *self {
            Op::Matmul { m, k, n } => (2 * m * k * n, "GFLOP"),
            Op::Linear { rows, k, n, .. } => (2 * rows * k * n, "GFLOP"),
            Op::Conv { images, height, width, channels, outputs, kernel } => {
                (2 * images * height * width * outputs * channels * kernel * kernel, "GFLOP")
            }
            Op::Attention { batch, heads, queries, keys, width } => {
                (4 * batch * heads * queries * keys * width, "GFLOP")
            }
            Op::GroupNormSilu { images, channels, height, width, .. } => {
                (8 * images * channels * height * width, "GB")
            }
            Op::LayerNorm { rows, features } => (8 * rows * features, "GB"),
        };
        (amount as f64 / 1e9, unit)
    }
}

/// A tensor on the host.
pub struct Input {
    /// In PyTorch's layout.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// Values of variance 1 around 0, the same in every run.
pub fn make_inputs(op: &Op) -> Vec<Input> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut value = || {
        // xorshift64; the upper bits as a number in -1..1, scaled to variance 1
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 3_f32.sqrt()
    };
    let make =
        |shape: Vec<usize>| Input { values: (0..shape.iter().product()).map(|_| value()).collect(), shape };
    op.inputs().into_iter().map(make).collect()
}

/// `[outer, a, b, inner]` -> `[outer, b, a, inner]`.
pub fn swap(values: &[f32], [a, b, inner]: [usize; 3]) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for block in values.chunks(a * b * inner) {
        for j in 0..b {
            for i in 0..a {
                let at = (i * b + j) * inner;
                out.extend_from_slice(&block[at..at + inner]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_changes_two_axes() {
        let values: Vec<f32> = (0..24).map(|v| v as f32).collect(); // [2, 3, 2, 2]
        let swapped = swap(&values, [3, 2, 2]);
        assert_eq!(swapped[..12], [0., 1., 4., 5., 8., 9., 2., 3., 6., 7., 10., 11.]);
        assert_eq!(swap(&swapped, [2, 3, 2]), values);
    }

    #[test]
    fn inputs_have_variance_1() {
        let inputs = make_inputs(&Op::LayerNorm { rows: 1000, features: 100 });
        let x = &inputs[0].values;
        let variance = x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32;
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
        assert_eq!(inputs[1].shape, [100]);
    }
}
