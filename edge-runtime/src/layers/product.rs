//! The product of two values in integers.

use super::binary::{Sides, broadcast};
use super::conv::zero;
use super::prelude::*;
use crate::kernels::int8::Rescale;

/// `(left - left zero) * (right - right zero)`, scaled by `requantize`. It broadcasts as
/// [`Binary`](super::Binary).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntProduct {
    /// `left scale * right scale / output scale`.
    pub requantize: Requantization,
    /// Lowest and highest output byte.
    pub clamp: (u8, u8),
}

impl Settings for IntProduct {
    const CODE: u8 = 13;
    const NAME: &'static str = "product in integers";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { requantize: file.factor()?, clamp: file.clamp()? })
    }

    fn write(&self, file: &mut Writer) {
        file.factor(self.requantize);
        file.clamp(self.clamp);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [left, right] = inputs_of(inputs)?;
        bytes(inputs, element)?;
        check_factor(self.requantize)?;
        check_clamp(self.clamp)?;
        broadcast(&[left, right])
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let output_zero = zero(site.output.element);
        Box::new(PreparedProduct {
            zeros: [0, 1].map(|input| zero(site.inputs[input].element)),
            rescale: Rescale::new(&[self.requantize], site.rounding, output_zero, self.clamp),
            sides: Sides::new(site),
        })
    }
}

struct PreparedProduct {
    zeros: [u8; 2],
    rescale: Rescale,
    sides: Sides,
}

impl Prepared for PreparedProduct {
    fn run(&self, operands: Operands) {
        let [left, right] = [0, 1].map(|input| operands.inputs.of::<u8>(input));
        let [left_zero, right_zero] = self.zeros.map(i32::from);
        self.sides.each(left, right, operands.output, |left, right| {
            let product = (i32::from(left) - left_zero) * (i32::from(right) - right_zero);
            self.rescale.byte(0, product)
        });
    }
}
