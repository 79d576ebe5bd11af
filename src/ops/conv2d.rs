//! 2-D convolution on channels-last images, as an implicit matrix product: the window matrix is never made.
//! Same as PyTorch `F.conv2d` (layout apart). A 1-D convolution has height 1; the pseudo-3-D convolutions of
//! Tune-A-Video are this with frames counted as batch.
//!
//! Grouped convolutions (depthwise and those of the EEG networks) run one result per invocation, see `grouped`.

mod grouped;
mod input_gradient;
mod weight_gradient;

use super::gemm::{self, Epilogue, Image, Product};
use super::pack::{Packed, SourceType};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::tensor::{DType, Tensor};
use std::fmt;

/// Where a convolution looks: PyTorch's `stride`, `padding`, `dilation`, as [y, x] and [top, bottom, left, right].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Zeros around the image: top, bottom, left, right.
    pub padding: [usize; 4],
    /// Steps within a window.
    pub dilation: [usize; 2],
}

impl Window {
    /// Every pixel, `padding` zeros on every side.
    pub const fn padded(padding: usize) -> Window {
        Window { stride: [1, 1], padding: [padding; 4], dilation: [1, 1] }
    }

    /// Every `stride`th pixel, `padding` zeros on every side.
    pub const fn strided(stride: usize, padding: usize) -> Window {
        Window { stride: [stride, stride], padding: [padding; 4], dilation: [1, 1] }
    }

    /// ` by 2x2`, where it does not look at every pixel.
    fn step(self) -> String {
        let [y, x] = self.stride;
        if self.stride == [1, 1] { String::new() } else { format!(" by {y}x{x}") }
    }
}

/// `3x3 -> 320`
impl fmt::Display for ConvWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [y, x] = self.kernel;
        match &self.form {
            Form::Packed(packed) => write!(f, "{y}x{x} {packed}"),
            Form::Grouped { groups, .. } => write!(f, "{y}x{x} -> {} in {groups} groups", self.outputs),
        }
    }
}

/// Weights of a convolution, in the form its kernel reads. Cloning shares them.
#[derive(Clone)]
pub struct ConvWeight {
    outputs: usize,
    channels: usize,
    kernel: [usize; 2],
    form: Form,
}

#[derive(Clone)]
enum Form {
    Packed(Packed),
    /// [kernel y, kernel x, channels per group, outputs]
    Grouped {
        weight: Tensor,
        groups: usize,
    },
}

impl ConvWeight {
    /// From PyTorch's `[outputs, channels / groups, kernel y, kernel x]`, as the bytes of a file; `half` keeps
    /// them in f16 on the device.
    ///
    /// Errors: [`Error::Shape`] when groups do not divide the channels or the bytes do not fit.
    pub fn from_bytes(
        gpu: &Gpu,
        shape: [usize; 4],
        groups: usize,
        kind: SourceType,
        bytes: &[u8],
        half: bool,
    ) -> Result<ConvWeight> {
        let [outputs, per_group, kernel_y, kernel_x] = shape;
        if groups == 0 || outputs % groups != 0 {
            return Err(Error::shape(
                "conv2d",
                format!("{outputs} outputs do not divide into {groups} groups"),
            ));
        }
        let form = if groups == 1 {
            Form::Packed(Packed::from_bytes(
                gpu,
                [outputs, per_group, kernel_y * kernel_x],
                kind,
                bytes,
                half,
            )?)
        } else {
            let taps = kernel_y * kernel_x;
            let size = kind.bytes();
            if bytes.len() != outputs * per_group * taps * size {
                return Err(Error::shape("conv2d", format!("{shape:?} is not {} bytes", bytes.len())));
            }
            let value = |at: usize| {
                let at = &bytes[at * size..(at + 1) * size];
                match kind {
                    SourceType::F32 => f32::from_le_bytes([at[0], at[1], at[2], at[3]]),
                    SourceType::F16 => half::f16::from_le_bytes([at[0], at[1]]).to_f32(),
                    SourceType::BF16 => half::bf16::from_le_bytes([at[0], at[1]]).to_f32(),
                }
            };
            let mut weight = Vec::with_capacity(outputs * per_group * taps);
            for tap in 0..taps {
                for c in 0..per_group {
                    weight.extend((0..outputs).map(|o| value((o * per_group + c) * taps + tap)));
                }
            }
            let weight = Tensor::new(gpu, &[kernel_y, kernel_x, per_group, outputs], &weight)?;
            Form::Grouped { weight, groups }
        };
        Ok(ConvWeight { outputs, channels: per_group * groups, kernel: [kernel_y, kernel_x], form })
    }

