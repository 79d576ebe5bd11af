//! What tests share: a device, seeded values, comparisons with f64 references, shader checks.

use crate::error::Result;
use crate::gpu::{Checks, Family, Gpu, Kernel, Options, Scalar, Variant};
use crate::tensor::Tensor;
use std::collections::HashMap;
use std::sync::OnceLock;

/// The device tests run on, opened once; `None`, said aloud, where there is none. `MINDREEL_REQUIRE_GPU=1`
/// turns that into a failure.
pub(crate) fn gpu() -> Option<Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| match Options::from_env().and_then(|options| Gpu::open(&options)) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            assert!(std::env::var_os("MINDREEL_REQUIRE_GPU").is_none(), "a GPU is required: {error}");
            eprintln!("skipped: {error}");
            None
        }
    })
    .clone()
}

/// A device of its own, opened with these options; for tests that count memory or leave features out.
pub(crate) fn gpu_with(options: Options) -> Option<Gpu> {
    gpu()?;
    let asked = Options::from_env().expect("the shared device opened");
    // A family that was asked for goes where the options take its ground away.
    let family = options.family.or(asked
        .family
        .filter(|&family| family == Family::Tiled || !(options.without_subgroups || options.without_f16)));
    let checks = if options.checks == Checks::Auto { asked.checks } else { options.checks };
    let options = Options { adapter: asked.adapter, family, checks, ..options };
    Some(Gpu::open(&options).expect("the shared device opened"))
}

/// erf by its series of positive terms: 2 / sqrt(pi) exp(-x^2) sum 2^n x^(2n+1) / (1 3 5 .. 2n+1).
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// v (1 + erf(v / sqrt 2)) / 2.
pub(crate) fn gelu(v: f64) -> f64 {
    0.5 * v * (1.0 + erf(v / 2_f64.sqrt()))
}

/// Values of this shape in [-scale, scale), the same every time.
pub(crate) fn random(shape: &[usize], scale: f32) -> Vec<f32> {
    let count: usize = shape.iter().product();
    random_from(count as u64 ^ 0x5eed, count, scale)
}

/// `count` values in [-scale, scale) from a seed.
pub(crate) fn random_from(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0;
            unit * scale
        })
        .collect()
}

/// Every value within `tolerance` of the reference, relative to the larger of 1 and its size.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: number of values");
    for (at, (&g, &w)) in got.iter().zip(want).enumerate() {
        let allowed = tolerance * w.abs().max(1.0);
        assert!((f64::from(g) - w).abs() <= allowed, "{what}: at {at} wanted {w}, got {g}");
    }
}

/// Gradients of `forward` against finite differences of `reference`, its twin in f64, with a random dy of its output's
/// shape. `inputs` are shapes and values; values lie away from kinks. What `forward` gets are parameters.
///
/// Each element of the gradients, or 40 of them spread over a large input, lies within `tolerance` of the difference,
/// relative to the larger of 1 and its size.
#[track_caller]
pub(crate) fn assert_gradients(
    gpu: &Gpu,
    inputs: &[(&[usize], &[f32])],
    forward: impl Fn(&[Tensor]) -> Result<Tensor>,
    reference: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    tolerance: f64,
    what: &str,
) {
    let parameters: Vec<Tensor> =
        inputs.iter().map(|(shape, values)| Tensor::new(gpu, shape, values).unwrap().parameter()).collect();
    let y = forward(&parameters).unwrap_or_else(|error| panic!("{what}: {error}"));
    let dy = random_from(0xd1, y.len(), 1.0);
    let got = gradients(&y, Tensor::new(gpu, y.shape(), &dy).unwrap(), &parameters);
    let mut values: Vec<Vec<f64>> =
        inputs.iter().map(|(_, values)| values.iter().map(|&v| v.into()).collect()).collect();
    let loss = |values: &[Vec<f64>]| {
        let y = reference(values);
        assert_eq!(y.len(), dy.len(), "{what}: values of the reference");
        y.iter().zip(&dy).map(|(y, &dy)| y * f64::from(dy)).sum::<f64>()
    };
    for input in 0..inputs.len() {
        let n = values[input].len();
        assert_eq!(got[input].len(), n, "{what}: gradient {input}");
        for at in (0..n).step_by(n.div_ceil(40).max(1)) {
            let (x, step) = (values[input][at], 1e-4);
            values[input][at] = x + step;
            let above = loss(&values);
            values[input][at] = x - step;
            let below = loss(&values);
            values[input][at] = x;
            let (want, got) = ((above - below) / (2.0 * step), f64::from(got[input][at]));
            assert!(
                (got - want).abs() <= tolerance * want.abs().max(1.0),
                "{what}: gradient {input} at {at} wanted {want}, got {got}"
            );
        }
    }
}

