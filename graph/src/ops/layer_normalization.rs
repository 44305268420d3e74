//! Layer normalisation (Ba et al. 2016).

use std::hash::{Hash, Hasher};

use smallvec::SmallVec;

use super::broadcast::{reduced, reduced_ties, repeated, sizes};
use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Role, Slot};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// `(x - mean) / sqrt(variance + epsilon)`, with the mean and the variance along some axes of each
/// example, then `* scale + shift`, if it has them. These have the sizes of the axes.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormalization {
    /// Which axes, ascending, at least one; axis 0 is the channels.
    pub axes: SmallVec<[u32; 3]>,
    /// Keeps the divisor away from 0; above 0.
    pub epsilon: f32,
}

impl Hash for LayerNormalization {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.axes.hash(state);
        self.epsilon.to_bits().hash(state);
    }
}

impl Operation for LayerNormalization {
    fn kind(&self) -> &'static str {
        "layer_normalization"
    }

    fn slots(&self) -> &'static [Slot] {
        const SLOTS: [Slot; 2] = [Slot::optional(Role::Scale), Slot::optional(Role::Shift)];
        &SLOTS
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            let value = self.epsilon.to_string();
            return Err(InferError::Setting { setting: "epsilon", value });
        }
        reduced(input, &self.axes)?;
        let sizes = sizes(input, &self.axes);
        operands.expect(0, Role::Scale, &sizes)?;
        operands.expect(1, Role::Shift, &sizes)?;
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
        Effect::Rescales
    }

    fn is_alike(&self, other: &Self) -> bool {
        self.axes == other.axes
    }

    fn memory(&self) -> Memory {
        Memory::InPlace
    }

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        reduced_ties(&self.axes)
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        parameters: &[&[S]],
        _: &Shape,
    ) -> Vec<S> {
        let input = operands.inputs[0];
        let rest = reduced(input, &self.axes).expect("the operands were accepted");
        let places = repeated(&rest, input);
        let count = S::constant((input.elements() / rest.elements()) as f64);
        let mean = |values: &[S]| {
            let mut sums = vec![S::constant(0.0); rest.elements() as usize];
            for (&value, &place) in values.iter().zip(&places) {
                sums[place] = sums[place] + value;
            }
            sums.into_iter().map(|sum| sum / count).collect::<Vec<S>>()
        };
        let means = mean(inputs[0]);
        let centred = inputs[0].iter().zip(&places).map(|(&x, &place)| x - means[place]);
        let centred: Vec<S> = centred.collect();
        let variances = mean(&centred.iter().map(|&x| x * x).collect::<Vec<S>>());
        let epsilon = S::constant(self.epsilon.into());
        let normalized = centred.iter().zip(&places);
        let normalized = normalized.map(|(&x, &place)| x / (variances[place] + epsilon).sqrt());
        // A scale and a shift are repeated along the other axes.
        let mut along = input.sizes();
        for (axis, size) in along.iter_mut().enumerate() {
            if !self.axes.contains(&(axis as u32)) {
                *size = 1;
            }
        }
        let along = Shape::of(&along).expect("no larger than the input");
        let affine = |(x, place): (S, usize)| {
            let scaled = parameters.first().map_or(x, |scale| x * scale[place]);
            parameters.get(1).map_or(scaled, |shift| scaled + shift[place])
        };
        normalized.zip(repeated(&along, input)).map(affine).collect()
    }
}
