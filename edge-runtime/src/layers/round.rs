//! Rounding to levels in fp32: what a value loses when it is held in so many levels, where the
//! engine does not compute with them as integers. A model with it runs by reference: what it
//! computes is right, and how long it takes says nothing about the integers.

use super::prelude::*;

/// The nearest level of each number: `scale * (clamp(round(x / scale) + zero point, 0, last) - zero
/// point)`, halves away from zero, computed in fp32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// The real number of one step, above 0.
    pub scale: f32,
    /// The level that means 0, at most `last`.
    pub zero_point: u16,
    /// The highest level: 255 for 8 bits, 65535 for 16.
    pub last: u16,
}

impl Round {
    /// The level nearest to a number, as the real number that it stands for.
    #[must_use]
    pub fn apply(self, x: f32) -> f32 {
        let zero = f32::from(self.zero_point);
        let level = ((x / self.scale).round() + zero).clamp(0.0, f32::from(self.last));
        self.scale * (level - zero)
    }
}

impl Settings for Round {
    const CODE: u8 = 34;
    const NAME: &'static str = "round to levels";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let level = |file: &mut Reader| file.array().map(u16::from_le_bytes);
        Ok(Self { scale: file.float()?, zero_point: level(file)?, last: level(file)? })
    }

    fn write(&self, file: &mut Writer) {
        file.float(self.scale);
        file.array(&self.zero_point.to_le_bytes());
        file.array(&self.last.to_le_bytes());
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        floats(inputs, element)?;
        check_number("the scale", self.scale, true)?;
        if self.zero_point > self.last {
            let (found, limit) = (self.zero_point, self.last);
            return Err(Problem::ZeroPoint { found, limit });
        }
        Ok(input.shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, _: &Site) -> Box<dyn Prepared> {
        Box::new(*self)
    }
}

impl Prepared for Round {
    fn run(&self, operands: Operands) {
        let output = view_mut::<f32>(operands.output);
        for (output, &x) in output.iter_mut().zip(operands.inputs.of::<f32>(0)) {
            *output = self.apply(x);
        }
    }
}
