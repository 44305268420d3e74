//! Layers in integers only, as `IntLayer` defines them. Maps are uint8. The input of a convolution
//! is first widened to int16, its zero point is subtracted and zeros are added around it, so that
//! products need no correction. `portable` and `avx2` (if the processor has it) compute the same
//! sums. The order of integer additions does not matter, so they agree bit for bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

#[cfg(target_arch = "x86_64")]
use super::Dot;
use super::{Geometry, Isa, channels_last, for_each_isa, pad};
use crate::layers::{Conv, Linear};
use crate::model::{Requantization, Rounding};
use crate::quantization::round_shift;

/// Output channels that a convolution computes together.
const LANES: usize = 8;

/// Channels that a depthwise convolution computes together.
pub(crate) const WIDE_LANES: usize = 16;

/// Turns accumulators into bytes: one factor per channel, the output's zero point and clamp.
#[derive(Debug)]
pub(crate) struct Rescale {
    factors: Vec<Requantization>,
    rounding: Rounding,
    zero_point: i32,
    low: i32,
    high: i32,
}

impl Rescale {
    pub fn new(
        factors: &[Requantization],
        rounding: Rounding,
        zero_point: u8,
        (low, high): (u8, u8),
    ) -> Self {
        Self {
            factors: factors.to_vec(),
            rounding,
            zero_point: i32::from(zero_point),
            low: i32::from(low),
            high: i32::from(high),
        }
    }

    #[inline(always)]
    pub fn byte(&self, channel: usize, accumulator: i32) -> u8 {
        let scaled = self.factors[channel].apply(self.rounding, accumulator);
        let scaled = scaled.saturating_add(self.zero_point);
        // The clamp is between two bytes, so the cast is exact.
        scaled.clamp(self.low, self.high) as u8
    }
}

/// A convolution over all channels with its weights packed.
#[derive(Debug)]
pub(crate) struct PreparedConv {
    geometry: Geometry,
    out_channels: usize,
    /// Products that one step adds up: 2 for `avx2`, 1 for `portable`.
    unit: usize,
    /// Steps in one row of the kernel.
    steps: usize,
    /// `[out / LANES][kernel row][step][LANES][unit]`, zero beyond the last channel and product.
    weight: Vec<i16>,
    /// Zero-padded to whole groups.
    bias: Vec<i32>,
    corners: Vec<u32>,
    input_zero: i16,
    rescale: Rescale,
    /// `Some` when `avx2` is used.
    #[cfg(target_arch = "x86_64")]
    avx2: Option<avx2::Factors>,
}

impl PreparedConv {
    pub fn new(
        isa: Isa,
        conv: &Conv<i8, i32>,
        input_zero: u8,
        rescale: Rescale,
        geometry: Geometry,
    ) -> Self {
        let Geometry { channels, kernel: [kernel, columns], .. } = geometry;
        let out_channels = conv.out_channels as usize;
        let weight = channels_last(&conv.weight, channels, geometry.taps());
        let run = columns * channels;
        #[cfg(target_arch = "x86_64")]
        let (avx2, unit) = {
            let factors =
                avx2::Factors::new(isa, rescale.rounding, &rescale.factors, &largest(conv));
            let unit = if factors.is_some() { 2 } else { 1 };
            (factors, unit)
        };
        #[cfg(not(target_arch = "x86_64"))]
        let (Isa { .. }, unit) = (isa, 1);
        let steps = run.div_ceil(unit);
        let groups = out_channels.div_ceil(LANES);
        let mut packed = vec![0; groups * kernel * steps * LANES * unit];
        for (index, &weight) in weight.iter().enumerate() {
            let (out, row, at) = (index / run / kernel, index / run % kernel, index % run);
            let step = (out / LANES * kernel + row) * steps + at / unit;
            packed[(step * LANES + out % LANES) * unit + at % unit] = i16::from(weight);
        }
        let mut bias = conv.bias.clone();
        bias.resize(groups * LANES, 0);
        Self {
            geometry,
            out_channels,
            unit,
            steps,
            weight: packed,
            bias,
            corners: geometry.corners(channels),
            input_zero: i16::from(input_zero),
            rescale,
            #[cfg(target_arch = "x86_64")]
            avx2,
        }
    }

    /// Elements of scratch memory that `int_conv` needs: the padded input, and one more if the last
    /// pair has one element only.
    pub fn scratch_elements(&self) -> usize {
        self.geometry.padded_elements(self.geometry.channels) + 1
    }

    /// Elements from one row of the kernel to the next in the padded input.
    fn line(&self) -> usize {
        self.geometry.padded_width() * self.geometry.channels * self.geometry.dilation[0]
    }
}

