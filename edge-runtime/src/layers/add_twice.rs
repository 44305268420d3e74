//! The sum of two values in integers as files of version 1 have it, rounded several times.

use super::conv::zero;
use super::prelude::*;
use crate::kernels::int8::{PreparedAdd, Rescale, int_add};
use crate::model::Rounding;

/// The sum of two values of one shape. Each side is `(q - zero) << 20`, scaled by its own factor
/// (`side scale / (2 * max side scale)`), summed, and scaled by `output` (`2 * max side scale /
/// (2^20 * output scale)`), as TFLite does. It always rounds twice; a new model has
/// [`IntSum`](super::IntSum).
#[derive(Debug, Clone, PartialEq)]
pub struct IntAddTwice {
    /// Factor of each side.
    pub sides: [Requantization; 2],
    /// Factor of the sum.
    pub output: Requantization,
    /// Lowest and highest output byte.
    pub clamp: (u8, u8),
}

impl Settings for IntAddTwice {
    const CODE: u8 = 14;
    const NAME: &'static str = "sum in integers that rounds twice";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let [left, right, output] = [file.factor()?, file.factor()?, file.factor()?];
        Ok(Self { sides: [left, right], output, clamp: file.clamp()? })
    }

    fn write(&self, file: &mut Writer) {
        for &factor in self.sides.iter().chain([&self.output]) {
            file.factor(factor);
        }
        file.clamp(self.clamp);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [left, right] = inputs_of(inputs)?;
        bytes(inputs, element)?;
        for &factor in self.sides.iter().chain([&self.output]) {
            check_factor(factor)?;
        }
        // The factor of a side must be at most 1/2, so that the sum of both fits in 32 bits.
        if let Some(side) = self.sides.iter().find(|side| side.shift > 0) {
            let Requantization { multiplier, shift } = *side;
            return Err(Problem::BadRequantization { multiplier, shift });
        }
        check_clamp(self.clamp)?;
        if left.shape != right.shape {
            return Err(Problem::UnequalShapes(left.shape, right.shape));
        }
        Ok(left.shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let side = |index: usize| (zero(site.inputs[index].element), self.sides[index]);
        let output_zero = zero(site.output.element);
        let rescale = Rescale::new(&[self.output], Rounding::Twice, output_zero, self.clamp);
        Box::new(PreparedAdd::new(site.isa, [side(0), side(1)], rescale))
    }
}

impl Prepared for PreparedAdd {
    fn run(&self, operands: Operands) {
        let [left, right] = [0, 1].map(|input| operands.inputs.of(input));
        int_add(operands.isa, self, left, right, operands.output);
    }
}
