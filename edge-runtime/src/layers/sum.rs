//! The sum of two values in integers, rounded once.

use super::binary::{Sides, broadcast};
use super::conv::zero;
use super::prelude::*;
use crate::kernels::int8::{PreparedSum, Rescale, int_sum};

/// `zero + round((left - left zero) * multipliers[0] + (right - right zero) * multipliers[1]) /
/// 2^shift)`, exact in 64 bits and rounded once, halves up. A negative multiplier subtracts. It
/// broadcasts as [`Binary`](super::Binary).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntSum {
    /// `side scale / output scale * 2^shift` of each side.
    pub multipliers: [i32; 2],
    /// 1 to 62.
    pub shift: u32,
    /// Lowest and highest output byte.
    pub clamp: (u8, u8),
}

impl IntSum {
    /// The sum of `factors[0]` times the first and `factors[1]` times the second side, where a
    /// factor is the scale of the side divided by that of the output. Each multiplier is the
    /// nearest, with up to 30 bits for the larger one.
    #[must_use]
    pub fn from_real(factors: [f64; 2], clamp: (u8, u8)) -> Self {
        let largest = factors[0].abs().max(factors[1].abs());
        let mut shift = 1;
        while shift < 62 && largest * 2f64.powi(shift as i32 + 1) < f64::from(1 << 30) {
            shift += 1;
        }
        // A float to integer cast saturates.
        let multipliers = factors.map(|factor| (factor * 2f64.powi(shift as i32)).round() as i32);
        Self { multipliers, shift, clamp }
    }
}

impl Settings for IntSum {
    const CODE: u8 = 12;
    const NAME: &'static str = "sum in integers";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let multipliers = [file.int32()?, file.int32()?];
        Ok(Self { multipliers, shift: file.size()?, clamp: file.clamp()? })
    }

    fn write(&self, file: &mut Writer) {
        self.multipliers.iter().for_each(|multiplier| file.array(&multiplier.to_le_bytes()));
        file.size(self.shift);
        file.clamp(self.clamp);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [left, right] = inputs_of(inputs)?;
        bytes(inputs, element)?;
        if !(1..=62).contains(&self.shift) {
            return Err(Problem::OutOfRange {
                what: "the shift",
                value: self.shift.into(),
                limit: 62,
            });
        }
        check_clamp(self.clamp)?;
        broadcast(&[left, right])
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let zeros = [0, 1].map(|input| zero(site.inputs[input].element));
        let output_zero = zero(site.output.element);
        let ends = Rescale::new(&[], site.rounding, output_zero, self.clamp);
        let sum = PreparedSum::new(zeros, self.multipliers, self.shift, ends);
        Box::new(SidesOfSum { sum, sides: Sides::new(site) })
    }
}

struct SidesOfSum {
    sum: PreparedSum,
    sides: Sides,
}

impl Prepared for SidesOfSum {
    fn run(&self, operands: Operands) {
        let [left, right] = [0, 1].map(|input| operands.inputs.of::<u8>(input));
        match &self.sides {
            Sides::Equal => int_sum(operands.isa, &self.sum, left, right, operands.output),
            sides @ (Sides::Channels(_) | Sides::Repeated(_)) => {
                sides.each(left, right, operands.output, |left, right| self.sum.byte(left, right));
            }
        }
    }
}