/// Runs a convolution; `scratch` has at least `conv.scratch_elements()` elements.
pub(crate) fn int_conv(
    isa: Isa,
    conv: &PreparedConv,
    input: &[u8],
    scratch: &mut [i16],
    output: &mut [u8],
) {
    let scratch = &mut scratch[..conv.scratch_elements()];
    widen(isa, &conv.geometry, conv.geometry.channels, conv.input_zero, input, scratch);
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2()
        && let Some(factors) = &conv.avx2
    {
        // SAFETY: an `Isa` with AVX2 or a dot product exists only if these were detected.
        return unsafe {
            match isa.dot() {
                None => avx2::plain::conv(conv, factors, scratch, output),
                Some(Dot::Avx) => avx2::avx_vnni::conv(conv, factors, scratch, output),
                Some(Dot::Avx512) => avx2::avx512_vnni::conv(conv, factors, scratch, output),
            }
        };
    }
    portable::conv(conv, scratch, output);
}

/// A depthwise convolution with its weights packed.
#[derive(Debug)]
pub(crate) struct PreparedDepthwise {
    geometry: Geometry,
    /// Channels rounded up to a multiple of `WIDE_LANES`.
    pixel: usize,
    /// `[tap][pixel]`
    weight: Vec<i16>,
    /// `[pixel]`
    bias: Vec<i32>,
    /// Offset of each tap from the kernel's corner.
    taps: Vec<u32>,
    corners: Vec<u32>,
    input_zero: i16,
    rescale: Rescale,
    /// `Some` when `avx2` is used.
    #[cfg(target_arch = "x86_64")]
    avx2: Option<avx2::Depthwise>,
}

impl PreparedDepthwise {
    pub fn new(
        isa: Isa,
        conv: &Conv<i8, i32>,
        input_zero: u8,
        rescale: Rescale,
        geometry: Geometry,
    ) -> Self {
        let pixel = geometry.channels.next_multiple_of(WIDE_LANES);
        let taps = geometry.taps();
        let mut weight = vec![0; taps * pixel];
        for (channel, kernel) in conv.weight.chunks_exact(taps).enumerate() {
            for (tap, &value) in kernel.iter().enumerate() {
                weight[tap * pixel + channel] = i16::from(value);
            }
        }
        let mut bias = conv.bias.clone();
        bias.resize(pixel, 0);
        let offsets = geometry.tap_offsets(pixel);
        #[cfg(not(target_arch = "x86_64"))]
        let _ = isa;
        Self {
            geometry,
            pixel,
            #[cfg(target_arch = "x86_64")]
            avx2: avx2::Depthwise::new(isa, &weight, &bias, &rescale, &largest(conv), &offsets),
            weight,
            bias,
            taps: offsets,
            corners: geometry.corners(pixel),
            input_zero: i16::from(input_zero),
            rescale,
        }
    }

    /// Elements of scratch memory that `int_depthwise` needs: the padded input.
    pub fn scratch_elements(&self) -> usize {
        self.geometry.padded_elements(self.pixel)
    }
}

/// Runs a depthwise convolution; `scratch` has at least `conv.scratch_elements()` elements.
pub(crate) fn int_depthwise(
    isa: Isa,
    conv: &PreparedDepthwise,
    input: &[u8],
    scratch: &mut [i16],
    output: &mut [u8],
) {
    let scratch = &mut scratch[..conv.scratch_elements()];
    widen(isa, &conv.geometry, conv.pixel, conv.input_zero, input, scratch);
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2()
        && let Some(packed) = &conv.avx2
    {
        // SAFETY: an `Isa` with AVX2 or a dot product exists only if these were detected.
        return unsafe {
            match isa.dot() {
                None => avx2::plain::depthwise(conv, packed, scratch, output),
                Some(Dot::Avx) => avx2::avx_vnni::depthwise(conv, packed, scratch, output),
                Some(Dot::Avx512) => avx2::avx512_vnni::depthwise(conv, packed, scratch, output),
            }
        };
    }
    portable::depthwise(conv, scratch, output);
}

for_each_isa! {
    /// Writes the padded input of a convolution, with `pixel` elements per pixel and the zero point
    /// subtracted.
    fn widen(
        geometry: &Geometry,
        pixel: usize,
        zero_point: i16,
        input: &[u8],
        output: &mut [i16],
    ) = widen_body
}

#[inline(always)]
fn widen_body<const FMA: bool>(
    geometry: &Geometry,
    pixel: usize,
    zero_point: i16,
    input: &[u8],
    output: &mut [i16],
) {
    pad(geometry, pixel, input, output, |value| i16::from(value) - zero_point);
}

