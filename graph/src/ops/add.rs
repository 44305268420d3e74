//! The sum of two values of equal shape, as in a residual connection.

use smallvec::smallvec;

use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Slot};
use crate::ties::{Port, Tie, Ties};
use crate::{Scalar, Shape};

/// Elementwise sum. Both inputs and the output share their channels.
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
        let [a, b] = operands.two()?;
        if a == b { Ok(a.clone()) } else { Err(InferError::unlike(a, b)) }
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
        smallvec![Tie::same(Port::Input(0), Port::Output), Tie::same(Port::Input(1), Port::Output),]
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(&self, _: &Operands, inputs: &[&[S]], _: &[&[S]], _: &Shape) -> Vec<S> {
        inputs[0].iter().zip(inputs[1]).map(|(&a, &b)| a + b).collect()
    }
}
