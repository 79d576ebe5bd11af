//! What the way back costs: forward and backward of the models' convolutions and linear layers, by the wall clock.
//!
//! `cargo bench --bench gradients` prints a table; backward gives the gradients of x, weight and bias, from weights as
//! they come from an optimizer (not packed). Backward over forward at most 2.5 is what we aim at.
//!
//! `-- --ops` lists, under each layer, the ops of one forward and backward and how long the device took for each;
//! `-- WORD` measures only layers whose name has the word.

use mindreel::error::Result;
use mindreel::gpu::{Gpu, Options};
use mindreel::nn::{Conv2d, Linear, Parameters, Precision, Weights};
use mindreel::ops::Window;
use mindreel::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// One layer: name, shape of x, shape of its weight, step. A single channel is a signal that came from outside: it wants
/// no gradient.
struct Case {
    name: &'static str,
    x: &'static [usize],
    weight: &'static [usize],
    stride: usize,
}

impl Case {
    fn is_input(&self) -> bool {
        self.x.last() == Some(&1)
    }
}

/// Of Stable Diffusion's UNet on 6 frames, its VAE, and a ShallowNet batch.
const CASES: [Case; 10] = [
    Case { name: "UNet 3x3, 320 at 36x64", x: &[6, 36, 64, 320], weight: &[320, 320, 3, 3], stride: 1 },
    Case { name: "UNet 3x3, 640 at 18x32", x: &[6, 18, 32, 640], weight: &[640, 640, 3, 3], stride: 1 },
    Case { name: "UNet 3x3, 1280 at 9x16", x: &[6, 9, 16, 1280], weight: &[1280, 1280, 3, 3], stride: 1 },
    Case { name: "UNet 3x3 step 2, 320", x: &[6, 36, 64, 320], weight: &[320, 320, 3, 3], stride: 2 },
    Case { name: "UNet 1x1, 640 to 320", x: &[6, 36, 64, 640], weight: &[320, 640, 1, 1], stride: 1 },
    Case { name: "VAE 3x3, 128 at 96x96", x: &[1, 96, 96, 128], weight: &[128, 128, 3, 3], stride: 1 },
    Case { name: "VAE 3x3, 256 at 48x48", x: &[1, 48, 48, 256], weight: &[256, 256, 3, 3], stride: 1 },
    Case { name: "EEG 1x25 over time", x: &[128, 62, 200, 1], weight: &[40, 1, 1, 25], stride: 1 },
    Case { name: "linear 320 to 2560", x: &[13824, 320], weight: &[2560, 320], stride: 1 },
    Case { name: "linear 1280 to 320", x: &[13824, 1280], weight: &[320, 1280], stride: 1 },
];

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (options, words): (Vec<_>, Vec<_>) = words.into_iter().partition(|word| word.starts_with("--"));
    let with_ops = options.iter().any(|option| option == "--ops");
    let gpu = Gpu::open(&Options::default())?;
    println!("{}\n", gpu.facts().name);
    println!("| layer | forward | forward and backward | backward / forward |");
    println!("|---|---|---|---|");
    for case in CASES.iter().filter(|case| words.iter().all(|word| case.name.contains(word))) {
        let (forward, both) = measure(&gpu, case)?;
        println!(
            "| {} | {:.1} ms | {:.1} ms | {:.2} |",
            case.name,
            forward * 1e3,
            both * 1e3,
            both / forward - 1.0
        );
        if with_ops {
            let listener = gpu.listen()?;
            step(&gpu, case, &Sides::new(&gpu, case)?, true)?;
            for op in listener.finish()?.ops {
                println!("    {:8.1} ms  {}", op.seconds() * 1e3, op.label);
            }
        }
    }
    Ok(())
}

/// What a layer is given.
struct Sides {
    parameters: Arc<Parameters>,
    x: Tensor,
}

impl Sides {
    fn new(gpu: &Gpu, case: &Case) -> Result<Sides> {
        let values = |shape: &[usize]| Tensor::normal(gpu, shape, 1, 0);
        let named = [("weight", values(case.weight)?), ("bias", values(&case.weight[..1])?)];
        let parameters: BTreeMap<String, Tensor> =
            named.into_iter().map(|(name, tensor)| (name.to_string(), tensor.parameter())).collect();
        let x = values(case.x)?;
        Ok(Sides {
            parameters: Arc::new(Parameters::new(parameters)),
            x: if case.is_input() { x } else { x.parameter() },
        })
    }
}

/// Forward, and backward where both are wanted; by the wall clock.
fn step(gpu: &Gpu, case: &Case, sides: &Sides, is_both: bool) -> Result<f64> {
    gpu.wait()?;
    let start = Instant::now();
    let weights = Weights::from_parameters(gpu, &sides.parameters, Precision::F32, None);
    let y = match *case.weight {
        [outputs, inputs] => Linear::load(&weights, inputs, outputs)?.forward(&sides.x)?,
        [outputs, inputs, ky, kx] => {
            let window = Window { stride: [case.stride; 2], ..Window::padded(ky.min(kx) / 2) };
            Conv2d::load(&weights, inputs, outputs, [ky, kx], window)?.forward(&sides.x)?
        }
        _ => unreachable!("weights are matrices or convolutions"),
    };
    if is_both {
        let gradients = y.backward_from(&y.detach())?;
        let wanted = if case.is_input() { 2 } else { 3 };
        assert_eq!(gradients.len(), wanted, "{}", case.name);
    }
    gpu.wait()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Median seconds of forward alone, and of forward and backward; in turns, so that both meet the same machine.
fn measure(gpu: &Gpu, case: &Case) -> Result<(f64, f64)> {
    let sides = Sides::new(gpu, case)?;
    let run = |is_both| step(gpu, case, &sides, is_both);
    for is_both in [false, true] {
        run(is_both)?;
    }
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..7 {
        for is_both in [false, true] {
            times[usize::from(is_both)].push(run(is_both)?);
        }
    }
    let [forward, both] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    Ok((forward, both))
}
