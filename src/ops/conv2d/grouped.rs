//! Grouped convolutions, there and back: one result, or one element of a gradient, per invocation.

use super::Window;
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Variant, Work};
use crate::ops::gemm::{self, Epilogue};
use crate::ops::unary::Activation;
use crate::ops::{MAX_TURNS, common, params, shaders};
use crate::tensor::{DType, Tensor};
use std::ops::Range;

const SOURCES: &[&str] = &[shaders!("conv2d"), common::INDEX];
const FORWARD: Kernel = Kernel::new("conv2d", "grouped", SOURCES);
const INPUT: Kernel = Kernel::new("conv2d", "grouped_input", SOURCES);
const WEIGHT: Kernel = Kernel::new("conv2d", "grouped_weight", SOURCES);

params! {
    struct Params {
        count: u32,
        channels: u32,
        per_group: u32,
        outputs: u32,
        height: u32,
        width: u32,
        out_height: u32,
        out_width: u32,
        kernel_height: u32,
        kernel_width: u32,
        stride_y: u32,
        stride_x: u32,
        pad_top: u32,
        pad_left: u32,
        has_bias: u32,
        span: u32,
        spans: u32,
        segments: u32,
        chunk: u32,
    }
}

/// Output pixels that one invocation sums up for a weight: few, so that sums stay accurate and many share the work.
const PIXELS: usize = 512;
/// Parts of the sums of all weights that are held at once, unless one weight alone has more.
const PARTS: usize = 4 << 20;

/// The sizes of a grouped convolution.
#[derive(Clone, Copy)]
struct Sizes {
    x: [usize; 4],
    y: [usize; 4],
    taps: [usize; 4],
    window: Window,
}

impl Sizes {
    fn params(&self, count: usize) -> Params {
        let ([_, height, width, channels], [_, out_height, out_width, outputs]) = (self.x, self.y);
        let [kernel_height, kernel_width, per_group, _] = self.taps;
        Params {
            count: count as u32,
            channels: channels as u32,
            per_group: per_group as u32,
            outputs: outputs as u32,
            height: height as u32,
            width: width as u32,
            out_height: out_height as u32,
            out_width: out_width as u32,
            kernel_height: kernel_height as u32,
            kernel_width: kernel_width as u32,
            stride_y: self.window.stride[0] as u32,
            stride_x: self.window.stride[1] as u32,
            pad_top: self.window.padding[0] as u32,
            pad_left: self.window.padding[2] as u32,
            has_bias: 0,
            span: 0,
            spans: 0,
            segments: 0,
            chunk: 0,
        }
    }

    /// Elements of an image of x, and of one of y.
    fn image(&self) -> [usize; 2] {
        [self.x, self.y].map(|shape| shape[1..].iter().product())
    }

    /// Terms of all results of these images.
    fn flops(&self, images: &Range<usize>) -> u64 {
        let [kernel_height, kernel_width, per_group, _] = self.taps;
        2 * (images.len() * self.image()[1]) as u64 * (kernel_height * kernel_width * per_group) as u64
    }

    /// Images whose x and y fit a binding together.
    fn windows(&self, x: &Tensor) -> Result<Vec<Range<usize>>> {
        let bytes = self.image().map(|elements| elements * x.dtype().bytes());
        x.gpu().row_windows("conv2d", self.x[0], &bytes)
    }
}

/// Refuses sums longer than a kernel may walk.
fn check_turns(what: &str, turns: usize) -> Result<()> {
    if turns <= MAX_TURNS {
        return Ok(());
    }
    Err(Error::Limit {
        what: format!("conv2d: {what}"),
        needed: turns as u64,
        available_what: "the longest sum a kernel may walk".into(),
        available: MAX_TURNS as u64,
    })
}

