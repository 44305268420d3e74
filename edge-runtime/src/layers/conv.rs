//! Convolution over any number of axes of positions, in groups or not.

use super::prelude::*;
use super::window::{WindowAxis, shape_of, slide};
use crate::file::{Number, Tensor};
use crate::kernels::Geometry;
use crate::kernels::fp32::{self, float_conv, float_depthwise};
use crate::kernels::int8::{self, Rescale, int_conv, int_depthwise};
use crate::kernels::window::{Grouped, Windows, float_grouped, int_grouped};
use crate::validate::check_accumulators;

/// Convolution in fp32.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatConv {
    /// Shape, weights and biases.
    pub conv: Conv<f32, f32>,
    /// Applied to each output.
    pub activation: Activation,
}

/// Convolution in integers; padding holds the input's zero point. The accumulator is the sum of
/// `(q - zero point) * weight`, and the bias.
#[derive(Debug, Clone, PartialEq)]
pub struct IntConv {
    /// Shape, weights and biases. Biases are at scale `input scale * weight scale`.
    pub conv: Conv<i8, i32>,
    /// Real number of one step of the weights of each output channel, or one for all. The engine
    /// does not use it; empty if it is not known.
    pub weight_scale: Vec<f32>,
    /// One per output channel, or one for all: `input scale * weight scale / output scale`.
    pub requantize: Vec<Requantization>,
    /// Lowest and highest output byte.
    pub clamp: (u8, u8),
}

/// The sizes of a convolution, its weights and its biases.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv<W, B> {
    /// Channels read.
    pub in_channels: u32,
    /// Channels written.
    pub out_channels: u32,
    /// Each group of output channels reads one group of input channels. With as many groups as
    /// channels of either side, the convolution is depthwise.
    pub groups: u32,
    /// One per axis of positions.
    pub axes: Vec<WindowAxis>,
    /// `[out][in / groups][kernel…]`
    pub weight: Vec<W>,
    /// One per output channel.
    pub bias: Vec<B>,
}

/// The non-linearity at the end of a float layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// None.
    Linear,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
    /// Between two numbers, which may be infinite.
    Clip {
        /// The lowest.
        low: f32,
        /// The highest.
        high: f32,
    },
}

impl Settings for FloatConv {
    const CODE: u8 = 1;
    const NAME: &'static str = "convolution";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let (conv, _) = Conv::read(file, Reader::tensor)?;
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

    fn memory(&self, site: &Site) -> Memory {
        let way = self.conv.way(&site.inputs[0].shape);
        let (geometry, pixel, taps) = match way {
            Way::Dense(geometry) => (geometry, geometry.channels, 0),
            Way::Depthwise(geometry) => {
                let pixel = geometry.channels.next_multiple_of(fp32::LANES);
                (geometry, pixel, geometry.tap_bytes())
            }
            Way::Grouped => return Memory::default(),
        };
        let in_place = !geometry.is_padded() && pixel == geometry.channels;
        let padded = if in_place { 0 } else { geometry.padded_elements(pixel) };
        Memory { scratch: padded as u64 * 4, tables: geometry.corner_bytes() + taps }
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let Self { conv, activation } = self;
        let range = fp32::range(*activation);
        match conv.way(&site.inputs[0].shape) {
            Way::Dense(geometry) => Box::new(fp32::PreparedConv::new(conv, range, geometry)),
            Way::Depthwise(geometry) => {
                Box::new(fp32::PreparedDepthwise::new(conv, range, geometry))
            }
            Way::Grouped => Box::new(FloatGrouped { conv: conv.grouped(site), range }),
        }
    }
}

/// A convolution that no tuned kernel fits.
struct FloatGrouped {
    conv: Grouped<f32, f32>,
    range: (f32, f32),
}

impl Prepared for FloatGrouped {
    fn run(&self, operands: Operands) {
        let output = view_mut(operands.output);
        float_grouped(&self.conv, self.range, operands.inputs.of(0), output);
    }
}

impl Prepared for fp32::PreparedConv {
    fn run(&self, operands: Operands) {
        let Operands { isa, inputs, output, scratch } = operands;
        float_conv(isa, self, inputs.of(0), view_mut(scratch), view_mut(output));
    }
}

impl Prepared for fp32::PreparedDepthwise {
    fn run(&self, operands: Operands) {
        let Operands { isa, inputs, output, scratch } = operands;
        float_depthwise(isa, self, inputs.of(0), view_mut(scratch), view_mut(output));
    }
}

impl IntConv {
    /// A factor for each output channel.
    #[must_use]
    pub fn factors(&self) -> Vec<Requantization> {
        of_each(&self.requantize, self.conv.out_channels)
    }
}

