//! Layers in fp32. The order of sums depends on the instruction set, so results differ from other
//! engines and between instruction sets in the last bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

pub(super) use self::portable::POSITIONS;

use super::{Geometry, Isa, channels_last, for_each_isa, pad};
use crate::layers::{Activation, Conv, Linear};

/// Output channels that are computed together.
pub(crate) const LANES: usize = 8;

/// A convolution over all channels with its weights packed.
#[derive(Debug)]
pub(crate) struct PreparedConv {
    geometry: Geometry,
    out_channels: usize,
    /// `[out / LANES][kernel row][kernel column, channel][LANES]`, zero beyond the last channel.
    weight: Vec<f32>,
    /// Zero-padded to a multiple of `LANES`.
    bias: Vec<f32>,
    corners: Vec<u32>,
    range: (f32, f32),
}

impl PreparedConv {
    pub fn new(conv: &Conv<f32, f32>, range: (f32, f32), geometry: Geometry) -> Self {
        let (out_channels, taps) = (conv.out_channels as usize, geometry.taps());
        let depth = taps * geometry.channels;
        let weight = channels_last(&conv.weight, geometry.channels, taps);
        let groups = out_channels.div_ceil(LANES);
        let mut packed = vec![0.0; groups * depth * LANES];
        for (out, row) in weight.chunks_exact(depth).enumerate() {
            let group = &mut packed[out / LANES * depth * LANES..];
            for (index, &weight) in row.iter().enumerate() {
                group[index * LANES + out % LANES] = weight;
            }
        }
        let mut bias = conv.bias.clone();
        bias.resize(groups * LANES, 0.0);
        Self {
            geometry,
            out_channels,
            weight: packed,
            bias,
            corners: geometry.corners(geometry.channels),
            range,
        }
    }

    /// Elements of scratch memory that `float_conv` needs: the size of a padded input, or 0.
    pub fn scratch_elements(&self) -> usize {
        if self.geometry.is_padded() {
            self.geometry.padded_elements(self.geometry.channels)
        } else {
            0
        }
    }

    /// Elements from one row of the kernel to the next in the padded input.
    fn line(&self) -> usize {
        self.geometry.padded_width() * self.geometry.channels * self.geometry.dilation[0]
    }

    /// Elements that the kernel covers in a row.
    fn run(&self) -> usize {
        self.geometry.kernel[1] * self.geometry.channels
    }
}

/// Runs a convolution; `scratch` has at least `conv.scratch_elements()` elements.
pub(crate) fn float_conv(
    isa: Isa,
    conv: &PreparedConv,
    input: &[f32],
    scratch: &mut [f32],
    output: &mut [f32],
) {
    let input = if conv.geometry.is_padded() {
        let scratch = &mut scratch[..conv.scratch_elements()];
        pad(&conv.geometry, conv.geometry.channels, input, scratch, |value| value);
        scratch
    } else {
        input
    };
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2() {
        // SAFETY: an `Isa` with AVX2 exists only if AVX2 and FMA were detected.
        return unsafe { avx2::conv(conv, input, output) };
    }
    let _ = isa;
    portable::conv(conv, input, output);
}

/// A depthwise convolution with its weights packed.
#[derive(Debug)]
pub(crate) struct PreparedDepthwise {
    geometry: Geometry,
    /// Channels rounded up to a multiple of `LANES`.
    pixel: usize,
    /// `[tap][pixel]`
    weight: Vec<f32>,
    /// `[pixel]`
    bias: Vec<f32>,
    /// Offset of each tap from the kernel's corner.
    taps: Vec<u32>,
    corners: Vec<u32>,
    range: (f32, f32),
}

impl PreparedDepthwise {
    pub fn new(conv: &Conv<f32, f32>, range: (f32, f32), geometry: Geometry) -> Self {
        let pixel = geometry.channels.next_multiple_of(LANES);
        let taps = geometry.taps();
        let mut weight = vec![0.0; taps * pixel];
        for (channel, kernel) in conv.weight.chunks_exact(taps).enumerate() {
            for (tap, &value) in kernel.iter().enumerate() {
                weight[tap * pixel + channel] = value;
            }
        }
        let mut bias = conv.bias.clone();
        bias.resize(pixel, 0.0);
        Self {
            geometry,
            pixel,
            weight,
            bias,
            taps: geometry.tap_offsets(pixel),
            corners: geometry.corners(pixel),
            range,
        }
    }

