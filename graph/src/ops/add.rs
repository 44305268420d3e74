//! The sum of two values, as in a residual connection.

use super::broadcast::{broadcast, broadcast_ties, pairwise};
use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Slot};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// Elementwise sum. Values of unlike shapes are repeated to fit each other: one with fewer axes is
/// extended by axes of size 1 at the end, and then an axis of size 1 is repeated. An input with all
/// channels of the output shares them with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Add;

impl Operation for Add {
    fn kind(&self) -> &'static str {
        "add"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        broadcast(&operands.two()?)
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

    fn ties(&self, operands: &Operands, output: &Shape) -> Ties {
        broadcast_ties(operands, output)
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        _: &[&[S]],
        output: &Shape,
    ) -> Vec<S> {
        pairwise(operands, inputs, output, |a, b| a + b)
    }
}