impl Settings for IntConv {
    const CODE: u8 = 2;
    const NAME: &'static str = "convolution in integers";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let (conv, weight_scale) = Conv::read(file, Reader::scaled_tensor)?;
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
        self.conv.check_integers(&self.weight_scale, &self.requantize, self.clamp)?;
        Ok(shape)
    }

    fn memory(&self, site: &Site) -> Memory {
        match self.conv.way(&site.inputs[0].shape) {
            Way::Dense(geometry) => Memory {
                // One element more, for a last pair that has one element only.
                scratch: (geometry.padded_elements(geometry.channels) as u64 + 1) * 2,
                tables: geometry.corner_bytes(),
            },
            Way::Depthwise(geometry) => {
                let pixel = geometry.channels.next_multiple_of(int8::WIDE_LANES);
                let scratch = geometry.padded_elements(pixel) as u64 * 2;
                // With AVX2 there is one more table of taps, in pairs.
                let taps = geometry.tap_bytes() + geometry.taps().div_ceil(2) as u64 * 8;
                Memory { scratch, tables: geometry.corner_bytes() + taps }
            }
            Way::Grouped => Memory { scratch: u64::from(self.conv.out_channels) * 4, tables: 0 },
        }
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let [zero_point, output_zero] = [site.inputs[0].element, site.output.element].map(zero);
        let rescale = Rescale::new(&self.factors(), site.rounding, output_zero, self.clamp);
        let (isa, conv) = (site.isa, &self.conv);
        match conv.way(&site.inputs[0].shape) {
            Way::Dense(geometry) => {
                Box::new(int8::PreparedConv::new(isa, conv, zero_point, rescale, geometry))
            }
            Way::Depthwise(geometry) => {
                Box::new(int8::PreparedDepthwise::new(isa, conv, zero_point, rescale, geometry))
            }
            Way::Grouped => Box::new(IntGrouped { conv: conv.grouped(site), zero_point, rescale }),
        }
    }
}

/// A convolution that no tuned kernel fits.
struct IntGrouped {
    conv: Grouped<i8, i32>,
    zero_point: u8,
    rescale: Rescale,
}

impl Prepared for IntGrouped {
    fn run(&self, operands: Operands) {
        let Operands { inputs, output, scratch, .. } = operands;
        let (conv, sums) = (&self.conv, view_mut(scratch));
        int_grouped(conv, self.zero_point, &self.rescale, inputs.of(0), sums, output);
    }
}

impl Prepared for int8::PreparedConv {
    fn run(&self, operands: Operands) {
        let Operands { isa, inputs, output, scratch } = operands;
        int_conv(isa, self, inputs.of(0), view_mut(scratch), output);
    }
}

impl Prepared for int8::PreparedDepthwise {
    fn run(&self, operands: Operands) {
        let Operands { isa, inputs, output, scratch } = operands;
        int_depthwise(isa, self, inputs.of(0), view_mut(scratch), output);
    }
}

/// Which loops compute a convolution.
enum Way {
    /// Over all channels, tuned.
    Dense(Geometry),
    /// Each channel by itself, tuned.
    Depthwise(Geometry),
    /// Anything else.
    Grouped,
}

impl<W: Copy, B: Copy> Conv<W, B> {
    /// Which loops compute it on a value of `shape`. It is valid.
    fn way(&self, shape: &Shape) -> Way {
        let (mut axes, mut sizes) = (self.axes.clone(), shape.space().to_vec());
        if axes.len() > 2 {
            return Way::Grouped;
        }
        while axes.len() < 2 {
            axes.insert(0, WindowAxis::new(1, 1, 0));
            sizes.insert(0, 1);
        }
        let of = |get: fn(&WindowAxis) -> u32| [get(&axes[0]) as usize, get(&axes[1]) as usize];
        let geometry = Geometry {
            channels: self.in_channels as usize,
            height: sizes[0] as usize,
            width: sizes[1] as usize,
            kernel: of(|axis| axis.kernel),
            stride: of(|axis| axis.stride),
            dilation: of(|axis| axis.dilation),
            before: of(|axis| axis.before),
            after: of(|axis| axis.after),
        };
        if self.groups == 1 && (axes[1].dilation == 1 || axes[1].kernel == 1) {
            Way::Dense(geometry)
        } else if self.groups == self.in_channels && self.groups == self.out_channels {
            Way::Depthwise(geometry)
        } else {
            Way::Grouped
        }
    }

    fn grouped(&self, site: &Site) -> Grouped<W, B> {
        let windows = Windows::new(&self.axes, &site.inputs[0].shape, &site.output.shape);
        let (channels, groups) = (self.in_channels as usize, self.groups as usize);
        Grouped::new(windows, channels, groups, &self.weight, &self.bias)
    }

