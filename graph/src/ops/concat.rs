//! Values side by side: the channels of the first, then those of the second, and so on.

use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Slot};
use crate::ties::{Port, Relation, Tie, Ties};
use crate::{Scalar, Shape};

/// Concatenation of one or more values along their channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Concat;

impl Operation for Concat {
    fn kind(&self) -> &'static str {
        "concat"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let first = operands.inputs.first().ok_or(InferError::NoInputs)?;
        if let Some(other) = operands.inputs.iter().find(|input| input.space() != first.space()) {
            return Err(InferError::unlike(first, other));
        }
        let channels: u64 = operands.inputs.iter().map(|input| u64::from(input.channels())).sum();
        Ok(first.with_channels(u32::try_from(channels).unwrap_or(u32::MAX))?)
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
            let tie = Tie::new(Port::Input(place), Port::Output, Relation::Shift(offset));
            offset += input.channels();
            tie
        };
        operands.inputs.iter().enumerate().map(tie).collect()
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(&self, _: &Operands, inputs: &[&[S]], _: &[&[S]], _: &Shape) -> Vec<S> {
        inputs.concat()
    }
}