    /// From a tensor `[outputs, channels / groups, kernel y, kernel x]`: what a parameter becomes before it is
    /// convolved with. Gradients flow back to it.
    ///
    /// Errors: [`Error::Shape`] on other ranks and where groups do not divide the outputs, [`Error::DType`] for ids.
    pub fn from_tensor(weight: &Tensor, groups: usize) -> Result<ConvWeight> {
        let &[outputs, per_group, kernel_y, kernel_x] = weight.shape() else {
            let got = format!("wanted [outputs, channels, kernel y, kernel x], got {:?}", weight.shape());
            return Err(Error::shape("conv2d", got));
        };
        if groups == 0 || outputs % groups != 0 {
            let detail = format!("{outputs} outputs do not divide into {groups} groups");
            return Err(Error::shape("conv2d", detail));
        }
        let taps = kernel_y * kernel_x;
        let form = if groups == 1 {
            Form::Packed(Packed::from_tensor(weight, [outputs, per_group, taps])?)
        } else {
            let taps_first = weight.reshape(&[outputs, per_group, taps])?.permute(&[2, 1, 0])?;
            let weight = taps_first.cast(DType::F32)?.reshape(&[kernel_y, kernel_x, per_group, outputs])?;
            Form::Grouped { weight, groups }
        };
        Ok(ConvWeight { outputs, channels: per_group * groups, kernel: [kernel_y, kernel_x], form })
    }

    /// From bytes that are not there, for a plan.
    pub fn planned(
        gpu: &Gpu,
        shape: [usize; 4],
        groups: usize,
        kind: SourceType,
        half: bool,
    ) -> Result<ConvWeight> {
        let [outputs, per_group, kernel_y, kernel_x] = shape;
        let form = if groups == 1 {
            Form::Packed(Packed::planned(gpu, [outputs, per_group, kernel_y * kernel_x], kind, half)?)
        } else {
            let weight = Tensor::empty(gpu, &[kernel_y, kernel_x, per_group, outputs], DType::F32)?;
            Form::Grouped { weight, groups }
        };
        Ok(ConvWeight { outputs, channels: per_group * groups, kernel: [kernel_y, kernel_x], form })
    }
}

