//! The product of two values, often of one with a number per channel, as in squeeze-and-excitation
//! (Hu et al. 2018).

use super::broadcast::{broadcast, broadcast_ties, pairwise};
use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Slot};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// Elementwise product. Values of unlike shapes are repeated to fit each other, as those of
/// [`crate::Add`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Multiply;

impl Operation for Multiply {
    fn kind(&self) -> &'static str {
        "multiply"
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
        Memory::InPlace
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
        pairwise(operands, inputs, output, |a, b| a * b)
    }
}
