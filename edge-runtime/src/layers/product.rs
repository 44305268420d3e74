//! The product of two values in integers.

use super::binary::{Sides, broadcast};
use super::conv::zero;
use super::prelude::*;
use crate::kernels::int8::{PreparedProduct, Rescale, int_product};

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
        let zeros = [0, 1].map(|input| zero(site.inputs[input].element));
        let output_zero = zero(site.output.element);
        let rescale = Rescale::new(&[self.requantize], site.rounding, output_zero, self.clamp);
        let product = PreparedProduct::new(site.isa, zeros, rescale);
        Box::new(SidesOfProduct { product, sides: Sides::new(site) })
    }
}

struct SidesOfProduct {
    product: PreparedProduct,
    sides: Sides,
}

impl Prepared for SidesOfProduct {
    fn run(&self, operands: Operands) {
        let [left, right] = [0, 1].map(|input| operands.inputs.of::<u8>(input));
        let (product, output) = (&self.product, operands.output);
        match &self.sides {
            Sides::Equal | Sides::Channels(2..) => {
                int_product(operands.isa, product, left, right, output);
            }
            sides @ (Sides::Channels(..2) | Sides::Repeated(_)) => {
                sides.each(left, right, output, |left, right| product.byte(left, right));
            }
        }
    }
}