/// The largest magnitude that the accumulator of each output channel can reach.
#[cfg(target_arch = "x86_64")]
fn largest(conv: &Conv<i8, i32>) -> Vec<i32> {
    let rows = conv.weight.chunks_exact(conv.weight.len() / conv.bias.len());
    let largest = |(row, bias): (&[i8], &i32)| {
        let weights: i32 = row.iter().map(|weight| i32::from(weight.unsigned_abs())).sum();
        // `validate` has checked that this fits in 32 bits.
        weights * 255 + bias.abs()
    };
    rows.zip(&conv.bias).map(largest).collect()
}

/// The sum of two maps of different scales, rounded twice.
#[derive(Debug)]
pub(crate) struct PreparedAdd {
    /// For each side, the scaled value of each byte.
    tables: [[i32; 256]; 2],
    rescale: Rescale,
    /// `Some` when `avx2` is used.
    #[cfg(target_arch = "x86_64")]
    avx2: Option<avx2::Add>,
}

impl PreparedAdd {
    /// `sides` are the zero point and factor of each side; `rescale` has one factor.
    pub fn new(isa: Isa, sides: [(u8, Requantization); 2], rescale: Rescale) -> Self {
        let tables = sides.map(|(zero_point, factor)| {
            // Fits in 32 bits: at most 255 * 2^20.
            let scaled = |byte: u8| factor.twice((i32::from(byte) - i32::from(zero_point)) << 20);
            std::array::from_fn(|byte| scaled(byte as u8))
        });
        #[cfg(not(target_arch = "x86_64"))]
        let Isa { .. } = isa;
        Self {
            tables,
            #[cfg(target_arch = "x86_64")]
            avx2: avx2::Add::new(isa, sides, rescale.factors[0]),
            rescale,
        }
    }
}

/// `output = left + right`, scaled.
pub(crate) fn int_add(isa: Isa, add: &PreparedAdd, left: &[u8], right: &[u8], output: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2()
        && let Some(factors) = &add.avx2
    {
        // SAFETY: an `Isa` with AVX2 exists only if AVX2 was detected.
        return unsafe { avx2::add(add, factors, left, right, output) };
    }
    let _ = isa;
    portable::add(add, left, right, output);
}

/// The sum of two maps of different scales, rounded once: `(left * multipliers[0] + right *
/// multipliers[1] + half) >> shift`, without the zero points.
#[derive(Debug)]
pub(crate) struct PreparedSum {
    zeros: [u8; 2],
    multipliers: [i32; 2],
    shift: u32,
    /// Has no factors.
    ends: Rescale,
}

impl PreparedSum {
    /// `shift` is in 1..=62; `ends` has no factors.
    pub fn new(zeros: [u8; 2], multipliers: [i32; 2], shift: u32, ends: Rescale) -> Self {
        Self { zeros, multipliers, shift, ends }
    }

    /// Whether every scaled sum fits in 32 bits.
    #[cfg(target_arch = "x86_64")]
    fn is_narrow(&self) -> bool {
        let largest: i64 =
            self.multipliers.iter().map(|&multiplier| i64::from(multiplier).abs() * 255).sum();
        (largest >> self.shift) + 1 < i64::from(i32::MAX)
    }

    /// The byte for a byte of each side.
    #[inline(always)]
    pub fn byte(&self, left: u8, right: u8) -> u8 {
        let side = |byte: u8, side: usize| {
            (i64::from(byte) - i64::from(self.zeros[side])) * i64::from(self.multipliers[side])
        };
        // Below 2^40.
        let sum = round_shift(side(left, 0) + side(right, 1), self.shift);
        let Rescale { zero_point, low, high, .. } = self.ends;
        (sum + i64::from(zero_point)).clamp(i64::from(low), i64::from(high)) as u8
    }
}

/// The sum of two maps of one shape.
pub(crate) fn int_sum(isa: Isa, sum: &PreparedSum, left: &[u8], right: &[u8], output: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2() && sum.is_narrow() {
        // SAFETY: an `Isa` with AVX2 exists only if AVX2 was detected.
        return unsafe { avx2::sum(sum, left, right, output) };
    }
    let _ = isa;
    for ((output, &left), &right) in output.iter_mut().zip(left).zip(right) {
        *output = sum.byte(left, right);
    }
}

/// The product of two maps: `(left - left zero) * (right - right zero)`, scaled.
#[derive(Debug)]
pub(crate) struct PreparedProduct {
    zeros: [u8; 2],
    /// Has one factor.
    rescale: Rescale,
    /// `Some` when `avx2` is used.
    #[cfg(target_arch = "x86_64")]
    avx2: Option<avx2::Factors>,
}

impl PreparedProduct {
    /// `rescale` has one factor.
    pub fn new(isa: Isa, zeros: [u8; 2], rescale: Rescale) -> Self {
        #[cfg(not(target_arch = "x86_64"))]
        let Isa { .. } = isa;
        Self {
            zeros,
            #[cfg(target_arch = "x86_64")]
            avx2: {
                let factors = [rescale.factors[0]; LANES];
                avx2::Factors::new(isa, rescale.rounding, &factors, &[255 * 255; LANES])
            },
            rescale,
        }
    }

