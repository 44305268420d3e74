//! The logistic function, as in the gate of squeeze-and-excitation.

use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, channel_by_channel,
};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// `1 / (1 + e^-x)`, elementwise. It is not 0 at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sigmoid;

impl Operation for Sigmoid {
    fn kind(&self) -> &'static str {
        "sigmoid"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        operands.one().cloned()
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
        Effect::Activates { off_up_to: None }
    }

    fn is_alike(&self, _: &Self) -> bool {
        true
    }

    fn memory(&self) -> Memory {
        Memory::InPlace
    }

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        channel_by_channel()
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(&self, _: &Operands, inputs: &[&[S]], _: &[&[S]], _: &Shape) -> Vec<S> {
        let [zero, one] = [0.0, 1.0].map(S::constant);
        inputs[0].iter().map(|&x| one / (one + (zero - x).exp())).collect()
    }
}
