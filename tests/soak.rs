//! Random shapes of everything that multiplies matrices, each against plain f64 loops, with guard words around every
//! buffer. `MINDREEL_CASES` sets how many of each op (default 15), `MINDREEL_SEED` where they begin; a failure names
//! the case, which `MINDREEL_SEED=case MINDREEL_CASES=1` runs alone.

mod common;

use mindreel::gpu::{Family, Gpu, Options};
use mindreel::ops::{Activation, ConvWeight, Epilogue, Packed, Sight, SourceType, Window};
use mindreel::tensor::{DType, Tensor};

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 1..=most, small ones more often.
    fn size(&mut self, most: usize) -> usize {
        let most = 1 + self.below(most);
        1 + self.below(most)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn flip(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// In [-1, 1), rounded to f16 where the case is in half precision.
    fn values(&mut self, count: usize, half: bool) -> Vec<f32> {
        let value = |v: u64| (v >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let round = |v: f32| if half { half::f16::from_f32(v).to_f32() } else { v };
        (0..count).map(|_| round(value(self.next()))).collect()
    }
}

fn tensor(gpu: &Gpu, shape: &[usize], values: &[f32], half: bool) -> Tensor {
    let dtype = if half { DType::F16 } else { DType::F32 };
    Tensor::new(gpu, shape, values).unwrap().cast(dtype).unwrap()
}

/// Sums of `k` products of values below 1, in f32, in another order; results in half precision are rounded once.
#[track_caller]
fn assert_close(y: &Tensor, want: &[f64], k: usize, half: bool, what: &str) {
    let got = y.cast(DType::F32).unwrap().to_vec().unwrap();
    assert_eq!(got.len(), want.len(), "{what}");
    let tolerance = 2e-6 + 1e-6 * (k as f64).sqrt() + if half { 1e-3 } else { 0.0 };
    for (at, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(error <= tolerance * want.abs().max(1.0), "{what}: at {at} wanted {want}, got {got}");
    }
}

/// What follows a product: bias, activation, residual, each there or not.
struct Finish {
    bias: Option<Vec<f32>>,
    silu: bool,
    residual: Option<Vec<f32>>,
}

impl Finish {
    fn draw(draw: &mut Draw, n: usize, count: usize, half: bool) -> Finish {
        Finish {
            bias: draw.flip().then(|| draw.values(n, false)),
            silu: draw.below(4) == 0,
            residual: draw.flip().then(|| draw.values(count, half)),
        }
    }

    fn on(&self, gpu: &Gpu, shape: &[usize], half: bool, run: impl Fn(Epilogue) -> Tensor) -> Tensor {
        let bias = self.bias.as_ref().map(|bias| Tensor::new(gpu, &[bias.len()], bias).unwrap());
        let residual = self.residual.as_ref().map(|residual| tensor(gpu, shape, residual, half));
        let activation = if self.silu { Activation::Silu } else { Activation::None };
        run(Epilogue { bias: bias.as_ref(), activation, residual: residual.as_ref() })
    }

    fn reference(&self, sums: Vec<f64>) -> Vec<f64> {
        let finish = |(at, sum): (usize, f64)| {
            let v = sum + self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[at % bias.len()]));
            let v = if self.silu { v / (1.0 + (-v).exp()) } else { v };
            v + self.residual.as_ref().map_or(0.0, |residual| f64::from(residual[at]))
        };
        sums.into_iter().enumerate().map(finish).collect()
    }
}

