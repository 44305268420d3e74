//! Dense convolution, and what it shares with the depthwise one: sizes, weights and activation.

use super::{Fp32, Int8, Kind, Layer, Operands, Prepared, Site};
use crate::error::{ModelError, Problem};
use crate::file::{Reader, Writer};
use crate::kernels::Geometry;
use crate::kernels::fp32::{self, float_conv};
use crate::kernels::int8::{self, Rescale, int_conv};
use crate::model::{Requantization, ValueId};
use crate::validate::{
    Shape, check_accumulators, check_clamp, check_factor, check_finite, check_limit,
    check_not_zero, check_size,
};

pub(super) const KIND: Kind = Kind { code: 1, name: "convolution", inputs: 1, logits: false };

/// Dense convolution in fp32.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatConv {
    /// Shape, weights `[out][in][k][k]` and biases.
    pub conv: Conv<f32, f32>,
    /// Applied to each output.
    pub activation: Activation,
}

/// Dense convolution in integers; padding holds the input's zero point.
#[derive(Debug, Clone, PartialEq)]
pub struct IntConv {
    /// Shape, weights `[out][in][k][k]` and biases.
    pub conv: Conv<i8, i32>,
    /// One per output channel: `input scale * weight scale / output scale`.
    pub requantize: Vec<Requantization>,
    /// Lowest and highest output byte.
    pub clamp: (u8, u8),
}

/// A square convolution with `padding` on every side; output side `(in + 2p - k) / stride + 1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv<W, B> {
    /// Channels read.
    pub in_channels: u32,
    /// Channels written; a depthwise convolution has `in_channels` of them.
    pub out_channels: u32,
    /// Side of the kernel.
    pub kernel: u32,
    /// Stride.
    pub stride: u32,
    /// Padding on every side.
    pub padding: u32,
    /// Weights.
    pub weight: Vec<W>,
    /// One per output channel.
    pub bias: Vec<B>,
}

/// The non-linearity at the end of a float layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// None.
    Linear,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
}

impl Layer for FloatConv {
    type Arithmetic = Fp32;
    type Prepared = fp32::PreparedConv;

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let conv = Conv::read(file, Reader::floats, Reader::floats)?;
        Ok(Self { conv, activation: Activation::read(file)? })
    }

    fn write(&self, file: &mut Writer) {
        self.conv.write(file, Writer::floats, Writer::floats);
        self.activation.write(file);
    }

    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
        check_finite(&self.conv.weight, &self.conv.bias)?;
        self.conv.output(false, inputs[0])
    }

    fn prepare(&self, site: &Site<Fp32>) -> fp32::PreparedConv {
        let geometry = self.conv.geometry(site.inputs[0].0);
        fp32::PreparedConv::new(&self.conv, self.activation, geometry)
    }
}

impl Prepared<Fp32> for fp32::PreparedConv {
    fn scratch(&self) -> usize {
        self.scratch_elements()
    }

    fn run(&self, operands: Operands<Fp32>) {
        let Operands { isa, left, scratch, output, .. } = operands;
        float_conv(isa, self, left, scratch, output);
    }
}

impl Layer for IntConv {
    type Arithmetic = Int8;
    type Prepared = int8::PreparedConv;

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self {
            conv: Conv::read(file, Reader::int8s, Reader::int32s)?,
            requantize: file.factors()?,
            clamp: file.clamp()?,
        })
    }

    fn write(&self, file: &mut Writer) {
        self.conv.write(file, Writer::int8s, Writer::int32s);
        file.factors(&self.requantize);
        file.clamp(self.clamp);
    }

    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
        let shape = self.conv.output(false, inputs[0])?;
        self.conv.check_integers(&self.requantize, self.clamp)?;
        Ok(shape)
    }

    fn prepare(&self, site: &Site<Int8>) -> int8::PreparedConv {
        let (shape, input) = site.inputs[0];
        let rescale = Rescale::new(&self.requantize, site.output.zero_point, self.clamp);
        let geometry = self.conv.geometry(shape);
        int8::PreparedConv::new(site.isa, &self.conv, input.zero_point, rescale, geometry)
    }
}

impl Prepared<Int8> for int8::PreparedConv {
    fn scratch(&self) -> usize {
        self.scratch_elements()
    }

    fn run(&self, operands: Operands<Int8>) {
        let Operands { isa, left, scratch, output, .. } = operands;
        int_conv(isa, self, left, scratch, output);
    }
}

