//! Windows over any number of axes of positions, tap by tap, and the convolutions that are not
//! tuned.

use crate::kernels::int8::Rescale;
use crate::layers::{TransposedAxis, WindowAxis};
use crate::shape::{MAX_AXES, PerAxis, Shape};

/// How windows lie over a value, or, transposed, which inputs reach an output.
#[derive(Debug)]
pub(crate) struct Windows {
    axes: usize,
    input: PerAxis,
    output: PerAxis,
    kernel: PerAxis,
    stride: PerAxis,
    dilation: PerAxis,
    before: PerAxis,
    transposed: bool,
}

impl Windows {
    /// The windows that read `input`, one for each position of `output`.
    pub fn new(axes: &[WindowAxis], input: &Shape, output: &Shape) -> Self {
        let of = |get: fn(&WindowAxis) -> u32| per_axis(axes.iter().map(get));
        Self {
            axes: axes.len(),
            input: per_axis(input.space().iter().copied()),
            output: per_axis(output.space().iter().copied()),
            kernel: of(|axis| axis.kernel),
            stride: of(|axis| axis.stride),
            dilation: of(|axis| axis.dilation),
            before: of(|axis| axis.before),
            transposed: false,
        }
    }

    /// For each position of `output`, the positions of `input` whose windows cover it.
    pub fn transposed(axes: &[TransposedAxis], input: &Shape, output: &Shape) -> Self {
        let of = |get: fn(&TransposedAxis) -> u32| per_axis(axes.iter().map(get));
        Self {
            axes: axes.len(),
            input: per_axis(input.space().iter().copied()),
            output: per_axis(output.space().iter().copied()),
            kernel: of(|axis| axis.kernel),
            stride: of(|axis| axis.stride),
            dilation: of(|axis| axis.dilation),
            before: of(|axis| axis.before),
            transposed: true,
        }
    }

    /// Taps of one window.
    pub fn taps(&self) -> usize {
        self.kernel[..self.axes].iter().product()
    }

    /// Calls `visit` with each output position, its place along each axis, and its taps.
    pub fn each(&self, mut visit: impl FnMut(usize, &PerAxis, Taps)) {
        let mut at = [0; MAX_AXES];
        let positions: usize = self.output[..self.axes].iter().product();
        for position in 0..positions {
            visit(position, &at, Taps { windows: self, at, tap: [0; MAX_AXES], index: 0 });
            step(&mut at[..self.axes], &self.output);
        }
    }
}

/// Goes on to the next place, the last axis first.
fn step(at: &mut [usize], sizes: &PerAxis) {
    for axis in (0..at.len()).rev() {
        at[axis] += 1;
        if at[axis] < sizes[axis] {
            return;
        }
        at[axis] = 0;
    }
}

fn per_axis(sizes: impl Iterator<Item = u32>) -> PerAxis {
    let mut all = [0; MAX_AXES];
    for (all, size) in all.iter_mut().zip(sizes) {
        *all = size as usize;
    }
    all
}

/// The taps of one window that are inside the input: the number of the tap, and the input position.
#[derive(Clone)]
pub(crate) struct Taps<'a> {
    windows: &'a Windows,
    at: PerAxis,
    tap: PerAxis,
    index: usize,
}

impl Taps<'_> {
    /// The input position of a tap, if it is inside.
    fn source(&self) -> Option<usize> {
        let windows = self.windows;
        let mut position = 0;
        for axis in 0..windows.axes {
            let (at, tap) = (self.at[axis], self.tap[axis] * windows.dilation[axis]);
            let (stride, before) = (windows.stride[axis], windows.before[axis]);
            let place = if windows.transposed {
                let reach = (at + before).checked_sub(tap)?;
                if !reach.is_multiple_of(stride) {
                    return None;
                }
                reach / stride
            } else {
                (at * stride + tap).checked_sub(before)?
            };
            if place >= windows.input[axis] {
                return None;
            }
            position = position * windows.input[axis] + place;
        }
        Some(position)
    }
}

impl Iterator for Taps<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        while self.index < self.windows.taps() {
            let (index, position) = (self.index, self.source());
            self.index += 1;
            step(&mut self.tap[..self.windows.axes], &self.windows.kernel);
            if let Some(position) = position {
                return Some((index, position));
            }
        }
        None
    }
}

/// Sizes and weights of a convolution that no tuned kernel fits.
#[derive(Debug)]
pub(crate) struct Grouped<W, B> {
    windows: Windows,
    in_channels: usize,
    groups: usize,
    /// `[tap][out][in / groups]`
    weight: Vec<W>,
    bias: Vec<B>,
}

impl<W: Copy, B: Copy> Grouped<W, B> {
    /// `weight` is `[out][in / groups][tap]`.
    pub fn new(
        windows: Windows,
        in_channels: usize,
        groups: usize,
        weight: &[W],
        bias: &[B],
    ) -> Self {
        let taps = windows.taps();
        let mut permuted = Vec::with_capacity(weight.len());
        for tap in 0..taps {
            permuted.extend(weight[tap..].iter().step_by(taps));
        }
        Self { windows, in_channels, groups, weight: permuted, bias: bias.to_vec() }
    }

    /// The weights of a tap, for each output channel with the first input channel that it reads.
    fn rows(&self, tap: usize) -> impl Iterator<Item = (usize, &[W])> {
        let (out, group) = (self.bias.len(), self.in_channels / self.groups);
        let per_group = out / self.groups;
        let rows = self.weight[tap * out * group..][..out * group].chunks_exact(group);
        rows.enumerate().map(move |(channel, row)| (channel / per_group * group, row))
    }
}

/// A convolution in fp32.
pub(crate) fn float_grouped(
    conv: &Grouped<f32, f32>,
    (low, high): (f32, f32),
    input: &[f32],
    output: &mut [f32],
) {
    let channels = conv.bias.len();
    conv.windows.each(|position, _, taps| {
        let sums = &mut output[position * channels..][..channels];
        sums.copy_from_slice(&conv.bias);
        for (tap, from) in taps {
            let pixel = &input[from * conv.in_channels..][..conv.in_channels];
            for (sum, (first, row)) in sums.iter_mut().zip(conv.rows(tap)) {
                let products = pixel[first..].iter().zip(row);
                *sum += products.map(|(value, weight)| value * weight).sum::<f32>();
            }
        }
        for sum in sums {
            *sum = super::fp32::clamp(*sum, (low, high));
        }
    });
}

/// A convolution in integers. `sums` has one element per output channel.
pub(crate) fn int_grouped(
    conv: &Grouped<i8, i32>,
    zero_point: u8,
    rescale: &Rescale,
    input: &[u8],
    sums: &mut [i32],
    output: &mut [u8],
) {
    let (channels, zero) = (conv.bias.len(), i32::from(zero_point));
    conv.windows.each(|position, _, taps| {
        sums.copy_from_slice(&conv.bias);
        for (tap, from) in taps {
            let pixel = &input[from * conv.in_channels..][..conv.in_channels];
            for (sum, (first, row)) in sums.iter_mut().zip(conv.rows(tap)) {
                let products = pixel[first..].iter().zip(row);
                // The validation has checked that no sum overflows.
                *sum += products
                    .map(|(&value, &weight)| (i32::from(value) - zero) * i32::from(weight))
                    .sum::<i32>();
            }
        }
        let output = &mut output[position * channels..][..channels];
        for (channel, (output, &sum)) in output.iter_mut().zip(&*sums).enumerate() {
            *output = rescale.byte(channel, sum);
        }
    });
}
