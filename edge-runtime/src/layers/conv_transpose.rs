//! Transposed convolution: each input is spread over the outputs under the kernel.

use super::conv::{Activation, check_channels, check_rescale, check_weights, of_each, zero};
use super::prelude::*;
use super::window::shape_of;
use crate::file::{Number, Tensor};
use crate::kernels::fp32;
use crate::kernels::int8::Rescale;
use crate::kernels::window::{Grouped, Windows, float_grouped, int_grouped};
use crate::validate::{check_accumulators, check_limit};

/// Transposed convolution in fp32.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatConvTranspose {
    /// Shape, weights and biases.
    pub conv: ConvTranspose<f32, f32>,
    /// Applied to each output.
    pub activation: Activation,
}

/// Transposed convolution in integers, as [`IntConv`](super::IntConv).
#[derive(Debug, Clone, PartialEq)]
pub struct IntConvTranspose {
    /// Shape, weights and biases.
    pub conv: ConvTranspose<i8, i32>,
    /// Real number of one step of the weights of each output channel, or one for all; empty if it is
    /// not known.
    pub weight_scale: Vec<f32>,
    /// One per output channel, or one for all: `input scale * weight scale / output scale`.
    pub requantize: Vec<Requantization>,
    /// Lowest and highest output byte.
    pub clamp: (u8, u8),
}

/// The sizes of a transposed convolution, its weights and its biases.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvTranspose<W, B> {
    /// Channels read.
    pub in_channels: u32,
    /// Channels written.
    pub out_channels: u32,
    /// Each group of output channels reads one group of input channels.
    pub groups: u32,
    /// One per axis of positions.
    pub axes: Vec<TransposedAxis>,
    /// `[out][in / groups][kernel…]`
    pub weight: Vec<W>,
    /// One per output channel.
    pub bias: Vec<B>,
}

/// How a transposed convolution goes along one axis. The output has `(in - 1) * stride + (kernel -
/// 1) * dilation + 1 + extra - before - after` positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransposedAxis {
    /// Taps, at least 1.
    pub kernel: u32,
    /// Steps of the output for one step of the input, at least 1.
    pub stride: u32,
    /// Steps from one tap to the next, at least 1.
    pub dilation: u32,
    /// Positions cut off at the beginning.
    pub before: u32,
    /// Positions cut off at the end.
    pub after: u32,
    /// Positions added at the end.
    pub extra: u32,
}

impl Settings for FloatConvTranspose {
    const CODE: u8 = 3;
    const NAME: &'static str = "transposed convolution";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let (conv, _) = ConvTranspose::read(file, Reader::tensor)?;
        Ok(Self { conv, activation: Activation::read(file)? })
    }

    fn write(&self, file: &mut Writer) {
        self.conv.write(file, &[]);
        self.activation.write(file);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        floats(inputs, element)?;
        let shape = self.conv.output(&input)?;
        check_finite(&self.conv.weight, &self.conv.bias)?;
        self.activation.check()?;
        Ok(shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let range = fp32::range(self.activation);
        Box::new(PreparedFloat { conv: self.conv.grouped(site), range })
    }
}

struct PreparedFloat {
    conv: Grouped<f32, f32>,
    range: (f32, f32),
}

impl Prepared for PreparedFloat {
    fn run(&self, operands: Operands) {
        let output = view_mut(operands.output);
        float_grouped(&self.conv, self.range, operands.inputs.of(0), output);
    }
}

impl IntConvTranspose {
    /// A factor for each output channel.
    #[must_use]
    pub fn factors(&self) -> Vec<Requantization> {
        of_each(&self.requantize, self.conv.out_channels)
    }
}

impl Settings for IntConvTranspose {
    const CODE: u8 = 4;
    const NAME: &'static str = "transposed convolution in integers";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let (conv, weight_scale) = ConvTranspose::read(file, Reader::scaled_tensor)?;
        Ok(Self { conv, weight_scale, requantize: file.factors()?, clamp: file.clamp()? })
    }

    fn write(&self, file: &mut Writer) {
        self.conv.write(file, &self.weight_scale);
        file.factors(&self.requantize);
        file.clamp(self.clamp);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        bytes(inputs, element)?;
        let shape = self.conv.output(&input)?;
        let Self { conv, weight_scale, requantize, clamp } = self;
        check_rescale(conv.out_channels, weight_scale, requantize, *clamp)?;
        check_accumulators(&conv.weight, &conv.bias)?;
        Ok(shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory { scratch: u64::from(self.conv.out_channels) * 4, tables: 0 }
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let [zero_point, output_zero] = [site.inputs[0].element, site.output.element].map(zero);
        let rescale = Rescale::new(&self.factors(), site.rounding, output_zero, self.clamp);
        Box::new(PreparedInt { conv: self.conv.grouped(site), zero_point, rescale })
    }
}