impl Tensor {
    /// [batch, height, width, channels] -> [batch, out height, out width, outputs]:
    /// `activation(conv(x) + bias) + residual`. The bias is `[outputs]`, or `[groups, outputs]` where consecutive
    /// images share a row. Gradients flow to x, to the bias and to a weight made from a parameter.
    ///
    /// Errors: when the channels differ from the weight's or the window is larger than the padded image; for
    /// grouped weights when an activation or residual is asked for.
    pub fn conv2d(&self, weight: &ConvWeight, window: Window, epilogue: Epilogue) -> Result<Tensor> {
        let _op =
            self.gpu().op(|| format!("conv2d {self} {weight}{}{}", window.step(), super::with(&epilogue)));
        let &[batch, height, width, channels] = self.shape() else {
            let got = self.shape();
            return Err(Error::shape(
                "conv2d",
                format!("wanted [batch, height, width, channels], got {got:?}"),
            ));
        };
        let (outputs, [kernel_y, kernel_x]) = (weight.outputs, weight.kernel);
        if channels != weight.channels {
            let (needs, x) = (weight.channels, self.shape());
            let detail = format!(
                "weight [{outputs}, .., {kernel_y}, {kernel_x}] needs {needs} input channels, x is {x:?}"
            );
            return Err(Error::shape("conv2d", detail));
        }
        if let Form::Packed(packed) = &weight.form
            && let Some(y) = epilogue.apart(self, packed, |bias| self.conv2d(weight, window, bias))
        {
            return y;
        }
        let [top, bottom, left, right] = window.padding;
        let out = |size: usize, pads: usize, kernel: usize, axis: usize| {
            let reach = (kernel - 1) * window.dilation[axis] + 1;
            match (size + pads).checked_sub(reach) {
                Some(room) if window.stride[axis] > 0 => Ok(room / window.stride[axis] + 1),
                _ => {
                    let detail = format!("a window of {reach} does not fit {size} + {pads} pixels");
                    Err(Error::shape("conv2d", detail))
                }
            }
        };
        let out_height = out(height, top + bottom, kernel_y, 0)?;
        let out_width = out(width, left + right, kernel_x, 1)?;
        let shape = [batch, out_height, out_width, outputs];
        gemm::check_epilogue("conv2d", &epilogue, &shape, self.dtype())?;
        match &weight.form {
            Form::Packed(packed) => {
                let y = Tensor::empty(self.gpu(), &shape, self.dtype())?;
                let image = Image {
                    height,
                    width,
                    out_height,
                    out_width,
                    kernel_width: kernel_x,
                    stride: window.stride,
                    pad: [top, left],
                    dilation: window.dilation,
                };
                // A pointwise convolution is a plain product.
                let pointwise = window == Window::padded(0) && weight.kernel == [1, 1];
                let product = Product {
                    op: "conv2d",
                    a: self,
                    a_stride: channels,
                    a_offset: 0,
                    b: packed,
                    c: &y,
                    c_stride: outputs,
                    c_offset: 0,
                    m: batch * out_height * out_width,
                    batch: 1,
                    image: (!pointwise).then_some(image),
                    epilogue,
                };
                product.run()?;
                if !epilogue.learns(self, packed) {
                    return Ok(y);
                }
                Ok(self.convolved(y, packed, weight.kernel, window, epilogue.bias))
            }
            Form::Grouped { weight: taps, groups } => self.grouped(taps, *groups, window, &epilogue, shape),
        }
    }

    /// Links y to what it was made from.
    fn convolved(
        &self,
        y: Tensor,
        packed: &Packed,
        kernel: [usize; 2],
        window: Window,
        bias: Option<&Tensor>,
    ) -> Tensor {
        let (x, weight) = (self.detach(), packed.clone());
        let inputs = [self, packed.parameter.as_ref().unwrap_or(self), bias.unwrap_or(self)];
        let wants =
            [self.wants_gradient(), packed.parameter.is_some(), bias.is_some_and(Tensor::wants_gradient)];
        let [w_shape, bias_shape] = [inputs[1], inputs[2]].map(|input| input.shape().to_vec());
        let w_dtype = inputs[1].dtype();
        y.made_by(inputs, move |_, dy| {
            let dx = || x.conv2d_dx(&weight, kernel, window, dy);
            let dw = || x.conv2d_dw(kernel, window, dy)?.cast(w_dtype)?.reshape(&w_shape);
            let db = || gemm::bias_gradient(&dy.reshape(&[dy.len() / dy.dim(0), dy.dim(0)])?, &bias_shape);
            Ok([
                wants[0].then(dx).transpose()?,
                wants[1].then(dw).transpose()?,
                wants[2].then(db).transpose()?,
            ])
        })
    }

