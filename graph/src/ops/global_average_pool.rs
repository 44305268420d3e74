//! The mean of each channel over all positions.

use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, channel_by_channel,
};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// A vector with the mean of each channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GlobalAveragePool;

impl Operation for GlobalAveragePool {
    fn kind(&self) -> &'static str {
        "global_average_pool"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        Ok(Shape::new(operands.one()?.channels(), &[])?)
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

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        channel_by_channel()
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        _: &[&[S]],
        _: &Shape,
    ) -> Vec<S> {
        let positions = operands.inputs[0].positions();
        let count = S::constant(positions as f64);
        let mean = |channel: &[S]| {
            channel.iter().fold(S::constant(0.0), |sum, &value| sum + value) / count
        };
        inputs[0].chunks_exact(positions as usize).map(mean).collect()
    }
}