fn linear(gpu: &Gpu, draw: &mut Draw, half: bool, what: &str) {
    let (m, k, n) = (draw.size(300), draw.size(200), draw.size(200));
    let what = format!("{what}: linear [{m}, {k}] x [{n}, {k}] half {half}");
    let (x, w) = (draw.values(m * k, half), draw.values(n * k, half));
    let finish = Finish::draw(draw, n, m * n, half);
    let packed = Packed::from_bytes(gpu, [n, k, 1], SourceType::F32, bytemuck::cast_slice(&w), half).unwrap();
    let x_gpu = tensor(gpu, &[m, k], &x, half);
    let y = finish.on(gpu, &[m, n], half, |epilogue| x_gpu.linear(&packed, epilogue).unwrap());
    let dot = |row: &[f32], column: &[f32]| -> f64 {
        row.iter().zip(column).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let sums = x.chunks(k).flat_map(|row| w.chunks(k).map(move |column| dot(row, column))).collect();
    assert_close(&y, &finish.reference(sums), k, half, &what);
}

/// Several layers of one x, with widths that go together in one launch (whole vectors, parts that begin where bindings
/// may) more often than not.
fn stacked_layers(gpu: &Gpu, draw: &mut Draw, half: bool, what: &str) {
    let (parts, k) = (draw.size(4), draw.size(200));
    let (m, n) = match draw.below(4) {
        0 => (draw.size(300), draw.size(200)),
        _ => (4 * draw.size(70), 32 * draw.size(6)),
    };
    let what = format!("{what}: {parts} x linear [{m}, {k}] x [{n}, {k}] half {half}");
    let (x, w) = (draw.values(m * k, half), draw.values(parts * n * k, half));
    let bias = draw.flip().then(|| draw.values(parts * n, false));
    let bytes = bytemuck::cast_slice(&w);
    let packed = Packed::from_bytes(gpu, [parts * n, k, 1], SourceType::F32, bytes, half).unwrap();
    let bias_gpu = bias.as_ref().map(|bias| Tensor::new(gpu, &[bias.len()], bias).unwrap());
    let all = tensor(gpu, &[m, k], &x, half).linear_stacked(&packed, bias_gpu.as_ref(), parts).unwrap();
    assert_eq!(all.len(), parts, "{what}");
    for (part, y) in all.iter().enumerate() {
        let sum = |row: usize, column: usize| -> f64 {
            let column = part * n + column;
            let products = (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(w[column * k + i]));
            products.sum::<f64>() + bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]))
        };
        let want: Vec<f64> = (0..m * n).map(|at| sum(at / n, at % n)).collect();
        assert_close(y, &want, k, half, &format!("{what}, part {part}"));
    }
}

fn linear_geglu(gpu: &Gpu, draw: &mut Draw, half: bool, what: &str) {
    // Widths that values pair in, and some that they do not.
    let (m, k, n) = (draw.size(300), draw.size(200), draw.size(25) * if draw.below(4) == 0 { 2 } else { 8 });
    let what = format!("{what}: linear [{m}, {k}] x [{n}, {k}] geglu half {half}");
    let (x, w) = (draw.values(m * k, half), draw.values(n * k, half));
    let bias = draw.flip().then(|| draw.values(n, false));
    let packed = Packed::gated(gpu, [n, k], SourceType::F32, bytemuck::cast_slice(&w), half).unwrap();
    let bias_gpu = bias.as_ref().map(|bias| Tensor::new(gpu, &[n], bias).unwrap());
    let y = tensor(gpu, &[m, k], &x, half).linear_geglu(&packed, bias_gpu.as_ref()).unwrap();
    let sum = |row: usize, column: usize| {
        let products = (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(w[column * k + i]));
        products.sum::<f64>() + bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]))
    };
    // Unpaired widths round values and gates, too.
    let roundings = if half && (n <= 32 || n % 8 != 0) { 3.0 } else { 1.0 };
    let results = (0..m * n / 2).map(|at| {
        let (row, column) = (at / (n / 2), at % (n / 2));
        let (value, gate) = (sum(row, column), gelu(sum(row, n / 2 + column)));
        // The errors of both sums, each times the other.
        let size = 1.0_f64.max(value.abs()).max(gate.abs()).max((value * gate).abs());
        (value * gate, roundings * size)
    });
    let (want, sizes): (Vec<f64>, Vec<f64>) = results.unzip();
    let scaled = |v: Vec<f32>| v.iter().zip(&sizes).map(|(v, size)| v / *size as f32).collect::<Vec<_>>();
    let got = scaled(y.cast(DType::F32).unwrap().to_vec().unwrap());
    let want: Vec<f64> = want.iter().zip(&sizes).map(|(v, size)| v / size).collect();
    assert_close(&Tensor::new(gpu, &[got.len()], &got).unwrap(), &want, 4 * k, half, &what);
}

/// v Phi(v), erf by its series; beyond 6 it is v or nothing.
fn gelu(v: f64) -> f64 {
    if v.abs() > 6.0 {
        return v.max(0.0);
    }
    let x = v / 2_f64.sqrt();
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    0.5 * v * (1.0 + 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum)
}