    /// [batch, samples, channels] -> [batch, out samples, outputs]: PyTorch's `F.conv1d` on channels-last signals,
    /// with a weight `[outputs, channels / groups, 1, kernel]`; the window's x axis is time.
    ///
    /// Errors: as [`Tensor::conv2d`].
    pub fn conv1d(&self, weight: &ConvWeight, window: Window, epilogue: Epilogue) -> Result<Tensor> {
        let &[batch, samples, channels] = self.shape() else {
            let got = self.shape();
            return Err(Error::shape("conv1d", format!("wanted [batch, samples, channels], got {got:?}")));
        };
        let y = self.reshape(&[batch, 1, samples, channels])?.conv2d(weight, window, epilogue)?;
        y.reshape(&[batch, y.dim(1), y.dim(0)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Options;
    use crate::ops::unary::Activation;
    use crate::testing::{assert_close, gpu, gpu_with, random_from};

    struct Case {
        x: [usize; 4],
        outputs: usize,
        kernel: [usize; 2],
        groups: usize,
        window: Window,
    }

    /// The plain seven loops in f64.
    fn reference(case: &Case, x: &[f32], w: &[f32], bias: &[f32], [oh, ow]: [usize; 2]) -> Vec<f64> {
        let [batch, height, width, channels] = case.x;
        let ([ky, kx], per_group) = (case.kernel, channels / case.groups);
        let Window { stride, padding, dilation } = case.window;
        let mut y = Vec::new();
        for image in 0..batch {
            for (oy, ox) in (0..oh).flat_map(|oy| (0..ow).map(move |ox| (oy, ox))) {
                for o in 0..case.outputs {
                    let group = o / (case.outputs / case.groups);
                    let mut sum = f64::from(bias[o]);
                    for (dy, dx) in (0..ky).flat_map(|dy| (0..kx).map(move |dx| (dy, dx))) {
                        let iy = (oy * stride[0] + dy * dilation[0]) as isize - padding[0] as isize;
                        let ix = (ox * stride[1] + dx * dilation[1]) as isize - padding[2] as isize;
                        if iy < 0 || ix < 0 || iy >= height as isize || ix >= width as isize {
                            continue;
                        }
                        for c in 0..per_group {
                            let at = ((image * height + iy as usize) * width + ix as usize) * channels;
                            let value = x[at + group * per_group + c];
                            let weight = w[((o * per_group + c) * ky + dy) * kx + dx];
                            sum += f64::from(value) * f64::from(weight);
                        }
                    }
                    y.push(sum);
                }
            }
        }
        y
    }

    fn check(gpu: &Gpu, case: &Case) {
        let [batch, height, width, channels] = case.x;
        let [ky, kx] = case.kernel;
        let what = format!("x {:?}, {} x {:?}, {:?}", case.x, case.outputs, case.kernel, case.window);
        let per_group = channels / case.groups;
        let x = random_from(1, batch * height * width * channels, 1.0);
        let w = random_from(2, case.outputs * per_group * ky * kx, 1.0);
        let bias = random_from(3, case.outputs, 1.0);
        let shape = [case.outputs, per_group, ky, kx];
        let weight =
            ConvWeight::from_bytes(gpu, shape, case.groups, SourceType::F32, bytemuck::cast_slice(&w), false)
                .unwrap();
        let bias_gpu = Tensor::new(gpu, &[case.outputs], &bias).unwrap();
        let epilogue = Epilogue { bias: Some(&bias_gpu), ..Default::default() };
        let y = Tensor::new(gpu, &case.x, &x).unwrap().conv2d(&weight, case.window, epilogue).unwrap();
        let want = reference(case, &x, &w, &bias, [y.dim(2), y.dim(1)]);
        assert_close(&y.to_vec().unwrap(), &want, 1e-5, &what);
    }

    fn cases() -> Vec<Case> {
        let case = |x, outputs, kernel, window| Case { x, outputs, kernel, groups: 1, window };
        vec![
            case([1, 1, 1, 1], 1, [1, 1], Window::padded(0)),
            case([2, 5, 7, 4], 8, [3, 3], Window::padded(1)),
            case([2, 9, 13, 3], 5, [3, 3], Window::padded(1)),
            case([1, 9, 14, 20], 33, [3, 3], Window::strided(2, 1)),
            case([3, 8, 7, 6], 7, [3, 3], Window { stride: [2, 2], padding: [0, 1, 0, 1], dilation: [1, 1] }),
            case([2, 62, 40, 1], 10, [1, 25], Window::padded(0)),
            case([2, 17, 5, 10], 4, [17, 1], Window::padded(0)),
            case(
                [1, 11, 13, 8],
                12,
                [3, 2],
                Window { stride: [1, 2], padding: [2, 0, 1, 3], dilation: [2, 3] },
            ),
            case([2, 6, 5, 12], 68, [1, 1], Window::padded(0)),
            case([2, 6, 5, 12], 9, [1, 1], Window::strided(2, 0)),
            case(
                [1, 1, 101, 7],
                3,
                [1, 16],
                Window { stride: [1, 1], padding: [0, 0, 7, 8], dilation: [1, 1] },
            ),
        ]
    }

    #[test]
    fn windows_strides_and_paddings_match() {
        let Some(gpu) = gpu() else { return };
        cases().iter().for_each(|case| check(&gpu, case));
    }

    #[test]
    fn the_tiled_family_matches_too() {
        let family = Some(crate::gpu::Family::Tiled);
        let Some(gpu) = gpu_with(Options { family, ..Default::default() }) else { return };
        cases().iter().for_each(|case| check(&gpu, case));
    }

    #[test]
    fn groups_match() {
        let Some(gpu) = gpu() else { return };
        for (channels, outputs, groups) in [(16, 64, 16), (6, 6, 6), (12, 20, 4), (5, 10, 5)] {
            let window = Window { stride: [1, 1], padding: [0, 0, 2, 1], dilation: [1, 1] };
            check(&gpu, &Case { x: [2, 6, 9, channels], outputs, kernel: [3, 4], groups, window });
        }
    }

    #[test]
    fn images_larger_than_a_binding_are_cut_by_images_and_by_rows() {
        let options = Options { binding_bytes: Some(48 << 10), ..Default::default() };
        let Some(gpu) = gpu_with(options) else { return };
        let windows = [
            Window::padded(1),
            Window::strided(2, 1),
            Window { stride: [2, 2], padding: [0, 1, 0, 1], dilation: [1, 1] },
        ];
        for window in windows {
            for x in [[5, 17, 19, 12], [2, 57, 31, 20], [1, 90, 33, 7]] {
                check(&gpu, &Case { x, outputs: 24, kernel: [3, 3], groups: 1, window });
            }
        }
    }

    #[test]
    fn bias_per_image_activation_and_residual() {
        let Some(gpu) = gpu() else { return };
        let case = Case { x: [3, 4, 5, 6], outputs: 8, kernel: [3, 3], groups: 1, window: Window::padded(1) };
        let x = random_from(1, 3 * 4 * 5 * 6, 1.0);
        let w = random_from(2, 8 * 6 * 9, 1.0);
        let (bias, residual) = (random_from(3, 3 * 8, 1.0), random_from(4, 3 * 4 * 5 * 8, 1.0));
        let weight =
            ConvWeight::from_bytes(&gpu, [8, 6, 3, 3], 1, SourceType::F32, bytemuck::cast_slice(&w), false)
                .unwrap();
        let bias_gpu = Tensor::new(&gpu, &[3, 8], &bias).unwrap();
        let residual_gpu = Tensor::new(&gpu, &[3, 4, 5, 8], &residual).unwrap();
        let epilogue =
            Epilogue { bias: Some(&bias_gpu), activation: Activation::Relu, residual: Some(&residual_gpu) };
        let y = Tensor::new(&gpu, &case.x, &x).unwrap().conv2d(&weight, case.window, epilogue).unwrap();
        let want: Vec<f64> = reference(&case, &x, &w, &[0.0; 8], [4, 5])
            .iter()
            .enumerate()
            .map(|(at, v)| (v + f64::from(bias[at / 160 * 8 + at % 8])).max(0.0) + f64::from(residual[at]))
            .collect();
        assert_close(&y.to_vec().unwrap(), &want, 1e-5, "epilogue");
    }

    #[test]
    fn a_signal_is_an_image_of_one_row() {
        let Some(gpu) = gpu() else { return };
        let (x, w) = (random_from(1, 2 * 37 * 6, 1.0), random_from(2, 5 * 6 * 7, 1.0));
        let shape = [5, 6, 1, 7];
        let weight =
            ConvWeight::from_bytes(&gpu, shape, 1, SourceType::F32, bytemuck::cast_slice(&w), false).unwrap();
        let window = Window { stride: [1, 3], padding: [0, 0, 2, 4], dilation: [1, 1] };
        let x_gpu = Tensor::new(&gpu, &[2, 37, 6], &x).unwrap();
        let y = x_gpu.conv1d(&weight, window, Epilogue::default()).unwrap();
        assert_eq!(y.shape(), [2, 13, 5]);
        let case = Case { x: [2, 1, 37, 6], outputs: 5, kernel: [1, 7], groups: 1, window };
        assert_close(&y.to_vec().unwrap(), &reference(&case, &x, &w, &[0.0; 5], [1, 13]), 1e-5, "conv1d");
        assert!(y.reshape(&[130]).unwrap().conv1d(&weight, window, Epilogue::default()).is_err());
    }

    #[test]
    fn misfits_are_refused_by_name() {
        let gpu = Gpu::plan();
        let weight =
            ConvWeight::from_bytes(&gpu, [8, 6, 3, 3], 1, SourceType::F32, &[0; 8 * 6 * 9 * 4], false)
                .unwrap();
        let conv = |shape: &[usize]| {
            let x = Tensor::empty(&gpu, shape, DType::F32).unwrap();
            x.conv2d(&weight, Window::padded(0), Epilogue::default()).err().map(|e| e.to_string())
        };
        assert!(conv(&[1, 4, 4, 5]).expect("refused").contains("needs 6 input channels"));
        assert!(conv(&[1, 2, 4, 6]).expect("refused").contains("does not fit"));
        assert!(conv(&[4, 4, 6]).is_some());
        assert!(conv(&[1, 4, 4, 6]).is_none());
    }

    #[test]
    fn gradients_match_the_plain_loops() {
        let Some(gpu) = gpu() else { return };
        let windows = [
            ([2, 5, 7, 3], 4, [3, 3], Window::padded(1)),
            ([1, 9, 8, 8], 6, [3, 3], Window::strided(2, 1)),
            ([1, 8, 8, 4], 5, [3, 3], Window { stride: [2, 2], padding: [0, 1, 0, 1], dilation: [1, 1] }),
            ([2, 1, 30, 2], 3, [1, 5], Window { stride: [1, 3], padding: [0, 0, 2, 2], dilation: [1, 2] }),
            ([3, 4, 4, 33], 65, [1, 1], Window::padded(0)),
            // Padding wider than the window reaches.
            ([2, 3, 4, 5], 6, [1, 1], Window::padded(2)),
            ([1, 5, 4, 4], 3, [2, 2], Window { stride: [2, 3], padding: [4, 1, 3, 9], dilation: [1, 1] }),
            ([1, 1, 1, 4], 3, [1, 1], Window { stride: [1, 1], padding: [0, 0, 3, 0], dilation: [1, 1] }),
            // Pixels that no window looks at, windows side by side, steps that leave the last pixels out.
            ([2, 7, 6, 4], 5, [1, 1], Window::strided(2, 0)),
            ([1, 6, 9, 3], 4, [3, 3], Window::strided(3, 0)),
            ([1, 11, 10, 4], 3, [2, 3], Window::strided(4, 1)),
            ([1, 9, 12, 2], 4, [3, 4], Window { stride: [3, 2], padding: [5, 0, 1, 2], dilation: [2, 3] }),
            ([1, 8, 7, 5], 6, [5, 5], Window::strided(2, 2)),
        ];
        for (shape, outputs, kernel, window) in windows {
            let case = Case { x: shape, outputs, kernel, groups: 1, window };
            let [batch, height, width, channels] = shape;
            let [ky, kx] = kernel;
            let x = random_from(1, shape.iter().product(), 1.0);
            let w = random_from(2, outputs * channels * ky * kx, 1.0);
            for trained in [true, false] {
                let what = format!("{shape:?} {kernel:?} {window:?} trained {trained}");
                let x_gpu = Tensor::new(&gpu, &shape, &x).unwrap().parameter();
                let w_gpu = Tensor::new(&gpu, &[outputs, channels, ky, kx], &w).unwrap();
                let w_gpu = if trained { w_gpu.parameter() } else { w_gpu };
                let bias = Tensor::new(&gpu, &[outputs], &vec![0.5; outputs]).unwrap().parameter();
                let weight = ConvWeight::from_tensor(&w_gpu, 1).unwrap();
                let epilogue = Epilogue { bias: Some(&bias), ..Default::default() };
                let y = x_gpu.conv2d(&weight, window, epilogue).unwrap();
                let [oh, ow] = [y.dim(2), y.dim(1)];
                let forward = reference(&case, &x, &w, &vec![0.5; outputs], [oh, ow]);
                assert_close(&y.to_vec().unwrap(), &forward, 1e-5, &what);
                let dy = random_from(3, y.len(), 1.0);
                let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
                let mut db = vec![0.0; outputs];
                for (at, &g) in dy.iter().enumerate() {
                    let (o, g) = (at % outputs, f64::from(g));
                    let (image, oy, ox) =
                        (at / outputs / (oh * ow), at / outputs / ow % oh, at / outputs % ow);
                    db[o] += g;
                    for (ty, tx) in (0..ky).flat_map(|ty| (0..kx).map(move |tx| (ty, tx))) {
                        let iy =
                            (oy * window.stride[0] + ty * window.dilation[0]).wrapping_sub(window.padding[0]);
                        let ix =
                            (ox * window.stride[1] + tx * window.dilation[1]).wrapping_sub(window.padding[2]);
                        if iy >= height || ix >= width {
                            continue;
                        }
                        for c in 0..channels {
                            let at_x = ((image * height + iy) * width + ix) * channels + c;
                            let at_w = ((o * channels + c) * ky + ty) * kx + tx;
                            dx[at_x] += g * f64::from(w[at_w]);
                            dw[at_w] += g * f64::from(x[at_x]);
                        }
                    }
                }
                assert_eq!(batch * oh * ow * outputs, dy.len());
                let dy = Tensor::new(&gpu, y.shape(), &dy).unwrap();
                let made = y.made().expect("made from parameters");
                let [got_x, got_w, got_b] = &(made.backward)(&y, &dy).unwrap()[..] else { panic!("three") };
                assert_close(&got_x.as_ref().unwrap().to_vec().unwrap(), &dx, 1e-4, &what);
                assert_close(&got_b.as_ref().unwrap().to_vec().unwrap(), &db, 1e-4, &what);
                match got_w {
                    Some(got) => {
                        assert_eq!(got.shape(), w_gpu.shape());
                        assert_close(&got.to_vec().unwrap(), &dw, 1e-4, &what);
                    }
                    None => assert!(!trained),
                }
            }
        }
    }
}
