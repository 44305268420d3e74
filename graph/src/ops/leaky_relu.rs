//! Leaky ReLU (Maas et al. 2013, "Rectifier nonlinearities improve neural network acoustic
//! models").

use std::hash::{Hash, Hasher};

use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, channel_by_channel,
};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// `x` where it is not negative, else `slope * x`, elementwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeakyRelu {
    /// Factor of negative numbers, finite.
    pub slope: f32,
}

impl Hash for LeakyRelu {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Equal slopes have equal hashes: -0.0 becomes 0.0.
        (self.slope + 0.0).to_bits().hash(state);
    }
}

impl Operation for LeakyRelu {
    fn kind(&self) -> &'static str {
        "leaky_relu"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        if !self.slope.is_finite() {
            let value = self.slope.to_string();
            return Err(InferError::Setting { setting: "slope", value });
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
        let [zero, slope] = [0.0, self.slope.into()].map(S::constant);
        inputs[0].iter().map(|&x| if x < zero { slope * x } else { x }).collect()
    }
}
