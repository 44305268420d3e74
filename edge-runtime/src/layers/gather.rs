//! Picks places along an axis, in fp32 or bytes.

use super::concat::{check_axis, element_bytes};
use super::prelude::*;

/// Place `j` of the output along the axis is place `indices[j]` of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gather {
    /// The axis; 0 is the channels.
    pub axis: u32,
    /// At least one.
    pub indices: Vec<u32>,
}

impl Settings for Gather {
    const CODE: u8 = 18;
    const NAME: &'static str = "gather";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { axis: file.size()?, indices: file.list(1, Reader::size)? })
    }

    fn write(&self, file: &mut Writer) {
        file.size(self.axis);
        file.list(&self.indices, |file, &index| file.size(index));
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        moves(inputs, element)?;
        let axis = check_axis(self.axis, &input.shape)?;
        let mut sizes = input.shape.sizes().to_vec();
        if let Some(&index) = self.indices.iter().find(|&&index| index >= sizes[axis]) {
            let limit = i64::from(sizes[axis]) - 1;
            return Err(Problem::OutOfRange { what: "an index", value: index.into(), limit });
        }
        sizes[axis] = u32::try_from(self.indices.len()).unwrap_or(u32::MAX);
        Shape::new(&sizes)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let shape = &site.inputs[0].shape;
        let (blocks, inner) = shape.around(self.axis as usize);
        Box::new(PreparedGather {
            indices: self.indices.clone(),
            blocks,
            input: shape.size(self.axis as usize),
            inner: inner * element_bytes(site.output.element),
        })
    }
}

/// Pieces of bytes.
struct PreparedGather {
    indices: Vec<u32>,
    blocks: usize,
    /// Pieces of one block of the input.
    input: usize,
    /// Bytes of one piece.
    inner: usize,
}

impl Prepared for PreparedGather {
    fn run(&self, operands: Operands) {
        let input = operands.inputs.of::<u8>(0);
        let indices = self.indices.iter().map(|&index| index as usize);
        let sources = (0..self.blocks)
            .flat_map(|block| indices.clone().map(move |at| block * self.input + at));
        for (output, at) in operands.output.chunks_exact_mut(self.inner).zip(sources) {
            output.copy_from_slice(&input[at * self.inner..][..self.inner]);
        }
    }
}