fn matmul(gpu: &Gpu, draw: &mut Draw, half: bool, what: &str) {
    let (batch, m, k, n) = (draw.size(4), draw.size(90), draw.size(120), draw.size(140));
    let (transposed, shared) = (draw.flip(), draw.below(4) == 0);
    let what = format!("{what}: matmul {batch} x [{m}, {k}, {n}] {transposed} {shared} half {half}");
    let rights = if shared { 1 } else { batch };
    let (a, b) = (draw.values(batch * m * k, half), draw.values(rights * k * n, half));
    let sides = if transposed { [n, k] } else { [k, n] };
    let outer = if shared { vec![] } else { vec![batch] };
    let left = tensor(gpu, &[batch, m, k], &a, half);
    let y = left.matmul(&tensor(gpu, &[&outer[..], &sides].concat(), &b, half), transposed).unwrap();
    let want: Vec<f64> = (0..batch * m * n)
        .map(|at| {
            let (row, column) = (at / n, at % n);
            let right = if shared { 0 } else { at / (m * n) * k * n };
            let b_at = |i: usize| right + if transposed { column * k + i } else { i * n + column };
            (0..k).map(|i| f64::from(a[row * k + i]) * f64::from(b[b_at(i)])).sum()
        })
        .collect();
    assert_close(&y, &want, k, half, &what);
}

fn conv2d(gpu: &Gpu, draw: &mut Draw, half: bool, what: &str) {
    // Grouped weights are f32, and take a plain bias alone.
    let groups = if !half && draw.below(5) == 0 { draw.size(4) } else { 1 };
    let kernel = match draw.below(4) {
        0 => [1, 1],
        1 | 2 => [3, 3],
        _ => [draw.size(5), draw.size(5)],
    };
    let mut axis = || match draw.below(3) {
        0 => [1, 1],
        1 => [2, 1],
        _ => [draw.size(3), if groups > 1 { 1 } else { draw.size(3) }],
    };
    let [[stride_y, dilation_y], [stride_x, dilation_x]] = [axis(), axis()];
    let padding = [0; 4].map(|_: usize| draw.below(3));
    let window = Window { stride: [stride_y, stride_x], padding, dilation: [dilation_y, dilation_x] };
    let reach = |i: usize| (kernel[i] - 1) * window.dilation[i] + 1;
    let height = draw.size(14) + reach(0).saturating_sub(padding[0] + padding[1] + 1);
    let width = draw.size(14) + reach(1).saturating_sub(padding[2] + padding[3] + 1);
    let per_group = draw.size(if groups > 1 { 6 } else { 40 });
    let (images, outputs) = (draw.size(3), groups * draw.size(if groups > 1 { 6 } else { 80 }));
    let channels = groups * per_group;
    let [ky, kx] = kernel;
    let out = [
        (height + padding[0] + padding[1] - reach(0)) / stride_y + 1,
        (width + padding[2] + padding[3] - reach(1)) / stride_x + 1,
    ];
    let what = format!(
        "{what}: conv2d [{images}, {height}, {width}, {channels}] -> {outputs}, kernel {kernel:?}, {window:?}, \
         groups {groups}, half {half}"
    );
    let x = draw.values(images * height * width * channels, half);
    let w = draw.values(outputs * per_group * ky * kx, half);
    let count = images * out[0] * out[1] * outputs;
    let mut finish = Finish::draw(draw, outputs, count, half);
    if groups > 1 {
        (finish.silu, finish.residual) = (false, None);
    }
    let shape = [outputs, per_group, ky, kx];
    let bytes = bytemuck::cast_slice(&w);
    let weight = ConvWeight::from_bytes(gpu, shape, groups, SourceType::F32, bytes, half).unwrap();
    // Grouped kernels walk undilated windows.
    let window = if groups > 1 { Window { dilation: [1, 1], ..window } } else { window };
    let image = tensor(gpu, &[images, height, width, channels], &x, half);
    let y_shape = [images, out[0], out[1], outputs];
    let y = finish.on(gpu, &y_shape, half, |epilogue| image.conv2d(&weight, window, epilogue).unwrap());
    assert_eq!(y.shape(), y_shape, "{what}");
    let mut sums = vec![0.0; count];
    for (at, sum) in sums.iter_mut().enumerate() {
        let (output, pixel) = (at % outputs, at / outputs);
        let (ox, oy, n) = (pixel % out[1], pixel / out[1] % out[0], pixel / out[1] / out[0]);
        let first = output / (outputs / groups) * per_group;
        for tap in 0..ky * kx {
            let y_at = oy * stride_y + tap / kx * window.dilation[0];
            let x_at = ox * stride_x + tap % kx * window.dilation[1];
            let inside = (padding[0]..height + padding[0]).contains(&y_at)
                && (padding[2]..width + padding[2]).contains(&x_at);
            if !inside {
                continue;
            }
            let pixel = (n * height + y_at - padding[0]) * width + x_at - padding[2];
            for c in 0..per_group {
                let value = x[pixel * channels + first + c];
                *sum += f64::from(value) * f64::from(w[(output * per_group + c) * ky * kx + tap]);
            }
        }
    }
    assert_close(&y, &finish.reference(sums), per_group * ky * kx, half, &what);
}

