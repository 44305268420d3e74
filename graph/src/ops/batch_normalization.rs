//! Batch normalisation (Ioffe & Szegedy 2015) as a network that is not being trained computes it:
//! with running statistics.

use std::hash::{Hash, Hasher};

use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Role, Slot};
use crate::ties::{Port, Tie, Ties};
use crate::{Scalar, Shape};

/// `scale * (x - mean) / sqrt(variance + epsilon) + shift`, channel by channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormalization {
    /// Keeps the divisor away from 0; above 0.
    pub epsilon: f32,
}

/// In the order of the parameters.
const ROLES: [Role; 4] = [Role::Scale, Role::Shift, Role::Mean, Role::Variance];

impl Hash for BatchNormalization {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.epsilon.to_bits().hash(state);
    }
}

impl Operation for BatchNormalization {
    fn kind(&self) -> &'static str {
        "batch_normalization"
    }

    fn slots(&self) -> &'static [Slot] {
        const SLOTS: [Slot; 4] = [
            Slot::required(ROLES[0]),
            Slot::required(ROLES[1]),
            Slot::required(ROLES[2]),
            Slot::required(ROLES[3]),
        ];
        &SLOTS
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            let value = self.epsilon.to_string();
            return Err(InferError::Setting { setting: "epsilon", value });
        }
        for (place, role) in ROLES.into_iter().enumerate() {
            operands.expect(place, role, &[input.channels()])?;
        }
        Ok(input.clone())
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
        Effect::Normalizes
    }

    fn is_alike(&self, _: &Self) -> bool {
        true
    }

    fn memory(&self) -> Memory {
        Memory::InPlace
    }

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        let parameters = (0..ROLES.len()).map(|place| Port::Parameter(place, 0));
        let axes = std::iter::once(Port::Input(0)).chain(parameters);
        axes.map(|axis| Tie::same(axis, Port::Output)).collect()
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        parameters: &[&[S]],
        _: &Shape,
    ) -> Vec<S> {
        let positions = operands.inputs[0].positions() as usize;
        let epsilon = S::constant(self.epsilon.into());
        let mut output = inputs[0].to_vec();
        for (channel, values) in output.chunks_exact_mut(positions).enumerate() {
            let [scale, shift, mean, variance] = [0, 1, 2, 3].map(|p| parameters[p][channel]);
            let gain = scale / (variance + epsilon).sqrt();
            let offset = shift - mean * gain;
            values.iter_mut().for_each(|value| *value = *value * gain + offset);
        }
        output
    }
}
