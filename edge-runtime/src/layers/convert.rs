//! From fp32 to bytes and back, in networks that compute partly in fp32.

use super::prelude::*;

/// The byte nearest to each number: `round(x / scale) + zero point`, halves away from zero,
/// saturated, computed in fp32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantize;

/// The number that each byte stands for: `scale * (q - zero point)`, computed in fp32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dequantize;

impl Settings for Quantize {
    const CODE: u8 = 15;
    const NAME: &'static str = "quantize";

    fn read(_: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self)
    }

    fn write(&self, _: &mut Writer) {}

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        floats(inputs, Element::Fp32)?;
        bytes(&[], element)?;
        Ok(input.shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        Box::new(PreparedQuantize(quantization(site.output.element)))
    }
}

struct PreparedQuantize(Quantization);

impl Prepared for PreparedQuantize {
    fn run(&self, operands: Operands) {
        for (output, &real) in operands.output.iter_mut().zip(operands.inputs.of::<f32>(0)) {
            *output = self.0.quantize(real);
        }
    }
}

impl Settings for Dequantize {
    const CODE: u8 = 16;
    const NAME: &'static str = "dequantize";

    fn read(_: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self)
    }

    fn write(&self, _: &mut Writer) {}

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        bytes(&[], input.element)?;
        floats(&[], element)?;
        Ok(input.shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        Box::new(PreparedDequantize(quantization(site.inputs[0].element)))
    }
}

struct PreparedDequantize(Quantization);

impl Prepared for PreparedDequantize {
    fn run(&self, operands: Operands) {
        let output = view_mut::<f32>(operands.output);
        for (output, &byte) in output.iter_mut().zip(operands.inputs.of::<u8>(0)) {
            *output = self.0.dequantize(byte);
        }
    }
}

/// The quantization of a value in bytes. It is valid.
fn quantization(element: Element) -> Quantization {
    match element {
        Element::Uint8(quantization) => quantization,
        Element::Fp32 => Quantization { scale: 1.0, zero_point: 0 },
    }
}