struct PreparedInt {
    conv: Grouped<i8, i32>,
    zero_point: u8,
    rescale: Rescale,
}

impl Prepared for PreparedInt {
    fn run(&self, operands: Operands) {
        let Operands { inputs, output, scratch, .. } = operands;
        let (conv, sums) = (&self.conv, view_mut(scratch));
        int_grouped(conv, self.zero_point, &self.rescale, inputs.of(0), sums, output);
    }
}

impl<W: Copy, B: Copy> ConvTranspose<W, B> {
    fn grouped(&self, site: &Site) -> Grouped<W, B> {
        let windows = Windows::transposed(&self.axes, &site.inputs[0].shape, &site.output.shape);
        let (channels, groups) = (self.in_channels as usize, self.groups as usize);
        Grouped::new(windows, channels, groups, &self.weight, &self.bias)
    }

    /// Checks sizes and returns the shape of the output.
    fn output(&self, input: &Value) -> Result<Shape, Problem> {
        let Self { in_channels, out_channels, groups, .. } = *self;
        check_channels(in_channels, out_channels, groups, input)?;
        check_axes("axes of windows", input.shape.space().len(), self.axes.len())?;
        let mut space = Vec::with_capacity(self.axes.len());
        for (axis, &size) in self.axes.iter().zip(input.shape.space()) {
            check_not_zero("kernel", axis.kernel)?;
            check_not_zero("stride", axis.stride)?;
            check_not_zero("dilation", axis.dilation)?;
            let [size, kernel, stride, dilation, extra] =
                [size, axis.kernel, axis.stride, axis.dilation, axis.extra].map(u64::from);
            // Every product is below 2^64.
            let covered = ((size - 1) * stride).saturating_add((kernel - 1) * dilation);
            let whole = covered.saturating_add(1 + extra);
            check_limit("its output with what is cut off", whole)?;
            let cut = u64::from(axis.before) + u64::from(axis.after);
            let side = whole.checked_sub(cut).filter(|&side| side > 0);
            // Fits: `whole` is below the limit.
            space.push(side.ok_or(Problem::Zero("a size of its output"))? as u32);
        }
        let kernel = self.axes.iter().map(|axis| axis.kernel);
        check_weights(in_channels, out_channels, groups, kernel, self.weight.len())?;
        check_size("the bias", u64::from(out_channels), self.bias.len())?;
        shape_of(out_channels, &space)
    }
}

impl<W, B> ConvTranspose<W, B> {
    /// With the scales of the weight, if `weight` reads them.
    pub(super) fn read<'a>(
        file: &mut Reader<'a>,
        weight: fn(&mut Reader<'a>) -> Result<Tensor<W>, ModelError>,
    ) -> Result<(Self, Vec<f32>), ModelError>
    where
        W: Number,
        B: Number,
    {
        let groups = file.size()?;
        let mut axes = file.list(5, |file| {
            Ok(TransposedAxis {
                kernel: 0,
                stride: file.size()?,
                dilation: file.size()?,
                before: file.size()?,
                after: file.size()?,
                extra: file.size()?,
            })
        })?;
        let (weight, bias) = (weight(file)?, file.vector::<B>()?);
        let (channels, kernel) = file.sizes_of_weight(&weight.sizes, axes.len())?;
        for (axis, &kernel) in axes.iter_mut().zip(kernel) {
            axis.kernel = kernel;
        }
        let conv = Self {
            in_channels: channels[1].saturating_mul(groups),
            out_channels: channels[0],
            groups,
            axes,
            weight: weight.values,
            bias,
        };
        Ok((conv, weight.scales))
    }

    pub(super) fn write(&self, file: &mut Writer, weight_scale: &[f32])
    where
        W: Number,
        B: Number,
    {
        file.size(self.groups);
        file.list(&self.axes, |file, axis| {
            for size in [axis.stride, axis.dilation, axis.before, axis.after, axis.extra] {
                file.size(size);
            }
        });
        let mut sizes = vec![self.out_channels, self.in_channels / self.groups.max(1)];
        sizes.extend(self.axes.iter().map(|axis| axis.kernel));
        file.tensor(&sizes, &self.weight, weight_scale);
        file.tensor(&[self.out_channels], &self.bias, &[]);
    }
}
