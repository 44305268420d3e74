//! Other sizes for the same numbers, in fp32 or bytes.

use super::prelude::*;

/// The same numbers, as they are listed row by row over all axes, with other sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reshape {
    /// All sizes of the output, channels first.
    pub sizes: Vec<u32>,
}

impl Settings for Reshape {
    const CODE: u8 = 24;
    const NAME: &'static str = "reshape";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { sizes: file.list(1, Reader::size)? })
    }

    fn write(&self, file: &mut Writer) {
        file.list(&self.sizes, |file, &size| file.size(size));
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        moves(inputs, element)?;
        let shape = Shape::new(&self.sizes)?;
        if shape.elements() != input.shape.elements() {
            return Err(Problem::UnequalShapes(input.shape, shape));
        }
        Ok(shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let sizes = |shape: &Shape| (shape.channels() as usize, shape.positions());
        Box::new(PreparedReshape {
            input: sizes(&site.inputs[0].shape),
            output: sizes(&site.output.shape),
            element: site.output.element,
        })
    }
}

/// Channels and positions of both sides. Positions are listed and lie in the same order, so only
/// the place of the channels matters.
struct PreparedReshape {
    input: (usize, usize),
    output: (usize, usize),
    element: Element,
}

impl PreparedReshape {
    fn copy<T: Plain>(&self, operands: Operands) {
        let input = operands.inputs.of::<T>(0);
        let output = view_mut::<T>(operands.output);
        if self.input == self.output {
            return output.copy_from_slice(input);
        }
        let ((in_channels, in_positions), (channels, positions)) = (self.input, self.output);
        for (position, pixel) in output.chunks_exact_mut(channels).enumerate() {
            for (channel, number) in pixel.iter_mut().enumerate() {
                let listed = channel * positions + position;
                *number = input[listed % in_positions * in_channels + listed / in_positions];
            }
        }
    }
}

impl Prepared for PreparedReshape {
    fn run(&self, operands: Operands) {
        match self.element {
            Element::Fp32 => self.copy::<f32>(operands),
            Element::Uint8(_) => self.copy::<u8>(operands),
        }
    }
}
