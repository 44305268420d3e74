//! Depthwise convolution: each channel has a kernel of its own and is not mixed with others.

use super::conv::{Activation, Conv};
use super::{Fp32, Int8, Kind, Layer, Operands, Prepared, Site};
use crate::error::{ModelError, Problem};
use crate::file::{Reader, Writer};
use crate::kernels::fp32::{self, float_depthwise};
use crate::kernels::int8::{self, Rescale, int_depthwise};
use crate::model::{Requantization, ValueId};
use crate::validate::{Shape, check_finite};

pub(super) const KIND: Kind =
    Kind { code: 2, name: "depthwise convolution", inputs: 1, logits: false };

/// Depthwise convolution in fp32.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatDepthwise {
    /// Shape, weights `[channels][k][k]` and biases.
    pub conv: Conv<f32, f32>,
    /// Applied to each output.
    pub activation: Activation,
}

/// Depthwise convolution in integers; padding holds the input's zero point.
#[derive(Debug, Clone, PartialEq)]
pub struct IntDepthwise {
    /// Shape, weights `[channels][k][k]` and biases.
    pub conv: Conv<i8, i32>,
    /// One per channel: `input scale * weight scale / output scale`.
    pub requantize: Vec<Requantization>,
    /// Lowest and highest output byte.
    pub clamp: (u8, u8),
}

impl Layer for FloatDepthwise {
    type Arithmetic = Fp32;
    type Prepared = fp32::PreparedDepthwise;

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
        self.conv.output(true, inputs[0])
    }

    fn prepare(&self, site: &Site<Fp32>) -> fp32::PreparedDepthwise {
        let geometry = self.conv.geometry(site.inputs[0].0);
        fp32::PreparedDepthwise::new(&self.conv, self.activation, geometry)
    }
}

impl Prepared<Fp32> for fp32::PreparedDepthwise {
    fn scratch(&self) -> usize {
        self.scratch_elements()
    }

    fn run(&self, operands: Operands<Fp32>) {
        let Operands { isa, left, scratch, output, .. } = operands;
        float_depthwise(isa, self, left, scratch, output);
    }
}

impl Layer for IntDepthwise {
    type Arithmetic = Int8;
    type Prepared = int8::PreparedDepthwise;

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
        let shape = self.conv.output(true, inputs[0])?;
        self.conv.check_integers(&self.requantize, self.clamp)?;
        Ok(shape)
    }

    fn prepare(&self, site: &Site<Int8>) -> int8::PreparedDepthwise {
        let (shape, input) = site.inputs[0];
        let rescale = Rescale::new(&self.requantize, site.output.zero_point, self.clamp);
        let geometry = self.conv.geometry(shape);
        int8::PreparedDepthwise::new(site.isa, &self.conv, input.zero_point, rescale, geometry)
    }
}

impl Prepared<Int8> for int8::PreparedDepthwise {
    fn scratch(&self) -> usize {
        self.scratch_elements()
    }

    fn run(&self, operands: Operands<Int8>) {
        let Operands { isa, left, scratch, output, .. } = operands;
        int_depthwise(isa, self, left, scratch, output);
    }
}