impl Tensor {
    /// The convolution with weights `[kernel y, kernel x, channels per group, outputs]`; `shape` is the output's.
    pub(super) fn grouped(
        &self,
        taps: &Tensor,
        groups: usize,
        window: Window,
        epilogue: &Epilogue,
        shape: [usize; 4],
    ) -> Result<Tensor> {
        let plain = epilogue.activation == Activation::None
            && epilogue.residual.is_none()
            && epilogue.bias.is_none_or(|bias| bias.rank() == 1)
            && window.dilation == [1, 1];
        if !plain {
            return Err(Error::shape("conv2d", "a grouped convolution takes a plain bias and nothing else"));
        }
        let four = |x: &Tensor| <[usize; 4]>::try_from(x.shape()).expect("convolutions have four axes");
        let sizes = Sizes { x: four(self), y: shape, taps: four(taps), window };
        let [kernel_height, kernel_width, per_group, outputs] = sizes.taps;
        check_turns("a grouped window", kernel_height * kernel_width * per_group)?;
        let y = Tensor::empty(self.gpu(), &shape, self.dtype())?;
        let variant =
            Variant { scalar: self.scalar("conv2d")?, width: 1, workgroup: self.gpu().flat_workgroup() };
        let [x_image, y_image] = sizes.image();
        for images in sizes.windows(self)? {
            let out = y.window(images.start * y_image..images.end * y_image);
            let count = images.len() * y_image;
            let params = Params { has_bias: epilogue.bias.is_some().into(), ..sizes.params(count) };
            self.gpu().run(&Launch {
                program: FORWARD.program(variant),
                params: params.as_bytes(),
                inputs: &[
                    self.window(images.start * x_image..images.end * x_image),
                    taps.binding(),
                    epilogue.bias.unwrap_or(taps).binding(),
                ],
                outputs: &[out],
                groups: self.gpu().grid("conv2d", count.div_ceil(variant.workgroup as usize) as u64)?,
                work: Work {
                    flops: sizes.flops(&images),
                    bytes: (images.len() * (x_image + y_image) * self.dtype().bytes()) as u64 + taps.bytes(),
                },
            })?;
        }
        let bias = epilogue.bias;
        let wants = [self, taps, bias.unwrap_or(taps)].map(Tensor::wants_gradient);
        if !wants.contains(&true) {
            return Ok(y);
        }
        let (x, w) = (self.detach(), taps.detach());
        let wants = [wants[0], wants[1], bias.is_some() && wants[2]];
        Ok(y.made_by([self, taps, bias.unwrap_or(taps)], move |_, dy| {
            let dx = || sizes.input_gradient(&w, dy, outputs / groups);
            let dw = || sizes.weight_gradient(&x, dy);
            let db = || gemm::bias_gradient(&dy.reshape(&[dy.len() / outputs, outputs])?, &[outputs]);
            Ok([
                wants[0].then(dx).transpose()?,
                wants[1].then(dw).transpose()?,
                wants[2].then(db).transpose()?,
            ])
        }))
    }
}

impl Sizes {
    /// dx: a sum over the windows that look at a pixel and the outputs of its group.
    fn input_gradient(&self, taps: &Tensor, dy: &Tensor, per_group: usize) -> Result<Tensor> {
        let gpu = dy.gpu();
        let _op = gpu.op(|| format!("conv2d gradient of grouped x {:?}", self.x));
        check_turns("the windows of a pixel", self.taps[0] * self.taps[1] * per_group)?;
        let dx = Tensor::empty(gpu, &self.x, dy.dtype())?;
        let variant = Variant { scalar: dy.scalar("conv2d")?, width: 1, workgroup: gpu.flat_workgroup() };
        let [x_image, y_image] = self.image();
        for images in self.windows(dy)? {
            let count = images.len() * x_image;
            gpu.run(&Launch {
                program: INPUT.program(variant),
                params: self.params(count).as_bytes(),
                inputs: &[dy.window(images.start * y_image..images.end * y_image), taps.binding()],
                outputs: &[dx.window(images.start * x_image..images.end * x_image)],
                groups: gpu.grid("conv2d", count.div_ceil(variant.workgroup as usize) as u64)?,
                work: Work {
                    flops: self.flops(&images),
                    bytes: (images.len() * (x_image + y_image) * dy.dtype().bytes()) as u64 + taps.bytes(),
                },
            })?;
        }
        Ok(dx)
    }

