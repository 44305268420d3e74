//! Elementwise sum of two values of the same shape.

use super::{Fp32, Int8, Kind, Layer, Operands, Prepared, Site};
use crate::error::{ModelError, Problem};
use crate::file::{Reader, Writer};
use crate::kernels::for_each_isa;
use crate::kernels::int8::{PreparedAdd, Rescale, int_add};
use crate::model::{Requantization, ValueId};
use crate::validate::{Shape, check_clamp, check_factor};

pub(super) const KIND: Kind = Kind { code: 3, name: "add", inputs: 2, logits: false };

/// Elementwise sum in fp32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloatAdd;

/// Elementwise sum of two values of different scales. Each side is `(q - zero) << 20`, scaled by
/// its own factor (`side scale / (2 * max side scale)`), summed, and scaled by `output`
/// (`2 * max side scale / (2^20 * output scale)`), as TFLite does.
#[derive(Debug, Clone, PartialEq)]
pub struct IntAdd {
    /// Factor of each side.
    pub sides: [Requantization; 2],
    /// Factor of the sum.
    pub output: Requantization,
    /// Lowest and highest output byte.
    pub clamp: (u8, u8),
}

impl Layer for FloatAdd {
    type Arithmetic = Fp32;
    type Prepared = Self;

    fn read(_: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self)
    }

    fn write(&self, _: &mut Writer) {}

    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
        equal_shape(inputs)
    }

    fn prepare(&self, _: &Site<Fp32>) -> Self {
        *self
    }
}

impl Prepared<Fp32> for FloatAdd {
    fn scratch(&self) -> usize {
        0
    }

    fn run(&self, operands: Operands<Fp32>) {
        let Operands { isa, left, right, output, .. } = operands;
        float_add(isa, left, right, output);
    }
}

impl Layer for IntAdd {
    type Arithmetic = Int8;
    /// In a box because of its tables.
    type Prepared = Box<PreparedAdd>;

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self {
            sides: [file.factor()?, file.factor()?],
            output: file.factor()?,
            clamp: file.clamp()?,
        })
    }

    fn write(&self, file: &mut Writer) {
        for &factor in self.sides.iter().chain([&self.output]) {
            file.factor(factor);
        }
        file.clamp(self.clamp);
    }

    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
        for &factor in self.sides.iter().chain([&self.output]) {
            check_factor(factor)?;
        }
        // The factor of a side must be at most 1/2, so that the sum of both fits in 32 bits.
        if let Some(side) = self.sides.iter().find(|side| side.shift > 0) {
            let Requantization { multiplier, shift } = *side;
            return Err(Problem::BadRequantization { multiplier, shift });
        }
        check_clamp(self.clamp)?;
        equal_shape(inputs)
    }

    fn prepare(&self, site: &Site<Int8>) -> Box<PreparedAdd> {
        let side = |index: usize| (site.inputs[index].1.zero_point, self.sides[index]);
        let rescale = Rescale::new(&[self.output], site.output.zero_point, self.clamp);
        Box::new(PreparedAdd::new(site.isa, [side(0), side(1)], rescale))
    }
}

impl Prepared<Int8> for Box<PreparedAdd> {
    fn scratch(&self) -> usize {
        0
    }

    fn run(&self, operands: Operands<Int8>) {
        let Operands { isa, left, right, output, .. } = operands;
        int_add(isa, self, left, right, output);
    }
}

fn equal_shape(inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
    let (left, right) = (inputs[0].1, inputs[1].1);
    if left == right { Ok(left) } else { Err(Problem::UnequalShapes(left, right)) }
}

for_each_isa! {
    /// `output = left + right`
    fn float_add(left: &[f32], right: &[f32], output: &mut [f32]) = add_body
}

#[inline(always)]
fn add_body<const FMA: bool>(left: &[f32], right: &[f32], output: &mut [f32]) {
    for ((output, left), right) in output.iter_mut().zip(left).zip(right) {
        *output = left + right;
    }
}
