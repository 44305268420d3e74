//! Values side by side along an axis: all of the first, then all of the second, and so on.

use super::axes::{self, Along};
use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Slot};
use crate::ties::{Port, Relation, Tie, Ties};
use crate::{Scalar, Shape};

/// Concatenation of one or more values along an axis. All other sizes are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Concat {
    /// Which axis; the channels are axis 0.
    pub axis: u32,
}

impl Concat {
    /// Along the channels.
    pub fn channels() -> Self {
        Self { axis: 0 }
    }
}

impl Operation for Concat {
    fn kind(&self) -> &'static str {
        "concat"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let first = *operands.inputs.first().ok_or(InferError::NoInputs)?;
        let axis = axes::axis(self.axis, first)?;
        let mut sizes = first.sizes();
        let mut total = 0u64;
        for &input in operands.inputs {
            let other = input.sizes();
            let fits = other.len() == sizes.len()
                && (0..sizes.len()).all(|at| at == axis || other[at] == sizes[at]);
            if !fits {
                return Err(InferError::unlike(first, input));
            }
            total += u64::from(other[axis]);
        }
        sizes[axis] = u32::try_from(total).unwrap_or(u32::MAX);
        Ok(Shape::of(&sizes)?)
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
        Memory::Separate
    }

    fn ties(&self, operands: &Operands, _: &Shape) -> Ties {
        let mut offset = 0;
        let tie = |(place, input): (usize, &&Shape)| {
            if self.axis > 0 {
                return Tie::same(Port::Input(place), Port::Output);
            }
            let tie = Tie::new(Port::Input(place), Port::Output, Relation::Shift(offset));
            offset += input.channels();
            tie
        };
        operands.inputs.iter().enumerate().map(tie).collect()
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        _: &[&[S]],
        output: &Shape,
    ) -> Vec<S> {
        let axis = self.axis as usize;
        let block = |shape: &&Shape| Along::of(axis, &shape.sizes()).block();
        let blocks: Vec<usize> = operands.inputs.iter().map(block).collect();
        let mut values = Vec::with_capacity(output.elements() as usize);
        for at in 0..inputs[0].len() / blocks[0] {
            for (input, &block) in inputs.iter().zip(&blocks) {
                values.extend_from_slice(&input[at * block..][..block]);
            }
        }
        values
    }
}
