//! Clipping to an interval: ReLU, ReLU6, and others of their kind.

use std::hash::{Hash, Hasher};

use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, channel_by_channel,
};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// `min(max(x, low), high)`, elementwise. The lower bound is not above the upper one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// Lower bound.
    pub low: f32,
    /// Upper bound, infinite if there is none.
    pub high: f32,
}

impl Clip {
    /// `max(x, 0)`
    pub const RELU: Self = Self { low: 0.0, high: f32::INFINITY };
    /// `min(max(x, 0), 6)`
    pub const RELU6: Self = Self { low: 0.0, high: 6.0 };
}

impl Hash for Clip {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Equal bounds have equal hashes: -0.0 becomes 0.0.
        [self.low, self.high].map(|bound| (bound + 0.0).to_bits()).hash(state);
    }
}

impl Operation for Clip {
    fn kind(&self) -> &'static str {
        "clip"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        if self.low.is_nan() || self.high.is_nan() || self.low > self.high {
            let value = format!("from {} to {}", self.low, self.high);
            return Err(InferError::Setting { setting: "interval", value });
        }
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
        Effect::Activates { off_up_to: Some(self.low) }
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
        inputs[0].iter().map(|x| x.clip(self.low, self.high)).collect()
    }
}