    /// Checks sizes and returns the shape of the output.
    fn output(&self, input: &Value) -> Result<Shape, Problem> {
        let Self { in_channels, out_channels, groups, .. } = *self;
        check_channels(in_channels, out_channels, groups, input)?;
        let space = slide(&self.axes, input)?;
        let kernel = self.axes.iter().map(|axis| axis.kernel);
        check_weights(in_channels, out_channels, groups, kernel, self.weight.len())?;
        check_size("the bias", u64::from(out_channels), self.bias.len())?;
        shape_of(out_channels, &space)
    }
}

impl<W, B> Conv<W, B> {
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
        let mut axes = file.list(4, WindowAxis::read)?;
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
        file.list(&self.axes, |file, axis| axis.write(file));
        let mut sizes = vec![self.out_channels, self.in_channels / self.groups.max(1)];
        sizes.extend(self.axes.iter().map(|axis| axis.kernel));
        file.tensor(&sizes, &self.weight, weight_scale);
        file.tensor(&[self.out_channels], &self.bias, &[]);
    }
}

impl Conv<i8, i32> {
    /// Checks what only a convolution in integers has. Sizes have been checked.
    fn check_integers(
        &self,
        weight_scale: &[f32],
        requantize: &[Requantization],
        clamp: (u8, u8),
    ) -> Result<(), Problem> {
        check_rescale(self.out_channels, weight_scale, requantize, clamp)?;
        check_accumulators(&self.weight, &self.bias)
    }
}

/// Checks what turns accumulators into bytes.
pub(super) fn check_rescale(
    out_channels: u32,
    weight_scale: &[f32],
    requantize: &[Requantization],
    clamp: (u8, u8),
) -> Result<(), Problem> {
    if !weight_scale.is_empty() {
        check_each("the weight scale", out_channels, weight_scale.len())?;
    }
    weight_scale.iter().try_for_each(|&scale| check_number("the weight scale", scale, true))?;
    check_each("the requantization", out_channels, requantize.len())?;
    requantize.iter().try_for_each(|&factor| check_factor(factor))?;
    check_clamp(clamp)
}

/// Checks that there is one for each output channel, or one for all.
pub(super) fn check_each(
    what: &'static str,
    out_channels: u32,
    found: usize,
) -> Result<(), Problem> {
    if found == 1 { Ok(()) } else { check_size(what, u64::from(out_channels), found) }
}

/// One for each output channel, where there may be one for all.
pub(super) fn of_each<T: Copy>(values: &[T], out_channels: u32) -> Vec<T> {
    match values {
        [one] => vec![*one; out_channels as usize],
        each => each.to_vec(),
    }
}

/// Checks the numbers of channels of a convolution.
pub(super) fn check_channels(
    in_channels: u32,
    out_channels: u32,
    groups: u32,
    input: &Value,
) -> Result<(), Problem> {
    check_not_zero("out_channels", out_channels)?;
    check_not_zero("groups", groups)?;
    if in_channels != input.shape.channels() {
        return Err(Problem::ShapeMismatch {
            what: "channels",
            value: input.id.0,
            expected: u64::from(in_channels),
            found: u64::from(input.shape.channels()),
        });
    }
    if !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
        return Err(Problem::UnequalGroups { groups, in_channels, out_channels });
    }
    Ok(())
}

/// Checks the number of weights of a convolution.
pub(super) fn check_weights(
    in_channels: u32,
    out_channels: u32,
    groups: u32,
    kernel: impl Iterator<Item = u32>,
    found: usize,
) -> Result<(), Problem> {
    let per_output = kernel.chain([in_channels / groups]);
    let weights = per_output
        .fold(u64::from(out_channels), |product, size| product.saturating_mul(u64::from(size)));
    check_size("the weight", weights, found)
}

/// The zero point of a value in bytes. It is valid.
pub(super) fn zero(element: Element) -> u8 {
    match element {
        Element::Uint8(quantization) => quantization.zero_point,
        Element::Fp32 => 0,
    }
}

impl Activation {
    pub(super) fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let at = file.at();
        Ok(match file.byte()? {
            0 => Self::Linear,
            1 => Self::Relu,
            2 => Self::Relu6,
            3 => Self::Clip { low: file.float()?, high: file.float()? },
            code => return Err(file.unknown(at, "activation", code)),
        })
    }

    pub(super) fn write(self, file: &mut Writer) {
        match self {
            Self::Linear => file.byte(0),
            Self::Relu => file.byte(1),
            Self::Relu6 => file.byte(2),
            Self::Clip { low, high } => {
                file.byte(3);
                file.float(low);
                file.float(high);
            }
        }
    }

    pub(super) fn check(self) -> Result<(), Problem> {
        match self {
            Self::Linear | Self::Relu | Self::Relu6 => Ok(()),
            Self::Clip { low, high } => check_range(low, high),
        }
    }
}

/// Checks that two numbers, which may be infinite, are in order.
pub(super) fn check_range(low: f32, high: f32) -> Result<(), Problem> {
    if low <= high { Ok(()) } else { Err(Problem::EmptyRange(low, high)) }
}
