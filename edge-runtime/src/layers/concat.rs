//! Values one after another along an axis, in fp32 or bytes of one scale.

use super::prelude::*;

/// The inputs one after another. All other sizes are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concat {
    /// The axis; 0 is the channels.
    pub axis: u32,
}

impl Settings for Concat {
    const CODE: u8 = 17;
    const NAME: &'static str = "concatenation";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { axis: file.size()? })
    }

    fn write(&self, file: &mut Writer) {
        file.size(self.axis);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        moves(inputs, element)?;
        let Some((first, others)) = inputs.split_first() else {
            return Err(Problem::InputCount { expected: 1, found: 0 });
        };
        let axis = check_axis(self.axis, &first.shape)?;
        let mut sizes = first.shape.sizes().to_vec();
        for other in others {
            let theirs = other.shape.sizes();
            let apart = |(at, (a, b)): (usize, (&u32, &u32))| at != axis && a != b;
            if theirs.len() != sizes.len() || sizes.iter().zip(theirs).enumerate().any(apart) {
                return Err(Problem::UnequalShapes(first.shape, other.shape));
            }
            sizes[axis] = sizes[axis].saturating_add(theirs[axis]);
        }
        Shape::new(&sizes)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let axis = self.axis as usize;
        let bytes = element_bytes(site.output.element);
        let (blocks, inner) = site.output.shape.around(axis);
        let block = |value: &Value| value.shape.size(axis) * inner * bytes;
        Box::new(PreparedConcat {
            blocks,
            output: block(&site.output),
            inputs: site.inputs.iter().map(block).collect(),
        })
    }
}

/// Blocks of bytes, which are one after another in the output.
struct PreparedConcat {
    blocks: usize,
    output: usize,
    inputs: Vec<usize>,
}

impl Prepared for PreparedConcat {
    fn run(&self, operands: Operands) {
        let mut start = 0;
        for (input, &length) in self.inputs.iter().enumerate() {
            let input = operands.inputs.of::<u8>(input);
            for block in 0..self.blocks {
                operands.output[block * self.output + start..][..length]
                    .copy_from_slice(&input[block * length..][..length]);
            }
            start += length;
        }
    }
}

/// Bytes of one number.
pub(super) fn element_bytes(element: Element) -> usize {
    match element {
        Element::Fp32 => size_of::<f32>(),
        Element::Uint8(_) => 1,
    }
}

/// Checks that a value has an axis.
pub(super) fn check_axis(axis: u32, shape: &Shape) -> Result<usize, Problem> {
    let axes = shape.axes();
    if (axis as usize) < axes { Ok(axis as usize) } else { Err(Problem::NoAxis { axis, axes }) }
}
