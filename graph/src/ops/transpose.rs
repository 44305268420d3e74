//! The axes of a value in another order.

use smallvec::SmallVec;

use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, axes,
    channel_by_channel,
};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// Axis `i` of the output is axis `order[i]` of the input; the channels are axis 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transpose {
    /// Each axis once.
    pub order: SmallVec<[u32; 3]>,
}

impl Operation for Transpose {
    fn kind(&self) -> &'static str {
        "transpose"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        let sizes = input.sizes();
        if self.order.len() != sizes.len() {
            return Err(InferError::Entries {
                setting: "order",
                given: self.order.len(),
                expected: sizes.len(),
                shape: input.to_string(),
            });
        }
        let mut sorted = self.order.clone();
        sorted.sort_unstable();
        if sorted.iter().zip(0..).any(|(&axis, expected)| axis != expected) {
            let value = format!("{:?}, which does not have each axis once", self.order);
            return Err(InferError::Setting { setting: "order", value });
        }
        Ok(Shape::of(&self.permuted(&sizes))?)
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
        if self.order[0] == 0 { channel_by_channel() } else { Ties::new() }
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        _: &[&[S]],
        output: &Shape,
    ) -> Vec<S> {
        let strides = self.permuted(&axes::strides(&operands.inputs[0].sizes()));
        let offsets = axes::offsets(&output.sizes(), &strides);
        offsets.into_iter().map(|offset| inputs[0][offset]).collect()
    }
}

impl Transpose {
    /// What the input has for each of its axes, in the order of the output's axes.
    fn permuted<T: Copy>(&self, of: &[T]) -> SmallVec<[T; 3]>
    where
        [T; 3]: smallvec::Array<Item = T>,
    {
        self.order.iter().map(|&axis| of[axis as usize]).collect()
    }
}