/// Gradients of these parameters from y and its gradient: the walk back in its plainest form, sums on the host.
pub(crate) fn gradients(y: &Tensor, dy: Tensor, parameters: &[Tensor]) -> Vec<Vec<f32>> {
    fn order(tensor: &Tensor, seen: &mut Vec<usize>, out: &mut Vec<Tensor>) {
        if tensor.wants_gradient() && !seen.contains(&tensor.node()) {
            seen.push(tensor.node());
            tensor.made().iter().flat_map(|made| &made.inputs).for_each(|input| order(input, seen, out));
            out.push(tensor.clone());
        }
    }
    let (mut seen, mut nodes) = (Vec::new(), Vec::new());
    order(y, &mut seen, &mut nodes);
    let mut sums: HashMap<usize, Vec<f32>> = HashMap::from([(y.node(), dy.to_vec().unwrap())]);
    for node in nodes.iter().rev() {
        let (Some(made), Some(sum)) = (node.made(), sums.get(&node.node())) else { continue };
        let dy = Tensor::new(y.gpu(), node.shape(), sum).unwrap().cast(node.dtype()).unwrap();
        let found = (made.backward)(node, &dy).unwrap();
        assert_eq!(found.len(), made.inputs.len(), "one gradient for each input");
        for (input, gradient) in made.inputs.iter().zip(found).filter(|(input, _)| input.wants_gradient()) {
            let Some(gradient) = gradient else { continue };
            assert_eq!(gradient.shape(), input.shape(), "a gradient has the shape of its input");
            assert_eq!(gradient.dtype(), input.dtype(), "a gradient has the type of its input");
            let gradient = gradient.to_vec().unwrap();
            match sums.get_mut(&input.node()) {
                Some(sum) => sum.iter_mut().zip(gradient).for_each(|(sum, more)| *sum += more),
                None => _ = sums.insert(input.node(), gradient),
            }
        }
    }
    let zeros = |parameter: &Tensor| vec![0.0; parameter.len()];
    parameters.iter().map(|p| sums.get(&p.node()).cloned().unwrap_or_else(|| zeros(p))).collect()
}

/// The kernel parses and validates in each number type and width, and its `Params` has these fields and offsets.
#[track_caller]
pub(crate) fn shader_twin(kernel: &Kernel, fields: &[(&str, usize)]) {
    for scalar in [Scalar::F32, Scalar::F16] {
        for width in [1, 4] {
            let variant = Variant { scalar, width, workgroup: 64 };
            let text = kernel.program(variant).text(true);
            validate(&format!("{} {variant:?}", kernel.name), &text, fields);
        }
    }
}

/// WGSL that naga takes, whose `Params` has these fields and offsets.
#[track_caller]
pub(crate) fn validate(label: &str, text: &str, fields: &[(&str, usize)]) {
    let module = naga::front::wgsl::parse_str(text)
        .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(text)));
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(text)));
    let params = module
        .types
        .iter()
        .find_map(|(_, kind)| match (&kind.name, &kind.inner) {
            (Some(name), naga::TypeInner::Struct { members, .. }) if name == "Params" => Some(members),
            _ => None,
        })
        .unwrap_or_else(|| panic!("{label}: no Params"));
    let found: Vec<_> =
        params.iter().map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize)).collect();
    let wanted: Vec<_> = fields.iter().map(|(name, at)| (name.to_string(), *at)).collect();
    assert_eq!(found, wanted, "{label}: Params");
}

/// WGSL that naga turns into SPIR-V, as Vulkan drivers get it: kernels that no adapter at hand runs.
#[track_caller]
pub(crate) fn translate(label: &str, text: &str) {
    let module = naga::front::wgsl::parse_str(text)
        .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(text)));
    let info =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all())
            .validate(&module)
            .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(text)));
    let options = naga::back::spv::Options { lang_version: (1, 4), ..Default::default() };
    naga::back::spv::write_vec(&module, &info, &options, None)
        .unwrap_or_else(|error| panic!("{label}: no SPIR-V: {error}"));
}
