//! All numbers of a value as one vector.

use smallvec::smallvec;

use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, channel_by_channel,
};
use crate::ties::{Port, Relation, Tie, Ties};
use crate::{Scalar, Shape, ShapeError};

/// A vector with a channel for each channel and position of its input, channel by channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flatten;

impl Operation for Flatten {
    fn kind(&self) -> &'static str {
        "flatten"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        let too_large = |_| ShapeError::TooLarge { shape: input.to_string() };
        Ok(Shape::new(u32::try_from(input.elements()).map_err(too_large)?, &[])?)
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

    fn ties(&self, operands: &Operands, output: &Shape) -> Ties {
        let positions = output.channels() / operands.inputs[0].channels();
        if positions == 1 {
            return channel_by_channel();
        }
        smallvec![Tie::new(Port::Input(0), Port::Output, Relation::Blocks(positions))]
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(&self, _: &Operands, inputs: &[&[S]], _: &[&[S]], _: &Shape) -> Vec<S> {
        inputs[0].to_vec()
    }
}