    /// Elements of scratch memory that `float_depthwise` needs: the size of a padded input, or 0.
    pub fn scratch_elements(&self) -> usize {
        if self.reads_in_place() { 0 } else { self.geometry.padded_elements(self.pixel) }
    }

    fn reads_in_place(&self) -> bool {
        !self.geometry.is_padded() && self.pixel == self.geometry.channels
    }
}

/// Runs a depthwise convolution; `scratch` has at least `conv.scratch_elements()` elements.
pub(crate) fn float_depthwise(
    isa: Isa,
    conv: &PreparedDepthwise,
    input: &[f32],
    scratch: &mut [f32],
    output: &mut [f32],
) {
    let input = if conv.reads_in_place() {
        input
    } else {
        let scratch = &mut scratch[..conv.scratch_elements()];
        pad(&conv.geometry, conv.pixel, input, scratch, |value| value);
        scratch
    };
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2() {
        // SAFETY: an `Isa` with AVX2 exists only if AVX2 and FMA were detected.
        return unsafe { avx2::depthwise(conv, input, output) };
    }
    let _ = isa;
    portable::depthwise(conv, input, output);
}

for_each_isa! {
    /// Mean over positions; `output` has one element per channel.
    fn float_pool(input: &[f32], output: &mut [f32]) = pool_body
}

#[inline(always)]
fn pool_body<const FMA: bool>(input: &[f32], output: &mut [f32]) {
    let channels = output.len();
    output.fill(0.0);
    for pixel in input.chunks_exact(channels) {
        for (sum, value) in output.iter_mut().zip(pixel) {
            *sum += value;
        }
    }
    let positions = (input.len() / channels) as f32;
    for sum in output {
        *sum /= positions;
    }
}

/// A fully connected layer with its weights reordered for `[height][width][channels]` maps.
#[derive(Debug)]
pub(crate) struct PreparedLinear {
    /// `[out][position][channel]`
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl PreparedLinear {
    /// For an input map of `channels` and `positions`.
    pub fn new(linear: &Linear<f32, f32>, channels: usize, positions: usize) -> Self {
        let weight = channels_last(&linear.weight, channels, positions);
        Self { weight, bias: linear.bias.clone() }
    }
}

for_each_isa! {
    /// Runs a fully connected layer.
    fn float_linear(linear: &PreparedLinear, input: &[f32], output: &mut [f32]) = linear_body
}

#[inline(always)]
fn linear_body<const FMA: bool>(linear: &PreparedLinear, input: &[f32], output: &mut [f32]) {
    let rows = linear.weight.chunks_exact(input.len());
    for ((output, row), bias) in output.iter_mut().zip(rows).zip(&linear.bias) {
        let (values, last_values) = input.as_chunks::<LANES>();
        let (weights, last_weights) = row.as_chunks::<LANES>();
        let mut sums = [0.0f32; LANES];
        for (values, weights) in values.iter().zip(weights) {
            for lane in 0..LANES {
                sums[lane] = multiply_add::<FMA>(values[lane], weights[lane], sums[lane]);
            }
        }
        let mut sum = *bias + sums.iter().sum::<f32>();
        for (value, weight) in last_values.iter().zip(last_weights) {
            sum = multiply_add::<FMA>(*value, *weight, sum);
        }
        *output = sum;
    }
}

#[inline(always)]
pub(super) fn multiply_add<const FMA: bool>(left: f32, right: f32, sum: f32) -> f32 {
    if FMA { left.mul_add(right, sum) } else { left * right + sum }
}

/// Written so that each bound compiles to one instruction.
#[inline(always)]
pub(crate) fn clamp(value: f32, (low, high): (f32, f32)) -> f32 {
    let value = if value > low { value } else { low };
    if value < high { value } else { high }
}

/// The lowest and highest output of an activation.
pub(crate) fn range(activation: Activation) -> (f32, f32) {
    match activation {
        Activation::Linear => (f32::NEG_INFINITY, f32::INFINITY),
        Activation::Relu => (0.0, f32::INFINITY),
        Activation::Relu6 => (0.0, 6.0),
        Activation::Clip { low, high } => (low, high),
    }
}
