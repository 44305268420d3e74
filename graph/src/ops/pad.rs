//! A constant around a value.

use std::hash::{Hash, Hasher};

use smallvec::SmallVec;

use super::axes::Along;
use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, channel_by_channel,
};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// Puts a constant before and after a value along its axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    /// Added before the first index of each axis, channels first.
    pub before: SmallVec<[u32; 3]>,
    /// Added after the last index of each axis, channels first.
    pub after: SmallVec<[u32; 3]>,
    /// The constant; it may be infinite.
    pub value: f32,
}

impl Hash for Pad {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Equal constants have equal hashes: -0.0 becomes 0.0.
        (&self.before, &self.after, (self.value + 0.0).to_bits()).hash(state);
    }
}

impl Operation for Pad {
    fn kind(&self) -> &'static str {
        "pad"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        let mut sizes = input.sizes();
        for padding in [&self.before, &self.after] {
            if padding.len() != sizes.len() {
                return Err(InferError::Entries {
                    setting: "padding",
                    given: padding.len(),
                    expected: sizes.len(),
                    shape: input.to_string(),
                });
            }
            for (size, &padding) in sizes.iter_mut().zip(padding) {
                // More than a value may have is refused as such.
                *size = size.saturating_add(padding);
            }
        }
        if self.value.is_nan() {
            let value = self.value.to_string();
            return Err(InferError::Setting { setting: "constant", value });
        }
        Ok(Shape::of(&sizes)?)
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

    /// Added channels belong together with none of the input's.
    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        if self.before[0] == 0 && self.after[0] == 0 { channel_by_channel() } else { Ties::new() }
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        _: &[&[S]],
        _: &Shape,
    ) -> Vec<S> {
        let mut sizes = operands.inputs[0].sizes();
        let mut values = inputs[0].to_vec();
        let constant = S::constant(self.value.into());
        for axis in 0..sizes.len() {
            let along = Along::of(axis, &sizes);
            let mut padded = Vec::new();
            for block in values.chunks_exact(along.block()) {
                let padding = [self.before[axis], self.after[axis]];
                let [before, after] = padding.map(|count| count as usize * along.inner);
                padded.extend(std::iter::repeat_n(constant, before));
                padded.extend_from_slice(block);
                padded.extend(std::iter::repeat_n(constant, after));
            }
            sizes[axis] += self.before[axis] + self.after[axis];
            values = padded;
        }
        values
    }
}
