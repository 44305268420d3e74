//! Parametric ReLU in fp32: a leaky ReLU with a slope per channel. In integers it is a table.

use super::prelude::*;

/// `x` where it is not negative, else `slope * x`.
#[derive(Debug, Clone, PartialEq)]
pub struct Prelu {
    /// One per channel, finite.
    pub slope: Vec<f32>,
}

impl Settings for Prelu {
    const CODE: u8 = 9;
    const NAME: &'static str = "parametric ReLU";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { slope: file.floats()? })
    }

    fn write(&self, file: &mut Writer) {
        file.floats(&self.slope);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        floats(inputs, element)?;
        check_size("the slope", u64::from(input.shape.channels()), self.slope.len())?;
        self.slope.iter().try_for_each(|&slope| check_number("the slope", slope, false))?;
        Ok(input.shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, _: &Site) -> Box<dyn Prepared> {
        Box::new(self.clone())
    }
}

impl Prepared for Prelu {
    fn run(&self, operands: Operands) {
        let channels = self.slope.len();
        let input = operands.inputs.of::<f32>(0).chunks_exact(channels);
        let output = view_mut::<f32>(operands.output).chunks_exact_mut(channels);
        for (output, input) in output.zip(input) {
            for ((output, &x), &slope) in output.iter_mut().zip(input).zip(&self.slope) {
                *output = if x >= 0.0 { x } else { slope * x };
            }
        }
    }
}
