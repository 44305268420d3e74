//! The same numbers with other sizes.

use smallvec::{SmallVec, smallvec};

use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, channel_by_channel,
};
use crate::ties::{Port, Relation, Tie, Ties};
use crate::{Scalar, Shape};

/// The numbers of the input in the same order, row by row, with other sizes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reshape {
    /// Of all axes of the output, channels first.
    pub sizes: SmallVec<[u32; 3]>,
}

impl Operation for Reshape {
    fn kind(&self) -> &'static str {
        "reshape"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        let output = Shape::of(&self.sizes)?;
        if output.elements() != input.elements() {
            let (sizes, shape) = (output.to_string(), input.to_string());
            return Err(InferError::Elements { sizes, shape });
        }
        Ok(output)
    }

    fn macs(&self, _: &Operands, _: &Shape) -> u64 {
        0
    }

    fn multiplications(&self, _: &Operands) -> Option<Multiplications> {
        None
    }

    fn absorbs_factors(&self) -> bool {
        false
    }

    fn effect(&self) -> Effect {
        Effect::Combines
    }

    fn is_alike(&self, _: &Self) -> bool {
        true
    }

    fn memory(&self) -> Memory {
        Memory::InPlace
    }

    /// A channel stays one, becomes several, or is made of several; else its numbers are strewn
    /// over the channels of the output, and no tie is stated.
    fn ties(&self, operands: &Operands, output: &Shape) -> Ties {
        let (before, after) = (operands.inputs[0].channels(), output.channels());
        if before == after {
            channel_by_channel()
        } else if after.is_multiple_of(before) {
            smallvec![Tie::new(Port::Input(0), Port::Output, Relation::Blocks(after / before))]
        } else if before.is_multiple_of(after) {
            smallvec![Tie::new(Port::Output, Port::Input(0), Relation::Blocks(before / after))]
        } else {
            Ties::new()
        }
    }

    fn cut(&mut self, _: &[&[u32]], output: &[u32]) {
        self.sizes[0] = output.len() as u32;
    }

    fn evaluate<S: Scalar>(&self, _: &Operands, inputs: &[&[S]], _: &[&[S]], _: &Shape) -> Vec<S> {
        inputs[0].to_vec()
    }
}
