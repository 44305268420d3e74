//! The product of a value with one number per channel, as in squeeze-and-excitation (Hu et al.
//! 2018), or with a value of the same shape.

use smallvec::smallvec;

use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Slot};
use crate::ties::{Port, Tie, Ties};
use crate::{Scalar, Shape};

/// Multiplies its first input by its second, which has the same shape or is a vector with one
/// number per channel. All three share their channels.
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
        let [value, factor] = operands.two()?;
        let per_channel = factor.space().is_empty() && factor.channels() == value.channels();
        if per_channel || factor == value {
            Ok(value.clone())
        } else {
            Err(InferError::unlike(value, factor))
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

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        smallvec![Tie::same(Port::Input(0), Port::Output), Tie::same(Port::Input(1), Port::Output),]
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(&self, _: &Operands, inputs: &[&[S]], _: &[&[S]], _: &Shape) -> Vec<S> {
        let (values, factors) = (inputs[0], inputs[1]);
        let per_factor = values.len() / factors.len();
        values.iter().enumerate().map(|(i, &value)| value * factors[i / per_factor]).collect()
    }
}