impl<W, B> Conv<W, B> {
    /// `weight` and `bias` read a list.
    pub(super) fn read<'a>(
        file: &mut Reader<'a>,
        weight: fn(&mut Reader<'a>) -> Result<Vec<W>, ModelError>,
        bias: fn(&mut Reader<'a>) -> Result<Vec<B>, ModelError>,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            in_channels: file.size()?,
            out_channels: file.size()?,
            kernel: file.size()?,
            stride: file.size()?,
            padding: file.size()?,
            weight: weight(file)?,
            bias: bias(file)?,
        })
    }

    /// `weight` and `bias` write a list.
    pub(super) fn write(
        &self,
        file: &mut Writer,
        weight: fn(&mut Writer, &[W]),
        bias: fn(&mut Writer, &[B]),
    ) {
        let Self { in_channels, out_channels, kernel, stride, padding, .. } = *self;
        for size in [in_channels, out_channels, kernel, stride, padding] {
            file.size(size);
        }
        weight(file, &self.weight);
        bias(file, &self.bias);
    }

    /// Checks sizes and returns the shape of the output.
    pub(super) fn output(
        &self,
        depthwise: bool,
        (value, input): (ValueId, Shape),
    ) -> Result<Shape, Problem> {
        let Self { in_channels, out_channels, kernel, stride, padding, .. } = *self;
        check_not_zero("out_channels", out_channels)?;
        check_not_zero("kernel", kernel)?;
        check_not_zero("stride", stride)?;
        if in_channels != input.channels {
            return Err(Problem::ShapeMismatch {
                what: "channels",
                value: value.0,
                expected: u64::from(in_channels),
                found: u64::from(input.channels),
            });
        }
        if depthwise && in_channels != out_channels {
            return Err(Problem::NotDepthwise { in_channels, out_channels });
        }
        if padding >= kernel {
            return Err(Problem::PaddingTooLarge { padding, kernel });
        }
        let per_output = if depthwise { 1 } else { in_channels };
        let weights =
            [per_output, kernel, kernel].iter().fold(u64::from(out_channels), |product, &size| {
                product.saturating_mul(u64::from(size))
            });
        check_size("the weight", weights, self.weight.len())?;
        check_size("the bias", u64::from(out_channels), self.bias.len())?;

        let [height, width] =
            [input.height, input.width].map(|n| u64::from(n) + 2 * u64::from(padding));
        if height.min(width) < u64::from(kernel) {
            return Err(Problem::KernelTooLarge { kernel, height, width });
        }
        let padded = height.saturating_mul(width).saturating_mul(u64::from(in_channels));
        check_limit("its padded input", padded)?;
        // Fits: `padded` is below the limit.
        let side = |padded: u64| ((padded - u64::from(kernel)) / u64::from(stride) + 1) as u32;
        Ok(Shape { channels: out_channels, height: side(height), width: side(width) })
    }

    /// Sizes for the kernels, on a map of `shape`.
    pub(super) fn geometry(&self, shape: Shape) -> Geometry {
        Geometry {
            channels: shape.channels as usize,
            height: shape.height as usize,
            width: shape.width as usize,
            kernel: self.kernel as usize,
            stride: self.stride as usize,
            padding: self.padding as usize,
        }
    }
}

impl Conv<i8, i32> {
    /// Checks what only a convolution in integers has. Sizes have been checked.
    pub(super) fn check_integers(
        &self,
        requantize: &[Requantization],
        clamp: (u8, u8),
    ) -> Result<(), Problem> {
        check_size("the requantization", u64::from(self.out_channels), requantize.len())?;
        requantize.iter().try_for_each(|&factor| check_factor(factor))?;
        check_clamp(clamp)?;
        check_accumulators(&self.weight, &self.bias)
    }
}

impl Activation {
    pub(super) fn read(file: &mut Reader) -> Result<Self, ModelError> {
        file.code("activation", |code| match code {
            0 => Some(Activation::Linear),
            1 => Some(Activation::Relu),
            2 => Some(Activation::Relu6),
            _ => None,
        })
    }

    pub(super) fn write(self, file: &mut Writer) {
        file.byte(match self {
            Activation::Linear => 0,
            Activation::Relu => 1,
            Activation::Relu6 => 2,
        });
    }
}
