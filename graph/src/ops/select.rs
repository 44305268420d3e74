//! At each place a number of one of two values, as a condition says.

use super::broadcast::{broadcast, broadcast_ties, repeated};
use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Slot};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// Its second input where the first one is not 0, else its third. They are repeated to fit each
/// other, as those of [`crate::Add`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Select;

impl Operation for Select {
    fn kind(&self) -> &'static str {
        "select"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        match operands.inputs.len() {
            3 => broadcast(operands.inputs),
            given => Err(InferError::Inputs { expected: 3, given }),
        }
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
        let places = [0, 1, 2].map(|place| repeated(operands.inputs[place], output));
        let number = |at: usize| {
            let [condition, a, b] = [0, 1, 2].map(|input| inputs[input][places[input][at]]);
            if condition == S::constant(0.0) { b } else { a }
        };
        (0..output.elements() as usize).map(number).collect()
    }
}
