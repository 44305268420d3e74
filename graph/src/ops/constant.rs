//! A value that is the same for every example.

use smallvec::smallvec;

use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Role, Slot};
use crate::ties::{Port, Tie, Ties};
use crate::{Scalar, Shape};

/// Its parameter as a value. It comes with the network and is not trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Constant;

impl Operation for Constant {
    fn kind(&self) -> &'static str {
        "constant"
    }

    fn slots(&self) -> &'static [Slot] {
        const SLOTS: [Slot; 1] = [Slot::required(Role::Constant)];
        &SLOTS
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        match operands.inputs.len() {
            0 => Ok(Shape::of(operands.parameters[0])?),
            given => Err(InferError::Inputs { expected: 0, given }),
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
        Memory::Separate
    }

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        smallvec![Tie::same(Port::Output, Port::Parameter(0, 0))]
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        _: &Operands,
        _: &[&[S]],
        parameters: &[&[S]],
        _: &Shape,
    ) -> Vec<S> {
        parameters[0].to_vec()
    }
}