fn attention(gpu: &Gpu, draw: &mut Draw, half: bool, what: &str) {
    let (images, heads) = (draw.size(3), draw.size(3));
    let width = match draw.below(6) {
        0 => 40,
        1 => 64,
        2 => 8,
        _ => draw.size(48),
    };
    let causal = draw.below(4) == 0;
    let queries = draw.size(80);
    let (shared, keys) = match causal {
        true => (false, queries),
        false => (draw.flip(), draw.size(90)),
    };
    let channels = heads * width;
    let what = format!(
        "{what}: attention {images} x [{queries}, {keys}] x {heads} of {width}, {causal} {shared} {half}"
    );
    let sets = if shared { 1 } else { images };
    let q = draw.values(images * queries * channels, half);
    let (k, v) = (draw.values(sets * keys * channels, half), draw.values(sets * keys * channels, half));
    let side = |values: &[f32]| tensor(gpu, &[sets, keys, channels], values, half);
    let sight = if causal { Sight::Causal } else { Sight::All };
    let q_gpu = tensor(gpu, &[images, queries, channels], &q, half);
    let y = q_gpu.attention(&side(&k), &side(&v), heads, None, sight).unwrap();
    let mut want = vec![0.0; q.len()];
    for at in 0..images * queries * heads {
        let (head, query, image) = (at % heads, at / heads % queries, at / heads / queries);
        let set = if shared { 0 } else { image };
        let key_at = |key: usize, i: usize| (set * keys + key) * channels + head * width + i;
        let q_at = (image * queries + query) * channels + head * width;
        let seen = if causal { query + 1 } else { keys };
        let score = |key: usize| -> f64 {
            let products = (0..width).map(|i| f64::from(q[q_at + i]) * f64::from(k[key_at(key, i)]));
            (products.sum::<f64>() / (width as f64).sqrt()).exp()
        };
        let scores: Vec<f64> = (0..seen).map(score).collect();
        let total: f64 = scores.iter().sum();
        for i in 0..width {
            let sum: f64 = scores.iter().enumerate().map(|(key, s)| s * f64::from(v[key_at(key, i)])).sum();
            want[q_at + i] = sum / total;
        }
    }
    assert_close(&y, &want, width + keys, half, &what);
}

/// The device as asked for, and the family that runs everywhere, both with guards.
fn devices() -> Vec<Gpu> {
    if common::gpu().is_none() {
        return Vec::new();
    }
    let asked = Options { guards: true, ..Options::from_env().unwrap() };
    let plain = Options { family: Some(Family::Tiled), ..asked.clone() };
    let first = Gpu::open(&asked).unwrap();
    let second = (first.facts().family != Family::Tiled).then(|| Gpu::open(&plain).unwrap());
    std::iter::once(first).chain(second).collect()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn soak(op: fn(&Gpu, &mut Draw, bool, &str)) {
    let (cases, seed) = (number("MINDREEL_CASES", 15), number("MINDREEL_SEED", 1));
    for gpu in devices() {
        let family = gpu.facts().family;
        eprintln!("{cases} cases from seed {seed} on, kernels '{family}'");
        for (done, case) in (seed..seed + cases).enumerate() {
            let mut draw = Draw(case.wrapping_mul(0xD1B5_4A32_D192_ED03));
            let half = draw.below(3) == 0 && gpu.facts().features.f16;
            op(&gpu, &mut draw, half, &format!("case {case}, kernels '{family}'"));
            if done % 25 == 24 || done + 1 == cases as usize {
                gpu.trim().unwrap();
                let broken = gpu.broken_guards().unwrap();
                assert!(broken.is_empty(), "guards, case {case} or up to 24 before: {}", broken.join("; "));
            }
        }
    }
}

#[test]
fn linear_layers() {
    soak(linear);
}

#[test]
fn layers_of_one_input() {
    soak(stacked_layers);
}

#[test]
fn gated_linear_layers() {
    soak(linear_geglu);
}

#[test]
fn matrix_products() {
    soak(matmul);
}

#[test]
fn convolutions() {
    soak(conv2d);
}

#[test]
fn attentions() {
    soak(attention);
}
