//! Fully connected layers.

use super::conv::{check_each, of_each, zero};
use super::prelude::*;
use crate::file::{Number, Tensor};
use crate::kernels::fp32::{self, float_linear};
use crate::kernels::int8::{self, int_linear};
use crate::validate::check_accumulators;

/// A fully connected layer in fp32.
pub type FloatLinear = Linear<f32, f32>;

/// A fully connected layer that reads bytes and writes fp32: `accumulator * scale[c]`. Logits are
/// computed with it, so that no precision is lost at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct IntLinear {
    /// Shape, weights and biases. Biases are at scale `input scale * weight scale`.
    pub linear: Linear<i8, i32>,
    /// `input scale * weight scale[c]` per output, or one for all.
    pub logit_scale: Vec<f32>,
}

/// A fully connected layer. Its features are those of the input in the order in which they are
/// listed, channel by channel.
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

impl Settings for FloatLinear {
    const CODE: u8 = 5;
    const NAME: &'static str = "linear";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Linear::read_tensors(file, Reader::tensor)?.0)
    }

    fn write(&self, file: &mut Writer) {
        self.write_tensors(file, &[]);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        floats(inputs, element)?;
        let shape = self.vector(&input)?;
        check_finite(&self.weight, &self.bias)?;
        Ok(shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let shape = site.inputs[0].shape;
        let (channels, positions) = (shape.channels() as usize, shape.positions());
        Box::new(fp32::PreparedLinear::new(self, channels, positions))
    }
}

impl Prepared for fp32::PreparedLinear {
    fn run(&self, operands: Operands) {
        float_linear(operands.isa, self, operands.inputs.of(0), view_mut(operands.output));
    }
}

impl IntLinear {
    /// A scale for each output.
    #[must_use]
    pub fn scales(&self) -> Vec<f32> {
        of_each(&self.logit_scale, self.linear.out_features)
    }
}

impl Settings for IntLinear {
    const CODE: u8 = 6;
    const NAME: &'static str = "linear in integers";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let (linear, _) = Linear::read_tensors(file, Reader::tensor)?;
        Ok(Self { linear, logit_scale: file.floats()? })
    }

    fn write(&self, file: &mut Writer) {
        self.linear.write_tensors(file, &[]);
        file.floats(&self.logit_scale);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        bytes(inputs, input.element)?;
        floats(&[], element)?;
        let Self { linear, logit_scale } = self;
        let shape = linear.vector(&input)?;
        check_each("the logit scale", linear.out_features, logit_scale.len())?;
        for &value in logit_scale {
            check_number("the logit scale", value, false)?;
        }
        check_accumulators(&linear.weight, &linear.bias)?;
        Ok(shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let Value { shape, element, .. } = site.inputs[0];
        let (channels, positions) = (shape.channels() as usize, shape.positions());
        let (linear, scales) = (&self.linear, &self.scales());
        let zero_point = zero(element);
        Box::new(int8::PreparedLinear::new(linear, scales, zero_point, channels, positions))
    }
}

impl Prepared for int8::PreparedLinear {
    fn run(&self, operands: Operands) {
        int_linear(operands.isa, self, operands.inputs.of(0), view_mut(operands.output));
    }
}

impl<W, B> Linear<W, B> {
    /// With the scales of the weight, if `weight` reads them.
    pub(super) fn read_tensors<'a>(
        file: &mut Reader<'a>,
        weight: fn(&mut Reader<'a>) -> Result<Tensor<W>, ModelError>,
    ) -> Result<(Self, Vec<f32>), ModelError>
    where
        W: Number,
        B: Number,
    {
        let weight = weight(file)?;
        let bias = file.vector::<B>()?;
        let ([out_features, in_features], _) = file.sizes_of_weight(&weight.sizes, 0)?;
        let linear = Self { in_features, out_features, weight: weight.values, bias };
        Ok((linear, weight.scales))
    }

    pub(super) fn write_tensors(&self, file: &mut Writer, weight_scale: &[f32])
    where
        W: Number,
        B: Number,
    {
        file.tensor(&[self.out_features, self.in_features], &self.weight, weight_scale);
        file.tensor(&[self.out_features], &self.bias, &[]);
    }
}

impl<W, B> Linear<W, B> {
    /// Checks sizes and returns the shape of the output.
    fn vector(&self, input: &Value) -> Result<Shape, Problem> {
        let Self { in_features, out_features, weight, bias } = self;
        check_not_zero("out_features", *out_features)?;
        if *in_features as usize != input.shape.elements() {
            return Err(Problem::ShapeMismatch {
                what: "features",
                value: input.id.0,
                expected: u64::from(*in_features),
                found: input.shape.elements() as u64,
            });
        }
        let weights = u64::from(*in_features) * u64::from(*out_features);
        check_size("the weight", weights, weight.len())?;
        check_size("the bias", u64::from(*out_features), bias.len())?;
        Shape::new(&[*out_features])
    }
}