    /// The byte for a byte of each side.
    #[inline(always)]
    pub fn byte(&self, left: u8, right: u8) -> u8 {
        let [left_zero, right_zero] = self.zeros.map(i32::from);
        self.rescale.byte(0, (i32::from(left) - left_zero) * (i32::from(right) - right_zero))
    }
}

/// The product of a map with another of its shape, or with a row of numbers, one for each channel,
/// that is repeated for every position.
pub(crate) fn int_product(
    isa: Isa,
    product: &PreparedProduct,
    left: &[u8],
    right: &[u8],
    output: &mut [u8],
) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2()
        && let Some(factors) = &product.avx2
    {
        // SAFETY: an `Isa` with AVX2 exists only if AVX2 was detected.
        return unsafe { avx2::product(product, factors, left, right, output) };
    }
    let _ = isa;
    let rows = output.chunks_exact_mut(right.len()).zip(left.chunks_exact(right.len()));
    for (output, left) in rows {
        for ((output, &left), &right) in output.iter_mut().zip(left).zip(right) {
            *output = product.byte(left, right);
        }
    }
}

/// Mean over positions.
#[derive(Debug)]
pub(crate) struct PreparedPool {
    input_zero: u8,
    /// Has one factor.
    rescale: Rescale,
}

impl PreparedPool {
    /// `rescale` has one factor, which includes the division by the number of positions.
    pub fn new(input_zero: u8, rescale: Rescale) -> Self {
        Self { input_zero, rescale }
    }
}

for_each_isa! {
    /// Mean over positions; `output` has one element per channel.
    fn int_pool(pool: &PreparedPool, input: &[u8], output: &mut [u8]) = pool_body
}

#[inline(always)]
fn pool_body<const FMA: bool>(pool: &PreparedPool, input: &[u8], output: &mut [u8]) {
    let channels = output.len();
    // At most 255 times the positions, which `validate` keeps below 2^31.
    let zeros = (input.len() / channels) as i32 * i32::from(pool.input_zero);
    for (group, output) in output.chunks_mut(WIDE_LANES).enumerate() {
        let mut sums = [0i32; WIDE_LANES];
        let first = group * WIDE_LANES;
        for pixel in input.chunks_exact(channels) {
            let pixel = &pixel[first..first + output.len()];
            if let Ok(pixel) = <&[u8; WIDE_LANES]>::try_from(pixel) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value);
                }
            } else {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value);
                }
            }
        }
        for (output, sum) in output.iter_mut().zip(sums) {
            *output = pool.rescale.byte(0, sum - zeros);
        }
    }
}

/// A fully connected layer with its weights reordered for `[height][width][channels]` maps.
#[derive(Debug)]
pub(crate) struct PreparedLinear {
    /// `[out][position][channel]`
    weight: Vec<i16>,
    /// Corrected for the input's zero point: `bias - zero * sum of weights`.
    bias: Vec<i32>,
    scale: Vec<f32>,
}

impl PreparedLinear {
    /// For an input map of `channels` and `positions`.
    pub fn new(
        linear: &Linear<i8, i32>,
        scale: &[f32],
        input_zero: u8,
        channels: usize,
        positions: usize,
    ) -> Self {
        let bias = linear
            .weight
            .chunks_exact(channels * positions)
            .zip(&linear.bias)
            .map(|(row, bias)| {
                let sum: i32 = row.iter().map(|&weight| i32::from(weight)).sum();
                // `validate` has checked that this fits in 32 bits.
                bias - i32::from(input_zero) * sum
            })
            .collect();
        let weight = channels_last(&linear.weight, channels, positions);
        Self { weight: weight.into_iter().map(i16::from).collect(), bias, scale: scale.to_vec() }
    }
}

for_each_isa! {
    /// Runs a fully connected layer. Only the logits are in fp32.
    fn int_linear(linear: &PreparedLinear, input: &[u8], output: &mut [f32]) = linear_body
}

#[inline(always)]
fn linear_body<const FMA: bool>(linear: &PreparedLinear, input: &[u8], output: &mut [f32]) {
    let rows = linear.weight.chunks_exact(input.len());
    let ends = linear.bias.iter().zip(&linear.scale);
    for ((output, row), (bias, scale)) in output.iter_mut().zip(rows).zip(ends) {
        // Partial sums may wrap, but the whole sum fits in 32 bits.
        let dot = input.iter().zip(row).fold(0i32, |sum, (&value, &weight)| {
            sum.wrapping_add(i32::from(i16::from(value)) * i32::from(weight))
        });
        *output = bias.wrapping_add(dot) as f32 * scale;
    }
}