    /// dw: sums over slices of the output pixels, then over the slices.
    fn weight_gradient(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let gpu = x.gpu();
        let _op = gpu.op(|| format!("conv2d gradient of grouped weight {:?}", self.taps));
        let weights: usize = self.taps.iter().product();
        let variant = Variant { scalar: x.scalar("conv2d")?, width: 1, workgroup: gpu.flat_workgroup() };
        let [x_image, y_image] = self.image();
        let [_, out_height, out_width, _] = self.y;
        let span = out_width.clamp(1, PIXELS);
        let spans = out_width.div_ceil(span);
        let mut sum: Option<Tensor> = None;
        for images in self.windows(x)? {
            let segments = images.len() * out_height * spans;
            // As few segments as leave the parts few enough, and no more than a kernel may walk.
            let few = segments.div_ceil((PARTS / weights.max(1)).max(1));
            let chunk = few.max(PIXELS / span).min((MAX_TURNS / (span + 1)).max(1)).max(1);
            let slices = segments.div_ceil(chunk);
            let shape = [&[slices][..], &self.taps].concat();
            let parts = Tensor::empty(gpu, &shape, DType::F32)?;
            let params = Params {
                span: span as u32,
                spans: spans as u32,
                segments: segments as u32,
                chunk: chunk as u32,
                ..self.params(parts.len())
            };
            gpu.run(&Launch {
                program: WEIGHT.program(variant),
                params: params.as_bytes(),
                inputs: &[
                    x.window(images.start * x_image..images.end * x_image),
                    dy.window(images.start * y_image..images.end * y_image),
                ],
                outputs: &[parts.binding()],
                groups: gpu.grid("conv2d", parts.len().div_ceil(variant.workgroup as usize) as u64)?,
                work: Work {
                    flops: self.flops(&images),
                    bytes: (images.len() * (x_image + y_image) * x.dtype().bytes()) as u64 + parts.bytes(),
                },
            })?;
            let part = parts.sum(&[0])?;
            sum = Some(match sum {
                Some(sum) => sum.add(&part)?,
                None => part,
            });
        }
        sum.map_or_else(|| Tensor::zeros(gpu, &self.taps, DType::F32), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConvWeight, Form};
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::testing::{assert_gradients, gpu, gpu_with, random_from, shader_twin};

    #[test]
    fn shader_twins() {
        for kernel in [FORWARD, INPUT, WEIGHT] {
            shader_twin(&kernel, Params::FIELDS);
        }
    }

    /// The convolution in f64 and plain loops, the weight as it lies on the device.
    fn reference(sizes: &Sizes, x: &[f64], w: &[f64], bias: &[f64]) -> Vec<f64> {
        let ([images, height, width, channels], [_, oh, ow, outputs]) = (sizes.x, sizes.y);
        let [ky, kx, per_group, _] = sizes.taps;
        let Window { stride, padding, .. } = sizes.window;
        let per_output = outputs / (channels / per_group);
        let mut y = Vec::with_capacity(images * oh * ow * outputs);
        for at in 0..images * oh * ow * outputs {
            let (o, ox, oy) = (at % outputs, at / outputs % ow, at / outputs / ow % oh);
            let image = at / outputs / ow / oh;
            let mut sum = bias[o];
            for (ty, tx) in (0..ky).flat_map(|ty| (0..kx).map(move |tx| (ty, tx))) {
                let iy = (oy * stride[0] + ty).wrapping_sub(padding[0]);
                let ix = (ox * stride[1] + tx).wrapping_sub(padding[2]);
                if iy >= height || ix >= width {
                    continue;
                }
                for c in 0..per_group {
                    let from =
                        ((image * height + iy) * width + ix) * channels + o / per_output * per_group + c;
                    sum += x[from] * w[((ty * kx + tx) * per_group + c) * outputs + o];
                }
            }
            y.push(sum);
        }
        y
    }

    fn case(
        gpu: &Gpu,
        dtype: DType,
        x: [usize; 4],
        [ky, kx]: [usize; 2],
        [outputs, groups]: [usize; 2],
        window: Window,
    ) {
        let taps = [ky, kx, x[3] / groups, outputs];
        let out = |size: usize, pads: usize, kernel: usize, step: usize| (size + pads - kernel) / step + 1;
        let [top, bottom, left, right] = window.padding;
        let oh = out(x[1], top + bottom, ky, window.stride[0]);
        let ow = out(x[2], left + right, kx, window.stride[1]);
        let sizes = Sizes { x, y: [x[0], oh, ow, outputs], taps, window };
        let half = |v: f32| if dtype == DType::F16 { half::f16::from_f32(v).to_f32() } else { v };
        let values = |seed, shape: &[usize]| {
            random_from(seed, shape.iter().product(), 1.0).into_iter().map(half).collect::<Vec<_>>()
        };
        let (xs, ws, bs) = (values(1, &x), values(2, &taps), values(3, &[outputs]));
        assert_gradients(
            gpu,
            &[(&x, &xs), (&taps, &ws), (&[outputs], &bs)],
            |inputs| {
                let [x, w, bias] = inputs else { panic!("three") };
                let form = Form::Grouped { weight: w.clone(), groups };
                let weight = ConvWeight { outputs, channels: sizes.x[3], kernel: [ky, kx], form };
                if dtype == DType::F32 {
                    return x.conv2d(&weight, window, Epilogue { bias: Some(bias), ..Default::default() });
                }
                // Without the gradient of a cast: x in f16 is a link by hand.
                let narrow = x.detach().cast(dtype)?.made_by([x], |_, dx| Ok([Some(dx.cast(DType::F32)?)]));
                let y =
                    narrow.conv2d(&weight, window, Epilogue { bias: Some(bias), ..Default::default() })?;
                Ok(y.detach().cast(DType::F32)?.made_by([&y], |_, dy| Ok([Some(dy.cast(DType::F16)?)])))
            },
            |values| reference(&sizes, &values[0], &values[1], &values[2]),
            if dtype == DType::F16 { 1e-2 } else { 1e-4 },
            &format!("{x:?}, {ky}x{kx} -> {outputs} in {groups} groups, {window:?}, {dtype}"),
        );
    }

    fn cases(gpu: &Gpu, dtype: DType) {
        let window = |stride, padding| Window { stride, padding, dilation: [1, 1] };
        case(gpu, dtype, [2, 62, 9, 4], [62, 1], [8, 4], Window::padded(0)); // EEGNet over channels
        case(gpu, dtype, [3, 1, 37, 8], [1, 16], [8, 8], window([1, 1], [0, 0, 7, 8])); // and in time
        case(gpu, dtype, [2, 5, 7, 12], [3, 2], [20, 4], window([2, 1], [1, 2, 0, 1]));
        case(gpu, dtype, [1, 6, 5, 6], [2, 3], [6, 3], window([3, 2], [4, 0, 1, 5]));
        case(gpu, dtype, [2, 1, 1301, 2], [1, 3], [4, 2], Window::padded(0));
    }

    #[test]
    fn gradients_match_the_differences() {
        let Some(gpu) = gpu() else { return };
        cases(&gpu, DType::F32);
        if gpu.facts().features.f16 {
            cases(&gpu, DType::F16);
        }
    }

    #[test]
    fn batches_larger_than_a_binding_are_cut() {
        let Some(gpu) = gpu_with(Options { binding_bytes: Some(16 << 10), ..Default::default() }) else {
            return;
        };
        case(&gpu, DType::F32, [90, 1, 40, 4], [1, 4], [8, 4], Window::padded(0));
    }
}
