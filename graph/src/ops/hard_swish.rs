//! Hard swish (Howard et al. 2019, "Searching for MobileNetV3").

use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, channel_by_channel,
};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// `x * min(max(x + 3, 0), 6) / 6`, elementwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HardSwish;

impl Operation for HardSwish {
    fn kind(&self) -> &'static str {
        "hard_swish"
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
        let [three, six] = [3.0, 6.0].map(S::constant);
        inputs[0].iter().map(|&x| x * (x + three).clip(0.0, 6.0) / six).collect()
    }
}
