//! The fully connected layer that computes the logits.

use super::{Fp32, Int8, Kind, Layer, Operands, Prepared, Site};
use crate::error::{ModelError, Problem};
use crate::file::{Reader, Writer};
use crate::kernels::fp32::{self, float_linear};
use crate::kernels::int8::{self, int_linear};
use crate::model::ValueId;
use crate::validate::{
    Shape, check_accumulators, check_finite, check_not_zero, check_number, check_size,
};

pub(super) const KIND: Kind = Kind { code: 5, name: "linear", inputs: 1, logits: true };

/// Logits in fp32.
pub type FloatLinear = Linear<f32, f32>;

/// Logits in integers. The output is *not* requantized: the engine's result is `accumulator *
/// logit_scale[c]` in fp32, so `output` of this node is unused.
#[derive(Debug, Clone, PartialEq)]
pub struct IntLinear {
    /// Shape, weights and biases.
    pub linear: Linear<i8, i32>,
    /// `input scale * weight scale[c]` per class.
    pub logit_scale: Vec<f32>,
}

/// A fully connected layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear<W, B> {
    /// Values read.
    pub in_features: u32,
    /// Values written.
    pub out_features: u32,
    /// `[out][in]`.
    pub weight: Vec<W>,
    /// One per output.
    pub bias: Vec<B>,
}

impl Layer for FloatLinear {
    type Arithmetic = Fp32;
    type Prepared = fp32::PreparedLinear;

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Linear::read_lists(file, Reader::floats, Reader::floats)
    }

    fn write(&self, file: &mut Writer) {
        self.write_lists(file, Writer::floats, Writer::floats);
    }

    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
        check_finite(&self.weight, &self.bias)?;
        self.vector(inputs[0])
    }

    fn prepare(&self, site: &Site<Fp32>) -> fp32::PreparedLinear {
        let shape = site.inputs[0].0;
        fp32::PreparedLinear::new(self, shape.channels as usize, shape.positions())
    }
}

impl Prepared<Fp32> for fp32::PreparedLinear {
    fn scratch(&self) -> usize {
        0
    }

    fn run(&self, operands: Operands<Fp32>) {
        float_linear(operands.isa, self, operands.left, operands.logits);
    }
}

impl Layer for IntLinear {
    type Arithmetic = Int8;
    type Prepared = int8::PreparedLinear;

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self {
            linear: Linear::read_lists(file, Reader::int8s, Reader::int32s)?,
            logit_scale: file.floats()?,
        })
    }

    fn write(&self, file: &mut Writer) {
        self.linear.write_lists(file, Writer::int8s, Writer::int32s);
        file.floats(&self.logit_scale);
    }

    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
        let Self { linear, logit_scale } = self;
        let shape = linear.vector(inputs[0])?;
        check_size("the logit scale", u64::from(linear.out_features), logit_scale.len())?;
        for &value in logit_scale {
            check_number("the logit scale", value, false)?;
        }
        check_accumulators(&linear.weight, &linear.bias)?;
        Ok(shape)
    }

    fn prepare(&self, site: &Site<Int8>) -> int8::PreparedLinear {
        let (shape, input) = site.inputs[0];
        let (channels, positions) = (shape.channels as usize, shape.positions());
        let Self { linear, logit_scale } = self;
        int8::PreparedLinear::new(linear, logit_scale, input.zero_point, channels, positions)
    }
}

impl Prepared<Int8> for int8::PreparedLinear {
    fn scratch(&self) -> usize {
        0
    }

    fn run(&self, operands: Operands<Int8>) {
        int_linear(operands.isa, self, operands.left, operands.logits);
    }
}

impl<W, B> Linear<W, B> {
    /// `weight` and `bias` read a list.
    fn read_lists<'a>(
        file: &mut Reader<'a>,
        weight: fn(&mut Reader<'a>) -> Result<Vec<W>, ModelError>,
        bias: fn(&mut Reader<'a>) -> Result<Vec<B>, ModelError>,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            in_features: file.size()?,
            out_features: file.size()?,
            weight: weight(file)?,
            bias: bias(file)?,
        })
    }

    /// `weight` and `bias` write a list.
    fn write_lists(
        &self,
        file: &mut Writer,
        weight: fn(&mut Writer, &[W]),
        bias: fn(&mut Writer, &[B]),
    ) {
        file.size(self.in_features);
        file.size(self.out_features);
        weight(file, &self.weight);
        bias(file, &self.bias);
    }

    /// Checks sizes and returns the shape of the output.
    fn vector(&self, (value, input): (ValueId, Shape)) -> Result<Shape, Problem> {
        let Self { in_features, out_features, weight, bias } = self;
        check_not_zero("out_features", *out_features)?;
        if *in_features as usize != input.elements() {
            return Err(Problem::ShapeMismatch {
                what: "features",
                value: value.0,
                expected: u64::from(*in_features),
                found: input.elements() as u64,
            });
        }
        let weights = u64::from(*in_features) * u64::from(*out_features);
        check_size("the weight", weights, weight.len())?;
        check_size("the bias", u64::from(*out_features), bias.len())?;
        Ok(Shape { channels: *out_features, height: 1, width: 1 })
    }
}
